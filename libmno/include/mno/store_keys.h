/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a store: which there are, and how they are changed while the store works. */
#pragma once

#include "mno/crypt.h"
#include "mno/store.h"

struct mno_store_keys_stat {
	bool encrypted, changing; /* changing: a new KEK is pending */
	char kek_id[17];          /* hexadecimal */
	uint64_t environments;    /* with a data key */
	uint64_t sealed;          /* values sealed by the data keys in use, since they were made */
	bool resealing;           /* values of main or docs are on their way to a new data key */
	uint64_t resealed, reseal_left; /* values done, and about how many are left */
};
/* Any thread. */
int mno_store_keys_stat(struct mno_store *s, struct mno_store_keys_stat *ret);

/*
 * Makes or reads the next key-encryption key, wraps the data keys of all environments with it, and
 * makes it current. The old one, if it was in a file of the store's own, stays beside it as
 * keys/kek.ID: backups made before need it. Readers and the writer go on. A crash at any point is taken up by the next
 * opening. -EBUSY a change is under way; -EEXIST that key is in use; -ENOTSUP the store is not
 * encrypted; -MNO_ECORRUPT an environment cannot be opened (log line): the old key stays valid, the
 * change is pending. Any thread but the writer; one at a time.
 */
int mno_store_rotate_kek(struct mno_store *s, const struct mno_keys_opts *next);

/* Calls @fn with the id of each old key that is kept. Non-zero stops and is returned. Any thread. */
int mno_store_old_keys(struct mno_store *s, int (*fn)(void *arg, const char *kek_id), void *arg);
/*
 * Destroys them: backups sealed under one of them (mno_backup_info.kek_id) can be read only with a
 * copy of it from elsewhere. *@ret_n: how many. -EBUSY; -ENOTSUP; -errno. Any thread.
 */
int mno_store_forget_keys(struct mno_store *s, size_t *ret_n);

/*
 * A new data key for each environment named @env (NULL: all that are written now): what is sealed
 * from now on uses it. Main's older values are sealed anew by mno_store_reseal(), documents by
 * what they do in the background; those of
 * partitions keep theirs until retention takes them. *@ret_n: how many environments. -ENOENT: no
 * such environment; -EBUSY main is still at the one before; -ENOTSUP. Any thread but the writer.
 */
int mno_store_rotate_data(struct mno_store *s, const char *env, size_t *ret_n);

/*
 * Inside the store's transaction: seals about @bytes of main's values with the newest data key.
 * Nothing to do: returns at once. The place is kept in the store, a crash repeats at most one
 * step. Writer thread. Errors of the store.
 */
int mno_store_reseal(struct mno_store *s, struct mno_txn *t, size_t bytes);
/*
 * After a successful commit: 2 s after the last value is done, and when nobody reads as of before,
 * drops the old data keys of main. Writer thread. Also begins a rotation when a data key comes near to 2^32 values.
 */
int mno_store_resealed(struct mno_store *s);
