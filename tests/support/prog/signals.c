/* SPDX-License-Identifier: Apache-2.0 */
/* signals N: sends N signals to a child that ignores none of them and does nothing else. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void nothing(int signo)
{
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1000;
	pid_t pid;

	signal(SIGUSR1, nothing);
	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	while (n--)
		kill(pid, SIGUSR1);
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, 0) == pid ? 0 : 1;
}
