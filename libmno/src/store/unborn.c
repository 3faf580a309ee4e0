/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A power cut while an environment is made leaves its file with any part of the two pages that
 * LMDB begins with. They are made durable before anything else is written, so that such a file is
 * known: it has no more than them, and no data key either.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pages.h"
#include "store_internal.h"

#define META_PAGES 2
#define TXNID_AT   144 /* in a page: its header, and all of MDB_meta but its last member */

/* Whether something was committed: each of the two has the number of its transaction. */
static bool has_commits(int fd, off_t size, long page)
{
	uint64_t txnid;

	for (off_t at = 0; at < size; at += page)
		if (pread(fd, &txnid, sizeof(txnid), at + TXNID_AT) == sizeof(txnid) && txnid)
			return true;
	return false;
}

int mno_env_sweep_unborn(int dir_fd)
{
	_cleanup_close_ int fd = -1;
	long page = sysconf(_SC_PAGESIZE);
	struct stat st;

	if (fstatat(dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > META_PAGES * page ||
		faccessat(dir_fd, "key", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	fd = openat(dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (has_commits(fd, st.st_size, page))
		return 0;
	/* sums without data would say that data was lost */
	mno_pages_forget(dir_fd);
	return unlinkat(dir_fd, "data.mdb", 0) < 0 ? -errno : 0;
}
