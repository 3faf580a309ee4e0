/* SPDX-License-Identifier: Apache-2.0 */
/* How the payload of a value is protected: head | key id | nonce | mac | payload, or with a
 * checksum when the environment has no cipher. */
#pragma once

#include "docs_internal.h"

uint8_t docs_crypt_suite(const struct mno_docs *d);
/* Bytes between head and payload. */
size_t docs_crypt_over(unsigned suite);
/* @val has its head already. Fills the rest. */
int docs_crypt_seal(struct mno_docs *d, enum mno_db db, const void *key, size_t klen, uint8_t *val,
	const void *in, size_t n);
/* Appends the payload to @out. -MNO_ECORRUPT */
int docs_crypt_open(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len, struct mno_buf *out);
