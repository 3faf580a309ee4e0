/* SPDX-License-Identifier: Apache-2.0 */
#include "sign.h"
#include <errno.h>
#include "crypt_internal.h"

#define CONTEXT "mnobksgn" /* of the key that signs backups */

struct mno_digest {
	crypto_generichash_blake2b_state s;
};

int mno_digest_new(struct mno_digest **ret)
{
	struct mno_digest *d;
	int r = mno_crypt_init();

	if (r < 0)
		return r;
	d = aligned_alloc(64, (sizeof(*d) + 63) / 64 * 64);
	if (!d)
		return -ENOMEM;
	crypto_generichash_blake2b_init(&d->s, NULL, 0, MNO_DIGEST_BYTES);
	*ret = d;
	return 0;
}

void mno_digest_add(struct mno_digest *d, const void *p, size_t n)
{
	crypto_generichash_blake2b_update(&d->s, p, n);
}

void mno_digest_end(struct mno_digest *d, uint8_t ret[MNO_DIGEST_BYTES])
{
	crypto_generichash_blake2b_final(&d->s, ret, MNO_DIGEST_BYTES);
	crypto_generichash_blake2b_init(&d->s, NULL, 0, MNO_DIGEST_BYTES);
}

struct mno_digest *mno_digest_free(struct mno_digest *d)
{
	free(d);
	return NULL;
}

void mno_digest_of(const void *p, size_t n, uint8_t ret[MNO_DIGEST_BYTES])
{
	crypto_generichash_blake2b(ret, MNO_DIGEST_BYTES, p, n, NULL, 0);
}

static int make_pair(const struct mno_keys *k, uint8_t pub[MNO_PUBLIC_BYTES],
	uint8_t secret[crypto_sign_ed25519_SECRETKEYBYTES])
{
	uint8_t seed[crypto_sign_ed25519_SEEDBYTES];
	int r = mno_crypt_init();

	if (r == 0)
		r = mno_keys_derive(k, CONTEXT, 1, seed, sizeof(seed));
	if (r == 0)
		crypto_sign_ed25519_seed_keypair(pub, secret, seed);
	sodium_memzero(seed, sizeof(seed));
	return r;
}

int mno_sign(const struct mno_keys *k, const void *p, size_t n, uint8_t ret_sig[MNO_SIGN_BYTES])
{
	uint8_t pub[MNO_PUBLIC_BYTES], secret[crypto_sign_ed25519_SECRETKEYBYTES];
	int r = make_pair(k, pub, secret);

	if (r == 0)
		crypto_sign_ed25519_detached(ret_sig, NULL, p, n, secret);
	sodium_memzero(secret, sizeof(secret));
	return r;
}

int mno_sign_public(const struct mno_keys *k, uint8_t ret[MNO_PUBLIC_BYTES])
{
	uint8_t secret[crypto_sign_ed25519_SECRETKEYBYTES];
	int r = make_pair(k, ret, secret);

	sodium_memzero(secret, sizeof(secret));
	return r;
}

bool mno_sign_check(const uint8_t pub[MNO_PUBLIC_BYTES], const void *p, size_t n,
	const uint8_t sig[MNO_SIGN_BYTES])
{
	return crypto_sign_ed25519_verify_detached(sig, p, n, pub) == 0;
}
