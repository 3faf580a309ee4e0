/* SPDX-License-Identifier: Apache-2.0 */
/* A sealed block from any bytes: refused or decoded, never a read outside. Both formats. */
#include <assert.h>

#include "../../libmno/src/series/series_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_v1(const uint8_t *raw, size_t len)
{
	uint16_t idx[BLOCK_V1_ROWS];
	double v[BLOCK_V1_ROWS];
	struct block_v1 b;

	if (block_v1_open(raw, len, &b) < 0)
		return;
	for (unsigned col = 0; col < GROUP_SERIES; col++) {
		size_t n;

		if (block_v1_column(&b, col, idx, v, &n) < 0)
			continue;
		assert(n <= b.n);
		for (size_t i = 0; i < n; i++)
			assert(idx[i] < b.n && (i == 0 || idx[i] > idx[i - 1]));
	}
}

static void decode_column(const uint8_t *p, size_t len, size_t ticks)
{
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	struct column c;

	if (column_decode(p, len, ticks, &c, v) < 0)
		return;
	assert(c.n && column_ticks(&c, ticks, idx) == c.n);
	for (size_t i = 0; i < c.n; i++)
		assert(idx[i] < ticks && (i == 0 || idx[i] > idx[i - 1]));
}

static void decode(const uint8_t *raw, size_t len)
{
	struct piece p[BLOCK_WINDOWS];
	struct block b;

	if (block_open(raw, len, &b) < 0)
		return;
	for (size_t i = 0; i < b.n_groups; i++) {
		if (block_pieces(&b, i, p) < 0)
			continue;
		for (size_t w = 0; w < b.n_windows; w++)
			for (uint64_t left = p[w].columns; left; left &= left - 1) {
				unsigned c = (unsigned)__builtin_ctzll(left);

				decode_column(p[w].p[c], p[w].len[c], b.w[w].n);
			}
	}
}

static void decode_aggs(const uint8_t *raw, size_t len)
{
	struct mno_agg one[GROUP_SERIES];
	struct agg_reader a;
	uint64_t columns;
	uint32_t group;

	if (agg_open(&a, raw, len, 1000, 961000) < 0)
		return;
	while (agg_next(&a, &group, &columns, one) == 0)
		for (uint64_t c = columns; c; c &= c - 1)
			assert(one[__builtin_ctzll(c)].first_ms <= one[__builtin_ctzll(c)].last_ms);
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
	decode_v1(copy, size);
	decode_aggs(copy, size);
	if (size)
		decode_column(copy + 1, size - 1, copy[0] % HEAD_ROWS + 1u);
	/* and as a value of the database */
	if (size > 12 && mno_seal_open(NULL, MNO_DB_PACK, NULL, copy, 12, copy + 12, size - 12,
				 MNO_SEAL_BLOCK, &info, &raw) == 0)
		decode((uint8_t *)raw.data, raw.len);
	mno_buf_done(&raw);
	free(copy);
	return 0;
}
