/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the new form in a directory beside the old one: step by step, then compares both. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "mno/util.h"

#define CURSOR_VERSION 2
#define LOG_EVERY_NS   (2 * NS_PER_SEC)

#define ROW_DOCS(id, f, t, n)
#define MIGRATION(id, f, t, scope, n) ROW_##scope(id, f, t, n)
#define ROW_STORE(id, f, t, n)        extern const struct migration migration_##id;
#include "migrations.def"
#undef ROW_STORE
static const struct migration_row rows[] = {
#define ROW_STORE(id, f, t, n) {f, t, n, &migration_##id},
#include "migrations.def"
#undef ROW_STORE
};
#undef MIGRATION
#undef ROW_DOCS

const struct migration_row *migration_of(unsigned from)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].from == from)
			return &rows[i];
	return NULL;
}

/* --- progress ----------------------------------------------------------------------------------- */

static void log_progress(struct migrate *m, const struct mno_migrate_progress *p)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
	char done[16], total[16], left[32] = "";

	if (now - m->logged_ns < LOG_EVERY_NS)
		return;
	m->logged_ns = now;
	if (p->remaining_ms >= 0)
		mno_duration_format((uint64_t)p->remaining_ms * NS_PER_MS, left, sizeof(left));
	mno_info("migration: %s: %s of %s records%s%s%s", p->phase,
		mno_human_count((double)p->done, done, sizeof(done)),
		mno_human_count((double)p->total, total, sizeof(total)), *left ? ", " : "", left,
		*left ? " left" : "");
}

int tell(struct migrate *m, const char *phase)
{
	uint64_t ns = mno_now_ns(CLOCK_MONOTONIC) - m->begin_ns;
	struct mno_migrate_progress p = {.name = m->what->name,
		.phase = phase,
		.from = m->what->from,
		.to = m->what->to,
		.done = m->c.done,
		.total = MNO_MAX(m->total, m->c.done),
		.bytes = m->c.bytes,
		.remaining_ms = -1};

	if (ns && m->c.done > m->begin_done)
		p.rate = (double)(m->c.done - m->begin_done) * 1e9 / (double)ns;
	if (p.rate > 0 && p.done > p.total / 50) /* before, it says nothing */
		p.remaining_ms = (int64_t)((double)(p.total - p.done) * 1e3 / p.rate);
	log_progress(m, &p);
	return m->o.progress ? m->o.progress(m->o.arg, &p) : 0;
}

/* --- cursor -------------------------------------------------------------------------------------- */

int cursor_put(struct migrate *m, struct mno_txn *t, const struct cursor *c)
{
	struct mno_seal info = {.kind = MNO_SEAL_META};

	return mno_seal_put(
		t, MNO_DB_META, CURSOR_KEY, strlen(CURSOR_KEY), &info, c, sizeof(*c), NULL);
}

static int cursor_load(struct migrate *m)
{
	_cleanup_buf_ struct mno_buf v = {0}, raw = {0};
	struct mno_seal info;
	int r = mno_store_fetch(
		m->store, MNO_DB_META, MNO_SEEK_EQ, CURSOR_KEY, strlen(CURSOR_KEY), NULL, &v);

	m->c = (struct cursor){.version = CURSOR_VERSION};
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = mno_seal_open(m->store->main, MNO_DB_META, NULL, CURSOR_KEY, strlen(CURSOR_KEY),
			v.data, v.len, MNO_SEAL_META, &info, &raw);
	if (r == 0 && (raw.len != sizeof(m->c) || *(uint32_t *)raw.data != CURSOR_VERSION))
		r = -MNO_ECORRUPT;
	if (r == 0)
		memcpy(&m->c, raw.data, sizeof(m->c));
	return r;
}

static int sync_env(void *arg, struct mno_env *e, const char *name, int err)
{
	return err < 0 ? err : mno_lmdb_error(mdb_env_sync(e->env, 1));
}

/*
 * What a step put into partitions is on disk before the cursor says so: the cursor of a step goes
 * with the next one's transaction. A step done again puts the same under the same keys.
 */
static int one_step(struct migrate *m, bool *ret_end)
{
	struct cursor before = m->c;
	struct mno_txn *t;
	int r = mno_store_begin(m->store, &t);

	if (r < 0)
		return r;
	r = cursor_put(m, t, &before);
	if (r == 0)
		r = m->what->f->step(m, t, ret_end);
	if (r == 0)
		r = mno_store_commit(m->store, t);
	else
		mno_store_abort(m->store, t);
	if (r == 0)
		r = mno_store_each(m->store, sync_env, NULL);
	if (r < 0)
		m->c = before;
	return r;
}

static int last_cursor(struct migrate *m)
{
	struct mno_txn *t;
	int r = mno_store_begin(m->store, &t);

	if (r < 0)
		return r;
	r = cursor_put(m, t, &m->c);
	if (r == 0)
		return mno_store_commit(m->store, t);
	mno_store_abort(m->store, t);
	return r;
}

/* A full map grows with the next transaction: the step is tried again. */
static int steps(struct migrate *m)
{
	bool end = false;
	int r = 0, full = 0;

	while (!end && r == 0) {
		bool map_full;

		r = one_step(m, &end);
		map_full = r == -ENOSPC && mno_store_floor(m->store) == 0 && ++full < 64;
		if (map_full)
			r = 0;
		else if (r == 0)
			r = tell(m, m->what->f->phase(m));
	}
	return r < 0 || r > 0 ? r : last_cursor(m);
}

/* --- all of it ----------------------------------------------------------------------------------- */

static int open_new(struct migrate *m, const char *name)
{
	struct mno_store_opts so = {.sz = sizeof(so)};
	char path[64];
	int r;

	if (m->o.store)
		memcpy(&so, m->o.store, MNO_MIN(m->o.store->sz, sizeof(so)));
	if (mkdirat(m->dir_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", m->dir_fd, name);
	r = mno_store_open(path, &so, &m->store);
	return r < 0 ? r : cursor_load(m);
}

static int start_over(struct migrate *m, const char *name)
{
	mno_warn("migration: what was made before cannot be used: it begins anew");
	m->store = mno_store_close(m->store);
	return form_remove(m->dir_fd, name) ?: open_new(m, name);
}

static bool unusable(int r)
{
	return r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY || r == -ENOENT;
}

static int make(struct migrate *m)
{
	int r;

	m->begin_ns = m->logged_ns = mno_now_ns(CLOCK_MONOTONIC);
	m->begin_done = m->c.done;
	if (m->c.done)
		mno_info("migration: goes on where it was interrupted");
	r = steps(m);
	if (r == 0)
		r = tell(m, "index");
	if (r == 0)
		r = m->what->f->finish(m);
	if (r == 0)
		r = tell(m, "comparing");
	if (r == 0)
		r = m->what->f->validate(m);
	if (r == 0)
		r = mno_store_each(m->store, sync_env, NULL);
	return r;
}

int migrate_run(struct migrate *m)
{
	char name[32];
	int r;

	state_name(name, "new", m->what->to);
	r = open_new(m, name);
	if (unusable(r))
		r = start_over(m, name);
	if (r == 0)
		r = make(m);
	m->store = mno_store_close(m->store);
	/* a half-made store is of no use without room; what differs is of none at all */
	if (r == -ENOSPC || r == -MNO_ECORRUPT)
		form_remove(m->dir_fd, name);
	return r;
}
