/* SPDX-License-Identifier: Apache-2.0 */
/* Small files, read whole and replaced whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "crypt_internal.h"
#include "mno/log.h"

static int read_all(int fd, uint8_t *buf, size_t max, size_t *ret_n)
{
	size_t n = 0;
	uint8_t more;
	ssize_t r = 1;

	while (n < max && r > 0) {
		r = read(fd, buf + n, max - n);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r < 0)
			r = 1;
		else
			n += (size_t)r;
	}
	if (n == max && read(fd, &more, 1) != 0)
		return -EFBIG;
	*ret_n = n;
	return 0;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t r = write(fd, p, n);

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return -EIO;
		if (r > 0) {
			p += r;
			n -= (size_t)r;
		}
	}
	return 0;
}

int small_read(
	int dir_fd, const char *path, enum file_secrecy s, void *buf, size_t max, size_t *ret_n)
{
	static const mode_t forbidden[] = {
		[FILE_OPEN] = 0, [FILE_PRIVATE] = 077, [FILE_NOT_OTHERS] = 007};
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		mno_err("%s is no regular file", path);
		return -EKEYREJECTED;
	}
	if (st.st_mode & forbidden[s]) {
		mno_err("the secret in %s can be read by others (mode %04o): chmod 0600 it, and "
			"replace the secret if they may have read it",
			path, st.st_mode & 07777);
		return -EKEYREJECTED;
	}
	return read_all(fd, buf, max, ret_n);
}

int dir_sync(int dir_fd)
{
	return fsync(dir_fd) < 0 ? -errno : 0;
}

/* The directory that @path is in, opened; its last part. */
static int parent_open(int dir_fd, const char *path, const char **ret_base)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	int fd;

	*ret_base = slash ? slash + 1 : path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	fd = openat(dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int write_temp(int dir_fd, const char *temp, const void *p, size_t n)
{
	_cleanup_close_ int fd = -1;
	int r;

	/* one that a crash left: never the content of a file that was complete */
	if (unlinkat(dir_fd, temp, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, p, n);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int small_write(int dir_fd, const char *path, const void *p, size_t n, bool *ret_renamed)
{
	_cleanup_close_ int parent = -1;
	char temp[NAME_MAX + 8];
	const char *base;
	int r;

	if (ret_renamed)
		*ret_renamed = false;
	parent = parent_open(dir_fd, path, &base);
	if (parent < 0)
		return parent;
	if (snprintf(temp, sizeof(temp), "%s.tmp", base) >= (int)sizeof(temp))
		return -ENAMETOOLONG;
	r = write_temp(parent, temp, p, n);
	if (r == 0 && renameat(parent, temp, parent, base) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(parent, temp, 0);
		return r;
	}
	if (ret_renamed)
		*ret_renamed = true;
	return dir_sync(parent);
}

int small_overwrite(int fd)
{
	static const uint8_t zeros[4096];
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	for (off_t left = st.st_size; left > 0 && r == 0; left -= (off_t)sizeof(zeros))
		r = write_all(fd, zeros, (size_t)MNO_MIN(left, (off_t)sizeof(zeros)));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int small_erase(int dir_fd, const char *path)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = small_overwrite(fd);
	if (unlinkat(dir_fd, path, 0) < 0 && r == 0)
		r = -errno;
	return r;
}
