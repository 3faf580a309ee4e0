/* SPDX-License-Identifier: Apache-2.0 */
/* Reading side of the bounded-error histograms (layout in mno_hist.h). Pure, thread-safe. */
#pragma once

#include <stdint.h>
#include <stddef.h>
#include "mno_hist.h"

/* Sum of @n counts. */
uint64_t mno_hist_total(const uint32_t *counts);
/*
 * Value at quantile @q in [0,1]: middle of the bucket that holds the ceil(q * total)-th value, at
 * most 3.2 % off. NAN when empty.
 */
double mno_hist_quantile(const uint32_t *counts, double q);
/* Values <= @bound, by whole buckets: those whose upper end is <= bound + 1. */
uint64_t mno_hist_cumulative(const uint32_t *counts, uint64_t bound);
/* dst[i] = now[i] - before[i], 32-bit wrap allowed; returns the sum. */
uint64_t mno_hist_delta(uint32_t *dst, const uint32_t *now, const uint32_t *before);
