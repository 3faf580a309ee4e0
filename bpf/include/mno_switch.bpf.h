/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A switch is among the most frequent events of a host, and a second program there costs more by
 * being called than by what it does. A probe that wants only the last switch of a task has its
 * program called from the one of the probe that sees all switches; the agent puts it here, and
 * attaches it by itself while there is no such probe (agent/probes_ride.c).
 */
#pragma once

#include "mno_bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} switch_tail SEC(".maps");

/* Last statement of a program on sched_switch: does not return when there is a rider. */
static __always_inline void mno_switch_tail(void *ctx, bool preempt, unsigned int prev_state)
{
	if (prev_state & TASK_DEAD && !preempt)
		bpf_tail_call(ctx, &switch_tail, 0);
}
