/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, collections, quotas and indexes. */
#include "docs_api.h"

#include <errno.h>
#include <string.h>

/* --- usage ------------------------------------------------------------------------------------------ */

struct list {
	struct mno_json *j;
	bool open; /* a namespace */
};

static void close_ns(struct list *l)
{
	if (!l->open)
		return;
	mno_json_end_arr(l->j);
	mno_json_end(l->j);
	l->open = false;
}

static int take_usage(void *arg, const struct mno_docs_usage *u)
{
	struct list *l = arg;

	if (!u->coll)
		close_ns(l);
	mno_json_obj(l->j);
	mno_json_kstr(l->j, "name", u->coll ?: u->ns);
	mno_json_ku64(l->j, "documents", u->docs);
	mno_json_ku64(l->j, "bytes", u->bytes);
	if (u->coll) {
		mno_json_ku64(l->j, "indexes", u->indexes);
		mno_json_end(l->j);
		return 0;
	}
	mno_json_ku64(l->j, "quota_documents", u->quota_docs);
	mno_json_ku64(l->j, "quota_bytes", u->quota_bytes);
	mno_json_key(l->j, "collections");
	mno_json_arr(l->j);
	l->open = true;
	return 0;
}

static const struct {
	const char *key;
	size_t off;
} figures[] = {
	{"documents", offsetof(struct mno_docs_stat, docs)},
	{"bytes", offsetof(struct mno_docs_stat, bytes)},
	{"indexes", offsetof(struct mno_docs_stat, indexes)},
	{"indexes_building", offsetof(struct mno_docs_stat, indexes_building)},
	{"transactions", offsetof(struct mno_docs_stat, transactions)},
	{"operations", offsetof(struct mno_docs_stat, operations)},
	{"refused", offsetof(struct mno_docs_stat, refused)},
	{"gets", offsetof(struct mno_docs_stat, gets)},
	{"finds", offsetof(struct mno_docs_stat, finds)},
	{"damaged", offsetof(struct mno_docs_stat, damaged)},
	{"feed_oldest", offsetof(struct mno_docs_stat, feed_oldest)},
	{"feed_next", offsetof(struct mno_docs_stat, feed_next)},
	{"feed_bytes", offsetof(struct mno_docs_stat, feed_bytes)},
	{"watchers", offsetof(struct mno_docs_stat, watchers)},
};

static int put_usage(struct mno_req *q, const char *ns)
{
	struct list l = {.j = &q->j};
	struct mno_docs_stat st;
	int r = mno_docs_stat(q->agent->docs, &st);

	if (r < 0)
		return api_docs_error(q, r, NULL);
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "namespaces");
	mno_json_arr(&q->j);
	r = mno_docs_usage_each(q->agent->docs, ns, take_usage, &l);
	if (r < 0)
		return api_docs_error(q, r, NULL);
	close_ns(&l);
	mno_json_end_arr(&q->j);
	for (size_t i = 0; !ns && i < ARRAY_SIZE(figures); i++)
		mno_json_ku64(&q->j, figures[i].key, *(uint64_t *)((char *)&st + figures[i].off));
	mno_json_end(&q->j);
	return api_done(q);
}

int api_docs(struct mno_req *q)
{
	return api_docs_there(q) ?: put_usage(q, NULL);
}

int api_docs_ns(struct mno_req *q)
{
	struct mno_docs_error err;
	uint64_t docs, bytes;
	int r = api_docs_there(q);

	if (r || strcmp(q->method, "PUT"))
		return r ?: put_usage(q, q->name);
	r = api_number(q, "quota_documents", 0, INT64_MAX, 0, &docs);
	if (!r)
		r = api_number(q, "quota_bytes", 0, INT64_MAX, 0, &bytes);
	if (r)
		return r;
	r = mno_docs_quota(q->agent->docs, q->name, docs, bytes, &err);
	return r < 0 ? api_docs_error(q, r, &err) : put_usage(q, q->name);
}

/* --- indexes ---------------------------------------------------------------------------------------- */

