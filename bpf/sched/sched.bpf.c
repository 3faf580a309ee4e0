/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One program on sched_switch, nothing on wake-ups. The scheduler itself notes when a task was
 * queued and how long it waited in all (sched_info); at the switch these lie in the same clock
 * as the run queue's, so the wait of `next` is a subtraction. What a task sleeps for is read
 * when it goes: in_iowait, its state, and the system call in its saved registers.
 *
 * The program runs under the run-queue lock: it never allocates. Task storage is made at fork
 * and, for tasks that run already, by an iterator; here it is only looked up.
 */
#include "mno_bpf.h"
#include "mno_cgroup.bpf.h"
#include "mno_switch.bpf.h"
#include "sched_wire.h"

#define LONG_STINT 1000000000ULL
/* whose sleep is not told: kernel threads (idle ones among them) and tasks that end */
#define NO_SLEEPER (PF_KTHREAD | PF_EXITING)

/*
 * The run queue by way of the task: the symbol `runqueues` is not to be had on kernels without
 * CONFIG_KALLSYMS_ALL. Where a field is missing, the verifier refuses the first rung.
 */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct rq {
	__u64 clock;
};
struct cfs_rq {
	struct rq *rq;
};
struct sched_entity___rq {
	struct cfs_rq *cfs_rq;
};
struct task_struct___rq {
	struct sched_entity___rq se;
};
#pragma clang attribute pop

const volatile __u32 bank_mask = 0;
/* Kernel memory may be read by address (not under lockdown=confidentiality). */
const volatile bool read_kernel;
const volatile bool private_banks = false; /* no two CPUs share a bank: no atomics needed */
const volatile __u8 wait_class[MNO_SCHED_SYSCALLS] = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_SCHED_SLOTS *MNO_SCHED_BANKS); /* cut to the banks in use */
	__type(key, __u32);
	__type(value, struct mno_sched_cgroup);
} sched_cgroups SEC(".maps");

/* [victim * 256 + culprit]: time the victim waited while the culprit had the CPU */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_SCHED_SLOTS *MNO_SCHED_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sched_culprits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mno_sched_task);
} sched_tasks SEC(".maps");

/* Under the run-queue lock with interrupts off: a bank of one's own needs no bus lock. */
#define bank_add(p, n)                                                                             \
	do {                                                                                       \
		if (private_banks)                                                                 \
			(p) += (n);                                                                \
		else                                                                               \
			mno_add(p, n);                                                             \
	} while (0)

/*
 * A plain load of a bit field is refused or wrong where the field is not in the first byte of
 * its word, and the probing read is refused under lockdown: so load the byte it is in.
 */
static __always_inline bool task_in_iowait(struct task_struct *t)
{
	__u32 bit = 63 - __CORE_RELO(t, in_iowait, LSHIFT_U64);
	const __u8 *p = (const void *)t + __CORE_RELO(t, in_iowait, BYTE_OFFSET) + (bit >> 3);

	return *p >> (bit & 7) & 1;
}

static __always_inline __u32 sleep_class(struct task_struct *t, __u32 state)
{
	struct pt_regs *regs;
	__u64 nr;
	__u32 class;

	if (task_in_iowait(t))
		return MNO_WAIT_DISK;
	regs = (struct pt_regs *)bpf_task_pt_regs(t);
	nr = regs->orig_ax;
	if (nr >= MNO_SCHED_SYSCALLS) /* a page fault, or user code was interrupted */
		return MNO_WAIT_OTHER;
	class = wait_class[nr];
	/* reads of files cannot be interrupted, those of pipes and terminals can */
	if (class == MNO_WAIT_PIPE && (state & TASK_UNINTERRUPTIBLE))
		return MNO_WAIT_DISK;
	return class;
}

/* Slot of @t's cgroup; @st (may be NULL) saves the hash lookup while @t stays where it is. */
static __always_inline __u32 task_slot(struct task_struct *t, struct mno_sched_task *st)
{
	__u64 cgid = mno_task_cgroup_id(t);
	__u32 slot;

	if (st && st->cgid == cgid && st->slot)
		return st->slot & (MNO_SCHED_SLOTS - 1);
	slot = mno_cgroup_slot(cgid);
	if (st) {
		st->cgid = cgid;
		st->slot = slot;
	}
	return slot;
}

