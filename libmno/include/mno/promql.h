/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PromQL, the part that reads: vector and range selectors with offset and @. Syntax, meaning and
 * error texts follow Prometheus 2.42; what is not supported is refused by a bad_data error that
 * says what is. Pure apart from the store behind struct mno_series; thread-safe.
 */
#pragma once

#include "mno/json.h"
#include "mno/series.h"

#define MNO_PROMQL_LOOKBACK_MS  (5 * 60 * 1000) /* how old the value of an instant may be */
#define MNO_PROMQL_MAX_POINTS   11000           /* per series of a range query */
#define MNO_PROMQL_MAX_MATCHERS 64              /* per selector */
#define MNO_PROMQL_MAX_TEXT     (64 * 1024)     /* bytes of a query */

/* Prometheus' errorType values. */
enum mno_promql_error_type {
	MNO_PROMQL_BAD_DATA,
	MNO_PROMQL_EXECUTION,
	MNO_PROMQL_TIMEOUT,
	MNO_PROMQL_INTERNAL,
};
struct mno_promql_error {
	enum mno_promql_error_type type;
	char msg[768];
};

enum mno_promql_at { MNO_AT_NONE, MNO_AT_TIME, MNO_AT_START, MNO_AT_END };

/* One selector. The metric name is a matcher of "__name__". */
struct mno_selector {
	struct mno_matcher *matchers; /* compiled, owned with their strings */
	size_t n;
	int64_t range_ms; /* 0: instant vector selector */
	int64_t offset_ms;
	enum mno_promql_at at;
	int64_t at_ms;
};

/*
 * Reads @len bytes of @text. @matchers_only refuses [range], offset and @ as match[] does.
 * 0, -ENOMEM, or -MNO_ESYNTAX with @err filled ("1:5: parse error: ...").
 */
int mno_selector_parse(const char *text, size_t len, bool matchers_only, struct mno_selector **ret,
	struct mno_promql_error *err);
/* NULL-safe, returns NULL. */
struct mno_selector *mno_selector_free(struct mno_selector *s);
MNO_DEFINE_CLEANUP(struct mno_selector *, mno_selector_free)

/* Duration as Prometheus writes it: "1h30m", "0"; milliseconds. 0, -EINVAL, -ERANGE. */
int mno_promql_duration(const char *s, size_t len, int64_t *ret_ms);

/* What one query took. */
struct mno_promql_cost {
	uint64_t series, samples; /* read from the store */
	uint64_t damaged; /* columns of blocks that could not be read: samples are missing */
};

/* What one query may cost; a zero member means the default. */
struct mno_promql_limits {
	size_t max_series;            /* 100,000 */
	size_t max_samples;           /* read from the store: 50,000,000 as Prometheus */
	size_t max_bytes;             /* of the answer: 64 MiB */
	uint64_t deadline_ns;         /* CLOCK_MONOTONIC; none */
	const _Atomic bool *stop;     /* NULL, or what ends the query when it becomes true */
	struct mno_promql_cost *cost; /* NULL, or where to add it up */
};

/*
 * Evaluates at @t_ms and writes {"resultType":...,"result":[...]}: a vector, or a matrix of raw
 * samples for a range selector. Needs the store for reading only; memory is bounded by
 * @lim->max_bytes (twice while sorting). 0, -ENOMEM, or a negative code with @err filled; @j is
 * then unfinished.
 */
int mno_promql_instant(struct mno_series *s, const struct mno_selector *sel, int64_t t_ms,
	const struct mno_promql_limits *lim, struct mno_json *j, struct mno_promql_error *err);
/* As above at start, start + step, ... <= end; always a matrix. Needs step_ms > 0. */
int mno_promql_range(struct mno_series *s, const struct mno_selector *sel, int64_t start_ms,
	int64_t end_ms, int64_t step_ms, const struct mno_promql_limits *lim, struct mno_json *j,
	struct mno_promql_error *err);
/* The label sets of the series that match any of @sels and lived in [start_ms, end_ms] (INT64_MIN,
 * INT64_MAX: ever), sorted, each once, as a JSON array. */
int mno_promql_series(struct mno_series *s, struct mno_selector *const *sels, size_t n,
	int64_t start_ms, int64_t end_ms, const struct mno_promql_limits *lim, struct mno_json *j,
	struct mno_promql_error *err);
