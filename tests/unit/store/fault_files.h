/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands between the program (LMDB included: what an executable defines comes before libraries)
 * and the files of one file system: each call that changes them can be logged, for the replay of
 * power cuts, or made to fail. Include it in one source file of a program only.
 */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Pads the prototypes that -Wmissing-prototypes wants, where headers have macros instead. */
int open64(const char *path, int flags, ...);
int openat64(int dir, const char *path, int flags, ...);
int __open_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at);
int ftruncate64(int fd, off64_t len);

enum file_op {
	FILE_WRITE, /* a, len: at, and the bytes follow */
	FILE_TRUNC, /* a: size */
	FILE_SYNC,
	FILE_LINK,   /* dir, name -> ino (a: 1 = a directory) */
	FILE_RENAME, /* dir, name -> a (directory), other */
	FILE_UNLINK, /* dir, name */
	FILE_ACK,    /* name[0]: what, a: how far */
	FILE_OTHER,  /* never logged: opens without creating, reads */
};

struct file_entry {
	uint32_t op, synced; /* synced: an O_DSYNC write */
	uint64_t ino, dir, a, len;
	char name[48], other[48];
};

/* One per program: what calls of the C library may not be handed. */
static struct file_faults {
	int log; /* descriptor of the log, or -1 */
	dev_t dev;
	pthread_mutex_t lock;
	/* The @nth call from now on fails with @err, and all behind it if @sticky. */
	int err;
	bool sticky, short_write;
	unsigned long nth, seen, failed;
	unsigned mask; /* of 1 << enum file_op that count */
} file_faults = {.log = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static inline bool file_mine(int fd, struct stat *st)
{
	return file_faults.dev && fstat(fd, st) == 0 && st->st_dev == file_faults.dev;
}

static inline int file_fails(enum file_op op)
{
	struct file_faults *f = &file_faults;
	unsigned long n;

	if (!f->nth || !(f->mask & 1u << op))
		return 0;
	n = __atomic_add_fetch(&f->seen, 1, __ATOMIC_RELAXED);
	if (n != f->nth && (n < f->nth || !f->sticky))
		return 0;
	__atomic_add_fetch(&f->failed, 1, __ATOMIC_RELAXED);
	errno = f->err;
	return -1;
}

static inline void file_put(const void *p, size_t n)
{
	if (syscall(SYS_write, file_faults.log, p, n) != (long)n)
		abort();
}

static inline void file_log(const struct file_entry *e, const void *data)
{
	if (file_faults.log < 0)
		return;
	file_put(e, sizeof(*e));
	if (e->len)
		file_put(data, e->len);
}

/* What was acknowledged, in its place among the writes. */
static inline void file_ack(char what, int n)
{
	struct file_entry e = {.op = FILE_ACK, .a = (uint64_t)n, .name = {what}};

	pthread_mutex_lock(&file_faults.lock);
	file_log(&e, NULL);
	pthread_mutex_unlock(&file_faults.lock);
}

/* Directory and last part of @path. */
static inline bool file_where(int dir, const char *path, uint64_t *ret_dir, char name[48])
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;

	snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path + 1) : 1,
		slash ? path : ".");
	snprintf(name, 48, "%s", slash ? slash + 1 : path);
	if (fstatat(dir, parent, &st, 0) < 0 || st.st_dev != file_faults.dev)
		return false;
	*ret_dir = st.st_ino;
	return true;
}

static inline int file_openat(int dir, const char *path, int flags, mode_t mode)
{
	struct file_entry e = {.op = FILE_LINK};
	bool mine = file_faults.dev && file_where(dir, path, &e.dir, e.name), there;
	struct stat st;
	int fd;

	if (!mine)
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	pthread_mutex_lock(&file_faults.lock);
	there = fstatat(dir, path, &st, 0) == 0;
	fd = file_fails(flags & O_CREAT && !there ? FILE_LINK : FILE_OTHER);
	if (fd == 0)
		fd = (int)syscall(SYS_openat, dir, path, flags, mode);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		e.ino = st.st_ino;
		if (!there && flags & O_CREAT)
			file_log(&e, NULL);
		else if (flags & O_TRUNC)
			file_log(&(struct file_entry){.op = FILE_TRUNC, .ino = st.st_ino}, NULL);
	}
	pthread_mutex_unlock(&file_faults.lock);
	return fd;
}

static inline mode_t file_mode(int flags, va_list ap)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

#define FILE_OPEN_FN(fn, args, dir)                                                                \
	int fn args                                                                                \
	{                                                                                          \
		mode_t mode;                                                                       \
		va_list ap;                                                                        \
                                                                                                   \
		va_start(ap, flags);                                                               \
		mode = file_mode(flags, ap);                                                       \
		va_end(ap);                                                                        \
		return file_openat(dir, path, flags, mode);                                        \
	}
FILE_OPEN_FN((open), (const char *path, int flags, ...), AT_FDCWD)
FILE_OPEN_FN((open64), (const char *path, int flags, ...), AT_FDCWD)
FILE_OPEN_FN((openat), (int dir, const char *path, int flags, ...), dir)
FILE_OPEN_FN((openat64), (int dir, const char *path, int flags, ...), dir)
int __open_2(const char *path, int flags)
{
	return file_openat(AT_FDCWD, path, flags, 0);
}
int __openat_2(int dir, const char *path, int flags)
{
	return file_openat(dir, path, flags, 0);
}

