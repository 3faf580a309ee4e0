/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "mno/time.h"
#include "verbs.h"

#define POLL_NS 200000000L

const struct ctl_option store_options[] = {
	{"deep", 0, CTL_FLAG, .help = "check: decode what is stored, follow references"},
	{"source", 0, CTL_TEXT, .metavar = "SOURCE",
		.help = "rotate-kek: file, passphrase:FILE, credential:NAME, keyring:NAME"},
	{"forget-old", 0, CTL_FLAG, .help = "rotate-kek: destroy old keys, this one too"},
	{"before", 0, CTL_TIME, .metavar = "DATE",
		.help = "archive: all partitions that end by then"},
	{"move", 0, CTL_FLAG, .help = "archive: verify the copy, then delete them here"},
	{"forget", 0, CTL_FLAG, .help = "detach: their archive is gone for good"},
	{0},
};

static const struct ctl_col columns[] = {
	{.head = "environment"},
	{.head = "size", .right = true},
	{.head = "used", .right = true, .drop = 3},
	{.head = "entries", .right = true, .drop = 2},
	{.head = "commits", .right = true, .drop = 4},
	{.head = "last sync", .right = true, .drop = 5},
	{.head = "longest", .right = true, .drop = 6},
	{.head = "reader", .right = true, .drop = 7},
	{.head = "key", .right = true, .drop = 8},
	{.head = "holds", .flex = true},
};

