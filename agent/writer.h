/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer thread: the only one that writes to the store. Rows, ledger batches and event
 * batches come over a bounded queue; one commit a second.
 */
#pragma once

#include "mno/ledger.h"
#include "mno/rollup.h"

struct mno_writer;
struct mno_probes;

struct mno_writer_opts {
	size_t sz;
	struct mno_store *env;
	struct mno_series *series;
	struct mno_ledger *ledger;
	struct mno_probes *probes;       /* told what was stored or lost */
	int64_t retention_ms;            /* 0 = 14 days */
	int64_t rollup_ms[MNO_TIER_MAX]; /* of each tier; 0 = for good */
};
/* The writer without its thread; the parts are borrowed and must outlive it. -ENOMEM. */
int mno_writer_new(const struct mno_writer_opts *o, struct mno_writer **ret);
/* Commits what is queued on the caller's thread; only before mno_writer_start(). 0 or why not. */
int mno_writer_flush(struct mno_writer *w);
/*
 * The ledger knows now what runs: rows that an earlier agent left running and that are gone get
 * their end, and from now on running rows are kept in the store. Before mno_writer_start().
 * Errors of the store.
 */
int mno_writer_watched(struct mno_writer *w);
/* Starts the thread. -EAGAIN. */
int mno_writer_start(struct mno_writer *w);
/* Stores what is queued, commits, ends the thread, frees. NULL-safe, returns NULL. */
struct mno_writer *mno_writer_stop(struct mno_writer *w);

/* One tick's values. Owned by the writer after a successful push. */
struct mno_row {
	int64_t t_ms;
	size_t n;
	struct mno_row_cell {
		uint32_t slot, gen;
		double value;
		const char *key; /* set only when the writer does not know (slot, gen) yet; owned */
	} cells[];
};
/* Frees a row that no writer owns, its keys too. NULL-safe, returns NULL. */
struct mno_row *mno_row_free(struct mno_row *row);
/* -ENOBUFS when the queue is full (the caller frees and the loss is counted). */
int mno_writer_row(struct mno_writer *w, struct mno_row *row);
/* Whether (slot, gen) has an id already, so that the key need not be sent. Tick thread. */
bool mno_writer_knows(struct mno_writer *w, uint32_t slot, uint32_t gen);

/* Raw records of one drain round, back to back. counts[i] = records of probe i in it. Copied.
 * -ENOBUFS: nothing was taken. */
int mno_writer_events(struct mno_writer *w, const void *records, size_t len, uint64_t first_ns,
	uint64_t last_ns, const uint32_t *counts, size_t n_probes);

struct mno_writer_job {
	int (*fn)(void *arg, struct mno_txn *t);
	void (*done)(void *arg, int r);
	void *arg;
};
/*
 * Work that needs a transaction of its own: .fn runs in it on the writer's thread, then .done is
 * told what .fn or the commit returned; 0 = durable. Once it was taken, .done is always called
 * (alone, when nothing could be begun). Neither may wait. -ENOBUFS when the queue is full (try
 * again: nothing is lost), -ESHUTDOWN, -ENOMEM: nothing was taken. Any thread.
 */
int mno_writer_run(struct mno_writer *w, const struct mno_writer_job *job);
/* How long telemetry is kept. Pure. */
int64_t mno_writer_retention_ms(const struct mno_writer *w);

struct mno_writer_stat {
	uint64_t commits, commit_errors, rows_stored, rows_lost, events_stored, events_lost,
		procs_stored, procs_lost;
	uint64_t last_commit_ns; /* duration */
	int64_t last_commit_ms;  /* wall clock of the last durable commit */
	int last_error;          /* -errno of the last failed commit, 0 if the last one worked */
	bool clock_behind;       /* rows are not later than what is stored: they are late samples */
};
/* Any thread. */
void mno_writer_stat(struct mno_writer *w, struct mno_writer_stat *ret);