static const char *const states[] = {[MNO_DOC_INDEX_READY] = "ready",
	[MNO_DOC_INDEX_BUILDING] = "building",
	[MNO_DOC_INDEX_FAILED] = "failed",
	[MNO_DOC_INDEX_DROPPING] = "dropping"};

static void put_index(struct mno_json *j, const struct mno_doc_index *x)
{
	mno_json_obj(j);
	mno_json_kstr(j, "name", x->name);
	mno_json_kstr(j, "path", x->path);
	mno_json_kstr(j, "type", x->type == MNO_DOC_FULLTEXT ? "fulltext" : "ordered");
	mno_json_kbool(j, "unique", x->unique);
	mno_json_kbool(j, "multi", x->multi);
	mno_json_kbool(j, "secret", x->secret);
	mno_json_kstr(j, "state", states[x->state]);
	mno_json_kf64(j, "progress", x->progress);
	mno_json_kstr(j, "error", x->error);
	mno_json_end(j);
}

struct pick {
	struct mno_json *j;
	const char *name; /* NULL: all */
	size_t n;
};

static int take_index(void *arg, const struct mno_doc_index *x)
{
	struct pick *p = arg;

	if (p->name && strcmp(p->name, x->name))
		return 0;
	put_index(p->j, x);
	p->n++;
	return 0;
}

static int get_index(struct mno_req *q)
{
	struct pick p = {.j = &q->j, .name = q->names.v[2]};
	int r = mno_docs_index_each(q->agent->docs, q->names.v[0], q->names.v[1], take_index, &p);

	if (r < 0)
		return api_docs_error(q, r, NULL);
	if (!p.n)
		return api_problem(q, 404, "not_found", NULL, "collection %s has no index %.64s",
			q->names.v[1], p.name);
	return api_done(q);
}

static int put_new_index(struct mno_req *q)
{
	const char *type = mno_params_get(&q->params, "type");
	uint64_t unique, multi, secret;
	struct mno_doc_index def = {
		.name = q->names.v[2], .path = mno_params_get(&q->params, "path")};
	struct mno_docs_error err;
	int r = api_number(q, "unique", 0, 1, 0, &unique);

	if (!r)
		r = api_number(q, "multi", 0, 1, 0, &multi);
	if (!r)
		r = api_number(q, "secret", 0, 1, 0, &secret);
	if (r)
		return r;
	if (type && strcmp(type, "ordered") && strcmp(type, "fulltext"))
		return api_problem(q, 400, "bad_request", NULL,
			"type=%.40s: expected ordered or fulltext", type);
	def.type = type && !strcmp(type, "fulltext") ? MNO_DOC_FULLTEXT : MNO_DOC_ORDERED;
	def.unique = unique;
	def.multi = multi;
	def.secret = secret;
	r = mno_docs_index_create(q->agent->docs, q->names.v[0], q->names.v[1], &def, &err);
	return r < 0 ? api_docs_error(q, r, &err) : get_index(q);
}

int api_docs_index(struct mno_req *q)
{
	struct mno_docs_error err;
	int r = api_docs_there(q);

	if (r)
		return r;
	if (!strcmp(q->method, "PUT"))
		return put_new_index(q);
	if (strcmp(q->method, "DELETE"))
		return get_index(q);
	r = mno_docs_index_drop(q->agent->docs, q->names.v[0], q->names.v[1], q->names.v[2], &err);
	if (r < 0)
		return api_docs_error(q, r, &err);
	mno_json_obj(&q->j);
	mno_json_kbool(&q->j, "deleted", true);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_docs_indexes(struct mno_req *q)
{
	struct pick p = {.j = &q->j};
	int r = api_docs_there(q);

	if (r)
		return r;
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "indexes");
	mno_json_arr(&q->j);
	r = mno_docs_index_each(q->agent->docs, q->names.v[0], q->names.v[1], take_index, &p);
	if (r < 0)
		return api_docs_error(q, r, NULL);
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
