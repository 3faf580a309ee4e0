/* SPDX-License-Identifier: Apache-2.0 */
/* Queries: candidates from an index or from all documents, each looked at before it is given. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "find.h"
#include "mno/err.h"
#include "mno/time.h"

#define SLICE_NS    (50 * NS_PER_MS)
#define LOOK_EVERY  16u /* candidates between looks at the clock */
#define LIMIT_DEF   100u
#define MAX_NS_DEF  (10 * NS_PER_SEC)
#define ARENA_MAX   (1u << 20)
#define CURSOR_VER  2
#define CURSOR_HEAD (16u + DOCS_GROUPS_MAX)

struct place {                 /* where to go on: after this key of a range */
	struct docs_choice by; /* as it was decided */
	uint8_t group;
	bool set;       /* false: from the start of the group */
	uint64_t query; /* that it belongs to */
	uint16_t len;
	uint8_t key[DOCS_IDX_LEN];
};

struct find {
	struct mno_docs *d;
	const struct mno_docs_query *q;
	int (*fn)(void *arg, const struct mno_doc *doc);
	void *arg;
	struct docs_match m;
	struct docs_plan plan;
	struct docs_entries entries;
	struct mno_buf value;
	struct place at;
	bool planned; /* at.by is decided */
	size_t limit;
	struct mno_docs_found found;
};

/* --- cursors -------------------------------------------------------------------------------------- */

static int place_read(const char *s, struct place *ret)
{
	_cleanup_buf_ struct mno_buf b = {.max = 1024};
	const uint8_t *p;

	if (strlen(s) >= MNO_DOC_CURSOR_MAX || mno_base64_read(s, strlen(s), &b) < 0 ||
		b.len < CURSOR_HEAD)
		return -EINVAL;
	p = (const uint8_t *)b.data;
	ret->by.index = mno_get_be32(p + 1);
	ret->by.cond = p[5];
	memcpy(ret->by.term, p + 6, DOCS_GROUPS_MAX);
	p += 6 + DOCS_GROUPS_MAX;
	ret->group = p[0];
	ret->set = p[1];
	ret->len = (uint16_t)(b.len - CURSOR_HEAD);
	if (b.data[0] != CURSOR_VER || ret->len > sizeof(ret->key) ||
		ret->group >= DOCS_GROUPS_MAX || (ret->set && !ret->len))
		return -EINVAL;
	memcpy(&ret->query, p + 2, 8);
	memcpy(ret->key, p + 10, ret->len);
	return 0;
}

static int place_write(const struct place *at, char *ret)
{
	_cleanup_buf_ struct mno_buf text = {0};
	uint8_t b[CURSOR_HEAD + DOCS_IDX_LEN] = {CURSOR_VER}, *p = b + 6 + DOCS_GROUPS_MAX;

	mno_be32(b + 1, at->by.index);
	b[5] = at->by.cond;
	memcpy(b + 6, at->by.term, DOCS_GROUPS_MAX);
	p[0] = at->group;
	p[1] = at->set;
	memcpy(p + 2, &at->query, 8);
	memcpy(p + 10, at->key, at->len);
	mno_base64_add(&text, b, (size_t)CURSOR_HEAD + at->len, true);
	if (text.err || text.len >= MNO_DOC_CURSOR_MAX)
		return text.err ?: -E2BIG;
	memcpy(ret, text.data, text.len);
	ret[text.len] = 0;
	return 0;
}

static void add_part(struct mno_buf *b, const void *p, size_t n)
{
	mno_varint_add(b, n);
	mno_buf_add(b, p, n);
}

/* A number of the query: all that decides which documents it finds. */
static int query_sum(const struct mno_docs *d, const struct mno_docs_query *q, uint64_t *ret)
{
	_cleanup_buf_ struct mno_buf b = {0};

	add_part(&b, q->ns ?: "", strlen(q->ns ?: ""));
	add_part(&b, q->coll ?: "", strlen(q->coll ?: ""));
	for (size_t i = 0; i < q->n_conds; i++) {
		const struct mno_doc_cond *c = &q->conds[i];

		add_part(&b, c->path, strlen(c->path));
		mno_buf_addc(&b, (char)c->cmp);
		mno_buf_addc(&b, (char)c->type);
		add_part(&b, c->text, c->len);
	}
	*ret = b.err ? 0 : docs_sum(d, b.data, b.len);
	return b.err;
}

