/* SPDX-License-Identifier: Apache-2.0 */
/* The host's cgroup v2 tree and the probes' slot tables (readers: mno_cgroups.h). */
#pragma once

#include "mno_cgroups.h"

/* @root: v2 mount point. Bound: 4,096 cgroups are followed, deeper or later ones are counted. */
int mno_cgroups_new(const char *root, struct mno_cgroups **ret);
struct mno_cgroups *mno_cgroups_free(struct mno_cgroups *c);
MNO_DEFINE_CLEANUP(struct mno_cgroups *, mno_cgroups_free)

/* Creates the two shared BPF maps (cgroup_slots, cgroup_free). -errno without BPF rights. */
int mno_cgroups_maps_new(struct mno_cgroups *c);
/* Their fds for bpf_map__reuse_fd(), owned by @c; -1 if there are none. */
int mno_cgroups_slots_fd(const struct mno_cgroups *c);
int mno_cgroups_free_fd(const struct mno_cgroups *c);

/* Once a second: walks the tree (cheap when nothing changed), reads the slot table, takes back
 * slots of removed cgroups one tick after they went. Tick thread. */
void mno_cgroups_refresh(struct mno_cgroups *c);

struct mno_cgroups_stat {
	uint64_t cgroups, slots_used, folded; /* folded: counted under ~other */
	uint64_t skipped;                     /* over the bound */
};
/* Any thread. */
void mno_cgroups_stat(struct mno_cgroups *c, struct mno_cgroups_stat *ret);
const char *mno_cgroups_root(const struct mno_cgroups *c);
