/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User side of the cgroup slots (mno_cgroup.bpf.h): which cgroup has which slot, and its path.
 * Implemented in agent/cgroups.c; tick thread only, unless said.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

#define MNO_CGROUP_SLOTS_U 256

struct mno_cgroups;
struct mno_cgroup {
	uint64_t id;
	uint32_t slot;    /* 0: none of its own (counted under ~other) */
	uint32_t gen;     /* changes when the slot is given to another cgroup */
	const char *path; /* "/" for the root, "/a/b"; valid until the cgroup is gone */
};

/* Slots in use, slot 0 ("~other") first; valid until the next refresh. A removed cgroup is
 * shown once more, for its last figures. */
size_t mno_cgroups_slots(const struct mno_cgroups *c, const struct mno_cgroup **ret);
/*
 * Slots whose cgroup is gone and under which nothing counts any more, each told in one refresh:
 * a probe takes out its series and sets its counters to zero, for the slot is given away in the
 * next refresh. Those of a cgroup that came and went between two refreshes are told too,
 * although mno_cgroups_slots() never showed them. Valid until the next refresh.
 */
size_t mno_cgroups_retired(const struct mno_cgroups *c, const uint32_t **ret);
/* Both at once, for a probe's tick; without a cgroup v2 tree (@c NULL) there is ~other alone. */
struct mno_cgroup_view {
	const struct mno_cgroup *v;
	const uint32_t *retired;
	size_t n, n_retired;
};
static inline struct mno_cgroup_view mno_cgroups_view(const struct mno_cgroups *c)
{
	static const struct mno_cgroup other = {.path = "~other"};
	struct mno_cgroup_view s = {.v = &other, .n = 1};

	if (!c)
		return s;
	s.n = mno_cgroups_slots(c, &s.v);
	s.n_retired = mno_cgroups_retired(c, &s.retired);
	return s;
}
/* All v2 cgroups of the host (bounded), parents first; valid until the next refresh. */
size_t mno_cgroups_all(const struct mno_cgroups *c, const struct mno_cgroup **ret);
/* Path of an id into @buf, NULL when unknown. Any thread. Remembers recently removed ones. */
const char *mno_cgroups_path(struct mno_cgroups *c, uint64_t id, char *buf, size_t size);
