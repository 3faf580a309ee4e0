/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types that the probes touch, only the members they use, relocated by CO-RE
 * against the running kernel's BTF. Layout here means nothing; names and types do.
 * Fields that some kernels lack are declared in ___flavours next to their use.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__u32 val;
} kuid_t;

struct kref_dummy;
struct list_head {
	struct list_head *next, *prev;
};

struct qstr {
	union {
		struct {
			__u32 hash;
			__u32 len;
		};
		__u64 hash_len;
	};
	const unsigned char *name;
};
struct super_block {
	struct dentry *s_root;
	__u32 s_dev;
	unsigned long s_flags, s_magic;
};
struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned short i_mode;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags, f_mode;
};
struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
	unsigned long total_vm;
};

struct kernfs_node {
	__u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
	int level;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct cred {
	kuid_t uid, euid;
};
struct task_io_accounting {
	__u64 rchar, wchar, syscr, syscw;
	__u64 read_bytes, write_bytes, cancelled_write_bytes;
};
struct sched_entity {
	__u64 exec_start, sum_exec_runtime;
};
struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay, last_arrival, last_queued;
};
struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	unsigned long maxrss;
	unsigned long maj_flt, min_flt;
	unsigned long long sum_sched_runtime;
	struct task_io_accounting ioac;
};
struct sighand_struct;
struct nsproxy;
struct task_struct {
	unsigned int flags;
	int pid, tgid;
	int exit_code, exit_state;
	char comm[16];
	struct task_struct *real_parent, *group_leader;
	struct mm_struct *mm;
	const struct cred *cred, *real_cred;
	struct signal_struct *signal;
	struct sighand_struct *sighand;
	struct css_set *cgroups;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_io_accounting ioac;
	__u64 start_time, start_boottime;
	unsigned long maj_flt, min_flt;
	unsigned long nvcsw, nivcsw;
	unsigned in_iowait : 1;
	unsigned in_execve : 1;
};
/* task_struct.state was renamed __state by 2f064a59a11f (5.14); only the new name is used */
struct task_struct___state {
	unsigned int __state;
};

struct linux_binprm {
	const char *filename, *interp;
	struct file *file;
	int argc;
};
struct kernel_siginfo {
	int si_signo, si_errno, si_code;
};

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id, seq_num;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#define PF_EXITING           0x00000004
#define PF_KTHREAD           0x00200000
#define TASK_RUNNING         0x0000
#define TASK_INTERRUPTIBLE   0x0001
#define TASK_UNINTERRUPTIBLE 0x0002
#define TASK_DEAD            0x0080
