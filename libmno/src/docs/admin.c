/* SPDX-License-Identifier: Apache-2.0 */
/* Indexes, quotas, collections: declaring, dropping, listing. */
#include <errno.h>
#include <string.h>
#include "../crypt/hash.h"
#include "docs_internal.h"
#include "mno/err.h"

struct request {
	const char *ns, *coll;
	const struct mno_doc_index *def;
	const char *name;
	uint64_t docs, bytes;
};

static int check_def(struct mno_docs_txn *t, const struct mno_doc_index *def)
{
	struct docs_path p;

	if (!docs_name_ok(def->name))
		return docs_fail(
			t->err, -EINVAL, "\"%.64s\" is no name for an index", def->name ?: "");
	if (!def->path || docs_path_parse(def->path, strlen(def->path), &p) < 0)
		return docs_fail(t->err, -EINVAL,
			"\"%.100s\" is no path: write member.member, or $ for the whole value",
			def->path ?: "");
	if (def->type != MNO_DOC_ORDERED && def->type != MNO_DOC_FULLTEXT)
		return docs_fail(t->err, -EINVAL, "no such type of index");
	if (def->type == MNO_DOC_FULLTEXT && def->unique)
		return docs_fail(t->err, -EINVAL, "a full-text index cannot be unique");
	return 0;
}

static bool same_def(const struct docs_cat_index *x, const struct mno_doc_index *def)
{
	return !strcmp(x->path_text, def->path) && x->type == def->type &&
	       x->unique == def->unique && x->multi == def->multi && x->secret == def->secret;
}

static int make_index(void *arg, struct mno_docs_txn *t)
{
	const struct request *q = arg;
	struct docs_cat_index x = {.id = t->state.next_id,
		.type = (uint8_t)q->def->type,
		.unique = q->def->unique,
		.multi = q->def->multi || q->def->type == MNO_DOC_FULLTEXT,
		.secret = q->def->secret};
	struct docs_cat_index *old;
	struct docs_cat_coll *c;
	struct docs_usage u;
	int r = check_def(t, q->def);

	if (r == 0)
		r = docs_txn_coll(t, q->ns, q->coll, &c);
	if (r < 0)
		return r;
	old = docs_cat_index(c, q->def->name);
	if (old && (same_def(old, q->def) ||
			   (old->type == MNO_DOC_FULLTEXT && q->def->type == MNO_DOC_FULLTEXT &&
				   !strcmp(old->path_text, q->def->path) &&
				   old->secret == q->def->secret)))
		return 0;
	if (old)
		return docs_fail(t->err, -EEXIST,
			"there is another index %s already: drop it first", q->def->name);
	if (c->n_idx == MNO_DOC_INDEX_MAX)
		return docs_fail(t->err, -MNO_ELIMIT, "a collection has at most %u indexes",
			MNO_DOC_INDEX_MAX);
	r = docs_usage_get(t->d, t->t, c->id, &u);
	if (r < 0)
		return r;
	x.id = t->state.next_id++;
	x.coll_id = c->id;
	x.state = u.docs ? MNO_DOC_INDEX_BUILDING : MNO_DOC_INDEX_READY;
	strcpy(x.name, q->def->name);
	strcpy(x.path_text, q->def->path);
	if (x.secret)
		r = mno_random_key(x.key);
	if (r == 0)
		r = docs_index_put(t->d, t->t, &x);
	if (r == 0)
		r = docs_feed_index(t, MNO_DOC_CHANGE_INDEX, &x, c);
	return r < 0 ? r : docs_txn_recat(t);
}

int docs_txn_index(
	struct mno_docs_txn *t, const char *ns, const char *coll, const struct mno_doc_index *def)
{
	struct request q = {.ns = ns, .coll = coll, .def = def};

	return make_index(&q, t);
}

int mno_docs_index_create(struct mno_docs *d, const char *ns, const char *coll,
	const struct mno_doc_index *def, struct mno_docs_error *err)
{
	struct request q = {.ns = ns, .coll = coll, .def = def};

	return docs_submit(d, make_index, &q, false, err);
}

static int mark_dropping(struct mno_docs_txn *t, const struct docs_cat_index *x)
{
	struct docs_cat_index copy = *x;
	int r;

	copy.state = MNO_DOC_INDEX_DROPPING;
	r = docs_index_put(t->d, t->t, &copy);
	if (r == 0)
		r = docs_meta_del(t->d, t->t, DOCS_META_BUILD, x->id);
	return r == -ENOENT ? 0 : r;
}

