/* SPDX-License-Identifier: Apache-2.0 */
/* Which partitions have samples that did not come in rows, and how many. */
#include <errno.h>
#include "late.h"
#include "mno/err.h"
#include "mno/log.h"

#define META_KEY  "late"
#define FUTURE_MS 600000

/* --- a list by time --------------------------------------------------------------------------- */

static size_t parts_at(const struct late_parts *p, int64_t t0_ms)
{
	size_t i = 0;

	while (i < p->n && p->v[i].t0_ms < t0_ms)
		i++;
	return i;
}

static struct late_part *parts_find(const struct late_parts *p, int64_t t0_ms)
{
	size_t i = parts_at(p, t0_ms);

	return i < p->n && p->v[i].t0_ms == t0_ms ? &p->v[i] : NULL;
}

static int parts_room(struct late_parts *p, size_t n)
{
	size_t cap = MNO_MAX(p->n + n, p->cap * 2);
	struct late_part *v;

	if (p->n + n <= p->cap)
		return 0;
	v = reallocarray(p->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->v = v;
	p->cap = cap;
	return 0;
}

/* There must be room. */
static struct late_part *parts_put(struct late_parts *p, int64_t t0_ms, const struct late_meta *m)
{
	size_t i = parts_at(p, t0_ms);

	if (i == p->n || p->v[i].t0_ms != t0_ms) {
		memmove(p->v + i + 1, p->v + i, (p->n - i) * sizeof(*p->v));
		p->n++;
	}
	p->v[i] = (struct late_part){t0_ms, *m};
	return &p->v[i];
}

static void parts_remove(struct late_parts *p, size_t i)
{
	memmove(p->v + i, p->v + i + 1, (--p->n - i) * sizeof(*p->v));
}

/* --- stored figures --------------------------------------------------------------------------- */

int late_meta_put(struct mno_txn *p, const struct late_meta *m)
{
	struct mno_seal info = {.kind = MNO_SEAL_META};

	return mno_seal_put(p, MNO_DB_META, META_KEY, strlen(META_KEY), &info, m, sizeof(*m), NULL);
}

static int meta_open(struct mno_env *e, const void *val, size_t len, struct late_meta *ret)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	struct mno_seal info;
	int r = mno_seal_open(e, MNO_DB_META, NULL, META_KEY, strlen(META_KEY), val, len,
		MNO_SEAL_META, &info, &raw);

	if (r == 0 && raw.len != sizeof(*ret))
		r = -MNO_ECORRUPT;
	if (r == 0)
		memcpy(ret, raw.data, sizeof(*ret));
	return r;
}

static int meta_count_hists(struct mno_env *e, MDB_txn *t, struct late_meta *m)
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_open(t, e->dbi[MNO_DB_HIST], &c));

	if (r < 0)
		return r;
	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
		struct mno_seal info;

		if (k.mv_size != 12)
			continue;
		m->next_id = MNO_MAX(m->next_id, mno_get_be32(k.mv_data) + 1);
		m->hist_bytes += v.mv_size;
		if (mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size, MNO_SEAL_HIST, &info))
			continue;
		m->hists += info.count;
		m->first_ms = MNO_MIN(
			m->first_ms, mno_time_unkey(mno_get_be64((uint8_t *)k.mv_data + 4)));
		m->last_ms = MNO_MAX(m->last_ms, mno_time_unkey(info.a));
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

/* Counts what there is; samples that took the place of others are counted twice then. */
static int meta_count(struct mno_env *e, MDB_txn *t, struct late_meta *ret)
{
	struct late_meta m = {.first_ms = INT64_MAX, .last_ms = INT64_MIN};
	MDB_cursor *c;
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_open(t, e->dbi[MNO_DB_LATE], &c));

	if (r < 0)
		return r;
	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
		struct mno_seal info;

		if (k.mv_size != LATE_KEY)
			continue;
		m.next_run = MNO_MAX(m.next_run, mno_get_be32((uint8_t *)k.mv_data + 4) + 1);
		m.next_id = MNO_MAX(m.next_id, (mno_get_be32(k.mv_data) + 1) * GROUP_SERIES);
		m.bytes += v.mv_size;
		if (mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size, MNO_SEAL_LATE, &info))
			continue;
		m.samples += info.b;
		m.first_ms =
			MNO_MIN(m.first_ms, mno_time_unkey(mno_get_be64((uint8_t *)k.mv_data + 8)));
		m.last_ms = MNO_MAX(m.last_ms, mno_time_unkey(info.a));
	}
	mdb_cursor_close(c);
	if (r == -ENOENT)
		r = meta_count_hists(e, t, &m);
	if (r == 0)
		*ret = m;
	return r;
}

