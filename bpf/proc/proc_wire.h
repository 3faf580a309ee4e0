/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records of the process probe. Append-only. */
#pragma once

#include "mno_wire.h"

#define MNO_PROC_FORK   MNO_KIND(proc, 1)
#define MNO_PROC_EXEC   MNO_KIND(proc, 2)
#define MNO_PROC_EXIT   MNO_KIND(proc, 3)
#define MNO_PROC_SIGNAL MNO_KIND(proc, 4)
#define MNO_PROC_SEED   MNO_KIND(proc, 5) /* made in user space from the task iterator */

#define MNO_PROC_EXE_MAX  1024 /* bytes of path components */
#define MNO_PROC_ARGV_MAX 2048
#define MNO_PROC_FILE_MAX 256

/* Who a record is about: pid and start time name one process for the life of the host. */
struct mno_proc_id {
	__u64 start_boottime, parent_start_boottime, cgroup_id;
	__u32 pid, ppid, uid;
	__u32 flags; /* task flags (PF_*), kernel's own numbers */
	char comm[MNO_COMM_LEN];
};
_Static_assert(sizeof(struct mno_proc_id) == 56, "id layout");

struct mno_proc_fork {
	struct mno_hdr hdr;
	struct mno_proc_id id;
};

struct mno_proc_exec {
	struct mno_hdr hdr;
	struct mno_proc_id id;
	struct mno_var exe;  /* path components from the leaf up; MNO_VAR_CUT: deeper or longer */
	struct mno_var argv; /* NUL-separated */
	struct mno_var file; /* what execve() was asked for */
};
_Static_assert(sizeof(struct mno_proc_exec) == 112, "exec layout");

struct mno_proc_exit {
	struct mno_hdr hdr;
	struct mno_proc_id id;
	__u64 cpu_ns;
	__u64 rss_peak_bytes, io_read_bytes, io_write_bytes;
	__u32 code;       /* as wait(2) */
	__u16 exit_code;  /* of exit(); 0 when a signal ended it */
	__u8 exit_signal; /* what ended it; 0: it exited */
	__u8 core_dumped;
};
_Static_assert(sizeof(struct mno_proc_exit) == 128, "exit layout");

struct mno_proc_signal {
	struct mno_hdr hdr;
	__u64 target_start_boottime, sender_start_boottime;
	__u64 sender_cgroup_id;
	__u32 sender_pid, target_pid;
	__u32 sender_uid;
	__u32 signo;
	__s32 code;        /* si_code; 0 or below: sent by a process */
	__u32 from_kernel; /* 1: the kernel itself, on behalf of the sender's context */
	__u32 result;      /* 0 delivered, 1 ignored, 2 already pending, 3, 4 lost */
	__u32 _pad;
	char sender_comm[MNO_COMM_LEN];
};
_Static_assert(sizeof(struct mno_proc_signal) == 104, "signal layout");

/* What the task iterator writes, one per process. */
struct mno_proc_seed {
	struct mno_proc_id id;
	__u64 cpu_ns;
};