/* --- candidates ------------------------------------------------------------------------------------ */

struct candidate {
	const uint8_t *v; /* encoded value in the index; NULL: of a scan */
	size_t vlen;
	const uint8_t *id;
	size_t id_len;
};

/* Takes an entry apart and checks that it is whole. */
static int read_entry(
	const struct find *f, const MDB_val *k, const MDB_val *v, struct candidate *ret)
{
	const uint8_t *key = k->mv_data, *val = v->mv_data;
	uint8_t whole[DOCS_IDX_LEN];
	uint64_t sum;
	size_t n;

	if (!f->plan.x->unique) {
		n = k->mv_size > 5 ? key[k->mv_size - 1] + 1u : 0;
		if (!n || v->mv_size != sizeof(sum) || k->mv_size < 6 + n)
			return -MNO_ECORRUPT;
		*ret = (struct candidate){key + 4, k->mv_size - 5 - n, key + k->mv_size - 1 - n, n};
		memcpy(&sum, val, sizeof(sum));
		return sum == docs_sum(f->d, key, k->mv_size) ? 0 : -MNO_ECORRUPT;
	}
	n = v->mv_size > DOCS_SUM ? v->mv_size - DOCS_SUM : 0;
	if (!n || n > MNO_DOC_ID_MAX || k->mv_size < 5 || k->mv_size > 4 + DOCS_KEY_MAX)
		return -MNO_ECORRUPT;
	*ret = (struct candidate){key + 4, k->mv_size - 4, val, n};
	memcpy(whole, key, k->mv_size);
	memcpy(whole + k->mv_size, val, n);
	whole[k->mv_size + n] = (uint8_t)(n - 1);
	memcpy(&sum, val + n, sizeof(sum));
	return sum == docs_sum(f->d, whole, k->mv_size + n + 1) ? 0 : -MNO_ECORRUPT;
}

static bool in_range(const struct docs_range *r, const uint8_t *v, size_t n)
{
	return docs_bytes_compare(v, n, r->from, r->from_len) >= 0 &&
	       (!r->to_len || docs_bytes_compare(v, n, r->to, r->to_len) < 0);
}

/*
 * A document with several values in the range comes once, at the first of them; with several
 * alternatives in the first that holds. 1 yes, 0 not here, -MNO_ECORRUPT: it has no such value.
 */
static int is_turn(struct find *f, const struct docs_cat_coll *c, const struct candidate *can,
	const struct mno_doc *doc)
{
	const struct docs_cat_index *x = f->plan.x;
	const struct docs_range *range = &f->plan.r[f->at.group];
	int r;

	if (x->type == MNO_DOC_FULLTEXT && docs_match_group(&f->m.v[f->plan.cond]) != f->at.group)
		return 0;
	r = docs_entries_read(&f->entries, c, f->plan.pos, doc->kind, doc->value, doc->len, NULL);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->entries.n; i++) {
		const uint8_t *v = docs_entry_bytes(&f->entries, i);
		size_t n = f->entries.v[i].len;

		if (in_range(range, v, n))
			return !docs_bytes_compare(v, n, can->v, can->vlen);
	}
	return -MNO_ECORRUPT;
}

/* 1: given, 0: does not fit, -MNO_ECORRUPT counted; other results of fn come with *@ret_stop. */
static int try_candidate(struct find *f, MDB_txn *t, const struct docs_cat_coll *c,
	const struct candidate *can, const MDB_val *val, int *ret_stop)
{
	uint8_t key[DOCS_KEY_LEN];
	MDB_val k = {docs_key(key, c->id, can->id, can->id_len), key}, v = {0};
	struct docs_head h;
	struct mno_doc doc;
	int r = 0;

	if (val)
		v = *val;
	else
		r = mno_lmdb_error(mdb_get(t, f->d->e->dbi[MNO_DB_DOC], &k, &v));
	if (r == -ENOENT)
		return -MNO_ECORRUPT; /* an entry without document */
	if (r == 0)
		r = docs_seal_open(
			f->d, MNO_DB_DOC, key, k.mv_size, v.mv_data, v.mv_size, &h, &f->value);
	if (r == 0)
		r = docs_doc_read(&h, &f->value, &doc);
	if (r == 0)
		r = docs_match_test(&f->m, doc.kind, doc.value, doc.len);
	if (r == 1 && can->v)
		r = is_turn(f, c, can, &doc);
	if (r != 1)
		return r;
	doc.id = key + 4;
	doc.id_len = can->id_len;
	if (f->q->keys_only)
		doc.value = NULL;
	f->found.n++;
	*ret_stop = f->fn(f->arg, &doc);
	return 1;
}

