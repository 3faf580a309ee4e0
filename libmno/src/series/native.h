/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native histograms, stored whole: batches of one series, in order of time and without overlap.
 * Key: id u32 | first time u64. What comes in order goes to the last batch while that is small;
 * when BATCH_JOIN small ones stand side by side they become one.
 */
#pragma once

#include "late.h"
#include "mno/native_hist.h"

#define NATIVE_KEY   12u
#define NATIVE_MAX   256u /* histograms in a batch */
#define NATIVE_SMALL 16u  /* in one that is still added to */

struct native {
	int64_t t_ms;
	struct mno_native_hist h;
	void *mem; /* owned: what h points into */
};
struct natives {
	size_t n;
	struct native v[NATIVE_MAX + 1];
};
void natives_done(struct natives *b);
/* A copy. -ENOMEM */
int native_copy(struct native *to, int64_t t_ms, const struct mno_native_hist *h);
/* -EINVAL: not a histogram that can be stored. */
int native_check(const struct mno_native_hist *h);
/* Bit by bit. */
bool native_equal(const struct mno_native_hist *a, const struct mno_native_hist *b);

/* Appends the bytes of [@v, @n), ascending in time; errors stick in @out. */
void native_encode(const struct native *v, size_t n, struct mno_buf *out);
/* @raw need not outlive @ret, which must be empty. -MNO_ECORRUPT, never a bad read; -ENOMEM. */
int native_decode(const uint8_t *raw, size_t len, struct natives *ret);