static int meta_read(struct mno_env *e, MDB_txn *t, struct late_meta *ret)
{
	MDB_val k = {strlen(META_KEY), (void *)META_KEY}, v;
	int r = mno_lmdb_error(mdb_get(t, e->dbi[MNO_DB_META], &k, &v));

	if (r == 0)
		r = meta_open(e, v.mv_data, v.mv_size, ret);
	if (r == -MNO_ECORRUPT) {
		mno_err("series: the figures of late samples in %s are damaged: counted again",
			e->name);
		r = -ENOENT;
	}
	return r == -ENOENT ? meta_count(e, t, ret) : r;
}

int late_meta_get(struct mno_series *s, struct mno_txn *p, int64_t t0_ms, struct late_meta **ret)
{
	struct late_part *have = parts_find(&s->late.now, t0_ms);
	struct late_meta m;
	int r;

	if (have) {
		*ret = &have->m;
		return 0;
	}
	/* room in both, so that nothing can fail behind the commit */
	pthread_rwlock_wrlock(&s->lock);
	r = parts_room(&s->late.shown, s->late.now.n + 1);
	pthread_rwlock_unlock(&s->lock);
	if (r == 0)
		r = parts_room(&s->late.now, 1);
	if (r == 0)
		r = meta_read(p->e, p->t, &m);
	if (r == 0)
		*ret = &parts_put(&s->late.now, t0_ms, &m)->m;
	return r;
}

/* --- open, commit, rollback ------------------------------------------------------------------- */

/* As it is on disk. -ENOENT: no such partition. */
static int part_load(struct mno_series *s, int64_t t0_ms, struct late_meta *ret)
{
	_cleanup_(mno_env_unref_p)
	struct mno_env *e = NULL;
	MDB_txn *t;
	int r = mno_store_env(s->env, MNO_CLASS_TS, t0_ms, false, &e);

	if (r == 0)
		r = mno_read_begin(e, &t);
	if (r < 0)
		return r;
	r = meta_read(e, t, ret);
	mno_read_end(e, t);
	return r;
}

int late_open(struct mno_series *s)
{
	_cleanup_free_ int64_t *days = NULL;
	size_t n = 0;
	int r = mno_store_partitions(s->env, MNO_CLASS_TS, INT64_MIN, INT64_MAX, &days, &n);

	if (r == 0)
		r = parts_room(&s->late.shown, n);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct late_meta m;

		r = part_load(s, days[i], &m);
		if (r == -ENOMEM)
			return r;
		if (r < 0) {
			mno_warn("series: a partition cannot be read for late samples: %s",
				mno_strerror(r));
			r = 0;
			continue;
		}
		/* An id may be in a partition and, after a crash, not in main: not given again */
		s->now.next_id = MNO_MAX(s->now.next_id, (uint64_t)m.next_id);
		if (m.next_run || m.hists)
			parts_put(&s->late.shown, days[i], &m);
	}
	s->committed.next_id = s->now.next_id;
	return r;
}

void late_close(struct mno_series *s)
{
	free(s->late.shown.v);
	free(s->late.now.v);
}

void late_committed(struct mno_series *s)
{
	for (size_t i = 0; i < s->late.now.n; i++)
		parts_put(&s->late.shown, s->late.now.v[i].t0_ms, &s->late.now.v[i].m);
	s->late.now.n = 0;
	s->late.merged = 0;
}

