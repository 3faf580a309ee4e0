/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a shortage of memory costs: OOM kills, direct reclaim, major faults. */
#include "mno_bpf.h"
#include "mno_vmlinux_io.h"
#include "mno_cgroup.bpf.h"
#include "mno_hist_add.bpf.h"
#include "memory/memory_wire.h"

#define SIGKILL       9
#define SEND_SIG_PRIV ((struct kernel_siginfo *)1) /* from the kernel itself */
#define MM_FILEPAGES  0
#define MM_ANONPAGES  1
#define MM_SHMEMPAGES 3

const volatile __u32 page_size = 4096;
const volatile bool read_kernel = true; /* off where lockdown=confidentiality forbids it */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MEMORY_SLOTS);
	__type(key, __u32);
	__type(value, struct memory_cgroup);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MEMORY_KINDS);
	__type(key, __u32);
	__type(value, struct memory_stall);
} stalls SEC(".maps");

/* preallocated: nothing may be allocated while memory is being looked for */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMORY_RECLAIMS);
	__type(key, __u32);
	__type(value, __u64);
} reclaims SEC(".maps");

/* an OOM record under construction; the OOM killer runs once at a time on a CPU */
struct oom_buffer {
	struct memory_oom oom;
	char tail[MEMORY_CHAIN_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oom_buffer);
} oom_buffers SEC(".maps");

static __always_inline struct memory_cgroup *counters(const struct task_struct *t)
{
	__u32 slot = mno_cgroup_slot(mno_task_cgroup_id((struct task_struct *)t));

	return bpf_map_lookup_elem(&cgroups, &slot);
}

/* --- direct reclaim --------------------------------------------------------------------------- */

static __always_inline int reclaim_begin(void)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct mno_pstats *st;

	if (!bpf_map_update_elem(&reclaims, &tid, &now, BPF_ANY))
		return 0;
	st = mno_stats();
	if (st)
		mno_inc(st->errors);
	return 0;
}

static __always_inline int reclaim_end(enum memory_reclaim kind, unsigned long pages)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), k = kind;
	__u64 *since = bpf_map_lookup_elem(&reclaims, &tid), ns;
	struct mno_pstats *st = mno_stats();
	struct memory_stall *s;
	struct memory_cgroup *c;

	if (!since)
		return 0;
	ns = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&reclaims, &tid);
	s = bpf_map_lookup_elem(&stalls, &k);
	if (s) {
		mno_inc(s->count);
		mno_add(s->ns, ns);
		mno_hist_add(s->hist, ns);
	}
	c = counters(bpf_get_current_task_btf());
	if (c) {
		mno_inc(c->reclaim_count[kind]);
		mno_add(c->reclaim_ns[kind], ns);
		mno_add(c->reclaimed_pages[kind], pages);
	}
	if (st)
		mno_inc(st->runs);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(direct_begin)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(direct_end, unsigned long pages)
{
	return reclaim_end(MEMORY_GLOBAL, pages);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memcg_begin)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_end, unsigned long pages)
{
	return reclaim_end(MEMORY_CGROUP, pages);
}

/* --- major faults: a software event with period 1 on each CPU ------------------------------------ */

SEC("perf_event")
int major_fault(void *ctx)
{
	struct memory_cgroup *c = counters(bpf_get_current_task_btf());
	struct mno_pstats *st = mno_stats();

	if (c)
		mno_inc(c->major_faults);
	if (st)
		mno_inc(st->runs);
	return 0;
}

/* --- OOM kills -------------------------------------------------------------------------------- */

/* 6.1's verifier does not follow typed loads into the older array: read by helper, if allowed */
static __always_inline __u64 pages_of(struct mm_struct *mm)
{
	struct mm_struct___old *old = (void *)mm;
	struct mm_struct___new *new = (void *)mm;
	__s64 n;

	if (bpf_core_type_exists(struct mm_rss_stat___old)) {
		if (!read_kernel)
			return 0;
		n = BPF_CORE_READ(old, rss_stat.count[MM_FILEPAGES].counter) +
		    BPF_CORE_READ(old, rss_stat.count[MM_ANONPAGES].counter) +
		    BPF_CORE_READ(old, rss_stat.count[MM_SHMEMPAGES].counter);
	} else {
		n = new->rss_stat[MM_FILEPAGES].count + new->rss_stat[MM_ANONPAGES].count +
		    new->rss_stat[MM_SHMEMPAGES].count;
	}
	return n > 0 ? n : 0;
}

