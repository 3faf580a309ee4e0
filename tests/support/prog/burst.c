/* SPDX-License-Identifier: Apache-2.0 */
/*
 * burst N MS [PARALLEL]: N children of about MS milliseconds of CPU time each, PARALLEL at a time,
 * each a fork and an exec of this program. Prints one line per child: pid, exit code (n % 7 + 1),
 * CPU time in microseconds as wait4(2) tells it. What a ledger of processes is compared with.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static int child(const char *code, const char *ms)
{
	struct timespec ts;
	double end = atof(ms) / 1e3;

	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	while ((double)ts.tv_sec + (double)ts.tv_nsec / 1e9 < end);
	return atoi(code);
}

static int reap(void)
{
	struct rusage ru;
	int status;
	pid_t pid = wait4(-1, &status, 0, &ru);

	if (pid < 0)
		return -1;
	printf("%d %d %ld\n", pid, WEXITSTATUS(status),
		(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000L + ru.ru_utime.tv_usec +
			ru.ru_stime.tv_usec);
	return 0;
}

int main(int argc, char **argv)
{
	int n, parallel, running = 0;

	if (argc == 4 && !strcmp(argv[1], "child"))
		return child(argv[2], argv[3]);
	if (argc < 3) {
		fprintf(stderr, "usage: burst N MS [PARALLEL]\n");
		return 2;
	}
	n = atoi(argv[1]);
	parallel = argc > 3 ? atoi(argv[3]) : 16;
	for (int i = 0; i < n; i++) {
		char code[16];
		char word[] = "child", *args[] = {argv[0], word, code, argv[2], NULL};
		pid_t pid;

		snprintf(code, sizeof(code), "%d", i % 7 + 1);
		if (running == parallel && reap() == 0)
			running--;
		if (posix_spawn(&pid, argv[0], NULL, NULL, args, environ)) {
			perror("posix_spawn");
			return 1;
		}
		running++;
	}
	while (running--)
		reap();
	return 0;
}
