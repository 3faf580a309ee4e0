/* SPDX-License-Identifier: Apache-2.0 */
/* One document to another form, and all of them in steps of a few milliseconds. */
#include <errno.h>
#include <string.h>
#include "form.h"
#include "mno/err.h"
#include "mno/time.h"

#define STEP_DOCS 4096u /* in one transaction */
#define LOOK_BACK 16u   /* of so many documents one is read again before it is committed */

#define ROW_STORE(id, f, t, n)
#define MIGRATION(id, f, t, scope, n) ROW_##scope(id, f, t, n)
#define ROW_DOCS(id, f, t, n)         extern const struct docs_migration migration_##id;
#include "../migrate/migrations.def"
#undef ROW_DOCS
static const struct {
	unsigned from, to;
	const char *name;
	const struct docs_migration *f;
} rows[] = {
#define ROW_DOCS(id, f, t, n) {f, t, n, &migration_##id},
#include "../migrate/migrations.def"
#undef ROW_DOCS
};
#undef MIGRATION
#undef ROW_STORE
_Static_assert(ARRAY_SIZE(rows) == DOCS_FORM - DOCS_FORM_1, "one row for each form but the first");

const char *form_name(unsigned form)
{
	return form && form < DOCS_FORM ? rows[form - DOCS_FORM_1].name : "";
}

/* --- one document ---------------------------------------------------------------------------------- */

static bool unreadable(int r)
{
	return r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY;
}

/* *@ret points into @out. */
static int read_doc(struct pass *q, enum mno_db db, struct docs_head *h, struct mno_buf *out,
	struct mno_doc *ret)
{
	struct mno_docs *d = q->t->d;
	MDB_val k = {q->len, (void *)q->key}, v;
	int r = mno_lmdb_error(mdb_get(q->t->t, d->e->dbi[db], &k, &v));

	if (r == 0)
		r = docs_seal_open(d, db, q->key, q->len, v.mv_data, v.mv_size, h, out);
	return r < 0 ? r : docs_doc_read(h, out, ret);
}

static int put_payload(struct pass *q, enum mno_db db, const struct docs_head *h,
	const struct mno_buf *payload, size_t *ret_stored)
{
	return docs_seal_put(q->t->d, q->t->t, db, q->key, q->len, h, payload->data, payload->len,
		0, ret_stored);
}

/* The document in another form. */
static int replace(struct pass *q, const struct docs_head *h, const struct mno_buf *payload)
{
	size_t stored = 0;
	int r = put_payload(q, MNO_DB_DOC, h, payload, &stored);
	int64_t by = (int64_t)stored - (int64_t)q->stored;

	if (r == 0)
		r = docs_txn_usage(q->t, q->coll->id, 0, by);
	return r < 0 ? r : docs_txn_usage(q->t, q->coll->ns->id, 0, by);
}

static bool same(const struct mno_doc *a, const struct mno_doc *b)
{
	return a->version == b->version && a->kind == b->kind && a->created_ms == b->created_ms &&
	       a->updated_ms == b->updated_ms && a->revision == b->revision && a->len == b->len &&
	       !memcmp(a->value, b->value, a->len);
}

static int look_back(struct pass *q)
{
	struct docs_head h, old_h;
	struct mno_doc is, was;
	int r = read_doc(q, MNO_DB_DOC, &h, &q->value, &is);

	if (r == 0)
		r = read_doc(q, MNO_DB_DOC_OLD, &old_h, &q->other, &was);
	if (r < 0)
		return r == -ENOENT || unreadable(r) ? -MNO_ECORRUPT : r;
	return same(&is, &was) ? 0 : -MNO_ECORRUPT;
}

/* Through all forms between; the payload ends in q->value. */
static int convert(struct pass *q, unsigned from, unsigned to)
{
	struct docs_head h = q->head;
	int r = 0;

	while (from != to && r == 0) {
		const struct docs_migration *f = rows[MNO_MIN(from, to) - DOCS_FORM_1].f;
		struct mno_buf swap;

		h.form = (uint8_t)from;
		r = (from < to ? f->forth : f->back)(&h, &q->value, &q->other);
		swap = q->value;
		q->value = q->other;
		q->other = swap;
		from += from < to ? 1 : -1u;
	}
	return r;
}

int form_copy_doc(struct pass *q)
{
	unsigned to = (unsigned)q->p->v[F_TO];
	struct docs_head h = q->head;
	struct mno_doc doc;
	int r;

	if (q->head.form >= to)
		return 0;
	r = read_doc(q, MNO_DB_DOC, &h, &q->value, &doc);
	if (unreadable(r)) {
		q->p->v[F_DAMAGED]++;
		return 0;
	}
	if (r == 0)
		r = put_payload(q, MNO_DB_DOC_OLD, &h, &q->value, NULL);
	if (r == 0)
		r = convert(q, h.form, to);
	h.form = (uint8_t)to;
	if (r == 0)
		r = replace(q, &h, &q->value);
	return r == 0 && q->p->v[F_DONE] % LOOK_BACK == 0 ? look_back(q) : r;
}

