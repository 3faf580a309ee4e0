/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* 16 bytes of BLAKE2b over @p, under the 32-byte @key or none (Aumasson et al. 2013). Pure. */
void mno_hash16(const uint8_t *key, const void *p, size_t n, uint8_t ret[16]);
/* Random bytes for a key. 0, -errno. */
int mno_random_key(uint8_t ret[32]);
