/* SPDX-License-Identifier: Apache-2.0 */
/* Windows to blocks, days to partitions, and a process that dies between two commits. */
#include <stdio.h>
#include "rig.h"

#define DAY     86400000LL
#define M_IDS   150
#define M_LIMIT 20000

/* Rows by what they were made from: a series has a value in each row, but some rest for long. */
struct rows_model {
	uint32_t ids[M_IDS];
	int64_t t[M_LIMIT];
	size_t n;
};

static bool has(size_t k, size_t row)
{
	return k % 11 != 3 || row / 300 % 2 == 0;
}

static uint64_t bits(size_t k, size_t row)
{
	uint64_t seed = row * 2654435761u + k + 1, r = rnd(&seed);

	switch (k % 6) {
	case 0:
		return bits_of((double)k);
	case 1:
		return bits_of((double)(row * k * 4096));
	case 2:
		return bits_of((double)(r % 5000) / 100);
	case 3:
		return bits_of((double)(row / 20) * 0.001);
	case 4:
		return r & ~(1ULL << 62);
	default:
		return bits_of(
			(double)(1795422974237 + (int64_t)row * 1000 + (int64_t)(r % 9)) / 1e3);
	}
}

static void add(struct rows_model *m, struct st *s, struct mno_txn *txn, int64_t t)
{
	uint32_t ids[M_IDS];
	double v[M_IDS];
	size_t n = 0;

	for (size_t k = 0; k < M_IDS; k++)
		if (has(k, m->n)) {
			ids[n] = m->ids[k];
			v[n++] = of_bits(bits(k, m->n));
		}
	assert_int_equal(mno_series_append(s->s, txn, t, ids, v, n), 0);
	m->t[m->n++] = t;
}

static struct rows_model *make(struct st *s)
{
	struct rows_model *m = calloc(1, sizeof(*m));
	struct mno_txn *t = begin(s);
	char key[32];

