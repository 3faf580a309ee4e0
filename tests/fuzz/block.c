/* SPDX-License-Identifier: Apache-2.0 */
/* A sealed block from any bytes: refused or decoded, never a read outside. */
#include <assert.h>

#include "../../libmno/src/series/series_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *raw, size_t len)
{
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	struct block b;

	if (block_open(raw, len, &b) < 0)
		return;
	for (unsigned col = 0; col < GROUP_SERIES; col++) {
		size_t n;

		if (block_column(&b, col, idx, v, &n) < 0)
			continue;
		assert(n <= b.n);
		for (size_t i = 0; i < n; i++)
			assert(idx[i] < b.n && (i == 0 || idx[i] > idx[i - 1]));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 8);
	struct mno_buf raw = {0};
	struct mno_seal info;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	memset(copy + size, 0, 8);
	decode(copy, size);
	/* and as a value of the database */
	if (size > 12 && mno_seal_open(NULL, MNO_DB_BLOCK, NULL, copy, 12, copy + 12, size - 12,
				 MNO_SEAL_BLOCK, &info, &raw) == 0)
		decode((uint8_t *)raw.data, raw.len);
	mno_buf_done(&raw);
	free(copy);
	return 0;
}
