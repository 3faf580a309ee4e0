/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "../config.h"
#include "api_internal.h"
#include "mno/err.h"
#include "mno/rollup.h"
#include "mno/store_keys.h"
#include "mno/docs.h"
#include "mno/store_parts.h"
#include "mno/store_quarantine.h"
#include "mno/time.h"

#define QUARANTINE_SHOWN 1000u /* in one answer; all are counted */
#define MS(ns)           ((double)(ns) / (double)NS_PER_MS)

static int put_part(void *arg, const struct mno_part_stat *p)
{
	struct mno_json *j = arg;

	mno_json_obj(j);
	mno_json_kstr(j, "name", p->name);
	mno_json_kstr(j, "what", p->what);
	mno_json_kstr(j, "durability", p->durability);
	mno_json_kstr(j, "error", p->error ? mno_strerror(p->error) : NULL);
	mno_json_ki64(j, "from_ms", p->t0_ms);
	mno_json_ki64(j, "to_ms", p->t1_ms);
	mno_json_ku64(j, "bytes", p->file_bytes);
	mno_json_ku64(j, "used_bytes", p->used_bytes);
	mno_json_ku64(j, "map_bytes", p->map_bytes);
	mno_json_ku64(j, "entries", p->entries);
	mno_json_ku64(j, "commits", p->commits);
	mno_json_kf64(j, "last_sync_ms", MS(p->last_sync_ns));
	mno_json_kf64(j, "longest_sync_ms", MS(p->longest_sync_ns));
	mno_json_kf64(j, "oldest_reader_ms", MS(p->oldest_reader_ns));
	mno_json_ku64(j, "slow_readers", p->slow_readers);
	mno_json_kbool(j, "encrypted", p->encrypted);
	mno_json_ku64(j, "key_id", p->key_id);
	mno_json_ku64(j, "keys", p->keys);
	mno_json_ku64(j, "sealed", p->sealed);
	mno_json_end(j);
	return 0;
}

static int put_old_key(void *arg, const char *kek_id)
{
	struct mno_req *q = arg;
	struct mno_json *j = &q->j;

	mno_json_obj(j);
	mno_json_kstr(j, "kek_id", kek_id);
	mno_json_key(j, "backups");
	if (q->agent->backups) {
		mno_backups_of_key(q->agent->backups, kek_id, j);
	} else {
		mno_json_arr(j);
		mno_json_end_arr(j);
	}
	mno_json_end(j);
	return 0;
}

/* Old keys and which backups in the settings' directory need them. */
static void put_old_keys(struct mno_req *q, const char *name)
{
	mno_json_key(&q->j, name);
	mno_json_arr(&q->j);
	mno_store_old_keys(q->agent->env, put_old_key, q);
	mno_json_end_arr(&q->j);
}

static void put_keys(struct mno_req *q)
{
	struct mno_store_keys_stat k = {0};
	struct mno_json *j = &q->j;

	mno_store_keys_stat(q->agent->env, &k);
	mno_json_key(j, "key");
	mno_json_obj(j);
	mno_json_kbool(j, "encrypted", k.encrypted);
	mno_json_kstr(j, "kek_id", k.kek_id);
	mno_json_kbool(j, "changing", k.changing);
	mno_json_ku64(j, "environments", k.environments);
	mno_json_ku64(j, "sealed", k.sealed);
	mno_json_kbool(j, "resealing", k.resealing);
	mno_json_ku64(j, "resealed", k.resealed);
	mno_json_ku64(j, "reseal_left", k.reseal_left);
	mno_json_end(j);
}

static int count_one(void *arg, const struct mno_quarantined *v)
{
	*(uint64_t *)arg += !v->rebuilt;
	return 0;
}

/* A sample; those that came late lie in blocks of their own, those of the head in none yet. */
static double block_bytes(const struct mno_series_stat *s)
{
	uint64_t n = s->samples - MNO_MIN(s->samples, s->head_samples);

	return n ? (double)(s->block_bytes + s->late_bytes) / (double)n : 0;
}

