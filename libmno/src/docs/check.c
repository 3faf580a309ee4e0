/* SPDX-License-Identifier: Apache-2.0 */
/* Reads all there is and compares: values whole, indexes and documents agreed, counters right. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/time.h"
#include "mno/util.h"

#define SLICE_NS (50 * NS_PER_MS)

struct check {
	struct mno_docs *d;
	struct docs_cat *cat;
	void (*fn)(void *arg, const char *fault);
	void *arg;
	uint64_t end_ns, n, faults;
	uint64_t *expected, *entries; /* of cat->idx */
	struct docs_usage *colls;     /* of cat->coll: as counted */
	struct docs_entries e;
	struct mno_buf value;
};

static _printf_(2, 3) void fault(struct check *c, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->faults++;
	if (c->fn)
		c->fn(c->arg, text);
}

static bool has_entry(struct check *c, MDB_txn *t, const struct docs_cat_index *x, size_t i,
	const void *id, size_t id_len)
{
	uint8_t key[DOCS_IDX_LEN];
	size_t vlen = c->e.v[i].len;
	MDB_val k = {4 + vlen, key}, v;

	mno_be32(key, x->id);
	memcpy(key + 4, docs_entry_bytes(&c->e, i), vlen);
	if (x->unique)
		return mdb_get(t, c->d->e->dbi[MNO_DB_DOC_UNIQ], &k, &v) == 0 &&
		       v.mv_size == id_len + DOCS_SUM && !memcmp(v.mv_data, id, id_len);
	memcpy(key + 4 + vlen, id, id_len);
	key[4 + vlen + id_len] = (uint8_t)(id_len - 1);
	k.mv_size += id_len + 1;
	return mdb_get(t, c->d->e->dbi[MNO_DB_DOC_IDX], &k, &v) == 0;
}

static struct docs_cat_coll *coll_of(struct check *c, uint32_t id)
{
	for (size_t i = 0; i < c->cat->n_coll; i++)
		if (c->cat->coll[i].id == id)
			return &c->cat->coll[i];
	return NULL;
}

static void check_entries(
	struct check *c, MDB_txn *t, struct docs_cat_coll *coll, const struct mno_doc *doc)
{
	if (docs_entries_read(&c->e, coll, UINT_MAX, doc->kind, doc->value, doc->len, NULL) < 0) {
		fault(c, "%s/%s: a document is not of its kind", coll->ns->name, coll->name);
		return;
	}
	for (size_t i = 0; i < c->e.n; i++) {
		const struct docs_cat_index *x = coll->idx[c->e.v[i].index];

		if (x->state != MNO_DOC_INDEX_READY)
			continue;
		c->expected[x - c->cat->idx]++;
		if (!has_entry(c, t, x, i, doc->id, doc->id_len))
			fault(c, "%s/%s: a document is missing from index %s", coll->ns->name,
				coll->name, x->name);
	}
}

static void check_doc(struct check *c, MDB_txn *t, const MDB_val *k, const MDB_val *v)
{
	struct docs_cat_coll *coll = k->mv_size > 4 ? coll_of(c, mno_get_be32(k->mv_data)) : NULL;
	struct docs_head h;
	struct mno_doc doc;

	c->n++;
	if (!coll) {
		fault(c, "a document is in no collection");
		return;
	}
	if (coll->dropping)
		return;
	c->colls[coll - c->cat->coll].docs++;
	c->colls[coll - c->cat->coll].bytes += k->mv_size + v->mv_size;
	if (docs_seal_open(c->d, MNO_DB_DOC, k->mv_data, k->mv_size, v->mv_data, v->mv_size, &h,
		    &c->value) < 0 ||
		docs_doc_read(&h, &c->value, &doc) < 0) {
		fault(c, "%s/%s: document %.60s is damaged", coll->ns->name, coll->name,
			mno_escape_terminal((char[250]){0}, 250, (char *)k->mv_data + 4,
				MNO_MIN(k->mv_size - 4, (size_t)60)));
		return;
	}
	doc.id = (char *)k->mv_data + 4;
	doc.id_len = k->mv_size - 4;
	check_entries(c, t, coll, &doc);
}

static void check_entry(struct check *c, MDB_txn *t, const MDB_val *k, const MDB_val *v)
{
	uint32_t id = k->mv_size > 5 ? mno_get_be32(k->mv_data) : 0;
	uint64_t sum;

	for (size_t i = 0; i < c->cat->n_idx; i++)
		if (c->cat->idx[i].id == id) {
			c->entries[i]++;
			memcpy(&sum, v->mv_size == 8 ? v->mv_data : "       ", 8);
			if (!c->cat->idx[i].unique && sum != docs_sum(c->d, k->mv_data, k->mv_size))
				fault(c, "index %s: an entry is damaged", c->cat->idx[i].name);
			return;
		}
	fault(c, "an index entry belongs to no index");
}

