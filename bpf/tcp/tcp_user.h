/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the tcp probe's user side, apart from BPF. */
#pragma once

#include "mno_probe.h"
#include "mno_slot_series.h"
#include "tcp/tcp_wire.h"

#define TCP_KINDS 3
extern const struct mno_kind tcp_kinds[TCP_KINDS];

/* What is exported of each cgroup's counters. -ENOMEM. */
int tcp_series_new(struct mno_table **ret);
/* @cgs: TCP_SLOTS values. Tick thread. */
void tcp_series_tick(struct mno_table *table, struct mno_metrics *m, struct mno_cgroup_view slots,
	const struct tcp_cgroup *cgs);
/* Member "cgroups" with tcp_p50_seconds, tcp_p99_seconds (round trip), tcp_count. Any thread. */
void tcp_series_snapshot(struct mno_table *table, struct mno_json *j);