void late_rollback(struct mno_series *s)
{
	/* a partition may have been committed before the abort: see mno_txn_part() */
	for (size_t i = 0; i < s->late.now.n; i++) {
		struct late_meta m;

		if (part_load(s, s->late.now.v[i].t0_ms, &m) < 0 || !(m.next_run || m.hists))
			continue;
		pthread_rwlock_wrlock(&s->lock);
		parts_put(&s->late.shown, s->late.now.v[i].t0_ms, &m);
		pthread_rwlock_unlock(&s->lock);
	}
	s->late.now.n = 0;
	s->late.merged = 0;
}

int late_join(struct mno_series *s, int64_t t_ms)
{
	struct late_meta m;
	int64_t t0, t1;
	int r;

	mno_class_bounds(MNO_CLASS_TS, t_ms, &t0, &t1);
	r = parts_room(&s->late.shown, 1);
	if (r == 0)
		r = part_load(s, t0, &m);
	if (r == 0 && (m.next_run || m.hists))
		parts_put(&s->late.shown, t0, &m);
	return r;
}

void late_forget(struct mno_series *s)
{
	_cleanup_free_ int64_t *days = NULL;
	size_t n = 0, d = 0;

	if (!s->late.shown.n ||
		mno_store_partitions(s->env, MNO_CLASS_TS, INT64_MIN, INT64_MAX, &days, &n) < 0)
		return;
	for (size_t i = 0; i < s->late.shown.n;) {
		while (d < n && days[d] < s->late.shown.v[i].t0_ms)
			d++;
		if (d < n && days[d] == s->late.shown.v[i].t0_ms)
			i++;
		else
			parts_remove(&s->late.shown, i);
	}
}

/* --- questions -------------------------------------------------------------------------------- */

void late_stat(const struct mno_series *s, struct mno_series_stat *st)
{
	for (size_t i = 0; i < s->late.shown.n; i++) {
		const struct late_meta *m = &s->late.shown.v[i].m;

		st->late_bytes += m->bytes;
		st->hist_bytes += m->hist_bytes;
		st->histograms += m->hists;
		if (m->first_ms > m->last_ms)
			continue;
		st->samples += m->samples;
		st->late_samples += m->samples;
		if (!st->first_ms || m->first_ms < st->first_ms)
			st->first_ms = m->first_ms;
		st->last_ms = MNO_MAX(st->last_ms, m->last_ms);
	}
}

int late_days(struct mno_series *s, int64_t t0, int64_t t1, int64_t **ret, size_t *ret_n)
{
	int64_t *v = NULL;
	size_t n = 0;

	*ret = NULL;
	*ret_n = 0;
	pthread_rwlock_rdlock(&s->lock);
	if (s->late.shown.n)
		v = calloc(s->late.shown.n, sizeof(*v));
	else
		n = SIZE_MAX;
	for (size_t i = 0; v && i < s->late.shown.n; i++) {
		const struct late_part *p = &s->late.shown.v[i];

		if (p->m.first_ms <= t1 && p->m.last_ms >= t0)
			v[n++] = p->t0_ms;
	}
	pthread_rwlock_unlock(&s->lock);
	if (n == SIZE_MAX)
		return 0;
	if (!v)
		return -ENOMEM;
	*ret = v;
	*ret_n = n;
	return 0;
}

bool late_behind(const struct mno_series *s, int64_t t_ms)
{
	const struct late_parts *p[] = {&s->late.shown, &s->late.now};

	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		if (p[i]->n && p[i]->v[p[i]->n - 1].m.last_ms >= t_ms)
			return true;
	return false;
}

struct mno_series_bounds mno_series_bounds(int64_t now_ms, int64_t retention_ms, int64_t future_ms)
{
	struct mno_series_bounds b = {.min_ms = 0, .max_ms = now_ms};
	int64_t a, end;

	if (retention_ms > 0 && retention_ms < now_ms) {
		mno_class_bounds(MNO_CLASS_TS, now_ms - retention_ms, &a, &end);
		b.min_ms = MNO_MAX(a, (int64_t)0);
	}
	b.max_ms += future_ms > 0 ? MNO_MIN(future_ms, (int64_t)MS_PER_DAY) : FUTURE_MS;
	return b;
}
