/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this module. */
#pragma once

#include "../crypt/sign.h"
#include "mno/backup.h"
#include "mno/buf.h"

#define MANIFEST        "manifest.json"
#define MANIFEST_FORMAT 1
#define MANIFEST_MAX    (32u << 20)
#define FILES_MAX       50000 /* of one backup: 300 B each */
#define PARTIAL         ".partial-"

struct backup_file {
	char path[64]; /* below the backup: "main/data.mdb" */
	char env_id[33];
	uint64_t size, txn;
	/* of the file in the store, to see whether it was written since */
	uint64_t dev, ino;
	int64_t ctime_ns;
	uint8_t hash[MNO_DIGEST_BYTES];
	bool linked;
};

struct manifest {
	char store[33], previous[MNO_BACKUP_NAME], version[16], kek_id[17];
	int64_t time_ms;
	uint64_t took_ns;
	struct backup_file *files;
	size_t n, cap;
	char (*left_out)[32]; /* environments */
	size_t n_left_out;
	uint8_t pub[MNO_PUBLIC_BYTES], sig[MNO_SIGN_BYTES];
	bool is_signed;
};
void manifest_done(struct manifest *m);
#define _cleanup_manifest_ _cleanup_(manifest_done)
/* -ENOMEM, -MNO_ELIMIT. */
int manifest_add(struct manifest *m, const struct backup_file *f);
const struct backup_file *manifest_find(const struct manifest *m, const char *path);
/* @keys NULL: without a signature. */
int manifest_write(struct manifest *m, const struct mno_keys *keys, struct mno_buf *out);
/*
 * What can be said without a key: form, hash over all of it, names that stay inside the backup.
 * -MNO_ECORRUPT, -MNO_EVERSION, -ENOMEM. *@ret_body: length of what is signed.
 */
int manifest_parse(const char *p, size_t n, struct manifest *ret, size_t *ret_body);
/* Reads that of the backup @dir_fd. -ENOENT; else as above. @text may be NULL. */
int manifest_read(int dir_fd, struct manifest *ret, struct mno_buf *text, size_t *ret_body);
void manifest_info(const struct manifest *m, const char *name, struct mno_backup_info *ret);

/* "20261123T204500.123Z" and nothing else. */
bool backup_name_ok(const char *s);

/* create.c: a backup of the environment @e alone, named after it. -EEXIST; else as
 * mno_backup_create(). */
struct mno_env;
int backup_create_one(struct mno_store *s, struct mno_env *e, const char *dest,
	const struct mno_backup_opts *o, struct mno_backup_info *ret);

/* --- files.c ------------------------------------------------------------------------------- */
struct pace { /* bounds the rate, tells progress, notices the end */
	const struct mno_backup_opts *o;
	uint64_t start_ns, bytes, of_bytes, paced;
	const char *env;
	bool hurry; /* no bound for now */
};
void pace_begin(struct pace *p, const struct mno_backup_opts *o, uint64_t of_bytes);
/* After @n bytes. -ECANCELED. */
int pace_step(struct pace *p, size_t n);

/* Opens "a/b" below @dir_fd for writing, making "a"; -EEXIST. */
int file_create(int dir_fd, const char *path);
int file_write(int fd, const void *p, size_t n);
/* Whether about @need bytes more fit beside @fd: an estimate, so that hours of copying do not end in
 * an error that was plain before. -ENOSPC after saying how much is missing; 0. */
int room_check(int fd, uint64_t need, const struct mno_backup_opts *o, const char *what);
/* fsync, and out of the page cache. */
int file_settle(int fd);
/* Reads the file to its end: its hash and length; with @to_fd >= 0 also copies it there. */
int file_digest(int from_fd, int to_fd, struct mno_digest *d, struct pace *p,
	uint8_t hash[MNO_DIGEST_BYTES], uint64_t *ret_size);
/* Opens a regular file, no symbolic link, below @dir_fd. */
int file_open(int dir_fd, const char *path);
/* Deletes a directory of directories of files. -errno. */
int tree_remove(int at_fd, const char *name);
/* fsync of @fd and of its directories. */
int tree_sync(int fd);
/* The directory of backups with its lock held until the descriptor *@ret_lock is closed. -EBUSY. */
int dest_open(const char *dest, bool create, int *ret_dir, int *ret_lock);
/* Names of backups in @dir_fd, the newest first. Free with free(). */
int dest_names(int dir_fd, char (**ret)[MNO_BACKUP_NAME], size_t *ret_n);
/* Removes what crashes left. The lock is held. */
void dest_clean(int dir_fd);
/* Opens the store in @dir read-only with the key of @key_state and looks at every value. */
int backup_walk(const char *dir, const char *key_state, const struct mno_backup_opts *o,
	uint64_t *ret_damaged);
/* What is in the environment that file @path belongs to. */
void backup_finding(const struct mno_backup_opts *o, const char *path, const char *what);
/* Says that the key of @m is not in the state directory @where (NULL: not in a restored one) or, with @other, that the file @where
 * has the key @other instead ("": a passphrase). -ENOKEY. */
int backup_no_key(const struct mno_backup_opts *o, const struct manifest *m, const char *where,
	const char *other);
/*
 * until.c: brings the documents of the restored copy in @dir (path @staging) on to @until by feeds
 * of the backups in @dest (-1: none) that are later than @name and of the store @m names, and that
 * of the state directory @old (NULL: none). Errors of mno_restore_opts.docs_until.
 */
int backup_docs_until(const char *staging, int dest, const char *name, const struct manifest *m,
	const char *old, const struct mno_docs_until *until, const struct mno_backup_opts *o,
	struct mno_docs_reached *ret);
/* Makes the directory @to below @at_fd with the files of @m below "@dir", that is open as @dir_fd,
 * linked; @only NULL, or a function that says which. -errno. */
int backup_link(int at_fd, const char *to, int dir_fd, const char *dir, const struct manifest *m,
	bool (*only)(const char *path));
/* All files of @m in @dir_fd against their hashes; with @to_fd >= 0 whole ones are copied there,
 * and of damaged ones bad[i] is set. Adds to @ret. */
int backup_compare(int dir_fd, const struct manifest *m, int to_fd, bool *bad, struct pace *p,
	struct mno_backup_verdict *ret);
/* Whether the KEK of @keys made the signature over the first @body bytes of @text. */
bool backup_signature(const struct manifest *m, const struct mno_buf *text, size_t body,
	const struct mno_keys *keys);
