/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../support/tmpstate.h"
#include "mno/hist.h"

static void test_layout(void **state)
{
	/* bounds meet, no bucket is wider than 1/16 of its lower bound */
	for (uint32_t i = 0; i + 1 < MNO_HIST_BUCKETS; i++) {
		uint64_t lo = mno_hist_lower(i), hi = mno_hist_lower(i + 1);

		assert_true(hi > lo && hi - lo <= (lo < 16 ? 1 : lo / 16));
		assert_int_equal(mno_hist_index(lo), i);
		assert_int_equal(mno_hist_index(hi - 1), i);
	}
	assert_int_equal(mno_hist_index(UINT64_MAX), MNO_HIST_BUCKETS - 1);
	assert_int_equal(mno_hist_index(1ULL << MNO_HIST_MAXBIT), MNO_HIST_BUCKETS - 1);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void test_quantile(void **state)
{
	enum { N = 5000 };
	static uint64_t v[N];
	static const double qs[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
	uint32_t counts[MNO_HIST_BUCKETS] = {0};
	uint64_t seed = 3;

	for (int i = 0; i < N; i++) {
		v[i] = rnd(&seed) >> (30 + rnd(&seed) % 34);
		counts[mno_hist_index(v[i])]++;
	}
	qsort(v, N, sizeof(*v), by_value);
	for (size_t k = 0; k < sizeof(qs) / sizeof(*qs); k++) {
		size_t rank = (size_t)fmax(1, ceil(qs[k] * N));
		double exact = (double)v[rank - 1], got = mno_hist_quantile(counts, qs[k]);

		assert_true(fabs(got - exact) <= exact * 0.032 + 1e-9);
	}
	assert_int_equal(mno_hist_total(counts), N);
}

static void test_edges(void **state)
{
	uint32_t counts[MNO_HIST_BUCKETS] = {0}, before[MNO_HIST_BUCKETS] = {0},
		 d[MNO_HIST_BUCKETS];

	assert_true(isnan(mno_hist_quantile(counts, 0.5)));
	counts[3] = 10;
	assert_true(mno_hist_quantile(counts, 0) == 3 && mno_hist_quantile(counts, 1) == 3);
	assert_true(mno_hist_quantile(counts, -5) == 3 && mno_hist_quantile(counts, 7) == 3);
	assert_true(isnan(mno_hist_quantile(counts, NAN)));
	assert_int_equal(mno_hist_cumulative(counts, 2), 0);
	assert_int_equal(mno_hist_cumulative(counts, 3), 10);
	counts[MNO_HIST_BUCKETS - 1] = 1;
	assert_int_equal(mno_hist_cumulative(counts, 1ULL << 40), 10);
	assert_int_equal(mno_hist_cumulative(counts, UINT64_MAX), 11);
	before[3] = UINT32_MAX - 4; /* the counter wrapped */
	assert_int_equal(mno_hist_delta(d, counts, before), 15 + 1);
	assert_int_equal(d[3], 15);
}

static void test_cumulative(void **state)
{
	uint32_t counts[MNO_HIST_BUCKETS];
	uint64_t sum = 0;

	for (uint32_t i = 0; i < MNO_HIST_BUCKETS; i++)
		counts[i] = i + 1;
	for (uint32_t i = 0; i + 1 < MNO_HIST_BUCKETS; i++) {
		sum += counts[i];
		assert_int_equal(mno_hist_cumulative(counts, mno_hist_lower(i + 1) - 1), sum);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_quantile),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_cumulative),
	};

	return cmocka_run_group_tests_name("hist", tests, NULL, NULL);
}
