/* SPDX-License-Identifier: Apache-2.0 */
/* What batches of processes and records hold, for whoever looks for damage. */
#include "../store/verify.h"
#include "batch.h"
#include "mno/err.h"
#include "mno/event.h"
#include "mno/time.h"

int verify_proc(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	_cleanup_free_ struct mno_proc *rows = NULL;
	size_t n;
	int r = batch_decode((uint8_t *)raw->data, raw->len, &rows, &n);

	return r == 0 && n != s->count ? -MNO_ECORRUPT : r;
}

int verify_event(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw)
{
	struct mno_hdr h;

	for (size_t at = 0; at < raw->len; at += h.size) {
		if (raw->len - at < sizeof(h))
			return -MNO_ECORRUPT;
		memcpy(&h, raw->data + at, sizeof(h));
		if (h.size < sizeof(h) || h.size > raw->len - at || h.size % 8)
			return -MNO_ECORRUPT;
	}
	return 0;
}

uint64_t tell_batch(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	if (!head) {
		mno_buf_adds(out, "processes or records up to ");
		mno_time_text((int64_t)(mno_get_be64(k) / NS_PER_MS), out);
		return 0;
	}
	mno_buf_addf(out, "%u %s from ", head->count,
		head->kind == MNO_SEAL_PROC ? "ended processes" : "records");
	mno_time_text((int64_t)(head->a / NS_PER_MS), out);
	mno_buf_adds(out, " to ");
	mno_time_text((int64_t)(head->b / NS_PER_MS), out);
	return head->count;
}
