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

/* floor(log2(v)) without a loop or a clz instruction, which BPF lacks; v > 0 */
static inline __attribute__((always_inline)) __u32 mno_log2(__u64 v)
{
	__u32 r = 0, x;

	if (v >> 32) {
		r = 32;
		v >>= 32;
	}
	x = v;
	if (x >> 16) {
		r |= 16;
		x >>= 16;
	}
	if (x >> 8) {
		r |= 8;
		x >>= 8;
	}
	if (x >> 4) {
		r |= 4;
		x >>= 4;
	}
	if (x >> 2) {
		r |= 2;
		x >>= 2;
	}
	return r | (x >> 1);
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
