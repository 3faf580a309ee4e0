/* SPDX-License-Identifier: Apache-2.0 */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include "proc.h"
#include "mno/time.h"
#include "mno/util.h"

static const struct ctl_col columns[] = {
	{.head = "pid", .right = true},
	{.head = "parent", .right = true, .drop = 8},
	{.head = "started", .right = true},
	{.head = "life", .right = true, .drop = 3},
	{.head = "end", .flex = true},
	{.head = "cpu", .right = true, .drop = 2},
	{.head = "memory", .right = true, .drop = 5},
	{.head = "read", .right = true, .drop = 6},
	{.head = "written", .right = true, .drop = 7},
	{.head = "cgroup", .flex = true, .drop = 4},
	{.head = "command", .flex = true},
};

void ctl_time_param(struct mno_buf *target, const char *name, const char *value)
{
	uint64_t ns, now = mno_now_ns(CLOCK_REALTIME);
	char text[32];

	if (!value || ctl_time_parse(value, now, &ns) < 0)
		return;
	if (strspn(value, "0123456789") < 9 && mno_duration_parse(value, &ns) == 0) {
		ctl_param(target, name, value);
		return;
	}
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(ns / NS_PER_SEC));
	ctl_param(target, name, text);
}

void proc_target(struct ctl *c, struct mno_buf *target, const char *since)
{
	mno_buf_adds(target, "/mno/v1/proc");
	ctl_time_param(target, "since", since);
	ctl_time_param(target, "until", ctl_opt(c->args, "until"));
}

static void add_row(struct ctl *c, struct ctl_table *t, struct json_object *p)
{
	enum ctl_style style;
	const char *end = ctl_ending(c, p, &style);
	double life = jf64(p, "duration_ns");
	uint64_t start = ju64(p, "start_ns");

	if (jtrue(p, "running") && start)
		life = (double)(mno_now_ns(CLOCK_REALTIME) - start);
	ctl_cell(t, CTL_BOLD, "%llu", (unsigned long long)ju64(p, "pid"));
	ctl_cell(t, CTL_PLAIN, "%llu", (unsigned long long)ju64(p, "ppid"));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_ago(c, start));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_ns(c, life));
	ctl_cell(t, style, "%s", end);
	ctl_cell(t, CTL_PLAIN, "%s", ctl_ns(c, ctl_used(p, "cpu_ns")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, ctl_used(p, "rss_peak_bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, ctl_used(p, "io_read_bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, ctl_used(p, "io_write_bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_esc(c, jstr(p, "cgroup")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_argv(c, p));
}

/* What was looked at, in words: an empty answer must say it. */
static const char *scope(struct ctl *c)
{
	static const char *const names[] = {"comm", "exe", "cgroup", "uid"};
	const char *since = ctl_opt(c->args, "since"), *until = ctl_opt(c->args, "until");
	_cleanup_buf_ struct mno_buf b = {0};

	mno_buf_addf(&b, "%s", ctl_has(c->args, "running") ? "running now" : "alive since ");
	if (!ctl_has(c->args, "running"))
		mno_buf_adds(&b, since ? since : "10m");
	if (until)
		mno_buf_addf(&b, " until %s", until);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (ctl_has(c->args, names[i]))
			mno_buf_addf(&b, ", %s %s", names[i], ctl_opt(c->args, names[i]));
	return ctl_esc(c, mno_buf_cstr(&b));
}

/* A user's name or number as uid=; 0, or the exit code after having said why. */
static int user_param(struct ctl *c, struct mno_buf *target)
{
	const char *s = ctl_opt(c->args, "uid");
	struct passwd *pw;
	char text[24];
	uint64_t uid;

	if (!s)
		return 0;
	if (mno_parse_u64(s, &uid) < 0 || uid > UINT32_MAX) {
		pw = getpwnam(s);
		if (!pw)
			return ctl_fail(c, CTL_INVALID, "getent passwd lists them",
				"--uid \"%s\" is neither a user of this host nor a number",
				ctl_esc(c, s));
		uid = pw->pw_uid;
	}
	snprintf(text, sizeof(text), "%llu", (unsigned long long)uid);
	ctl_param(target, "uid", text);
	return 0;
}

int proc_list(struct ctl *c)
{
	static const char *const params[] = {"comm", "exe", "cgroup", "limit"};
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf target = {0};
	_cleanup_table_ struct ctl_table t;
	const char *since = ctl_opt(c->args, "since");
	struct json_object *rows;
	int r;

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	proc_target(c, &target, since ? since : "10m");
	for (size_t i = 0; i < ARRAY_SIZE(params); i++)
		ctl_param(&target, params[i], ctl_opt(c->args, params[i]));
	r = user_param(c, &target);
	if (r)
		return r;
	if (ctl_has(c->args, "running"))
		ctl_param(&target, "running", "1");
	r = ctl_get(c, mno_buf_cstr(&target), &a);
	if (r)
		return r;
	rows = jget(a.root, "processes");
	if (c->json) {
		ctl_put_json_object(c, rows);
		if (jtrue(a.root, "truncated"))
			fprintf(stderr, "mnoctl: cut after %s: narrow it down or raise --limit\n",
				ctl_things(c, jlen(rows), "process", "processes"));
		return 0;
	}
	for (size_t i = 0; i < jlen(rows); i++)
		add_row(c, &t, jidx(rows, i));
	if (jlen(rows))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "no process found: looked at those %s\n", scope(c));
	if (jtrue(a.root, "truncated"))
		ctl_printf(c, CTL_WARN, "there are more: narrow it down or raise --limit\n");
	ctl_footer(c, "%s \u00b7 %s, %s \u00b7 answered in %s",
		ctl_completeness(c, jget(a.root, "completeness")),
		ctl_things(c, jlen(rows), "process", "processes"), scope(c),
		ctl_ns(c, (double)a.took_ns));
	return 0;
}
