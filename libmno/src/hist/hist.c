/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include "mno/hist.h"

uint64_t mno_hist_total(const uint32_t *counts)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < MNO_HIST_BUCKETS; i++)
		n += counts[i];
	return n;
}

double mno_hist_quantile(const uint32_t *counts, double q)
{
	uint64_t total = mno_hist_total(counts), rank, seen = 0;
	uint32_t i = 0;

	if (!total || isnan(q))
		return NAN;
	q = q < 0 ? 0 : q > 1 ? 1 : q;
	rank = (uint64_t)ceil(q * (double)total);
	rank = rank < 1 ? 1 : rank > total ? total : rank;
	while ((seen += counts[i]) < rank)
		i++;
	/* integers: the last value of a bucket is one below the next one's first */
	return ((double)mno_hist_lower(i) + (double)(mno_hist_lower(i + 1) - 1)) / 2;
}

uint64_t mno_hist_cumulative(const uint32_t *counts, uint64_t bound)
{
	uint64_t n = 0;

	if (bound == UINT64_MAX)
		return mno_hist_total(counts);
	/* the last bucket has no upper end */
	for (uint32_t i = 0; i < MNO_HIST_BUCKETS - 1 && mno_hist_lower(i + 1) <= bound + 1; i++)
		n += counts[i];
	return n;
}

uint64_t mno_hist_delta(uint32_t *dst, const uint32_t *now, const uint32_t *before)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < MNO_HIST_BUCKETS; i++)
		n += dst[i] = now[i] - before[i];
	return n;
}
