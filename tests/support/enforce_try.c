/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "enforce_try.h"
#include "mno/macro.h"
#include "probe_rig.h"

/* Each returns what its system call did; what it made is taken away again. */
static int closed(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd;
}

static int do_open(const char *p)
{
	return closed(open(p, O_RDONLY | O_CLOEXEC));
}

static int do_write(const char *p)
{
	return closed(open(p, O_WRONLY | O_CLOEXEC));
}

static int do_truncate_open(const char *p)
{
	return closed(open(p, O_RDONLY | O_TRUNC | O_CLOEXEC));
}

static int do_exec(const char *p)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		execl(p, "try", "nothing", "", NULL);
		_exit(errno == EPERM ? 99 : 98);
	}
	if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 99)
		return 0;
	errno = EPERM;
	return -1;
}

static int do_mmap(const char *p)
{
	int fd = open(p, O_RDONLY | O_CLOEXEC);
	void *m = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	int saved = errno;

	close(fd);
	if (m != MAP_FAILED)
		munmap(m, 4096);
	errno = saved;
	return m == MAP_FAILED ? -1 : 0;
}

static int do_mprotect(const char *p)
{
	int fd = open(p, O_RDONLY | O_CLOEXEC);
	void *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	int r = mprotect(m, 4096, PROT_READ | PROT_EXEC), saved = errno;

	munmap(m, 4096);
	close(fd);
	errno = saved;
	return r;
}

static int do_unlink(const char *p)
{
	int r = unlink(p);

	if (r == 0)
		close(open(p, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	return r;
}

static const char *beside(const char *p)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/../../outside", p);
	/* .../tree/f/../../outside does not resolve through a file: cut */
	snprintf(path, sizeof(path), "%.*s/outside", (int)(strrchr(p, '/') - p - 5), p);
	return path;
}

static int do_rename(const char *p)
{
	int r = rename(p, beside(p)), saved = errno;

	if (r == 0)
		rename(beside(p), p);
	errno = saved;
	return r;
}

static int do_rename_into(const char *p)
{
	int r, saved;

	close(open(beside(p), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	r = rename(beside(p), p), saved = errno;
	errno = saved;
	return r;
}

static int do_link(const char *p)
{
	int r, saved;

	unlink(beside(p));
	r = link(p, beside(p)), saved = errno;
	if (r == 0)
		unlink(beside(p));
	errno = saved;
	return r;
}

static int do_create(const char *p)
{
	int r = closed(open(p, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));

	if (r >= 0)
		unlink(p);
	return r;
}

static int do_mkdir(const char *p)
{
	int r = mkdir(p, 0700);

	if (r == 0)
		rmdir(p);
	return r;
}

static int do_chmod(const char *p)
{
	return chmod(p, 0600);
}

static int do_socket(const char *p)
{
	return closed(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static struct sockaddr_in local(const char *port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((uint16_t)(*port == '/' ? 0 : atoi(port))),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int do_bind(const char *p)
{
	struct sockaddr_in a = local(p);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = bind(fd, (struct sockaddr *)&a, sizeof(a)), saved = errno;

	close(fd);
	errno = saved;
	return r;
}

static int do_connect(const char *p)
{
	struct sockaddr_in a = local(*p == '/' ? "9" : p);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&a, sizeof(a)), saved = errno;

	close(fd);
	errno = saved;
	return r < 0 && saved == ECONNREFUSED ? 0 : r;
}

static int do_sendto(const char *p)
{
	struct sockaddr_in a = local("9");
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t r = sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a));
	int saved = errno;

	close(fd);
	errno = saved;
	return r < 0 ? -1 : 0;
}

static int do_capable(const char *p)
{
	char name[64];

	if (gethostname(name, sizeof(name)) < 0)
		return 0;
	return sethostname(name, strlen(name));
}

/* Another process, always there: the parent. */
static int do_ptrace(const char *p)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", getppid());
	if (closed(open(path, O_RDONLY | O_CLOEXEC)) >= 0)
		return 0;
	if (errno == EACCES)
		errno = EPERM;
	return -1;
}

static int do_kill(const char *p)
{
	return kill(getppid(), 0);
}

static int do_bpf(const char *p)
{
	union bpf_attr a = {};
	int r;

	a.map_type = BPF_MAP_TYPE_ARRAY;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	r = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a));
	return closed(r);
}

static int do_mount(const char *p)
{
	int r = mount("none", "/mnt", "tmpfs", 0, NULL);

	if (r == 0)
		umount("/mnt");
	return r;
}

static int do_userns(const char *p)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) < 0 ? errno : 0);
	waitpid(pid, &status, 0);
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static const struct {
	const char *what;
	int (*fn)(const char *arg);
} tries[] = {
	{"open", do_open},
	{"write", do_write},
	{"truncate-open", do_truncate_open},
	{"exec", do_exec},
	{"mmap", do_mmap},
	{"mprotect", do_mprotect},
	{"unlink", do_unlink},
	{"rename", do_rename},
	{"rename-into", do_rename_into},
	{"link", do_link},
	{"create", do_create},
	{"mkdir", do_mkdir},
	{"chmod", do_chmod},
	{"socket", do_socket},
	{"bind", do_bind},
	{"connect", do_connect},
	{"sendto", do_sendto},
	{"capable", do_capable},
	{"ptrace", do_ptrace},
	{"kill", do_kill},
	{"bpf", do_bpf},
	{"mount", do_mount},
	{"userns", do_userns},
};

static int repeat(int (*fn)(const char *arg), const char *arg)
{
	int n = 0;

	for (int i = 0; i < TRIES; i++) {
		if (fn(arg) >= 0)
			continue;
		if (errno != EPERM)
			return 253;
		n++;
	}
	return n;
}

/* Opens without a pause for 3 s; 0: never got through. */
static int never_open(const char *path)
{
	time_t end = time(NULL) + 3;
	long n = 0;

	for (; time(NULL) < end; n++) {
		if (do_open(path) >= 0)
			return 1;
		if (errno != EPERM)
			return 253;
	}
	return n > 100 ? 0 : 252;
}

int enforce_try(const char *what, const char *arg)
{
	const char *cgroup = getenv("TRY_CGROUP");

	if (cgroup && mno_rig_cgroup_enter(cgroup) < 0)
		return 255;
	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "never-open"))
		return never_open(arg);
	if (!strcmp(what, "fork-open")) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(repeat(do_open, arg));
		return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 252;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++)
		if (!strcmp(tries[i].what, what))
			return repeat(tries[i].fn, arg);
	return 251;
}
