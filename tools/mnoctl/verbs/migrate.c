/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "verbs.h"

const struct ctl_option migrate_options[] = {
	{"dry-run", 0, CTL_FLAG, .help = "say what would happen, change nothing"},
	{"documents", 0, CTL_FLAG, .help = "with rollback and confirm: of the documents only"},
	{"cancel", 0, CTL_FLAG, .help = "with rollback: take the demand back"},
	{0},
};

static void show_done(struct ctl *c, struct json_object *o)
{
	ctl_head(c, "migrated", "from format %llu to %llu, %s", (unsigned long long)ju64(o, "from"),
		(unsigned long long)ju64(o, "to"), ctl_ago(c, ju64(o, "switched_ms") * 1000000));
	ctl_field(c, "records", CTL_PLAIN, "%s: %s, %s, %s, %s", ctl_count(c, jf64(o, "records")),
		ctl_things(c, ju64(o, "series"), "series", "series"),
		ctl_things(c, ju64(o, "samples"), "sample", "samples"),
		ctl_things(
			c, ju64(o, "proc_batches"), "batch of processes", "batches of processes"),
		ctl_things(c, ju64(o, "event_batches"), "batch of events", "batches of events"));
	ctl_field(c, "damaged", ju64(o, "damaged") ? CTL_WARN : CTL_PLAIN, "%s",
		ju64(o, "damaged") ? ctl_things(c, ju64(o, "damaged"),
					     "value could not be read and is left out",
					     "values could not be read and are left out")
				   : "nothing");
	ctl_field(c, "old form", CTL_PLAIN, "%s, until %s", ctl_bytes(c, jf64(o, "old_bytes")),
		ctl_clock(c, ju64(o, "keep_until_ms") * 1000000));
	if (jtrue(o, "undo_wanted"))
		ctl_field(c, "rollback", CTL_WARN,
			"the next start of mnod takes the migration back. Not wanted any more: "
			"mnoctl migrate rollback --cancel");
	else
		ctl_field(c, "next", CTL_PLAIN,
			"mnoctl migrate confirm removes the old form, mnoctl migrate rollback "
			"takes the migration back");
}

/* What goes on with the documents. */
static void show_progress(struct ctl *c, struct json_object *o)
{
	double total = jf64(o, "total"), done = jf64(o, "done");

	ctl_field(c, "progress", CTL_PLAIN, "%s of %s, %.0f %%%s%s", ctl_count(c, done),
		ctl_things(c, ju64(o, "total"), "document", "documents"),
		total > 0 ? 100 * done / total : 100, ju64(o, "remaining_ms") ? ", about " : "",
		ju64(o, "remaining_ms") ? ctl_seconds(c, (double)ju64(o, "remaining_ms") / 1e3)
					: "");
}

static void show_documents(struct ctl *c, struct json_object *o)
{
	const char *stage = jstr(o, "stage");

	if (!strcmp(stage, "none"))
		return;
	ctl_head(c, "documents", "%s, from form %llu to %llu: %s", stage,
		(unsigned long long)ju64(o, "from"), (unsigned long long)ju64(o, "to"),
		jstr(o, "name"));
	if (!strcmp(stage, "needed"))
		ctl_field(c, "needed", CTL_PLAIN, "%s of free disk, there are %s",
			ctl_bytes(c, jf64(o, "need_bytes")), ctl_bytes(c, jf64(o, "free_bytes")));
	else if (strcmp(stage, "done") && strcmp(stage, "undone"))
		show_progress(c, o);
	if (ju64(o, "damaged"))
		ctl_field(c, "damaged", CTL_WARN, "%s",
			ctl_things(c, ju64(o, "damaged"),
				"document could not be read and stays as it is",
				"documents could not be read and stay as they are"));
	if (jtrue(o, "failed"))
		ctl_field(c, "failed", CTL_WARN,
			"the new form was not the same as the old one, which is back in its place");
	if (!strcmp(stage, "done"))
		ctl_field(c, "old form", CTL_PLAIN, "%s, until %s",
			ctl_bytes(c, jf64(o, "old_bytes")),
			ctl_clock(c, ju64(o, "keep_until_ms") * 1000000));
	ctl_field(c, "next", CTL_PLAIN, "%s",
		!strcmp(stage, "undone") ? "mnoctl migrate run migrates them again"
		: !strcmp(stage, "done")
			? "mnoctl migrate confirm --documents removes the old form, mnoctl migrate "
			  "rollback --documents puts it back"
			: "goes on by itself; documents are read and written meanwhile");
}