static __always_inline struct mno_sched_cgroup *bank_slot(__u32 cpu, __u32 slot)
{
	__u32 i = (cpu & bank_mask) * MNO_SCHED_SLOTS + slot;

	return bpf_map_lookup_elem(&sched_cgroups, &i);
}

/* Notes a stint for blame(); one after the other of the same cgroup are one. */
static __always_inline void note_stint(struct mno_sched_cpu *c, __u64 ran)
{
	__u32 i = c->newest & (MNO_SCHED_STINTS - 1);

	if (c->ran[i] && c->ran_slot[i] == c->slot) {
		ran += c->ran[i];
	} else {
		i = (i + 1) & (MNO_SCHED_STINTS - 1);
		c->newest = i;
		c->ran_slot[i] = c->slot;
	}
	c->ran[i] = ran >> 32 ? 0xffffffff : ran;
}

/* The CPU was idle: nobody waits for what ran before that. */
static __always_inline void forget_stints(struct mno_sched_cpu *c)
{
	__u32 i = (c->newest + 1) & (MNO_SCHED_STINTS - 1);

	c->newest = i;
	c->ran[i] = 0;
}

/* Spreads @wait of @victim over the stints that filled it, newest first. */
static __always_inline void blame(struct mno_sched_cpu *c, __u32 victim, __u64 wait)
{
	__u32 i = c->newest, cell;
	__u64 part, *sum;

#pragma unroll
	for (int k = 0; k < MNO_SCHED_STINTS; k++, i--) {
		i &= MNO_SCHED_STINTS - 1;
		part = c->ran[i];
		if (!part || !wait)
			return;
		if (part > wait)
			part = wait;
		wait -= part;
		if (c->ran_slot[i] == victim)
			continue;
		cell = victim * MNO_SCHED_SLOTS + c->ran_slot[i];
		sum = bpf_map_lookup_elem(&sched_culprits, &cell);
		if (sum)
			mno_add(*sum, part);
	}
}

/* @prev leaves the CPU after @ran ns. */
static __always_inline void leave(
	struct mno_sched_cpu *c, __u32 cpu, struct task_struct *prev, __u64 ran, bool sleeps)
{
	struct mno_sched_cgroup *g;

	if (!c->pid) {
		forget_stints(c);
		return;
	}
	if (!c->since) /* it ran before the probe did */
		return;
	if (ran > LONG_STINT) /* long enough for its slot to have got another owner */
		c->slot = task_slot(prev, NULL);
	g = bank_slot(cpu, c->slot);
	if (!g)
		return;
	note_stint(c, ran);
	bank_add(g->cpu_ns, ran);
	if (!sleeps)
		bank_add(g->preempted, 1);
}

/* @prev goes to sleep: note when and what for. */
static __always_inline void fall_asleep(
	struct mno_sched_task *st, struct task_struct *prev, __u32 state, __u64 now)
{
	st->class = sleep_class(prev, state);
	st->out = now;
}

/* @next slept until it was queued, @wait ns ago. */
static __always_inline void wake_up(
	struct mno_sched_task *st, struct mno_sched_cgroup *g, __u64 now, __u64 wait)
{
	__u64 off = now - st->out, ns;
	__u32 class = st->class & 7;

	_Static_assert(MNO_WAIT_N == 8, "the mask above");
	st->out = 0;
	if ((__s64)off < 0)
		return;
	ns = off > wait ? off - wait : 0;
	bank_add(g->wait[class].ns, ns);
	bank_add(g->wait[class].count, 1);
	if (class == MNO_WAIT_DISK) {
		st->iowait_ns += ns;
		st->iowaits++;
	}
}

/* @next gets the CPU after it could have run for @wait ns. */
static __always_inline void arrive(struct mno_sched_cpu *c, __u32 cpu, struct task_struct *next,
	struct mno_sched_task *st, __u64 now, __u64 wait)
{
	__u32 slot = task_slot(next, st);
	struct mno_sched_cgroup *g = bank_slot(cpu, slot);
	__u64 i;

