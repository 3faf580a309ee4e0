/* SPDX-License-Identifier: Apache-2.0 */
/* The story of one process: who started it, how it ended, what it used. */
#include <math.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "proc.h"
#include "mno/time.h"

#define MAX_ANCESTORS 12
#define LOOK_BACK     "7d"

/* Exit codes with a meaning most shells and tools share. */
static const struct {
	uint64_t code;
	const char *meaning;
} codes[] = {
	{0, "success"},
	{126, "found, but could not be run"},
	{127, "command not found"},
	{130, "interrupted, as a shell reports it"},
	{137, "killed, as a shell reports it"},
	{139, "segmentation fault, as a shell reports it"},
	{143, "asked to end, as a shell reports it"},
};

static int ask_pid(struct ctl *c, uint64_t pid, struct ctl_answer *a)
{
	_cleanup_buf_ struct mno_buf target = {0};
	const char *since = ctl_opt(c->args, "since");
	char text[24];

	proc_target(c, &target, since ? since : LOOK_BACK);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pid);
	ctl_param(&target, "pid", text);
	return ctl_get(c, mno_buf_cstr(&target), a);
}

/* The parent among processes that had its PID: the one alive when the child started. */
static struct json_object *pick_parent(struct json_object *rows, struct json_object *child)
{
	uint64_t want = ju64(child, "parent_start_ns"), born = ju64(child, "start_ns");
	struct json_object *best = NULL;

	for (size_t i = 0; i < jlen(rows); i++) {
		struct json_object *p = jidx(rows, i);
		uint64_t start = ju64(p, "start_ns");

		if (want && start == want)
			return p;
		if (start <= born && (!best || start > ju64(best, "start_ns")))
			best = p;
	}
	return want ? NULL : best;
}

/* "48119 worker.sh <- 812 nginx": asks for one ancestor after the other. */
static void ancestors(struct ctl *c, struct json_object *row, struct mno_buf *out)
{
	struct ctl_answer a[MAX_ANCESTORS] = {0};
	size_t n = 0;

	c->quiet++;
	for (; n < MAX_ANCESTORS && ju64(row, "ppid"); n++) {
		uint64_t ppid = ju64(row, "ppid");
		struct json_object *parent = NULL;

		if (ask_pid(c, ppid, &a[n]) == 0)
			parent = pick_parent(jget(a[n].root, "processes"), row);
		mno_buf_adds(out, n ? " \u2190 " : "");
		if (!parent) {
			mno_buf_addf(out, "%llu (not in the ledger)", (unsigned long long)ppid);
			n++;
			break;
		}
		mno_buf_adds(out, ctl_proc_name(c, parent));
		row = parent;
	}
	c->quiet--;
	if (!n)
		mno_buf_adds(out, "the kernel");
	for (size_t i = 0; i < MNO_MIN(n, (size_t)MAX_ANCESTORS); i++)
		ctl_answer_done(&a[i]);
}

static const char *user_name(struct ctl *c, struct json_object *row)
{
	struct passwd *pw = getpwuid((uid_t)ju64(row, "uid"));
	char *s = ctl_scratch(c);

	if (!jget(row, "uid"))
		return ctl_dash(c);
	if (pw)
		return ctl_esc(c, pw->pw_name);
	snprintf(s, CTL_TEXT_MAX, "uid %llu", (unsigned long long)ju64(row, "uid"));
	return s;
}

static void show_head(struct ctl *c, struct json_object *p)
{
	uint64_t end = ju64(p, "end_ns");

	ctl_printf(c, CTL_BOLD, "%llu %s", (unsigned long long)ju64(p, "pid"),
		*jstr(p, "exe") ? ctl_esc(c, jstr(p, "exe")) : ctl_esc(c, jstr(p, "comm")));
	if (jtrue(p, "running"))
		ctl_printf(
			c, CTL_GOOD, "   running, started %s\n", ctl_ago(c, ju64(p, "start_ns")));
	else
		ctl_printf(c, CTL_PLAIN, "   ended %s\n", ctl_ago(c, end));
}

static void show_end(struct ctl *c, struct json_object *p)
{
	struct json_object *killer = jget(p, "killer");
	_cleanup_buf_ struct mno_buf text = {0};
	uint64_t code = ju64(p, "exit_code");
	enum ctl_style style;

	if (jtrue(p, "running"))
		return;
	mno_buf_adds(&text, ctl_ending(c, p, &style));
	if (jtrue(p, "oom"))
		mno_buf_adds(&text, " from the kernel");
	else if (killer)
		mno_buf_addf(&text, " sent by %s", ctl_proc_name(c, killer));
	else if (ju64(p, "exit_signal"))
		mno_buf_adds(&text, ", sender not seen (the kernel itself, or a lost record)");
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (!ju64(p, "exit_signal") && !jtrue(p, "lost_exit") && jget(p, "exit_code") &&
			codes[i].code == code)
			mno_buf_addf(&text, " (%s)", codes[i].meaning);
	ctl_field(c, "ended by", style, "%s", mno_buf_cstr(&text));
}

