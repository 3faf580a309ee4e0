/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples that do not come in rows: late, out of order, imported. They lie beside the blocks in
 * the partition of their day, in LATE, as runs: one run is a sequence of blocks of one group of
 * series, in order of time and without overlap. Key: group u32 | run u32 | first time u64; the
 * block is that of block.c with one group. A run with a higher number was written later and wins.
 * Runs are merged as in a log-structured tree: when RUNS_DUE of one level are the newest ones they
 * become one of the next, so a group has a few dozen in a day at most, and a sample is rewritten
 * once a level.
 */
#pragma once

#include "series_internal.h"

#define LATE_KEY     16u
#define LATE_LEVELS  5u          /* of 1, 8, 64, 512, 4096 ticks and more */
#define LATE_DUE     8u          /* runs of a level */
#define LATE_RUNS    40u         /* runs at which all of them are merged */
#define LATE_BUDGET  (1u << 19)  /* samples merged by one transaction: some 50 ms */
#define LATE_SPAN_MS (3600000LL) /* of samples looked at together: bounds memory */
#define LATE_PART    (1u << 18)  /* samples copied at once by a merge */
#define LATE_DAYS    512u        /* partitions touched by one call */

/* Samples of one group, by column, ascending in time. */
struct late_col {
	size_t n, cap;
	int64_t *t;
	double *v;
};
struct late_set {
	uint32_t damaged; /* blocks that could not be read */
	struct late_col c[GROUP_SERIES];
};
void late_set_done(struct late_set *s);
void late_set_reset(struct late_set *s);
/* -ENOMEM */
int late_col_add(struct late_col *c, int64_t t, double v);
/* Puts the samples of @lo and @hi into @out (neither of them); of equal times @hi's. */
int late_col_merge(const struct late_col *lo, const struct late_col *hi, struct late_col *out);

/* --- late.c: which partitions have any ---------------------------------------------------------- */
int late_open(struct mno_series *s);
void late_close(struct mno_series *s);
void late_committed(struct mno_series *s); /* caller holds the write lock */
void late_rollback(struct mno_series *s);
/* The partition of @t_ms is there again. Caller holds the write lock. */
int late_join(struct mno_series *s, int64_t t_ms);
/* Forgets partitions that are no more. Caller holds the write lock. */
void late_forget(struct mno_series *s);
/* Caller holds the read lock. */
void late_stat(const struct mno_series *s, struct mno_series_stat *st);
/* Starts of partitions with samples in [t0, t1]; free @ret. Any thread. */
int late_days(struct mno_series *s, int64_t t0, int64_t t1, int64_t **ret, size_t *ret_n);
/* The figures of the partition that @p writes, to be changed and given to late_meta_put(). */
int late_meta_get(struct mno_series *s, struct mno_txn *p, int64_t t0_ms, struct late_meta **ret);
int late_meta_put(struct mno_txn *p, const struct late_meta *m);
/* Whether the open transaction or an earlier one put samples at or behind @t_ms. Writer thread. */
bool late_behind(const struct mno_series *s, int64_t t_ms);

/* --- late_run.c: runs --------------------------------------------------------------------------- */
/* Where to look: a read or a write transaction of a partition. */
struct late_view {
	struct mno_env *e;
	MDB_txn *t;
	ZSTD_DCtx *z;
	size_t left;           /* samples that may still be taken; -MNO_ELIMIT */
	struct late_reader *q; /* made on first use: call late_view_done() */
};
struct late_reader;
void late_view_done(struct late_view *w);
struct late_run {
	uint32_t run;
	unsigned level;
};
/* Runs of a group from the newest on, @max at most. */
int late_some(struct late_view *w, uint32_t group, struct late_run *ret, size_t max, size_t *ret_n);
/* Samples of @want in [t0, t1] of one run are put under those of @acc. */
int late_run_read(struct late_view *w, uint32_t group, uint32_t run, uint64_t want, int64_t t0,
	int64_t t1, struct late_set *acc);
/* All runs. */
int late_read(struct late_view *w, uint32_t group, uint64_t want, int64_t t0, int64_t t1,
	struct late_set *acc);

/* Makes the blocks of a run. 600 KiB. */
struct late_writer;
int late_writer_new(struct late_writer **ret);
struct late_writer *late_writer_free(struct late_writer *w);
MNO_DEFINE_CLEANUP(struct late_writer *, late_writer_free)
int late_writer_begin(struct late_writer *w, struct mno_txn *p, struct late_meta *m, uint32_t group,
	uint32_t run, unsigned level);
/* Each call has later samples than the one before. */
int late_writer_add(struct late_writer *w, const struct late_set *s);
int late_writer_end(struct late_writer *w);
unsigned late_level(size_t ticks);

/* --- late_read.c -------------------------------------------------------------------------------- */
/* The late samples of some groups, for one read. Zero it; late_days() fills days. */
struct late_gather {
	int64_t *days;
	size_t n_days;
	struct late_set *set; /* by group, up to 16 of them */
	size_t n_sets, cap_sets;
	struct late_col merged;
};
void late_gather_done(struct late_gather *g);
/* Fills g->set with the columns @want of @n groups. -MNO_ELIMIT: more than *@left. Any thread. */
int late_gather(struct late_gather *g, struct mno_series *s, const uint32_t *groups,
	const uint64_t *want, size_t n, int64_t t0, int64_t t1, size_t *left, ZSTD_DCtx *z);
/* Puts those of a column over what came in rows: @c then borrows from @g until the next call. */
int late_over(struct late_gather *g, size_t i, unsigned col, struct mno_column *c);
/* Whether one of the groups has any in these partitions. Any thread. */
bool late_any(const struct late_gather *g, struct mno_series *s, const uint32_t *groups, size_t n);
/* mno_series_scan() of groups that have any: put together in memory, a day at a time. Adds to
 * @damaged. Any thread. */
int late_scan(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_run *run), void *arg, uint64_t *damaged);

/* --- late_merge.c ------------------------------------------------------------------------------- */
/* Merges what is due of one group; @all: whatever there is. 1: left for another transaction. */
int late_merge(struct mno_series *s, struct mno_txn *p, struct late_meta *m, uint32_t group,
	int64_t t0_ms, bool all, struct late_writer *w);

/* --- late_add.c --------------------------------------------------------------------------------- */
/* As mno_series_add() says: -E2BIG, -ENOENT, -ERANGE. */
int late_check(struct mno_series *s, const struct mno_sample *v, size_t n);
/* Series of one group, samples sorted by time: they are in the head from now on, and known to have
 * samples so early and so late. */
int late_admit(struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n);
/* The row being filled, at @t_ms: it wins over samples that were there before it. Call it before
 * the marks of series that end are made. */
int late_row(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, const uint32_t *ids,
	const double *values, size_t n);
