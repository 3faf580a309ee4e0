/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rollups: what a series did in each 10 s, 1 min and 1 h, kept longer than its samples. They are
 * made from the samples in windows of 30 min, 3 h and 1 day, when a window is over; what comes late
 * has its window made again. Staleness marks are no samples. Native histograms have none.
 */
#pragma once

#include "mno/series.h"

enum mno_tier { MNO_TIER_10S, MNO_TIER_1M, MNO_TIER_1H, MNO_TIER_MAX };

/* Name ("1m") and step of a tier. Any thread. */
const char *mno_tier_name(enum mno_tier t);
int64_t mno_tier_step_ms(enum mno_tier t);

/* What happened from t_ms (a multiple of the step) to one step later. */
struct mno_rollup {
	int64_t t_ms;
	double count;       /* of samples, over 0 */
	double sum;         /* NaN if a sample was */
	double min, max;    /* of samples that are not NaN; NaN if all are */
	double first, last; /* to the last bit */
	/* What a counter had when it began anew, summed up: its increase is last - first + resets.
	 * NaN if more than one sample in four (and more than one) went down: no counter. */
	double resets;
};

/*
 * Makes what is due, in bounded steps, inside the store's transaction @txn, in which nothing was
 * added yet (what is read is what was committed): some milliseconds at most. *@ret_more: there is more due now. Writer thread. Errors of the store: abort @txn and call
 * mno_series_rollback(), which forgets the step, too.
 */
int mno_rollup_run(struct mno_series *s, struct mno_txn *txn, bool *ret_more);

/*
 * Samples of the series of @id at @t_ms came after their windows had been made: they are made
 * again by later mno_rollup_run() calls. Part of @txn. Writer thread.
 */
int mno_rollup_mark(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms);

/*
 * Points of @t with t0 <= t_ms <= t1 of each id (ascending), in order of time: up to 180 of one
 * series a call, series are mixed. @p is borrowed. *@ret_until (may be NULL): up to which time
 * windows have been made; later ones are in the samples only. *@ret_damaged (may be NULL) counts
 * windows that could not be read. Non-zero of @fn stops and is returned. Any thread.
 */
int mno_rollup_read(struct mno_series *s, enum mno_tier t, const uint32_t *ids, size_t n,
	int64_t t0, int64_t t1,
	int (*fn)(void *arg, uint32_t id, const struct mno_rollup *p, size_t n), void *arg,
	int64_t *ret_until, uint64_t *ret_damaged);

/* Deletes the partitions of @t that end before @t_ms. Writer thread, outside of a transaction that
 * writes to them. */
int mno_rollup_expire(struct mno_series *s, enum mno_tier t, int64_t t_ms);

struct mno_rollup_stat {
	uint64_t points, bytes; /* made since open, and what they took */
	uint64_t remade;        /* windows of groups made again since open */
	int64_t until_ms;       /* windows up to here are made; INT64_MIN: none yet */
};
/* Any thread. */
void mno_rollup_stat(struct mno_series *s, enum mno_tier t, struct mno_rollup_stat *ret);
