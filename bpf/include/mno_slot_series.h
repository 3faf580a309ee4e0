/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rows of counters and histograms in a mapped array to series, for the user sides of
 * probes. A row is a cgroup's slot, a device's operation, ...; a table holds what is exported of
 * each row. Tick thread only, unless said.
 */
#pragma once

#include "mno_probe.h"
#include "mno_hist.h"

enum mno_col_kind {
	MNO_COL_U64,  /* u64 counter at .off */
	MNO_COL_HIST, /* u32[MNO_HIST_BUCKETS] at .off, u64 sum at .sum, u64 count at .count */
};

/* A column: one family (with one more label, or none) over all rows. Static data. */
struct mno_col {
	const struct mno_family *family;
	enum mno_col_kind kind;
	uint32_t off, sum, count;
	double per;             /* raw units in a base unit: 1e9 for ns in seconds */
	struct mno_label label; /* .name NULL: none */
	const uint64_t *bounds; /* of a histogram, raw units, ascending powers of two */
	size_t n_bounds;
};

#define MNO_COL_BOUNDS_MAX 16

/* Powers of four from 16 us to 4.3 s, in ns. They are edges of mno_hist's buckets: exact. */
extern const uint64_t mno_bounds_latency[10];

struct mno_table;

/* @rows is the bound. Per row with data: about 300 B and 2.2 KiB a histogram. -ENOMEM. */
int mno_table_new(const struct mno_col *cols, size_t n_cols, size_t rows, struct mno_table **ret);
/* NULL-safe, returns NULL. Does not take the series out of the metrics. */
struct mno_table *mno_table_free(struct mno_table *t);
MNO_DEFINE_CLEANUP(struct mno_table *, mno_table_free)

/*
 * Once a tick: begin, each row that exists, end (rows that were left out lose their series).
 * @gen: another one than last time means that the row has a new owner, which counts from the
 * values of the last tick of the one before. @labels: at most 4, copied by the metrics. Series of a column
 * appear with its first value above 0.
 */
void mno_table_begin(struct mno_table *t, struct mno_metrics *m);
void mno_table_row(struct mno_table *t, size_t row, uint32_t gen, const struct mno_label *labels,
	size_t n_labels, const void *values);
void mno_table_end(struct mno_table *t);

/* What one row's histogram gained in the last tick. */
struct mno_table_recent {
	uint64_t count;
	double p50, p99; /* base units; NAN without a value */
};
/* False when the row has no data in this column. */
bool mno_table_recent(struct mno_table *t, size_t row, size_t col, struct mno_table_recent *ret);

/*
 * Rows of cgroup slots: begin, a row for each slot in use (labels {cgroup="path"}, values at
 * @values + slot * @stride), end; and notes the paths for the snapshot.
 */
void mno_table_cgroups(struct mno_table *t, struct mno_metrics *m, struct mno_cgroup_view slots,
	const void *values, size_t stride);
/*
 * Member "cgroups" of the open object: an array of {path, <name>_p50_seconds, <name>_p99_seconds,
 * <name>_count} of the slots that had values in column @col in the last tick. Any thread.
 */
void mno_table_snapshot(struct mno_table *t, size_t col, const char *name, struct mno_json *j);
