/* SPDX-License-Identifier: Apache-2.0 */
#include "archive.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "mno/log.h"

#define NAMES_MAX 4096 /* partitions of one job, 32 B each */

struct names {
	char (*v)[32];
	size_t n;
};

static int add_name(void *arg, const char *name)
{
	struct names *l = arg;
	char(*v)[32] = l->n < NAMES_MAX ? reallocarray(l->v, l->n + 1, sizeof(*v)) : NULL;

	if (!v)
		return -ENOMEM;
	l->v = v;
	snprintf(v[l->n++], sizeof(*v), "%s", name);
	return 0;
}

static int make_one(
	const struct mno_archive_job *j, const char *name, const struct mno_backup_opts *o)
{
	struct mno_backup_info info = {0};
	int r = mno_archive_create(j->store, name, j->dir, j->move, o, &info);

	if (r < 0)
		return r;
	mno_info("archive: %s is in %s%s", name, j->dir, j->move ? " now, and not here" : ", too");
	j->done(j->arg, name, &info);
	return 0;
}

int mno_archive_make(const struct mno_archive_job *j, const struct mno_backup_opts *o)
{
	struct names l = {0};
	int r = 0;

	r = j->before_ms ? mno_archive_each_before(j->store, j->before_ms, add_name, &l)
			 : add_name(&l, j->name);
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		r = make_one(j, l.v[i], o);
		if (r == -EEXIST && j->before_ms && !j->move)
			r = 0; /* archived before */
	}
	if (r == 0 && !l.n)
		r = -ENOENT;
	free(l.v);
	if (j->move)
		mno_series_parted(j->series);
	return r;
}

int mno_archive_bring(const struct mno_archive_job *j, const struct mno_backup_opts *o)
{
	bool series;
	char name[32];
	int64_t t_ms;
	int r = mno_archive_attach(j->store, j->dir, o, name);

	if (r < 0)
		return r;
	if (mno_archive_time(name, &t_ms, &series) && series)
		r = mno_series_joined(j->series, t_ms);
	mno_info("archive: %s is attached", name);
	j->done(j->arg, name, NULL);
	return r;
}

int mno_archive_take(const struct mno_archive_job *j, const struct mno_backup_opts *o)
{
	int r = mno_archive_detach(j->store, j->name, j->forget);

	if (r == 0) {
		mno_series_parted(j->series);
		j->done(j->arg, j->name, NULL);
	}
	return r;
}
