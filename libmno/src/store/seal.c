/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed values: every value that carries data has a version, its own length, and a checksum
 * (version 1) or an authentication code (version 2: encrypted).
 *   version 1: head | u64 checksum | bytes
 *   version 2: head | nonce | code | bytes; bound to environment, database, key and head
 */
#include <errno.h>
#include "../crypt/crypt.h"
#include "mno/err.h"
#include "mno/map.h"
#include "quarantine.h"
#include "store_internal.h"

#define SEAL_MAGIC  0x6d53 /* "Sm" */
#define SEAL_PLAIN  1
#define SEAL_CRYPT  2
#define SEAL_MARK   3 /* the value is in quarantine */
#define SEAL_LEVEL  1
#define IN_LEAF_MAX 2000 /* a larger value gets pages of its own, 16 bytes of the first taken */
#define PAGE        4096
#define PAGE_HEAD   16
#define GONE        1 /* raw_len of a mark whose quarantined value was dropped */
#define SLACK       8 /* readable zero bytes behind unpacked data */

struct seal_head {
	uint16_t magic;
	uint8_t version, kind, flags, packed;
	uint8_t suite, key_id; /* version 2 */
	uint32_t stored_len, raw_len, count;
	uint32_t head_sum; /* over the key and the header with this = 0 */
	uint64_t a, b;
};
_Static_assert(sizeof(struct seal_head) == 40, "on disk");

#define KEY_LEN_MAX 511
#define AAD_MAX     (MNO_ENV_ID_LEN + 1 + KEY_LEN_MAX + sizeof(struct seal_head))

/* Detects damage, not forgery: the key is no secret. */
static const uint8_t sum_key[16] = "mno sealed value";

/* Both sums of version 1 are taken over the header as it was: 8 zero bytes in place of the sum. */
static uint64_t head_sum(const void *key, size_t klen, const struct seal_head *h)
{
	struct {
		struct seal_head h;
		uint64_t sum;
	} clean = {.h = *h};
	uint64_t part[2];

	clean.h.head_sum = 0;
	part[0] = mno_siphash(sum_key, key, klen);
	part[1] = mno_siphash(sum_key, &clean, sizeof(clean));
	return mno_siphash(sum_key, part, sizeof(part));
}

static uint64_t seal_sum(const void *key, size_t klen, const struct seal_head *h, const void *p)
{
	uint64_t part[2] = {head_sum(key, klen, h), mno_siphash(sum_key, p, h->stored_len)};

	return mno_siphash(sum_key, part, sizeof(part));
}

/* What the code of an encrypted value covers beside its bytes. */
static size_t fill_aad(uint8_t *aad, const struct mno_env *e, enum mno_db db, const void *key,
	size_t klen, const struct seal_head *h)
{
	uint8_t *p = aad;

	memcpy(p, e->id, sizeof(e->id));
	p += sizeof(e->id);
	*p++ = (uint8_t)db;
	memcpy(p, key, klen);
	p += klen;
	memcpy(p, h, sizeof(*h));
	return (size_t)(p - aad) + sizeof(*h);
}

/* Bytes between the head and the data. */
static size_t guard_len(const struct seal_head *h)
{
	return h->version == SEAL_PLAIN ? sizeof(uint64_t)
					: mno_suite_nonce(h->suite) + MNO_MAC_BYTES;
}

/* Room that a value of @n bytes takes anyway; using whole pages keeps the free list uniform. */
static size_t padded(size_t n)
{
	if (n <= IN_LEAF_MAX)
		return n;
	return (n + PAGE_HEAD + PAGE - 1) / PAGE * PAGE - PAGE_HEAD;
}

/* Compresses into e->scratch if that helps; *@ret_p is what to store. */
static int pack(struct mno_env *e, int level, const void *raw, size_t len, const void **ret_p,
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
	n = ZSTD_compressCCtx(e->cctx, dst, bound, raw, len, level);
	if (ZSTD_isError(n))
		return -ENOMEM;
	if (n >= len)
		return 0;
	*ret_p = dst;
	*ret_len = n;
	*ret_packed = true;
	return 0;
}

/* Fills what comes behind the head, the data included. */
static int guard(struct mno_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct seal_head *h, const void *p, uint8_t *out)
{
	uint8_t aad[AAD_MAX];
	struct mno_seal_tag tag;
	size_t nonce;
	uint64_t sum;
	int r;

	if (h->version == SEAL_PLAIN) {
		sum = seal_sum(key, klen, h, p);
		memcpy(out, &sum, sizeof(sum));
		memcpy(out + sizeof(sum), p, h->stored_len);
		return 0;
	}
	nonce = mno_suite_nonce(h->suite);
	r = mno_cipher_seal(t->e->cipher, aad, fill_aad(aad, t->e, db, key, klen, h), p,
		h->stored_len, out + nonce + MNO_MAC_BYTES, &tag);
	if (r < 0)
		return r;
	if (tag.key_id != h->key_id)
		return -EAGAIN;
	memcpy(out, tag.nonce, nonce);
	memcpy(out + nonce, tag.mac, MNO_MAC_BYTES);
	return 0;
}

