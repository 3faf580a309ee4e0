/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the syscall probe's maps hold. All times are nanoseconds. */
#pragma once

#include <linux/types.h>
#include "mno_hist.h"

#define MNO_SYSCALL_SLOTS     256 /* cgroup slots, see mno_cgroup.bpf.h */
#define MNO_SYSCALL_NRS       512
#define MNO_SYSCALL_COMPAT    511  /* 32-bit calls, whose numbers are others */
#define MNO_SYSCALL_UNKNOWN   510  /* beyond the table */
#define MNO_SYSCALL_ENTRIES   1024 /* pairs of cgroup and call; 0 takes what does not fit */
#define MNO_SYSCALL_NONE_LEFT MNO_SYSCALL_ENTRIES /* masked it is 0 */
#define MNO_SYSCALL_BANKS     2

/* One per bank and pair: index bank * MNO_SYSCALL_ENTRIES + entry. */
struct mno_syscall_entry {
	__u64 count, errors, ns;
	__u32 hist[MNO_HIST_BUCKETS];
	__u64 _pad[5];
};
_Static_assert(sizeof(struct mno_syscall_entry) == 2176, "whole cache lines");

/* One per task, in task storage. */
struct mno_syscall_task {
	__u64 start; /* CLOCK_MONOTONIC; 0 = not in a call that we saw begin */
	__u64 calls;
	__u64 cgid; /* the cgroup that .slot belongs to */
	__u32 slot; /* 0 = look it up */
	__u32 nr;
};

/* What the task iterator writes, one per thread that made calls. */
struct mno_syscall_thread {
	__u32 tgid, _pad;
	__u64 calls;
};