static void add_part(struct ctl *c, struct ctl_table *t, struct json_object *p)
{
	bool bad = *jstr(p, "error") != 0, active = ju64(p, "commits") > 0;

	ctl_cell(t, bad ? CTL_BAD : CTL_BOLD, "%s", ctl_esc(c, jstr(p, "name")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(p, "bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(p, "used_bytes")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "entries")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "commits")));
	ctl_cell(t, CTL_PLAIN, "%s",
		active ? ctl_ns(c, jf64(p, "last_sync_ms") * 1e6) : ctl_dash(c));
	ctl_cell(t, CTL_PLAIN, "%s",
		active ? ctl_ns(c, jf64(p, "longest_sync_ms") * 1e6) : ctl_dash(c));
	ctl_cell(t, jf64(p, "oldest_reader_ms") > 1000 ? CTL_WARN : CTL_PLAIN, "%s",
		jf64(p, "oldest_reader_ms") > 0 ? ctl_ns(c, jf64(p, "oldest_reader_ms") * 1e6)
						: ctl_dash(c));
	if (jtrue(p, "encrypted"))
		ctl_cell(t, CTL_PLAIN, "%llu", (unsigned long long)ju64(p, "key_id"));
	else
		ctl_cell(t, CTL_PLAIN, "%s", ctl_dash(c));
	ctl_cell(t, bad ? CTL_BAD : CTL_PLAIN, "%s%s%s",
		ctl_esc(c, bad ? jstr(p, "error") : jstr(p, "what")), bad ? ": " : "",
		bad ? ctl_esc(c, jstr(p, "what")) : "");
}

static void show_check(struct ctl *c, struct json_object *k)
{
	if (jtrue(k, "running"))
		ctl_field(c, "check", CTL_PLAIN, "under way: %s of %s, in %s",
			ctl_bytes(c, jf64(k, "bytes")), ctl_bytes(c, jf64(k, "of_bytes")),
			ctl_esc(c, jstr(k, "environment")));
	else if (ju64(k, "passes"))
		ctl_field(c, "check", ju64(k, "damaged") ? CTL_BAD : CTL_PLAIN, "last one %s: %s",
			ctl_ago(c, ju64(k, "last_ms") * 1000000),
			ju64(k, "damaged") ? "damage, see mnoctl store check" : "sound");
	else
		ctl_field(c, "check", CTL_PLAIN, "none since the start (mnoctl store check)");
	if (ju64(k, "whole_passes"))
		ctl_field(c, "", CTL_PLAIN,
			"the last whole pass in the background took %s, ended %s",
			ctl_seconds(c, jf64(k, "whole_pass_seconds")),
			ctl_ago(c, ju64(k, "whole_pass_ms") * NS_PER_MS));
}

static void show_key(struct ctl *c, struct json_object *k)
{
	if (!jtrue(k, "encrypted")) {
		ctl_field(c, "key", CTL_WARN, "none: this store is not encrypted");
		return;
	}
	ctl_field(c, "key", jtrue(k, "changing") ? CTL_WARN : CTL_PLAIN,
		"%s%s, wraps the data keys of %s", ctl_esc(c, jstr(k, "kek_id")),
		jtrue(k, "changing") ? " (a change is not complete)" : "",
		ctl_things(c, ju64(k, "environments"), "environment", "environments"));
	if (jtrue(k, "resealing"))
		ctl_field(c, "", CTL_PLAIN, "new data key: %s sealed anew, about %s left",
			ctl_things(c, ju64(k, "resealed"), "value", "values"),
			ctl_exact(c, ju64(k, "reseal_left")));
}

/* What there is beside samples that came in order, and what waits to be stored. */
static void show_kinds(struct ctl *c, struct json_object *o)
{
	struct json_object *d = jget(o, "documents"), *rolls = jget(o, "rollups");

	ctl_field(c, "", CTL_PLAIN, "%s, %s; %s waiting for a commit",
		ctl_things(c, ju64(o, "late_samples"), "late sample", "late samples"),
		ctl_things(c, ju64(o, "histograms"), "native histogram", "native histograms"),
		ctl_exact(c, ju64(o, "queued")));
	for (size_t i = 0; i < jlen(rolls); i++) {
		struct json_object *t = jidx(rolls, i);

		if (ju64(t, "until_ms"))
			ctl_field(c, i ? "" : "rollups", CTL_PLAIN,
				"%s up to %s, %s made since the start", ctl_esc(c, jstr(t, "tier")),
				ctl_ago(c, ju64(t, "until_ms") * NS_PER_MS),
				ctl_things(c, ju64(t, "points"), "point", "points"));
	}
	if (d)
		ctl_field(c, "documents", ju64(d, "commit_errors") ? CTL_WARN : CTL_PLAIN,
			"%s, %s; %s of up to %s, longest %s; %s waiting",
			ctl_exact(c, ju64(d, "documents")), ctl_bytes(c, jf64(d, "bytes")),
			ctl_things(c, ju64(d, "commits"), "commit", "commits"),
			ctl_things(c, ju64(d, "largest_group"), "transaction", "transactions"),
			ctl_ns(c, jf64(d, "longest_commit_ms") * 1e6),
			ctl_exact(c, ju64(d, "waiting")));
}

static int status(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_table_ struct ctl_table t;
	struct json_object *parts;
	int r = ctl_get(c, "/mno/v1/store", &a);

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	if (ctl_answered(c, r, &a))
		return r;
	parts = jget(a.root, "environments");
	for (size_t i = 0; i < jlen(parts); i++)
		add_part(c, &t, jidx(parts, i));
	ctl_table_print(c, &t);
	ctl_field(c, "stored", CTL_PLAIN,
		"%s on disk, %s free; %s series, %s samples, %.2f B a sample",
		ctl_bytes(c, jf64(a.root, "bytes")), ctl_bytes(c, jf64(a.root, "free_disk_bytes")),
		ctl_exact(c, ju64(a.root, "series")), ctl_count(c, jf64(a.root, "samples")),
		jf64(a.root, "bytes_per_sample"));
	show_kinds(c, a.root);
	show_key(c, jget(a.root, "key"));
	show_check(c, jget(a.root, "check"));
	if (ju64(a.root, "quarantined"))
		ctl_field(c, "quarantine", CTL_BAD, "%s (mnoctl store quarantine)",
			ctl_things(c, ju64(a.root, "quarantined"), "value", "values"));
	if (ju64(a.root, "damaged") || ju64(a.root, "mended") || ju64(a.root, "set_aside"))
		ctl_field(c, "damage", CTL_BAD,
			"%s met by reads, %s mended, %s made again, %s set aside, since the start",
			ctl_things(c, ju64(a.root, "damaged"), "value", "values"),
			ctl_things(c, ju64(a.root, "mended"), "flipped bit", "flipped bits"),
			ctl_things(c, ju64(a.root, "rebuilt"), "value", "values"),
			ctl_things(c, ju64(a.root, "set_aside"), "partition", "partitions"));
	return 0;
}

/* --- check ------------------------------------------------------------------------------------ */

static void bar(struct ctl *c, struct json_object *k)
{
	double of = jf64(k, "of_bytes"), part = of > 0 ? fmin(jf64(k, "bytes") / of, 1) : 0;

	fprintf(stderr, "\r\033[K%3.0f %%  %s  %llu damaged  %.32s", part * 100,
		ctl_bytes(c, jf64(k, "bytes")), (unsigned long long)ju64(k, "damaged"),
		ctl_esc(c, jstr(k, "environment")));
}

static int wait_check(struct ctl *c, struct ctl_answer *a, bool show)
{
	int r = 0;

	while (!r && jtrue(a->root, "running") && !(c->stop && *c->stop)) {
		struct timespec ts = {.tv_nsec = POLL_NS};

		if (show)
			bar(c, a->root);
		nanosleep(&ts, NULL);
		ctl_answer_done(a);
		*a = (struct ctl_answer){0};
		r = ctl_get(c, "/mno/v1/store/check", a);
	}
	if (show)
		fputs("\r\033[K", stderr);
	return r;
}

static void show_findings(struct ctl *c, struct json_object *k)
{
	struct json_object *v = jget(k, "findings");

	for (size_t i = 0; i < jlen(v); i++) {
		struct json_object *f = jidx(v, i);

		ctl_printf(c, CTL_BAD, "%s %s %s: %s\n", ctl_esc(c, jstr(f, "environment")),
			ctl_esc(c, jstr(f, "database")), ctl_esc(c, jstr(f, "key")),
			ctl_esc(c, jstr(f, "why")));
		if (*jstr(f, "lost"))
			ctl_field(c, "lost", CTL_PLAIN, "%s", ctl_esc(c, jstr(f, "lost")));
	}
	if (ju64(k, "damaged") > jlen(v))
		ctl_printf(
			c, CTL_WARN, "and %s more\n", ctl_exact(c, ju64(k, "damaged") - jlen(v)));
}

static int check(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	int r = ctl_ask(c, "POST",
		ctl_has(c->args, "deep") ? "/mno/v1/store/check?deep=1" : "/mno/v1/store/check",
		&a);

	if (!r)
		r = wait_check(c, &a, c->tty && !c->json);
	if (r)
		return r;
	if (*jstr(a.root, "last_error"))
		return ctl_fail(c, CTL_INTERNAL, NULL, "the check did not end: %s",
			ctl_esc(c, jstr(a.root, "last_error")));
	if (c->json) {
		ctl_put_json(c, &a.body);
		return ju64(a.root, "damaged") ? CTL_NO : CTL_OK;
	}
	show_findings(c, a.root);
	if (ju64(a.root, "rebuilt"))
		ctl_printf(c, CTL_WARN,
			"%s of rollups were damaged and made again (mnoctl store quarantine)\n",
			ctl_things(c, ju64(a.root, "rebuilt"), "value", "values"));
	if (ju64(a.root, "gone"))
		ctl_printf(c, CTL_WARN, "%s lost, as was accepted when dropped from quarantine\n",
			ctl_things(c, ju64(a.root, "gone"), "value", "values"));
	ctl_printf(c, ju64(a.root, "damaged") ? CTL_BAD : CTL_GOOD, "%s: %s in %s, %s, %s\n",
		ju64(a.root, "damaged") ? "damaged" : "sound",
		ctl_things(c, ju64(a.root, "values"), "value", "values"),
		ctl_things(c, ju64(a.root, "environments"), "environment", "environments"),
		ctl_bytes(c, jf64(a.root, "bytes")), ctl_seconds(c, jf64(a.root, "seconds")));
	return ju64(a.root, "damaged") ? CTL_NO : CTL_OK;
}

/* --- quarantine ------------------------------------------------------------------------------- */

static const struct ctl_col quarantined[] = {
	{.head = "environment"},
	{.head = "id", .right = true},
	{.head = "database"},
	{.head = "found", .drop = 2},
	{.head = "bytes", .right = true, .drop = 1},
	{.head = "state"},
	{.head = "lost", .flex = true},
};

static void list_quarantine(struct ctl *c, struct json_object *root)
{
	struct json_object *v = jget(root, "values");
	_cleanup_table_ struct ctl_table t;

	ctl_table_init(&t, quarantined, ARRAY_SIZE(quarantined));
	for (size_t i = 0; i < jlen(v); i++) {
		struct json_object *o = jidx(v, i);

		ctl_cell(&t, CTL_BOLD, "%s", ctl_esc(c, jstr(o, "environment")));
		ctl_cell(&t, CTL_PLAIN, "%llu", (unsigned long long)ju64(o, "id"));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_esc(c, jstr(o, "database")));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_ago(c, ju64(o, "time_ms") * NS_PER_MS));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(o, "bytes")));
		ctl_cell(&t, CTL_PLAIN, "%s", ctl_esc(c, jstr(o, "state")));
		ctl_cell(&t, strcmp(jstr(o, "state"), "rebuilt") ? CTL_BAD : CTL_PLAIN, "%s",
			ctl_esc(c, jstr(o, "lost")));
	}
	if (jlen(v))
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_GOOD, "nothing is in quarantine\n");
	if (ju64(root, "count") > jlen(v))
		ctl_printf(
			c, CTL_WARN, "and %s more\n", ctl_exact(c, ju64(root, "count") - jlen(v)));
	if (ju64(root, "refused"))
		ctl_printf(c, CTL_WARN, "%s more had no room here and stay where they are\n",
			ctl_exact(c, ju64(root, "refused")));
}

