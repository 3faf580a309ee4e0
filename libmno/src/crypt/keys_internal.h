/* SPDX-License-Identifier: Apache-2.0 */
/* Between keys.c and keys_rotate.c. */
#pragma once

#include "crypt_internal.h"

/* Empty, guarded. -ENOMEM, -ENOSYS. */
int keys_new(enum mno_key_source s, const char *name, struct mno_keys **ret);
/* The directory "keys", opened; the caller closes it. -EKEYREJECTED (log line), -errno. */
int keys_dir(int state_fd, bool create);
/* Source and name of options, checked; NULL = the file. -EINVAL, -ENAMETOOLONG. */
int keys_wanted(const struct mno_keys_opts *opts, struct record *ret);
/* Reads or makes the key of a source and names it. */
int keys_load(int keys_fd, const struct record *want, const char *suffix, struct mno_keys **ret);
int keys_make(int keys_fd, const struct record *want, const char *suffix, struct mno_keys **ret);
/* Ends a commit that was cut off after its record was renamed. */
int keys_settle(int keys_fd, const struct record *cur);
void record_of(const struct mno_keys *k, struct record *ret);
/* "ID (source S, NAME)" for people. Returns @buf. */
const char *keys_text(const struct record *rec, char *buf, size_t size);
