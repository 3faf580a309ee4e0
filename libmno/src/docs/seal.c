/* SPDX-License-Identifier: Apache-2.0 */
/* Stored values of documents: small, so that their heads are, too. */
#include <errno.h>
#include <string.h>
#include "docs_crypt.h"
#include "../store/quarantine.h"
#include "docs_internal.h"
#include "mno/err.h"

enum { FLAG_ZSTD = 0x10 };
/* Levels of zstd: the feed is written with every change and rarely read. */
#define VALUE_LEVEL   1
#define FEED_LEVEL    (-5)
#define FEED_UNPACKED 15u /* chunks not tried after one that did not pack */
#define RAW_MAX       (MNO_DOC_VALUE_MAX + 4096u)

static void head_write(uint8_t *p, const struct docs_head *h, uint8_t suite, uint8_t flags)
{
	p[0] = (uint8_t)((h->form ?: DOCS_FORM_1) << 4 | suite);
	p[1] = h->kind | flags;
	for (int i = 0; i < 6; i++)
		p[2 + i] = (uint8_t)(h->number >> (8 * i));
}

int docs_seal_peek(const void *val, size_t len, struct docs_head *ret)
{
	const uint8_t *p = val;

	if (len < DOCS_HEAD)
		return -MNO_ECORRUPT;
	ret->form = p[0] >> 4;
	if (ret->form < DOCS_FORM_1 || ret->form > DOCS_FORM)
		return ret->form > DOCS_FORM ? -MNO_EVERSION : -MNO_ECORRUPT;
	ret->kind = p[1] & 15;
	ret->number = 0;
	for (int i = 0; i < 6; i++)
		ret->number |= (uint64_t)p[2 + i] << (8 * i);
	return 0;
}

/* Into d->packed when that is a good part smaller. */
static bool pack(struct mno_docs *d, int level, const void *plain, size_t len)
{
	size_t cap = len - len / 8, n;
	char *p;

	if (len < DOCS_ZSTD_MIN)
		return false;
	mno_buf_reset(&d->packed);
	p = mno_buf_reserve(&d->packed, cap);
	if (!p)
		return false;
	n = ZSTD_compressCCtx(d->cctx, p, cap, plain, len, level);
	if (ZSTD_isError(n))
		return false;
	mno_buf_commit(&d->packed, n);
	return true;
}

/* Changes are mostly like those before them: after a chunk that did not pack some are not tried. */
static bool pack_feed(struct mno_docs *d, const void *plain, size_t len)
{
	bool packed;

	if (d->unpacked && len >= DOCS_ZSTD_MIN) {
		d->unpacked--;
		return false;
	}
	packed = pack(d, FEED_LEVEL, plain, len);
	d->unpacked = packed || len < DOCS_ZSTD_MIN ? d->unpacked : FEED_UNPACKED;
	return packed;
}

struct sealed { /* what is to be stored */
	const void *data;
	size_t n, over;
	uint8_t suite, flags;
};

static struct sealed prepare(
	struct mno_docs *d, const struct docs_head *h, const void *plain, size_t len)
{
	bool packed = h->kind == DOCS_SEAL_FEED ? pack_feed(d, plain, len)
						: pack(d, VALUE_LEVEL, plain, len);
	uint8_t suite = docs_crypt_suite(d);

	return (struct sealed){.data = packed ? d->packed.data : plain,
		.n = packed ? d->packed.len : len,
		.over = docs_crypt_over(suite),
		.suite = suite,
		.flags = packed ? FLAG_ZSTD : 0};
}

static int fill(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const struct docs_head *h, const struct sealed *s, const MDB_val *v, size_t *ret_bytes)
{
	head_write(v->mv_data, h, s->suite, s->flags);
	if (ret_bytes)
		*ret_bytes = v->mv_size;
	return docs_crypt_seal(d, db, key, klen, v->mv_data, s->data, s->n);
}

/* Sizes that lie just over a page of LMDB's would waste most of the next: no help for that here,
 * values are what they are; below half a page they share one. */
int docs_seal_put(struct mno_docs *d, MDB_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct docs_head *h, const void *plain, size_t len, unsigned flags, size_t *ret_bytes)
{
	const struct sealed s = prepare(d, h, plain, len);
	MDB_val k = {klen, (void *)key}, v = {DOCS_HEAD + s.over + s.n, NULL};
	int r = mno_lmdb_error(mdb_put(t, d->e->dbi[db], &k, &v, flags | MDB_RESERVE));

	return r < 0 ? r : fill(d, db, key, klen, h, &s, &v, ret_bytes);
}

