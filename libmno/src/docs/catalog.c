/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue in memory: read whole from DOC_META, never changed, replaced when the number of
 * its state in the store is another. So a reader has the one that fits its snapshot.
 */
#include <errno.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"

struct docs_cat *docs_cat_unref(struct docs_cat *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return NULL;
	mno_map_free(c->by_name, NULL);
	free(c->ns);
	free(c->coll);
	free(c->idx);
	free(c);
	return NULL;
}

struct load {
	struct mno_docs *d;
	struct docs_cat *c;
	uint32_t *ns_ids; /* of collections */
	struct mno_buf row;
};

static int grow(void *pv, size_t n, size_t size, size_t max)
{
	void **v = pv, *p;

	if (n >= max)
		return -MNO_ECORRUPT;
	if (n & (n - 1)) /* there is room up to the next power of two */
		return 0;
	p = reallocarray(*v, n ? 2 * n : 1, size);
	if (!p)
		return -ENOMEM;
	*v = p;
	return 0;
}

static int load_ns(struct load *l, uint32_t id)
{
	struct docs_cat *c = l->c;
	int r = grow(&c->ns, c->n_ns, sizeof(*c->ns), MNO_DOC_NS_MAX);

	if (r < 0)
		return r;
	c->ns[c->n_ns] = (struct docs_cat_ns){.id = id};
	return docs_ns_read(&l->row, &c->ns[c->n_ns++]);
}

static int load_coll(struct load *l, uint32_t id)
{
	struct docs_cat *c = l->c;
	int r = grow(&c->coll, c->n_coll, sizeof(*c->coll), 2 * MNO_DOC_COLL_MAX);

	if (r == 0)
		r = grow(&l->ns_ids, c->n_coll, sizeof(*l->ns_ids), 2 * MNO_DOC_COLL_MAX);
	if (r < 0)
		return r;
	c->coll[c->n_coll] = (struct docs_cat_coll){.id = id};
	r = docs_coll_read(&l->row, &c->coll[c->n_coll], &l->ns_ids[c->n_coll]);
	c->n_coll++;
	return r;
}

static int load_index(struct load *l, uint32_t id)
{
	struct docs_cat *c = l->c;
	int r = grow(&c->idx, c->n_idx, sizeof(*c->idx), 2 * MNO_DOC_COLL_MAX * MNO_DOC_INDEX_MAX);

	if (r < 0)
		return r;
	c->idx[c->n_idx] = (struct docs_cat_index){.id = id};
	return docs_index_read(&l->row, &c->idx[c->n_idx++]);
}

static const struct {
	enum docs_meta_tag tag;
	int (*fn)(struct load *l, uint32_t id);
} loaders[] = {{DOCS_META_NS, load_ns}, {DOCS_META_COLL, load_coll}, {DOCS_META_INDEX, load_index}};

static int load_rows(struct load *l, MDB_txn *t)
{
	MDB_val k, v;
	MDB_cursor *cur;
	struct docs_head h;
	int rc, r = mno_lmdb_error(mdb_cursor_open(t, l->d->e->dbi[MNO_DB_DOC_META], &cur));

	if (r < 0)
		return r;
	for (rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST); rc == 0 && r == 0;
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) {
		const uint8_t *key = k.mv_data;

		for (size_t i = 0; i < ARRAY_SIZE(loaders) && r == 0; i++) {
			if (k.mv_size != 5 || key[0] != loaders[i].tag)
				continue;
			r = docs_seal_open(l->d, MNO_DB_DOC_META, key, k.mv_size, v.mv_data,
				v.mv_size, &h, &l->row);
			if (r == -MNO_ECORRUPT || r == -MNO_EVERSION) /* read only: not mended */
				r = docs_meta_get(l->d, t, docs_meta_copy(loaders[i].tag),
					mno_get_be32(key + 1), &l->row);
			if (r == 0)
				r = loaders[i].fn(l, mno_get_be32(key + 1));
		}
	}
	mdb_cursor_close(cur);
	return r < 0 || rc == MDB_NOTFOUND ? r : mno_lmdb_error(rc);
}

static size_t name_key(char *buf, const char *ns, const char *coll)
{
	size_t n = strlen(ns), k = coll ? strlen(coll) : 0;

	memcpy(buf, ns, n);
	if (!coll)
		return n;
	buf[n] = 0;
	memcpy(buf + n + 1, coll, k);
	return n + 1 + k;
}

static int by_id(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b; /* the id comes first */

	return (*x > *y) - (*x < *y);
}

static int link_colls(struct load *l)
{
	struct docs_cat *c = l->c;
	char key[2 * MNO_DOC_NAME_MAX + 2];
	int r = 0;

	for (size_t i = 0; i < c->n_coll && r == 0; i++) {
		struct docs_cat_coll *x = &c->coll[i];

		x->ns = c->n_ns ? bsearch(&l->ns_ids[i], c->ns, c->n_ns, sizeof(*c->ns), by_id)
				: NULL;
		if (!x->ns)
			return -MNO_ECORRUPT;
		if (!x->dropping)
			r = mno_map_put(
				c->by_name, key, name_key(key, x->ns->name, x->name), x, NULL);
	}
	for (size_t i = 0; i < c->n_ns && r == 0; i++)
		r = mno_map_put(c->by_name, c->ns[i].name, strlen(c->ns[i].name), &c->ns[i], NULL);
	return r;
}

