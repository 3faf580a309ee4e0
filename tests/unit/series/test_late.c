/* SPDX-License-Identifier: Apache-2.0 */
/* Samples that do not come in rows: against a plain model, across aborts, midnight and merges. */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "../../../libmno/src/series/late.h"
#include "mno/time.h"
#include "rig.h"

#define M_SERIES 140
#define M_TICKS  1500
#define MIDNIGHT 1700006400000LL /* 2023-11-15 */
#define M_T0     (MIDNIGHT - M_TICKS / 2 * 1000)

struct model {
	uint64_t bits[M_SERIES][M_TICKS];
	bool has[M_SERIES][M_TICKS];
	bool alive[M_SERIES]; /* in the last row */
	size_t row;           /* of the next row, in ticks */
};
struct pair {
	struct st *s;
	struct model *m, *saved;
	uint32_t ids[M_SERIES];
	uint64_t seed;
	int64_t t0, t1;
	size_t columns;
};

static int64_t tick_t(size_t k)
{
	return M_T0 + (int64_t)k * 1000;
}

static uint64_t value(struct pair *p)
{
	uint64_t r = rnd(&p->seed);

	switch (r % 8) {
	case 0:
		return rnd(&p->seed) & ~(1ULL << 62);
	case 1:
		return MNO_STALE_BITS;
	case 2:
		return bits_of((double)(r >> 8 & 0xffff) / 100);
	default:
		return bits_of((double)(r >> 8 & 7));
	}
}

static uint64_t model_count(const struct model *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < M_SERIES; i++)
		for (size_t k = 0; k < M_TICKS; k++)
			n += m->has[i][k];
	return n;
}

static int same_column(void *arg, const struct mno_column *c)
{
	struct pair *p = arg;
	size_t i = 0, at = 0;

	while (p->ids[i] != c->id)
		i++;
	assert_int_equal(c->damaged, 0);
	for (size_t k = 0; k < M_TICKS; k++) {
		if (!p->m->has[i][k] || tick_t(k) < p->t0 || tick_t(k) > p->t1)
			continue;
		assert_true(at < c->n);
		assert_int_equal(c->t_ms[at], tick_t(k));
		assert_true(bits_of(c->v[at]) == p->m->bits[i][k]);
		at++;
	}
	assert_int_equal(at, c->n);
	p->columns++;
	return 0;
}

static size_t model_columns(const struct pair *p)
{
	size_t n = 0;

	for (size_t i = 0; i < M_SERIES; i++)
		for (size_t k = 0; k < M_TICKS; k++)
			if (p->m->has[i][k] && tick_t(k) >= p->t0 && tick_t(k) <= p->t1) {
				n++;
				break;
			}
	return n;
}

struct sums {
	struct pair *p;
	size_t n;
	int64_t last[M_SERIES];
};

static int same_run(void *arg, const struct mno_run *r)
{
	struct sums *q = arg;
	size_t i = 0;

	while (q->p->ids[i] != r->id)
		i++;
	assert_true(r->n > 0 && r->n <= 256);
	for (size_t k = 0; k < r->n; k++) {
		size_t at = (size_t)(r->t_ms[k] - M_T0) / 1000;

		assert_true(r->t_ms[k] > q->last[i]);
		q->last[i] = r->t_ms[k];
		assert_true(q->p->m->has[i][at]);
		assert_true(bits_of(r->v[k]) == q->p->m->bits[i][at]);
	}
	q->n += r->n;
	return 0;
}

