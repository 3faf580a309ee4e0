/* SPDX-License-Identifier: Apache-2.0 */
/* What the databases of the series hold, for whoever looks for damage. */
#include <errno.h>
#include "../store/verify.h"
#include "mno/err.h"
#include "series_internal.h"

int verify_series(const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	int r = key_parse(raw->data, raw->len, &k);

	return r == -EINVAL ? -MNO_ECORRUPT : r;
}

int verify_block(const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct block *b = malloc(sizeof(*b));
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	size_t n;
	int r = b ? block_open((uint8_t *)raw->data, raw->len, b) : -ENOMEM;

	for (unsigned i = 0; i < GROUP_SERIES && r == 0; i++)
		if (b->columns >> i & 1)
			r = block_column(b, i, idx, v, &n);
	return r;
}

uint64_t tell_series(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_addf(
		out, "name and labels of series %u; its samples have no name", mno_get_be32(k));
	return 1;
}

/* Without a readable head only the begin is known. */
uint64_t tell_block(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	uint32_t group = mno_get_be32(k);

	mno_buf_addf(out, "samples of the series %u to %u from ", group * GROUP_SERIES,
		group * GROUP_SERIES + GROUP_SERIES - 1);
	mno_time_text(mno_time_unkey(mno_get_be64(k + 4)), out);
	if (!head) {
		mno_buf_adds(out, " to the next block");
		return 0;
	}
	mno_buf_adds(out, " to ");
	mno_time_text(mno_time_unkey(head->a), out);
	mno_buf_addf(out, " (%llu samples of %u series)", (unsigned long long)head->b, head->count);
	return head->b;
}

uint64_t tell_tail(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "the samples of ");
	mno_time_text(mno_time_unkey(mno_get_be64(k)), out);
	mno_buf_adds(out, " and of the following rows, up to the next sealed block");
	return 0;
}
