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
			assert_int_equal(mno_series_compact(p->s->s, t, 0, &more), 0);
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

/* However large the runs are, one transaction merges no more than its budget; nothing is lost. */
static void test_budget(void **state)
{
	enum { TICKS = 1500, ADDS = 10, COLUMNS = 63 }; /* the first group has no id 0 */
	struct st *s = *state;
	struct mno_sample *v = calloc(TICKS * COLUMNS, sizeof(*v));
	struct mno_series_stat st;
	uint32_t ids[COLUMNS];
	size_t merged = 0;
	struct mno_txn *t = begin(s);
	bool more = true;
	char key[16];

	assert_non_null(v);
	for (unsigned c = 0; c < COLUMNS; c++) {
		snprintf(key, sizeof(key), "b%u", c);
		ids[c] = resolve(s, t, key);
		assert_int_equal(ids[c] / GROUP_SERIES, ids[0] / GROUP_SERIES);
	}
	for (unsigned a = 0; a < ADDS; a++) {
		for (unsigned i = 0; i < TICKS * COLUMNS; i++)
			v[i] = (struct mno_sample){ids[i % COLUMNS],
				MIDNIGHT + ((ADDS - a) * TICKS + i / COLUMNS) * 1000LL, i};
		assert_int_equal(mno_series_add(s->s, t, v, TICKS * COLUMNS), 0);
		assert_true(s->s->late.merged <= LATE_BUDGET);
		merged += s->s->late.merged;
		commit(s, t);
		t = begin(s);
	}
	assert_true(merged > 0); /* or it did not test anything */
	for (unsigned i = 0; more; i++) {
		assert_true(i < 100); /* what is too large is not tried for ever */
		assert_int_equal(mno_series_compact(s->s, t, 2 * TICKS * COLUMNS, &more), 0);
		assert_true(s->s->late.merged <= 2 * TICKS * COLUMNS);
		commit(s, t);
		t = begin(s);
	}
	commit(s, t);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.late_samples, ADDS * TICKS * COLUMNS);
	free(v);
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

/* --- many, and many small ones ---------------------------------------------------------------- */

static uint64_t rss_anon(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	uint64_t kb = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb << 10;
}

