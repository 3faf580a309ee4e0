/* SPDX-License-Identifier: Apache-2.0 */
/* A restore needs the store's code, not an agent: mnod does it, in the place of this program. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "verbs.h"

const struct ctl_option restore_options[] = {
	{"state", 0, CTL_TEXT, .metavar = "DIR", .help = "state directory to make"},
	{"key", 0, CTL_TEXT, .metavar = "FILE", .help = "copy of the store's key"},
	{"replace", 0, CTL_FLAG, .help = "a store that is there is kept as .old-..."},
	{"partial", 0, CTL_FLAG, .help = "leave out what is damaged, but for main"},
	{0},
};

/* The one beside this program, else the one in PATH. */
static void find_agent(char *ret, size_t size)
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

int verb_restore(struct ctl *c)
{
	const char *state = ctl_opt(c->args, "state"), *key = ctl_opt(c->args, "key");
	char agent[4096];
	const char *argv[10] = {agent, "--restore", c->args->pos[0], "--state", state};
	size_t n = 5;

	if (!state)
		return ctl_fail(c, CTL_USAGE, "mnoctl restore BACKUP --state DIR",
			"--state is missing: where shall the store be?");
	if (key) {
		argv[n++] = "--key";
		argv[n++] = key;
	}
	if (ctl_has(c->args, "replace"))
		argv[n++] = "--replace";
	if (ctl_has(c->args, "partial"))
		argv[n++] = "--partial";
	find_agent(agent, sizeof(agent));
	execvp(agent, (char *const *)argv);
	return ctl_fail(
		c, CTL_INTERNAL, "install the agent on this host", "%s cannot be started", agent);
}
