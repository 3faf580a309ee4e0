/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Histogram with bounded relative error, shared by kernel and user side: values below 16 have a
 * bucket each, above that every power of two is cut into 16 equal buckets (HdrHistogram / H2
 * layout), so a bucket is never wider than 1/16 = 6.25 % of its lower bound.
 */
#pragma once

#include <linux/types.h>

#define MNO_HIST_P       4  /* log2 of buckets per power of two */
#define MNO_HIST_MAXBIT  36 /* values >= 2^36 (68.7 s in ns) share the last */
#define MNO_HIST_BUCKETS ((MNO_HIST_MAXBIT - MNO_HIST_P + 1) * (1 << MNO_HIST_P)) /* 528 */

/*
 * floor(log2(v)), v > 0. BPF has no instruction for it, and branches on data are mispredicted:
 * fill the bits below the highest one, then a product whose upper five bits differ for each.
 */
#ifdef __bpf__
const __u8 mno_log2_of[32] = /* not static: libbpf 1.1 places only one such in a section */
#else
static const __u8 mno_log2_of[32] =
#endif
	{0, 9, 1, 10, 13, 21, 2, 29, 11, 14, 16, 18, 22, 25, 3, 30, 8, 12, 20, 28, 15, 17, 24, 7,
		19, 27, 23, 6, 26, 5, 4, 31};

static inline __attribute__((always_inline)) __u32 mno_log2(__u64 v)
{
	__u32 add = 0, x = (__u32)v;
	__u64 i;

	if (v >> 32) {
		add = 32;
		x = (__u32)(v >> 32);
	}
	x |= x >> 1;
	x |= x >> 2;
	x |= x >> 4;
	x |= x >> 8;
	x |= x >> 16;
	i = x * 0x07c4acddu >> 27;
#ifdef __bpf__
	asm volatile("" : "+r"(i)); /* the 6.1 verifier forgets the bound: mask where it sees it */
#endif
	return add + mno_log2_of[i & 31];
}

static inline __attribute__((always_inline)) __u32 mno_hist_index(__u64 v)
{
	__u32 h, i;

	if (v < (1u << MNO_HIST_P))
		return v;
	h = mno_log2(v);
	if (h >= MNO_HIST_MAXBIT)
		return MNO_HIST_BUCKETS - 1;
	i = ((h - MNO_HIST_P + 1) << MNO_HIST_P) +
	    ((v >> (h - MNO_HIST_P)) & ((1u << MNO_HIST_P) - 1));
	return i;
}

/* smallest value of bucket @i; the bucket ends before mno_hist_lower(i + 1) */
static inline __u64 mno_hist_lower(__u32 i)
{
	__u32 g = i >> MNO_HIST_P, s = i & ((1u << MNO_HIST_P) - 1);

	if (g == 0)
		return s;
	return (__u64)((1u << MNO_HIST_P) + s) << (g - 1);
}
