/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time series in an environment: label dictionary, rows in, columns out.
 *
 * A series is known by its key: the canonical label text `name{a="x",b="y"}` with labels sorted
 * by name and values escaped as in the Prometheus text format (\\, \", \n). Its id is a u32,
 * stable for the life of the store.
 */
#pragma once

#include "mno/store.h"
#include "mno/buf.h"
#include "mno/metric.h"
#include "mno/native_hist.h"

struct mno_series;

#define MNO_SERIES_KEY_MAX    (256u << 10) /* bytes of a key */
#define MNO_SERIES_VALUE_MAX  (64u << 10)  /* bytes of a label's value */
#define MNO_SERIES_LABELS_MAX 128u         /* labels of a series, the metric name included */

/* The float that marks "the series ended here" (Prometheus' stale NaN). */
#define MNO_STALE_BITS 0x7ff0000000000002ULL

/* Opens the series of @env and replays the unsealed tail. -MNO_ECORRUPT, -ENOMEM. */
int mno_series_open(struct mno_store *env, struct mno_series **ret);
struct mno_series *mno_series_close(struct mno_series *s);
MNO_DEFINE_CLEANUP(struct mno_series *, mno_series_close)

/*
 * Id of the series with this key, made on first use inside @txn. Writer thread. Labels may come
 * in any order. The id stays valid if @txn is aborted: the series is then written by the next one.
 * -EINVAL (malformed key, over one of the limits above, a label twice). -EOVERFLOW (all ids
 * were given out) and -MNO_ELIMIT (labels in memory at their bound, 512 MiB) refuse this series only.
 * -ENOSPC, -ENOMEM.
 */
int mno_series_resolve(
	struct mno_series *s, struct mno_txn *txn, const char *key, size_t len, uint32_t *ret_id);

/*
 * Appends one row: @n values at time @t_ms (must be greater than the last row's, else -EINVAL).
 * A series that had a value in the previous row and none in this one gets a staleness mark.
 * Part of @txn: visible to readers at once, durable with the commit, undone by
 * mno_series_rollback() if the transaction is aborted. Writer thread. Of an id given twice the last
 * value counts. At most 2,048 rows per transaction (-E2BIG). -ENOENT: an id was never given, or its
 * series was forgotten because retention passed: resolve again. On any error nothing was added;
 * after one that came from the store (-ENOSPC, -EIO ...), abort the transaction.
 */
int mno_series_append(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, const uint32_t *ids,
	const double *values, size_t n);
struct mno_sample {
	uint32_t id;
	int64_t t_ms;
	double v;
};
/*
 * Adds samples of any time and in any order, up to 1,048,576 in a call: late ones, those between
 * and behind rows, imports of the past. A time that a series has already gets the new value; equal
 * values are not stored again, so that what is imported twice is there once. Staleness marks are
 * samples like others, and none are made. Part of @txn like a row, but seen by readers only when
 * it is committed; undone with it, unless it spans more than 24 days (then whole days may stay).
 * Writer thread. Memory: 48 bytes a sample and 20 MiB. Some samples of older calls may be merged,
 * for 100 ms at most. -E2BIG; -ENOENT: an id was never given, or forgotten; -ERANGE: before 1970,
 * behind 9999, or over 512 days in one call (see mno_series_bounds()); nothing was added then.
 * After any other error abort the transaction.
 */
int mno_series_add(struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n);

struct mno_series_bounds {
	int64_t min_ms, max_ms; /* both may be added */
};
/*
 * Between which times samples may come, for who takes them from outside and counts the others:
 * from the start of the oldest day that @retention_ms (0: all) keeps until @future_ms (0: 10 min)
 * from @now_ms. Pure.
 */
struct mno_series_bounds mno_series_bounds(int64_t now_ms, int64_t retention_ms, int64_t future_ms);

/*
 * Merges additions of mno_series_add() inside @txn, about @samples (0: a million) in a call, but at
 * least those of one group of series in one day; *@ret_more if something was done, and there may be
 * more to do: false means that nothing was written. For a job in the background: reads get faster and files smaller.
 * Writer thread. Errors as of mno_series_add().
 */
int mno_series_compact(struct mno_series *s, struct mno_txn *txn, size_t samples, bool *ret_more);

/* Forgets rows since the last commit; call after mno_store_abort(). Writer thread. */
void mno_series_rollback(struct mno_series *s);
/* Call after a successful mno_store_commit(). Writer thread. */
void mno_series_committed(struct mno_series *s);

/*
 * Seals all rows up to now, as the end of a day does: for a clean stop, a backup, after an import.
 * Part of @txn like a row. Writer thread. -ENOSPC, -ENOMEM, -EIO: abort the transaction.
 */
int mno_series_seal(struct mno_series *s, struct mno_txn *txn);

/* Deletes sealed data older than @t_ms in bounded steps inside @txn; *@ret_more if not done. */
int mno_series_expire(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, bool *ret_more);
/* Days were taken away, or that of @t_ms came back, from outside (archives): what is remembered of
 * late samples follows. Any thread but the writer. Joined: -ENOMEM; errors of the store. */
void mno_series_parted(struct mno_series *s);
int mno_series_joined(struct mno_series *s, int64_t t_ms);

enum mno_match_op { MNO_MATCH_EQ, MNO_MATCH_NE, MNO_MATCH_RE, MNO_MATCH_NRE };
struct mno_matcher {
	enum mno_match_op op;
	const char *name, *value; /* the metric name is the label "__name__" */
	void *re;                 /* private; zero it, mno_matchers_done() frees it */
};
/* Compiles regular expressions (anchored, RE2-like subset of PCRE2, bounded work). Compiled
 * matchers are used by one thread at a time. -MNO_ESYNTAX and a message in @err, -ENOMEM. */
int mno_matchers_compile(struct mno_matcher *m, size_t n, char *err, size_t err_size);
void mno_matchers_done(struct mno_matcher *m, size_t n);
/* 1 if a compiled matcher takes @value, 0 if not, -MNO_ELIMIT (too much work), -ENOMEM. */
int mno_matcher_test(const struct mno_matcher *m, const char *value);

struct mno_ids {
	uint32_t *v; /* owned: free with mno_ids_done() */
	size_t n, cap;
};
/* Frees the array and zeroes the struct. */
void mno_ids_done(struct mno_ids *ids);

/*
 * Ids of series that match all of @m (compiled), ascending. More than @limit, or a regular
 * expression that takes too long: -MNO_ELIMIT. Any thread.
 */
int mno_series_select(struct mno_series *s, const struct mno_matcher *m, size_t n, size_t limit,
	struct mno_ids *ret);
/*
 * The same, of those only whose life (from first to last sample) touches [@t0, @t1]; there may be no
 * sample of them in it. What it costs follows the series alive in the window, not all there were.
 */
int mno_series_select_range(struct mno_series *s, const struct mno_matcher *m, size_t n, int64_t t0,
	int64_t t1, size_t limit, struct mno_ids *ret);

/* Labels of a series: calls @fn for each, name-sorted, "__name__" first. -ENOENT. Any thread. */
typedef int (*mno_label_fn)(void *arg, const char *name, const char *value);
int mno_series_labels(struct mno_series *s, uint32_t id, mno_label_fn fn, void *arg);
/* The key text into @out. -ENOENT. Any thread. */
int mno_series_key(struct mno_series *s, uint32_t id, struct mno_buf *out);
/* All label names / all values of one label (of series matching @m, if @n > 0), sorted, each
 * once, as calls of @fn (non-zero stops and is returned). Any thread. */
int mno_series_label_names(struct mno_series *s, const struct mno_matcher *m, size_t n,
	int (*fn)(void *arg, const char *text), void *arg);
int mno_series_label_values(struct mno_series *s, const char *label, const struct mno_matcher *m,
	size_t n, int (*fn)(void *arg, const char *text), void *arg);
/* The same, of series chosen as by mno_series_select_range(). */
int mno_series_label_names_range(struct mno_series *s, const struct mno_matcher *m, size_t n,
	int64_t t0, int64_t t1, int (*fn)(void *arg, const char *text), void *arg);
int mno_series_label_values_range(struct mno_series *s, const char *label,
	const struct mno_matcher *m, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const char *text), void *arg);

