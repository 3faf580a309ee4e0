/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Adding to a histogram of mno_hist.h from a program. */
#pragma once

#include "mno_bpf.h"

/* @counts: MNO_HIST_BUCKETS counters in a map value */
static __always_inline void mno_hist_add(__u32 *counts, __u64 v)
{
	__u32 i = mno_hist_index(v);

	/* the verifier cannot follow the arithmetic: bound it where it can see */
	barrier_var(i);
	if (i < MNO_HIST_BUCKETS)
		mno_inc(counts[i]);
}
