/* SPDX-License-Identifier: Apache-2.0 */
/* The store as format 1 had it: one environment in the state directory itself. Read only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"

#define DBS_1 (MNO_DB_EVENT + 1) /* the databases it had are the first of today's */

static int open_env(int dir_fd, MDB_env **ret)
{
	MDB_env *env;
	char path[64];
	int r = mno_lmdb_error(mdb_env_create(&env));

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
	mdb_env_set_maxdbs(env, DBS_1 + 4);
	/* the lock on the state directory keeps others away: no table of readers is needed */
	r = mno_lmdb_error(
		mdb_env_open(env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS | MDB_NORDAHEAD, 0600));
	if (r < 0) {
		mdb_env_close(env);
		return r == -ECANCELED ? -MNO_ECORRUPT : r;
	}
	*ret = env;
	return 0;
}

/* Freed pages at the end were never written: a file that is shorter ends in SIGBUS when mapped. */
static int fill_up(int dir_fd, off_t bytes)
{
	_cleanup_close_ int fd = openat(dir_fd, "data.mdb", O_WRONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 || ftruncate(fd, bytes) < 0 ? -errno : 0;
}

static int check_length(int dir_fd, struct old_1 *o)
{
	mdb_filehandle_t fd;
	MDB_envinfo info;
	struct stat f;
	MDB_stat st;

	if (mdb_env_info(o->env, &info) || mdb_env_stat(o->env, &st) ||
		mdb_env_get_fd(o->env, &fd) || fstat(fd, &f) < 0)
		return -EIO;
	o->bytes = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
	if ((uint64_t)f.st_size >= o->bytes)
		return 0;
	if ((uint64_t)f.st_size + MNO_UNWRITTEN_SLACK < o->bytes)
		return -MNO_ECORRUPT;
	return fill_up(dir_fd, (off_t)o->bytes);
}

static int read_format(MDB_txn *t, MDB_dbi meta, unsigned *ret)
{
	MDB_val k = {strlen("format"), (void *)"format"}, v;
	uint32_t format;
	int r = mno_lmdb_error(mdb_get(t, meta, &k, &v));

	if (r < 0 || v.mv_size != sizeof(format))
		return r < 0 && r != -ENOENT ? r : -MNO_ECORRUPT;
	memcpy(&format, v.mv_data, sizeof(format));
	*ret = format;
	return format ? 0 : -MNO_ECORRUPT;
}

static int open_dbs(struct old_1 *o)
{
	MDB_val k = {strlen("series_counters"), (void *)"series_counters"}, v;
	unsigned format;
	int r = 0;

	for (unsigned i = 0; i < DBS_1 && r == 0; i++) {
		MDB_stat st;

		r = mno_lmdb_error(mdb_dbi_open(o->t, mno_db_name(i), 0, &o->dbi[i]));
		o->has[i] = r == 0;
		if (r == 0 && mdb_stat(o->t, o->dbi[i], &st) == 0)
			o->entries[i] = st.ms_entries;
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0)
		r = o->has[MNO_DB_META] ? read_format(o->t, o->dbi[MNO_DB_META], &format)
					: -MNO_ECORRUPT;
	if (r < 0)
		return r;
	if (format != 1)
		return -MNO_EVERSION;
	if (mdb_get(o->t, o->dbi[MNO_DB_META], &k, &v) == 0 && v.mv_size == sizeof(o->counters))
		memcpy(&o->counters, v.mv_data, sizeof(o->counters));
	return 0;
}

int old_1_open(int dir_fd, struct old_1 *o)
{
	int r = open_env(dir_fd, &o->env);

	if (r == 0)
		r = check_length(dir_fd, o);
	if (r == 0)
		r = mno_lmdb_error(mdb_txn_begin(o->env, NULL, MDB_RDONLY, &o->t));
	if (r < 0)
		o->t = NULL;
	else
		r = open_dbs(o);
	if (r == 0 && !(o->z = ZSTD_createDCtx()))
		r = -ENOMEM;
	return r;
}

void old_1_close(struct old_1 *o)
{
	series_1_done(o);
	if (o->t)
		mdb_txn_abort(o->t);
	if (o->env)
		mdb_env_close(o->env);
	ZSTD_freeDCtx(o->z);
	mno_buf_done(&o->raw);
	free(o->blocks);
	*o = (struct old_1){0};
}

int old_1_next(struct old_1 *o, enum mno_db db, enum mno_seek dir, MDB_val *key, MDB_val *val)
{
	MDB_cursor *c;
	int r;

	if (!o->has[db])
		return -ENOENT;
	r = mno_lmdb_error(mdb_cursor_open(o->t, o->dbi[db], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mno_cursor_seek(c, dir, key, val));
	mdb_cursor_close(c);
	return r;
}

static int check_pages(struct old_1 *o)
{
	mdb_filehandle_t fd;

	return mdb_env_get_fd(o->env, &fd) ? -EIO : mno_store_check(fd, 0);
}

int old_1_format(int dir_fd, unsigned *ret)
{
	struct old_1 o = {0};
	MDB_dbi meta;
	int r;

	if (!have(dir_fd, "data.mdb")) {
		*ret = 0;
		return 0;
	}
	r = open_env(dir_fd, &o.env);
	if (r == 0)
		r = check_length(dir_fd, &o);
	if (r == 0)
		r = check_pages(&o);
	if (r == 0)
		r = mno_lmdb_error(mdb_txn_begin(o.env, NULL, MDB_RDONLY, &o.t));
	if (r < 0)
		o.t = NULL;
	else
		r = mno_lmdb_error(mdb_dbi_open(o.t, "meta", 0, &meta));
	if (r == 0)
		r = read_format(o.t, meta, ret);
	old_1_close(&o);
	return r == -ENOENT ? -MNO_ECORRUPT : r;
}
