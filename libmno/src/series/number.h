/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One double as a variable length integer: varint(zigzag(m) << 2 | how), m an integer, thousandths
 * or billionths, less that of another number if that is alike; else HOW_BITS: what is above tells
 * the difference of the bits from the other's, plus one, or is 0 and the 8 bytes follow.
 */
#pragma once

#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "../store/codec.h"
#include "series_internal.h"

#define NUMBER_LIMIT 4503599627370496.0 /* 2^52 */

enum number_how { HOW_INT, HOW_MILLI, HOW_NANO, HOW_BITS };
struct number {
	unsigned how;
	int64_t m; /* HOW_BITS: the bits */
};
static const double number_up[HOW_BITS] = {1, 1e3, 1e9};

static inline int64_t number_nearest(double x)
{
#ifdef __SSE2__
	return _mm_cvtsd_si64(_mm_set_sd(x));
#else
	return llrint(x);
#endif
}

static inline struct number number_of(double v)
{
	struct number n = {0};

	for (; n.how < HOW_BITS; n.how++) {
		double x = v * number_up[n.how];

		if (!(fabs(x) < NUMBER_LIMIT))
			break;
		n.m = number_nearest(x);
		if (bits_of((double)n.m / number_up[n.how]) == bits_of(v))
			return n;
	}
	return (struct number){HOW_BITS, (int64_t)bits_of(v)};
}

static inline void number_put(struct mno_buf *out, double v, struct number base)
{
	struct number n = number_of(v);
	uint64_t d = (uint64_t)n.m - (n.how == base.how ? (uint64_t)base.m : 0), z;

	z = mno_zigzag((int64_t)d);
	if (n.how != HOW_BITS) {
		mno_varint_add(out, z << 2 | n.how);
	} else if (z < 1ULL << 52) {
		mno_varint_add(out, (z + 1) << 2 | HOW_BITS);
	} else {
		mno_varint_add(out, HOW_BITS);
		mno_buf_add(out, &v, 8);
	}
}

static inline double number_get(struct mno_reader *r, struct number base)
{
	uint64_t token = mno_read_varint(r), z = token >> 2, m;
	unsigned how = token & 3;

	if (how == HOW_BITS && !z)
		return of_bits(mno_read_u64(r));
	m = (uint64_t)mno_unzigzag(how == HOW_BITS ? z - 1 : z);
	if (how == base.how)
		m += (uint64_t)base.m;
	return how == HOW_BITS ? of_bits(m) : (double)(int64_t)m / number_up[how];
}
