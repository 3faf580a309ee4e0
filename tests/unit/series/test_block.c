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

/* The columns as pieces of one window; their bytes in @buf. */
static void encode(
	const struct cols *c, size_t n, uint64_t columns, struct mno_buf *buf, struct piece *p)
{
	size_t at[GROUP_SERIES];
	double v[HEAD_ROWS];

	*p = (struct piece){.columns = columns};
	for (unsigned col = 0; col < GROUP_SERIES; col++) {
		if (!(columns >> col & 1))
			continue;
		at[col] = buf->len;
		memcpy(v, c->v[col], sizeof(v));
		column_encode(v, c->present[col], n, buf);
		p->len[col] = (uint32_t)(buf->len - at[col]);
	}
	assert_int_equal(buf->err, 0);
	for (unsigned col = 0; col < GROUP_SERIES; col++)
		if (columns >> col & 1)
			p->p[col] = (uint8_t *)buf->data + at[col];
}

static void pad(struct mno_buf *b)
{
	memset(mno_buf_reserve(b, 8), 0, 8);
}

static void check_column(const struct cols *c, size_t n, const struct piece *p, unsigned col)
{
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	struct column got;
	size_t k = 0;
	bool same = true;

	assert_int_equal(column_decode(p->p[col], p->len[col], n, &got, v), 0);
	assert_int_equal(column_ticks(&got, n, idx), got.n);
	for (size_t i = 0; i < n; i++) {
		if (!(c->present[col][i / 64] >> (i % 64) & 1))
			continue;
		assert_true(k < got.n);
		assert_int_equal(idx[k], i);
		assert_true(bits_of(v[k]) == bits_of(c->v[col][i]));
		same = same && bits_of(v[k]) == bits_of(v[0]);
		k++;
	}
	assert_int_equal(k, got.n);
	assert_true(!got.constant || same);
}

#define T_GROUPS 3
struct many {
	size_t n_windows, n[BLOCK_WINDOWS];
	uint64_t columns[T_GROUPS][BLOCK_WINDOWS];
	struct cols c[T_GROUPS][BLOCK_WINDOWS];
};

static void make_many(struct many *q, uint64_t *seed)
{
	static const size_t sizes[] = {1, 2, 3, 9, 63, 64, 65, 100, 191, 192};
	int64_t t = (int64_t)rnd(seed) >> 8;

	q->n_windows = 1 + rnd(seed) % BLOCK_WINDOWS;
	for (size_t w = 0; w < q->n_windows; w++) {
		q->n[w] = sizes[rnd(seed) % ARRAY_SIZE(sizes)];
		for (size_t g = 0; g < T_GROUPS; g++)
			q->columns[g][w] =
				rnd(seed) % 5 ? make_cols(&q->c[g][w], q->n[w], seed) : 0;
		for (size_t i = 0; i < q->n[w]; i++)
			q->c[0][w].t[i] = t += 1 + (int64_t)(rnd(seed) % 2000);
	}
}

static void check_many(const struct many *q, const struct mno_buf *raw)
{
	struct piece p[BLOCK_WINDOWS];
	struct block b;

	assert_int_equal(block_open((uint8_t *)raw->data, raw->len, &b), 0);
	assert_int_equal(b.n_windows, q->n_windows);
	assert_int_equal(b.n_groups, T_GROUPS);
	for (size_t w = 0; w < b.n_windows; w++) {
		assert_int_equal(b.w[w].n, q->n[w]);
		assert_memory_equal(b.w[w].t, q->c[0][w].t, q->n[w] * sizeof(int64_t));
	}
	for (size_t g = 0; g < T_GROUPS; g++) {
		assert_int_equal(b.g[g].group, g * 1000 + 7);
		assert_int_equal(block_pieces(&b, g, p), 0);
		for (size_t w = 0; w < b.n_windows; w++) {
			assert_true(p[w].columns == q->columns[g][w]);
			for (unsigned col = 0; col < GROUP_SERIES; col++)
				if (p[w].columns >> col & 1)
					check_column(&q->c[g][w], q->n[w], &p[w], col);
		}
	}
}

static void test_round_trip(void **state)
{
	struct many *q = calloc(1, sizeof(*q));
	uint64_t seed = 4711;

	for (unsigned round = 0; round < 100; round++) {
		_cleanup_(block_maker_done)
		struct block_maker m = {0};
		struct window w[BLOCK_WINDOWS];

		make_many(q, &seed);
		block_begin(&m, q->n_windows);
		for (size_t g = 0; g < T_GROUPS; g++) {
			struct mno_buf buf[BLOCK_WINDOWS] = {0};
			struct piece p[BLOCK_WINDOWS];

			for (size_t i = 0; i < q->n_windows; i++)
				encode(&q->c[g][i], q->n[i], q->columns[g][i], &buf[i], &p[i]);
			block_add(&m, (uint32_t)g * 1000 + 7, p);
			for (size_t i = 0; i < q->n_windows; i++)
				mno_buf_done(&buf[i]);
		}
		for (size_t i = 0; i < q->n_windows; i++) {
			w[i].n = q->n[i];
			memcpy(w[i].t, q->c[0][i].t, sizeof(w[i].t));
		}
		assert_int_equal(block_end(&m, w), 0);
		pad(&m.out);
		check_many(q, &m.out);
	}
	free(q);
}

/* One group of one window. */
static void make_one(const struct cols *c, size_t n, uint64_t columns, struct block_maker *m)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	struct window w = {.n = n};
	struct piece p;

	memcpy(w.t, c->t, n * sizeof(*w.t));
	encode(c, n, columns, &buf, &p);
	block_begin(m, 1);
	block_add(m, 0, &p);
	assert_int_equal(block_end(m, &w), 0);
	pad(&m->out);
}

