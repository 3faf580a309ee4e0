/* SPDX-License-Identifier: Apache-2.0 */
/* The set of data keys of one environment: shared by cipher.c (values) and cipher_keys.c (file). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "crypt_internal.h"

#define STRIPES 8

/*
 * Place of one DEK, kept until the cipher is closed. A user counts itself in before it takes the
 * pointer; drop takes the pointer away, then waits until nobody is counted: no lock for users.
 * Counters of several lines, so that readers on different CPUs do not share one.
 */
struct slot {
	struct dek *_Atomic dek; /* owned; NULL: dropped */
	_Atomic uint64_t sealed;
	struct {
		_Alignas(64) _Atomic uint32_t n;
	} users[STRIPES];
};

struct mno_cipher {
	uint8_t env_id[16];
	uint8_t kek_id[MNO_KEY_ID_BYTES]; /* of the KEK that wraps the file; under lock */
	pthread_mutex_t lock;             /* changes of the set and the file */
	struct slot *_Atomic slots[256];  /* owned, by DEK id; 0 is none */
	_Atomic uint8_t current;
	uint8_t last; /* id given out last: none is given twice before all others were */
	unsigned n;
	struct nonce_pool *nonces;
};
