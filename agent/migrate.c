/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include "migrate.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/migrate.h"
#include "mno/time.h"
#include "mno/util.h"

#define EXTEND_USEC 60000000 /* systemd waits so much longer from each step on */

const char *const mno_migrate_words[] = {"status", "dry-run", "run", "rollback", "confirm", NULL};

/* The signals are blocked; who waits for them has not begun yet. */
static bool told_to_stop(void)
{
	sigset_t set;

	return sigpending(&set) == 0 && (sigismember(&set, SIGTERM) || sigismember(&set, SIGINT));
}

static int progress(void *arg, const struct mno_migrate_progress *p)
{
	sd_notifyf(0,
		"EXTEND_TIMEOUT_USEC=%d\nSTATUS=migrating the store: %s, %" PRIu64 " of %" PRIu64
		" records",
		EXTEND_USEC, p->phase, p->done, p->total);
	if (!told_to_stop())
		return 0;
	mno_info("migration: told to end");
	return -ECANCELED;
}

static int start(const struct mno_config *c, const struct mno_store_opts *store, bool again)
{
	struct mno_migrate_opts o = {
		.sz = sizeof(o), .store = store, .progress = progress, .again = again};

	return mno_migrate_start(c->state, &o);
}

int mno_agent_migrate(const struct mno_config *c, const struct mno_store_opts *store)
{
	return start(c, store, false);
}

static int start_alone(const struct mno_config *c, bool again)
{
	struct mno_store_opts so = {.sz = sizeof(so)};

	so.key_source = mno_config_key(c->store_key, &so.key_name);
	return start(c, &so, again);
}

/* --- on demand ------------------------------------------------------------------------------------ */

static void print_needed(const struct mno_migrate_report *r)
{
	char n[16], a[16], b[16], d[16], t[32];

	printf("format %u; this version writes format %u\n"
	       "%s records, %s. The new form is made beside the old one: %s of free disk are "
	       "needed, there are %s.\nIt takes about %s. The old form stays for 7 days.\n",
		r->from, r->to, mno_human_count((double)r->records_total, n, sizeof(n)),
		mno_human_bytes((double)r->old_bytes, a, sizeof(a)),
		mno_human_bytes((double)r->need_bytes, b, sizeof(b)),
		mno_human_bytes((double)r->free_bytes, d, sizeof(d)),
		mno_duration_format((uint64_t)r->estimate_ms * NS_PER_MS, t, sizeof(t)));
	if (r->need_bytes > r->free_bytes)
		printf("There is too little room: free some, or move the directory to a larger "
		       "disk.\n");
}

static void print_done(const struct mno_migrate_report *r)
{
	char n[16], a[16], t[32];
	int64_t left = MNO_MAX(r->keep_until_ms - mno_now_ms(), (int64_t)0);

	printf("migrated from format %u to %u: %s records, %" PRIu64 " damaged values left out\n",
		r->from, r->to, mno_human_count((double)r->records, n, sizeof(n)), r->damaged);
	if (r->stage == MNO_MIGRATE_DONE)
		printf("the old form (%s) stays for %s\n",
			mno_human_bytes((double)r->old_bytes, a, sizeof(a)),
			mno_duration_format((uint64_t)left * NS_PER_MS, t, sizeof(t)));
	if (r->undo_wanted)
		printf("the next start takes it back\n");
}

static int print_status(const struct mno_config *c)
{
	struct mno_migrate_report r;
	int e = mno_migrate_look(c->state, &r);

	if (e < 0)
		return e;
	printf("%s: ", mno_migrate_stage_name(r.stage));
	if (r.stage == MNO_MIGRATE_NONE)
		printf("nothing to migrate\n");
	else if (r.stage == MNO_MIGRATE_DONE || r.stage == MNO_MIGRATE_SWITCHING)
		print_done(&r);
	else if (r.stage == MNO_MIGRATE_NEWER)
		printf("format %u was written by a newer mno\n", r.from);
	else
		print_needed(&r);
	return 0;
}

static int do_run(const struct mno_config *c)
{
	int r = start_alone(c, true);

	return r < 0 ? r : print_status(c);
}

/* The start that follows does it; it ends with the error that says so. */
static int do_rollback(const struct mno_config *c)
{
	int r = mno_migrate_want_undo(c->state, true);

	if (r == 0)
		r = start_alone(c, false);
	return r == -MNO_EMIGRATE ? print_status(c) : r;
}

static int do_confirm(const struct mno_config *c)
{
	int r = mno_migrate_confirm(c->state);

	return r < 0 ? r : print_status(c);
}

int mno_agent_migrate_word(const struct mno_config *c, const char *word)
{
	static int (*const fns[])(const struct mno_config *c) = {
		print_status, print_status, do_run, do_rollback, do_confirm};
	int r = -EINVAL;

	for (size_t i = 0; mno_migrate_words[i]; i++)
		if (!strcmp(mno_migrate_words[i], word))
			r = fns[i](c);
	if (r == -ENOENT)
		mno_err("there is no migration to take back or to confirm in %s", c->state);
	else if (r == -EINVAL)
		mno_err("--migrate takes status, dry-run, run, rollback or confirm");
	else if (r < 0)
		mno_err("%s: %s", c->state, mno_strerror(r));
	return r;
}
