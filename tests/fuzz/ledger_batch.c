/* SPDX-License-Identifier: Apache-2.0 */
/* A batch of ledger rows from any bytes; what decodes must encode and decode to the same. */
#include <assert.h>

#include "../../libmno/src/ledger/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(const struct mno_proc *a, const struct mno_proc *b)
{
	assert(memcmp(a, b, offsetof(struct mno_proc, exe)) == 0);
	assert(strcmp(a->exe, b->exe) == 0 && strcmp(a->cgroup, b->cgroup) == 0);
	assert(a->argv_len == b->argv_len && memcmp(a->argv, b->argv, a->argv_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16];
	const struct mno_proc *v[BATCH_ROWS];
	struct mno_proc *rows, *again;
	struct mno_buf raw = {0}, json = {0};
	size_t n, m;

	if (batch_decode(data, size, &rows, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct mno_json j;

		v[i] = &rows[i];
		mno_json_init(&j, &json);
		mno_proc_json(v[i], &j);
	}
	assert(batch_encode(v, n, key, &raw) == 0);
	assert(batch_decode((uint8_t *)raw.data, raw.len, &again, &m) == 0 && m == n);
	for (size_t i = 0; i < n; i++)
		check_row(&rows[i], &again[i]);
	free(again);
	free(rows);
	mno_buf_done(&raw);
	mno_buf_done(&json);
	return 0;
}
