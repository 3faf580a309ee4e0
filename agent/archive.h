/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on archives of partitions, for agent/backup.c. */
#pragma once

#include "mno/archive.h"
#include "mno/series.h"

struct mno_archive_job {
	struct mno_store *store;
	struct mno_series *series;
	const char *dir, *name; /* .dir: of archives; of attach the archive itself */
	int64_t before_ms;
	bool move, forget;
	/* A partition is done: its name and, of an archive, what was written (else NULL). */
	void (*done)(void *arg, const char *name, const struct mno_backup_info *info);
	void *arg;
};
/* What mno_archive_create() and the others return; the series follow. Any thread but the writer. */
int mno_archive_make(const struct mno_archive_job *j, const struct mno_backup_opts *o);
int mno_archive_bring(const struct mno_archive_job *j, const struct mno_backup_opts *o);
int mno_archive_take(const struct mno_archive_job *j, const struct mno_backup_opts *o);
