/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "verbs.h"

const struct ctl_option help_options[] = {
	{"man", 0, CTL_FLAG, .hidden = true, .help = "print mnoctl.1"},
	{0},
};

int verb_help(struct ctl *c)
{
	const struct ctl_args *a = c->args;
	const struct ctl_verb *v;
	struct ctl_error e;
	char *argv[2];

	if (ctl_has(a, "man")) {
		ctl_help_man(&c->out);
		return 0;
	}
	if (!a->n_pos) {
		if (c->json)
			ctl_help_json(&c->out);
		else
			ctl_help_all(&c->out);
		return 0;
	}
	v = ctl_verb_find(a->pos[0]);
	if (v) {
		ctl_help_verb(&c->out, v);
		return 0;
	}
	/* the parser words it, with its "did you mean" */
	argv[1] = (char *)a->pos[0];
	struct ctl_args none;
	ctl_error_set(&e, CTL_USAGE, NULL, "no help on that");
	ctl_parse(2, argv, &none, &e);
	return ctl_error_print(c, &e);
}