int mno_seal_put(struct mno_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct mno_seal *s, const void *raw, size_t raw_len, size_t *ret_bytes)
{
	struct mno_cipher *c = t->e->cipher;
	struct seal_head h = {.magic = SEAL_MAGIC,
		.version = c ? SEAL_CRYPT : SEAL_PLAIN,
		.kind = s->kind,
		.flags = s->flags,
		.suite = c ? (uint8_t)mno_cipher_suite(c) : 0,
		.count = s->count,
		.a = s->a,
		.b = s->b};
	MDB_val k = {.mv_size = klen, .mv_data = (void *)key}, v;
	const void *p;
	size_t len, total;
	bool packed;
	int r, rc;

	if (raw_len > MNO_SEAL_RAW_MAX || klen > KEY_LEN_MAX)
		return -E2BIG;
	r = pack(t->e, s->level ? s->level : SEAL_LEVEL, raw, raw_len, &p, &len, &packed);
	if (r < 0)
		return r;
	h.packed = packed;
	h.stored_len = (uint32_t)len;
	h.raw_len = (uint32_t)raw_len;
	total = sizeof(h) + guard_len(&h) + len;
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
	do { /* the current data key may be replaced between reading its id and sealing */
		if (c)
			h.key_id = mno_cipher_current(c);
		h.head_sum = 0;
		h.head_sum = (uint32_t)head_sum(key, klen, &h);
		memcpy(v.mv_data, &h, sizeof(h));
		r = guard(t, db, key, klen, &h, p, (uint8_t *)v.mv_data + sizeof(h));
	} while (r == -EAGAIN);
	memset((char *)v.mv_data + total, 0, padded(total) - total);
	if (r == 0 && ret_bytes)
		*ret_bytes = padded(total);
	return r;
}

