/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the memory probe's user side, apart from BPF. */
#pragma once

#include "mno_probe.h"
#include "mno_slot_series.h"
#include "memory/memory_wire.h"

#define MEMORY_KINDS_N 1
extern const struct mno_kind memory_kinds[MEMORY_KINDS_N];

struct memory_series {
	struct mno_table *cgroups, *stalls;
};

/* -ENOMEM. */
int memory_series_init(struct memory_series *s);
void memory_series_done(struct memory_series *s);
/* @cgs: MEMORY_SLOTS values, @stalls: MEMORY_KINDS values. Tick thread. */
void memory_series_tick(struct memory_series *s, struct mno_metrics *m,
	struct mno_cgroup_view slots, const struct memory_cgroup *cgs,
	const struct memory_stall *stalls);
