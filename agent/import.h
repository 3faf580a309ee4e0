/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One import: bytes in, batches to the writer, figures out. The reader waits while the writer is
 * behind: nothing is dropped, memory is bounded (the ingester's, and two batches of 6 MiB).
 */
#pragma once

#include "mno/ingest.h"
#include "mno/json.h"
#include "agent.h"

struct mno_import;

#define MNO_IMPORT_AHEAD_MS (600LL * 1000) /* how far in the future a sample may be */

/* An import of @f. Samples without a time get @default_ms if @has_default. -ENOMEM. */
int mno_import_new(struct mno_agent *a, const struct mno_ingest_format *f, bool has_default,
	int64_t default_ms, struct mno_import **ret);
/* What was handed to the writer is still stored. NULL-safe, returns NULL. Any thread. */
struct mno_import *mno_import_free(struct mno_import *im);
MNO_DEFINE_CLEANUP(struct mno_import *, mno_import_free)

/* The next bytes. 0, or why the import failed (the store's error, -ENOMEM). One thread at a time. */
int mno_import_feed(struct mno_import *im, const void *bytes, size_t n);
/* The end of the input: returns when all that was taken is durable. Same errors. */
int mno_import_end(struct mno_import *im);
/* Members of the object that tells about it: accepted (durable), refused{}, examples[], ... */
void mno_import_json(struct mno_import *im, struct mno_json *j);

struct mno_import_progress {
	uint64_t bytes, lines, refused; /* read so far */
	uint64_t stored;                /* samples that are durable */
	double seconds;
};
/* Any thread. */
void mno_import_progress(struct mno_import *im, struct mno_import_progress *ret);