static void show_quarantine(struct ctl *c, struct json_object *root)
{
	struct json_object *o = jidx(jget(root, "values"), 0);

	ctl_field(c, "value", CTL_BOLD, "%s %s %s", ctl_esc(c, jstr(o, "environment")),
		ctl_esc(c, jstr(o, "database")), ctl_esc(c, jstr(o, "key")));
	ctl_field(c, "found", CTL_PLAIN, "%s", ctl_ago(c, ju64(o, "time_ms") * NS_PER_MS));
	ctl_field(c, "state", CTL_PLAIN, "%s", ctl_esc(c, jstr(o, "state")));
	ctl_field(c, "lost", CTL_BAD, "%s", ctl_esc(c, jstr(o, "lost")));
	ctl_field(c, "bytes", CTL_PLAIN, "%s, base64: %s", ctl_exact(c, ju64(o, "bytes")),
		ctl_esc(c, jstr(o, "value_base64")));
}

static int quarantine(struct ctl *c)
{
	const char *what = c->args->n_pos > 1 ? c->args->pos[1] : "list";
	bool list = !strcmp(what, "list"), drop = !strcmp(what, "drop");
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf target = {0};
	int r;

	if (!list && !drop && strcmp(what, "show") != 0)
		return ctl_fail(c, CTL_USAGE, NULL, "quarantine %s: it is one of list, show, drop",
			ctl_esc(c, what));
	if (c->args->n_pos != (list ? MNO_MIN(c->args->n_pos, (size_t)2) : 4))
		return ctl_fail(c, CTL_USAGE, "mnoctl store quarantine shows both",
			list ? "unexpected argument" : "%s wants an environment and an id", what);
	mno_buf_adds(&target, "/mno/v1/store/quarantine");
	ctl_param(&target, "environment", list ? NULL : c->args->pos[2]);
	ctl_param(&target, "id", list ? NULL : c->args->pos[3]);
	r = ctl_ask(c, drop ? "DELETE" : "GET", mno_buf_cstr(&target), &a);
	if (r)
		return r;
	if (c->json)
		ctl_put_json(c, &a.body);
	else if (list)
		list_quarantine(c, a.root);
	else if (drop)
		ctl_printf(c, CTL_GOOD, "dropped with the next commit\n");
	else
		show_quarantine(c, a.root);
	return CTL_OK;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* Old keys of a list, each with the backups that it opens. */
static void show_old_keys(struct ctl *c, struct json_object *v, const char *what)
{
	for (size_t i = 0; i < jlen(v); i++) {
		struct json_object *k = jidx(v, i), *b = jget(k, "backups");

		if (jlen(b))
			ctl_field(c, i ? "" : what, CTL_WARN, "%s, needed by %s, the newest is %s",
				ctl_esc(c, jstr(k, "kek_id")),
				ctl_things(c, jlen(b), "backup", "backups"),
				ctl_esc(c, json_object_get_string(jidx(b, 0))));
		else
			ctl_field(c, i ? "" : what, CTL_PLAIN,
				"%s, which no backup in the agent's directory needs",
				ctl_esc(c, jstr(k, "kek_id")));
	}
}

static int key_answer(struct ctl *c, const char *method, const char *target)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	int r = ctl_ask(c, method, target, &a);

	if (ctl_answered(c, r, &a))
		return r;
	show_key(c, jget(a.root, "key"));
	show_old_keys(c, jget(a.root, "old_keys"), "kept");
	show_old_keys(c, jget(a.root, "forgotten"), "destroyed");
	if (strstr(target, "rotate-kek"))
		ctl_field(c, "to do", CTL_WARN,
			"keep a copy of the new key elsewhere, and of an old one as long as "
			"backups need it");
	return 0;
}

