/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed amount of work, for measuring what something else adds to it:
 *   work syscall N   N times getppid
 *   work spawn N     N times posix_spawn("/bin/true") and wait
 *   work tcp N       N requests over a new loopback connection each, server in a second process
 * Prints the CPU time (user + system, children included) of one operation in ns.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static double cpu_ns(void)
{
	const int who[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
	struct rusage r;
	double ns = 0;

	for (size_t i = 0; i < 2; i++) {
		getrusage(who[i], &r);
		ns += (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e9 +
		      (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e3;
	}
	return ns;
}

static int work_syscall(long n)
{
	while (n-- > 0)
		syscall(SYS_getppid);
	return 0;
}

static int work_spawn(long n)
{
	char *argv[] = {(char *)"true", NULL};
	int status;
	pid_t pid;

	while (n-- > 0) {
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
			return -1;
		if (waitpid(pid, &status, 0) < 0 || status)
			return -1;
	}
	return 0;
}

static void serve(int fd, long n)
{
	char buf[1024];
	int c;

	memset(buf, 'x', sizeof(buf));
	while (n-- > 0) {
		c = accept(fd, NULL, NULL);
		if (c < 0 || read(c, buf, sizeof(buf)) <= 0 || write(c, buf, sizeof(buf)) < 0)
			_exit(1);
		close(c);
	}
	_exit(0);
}

static int request(const struct sockaddr_in *to)
{
	static const char get[] = "GET /index.html HTTP/1.0\r\nHost: localhost\r\n\r\n";
	int fd = socket(AF_INET, SOCK_STREAM, 0), r = -1;
	char buf[2048];

	if (fd < 0)
		return -1;
	if (!connect(fd, (const void *)to, sizeof(*to)) && write(fd, get, sizeof(get) - 1) > 0) {
		while ((r = read(fd, buf, sizeof(buf))) > 0)
			;
	}
	close(fd);
	return r;
}

static int work_tcp(long n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0), status;
	socklen_t len = sizeof(a);
	pid_t pid;

	if (fd < 0 || bind(fd, (void *)&a, sizeof(a)) || listen(fd, 128) ||
		getsockname(fd, (void *)&a, &len))
		return -1;
	pid = fork();
	if (!pid)
		serve(fd, n);
	close(fd);
	while (n-- > 0)
		if (request(&a))
			return -1;
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -1;
}

static const struct {
	const char *name;
	int (*run)(long n);
} modes[] = {{"syscall", work_syscall}, {"spawn", work_spawn}, {"tcp", work_tcp}};

int main(int argc, char **argv)
{
	long n = argc == 3 ? atol(argv[2]) : 0;
	double before;

	for (size_t i = 0; n > 0 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[1], modes[i].name))
			continue;
		before = cpu_ns();
		if (modes[i].run(n)) {
			fprintf(stderr, "work: %s: %s\n", argv[1], strerror(errno));
			return 1;
		}
		printf("%.1f\n", (cpu_ns() - before) / n);
		return 0;
	}
	fprintf(stderr, "usage: work syscall|spawn|tcp COUNT\n");
	return 2;
}
