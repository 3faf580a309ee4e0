/* SPDX-License-Identifier: Apache-2.0 */
/* A restore needs the store's code, not an agent: mnod does it, in the place of this program. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "offline.h"
#include "verbs.h"

const struct ctl_option restore_options[] = {
	{"state", 0, CTL_TEXT, .metavar = "DIR", .help = "state directory to make"},
	{"key", 0, CTL_TEXT, .metavar = "FILE", .help = "copy of the store's key"},
	{"replace", 0, CTL_FLAG, .help = "a store that is there is kept as .old-..."},
	{"partial", 0, CTL_FLAG, .help = "leave out what is damaged, but for main"},
	{"docs-until", 0, CTL_TEXT, .metavar = "WHEN",
		.help = "documents as they were: a time, or seq:NUMBER of a change"},
	{0},
};

int verb_restore(struct ctl *c)
{
	const char *state = ctl_opt(c->args, "state"), *key = ctl_opt(c->args, "key");
	const char *until = ctl_opt(c->args, "docs-until");
	char agent[4096];
	const char *argv[14] = {agent, "--restore", c->args->pos[0], "--state", state};
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
	if (until) {
		argv[n++] = "--docs-until";
		argv[n++] = until;
	}
	if (c->json)
		argv[n++] = "--json";
	ctl_find_agent(agent, sizeof(agent));
	execvp(agent, (char *const *)argv);
	return ctl_fail(
		c, CTL_INTERNAL, "install the agent on this host", "%s cannot be started", agent);
}
