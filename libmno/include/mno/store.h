/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: a directory of LMDB environments, opened once per process (a lock on the directory
 * says so). One of them, main, has what everything else refers to; bulk data lies in an
 * environment for each day, month or year, which retention unlinks whole.
 *
 * What an acknowledgement means, by durability class:
 *   D3 (documents)  nothing acknowledged is lost, neither by kill -9 nor by a power cut.
 *   D2 (telemetry)  what mno_store_commit() returned from survives kill -9 of the process; after a
 *                   power cut the store is consistent and at most the last 2 s are missing.
 *   D1              can be made again from the rest.
 * Nothing ever needs a repair step. Values are encrypted unless opts.plain.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

struct mno_store;
struct mno_txn;

/* Where the key-encryption key comes from. */
enum mno_store_key {
	MNO_STORE_KEY_FILE,       /* 32 bytes in a file of mode 0600, made on first use */
	MNO_STORE_KEY_PASSPHRASE, /* Argon2id of what the file key_name holds */
	MNO_STORE_KEY_CREDENTIAL, /* key_name below $CREDENTIALS_DIRECTORY */
	MNO_STORE_KEY_KEYRING,    /* kernel keyring, type user, description key_name */
};

struct mno_store_opts {
	size_t sz;         /* sizeof(struct mno_store_opts) */
	uint64_t map_size; /* upper bound of each environment's file; 0 = 16 GiB */
	/* Refuse to write below this much free disk; 0 = 256 MiB or 5 %, the less. */
	uint64_t floor_bytes;
	bool read_only;
	uint64_t map_initial; /* address space taken at first; grows to map_size. 0 = 1 GiB */
	bool plain;           /* environments that are made now are not encrypted */
	enum mno_store_key key_source;
	const char *key_name; /* NULL: the source's default; borrowed during open */
	/* Of an opening that only reads: the state directory whose key, or a kept old one, opens it;
	 * borrowed. NULL: @dir. */
	const char *key_state;
};

/*
 * Opens or creates the store in @dir (created 0700). Holds a lock: a second open, of this process
 * or another, gets -MNO_EBUSY_STATE. -MNO_EVERSION if a newer mno wrote it, -MNO_EMIGRATE if it is
 * of an older format, -MNO_ECORRUPT if it is no store, -ENOKEY if the key is not the store's,
 * -EACCES, -ENOSPC... Close with mno_store_close().
 */
int mno_store_open(const char *dir, const struct mno_store_opts *o, struct mno_store **ret);
/* NULL-safe, returns NULL. No transaction may be open. */
struct mno_store *mno_store_close(struct mno_store *s);
MNO_DEFINE_CLEANUP(struct mno_store *, mno_store_close)

/*
 * One write transaction at a time, all on one thread (the writer). begin may return -ENOSPC
 * (disk floor) so that nothing is half-written, -EBUSY (one is open). Any call that writes may
 * return -ENOSPC when a map is full: abort; the next begin grows it up to map_size.
 * commit: 0 = durable by class D2; on failure everything since begin is undone, but for
 * partitions that were committed before the failure. @t is the store's own and is void after
 * commit or abort.
 */
int mno_store_begin(struct mno_store *s, struct mno_txn **ret);
/* As mno_store_begin, without the floor: only for deleting, so that a full disk can get emptier. */
int mno_store_begin_reclaim(struct mno_store *s, struct mno_txn **ret);
int mno_store_commit(struct mno_store *s, struct mno_txn *t);
void mno_store_abort(struct mno_store *s, struct mno_txn *t);

/*
 * Under the disk floor: unlinks the oldest partition of bulk data, unless only the newest of each
 * kind are left or there is room. 0: one went, its name is logged; -ENOENT: nothing may go.
 * Writer thread, no transaction open.
 */
int mno_store_make_room(struct mno_store *s);

struct mno_store_stat {
	uint64_t file_bytes; /* on disk, all environments */
	uint64_t used_bytes; /* pages in use */
	uint64_t map_bytes;
	uint64_t commits;
	uint64_t free_disk_bytes;
	uint64_t damaged; /* values that failed their check since open */
	uint64_t environments, entries;
	uint64_t oldest_reader_ns;   /* age of the oldest read transaction now */
	uint64_t slow_readers;       /* read transactions that lived over 100 ms */
	uint64_t pinned_ns;          /* how long a backup has been reading an environment */
	uint64_t dropped_partitions; /* for want of room */
	uint64_t last_sync_ns;       /* how long the last commit took */
	bool encrypted;
};
/* Any thread. */
int mno_store_stat(struct mno_store *s, struct mno_store_stat *ret);
