/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Index entries wait for the end of the transaction and are put in the order of their keys: that
 * is twice as fast, and unique values may change hands within a transaction.
 */
#include <errno.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/util.h"

#define ID_SHOWN 60

static uint64_t word_at(const uint8_t *key, size_t len, size_t off)
{
	uint8_t b[8] = {0};

	if (off < len)
		memcpy(b, key + off, MNO_MIN(len - off, sizeof(b)));
	return mno_get_be64(b);
}

static int make_room(struct mno_docs_txn *t)
{
	size_t cap = t->cap_pend ? t->cap_pend * 2 : 64;
	struct docs_pend *v;

	if (t->n_pend < t->cap_pend)
		return 0;
	v = reallocarray(t->pend, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	t->pend = v;
	t->cap_pend = cap;
	return 0;
}

int docs_pend_add(struct mno_docs_txn *t, const struct docs_cat_index *x, const uint8_t *v,
	size_t vlen, const void *id, size_t id_len, bool del)
{
	size_t len = 4 + vlen + id_len + 1;
	struct docs_pend p = {.off = (uint32_t)t->keys.len,
		.seq = (uint32_t)t->n_pend,
		.len = (uint16_t)len,
		.vlen = (uint16_t)(4 + vlen),
		.del = del,
		.unique = x->unique};
	uint8_t *k = (uint8_t *)mno_buf_reserve(&t->keys, len);
	int r = make_room(t);

	if (!k || r < 0)
		return -ENOMEM;
	mno_be32(k, x->id);
	memcpy(k + 4, v, vlen);
	memcpy(k + 4 + vlen, id, id_len);
	k[len - 1] = (uint8_t)(id_len - 1);
	p.k0 = word_at(k, len, 0);
	p.k1 = word_at(k, len, 8);
	mno_buf_commit(&t->keys, len);
	t->pend[t->n_pend++] = p;
	t->bytes += len + sizeof(p);
	return 0;
}

static const uint8_t *key_of(const struct mno_docs_txn *t, const struct docs_pend *p)
{
	return (const uint8_t *)t->keys.data + p->off;
}

static int by_key(const void *pa, const void *pb, void *arg)
{
	const struct docs_pend *a = pa, *b = pb;
	const struct mno_docs_txn *t = arg;
	int r;

	if (a->k0 != b->k0)
		return a->k0 < b->k0 ? -1 : 1;
	if (a->k1 != b->k1)
		return a->k1 < b->k1 ? -1 : 1;
	r = docs_bytes_compare(key_of(t, a), a->len, key_of(t, b), b->len);
	return r ? r : a->seq < b->seq ? -1 : 1;
}

static bool same_key(
	const struct mno_docs_txn *t, const struct docs_pend *a, const struct docs_pend *b)
{
	return a->len == b->len && !memcmp(key_of(t, a), key_of(t, b), a->len);
}

static int write_plain(struct mno_docs_txn *t, MDB_cursor *cur, const struct docs_pend *p)
{
	MDB_val k = {p->len, (void *)key_of(t, p)}, v;
	uint64_t sum;
	int rc;

	if (p->del) {
		rc = mdb_cursor_get(cur, &k, &v, MDB_SET);
		if (rc == 0)
			rc = mdb_cursor_del(cur, 0);
		return rc == MDB_NOTFOUND ? 0 : mno_lmdb_error(rc); /* not built yet */
	}
	sum = docs_sum(t->d, k.mv_data, k.mv_size);
	v = (MDB_val){sizeof(sum), &sum};
	return mno_lmdb_error(mdb_cursor_put(cur, &k, &v, 0));
}

static int taken(struct mno_docs_txn *t, const struct docs_pend *p, const void *owner, size_t n)
{
	const struct docs_cat_index *x = NULL;
	uint32_t id = mno_get_be32(key_of(t, p));
	char mine[4 * ID_SHOWN + 1], other[4 * ID_SHOWN + 1];

	for (size_t i = 0; i < t->cat->n_idx; i++)
		if (t->cat->idx[i].id == id)
			x = &t->cat->idx[i];
	mno_escape_terminal(mine, sizeof(mine), (const char *)key_of(t, p) + p->vlen,
		MNO_MIN((size_t)(p->len - p->vlen - 1), (size_t)ID_SHOWN));
	mno_escape_terminal(other, sizeof(other), owner, MNO_MIN(n, (size_t)ID_SHOWN));
	return docs_fail(t->err, -MNO_EUNIQUE,
		"documents \"%s\" and \"%s\" would have the same value in unique index %s", other,
		mine, x ? x->name : "");
}

/*
 * All operations on one value of a unique index: @p to @end, sorted by id and time. Who has the
 * value afterwards is who had it or got it and did not lose it: at most one.
 */
static int write_unique(
	struct mno_docs_txn *t, const struct docs_pend *p, const struct docs_pend *end)
{
	MDB_dbi db = t->d->e->dbi[MNO_DB_DOC_UNIQ];
	uint8_t buf[MNO_DOC_ID_MAX + DOCS_SUM + DOCS_IDX_LEN];
	MDB_val k = {p->vlen, (void *)key_of(t, p)}, v;
	const struct docs_pend *owner = NULL;
	size_t had = 0, n;
	bool keeps;
	uint64_t sum;
	int r = mno_lmdb_error(mdb_get(t->t, db, &k, &v));

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && v.mv_size > DOCS_SUM && v.mv_size - DOCS_SUM <= MNO_DOC_ID_MAX) {
		had = v.mv_size - DOCS_SUM;
		memcpy(buf, v.mv_data, had);
	}
	keeps = had != 0;
	for (; p < end; p++) {
		const uint8_t *id = key_of(t, p) + p->vlen;

		n = p->len - p->vlen - 1u;
		if (p + 1 < end && same_key(t, p, p + 1))
			continue; /* its last operation counts */
		if (had && n == had && !memcmp(id, buf, n)) {
			keeps = !p->del;
			continue;
		}
		if (!p->del && owner)
			return taken(t, p, key_of(t, owner) + owner->vlen,
				owner->len - owner->vlen - 1u);
		if (!p->del)
			owner = p;
	}
	if (owner && keeps)
		return taken(t, owner, buf, had);
	if (!owner)
		return !had || keeps ? 0 : mno_lmdb_error(mdb_del(t->t, db, &k, NULL));
	n = owner->len - owner->vlen - 1u;
	memcpy(buf, key_of(t, owner) + owner->vlen, n);
	memcpy(buf + n + DOCS_SUM, key_of(t, owner), owner->len);
	sum = docs_sum(t->d, buf + n + DOCS_SUM, owner->len);
	memcpy(buf + n, &sum, DOCS_SUM);
	v = (MDB_val){n + DOCS_SUM, buf};
	return mno_lmdb_error(mdb_put(t->t, db, &k, &v, 0));
}

static bool same_value(
	const struct mno_docs_txn *t, const struct docs_pend *a, const struct docs_pend *b)
{
	return a->vlen == b->vlen && !memcmp(key_of(t, a), key_of(t, b), a->vlen);
}

int docs_pend_flush(struct mno_docs_txn *t)
{
	struct docs_pend *p = t->pend, *end = t->pend + t->n_pend, *next;
	MDB_cursor *cur;
	int r;

	if (!t->n_pend)
		return 0;
	r = mno_lmdb_error(mdb_cursor_open(t->t, t->d->e->dbi[MNO_DB_DOC_IDX], &cur));
	if (r < 0)
		return r;
	qsort_r(p, t->n_pend, sizeof(*p), by_key, t);
	for (; p < end && r == 0; p = next) {
		next = p + 1;
		if (p->unique) {
			while (next < end && next->unique && same_value(t, p, next))
				next++;
			r = write_unique(t, p, next);
		} else if (next == end || !same_key(t, p, next)) {
			r = write_plain(t, cur, p);
		}
	}
	mdb_cursor_close(cur);
	t->n_pend = 0;
	mno_buf_reset(&t->keys);
	return r;
}
