/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "mno/time.h"
#include "proc.h"
#include "verbs.h"

const struct ctl_option events_options[] = {
	{"follow", 'f', CTL_FLAG, .help = "live, until interrupted"},
	{"kind", 'k', CTL_KIND, .many = true, .metavar = "KIND",
		.help = "only this kind, e.g. exec; a wrong one lists all"},
	{"pid", 0, CTL_NUMBER, .metavar = "PID",
		.help = "only about this process, signals from and to it included"},
	{"since", 0, CTL_TIME, .metavar = "TIME",
		.help = "look back so far (default 10m): 10m, Unix seconds or RFC 3339"},
	{"until", 0, CTL_TIME, .metavar = "TIME", .help = "look no later than this"},
	{"limit", 'n', CTL_COUNT, .metavar = "COUNT", .help = "at most so many, then end"},
	{0},
};

/* Members that have their own place in the line, or say nothing to people. */
static const char *const placed[] = {
	"kind", "time_ns", "cpu", "seq", "pid", "comm", "start_ns", "parent_start_ns"};

static bool is_placed(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(placed); i++)
		if (strcmp(key, placed[i]) == 0)
			return true;
	return false;
}

/* The unit is in the name: duration_ns=1200000 reads "duration 1.2 ms". */
static const struct {
	const char *suffix;
	double scale;
	const char *(*show)(struct ctl *c, double v);
} units[] = {
	{"_ns", 1, ctl_ns},
	{"_us", 1e3, ctl_ns},
	{"_ms", 1e6, ctl_ns},
	{"_seconds", 1, ctl_seconds},
	{"_bytes", 1, ctl_bytes},
	{"_percent", 1, ctl_percent},
};

#define UNIX_NS 1e17 /* no duration is three years long, no event older than 1973 */

static bool add_with_unit(struct ctl *c, const char *key, struct json_object *v)
{
	size_t len = strlen(key);
	double value;

	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t n = strlen(units[i].suffix);

		if (len <= n || strcmp(key + len - n, units[i].suffix) != 0)
			continue;
		value = json_object_get_double(v) * units[i].scale;
		mno_buf_addf(&c->out, "  %.*s=%s", (int)MNO_MIN(len - n, (size_t)64),
			ctl_esc(c, key),
			units[i].show == ctl_ns && value > UNIX_NS
				? ctl_clock(c, json_object_get_uint64(v))
				: units[i].show(c, value));
		return true;
	}
	return false;
}

/* Arrays of words, such as argv, read as one line. */
static void add_value(struct ctl *c, const char *key, struct json_object *v)
{
	_cleanup_buf_ struct mno_buf b = {0};

	for (size_t i = 0; i < jlen(v) && b.len < CTL_TEXT_MAX; i++)
		mno_buf_addf(&b, "%s%s", i ? " " : "", json_object_get_string(jidx(v, i)));
	mno_buf_addf(&c->out, "  %s=%s", ctl_esc(c, key),
		ctl_esc(c, b.len ? mno_buf_cstr(&b) : json_object_get_string(v)));
}

static const char *signal_result(int v)
{
	static const char *const words[] = {"delivered", "ignored", "already_pending"};

	return v >= 0 && v < (int)ARRAY_SIZE(words) ? words[v] : "lost";
}

/* Numbers that have a name. A zero of some of them says nothing: no signal, no error. */
static const struct {
	const char *key;
	const char *(*name)(int v);
	const char *prefix;
	bool zero_is_nothing;
} named[] = {
	{"signo", sigabbrev_np, "SIG", false},
	{"exit_signal", sigabbrev_np, "SIG", true},
	{"error", strerrorname_np, "", true},
	{"code", NULL, "", true},
	{"result", signal_result, "", false},
};

static bool add_named(struct ctl *c, const char *key, struct json_object *v)
{
	const char *name;
	int64_t n;

	if (!json_object_is_type(v, json_type_int))
		return false;
	n = json_object_get_int64(v);
	for (size_t i = 0; i < ARRAY_SIZE(named); i++) {
		if (strcmp(key, named[i].key) != 0)
			continue;
		if (!n && named[i].zero_is_nothing)
			return true;
		name = named[i].name && n >= 0 && n < 4096 ? named[i].name((int)n) : NULL;
		if (name)
			mno_buf_addf(&c->out, "  %s=%s%s", key, named[i].prefix, name);
		return name != NULL;
	}
	return false;
}

