/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of a moment: what they were is written down while they change, and compared. */
#include "../series/rig.h"

#include <time.h>

#include "mno/backup.h"
#include "mno/docs.h"
#include "mno/store_keys.h"
#include "mno/time.h"

#define POINTS 64

static char dest[96], back[96], key[128], said[4096];
static struct mno_docs *docs;
static struct { /* what was, after each change */
	uint64_t seq;
	int64_t ms;
	struct mno_buf text;
} points[POINTS];
static size_t n_points;

static void note(void *arg, const char *file, const char *what)
{
	size_t n = strlen(said);

	snprintf(said + n, sizeof(said) - n, "%s: %s\n", file, what);
}
static const struct mno_backup_opts opts = {.sz = sizeof(opts), .finding = note};

static void docs_up(struct st *s, uint64_t feed_bytes)
{
	const struct mno_docs_opts o = {
		.sz = sizeof(o), .no_worker = true, .feed_bytes = feed_bytes};

	assert_int_equal(mno_docs_open(s->e, &o, &docs), 0);
}

static int names(void **state)
{
	int r = setup(state);
	struct st *s = *state;

	snprintf(dest, sizeof(dest), "%s-backups", s->tmp.dir);
	snprintf(back, sizeof(back), "%s-back", s->tmp.dir);
	snprintf(key, sizeof(key), "%s/keys/kek", s->tmp.dir);
	*said = '\0';
	n_points = 0;
	docs_up(s, 0);
	return r;
}

