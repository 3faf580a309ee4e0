/* SPDX-License-Identifier: Apache-2.0 */
/* Verification: silent about a sound store; each damaged value is told, with what is lost. */
#include <stdio.h>
#include <unistd.h>
#include "../series/rig.h"
#include "mno/docs.h"
#include "mno/ledger.h"
#include "mno/rollup.h"
#include "mno/store_check.h"

struct told {
	size_t n;
	char env[64], db[32], why[256], lost[512];
	uint64_t items;
};

static void note(void *arg, const struct mno_finding *f)
{
	struct told *t = arg;

	t->n++;
	t->items = f->items;
	snprintf(t->env, sizeof(t->env), "%s", f->env);
	snprintf(t->db, sizeof(t->db), "%s", f->db);
	snprintf(t->why, sizeof(t->why), "%s", f->why);
	snprintf(t->lost, sizeof(t->lost), "%s", f->lost);
}

static struct mno_verify_progress look(struct st *s, struct told *t)
{
	struct mno_verify_opts o = {
		.sz = sizeof(o), .deep = true, .pages = true, .finding = note, .arg = t};
	struct mno_verify_progress p;

	*t = (struct told){0};
	assert_int_equal(mno_store_verify(s->e, &o, &p), 0);
	assert_int_equal(p.damaged, t->n);
	return p;
}