static void put_totals(struct mno_req *q)
{
	struct mno_store_stat e = {0};
	struct mno_series_stat s = {0};
	struct mno_writer_stat w = {0};
	struct mno_store_health h;
	struct mno_json *j = &q->j;
	uint64_t quarantined = 0;

	mno_store_stat(q->agent->env, &e);
	mno_series_stat(q->agent->series, &s);
	mno_writer_stat(q->agent->writer, &w);
	mno_store_health(q->agent->env, &h);
	mno_quarantine_each(q->agent->env, NULL, 0, count_one, &quarantined);
	mno_json_ku64(j, "quarantined", quarantined);
	mno_json_ku64(j, "bytes", e.file_bytes);
	mno_json_ku64(j, "used_bytes", e.used_bytes);
	mno_json_ku64(j, "free_disk_bytes", e.free_disk_bytes);
	mno_json_ku64(j, "series", s.series);
	mno_json_ku64(j, "samples", s.samples);
	mno_json_ku64(j, "late_samples", s.late_samples);
	mno_json_ku64(j, "histograms", s.histograms);
	/* of all files, whatever is in them; and of the sealed blocks alone */
	mno_json_kf64(
		j, "bytes_per_sample", s.samples ? (double)e.file_bytes / (double)s.samples : 0);
	mno_json_kf64(j, "block_bytes_per_sample", block_bytes(&s));
	mno_json_ku64(j, "queued", w.queued);
	mno_json_ku64(j, "queued_bytes", w.queued_bytes);
	mno_json_ku64(j, "merges", w.merges);
	mno_json_ku64(j, "memory_bytes", s.memory_bytes);
	mno_json_ku64(j, "commits", w.commits);
	mno_json_ku64(j, "commit_errors", w.commit_errors);
	mno_json_kf64(j, "last_commit_ms", MS(w.last_commit_ns));
	mno_json_kf64(j, "oldest_reader_ms", MS(e.oldest_reader_ns));
	mno_json_ku64(j, "slow_readers", e.slow_readers);
	mno_json_ku64(j, "dropped_partitions", e.dropped_partitions);
	mno_json_ku64(j, "damaged", h.damaged);
	mno_json_ku64(j, "mended", h.mended);
	mno_json_ku64(j, "rebuilt", h.rebuilt);
	mno_json_ku64(j, "set_aside", h.set_aside);
}

