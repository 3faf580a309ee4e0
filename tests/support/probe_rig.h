/* SPDX-License-Identifier: Apache-2.0 */
/* One probe loaded by itself, without the agent's life cycle: for tests and benchmarks. */
#pragma once

#include "cgroups.h"
#include "mno_probe.h"

struct bpf_object;
struct mno_rig {
	const struct mno_probe *probe;
	void *priv;
	struct bpf_object *obj;
	struct bpf_link *links[16];
	size_t n_links;
	struct mno_cgroups *cgroups; /* owned */
	const struct mno_pstats *stats;
	size_t stats_size;
	unsigned n_cpus, banks;
};

/* v2 mount point from /proc/self/mounts into @buf; NULL if there is none. */
const char *mno_rig_cgroup_root(char *buf, size_t size);
/* Opens, loads and attaches @probe by @rung. -errno; mno_rig_unload() in any case. */
int mno_rig_load(struct mno_rig *r, const struct mno_probe *probe, size_t rung);
void mno_rig_unload(struct mno_rig *r);
/* Sum of one counter over all CPUs: offset in struct mno_pstats. */
uint64_t mno_rig_stat(const struct mno_rig *r, size_t offset);
/* Run time and count of a program so far (needs BPF statistics on). */
void mno_rig_cost(const struct mno_rig *r, const char *prog, uint64_t *ret_ns, uint64_t *ret_runs);
/* Runs that the kernel left out, of all programs (it does not nest a program in itself). */
uint64_t mno_rig_misses(const struct mno_rig *r);
/* Exits with 77 and the reason if this process may not load BPF programs. */
void mno_rig_need_bpf(void);
/* Makes the cgroup @name below the v2 root; its path into @buf. -errno. */
int mno_rig_cgroup_make(const char *name, char *buf, size_t size);
/* Moves this process into the cgroup directory. -errno. */
int mno_rig_cgroup_enter(const char *dir);
/* Removes it, waiting until the last task has left (at most 2 s). */
void mno_rig_cgroup_remove(const char *dir);
