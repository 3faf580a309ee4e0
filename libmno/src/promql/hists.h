/* SPDX-License-Identifier: Apache-2.0 */
/* Native histograms in the answers of selectors: which stand for a step, and as what text. */
#pragma once

#include "mno/buf.h"
#include "mno/series.h"

/* One that is in the answer, or may be. */
struct hist_pick {
	int64_t t_ms;
	size_t off, len; /* in hists.text; len 0: a staleness mark */
};
/* Those of one series, ascending in time. */
struct hist_col {
	uint32_t id;
	size_t first, n; /* in hists.pick */
};
/* For which moments the newest one is wanted: start, start + step, ... <= end. */
struct hist_moments {
	int64_t start, end, step; /* step 0: all of them are wanted */
};

struct hists {
	struct hist_col *col; /* by id; owned */
	size_t n, cap;
	struct hist_pick *pick; /* owned */
	size_t n_pick, cap_pick;
	struct mno_buf text;
	uint64_t samples; /* what they count for: 16 bytes each, as Prometheus has it */
	uint64_t damaged; /* batches that could not be read */
};
/* Frees the arrays, zeroes the struct. */
void hists_done(struct hists *h);
/*
 * Reads histograms of @ids in [t0, t1] and keeps those of @m, as text. What was in @h goes. Memory: the
 * texts (@h->text.max), 40 bytes for each. -MNO_ELIMIT: they count for more than @max_samples; what
 * @check returns, asked now and then; -E2BIG, -ENOMEM.
 */
int hists_read(struct hists *h, struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0,
	int64_t t1, const struct hist_moments *m, size_t max_samples, int (*check)(const void *arg),
	const void *arg);
/* The histogram as Prometheus' API tells it: an object of count, sum and buckets not empty. Borders
 * may differ from its table of constants in the last digits. */
void hist_json(const struct mno_native_hist *h, struct mno_buf *out);
