/* SPDX-License-Identifier: Apache-2.0 */
/* A batch of native histograms from any bytes: refused, or decoded to what encodes and decodes to
 * the same again. Also as a sealed value of late samples or histograms. */
#include <assert.h>
#include "../../libmno/src/series/native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct natives *a)
{
	struct natives *b = calloc(1, sizeof(*b));
	_cleanup_buf_ struct mno_buf out = {0};

	if (!b)
		return;
	native_encode(a->v, a->n, &out);
	assert(!out.err);
	assert(native_decode((uint8_t *)out.data, out.len, b) == 0);
	assert(a->n == b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert(native_check(&a->v[i].h) == 0);
		assert(a->v[i].t_ms == b->v[i].t_ms);
		assert(native_equal(&a->v[i].h, &b->v[i].h));
	}
	natives_done(b);
	free(b);
}

static void decode(const uint8_t *raw, size_t len)
{
	struct natives *a = calloc(1, sizeof(*a));

	if (a && native_decode(raw, len, a) == 0)
		again(a);
	if (a)
		natives_done(a);
	free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 8);
	_cleanup_buf_ struct mno_buf raw = {0};
	struct mno_seal info;
	struct block *b;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	memset(copy + size, 0, 8);
	decode(copy, size);
	if (size > 12 && mno_seal_open(NULL, MNO_DB_HIST, NULL, copy, 12, copy + 12, size - 12,
				 MNO_SEAL_HIST, &info, &raw) == 0)
		decode((uint8_t *)raw.data, raw.len);
	b = malloc(sizeof(*b));
	if (b && size > 16 &&
		mno_seal_open(NULL, MNO_DB_LATE, NULL, copy, 16, copy + 16, size - 16,
			MNO_SEAL_LATE, &info, &raw) == 0)
		block_open((uint8_t *)raw.data, raw.len, b);
	free(b);
	free(copy);
	return 0;
}
