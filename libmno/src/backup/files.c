/* SPDX-License-Identifier: Apache-2.0 */
/* Copying at a bounded rate, durable directories, the directory of all backups. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/time.h"
#include "mno/util.h"

#define CHUNK     (1u << 20)
#define PAUSE_MAX (50 * NS_PER_MS) /* so that the end is noticed */

/* --- rate ------------------------------------------------------------------------------------ */

void pace_begin(struct pace *p, const struct mno_backup_opts *o, uint64_t of_bytes)
{
	*p = (struct pace){
		.o = o, .start_ns = mno_now_ns(CLOCK_MONOTONIC), .of_bytes = of_bytes, .env = ""};
}

static bool cancelled(const struct pace *p)
{
	return p->o->cancel && atomic_load(p->o->cancel);
}

int pace_step(struct pace *p, size_t n)
{
	struct mno_backup_progress pr = {.env = p->env};
	uint64_t due, now;

	p->bytes += n;
	pr.bytes = p->bytes;
	pr.of_bytes = MNO_MAX(p->of_bytes, p->bytes);
	if (p->o->progress)
		p->o->progress(p->o->arg, &pr);
	if (!p->o->bytes_per_s || p->hurry)
		return cancelled(p) ? -ECANCELED : 0;
	p->paced += n;
	due = p->start_ns +
	      (uint64_t)((double)p->paced / (double)p->o->bytes_per_s * (double)NS_PER_SEC);
	while (!cancelled(p) && (now = mno_now_ns(CLOCK_MONOTONIC)) < due) {
		uint64_t ns = MNO_MIN(due - now, PAUSE_MAX);
		struct timespec ts = {.tv_nsec = (long)ns};

		nanosleep(&ts, NULL);
	}
	return cancelled(p) ? -ECANCELED : 0;
}

/* --- files ----------------------------------------------------------------------------------- */

int file_create(int dir_fd, const char *path)
{
	const char *slash = strchr(path, '/');
	char dir[64];
	int fd;

	if (slash) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
		if (mkdirat(dir_fd, dir, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	fd = openat(dir_fd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

int file_open(int dir_fd, const char *path)
{
	struct stat st;
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -MNO_ECORRUPT;
}

int file_write(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -ENOSPC;
		p = (const char *)p + w;
		n -= (size_t)w;
	}
	return 0;
}

int room_check(int fd, uint64_t need, const struct mno_backup_opts *o, const char *what)
{
	char text[160], a[16], b[16];
	struct statvfs v;
	uint64_t have;

	if (fstatvfs(fd, &v) < 0)
		return 0; /* then writing tells */
	have = (uint64_t)v.f_bavail * v.f_frsize;
	if (need <= have)
		return 0;
	snprintf(text, sizeof(text), "about %s are needed, %s are free there",
		mno_human_bytes((double)need, a, sizeof(a)),
		mno_human_bytes((double)have, b, sizeof(b)));
	backup_finding(o, what, text);
	return -ENOSPC;
}

int file_settle(int fd)
{
	if (fsync(fd) < 0)
		return -errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int file_digest(int from_fd, int to_fd, struct mno_digest *d, struct pace *p,
	uint8_t hash[MNO_DIGEST_BYTES], uint64_t *ret_size)
{
	_cleanup_free_ uint8_t *buf = malloc(CHUNK);
	uint64_t size = 0;
	int r = buf ? 0 : -ENOMEM;

	while (r == 0) {
		ssize_t n = read(from_fd, buf, CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		mno_digest_add(d, buf, (size_t)n);
		if (to_fd >= 0)
			r = file_write(to_fd, buf, (size_t)n);
		if (r == 0)
			r = pace_step(p, (size_t)n);
		size += (uint64_t)n;
	}
	mno_digest_end(d, hash);
	*ret_size = size;
	return r;
}

/* --- directories ----------------------------------------------------------------------------- */

static bool is_dots(const char *s)
{
	return !strcmp(s, ".") || !strcmp(s, "..");
}

static DIR *dir_list(int at_fd, const char *name)
{
	int fd = openat(at_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

static int remove_below(int at_fd, const char *name, unsigned depth)
{
	DIR *d = dir_list(at_fd, name);
	struct dirent *de;
	int r = 0;

	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		if (is_dots(de->d_name) || unlinkat(dirfd(d), de->d_name, 0) == 0)
			continue;
		if ((errno == EISDIR || errno == EPERM) && depth)
			r = remove_below(dirfd(d), de->d_name, depth - 1) ?: r;
		else if (errno != ENOENT)
			r = -errno;
	}
	closedir(d);
	if (unlinkat(at_fd, name, AT_REMOVEDIR) < 0 && r == 0)
		r = -errno;
	return r;
}

int tree_remove(int at_fd, const char *name)
{
	return remove_below(at_fd, name, 3);
}

int tree_sync(int fd)
{
	DIR *d = dir_list(fd, ".");
	struct dirent *de;
	int r = 0;

	if (!d)
		return -errno;
	while (r == 0 && (de = readdir(d))) {
		_cleanup_close_ int sub = -1;

		if (is_dots(de->d_name))
			continue;
		sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub >= 0 && fsync(sub) < 0)
			r = -errno;
	}
	closedir(d);
	return r ?: fsync(fd) < 0 ? -errno : 0;
}

/* --- the directory of backups ------------------------------------------------------------------ */

bool backup_name_ok(const char *s)
{
	static const char form[] = "00000000T000000.000Z";

	if (strlen(s) != strlen(form))
		return false;
	for (size_t i = 0; form[i]; i++)
		if (form[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	return true;
}

int dest_open(const char *dest, bool create, int *ret_dir, int *ret_lock)
{
	_cleanup_close_ int dir = -1, lock = -1;

	if (create && mkdir(dest, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (ret_lock) {
		lock = openat(dir, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (lock < 0)
			return -errno;
		if (flock(lock, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		*ret_lock = TAKE_FD(lock);
	}
	*ret_dir = TAKE_FD(dir);
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	return strcmp(b, a);
}

int dest_names(int dir_fd, char (**ret)[MNO_BACKUP_NAME], size_t *ret_n)
{
	char(*v)[MNO_BACKUP_NAME] = NULL;
	size_t n = 0, cap = 0;
	struct dirent *de;
	DIR *d = dir_list(dir_fd, ".");

	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		if (!backup_name_ok(de->d_name))
			continue;
		if (n == cap) {
			char(*p)[MNO_BACKUP_NAME] = reallocarray(v, cap = cap * 2 + 16, sizeof(*p));

			if (!p) {
				free(v);
				closedir(d);
				return -ENOMEM;
			}
			v = p;
		}
		memcpy(v[n++], de->d_name, sizeof(*v)); /* its length was checked */
	}
	closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), newest_first);
	*ret = v;
	*ret_n = n;
	return 0;
}

void dest_clean(int dir_fd)
{
	DIR *d = dir_list(dir_fd, ".");
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (!strncmp(de->d_name, PARTIAL, strlen(PARTIAL)) ||
			!strncmp(de->d_name, ".walk-", 6))
			tree_remove(dir_fd, de->d_name);
	if (d)
		closedir(d);
}
