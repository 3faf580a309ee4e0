/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lsm_smoke CGROUP2_MOUNT: proves that a BPF LSM program refuses on this kernel (level L4).
 * Opens one file 30 times from a cgroup of its own and 30 times from outside it and prints
 * "inside 30/30 outside 0/30 called 60". Exit status: see enum verdict.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "lsm_smoke.skel.h"

#define TRIES 30

enum verdict {
	ENFORCED = 0, /* all inside refused, none outside */
	BROKEN = 1,   /* set-up failed, or refused the wrong opens */
	REFUSED = 3,  /* the kernel does not load or attach the program */
	INERT = 4,    /* loaded and attached without error, and never called */
};

struct smoke {
	char cgroup[256];
	char file[64];
	struct lsm_smoke_bpf *skel;
};

static int smoke_join_cgroup(const struct smoke *s)
{
	char path[sizeof(s->cgroup) + sizeof("/cgroup.procs")];
	int fd, n;

	snprintf(path, sizeof(path), "%s/cgroup.procs", s->cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return n;
}

/* Child's exit status: number of opens refused with EPERM, or 255 when it could not try. */
static int smoke_open_all(const struct smoke *s, int inside)
{
	int refused = 0;

	if (inside && smoke_join_cgroup(s) < 0)
		return 255;
	for (int i = 0; i < TRIES; i++) {
		int fd = open(s->file, O_RDONLY | O_CLOEXEC);

		if (fd >= 0)
			close(fd);
		else if (errno == EPERM)
			refused++;
		else
			return 255;
	}
	return refused;
}

static int smoke_count_refused(const struct smoke *s, int inside)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(smoke_open_all(s, inside));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) == 255)
		return -EIO;
	return WEXITSTATUS(status);
}

static int smoke_prepare(struct smoke *s, const char *cgroup_mount)
{
	int fd;

	snprintf(s->cgroup, sizeof(s->cgroup), "%.200s/lsm-smoke-%d", cgroup_mount, getpid());
	snprintf(s->file, sizeof(s->file), "/tmp/lsm-smoke-%d", getpid());
	if (mkdir(s->cgroup, 0755) < 0)
		return -errno;
	fd = open(s->file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* The target is set before the program is attached: it can never refuse anything else. */
static int smoke_attach(struct smoke *s)
{
	struct stat cgroup, file;
	int r;

	if (stat(s->cgroup, &cgroup) < 0 || stat(s->file, &file) < 0)
		return -errno;
	s->skel = lsm_smoke_bpf__open();
	if (!s->skel)
		return -errno;
	s->skel->bss->target_cgroup = cgroup.st_ino;
	s->skel->bss->target_inode = file.st_ino;
	s->skel->bss->target_device = major(file.st_dev) << 20 | minor(file.st_dev);
	r = lsm_smoke_bpf__load(s->skel);
	return r < 0 ? r : lsm_smoke_bpf__attach(s->skel);
}

static enum verdict smoke_try(const struct smoke *s)
{
	int inside = smoke_count_refused(s, 1);
	int outside = smoke_count_refused(s, 0);
	unsigned long long called = s->skel->bss->called, denied = s->skel->bss->denied;

	printf("inside %d/%d outside %d/%d called %llu\n", inside, TRIES, outside, TRIES, called);
	if (inside == TRIES && outside == 0 && denied == TRIES && called == 2 * TRIES)
		return ENFORCED;
	if (inside == 0 && outside == 0 && called == 0)
		return INERT;
	return BROKEN;
}

static void smoke_clean_up(struct smoke *s)
{
	lsm_smoke_bpf__destroy(s->skel);
	unlink(s->file);
	rmdir(s->cgroup);
}

int main(int argc, char **argv)
{
	struct smoke s = {};
	enum verdict verdict = BROKEN;
	int r;

	r = smoke_prepare(&s, argc > 1 ? argv[1] : "/sys/fs/cgroup");
	if (r < 0) {
		fprintf(stderr, "lsm_smoke: %s: %s\n", s.cgroup, strerror(-r));
	} else {
		r = smoke_attach(&s);
		if (r < 0)
			printf("refused by the kernel: %s\n", strerror(-r));
		verdict = r < 0 ? REFUSED : smoke_try(&s);
	}
	smoke_clean_up(&s);
	return verdict;
}
