/* SPDX-License-Identifier: Apache-2.0 */
/* Ledger rows as bytes: columns of varints over a table of distinct strings. */
#pragma once

#include "../store/store_internal.h"
#include "mno/ledger.h"

#define BATCH_ROWS 4096u
#define BATCH_TEXT (8u << 20) /* bytes of strings in one batch */

/* Appends the encoding of @n rows (at most BATCH_ROWS) given by @rows. -ENOMEM. */
int batch_encode(const struct mno_proc *const *rows, size_t n, const uint8_t hash_key[16],
	struct mno_buf *out);
/*
 * Decodes into *@ret (malloc'ed array of *@ret_n rows, whose strings point into @raw).
 * -MNO_ECORRUPT on anything that batch_encode() does not write, -ENOMEM.
 */
int batch_decode(const uint8_t *raw, size_t len, struct mno_proc **ret, size_t *ret_n);