/* Times as far apart as they can be. */
static void test_far_times(void **state)
{
	struct cols *c = calloc(1, sizeof(*c));
	_cleanup_(block_maker_done)
	struct block_maker m = {0};
	struct block b;

	c->t[0] = INT64_MIN / 2;
	c->t[1] = -1;
	c->t[2] = INT64_MAX / 2;
	c->present[3][0] = 7;
	make_one(c, 3, 1 << 3, &m);
	assert_int_equal(block_open((uint8_t *)m.out.data, m.out.len, &b), 0);
	assert_memory_equal(b.w[0].t, c->t, 3 * sizeof(*c->t));
	free(c);
}

/* What a program makes of m thousandths or millionths, in the ways that they use. */
static double decimal(unsigned way, uint64_t m)
{
	switch (way) {
	case 0:
		return (double)m / 1000;
	case 1:
		return (double)m * 0.001;
	case 2:
		return (double)m / 1000 / 1000;
	case 3:
		return (double)m / 1e9;
	case 4:
		return (double)(m * 4096);
	default:
		return (double)(m * 60) - 1e12;
	}
}

/* Constants, counters at a constant rate, small integers and decimals must be small. */
static void test_sizes(void **state)
{
	static const struct {
		unsigned kind;
		size_t max;
	} cases[] = {{0, 600}, {1, 1200}, {3, 64 * HEAD_ROWS * 17 / 8 + 1000},
		{10, 64 * HEAD_ROWS * 3 / 8 + 8000}, {100, 64 * HEAD_ROWS * 10 / 8 + 1200},
		{101, 64 * HEAD_ROWS * 10 / 8 + 1200}, {102, 64 * HEAD_ROWS * 10 / 8 + 1200},
		{103, 64 * HEAD_ROWS * 10 / 8 + 1200}, {104, 64 * HEAD_ROWS * 10 / 8 + 1200},
		{105, 64 * HEAD_ROWS * 10 / 8 + 1200}};
	struct cols *c = malloc(sizeof(*c));

	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		_cleanup_(block_maker_done)
		struct block_maker m = {0};
		uint64_t seed = 1;

		memset(c->present, 0xff, sizeof(c->present));
		for (size_t i = 0; i < HEAD_ROWS; i++) {
			c->t[i] = (int64_t)i * 1000;
			for (unsigned col = 0; col < GROUP_SERIES; col++)
				c->v[col][i] = cases[k].kind < 100
						       ? make_value(cases[k].kind, i, 0, &seed)
						       : decimal(cases[k].kind - 100,
								 123456789 + rnd(&seed) % 1000);
		}
		make_one(c, HEAD_ROWS, ~0ULL, &m);
		printf("kind %u: %zu bytes\n", cases[k].kind, m.out.len);
		assert_true(m.out.len <= cases[k].max);
	}
	free(c);
}

/* Any bits in any arrangement, of any number of ticks. */
static void test_any_bits(void **state)
{
	struct cols *c = calloc(1, sizeof(*c));
	uint64_t seed = 31;

	for (unsigned round = 0; round < 4000; round++) {
		_cleanup_buf_ struct mno_buf buf = {0};
		size_t n = 1 + rnd(&seed) % HEAD_ROWS, any = 0;
		unsigned keep = (unsigned)(rnd(&seed) % 64), move = (unsigned)(rnd(&seed) % 64);
		uint64_t base = rnd(&seed);
		struct piece p;

		memset(c->present[0], 0, sizeof(c->present[0]));
		for (size_t i = 0; i < n; i++) {
			uint64_t r = rnd(&seed);

			/* some of the bits change, at some of the ticks */
			if (r % 16 > round % 17)
				base ^= (rnd(&seed) >> keep) << move;
			c->v[0][i] = of_bits(round % 3 ? base : r % 5 ? base : MNO_STALE_BITS);
			if (round % 2 || r % 7)
				c->present[0][i / 64] |= 1ULL << (i % 64), any++;
		}
		if (!any)
			continue;
		encode(c, n, 1, &buf, &p);
		pad(&buf);
		p.p[0] = (uint8_t *)buf.data;
		check_column(c, n, &p, 0);
	}
	free(c);
}

/* Whatever the bytes say: an error or values, no crash, no more than there are ticks. */
static void decode_any(const uint8_t *raw, size_t len, size_t *refused)
{
	struct piece p[BLOCK_WINDOWS];
	struct block b;

	if (block_open(raw, len, &b) < 0 || block_pieces(&b, 0, p) < 0) {
		++*refused;
		return;
	}
	for (unsigned col = 0; col < GROUP_SERIES; col++) {
		double v[HEAD_ROWS];
		struct column c;

		if (p[0].columns >> col & 1 &&
			column_decode(p[0].p[col], p[0].len[col], b.w[0].n, &c, v) == 0)
			assert_true(c.n && c.n <= b.w[0].n && c.first + c.n <= b.w[0].n);
	}
}

static void test_damage(void **state)
{
	struct cols *c = malloc(sizeof(*c));
	_cleanup_(block_maker_done)
	struct block_maker m = {0};
	uint64_t seed = 5, columns = make_cols(c, 100, &seed);
	size_t refused = 0;

	make_one(c, 100, columns, &m);
	for (unsigned round = 0; round < 4000; round++) {
		size_t len = round % 4 ? m.out.len : rnd(&seed) % m.out.len;
		uint8_t *copy = malloc(len + 8);

		memcpy(copy, m.out.data, len);
		memset(copy + len, 0, 8);
		for (unsigned k = 0; len && k < 1 + round % 5; k++)
			copy[rnd(&seed) % len] ^= (uint8_t)(1 << rnd(&seed) % 8);
		decode_any(copy, len, &refused);
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
		cmocka_unit_test(test_any_bits),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