static int rotate_kek(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0};
	_cleanup_answer_ struct ctl_answer a = {0};
	int r;

	mno_buf_adds(&target, "/mno/v1/store/key/rotate-kek");
	ctl_param(&target, "source", ctl_opt(c->args, "source"));
	if (!ctl_has(c->args, "forget-old"))
		return key_answer(c, "POST", mno_buf_cstr(&target));
	r = ctl_ask(c, "POST", mno_buf_cstr(&target), &a);
	return r ?: key_answer(c, "POST", "/mno/v1/store/key/forget-old");
}

static int key(struct ctl *c)
{
	const char *what = c->args->n_pos > 1 ? c->args->pos[1] : "status";
	_cleanup_buf_ struct mno_buf target = {0};

	if (!strcmp(what, "status"))
		return key_answer(c, "GET", "/mno/v1/store/key");
	if (!strcmp(what, "rotate-kek"))
		return rotate_kek(c);
	mno_buf_addf(&target, "/mno/v1/store/key/%s", what);
	if (!strcmp(what, "rotate-data"))
		ctl_param(&target, "environment", c->args->n_pos > 2 ? c->args->pos[2] : NULL);
	else if (strcmp(what, "forget-old") != 0)
		return ctl_fail(c, CTL_USAGE, NULL,
			"key %s: it is one of status, rotate-kek, rotate-data, forget-old",
			ctl_esc(c, what));
	return key_answer(c, "POST", mno_buf_cstr(&target));
}

