/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "../crypt/crypt.h"
#include "docs_crypt.h"
#include "mno/err.h"

#define SUITE_SUM 15u /* no cipher: a checksum, against damage only */
#define AAD_MAX   (MNO_ENV_ID_LEN + 1 + DOCS_HEAD + 511)

size_t docs_crypt_over(unsigned suite)
{
	return suite == SUITE_SUM ? DOCS_SUM : 1 + mno_suite_nonce(suite) + MNO_MAC_BYTES;
}

uint8_t docs_crypt_suite(const struct mno_docs *d)
{
	return d->e->cipher ? (uint8_t)mno_cipher_suite(d->e->cipher) : SUITE_SUM;
}

/* What a value is bound to: environment, database, head (version), key. */
static size_t make_aad(const struct mno_docs *d, enum mno_db db, const uint8_t *head,
	const void *key, size_t klen, uint8_t *aad)
{
	uint8_t *p = aad;

	memcpy(p, d->e->id, MNO_ENV_ID_LEN);
	p += MNO_ENV_ID_LEN;
	*p++ = (uint8_t)db;
	memcpy(p, head, DOCS_HEAD);
	p += DOCS_HEAD;
	memcpy(p, key, klen);
	return (size_t)(p + klen - aad);
}

/* Keyed with the place, then the payload: so a value that is elsewhere does not fit. */
static void make_sum(const struct mno_docs *d, const uint8_t *aad, size_t aad_len, const void *in,
	size_t n, uint8_t *ret)
{
	uint64_t part[2] = {docs_sum(d, aad, aad_len), docs_sum(d, in, n)};
	uint64_t sum = docs_sum(d, part, sizeof(part));

	memcpy(ret, &sum, DOCS_SUM);
}

int docs_crypt_seal(struct mno_docs *d, enum mno_db db, const void *key, size_t klen, uint8_t *val,
	const void *in, size_t n)
{
	uint8_t aad[AAD_MAX], *p = val + DOCS_HEAD;
	size_t aad_len = make_aad(d, db, val, key, klen, aad), nonce;
	struct mno_seal_tag tag;
	unsigned suite = val[0] & 15;
	int r;

	if (suite == SUITE_SUM) {
		make_sum(d, aad, aad_len, in, n, p);
		memcpy(p + DOCS_SUM, in, n);
		return 0;
	}
	nonce = mno_suite_nonce(suite);
	r = mno_cipher_seal(d->e->cipher, aad, aad_len, in, n, p + docs_crypt_over(suite), &tag);
	if (r < 0)
		return r;
	if (tag.suite != suite) /* the key was changed to one of another suite just now */
		return -EAGAIN;
	*p++ = tag.key_id;
	memcpy(p, tag.nonce, nonce);
	memcpy(p + nonce, tag.mac, MNO_MAC_BYTES);
	return 0;
}

int docs_crypt_open(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len, struct mno_buf *out)
{
	const uint8_t *v = val, *p = v + DOCS_HEAD;
	unsigned suite = v[0] & 15;
	size_t over = docs_crypt_over(suite), nonce = mno_suite_nonce(suite), n, aad_len;
	struct mno_seal_tag tag = {.suite = (uint8_t)suite};
	uint8_t aad[AAD_MAX], sum[DOCS_SUM];
	char *room;
	int r = 0;

	if (len == DOCS_HEAD && suite != SUITE_SUM) /* a mark: the value is in quarantine */
		return -MNO_ECORRUPT;
	/* a value without cipher is none of an environment that has one */
	if (len < DOCS_HEAD + over || (suite == SUITE_SUM) != !d->e->cipher || klen > 511)
		return -MNO_ECORRUPT;
	n = len - DOCS_HEAD - over;
	aad_len = make_aad(d, db, v, key, klen, aad);
	room = mno_buf_reserve(out, n ?: 1);
	if (!room)
		return -ENOMEM;
	if (suite == SUITE_SUM) {
		make_sum(d, aad, aad_len, p + over, n, sum);
		if (memcmp(sum, p, DOCS_SUM))
			return -MNO_ECORRUPT;
		memcpy(room, p + over, n);
	} else {
		tag.key_id = p[0];
		memcpy(tag.nonce, p + 1, nonce);
		memcpy(tag.mac, p + 1 + nonce, MNO_MAC_BYTES);
		r = mno_cipher_open_value(d->e->cipher, &tag, aad, aad_len, p + over, n, room);
	}
	if (r == 0)
		mno_buf_commit(out, n);
	return r;
}