static void check_change(struct check *c, MDB_txn *t, const MDB_val *k, const MDB_val *v)
{
	struct docs_head h;

	if (docs_seal_open(c->d, MNO_DB_DOC_FEED, k->mv_data, k->mv_size, v->mv_data, v->mv_size,
		    &h, &c->value) < 0)
		fault(c, "a part of the change feed is damaged");
}

static const struct {
	enum mno_db db;
	void (*fn)(struct check *c, MDB_txn *t, const MDB_val *k, const MDB_val *v);
} walks[] = {{MNO_DB_DOC, check_doc}, {MNO_DB_DOC_IDX, check_entry}, {MNO_DB_DOC_UNIQ, check_entry},
	{MNO_DB_DOC_FEED, check_change}};

/* One read transaction, from after @key. 1: there is more. */
static int walk_slice(struct check *c, size_t w, uint8_t *key, size_t *len)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + SLICE_NS;
	MDB_val k = {*len, key}, v;
	MDB_cursor *cur;
	MDB_txn *t;
	int rc, r = mno_read_begin(c->d->e, &t);

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_open(t, c->d->e->dbi[walks[w].db], &cur));
	rc = r < 0  ? 0
	     : *len ? mno_cursor_seek(cur, MNO_SEEK_GT, &k, &v)
		    : mdb_cursor_get(cur, &k, &v, MDB_FIRST);
	while (r == 0 && rc == 0) {
		walks[w].fn(c, t, &k, &v);
		*len = MNO_MIN(k.mv_size, (size_t)511);
		memcpy(key, k.mv_data, *len);
		if (mno_now_ns(CLOCK_MONOTONIC) > end)
			break;
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	if (r == 0)
		mdb_cursor_close(cur);
	mno_read_end(c->d->e, t);
	return r < 0 ? r : rc == 0 ? 1 : rc == MDB_NOTFOUND ? 0 : mno_lmdb_error(rc);
}

static int check_counters(struct check *c)
{
	struct docs_usage u;
	MDB_txn *t;
	int r = mno_read_begin(c->d->e, &t);

	if (r < 0)
		return r;
	for (size_t i = 0; i < c->cat->n_coll && r == 0; i++) {
		const struct docs_cat_coll *k = &c->cat->coll[i];

		r = docs_usage_get(c->d, t, k->id, &u);
		if (r == 0 && !k->dropping &&
			(u.docs != c->colls[i].docs || u.bytes != c->colls[i].bytes))
			fault(c,
				"%s/%s: %llu documents of %llu bytes are there, counted were %llu "
				"of %llu",
				k->ns->name, k->name, (unsigned long long)c->colls[i].docs,
				(unsigned long long)c->colls[i].bytes, (unsigned long long)u.docs,
				(unsigned long long)u.bytes);
	}
	mno_read_end(c->d->e, t);
	for (size_t i = 0; i < c->cat->n_idx; i++)
		if (c->cat->idx[i].state == MNO_DOC_INDEX_READY && c->expected[i] != c->entries[i])
			fault(c, "index %s has %llu entries, the documents have %llu",
				c->cat->idx[i].name, (unsigned long long)c->entries[i],
				(unsigned long long)c->expected[i]);
	return r;
}

static int run(struct check *c)
{
	uint8_t key[511];
	bool whole = true;
	int r = 0;

	for (size_t w = 0; w < ARRAY_SIZE(walks) && r >= 0; w++) {
		size_t len = 0;

		do
			r = walk_slice(c, w, key, &len);
		while (r == 1 && (!c->end_ns || mno_now_ns(CLOCK_MONOTONIC) < c->end_ns));
		whole &= r == 0;
	}
	if (r == -MNO_ECORRUPT) {
		fault(c, "the file's structure is damaged");
		return 0;
	}
	return r < 0 || !whole ? MNO_MIN(r, 0) : check_counters(c);
}

int mno_docs_check(struct mno_docs *d, uint64_t max_ns, void (*fn)(void *arg, const char *fault),
	void *arg, uint64_t *ret_n, uint64_t *ret_faults)
{
	struct check c = {.d = d, .fn = fn, .arg = arg};
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	c.end_ns = max_ns ? mno_now_ns(CLOCK_MONOTONIC) + max_ns : 0;
	r = docs_cat_get(d, t, &c.cat);
	mno_read_end(d->e, t);
	if (r < 0)
		return r;
	c.expected = calloc(2 * c.cat->n_idx + 1, sizeof(*c.expected));
	c.colls = calloc(c.cat->n_coll + 1, sizeof(*c.colls));
	r = c.expected && c.colls ? 0 : -ENOMEM;
	c.entries = c.expected + c.cat->n_idx;
	if (r == 0)
		r = run(&c);
	free(c.expected);
	free(c.colls);
	docs_entries_done(&c.e);
	mno_buf_done(&c.value);
	docs_cat_unref(c.cat);
	if (r == 0) {
		*ret_n = c.n;
		*ret_faults = c.faults;
	}
	return r;
}
