/* SPDX-License-Identifier: Apache-2.0 */
/* Selection among stored series against a naive matcher; damage, expiry, limits of labels. */
#include <stdio.h>
#include "rig.h"

/* --- selection ---------------------------------------------------------------------------------------- */

#define D_SERIES 3000
/* Labels of series i: some shared, some its own, some without. */
struct made {
	uint32_t id;
	int64_t first, last;
	bool sampled;
	char name[16], job[16], pod[32], odd[8];
};
static struct made made[D_SERIES];

static void make_labels(struct made *m, unsigned i, char *key, size_t size)
{
	snprintf(m->name, sizeof(m->name), "m%u", i % 23);
	snprintf(m->job, sizeof(m->job), "job%u", i % 5);
	snprintf(m->pod, sizeof(m->pod), "pod-%u.%x", i / 2, i * 31);
	snprintf(m->odd, sizeof(m->odd), "%s", i % 3 ? "" : i % 2 ? "\xff\xfe" : "\xc3\xa4");
	snprintf(key, size, "%s{job=\"%s\",pod=\"%s\"%s%s%s}", m->name, m->job, m->pod,
		*m->odd ? ",odd=\"" : "", m->odd, *m->odd ? "\"" : "");
}

/* Ten new series a row, each lives 40 rows: most are out of the head in the end. */
static void make_history(struct st *s)
{
	struct mno_txn *t = begin(s);
	uint32_t live[256];
	double v[256];
	size_t rows = D_SERIES / 10 + 700;
	char key[128];

	for (size_t row = 0; row < rows; row++) {
		int64_t now = 1000 + (int64_t)row * 10;
		size_t n = 0;

		for (unsigned i = 0; i < 10 && row * 10 + i < D_SERIES; i++) {
			struct made *m = &made[row * 10 + i];

			make_labels(m, (unsigned)row * 10 + i, key, sizeof(key));
			m->id = resolve(s, t, key);
			m->first = m->last = now;
		}
		for (size_t i = row < 40 ? 0 : (row - 39) * 10; i < (row + 1) * 10 && i < D_SERIES;
			i++)
			if (n < 200 && rnd(&(uint64_t){i + 1}) % 2 == 0) {
				made[i].last = now;
				made[i].sampled = true;
				live[n++] = made[i].id;
			}
		/* some come back after they were put away */
		if (row == rows - 5)
			for (size_t i = 0; i < 40; i++)
				if (rnd(&(uint64_t){i * 4 + 1}) % 2 == 0) {
					made[i * 4].last = now;
					live[n++] = made[i * 4].id;
				}
		for (size_t i = 0; i < n; i++)
			v[i] = (double)(now * live[i]);
		assert_int_equal(mno_series_append(s->s, t, now, live, v, n), 0);
		if (row % 50 == 49) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
}

static const char *label_of(const struct made *m, const char *name)
{
	if (strcmp(name, "__name__") == 0)
		return m->name;
	if (strcmp(name, "job") == 0)
		return m->job;
	if (strcmp(name, "pod") == 0)
		return m->pod;
	return strcmp(name, "odd") == 0 ? m->odd : "";
}

static bool naive(const struct made *m, const struct mno_matcher *q, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (mno_matcher_test(&q[i], label_of(m, q[i].name)) != 1)
			return false;
	return true;
}

static size_t some_query(uint64_t *seed, struct mno_matcher *q)
{
	static const char *const names[] = {"__name__", "job", "pod", "odd", "none"};
	static const char *const values[] = {
		"", "m7", "m2", "job3", "pod-7.1b2", "\xc3\xa4", "\xff\xfe", "zz"};
	static const char *const patterns[] = {"", ".*", ".+", "m1.*", "m(7|8)", "m7|m8|job2",
		"job3|", "|", "pod-1.*", "pod-1[0-3]..*", "pod-12?3?.*", "[jm].*1", "job.",
		"j.*|m3", "pod-\\d+\\.b.*", "\xc3\xa4", "..", "pod-(1|2)0\\..+", "(?i)JOB1",
		"x\\Q|\\E.*", "p(o)d-99.*", "m\\x37", "^m9$", "job[12]|zz", "pod-5+.*",
		"pod-5{2}.*"};
	size_t n = rnd(seed) % 4;

	for (size_t i = 0; i < n; i++) {
		q[i] = (struct mno_matcher){.op = (enum mno_match_op)(rnd(seed) % 4),
			.name = names[rnd(seed) % ARRAY_SIZE(names)]};
		q[i].value = q[i].op == MNO_MATCH_EQ || q[i].op == MNO_MATCH_NE
				     ? values[rnd(seed) % ARRAY_SIZE(values)]
				     : patterns[rnd(seed) % ARRAY_SIZE(patterns)];
	}
	return n;
}

static void print_query(const struct mno_matcher *q, size_t n)
{
	static const char *const ops[] = {"=", "!=", "=~", "!~"};

	for (size_t i = 0; i < n; i++)
		print_message("  %s%s\"%s\"\n", q[i].name, ops[q[i].op], q[i].value);
}

/* Without a window the answer is exact. With one, what has a sample in it is there, and nothing of
 * which the life does not touch it (it is known to a block's length). */
static void check_query(struct st *s, const struct mno_matcher *q, size_t n, int64_t t0, int64_t t1)
{
	struct mno_ids ids = {0};
	size_t at = 0;

	assert_int_equal(mno_series_select_range(s->s, q, n, t0, t1, SIZE_MAX, &ids), 0);
	for (size_t i = 0; i < D_SERIES; i++) {
		const struct made *m = &made[i];
		bool match = naive(m, q, n), got = at < ids.n && ids.v[at] == m->id;
		bool must = match && m->sampled && m->first <= t1 && m->last >= t0;
		bool may = match && m->first - 10 < t1 && m->last + 2 * 2560 >= t0;

		if (t0 == INT64_MIN && t1 == INT64_MAX)
			must = may = match;
		if ((must && !got) || (got && !may)) {
			print_message("series %zu (id %u): got %d, in [%lld, %lld]\n", i, m->id,
				got, (long long)t0, (long long)t1);
			print_query(q, n);
			fail();
		}
		at += got;
	}
	while (ids.n && ids.v[ids.n - 1] > D_SERIES) /* of other tests */
		ids.n--;
	assert_int_equal(at, ids.n); /* nothing else, in order */
	mno_ids_done(&ids);
}

static void check_all(struct st *s, unsigned queries, uint64_t seed)
{
	char err[200];

	for (unsigned i = 0; i < queries; i++) {
		struct mno_matcher q[4] = {0};
		size_t n = some_query(&seed, q);
		int64_t t0 = 900 + (int64_t)(rnd(&seed) % 11000),
			t1 = t0 + (int64_t)(rnd(&seed) % 900);

		assert_int_equal(mno_matchers_compile(q, n, err, sizeof(err)), 0);
		check_query(s, q, n, INT64_MIN, INT64_MAX);
		check_query(s, q, n, t0, t1);
		check_query(s, q, n, INT64_MIN, t1);
		check_query(s, q, n, t0, INT64_MAX);
		mno_matchers_done(q, n);
	}
}

static uint64_t indexed(struct st *s)
{
	struct index_state is;
	struct rd rd;

	assert_int_equal(rd_open(&rd, s->s), 0);
	assert_int_equal(index_state_get(s->s, rd.t, &is), 0);
	rd_done(&rd);
	return is.next;
}

static void test_random_queries(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_txn *t;

	memset(made, 0, sizeof(made));
	make_history(s);
	mno_series_stat(s->s, &st);
	assert_int_equal(st.series, D_SERIES);
	assert_true(indexed(s) > D_SERIES / 2); /* the rest waits for more to come */
	assert_true(indexed(s) <= D_SERIES);
	check_all(s, 400, 1);
	t = begin(s);
	assert_int_equal(index_step(s->s, t, 1, 0), 0);
	commit(s, t);
	assert_int_equal(indexed(s), D_SERIES + 1);
	check_all(s, 400, 2);
	down(s);
	up(s);
	check_all(s, 200, 3);
	/* a store that has no index yet, as the first format's: the same answers, then it gets one */
	t = begin(s);
	assert_int_equal(index_reset(s->s, t), 0);
	commit(s, t);
	check_all(s, 50, 4);
	assert_int_equal(dict_rebuild(s->s), 0);
	assert_int_equal(indexed(s), D_SERIES + 1);
	check_all(s, 200, 5);
}

/* --- damage ------------------------------------------------------------------------------------------- */

/* Flips one bit of value number @at (modulo how many there are) of @db. false: there is none. */
static bool flip_some(struct st *s, enum mno_db db, uint64_t at, uint64_t bit)
{
	struct mno_txn *t = begin(s);
	_cleanup_buf_ struct mno_buf copy = {0};
	MDB_cursor *c;
	MDB_val k, v;
	MDB_stat st;

	assert_int_equal(mdb_stat(t->t, s->e->main->dbi[db], &st), 0);
	if (st.ms_entries) {
		assert_int_equal(mdb_cursor_open(t->t, s->e->main->dbi[db], &c), 0);
		assert_int_equal(mdb_cursor_get(c, &k, &v, MDB_FIRST), 0);
		for (at %= st.ms_entries; at; at--)
			assert_int_equal(mdb_cursor_get(c, &k, &v, MDB_NEXT), 0);
		mno_buf_add(&copy, v.mv_data, v.mv_size);
		bit %= v.mv_size * 8;
		copy.data[bit / 8] ^= (char)(1 << bit % 8);
		v.mv_data = copy.data;
		assert_int_equal(mdb_cursor_put(c, &k, &v, MDB_CURRENT), 0);
		mdb_cursor_close(c);
	}
	commit(s, t);
	return st.ms_entries > 0;
}

/* Whatever is flipped in the index, no answer is wrong; what was met is counted, and mended. */
static void test_damaged_index(void **state)
{
	static const enum mno_db dbs[] = {MNO_DB_POSTING, MNO_DB_VALUES, MNO_DB_SPAN};
	struct st *s = *state;
	struct mno_series_stat st;
	uint64_t seed = 11;
	unsigned met = 0;

	memset(made, 0, sizeof(made));
	make_history(s);
	assert_int_equal(dict_rebuild(s->s), 0);
	for (unsigned i = 0; i < 60; i++) {
		struct mno_txn *t;

		assert_true(flip_some(s, dbs[i % 3], rnd(&seed), rnd(&seed)));
		check_all(s, 12, rnd(&seed));
		mno_series_stat(s->s, &st);
		met += st.damaged_lists > 0;
		t = begin(s);
		assert_int_equal(index_step(s->s, t, 1, 0), 0); /* of a writer */
		commit(s, t);
		down(s);
		up(s);
		check_all(s, 5, rnd(&seed));
	}
	print_message("60 flips: %u met by these queries\n", met);
	assert_true(met >= 10);
}

/* A damaged value loses the series of its group only: they are left out, and said so. */
static void test_damaged_records(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_matcher m = {MNO_MATCH_RE, "pod", "pod-.+", NULL};
	struct mno_ids ids = {0};
	uint64_t seed = 12;
	size_t lost = 0;
	char err[100];

	memset(made, 0, sizeof(made));
	make_history(s);
	assert_int_equal(dict_rebuild(s->s), 0);
	for (unsigned i = 1; i <= 3; i++)
		flip_some(s, MNO_DB_SERIES_GROUP, i * 8, rnd(&seed));
	assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), 0);
	assert_int_equal(dict_rebuild(s->s), 0);
	assert_int_equal(mno_series_select(s->s, &m, 1, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, D_SERIES - 3 * GROUP_SERIES);
	mno_ids_done(&ids);
	/* one of which only the labels are damaged is met when they are read */
	flip_some(s, MNO_DB_SERIES_GROUP, 30, 70 * 8);
	assert_int_equal(mno_series_select(s->s, &m, 1, SIZE_MAX, &ids), 0);
	for (size_t i = 0; i < ids.n; i++) {
		_cleanup_buf_ struct mno_buf key = {0};
		int r = mno_series_key(s->s, ids.v[i], &key);

		lost += r == -MNO_ECORRUPT;
		assert_true(r == 0 || r == -MNO_ECORRUPT);
	}
	assert_int_equal(lost, GROUP_SERIES);
	mno_series_stat(s->s, &st);
	assert_true(st.damaged_records > 0);
	mno_ids_done(&ids);
	mno_matchers_done(&m, 1);
}