static void fill(struct st *s, uint32_t ids[70])
{
	struct mno_txn *t = begin(s);
	struct mno_proc proc = {.pid = 7, .start_ns = 10, .end_ns = NS_PER_SEC};
	char key[32];

	for (unsigned i = 0; i < 70; i++) {
		snprintf(key, sizeof(key), "v{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	snprintf(proc.comm, sizeof(proc.comm), "work");
	assert_int_equal(mno_ledger_store(s->e, t, &proc, 1), 0);
	commit(s, t);
	add_rows(s, ids, 70, 1, 600);
}

/* The first value of the database with one bit of it changed. */
static void flip_first(struct st *s, enum mno_db db, size_t byte)
{
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	struct mno_txn *t = begin(s), *part = t;

	if (!mno_db_in(db, MNO_CLASS_MAIN))
		assert_int_equal(mno_txn_part(t, MNO_CLASS_TS, 0, &part), 0);
	assert_int_equal(mno_env_fetch(part->e, db, MNO_SEEK_GE, "\0", 1, &k, &v), 0);
	v.data[byte] ^= 4;
	assert_int_equal(mno_txn_put(part, db, k.data, k.len, v.data, v.len), 0);
	commit(s, t);
}

static void test_sound(void **state)
{
	struct st *s = *state;
	struct mno_verify_progress p;
	uint32_t ids[70];
	struct told t;

	fill(s, ids);
	p = look(s, &t);
	assert_int_equal(p.damaged, 0);
	assert_int_equal(p.environments, 3); /* main, a partition of series, one of processes */
	assert_true(p.values > 4 + 88);
	assert_true(p.bytes > 10000);
}

static void test_told(void **state)
{
	static const struct {
		enum mno_db db;
		size_t byte;
		const char *name, *lost;
		uint64_t items;
	} cases[] = {
		{MNO_DB_WINDOW, 80, "window", "samples of the series from 0 on from 1970-01-01T",
			1},
		{MNO_DB_WINDOW, 20, "window", "to the next block", 0},
		{MNO_DB_TAIL, 70, "tail", "row 0 of those that wait", 0},
		{MNO_DB_SERIES_GROUP, 70, "series_group", "names and labels of series 0 to 63", 1},
	};
	struct st *s = *state;
	uint32_t ids[70];
	struct told t;

	fill(s, ids);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		flip_first(s, cases[i].db, cases[i].byte);
		look(s, &t);
		assert_int_equal(t.n, 1);
		assert_string_equal(t.env, cases[i].db == MNO_DB_WINDOW ? "ts-19700101" : "main");
		assert_string_equal(t.db, cases[i].name);
		assert_non_null(strstr(t.lost, cases[i].lost));
		assert_int_equal(t.items > 0, cases[i].items);
		flip_first(s, cases[i].db, cases[i].byte);
	}
	look(s, &t);
	assert_int_equal(t.n, 0);
}

/* Of the database's values that with one bit changed, in the file of the documents. */
static void flip_doc(struct st *s, enum mno_db db, size_t byte)
{
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	struct mno_env *e;
	MDB_val key, val;
	MDB_txn *t;

	assert_int_equal(mno_store_env(s->e, MNO_CLASS_DOCS, 0, false, &e), 0);
	assert_int_equal(mno_env_fetch(e, db, MNO_SEEK_GE, "\0", 1, &k, &v), 0);
	v.data[byte] ^= 4;
	key = (MDB_val){k.len, k.data};
	val = (MDB_val){v.len, v.data};
	assert_int_equal(mdb_txn_begin(e->env, NULL, 0, &t), 0);
	assert_int_equal(mdb_put(t, e->dbi[db], &key, &val, 0), 0);
	assert_int_equal(mdb_txn_commit(t), 0);
	mno_env_readers_reset(e); /* they could not know of this commit */
	mno_env_unref(e);
}

static void put_doc(struct st *s, struct mno_docs *d)
{
	const struct mno_doc_index x = {.name = "a", .path = "a"};
	struct mno_doc_op op = {.verb = MNO_DOC_PUT,
		.ns = "n",
		.coll = "c",
		.id = "one",
		.id_len = 3,
		.kind = MNO_DOC_JSON,
		.value = "{\"a\":17}",
		.len = 8};
	struct mno_doc_result res;
	struct mno_docs_error err;

	assert_int_equal(mno_docs_index_create(d, "n", "c", &x, &err), 0);
	assert_int_equal(mno_docs_apply(d, &op, 1, &res, &err), 0);
}

/* Each kind of value of the documents is opened, and what is damaged is told. */
static void test_docs(void **state)
{
	static const struct {
		enum mno_db db;
		size_t byte;
		const char *name, *lost;
	} cases[] = {
		{MNO_DB_DOC, 30, "doc", "document one of collection number"},
		{MNO_DB_DOC_IDX, 3, "doc_idx", "an entry of an index"},
		{MNO_DB_DOC_FEED, 30, "doc_feed", "changes of documents from number"},
		{MNO_DB_DOC_META, 30, "doc_meta", "a row of the catalogue"},
	};
	const struct mno_docs_opts o = {.sz = sizeof(o), .no_worker = true};
	struct st *s = *state;
	struct mno_docs *d;
	struct told t;

	assert_int_equal(mno_docs_open(s->e, &o, &d), 0);
	put_doc(s, d);
	look(s, &t);
	assert_int_equal(t.n, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		flip_doc(s, cases[i].db, cases[i].byte);
		look(s, &t);
		assert_int_equal(t.n, 1);
		assert_string_equal(t.env, "docs");
		assert_string_equal(t.db, cases[i].name);
		assert_non_null(strstr(t.lost, cases[i].lost));
		flip_doc(s, cases[i].db, cases[i].byte);
	}
	look(s, &t);
	assert_int_equal(t.n, 0);
	mno_docs_close(d);
}

/* What was sealed right, but does not hold what it should: found by decoding only. */
static void test_decoded(void **state)
{
	static const struct {
		enum mno_db db;
		uint8_t kind, klen;
		const char *name;
	} cases[] = {
		{MNO_DB_POSTING, MNO_SEAL_POSTING, 20, "posting"},
		{MNO_DB_VALUES, MNO_SEAL_VALUES, 20, "values"},
		{MNO_DB_SPAN, MNO_SEAL_SPAN, 4, "span"},
		{MNO_DB_LATE, MNO_SEAL_LATE, 16, "late"},
		{MNO_DB_HIST, MNO_SEAL_HIST, 12, "hist"},
		{MNO_DB_AGG, MNO_SEAL_AGG, 12, "agg"},
		{MNO_DB_ROLL_R10S, MNO_SEAL_ROLL, 12, "roll"},
	};
	static const char junk[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
	uint8_t key[20] = {0};
	struct st *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum mno_class c = cases[i].db == MNO_DB_ROLL_R10S ? MNO_CLASS_R10S
				   : i < 3                         ? MNO_CLASS_MAIN
								   : MNO_CLASS_TS;
		struct mno_seal info = {.kind = cases[i].kind};
		struct mno_txn *t = begin(s), *p = t;
		struct told told;

		if (c != MNO_CLASS_MAIN)
			assert_int_equal(mno_txn_part(t, c, 0, &p), 0);
		assert_int_equal(mno_seal_put(p, cases[i].db, key, cases[i].klen, &info, junk,
					 sizeof(junk) - 1, NULL),
			0);
		commit(s, t);
		look(s, &told);
		assert_int_equal(told.n, i + 1);
	}
}

/* Late samples, histograms and rollups of a sound store are decoded without a word. */
static void test_all_sound(void **state)
{
	const int64_t deltas[] = {3, 1};
	const struct mno_native_span span = {.offset = 1, .length = 2};
	const struct mno_native_hist h = {
		.count = 7, .positive = {.n_spans = 1, .n = 2, .spans = &span, .deltas = deltas}};
	struct st *s = *state;
	uint32_t ids[70];
	struct mno_sample late[100];
	struct mno_txn *t;
	struct told told;
	bool more;

	fill(s, ids);
	for (unsigned i = 0; i < 100; i++)
		late[i] = (struct mno_sample){ids[i % 70], 500 + i, i * 0.25};
	t = begin(s);
	assert_int_equal(mno_series_add(s->s, t, late, 100), 0);
	assert_int_equal(mno_series_add_hist(s->s, t, ids[3], 77, &h), 0);
	assert_int_equal(mno_series_seal(s->s, t), 0);
	commit(s, t);
	for (more = true; more;) {
		t = begin(s);
		assert_int_equal(mno_rollup_run(s->s, t, &more), 0);
		commit(s, t);
	}
	look(s, &told);
	assert_int_equal(told.n, 0);
}

static int open_again(struct st *s, struct mno_store **ret)
{
	const struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1};

	return mno_store_open(s->tmp.dir, &o, ret);
}

