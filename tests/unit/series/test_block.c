/* SPDX-License-Identifier: Apache-2.0 */
/* The block format: bit-exact round trips, and damage that is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "../../../libmno/src/series/series_internal.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"

struct cols {
	int64_t t[HEAD_ROWS];
	uint64_t present[GROUP_SERIES][HEAD_ROWS / 64];
	double v[GROUP_SERIES][HEAD_ROWS];
};

static const uint64_t odd_bits[] = {
	0,
	1ULL << 63, /* 0, -0 */
	0x7ff0000000000000,
	0xfff0000000000000, /* infinities */
	0x7ff8000000000000,
	0x7ff8dead0000beef,
	0xfff0000000000001, /* NaNs with payloads */
	MNO_STALE_BITS,
	1,
	0x000fffffffffffff,
	0x0010000000000000,
	0x7fefffffffffffff,
	0x4340000000000000,
	0x4340000000000001,
	0xc340000000000000, /* around 2^53 */
	0x3fb999999999999a,
	0x3fd3333333333334,
	0x43e0000000000000,
	0xc3e0000000000000,
};

/* One value of a column of kind @k at tick @i. */
static double make_value(unsigned k, size_t i, double last, uint64_t *seed)
{
	uint64_t r = rnd(seed);

	switch (k % 13) {
	case 0:
		return 42;
	case 1:
		return (double)(i * 17);
	case 2:
		return r % 40 ? last + (double)(r % 1000) : 0; /* a counter that resets */
	case 3:
		return (double)(r % 100000) / 100;
	case 4:
		return of_bits(r);
	case 5:
		return of_bits(odd_bits[r % ARRAY_SIZE(odd_bits)]);
	case 6:
		return sin((double)i);
	case 7:
		return r % 20 ? -1 : of_bits(MNO_STALE_BITS);
	case 8:
		return (double)((int64_t)r >> (r % 63));
	case 9:
		return (double)(int64_t)(r % 7) * 1e-9;
	case 10:
		return r % 30 ? 1000 + (double)(r % 4) : 9007199254740991.0;
	case 11:
		return 1e300 * (double)(r % 3);
	default:
		return -0.0;
	}
}

static uint64_t make_cols(struct cols *c, size_t n, uint64_t *seed)
{
	uint64_t columns = 0;

	memset(c->present, 0, sizeof(c->present));
	c->t[0] = (int64_t)rnd(seed) >> 8;
	for (size_t i = 1; i < n; i++)
		c->t[i] = c->t[i - 1] + 1 + (int64_t)(rnd(seed) % 2000);
	for (unsigned col = 0; col < GROUP_SERIES; col++) {
		unsigned kind = (unsigned)(rnd(seed) % 13), gaps = (unsigned)(rnd(seed) % 4);
		size_t from = gaps == 1 ? rnd(seed) % n : 0;
		double last = 0;

		for (size_t i = from; i < n; i++) {
			if ((gaps == 2 && rnd(seed) % 3) || (gaps == 1 && rnd(seed) % 50 == 0))
				continue;
			c->v[col][i] = last = make_value(kind, i, last, seed);
			c->present[col][i / 64] |= 1ULL << (i % 64);
			columns |= 1ULL << col;
		}
	}
	return columns;
}

static void encode(const struct cols *c, size_t n, uint64_t columns, struct mno_buf *out)
{
	struct block_in in = {
		.n = n, .t = c->t, .present = c->present, .v = c->v, .columns = columns};

	block_encode(&in, out);
	assert_int_equal(out->err, 0);
}

static void check_column(const struct cols *c, size_t n, const struct block *b, unsigned col)
{
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	size_t got, k = 0;

	assert_int_equal(block_column(b, col, idx, v, &got), 0);
	for (size_t i = 0; i < n; i++) {
		if (!(c->present[col][i / 64] >> (i % 64) & 1))
			continue;
		assert_true(k < got);
		assert_int_equal(idx[k], i);
		assert_true(bits_of(v[k]) == bits_of(c->v[col][i]));
		k++;
	}
	assert_int_equal(k, got);
}