static void flip_meta(struct st *s, const char *key, size_t bit)
{
	_cleanup_buf_ struct mno_buf v = {0};
	struct mno_txn *t = begin(s);

	assert_int_equal(
		mno_store_fetch(s->e, MNO_DB_META, MNO_SEEK_EQ, key, strlen(key), NULL, &v), 0);
	bit %= v.len * 8;
	v.data[bit / 8] ^= (char)(1 << bit % 8);
	assert_int_equal(mno_txn_put(t, MNO_DB_META, key, strlen(key), v.data, v.len), 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

/* Any bit of the state of the index: it is made anew. Of the counters: no id is given twice. */
static void test_damaged_state(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	uint64_t seed = 13;

	memset(made, 0, sizeof(made));
	make_history(s);
	assert_int_equal(dict_rebuild(s->s), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct mno_txn *t;
		char key[20];

		flip_meta(s, i % 2 ? "series_index" : "series_counters", rnd(&seed));
		down(s);
		up(s);
		check_all(s, 5, rnd(&seed));
		t = begin(s);
		snprintf(key, sizeof(key), "after%u", i);
		assert_true(resolve(s, t, key) > D_SERIES + i);
		assert_int_equal(mno_series_append(s->s, t, 100000 + i,
					 (uint32_t[]){resolve(s, t, key)}, (double[]){1}, 1),
			0);
		commit(s, t);
		mno_series_stat(s->s, &st);
		assert_int_equal(st.series, D_SERIES + i + 1);
		assert_int_equal(indexed(s), s->s->now.next_id - st.index_lag);
	}
}

/* --- expiry ------------------------------------------------------------------------------------------- */

static size_t entries(struct st *s, enum mno_db db)
{
	struct mno_txn *t = begin(s);
	MDB_stat st;

	assert_int_equal(mdb_stat(t->t, s->e->main->dbi[db], &st), 0);
	mno_store_abort(s->e, t);
	return st.ms_entries;
}

static int count_text(void *arg, const char *text)
{
	++*(size_t *)arg;
	return 0;
}

static void test_expiry(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	bool more = true;
	size_t n = 0, steps = 0;

	memset(made, 0, sizeof(made));
	make_history(s);
	assert_int_equal(dict_rebuild(s->s), 0);
	assert_int_equal(mno_series_label_values(s->s, "pod", NULL, 0, count_text, &n), 0);
	assert_int_equal(n, D_SERIES);
	n = 0;
	assert_int_equal(mno_series_label_names(s->s, NULL, 0, count_text, &n), 0);
	assert_int_equal(n, 4);
	for (; more && steps < 1000; steps++) {
		struct mno_txn *t = begin(s);

		more = false;
		assert_int_equal(mno_series_expire(s->s, t, 9000, &more), 0);
		if (steps % 3 == 1) { /* as if it had never been */
			mno_store_abort(s->e, t);
			mno_series_rollback(s->s);
			more = true;
			continue;
		}
		commit(s, t);
		if (steps % 3 == 2) { /* goes on where it was */
			down(s);
			up(s);
		}
	}
	assert_false(more);
	mno_series_stat(s->s, &st);
	assert_true(st.series < D_SERIES / 2);
	for (size_t i = 0; i < D_SERIES; i++)
		if (mno_series_key(s->s, made[i].id, &(struct mno_buf){.max = 1}) == -ENOENT)
			made[i].name[0] = '\0';
	n = 0;
	assert_int_equal(mno_series_label_values(s->s, "pod", NULL, 0, count_text, &n), 0);
	assert_int_equal(n, st.series);
	/* with the last series, the index is empty */
	for (more = true; more;) {
		struct mno_txn *t = begin(s);

		more = false;
		assert_int_equal(mno_series_expire(s->s, t, INT64_MAX, &more), 0);
		commit(s, t);
	}
	mno_series_stat(s->s, &st);
	n = 0;
	assert_int_equal(mno_series_label_values(s->s, "pod", NULL, 0, count_text, &n), 0);
	assert_int_equal(n, st.series); /* those of the head */
	assert_int_equal(st.series, st.head_series);
	assert_int_equal(entries(s, MNO_DB_SERIES), 0);
	assert_in_range(entries(s, MNO_DB_SERIES_GROUP), st.series / GROUP_SERIES, st.series);
	assert_in_range(entries(s, MNO_DB_POSTING), st.series, 3 * st.series + 30);
	assert_in_range(entries(s, MNO_DB_SPAN), 0, 1);
}

/* Samples older than a series' first make it found by windows before it, in the head and after. */
static void test_widened(void **state)
{
	struct st *s = *state;
	struct mno_matcher m = {MNO_MATCH_EQ, "__name__", "late", NULL};
	struct mno_txn *t = begin(s);
	uint32_t live = resolve(s, t, "live"), late;
	struct mno_ids ids = {0};

	commit(s, t);
	add_rows(s, &live, 1, 1000, 1100);
	t = begin(s);
	late = resolve(s, t, "late");
	commit(s, t);
	add_rows(s, (uint32_t[]){live, late}, 2, 1100, 1200);
	for (int64_t first = 1100; first >= 500; first -= 300) {
		if (first < 1100) {
			t = begin(s);
			assert_int_equal(dict_widen(s->s, t, late, first), 0);
			assert_int_equal(dict_widen(s->s, t, late, first + 100), 0);
			commit(s, t);
		}
		for (int64_t at = first - 150; at < first + 150; at += 100) {
			assert_int_equal(
				mno_series_select_range(s->s, &m, 1, 0, at, SIZE_MAX, &ids), 0);
			assert_int_equal(ids.n, at >= first);
			mno_ids_done(&ids);
		}
		/* out of the head, and back by the next one */
		add_rows(s, &live, 1, 10000 - first * 5, 10000 - first * 5 + 800);
		assert_null(hot_by_id(s->s, late));
		down(s);
		up(s);
	}
}

/* --- limits ----------------------------------------------------------------------------------------- */

/* Long labels, many labels, bytes that are no UTF-8: found when they are not in the head, too. */
static void test_limits_stored(void **state)
{
	struct st *s = *state;
	static const size_t sizes[] = {
		0, 1, 1000, 1999, 4096, 60000, MNO_SERIES_VALUE_MAX - 1, MNO_SERIES_VALUE_MAX};
	static uint32_t ids[2 * ARRAY_SIZE(sizes)];
	_cleanup_buf_ struct mno_buf key = {0}, value = {0};
	struct mno_matcher raw = {MNO_MATCH_RE, "bytes", "\\x80[^a].*", NULL};
	struct mno_txn *t = begin(s);
	struct mno_ids got = {0};
	uint32_t live = resolve(s, t, "live"), many, bytes;
	char err[100];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		mno_buf_reset(&key);
		mno_buf_addf(&key, "m{i=\"%zu\",v=\"", i);
		for (size_t j = 0; j < sizes[i / 2]; j++)
			mno_buf_addc(&key, i % 2 && j + 1 == sizes[i / 2] ? 'y' : 'x');
		mno_buf_adds(&key, "\"}");
		assert_int_equal(mno_series_resolve(s->s, t, key.data, key.len, &ids[i]), 0);
	}
	mno_buf_reset(&key);
	mno_buf_adds(&key, "many{");
	for (unsigned i = 0; i < 100; i++)
		mno_buf_addf(&key, "%sl%02u=\"%u\"", i ? "," : "", i, i);
	mno_buf_adds(&key, "}");
	assert_int_equal(mno_series_resolve(s->s, t, key.data, key.len, &many), 0);
	bytes = resolve(s, t, "b{bytes=\"\x80\xff\xc3\"}");
	commit(s, t);
	add_rows(s, &live, 1, 1, 1000);
	assert_int_equal(dict_rebuild(s->s), 0);
	assert_int_equal(s->s->n_hot, 1);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		struct mno_matcher m = {MNO_MATCH_EQ, "v", NULL, NULL};

		mno_buf_reset(&value);
		for (size_t j = 0; j < sizes[i / 2]; j++)
			mno_buf_addc(&value, i % 2 && j + 1 == sizes[i / 2] ? 'y' : 'x');
		m.value = mno_buf_cstr(&value);
		assert_int_equal(mno_series_select(s->s, &m, 1, SIZE_MAX, &got), 0);
		if (sizes[i / 2]) {
			assert_int_equal(got.n, 1);
			assert_int_equal(got.v[0], ids[i]);
		} else {
			assert_int_equal(got.n, 5); /* all that have no v */
		}
		mno_ids_done(&got);
	}
	for (unsigned i = 0; i < 100; i++) {
		char name[8], text[8];
		struct mno_matcher m = {MNO_MATCH_EQ, name, text, NULL};

		snprintf(name, sizeof(name), "l%02u", i);
		snprintf(text, sizeof(text), "%u", i);
		assert_int_equal(mno_series_select(s->s, &m, 1, SIZE_MAX, &got), 0);
		assert_int_equal(got.n, 1);
		assert_int_equal(got.v[0], many);
		mno_ids_done(&got);
	}
	assert_int_equal(mno_matchers_compile(&raw, 1, err, sizeof(err)), 0);
	assert_int_equal(mno_series_select(s->s, &raw, 1, SIZE_MAX, &got), 0);
	assert_int_equal(got.n, 1);
	assert_int_equal(got.v[0], bytes);
	mno_ids_done(&got);
	mno_matchers_done(&raw, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_random_queries),
		T(test_damaged_index),
		T(test_damaged_records),
		T(test_damaged_state),
		T(test_expiry),
		T(test_widened),
		T(test_limits_stored),
	};

	return cmocka_run_group_tests_name("cold", tests, NULL, NULL);
}
