/* SPDX-License-Identifier: Apache-2.0 */
/* Queries of a collection. */
#include "docs_api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mno/arena.h"

#define LIMIT_DEF  100
#define LIMIT_MAX  10000
#define FIND_NS    (5 * NS_PER_SEC)
#define ARENA_MAX  (1u << 20)
#define ANSWER_MAX (32u << 20) /* then a cursor */

static int take_doc(void *arg, const struct mno_doc *doc)
{
	struct mno_req *q = arg;

	mno_doc_json(doc, &q->j);
	if (q->out.err)
		return q->out.err;
	return q->out.len > ANSWER_MAX || api_expired(q) < 0;
}

static int read_where(struct mno_req *q, struct mno_arena *a, struct mno_doc_cond *conds,
	struct mno_docs_query *query, struct mno_docs_error *err)
{
	const char *s;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (s = mno_params_next(&q->params, "where", &pos))) {
		if (query->n_conds == MNO_DOC_COND_MAX) {
			snprintf(err->msg, sizeof(err->msg), "more than %u conditions",
				MNO_DOC_COND_MAX);
			return -EINVAL;
		}
		r = mno_docs_where(a, s, strlen(s), &conds[query->n_conds], err);
		query->n_conds += r == 0;
	}
	return r;
}

static void put_found(struct mno_req *q, const struct mno_docs_found *f)
{
	struct mno_json *j = &q->j;

	mno_json_end_arr(j);
	mno_json_kstr(j, "cursor", f->cursor[0] ? f->cursor : NULL);
	mno_json_kstr(j, "index", f->index[0] ? f->index : NULL);
	mno_json_key(j, "index_building");
	if (f->building < 0)
		mno_json_null(j);
	else
		mno_json_f64(j, f->building);
	mno_json_ku64(j, "scanned", f->scanned);
	mno_json_ku64(j, "damaged", f->damaged);
	mno_json_end(j);
	api_set_completeness(q, f->n + f->damaged, f->damaged);
}

static int find(struct mno_req *q, struct mno_arena *a)
{
	struct mno_doc_cond conds[MNO_DOC_COND_MAX];
	struct mno_docs_query query = {.ns = q->names.v[0],
		.coll = q->names.v[1],
		.conds = conds,
		.cursor = mno_params_get(&q->params, "cursor"),
		.max_ns = FIND_NS};
	struct mno_docs_error err = {0};
	struct mno_docs_found f = {0};
	uint64_t limit, keys;
	int r = api_number(q, "limit", 1, LIMIT_MAX, LIMIT_DEF, &limit);

	if (!r)
		r = api_number(q, "keys", 0, 1, 0, &keys);
	if (r)
		return r;
	query.limit = limit;
	query.keys_only = keys;
	r = read_where(q, a, conds, &query, &err);
	if (r < 0)
		return api_docs_error(q, r, &err);
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "documents");
	mno_json_arr(&q->j);
	r = mno_docs_find(q->agent->docs, &query, take_doc, q, &f, &err);
	if (r < 0)
		return api_docs_error(q, r, &err);
	put_found(q, &f);
	return api_done(q);
}

static int drop(struct mno_req *q)
{
	struct mno_docs_error err;
	uint64_t all;
	int r = api_number(q, "all", 0, 1, 0, &all);

	if (r)
		return r;
	if (!all)
		return api_problem(q, 400, "bad_request", "say so: all=1",
			"this deletes all documents and indexes of %s/%s", q->names.v[0],
			q->names.v[1]);
	r = mno_docs_coll_drop(q->agent->docs, q->names.v[0], q->names.v[1], &err);
	if (r < 0)
		return api_docs_error(q, r, &err);
	mno_json_obj(&q->j);
	mno_json_kbool(&q->j, "deleted", true);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_docs_coll(struct mno_req *q)
{
	_cleanup_(mno_arena_free_p)
	struct mno_arena *a = NULL;
	int r = api_docs_there(q);

	if (r)
		return r;
	if (!strcmp(q->method, "DELETE"))
		return drop(q);
	r = mno_arena_new(ARENA_MAX, &a);
	return r < 0 ? api_docs_error(q, r, NULL) : find(q, a);
}