static void pad(struct mno_buf *b)
{
	memset(mno_buf_reserve(b, 8), 0, 8);
}

static void test_round_trip(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 63, 64, 65, 200, 255, 256};
	struct cols *c = malloc(sizeof(*c));
	uint64_t seed = 4711;

	for (unsigned round = 0; round < 300; round++) {
		size_t n = sizes[round % ARRAY_SIZE(sizes)];
		uint64_t columns = make_cols(c, n, &seed);
		_cleanup_buf_ struct mno_buf out = {0};
		struct block b;

		if (!columns)
			continue;
		encode(c, n, columns, &out);
		pad(&out);
		assert_int_equal(block_open((uint8_t *)out.data, out.len, &b), 0);
		assert_int_equal(b.n, n);
		assert_true(b.columns == columns);
		assert_memory_equal(b.t, c->t, n * sizeof(*c->t));
		for (unsigned col = 0; col < GROUP_SERIES; col++)
			check_column(c, n, &b, col);
	}
	free(c);
}

/* Times as far apart as they can be. */
static void test_far_times(void **state)
{
	struct cols *c = calloc(1, sizeof(*c));
	_cleanup_buf_ struct mno_buf out = {0};
	struct block b;

	c->t[0] = INT64_MIN / 2;
	c->t[1] = -1;
	c->t[2] = INT64_MAX / 2;
	c->present[3][0] = 7;
	encode(c, 3, 1 << 3, &out);
	pad(&out);
	assert_int_equal(block_open((uint8_t *)out.data, out.len, &b), 0);
	assert_memory_equal(b.t, c->t, 3 * sizeof(*c->t));
	free(c);
}

/* Constants, counters at a constant rate and small integers must be small. */
static void test_sizes(void **state)
{
	static const struct {
		unsigned kind;
		size_t max;
	} cases[] = {
		{0, 400}, {1, 700}, {3, 64 * 256 * 17 / 8 + 1000}, {10, 64 * 256 * 3 / 8 + 8000}};
	struct cols *c = malloc(sizeof(*c));

	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		_cleanup_buf_ struct mno_buf out = {0};
		uint64_t seed = 1;

		memset(c->present, 0xff, sizeof(c->present));
		for (size_t i = 0; i < HEAD_ROWS; i++) {
			c->t[i] = (int64_t)i * 1000;
			for (unsigned col = 0; col < GROUP_SERIES; col++)
				c->v[col][i] = make_value(cases[k].kind, i, 0, &seed);
		}
		encode(c, HEAD_ROWS, ~0ULL, &out);
		printf("kind %u: %zu bytes\n", cases[k].kind, out.len);
		assert_true(out.len <= cases[k].max);
	}
	free(c);
}

/* Whatever the bytes say: an error or values, no crash, no more than HEAD_ROWS of anything. */
static void test_damage(void **state)
{
	struct cols *c = malloc(sizeof(*c));
	uint64_t seed = 5, columns = make_cols(c, 100, &seed);
	_cleanup_buf_ struct mno_buf out = {0};
	size_t refused = 0;

	encode(c, 100, columns, &out);
	for (unsigned round = 0; round < 4000; round++) {
		size_t len = round % 4 ? out.len : rnd(&seed) % out.len;
		uint8_t *copy = malloc(len + 8);
		struct block b;

		memcpy(copy, out.data, len);
		memset(copy + len, 0, 8);
		for (unsigned k = 0; len && k < 1 + round % 5; k++)
			copy[rnd(&seed) % len] ^= (uint8_t)(1 << rnd(&seed) % 8);
		if (block_open(copy, len, &b) < 0) {
			refused++;
		} else {
			for (unsigned col = 0; col < GROUP_SERIES; col++) {
				uint16_t idx[HEAD_ROWS];
				double v[HEAD_ROWS];
				size_t n = 0;

				if (block_column(&b, col, idx, v, &n) == 0)
					assert_true(n <= b.n && (n == 0 || idx[n - 1] < b.n));
			}
		}
		free(copy);
	}
	assert_true(refused > 100);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_far_times),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
