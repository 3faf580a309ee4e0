/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "find.h"
#include "mno/err.h"

#define PROBE_MAX 128u /* entries counted to compare plans */

/* Bounds of what has the type of a value. */
static const struct {
	uint8_t from, to;
} classes[] = {
	[MNO_DOC_NULL] = {DOCS_TAG_NULL, DOCS_TAG_NULL + 1},
	[MNO_DOC_FALSE] = {DOCS_TAG_FALSE, DOCS_TAG_TRUE + 1},
	[MNO_DOC_TRUE] = {DOCS_TAG_FALSE, DOCS_TAG_TRUE + 1},
	[MNO_DOC_NUMBER] = {DOCS_TAG_NUMBER, DOCS_TAG_NUMBER + 1},
	[MNO_DOC_STRING] = {DOCS_TAG_STRING, DOCS_TAG_STRING + 1},
};

static void set_from(struct docs_range *r, const void *p, size_t n)
{
	r->from_len = MNO_MIN(n, (size_t)DOCS_KEY_MAX);
	memcpy(r->from, p, r->from_len);
}

static void set_to(struct docs_range *r, const void *p, size_t n)
{
	r->to_len = MNO_MIN(n, (size_t)DOCS_KEY_MAX);
	memcpy(r->to, p, r->to_len);
}

/* All that begins with @p. */
static void set_prefix(struct docs_range *r, const void *p, size_t n)
{
	set_from(r, p, n);
	set_to(r, p, n);
	if (!docs_bytes_after(r->to, &r->to_len))
		r->to_len = 0;
}

static void range_equal(
	const struct docs_cat_index *x, const struct docs_match_cond *c, struct docs_range *r)
{
	struct docs_key k;

	if (x->secret)
		docs_key_secret(&k, x->key, c->enc.data, c->enc.len);
	else
		docs_key_make(&k, c->enc.data, c->enc.len);
	set_prefix(r, k.b, k.len);
}

/* Longer values than the prefix are in it by that: the document decides. */
static void range_compare(const struct docs_match_cond *c, struct docs_range *r)
{
	size_t n = MNO_MIN(c->enc.len, (size_t)DOCS_KEY_PREFIX);

	if (c->c.cmp == MNO_DOC_GT || c->c.cmp == MNO_DOC_GE) {
		set_from(r, c->enc.data, n);
		set_to(r, &classes[c->c.type].to, 1);
		return;
	}
	set_prefix(r, c->enc.data, n);
	set_from(r, &classes[c->c.type].from, 1);
}

static uint64_t probe(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x,
	const struct docs_range *r, uint64_t max)
{
	uint8_t from[4 + DOCS_KEY_MAX];
	MDB_val k = {4 + r->from_len, from}, v;
	MDB_cursor *cur;
	uint64_t n = 0;
	int rc;

	mno_be32(from, x->id);
	memcpy(from + 4, r->from, r->from_len);
	if (mdb_cursor_open(t, d->e->dbi[x->unique ? MNO_DB_DOC_UNIQ : MNO_DB_DOC_IDX], &cur))
		return max;
	for (rc = mdb_cursor_get(cur, &k, &v, MDB_SET_RANGE); rc == 0 && n < max; n++) {
		if (memcmp(k.mv_data, from, 4) ||
			(r->to_len && docs_bytes_compare((uint8_t *)k.mv_data + 4, k.mv_size - 4,
					      r->to, r->to_len) >= 0))
			break;
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cur);
	return n;
}

/* The rarest word of an alternative; false when none can be looked up. */
static bool range_words(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x,
	const struct docs_groups *q, unsigned g, const uint8_t *forced, struct docs_range *ret,
	uint8_t *ret_term)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < q->g[g].n; i++) {
		const struct docs_term *w = &q->g[g].terms[i];
		struct docs_range r = {.from_len = 0};
		struct docs_key k;
		uint64_t n;

		if ((x->secret && w->prefix) || (forced && *forced != i))
			continue;
		if (x->secret)
			docs_key_secret(&k, x->key, w->word, w->n);
		else
			docs_key_word(&k, w->word, w->n, !w->prefix);
		set_prefix(&r, k.b, k.len);
		n = probe(d, t, x, &r, PROBE_MAX);
		if (n < best) {
			best = n;
			*ret = r;
			*ret_term = (uint8_t)i;
		}
	}
	return best != UINT64_MAX;
}

