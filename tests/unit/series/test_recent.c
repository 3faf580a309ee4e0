/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Series that come and go: fingerprints that wait in memory, aborts and restarts between, series
 * that fall silent, and a day that goes with all its series.
 */
#include <stdio.h>
#include "rig.h"

static size_t entries(struct st *s, enum mno_db db)
{
	MDB_txn *t;
	MDB_stat st;

	assert_int_equal(mno_read_begin(s->e->main, &t), 0);
	assert_int_equal(mdb_stat(t, s->e->main->dbi[db], &st), 0);
	mno_read_end(s->e->main, t);
	return st.ms_entries;
}

/* --- found again -------------------------------------------------------------------------------- */

#define N_KEYS 12000u
#define A_ROW  24u

static void key_of(unsigned i, char key[64])
{
	snprintf(key, 64, "m%u{pod=\"p-%x\"}", i % 7, i * 2654435761u);
}

static uint32_t id_of(struct st *s, struct mno_txn *t, unsigned i)
{
	char key[64];

	key_of(i, key);
	return resolve(s, t, key);
}

/* Keys from @at on at time @now, in @t; every eighth row an old one as well. */
static void one_row(struct st *s, struct mno_txn *t, unsigned at, int64_t now, uint32_t *ids)
{
	uint32_t row[A_ROW + 1];
	double v[A_ROW + 1] = {0};
	size_t n = 0;

	for (unsigned i = 0; i < A_ROW; i++) {
		row[n] = id_of(s, t, at + i);
		if (!ids[at + i])
			ids[at + i] = row[n];
		assert_int_equal(ids[at + i], row[n]);
		n++;
	}
	if (at / A_ROW % 8 == 7) {
		row[n] = id_of(s, t, at / 2);
		assert_int_equal(row[n++], ids[at / 2]);
	}
	assert_int_equal(mno_series_append(s->s, t, now, row, v, n), 0);
}

static void test_found_again(void **state)
{
	uint32_t *ids = calloc(N_KEYS, sizeof(*ids));
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_txn *t;
	size_t waited = 0;

	assert_non_null(ids);
	for (unsigned at = 0, row = 0; at < N_KEYS; at += A_ROW, row++) {
		t = begin(s);
		one_row(s, t, at, 1000 + row, ids);
		if (row % 5 == 2) { /* and once more: the ids stay */
			mno_store_abort(s->e, t);
			mno_series_rollback(s->s);
			t = begin(s);
			one_row(s, t, at, 1000 + row, ids);
		}
		commit(s, t);
		waited = MNO_MAX(waited, s->s->recent.n);
		if (row % 60 == 59) {
			down(s);
			up(s);
		}
	}
	assert_in_range(waited, 512, 3000); /* some are stored, some wait */
	assert_in_range(entries(s, MNO_DB_SERIES_FP), N_KEYS / 2, N_KEYS - EARLY_IDS);
	for (unsigned round = 0; round < 2; round++) {
		t = begin(s);
		for (unsigned i = 0; i < N_KEYS; i++)
			assert_int_equal(id_of(s, t, i), ids[i]);
		commit(s, t);
		mno_series_stat(s->s, &st);
		assert_int_equal(st.series, N_KEYS);
		down(s);
		up(s);
	}
	free(ids);
}

/* Where the stored fingerprints end cannot be read: the last ones are taken from the records. */
static void test_damaged_from(void **state)
{
	static const char from[] = "series_fp_from";
	uint32_t *ids = calloc(N_KEYS, sizeof(*ids));
	struct st *s = *state;
	struct mno_txn *t = begin(s);

	assert_non_null(ids);
	for (unsigned at = 0; at < 4800; at += A_ROW)
		one_row(s, t, at, 1000 + at, ids);
	commit(s, t);
	t = begin(s);
	assert_int_equal(mno_txn_put(t, MNO_DB_META, from, strlen(from), "damage", 6), 0);
	commit(s, t);
	down(s);
	up(s);
	assert_true(s->e->damaged > 0);
	t = begin(s);
	for (unsigned i = 0; i < 4800; i++)
		assert_int_equal(id_of(s, t, i), ids[i]);
	commit(s, t);
	free(ids);
}

/* --- silence ------------------------------------------------------------------------------------- */

static size_t select_in(struct st *s, const char *pod, int64_t t0, int64_t t1, uint32_t id)
{
	struct mno_matcher m = {MNO_MATCH_EQ, "pod", pod, NULL};
	struct mno_ids ids = {0};
	size_t n;

	assert_int_equal(mno_series_select_range(s->s, &m, 1, t0, t1, SIZE_MAX, &ids), 0);
	n = ids.n;
	assert_true(n == 0 || (n == 1 && ids.v[0] == id));
	mno_ids_done(&ids);
	return n;
}

static int sum_column(void *arg, const struct mno_column *c)
{
	*(size_t *)arg += c->n;
	return 0;
}

