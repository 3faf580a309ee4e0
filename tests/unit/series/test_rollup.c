/* SPDX-License-Identifier: Apache-2.0 */
#include "../../../libmno/src/series/rollup_internal.h"
#include "rig.h"

#define SERIES 70 /* two groups */
#define T0     1699999200000LL
#define TICKS  (5 * 3600)

/* Values that show every field: counters with resets, gauges, constants, NaN, gaps. */
static bool value_at(unsigned i, int64_t tick, double *ret)
{
	uint64_t seed = (uint64_t)(tick + 1) * 977 + i;

	switch (i % 5) {
	case 0:
		*ret = (double)(tick % 1000 * (i + 1)); /* a counter with resets */
		return true;
	case 1:
		*ret = (double)(rnd(&seed) % 1000) / 10;
		return true;
	case 2:
		*ret = i;
		return true;
	case 3:
		*ret = tick % 97 == 5 ? NAN : 0.1 * (double)(rnd(&seed) % 77);
		return true;
	default:
		*ret = (double)tick;
		return tick / 100 % 3 != 1;
	}
}

static void fill(struct st *s, uint32_t *ids, int64_t from, int64_t to)
{
	struct mno_txn *t = begin(s);
	uint32_t row[SERIES];
	double v[SERIES];
	char key[32];

	for (unsigned i = 0; i < SERIES; i++) {
		snprintf(key, sizeof(key), "m{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	for (int64_t tick = from; tick < to; tick++) {
		size_t n = 0;

		for (unsigned i = 0; i < SERIES; i++)
			if (value_at(i, tick, &v[n]))
				row[n++] = ids[i];
		assert_int_equal(mno_series_append(s->s, t, T0 + tick * 1000, row, v, n), 0);
		if (tick % 500 == 499) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
}

static unsigned run_all(struct st *s)
{
	unsigned calls = 0;
	bool more = true;

	while (more) {
		struct mno_txn *t = begin(s);

		assert_int_equal(mno_rollup_run(s->s, t, &more), 0);
		commit(s, t);
		assert_true(++calls < 1000);
	}
	return calls;
}

struct want {
	unsigned n, drops;
	struct mno_rollup p;
};

static struct want naive(unsigned i, int64_t t_ms, int64_t step)
{
	struct want w = {0};
	long double sum = 0; /* of so few and so small values: exact, then rounded once */

	for (int64_t t = t_ms; t < t_ms + step; t += 1000) {
		double v;

		if (t < T0 || t >= T0 + TICKS * 1000LL || !value_at(i, (t - T0) / 1000, &v))
			continue;
		if (!w.n++) {
			sum = v;
			w.p = (struct mno_rollup){t_ms, 1, v, v, v, v, v, 0};
			continue;
		}
		w.p.count++;
		w.p.sum = (double)(sum += v);
		w.p.min = isnan(w.p.min) || v < w.p.min ? v : w.p.min;
		w.p.max = isnan(w.p.max) || v > w.p.max ? v : w.p.max;
		w.drops += v < w.p.last;
		w.p.resets += v < w.p.last ? w.p.last : 0;
		w.p.last = v;
	}
	if (w.drops > 1 && w.drops > w.n / 4)
		w.p.resets = NAN;
	return w;
}

struct reader {
	const uint32_t *ids;
	enum mno_tier tier;
	size_t points, series;
	int64_t last_t[SERIES];
};

static bool same(double a, double b)
{
	return memcmp(&a, &b, 8) == 0 || (isnan(a) && isnan(b));
}

static int check_points(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	struct reader *q = arg;
	unsigned i = 0;

	while (q->ids[i] != id)
		assert_true(++i < SERIES);
	for (size_t k = 0; k < n; k++) {
		struct want w = naive(i, p[k].t_ms, mno_tier_step_ms(q->tier));

		assert_true(p[k].t_ms > q->last_t[i]);
		q->last_t[i] = p[k].t_ms;
		assert_true(w.n > 0);
		assert_true(same(w.p.count, p[k].count));
		if (q->tier == MNO_TIER_10S) /* above, sums of rounded sums */
			assert_true(same(w.p.sum, p[k].sum));
		assert_true(same(w.p.sum, p[k].sum) ||
			    fabs(w.p.sum - p[k].sum) <= 1e-15 * fabs(w.p.sum) * 4);
		assert_true(same(w.p.min, p[k].min) && same(w.p.max, p[k].max));
		assert_true(same(w.p.first, p[k].first) && same(w.p.last, p[k].last));
		/* above, a point of the tier below may have been no counter */
		assert_true(same(w.p.resets, p[k].resets) ||
			    (q->tier != MNO_TIER_10S && isnan(p[k].resets)) ||
			    (q->tier != MNO_TIER_10S && isnan(w.p.resets)));
	}
	q->points += n;
	return 0;
}

/* All points of a tier are right, and none is missing before `until`. */
static int64_t check_tier(struct st *s, const uint32_t *ids, enum mno_tier tier)
{
	struct reader q = {.ids = ids, .tier = tier};
	int64_t until, step = mno_tier_step_ms(tier);
	uint64_t damaged;
	size_t want = 0;

	assert_int_equal(mno_rollup_read(s->s, tier, ids, SERIES, INT64_MIN, INT64_MAX,
				 check_points, &q, &until, &damaged),
		0);
	assert_int_equal(damaged, 0);
	for (unsigned i = 0; i < SERIES; i++)
		for (int64_t t = T0 - T0 % step; t < until; t += step)
			want += naive(i, t, step).n > 0;
	assert_int_equal(q.points, want);
	return until;
}

static void test_all_tiers(void **state)
{
	struct st *s = *state;
	uint32_t ids[SERIES];

	fill(s, ids, 0, TICKS);
	run_all(s);
	assert_true(check_tier(s, ids, MNO_TIER_10S) > T0 + 4 * 3600000LL);
	assert_true(check_tier(s, ids, MNO_TIER_1M) > T0);
	check_tier(s, ids, MNO_TIER_1H);
	down(s);
	up(s);
	assert_int_equal(run_all(s), 1); /* nothing is made twice */
	check_tier(s, ids, MNO_TIER_10S);
}

/* A step that is undone, or never committed, is made again. */
static void test_crashes(void **state)
{
	struct st *s = *state;
	uint32_t ids[SERIES];
	uint64_t seed = 5;
	bool more = true;

	fill(s, ids, 0, TICKS);
	for (unsigned i = 0; i < 200 && more; i++) {
		struct mno_txn *t = begin(s);

		assert_int_equal(mno_rollup_run(s->s, t, &more), 0);
		if (rnd(&seed) % 3) {
			commit(s, t);
			continue;
		}
		mno_store_abort(s->e, t);
		mno_series_rollback(s->s);
		more = true;
		if (rnd(&seed) % 2) {
			down(s);
			up(s);
		}
	}
	assert_false(more);
	assert_true(check_tier(s, ids, MNO_TIER_10S) > T0 + 4 * 3600000LL);
	check_tier(s, ids, MNO_TIER_1M);
}

static void test_marked_again(void **state)
{
	struct mno_rollup_stat st;
	struct st *s = *state;
	uint32_t ids[SERIES];
	struct mno_txn *t;

	fill(s, ids, 0, TICKS);
	run_all(s);
	t = begin(s);
	assert_int_equal(mno_rollup_mark(s->s, t, ids[3], T0 + 1000), 0);
	assert_int_equal(mno_rollup_mark(s->s, t, ids[5], T0 + 2000), 0);
	assert_int_equal(mno_rollup_mark(s->s, t, ids[3], T0 + TICKS * 1000LL), 0);
	commit(s, t);
	run_all(s);
	mno_rollup_stat(s->s, MNO_TIER_10S, &st);
	assert_int_equal(st.remade, 1);
	check_tier(s, ids, MNO_TIER_10S);
}

static int ignore_points(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	*(size_t *)arg += n;
	return 0;
}

static int ignore_column(void *arg, unsigned col, struct roll_column *c)
{
	*(size_t *)arg += c->n;
	return 0;
}

/* Whatever the bytes are: an error or points, and no bad read (under the sanitizers). */
static void test_damaged_bytes(void **state)
{
	struct roll *r = malloc(sizeof(*r));
	_cleanup_buf_ struct mno_buf raw = {0};
	uint64_t seed = 9;
	size_t refused = 0, n = 0;

	roll_begin(r, ROLL_POINTS);
	for (unsigned col = 0; col < 20; col++)
		for (int64_t t = 0; t < 2400000; t += 1000) {
			double v;

			if (value_at(col, t / 1000, &v))
				roll_add(r, col, 0, 10000, &t, &v, 1);
		}
	roll_encode(r, &raw);
	assert_int_equal(raw.err, 0);
	for (unsigned round = 0; round < 3000; round++) {
		size_t len = round % 4 ? raw.len : rnd(&seed) % raw.len;
		uint8_t *copy = calloc(1, len + 8);

		memcpy(copy, raw.data, len);
		for (unsigned k = 0; len && k < 1 + round % 3; k++)
			copy[rnd(&seed) % len] ^= (uint8_t)(1 << rnd(&seed) % 8);
		refused += roll_decode(copy, len, UINT64_MAX, ignore_column, &n) < 0;
		free(copy);
	}
	assert_true(refused > 500 && n > 0);
	free(r);
}

static void test_expire(void **state)
{
	struct st *s = *state;
	uint32_t ids[SERIES];
	size_t n = 0;

	fill(s, ids, 0, TICKS);
	run_all(s);
	assert_int_equal(mno_rollup_expire(s->s, MNO_TIER_10S, T0 + 2 * 86400000LL), 0);
	assert_int_equal(mno_rollup_read(s->s, MNO_TIER_10S, ids, SERIES, INT64_MIN, INT64_MAX,
				 ignore_points, &n, NULL, NULL),
		0);
	assert_int_equal(n, 0);
	check_tier(s, ids, MNO_TIER_1M);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_all_tiers),
		T(test_crashes),
		T(test_marked_again),
		cmocka_unit_test(test_damaged_bytes),
		T(test_expire),
	};

	return cmocka_run_group_tests_name("rollups", tests, NULL, NULL);
}
