/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of DOC_META: what the catalogue is made of, and counters. */
#include <errno.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"

struct meta_key {
	uint8_t b[5];
};

static struct meta_key make_key(enum docs_meta_tag tag, uint32_t id)
{
	struct meta_key k = {{(uint8_t)tag}};

	mno_be32(k.b + 1, id);
	return k;
}

int docs_meta_put(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id,
	const struct mno_buf *row)
{
	const struct docs_head h = {.kind = DOCS_SEAL_META};
	struct meta_key k = make_key(tag, id);
	int r;

	if (row->err)
		return row->err;
	r = docs_seal_put(
		d, t, MNO_DB_DOC_META, k.b, sizeof(k.b), &h, row->data, row->len, 0, NULL);
	k.b[0] = docs_meta_copy(tag);
	return r < 0 || !k.b[0] ? r
				: docs_seal_put(d, t, MNO_DB_DOC_META, k.b, sizeof(k.b), &h,
					  row->data, row->len, 0, NULL);
}

int docs_meta_get(
	struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id, struct mno_buf *row)
{
	struct meta_key k = make_key(tag, id);
	MDB_val key = {sizeof(k.b), k.b}, v;
	struct docs_head h;
	int r = mno_lmdb_error(mdb_get(t, d->e->dbi[MNO_DB_DOC_META], &key, &v));

	if (r == 0)
		r = docs_seal_open(
			d, MNO_DB_DOC_META, k.b, sizeof(k.b), v.mv_data, v.mv_size, &h, row);
	return r;
}

int docs_meta_del(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id)
{
	struct meta_key k = make_key(tag, id);
	MDB_val key = {sizeof(k.b), k.b};
	int r = mno_lmdb_error(mdb_del(t, d->e->dbi[MNO_DB_DOC_META], &key, NULL)), copy;

	k.b[0] = docs_meta_copy(tag);
	copy = k.b[0] ? mno_lmdb_error(mdb_del(t, d->e->dbi[MNO_DB_DOC_META], &key, NULL)) : 0;
	return r < 0 || copy == -ENOENT ? r : copy;
}

/* --- small rows: numbers in a fixed buffer ------------------------------------------------------ */

enum { STATE_NUMBERS = 5 }; /* the most of a row */

static int put_numbers(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id,
	const uint64_t *v, size_t n)
{
	uint8_t b[STATE_NUMBERS * MNO_VARINT_MAX], *p = b;
	struct mno_buf row = {.data = (char *)b};

	for (size_t i = 0; i < n; i++)
		p = mno_varint_write(p, v[i]);
	row.len = (size_t)(p - b);
	return docs_meta_put(d, t, tag, id, &row);
}

/* Those behind the first @need are what older versions did not have: zero. */
static int get_numbers(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id,
	uint64_t *v, size_t need, size_t n)
{
	_cleanup_buf_ struct mno_buf row = {0};
	int r = docs_meta_get(d, t, tag, id, &row);
	struct mno_reader in;

	if (r < 0)
		return r;
	in = (struct mno_reader){
		(const uint8_t *)row.data, (const uint8_t *)row.data + row.len, false};
	for (size_t i = 0; i < n; i++)
		v[i] = i < need || mno_reader_left(&in) ? mno_read_varint(&in) : 0;
	return in.bad ? -MNO_ECORRUPT : 0;
}

int docs_state_get(struct mno_docs *d, MDB_txn *t, struct docs_state *ret)
{
	uint64_t v[STATE_NUMBERS];
	int r = get_numbers(d, t, DOCS_META_STATE, 0, v, 3, ARRAY_SIZE(v));

	if (r == 0)
		*ret = (struct docs_state){.next_seq = v[0],
			.feed_bytes = v[1],
			.next_id = (uint32_t)v[2],
			.form = (unsigned)v[3] ?: DOCS_FORM_1,
			.old_seq = v[4]};
	if (r == 0 && v[3] > DOCS_FORM)
		r = -MNO_EVERSION;
	return r;
}

int docs_state_put(struct mno_docs *d, MDB_txn *t, const struct docs_state *s)
{
	const uint64_t v[] = {s->next_seq, s->feed_bytes, s->next_id, s->form, s->old_seq};

	return put_numbers(d, t, DOCS_META_STATE, 0, v, ARRAY_SIZE(v));
}

int docs_usage_get(struct mno_docs *d, MDB_txn *t, uint32_t id, struct docs_usage *ret)
{
	uint64_t v[2] = {0};
	int r = get_numbers(d, t, DOCS_META_USAGE, id, v, ARRAY_SIZE(v), ARRAY_SIZE(v));

	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		*ret = (struct docs_usage){v[0], v[1]};
	return r;
}

int docs_usage_put(struct mno_docs *d, MDB_txn *t, uint32_t id, const struct docs_usage *u)
{
	const uint64_t v[] = {u->docs, u->bytes};

	return put_numbers(d, t, DOCS_META_USAGE, id, v, ARRAY_SIZE(v));
}