static void check_range(struct pair *p, int64_t t0, int64_t t1)
{
	struct sums q = {.p = p};
	uint64_t damaged = 1;
	size_t want = 0;

	p->t0 = t0;
	p->t1 = t1;
	p->columns = 0;
	assert_int_equal(
		mno_series_read(p->s->s, p->ids, M_SERIES, t0, t1, SIZE_MAX, same_column, p), 0);
	assert_int_equal(p->columns, model_columns(p));
	for (size_t i = 0; i < M_SERIES; i++)
		for (size_t k = 0; k < M_TICKS; k++)
			want += p->m->has[i][k] && tick_t(k) >= t0 && tick_t(k) <= t1;
	assert_int_equal(
		mno_series_scan(p->s->s, p->ids, M_SERIES, t0, t1, same_run, &q, &damaged), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(q.n, want);
}

static void check_all(struct pair *p)
{
	struct mno_series_stat st;
	int64_t a = tick_t(rnd(&p->seed) % M_TICKS);

	check_range(p, INT64_MIN, INT64_MAX);
	check_range(p, a, a + (int64_t)(rnd(&p->seed) % 300000));
	check_range(p, a, a);
	mno_series_stat(p->s->s, &st);
	assert_int_equal(st.samples, model_count(p->m));
}

/* --- what is done at random ------------------------------------------------------------------- */

static void put(struct pair *p, size_t i, size_t k, uint64_t bits)
{
	p->m->has[i][k] = true;
	p->m->bits[i][k] = bits;
}

/* Some samples: scattered, a stretch of one series, or some ticks of many. */
static void do_add(struct pair *p, struct mno_txn *t)
{
	static struct mno_sample v[40000];
	uint64_t shape = rnd(&p->seed) % 4;
	size_t n = 0, from = rnd(&p->seed) % M_TICKS, i0 = rnd(&p->seed) % M_SERIES;
	size_t ticks = shape == 0 ? 1 : 1 + rnd(&p->seed) % 200;

	for (size_t j = 0; j < ticks; j++) {
		size_t k = shape == 3 ? rnd(&p->seed) % M_TICKS : (from + j) % M_TICKS;
		size_t many = shape == 2 ? M_SERIES : 1;

		for (size_t x = 0; x < many; x++) {
			size_t i = shape == 3 ? rnd(&p->seed) % M_SERIES : (i0 + x) % M_SERIES;
			/* some are there already, as they are */
			uint64_t bits = p->m->has[i][k] && rnd(&p->seed) % 3 == 0 ? p->m->bits[i][k]
										  : value(p);

			v[n++] = (struct mno_sample){p->ids[i], tick_t(k), of_bits(bits)};
			put(p, i, k, bits);
		}
	}
	assert_int_equal(mno_series_add(p->s->s, t, v, n), 0);
}

static void do_rows(struct pair *p, struct mno_txn *t)
{
	size_t upto = MNO_MIN(p->m->row + 1 + rnd(&p->seed) % 40, (size_t)M_TICKS);

	for (; p->m->row < upto; p->m->row++) {
		uint32_t ids[M_SERIES];
		double v[M_SERIES];
		size_t n = 0, k = p->m->row;

		if (rnd(&p->seed) % 10 == 0)
			continue;
		for (size_t i = 0; i < M_SERIES / 2; i++) { /* the others never come in rows */
			bool here = rnd(&p->seed) % 50 != 0;
			uint64_t bits = here ? value(p) : MNO_STALE_BITS;

			if (here) {
				ids[n] = p->ids[i];
				v[n++] = of_bits(bits);
				put(p, i, k, bits);
			} else if (p->m->alive[i] && !p->m->has[i][k]) {
				put(p, i, k, bits);
			}
			p->m->alive[i] = here && bits != MNO_STALE_BITS;
		}
		assert_int_equal(mno_series_append(p->s->s, t, tick_t(k), ids, v, n), 0);
	}
}

static void do_transaction(struct pair *p)
{
	struct mno_txn *t = begin(p->s);
	bool more;

	*p->saved = *p->m;
	for (uint64_t left = 1 + rnd(&p->seed) % 6; left; left--) {
		uint64_t what = rnd(&p->seed) % 8;

		if (what < 4)
			do_add(p, t);
		else if (what < 7)
			do_rows(p, t);
		else
			assert_int_equal(mno_series_compact(p->s->s, t, &more), 0);
	}
	if (rnd(&p->seed) % 5) {
		commit(p->s, t);
		return;
	}
	mno_store_abort(p->s->e, t);
	mno_series_rollback(p->s->s);
	*p->m = *p->saved;
}

static void pair_new(struct pair *p, struct st *s, uint64_t seed)
{
	struct mno_txn *t = begin(s);
	char key[32];

	*p = (struct pair){.s = s,
		.seed = seed,
		.m = calloc(1, sizeof(*p->m)),
		.saved = calloc(1, sizeof(*p->m))};
	for (unsigned i = 0; i < M_SERIES; i++) {
		snprintf(key, sizeof(key), "late{i=\"%u\"}", i);
		p->ids[i] = resolve(s, t, key);
	}
	commit(s, t);
}

static void pair_done(struct pair *p)
{
	free(p->m);
	free(p->saved);
}

static void test_model(void **state)
{
	struct st *s = *state;
	struct pair p;

	pair_new(&p, s, 41);
	for (int i = 0; i < 200; i++) {
		do_transaction(&p);
		if (rnd(&p.seed) % 10 == 0) {
			down(s);
			up(s);
		}
		if (i % 4 == 0)
			check_all(&p);
	}
	check_all(&p);
	pair_done(&p);
}

/* What is imported twice is there once. */
static void test_twice(void **state)
{
	struct st *s = *state;
	struct mno_series_stat a, b;
	struct mno_sample v[1000];
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m"), other = resolve(s, t, "n");

	for (int i = 0; i < 1000; i++)
		v[i] = (struct mno_sample){i % 2 ? id : other, MIDNIGHT + i / 2 * 1000, i};
	assert_int_equal(mno_series_add(s->s, t, v, 1000), 0);
	assert_int_equal(mno_series_add(s->s, t, v, 1000), 0); /* nor inside one transaction */
	commit(s, t);
	mno_series_stat(s->s, &a);
	assert_int_equal(a.samples, 1000);
	assert_int_equal(a.late_samples, 1000);
	assert_int_equal(a.first_ms, MIDNIGHT);
	assert_int_equal(a.last_ms, MIDNIGHT + 499 * 1000);
	t = begin(s);
	assert_int_equal(mno_series_add(s->s, t, v, 1000), 0);
	commit(s, t);
	mno_series_stat(s->s, &b);
	assert_int_equal(b.samples, 1000);
	assert_int_equal(b.late_bytes, a.late_bytes);
}

static void test_refused(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m");
	struct mno_sample v[2] = {{id, 1000, 1}, {id + 1, 1000, 1}};
	struct mno_series_bounds b;

	assert_int_equal(mno_series_add(s->s, t, v, 2), -ENOENT);
	v[1] = (struct mno_sample){id, -1, 1};
	assert_int_equal(mno_series_add(s->s, t, v, 2), -ERANGE);
	v[1] = (struct mno_sample){id, INT64_MAX, 1};
	assert_int_equal(mno_series_add(s->s, t, v, 2), -ERANGE);
	v[1] = (struct mno_sample){id, 600LL * MS_PER_DAY, 1};
	assert_int_equal(mno_series_add(s->s, t, v, 2), -ERANGE);
	assert_int_equal(mno_series_add(s->s, t, v, (1u << 20) + 1), -E2BIG);
	assert_int_equal(mno_series_add(s->s, t, NULL, 0), 0);
	commit(s, t);
	b = mno_series_bounds(MIDNIGHT + 5000, 2LL * MS_PER_DAY, 0);
	assert_int_equal(b.min_ms, MIDNIGHT - 2LL * MS_PER_DAY);
	assert_int_equal(b.max_ms, MIDNIGHT + 605000);
	assert_int_equal(mno_series_bounds(MIDNIGHT, 0, 1000).min_ms, 0);
	assert_int_equal(mno_series_bounds(MIDNIGHT, 0, 1000).max_ms, MIDNIGHT + 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_model), T(test_twice), T(test_refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