/* --- archives ----------------------------------------------------------------------------------- */

static void param_path(struct mno_buf *target, const char *path)
{
	_cleanup_free_ char *whole = realpath(path, NULL);

	ctl_param(target, "dir", whole ?: path); /* the agent has another working directory */
}

static int archive(struct ctl *c)
{
	const char *before = ctl_opt(c->args, "before");
	size_t want = before ? 2 : 3;
	_cleanup_buf_ struct mno_buf target = {0};
	char text[24];
	uint64_t ns;

	if (c->args->n_pos != want)
		return ctl_fail(c, CTL_USAGE, "mnoctl store archive PARTITION DIR",
			"name a partition, or --before DATE, and a directory");
	mno_buf_adds(&target, "/mno/v1/store/archive");
	if (before && ctl_time_parse(before, mno_now_ns(CLOCK_REALTIME), &ns) == 0) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)(ns / NS_PER_MS));
		ctl_param(&target, "before_ms", text);
	} else {
		ctl_param(&target, "partition", c->args->pos[1]);
	}
	param_path(&target, c->args->pos[want - 1]);
	ctl_param(&target, "move", ctl_has(c->args, "move") ? "1" : NULL);
	return ctl_backup_job(c, &target);
}

static int attach(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0};

	if (c->args->n_pos != 2)
		return ctl_fail(c, CTL_USAGE, "mnoctl store attach DIR/PARTITION",
			"name the directory of the archive");
	mno_buf_adds(&target, "/mno/v1/store/attach");
	param_path(&target, c->args->pos[1]);
	return ctl_backup_job(c, &target);
}

static int detach(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf target = {0};

	if (c->args->n_pos != 2)
		return ctl_fail(
			c, CTL_USAGE, "mnoctl store detach PARTITION", "name the partition");
	mno_buf_adds(&target, "/mno/v1/store/detach");
	ctl_param(&target, "partition", c->args->pos[1]);
	ctl_param(&target, "forget", ctl_has(c->args, "forget") ? "1" : NULL);
	return ctl_backup_job(c, &target);
}

int verb_store(struct ctl *c)
{
	static const struct {
		const char *name;
		size_t max;
		int (*fn)(struct ctl *c);
	} rows[] = {{"status", 1, status}, {"check", 1, check}, {"quarantine", 4, quarantine},
		{"key", 3, key}, {"archive", 3, archive}, {"attach", 2, attach},
		{"detach", 2, detach}};
	const char *what = c->args->n_pos ? c->args->pos[0] : "status";

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (strcmp(what, rows[i].name) != 0)
			continue;
		if (c->args->n_pos > rows[i].max)
			return ctl_fail(c, CTL_USAGE, NULL, "unexpected argument \"%s\"",
				ctl_esc(c, c->args->pos[c->args->n_pos - 1]));
		return rows[i].fn(c);
	}
	return ctl_fail(c, CTL_USAGE, "mnoctl help store", "unknown: store %s", ctl_esc(c, what));
}
