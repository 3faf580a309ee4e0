/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "verbs.h"
#include "mno/json.h"

const struct ctl_option completion_options[] = {
	{"names", 0, CTL_WORD, .hidden = true, .metavar = "WHAT", .help = "names the agent knows",
		.words = "probes kinds metrics"},
	{0},
};

static void list_words(struct ctl *c, struct json_object *arr)
{
	for (size_t i = 0; i < jlen(arr); i++)
		ctl_printf(c, CTL_PLAIN, "%s\n", ctl_esc(c, json_object_get_string(jidx(arr, i))));
}

/* For the scripts: one name a line, silence when the agent does not answer. */
static int names(struct ctl *c, const char *what)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	bool metrics = strcmp(what, "metrics") == 0;
	struct json_object *probes;
	int r;

	c->quiet++;
	r = ctl_get(c, metrics ? "/api/v1/label/__name__/values" : "/mno/v1/probes", &a);
	c->quiet--;
	if (r)
		return r;
	if (metrics)
		list_words(c, jget(a.root, "data"));
	probes = jget(a.root, "probes");
	for (size_t i = 0; i < jlen(probes); i++) {
		struct json_object *p = jidx(probes, i);

		if (strcmp(what, "probes") == 0)
			ctl_printf(c, CTL_PLAIN, "%s\n", ctl_esc(c, jstr(p, "name")));
		else
			list_words(c, jget(p, "kinds"));
	}
	return 0;
}

int verb_completion(struct ctl *c)
{
	const char *what = ctl_opt(c->args, "names");
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;

	if (what)
		return names(c, what);
	if (!c->args->n_pos)
		return ctl_fail(
			c, CTL_USAGE, NULL, "which shell? Usage: mnoctl completion bash|zsh");
	if (strcmp(c->args->pos[0], "bash") == 0)
		ctl_complete_bash(&b);
	else
		ctl_complete_zsh(&b);
	if (!c->json) {
		mno_buf_add(&c->out, b.data, b.len);
		return 0;
	}
	mno_json_init(&j, &c->out);
	mno_json_obj(&j);
	mno_json_kstr(&j, "shell", c->args->pos[0]);
	mno_json_kstr(&j, "script", mno_buf_cstr(&b));
	mno_json_end(&j);
	mno_buf_addc(&c->out, '\n');
	return 0;
}
