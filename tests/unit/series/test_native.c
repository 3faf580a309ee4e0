/* SPDX-License-Identifier: Apache-2.0 */
/* Native histograms: as they were to the last bit, in any order, beside what is damaged. */
#include <stdio.h>
#include "../../../libmno/src/series/native.h"
#include "rig.h"

#define T0     1700000000000LL
#define STEP   15000
#define M_MAX  1200
#define M_SPAN 6

/* A histogram with room of its own. */
struct own {
	struct mno_native_hist h;
	struct mno_native_span spans[2][M_SPAN];
	int64_t deltas[2][64];
	double counts[2][64];
};

static void point(struct own *o)
{
	struct mno_native_buckets *b[2] = {&o->h.positive, &o->h.negative};

	for (int i = 0; i < 2; i++) {
		b[i]->spans = b[i]->n_spans ? o->spans[i] : NULL;
		b[i]->deltas = b[i]->n && !o->h.is_float ? o->deltas[i] : NULL;
		b[i]->counts = b[i]->n && o->h.is_float ? o->counts[i] : NULL;
	}
}

static void random_buckets(struct own *o, int sign, uint64_t *seed)
{
	struct mno_native_buckets *b = sign ? &o->h.negative : &o->h.positive;

	b->n_spans = rnd(seed) % (M_SPAN + 1);
	b->n = 0;
	for (size_t i = 0; i < b->n_spans; i++) {
		o->spans[sign][i] = (struct mno_native_span){
			(int32_t)rnd(seed) >> (rnd(seed) % 32), (uint32_t)(rnd(seed) % 8)};
		b->n += o->spans[sign][i].length;
	}
	for (size_t i = 0; i < b->n; i++) {
		o->deltas[sign][i] = (int64_t)rnd(seed) >> rnd(seed) % 64;
		o->counts[sign][i] = of_bits(rnd(seed));
	}
}

static void random_hist(struct own *o, const struct own *before, uint64_t *seed)
{
	uint64_t shape = rnd(seed) % 10;

	*o = (struct own){0};
	if (shape == 0) { /* a mark */
		o->h.sum = of_bits(MNO_STALE_BITS);
		return;
	}
	if (shape < 8 && before) {
		*o = *before;
		o->h.count += rnd(seed) % 100;
		o->h.sum += 1.5;
		o->h.count_float *= 1.1;
		for (size_t i = 0; i < o->h.positive.n; i++) {
			o->deltas[0][i] += (int64_t)(rnd(seed) % 3);
			o->counts[0][i] += 0.25;
		}
		point(o);
		return;
	}
	o->h = (struct mno_native_hist){.schema = (int8_t)(rnd(seed) % 13) - 4,
		.is_float = rnd(seed) % 3 == 0,
		.reset = (uint8_t)(rnd(seed) % MNO_NATIVE_RESET_N),
		.zero_threshold = of_bits(rnd(seed)),
		.sum = of_bits(rnd(seed))};
	if (o->h.is_float) {
		o->h.count_float = of_bits(rnd(seed));
		o->h.zero_count_float = (double)(rnd(seed) % 100);
	} else {
		o->h.count = rnd(seed);
		o->h.zero_count = rnd(seed) % 100;
	}
	random_buckets(o, 0, seed);
	random_buckets(o, 1, seed);
	point(o);
}

struct model {
	bool has[2][M_MAX];
	struct own h[2][M_MAX];
	uint32_t ids[2];
	int64_t t0, t1;
	size_t at[2], seen;
};

static int same(void *arg, uint32_t id, int64_t t, const struct mno_native_hist *h)
{
	struct model *m = arg;
	int i = id == m->ids[1];

	while (!m->has[i][m->at[i]] || T0 + (int64_t)m->at[i] * STEP < m->t0) {
		m->at[i]++;
		assert_true(m->at[i] < M_MAX);
	}
	assert_int_equal(t, T0 + (int64_t)m->at[i] * STEP);
	assert_true(t <= m->t1);
	assert_true(native_equal(h, &m->h[i][m->at[i]].h));
	m->at[i]++;
	m->seen++;
	return 0;
}

static void check(struct model *m, struct st *s, int64_t t0, int64_t t1)
{
	uint64_t damaged = 1;
	size_t want = 0;

	m->t0 = t0;
	m->t1 = t1;
	m->at[0] = m->at[1] = m->seen = 0;
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < M_MAX; k++)
			want += m->has[i][k] && T0 + (int64_t)k * STEP >= t0 &&
				T0 + (int64_t)k * STEP <= t1;
	assert_int_equal(mno_series_read_hist(s->s, m->ids, 2, t0, t1, same, m, &damaged), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(m->seen, want);
}

