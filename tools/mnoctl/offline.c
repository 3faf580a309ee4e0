/* SPDX-License-Identifier: Apache-2.0 */
#include "offline.h"
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (64u << 20)

void ctl_find_agent(char *ret, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", ret, size - 1);
	char *slash;

	ret[n > 0 ? n : 0] = '\0';
	slash = strrchr(ret, '/');
	if (slash && (size_t)(slash - ret) + sizeof("/mnod") <= size) {
		strcpy(slash, "/mnod");
		if (access(ret, X_OK) == 0)
			return;
	}
	snprintf(ret, size, "mnod");
}

static pid_t start(const char **argv, int *ret_fd)
{
	int p[2];
	pid_t pid;

	if (pipe(p) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		close(p[0]);
		close(p[1]);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(p[1]);
	*ret_fd = p[0];
	if (pid < 0)
		close(p[0]);
	return pid;
}

int ctl_run_agent(struct ctl *c, const char **argv, struct ctl_answer *ret)
{
	char agent[4096];
	ssize_t n = 1;
	int fd, status = 0;
	pid_t pid;
	char *p;

	ctl_find_agent(agent, sizeof(agent));
	argv[0] = agent;
	pid = start(argv, &fd);
	if (pid < 0)
		return ctl_fail(c, CTL_INTERNAL, NULL, "no process can be started");
	ret->body.max = OUTPUT_MAX;
	while (n > 0 && (p = mno_buf_reserve(&ret->body, 65536))) {
		n = read(fd, p, 65536);
		if (n > 0)
			mno_buf_commit(&ret->body, (size_t)n);
	}
	close(fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return ctl_fail(c, CTL_INTERNAL, "install the agent on this host",
			"%s cannot be started", agent);
	ret->root = ret->body.len ? json_tokener_parse(mno_buf_cstr(&ret->body)) : NULL;
	if (ret->root && jget(ret->root, "error"))
		return ctl_fail(c, WIFEXITED(status) ? WEXITSTATUS(status) : CTL_INTERNAL, NULL,
			"%s", ctl_esc(c, jstr(jget(ret->root, "error"), "message")));
	return ret->root ? 0
			 : ctl_fail(c, CTL_INTERNAL, NULL, "%s did not answer", ctl_esc(c, agent));
}
