/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Process life: fork, exec with argv and path, exit with what it used, signals and their sender. */
#include "mno_bpf.h"
#include "proc_wire.h"

#define SIGNAL_GROUP_EXIT 0x4
#define PATH_DEPTH        32

/* lockdown=confidentiality refuses bpf_probe_read_kernel(): then exec goes without path */
const volatile bool mno_read_kernel = true;
const volatile __u32 mno_page_size = 4096;

/* Marks on tasks: the leader's says the exit was claimed, the last thread's that it reports. */
struct exit_mark {
	__u32 claimed, reports;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct exit_mark);
} exiting SEC(".maps");

/* A record too large for the stack; the tracepoint runs with preemption off. */
struct exec_scratch {
	struct mno_proc_exec rec;
	char tail[MNO_PROC_EXE_MAX + MNO_PROC_ARGV_MAX + MNO_PROC_FILE_MAX + 1024];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_scratch);
} scratch SEC(".maps");

static __always_inline void fill_id(struct mno_proc_id *id, struct task_struct *p)
{
	struct task_struct *leader = p->group_leader, *parent = leader->real_parent;

	id->pid = p->tgid;
	id->start_boottime = leader->start_boottime;
	id->ppid = parent->tgid;
	id->parent_start_boottime = parent->group_leader->start_boottime;
	id->cgroup_id = p->cgroups->dfl_cgrp->kn->id;
	id->uid = p->cred->uid.val;
	id->flags = p->flags;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct mno_proc_fork r = {};
	struct mno_pstats *st;

	if (child->pid != child->tgid)
		return 0;
	st = mno_stats();
	if (!st)
		return 0;
	mno_begin_always(st, &r.hdr, MNO_PROC_FORK, MNO_WIRE_VERSION, sizeof(r));
	fill_id(&r.id, child);
	/* the child's name is still its parent's, who is running here */
	bpf_get_current_comm(r.id.comm, sizeof(r.id.comm));
	mno_emit(st, &r, sizeof(r));
	return 0;
}

/* Writes the components of @file's path from the leaf up into @out; returns their length. */
static __always_inline __u32 walk_path(struct file *file, char *out, __u32 *flags)
{
	struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);
	struct dentry *d = BPF_CORE_READ(file, f_path.dentry);
	struct mount *m = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(vfs, mnt_root);
	__u32 off = 0;

	for (int i = 0; i < PATH_DEPTH; i++) {
		struct dentry *up = BPF_CORE_READ(d, d_parent);
		long n;

		if (d == root || d == up) {
			struct mount *mp = BPF_CORE_READ(m, mnt_parent);

			if (mp == m)
				return off;
			d = BPF_CORE_READ(m, mnt_mountpoint);
			m = mp;
			root = BPF_CORE_READ(m, mnt.mnt_root);
			continue;
		}
		if (off > MNO_PROC_EXE_MAX - 256)
			break;
		/* said once more where the 6.1 verifier, which lost it in a spill, can see it */
		barrier_var(off);
		off &= MNO_PROC_EXE_MAX - 1;
		n = bpf_probe_read_kernel_str(out + off, 256, BPF_CORE_READ(d, d_name.name));
		if (n <= 0)
			break;
		off += n & 0x1ff;
		d = up;
	}
	*flags = MNO_VAR_CUT;
	return off;
}

static __always_inline void add_argv(struct mno_proc_exec *r, char *tail, __u32 *off,
	struct task_struct *p, struct mno_pstats *st)
{
	unsigned long start = p->mm->arg_start, len = p->mm->arg_end - start;
	/* 64 bits wide: the 6.1 verifier forgets the bound when it copies a 32-bit register */
	__u64 o = *off;

	barrier_var(o);

