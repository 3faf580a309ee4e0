/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shared by all kernel-side programs: the per-probe ring and stats maps, record emission with
 * exact accounting, and the record budget. Every <probe>.bpf.c includes this one first.
 */
#pragma once

#include "mno_vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "mno_wire.h"
#include "mno_hist.h"

/* knobs, set between open and load */
const volatile __u64 mno_budget_per_cpu = 0;        /* records per CPU and window; 0 = no limit */
const volatile __u64 mno_wake_bytes = 64 * 1024;    /* a quarter of the ring */
const volatile __u64 mno_budget_window = 100000000; /* ns */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024); /* resized by the agent before load */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MNO_MAX_CPUS); /* cut to the number of CPUs before load */
	__type(key, __u32);
	__type(value, struct mno_pstats);
} stats SEC(".maps");

#define mno_inc(p)    __sync_fetch_and_add(&(p), 1)
#define mno_add(p, n) __sync_fetch_and_add(&(p), (n))

static __always_inline struct mno_pstats *mno_stats(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&stats, &cpu);
}

/* Accounts one fact that deserves a record, whatever the budget, and fills its header. */
static __always_inline void mno_begin_always(
	struct mno_pstats *st, struct mno_hdr *h, __u16 kind, __u16 version, __u32 size)
{
	h->size = size;
	h->kind = kind;
	h->version = version;
	h->ktime = bpf_ktime_get_boot_ns();
	h->cpu = bpf_get_smp_processor_id();
	h->_pad = 0;
	h->seq = __sync_fetch_and_add(&st->seen, 1);
}

/* As above, within the record budget. False: it is spent (counted as sampled). */
static __always_inline bool mno_begin(
	struct mno_pstats *st, struct mno_hdr *h, __u16 kind, __u16 version, __u32 size)
{
	mno_begin_always(st, h, kind, version, size);
	if (!mno_budget_per_cpu)
		return true;
	if (h->ktime - st->budget_start > mno_budget_window) {
		st->budget_start = h->ktime;
		st->budget_used = 0;
	}
	if (__sync_fetch_and_add(&st->budget_used, 1) < mno_budget_per_cpu)
		return true;
	mno_inc(st->sampled);
	return false;
}

/*
 * Sends @size bytes at @rec (header included); counts it delivered or dropped. The reader drains
 * on a timer; it is woken once when the bytes waiting pass the threshold, never per record.
 */
static __always_inline void mno_emit(struct mno_pstats *st, void *rec, __u64 size)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	bool wake = waiting < mno_wake_bytes && waiting + size >= mno_wake_bytes;

	if (bpf_ringbuf_output(&ring, rec, size, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		mno_inc(st->dropped);
	else
		mno_inc(st->delivered);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
