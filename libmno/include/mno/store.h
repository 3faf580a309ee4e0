/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's environment: one LMDB environment per directory, opened once per process.
 * Durability class D2: what mno_store_commit() returned from survives kill -9 of the process;
 * after a power cut the store is consistent and at most the last commits (<= 2 s) are missing.
 * Nothing ever needs a repair step.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

struct mno_store;
struct mno_txn;

struct mno_store_opts {
	size_t sz;         /* sizeof(struct mno_store_opts) */
	uint64_t map_size; /* upper bound of the file; 0 = 16 GiB */
	uint64_t
		floor_bytes; /* refuse to write below this much free disk; 0 = 256 MiB or 5 %, the less */
	bool read_only;
	uint64_t map_initial; /* address space taken at first; grows to map_size. 0 = 1 GiB */
};

/*
 * Opens or creates the store in @dir (created 0700). Holds a lock: a second process gets
 * -MNO_EBUSY_STATE. -MNO_EVERSION if a newer mno wrote it, -MNO_ECORRUPT if it is no store,
 * -EACCES, -ENOSPC... Close with mno_store_close().
 */
int mno_store_open(const char *dir, const struct mno_store_opts *o, struct mno_store **ret);
/* NULL-safe, returns NULL. No transaction may be open. */
struct mno_store *mno_store_close(struct mno_store *e);
MNO_DEFINE_CLEANUP(struct mno_store *, mno_store_close)

/*
 * One write transaction at a time, all on one thread (the writer). begin may return -ENOSPC
 * (disk floor) so that nothing is half-written, -EBUSY (one is open). Any call that writes may
 * return -ENOSPC when the map is full: abort; the next begin grows it up to map_size.
 * commit: 0 = durable by class D2; on failure everything since begin is undone. @t is the
 * environment's own and is void after commit or abort.
 */
int mno_store_begin(struct mno_store *e, struct mno_txn **ret);
/* As mno_store_begin, without the floor: only for deleting, so that a full disk can get emptier. */
int mno_store_begin_reclaim(struct mno_store *e, struct mno_txn **ret);
int mno_store_commit(struct mno_store *e, struct mno_txn *t);
void mno_store_abort(struct mno_store *e, struct mno_txn *t);

struct mno_store_stat {
	uint64_t file_bytes; /* on disk */
	uint64_t used_bytes; /* pages in use */
	uint64_t map_bytes;
	uint64_t commits;
	uint64_t free_disk_bytes;
	uint64_t damaged; /* values that failed their check since open */
};
/* Any thread. */
int mno_store_stat(struct mno_store *e, struct mno_store_stat *ret);