/* All ways to write come here; @at < 0: where the descriptor stands. */
static inline ssize_t file_write(int fd, const void *p, size_t n, off_t at)
{
	struct file_entry e = {.op = FILE_WRITE};
	struct stat st;
	ssize_t r;

	if (!file_mine(fd, &st) || !S_ISREG(st.st_mode))
		return at < 0 ? syscall(SYS_write, fd, p, n) : syscall(SYS_pwrite64, fd, p, n, at);
	pthread_mutex_lock(&file_faults.lock);
	r = file_fails(FILE_WRITE);
	if (r < 0 && file_faults.short_write && n > 1) {
		n /= 2;
		r = 0;
	}
	e.a = (uint64_t)(at < 0 ? lseek(fd, 0, SEEK_CUR) : at);
	if (r == 0)
		r = at < 0 ? syscall(SYS_write, fd, p, n) : syscall(SYS_pwrite64, fd, p, n, at);
	if (r > 0) {
		e.ino = st.st_ino;
		e.len = (uint64_t)r;
		e.synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
		file_log(&e, p);
	}
	pthread_mutex_unlock(&file_faults.lock);
	return r;
}

ssize_t write(int fd, const void *p, size_t n)
{
	return file_write(fd, p, n, -1);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	return file_write(fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return file_write(fd, p, n, at);
}
ssize_t writev(int fd, const struct iovec *v, int n)
{
	_cleanup_free_ char *all = NULL;
	size_t len = 0, at = 0;
	struct stat st;

	if (!file_mine(fd, &st))
		return syscall(SYS_writev, fd, v, n);
	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	all = malloc(len + 1);
	if (!all) {
		errno = ENOMEM;
		return -1;
	}
	for (int i = 0; i < n; at += v[i++].iov_len)
		memcpy(all + at, v[i].iov_base, v[i].iov_len);
	return file_write(fd, all, len, -1);
}

static inline int file_call(int fd, enum file_op op, long nr, long a, long b, long c)
{
	struct file_entry e = {.op = op};
	struct stat st;
	int r;

	if (!file_mine(fd, &st))
		return (int)syscall(nr, fd, a, b, c);
	pthread_mutex_lock(&file_faults.lock);
	r = file_fails(op);
	if (r == 0)
		r = (int)syscall(nr, fd, a, b, c);
	e.ino = st.st_ino;
	e.a = (uint64_t)(nr == SYS_fallocate ? b + c : a);
	if (r == 0 && (nr != SYS_fallocate || (uint64_t)st.st_size < e.a))
		file_log(&e, NULL);
	pthread_mutex_unlock(&file_faults.lock);
	return r;
}

int fsync(int fd)
{
	return file_call(fd, FILE_SYNC, SYS_fsync, 0, 0, 0);
}
int fdatasync(int fd)
{
	return file_call(fd, FILE_SYNC, SYS_fdatasync, 0, 0, 0);
}
int ftruncate(int fd, off_t len)
{
	return file_call(fd, FILE_TRUNC, SYS_ftruncate, len, 0, 0);
}
int ftruncate64(int fd, off64_t len)
{
	return file_call(fd, FILE_TRUNC, SYS_ftruncate, len, 0, 0);
}
int(posix_fallocate)(int fd, off_t at, off_t len)
{
	int before = errno,
	    r = file_call(fd, FILE_TRUNC, SYS_fallocate, 0, at, len) < 0 ? errno : 0;

	errno = before;
	return r;
}

static inline int file_name_op(
	struct file_entry *e, bool mine, long nr, long a, const void *b, long c, const void *d)
{
	struct stat st;
	int r;

	if (!mine)
		return (int)syscall(nr, a, b, c, d, 0);
	pthread_mutex_lock(&file_faults.lock);
	r = file_fails(e->op);
	if (r == 0)
		r = (int)syscall(nr, a, b, c, d, 0);
	if (r == 0 && e->op == FILE_LINK && fstatat((int)a, b, &st, 0) == 0)
		e->ino = st.st_ino;
	if (r == 0)
		file_log(e, NULL);
	pthread_mutex_unlock(&file_faults.lock);
	return r;
}

int renameat(int from, const char *old, int to, const char *new)
{
	struct file_entry e = {.op = FILE_RENAME};
	bool mine = file_faults.dev && file_where(from, old, &e.dir, e.name) &&
		    file_where(to, new, &e.a, e.other);

	return file_name_op(&e, mine, SYS_renameat2, from, old, to, new);
}
int rename(const char *old, const char *new)
{
	return renameat(AT_FDCWD, old, AT_FDCWD, new);
}
int unlinkat(int dir, const char *path, int flags)
{
	struct file_entry e = {.op = FILE_UNLINK};
	bool mine = file_faults.dev && file_where(dir, path, &e.dir, e.name);

	return file_name_op(&e, mine, SYS_unlinkat, dir, path, flags, NULL);
}
int mkdirat(int dir, const char *path, mode_t mode)
{
	struct file_entry e = {.op = FILE_LINK, .a = 1};
	bool mine = file_faults.dev && file_where(dir, path, &e.dir, e.name);

	return file_name_op(&e, mine, SYS_mkdirat, dir, path, mode, NULL);
}
