/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quarantine: a stored value that fails its check and that nothing else could tell is moved, with
 * its bytes as they are, into a record of its own in the same environment; in its place stays a
 * mark, so that every answer goes on saying that something is missing there. Retention takes the
 * records of partitions with them. Rollups are made again if what they were made from is all there:
 * then there is a record of what was damaged, and nothing is lost.
 */
#pragma once

#include "mno/store.h"

#define MNO_QUARANTINE_MAX 1024u /* records of an environment; more values stay where they are */

/* Texts and bytes are valid during the call only. */
struct mno_quarantined {
	const char *env, *db;
	const char *key;   /* readable form */
	const char *lost;  /* what it covered: series, time, document */
	uint64_t id;       /* in its environment */
	bool rebuilt;      /* made again: nothing is lost */
	int64_t time_ms;   /* when it was found */
	const void *bytes; /* of the damaged value */
	size_t len;
};

/*
 * Calls @fn for each record, environment by environment, oldest first; non-zero stops and is
 * returned. @env NULL: of all; @id 0: all of them. -ENOMEM, -errno. Any thread; memory: one record.
 */
int mno_quarantine_each(struct mno_store *s, const char *env, uint64_t id,
	int (*fn)(void *arg, const struct mno_quarantined *q), void *arg);
/*
 * Asks that record @id of @env is deleted for good, and the mark it left. What others refer to (names
 * of series, documents, changes) keeps its mark and goes on to answer that it is damaged, but the
 * loss is accepted: a check counts it as gone. By the next commit of that environment. -ENOENT, -EAGAIN (too many wait).
 * Any thread.
 */
int mno_quarantine_drop(struct mno_store *s, const char *env, uint64_t id);

struct mno_quarantine_stat {
	uint64_t moved;   /* since the start */
	uint64_t held;    /* of them, neither dropped nor made again since */
	uint64_t rebuilt; /* made again since the start, moved before or not */
	uint64_t waiting; /* noted, not moved yet */
	uint64_t refused; /* there was no room: they stay where they are */
};
/* Any thread. */
void mno_quarantine_stat(struct mno_store *s, struct mno_quarantine_stat *ret);

/*
 * Inside the store's transaction: moves what reads have noted in main and its partitions, some
 * values in a call. Writer thread. Errors of the store.
 */
int mno_store_quarantine(struct mno_store *s, struct mno_txn *t);
