/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "proc.h"
#include "verbs.h"
#include "mno/util.h"

const struct ctl_option proc_options[] = {
	{"since", 0, CTL_TIME, .metavar = "TIME",
		.help = "look back so far (10m; show: 7d): 10m, Unix seconds or RFC 3339"},
	{"until", 0, CTL_TIME, .metavar = "TIME", .help = "list: look no later than this"},
	{"running", 0, CTL_FLAG, .help = "list: only those that still run"},
	{"comm", 0, CTL_TEXT, .metavar = "NAME", .help = "list: only processes of this name"},
	{"exe", 0, CTL_TEXT, .metavar = "PATH", .help = "list: only this program"},
	{"cgroup", 0, CTL_TEXT, .metavar = "PATH", .help = "list: only this cgroup"},
	{"uid", 0, CTL_TEXT, .metavar = "USER", .help = "list: only this user's, by name or UID"},
	{"limit", 'n', CTL_COUNT, .metavar = "COUNT",
		.help = "list: at most so many, newest first"},
	{0},
};

static const char *const list_only[] = {
	"until", "running", "comm", "exe", "cgroup", "uid", "limit"};

int verb_proc(struct ctl *c)
{
	const struct ctl_args *a = c->args;
	const char *what = a->n_pos ? a->pos[0] : "list";
	uint64_t pid = 0;

	if (strcmp(what, "list") == 0) {
		if (a->n_pos > 1)
			return ctl_fail(c, CTL_USAGE, NULL,
				"unexpected argument \"%s\". One process: mnoctl proc show %s",
				ctl_esc(c, a->pos[1]), ctl_esc(c, a->pos[1]));
		return proc_list(c);
	}
	for (size_t i = 0; i < ARRAY_SIZE(list_only); i++)
		if (ctl_has(a, list_only[i]))
			return ctl_fail(c, CTL_USAGE, NULL, "--%s goes with: mnoctl proc list",
				list_only[i]);
	if (a->n_pos > 1 && (mno_parse_u64(a->pos[1], &pid) < 0 || !pid || pid > 4194304))
		return ctl_fail(c, CTL_INVALID, NULL, "\"%s\" is not a PID (1 to 4194304)",
			ctl_esc(c, a->pos[1]));
	if (strcmp(what, "tree") == 0)
		return proc_tree(c, pid);
	if (!pid)
		return ctl_fail(c, CTL_USAGE, "mnoctl proc list shows them",
			"which process? Usage: mnoctl proc show PID");
	return proc_show(c, pid);
}
