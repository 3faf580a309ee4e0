/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Native (sparse) histograms as Prometheus defines them: buckets of exponential width, only those
 * in use, told as spans. Bucket i of schema s (-4..8) holds values in (b^(i-1), b^i], b = 2^2^-s.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

#define MNO_NATIVE_BUCKETS    1000 /* of each sign; the same of spans */
#define MNO_NATIVE_SCHEMA_MIN (-4)
#define MNO_NATIVE_SCHEMA_MAX 8

enum mno_native_reset {
	MNO_NATIVE_RESET_UNKNOWN,
	MNO_NATIVE_RESET_YES,
	MNO_NATIVE_RESET_NO,
	MNO_NATIVE_GAUGE, /* never reset: it may go up and down */
	MNO_NATIVE_RESET_N
};

struct mno_native_span {
	int32_t offset;  /* from the end of the span before; of the first: its first bucket */
	uint32_t length; /* buckets in a row */
};

/* Counts of integers are told as differences to the bucket before, floats as they are. */
struct mno_native_buckets {
	size_t n_spans, n; /* n: the sum of the spans' lengths */
	const struct mno_native_span *spans;
	const int64_t *deltas; /* n of them; NULL if is_float */
	const double *counts;  /* n of them; NULL if not */
};

/* All borrowed. A staleness mark is a histogram without buckets whose sum is the stale NaN. */
struct mno_native_hist {
	int8_t schema;
	bool is_float;
	uint8_t reset; /* enum mno_native_reset */
	double zero_threshold;
	uint64_t count, zero_count; /* of integers */
	double count_float, zero_count_float;
	double sum;
	struct mno_native_buckets positive, negative;
};
