/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every system call of the host, by cgroup and number: on demand only, for it taxes each call.
 * A table turns (cgroup slot, number) into one of 1,024 entries, which are handed out to the
 * pairs that occur; entry 0 takes what is left.
 */
#include "mno_bpf.h"
#include "mno_cgroup.bpf.h"
#include "syscall_wire.h"

#define TS_COMPAT 0x0002
#define MAX_ERRNO 4095

const volatile __u32 bank_mask = 0;
const volatile bool private_banks = false; /* no two CPUs share a bank: no atomics needed */

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mno_syscall_task);
} syscall_tasks SEC(".maps");

/* [slot * 512 + nr] = entry; 0 = none yet, MNO_SYSCALL_NONE_LEFT = there was none to be had */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_SYSCALL_SLOTS *MNO_SYSCALL_NRS);
	__type(key, __u32);
	__type(value, __u64); /* an array's values take 8 bytes at least */
} syscall_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_SYSCALL_ENTRIES *MNO_SYSCALL_BANKS); /* cut to the banks in use */
	__type(key, __u32);
	__type(value, struct mno_syscall_entry);
} syscall_entries SEC(".maps");

/* Entries to be had; filled by user space, which also brings back those of cgroups that went. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MNO_SYSCALL_ENTRIES);
	__uint(value_size, sizeof(__u32));
} syscall_free SEC(".maps");

/* Not preempted, and no system call begins within an interrupt. */
#define bank_add(p, n)                                                                             \
	do {                                                                                       \
		if (private_banks)                                                                 \
			(p) += (n);                                                                \
		else                                                                               \
			mno_add(p, n);                                                             \
	} while (0)

struct thread_info___x86 {
	unsigned int status;
} __attribute__((preserve_access_index));
struct task_struct___x86 {
	struct thread_info___x86 thread_info;
} __attribute__((preserve_access_index));

static __always_inline __u32 call_number(struct task_struct *t, long id)
{
	struct task_struct___x86 *x = (void *)t;

	if (bpf_core_field_exists(x->thread_info.status) && x->thread_info.status & TS_COMPAT)
		return MNO_SYSCALL_COMPAT;
	return (__u64)id < MNO_SYSCALL_UNKNOWN ? id : MNO_SYSCALL_UNKNOWN;
}

static __always_inline __u32 task_slot(struct task_struct *t, struct mno_syscall_task *st)
{
	__u64 cgid = mno_task_cgroup_id(t);

	if (st->cgid != cgid || !st->slot) {
		st->slot = mno_cgroup_slot(cgid);
		st->cgid = cgid;
	}
	return st->slot & (MNO_SYSCALL_SLOTS - 1);
}

/* A pair met for the first time. */
static __noinline __u32 entry_new(__u64 *cell)
{
	__u32 entry = 0;
	__u64 other;

	if (!cell)
		return 0;
	if (bpf_map_pop_elem(&syscall_free, &entry)) {
		__sync_val_compare_and_swap(cell, 0, MNO_SYSCALL_NONE_LEFT);
		return 0;
	}
	other = __sync_val_compare_and_swap(cell, 0, entry);
	if (!other)
		return entry;
	bpf_map_push_elem(&syscall_free, &entry, 0); /* another CPU was first */
	return other;
}

static __always_inline struct mno_syscall_entry *entry_of(__u32 slot, __u32 nr)
{
	__u32 i = slot * MNO_SYSCALL_NRS + (nr & (MNO_SYSCALL_NRS - 1)), entry;
	__u64 *cell = bpf_map_lookup_elem(&syscall_index, &i);

	if (!cell)
		return NULL;
	entry = *cell;
	if (!entry)
		entry = entry_new(cell);
	i = (bpf_get_smp_processor_id() & bank_mask) * MNO_SYSCALL_ENTRIES +
	    (entry & (MNO_SYSCALL_ENTRIES - 1));
	return bpf_map_lookup_elem(&syscall_entries, &i);
}

static __always_inline int enter(long id)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mno_syscall_task *st =
		bpf_task_storage_get(&syscall_tasks, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct mno_pstats *s;

	if (!st) {
		s = mno_stats();
		if (s)
			mno_inc(s->errors);
		return 0;
	}
	st->nr = call_number(t, id);
	st->start = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int leave(long ret)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct mno_syscall_task *st = bpf_task_storage_get(&syscall_tasks, t, 0, 0);
	struct mno_syscall_entry *e;
	struct mno_pstats *s;
	__u64 ns;
	__u32 i;

	if (!st || !st->start)
		return 0;
	ns = bpf_ktime_get_ns() - st->start;
	st->start = 0;
	st->calls++;
	s = mno_stats();
	if (s)
		s->runs++;
	e = entry_of(task_slot(t, st), st->nr);
	if (!e)
		return 0;
	bank_add(e->count, 1);
	bank_add(e->ns, ns);
	if ((__u64)ret >= (__u64)-MAX_ERRNO)
		bank_add(e->errors, 1);
	i = mno_hist_index(ns);
	barrier_var(i); /* or the check is done on what it was computed from */
	if (i < MNO_HIST_BUCKETS)
		bank_add(e->hist[i], 1);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_enter, struct pt_regs *regs, long id)
{
	return enter(id);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_exit, struct pt_regs *regs, long ret)
{
	return leave(ret);
}

SEC("raw_tp/sys_enter")
int on_enter_raw(struct bpf_raw_tracepoint_args *ctx)
{
	return enter(ctx->args[1]);
}

SEC("raw_tp/sys_exit")
int on_exit_raw(struct bpf_raw_tracepoint_args *ctx)
{
	return leave(ctx->args[1]);
}

/* On demand: how many calls each thread made. */
SEC("iter/task")
int list_calls(struct bpf_iter__task *ctx)
{
	struct mno_syscall_thread o = {};
	struct task_struct *t = ctx->task;
	struct mno_syscall_task *st;

	if (!t)
		return 0;
	st = bpf_task_storage_get(&syscall_tasks, t, 0, 0);
	if (!st)
		return 0;
	o.tgid = t->tgid;
	o.calls = st->calls;
	bpf_seq_write(ctx->meta->seq, &o, sizeof(o));
	return 0;
}
