/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes of long data, and signatures of what a store hands out. */
#pragma once

#include "crypt.h"

#define MNO_DIGEST_BYTES 32
#define MNO_SIGN_BYTES   64
#define MNO_PUBLIC_BYTES 32

/* BLAKE2b-256 of what is added piece by piece. One thread. */
struct mno_digest;
/* -ENOMEM, -ENOSYS. */
int mno_digest_new(struct mno_digest **ret);
void mno_digest_add(struct mno_digest *d, const void *p, size_t n);
/* The hash of all that was added; the next piece begins a new one. */
void mno_digest_end(struct mno_digest *d, uint8_t ret[MNO_DIGEST_BYTES]);
/* NULL-safe, returns NULL. */
struct mno_digest *mno_digest_free(struct mno_digest *d);
MNO_DEFINE_CLEANUP(struct mno_digest *, mno_digest_free)
/* The same of bytes in memory. Pure. */
void mno_digest_of(const void *p, size_t n, uint8_t ret[MNO_DIGEST_BYTES]);

/*
 * Ed25519 (RFC 8032) with a key pair that is derived from the KEK: who has the KEK can tell that a
 * store with it made the signature. -ENOSYS.
 */
int mno_sign(const struct mno_keys *k, const void *p, size_t n, uint8_t ret_sig[MNO_SIGN_BYTES]);
int mno_sign_public(const struct mno_keys *k, uint8_t ret[MNO_PUBLIC_BYTES]);
/* Pure, but for mno_crypt_init(). */
bool mno_sign_check(const uint8_t pub[MNO_PUBLIC_BYTES], const void *p, size_t n,
	const uint8_t sig[MNO_SIGN_BYTES]);