int form_check_doc(struct pass *q)
{
	MDB_val k = {q->len, (void *)q->key}, v;
	int r;

	q->p->v[F_STALE] += q->head.form < q->p->v[F_TO];
	r = mno_lmdb_error(mdb_get(q->t->t, q->t->d->e->dbi[MNO_DB_DOC_OLD], &k, &v));
	return r == 0 ? look_back(q) : r == -ENOENT ? 0 : r;
}

int form_undo_doc(struct pass *q)
{
	unsigned from = (unsigned)q->p->v[F_FROM];
	struct docs_head h = q->head, old_h;
	struct mno_doc doc;
	int r;

	if (q->head.form <= from)
		return 0;
	r = read_doc(q, MNO_DB_DOC_OLD, &old_h, &q->other, &doc);
	if (r == 0 && old_h.number == h.number) {
		r = replace(q, &old_h, &q->other);
	} else {
		r = read_doc(q, MNO_DB_DOC, &h, &q->value, &doc);
		if (unreadable(r)) {
			q->p->v[F_DAMAGED]++;
			return 0;
		}
		if (r == 0)
			r = convert(q, h.form, from);
		h.form = (uint8_t)from;
		if (r == 0)
			r = replace(q, &h, &q->value);
	}
	return r < 0 ? r : docs_form_forget(q->t, q->key, q->len);
}

int docs_form_forget(struct mno_docs_txn *t, const uint8_t *key, size_t klen)
{
	MDB_val k = {klen, (void *)key};
	int r = mno_lmdb_error(mdb_del(t->t, t->d->e->dbi[MNO_DB_DOC_OLD], &k, NULL));

	return r == -ENOENT ? 0 : r;
}

/* --- a step ---------------------------------------------------------------------------------------- */

static struct docs_cat_coll *coll_of(const struct docs_cat *c, uint32_t id)
{
	size_t a = 0, b = c->n_coll; /* by id */

	while (a < b) {
		size_t m = a + (b - a) / 2;

		if (c->coll[m].id < id)
			a = m + 1;
		else
			b = m;
	}
	return a < c->n_coll && c->coll[a].id == id && !c->coll[a].dropping ? &c->coll[a] : NULL;
}

static int one_doc(struct pass *q, int (*fn)(struct pass *q), const MDB_val *v)
{
	int r = docs_seal_peek(v->mv_data, v->mv_size, &q->head);

	q->stored = v->mv_size;
	q->p->v[F_DONE]++;
	if (q->len < 5)
		return 0;
	if (!q->coll || q->coll->id != mno_get_be32(q->key))
		q->coll = coll_of(q->t->cat, mno_get_be32(q->key));
	if (!q->coll) /* it is being emptied */
		return 0;
	if (r < 0 && q->p->v[F_STAGE] != MNO_DOCS_FORM_UNDOING) {
		q->p->v[q->p->v[F_STAGE] == MNO_DOCS_FORM_COPYING ? F_DAMAGED : F_STALE]++;
		return 0;
	}
	if (r < 0) /* what it was may be there */
		q->head = (struct docs_head){.form = (uint8_t)q->p->v[F_TO]};
	return fn(q);
}

int form_walk(struct pass *q, int (*fn)(struct pass *q))
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + DOCS_STEP_NS;
	unsigned most = q->t->d->opts.form_step ?: STEP_DOCS;
	struct place *p = q->p;
	MDB_cursor *cur;
	MDB_val k, v;
	int rc = 0, r = mno_lmdb_error(mdb_cursor_open(q->t->t, q->t->d->e->dbi[MNO_DB_DOC], &cur));

	if (r < 0)
		return r;
	for (unsigned n = 0; r == 0; n++) {
		k = (MDB_val){p->len, p->key};
		rc = p->len ? mno_cursor_seek(cur, MNO_SEEK_GT, &k, &v)
			    : mdb_cursor_get(cur, &k, &v, MDB_FIRST);
		if (rc)
			break;
		r = n == most || (n && mno_now_ns(CLOCK_MONOTONIC) > end) ? 1
		    : k.mv_size > sizeof(p->key)                          ? -MNO_ECORRUPT
									  : 0;
		if (r)
			break;
		memcpy(p->key, k.mv_data, k.mv_size);
		p->len = k.mv_size;
		q->key = p->key;
		q->len = p->len;
		r = one_doc(q, fn, &v);
	}
	mdb_cursor_close(cur);
	return rc && rc != MDB_NOTFOUND ? mno_lmdb_error(rc) : r;
}

int form_clear(struct pass *q)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + DOCS_STEP_NS;
	unsigned most = q->t->d->opts.form_step ?: STEP_DOCS;
	MDB_cursor *cur;
	MDB_val k, v;
	int rc, r = mno_lmdb_error(mdb_cursor_open(q->t->t, q->t->d->e->dbi[MNO_DB_DOC_OLD], &cur));

	if (r < 0)
		return r;
	for (unsigned n = 0; (rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST)) == 0; n++) {
		if (n == most || mno_now_ns(CLOCK_MONOTONIC) > end)
			break;
		rc = mdb_cursor_del(cur, 0);
		q->p->v[F_DONE]++;
		if (rc)
			break;
	}
	mdb_cursor_close(cur);
	if (rc && rc != MDB_NOTFOUND)
		return mno_lmdb_error(rc);
	return rc == 0;
}
