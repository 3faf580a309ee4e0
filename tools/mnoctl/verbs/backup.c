/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "offline.h"
#include "verbs.h"

#define POLL_NS 200000000L

const struct ctl_option backup_options[] = {
	{"dir", 0, CTL_TEXT, .metavar = "DIR",
		.help = "directory of backups; default: the agent's"},
	{"keep", 0, CTL_COUNT, .metavar = "N",
		.help = "prune: how many stay; default: the agent's"},
	{0},
};

static const struct ctl_col columns[] = {
	{.head = "backup"},
	{.head = "size", .right = true},
	{.head = "new", .right = true},
	{.head = "files", .right = true, .drop = 2},
	{.head = "took", .right = true, .drop = 3},
	{.head = "state", .flex = true},
};

static void target_of(struct ctl *c, const char *path, struct mno_buf *out)
{
	mno_buf_adds(out, path);
	ctl_param(out, "dir", ctl_opt(c->args, "dir"));
}

static void add_backup(struct ctl *c, struct ctl_table *t, struct json_object *b)
{
	bool ok = jtrue(b, "complete");

	ctl_cell(t, CTL_BOLD, "%s", ctl_esc(c, jstr(b, "name")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(b, "bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(b, "new_bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_exact(c, ju64(b, "files")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_seconds(c, jf64(b, "seconds")));
	ctl_cell(t, ok ? CTL_GOOD : CTL_BAD, "%s%s",
		!ok                  ? "incomplete or damaged"
		: jtrue(b, "signed") ? "complete, signed"
				     : "complete",
		ju64(b, "left_out") ? ", without what could not be read" : "");
}

static void show_schedule(struct ctl *c, struct json_object *o)
{
	if (!*jstr(o, "directory"))
		ctl_field(c, "schedule", CTL_WARN, "none: set backup_dir in the agent's settings");
	else
		ctl_field(c, "schedule", CTL_PLAIN, "every %s to %s, %s stay",
			ctl_seconds(c, jf64(o, "every_seconds")), ctl_esc(c, jstr(o, "directory")),
			ctl_exact(c, ju64(o, "keep")));
	if (*jstr(o, "last_error"))
		ctl_field(c, "last", CTL_BAD, "failed: %s", ctl_esc(c, jstr(o, "last_error")));
}

/* From the agent; of a directory that is named also where none runs. */
static int get_list(struct ctl *c, struct ctl_answer *a)
{
	const char *argv[] = {NULL, "--list-backups", ctl_opt(c->args, "dir"), "--json", NULL};
	_cleanup_buf_ struct mno_buf target = {0};
	bool quiet = c->quiet;
	int r;

	target_of(c, "/mno/v1/backup", &target);
	c->quiet |= argv[2] != NULL;
	r = ctl_get(c, mno_buf_cstr(&target), a);
	c->quiet = quiet;
	if (r == CTL_UNREACHABLE && argv[2]) {
		ctl_answer_done(a);
		*a = (struct ctl_answer){0};
		return ctl_run_agent(c, argv, a);
	}
	return r && argv[2] ? ctl_error_print(c, &c->last) : r;
}

static int list(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_table_ struct ctl_table t;
	struct json_object *v;
	int r;

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	r = get_list(c, &a);
	if (ctl_answered(c, r, &a))
		return r;
	v = jget(a.root, "backups");
	for (size_t i = 0; i < jlen(v); i++)
		add_backup(c, &t, jidx(v, i));
	if (jlen(v))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "no backups\n");
	if (!ctl_has(c->args, "dir")) /* of another directory the schedule tells nothing */
		show_schedule(c, a.root);
	return 0;
}

/* Until the job of @a has ended. */
static int wait_job(struct ctl *c, struct ctl_answer *a, const char *target)
{
	bool show = c->tty && !c->json;
	int r = 0;

	while (!r && jtrue(jget(a->root, "job"), "running") && !(c->stop && *c->stop)) {
		struct json_object *k = jget(a->root, "job");
		struct timespec ts = {.tv_nsec = POLL_NS};
		double of = jf64(k, "of_bytes");

		if (show)
			fprintf(stderr, "\r\033[K%3.0f %%  %s  %.32s",
				of > 0 ? fmin(jf64(k, "bytes") / of, 1) * 100 : 0,
				ctl_bytes(c, jf64(k, "bytes")), ctl_esc(c, jstr(k, "environment")));
		nanosleep(&ts, NULL);
		ctl_answer_done(a);
		*a = (struct ctl_answer){0};
		r = ctl_get(c, target, a);
	}
	if (show)
		fputs("\r\033[K", stderr);
	return r;
}

static void show_findings(struct ctl *c, struct json_object *k)
{
	struct json_object *f = jget(k, "findings");

	for (size_t i = 0; i < jlen(f); i++)
		ctl_printf(c, CTL_BAD, "%s\n", ctl_esc(c, json_object_get_string(jidx(f, i))));
}

static void show_partitions(struct ctl *c, struct json_object *k)
{
	static const char *const said[][2] = {
		{"archive", "archived"}, {"attach", "attached"}, {"detach", "detached"}};
	struct json_object *v = jget(k, "partitions");
	const char *what = jstr(k, "what");

	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		if (!strcmp(what, said[i][0]))
			what = said[i][1];
	for (size_t i = 0; i < jlen(v); i++)
		ctl_printf(c, CTL_GOOD, "%s %s\n", ctl_esc(c, json_object_get_string(jidx(v, i))),
			what);
}

static void show_job(struct ctl *c, struct json_object *k)
{
	struct json_object *b = jget(k, "backup");
	const char *what = jstr(k, "what");

	show_findings(c, k);
	if (!strcmp(what, "create"))
		ctl_printf(c, CTL_GOOD, "%s/%s: %s, %s of it new\n",
			ctl_esc(c, jstr(k, "directory")), ctl_esc(c, jstr(b, "name")),
			ctl_bytes(c, jf64(b, "bytes")), ctl_bytes(c, jf64(b, "new_bytes")));
	else if (jlen(jget(k, "partitions")))
		show_partitions(c, k);
	else if (!strcmp(what, "prune"))
		ctl_printf(c, CTL_PLAIN, "%s deleted\n",
			ctl_things(c, ju64(k, "deleted"), "backup", "backups"));
	else if (ju64(k, "damaged"))
		ctl_printf(c, CTL_BAD, "%s: damaged (%s)\n", ctl_esc(c, jstr(b, "name")),
			ctl_things(c, ju64(k, "damaged"), "fault", "faults"));
	else
		ctl_printf(c, CTL_GOOD, "%s: whole%s%s\n", ctl_esc(c, jstr(b, "name")),
			jtrue(k, "signature") ? ", signed with the key of this store"
					      : ", hashes only: it is not signed",
			jtrue(k, "walked") ? ", every value was opened" : "");
}

static const char *hint_of(const char *what)
{
	if (!strcmp(what, "archive") || !strcmp(what, "attach") || !strcmp(what, "detach"))
		return "mnoctl store lists the partitions; one whose time has not ended stays. The "
		       "log of mnod says more";
	return strcmp(what, "create")
		       ? "mnoctl backup list names those there are (with the same "
			 "--dir); the log of mnod says more"
		       : "is it a directory that mnod may write to? Its log says more";
}

int ctl_backup_job(struct ctl *c, struct mno_buf *post)
{
	_cleanup_buf_ struct mno_buf poll = {0};
	_cleanup_answer_ struct ctl_answer a = {0};
	struct json_object *k;
	const char *what;
	int r;

	target_of(c, "/mno/v1/backup", &poll);
	r = ctl_ask(c, "POST", mno_buf_cstr(post), &a);
	if (!r)
		r = wait_job(c, &a, mno_buf_cstr(&poll));
	if (r)
		return r;
	k = jget(a.root, "job");
	what = jstr(k, "what");
	r = ju64(k, "damaged") ? CTL_NO : CTL_OK;
	if (*jstr(k, "error") && !c->json)
		show_findings(c, k);
	if (*jstr(k, "error"))
		return ctl_fail(c, CTL_NO, hint_of(what), "%s: %s", ctl_esc(c, what),
			ctl_esc(c, jstr(k, "error")));
	if (c->json)
		ctl_put_json_object(c, k);
	else
		show_job(c, k);
	return r;
}

static int job(struct ctl *c, const char *path, const char *name)
{
	_cleanup_buf_ struct mno_buf post = {0};

	target_of(c, path, &post);
	ctl_param(&post, "name", name);
	ctl_param(&post, "keep", ctl_opt(c->args, "keep"));
	return ctl_backup_job(c, &post);
}

int verb_backup(struct ctl *c)
{
	static const struct {
		const char *name, *path;
		size_t max;
	} rows[] = {{"list", NULL, 1}, {"create", "/mno/v1/backup", 1},
		{"verify", "/mno/v1/backup/verify", 2}, {"prune", "/mno/v1/backup/prune", 1}};
	const char *what = c->args->n_pos ? c->args->pos[0] : "list";

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strcmp(what, rows[i].name) != 0)
			continue;
		if (c->args->n_pos > rows[i].max)
			return ctl_fail(c, CTL_USAGE, NULL, "unexpected argument \"%s\"",
				ctl_esc(c, c->args->pos[c->args->n_pos - 1]));
		if (!rows[i].path)
			return list(c);
		return job(c, rows[i].path, c->args->n_pos > 1 ? c->args->pos[1] : NULL);
	}
	return ctl_fail(c, CTL_USAGE, "mnoctl help backup", "unknown: backup %s", ctl_esc(c, what));
}
