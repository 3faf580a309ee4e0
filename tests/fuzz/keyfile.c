/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of keys from any bytes: refused or read, never a read outside. The input is taken as
 * it is, and with its checksum set right, which gets the parser past its first look.
 */
#include <assert.h>
#include <string.h>

#include "../../libmno/src/crypt/crypt_internal.h"
#include "mno/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sum_of(const uint8_t *p, size_t n, uint8_t sum[CHECKSUM])
{
	crypto_generichash_blake2b(sum, CHECKSUM, p, n, NULL, 0);
}

static void keyfile(const uint8_t *p, size_t n)
{
	struct mno_keys k = {.kek = {1}};
	struct keyfile f;
	uint8_t dek[DEK_BYTES];

	if (keyfile_parse(p, n, &f) < 0)
		return;
	assert(f.n >= 1 && f.n <= MNO_CIPHER_KEYS && f.current);
	for (unsigned i = 0; i < f.n; i++) {
		assert(suite_get(f.e[i].suite) && (i == 0 || f.e[i].id > f.e[i - 1].id));
		keyfile_unwrap(&k, &f, &f.e[i], dek);
	}
	keyfile_verify(&k, p, n);
}

static void record(const uint8_t *p, size_t n)
{
	struct record rec;

	if (record_parse(p, n, &rec) < 0)
		return;
	assert(key_source(rec.source) && memchr(rec.name, '\0', sizeof(rec.name)));
}

static void summed_keyfile(const uint8_t *data, size_t n)
{
	uint8_t *p = malloc(n + CHECKSUM);

	if (!p)
		return;
	memcpy(p, data, n);
	sum_of(p, n, p + n);
	keyfile(p, n + CHECKSUM);
	free(p);
}

static void summed_record(const uint8_t *data, size_t n)
{
	uint8_t sum[CHECKSUM], *p = malloc(n + 4 + 2 * CHECKSUM + 1);
	char text[2 * CHECKSUM + 1];

	if (!p)
		return;
	memcpy(p, data, n);
	sum_of(p, n, sum);
	sodium_bin2hex(text, sizeof(text), sum, sizeof(sum));
	memcpy(p + n, "sum ", 4);
	memcpy(p + n + 4, text, 2 * CHECKSUM);
	p[n + 4 + 2 * CHECKSUM] = '\n';
	record(p, n + 4 + 2 * CHECKSUM + 1);
	free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t kek[KEK_BYTES];

	if (mno_crypt_init() < 0)
		return 0;
	keyfile(data, size);
	record(data, size);
	summed_keyfile(data, size);
	summed_record(data, size);
	if (kek_parse(data, size, kek) == 0)
		assert(size >= KEK_BYTES && size <= 2 * KEK_BYTES + 2);
	return 0;
}