	if (!g)
		return;
	bank_add(g->switches, 1);
	bank_add(g->runq_ns, wait);
	i = mno_hist_index(wait);
	/* 64 bits wide: the 6.1 verifier forgets the bound when it copies a 32-bit register */
	barrier_var(i);
	if (i < MNO_HIST_BUCKETS)
		bank_add(g->runq_hist[i], 1);
	if (st && st->out)
		wake_up(st, g, now, wait);
	if (c->pid)
		blame(c, slot, wait);
	c->slot = slot;
}

/* The scheduler's clock on the CPU that @t is on. */
static __always_inline __u64 rq_clock(struct task_struct *t)
{
	struct task_struct___rq *q = (void *)t;

	return q->se.cfs_rq->rq->clock;
}

/* One lookup for both: the CPU's counters and its state. */
static __always_inline struct mno_sched_cpu *count_run(void)
{
	struct mno_pstats *s = mno_stats();

	if (!s)
		return NULL;
	s->runs++;
	return (struct mno_sched_cpu *)s->own;
}

/* The first rung: the kernel's own bookkeeping. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	unsigned int prev_state)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct mno_sched_cpu *c = count_run();
	__u64 now = rq_clock(prev), ran, wait, total, queued;
	bool sleeps = !preempt && prev_state;
	struct mno_sched_task *st;

	if (!c)
		return 0;
	ran = now - c->since;
	if ((__s64)ran < 0)
		ran = 0;
	leave(c, cpu, prev, ran, sleeps);
	if (sleeps && !(prev->flags & NO_SLEEPER)) {
		st = bpf_task_storage_get(&sched_tasks, prev, 0, 0);
		if (st)
			fall_asleep(st, prev, prev_state, now);
	}
	if (next->pid) {
		st = bpf_task_storage_get(&sched_tasks, next, 0, 0);
		queued = next->sched_info.last_queued;
		wait = queued && queued < now ? now - queued : 0;
		if (st) {
			/* moved while it was queued: the part before is in run_delay already */
			total = next->sched_info.run_delay + wait;
			if (st->waited && total > st->waited)
				wait = total - st->waited;
			st->waited = total;
		} else {
			c->missed++;
		}
		arrive(c, cpu, next, st, now, wait);
	}
	c->pid = next->pid;
	c->since = now;
	mno_switch_tail(ctx, preempt, prev_state);
	return 0;
}

/* The second rung: time stamps of our own at the wake-up. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch_stamped, bool preempt, struct task_struct *prev, struct task_struct *next,
	unsigned int prev_state)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct mno_sched_cpu *c = count_run();
	__u64 now = bpf_ktime_get_ns(), ran, wait = 0;
	bool sleeps = !preempt && prev_state;
	struct mno_sched_task *st;

	if (!c)
		return 0;
	ran = now - c->since;
	leave(c, cpu, prev, ran, sleeps);
	if (prev->pid) {
		st = bpf_task_storage_get(&sched_tasks, prev, 0, 0);
		if (st && sleeps) {
			st->queued = 0;
			fall_asleep(st, prev, prev_state, now);
		} else if (st)
			st->queued = now;
	}
	if (next->pid) {
		st = bpf_task_storage_get(&sched_tasks, next, 0, 0);
		if (st && st->queued && st->queued < now)
			wait = now - st->queued;
		else if (st && st->out) /* a signal kept it from sleeping: no wake-up was needed */
			wait = now - st->out;
		if (st)
			st->queued = 0;
		arrive(c, cpu, next, st, now, wait);
	}
	c->pid = next->pid;
	c->since = now;
	mno_switch_tail(ctx, preempt, prev_state);
	return 0;
}