	if (len > MNO_PROC_ARGV_MAX) {
		len = MNO_PROC_ARGV_MAX;
		r->argv.flags = MNO_VAR_CUT;
	}
	if (o > MNO_PROC_EXE_MAX + 512 || !len)
		return;
	if (bpf_probe_read_user(tail + o, len, (void *)start)) {
		mno_inc(st->errors);
		r->argv.flags = MNO_VAR_CUT;
		return;
	}
	r->argv.off = sizeof(*r) + o;
	r->argv.len = len;
	*off = o + len;
}

static __always_inline void add_file(
	struct mno_proc_exec *r, char *tail, __u32 *off, struct linux_binprm *bprm)
{
	__u64 o = *off;
	long n;

	barrier_var(o);
	if (o > MNO_PROC_EXE_MAX + MNO_PROC_ARGV_MAX + 512)
		return;
	n = bpf_probe_read_kernel_str(tail + o, MNO_PROC_FILE_MAX, bprm->filename);
	if (n <= 0)
		return;
	r->file.off = sizeof(*r) + o;
	r->file.len = n & 0x1ff;
	if (n == MNO_PROC_FILE_MAX)
		r->file.flags = MNO_VAR_CUT;
	*off = o + (n & 0x1ff);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	struct mno_pstats *st = mno_stats();
	struct exec_scratch *s;
	__u32 zero = 0, off = 0;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!st || !s)
		return 0;
	__builtin_memset(&s->rec, 0, sizeof(s->rec));
	mno_begin_always(st, &s->rec.hdr, MNO_PROC_EXEC, MNO_WIRE_VERSION, 0);
	fill_id(&s->rec.id, p);
	bpf_get_current_comm(s->rec.id.comm, sizeof(s->rec.id.comm));
	if (mno_read_kernel) {
		off = walk_path(BPF_CORE_READ(p, mm, exe_file), s->tail, &s->rec.exe.flags);
		s->rec.exe.off = sizeof(s->rec);
		s->rec.exe.len = off;
	}
	add_argv(&s->rec, s->tail, &off, p, st);
	if (mno_read_kernel)
		add_file(&s->rec, s->tail, &off, bprm);
	off &= 0xfff;
	s->rec.hdr.size = sizeof(s->rec) + off;
	mno_emit(st, s, sizeof(s->rec) + off);
	return 0;
}

/* CPU time and I/O of the group: what its dead threads left in signal, plus the unreleased. */
static __always_inline void report_exit(struct task_struct *p)
{
	struct task_struct *leader = p->group_leader;
	struct signal_struct *sig = p->signal;
	struct mno_pstats *st = mno_stats();
	struct mno_proc_exit r = {};

	if (!st)
		return;
	mno_begin_always(st, &r.hdr, MNO_PROC_EXIT, MNO_WIRE_VERSION, sizeof(r));
	fill_id(&r.id, p);
	bpf_get_current_comm(r.id.comm, sizeof(r.id.comm));
	r.cpu_ns = sig->sum_sched_runtime;
	r.io_read_bytes = sig->ioac.read_bytes;
	r.io_write_bytes = sig->ioac.write_bytes;
	if (p->sighand) { /* not released yet, so not in the sums */
		r.cpu_ns += p->se.sum_exec_runtime;
		r.io_read_bytes += p->ioac.read_bytes;
		r.io_write_bytes += p->ioac.write_bytes;
	}
	if (leader != p && leader->sighand) {
		r.cpu_ns += leader->se.sum_exec_runtime;
		r.io_read_bytes += leader->ioac.read_bytes;
		r.io_write_bytes += leader->ioac.write_bytes;
	}
	r.rss_peak_bytes = (__u64)sig->maxrss * mno_page_size;
	r.code = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : leader->exit_code;
	r.exit_code = r.code >> 8 & 0xff;
	r.exit_signal = r.code & 0x7f;
	r.core_dumped = r.code >> 7 & 1;
	mno_emit(st, &r, sizeof(r));
}