static void show_doubts(struct ctl *c, struct json_object *p, size_t others)
{
	if (jtrue(p, "running"))
		ctl_field(c, "note", CTL_DIM,
			"what it used is known when it ends; now: mnoctl top --by process");
	if (jtrue(p, "seeded"))
		ctl_field(c, "note", CTL_DIM,
			"it ran before the agent started: its first part was not seen");
	if (jtrue(p, "lost_start"))
		ctl_field(c, "note", CTL_WARN, "the record of its start was lost");
	if (jtrue(p, "lost_exit"))
		ctl_field(c, "note", CTL_WARN, "the record of its end was lost");
	if (ju64(p, "execs") > 1)
		ctl_field(c, "note", CTL_DIM,
			"it ran %s programs one after the other; this is the last",
			ctl_exact(c, ju64(p, "execs")));
	if (others)
		ctl_field(c, "note", CTL_DIM, "%s had this PID, too; -j shows all of them",
			ctl_things(c, others, "earlier process", "earlier processes"));
}

static void show_next(struct ctl *c, struct json_object *p)
{
	struct json_object *killer = jget(p, "killer");
	unsigned long long pid = ju64(p, "pid"), ppid = ju64(p, "ppid");
	unsigned long long start = ju64(p, "start_ns") / NS_PER_SEC;
	unsigned long long who = killer && ju64(killer, "pid") ? ju64(killer, "pid")
				 : ppid                        ? ppid
							       : 1;

	if (jtrue(p, "running"))
		ctl_field(c, "next", CTL_PLAIN,
			"mnoctl proc tree %llu        mnoctl events --follow --pid %llu", pid, pid);
	else
		ctl_field(c, "next", CTL_PLAIN,
			"mnoctl proc show %llu        mnoctl events --pid %llu --since %llu", who,
			pid, start);
}

static void show_story(struct ctl *c, struct json_object *p, size_t others)
{
	_cleanup_buf_ struct mno_buf chain = {0};
	double life = jf64(p, "duration_ns");

	if (jtrue(p, "running") || isnan(life))
		life = (double)(mno_now_ns(CLOCK_REALTIME) - ju64(p, "start_ns"));
	show_head(c, p);
	ancestors(c, p, &chain);
	ctl_field(c, "started by", CTL_PLAIN, "%s   as %s   cgroup %s   at %s",
		mno_buf_cstr(&chain), user_name(c, p),
		*jstr(p, "cgroup") ? ctl_esc(c, jstr(p, "cgroup")) : ctl_dash(c),
		ctl_clock(c, ju64(p, "start_ns")));
	show_end(c, p);
	ctl_field(c, "used", CTL_PLAIN, "cpu %s   read %s   wrote %s   peak memory %s   life %s",
		ctl_ns(c, ctl_used(p, "cpu_ns")), ctl_bytes(c, ctl_used(p, "io_read_bytes")),
		ctl_bytes(c, ctl_used(p, "io_write_bytes")),
		ctl_bytes(c, ctl_used(p, "rss_peak_bytes")), ctl_ns(c, life));
	ctl_field(c, "command", CTL_PLAIN, "%s", ctl_argv(c, p));
	show_doubts(c, p, others);
	show_next(c, p);
}

int proc_show(struct ctl *c, uint64_t pid)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	struct json_object *rows, *newest;
	const char *since = ctl_opt(c->args, "since");
	int r = ask_pid(c, pid, &a);

	if (r)
		return r;
	rows = jget(a.root, "processes");
	newest = jidx(rows, 0);
	if (!newest)
		return ctl_fail(c, CTL_NO,
			"mnoctl proc list --since 10m lists those seen; not those that ended "
			"while no agent ran",
			"no process %llu: looked at those alive since %s", (unsigned long long)pid,
			since ? since : LOOK_BACK);
	for (size_t i = 1; i < jlen(rows); i++)
		if (ju64(jidx(rows, i), "start_ns") > ju64(newest, "start_ns"))
			newest = jidx(rows, i);
	if (c->json) {
		ctl_put_json(c, &a.body);
		return 0;
	}
	show_story(c, newest, jlen(rows) - 1);
	ctl_footer(c, "%s \u00b7 answered in %s", ctl_completeness(c, jget(a.root, "completeness")),
		ctl_ns(c, (double)a.took_ns));
	return 0;
}