static int link_indexes(struct docs_cat *c)
{
	for (int live = 1; live >= 0; live--)
		for (size_t i = 0; i < c->n_idx; i++) {
			struct docs_cat_index *x = &c->idx[i];
			struct docs_cat_coll *k = c->n_coll
							  ? bsearch(&x->coll_id, c->coll, c->n_coll,
								    sizeof(*c->coll), by_id)
							  : NULL;

			x->coll = k;
			if (x->state == MNO_DOC_INDEX_DROPPING ||
				live != (x->state != MNO_DOC_INDEX_FAILED))
				continue;
			if (!x->coll)
				return -MNO_ECORRUPT;
			if (k->n_idx == MNO_DOC_INDEX_MAX)
				return -MNO_ECORRUPT;
			k->paths[k->n_idx] = &x->path;
			k->idx[k->n_idx++] = x;
			k->live += (unsigned)live;
		}
	return 0;
}

static int load(struct mno_docs *d, MDB_txn *t, uint64_t gen, struct docs_cat **ret)
{
	_cleanup_(docs_cat_unref_p)
	struct docs_cat *c = calloc(1, sizeof(*c));
	struct load l = {.d = d, .c = c};
	int r = c ? mno_map_new(0, &c->by_name) : -ENOMEM;

	if (r < 0) {
		free(TAKE_PTR(c));
		return r;
	}
	c->refs = 1;
	c->gen = gen;
	r = load_rows(&l, t);
	if (r == 0)
		r = link_colls(&l);
	if (r == 0)
		r = link_indexes(c);
	free(l.ns_ids);
	mno_buf_done(&l.row);
	if (r == 0)
		*ret = TAKE_PTR(c);
	return r;
}

/* A snapshot that was seen before has the same state: its number need not be looked up again. */
static struct docs_cat *take_seen(struct mno_docs *d, MDB_txn *t)
{
	struct docs_cat *c = NULL;

	pthread_mutex_lock(&d->cat_lock);
	if (d->cat && d->cat_txn == mdb_txn_id(t)) {
		c = d->cat;
		c->refs++;
	}
	pthread_mutex_unlock(&d->cat_lock);
	return c;
}

static struct docs_cat *take_current(struct mno_docs *d, uint64_t gen)
{
	struct docs_cat *c = NULL;

	pthread_mutex_lock(&d->cat_lock);
	if (d->cat && d->cat->gen == gen) {
		c = d->cat;
		c->refs++;
	}
	pthread_mutex_unlock(&d->cat_lock);
	return c;
}

static void keep(struct mno_docs *d, struct docs_cat *c, size_t txn)
{
	struct docs_cat *old = NULL;

	pthread_mutex_lock(&d->cat_lock);
	if (d->cat != c) {
		old = d->cat;
		c->refs++;
		d->cat = c;
	}
	d->cat_txn = txn;
	pthread_mutex_unlock(&d->cat_lock);
	docs_cat_unref(old);
}

static int get(struct mno_docs *d, MDB_txn *t, size_t txn, struct docs_cat **ret)
{
	struct docs_cat *c;
	uint64_t gen;
	int r = docs_gen_get(d, t, &gen);

	if (r < 0)
		return r;
	c = take_current(d, gen);
	if (!c)
		r = load(d, t, gen, &c);
	if (r < 0)
		return r;
	keep(d, c, txn);
	*ret = c;
	return 0;
}

int docs_cat_get(struct mno_docs *d, MDB_txn *t, struct docs_cat **ret)
{
	*ret = take_seen(d, t);
	return *ret ? 0 : get(d, t, mdb_txn_id(t), ret);
}

int docs_cat_get_write(struct mno_docs *d, MDB_txn *t, struct docs_cat **ret)
{
	return get(d, t, 0, ret); /* what is not committed has no number of its own */
}

struct docs_cat_ns *docs_cat_ns(const struct docs_cat *c, const char *ns)
{
	return mno_map_get(c->by_name, ns, strlen(ns));
}

struct docs_cat_coll *docs_cat_coll(const struct docs_cat *c, const char *ns, const char *coll)
{
	char key[2 * MNO_DOC_NAME_MAX + 2];

	if (!ns || !coll || strnlen(ns, MNO_DOC_NAME_MAX + 1) > MNO_DOC_NAME_MAX ||
		strnlen(coll, MNO_DOC_NAME_MAX + 1) > MNO_DOC_NAME_MAX)
		return NULL;
	return mno_map_get(c->by_name, key, name_key(key, ns, coll));
}

struct docs_cat_index *docs_cat_index(const struct docs_cat_coll *c, const char *name)
{
	for (unsigned i = 0; i < c->n_idx; i++)
		if (!strcmp(c->idx[i]->name, name))
			return c->idx[i];
	return NULL;
}
