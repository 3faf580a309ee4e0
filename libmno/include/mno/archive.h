/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives of partitions: DIR/PARTITION is a backup of that partition alone (mno/backup.h), with
 * manifest, hashes and signature, sealed as in the store. Only the store that it came from can read
 * it: the names of series are in that store, which keeps them as long as an archive is on record.
 */
#pragma once

#include "mno/backup.h"

/*
 * Copies the partition @name ("ts-20261123") to @dest/@name, while others read and write. With @move
 * the copy is verified, then the partition goes from the store. -EINVAL no such name, or its period
 * has not ended; -ENOENT; -EEXIST there is such an archive; -MNO_ECORRUPT the copy is not whole;
 * else as mno_backup_create(). Any thread.
 */
int mno_archive_create(struct mno_store *s, const char *name, const char *dest, bool move,
	const struct mno_backup_opts *o, struct mno_backup_info *ret);
/* Calls @fn for each partition that ends at or before @ms and is not attached. Non-zero of @fn stops
 * and is returned. */
int mno_archive_each_before(
	struct mno_store *s, int64_t ms, int (*fn)(void *arg, const char *name), void *arg);
/*
 * Brings the archive @path back, verified: it is copied into the store, where retention leaves it
 * alone. *@ret_name: the partition. -EXDEV of another store; -EEXIST the store has that partition;
 * -ENOKEY; -MNO_ECORRUPT; -ENOSPC; -EAGAIN keys are being changed; -errno.
 */
int mno_archive_attach(
	struct mno_store *s, const char *path, const struct mno_backup_opts *o, char ret_name[32]);
/* Takes an attached partition away again; the archive stays. @forget: also its record, so that names
 * of series that are nowhere else may go. -ENOENT: neither. -EINVAL: not attached, or no name. */
int mno_archive_detach(struct mno_store *s, const char *name, bool forget);
/* Start of the partition @name; false if that is no name. Pure. */
bool mno_archive_time(const char *name, int64_t *ret_ms, bool *ret_series);
