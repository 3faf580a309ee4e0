/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the sched probe's maps hold. All times are nanoseconds. */
#pragma once

#include <linux/types.h>
#include "mno_hist.h"

#define MNO_SCHED_SLOTS    256 /* cgroup slots, see mno_cgroup.bpf.h */
#define MNO_SCHED_BANKS    4
#define MNO_SCHED_SYSCALLS 512 /* rows of the table system call -> wait class */

/* What a sleeping task waits for. Append only: the order is part of the map's layout. */
#define MNO_WAIT_CLASSES(X)                                                                        \
	X(DISK, "disk", "block I/O, or a file operation that cannot be interrupted")               \
	X(LOCK, "lock", "a futex, semaphore, file lock or the lock of the address space")          \
	X(NET, "net", "a socket operation")                                                        \
	X(PIPE, "pipe", "read or write of a pipe, terminal or stream socket")                      \
	X(SLEEP, "sleep", "a timer it set itself")                                                 \
	X(POLL, "poll", "events: poll, select, epoll, io_uring")                                   \
	X(WAIT, "wait", "a child, a signal, another process")                                      \
	X(OTHER, "other", "anything else")

enum mno_wait_class {
#define X(name, text, help) MNO_WAIT_##name,
	MNO_WAIT_CLASSES(X)
#undef X
		MNO_WAIT_N,
};

struct mno_sched_wait {
	__u64 ns, count;
};

/* One per bank and cgroup slot: index bank * MNO_SCHED_SLOTS + slot. */
struct mno_sched_cgroup {
	__u64 cpu_ns;    /* on-CPU time of stints that have ended */
	__u64 switches;  /* times a task of the cgroup got a CPU */
	__u64 preempted; /* times one lost it while it could have run on */
	__u64 runq_ns;   /* waiting for a CPU; the count is the histogram's sum */
	struct mno_sched_wait wait[MNO_WAIT_N];
	__u32 runq_hist[MNO_HIST_BUCKETS];
	__u64 _pad[4];
};
_Static_assert(sizeof(struct mno_sched_cgroup) == 2304, "whole cache lines");

/* One per CPU, in mno_pstats.own: who runs there, and who ran just before. */
#define MNO_SCHED_STINTS 8 /* power of two */
struct mno_sched_cpu {
	__u64 since; /* scheduler clock when the task got the CPU */
	__u32 slot;
	__u32 pid; /* 0 = idle */
	__u32 newest;
	__u32 ran[MNO_SCHED_STINTS];     /* the last stints, a ring: at most 4.29 s; 0 = none */
	__u8 ran_slot[MNO_SCHED_STINTS]; /* and whose they were */
	__u32 missed;                    /* tasks that had no storage: seeding is due */
};
_Static_assert(sizeof(struct mno_sched_cpu) == 64, "fits mno_pstats.own");

/* One per task, in task storage. */
struct mno_sched_task {
	__u64 out;    /* scheduler clock when it went to sleep; 0 = it did not */
	__u64 waited; /* run-queue wait in all, when it last got a CPU; 0 = not known yet */
	__u64 queued; /* second rung only: became runnable at */
	__u64 cgid;   /* the cgroup that .slot belongs to */
	__u32 slot;   /* 0 = look it up */
	__u32 class;  /* enum mno_wait_class of the sleep that began at .out */
	__u64 iowait_ns, iowaits;
};

/* What the task iterator writes, one per thread. */
struct mno_sched_thread {
	__u32 tgid, pid;
	__u64 start_ns; /* CLOCK_BOOTTIME, of the process */
	__u64 cgid;
	__u64 cpu_ns, runq_ns, iowait_ns, iowaits;
	__u64 read_bytes, write_bytes;
	__u64 rss_pages; /* of the whole process */
	/* what the process' ended threads used; the same in each of its threads */
	__u64 dead_cpu_ns, dead_read_bytes, dead_write_bytes;
	char comm[16]; /* of the process */
};
_Static_assert(sizeof(struct mno_sched_thread) == 120, "thread layout");
