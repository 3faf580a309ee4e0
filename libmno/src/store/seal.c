/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed values: every value that carries data has a version, its own length and a checksum. */
#include <errno.h>
#include "mno/err.h"
#include "mno/map.h"
#include "store_internal.h"

#define SEAL_MAGIC   0x6d53 /* "Sm" */
#define SEAL_VERSION 1
#define SEAL_LEVEL   1
#define IN_LEAF_MAX  2000 /* a larger value gets pages of its own, 16 bytes of the first taken */
#define PAGE         4096
#define PAGE_HEAD    16
#define SLACK        8 /* readable zero bytes behind unpacked data */

struct seal_head {
	uint16_t magic;
	uint8_t version, kind, flags, packed;
	uint16_t _zero;
	uint32_t stored_len, raw_len, count;
	uint32_t head_sum; /* over the key and the header with both sums = 0 */
	uint64_t a, b;
	uint64_t sum; /* over the same and the stored bytes */
};
_Static_assert(sizeof(struct seal_head) == 48, "on disk");

/* Detects damage, not forgery: the key is no secret. */
static const uint8_t sum_key[16] = "mno sealed value";

static uint64_t head_sum(const void *key, size_t klen, const struct seal_head *h)
{
	struct seal_head clean = *h;
	uint64_t part[2];

	clean.sum = clean.head_sum = 0;
	part[0] = mno_siphash(sum_key, key, klen);
	part[1] = mno_siphash(sum_key, &clean, sizeof(clean));
	return mno_siphash(sum_key, part, sizeof(part));
}

static uint64_t seal_sum(const void *key, size_t klen, const struct seal_head *h, const void *p)
{
	uint64_t part[2] = {head_sum(key, klen, h), mno_siphash(sum_key, p, h->stored_len)};

	return mno_siphash(sum_key, part, sizeof(part));
}

/* Room that a value of @n bytes takes anyway; using whole pages keeps the free list uniform. */
static size_t padded(size_t n)
{
	if (n <= IN_LEAF_MAX)
		return n;
	return (n + PAGE_HEAD + PAGE - 1) / PAGE * PAGE - PAGE_HEAD;
}

/* Compresses into e->scratch if that helps; *@ret_p is what to store. */
static int pack(struct mno_store *e, const void *raw, size_t len, const void **ret_p,
	size_t *ret_len, bool *ret_packed)
{
	size_t bound = ZSTD_compressBound(len), n;
	char *dst;

	*ret_p = raw;
	*ret_len = len;
	*ret_packed = false;
	if (len < 64)
		return 0;
	mno_buf_reset(&e->scratch);
	dst = mno_buf_reserve(&e->scratch, bound);
	if (!dst)
		return -ENOMEM;
	n = ZSTD_compressCCtx(e->cctx, dst, bound, raw, len, SEAL_LEVEL);
	if (ZSTD_isError(n))
		return -ENOMEM;
	if (n >= len)
		return 0;
	*ret_p = dst;
	*ret_len = n;
	*ret_packed = true;
	return 0;
}

