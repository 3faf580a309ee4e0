/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/backup: the backups there are, and jobs on them. */
#include <errno.h>
#include <string.h>
#include "../backup.h"
#include "api_internal.h"
#include "mno/err.h"

static int answer(struct mno_req *q)
{
	mno_backups_json(q->agent->backups, mno_params_get(&q->params, "dir"), &q->j);
	return api_done(q);
}

static int may_choose(struct mno_req *q)
{
	return api_owner_only(q, "dir", "leave --dir out, or ask as root",
		"only root may choose a directory of backups");
}

static bool is_set(struct mno_req *q, const char *name)
{
	const char *v = mno_params_get(&q->params, name);

	return v && *v && strcmp(v, "0") != 0;
}

static int ask(struct mno_req *q, enum mno_backups_what what)
{
	struct mno_backups_ask a = {.dir = mno_params_get(&q->params, "dir"),
		.name = mno_params_get(
			&q->params, what >= MNO_BACKUPS_ARCHIVE ? "partition" : "name"),
		.move = is_set(q, "move"),
		.forget = is_set(q, "forget")};
	uint64_t before = 0;
	int r = !q->agent->backups ? api_problem(q, 503, "unavailable", "ask again in a second",
					     "the agent is starting")
				   : may_choose(q) ?: api_number(q, "keep", 1, 100000, 0, &a.keep)
		       ?: api_number(q, "before_ms", 1, INT64_MAX, 0, &before);

	if (r)
		return r;
	a.before_ms = (int64_t)before;
	r = mno_backups_ask(q->agent->backups, what, &a);
	if (r == -EBUSY)
		return api_problem(q, 409, "conflict", "mnoctl backup list shows how far it is",
			"a backup, or a check of one, is under way");
	if (r < 0)
		return api_problem(q, 400, "bad_request",
			what >= MNO_BACKUPS_ARCHIVE ? "name a partition (mnoctl store lists them) "
						      "and an absolute directory"
						    : "name an absolute directory: --dir, or "
						      "backup_dir in the settings",
			"no directory, or no partition, was named");
	return answer(q);
}

int api_backup(struct mno_req *q)
{
	if (!strcmp(q->method, "POST"))
		return ask(q, MNO_BACKUPS_CREATE);
	if (!q->agent->backups)
		return api_problem(
			q, 503, "unavailable", "ask again in a second", "the agent is starting");
	return may_choose(q) ?: answer(q);
}

int api_backup_verify(struct mno_req *q)
{
	return ask(q, MNO_BACKUPS_VERIFY);
}

int api_backup_prune(struct mno_req *q)
{
	return ask(q, MNO_BACKUPS_PRUNE);
}

int api_store_archive(struct mno_req *q)
{
	return ask(q, MNO_BACKUPS_ARCHIVE);
}

int api_store_attach(struct mno_req *q)
{
	return ask(q, MNO_BACKUPS_ATTACH);
}

int api_store_detach(struct mno_req *q)
{
	return ask(q, MNO_BACKUPS_DETACH);
}