/* Not sealed: read by every get, and a wrong one only makes the catalogue be read again. */
int docs_gen_put(struct mno_docs *d, MDB_txn *t)
{
	uint64_t gen = d->gen_next++;
	struct meta_key k = make_key(DOCS_META_GEN, 0);
	MDB_val key = {sizeof(k.b), k.b}, v = {sizeof(gen), &gen};

	return mno_lmdb_error(mdb_put(t, d->e->dbi[MNO_DB_DOC_META], &key, &v, 0));
}

int docs_gen_get(struct mno_docs *d, MDB_txn *t, uint64_t *ret)
{
	struct meta_key k = make_key(DOCS_META_GEN, 0);
	MDB_val key = {sizeof(k.b), k.b}, v;
	int r = mno_lmdb_error(mdb_get(t, d->e->dbi[MNO_DB_DOC_META], &key, &v));

	if (r < 0)
		return r;
	if (v.mv_size != sizeof(*ret))
		return -MNO_ECORRUPT;
	memcpy(ret, v.mv_data, sizeof(*ret));
	return 0;
}

/* --- rows of the catalogue ----------------------------------------------------------------------- */

static void add_text(struct mno_buf *b, const char *s)
{
	size_t n = strlen(s);

	mno_varint_add(b, n);
	mno_buf_add(b, s, n);
}

static void read_text(struct mno_reader *r, char *ret, size_t size)
{
	size_t n = mno_read_varint(r);
	const uint8_t *p = n < size ? mno_read_bytes(r, n) : NULL;

	if (!p) {
		r->bad = true;
		return;
	}
	memcpy(ret, p, n);
	ret[n] = 0;
}

static struct mno_reader reader_of(const struct mno_buf *row)
{
	const uint8_t *p = (const uint8_t *)row->data;

	return (struct mno_reader){p, p + row->len, false};
}

int docs_ns_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_ns *n)
{
	_cleanup_buf_ struct mno_buf row = {0};

	add_text(&row, n->name);
	mno_varint_add(&row, n->quota_docs);
	mno_varint_add(&row, n->quota_bytes);
	return docs_meta_put(d, t, DOCS_META_NS, n->id, &row);
}

int docs_ns_read(struct mno_buf *row, struct docs_cat_ns *ret)
{
	struct mno_reader r = reader_of(row);

	read_text(&r, ret->name, sizeof(ret->name));
	ret->quota_docs = mno_read_varint(&r);
	ret->quota_bytes = mno_read_varint(&r);
	return r.bad ? -MNO_ECORRUPT : 0;
}

int docs_coll_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_coll *c)
{
	_cleanup_buf_ struct mno_buf row = {0};

	add_text(&row, c->name);
	mno_varint_add(&row, c->ns->id);
	mno_varint_add(&row, c->dropping);
	return docs_meta_put(d, t, DOCS_META_COLL, c->id, &row);
}

int docs_coll_read(struct mno_buf *row, struct docs_cat_coll *ret, uint32_t *ret_ns)
{
	struct mno_reader r = reader_of(row);

	read_text(&r, ret->name, sizeof(ret->name));
	*ret_ns = (uint32_t)mno_read_varint(&r);
	ret->dropping = mno_read_varint(&r);
	return r.bad ? -MNO_ECORRUPT : 0;
}

int docs_index_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x)
{
	_cleanup_buf_ struct mno_buf row = {0};

	add_text(&row, x->name);
	add_text(&row, x->path_text);
	mno_varint_add(&row, x->coll_id);
	mno_varint_add(&row, x->type);
	mno_varint_add(&row, x->state);
	mno_varint_add(&row, x->unique | x->multi << 1 | x->secret << 2);
	mno_buf_add(&row, x->key, sizeof(x->key));
	add_text(&row, x->error);
	return docs_meta_put(d, t, DOCS_META_INDEX, x->id, &row);
}

int docs_index_read(struct mno_buf *row, struct docs_cat_index *ret)
{
	struct mno_reader r = reader_of(row);
	const uint8_t *key;
	uint64_t flags;

	read_text(&r, ret->name, sizeof(ret->name));
	read_text(&r, ret->path_text, sizeof(ret->path_text));
	ret->coll_id = (uint32_t)mno_read_varint(&r);
	ret->type = (uint8_t)mno_read_varint(&r);
	ret->state = (uint8_t)mno_read_varint(&r);
	flags = mno_read_varint(&r);
	ret->unique = flags & 1;
	ret->multi = flags & 2;
	ret->secret = flags & 4;
	key = mno_read_bytes(&r, sizeof(ret->key));
	if (key)
		memcpy(ret->key, key, sizeof(ret->key));
	read_text(&r, ret->error, sizeof(ret->error));
	if (r.bad || docs_path_parse(ret->path_text, strlen(ret->path_text), &ret->path) < 0)
		return -MNO_ECORRUPT;
	return 0;
}