static int find_coll(struct mno_docs_txn *t, const struct request *q, struct docs_cat_coll **ret)
{
	*ret = docs_cat_coll(t->cat, q->ns, q->coll);
	return *ret ? 0
		    : docs_fail(t->err, -ENOENT, "there is no collection %.64s in namespace %.64s",
			      q->coll, q->ns);
}

static int drop_index(void *arg, struct mno_docs_txn *t)
{
	const struct request *q = arg;
	struct docs_cat_index *x;
	struct docs_cat_coll *c;
	int r = find_coll(t, q, &c);

	if (r < 0)
		return r;
	x = docs_cat_index(c, q->name);
	if (!x)
		return docs_fail(
			t->err, -ENOENT, "collection %s has no index %.64s", q->coll, q->name);
	r = mark_dropping(t, x);
	if (r == 0)
		r = docs_feed_index(t, MNO_DOC_CHANGE_UNINDEX, x, c);
	return r < 0 ? r : docs_txn_recat(t);
}

int docs_txn_unindex(struct mno_docs_txn *t, const char *ns, const char *coll, const char *name)
{
	struct request q = {.ns = ns, .coll = coll, .name = name};

	return drop_index(&q, t);
}

int mno_docs_index_drop(struct mno_docs *d, const char *ns, const char *coll, const char *name,
	struct mno_docs_error *err)
{
	struct request q = {.ns = ns, .coll = coll, .name = name};

	return docs_submit(d, drop_index, &q, true, err);
}

int docs_txn_drop(struct mno_docs_txn *t, const char *ns, const char *coll)
{
	const struct request q = {.ns = ns, .coll = coll};
	const struct mno_doc none = {.id = ""};
	struct docs_cat_coll *c, copy;
	struct docs_usage u;
	int r = find_coll(t, &q, &c);

	if (r == 0)
		r = docs_usage_get(t->d, t->t, c->id, &u);
	for (unsigned i = 0; r == 0 && i < c->n_idx; i++)
		r = mark_dropping(t, c->idx[i]);
	if (r < 0)
		return r;
	copy = *c;
	copy.dropping = true;
	r = docs_coll_put(t->d, t->t, &copy);
	t->state.next_seq++;
	if (r == 0)
		r = docs_feed_add(t, MNO_DOC_CHANGE_DROP, c, &none);
	if (r == 0)
		r = docs_txn_usage(t, c->ns->id, -(int64_t)u.docs, -(int64_t)u.bytes);
	if (r == 0)
		r = docs_meta_del(t->d, t->t, DOCS_META_USAGE, c->id);
	if (r == -ENOENT)
		r = 0;
	return r < 0 ? r : docs_txn_recat(t);
}

static int drop_coll(void *arg, struct mno_docs_txn *t)
{
	const struct request *q = arg;

	return docs_txn_drop(t, q->ns, q->coll);
}

int mno_docs_coll_drop(
	struct mno_docs *d, const char *ns, const char *coll, struct mno_docs_error *err)
{
	struct request q = {.ns = ns, .coll = coll};

	return docs_submit(d, drop_coll, &q, true, err);
}

static int set_quota(void *arg, struct mno_docs_txn *t)
{
	const struct request *q = arg;
	struct docs_cat_ns n;
	int r = docs_txn_coll(t, q->ns, NULL, NULL);

	if (r < 0)
		return r;
	n = *docs_cat_ns(t->cat, q->ns);
	n.quota_docs = q->docs;
	n.quota_bytes = q->bytes;
	r = docs_ns_put(t->d, t->t, &n);
	if (r == 0)
		r = docs_feed_quota(t, &n);
	return r < 0 ? r : docs_txn_recat(t);
}

int docs_txn_quota(struct mno_docs_txn *t, const char *ns, uint64_t docs, uint64_t bytes)
{
	struct request q = {.ns = ns, .docs = docs, .bytes = bytes};

	return set_quota(&q, t);
}

int mno_docs_quota(struct mno_docs *d, const char *ns, uint64_t docs, uint64_t bytes,
	struct mno_docs_error *err)
{
	struct request q = {.ns = ns, .docs = docs, .bytes = bytes};

	return docs_submit(d, set_quota, &q, false, err);
}

