/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of all enforcing programs, and what every program does first and last. */
#pragma once

#include "mno_vmlinux_lsm.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "decide.h"

#define EPERM  1
#define EAGAIN 11

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bytes of cells of a path table - 8: the size class, set before load, a constant to the verifier. */
const volatile __u32 path_cell_mask = (1 << 16) - 1;

/* Written by the agent through mmap; pinned, and so shared with the next agent's programs. */
volatile struct mno_e_control ctl SEC(".data.ctl") = {.state = 0xffff, .abi = MNO_ENFORCE_ABI};
/* Never constant where a loop begins: 6.1 takes the first value of a bpf_loop context for the only one. */
volatile __u32 zero;

#define PATH_TABLE_BYTES (256 + 8 * (1 << 16)) /* of the default size class; the agent sets it */

struct gen_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, 4);
	__uint(value_size, sizeof(struct mno_e_gen));
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct gen_table);
} gens SEC(".maps");

struct path_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, 4);
	__uint(value_size, PATH_TABLE_BYTES);
};
struct { /* slot * MNO_E_DOMAINS + domain */
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * MNO_E_DOMAINS);
	__type(key, __u32);
	__array(values, struct path_table);
} paths SEC(".maps");

struct net_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct mno_e_net_key));
	__uint(value_size, sizeof(struct mno_e_net));
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct net_table);
} nets SEC(".maps");

struct { /* updates of it wait until no program that began before runs any more */
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct net_table);
} grace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mno_e_label);
} labels SEC(".maps");

/* By the task's address, not task storage: that one fails spuriously on 6.1 with preempt=full. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct mno_e_task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* process */
	__type(value, struct mno_e_seed);
} seeds SEC(".maps");

struct { /* slot * MNO_E_RULES + rule: how often it decided */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MNO_E_RULES);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring SEC(".maps");

struct scratch {
	__u32 claimed, _pad;
	char path[MNO_E_PATH_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MNO_E_SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} slots SEC(".maps");

#define count(member) __sync_fetch_and_add(&ctl.stats.member, 1)

/* What one decision works with. */
struct ask {
	const struct mno_e_gen *gen;
	struct mno_e_ask q;
	__u32 slot;
	__u32 hook;
	__u32 ops; /* bit mask: the operations that the object is looked up for */
};

/* The tables that hold now; false: nothing is enforced. */
static __always_inline bool ask_gen(struct ask *a)
{
	__u64 word = ctl.state;
	__u32 slot = word & 0xff;

	if (word >> 16) {
		slot = mno_e_slot(word, bpf_ktime_get_boot_ns());
		if (slot != (word & 0xff))
			count(fell_back);
	}
	if (slot > 1)
		return false;
	a->slot = slot;
	void *inner = bpf_map_lookup_elem(&gens, &slot);
	__u32 first = 0;

	a->gen = inner ? bpf_map_lookup_elem(inner, &first) : NULL;
	return a->gen != NULL;
}

static __always_inline struct mno_e_task *task_entry(struct task_struct *t)
{
	__u64 key = (__u64)t;

	return bpf_map_lookup_elem(&tasks, &key);
}

/* Begins a decision about @op for the task that asks; false: no rule speaks of it. A task without
 * an entry is of domain @other. */
static __always_inline bool ask_begin_for(struct ask *a, __u32 op, __u32 hook, __u32 other)
{
	struct mno_e_task *t;

	__builtin_memset(a, 0, sizeof(*a));
	if (!ask_gen(a))
		return false;
	t = task_entry(bpf_get_current_task_btf());
	a->q.domain = (t && t->domain ? t->domain : other) & (MNO_E_DOMAINS - 1);
	a->q.op = op;
	a->ops = 1u << op;
	a->hook = hook;
	return a->gen->domain[a->q.domain].ops >> op & 1;
}

static __always_inline bool ask_begin(struct ask *a, __u32 op, __u32 hook)
{
	return ask_begin_for(a, op, hook, 0);
}

static __always_inline bool ask_has(const struct ask *a, __u32 mask)
{
	return mask & a->ops;
}

/* A record of the decision, header filled; NULL: lost, and counted. */
static __always_inline struct mno_e_record *record_begin(
	const struct ask *a, const struct mno_e_answer *got, const struct mno_e_rule *rule)
{
	struct task_struct *t = bpf_get_current_task_btf();
	__u64 seq = count(records);
	struct mno_e_record *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		count(lost);
		return NULL;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->size = sizeof(*r);
	r->generation = a->gen->generation;
	r->ktime = bpf_ktime_get_boot_ns();
	r->seq = seq;
	r->rule_id = rule->id;
	r->rule = got->rule;
	r->op = a->q.op;
	r->hook = a->hook;
	r->verdict = rule->verdict;
	r->flags = a->q.unresolved ? MNO_E_UNRESOLVED : 0;
	r->domain = a->q.domain;
	r->cls = got->cls;
	r->pid = t->pid;
	r->tgid = t->tgid;
	r->start_ns = t->start_boottime;
	r->cgroup = bpf_get_current_cgroup_id();
	__builtin_memcpy(r->comm, t->comm, sizeof(r->comm));
	return r;
}

/* Decides, counts; @ret_rule stays NULL where no rule applies. True: a record is due. */
static __always_inline bool ask_decide(
	struct ask *a, struct mno_e_answer *got, const struct mno_e_rule **ret_rule)
{
	const struct mno_e_rule *rule;
	__u64 *hit;
	__u32 key;

	count(decisions);
	*got = mno_e_decide(a->gen, &a->q);
	if (!got->rule)
		return false;
	got->rule &= MNO_E_RULES - 1;
	rule = &a->gen->rule[got->rule];
	*ret_rule = rule;
	key = a->slot * MNO_E_RULES + got->rule;
	hit = bpf_map_lookup_elem(&hits, &key);
	if (hit)
		__sync_fetch_and_add(hit, 1);
	if (rule->verdict == MNO_E_DENY)
		count(denied);
	else if (rule->verdict == MNO_E_KILL)
		count(killed);
	else if (rule->verdict == MNO_E_AUDIT)
		count(audited);
	return rule->verdict != MNO_E_ALLOW || rule->record;
}

static __always_inline int verdict_code(const struct mno_e_rule *rule)
{
	if (!rule || rule->verdict < MNO_E_DENY)
		return 0;
	if (rule->verdict == MNO_E_KILL)
		bpf_send_signal(9);
	return -EPERM;
}

/* The end of a decision about something that is no file. */
static __always_inline int ask_end(
	struct ask *a, __u16 port, __u16 family, const void *addr, __u64 detail)
{
	const struct mno_e_rule *rule = NULL;
	struct mno_e_answer got;

	if (ask_decide(a, &got, &rule)) {
		struct mno_e_record *r = record_begin(a, &got, rule);

		if (r) {
			r->port = port;
			r->family = family;
			r->inode = detail;
			if (addr)
				__builtin_memcpy(r->addr, addr, sizeof(r->addr));
			bpf_ringbuf_submit(r, 0);
		}
	}
	return verdict_code(rule);
}