/*
 * The last thread of a process claims its exit here and reports it at its very last switch:
 * only then is its CPU time complete (a 3 ms process may never have seen a timer tick).
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *p)
{
	struct exit_mark *leader, *self;

	if (p->signal->live.counter != 0)
		return 0;
	leader = bpf_task_storage_get(&exiting, p->group_leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (leader && __sync_lock_test_and_set(&leader->claimed, 1))
		return 0;
	self = bpf_task_storage_get(&exiting, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (self)
		self->reports = 1;
	else
		report_exit(p);
	return 0;
}

/* Attached, or called by another probe's program on the same event; or both for a moment. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	unsigned int prev_state)
{
	struct exit_mark *self;

	if (preempt || !(prev_state & TASK_DEAD))
		return 0;
	self = bpf_task_storage_get(&exiting, prev, 0, 0);
	if (!self || !self->reports)
		return 0;
	self->reports = 0;
	report_exit(prev);
	return 0;
}

static __always_inline bool wants_signal(int sig, int code, bool kernel, bool self)
{
	/* those that end a process by default, but for the timers' */
	const __u64 fatal = 1ULL << 1 | 1ULL << 2 | 1ULL << 3 | 1ULL << 4 | 1ULL << 5 | 1ULL << 6 |
			    1ULL << 7 | 1ULL << 8 | 1ULL << 9 | 1ULL << 11 | 1ULL << 13 |
			    1ULL << 15 | 1ULL << 24 | 1ULL << 25 | 1ULL << 31;

	if (sig < 1 || sig > 63)
		return false;
	if (kernel || self)
		return fatal >> sig & 1;
	return code == 0 || code == -1 || code == -6; /* kill, sigqueue, tgkill */
}

/* SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS */
#define MNO_FAULTS (1ULL << 4 | 1ULL << 5 | 1ULL << 7 | 1ULL << 8 | 1ULL << 11 | 1ULL << 31)

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int sig, struct kernel_siginfo *info, struct task_struct *p, int group,
	int result)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct mno_proc_signal r = {};
	struct mno_pstats *st;
	bool kernel;

	if ((unsigned long)info == 0) { /* SEND_SIG_NOINFO: from the current task */
		kernel = false;
	} else if ((unsigned long)info == 1) { /* SEND_SIG_PRIV */
		kernel = true;
		r.code = 0x80;
	} else if (mno_read_kernel) {
		/* not a typed load: since 6.12 the argument is a number to the verifier */
		bpf_core_read(&r.code, sizeof(r.code), &info->si_code);
		kernel = r.code > 0;
	} else { /* a fault of one's own comes from the kernel */
		kernel = me->tgid == p->tgid && sig < 64 && MNO_FAULTS >> sig & 1;
	}
	if (!wants_signal(sig, r.code, kernel, me->tgid == p->tgid))
		return 0;
	st = mno_stats();
	if (!st || !mno_begin(st, &r.hdr, MNO_PROC_SIGNAL, MNO_WIRE_VERSION, sizeof(r)))
		return 0;
	r.signo = sig;
	r.from_kernel = kernel;
	r.result = result;
	r.target_pid = p->tgid;
	r.target_start_boottime = p->group_leader->start_boottime;
	r.sender_pid = me->tgid;
	r.sender_start_boottime = me->group_leader->start_boottime;
	r.sender_uid = me->cred->uid.val;
	r.sender_cgroup_id = me->cgroups->dfl_cgrp->kn->id;
	bpf_get_current_comm(r.sender_comm, sizeof(r.sender_comm));
	mno_emit(st, &r, sizeof(r));
	return 0;
}

SEC("iter/task")
int seed(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct mno_proc_seed s = {};

	if (!t || t->pid != t->tgid)
		return 0;
	fill_id(&s.id, t);
	s.cpu_ns = t->signal->sum_sched_runtime + t->se.sum_exec_runtime;
	for (int i = 0; i < MNO_COMM_LEN; i++)
		s.id.comm[i] = t->comm[i];
	bpf_seq_write(ctx->meta->seq, &s, sizeof(s));
	return 0;
}
