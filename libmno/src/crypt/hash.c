/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sodium.h>
#include <sys/random.h>
#include "hash.h"

void mno_hash16(const uint8_t *key, const void *p, size_t n, uint8_t ret[16])
{
	crypto_generichash_blake2b(ret, 16, p, n, key, key ? 32 : 0);
}

int mno_random_key(uint8_t ret[32])
{
	ssize_t n = getrandom(ret, 32, 0);

	return n == 32 ? 0 : n < 0 ? -errno : -EIO;
}
