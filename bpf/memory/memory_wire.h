/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records and map values of the memory probe, shared by both sides. */
#pragma once

#include "mno_wire.h"
#include "mno_hist.h"

#define MEMORY_SLOTS     256  /* MNO_CGROUP_SLOTS */
#define MEMORY_RECLAIMS  1024 /* tasks that may be in reclaim at once */
#define MEMORY_ANCESTORS 8
#define MEMORY_CHAIN_MAX (MEMORY_ANCESTORS * 32) /* "pid:comm" and NUL each */

#define MEMORY_OOM_KILL MNO_KIND(memory, 1)
#define MEMORY_VERSION  1

struct memory_oom {
	struct mno_hdr hdr;
	__u64 start_ns; /* of the victim */
	__u64 cgroup;
	__u64 rss_bytes, total_vm_bytes;
	__u64 trigger_start_ns;
	__u64 trigger_cgroup;
	__u32 pid;
	__u32 uid;
	__s32 score_adj;
	__u32 trigger_pid;
	char comm[MNO_COMM_LEN], trigger_comm[MNO_COMM_LEN];
	struct mno_var ancestors; /* "pid:comm", the parent first */
};
_Static_assert(sizeof(struct memory_oom) == 136, "oom layout");

/* Who reclaims: the whole host is short of memory, or one memory cgroup reached its limit. */
enum memory_reclaim { MEMORY_GLOBAL, MEMORY_CGROUP, MEMORY_KINDS };

struct memory_cgroup {
	__u64 reclaim_ns[MEMORY_KINDS];
	__u64 reclaim_count[MEMORY_KINDS];
	__u64 reclaimed_pages[MEMORY_KINDS];
	__u64 major_faults;
	__u64 oom_kills; /* victims in this cgroup */
};
_Static_assert(sizeof(struct memory_cgroup) == 64, "cgroup layout");

/* Of the whole host, by kind. */
struct memory_stall {
	__u64 count;
	__u64 ns;
	__u64 _pad[6];
	__u32 hist[MNO_HIST_BUCKETS];
};
_Static_assert(sizeof(struct memory_stall) == 64 + 4 * MNO_HIST_BUCKETS, "stall layout");
