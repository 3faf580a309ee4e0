/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of metrics written by others: any bytes in any portions in, samples out. What cannot be
 * taken is counted by reason, with the first examples; nothing is left out in silence.
 * One ingester belongs to one thread at a time. No global state.
 */
#pragma once

#include "mno/macro.h"
#include "mno/native_hist.h"

/* Why something was refused; names are part of the API. Append only. */
#define MNO_INGEST_REASONS(X)                                                                      \
	X(BAD_SYNTAX, bad_syntax, "cannot be read as this format")                                 \
	X(BAD_NAME, bad_name, "bad name of a metric or label")                                     \
	X(BAD_UTF8, bad_utf8, "label value is not UTF-8, or holds a NUL")                          \
	X(DUPLICATE_LABEL, duplicate_label, "a label is there twice")                              \
	X(MANY_LABELS, too_many_labels, "more labels than a series may have")                      \
	X(LONG_LABELS, labels_too_long, "name and labels together are too long")                   \
	X(BAD_VALUE, bad_value, "value is no number")                                              \
	X(NO_TIME, no_timestamp, "no timestamp")                                                   \
	X(BAD_TIME, bad_timestamp, "timestamp is no time")                                         \
	X(TOO_OLD, too_old, "older than what is kept")                                             \
	X(TOO_NEW, too_new, "too far in the future")                                               \
	X(TOO_LONG, too_long, "line, record or message beyond its limit")                          \
	X(HISTOGRAM, native_histogram, "native histogram that cannot be stored")                   \
	X(CUT, cut_off, "the input ends in the middle of it")                                      \
	X(UNSTORED, not_stored, "the store did not take it")

enum mno_ingest_reason {
	MNO_INGEST_TAKEN,
#define X(id, name, text) MNO_INGEST_##id,
	MNO_INGEST_REASONS(X)
#undef X
		MNO_INGEST_REASON_N
};
/* Name in the API ("bad_value") and text for people; NULL beyond the table. Pure. */
const char *mno_ingest_reason_name(enum mno_ingest_reason r);
const char *mno_ingest_reason_text(enum mno_ingest_reason r);

/* Formats are known by name: "openmetrics", "prometheus-text", "csv", "remote-write". */
struct mno_ingest_format;
/* The format of that name, NULL if there is none. Static. */
const struct mno_ingest_format *mno_ingest_format_find(const char *name);
/* The @i-th format, NULL beyond the last; its name and what it is, in a few words. Pure. */
const struct mno_ingest_format *mno_ingest_format_at(size_t i);
const char *mno_ingest_format_name(const struct mno_ingest_format *f);
const char *mno_ingest_format_summary(const struct mno_ingest_format *f);
/*
 * What the input most likely is, by the extension of @file (may be NULL or "-") or else by its
 * first @n bytes (some KiB suffice). NULL when it looks like none of them. Pure.
 */
const struct mno_ingest_format *mno_ingest_format_guess(
	const char *file, const char *first, size_t n);

struct mno_ingest_sample {
	uint32_t series; /* as the sink was told */
	int64_t t_ms;
	double value;
};

/* Who takes the samples. A negative result stops the ingester, which returns it from then on. */
struct mno_ingest_sink {
	/* A new series: from now on @series stands for the canonical @key (mno/series.h). Numbers
	 * count up from 0. Borrowed. */
	int (*series)(void *arg, uint32_t series, const char *key, size_t len);
	/* All numbers are void; they start at 0 again. Bounds memory when series are many. */
	int (*forget)(void *arg);
	/* Samples in the order of the input, at most 4,096. Borrowed. */
	int (*samples)(void *arg, const struct mno_ingest_sample *v, size_t n);
	/* A native histogram as it was sent, borrowed. -EINVAL: it cannot be stored, which is counted
	 * and stops nothing. May be NULL: all are then refused and counted. */
	int (*histogram)(void *arg, uint32_t series, int64_t t_ms, const struct mno_native_hist *h);
};

struct mno_ingest_opts {
	size_t sz;
	int64_t min_ms, max_ms; /* samples outside are refused; 0, 0 = all times */
	bool has_default_ms;    /* samples without a timestamp get this one; else refused */
	int64_t default_ms;
};

#define MNO_INGEST_EXAMPLES 16
#define MNO_INGEST_EXCERPT  120

struct mno_ingest_stat {
	uint64_t bytes, lines; /* lines; records of CSV; messages of remote-write */
	uint64_t samples;      /* handed to the sink */
	uint64_t histograms;   /* native ones, likewise */
	uint64_t series;       /* distinct; more than that once numbers were forgotten */
	uint64_t refused[MNO_INGEST_REASON_N];
	uint64_t exemplars, metadata; /* read over: they are not kept */
	int64_t first_ms, last_ms;    /* of the samples; 0 if there were none */
	bool no_end;                  /* OpenMetrics without its "# EOF": it may be cut */
	size_t n_examples;
	struct mno_ingest_example {
		uint64_t line; /* from 1; number of the message for remote-write */
		enum mno_ingest_reason reason;
		char text[MNO_INGEST_EXCERPT]; /* as it came, cut; may hold anything but NUL */
	} examples[MNO_INGEST_EXAMPLES];
};

struct mno_ingest;

/*
 * A reader of @f. @sink is copied, its @arg borrowed. Memory: at most 46 MiB for series, and
 * 1 MiB for a line, 8 MiB for a record of CSV, 96 MiB for a message of remote-write. -ENOMEM.
 */
int mno_ingest_new(const struct mno_ingest_format *f, const struct mno_ingest_opts *o,
	const struct mno_ingest_sink *sink, void *arg, struct mno_ingest **ret);
/* NULL-safe, returns NULL. */
struct mno_ingest *mno_ingest_free(struct mno_ingest *p);
MNO_DEFINE_CLEANUP(struct mno_ingest *, mno_ingest_free)

/* The next @n bytes; where portions end makes no difference. 0, or what the sink returned,
 * -ENOMEM; both stay. */
int mno_ingest_feed(struct mno_ingest *p, const void *bytes, size_t n);
/* The input is complete: hands over what is left. *@ret (may be NULL) gets the figures. As feed. */
int mno_ingest_end(struct mno_ingest *p, struct mno_ingest_stat *ret);
/* Figures so far, of what was handed over. Borrowed until the next call. */
const struct mno_ingest_stat *mno_ingest_stat(const struct mno_ingest *p);
/* The sum of all reasons. Pure. */
uint64_t mno_ingest_refused(const struct mno_ingest_stat *st);