static void add(struct model *m, struct st *s, struct mno_txn *t, int i, size_t k, uint64_t *seed)
{
	const struct own *before = k && m->has[i][k - 1] ? &m->h[i][k - 1] : NULL;

	if (!m->has[i][k] || rnd(seed) % 2) /* else the same once more */
		random_hist(&m->h[i][k], before, seed);
	m->has[i][k] = true;
	point(&m->h[i][k]);
	assert_int_equal(
		mno_series_add_hist(s->s, t, m->ids[i], T0 + (int64_t)k * STEP, &m->h[i][k].h), 0);
}

static void test_model(void **state)
{
	struct st *s = *state;
	struct model *m = calloc(1, sizeof(*m)), *saved = calloc(1, sizeof(*m));
	struct mno_txn *t = begin(s);
	struct mno_series_stat st;
	uint64_t seed = 3;
	size_t next = 0, want = 0;

	m->ids[0] = resolve(s, t, "h{i=\"0\"}");
	m->ids[1] = resolve(s, t, "h{i=\"1\"}");
	commit(s, t);
	while (next < M_MAX) {
		size_t was = next;

		memcpy(saved, m, sizeof(*m));
		t = begin(s);
		for (uint64_t left = 1 + rnd(&seed) % 40; left && next < M_MAX; left--) {
			if (rnd(&seed) % 6 == 0)
				add(m, s, t, 1, rnd(&seed) % M_MAX, &seed);
			if (rnd(&seed) % 20 == 0)
				add(m, s, t, 0, rnd(&seed) % (next + 1), &seed);
			if (rnd(&seed) % 10)
				add(m, s, t, 0, next, &seed);
			next++;
		}
		if (rnd(&seed) % 4 == 0) {
			mno_store_abort(s->e, t);
			mno_series_rollback(s->s);
			memcpy(m, saved, sizeof(*m));
			for (int i = 0; i < 2; i++)
				for (size_t k = 0; k < M_MAX; k++)
					point(&m->h[i][k]);
			next = was;
		} else {
			commit(s, t);
		}
		if (rnd(&seed) % 8 == 0) {
			down(s);
			up(s);
		}
		check(m, s, INT64_MIN, INT64_MAX);
		check(m, s, T0 + (int64_t)(rnd(&seed) % M_MAX) * STEP,
			T0 + (int64_t)(rnd(&seed) % M_MAX) * STEP);
	}
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < M_MAX; k++)
			want += m->has[i][k];
	mno_series_stat(s->s, &st);
	assert_int_equal(st.histograms, want);
	assert_int_equal(st.samples, 0);
	free(saved);
	free(m);
}

static void test_refused(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "h");
	struct own o = {.h = {.schema = 9}};

	assert_int_equal(mno_series_add_hist(s->s, t, id, T0, &o.h), -EINVAL);
	o.h.schema = 0;
	o.h.reset = 4;
	assert_int_equal(mno_series_add_hist(s->s, t, id, T0, &o.h), -EINVAL);
	o.h.reset = 0;
	o.h.positive = (struct mno_native_buckets){.n_spans = 1, .n = 2, .spans = o.spans[0]};
	o.spans[0][0].length = 2;
	assert_int_equal(mno_series_add_hist(s->s, t, id, T0, &o.h), -EINVAL); /* no values */
	point(&o);
	o.spans[0][0].length = 3;
	assert_int_equal(mno_series_add_hist(s->s, t, id, T0, &o.h), -EINVAL);
	o.spans[0][0].length = 2;
	assert_int_equal(mno_series_add_hist(s->s, t, id + 1, T0, &o.h), -ENOENT);
	assert_int_equal(mno_series_add_hist(s->s, t, id, -1, &o.h), -ERANGE);
	assert_int_equal(mno_series_add_hist(s->s, t, id, T0, &o.h), 0);
	commit(s, t);
}

/* --- size: latencies of a service, 40 requests a second, seen every 15 s ------------------------ */

static double normal(uint64_t *seed)
{
	double sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (double)(rnd(seed) >> 11) / 9007199254740992.0;
	return sum - 6;
}

static int count_hist(void *arg, uint32_t id, int64_t t, const struct mno_native_hist *h)
{
	++*(size_t *)arg;
	return 0;
}

