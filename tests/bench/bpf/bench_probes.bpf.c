/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The parts that probes are made of, each by itself, to have its price. */
#include "mno_bpf.h"

#define KIND_BENCH 0xff01

struct bench_record {
	struct mno_hdr hdr;
	char text[256 - sizeof(struct mno_hdr)];
};

struct bench_counter {
	__u64 n, _pad[7];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_MAX_CPUS);
	__type(key, __u32);
	__type(value, struct bench_counter);
} counters SEC(".maps");

SEC("tp_btf/sys_enter")
int empty_enter(void *ctx)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int empty_exit(void *ctx)
{
	return 0;
}

/* the events that the default profile sees most of */
SEC("tp_btf/sched_switch")
int empty_switch(void *ctx)
{
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int empty_tcp(void *ctx)
{
	return 0;
}

SEC("tp_btf/sys_enter")
int count_enter(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct bench_counter *c = bpf_map_lookup_elem(&counters, &cpu);

	if (c)
		mno_inc(c->n);
	return 0;
}

static __always_inline void record_one(void)
{
	struct mno_pstats *st = mno_stats();
	struct bench_record r;

	if (!st)
		return;
	__builtin_memset(r.text, 'x', sizeof(r.text));
	if (mno_begin(st, &r.hdr, KIND_BENCH, 1, sizeof(r)))
		mno_emit(st, &r, sizeof(r));
}

SEC("tp_btf/sys_enter")
int record_enter(void *ctx)
{
	record_one();
	return 0;
}

static int record_step(__u32 i, void *ctx)
{
	record_one();
	return 0;
}

/* A burst without system calls in between: what the ring itself takes. */
SEC("syscall")
int burst(void *ctx)
{
	bpf_loop(1000, record_step, NULL, 0);
	return 0;
}