static void put_rollups(struct mno_req *q)
{
	struct mno_rollup_stat s;
	struct mno_json *j = &q->j;

	mno_json_key(j, "rollups");
	mno_json_arr(j);
	for (unsigned t = 0; t < MNO_TIER_MAX; t++) {
		mno_rollup_stat(q->agent->series, t, &s);
		mno_json_obj(j);
		mno_json_kstr(j, "tier", mno_tier_name(t));
		mno_json_ki64(j, "until_ms", MNO_MAX(s.until_ms, (int64_t)0));
		mno_json_ku64(j, "points", s.points);
		mno_json_ku64(j, "bytes", s.bytes);
		mno_json_ku64(j, "remade", s.remade);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static void put_documents(struct mno_req *q)
{
	struct mno_docs_groups g;
	struct mno_docs_stat d = {0};
	struct mno_json *j = &q->j;

	if (!q->agent->docs)
		return;
	mno_docs_groups(q->agent->docs, &g);
	mno_docs_stat(q->agent->docs, &d);
	mno_json_key(j, "documents");
	mno_json_obj(j);
	mno_json_ku64(j, "documents", d.docs);
	mno_json_ku64(j, "bytes", d.bytes);
	mno_json_ku64(j, "collections", d.collections);
	mno_json_ku64(j, "indexes", d.indexes);
	mno_json_ku64(j, "damaged", d.damaged);
	mno_json_ku64(j, "commits", g.groups);
	mno_json_ku64(j, "commit_errors", g.failed);
	mno_json_ku64(j, "transactions", g.requests);
	mno_json_ku64(j, "largest_group", g.largest);
	mno_json_ku64(j, "waiting", g.waiting);
	mno_json_kf64(j, "last_commit_ms", MS(g.last_ns));
	mno_json_kf64(j, "longest_commit_ms", MS(g.longest_ns));
	mno_json_end(j);
}

int api_store(struct mno_req *q)
{
	struct mno_json *j = &q->j;

	mno_json_obj(j);
	put_totals(q);
	put_rollups(q);
	put_documents(q);
	put_keys(q);
	mno_json_key(j, "environments");
	mno_json_arr(j);
	mno_store_each_part(q->agent->env, put_part, j);
	mno_json_end_arr(j);
	if (q->agent->scrub) {
		mno_json_key(j, "check");
		mno_scrub_json(q->agent->scrub, j);
	}
	mno_json_end(j);
	return api_done(q);
}

struct quarantined {
	struct mno_json *j;
	bool bytes;
	size_t n, left;
};

static int put_quarantined(void *arg, const struct mno_quarantined *v)
{
	struct quarantined *w = arg;
	_cleanup_buf_ struct mno_buf b = {0};

	w->n++;
	if (!w->left)
		return 0;
	w->left--;
	mno_json_obj(w->j);
	mno_json_kstr(w->j, "environment", v->env);
	mno_json_ku64(w->j, "id", v->id);
	mno_json_kstr(w->j, "database", v->db);
	mno_json_kstr(w->j, "key", v->key);
	mno_json_ki64(w->j, "time_ms", v->time_ms);
	mno_json_kstr(w->j, "state", v->rebuilt ? "rebuilt" : "lost");
	mno_json_kstr(w->j, "lost", v->lost);
	mno_json_ku64(w->j, "bytes", v->len);
	if (w->bytes) {
		mno_base64_add(&b, v->bytes, v->len, false);
		mno_json_kstr(w->j, "value_base64", mno_buf_cstr(&b));
	}
	mno_json_end(w->j);
	return 0;
}

static int drop_quarantined(struct mno_req *q, const char *env, uint64_t id)
{
	int r = mno_quarantine_drop(q->agent->env, env, id);

	if (r == -ENOENT)
		return api_problem(q, 404, "not_found", "mnoctl store quarantine lists them",
			"there is no such value in quarantine");
	if (r < 0)
		return api_problem(q, 503, "unavailable", "try again", "%s", mno_strerror(r));
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "environment", env);
	mno_json_ku64(&q->j, "dropped", id);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_store_quarantine(struct mno_req *q)
{
	const char *env = mno_params_get(&q->params, "environment");
	struct quarantined w = {.j = &q->j, .left = QUARANTINE_SHOWN};
	struct mno_quarantine_stat st;
	uint64_t id;
	int r = api_number(q, "id", 1, UINT64_MAX, 0, &id);

	if (r)
		return r;
	w.bytes = id != 0;
	if ((id && !env) || (!strcmp(q->method, "DELETE") && !id))
		return api_problem(q, 400, "bad_request", "mnoctl store quarantine shows both",
			"environment= and id= name one value");
	if (!strcmp(q->method, "DELETE"))
		return drop_quarantined(q, env, id);
	mno_quarantine_stat(q->agent->env, &st);
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "values");
	mno_json_arr(&q->j);
	r = mno_quarantine_each(q->agent->env, env, id, put_quarantined, &w);
	mno_json_end_arr(&q->j);
	mno_json_ku64(&q->j, "count", w.n);
	mno_json_ku64(&q->j, "waiting", st.waiting);
	mno_json_ku64(&q->j, "refused", st.refused);
	mno_json_end(&q->j);
	if (r == 0 && id && !w.n)
		return api_problem(q, 404, "not_found", "mnoctl store quarantine lists them",
			"there is no such value in quarantine");
	return r < 0 ? api_problem(q, 503, "unavailable", "try again", "%s", mno_strerror(r))
		     : api_done(q);
}

int api_store_check(struct mno_req *q)
{
	const char *deep = mno_params_get(&q->params, "deep");

	if (!q->agent->scrub)
		return api_problem(
			q, 503, "unavailable", "ask again in a second", "the agent is starting");
	if (!strcmp(q->method, "POST") &&
		mno_scrub_now(q->agent->scrub, deep && strcmp(deep, "0") != 0) < 0)
		return api_problem(q, 409, "conflict", NULL, "a check was asked for already");
	mno_scrub_json(q->agent->scrub, &q->j);
	return api_done(q);
}

/* What a change of keys came to. */
static int answer_keys(struct mno_req *q, int r, size_t n)
{
	static const struct {
		int err, status;
		const char *code, *hint;
	} rows[] = {
		{-EBUSY, 409, "conflict", "mnoctl store key status shows how far it is"},
		{-EEXIST, 409, "conflict", "name another key: this one is in use"},
		{-ENOENT, 404, "not_found", "mnoctl store lists the environments"},
		{-ENOTSUP, 409, "conflict", "this store was made without encryption"},
		{-ENOKEY, 400, "bad_request", "put the key where --source says first"},
		{-EKEYREJECTED, 400, "bad_request", "the key has to be closed to others"},
		{-EINVAL, 400, "bad_request",
			"--source file, passphrase:FILE, credential:NAME, keyring:NAME"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].err == r)
			return api_problem(q, rows[i].status, rows[i].code, rows[i].hint,
				"the key was not changed: %s", mno_strerror(r));
	if (r < 0)
		return api_problem(q, 503, "unavailable", "the agent's log says more",
			"the change of keys is not complete: %s", mno_strerror(r));
	mno_json_obj(&q->j);
	mno_json_ku64(&q->j, "changed", n);
	put_keys(q);
	put_old_keys(q, "old_keys");
	mno_json_end(&q->j);
	return api_done(q);
}

int api_store_rotate_kek(struct mno_req *q)
{
	const char *text = mno_params_get(&q->params, "source");
	struct mno_keys_opts o = {.sz = sizeof(o)};
	int source = mno_config_key(text ?: "", &o.name);
	int status = api_owner_only(q, "source", "leave --source out, or ask as root",
		"only root may say where the key is");

	if (status)
		return status;
	if (source < 0)
		return answer_keys(q, -EINVAL, 0);
	o.source = (enum mno_key_source)source;
	return answer_keys(q, mno_store_rotate_kek(q->agent->env, &o), 1);
}

int api_store_key(struct mno_req *q)
{
	mno_json_obj(&q->j);
	put_keys(q);
	put_old_keys(q, "old_keys");
	mno_json_end(&q->j);
	return api_done(q);
}

/* What needs them is listed as long as they can be. */
int api_store_forget_keys(struct mno_req *q)
{
	size_t n = 0;
	int r;

	mno_json_obj(&q->j);
	put_old_keys(q, "forgotten");
	r = mno_store_forget_keys(q->agent->env, &n);
	if (r < 0)
		return answer_keys(q, r, n); /* begins anew */
	mno_json_ku64(&q->j, "changed", n);
	put_keys(q);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_store_rotate_data(struct mno_req *q)
{
	const char *env = mno_params_get(&q->params, "environment");
	size_t n = 0;
	int r = mno_store_rotate_data(q->agent->env, env && *env ? env : NULL, &n);

	return answer_keys(q, r, n);
}