int mno_seal_put(struct mno_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct mno_seal *s, const void *raw, size_t raw_len, size_t *ret_bytes)
{
	struct seal_head h = {.magic = SEAL_MAGIC,
		.version = SEAL_VERSION,
		.kind = s->kind,
		.flags = s->flags,
		.count = s->count,
		.a = s->a,
		.b = s->b};
	MDB_val k = {.mv_size = klen, .mv_data = (void *)key}, v;
	const void *p;
	size_t len, total;
	bool packed;
	int r, rc;

	if (raw_len > MNO_SEAL_RAW_MAX)
		return -E2BIG;
	r = pack(t->e, raw, raw_len, &p, &len, &packed);
	if (r < 0)
		return r;
	h.packed = packed;
	h.stored_len = (uint32_t)len;
	h.raw_len = (uint32_t)raw_len;
	h.head_sum = (uint32_t)head_sum(key, klen, &h);
	h.sum = seal_sum(key, klen, &h, p);
	total = sizeof(h) + len;
	v = (MDB_val){.mv_size = padded(total)};
	/* Most keys come in order; only what is told to be appended fills pages. */
	rc = mdb_put(t->t, t->e->dbi[db], &k, &v, MDB_RESERVE | MDB_APPEND);
	if (rc == MDB_KEYEXIST) {
		v.mv_size = padded(total);
		rc = mdb_put(t->t, t->e->dbi[db], &k, &v, MDB_RESERVE);
	}
	r = mno_txn_error(t, rc);
	if (r < 0)
		return r;
	memcpy(v.mv_data, &h, sizeof(h));
	memcpy((char *)v.mv_data + sizeof(h), p, len);
	memset((char *)v.mv_data + total, 0, padded(total) - total);
	if (ret_bytes)
		*ret_bytes = padded(total);
	return 0;
}

static int head_check(const void *val, size_t len, enum mno_seal_kind kind, struct seal_head *h)
{
	if (len < sizeof(*h))
		return -MNO_ECORRUPT;
	memcpy(h, val, sizeof(*h));
	if (h->magic != SEAL_MAGIC || h->kind != kind || h->packed > 1 || h->_zero)
		return -MNO_ECORRUPT;
	if (h->version > SEAL_VERSION)
		return -MNO_EVERSION;
	if (h->stored_len > len - sizeof(*h) || h->raw_len > MNO_SEAL_RAW_MAX)
		return -MNO_ECORRUPT;
	if (padded(sizeof(*h) + h->stored_len) != len ||
		(!h->packed && h->raw_len != h->stored_len))
		return -MNO_ECORRUPT;
	return 0;
}

int mno_seal_peek(const void *key, size_t klen, const void *val, size_t len,
	enum mno_seal_kind kind, struct mno_seal *ret)
{
	struct seal_head h;
	int r = head_check(val, len, kind, &h);

	if (r < 0)
		return r;
	if ((uint32_t)head_sum(key, klen, &h) != h.head_sum)
		return -MNO_ECORRUPT;
	*ret = (struct mno_seal){
		.kind = h.kind, .flags = h.flags, .count = h.count, .a = h.a, .b = h.b};
	return 0;
}

static int unpack(ZSTD_DCtx *z, const struct seal_head *h, const void *src, char *dst)
{
	size_t n;

	if (!h->packed) {
		memcpy(dst, src, h->raw_len);
		return 0;
	}
	n = z ? ZSTD_decompressDCtx(z, dst, h->raw_len, src, h->stored_len)
	      : ZSTD_decompress(dst, h->raw_len, src, h->stored_len);
	return ZSTD_isError(n) || n != h->raw_len ? -MNO_ECORRUPT : 0;
}

int mno_seal_open(ZSTD_DCtx *z, const void *key, size_t klen, const void *val, size_t len,
	enum mno_seal_kind kind, struct mno_seal *ret, struct mno_buf *raw)
{
	const char *src = (const char *)val + sizeof(struct seal_head);
	struct seal_head h;
	char *dst;
	int r = head_check(val, len, kind, &h);

	if (r < 0)
		return r;
	if ((uint32_t)head_sum(key, klen, &h) != h.head_sum ||
		seal_sum(key, klen, &h, src) != h.sum)
		return -MNO_ECORRUPT;
	mno_buf_reset(raw);
	dst = mno_buf_reserve(raw, (size_t)h.raw_len + SLACK);
	if (!dst)
		return -ENOMEM;
	r = unpack(z, &h, src, dst);
	if (r < 0)
		return r;
	memset(dst + h.raw_len, 0, SLACK);
	mno_buf_commit(raw, h.raw_len);
	if (ret)
		*ret = (struct mno_seal){
			.kind = h.kind, .flags = h.flags, .count = h.count, .a = h.a, .b = h.b};
	return 0;
}