static bool is_false(struct json_object *v)
{
	return json_object_is_type(v, json_type_boolean) && !json_object_get_boolean(v);
}

/* What was executed and what runs differ for scripts only; who was killed has no exit code. */
static bool is_void(struct json_object *e, const char *key)
{
	return (strcmp(key, "file") == 0 && strcmp(jstr(e, "file"), jstr(e, "exe")) == 0) ||
	       (strcmp(key, "exit_code") == 0 && ju64(e, "exit_signal"));
}

static void show_event(struct ctl *c, struct json_object *e)
{
	uint64_t start = ju64(e, "start_ns"), now = ju64(e, "time_ns");

	if (!json_object_is_type(e, json_type_object))
		return;
	ctl_printf(c, CTL_DIM, "%s  ", ctl_clock(c, ju64(e, "time_ns")));
	ctl_printf(c, CTL_BOLD, "%-10s", ctl_esc(c, jstr(e, "kind")));
	if (jget(e, "pid"))
		mno_buf_addf(&c->out, " %7llu %-15s", (unsigned long long)ju64(e, "pid"),
			ctl_esc(c, jstr(e, "comm")));
	json_object_object_foreach(e, key, v)
	{
		if (!v || is_placed(key) || is_false(v) || is_void(e, key))
			continue;
		if (!add_named(c, key, v) && !add_with_unit(c, key, v))
			add_value(c, key, v);
	}
	if (strcmp(jstr(e, "kind"), "exit") == 0 && start && now > start)
		mno_buf_addf(&c->out, "  life=%s", ctl_ns(c, (double)(now - start)));
	mno_buf_addc(&c->out, '\n');
}

struct follow {
	struct ctl *c;
	uint64_t events, lost, limit, pid;
	int exit;
};

static void show_lost(struct follow *f, struct json_object *o)
{
	uint64_t n = ju64(o, "lost");

	f->lost += n;
	if (f->c->json)
		ctl_printf(f->c, CTL_PLAIN, "{\"kind\":\"lost\",\"lost\":%llu}\n",
			(unsigned long long)n);
	else
		ctl_printf(f->c, CTL_WARN,
			"! %s events lost: they came faster than they were read\n",
			ctl_exact(f->c, n));
}

static bool is_about(struct json_object *e, uint64_t pid)
{
	return !pid || ju64(e, "pid") == pid || ju64(e, "sender_pid") == pid ||
	       ju64(e, "target_pid") == pid;
}

static int on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct follow *f = arg;
	struct json_object *o = ctl_parse_json(data, len);

	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		f->exit = ctl_fail(
			f->c, CTL_INTERNAL, NULL, "the agent sent an event that is not JSON");
		return 1;
	}
	if (strcmp(event, "lost") != 0 && !is_about(o, f->pid)) {
		json_object_put(o);
		return 0;
	}
	if (strcmp(event, "lost") == 0)
		show_lost(f, o);
	else if (f->c->json)
		ctl_put_json_object(f->c, o);
	else
		show_event(f->c, o);
	json_object_put(o);
	f->events += strcmp(event, "lost") != 0;
	f->exit = ctl_flush(f->c);
	return f->exit || (f->limit && f->events >= f->limit);
}

static void add_kinds(struct ctl *c, struct mno_buf *target)
{
	const char *k;

	for (size_t i = 0; (k = ctl_opt_nth(c->args, "kind", i)); i++)
		ctl_param(target, "kind", k);
}

static int follow(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0};
	struct follow f = {.c = c,
		.limit = ctl_opt_u64(c->args, "limit", 0),
		.pid = ctl_opt_u64(c->args, "pid", 0)};
	uint64_t start = mno_now_ns(CLOCK_MONOTONIC);
	int r;

	mno_buf_adds(&target, "/mno/v1/events?follow=1");
	add_kinds(c, &target);
	r = ctl_follow(c, mno_buf_cstr(&target), on_event, &f);
	if (f.exit)
		return f.exit;
	if (!c->json && (!r || f.events || f.lost)) /* else nothing was there to count */
		ctl_footer(c, "%s in %s, %s lost on the way",
			ctl_things(c, f.events, "event", "events"),
			ctl_ns(c, (double)(mno_now_ns(CLOCK_MONOTONIC) - start)),
			ctl_exact(c, f.lost));
	return r == 1 && f.limit && f.events >= f.limit ? CTL_OK : r;
}