static void test_silent(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	size_t samples = 0;
	struct mno_txn *t = begin(s);
	uint32_t ids[2] = {resolve(s, t, "m{pod=\"stays\"}"), resolve(s, t, "m{pod=\"goes\"}")};

	/* a row each 10 s: the second one is there for the first 20 */
	for (int64_t i = 0; i < 150; i++) {
		assert_int_equal(mno_series_append(s->s, t, 1000 + i * 10000, ids,
					 (double[]){(double)i, (double)i}, i < 20 ? 2 : 1),
			0);
		commit(s, t);
		if (i == 100) { /* rows are in the tail, the series is in the dictionary only */
			down(s);
			up(s);
		}
		mno_series_stat(s->s, &st);
		assert_int_equal(st.head_series, i < 64 ? 2 : 1);
		t = begin(s);
	}
	commit(s, t);
	assert_int_equal(select_in(s, "goes", 0, 150000, ids[1]), 1);
	assert_int_equal(select_in(s, "goes", 201000, 201000, ids[1]), 1); /* its end is marked */
	assert_int_equal(select_in(s, "goes", 201001, 2000000, ids[1]), 0);
	assert_int_equal(select_in(s, "stays", 201001, 2000000, ids[0]), 1);
	assert_int_equal(
		mno_series_read(s->s, &ids[1], 1, 0, 2000000, SIZE_MAX, sum_column, &samples), 0);
	assert_int_equal(samples, 21);
	t = begin(s);
	assert_int_equal(resolve(s, t, "m{pod=\"goes\"}"), ids[1]);
	assert_int_equal(mno_series_append(s->s, t, 1700000, ids, (double[]){1, 2}, 2), 0);
	commit(s, t);
	assert_int_equal(select_in(s, "goes", 1600000, 2000000, ids[1]), 1);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.head_series, 2);
}

/* --- a day that goes ------------------------------------------------------------------------------- */

#define DAY_ROWS 720 /* each 2 minutes */
#define DAY_NEW  10u /* a row: they live in two */

/* A day of series of its own, beside one that stays. */
static void one_day(struct st *s, unsigned day)
{
	uint32_t old[DAY_NEW], ids[1 + 2 * DAY_NEW];
	double v[1 + 2 * DAY_NEW] = {0};
	char key[128];

	for (unsigned r = 0; r < DAY_ROWS; r++) {
		struct mno_txn *t = begin(s);
		size_t n = 0;

		ids[n++] = resolve(s, t, "stays{pod=\"always\"}");
		for (unsigned i = 0; r && i < DAY_NEW; i++)
			ids[n++] = old[i];
		for (unsigned i = 0; i < DAY_NEW; i++) {
			snprintf(key, sizeof(key), "m%u{day=\"%u\",pod=\"p-%u-%x\"}", i, day, r,
				(day * DAY_ROWS + r) * 2654435761u);
			ids[n++] = old[i] = resolve(s, t, key);
		}
		assert_int_equal(mno_series_append(s->s, t,
					 (int64_t)day * MS_PER_DAY + 1000 + r * 120000, ids, v, n),
			0);
		commit(s, t);
	}
}

static void expire_all(struct st *s, int64_t t_ms)
{
	bool more = true;

	while (more) {
		struct mno_txn *t = begin(s);

		more = false;
		assert_int_equal(mno_series_expire(s->s, t, t_ms, &more), 0);
		commit(s, t);
	}
}

static void test_days(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_store_stat es, first = {0};
	struct mno_txn *t;

	for (unsigned day = 0; day < 6; day++) {
		one_day(s, day);
		expire_all(s, (int64_t)day * MS_PER_DAY);
		mno_series_stat(s->s, &st);
		/* this day's, the one that stays, and those that were alive at midnight */
		assert_in_range(st.series, DAY_ROWS * DAY_NEW + 1, (DAY_ROWS + 40) * DAY_NEW);
		assert_int_equal(mno_store_stat(s->e, &es), 0);
		/* day 1 is the first that follows one, day 2 the first at the steady size */
		if (day == 2)
			first = es;
	}
	assert_true(es.used_bytes <= first.used_bytes + first.used_bytes / 10);
	assert_true(es.file_bytes <= first.file_bytes + first.file_bytes / 5);
	/* without a living day behind it, nothing of the others is left */
	t = begin(s);
	for (unsigned i = 0; i < 70; i++)
		assert_int_equal(mno_series_append(s->s, t, 8LL * MS_PER_DAY + i * 60000,
					 (uint32_t[]){resolve(s, t, "stays{pod=\"always\"}")},
					 (double[]){1}, 1),
			0);
	assert_int_equal(mno_series_seal(s->s, t), 0);
	commit(s, t);
	/* the marks at the ends of the last day's are in the first of these rows */
	expire_all(s, 8LL * MS_PER_DAY + 1);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.series, 1);
	assert_int_equal(entries(s, MNO_DB_SERIES_GROUP), 1);
	assert_int_equal(entries(s, MNO_DB_SERIES_FP), 0); /* that one is of the first ids */
	assert_int_equal(entries(s, MNO_DB_SERIES_COLD), 0);
	assert_true(entries(s, MNO_DB_SPAN) <= 1);    /* of the group that has it */
	assert_true(entries(s, MNO_DB_POSTING) <= 5); /* all, two names, two values */
	assert_in_range(
		entries(s, MNO_DB_VALUES), 3, 6); /* a path to one text in each of three trees */
	assert_int_equal(select_in(s, "always", 0, 9LL * MS_PER_DAY, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_found_again), T(test_damaged_from), T(test_silent), T(test_days)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