static void test_size(void **state)
{
	enum { N = 5760, BUCKETS = 60 }; /* a day */
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "latency_seconds");
	uint64_t counts[BUCKETS] = {0}, seed = 8;
	struct own o = {.h = {.schema = 3, .zero_threshold = 0x1p-128}};
	size_t n = 0, used = 0;

	for (int i = 0; i < N; i++) {
		for (int k = 0; k < 600; k++) {
			double v = exp(-5 + 0.7 * normal(&seed)); /* about 7 ms */
			int b = (int)ceil(log2(v) * 8) + 100;

			b = b < 0 ? 0 : b >= BUCKETS ? BUCKETS - 1 : b;
			counts[b]++;
			o.h.count++;
			o.h.sum += v;
		}
		for (used = 0; used < BUCKETS; used++)
			o.deltas[0][used] = (int64_t)(counts[used] - (used ? counts[used - 1] : 0));
		o.h.positive.n_spans = 1;
		o.h.positive.n = BUCKETS;
		o.spans[0][0] = (struct mno_native_span){-100, BUCKETS};
		point(&o);
		assert_int_equal(mno_series_add_hist(s->s, t, id, T0 + i * STEP, &o.h), 0);
		if (i % 16 == 15) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.histograms, N);
	print_message("%u histograms of %u buckets, 600 observations between: %.1f bytes each\n",
		(unsigned)N, (unsigned)BUCKETS, (double)st.hist_bytes / N);
	assert_true(st.hist_bytes / N < 56);
	assert_int_equal(
		mno_series_read_hist(s->s, &id, 1, INT64_MIN, INT64_MAX, count_hist, &n, NULL), 0);
	assert_int_equal(n, N);
}

/* --- damage ------------------------------------------------------------------------------------- */

static void test_damage(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s), *p;
	uint32_t id = resolve(s, t, "h");
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	uint8_t from[NATIVE_KEY] = {0};
	struct own o = {.h = {.schema = 1}};
	struct mno_env *e;
	uint64_t damaged = 0;
	size_t n = 0;

	for (int i = 0; i < 20; i++) {
		o.h.count = (uint64_t)i;
		assert_int_equal(mno_series_add_hist(s->s, t, id, T0 + i * STEP, &o.h), 0);
	}
	commit(s, t);
	assert_int_equal(mno_store_env(s->e, MNO_CLASS_TS, T0, false, &e), 0);
	assert_int_equal(mno_env_fetch(e, MNO_DB_HIST, MNO_SEEK_GE, from, sizeof(from), &k, &v), 0);
	mno_env_unref(e);
	v.data[v.len - 1] ^= 1;
	t = begin(s);
	assert_int_equal(mno_txn_part(t, MNO_CLASS_TS, T0, &p), 0);
	assert_int_equal(mno_txn_put(p, MNO_DB_HIST, k.data, k.len, v.data, v.len), 0);
	commit(s, t);
	assert_int_equal(
		mno_series_read_hist(s->s, &id, 1, INT64_MIN, INT64_MAX, count_hist, &n, &damaged),
		0);
	assert_int_equal(n, 20 - NATIVE_SMALL);
	assert_int_equal(damaged, 1);
	/* adding goes on, before, in and behind it */
	t = begin(s);
	for (int i = -3; i < 30; i += 3)
		assert_int_equal(mno_series_add_hist(s->s, t, id, T0 + i * STEP + 1, &o.h), 0);
	commit(s, t);
	n = 0;
	assert_int_equal(
		mno_series_read_hist(s->s, &id, 1, INT64_MIN, INT64_MAX, count_hist, &n, &damaged),
		0);
	assert_int_equal(n, 20 - NATIVE_SMALL + 11);
	assert_int_equal(damaged, 1);
}

/* --- classic ones are plain series ------------------------------------------------------------------ */

static void test_classic(void **state)
{
	static const char *const le[] = {"0.01", "0.1", "1", "+Inf"};
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t first = 0, last = 0;
	char key[96];

	/* of one scrape: all of a histogram, then of a summary, side by side in one group */
	for (int i = 0; i < 4; i++) {
		snprintf(key, sizeof(key), "rpc_seconds_bucket{le=\"%s\"}", le[i]);
		last = resolve(s, t, key);
		first = first ? first : last;
	}
	last = resolve(s, t, "rpc_seconds_sum");
	last = resolve(s, t, "rpc_seconds_count");
	last = resolve(s, t, "gc_seconds{quantile=\"0.99\"}");
	last = resolve(s, t, "gc_seconds_sum");
	last = resolve(s, t, "gc_seconds_count");
	assert_int_equal(last - first, 8);
	assert_int_equal(last / GROUP_SERIES, first / GROUP_SERIES);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_model), T(test_refused), T(test_size), T(test_damage), T(test_classic)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