static int unnames(void **state)
{
	docs = mno_docs_close(docs);
	for (size_t i = 0; i < POINTS; i++)
		mno_buf_done(&points[i].text);
	nftw(dest, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	nftw(back, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	return teardown(state);
}
#define U(fn) cmocka_unit_test_setup_teardown(fn, names, unnames)

/* --- what there is --------------------------------------------------------------------------- */

static int put_index(void *arg, const struct mno_doc_index *x)
{
	mno_buf_addf(arg, " index %s %s %d %d %d %s\n", x->name, x->path, x->type, x->unique,
		x->multi, x->error ?: "");
	return 0;
}

static int put_usage(void *arg, const struct mno_docs_usage *u)
{
	struct mno_buf *b = arg;
	int r;

	mno_buf_addf(b, "%s/%s %llu docs %llu bytes, quota %llu %llu\n", u->ns, u->coll ?: "",
		(unsigned long long)u->docs, (unsigned long long)u->bytes,
		(unsigned long long)u->quota_docs, (unsigned long long)u->quota_bytes);
	if (!u->coll)
		return 0;
	for (unsigned i = 0; i < 40; i++) {
		_cleanup_buf_ struct mno_buf v = {0};
		struct mno_doc d;
		char id[8];

		snprintf(id, sizeof(id), "d%u", i);
		r = mno_docs_get(docs, u->ns, u->coll, id, strlen(id), &v, &d);
		if (r == -ENOENT)
			continue;
		assert_int_equal(r, 0);
		mno_buf_addf(b, " %s v%llu %lld %lld %d %.*s\n", id, (unsigned long long)d.version,
			(long long)d.created_ms, (long long)d.updated_ms, d.kind, (int)d.len,
			(const char *)d.value);
	}
	return mno_docs_index_each(docs, u->ns, u->coll, put_index, b);
}

static void describe(struct mno_buf *b)
{
	mno_buf_reset(b);
	assert_int_equal(mno_docs_usage_each(docs, NULL, put_usage, b), 0);
}

static void point(void)
{
	struct timespec ms = {.tv_nsec = 2000000};
	uint64_t oldest, next;

	assert_true(n_points < POINTS);
	assert_int_equal(mno_docs_feed_bounds(docs, &oldest, &next), 0);
	points[n_points].seq = next - 1;
	describe(&points[n_points].text);
	points[n_points++].ms = mno_now_ms();
	nanosleep(&ms, NULL); /* so that the next change is of another moment */
}

static void put(const char *coll, unsigned id, const char *value)
{
	struct mno_docs_error err;
	char name[8];
	struct mno_doc_op op = {.verb = value ? MNO_DOC_PUT : MNO_DOC_DELETE,
		.ns = "app",
		.coll = coll,
		.id = name,
		.kind = MNO_DOC_JSON,
		.value = value,
		.len = value ? strlen(value) : 0};

	snprintf(name, sizeof(name), "d%u", id);
	op.id_len = strlen(name);
	assert_int_equal(mno_docs_apply(docs, &op, 1, NULL, &err), 0);
}

static void declare(const char *coll, const char *name, bool unique)
{
	const struct mno_doc_index x = {.name = name, .path = "a", .unique = unique};
	struct mno_docs_error err;

	assert_int_equal(mno_docs_index_create(docs, "app", coll, &x, &err), 0);
}

static void change_all(unsigned round)
{
	struct mno_docs_error err;
	char v[64];

	for (unsigned i = 0; i < 4; i++) {
		snprintf(v, sizeof(v), "{\"a\":%u,\"r\":%u}", i, round);
		put("one", i, v);
		point();
	}
	put("two", round, "{\"a\":1}");
	put("one", 3, NULL);
	point();
	if (round == 1) {
		declare("one", "by_a", true);
		point();
		declare("two", "second", false);
		assert_int_equal(mno_docs_quota(docs, "app", 1000, 0, &err), 0);
		point();
	}
	if (round == 2) {
		/* two with the same value: a unique index cannot be built */
		put("two", 30, "{\"a\":1}");
		declare("two", "fails", true);
		point();
		while (mno_docs_work(docs) == 1)
			;
		point();
		assert_int_equal(mno_docs_index_drop(docs, "app", "one", "by_a", &err), 0);
		point();
	}
	if (round == 3) {
		assert_int_equal(mno_docs_coll_drop(docs, "app", "two", &err), 0);
		point();
		put("two", 9, "{\"a\":null}");
		point();
	}
}

/* --- back to a moment -------------------------------------------------------------------------- */

static int restore_to(const char *name, uint64_t seq, int64_t ms, struct mno_backup_verdict *v)
{
	const struct mno_docs_until until = {.seq = seq, .ms = ms};
	struct mno_restore_opts o = {.sz = sizeof(o), .key = key, .docs_until = &until, .o = opts};
	char path[160];

	nftw(back, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	snprintf(path, sizeof(path), "%s/%s", dest, name);
	return mno_backup_restore(path, back, &o, v);
}

static void compare(size_t i)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_docs *live = docs;
	const struct mno_docs_opts o = {.sz = sizeof(o), .no_worker = true};
	uint64_t oldest, next, n, faults;
	struct mno_store *s;

	assert_int_equal(mno_store_open(back, NULL, &s), 0);
	assert_int_equal(mno_docs_open(s, &o, &docs), 0);
	describe(&b);
	assert_string_equal(mno_buf_cstr(&b), mno_buf_cstr(&points[i].text));
	assert_int_equal(mno_docs_feed_bounds(docs, &oldest, &next), 0);
	assert_int_equal(next, points[i].seq + 1);
	/* indexes that were not built yet are built from what is there */
	while (mno_docs_work(docs) == 1)
		;
	assert_int_equal(mno_docs_check(docs, 0, NULL, NULL, &n, &faults), 0);
	assert_int_equal(faults, 0);
	mno_docs_close(docs);
	mno_store_close(s);
	docs = live;
}

static void test_points(void **state)
{
	struct st *s = *state;
	struct mno_backup_info b[4];
	struct mno_backup_verdict v;

	for (unsigned round = 0; round < 4; round++) {
		change_all(round);
		assert_int_equal(mno_backup_create(s->e, dest, &opts, &b[round]), 0);
		if (round == 1)
			assert_int_equal(mno_store_rotate_data(s->e, "docs", &(size_t){0}), 0);
	}
	put("one", 20, "{\"later\":1}");
	for (size_t i = 0; i < n_points; i++) {
		int r = restore_to(b[0].name, points[i].seq, 0, &v);

		if (points[i].seq < 6) { /* as the first backup has them, or before it */
			assert_int_equal(r, -ERANGE);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(v.docs.seq, points[i].seq);
		compare(i);
		assert_int_equal(restore_to(b[0].name, 0, points[i].ms, &v), 0);
		compare(i);
	}
	assert_true(n_points > 25 && strstr(said, "name an older one"));
	/* beyond the newest backup: refused, and nothing is there */
	*said = '\0';
	assert_int_equal(restore_to(b[1].name, points[n_points - 1].seq + 1, 0, &v), -MNO_EGONE);
	assert_non_null(strstr(said, "later ones are in no backup"));
	assert_int_equal(restore_to(b[1].name, 0, mno_now_ms(), &v), -MNO_EGONE);
	assert_int_not_equal(access(back, F_OK), 0);
}

/* What the store that is replaced has is used, too: the newest mistake is taken back. */
static void test_replaced(void **state)
{
	struct st *s = *state;
	struct mno_backup_info b;
	struct mno_backup_verdict v;
	struct mno_docs_until until = {0};
	struct mno_restore_opts o = {
		.sz = sizeof(o), .replace = true, .docs_until = &until, .o = opts};
	char path[160];
	size_t last;

	change_all(0);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	change_all(1);
	last = n_points - 1;
	until.seq = points[last].seq;
	put("one", 0, NULL); /* the mistake */
	docs = mno_docs_close(docs);
	down(s);
	snprintf(path, sizeof(path), "%s/%s", dest, b.name);
	assert_int_equal(mno_backup_restore(path, s->tmp.dir, &o, &v), 0);
	snprintf(back, sizeof(back), "%s", s->tmp.dir);
	compare(last);
	up(s);
	docs_up(s, 0);
	/* from here on it is another history: the feed of the old one does not fit */
	put("one", 11, "{\"new\":1}");
	put("one", 12, "{\"new\":2}");
}

/* A feed that was trimmed, one of another history. */
static void test_gap(void **state)
{
	struct st *s = *state;
	struct mno_backup_info a, b;
	struct mno_backup_verdict v;
	uint64_t seed = 5;
	char big[60000];

	put("one", 1, "{}");
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &a), 0);
	mno_docs_close(docs);
	docs_up(s, 100000);
	memset(big, 'x', sizeof(big));
	big[0] = big[sizeof(big) - 2] = '"';
	big[sizeof(big) - 1] = '\0';
	for (unsigned i = 0; i < 12; i++) {
		for (size_t k = 1; k < sizeof(big) - 2; k++)
			big[k] = (char)('A' + rnd(&seed) % 26);
		put("one", i, big);
	}
	point();
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	assert_int_equal(restore_to(a.name, points[0].seq, 0, &v), -MNO_EGONE);
	assert_non_null(strstr(said, "changes 2 to "));
	assert_non_null(strstr(said, "are in no feed any more"));
	assert_int_not_equal(access(back, F_OK), 0);
}

static void test_history(void **state)
{
	struct st *s = *state;
	struct mno_backup_info a, b;
	struct mno_backup_verdict v;
	struct mno_restore_opts o = {.sz = sizeof(o), .replace = true, .o = opts};
	char path[160];

	put("one", 1, "{\"v\":1}");
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &a), 0);
	put("one", 2, "{\"v\":2}");
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	docs = mno_docs_close(docs);
	down(s);
	snprintf(path, sizeof(path), "%s/%s", dest, a.name);
	assert_int_equal(mno_backup_restore(path, s->tmp.dir, &o, &v), 0);
	up(s);
	docs_up(s, 0);
	put("one", 3, "{\"v\":3}"); /* the same number, another change */
	put("one", 4, "{\"v\":4}");
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &a), 0);
	assert_int_equal(restore_to(b.name, 3, 0, &v), -MNO_EGONE);
	assert_non_null(strstr(said, "another history"));
	(void)a;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		U(test_points), U(test_replaced), U(test_gap), U(test_history)};

	return cmocka_run_group_tests_name("docs until", tests, NULL, NULL);
}
