/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/migrate: whether the store was migrated, taking it back, confirming it. */
#include "api_internal.h"

#include <errno.h>
#include <string.h>

#include "mno/err.h"
#include "mno/migrate.h"

static void put_report(struct mno_json *j, const struct mno_migrate_report *r)
{
	mno_json_obj(j);
	mno_json_kstr(j, "stage", mno_migrate_stage_name(r->stage));
	mno_json_ku64(j, "from", r->from);
	mno_json_ku64(j, "to", r->to);
	mno_json_ku64(j, "records", r->records);
	mno_json_ku64(j, "series", r->series);
	mno_json_ku64(j, "samples", r->samples);
	mno_json_ku64(j, "proc_batches", r->procs);
	mno_json_ku64(j, "event_batches", r->events);
	mno_json_ku64(j, "damaged", r->damaged);
	mno_json_ku64(j, "old_bytes", r->old_bytes);
	mno_json_ku64(j, "switched_ms", (uint64_t)r->switched_ms);
	mno_json_ku64(j, "keep_until_ms", (uint64_t)r->keep_until_ms);
	mno_json_kbool(j, "undo_wanted", r->undo_wanted);
	mno_json_end(j);
}

int api_migrate(struct mno_req *q)
{
	struct mno_migrate_report rep;
	int r = mno_migrate_look(q->agent->opts.state_dir, &rep);

	if (r < 0)
		return api_problem(q, 503, "unavailable", "mnod --migrate status, as root",
			"the state of the migration cannot be read: %s", mno_strerror(r));
	put_report(&q->j, &rep);
	return api_done(q);
}

static int change(struct mno_req *q, int r)
{
	if (r == -ENOENT)
		return api_problem(q, 409, "conflict", "mnoctl migrate status",
			"there is no old form of the store any more");
	if (r < 0)
		return api_problem(q, 503, "unavailable", "mnod --migrate status, as root",
			"the migration: %s", mno_strerror(r));
	return api_migrate(q);
}

int api_migrate_confirm(struct mno_req *q)
{
	return change(q, mno_migrate_confirm(q->agent->opts.state_dir));
}

int api_migrate_rollback(struct mno_req *q)
{
	const char *no = mno_params_get(&q->params, "cancel");

	return change(q, mno_migrate_want_undo(q->agent->opts.state_dir, !no || strcmp(no, "1")));
}
