/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key-encryption keys that were replaced. Backups made before a change of keys are sealed under the
 * old one: it stays as "kek.ID" (mode 0600) in the directory of keys until it is forgotten. Keys
 * that came from elsewhere (passphrase, credential, keyring, a path) are the operator's to keep.
 */
#pragma once

#include "crypt.h"

#define MNO_KEY_ID_TEXT (2 * MNO_KEY_ID_BYTES + 1) /* hexadecimal */

/* Copies keys/kek, if the store's key is there, to keys/kek.ID, durably. -errno. */
int mno_keys_keep(int state_fd);
/* Calls @fn with the id of each key that is kept; non-zero stops and is returned. */
int mno_keys_old_each(int state_fd, int (*fn)(void *arg, const char *id), void *arg);
/* Overwrites and removes them all. *@ret_n: how many. */
int mno_keys_forget_old(int state_fd, size_t *ret_n);
/* The store's key or a kept one, by its id. -ENOKEY: neither is @id (no log line); else as
 * mno_keys_open_recorded(). */
int mno_keys_open_id(int state_fd, const char *id, struct mno_keys **ret);
/* Id of the key that the store, or copy of one, in @state_fd wants. -ENOENT: not encrypted. */
int mno_keys_wanted_id(int state_fd, char ret[MNO_KEY_ID_TEXT]);

/*
 * For a restored directory @to_state, which wants the key @id: takes it from the keys of the store
 * @from_state, and keeps all others that are there. -ENOKEY: it is not among them.
 */
int mno_keys_adopt(int to_state, int from_state, const char *id);
/*
 * The same from the file @path: the key, or the passphrase of a store with one, which @to_state
 * remembers. -ENOKEY: it is another, *@ret_other its id ("" of a passphrase); -EKEYREJECTED: not
 * closed to others, or no key; -errno.
 */
int mno_keys_place(int to_state, const char *path, const char *id, char ret_other[MNO_KEY_ID_TEXT]);
