/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file "key" of an environment, integers little-endian:
 *   head   "mnokey\r\n", version u32, count u16, id of the current DEK u8, id given last u8,
 *          id of the environment [16], id of the KEK [8]
 *   entry  DEK id u8, suite u8, 0 [6], nonce [24], DEK under the KEK [32], tag [16]; ids ascend
 *   end    keyed BLAKE2b-256 of all before: no entry can be left out or put back by others;
 *          BLAKE2b-128 of all before, in every version: tells damage from a wrong KEK
 * An entry is XChaCha20-Poly1305 under a key derived from the KEK, with environment, DEK id, suite
 * and version authenticated.
 */
#include <errno.h>
#include <string.h>
#include "crypt_internal.h"
#include "mno/err.h"

static const uint8_t magic[8] = "mnokey\r\n";
static const char ctx_wrap[8] = "mno:wrap", ctx_file[8] = "mno:file";

#define WRAP_AAD 22 /* environment, id, suite, version */

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}
static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void checksum(const uint8_t *p, size_t n, uint8_t sum[CHECKSUM])
{
	crypto_generichash_blake2b(sum, CHECKSUM, p, n, NULL, 0);
}

static int parse_entry(const uint8_t *p, struct keyfile *f, unsigned i)
{
	static const uint8_t zeros[6];
	struct keyfile_entry *e = &f->e[i];

	*e = (struct keyfile_entry){.id = p[0], .suite = p[1], .nonce = p + 8, .box = p + 32};
	if (!suite_get(e->suite) || memcmp(p + 2, zeros, sizeof(zeros)))
		return -MNO_ECORRUPT;
	return e->id > (i ? f->e[i - 1].id : 0) ? 0 : -MNO_ECORRUPT;
}

static int parse_head(const uint8_t *p, size_t n, struct keyfile *f)
{
	uint8_t sum[CHECKSUM];

	if (n < KEYFILE_HEAD + CHECKSUM || n > KEYFILE_MAX || memcmp(p, magic, sizeof(magic)))
		return -MNO_ECORRUPT;
	checksum(p, n - CHECKSUM, sum);
	if (memcmp(sum, p + n - CHECKSUM, CHECKSUM) || get32(p + 8) == 0)
		return -MNO_ECORRUPT;
	if (get32(p + 8) > KEYFILE_FORMAT)
		return -MNO_EVERSION;
	f->n = p[12] | (unsigned)p[13] << 8;
	f->current = p[14];
	f->last = p[15];
	memcpy(f->env_id, p + 16, sizeof(f->env_id));
	memcpy(f->kek_id, p + 32, sizeof(f->kek_id));
	if (f->n == 0 || f->n > MNO_CIPHER_KEYS || !f->last ||
		n != KEYFILE_HEAD + (size_t)f->n * KEYFILE_ENTRY + KEYFILE_MAC + CHECKSUM)
		return -MNO_ECORRUPT;
	return 0;
}

int keyfile_parse(const uint8_t *p, size_t n, struct keyfile *ret)
{
	bool current = false;
	int r = parse_head(p, n, ret);

	for (unsigned i = 0; r == 0 && i < ret->n; i++) {
		r = parse_entry(p + KEYFILE_HEAD + i * KEYFILE_ENTRY, ret, i);
		current |= ret->e[i].id == ret->current;
	}
	return r < 0 ? r : current ? 0 : -MNO_ECORRUPT;
}

static void file_mac(const struct mno_keys *k, const uint8_t *p, size_t n, uint8_t *mac)
{
	uint8_t key[32];

	keys_derive_own(k, ctx_file, key, sizeof(key));
	crypto_generichash_blake2b(mac, KEYFILE_MAC, p, n, key, sizeof(key));
	sodium_memzero(key, sizeof(key));
}

int keyfile_verify(const struct mno_keys *k, const uint8_t *p, size_t n)
{
	size_t body = n - KEYFILE_MAC - CHECKSUM;
	uint8_t mac[KEYFILE_MAC];

	file_mac(k, p, body, mac);
	return sodium_memcmp(mac, p + body, sizeof(mac)) ? -MNO_ECORRUPT : 0;
}

static void wrap_aad(const struct keyfile *f, uint8_t id, uint8_t suite, uint8_t aad[WRAP_AAD])
{
	memcpy(aad, f->env_id, 16);
	aad[16] = id;
	aad[17] = suite;
	put32(aad + 18, KEYFILE_FORMAT);
}

int keyfile_unwrap(const struct mno_keys *k, const struct keyfile *f, const struct keyfile_entry *e,
	uint8_t dek[DEK_BYTES])
{
	uint8_t key[32], aad[WRAP_AAD];
	int r;

	wrap_aad(f, e->id, e->suite, aad);
	keys_derive_own(k, ctx_wrap, key, sizeof(key));
	r = crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
		dek, NULL, e->box, DEK_BYTES, e->box + DEK_BYTES, aad, sizeof(aad), e->nonce, key);
	sodium_memzero(key, sizeof(key));
	return r ? -MNO_ECORRUPT : 0;
}

size_t keyfile_begin(uint8_t *p, const struct mno_keys *k, const struct keyfile *f)
{
	memcpy(p, magic, sizeof(magic));
	put32(p + 8, KEYFILE_FORMAT);
	p[12] = (uint8_t)f->n;
	p[13] = (uint8_t)(f->n >> 8);
	p[14] = f->current;
	p[15] = f->last;
	memcpy(p + 16, f->env_id, sizeof(f->env_id));
	memcpy(p + 32, mno_keys_id(k), MNO_KEY_ID_BYTES);
	return KEYFILE_HEAD;
}

size_t keyfile_add(uint8_t *p, size_t at, const struct mno_keys *k, const struct keyfile *f,
	uint8_t id, uint8_t suite, const uint8_t dek[DEK_BYTES])
{
	uint8_t key[32], aad[WRAP_AAD], *e = p + at;

	memset(e, 0, 8);
	e[0] = id;
	e[1] = suite;
	randombytes_buf(e + 8, MNO_NONCE_MAX);
	wrap_aad(f, id, suite, aad);
	keys_derive_own(k, ctx_wrap, key, sizeof(key));
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(e + 32, e + 32 + DEK_BYTES, NULL, dek,
		DEK_BYTES, aad, sizeof(aad), NULL, e + 8, key);
	sodium_memzero(key, sizeof(key));
	return at + KEYFILE_ENTRY;
}

size_t keyfile_end(uint8_t *p, size_t at, const struct mno_keys *k)
{
	file_mac(k, p, at, p + at);
	checksum(p, at + KEYFILE_MAC, p + at + KEYFILE_MAC);
	return at + KEYFILE_MAC + CHECKSUM;
}
