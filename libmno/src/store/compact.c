/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB's files never shrink. When the store is closed, a small environment that is a quarter free
 * pages is copied without them (a very small one that has any), and the copy takes its place in
 * one step: a crash leaves the old file or the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "compact.h"
#include "mno/log.h"

#define MIN_BYTES (192u << 10) /* below, it is not worth it */
#define ANY_BYTES (1u << 20)   /* up to here it costs less than the rest of closing */
#define ANY_FREE  5u           /* pages: two heads, the tree of the trees, a list and one in it */
#define MAX_BYTES (64u << 20)  /* a stop must not take long */
#define COPY      "data.mdb.new"

bool mno_env_wasteful(struct mno_env *e)
{
	struct mno_store_stat s = {0};
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!e->env || e->gone || e->store->opts.read_only || mno_env_stat(e, &s) < 0 ||
		s.file_bytes < MIN_BYTES || s.file_bytes > MAX_BYTES)
		return false;
	return s.used_bytes < s.file_bytes - s.file_bytes / 4 ||
	       (s.file_bytes <= ANY_BYTES && s.used_bytes + ANY_FREE * page <= s.file_bytes);
}

int mno_env_copy_compact(struct mno_env *e)
{
	_cleanup_close_ int fd = -1;
	int r;

	unlinkat(e->dir_fd, COPY, 0);
	if (mno_store_floor(e->store) < 0)
		return -ENOSPC;
	fd = openat(e->dir_fd, COPY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = mno_lmdb_error(mdb_env_copyfd2(e->env, fd, MDB_CP_COMPACT));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(e->dir_fd, COPY, 0);
	return r;
}

int mno_env_take_compact(int dir_fd)
{
	if (renameat(dir_fd, COPY, dir_fd, "data.mdb") < 0)
		return -errno;
	return fsync(dir_fd) < 0 ? -errno : 0;
}

void mno_env_drop_compact(int dir_fd)
{
	unlinkat(dir_fd, COPY, 0);
}
