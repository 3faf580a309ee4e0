/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that are committed together: what fails takes nothing else with it, also when its group
 * was run in one transaction first; readers see what was acknowledged at once; errors name their
 * operation; cursors belong to their query.
 */
#include <pthread.h>

#include "rig.h"

#define WRITERS 12u
#define ROUNDS  150u

struct writer {
	pthread_t id;
	struct rig *r;
	unsigned number, good, refused, unseen;
};

static int read_one(struct mno_docs *d, const char *id, uint64_t version)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	struct mno_doc doc;
	int r = mno_docs_get(d, "test", "g", id, strlen(id), &buf, &doc);

	return r < 0 ? r : doc.version == version ? 0 : -EILSEQ;
}

/* Each third transaction puts a document and then has an operation that is refused. */
static void *write_some(void *arg)
{
	struct writer *w = arg;
	char id[32], bad[32];

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct mno_doc_op ops[2];
		struct mno_doc_result res[2];
		struct mno_docs_error err;
		size_t n = 1;
		int r;

		snprintf(id, sizeof(id), "%s-%u-%u", i % 3 == 2 ? "bad" : "good", w->number, i);
		snprintf(bad, sizeof(bad), "none-%u", w->number);
		ops[0] = put_op("g", id, "{\"n\":1}");
		if (i % 3 == 2) {
			ops[n] = put_op("g", bad, "1");
			ops[n++].pre = MNO_DOC_IF_PRESENT;
		}
		r = mno_docs_apply(w->r->d, ops, n, res, &err);
		w->good += r == 0 && n == 1;
		w->refused += r == -MNO_EPRECONDITION && n == 2 && err.op == 1;
		if (r == 0)
			w->unseen += read_one(w->r->d, id, res[0].version) != 0;
		else
			w->unseen += read_one(w->r->d, id, 0) != -ENOENT;
	}
	return NULL;
}

static void test_failures_stay_alone(void **state)
{
	struct rig r = {0};
	struct writer w[WRITERS];
	struct mno_docs_groups g;

	rig_new(&r);
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.r = &r, .number = i};
		assert_int_equal(pthread_create(&w[i].id, NULL, write_some, &w[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(w[i].id, NULL);
		assert_int_equal(w[i].good, ROUNDS - ROUNDS / 3);
		assert_int_equal(w[i].refused, ROUNDS / 3);
		assert_int_equal(w[i].unseen, 0);
	}
	mno_docs_groups(r.d, &g);
	assert_true(g.largest > 1); /* else nothing of this was tried */
	rig_reopen(&r);
	assert_int_equal(read_one(r.d, "bad-0-2", 0), -ENOENT);
	assert_int_not_equal(read_one(r.d, "good-0-0", 0), -ENOENT);
	rig_done(&r);
}

/* A kept snapshot neither hides what is new nor holds the pages of what is old. */
static void test_pages_come_back(void **state)
{
	struct rig r = {0};
	struct mno_store_stat before, after;
	char value[1500];
	uint64_t version;

	rig_new(&r);
	memset(value, '1', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	for (unsigned i = 0; i < 600; i++) {
		char id[8];

		if (i == 100)
			assert_int_equal(mno_store_stat(r.s, &before), 0);
		snprintf(id, sizeof(id), "%u", i % 10);
		assert_int_equal(rig_apply(&r, put_op("g", id, value), &version), 0);
		if (i <= 100) /* from then on its snapshot is kept, and nobody renews it */
			assert_int_equal(read_one(r.d, id, version), 0);
	}
	assert_int_equal(mno_store_stat(r.s, &after), 0);
	assert_true(after.file_bytes < before.file_bytes + (2u << 20));
	rig_done(&r);
}

static void test_errors_name_their_operation(void **state)
{
	struct mno_doc_index x = {.name = "n", .path = "n", .unique = true};
	struct rig r = {0};
	struct mno_doc_op ops[] = {put_op("u", "a", "{\"n\":1}"), put_op("u", "b", "{\"n\":2}"),
		put_op("u", "c", "{\"n\":1}"), put_op("u", "d", "{\"n\":4}")};
	struct mno_doc_op bad = put_op("u", "e", "{");

	rig_new(&r);
	assert_int_equal(mno_docs_index_create(r.d, "test", "u", &x, &r.err), 0);
	assert_int_equal(mno_docs_apply(r.d, ops, 4, NULL, &r.err), -MNO_EUNIQUE);
	assert_int_equal(r.err.op, 2);
	ops[2] = bad;
	assert_int_equal(mno_docs_apply(r.d, ops, 4, NULL, &r.err), -MNO_ESYNTAX);
	assert_int_equal(r.err.op, 2);
	assert_int_equal(mno_docs_quota(r.d, "test", 1, 0, &r.err), 0);
	assert_int_equal(mno_docs_apply(r.d, ops, 2, NULL, &r.err), -ENOSPC);
	assert_true(r.err.op == MNO_DOC_OP_NONE);
	rig_done(&r);
}

static int take_none(void *arg, const struct mno_doc *doc)
{
	return 0;
}

static void test_cursor_has_a_query(void **state)
{
	struct mno_doc_cond one = {.path = "n",
				    .cmp = MNO_DOC_GE,
				    .type = MNO_DOC_NUMBER,
				    .text = "0",
				    .len = 1},
			    other = one;
	struct mno_docs_query q = {
		.ns = "test", .coll = "p", .conds = &one, .n_conds = 1, .limit = 1};
	struct mno_docs_found f = {0}, g = {0};
	struct rig r = {0};

	rig_new(&r);
	assert_int_equal(rig_apply(&r, put_op("p", "a", "{\"n\":1}"), NULL), 0);
	assert_int_equal(rig_apply(&r, put_op("p", "b", "{\"n\":2}"), NULL), 0);
	assert_int_equal(rig_apply(&r, put_op("q", "b", "{\"n\":2}"), NULL), 0);
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &f, &r.err), 0);
	assert_true(f.cursor[0] != 0);
	q.cursor = f.cursor;
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &g, &r.err), 0);
	assert_int_equal(g.n, 1);
	q.coll = "q";
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &g, &r.err), -EINVAL);
	q.coll = "p";
	other.text = "1";
	q.conds = &other;
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &g, &r.err), -EINVAL);
	other = one;
	other.cmp = MNO_DOC_GT;
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &g, &r.err), -EINVAL);
	q.n_conds = 0;
	assert_int_equal(mno_docs_find(r.d, &q, take_none, NULL, &g, &r.err), -EINVAL);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures_stay_alone),
		cmocka_unit_test(test_pages_come_back),
		cmocka_unit_test(test_errors_name_their_operation),
		cmocka_unit_test(test_cursor_has_a_query),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