int docs_seal_put_at(struct mno_docs *d, MDB_cursor *cur, enum mno_db db, const void *key,
	size_t klen, const struct docs_head *h, const void *plain, size_t len, size_t *ret_bytes)
{
	const struct sealed s = prepare(d, h, plain, len);
	MDB_val k = {klen, (void *)key}, v = {DOCS_HEAD + s.over + s.n, NULL};
	int r = mno_lmdb_error(mdb_cursor_put(cur, &k, &v, MDB_RESERVE));

	return r < 0 ? r : fill(d, db, key, klen, h, &s, &v, ret_bytes);
}

static int unpack(struct mno_buf *in, struct mno_buf *out)
{
	unsigned long long size = ZSTD_getFrameContentSize(in->data, in->len);
	size_t n;
	char *p;

	if (size > RAW_MAX)
		return -MNO_ECORRUPT;
	p = mno_buf_reserve(out, size ?: 1);
	if (!p)
		return -ENOMEM;
	n = ZSTD_decompress(p, size, in->data, in->len);
	if (ZSTD_isError(n) || n != size)
		return -MNO_ECORRUPT;
	mno_buf_commit(out, n);
	return 0;
}

static int open_value(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf tmp = {0};
	bool packed = len > 1 && ((const uint8_t *)val)[1] & FLAG_ZSTD;
	int r = docs_crypt_open(d, db, key, klen, val, len, packed ? &tmp : out);

	return r == 0 && packed ? unpack(&tmp, out) : r;
}

int docs_seal_open(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len, struct docs_head *ret, struct mno_buf *out)
{
	int r = docs_seal_peek(val, len, ret);

	mno_buf_reset(out);
	if (r == 0)
		r = open_value(d, db, key, klen, val, len, out);
	if (r ==
		-ENOKEY) /* keys go when nothing needs them: a flipped bit names one that never was */
		r = -MNO_ECORRUPT;
	if (r == -MNO_ECORRUPT) {
		d->damaged++;
		mno_quarantine_note(d->e, db, key, klen, val, len);
	}
	return r;
}

uint64_t docs_sum(const struct mno_docs *d, const void *p, size_t n)
{
	return mno_siphash(d->store->hash_key, p, n);
}

/* Form 1: times, then the value. */
static void read_1(struct mno_reader *r, struct mno_doc *ret)
{
	ret->created_ms = mno_unzigzag(mno_read_varint(r));
	ret->updated_ms = ret->created_ms + mno_unzigzag(mno_read_varint(r));
	ret->revision = ret->updated_ms == ret->created_ms ? 1 : 2;
}

/* Form 2: length of what is known about the document, so that more may be added; then the value. */
static void read_2(struct mno_reader *r, struct mno_doc *ret)
{
	size_t n = mno_read_varint(r);
	const uint8_t *p = mno_read_bytes(r, n);
	struct mno_reader facts = {p, p ? p + n : p, !p};

	read_1(&facts, ret);
	ret->revision = mno_read_varint(&facts);
	r->bad |= facts.bad || !ret->revision;
}

static void (*const readers[])(struct mno_reader *r, struct mno_doc *ret) = {
	[DOCS_FORM_1] = read_1, [DOCS_FORM] = read_2};

int docs_doc_read(const struct docs_head *h, const struct mno_buf *plain, struct mno_doc *ret)
{
	struct mno_reader r = {
		(const uint8_t *)plain->data, (const uint8_t *)plain->data + plain->len, false};

	if (h->kind < MNO_DOC_JSON || h->kind >= MNO_DOC_KIND_END || !h->form ||
		h->form >= ARRAY_SIZE(readers))
		return -MNO_ECORRUPT;
	readers[h->form](&r, ret);
	if (r.bad)
		return -MNO_ECORRUPT;
	ret->version = h->number;
	ret->kind = h->kind;
	ret->value = r.p;
	ret->len = mno_reader_left(&r);
	return 0;
}

int docs_doc_write(unsigned form, const struct mno_doc *doc, struct mno_buf *out)
{
	uint8_t facts[3 * MNO_VARINT_MAX], *p = facts;

	p = mno_varint_write(p, mno_zigzag(doc->created_ms));
	p = mno_varint_write(p, mno_zigzag(doc->updated_ms - doc->created_ms));
	mno_buf_reset(out);
	if (form > DOCS_FORM_1) {
		p = mno_varint_write(p, doc->revision);
		mno_buf_addc(out, (char)(p - facts)); /* less than 128: a varint of one byte */
	}
	mno_buf_add(out, facts, (size_t)(p - facts));
	mno_buf_add(out, doc->value, doc->len);
	return out->err;
}