static int show(struct ctl *c, struct ctl_answer *a)
{
	struct json_object *docs = jget(a->root, "documents");
	bool any = docs && strcmp(jstr(docs, "stage"), "none");

	if (c->json) {
		ctl_put_json(c, &a->body);
		return 0;
	}
	if (!strcmp(jstr(a->root, "stage"), "done"))
		show_done(c, a->root);
	else if (!any)
		ctl_printf(
			c, CTL_PLAIN, "nothing to migrate: the store is of the present format\n");
	if (any)
		show_documents(c, docs);
	return 0;
}

static int would(struct ctl *c, const char *what)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	int r = ctl_get(c, "/mno/v1/migrate", &a);

	if (r || c->json)
		return r ?: show(c, &a);
	if (ctl_has(c->args, "documents") || strcmp(jstr(a.root, "stage"), "done")) {
		r = show(c, &a);
		ctl_footer(c, "nothing was changed");
		return r;
	}
	if (!strcmp(what, "confirm"))
		ctl_printf(c, CTL_PLAIN,
			"would remove the old form (%s); the migration could not be taken back\n",
			ctl_bytes(c, jf64(a.root, "old_bytes")));
	else
		ctl_printf(c, CTL_PLAIN,
			"the next start of mnod would put the store back to format %llu and end; "
			"what was collected since %s would stay in .undone-%llu\n",
			(unsigned long long)ju64(a.root, "from"),
			ctl_clock(c, ju64(a.root, "switched_ms") * 1000000),
			(unsigned long long)ju64(a.root, "to"));
	ctl_footer(c, "nothing was changed");
	return 0;
}

static int change(struct ctl *c, const char *what)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	char target[80];
	int r;

	snprintf(target, sizeof(target), "/mno/v1/migrate/%s?of=%s%s", what,
		ctl_has(c->args, "documents") ? "documents" : "any",
		ctl_has(c->args, "cancel") ? "&cancel=1" : "");
	r = ctl_ask(c, "POST", target, &a);

	return r ?: show(c, &a);
}

int verb_migrate(struct ctl *c)
{
	const struct ctl_args *a = c->args;
	const char *what = a->n_pos ? a->pos[0] : "status";
	bool asks = !strcmp(what, "status") || !strcmp(what, "run");
	_cleanup_answer_ struct ctl_answer status = {0};
	struct json_object *docs;
	int r;

	if (ctl_has(a, "cancel") && strcmp(what, "rollback"))
		return ctl_fail(c, CTL_USAGE, NULL, "--cancel goes with: mnoctl migrate rollback");
	if (!asks && strcmp(what, "confirm") && strcmp(what, "rollback"))
		return ctl_fail(c, CTL_USAGE, "status, run, rollback or confirm",
			"unknown word \"%s\"", ctl_esc(c, what));
	if (!asks)
		return ctl_has(a, "dry-run") ? would(c, what) : change(c, what);
	/* an agent that answers has migrated what there was, but for documents that were put back */
	r = ctl_get(c, "/mno/v1/migrate", &status);
	docs = r ? NULL : jget(status.root, "documents");
	if (docs && !strcmp(what, "run") && !ctl_has(a, "dry-run") &&
		!strcmp(jstr(docs, "stage"), "undone"))
		return change(c, "run");
	return r ?: show(c, &status);
}