	for (unsigned i = 0; i < M_IDS; i++) {
		snprintf(key, sizeof(key), "w{i=\"%u\"}", i);
		m->ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	return m;
}

static int check_column(void *arg, const struct mno_column *c)
{
	const struct rows_model *m = arg;
	size_t k = 0, at = 0;

	while (m->ids[k] != c->id)
		k++;
	assert_int_equal(c->damaged, 0);
	for (size_t row = 0; row < m->n; row++) {
		bool mark = !has(k, row) && row && has(k, row - 1);

		if (!has(k, row) && !mark)
			continue;
		assert_true(at < c->n);
		assert_int_equal(c->t_ms[at], m->t[row]);
		assert_true(bits_of(c->v[at]) == (mark ? MNO_STALE_BITS : bits(k, row)));
		at++;
	}
	assert_int_equal(at, c->n);
	return 0;
}

struct sums {
	const struct rows_model *m;
	size_t runs, samples;
	int64_t last[M_IDS];
};

static int check_run(void *arg, const struct mno_run *r)
{
	struct sums *q = arg;
	size_t k = 0, row = 0;

	while (q->m->ids[k] != r->id)
		k++;
	assert_true(r->n > 0 && r->t_ms[0] > q->last[k]);
	while (q->m->t[row] != r->t_ms[0])
		row++;
	for (size_t i = 0; i < r->n; i++, row++) {
		while (q->m->t[row] != r->t_ms[i])
			row++;
		assert_true(bits_of(r->v[i]) == (has(k, row) ? bits(k, row) : MNO_STALE_BITS));
		assert_true(!r->constant || bits_of(r->v[i]) == bits_of(r->v[0]));
	}
	q->last[k] = r->t_ms[r->n - 1];
	q->samples += r->n;
	q->runs++;
	return 0;
}

/* --- aggregates, one sample after the other --- */
struct agg_check {
	const struct rows_model *m;
	int64_t t0, t1;
	size_t seen;
};

static bool same(double a, double b)
{
	return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

/* Sums are added in another order, and random bits have any size. */
static bool near(double a, double b, size_t k)
{
	return k % 6 == 4 || same(a, b) || fabs(a - b) <= 1e-9 * (fabs(a) + fabs(b));
}

static struct mno_agg model_agg(const struct rows_model *m, size_t k, int64_t t0, int64_t t1)
{
	struct mno_agg a = {.id = m->ids[k], .min = NAN, .max = NAN};

	for (size_t row = 0; row < m->n; row++) {
		double v = of_bits(bits(k, row));

		if (!has(k, row) || m->t[row] < t0 || m->t[row] > t1)
			continue;
		if (!a.count++) {
			a.first = v;
			a.first_ms = m->t[row];
		} else if (v < a.last) {
			a.resets++;
			a.lost += a.last;
		}
		a.min = fmin(a.min, v);
		a.max = fmax(a.max, v);
		a.sum += v;
		a.last = v;
		a.last_ms = m->t[row];
	}
	return a;
}

static int check_agg(void *arg, const struct mno_agg *got)
{
	struct agg_check *q = arg;
	struct mno_agg a;
	size_t k = 0;

	while (q->m->ids[k] != got->id)
		k++;
	a = model_agg(q->m, k, q->t0, q->t1);
	assert_int_equal(got->damaged, 0);
	assert_int_equal(got->count, a.count);
	assert_int_equal(got->first_ms, a.first_ms);
	assert_int_equal(got->last_ms, a.last_ms);
	assert_int_equal(got->resets, a.resets);
	assert_true(same(got->first, a.first) && same(got->last, a.last));
	assert_true(got->min == a.min || (isnan(got->min) && isnan(a.min)));
	assert_true(got->max == a.max || (isnan(got->max) && isnan(a.max)));
	assert_true(near(got->sum, a.sum, k) && near(got->lost, a.lost, k));
	q->seen++;
	return 0;
}

static void check_aggs(struct rows_model *m, struct st *s, int64_t t0, int64_t t1)
{
	struct agg_check q = {.m = m, .t0 = t0, .t1 = t1};
	size_t want = 0;

	for (size_t k = 0; k < M_IDS; k++)
		want += model_agg(m, k, t0, t1).count > 0;
	assert_int_equal(mno_series_read_agg(s->s, m->ids, M_IDS, t0, t1, check_agg, &q), 0);
	assert_int_equal(q.seen, want);
}

static void check(struct rows_model *m, struct st *s)
{
	struct sums q = {.m = m};
	size_t want = 0;
	uint64_t damaged = 1;

	for (size_t k = 0; k < M_IDS; k++)
		q.last[k] = INT64_MIN;
	assert_int_equal(mno_series_read(s->s, m->ids, M_IDS, INT64_MIN, INT64_MAX, SIZE_MAX,
				 check_column, m),
		0);
	assert_int_equal(
		mno_series_scan(s->s, m->ids, M_IDS, INT64_MIN, INT64_MAX, check_run, &q, &damaged),
		0);
	assert_int_equal(damaged, 0);
	for (size_t k = 0; k < M_IDS; k++)
		for (size_t row = 0; row < m->n; row++)
			want += has(k, row) || (row && has(k, row - 1));
	assert_int_equal(q.samples, want);
	check_aggs(m, s, INT64_MIN, INT64_MAX);
	check_aggs(m, s, m->t[m->n / 7], m->t[m->n - 1]);
	check_aggs(m, s, m->t[m->n / 3], m->t[m->n * 5 / 6]);
}

static size_t count(struct st *s, struct mno_env *e, enum mno_db db)
{
	MDB_txn *t;
	MDB_stat st;

	assert_int_equal(mno_read_begin(e, &t), 0);
	assert_int_equal(mdb_stat(t, e->dbi[db], &st), 0);
	mno_read_end(e, t);
	return st.ms_entries;
}

static size_t partitions(struct st *s)
{
	int64_t *days = NULL;
	size_t n;

	assert_int_equal(
		mno_store_partitions(s->e, MNO_CLASS_TS, INT64_MIN, INT64_MAX, &days, &n), 0);
	free(days);
	return n;
}

/* Blocks of windows that wait in the partition of @t_ms. */
static size_t waiting(struct st *s, int64_t t_ms)
{
	struct mno_env *e;
	size_t n;

	if (mno_store_env(s->e, MNO_CLASS_TS, t_ms, false, &e) == -ENOENT)
		return 0;
	n = count(s, e, MNO_DB_WINDOW);
	mno_env_unref(e);
	return n;
}

/* --- windows ------------------------------------------------------------------------------------ */

static void test_windows(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	size_t most = 0;

	for (int64_t t = 1; m->n < 3000; t += 1000) {
		struct mno_txn *txn = begin(s);

		for (int i = 0; i < 61; i++)
			add(m, s, txn, t += 997 + i % 5);
		commit(s, txn);
		most = MNO_MAX(most, waiting(s, t));
		if (m->n % 7 == 0) {
			down(s);
			up(s);
		}
		if (m->n % 4 == 0)
			check(m, s);
	}
	check(m, s);
	assert_true(most >= 4 && most <= 12); /* four windows, a few blocks each */
	free(m);
}

static void test_seal(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	struct mno_series_stat st;

	for (int64_t t = 1; m->n < 2000;) {
		struct mno_txn *txn = begin(s);

		for (size_t i = 0; i < 1 + m->n % 400; i++)
			add(m, s, txn, t++);
		assert_int_equal(mno_series_seal(s->s, txn), 0);
		assert_int_equal(mno_series_seal(s->s, txn), 0); /* nothing is left to do */
		if (m->n % 3 == 0) {
			mno_store_abort(s->e, txn);
			mno_series_rollback(s->s);
			txn = begin(s);
			/* the rows are gone with it: once more */
			mno_series_stat(s->s, &st);
			while (m->n && m->t[m->n - 1] > st.last_ms)
				m->n--;
			t = m->n ? m->t[m->n - 1] + 1 : 1;
			add(m, s, txn, t++);
		}
		commit(s, txn);
		check(m, s);
	}
	down(s);
	up(s);
	check(m, s);
	free(m);
}

/* As an earlier version left them: windows in main. */
static size_t to_main(struct st *s, int64_t t_ms)
{
	_cleanup_buf_ struct mno_buf key = {0}, val = {0}, raw = {0};
	struct mno_txn *txn = begin(s), *part;
	uint8_t from[BLOCK_KEY] = {0};
	struct mno_seal info;
	size_t n = 0;

	assert_int_equal(mno_txn_part(txn, MNO_CLASS_TS, t_ms, &part), 0);
	while (mno_env_fetch(part->e, MNO_DB_WINDOW, n ? MNO_SEEK_GT : MNO_SEEK_GE,
		       n ? (uint8_t *)key.data : from, BLOCK_KEY, &key, &val) == 0) {
		assert_int_equal(mno_seal_open(part->e, MNO_DB_WINDOW, s->s->z, key.data, key.len,
					 val.data, val.len, MNO_SEAL_BLOCK, &info, &raw),
			0);
		assert_int_equal(mno_seal_put(txn, MNO_DB_PART, key.data, key.len, &info, raw.data,
					 raw.len, NULL),
			0);
		n++;
	}
	assert_int_equal(mno_txn_error(part, mdb_drop(part->t, part->e->dbi[MNO_DB_WINDOW], 0)), 0);
	commit(s, txn);
	return n;
}

static void test_old_place(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	struct mno_txn *txn;
	int64_t t = 1000;

	for (size_t rows = 250; rows < 1300; rows += 193) {
		txn = begin(s);
		for (size_t i = 0; i < rows; i++)
			add(m, s, txn, t += 1000);
		commit(s, txn);
		if (!to_main(s, t))
			continue;
		down(s);
		up(s);
		check(m, s); /* read where they are */
		assert_true(count(s, s->e->main, MNO_DB_PART) > 0);
		txn = begin(s);
		for (size_t i = 0; i < 200; i++)
			add(m, s, txn, t += 1000);
		commit(s, txn);
		assert_int_equal(count(s, s->e->main, MNO_DB_PART), 0);
		check(m, s);
	}
	free(m);
}

/* --- days ---------------------------------------------------------------------------------------- */

static void test_days(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	int64_t t = 20000 * DAY - 200 * 1000;

	for (int day = 0; day < 3; day++, t = (20000 + day) * DAY - 150 * 1000) {
		for (int i = 0; i < 8; i++) {
			struct mno_txn *txn = begin(s);

			for (int k = 0; k < 50; k++)
				add(m, s, txn, t += 1000);
			commit(s, txn);
		}
		check(m, s);
		down(s);
		up(s);
		check(m, s);
	}
	assert_int_equal(partitions(s), 4);
	assert_true(waiting(s, 20002 * DAY) > 0);
	/* a day in which nothing ran: what waited goes to its own day */
	struct mno_txn *txn = begin(s);

	assert_int_equal(mno_series_seal(s->s, txn), 0);
	add(m, s, txn, 20010 * DAY + 5);
	commit(s, txn);
	assert_int_equal(waiting(s, 20002 * DAY), 0);
	check(m, s);
	free(m);
}

static void test_expire_days(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	struct mno_series_stat st;
	struct mno_txn *txn;
	bool more = true;

	for (int day = 0; day < 4; day++) {
		txn = begin(s);
		for (int i = 0; i < 300; i++)
			add(m, s, txn, (20000 + day) * DAY + i * 1000);
		assert_int_equal(mno_series_seal(s->s, txn), 0);
		commit(s, txn);
	}
	mno_series_stat(s->s, &st);
	assert_int_equal(st.first_ms, 20000 * DAY);
	uint64_t before = st.samples, bytes = st.block_bytes;

	txn = begin(s);
	assert_int_equal(mno_series_expire(s->s, txn, 20002 * DAY + 5000, &more), 0);
	commit(s, txn);
	assert_false(more);
	assert_int_equal(partitions(s), 2);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.first_ms, 20002 * DAY);
	assert_true(st.samples > before * 45 / 100 && st.samples < before * 55 / 100);
	assert_true(st.block_bytes > bytes / 4 && st.block_bytes < bytes);
	free(m);
}

/* --- crashes --------------------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
	static char buf[1 << 16];
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	size_t n;

	assert_non_null(in);
	assert_non_null(out);
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		assert_int_equal(fwrite(buf, 1, n, out), n);
	fclose(in);
	assert_int_equal(fclose(out), 0);
}

/*
 * The partition's commit is on disk, main's is not: main's file is put back to what it was. Then
 * the same rows come again, and others after them, so that blocks are cut in other places.
 */
static void crash_between(struct st *s, struct rows_model *m, size_t rows, bool other)
{
	char saved[128];
	struct mno_txn *txn;
	size_t n = m->n;

	snprintf(saved, sizeof(saved), "%s/saved", s->tmp.dir);
	copy_file(s->tmp.data, saved);
	txn = begin(s);
	for (size_t i = 0; i < rows; i++)
		add(m, s, txn, m->t[m->n - 1] + 1);
	assert_int_equal(mno_series_seal(s->s, txn), 0);
	commit(s, txn);
	assert_true(partitions(s) > 0);
	down(s);
	copy_file(saved, s->tmp.data);
	unlink(saved);
	m->n = n;
	up(s);
	check(m, s);
	txn = begin(s);
	for (size_t i = 0; i < rows * (other ? 3 : 1); i++)
		add(m, s, txn, m->t[m->n - 1] + 1 + (other && i == 0));
	commit(s, txn);
	check(m, s);
}

static void test_crash_between(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	struct mno_txn *txn = begin(s);

	add(m, s, txn, 1000);
	commit(s, txn);
	for (unsigned i = 0; i < 14; i++)
		crash_between(s, m, 1 + i * 73 % 500, i % 2);
	txn = begin(s);
	assert_int_equal(mno_series_seal(s->s, txn), 0);
	commit(s, txn);
	check(m, s);
	free(m);
}

static int keep_agg(void *arg, const struct mno_agg *a)
{
	*(struct mno_agg *)arg = *a;
	return 0;
}

/* Aggregates that are damaged cost time, no answer. */
static void test_damaged_aggs(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	_cleanup_buf_ struct mno_buf key = {0}, val = {0};
	uint8_t from[BLOCK_KEY] = {0};
	struct mno_txn *txn = begin(s), *part;
	struct mno_env *e;

	for (int i = 0; i < 1000; i++)
		add(m, s, txn, 5000 + i * 1000);
	assert_int_equal(mno_series_seal(s->s, txn), 0);
	commit(s, txn);
	assert_int_equal(mno_store_env(s->e, MNO_CLASS_TS, 5000, false, &e), 0);
	assert_int_equal(
		mno_env_fetch(e, MNO_DB_AGG, MNO_SEEK_GE, from, sizeof(from), &key, &val), 0);
	val.data[100] ^= 4;
	txn = begin(s);
	assert_int_equal(mno_txn_part(txn, MNO_CLASS_TS, 5000, &part), 0);
	assert_int_equal(mno_txn_put(part, MNO_DB_AGG, key.data, key.len, val.data, val.len), 0);
	commit(s, txn);
	mno_env_unref(e);
	check(m, s);
	assert_true(s->e->damaged > 0);
	free(m);
}

/* A sample that came late lies between those that aggregates were made of. */
static void test_late_aggs(void **state)
{
	struct st *s = *state;
	struct mno_txn *txn = begin(s);
	uint32_t id = resolve(s, txn, "late");
	struct mno_agg got = {0};
	double v;

	for (int i = 0; i < 1000; i++) {
		v = i;
		assert_int_equal(mno_series_append(s->s, txn, 5000 + i * 1000, &id, &v, 1), 0);
	}
	assert_int_equal(mno_series_seal(s->s, txn), 0);
	commit(s, txn);
	txn = begin(s);
	assert_int_equal(mno_series_add(s->s, txn,
				 &(struct mno_sample){.id = id, .t_ms = 105500, .v = -7}, 1),
		0);
	commit(s, txn);
	assert_int_equal(mno_series_read_agg(s->s, &id, 1, 0, INT64_MAX, keep_agg, &got), 0);
	assert_int_equal(got.count, 1001);
	assert_int_equal(got.resets, 1);
	assert_true(got.min == -7 && got.max == 999 && got.first == 0 && got.last == 999);
	assert_true(got.lost == 100 && got.sum == 999 * 500 - 7);
}

/* A partition that is away is told of, and the rest is served. */
static int count_damage(void *arg, const struct mno_column *c)
{
	size_t *n = arg;

	n[0] += c->n;
	n[1] += c->damaged;
	return 0;
}

static void test_bad_partition(void **state)
{
	struct st *s = *state;
	struct rows_model *m = make(s);
	size_t seen[2] = {0};
	struct mno_txn *txn;
	char path[160];

	for (int day = 0; day < 2; day++) {
		txn = begin(s);
		for (int i = 0; i < 300; i++)
			add(m, s, txn, (20000 + day) * DAY + i * 1000);
		assert_int_equal(mno_series_seal(s->s, txn), 0);
		commit(s, txn);
	}
	down(s);
	snprintf(path, sizeof(path), "%s/ts-20241004/data.mdb", s->tmp.dir);
	assert_int_equal(truncate(path, 5000), 0);
	up(s);
	assert_int_equal(mno_series_read(s->s, m->ids, M_IDS, INT64_MIN, INT64_MAX, SIZE_MAX,
				 count_damage, seen),
		0);
	assert_true(seen[0] > 0 && seen[1] == M_IDS);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_windows),
		T(test_seal),
		T(test_old_place),
		T(test_days),
		T(test_expire_days),
		T(test_crash_between),
		T(test_damaged_aggs),
		T(test_late_aggs),
		T(test_bad_partition),
	};

	return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
