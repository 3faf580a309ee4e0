/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Cgroup id -> small slot number, shared by all probes (the agent gives every object the same
 * two maps). A cgroup seen for the first time takes a free slot in the kernel, so none is
 * missed; when none is free it counts under slot 0, "~other". User space frees the slots of
 * cgroups that are gone.
 */
#pragma once

#include "mno_bpf.h"

#define MNO_CGROUP_SLOTS 256 /* slot 0 is "~other" */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} cgroup_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MNO_CGROUP_SLOTS);
	__uint(value_size, sizeof(__u32));
} cgroup_free SEC(".maps");

static __always_inline __u32 mno_cgroup_slot(__u64 cgid)
{
	__u32 *p = bpf_map_lookup_elem(&cgroup_slots, &cgid), slot = 0, *won;

	if (p)
		return *p & (MNO_CGROUP_SLOTS - 1);
	if (bpf_map_pop_elem(&cgroup_free, &slot))
		slot = 0;
	if (bpf_map_update_elem(&cgroup_slots, &cgid, &slot, BPF_NOEXIST)) {
		if (slot) /* another CPU was first: give ours back */
			bpf_map_push_elem(&cgroup_free, &slot, 0);
		won = bpf_map_lookup_elem(&cgroup_slots, &cgid);
		slot = won ? *won : 0;
	}
	return slot & (MNO_CGROUP_SLOTS - 1);
}

/* v2 cgroup id of any task; typed loads, fine under lockdown=confidentiality */
static __always_inline __u64 mno_task_cgroup_id(struct task_struct *t)
{
	return t->cgroups->dfl_cgrp->kn->id;
}