static bool plan_words(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x,
	const struct docs_match_cond *c, const struct docs_choice *forced, struct docs_plan *p)
{
	if (x->type != MNO_DOC_FULLTEXT || c->c.cmp != MNO_DOC_WORDS)
		return false;
	for (p->n = 0; p->n < c->groups->n; p->n++)
		if (!range_words(d, t, x, c->groups, p->n, forced ? &forced->term[p->n] : NULL,
			    &p->r[p->n], &p->by.term[p->n]))
			return false;
	return true;
}

static bool plan_ordered(
	const struct docs_cat_index *x, const struct docs_match_cond *c, struct docs_plan *p)
{
	if (x->type != MNO_DOC_ORDERED || (x->secret && c->c.cmp != MNO_DOC_EQ))
		return false;
	p->n = 1;
	switch (c->c.cmp) {
	case MNO_DOC_EQ:
		range_equal(x, c, &p->r[0]);
		return true;
	case MNO_DOC_LT:
	case MNO_DOC_LE:
	case MNO_DOC_GT:
	case MNO_DOC_GE:
		range_compare(c, &p->r[0]);
		return true;
	case MNO_DOC_PREFIX: /* without the end mark of a string */
		set_prefix(&p->r[0], c->enc.data, MNO_MIN(c->enc.len - 2, (size_t)DOCS_KEY_PREFIX));
		return true;
	case MNO_DOC_EXISTS:
		p->r[0].from_len = p->r[0].to_len = 0;
		return true;
	default:
		return false;
	}
}

static bool same_path(const struct docs_path *a, const struct docs_path *b)
{
	return a->n == b->n && !memcmp(a->off, b->off, (a->n + 1u) * sizeof(a->off[0])) &&
	       !memcmp(a->text, b->text, a->off[a->n]);
}

static bool plan_for(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x,
	const struct docs_match_cond *c, const struct docs_choice *forced, struct docs_plan *p)
{
	*p = (struct docs_plan){.x = x};
	if (!same_path(&x->path, &c->path) ||
		!(plan_words(d, t, x, c, forced, p) || plan_ordered(x, c, p)))
		return false;
	for (unsigned i = 0; i < p->n && p->cost < PROBE_MAX; i++)
		p->cost += probe(d, t, x, &p->r[i], PROBE_MAX - p->cost);
	return true;
}

/* Other conditions on the same path cut the range from both sides, where there is one value. */
static void narrow(const struct docs_cat_index *x, const struct docs_match *m, unsigned but,
	struct docs_plan *p)
{
	struct docs_range *r = &p->r[0];

	for (unsigned k = 0; k < m->n && !x->multi && x->type == MNO_DOC_ORDERED; k++) {
		struct docs_plan o = {.n = 0};
		struct docs_range *b = &o.r[0];

		if (k == but || !same_path(&x->path, &m->v[k].path) ||
			!plan_ordered(x, &m->v[k], &o))
			continue;
		if (docs_bytes_compare(b->from, b->from_len, r->from, r->from_len) > 0)
			set_from(r, b->from, b->from_len);
		if (b->to_len &&
			(!r->to_len || docs_bytes_compare(b->to, b->to_len, r->to, r->to_len) < 0))
			set_to(r, b->to, b->to_len);
	}
}

int docs_plan_make(struct mno_docs *d, MDB_txn *t, const struct docs_cat_coll *c,
	const struct docs_match *m, const struct docs_choice *forced, struct docs_plan *ret,
	const struct docs_cat_index **ret_building)
{
	struct docs_plan p, best = {.cost = UINT64_MAX};

	*ret_building = NULL;
	for (unsigned i = 0; i < c->n_idx && (!forced || forced->index); i++)
		for (unsigned k = 0; k < m->n; k++) {
			const struct docs_cat_index *x = c->idx[i];

			if ((forced && (forced->index != x->id || forced->cond != k)) ||
				!plan_for(d, t, x, &m->v[k], forced, &p))
				continue;
			if (x->state == MNO_DOC_INDEX_BUILDING)
				*ret_building = x;
			if (x->state != MNO_DOC_INDEX_READY || p.cost >= best.cost)
				continue;
			p.pos = i;
			p.cond = k;
			p.by.index = x->id;
			p.by.cond = (uint8_t)k;
			narrow(x, m, k, &p);
			best = p;
		}
	if (forced && forced->index && !best.x)
		return -MNO_EGONE;
	if (best.x)
		*ret_building = NULL;
	*ret = best;
	return 0;
}