static uint64_t cpu_ns(void)
{
	return mno_now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

struct total {
	size_t samples;
	double sum;
};

static int total_column(void *arg, const struct mno_column *c)
{
	struct total *t = arg;

	assert_int_equal(c->damaged, 0);
	t->samples += c->n;
	for (size_t i = 0; i < c->n; i++) {
		t->sum += c->v[i];
		assert_true(i == 0 || c->t_ms[i] > c->t_ms[i - 1]);
	}
	return 0;
}

/*
 * A day comes at once, the order of its parts at random; MNO_TEST_SAMPLES says how many samples
 * (a regular run: 1 M).
 */
static void test_catch_up(void **state)
{
	const char *want = getenv("MNO_TEST_SAMPLES");
	size_t n = want ? strtoul(want, NULL, 10) : 1000000, call = 65536, parts, done = 0;
	enum { SERIES = 500 };
	struct st *s = *state;
	struct mno_sample *v = malloc(call * sizeof(*v));
	uint64_t seed = 5, cpu, before = rss_anon(), most = 0;
	struct total total = {0};
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);
	uint32_t ids[SERIES];
	size_t *order;
	double sum = 0;
	char key[32];

	for (unsigned i = 0; i < SERIES; i++) {
		snprintf(key, sizeof(key), "up{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	parts = n / call + 1;
	order = calloc(parts, sizeof(*order));
	for (size_t i = 0; i < parts; i++) {
		size_t j = rnd(&seed) % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	cpu = cpu_ns();
	for (size_t p = 0; p < parts; p++) {
		for (size_t i = 0; i < call; i++) {
			size_t k = order[p] * call + i;

			v[i] = (struct mno_sample){ids[k % SERIES],
				MIDNIGHT + (int64_t)(k / SERIES) * 1000, (double)(k % 1000)};
			sum += v[i].v;
		}
		t = begin(s);
		assert_int_equal(mno_series_add(s->s, t, v, call), 0);
		commit(s, t);
		done += call;
		most = MNO_MAX(most, rss_anon());
	}
	cpu = cpu_ns() - cpu;
	mno_series_stat(s->s, &st);
	assert_int_equal(st.samples, done);
	print_message("%zu samples out of order: %.2f M/s of CPU, %.2f bytes each, %.0f MiB more "
		      "memory at most\n",
		done, (double)done / ((double)cpu / 1e9) / 1e6,
		(double)st.late_bytes / (double)done,
		(double)(most - MNO_MIN(before, most)) / 1048576);
	assert_true(most - MNO_MIN(before, most) < (200u << 20));
	cpu = cpu_ns();
	for (int64_t a = MIDNIGHT; a <= st.last_ms; a += 3600000)
		assert_int_equal(mno_series_read(s->s, ids, SERIES, a, a + 3599999, SIZE_MAX,
					 total_column, &total),
			0);
	print_message("read: %.1f M samples/s of CPU\n",
		(double)done / ((double)(cpu_ns() - cpu) / 1e9) / 1e6);
	assert_int_equal(total.samples, done);
	assert_true(total.sum == sum);
	free(order);
	free(v);
}

static size_t runs_of(struct st *s, uint32_t id, int64_t day)
{
	struct late_run runs[LATE_RUNS];
	struct late_view w = {0};
	struct mno_env *e;
	size_t n;

	assert_int_equal(mno_store_env(s->e, MNO_CLASS_TS, day, false, &e), 0);
	assert_int_equal(mno_read_begin(e, &w.t), 0);
	w.e = e;
	assert_int_equal(late_some(&w, id / GROUP_SERIES, runs, LATE_RUNS, &n), 0);
	mno_read_end(e, w.t);
	mno_env_unref(e);
	return n;
}

/* One late sample in each of many commits: neither files grow nor do reads get slow. */
static void test_trickle(void **state)
{
	enum { N = 4000, SERIES = 64 };
	struct st *s = *state;
	struct mno_store_stat before, after;
	struct total total = {0};
	struct mno_txn *t = begin(s);
	uint64_t cpu, read;
	size_t most = 0;
	uint32_t ids[SERIES];
	bool more = true;
	char key[32];

	for (unsigned i = 0; i < SERIES; i++) {
		snprintf(key, sizeof(key), "trickle{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	assert_int_equal(mno_store_stat(s->e, &before), 0);
	cpu = cpu_ns();
	for (int i = 0; i < N; i++) {
		struct mno_sample v = {ids[i % SERIES],
			MIDNIGHT + (int64_t)((uint64_t)i * 7919 % 86400) * 1000, i};

		t = begin(s);
		assert_int_equal(mno_series_add(s->s, t, &v, 1), 0);
		commit(s, t);
		if (i % 100 == 0)
			most = MNO_MAX(most, runs_of(s, ids[0], MIDNIGHT));
	}
	cpu = cpu_ns() - cpu;
	assert_int_equal(mno_store_stat(s->e, &after), 0);
	read = cpu_ns();
	assert_int_equal(mno_series_read(s->s, ids, SERIES, INT64_MIN, INT64_MAX, SIZE_MAX,
				 total_column, &total),
		0);
	read = cpu_ns() - read;
	assert_int_equal(total.samples, N);
	assert_true(total.sum == (double)N * (N - 1) / 2);
	print_message("%u commits of one late sample: %.0f us of CPU each, at most %zu runs, files "
		      "%.0f KiB more, read of all %.0f us\n",
		(unsigned)N, (double)cpu / N / 1e3, most,
		(double)(after.file_bytes - before.file_bytes) / 1024, (double)read / 1e3);
	assert_true(most < LATE_RUNS);
	assert_true(after.file_bytes - before.file_bytes < (3u << 20));
	while (more) {
		t = begin(s);
		assert_int_equal(mno_series_compact(s->s, t, 0, &more), 0);
		commit(s, t);
	}
	assert_int_equal(runs_of(s, ids[0], MIDNIGHT), 1);
	total = (struct total){0};
	assert_int_equal(mno_series_read(s->s, ids, SERIES, INT64_MIN, INT64_MAX, SIZE_MAX,
				 total_column, &total),
		0);
	assert_int_equal(total.samples, N);
}

/* --- damage, and partitions that go ----------------------------------------------------------- */

static int count_damage(void *arg, const struct mno_column *c)
{
	size_t *n = arg;

	n[0] += c->n;
	n[1] += c->damaged;
	return 0;
}

static void test_damage(void **state)
{
	struct st *s = *state;
	struct mno_sample v[2000];
	struct mno_txn *t = begin(s), *p;
	uint32_t id = resolve(s, t, "m");
	uint8_t from[LATE_KEY] = {0};
	_cleanup_buf_ struct mno_buf k = {0}, val = {0};
	struct mno_env *e;
	size_t n[2] = {0};
	bool more = true;

	for (int i = 0; i < 2000; i++)
		v[i] = (struct mno_sample){id, MIDNIGHT + i * 1000, i * 0.1};
	assert_int_equal(mno_series_add(s->s, t, v, 2000), 0); /* blocks of 1024 and less */
	v[0].v = 4;
	assert_int_equal(mno_series_add(s->s, t, v, 1), 0);
	commit(s, t);
	assert_int_equal(mno_store_env(s->e, MNO_CLASS_TS, MIDNIGHT, false, &e), 0);
	assert_int_equal(
		mno_env_fetch(e, MNO_DB_LATE, MNO_SEEK_GE, from, sizeof(from), &k, &val), 0);
	mno_env_unref(e);
	val.data[val.len / 2] ^= 4;
	t = begin(s);
	assert_int_equal(mno_txn_part(t, MNO_CLASS_TS, MIDNIGHT, &p), 0);
	assert_int_equal(mno_txn_put(p, MNO_DB_LATE, k.data, k.len, val.data, val.len), 0);
	commit(s, t);
	for (int round = 0; round < 2; round++) {
		memset(n, 0, sizeof(n));
		assert_int_equal(mno_series_read(s->s, &id, 1, INT64_MIN, INT64_MAX, SIZE_MAX,
					 count_damage, n),
			0);
		/* exactly its block, and the one sample that came later is not in it */
		assert_int_equal(n[0], 2000 - HEAD_ROWS * BLOCK_WINDOWS + 1);
		assert_int_equal(n[1], 1);
		while (round == 0 && more) { /* what cannot be read is not merged away */
			t = begin(s);
			assert_int_equal(mno_series_compact(s->s, t, 0, &more), 0);
			commit(s, t);
		}
	}
}

static void test_dropped(void **state)
{
	struct st *s = *state;
	struct mno_sample v[100];
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m");
	size_t n[2] = {0};
	char path[160];
	bool more;

	for (int i = 0; i < 100; i++)
		v[i] = (struct mno_sample){id, MIDNIGHT + (i - 50) * 1000, i};
	assert_int_equal(mno_series_add(s->s, t, v, 100), 0);
	commit(s, t);
	down(s);
	snprintf(path, sizeof(path), "%s/ts-20231114", s->tmp.dir);
	nftw(path, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	up(s);
	assert_int_equal(
		mno_series_read(s->s, &id, 1, INT64_MIN, INT64_MAX, SIZE_MAX, count_damage, n), 0);
	assert_int_equal(n[0], 50);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.samples, 50);
	/* and retention, while it is open */
	t = begin(s);
	assert_int_equal(mno_series_expire(s->s, t, MIDNIGHT + MS_PER_DAY, &more), 0);
	commit(s, t);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.samples, 0);
	assert_int_equal(st.late_bytes, 0);
	t = begin(s); /* it begins anew */
	assert_int_equal(mno_series_resolve(s->s, t, "m", 1, &v[0].id), 0);
	assert_int_equal(mno_series_add(s->s, t, v, 1), 0);
	commit(s, t);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.samples, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_twice), T(test_refused), T(test_catch_up),
		T(test_model), T(test_trickle), T(test_damage), T(test_dropped), T(test_budget)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
