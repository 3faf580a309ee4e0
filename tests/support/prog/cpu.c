/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu FILE COMMAND...: runs it and writes what it and its children used, "CPU_MS PEAK_KIB", to
 * FILE. Its exit status.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct rusage u;
	int status;
	FILE *f;
	pid_t pid;

	if (argc < 3 || !(f = fopen(argv[1], "we")))
		return 2;
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &u) != pid)
		return 2;
	fprintf(f, "%.3f %ld\n",
		(double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
			(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3,
		u.ru_maxrss);
	fclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