/* byte by byte: typed loads take no arrays */
static __always_inline void copy_comm(char *to, struct task_struct *t)
{
#pragma unroll
	for (int i = 0; i < MNO_COMM_LEN; i++)
		to[i] = t->comm[i];
}

/* "pid:comm" of the victim's ancestors, NUL after each. Returns the bytes used. */
static __always_inline __u32 put_chain(char *tail, struct task_struct *t)
{
	static const char format[] = "%u:%s";
	__u32 used = 0;

	for (int i = 0; i < MEMORY_ANCESTORS; i++) {
		struct task_struct *up = t->real_parent;
		char comm[MNO_COMM_LEN + 8];
		__u64 args[2];
		long n;

		if (!up || !up->tgid || up->tgid == t->tgid)
			break;
		copy_comm(comm, up);
		comm[MNO_COMM_LEN - 1] = 0;
		args[0] = up->tgid;
		args[1] = (__u64)comm;
		if (used > MEMORY_CHAIN_MAX - 32)
			break;
		n = bpf_snprintf(tail + used, 32, format, args, sizeof(args));
		if (n < 2 || n > 32)
			break;
		used += n;
		t = up;
	}
	return used;
}

static __always_inline void put_trigger(struct memory_oom *o)
{
	struct task_struct *t = bpf_get_current_task_btf();

	o->trigger_pid = t->tgid;
	o->trigger_start_ns = t->group_leader->start_boottime;
	o->trigger_cgroup = mno_task_cgroup_id(t);
	bpf_get_current_comm(o->trigger_comm, sizeof(o->trigger_comm));
}

static __always_inline struct oom_buffer *describe(struct task_struct *victim)
{
	__u32 zero = 0, used;
	struct oom_buffer *b = bpf_map_lookup_elem(&oom_buffers, &zero);
	struct memory_oom *o;

	if (!b)
		return NULL;
	o = &b->oom;
	o->pid = victim->tgid;
	o->start_ns = victim->group_leader->start_boottime;
	o->cgroup = mno_task_cgroup_id(victim);
	o->uid = victim->cred->uid.val;
	o->score_adj = ((struct signal_struct___oom *)victim->signal)->oom_score_adj;
	copy_comm(o->comm, victim);
	o->rss_bytes = o->total_vm_bytes = 0;
	if (victim->mm) {
		o->rss_bytes = pages_of(victim->mm) * page_size;
		o->total_vm_bytes = victim->mm->total_vm * page_size;
	}
	put_trigger(o);
	used = put_chain(b->tail, victim);
	o->ancestors.off = used ? sizeof(*o) : 0;
	o->ancestors.len = used;
	o->ancestors.flags = 0;
	return b;
}

static __always_inline void send(struct oom_buffer *b)
{
	struct mno_pstats *st = mno_stats();
	__u32 slot = mno_cgroup_slot(b->oom.cgroup);
	struct memory_cgroup *c = bpf_map_lookup_elem(&cgroups, &slot);
	__u64 size = sizeof(b->oom) + b->oom.ancestors.len;

	if (c)
		mno_inc(c->oom_kills);
	if (!st || size > sizeof(*b))
		return;
	mno_begin_always(st, &b->oom.hdr, MEMORY_OOM_KILL, MEMORY_VERSION, size);
	mno_emit(st, b, size);
}

/* The tracepoint gives the task since 72ba14deb40a (6.8 and stable kernels)... */
SEC("tp_btf/mark_victim")
int BPF_PROG(oom_task, struct task_struct *victim)
{
	struct oom_buffer *b = describe(victim);

	if (b)
		send(b);
	return 0;
}

/*
 * ... and only its pid before: there the kernel's SIGKILL, sent just before on the same CPU,
 * is what shows the task.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(oom_signal, int sig, struct kernel_siginfo *info, struct task_struct *victim)
{
	if (sig == SIGKILL && info == SEND_SIG_PRIV)
		describe(victim);
	return 0;
}

SEC("raw_tp/mark_victim")
int oom_pid(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 zero = 0;
	struct oom_buffer *b = bpf_map_lookup_elem(&oom_buffers, &zero);

	if (b && b->oom.pid == (__u32)ctx->args[0])
		send(b);
	return 0;
}