/* Without its keys a store is refused, and gets no others; with them it is as it was. */
static void test_keys_gone(void **state)
{
	struct st *s = *state;
	char keys[128], away[128], main_dir[128], main_away[128];
	struct mno_store *e;
	uint32_t ids[70];

	fill(s, ids);
	snprintf(keys, sizeof(keys), "%s/keys", s->tmp.dir);
	snprintf(away, sizeof(away), "%s.keys", s->tmp.dir);
	snprintf(main_dir, sizeof(main_dir), "%s/main", s->tmp.dir);
	snprintf(main_away, sizeof(main_away), "%s.main", s->tmp.dir);
	s->s = mno_series_close(s->s);
	s->e = mno_store_close(s->e);
	assert_int_equal(rename(keys, away), 0);
	assert_int_equal(open_again(s, &e), -ENOKEY);
	assert_int_equal(access(keys, F_OK), -1);
	assert_int_equal(rename(main_dir, main_away), 0);
	assert_int_equal(open_again(s, &e), -ENOKEY); /* the processes are still there */
	assert_int_equal(access(keys, F_OK), -1);
	assert_int_equal(rename(main_away, main_dir), 0);
	assert_int_equal(rename(away, keys), 0);
	assert_int_equal(open_again(s, &s->e), 0);
	assert_int_equal(mno_series_open(s->e, &s->s), 0);
}

/* Records of the dictionary go: the entries that name it are told. */
static void test_references(void **state)
{
	struct st *s = *state;
	uint32_t ids[70];
	struct mno_txn *x;
	uint8_t id[4], fp[12];
	struct told t;

	fill(s, ids);
	mno_be32(id, ids[69] / 64);
	x = begin(s);
	assert_int_equal(mno_txn_del(x, MNO_DB_SERIES_GROUP, id, 4), 0);
	memset(fp, 0, 8);
	mno_be32(fp + 8, ids[69]);
	assert_int_equal(mno_txn_put(x, MNO_DB_SERIES_FP, fp, sizeof(fp), "", 0), 0);
	mno_be32(fp + 8, ids[5]); /* is there */
	assert_int_equal(mno_txn_put(x, MNO_DB_SERIES_FP, fp, sizeof(fp), "", 0), 0);
	assert_int_equal(mno_txn_put(x, MNO_DB_SERIES_HOT, "abc", 3, "", 0), 0);
	commit(s, x);
	look(s, &t);
	assert_int_equal(ids[69], 70);
	assert_int_equal(t.n, 2); /* a fingerprint, and the key of a wrong length */
}

static void count(void *arg, const struct mno_verify_progress *p)
{
	++*(size_t *)arg;
}

static void test_budget_and_cancel(void **state)
{
	struct st *s = *state;
	atomic_bool cancel = true;
	size_t calls = 0;
	struct mno_verify_opts o = {
		.sz = sizeof(o), .progress = count, .arg = &calls, .bytes_per_s = 200000};
	struct mno_verify_progress p;
	uint32_t ids[70];

	fill(s, ids);
	assert_int_equal(mno_store_verify(s->e, &o, &p), 0);
	assert_true(calls >= 8);
	assert_true(p.took_ns >= p.bytes * NS_PER_SEC / 200000);
	o.cancel = &cancel;
	assert_int_equal(mno_store_verify(s->e, &o, &p), -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sound),
		T(test_told),
		T(test_docs),
		T(test_decoded),
		T(test_all_sound),
		T(test_keys_gone),
		T(test_references),
		T(test_budget_and_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
