/* SPDX-License-Identifier: Apache-2.0 */
/* The suites, one row each. */
#include <string.h>
#include "crypt_internal.h"

static bool always(void)
{
	return true;
}
static bool aes_available(void)
{
	return crypto_aead_aes256gcm_is_available() == 1;
}

static void aes_seal(const struct dek *d, struct mno_seal_tag *t, const void *aad, size_t aad_len,
	const void *in, size_t n, void *out)
{
	crypto_aead_aes256gcm_encrypt_detached_afternm(
		out, t->mac, NULL, in, n, aad, aad_len, NULL, t->nonce, &d->aes);
}
static int aes_open(const struct dek *d, const struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out)
{
	return crypto_aead_aes256gcm_decrypt_detached_afternm(
		out, NULL, in, n, t->mac, aad, aad_len, t->nonce, &d->aes);
}

static void xchacha_seal(const struct dek *d, struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out)
{
	crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
		out, t->mac, NULL, in, n, aad, aad_len, NULL, t->nonce, d->key);
}
static int xchacha_open(const struct dek *d, const struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out)
{
	return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
		out, NULL, in, n, t->mac, aad, aad_len, t->nonce, d->key);
}

/* SipHash takes one message: both parts are hashed under one half of the key, the pair under the
 * other. */
static void plain_mac(const struct dek *d, const void *aad, size_t aad_len, const void *in,
	size_t n, uint8_t mac[MNO_MAC_BYTES])
{
	struct {
		uint8_t part[2][16];
		uint64_t len[2];
	} m = {.len = {aad_len, n}};

	crypto_shorthash_siphashx24(m.part[0], aad, aad_len, d->key);
	crypto_shorthash_siphashx24(m.part[1], in, n, d->key);
	crypto_shorthash_siphashx24(mac, (const uint8_t *)&m, sizeof(m), d->key + 16);
}
static void plain_seal(const struct dek *d, struct mno_seal_tag *t, const void *aad, size_t aad_len,
	const void *in, size_t n, void *out)
{
	plain_mac(d, aad, aad_len, in, n, t->mac);
	if (n)
		memmove(out, in, n);
}
static int plain_open(const struct dek *d, const struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out)
{
	uint8_t mac[MNO_MAC_BYTES];

	plain_mac(d, aad, aad_len, in, n, mac);
	if (sodium_memcmp(mac, t->mac, sizeof(mac)))
		return -1;
	if (n)
		memmove(out, in, n);
	return 0;
}

static const struct suite suites[] = {
	[MNO_SUITE_NONE] = {0, always, plain_seal, plain_open},
	[MNO_SUITE_AES256GCM] = {12, aes_available, aes_seal, aes_open},
	[MNO_SUITE_XCHACHA20] = {24, always, xchacha_seal, xchacha_open},
};

const struct suite *suite_get(int s)
{
	return s >= 0 && s < (int)ARRAY_SIZE(suites) ? &suites[s] : NULL;
}

enum mno_suite suite_auto(void)
{
	return aes_available() ? MNO_SUITE_AES256GCM : MNO_SUITE_XCHACHA20;
}

size_t mno_suite_nonce(enum mno_suite s)
{
	const struct suite *u = suite_get(s);

	return u ? u->nonce : 0;
}