/* --- slices ----------------------------------------------------------------------------------------- */

/* First key to look at: of the range, or after where the last slice ended. */
static int seek(struct find *f, MDB_cursor *cur, uint32_t id, MDB_val *k, MDB_val *v)
{
	uint8_t from[4 + DOCS_IDX_LEN];
	const struct docs_range *r = &f->plan.r[f->at.group];

	mno_be32(from, id);
	*k = (MDB_val){4, from};
	if (f->at.set) {
		memcpy(from + 4, f->at.key, f->at.len);
		k->mv_size += f->at.len;
		if (k->mv_size > 511)
			return MDB_NOTFOUND;
		return mno_cursor_seek(cur, MNO_SEEK_GT, k, v);
	}
	if (f->plan.x) {
		memcpy(from + 4, r->from, r->from_len);
		k->mv_size += r->from_len;
	}
	return mno_cursor_seek(cur, MNO_SEEK_GE, k, v);
}

static bool inside(const struct find *f, uint32_t id, const MDB_val *k)
{
	const struct docs_range *r = &f->plan.r[f->at.group];
	const uint8_t *key = k->mv_data;

	if (k->mv_size < 5 || mno_get_be32(key) != id)
		return false;
	return !f->plan.x || !r->to_len ||
	       docs_bytes_compare(key + 4, k->mv_size - 4, r->to, r->to_len) < 0;
}

/* 0: the range is done; 1: the slice or the limit is; or an error, or what fn returned (@stop). */
static int walk(struct find *f, MDB_txn *t, const struct docs_cat_coll *c, MDB_cursor *cur,
	uint64_t end_ns, int *ret_stop)
{
	uint32_t id = f->plan.x ? f->plan.x->id : c->id;
	MDB_val k, v;
	int rc = seek(f, cur, id, &k, &v), r;

	for (unsigned n = 1; rc == 0 && inside(f, id, &k); n++) {
		struct candidate can = {.id = (uint8_t *)k.mv_data + 4, .id_len = k.mv_size - 4};

		if (f->found.n >= f->limit ||
			(n % LOOK_EVERY == 0 && mno_now_ns(CLOCK_MONOTONIC) > end_ns))
			return 1;
		r = f->plan.x                      ? read_entry(f, &k, &v, &can)
		    : can.id_len <= MNO_DOC_ID_MAX ? 0
						   : -MNO_ECORRUPT;
		if (r == 0)
			r = try_candidate(f, t, c, &can, f->plan.x ? NULL : &v, ret_stop);
		f->found.scanned++;
		f->found.damaged += r == -MNO_ECORRUPT;
		if (r < 0 && r != -MNO_ECORRUPT)
			return r;
		f->at.set = true;
		f->at.len = (uint16_t)(k.mv_size - 4);
		memcpy(f->at.key, (uint8_t *)k.mv_data + 4, f->at.len);
		if (*ret_stop)
			return 1;
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	return rc && rc != MDB_NOTFOUND ? mno_lmdb_error(rc) : 0;
}

static int make_plan(struct find *f, MDB_txn *t, const struct docs_cat_coll *c)
{
	const struct docs_cat_index *building;
	int r = docs_plan_make(
		f->d, t, c, &f->m, f->planned ? &f->at.by : NULL, &f->plan, &building);

	if (r < 0)
		return r;
	if (f->plan.x && f->at.group >= f->plan.n)
		return -EINVAL;
	f->planned = true;
	f->at.by = f->plan.by;
	snprintf(f->found.index, sizeof(f->found.index), "%s", f->plan.x ? f->plan.x->name : "");
	return building ? 1 : 0;
}

/* One read transaction. 0: all done, 1: there is more, or an error. */
static int slice(struct find *f, MDB_txn *t, const struct docs_cat *cat, int *ret_stop)
{
	const struct docs_cat_coll *c = docs_cat_coll(cat, f->q->ns, f->q->coll);
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + SLICE_NS;
	enum mno_db db = MNO_DB_DOC;
	MDB_cursor *cur;
	int r;

	if (!c)
		return -ENOENT;
	r = make_plan(f, t, c);
	if (r < 0)
		return r;
	f->found.building = r ? 0 : -1;
	if (f->plan.x)
		db = f->plan.x->unique ? MNO_DB_DOC_UNIQ : MNO_DB_DOC_IDX;
	r = mno_lmdb_error(mdb_cursor_open(t, f->d->e->dbi[db], &cur));
	if (r < 0)
		return r;
	r = walk(f, t, c, cur, end, ret_stop);
	while (r == 0 && f->plan.x && f->at.group + 1u < f->plan.n) {
		f->at.group++;
		f->at.set = false;
		f->at.len = 0;
		r = walk(f, t, c, cur, end, ret_stop);
	}
	mdb_cursor_close(cur);
	return r;
}

static int take_building(void *arg, const struct mno_doc_index *x)
{
	double *p = arg;

	if (x->state == MNO_DOC_INDEX_BUILDING && (*p <= 0 || x->progress < *p))
		*p = x->progress;
	return 0;
}

static int run(struct find *f, struct mno_docs_error *err)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + (f->q->max_ns ?: MAX_NS_DEF);
	int r = 1, stop = 0;

	while (r == 1 && !stop && f->found.n < f->limit && mno_now_ns(CLOCK_MONOTONIC) < end) {
		struct docs_cat *cat;
		MDB_txn *t;

		r = mno_read_begin(f->d->e, &t);
		if (r < 0)
			return r;
		r = docs_cat_get(f->d, t, &cat);
		if (r == 0) {
			r = slice(f, t, cat, &stop);
			f->plan.x = NULL; /* belongs to @cat */
			docs_cat_unref(cat);
		}
		mno_read_end(f->d->e, t);
	}
	if (r == -MNO_EGONE)
		return docs_fail(
			err, -EINVAL, "the index of this cursor is gone: ask again without cursor");
	if (r == -ENOENT)
		return docs_fail(err, r, "there is no collection %.64s in namespace %.64s",
			f->q->coll, f->q->ns);
	if (r < 0)
		return r;
	if (r == 1 && place_write(&f->at, f->found.cursor) < 0)
		return -ENOMEM;
	return stop;
}