static __always_inline int stamp(struct task_struct *p)
{
	struct mno_sched_task *st = bpf_task_storage_get(&sched_tasks, p, 0, 0);

	if (st && !st->queued) /* told again while it is queued: the first time counts */
		st->queued = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *p)
{
	return stamp(p);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *p)
{
	return stamp(p);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct mno_pstats *s;

	if (!bpf_task_storage_get(&sched_tasks, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
		s = mno_stats();
		if (s)
			mno_inc(s->errors);
	}
	return 0;
}

/*
 * Storage for the tasks that run already; writes the number of each that got none, for the
 * kernel's stock of small pieces may be used up for a moment: the reader tries again.
 */
SEC("iter/task")
int seed_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	__u32 pid;

	if (!t || bpf_task_storage_get(&sched_tasks, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return 0;
	pid = t->pid;
	bpf_seq_write(ctx->meta->seq, &pid, sizeof(pid));
	return 0;
}

struct mm_rss_stat___6_1 {
	struct {
		long counter;
	} count[4];
} __attribute__((preserve_access_index));
struct mm_struct___6_1 {
	struct mm_rss_stat___6_1 rss_stat;
} __attribute__((preserve_access_index));
struct percpu_counter___6_2 {
	__s64 count;
} __attribute__((preserve_access_index));
struct mm_struct___6_2 {
	struct percpu_counter___6_2 rss_stat[4];
} __attribute__((preserve_access_index));

/* File, anonymous and shared memory pages (numbers 0, 1, 3 of the kernel's list). */
static __always_inline __u64 mm_rss_pages(struct mm_struct *mm)
{
	struct mm_struct___6_1 *o = (void *)mm;
	struct mm_struct___6_2 *n = (void *)mm;
	__s64 a, b, c;

	if (bpf_core_field_exists(o->rss_stat.count)) {
		/* the 6.1 verifier takes no typed load through an array of a typedef */
		if (!read_kernel || bpf_core_read(&a, sizeof(a), &o->rss_stat.count[0].counter) ||
			bpf_core_read(&b, sizeof(b), &o->rss_stat.count[1].counter) ||
			bpf_core_read(&c, sizeof(c), &o->rss_stat.count[3].counter))
			return 0;
	} else if (bpf_core_field_exists(n->rss_stat[0].count)) {
		a = n->rss_stat[0].count;
		b = n->rss_stat[1].count;
		c = n->rss_stat[3].count;
	} else {
		return 0;
	}
	a = a + b + c;
	return a > 0 ? a : 0;
}

static __always_inline void thread_io(struct mno_sched_thread *o, struct task_struct *t)
{
	struct signal_struct *sig = t->signal;

	if (!bpf_core_field_exists(t->ioac.read_bytes))
		return;
	o->read_bytes = t->ioac.read_bytes;
	o->write_bytes = t->ioac.write_bytes;
	if (sig) {
		o->dead_read_bytes = sig->ioac.read_bytes;
		o->dead_write_bytes = sig->ioac.write_bytes;
	}
}

/* On demand: the figures of every thread, for the view by process. */
SEC("iter/task")
int list_threads(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task, *leader;
	struct mno_sched_thread o = {};
	struct mno_sched_task *st;
	struct mm_struct *mm;

	if (!t)
		return 0;
	leader = t->group_leader;
	o.tgid = t->tgid;
	o.pid = t->pid;
	o.start_ns = leader->start_boottime;
	o.cgid = mno_task_cgroup_id(t);
	o.cpu_ns = t->se.sum_exec_runtime;
	if (bpf_core_field_exists(t->sched_info.run_delay))
		o.runq_ns = t->sched_info.run_delay;
	if (t->signal)
		o.dead_cpu_ns = t->signal->sum_sched_runtime;
	thread_io(&o, t);
	mm = t->mm;
	if (mm)
		o.rss_pages = mm_rss_pages(mm);
	st = bpf_task_storage_get(&sched_tasks, t, 0, 0);
	if (st) {
		o.iowait_ns = st->iowait_ns;
		o.iowaits = st->iowaits;
	}
	*(__u64 *)&o.comm[0] = *(__u64 *)&leader->comm[0];
	*(__u64 *)&o.comm[8] = *(__u64 *)&leader->comm[8];
	bpf_seq_write(ctx->meta->seq, &o, sizeof(o));
	return 0;
}
