/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory with an environment in it, and the last line of the log. Include after
 * cmocka.h. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "../../../libmno/src/crypt/crypt.h"
#include "mno/err.h"
#include "mno/log.h"

static const uint8_t env_a[16] = "environment one", env_b[16] = "environment two";

struct rig {
	char dir[64];
	int fd, env; /* the state directory; "main" in it; a test may mount "full" */
	char log[4096];
};

static inline void rig_log(void *arg, enum mno_log_level level, const char *msg)
{
	struct rig *r = arg;

	snprintf(r->log + strlen(r->log), sizeof(r->log) - strlen(r->log), "%s\n", msg);
}

static inline int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	strcpy(r->dir, "/tmp/mno-test-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	r->fd = open(r->dir, O_RDONLY | O_DIRECTORY);
	assert_true(r->fd >= 0);
	assert_int_equal(mkdirat(r->fd, "main", 0700), 0);
	r->env = openat(r->fd, "main", O_RDONLY | O_DIRECTORY);
	assert_true(r->env >= 0);
	mno_log_set(rig_log, r, MNO_LOG_DEBUG);
	*state = r;
	return 0;
}

static inline int rig_rm(const char *path, const struct stat *st, int type, struct FTW *w)
{
	return remove(path);
}

static inline int rig_teardown(void **state)
{
	struct rig *r = *state;
	char full[96];

	mno_log_set(NULL, NULL, MNO_LOG_ERR);
	close(r->env);
	close(r->fd);
	snprintf(full, sizeof(full), "%s/full", r->dir);
	umount2(full, MNT_DETACH);
	nftw(r->dir, rig_rm, 8, FTW_DEPTH | FTW_PHYS);
	free(r);
	return 0;
}

#define rig_logged(r, text) assert_non_null(strstr((r)->log, (text)))

static inline size_t rig_read(int dir, const char *path, void *buf, size_t max)
{
	int fd = openat(dir, path, O_RDONLY);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, buf, max);
	assert_true(n >= 0);
	close(fd);
	return (size_t)n;
}

static inline void rig_write(int dir, const char *path, const void *p, size_t n, mode_t mode)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static inline bool rig_has(int dir, const char *path)
{
	return faccessat(dir, path, F_OK, 0) == 0;
}

static inline struct mno_keys *rig_keys(struct rig *r)
{
	struct mno_keys *k = NULL;

	assert_int_equal(mno_keys_open(r->fd, NULL, true, &k), 0);
	return k;
}