/* --- listing ------------------------------------------------------------------------------------- */

/* Counters of all namespaces and collections of @c, in their order. */
static int read_usage(
	struct mno_docs *d, MDB_txn *t, const struct docs_cat *c, struct docs_usage **ret)
{
	struct docs_usage *v = calloc(c->n_ns + c->n_coll + 1, sizeof(*v));
	int r = v ? 0 : -ENOMEM;

	for (size_t i = 0; i < c->n_ns && r == 0; i++)
		r = docs_usage_get(d, t, c->ns[i].id, &v[i]);
	for (size_t i = 0; i < c->n_coll && r == 0; i++)
		r = docs_usage_get(d, t, c->coll[i].id, &v[c->n_ns + i]);
	if (r < 0)
		free(v);
	else
		*ret = v;
	return r;
}

static int give_colls(const struct docs_cat *c, const struct docs_cat_ns *n,
	const struct docs_usage *v, int (*fn)(void *arg, const struct mno_docs_usage *u), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < c->n_coll && r == 0; i++) {
		struct mno_docs_usage u = {.ns = n->name,
			.coll = c->coll[i].name,
			.docs = v[i].docs,
			.bytes = v[i].bytes,
			.indexes = c->coll[i].n_idx};

		if (c->coll[i].ns == n && !c->coll[i].dropping)
			r = fn(arg, &u);
	}
	return r;
}

int mno_docs_usage_each(struct mno_docs *d, const char *ns,
	int (*fn)(void *arg, const struct mno_docs_usage *u), void *arg)
{
	_cleanup_(docs_cat_unref_p)
	struct docs_cat *c = NULL;
	_cleanup_free_ struct docs_usage *v = NULL;
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_cat_get(d, t, &c);
	if (r == 0)
		r = read_usage(d, t, c, &v);
	mno_read_end(d->e, t);
	for (size_t i = 0; r == 0 && i < c->n_ns; i++) {
		struct mno_docs_usage u = {.ns = c->ns[i].name,
			.docs = v[i].docs,
			.bytes = v[i].bytes,
			.quota_docs = c->ns[i].quota_docs,
			.quota_bytes = c->ns[i].quota_bytes};

		if (ns && strcmp(ns, u.ns))
			continue;
		r = fn(arg, &u);
		if (r == 0)
			r = give_colls(c, &c->ns[i], v + c->n_ns, fn, arg);
	}
	return r;
}

static double progress_of(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x)
{
	_cleanup_buf_ struct mno_buf row = {0};
	struct mno_reader r;
	struct docs_usage u;
	uint64_t done;

	if (x->state != MNO_DOC_INDEX_BUILDING)
		return x->state == MNO_DOC_INDEX_READY;
	if (docs_meta_get(d, t, DOCS_META_BUILD, x->id, &row) < 0 ||
		docs_usage_get(d, t, x->coll_id, &u) < 0)
		return 0;
	r = (struct mno_reader){
		(const uint8_t *)row.data, (const uint8_t *)row.data + row.len, false};
	done = mno_read_varint(&r);
	return u.docs && done < u.docs ? (double)done / (double)u.docs : 0.99;
}

int mno_docs_index_each(struct mno_docs *d, const char *ns, const char *coll,
	int (*fn)(void *arg, const struct mno_doc_index *x), void *arg)
{
	_cleanup_(docs_cat_unref_p)
	struct docs_cat *c = NULL;
	double progress[MNO_DOC_INDEX_MAX] = {0};
	struct docs_cat_coll *k = NULL;
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_cat_get(d, t, &c);
	if (r == 0) {
		k = docs_cat_coll(c, ns, coll);
		r = k ? 0 : -ENOENT;
	}
	for (unsigned i = 0; r == 0 && i < k->n_idx; i++)
		progress[i] = progress_of(d, t, k->idx[i]);
	mno_read_end(d->e, t);
	for (unsigned i = 0; r == 0 && i < k->n_idx; i++) {
		const struct docs_cat_index *x = k->idx[i];
		struct mno_doc_index def = {.name = x->name,
			.path = x->path_text,
			.type = x->type,
			.unique = x->unique,
			.multi = x->multi,
			.secret = x->secret,
			.state = x->state,
			.progress = progress[i],
			.error = x->error[0] ? x->error : NULL};

		r = fn(arg, &def);
	}
	return r;
}
