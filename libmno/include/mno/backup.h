/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups of a store. In a directory DEST each backup is a directory named by its time (UTC):
 *
 *   20261123T204500.123Z/manifest.json     written last, renamed into place: a backup is complete
 *                                          or is called .partial-... and no backup at all
 *                       /keys/current,argon2    which key it wants; never the key itself
 *                       /main/data.mdb,key      an environment, its wrapped data keys
 *                       /ts-20261123/...
 *
 * What did not change since the backup before is a hard link to it: every backup is whole by
 * itself, and any of them may be deleted in any order. Values stay encrypted as they are in the
 * store. manifest.json names each file with size and BLAKE2b-256; its last members are the hash of
 * all before, and an Ed25519 signature by a key derived from the store's key-encryption key: who
 * has that key can prove where the backup comes from, everybody else can only compare hashes.
 */
#pragma once

#include <stdatomic.h>
#include "mno/store.h"

#define MNO_BACKUP_NAME 24 /* "20261123T204500.123Z" and its NUL */

struct mno_backup_progress {
	const char *env; /* being worked on; valid during the call */
	uint64_t bytes, of_bytes;
};

struct mno_backup_opts {
	size_t sz;
	uint64_t bytes_per_s;      /* 0 = as fast as it goes */
	bool full;                 /* link nothing, copy all */
	const atomic_bool *cancel; /* may be NULL */
	void (*progress)(void *arg, const struct mno_backup_progress *p); /* may be NULL */
	/* What is damaged, or could not be read: a line for people; may be NULL. */
	void (*finding)(void *arg, const char *file, const char *what);
	void *arg;
};

struct mno_backup_info {
	char name[MNO_BACKUP_NAME], previous[MNO_BACKUP_NAME];
	char store[33], host_version[16]; /* id of the store; version of mno */
	char kek_id[17];                  /* of the key that opens it; "" of a store without */
	int64_t time_ms;
	uint64_t files, bytes; /* of the whole backup */
	uint64_t new_bytes;    /* of them not shared with the backup before */
	uint64_t left_out;     /* partitions that could not be read */
	uint64_t took_ns;
	bool complete; /* its manifest is there and whole */
	bool is_signed;
};

/*
 * Backs up all of @s, while others read and write it, to a new backup in @dest (made 0700 if need
 * be). All environments are seen at one moment. Partial files of a backup that fails, and of those
 * that a crash cut off, are removed. -EBUSY another one is under way in @dest; -EAGAIN the keys of
 * the store were being changed; -ENOSPC; -ECANCELED; -errno. Any thread; memory: 1 MiB and 300 B a
 * file. While it reads an environment, pages that become free there are not used again.
 */
int mno_backup_create(struct mno_store *s, const char *dest, const struct mno_backup_opts *o,
	struct mno_backup_info *ret);

/* Backups in @dest, the newest first; those that are not complete too. Free with free(). -ENOENT. */
int mno_backup_list(const char *dest, struct mno_backup_info **ret, size_t *ret_n);

/* A moment of the documents: the last change wanted, or (.seq 0) all changes up to .ms. */
struct mno_docs_until {
	uint64_t seq;
	int64_t ms;
};
struct mno_docs_reached {
	uint64_t seq, changes; /* the last change that the documents have; made again */
	int64_t ms;            /* its time; 0 = not known, or there is none */
};

struct mno_backup_verdict {
	uint64_t files, bytes, damaged;
	bool signature; /* proven with the key of @key_state */
	bool walked;    /* every value was opened */
	struct mno_backup_info info;
	struct mno_docs_reached docs; /* of a restore with .docs_until */
};
/*
 * Reads the backup @path and compares all hashes. With @key_state, the state directory of the store
 * it is of: also proves the signature, opens it read-only and looks at every value. What is wrong
 * goes to o->finding. 0: looked at all, ret->damaged says what was found; -ENOENT no such backup;
 * -MNO_ECORRUPT its manifest cannot be read; -ENOKEY @key_state has not the key it is sealed under,
 * now or among the kept ones: then *@ret is what the hashes say; -ECANCELED; -errno. Any thread.
 */
int mno_backup_verify(const char *path, const char *key_state, const struct mno_backup_opts *o,
	struct mno_backup_verdict *ret);

/*
 * Deletes all but the newest @keep complete backups, and what is incomplete. Before that one of
 * those that stay is verified by its hashes: when none of them is whole, nothing is deleted and
 * -MNO_ECORRUPT returned. -EINVAL: @keep is 0; -EBUSY. *@ret_n: how many were deleted.
 */
int mno_backup_prune(
	const char *dest, unsigned keep, const struct mno_backup_opts *o, size_t *ret_n);

struct mno_restore_opts {
	size_t sz;
	const char *key; /* file with the key-encryption key, for a store that keeps it itself */
	bool replace;    /* a store that is there is kept as .old-NAME-TIME beside it */
	bool partial;    /* leave out what is damaged, but for main */
	/*
	 * Documents as they were then: those of the backup, and the changes after it that the feeds
	 * in later backups beside it, and in the store that is replaced, have. NULL: as they are.
	 * -ERANGE: the backup is later than that; -MNO_EGONE: no feed reaches from the backup to
	 * there, o.finding says which changes are missing; -ENODATA: the feed is without values.
	 */
	const struct mno_docs_until *docs_until;
	struct mno_backup_opts o;
};
/*
 * Makes the state directory @state of the backup @path: copied to .restore-NAME beside it, hashes,
 * signature and every value verified there, new data keys made for what will be written, then
 * renamed in one step. -EEXIST there is a store already and not .replace; -MNO_EBUSY_STATE an agent
 * runs on it; -MNO_ECORRUPT something is damaged (o.finding says which); -ENOKEY the key is not the
 * backup's; -ENOSPC; -errno. On failure @state is as before.
 */
int mno_backup_restore(const char *path, const char *state, const struct mno_restore_opts *o,
	struct mno_backup_verdict *ret);