/* One series' samples; borrowed by the callback. Staleness marks are kept as they are. */
struct mno_column {
	uint32_t id;
	uint32_t damaged; /* stored blocks that could not be read: samples are missing */
	size_t n;
	const int64_t *t_ms;
	const double *v;
};
/*
 * Reads samples with t0 <= t <= t1 of each id (ascending) and hands over one column per series
 * that has any (or lost any to a damaged block), in order. Holds no read transaction longer than
 * 100 ms and none while @fn runs. A non-zero result of @fn stops and is returned. More than
 * @max_samples (16 bytes of memory each, for 256 series at a time): -MNO_ELIMIT. Any thread.
 */
int mno_series_read(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	size_t max_samples, int (*fn)(void *arg, const struct mno_column *c), void *arg);

/* Some samples of one series in a row, borrowed by the callback. */
struct mno_run {
	uint32_t id;
	bool constant; /* all of v have the same bits */
	size_t n;      /* over 0 */
	const int64_t *t_ms;
	const double *v;
};
/*
 * As mno_series_read, for those who add up and keep nothing: hands over runs as they are decoded,
 * up to 192 samples each. Those of one series come in order of time; series are mixed. Several
 * threads may each scan a part of the ids; with the same @t1 in the past they see the same.
 * *@ret_damaged (may be NULL) counts groups of series with a block that could not be read.
 */