static int head_check(const void *val, size_t len, enum mno_seal_kind kind, struct seal_head *h)
{
	if (len < sizeof(*h))
		return -MNO_ECORRUPT;
	memcpy(h, val, sizeof(*h));
	if (h->magic != SEAL_MAGIC || h->kind != kind || h->packed > 1)
		return -MNO_ECORRUPT;
	if (h->version == SEAL_MARK)
		return len == sizeof(*h) ? 0 : -MNO_ECORRUPT;
	if (h->version > SEAL_MARK)
		return -MNO_EVERSION;
	if (h->version == SEAL_CRYPT ? !mno_suite_nonce(h->suite) : h->suite || h->key_id)
		return -MNO_ECORRUPT;
	if (h->stored_len > len || h->raw_len > MNO_SEAL_RAW_MAX)
		return -MNO_ECORRUPT;
	if (padded(sizeof(*h) + guard_len(h) + h->stored_len) != len ||
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

/* Documents have heads of their own: 8 bytes, format and suite first; a suite that is none. */
#define DOC_HEAD 8u
#define DOC_MARK 14u
#define DOC_GONE 13u /* the same, and its quarantined value was dropped */

size_t mno_seal_padded(size_t n)
{
	return padded(n);
}

bool mno_seal_is_mark(enum mno_db db, const void *val, size_t len)
{
	const uint8_t *p = val;

	if (db == MNO_DB_DOC || db == MNO_DB_DOC_OLD || db == MNO_DB_DOC_FEED)
		return len == DOC_HEAD && ((p[0] & 15) == DOC_MARK || (p[0] & 15) == DOC_GONE);
	return !mno_db_in(db, MNO_CLASS_DOCS) && len == sizeof(struct seal_head) &&
	       p[2] == SEAL_MARK;
}

/* Of a mark whose value had a head that could be read, or not. */
static bool mark_sum(const void *key, size_t klen, const struct seal_head *h, bool *ret_known)
{
	struct seal_head clean = *h;
	uint32_t sum;

	clean.head_sum = 0;
	sum = (uint32_t)head_sum(key, klen, &clean);
	*ret_known = h->head_sum == sum;
	return *ret_known || h->head_sum == sum + 1;
}

bool mno_seal_is_gone(enum mno_db db, const void *key, size_t klen, const void *val, size_t len)
{
	struct seal_head h;
	bool known;

	if (!mno_seal_is_mark(db, val, len))
		return false;
	if (mno_db_in(db, MNO_CLASS_DOCS))
		return (*(const uint8_t *)val & 15) == DOC_GONE;
	memcpy(&h, val, sizeof(h));
	return h.raw_len == GONE && mark_sum(key, klen, &h, &known);
}

void mno_seal_gone(enum mno_db db, const void *key, size_t klen, void *mark)
{
	struct seal_head h;
	bool known;

	if (mno_db_in(db, MNO_CLASS_DOCS)) {
		*(uint8_t *)mark = (uint8_t)(1u << 4 | DOC_GONE);
		return;
	}
	memcpy(&h, mark, sizeof(h));
	mark_sum(key, klen, &h, &known);
	h.raw_len = GONE;
	h.head_sum = 0;
	h.head_sum = (uint32_t)head_sum(key, klen, &h) + !known;
	memcpy(mark, &h, sizeof(h));
}

size_t mno_seal_mark(enum mno_db db, const void *key, size_t klen, const void *val, size_t len,
	uint8_t ret[MNO_SEAL_MARK_MAX])
{
	struct seal_head h = {.magic = SEAL_MAGIC}, was;
	bool known;

	if (mno_db_in(db, MNO_CLASS_DOCS)) {
		memset(ret, 0, DOC_HEAD);
		memcpy(ret, val, MNO_MIN(len, (size_t)DOC_HEAD));
		ret[0] = (uint8_t)(1u << 4 | DOC_MARK);
		return DOC_HEAD;
	}
	known = len >= sizeof(was);
	if (known) {
		memcpy(&was, val, sizeof(was));
		known = (uint32_t)head_sum(key, klen, &was) == was.head_sum;
	}
	if (known)
		h = was;
	h.version = SEAL_MARK;
	h.stored_len = h.raw_len = 0;
	h.packed = 0;
	h.head_sum = 0;
	h.head_sum =
		(uint32_t)head_sum(key, klen, &h) + !known; /* else it cannot be read, either */
	memcpy(ret, &h, sizeof(h));
	return sizeof(h);
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

/* Checks the value; *@ret_p is its data: in @plain (of stored_len bytes) if it was encrypted. */
static int unguard(struct mno_env *e, enum mno_db db, const void *key, size_t klen,
	const struct seal_head *h, const uint8_t *in, void *plain, const void **ret_p)
{
	struct mno_seal_tag tag = {.suite = h->suite, .key_id = h->key_id};
	size_t nonce = mno_suite_nonce(h->suite);
	uint8_t aad[AAD_MAX];
	uint64_t sum;

	if (h->version == SEAL_PLAIN) {
		memcpy(&sum, in, sizeof(sum));
		*ret_p = in + sizeof(sum);
		return sum == seal_sum(key, klen, h, *ret_p) ? 0 : -MNO_ECORRUPT;
	}
	if (!e || !e->cipher)
		return -ENOKEY;
	memcpy(tag.nonce, in, nonce);
	memcpy(tag.mac, in + nonce, MNO_MAC_BYTES);
	*ret_p = plain;
	return mno_cipher_open_value(e->cipher, &tag, aad, fill_aad(aad, e, db, key, klen, h),
		in + nonce + MNO_MAC_BYTES, h->stored_len, plain);
}

static int open_sealed(struct mno_env *e, enum mno_db db, ZSTD_DCtx *z, const void *key,
	size_t klen, const void *val, size_t len, enum mno_seal_kind kind, struct mno_seal *ret,
	struct mno_buf *raw)
{
	struct seal_head h;
	const void *src;
	size_t room;
	char *dst;
	int r = klen > KEY_LEN_MAX ? -MNO_ECORRUPT : head_check(val, len, kind, &h);

	if (r < 0)
		return r;
	if ((uint32_t)head_sum(key, klen, &h) != h.head_sum || h.version == SEAL_MARK)
		return -MNO_ECORRUPT;
	/* an encrypted value is first made plain behind the room for what it unpacks to */
	room = (size_t)h.raw_len + SLACK;
	mno_buf_reset(raw);
	dst = mno_buf_reserve(raw, room + (h.version == SEAL_CRYPT ? h.stored_len : 0));
	if (!dst)
		return -ENOMEM;
	r = unguard(e, db, key, klen, &h, (const uint8_t *)val + sizeof(h), dst + room, &src);
	if (r == 0)
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

int mno_seal_open(struct mno_env *e, enum mno_db db, ZSTD_DCtx *z, const void *key, size_t klen,
	const void *val, size_t len, enum mno_seal_kind kind, struct mno_seal *ret,
	struct mno_buf *raw)
{
	int r = open_sealed(e, db, z, key, klen, val, len, kind, ret, raw);

	/* of a newer version there is none in a store of this one: the byte is damaged */
	if ((r == -MNO_ECORRUPT || r == -MNO_EVERSION) && e)
		mno_quarantine_note(e, db, key, klen, val, len);
	return r;
}
