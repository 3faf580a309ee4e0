/* SPDX-License-Identifier: Apache-2.0 */
/* The file of an environment as one transaction left it, read while others write. */
#pragma once

#include <sys/stat.h>
#include "store_internal.h"

/*
 * Pins a transaction of @e: its pages are not used again until mno_snapshot_end(), so the file
 * grows by what is written meanwhile. What is read comes from the file, not from the map, so that
 * the map may grow and move. @e is borrowed. Any thread; the pin is seen in
 * mno_store_stat.pinned_ns, not among the slow readers.
 */
struct mno_snapshot {
	struct mno_env *e;
	MDB_txn *t;
	int fd;
	uint64_t txn, page, bytes; /* bytes: of the file that it makes */
	uint64_t since_ns;         /* CLOCK_MONOTONIC */
	struct stat st;            /* of data.mdb when it was pinned */
	uint8_t *head;             /* a page: the root of all others */
};
/* -EAGAIN too many commits came in between; -MNO_ECORRUPT; -ENOMEM; -errno. */
int mno_snapshot_begin(struct mno_env *e, struct mno_snapshot *ret);
/* Exactly @n bytes from @at. -EINVAL beyond the end; -errno. */
int mno_snapshot_read(const struct mno_snapshot *s, uint64_t at, void *buf, size_t n);
/* Zeroed ones are fine. */
void mno_snapshot_end(struct mno_snapshot *s);
