/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of one run, with all that is below it: made, measured, removed. */
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct workdir {
	char path[256];
};

/* Below $BENCH_TMP, else /var/tmp: on a disk, where /tmp may be memory. */
static inline void workdir_new(struct workdir *w, const char *name)
{
	const char *base = getenv("BENCH_TMP");

	snprintf(w->path, sizeof(w->path), "%s/mno-%s-XXXXXX", base ? base : "/var/tmp", name);
	if (!mkdtemp(w->path)) {
		perror(w->path);
		exit(1);
	}
}

static inline int workdir_remove_one(
	const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline void workdir_done(struct workdir *w)
{
	nftw(w->path, workdir_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* nftw() has no argument for its callback: one walk at a time, in single-threaded programs. */
static uint64_t workdir_sum;

static inline int workdir_add_one(
	const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	workdir_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

/* Bytes on disk of all files and directories, as du counts them. */
static inline uint64_t workdir_bytes(const struct workdir *w)
{
	workdir_sum = 0;
	nftw(w->path, workdir_add_one, 16, FTW_PHYS);
	return workdir_sum;
}

static inline int workdir_drop_one(
	const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	int fd = flag == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	return 0;
}

/* Drops the files from the kernel's cache. */
static inline void workdir_drop_cache(const struct workdir *w)
{
	nftw(w->path, workdir_drop_one, 16, FTW_PHYS);
}
