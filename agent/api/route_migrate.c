/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/migrate: whether the store was migrated, taking it back, confirming it. */
#include "api_internal.h"

#include <errno.h>
#include <string.h>

#include "mno/docs.h"
#include "mno/err.h"
#include "mno/migrate.h"

static void put_report(struct mno_json *j, const struct mno_migrate_report *r)
{
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
}

static void put_documents(struct mno_json *j, struct mno_docs *d)
{
	struct mno_docs_form f;

	if (!d || mno_docs_form(d, &f) < 0)
		return;
	mno_json_key(j, "documents");
	mno_json_obj(j);
	mno_json_kstr(j, "stage", mno_docs_form_stage_name(f.stage));
	mno_json_kstr(j, "name", f.name);
	mno_json_ku64(j, "from", f.from);
	mno_json_ku64(j, "to", f.to);
	mno_json_ku64(j, "done", f.done);
	mno_json_ku64(j, "total", f.total);
	mno_json_ku64(j, "damaged", f.damaged);
	mno_json_ku64(j, "per_second", (uint64_t)f.rate);
	if (f.remaining_ms >= 0)
		mno_json_ku64(j, "remaining_ms", (uint64_t)f.remaining_ms);
	mno_json_ku64(j, "old_bytes", f.old_bytes);
	mno_json_ku64(j, "need_bytes", f.need_bytes);
	mno_json_ku64(j, "free_bytes", f.free_bytes);
	mno_json_ku64(j, "began_ms", (uint64_t)f.began_ms);
	mno_json_ku64(j, "done_ms", (uint64_t)f.done_ms);
	mno_json_ku64(j, "keep_until_ms", (uint64_t)f.keep_until_ms);
	mno_json_kbool(j, "failed", f.failed);
	mno_json_end(j);
}

int api_migrate(struct mno_req *q)
{
	struct mno_migrate_report rep;
	int r = mno_migrate_look(q->agent->opts.state_dir, &rep);

	if (r < 0)
		return api_problem(q, 503, "unavailable", "mnod --migrate status, as root",
			"the state of the migration cannot be read: %s", mno_strerror(r));
	mno_json_obj(&q->j);
	put_report(&q->j, &rep);
	put_documents(&q->j, q->agent->docs);
	mno_json_end(&q->j);
	return api_done(q);
}

static bool of_documents(struct mno_req *q)
{
	const char *of = mno_params_get(&q->params, "of");

	return of && !strcmp(of, "documents");
}

/* @r: of the store's migration, -ENOENT if there is none: then that of the documents is meant. */
static int change(struct mno_req *q, int r, enum mno_docs_form_want want)
{
	if (r == -ENOENT && q->agent->docs)
		r = mno_docs_form_want(q->agent->docs, want);
	if (r == -ENOENT)
		return api_problem(q, 409, "conflict", "mnoctl migrate status",
			want == MNO_DOCS_FORM_RUN
				? "nothing was put back that could be migrated again"
				: "there is no old form of the store or of the documents any more");
	if (r < 0)
		return api_problem(q, 503, "unavailable", "mnod --migrate status, as root",
			"the migration: %s", mno_strerror(r));
	return api_migrate(q);
}

int api_migrate_confirm(struct mno_req *q)
{
	int r = of_documents(q) ? -ENOENT : mno_migrate_confirm(q->agent->opts.state_dir);

	return change(q, r, MNO_DOCS_FORM_CONFIRM);
}

int api_migrate_rollback(struct mno_req *q)
{
	const char *no = mno_params_get(&q->params, "cancel");
	bool undo = !no || strcmp(no, "1");
	int r = of_documents(q) ? -ENOENT : mno_migrate_want_undo(q->agent->opts.state_dir, undo);

	return change(q, r, undo ? MNO_DOCS_FORM_UNDO : MNO_DOCS_FORM_RUN);
}

int api_migrate_run(struct mno_req *q)
{
	return change(q, -ENOENT, MNO_DOCS_FORM_RUN);
}
