/* SPDX-License-Identifier: Apache-2.0 */
/* One probe on the live kernel, without the agent around it. */
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno_probe.h"

struct rig {
	const struct mno_probe *probe;
	void *priv;
	struct bpf_object *obj;
	struct bpf_link *links[64];
	size_t n_links;
	struct ring_buffer *ring;
	struct mno_pstats *stats;
	size_t stats_size, n_cpus, rung;
	/* called for each record of the ring */
	void (*on_record)(void *arg, const void *rec, size_t len);
	void *arg;
};

/*
 * Loads and attaches by the first rung that works; @budget replaces the probe's own. Prints the
 * kernel's reason on failure. Exits the program with 77 and the reason if BPF is not to be had.
 */
int rig_up(struct rig *r, const struct mno_probe *p, uint64_t budget);
/* Takes all down again. */
void rig_down(struct rig *r);
/* Reads the ring; sums of the accounting over all CPUs. */
void rig_drain(struct rig *r);
struct mno_pstats rig_stats(const struct rig *r);
/* A map's fd, -1 if there is none. */
int rig_map(const struct rig *r, const char *name);
/* Slot of the v2 cgroup that this process is in; 0 when it has none. */
uint32_t rig_own_slot(const struct rig *r);
uint64_t rig_own_cgroup(void);
/* Prints runs and mean time of each program; needs kernel.bpf_stats_enabled (rig_timing). */
void rig_costs(const struct rig *r, const char *title);
/* Switches the kernel's run time statistics on until the fd is closed. -1 on failure. */
int rig_timing(void);