/* What was looked at, in words: an empty answer must say it. */
static const char *scope(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf b = {0};
	const char *k;

	for (size_t i = 0; (k = ctl_opt_nth(c->args, "kind", i)); i++)
		mno_buf_addf(&b, "%s%s", i ? ", " : "", k);
	if (!b.len)
		mno_buf_adds(&b, "every kind");
	if (ctl_has(c->args, "pid"))
		mno_buf_addf(&b, " about process %s", ctl_opt(c->args, "pid"));
	return ctl_esc(c, mno_buf_cstr(&b));
}

/* They come in order per probe only. */
static int by_time(const void *pa, const void *pb)
{
	struct json_object *const *a = pa, *const *b = pb;
	uint64_t x = ju64(*a, "time_ns"), y = ju64(*b, "time_ns");

	if (x == y) {
		x = ju64(*a, "seq");
		y = ju64(*b, "seq");
	}
	return (x > y) - (x < y);
}

static int stored(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf target = {0};
	const char *since = ctl_opt(c->args, "since"), *until = ctl_opt(c->args, "until");
	struct json_object *events, *share;
	int r;

	mno_buf_adds(&target, "/mno/v1/events");
	ctl_time_param(&target, "since", since ? since : "10m");
	ctl_time_param(&target, "until", until);
	ctl_param(&target, "limit", ctl_opt(c->args, "limit"));
	ctl_param(&target, "pid", ctl_opt(c->args, "pid"));
	add_kinds(c, &target);
	r = ctl_get(c, mno_buf_cstr(&target), &a);
	if (ctl_answered(c, r, &a))
		return r;
	events = jget(a.root, "events");
	if (jlen(events))
		json_object_array_sort(events, by_time);
	for (size_t i = 0; i < jlen(events); i++)
		show_event(c, jidx(events, i));
	if (!jlen(events))
		ctl_printf(c, CTL_PLAIN,
			"no events: looked at %s since %s%s%s. Live: mnoctl events -f\n", scope(c),
			ctl_esc(c, since ? since : "10m"), until ? " until " : "",
			ctl_esc(c, until));
	if (jtrue(a.root, "truncated"))
		ctl_printf(c, CTL_WARN, "there are more: narrow it down or raise --limit\n");
	share = jget(a.root, "completeness");
	ctl_footer(c, "%s%s%s%s%s \u00b7 %s since %s \u00b7 answered in %s",
		ctl_completeness(c, share), ju64(share, "sampled") ? ", sampled out " : "",
		ju64(share, "sampled") ? ctl_exact(c, ju64(share, "sampled")) : "",
		ju64(share, "in_flight") ? ", on the way to the store " : "",
		ju64(share, "in_flight") ? ctl_exact(c, ju64(share, "in_flight")) : "",
		ctl_things(c, jlen(events), "event", "events"), ctl_esc(c, since ? since : "10m"),
		ctl_ns(c, (double)a.took_ns));
	return 0;
}

/* The agent knows the kinds; a misspelt one would silently match nothing. */
static int check_kinds(struct ctl *c)
{
	const char *k;

	for (size_t i = 0; (k = ctl_opt_nth(c->args, "kind", i)); i++) {
		bool known;
		const char *near = ctl_nearest_probe_word(c, k, true, &known);

		if (known)
			continue;
		if (*near)
			return ctl_fail(c, CTL_INVALID, NULL,
				"unknown kind of event \"%s\". Did you mean \"%s\"?", ctl_esc(c, k),
				near);
		return ctl_fail(c, CTL_INVALID, ctl_probe_words(c, true),
			"unknown kind of event \"%s\"", ctl_esc(c, k));
	}
	return 0;
}

int verb_events(struct ctl *c)
{
	bool live = ctl_has(c->args, "follow");
	int r;

	if (live && (ctl_has(c->args, "since") || ctl_has(c->args, "until")))
		return ctl_fail(c, CTL_USAGE, NULL,
			"--follow shows what happens from now on: "
			"leave --since and --until out");
	r = check_kinds(c);
	if (r)
		return r;
	return live ? follow(c) : stored(c);
}
