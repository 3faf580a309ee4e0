/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an ingester into the series of a store, over two threads: one reads and fills batches, the
 * writer stores them. A sample stored twice (same series, time and value) is there once: what was
 * interrupted can be loaded again from its beginning.
 */
#pragma once

#include "mno/ingest.h"
#include "mno/series.h"

struct mno_load;
struct mno_batch;

struct mno_load_opts {
	size_t sz;
	struct mno_series *series; /* borrowed */
	size_t batch_samples;      /* of one batch, about; 0 = 262,144 (6 MiB) */
	/* Takes a full batch over (mno_batch_free() is its end), on the reader's thread; may wait.
	 * On failure the batch is still the caller's, and the ingester stops. */
	int (*full)(void *arg, struct mno_batch *b);
	void *arg;
};
/* -ENOMEM. Memory: 4 bytes a series, and one batch being filled, of which native histograms have
 * 8 MiB at most. */
int mno_load_new(const struct mno_load_opts *o, struct mno_load **ret);
/* NULL-safe, returns NULL. No batch of it may be left. */
struct mno_load *mno_load_free(struct mno_load *l);
MNO_DEFINE_CLEANUP(struct mno_load *, mno_load_free)

/* The sink whose argument is a struct mno_load. Static. */
const struct mno_ingest_sink *mno_load_sink(void);
/* Hands over what is left, after mno_ingest_end(). What .full returned. Reader's thread. */
int mno_load_flush(struct mno_load *l);

struct mno_load_count {
	uint64_t samples, histograms; /* in the transaction */
	uint64_t refused;             /* of both: not taken by the store */
};
/*
 * Stores a batch inside @txn, once; batches in the order in which they were made. Errors of the
 * store: abort @txn and stop loading. Writer thread.
 */
int mno_batch_store(struct mno_batch *b, struct mno_txn *txn, struct mno_load_count *ret);
/* NULL-safe, returns NULL. */
struct mno_batch *mno_batch_free(struct mno_batch *b);