int mno_docs_find(struct mno_docs *d, const struct mno_docs_query *q,
	int (*fn)(void *arg, const struct mno_doc *doc), void *arg, struct mno_docs_found *ret,
	struct mno_docs_error *err)
{
	_cleanup_(mno_arena_free_p)
	struct mno_arena *a = NULL;
	_cleanup_free_ struct find *f = calloc(1, sizeof(*f));
	uint64_t sum;
	int r = f ? mno_arena_new(ARENA_MAX, &a) : -ENOMEM;

	if (err)
		*err = (struct mno_docs_error){0};
	if (r < 0)
		return r;
	f->d = d;
	f->q = q;
	f->fn = fn;
	f->arg = arg;
	f->limit = q->limit ?: LIMIT_DEF;
	r = query_sum(d, q, &sum);
	if (r < 0)
		return r;
	if (q->cursor && *q->cursor) {
		f->planned = true;
		if (place_read(q->cursor, &f->at) < 0)
			return docs_fail(err, -EINVAL, "this is no cursor of an earlier answer");
		if (f->at.query != sum)
			return docs_fail(err, -EINVAL,
				"this cursor is of another query: give it with the same namespace, "
				"collection and conditions, or ask again without cursor");
	}
	f->at.query = sum;
	r = docs_match_new(a, q->conds, q->n_conds, &f->m, err);
	if (r == 0)
		r = run(f, err);
	if (r >= 0 && f->found.building >= 0)
		mno_docs_index_each(d, q->ns, q->coll, take_building, &f->found.building);
	if (r >= 0)
		*ret = f->found;
	if (r >= 0 || f->found.scanned)
		atomic_fetch_add_explicit(&d->finds, 1, memory_order_relaxed);
	docs_match_done(&f->m);
	docs_entries_done(&f->entries);
	mno_buf_done(&f->value);
	return r;
}