int mno_series_scan(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_run *run), void *arg, uint64_t *ret_damaged);

/* What a series did in a time, staleness marks left out. */
struct mno_agg {
	uint32_t id;
	uint32_t damaged; /* stored blocks that could not be read: samples are missing */
	uint64_t count;   /* samples; the rest is void if there are none */
	uint64_t resets;  /* samples below the one before */
	double sum, min, max, first, last;
	double lost; /* sum of what the values were before each reset: last - first + lost = increase */
	int64_t first_ms, last_ms;
};
/*
 * Aggregates of each id (ascending) over t0 <= t <= t1, one call of @fn for each that has samples
 * or lost any. Blocks wholly inside are taken from what is stored beside them and not decoded; sums
 * are therefore added in another order than samples are in. Otherwise as mno_series_read.
 */
int mno_series_read_agg(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_agg *a), void *arg);

/*
 * Adds one native histogram to a series, or takes the place of that at the same time. Part of @txn
 * as mno_series_add(): any time, in order is cheapest. A series may have samples too. -EINVAL:
 * schema, spans or numbers of buckets are out of bounds (see mno/native_hist.h); others likewise.
 */
int mno_series_add_hist(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms,
	const struct mno_native_hist *h);
/* @h is borrowed by the callback. */
typedef int (*mno_hist_fn)(void *arg, uint32_t id, int64_t t_ms, const struct mno_native_hist *h);
/*
 * Hands over the histograms with t0 <= t <= t1 of each id, by id in the order given and then by
 * time. No read transaction is held while @fn runs; a non-zero result stops and is returned.
 * *@ret_damaged (may be NULL) counts batches, of up to 256, that could not be read. Memory: the
 * stored bytes of one series and day. Any thread.
 */
int mno_series_read_hist(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0,
	int64_t t1, mno_hist_fn fn, void *arg, uint64_t *ret_damaged);

struct mno_series_stat {
	uint64_t series;          /* in the dictionary */
	uint64_t samples;         /* stored, head included */
	uint64_t block_bytes;     /* sealed blocks, payload */
	uint64_t late_samples;    /* of samples, what mno_series_add() added */
	uint64_t late_bytes;      /* their blocks, payload */
	uint64_t head_samples;    /* of samples, those that are in no block yet */
	uint64_t histograms;      /* native ones, beside samples */
	uint64_t hist_bytes;      /* their batches, payload */
	uint64_t memory_bytes;    /* head and dictionary */
	uint64_t head_series;     /* in memory: seen since the last sealed block but one */
	uint64_t damaged_blocks;  /* met by reads since open */
	uint64_t damaged_records; /* of the dictionary, the same: series that have no labels left */
	uint64_t damaged_lists;   /* of the label index, the same: made anew from the records */
	uint64_t index_bytes;     /* of memory_bytes: labels of the series in the head */
	uint64_t index_lag;       /* series that wait to be in the stored label index */
	uint64_t ids_left;        /* new series until ids end (an id is not given twice) */
	uint64_t refused;         /* since open: no id left, or too much memory for labels */
	int64_t first_ms, last_ms; /* 0 if empty */
};
/* Any thread. */
void mno_series_stat(struct mno_series *s, struct mno_series_stat *ret);
