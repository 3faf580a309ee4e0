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
#define SHORT    8u  /* runs that are sorted by insertion */
#define IN_WORDS 20u /* bytes of a key that are in the index number and the two words */
_Static_assert(DOCS_IDX_LEN < 1024, "lengths have 10 bits");

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
	uint32_t *op;

	if (t->n_pend < t->cap_pend)
		return 0;
	v = reallocarray(t->pend, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	t->pend = v;
	op = reallocarray(t->pend_op, cap, sizeof(*op));
	if (!op)
		return -ENOMEM;
	t->pend_op = op;
	t->cap_pend = cap;
	return 0;
}

int docs_pend_add(struct mno_docs_txn *t, const struct docs_cat_index *x, const uint8_t *v,
	size_t vlen, const void *id, size_t id_len, bool del)
{
	size_t len = 4 + vlen + id_len + 1;
	struct docs_pend p = {.index = x->id,
		.off = (uint32_t)t->keys.len,
		.seq = (uint32_t)t->n_pend,
		.len = len & 1023,
		.vlen = (4 + vlen) & 1023,
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
	p.k0 = word_at(k, len, 4);
	p.k1 = word_at(k, len, 12);
	mno_buf_commit(&t->keys, len);
	t->pend_op[t->n_pend] = (uint32_t)t->n_ops;
	t->pend[t->n_pend++] = p;
	t->bytes += len + sizeof(p);
	return 0;
}

/* Whether the entry @k is of this document; its indexed value ends at *@ret_vlen. */
static bool is_entry_of(const void *doc_id, size_t n, const struct docs_cat_index *x,
	const MDB_val *k, const MDB_val *v, size_t *ret_vlen)
{
	size_t tail = x->unique ? 0 : n + 1;
	const uint8_t *id =
		x->unique ? v->mv_data : (const uint8_t *)k->mv_data + k->mv_size - tail;

	if (k->mv_size < 4 + tail || (x->unique && v->mv_size != n + DOCS_SUM))
		return false;
	*ret_vlen = k->mv_size - 4 - tail;
	return !memcmp(id, doc_id, n) && (x->unique || id[n] == (uint8_t)(n - 1));
}

int docs_pend_lost(
	struct mno_docs_txn *t, const struct docs_cat_index *x, const void *id, size_t id_len)
{
	MDB_dbi db = t->d->e->dbi[x->unique ? MNO_DB_DOC_UNIQ : MNO_DB_DOC_IDX];
	uint8_t from[4];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	size_t vlen;
	int rc, r = mno_lmdb_error(mdb_cursor_open(t->t, db, &c));

	if (r < 0)
		return r;
	mno_be32(from, x->id);
	for (rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
		rc == 0 && r == 0 && !memcmp(k.mv_data, from, 4);
		rc = mdb_cursor_get(c, &k, &v, MDB_NEXT))
		if (is_entry_of(id, id_len, x, &k, &v, &vlen))
			r = docs_pend_add(
				t, x, (const uint8_t *)k.mv_data + 4, vlen, id, id_len, true);
	mdb_cursor_close(c);
	return r < 0 || !rc || rc == MDB_NOTFOUND ? r : mno_lmdb_error(rc);
}

static const uint8_t *key_of(const struct mno_docs_txn *t, const struct docs_pend *p)
{
	return (const uint8_t *)t->keys.data + p->off;
}

/* What is behind the words; seldom needed. */
static bool tail_after(
	const struct mno_docs_txn *t, const struct docs_pend *a, const struct docs_pend *b)
{
	size_t na = a->len > IN_WORDS ? a->len - IN_WORDS : 0;
	size_t nb = b->len > IN_WORDS ? b->len - IN_WORDS : 0;
	int r = docs_bytes_compare(
		key_of(t, a) + (na ? IN_WORDS : 0), na, key_of(t, b) + (nb ? IN_WORDS : 0), nb);

	if (r == 0)
		r = (a->len > b->len) - (a->len < b->len); /* the words end in zeros */
	return r ? r > 0 : a->seq > b->seq;
}

/* Whether @a comes after @b in the order of keys, of one key in the order of operations. */
static inline bool is_after(
	const struct mno_docs_txn *t, const struct docs_pend *a, const struct docs_pend *b)
{
	if (a->index != b->index)
		return a->index > b->index;
	if (a->k0 != b->k0)
		return a->k0 > b->k0;
	return a->k1 != b->k1 ? a->k1 > b->k1 : tail_after(t, a, b);
}

/* Both halves of @v are sorted; @tmp has room for the first. */
static void merge(const struct mno_docs_txn *t, struct docs_pend *v, size_t half, size_t n,
	struct docs_pend *tmp)
{
	const struct docs_pend *a = tmp, *a_end = tmp + half, *b = v + half, *b_end = v + n;

	if (!is_after(t, &v[half - 1], &v[half]))
		return; /* as it should be: ids often come in order */
	memcpy(tmp, v, half * sizeof(*v));
	while (a < a_end && b < b_end)
		*v++ = is_after(t, a, b) ? *b++ : *a++;
	memcpy(v, a, (size_t)(a_end - a) * sizeof(*v));
}

/* Merge sort: the library's calls a function for each comparison, and these are very many. */
static int sort(struct mno_docs_txn *t)
{
	_cleanup_free_ struct docs_pend *tmp = malloc(t->n_pend * sizeof(*tmp));
	struct docs_pend *v = t->pend;
	size_t n = t->n_pend;

	if (!tmp)
		return -ENOMEM;
	for (size_t from = 0; from < n; from += SHORT) {
		size_t end = MNO_MIN(from + SHORT, n);

		for (size_t i = from + 1; i < end; i++) {
			struct docs_pend x = v[i];
			size_t k = i;

			for (; k > from && is_after(t, &v[k - 1], &x); k--)
				v[k] = v[k - 1];
			v[k] = x;
		}
	}
	for (size_t half = SHORT; half < n; half *= 2)
		for (size_t from = 0; from + half < n; from += 2 * half)
			merge(t, v + from, half, MNO_MIN(2 * half, n - from), tmp);
	return 0;
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
	if (t->err)
		t->err->op = t->pend_op[p->seq];
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
	r = sort(t);
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
