/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged values, series that come and go, expiry, memory. */
#include <stdio.h>
#include "rig.h"

/* --- damage -------------------------------------------------------------------------------------------- */

static void flip(
	struct st *s, enum mno_db db, enum mno_seek dir, const void *key, size_t klen, size_t bit)
{
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	struct mno_txn *t = begin(s), *part = t;

	if (!mno_db_in(db, MNO_CLASS_MAIN))
		assert_int_equal(mno_txn_part(t, MNO_CLASS_TS, 0, &part), 0);
	assert_int_equal(mno_env_fetch(part->e, db, dir, key, klen, &k, &v), 0);
	v.data[bit / 8] ^= (char)(1 << bit % 8);
	assert_int_equal(mno_txn_put(part, db, k.data, k.len, v.data, v.len), 0);
	commit(s, t);
}

static void test_damaged_block(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t ids[130];
	char key[32];
	uint8_t from[12] = {0};

	for (unsigned i = 0; i < 130; i++) {
		snprintf(key, sizeof(key), "d{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	add_rows(s, ids, 130, 1, 600); /* two windows, each one block of three groups */
	for (size_t bit = 0; bit < 48 * 8; bit += 5) { /* header; then the first payload byte */
		struct seen seen = {0};
		size_t at = bit < 48 * 8 - 5 ? bit : 48 * 8;

		flip(s, MNO_DB_WINDOW, MNO_SEEK_GE, from, sizeof(from), at);
		assert_int_equal(
			mno_series_read(s->s, ids, 130, 0, 1000, SIZE_MAX, count_column, &seen), 0);
		assert_int_equal(seen.columns, 130);
		assert_int_equal(seen.damaged, 130);
		assert_int_equal(seen.samples, 130 * 599 - 130 * HEAD_ROWS);
		flip(s, MNO_DB_WINDOW, MNO_SEEK_GE, from, sizeof(from), at);
	}
	struct seen whole = {0};
	struct mno_store_stat st;

	assert_int_equal(
		mno_series_read(s->s, ids, 130, 0, 1000, SIZE_MAX, count_column, &whole), 0);
	assert_int_equal(whole.samples, 130 * 599);
	assert_int_equal(whole.damaged, 0);
	assert_int_equal(mno_store_stat(s->e, &st), 0);
	assert_true(st.damaged > 0);
}

/* A block that is damaged before its merge is told of after it; the other windows are whole. */
static void test_damaged_merge(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	struct seen seen = {0};
	uint8_t from[12] = {0};
	uint32_t ids[130];
	char key[32];

	for (unsigned i = 0; i < 130; i++) {
		snprintf(key, sizeof(key), "d{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	add_rows(s, ids, 130, 1, 600);
	flip(s, MNO_DB_WINDOW, MNO_SEEK_GE, from, sizeof(from), 48 * 8);
	add_rows(s, ids, 130, 600, 1100);
	assert_int_equal(
		mno_series_read(s->s, ids, 130, 0, 2000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.columns, 130);
	assert_int_equal(seen.damaged, 130);
	assert_int_equal(seen.samples, 130 * (1099 - HEAD_ROWS));
	assert_int_equal(seen.last, 1099);
}

/* A damaged tail row ends the replay there; what follows can be stored and replayed again. */
static void test_damaged_tail(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t ids[3] = {resolve(s, t, "a"), resolve(s, t, "b"), resolve(s, t, "c")};
	struct seen seen = {0};
	uint8_t slot = 280 - 192;

	commit(s, t);
	add_rows(s, ids, 3, 1, 301); /* 192 sealed, 108 in the tail */
	flip(s, MNO_DB_TAIL, MNO_SEEK_EQ, &slot, 1, 48 * 8 + 3);
	down(s);
	up(s);
	assert_int_equal(mno_series_read(s->s, ids, 3, 0, 1000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, 3 * 279);
	add_rows(s, ids, 3, 400, 450);
	down(s);
	up(s);
	seen = (struct seen){0};
	assert_int_equal(mno_series_read(s->s, ids, 3, 0, 1000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, 3 * (279 + 50));
	assert_int_equal(seen.last, 449);
}

static void test_damaged_dictionary(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t a = resolve(s, t, "a"), b = a;
	struct mno_ids ids = {0};
	uint8_t key[4];
	char other[16];

	/* the first of the next group */
	for (unsigned i = 0; (b + 1) % GROUP_SERIES; i++) {
		snprintf(other, sizeof(other), "other%u", i);
		b = resolve(s, t, other);
	}
	b = resolve(s, t, "b");

	commit(s, t);
	add_rows(s, (uint32_t[]){a, b}, 2, 1, 10);
	mno_be32(key, a / GROUP_SERIES);
	flip(s, MNO_DB_SERIES_GROUP, MNO_SEEK_EQ, key, 4, 48 * 8);
	down(s);
	up(s);
	t = begin(s);
	assert_int_equal(resolve(s, t, "b"), b);
	assert_true(resolve(s, t, "a") > b); /* a new one */
	commit(s, t);
	add_rows(s, (uint32_t[]){b}, 1, 20, 30);
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, 2);
	mno_ids_done(&ids);
}

/* --- churn, expiry, memory ---------------------------------------------------------------------------- */

static void test_churn(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_ids ids = {0};
	struct mno_matcher m = {MNO_MATCH_EQ, "i", "77", NULL};
	struct mno_txn *t;
	uint64_t peak = 0, early = 0;
	uint32_t first = 0, id;
	struct seen seen = {0};
	char key[40];
	bool more = true;

	/* 4 new series per row, each lives 8 rows: 12,000 in all, 32 at a time */
	for (int64_t now = 0; now < 3000; now++) {
		uint32_t live[32];
		double v[32];

		t = begin(s);
		for (unsigned i = 0; i < 32; i++) {
			snprintf(key, sizeof(key), "churn{i=\"%u\"}", (unsigned)now * 4 + i);
			live[i] = resolve(s, t, key);
			v[i] = (double)((now + 1) * live[i]);
			if (now == 70 && i == 0)
				first = live[0];
		}
		assert_int_equal(mno_series_append(s->s, t, now + 1, live, v, 32), 0);
		commit(s, t);
		mno_series_stat(s->s, &st);
		peak = MNO_MAX(peak, st.memory_bytes);
		if (now == 1000)
			early = peak;
	}
	assert_int_equal(st.series, 3000 * 4 + 28);
	assert_true(st.head_series < 3 * HEAD_ROWS * 4);
	assert_true(peak < early + early / 4); /* flat */
	/* one that left long ago is still found, by the same id */
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, st.series);
	for (size_t i = 1; i < ids.n; i++)
		assert_true(ids.v[i] > ids.v[i - 1]);
	assert_int_equal(mno_series_select(s->s, NULL, 0, 100, &ids), -MNO_ELIMIT);
	mno_ids_done(&ids);
	assert_int_equal(mno_series_select(s->s, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 1);
	id = ids.v[0];
	mno_ids_done(&ids);
	t = begin(s);
	assert_int_equal(resolve(s, t, "churn{i=\"77\"}"), id);
	assert_int_equal(resolve(s, t, "churn{i=\"280\"}"), first);
	commit(s, t);
	assert_int_equal(mno_series_read(s->s, &id, 1, 0, 10000, SIZE_MAX, count_column, &seen), 0);
	/* retention takes blocks and names */
	for (unsigned i = 0; more && i < 1000; i++) {
		t = begin(s);
		assert_int_equal(mno_series_expire(s->s, t, 2000, &more), 0);
		commit(s, t);
	}
	assert_false(more);
	mno_series_stat(s->s, &st);
	assert_true(st.series < 7000 && st.series > 4000);
	assert_true(st.first_ms > 1000 && st.first_ms <= 2000); /* whole blocks go */
	down(s);
	up(s);
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, st.series);
	mno_ids_done(&ids);
	m.value = "120";
	assert_int_equal(mno_series_select(s->s, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 0);
	mno_ids_done(&ids);
}

static void test_memory_bound(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);
	static uint32_t ids[2000];
	static double v[2000];
	uint64_t peak = 0;
	char key[200];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key),
			"mno_some_metric_%u_seconds_total{cgroup=\"/system.slice/unit-%u.service\","
			"mode=\"%u\"}",
			i % 40, i / 40, i % 7);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	for (int64_t now = 1; now < 600; now++) {
		t = begin(s);
		for (unsigned i = 0; i < 2000; i++)
			v[i] = i % 3 ? (double)(i * now) : 1;
		assert_int_equal(mno_series_append(s->s, t, now, ids, v, 2000), 0);
		mno_series_stat(s->s, &st);
		peak = MNO_MAX(peak, st.memory_bytes);
		commit(s, t);
	}
	printf("2,000 series: at most %.2f MiB\n", (double)peak / (1 << 20));
	assert_true(peak <= 6u << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_damaged_block),
		T(test_damaged_merge),
		T(test_damaged_tail),
		T(test_damaged_dictionary),
		T(test_churn),
		T(test_memory_bound),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
