/* SPDX-License-Identifier: Apache-2.0 */
/* Verification: silent about a sound store; each damaged value is told, with what is lost. */
#include <stdio.h>
#include "../series/rig.h"
#include "mno/ledger.h"
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
	struct mno_txn *t = begin(s);

	assert_int_equal(mno_store_fetch(s->e, db, MNO_SEEK_GE, "\0", 1, &k, &v), 0);
	v.data[byte] ^= 4;
	assert_int_equal(mno_txn_put(t, db, k.data, k.len, v.data, v.len), 0);
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
	assert_int_equal(p.environments, 2);
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
		{MNO_DB_PART, 80, "part", "samples of the series from 0 on from 1970-01-01T", 1},
		{MNO_DB_PART, 20, "part", "to the next block", 0},
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
		assert_string_equal(t.env, "main");
		assert_string_equal(t.db, cases[i].name);
		assert_non_null(strstr(t.lost, cases[i].lost));
		assert_int_equal(t.items > 0, cases[i].items);
		flip_first(s, cases[i].db, cases[i].byte);
	}
	look(s, &t);
	assert_int_equal(t.n, 0);
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
		T(test_references),
		T(test_budget_and_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
