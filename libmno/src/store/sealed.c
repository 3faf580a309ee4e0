/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many values a data key has sealed: random nonces bear 2^32. The count is kept in META, ahead
 * of the truth by up to a step, so that most commits do not write it and no crash makes it less.
 */
#include <errno.h>
#include "../crypt/crypt.h"
#include "mno/err.h"
#include "store_internal.h"

#define COUNT_KEY  "sealed"
#define STEP       4096u
#define SEALED_MAX (1ULL << 31) /* half of what random nonces allow: a new data key is due */

struct count {
	uint64_t n;
	uint8_t key_id, pad[7];
};

int mno_env_count_load(struct mno_env *e)
{
	_cleanup_buf_ struct mno_buf v = {0};
	struct count c;
	int r;

	if (!e->cipher)
		return 0;
	r = mno_env_fetch(e, MNO_DB_META, MNO_SEEK_EQ, COUNT_KEY, strlen(COUNT_KEY), NULL, &v);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (v.len != sizeof(c))
		return 0;
	memcpy(&c, v.data, sizeof(c));
	e->reserved_key = mno_cipher_current(e->cipher);
	if (c.key_id != e->reserved_key)
		return 0;
	/* a flipped bit would end the key's life at once: then it is only changed early */
	e->reserved = MNO_MIN(c.n, SEALED_MAX + STEP);
	mno_cipher_counted(e->cipher, e->reserved);
	return 0;
}

int mno_env_count_save(struct mno_env *e)
{
	struct count c = {0};

	if (!e->cipher)
		return 0;
	c.key_id = mno_cipher_current(e->cipher);
	c.n = mno_cipher_sealed(e->cipher);
	e->key_used_up = c.n > SEALED_MAX;
	if (c.key_id == e->reserved_key && c.n <= e->reserved)
		return 0;
	c.n += STEP;
	e->reserved = c.n;
	e->reserved_key = c.key_id;
	return mno_txn_put(&e->txn, MNO_DB_META, COUNT_KEY, strlen(COUNT_KEY), &c, sizeof(c));
}
