/* SPDX-License-Identifier: Apache-2.0 */
/* Backups in the background: on request, and by the schedule of the settings. */
#pragma once

#include "mno/backup.h"
#include "mno/json.h"
#include "mno/series.h"

struct mno_backups;

struct mno_backups_opts {
	size_t sz;
	struct mno_store *store; /* borrowed, as the series */
	struct mno_series *series;
	const char *dir, *state_dir; /* borrowed; dir "": only where a request says */
	uint64_t every_ns;           /* 0: never by itself */
	uint64_t keep, bytes_per_s;
};
/* -ENOMEM, -EAGAIN. */
int mno_backups_start(const struct mno_backups_opts *o, struct mno_backups **ret);
/* A backup under way is given up, its files are removed. NULL-safe, returns NULL. */
struct mno_backups *mno_backups_stop(struct mno_backups *b);

enum mno_backups_what {
	MNO_BACKUPS_CREATE,
	MNO_BACKUPS_VERIFY,
	MNO_BACKUPS_PRUNE,
	MNO_BACKUPS_ARCHIVE,
	MNO_BACKUPS_ATTACH,
	MNO_BACKUPS_DETACH
};
struct mno_backups_ask {
	const char *dir;   /* NULL: the settings'; of attach: the archive */
	const char *name;  /* of the backup to verify, NULL: the newest; of a partition */
	uint64_t keep;     /* prune; 0: the settings' */
	int64_t before_ms; /* archive: all partitions that end by then, not .name */
	bool move, forget; /* archive; detach */
};
/*
 * Asks for one job; its course is in mno_backups_json(). -EBUSY one is under way; -EINVAL no absolute
 * directory, or no name. Any thread.
 */
int mno_backups_ask(
	struct mno_backups *b, enum mno_backups_what what, const struct mno_backups_ask *q);
/* Job, schedule and the backups in @dir (NULL: the settings') as an object. Any thread. */
void mno_backups_json(struct mno_backups *b, const char *dir, struct mno_json *j);

/* The member "backups" of it, of any list. */
void mno_backups_put_list(struct mno_json *j, const struct mno_backup_info *v, size_t n);

struct mno_backups_stat {
	uint64_t done, failed, last_bytes, age_s; /* age: of the last that worked; 0 = none yet */
};
/* Any thread. *@ret_error: why the last scheduled or asked backup failed, 0 if it worked. */
void mno_backups_stat(struct mno_backups *b, struct mno_backups_stat *ret, int *ret_error);

/* Writes a list with the names of backups in the settings' directory that are sealed under @kek_id.
 * Any thread. */
void mno_backups_of_key(struct mno_backups *b, const char *kek_id, struct mno_json *j);
