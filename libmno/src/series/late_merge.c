/* SPDX-License-Identifier: Apache-2.0 */
/* Runs become fewer: many small additions may neither grow the files nor slow reads. */
#include <errno.h>
#include "late.h"
#include "mno/err.h"
#include "mno/log.h"

static unsigned level_of(const struct late_run *runs, size_t n)
{
	unsigned level = 0;

	for (size_t i = 0; i < n; i++)
		level = MNO_MAX(level, runs[i].level);
	return level;
}

/* How many of the newest runs are to be merged, and into what level; 0: none. */
static size_t due(const struct late_run *runs, size_t n, bool all, unsigned *ret_level)
{
	if (n >= LATE_RUNS || (all && n > 1)) {
		*ret_level = level_of(runs, n);
		return n;
	}
	for (unsigned level = LATE_LEVELS; level-- > 0;) {
		size_t i = 0, same = 0;

		for (; i < n && runs[i].level <= level; i++)
			same += runs[i].level == level;
		if (same < LATE_DUE)
			continue;
		*ret_level = MNO_MIN(level + 1, LATE_LEVELS - 1);
		return i;
	}
	return 0;
}

/* Times and samples of a run, by the heads of its blocks. */
struct extent {
	int64_t t0, t1;
	uint64_t samples;
};

static int run_each(struct mno_txn *p, uint32_t group, uint32_t run, bool del, struct late_meta *m,
	struct extent *x)
{
	uint8_t from[LATE_KEY] = {0};
	MDB_cursor *c;
	MDB_val k = {LATE_KEY, from}, v;
	int r = mno_lmdb_error(mdb_cursor_open(p->t, p->e->dbi[MNO_DB_LATE], &c));

	if (r < 0)
		return r;
	mno_be32(from, group);
	mno_be32(from + 4, run);
	r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_SET_RANGE));
	while (r == 0 && k.mv_size == LATE_KEY && !memcmp(k.mv_data, from, 8)) {
		int64_t t = mno_time_unkey(mno_get_be64((uint8_t *)k.mv_data + 8));
		struct mno_seal info = {.a = mno_time_key(t)};

		mno_seal_peek(k.mv_data, LATE_KEY, v.mv_data, v.mv_size, MNO_SEAL_LATE, &info);
		if (x) {
			x->t0 = MNO_MIN(x->t0, t);
			x->t1 = MNO_MAX(x->t1, mno_time_unkey(info.a));
			x->samples += info.b;
		}
		if (del) {
			m->bytes -= MNO_MIN(v.mv_size, m->bytes);
			r = mno_txn_error(p, mdb_cursor_del(c, 0));
			if (r < 0)
				break;
		}
		r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT));
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

/* Copies @n runs into one, some time at once. -MNO_ECORRUPT: a block of run *@ret_bad is damaged. */
static int copy_runs(struct late_view *w, uint32_t group, const struct late_run *runs, size_t n,
	const struct extent *x, struct late_writer *to, size_t *ret_bad)
{
	/* about as many samples as LATE_PART at once, if they lie evenly: at most a day's of a group */
	int64_t step = (x->t1 - x->t0) / (int64_t)(x->samples / LATE_PART + 1) + 1;
	struct late_set set = {0};
	int r = 0;

	for (int64_t t = x->t0; r == 0 && t <= x->t1; t += step) {
		late_set_reset(&set);
		for (size_t i = 0; i < n && r == 0; i++) {
			r = late_run_read(w, group, runs[i].run, ~0ULL, t,
				MNO_MIN(t + step - 1, x->t1), &set);
			if (r == 0 && set.damaged)
				r = -MNO_ECORRUPT;
			*ret_bad = i;
		}
		if (r == 0)
			r = late_writer_add(to, &set);
	}
	late_set_done(&set);
	return r < 0 ? r : late_writer_end(to);
}

static int merge_runs(struct mno_series *s, struct mno_txn *p, struct late_meta *m, uint32_t group,
	const struct late_run *runs, size_t n, unsigned level, const struct extent *x,
	struct late_writer *w, size_t *ret_bad)
{
	struct late_view view = {.e = p->e, .t = p->t, .z = s->z, .left = SIZE_MAX};
	uint32_t run = m->next_run++;
	int r;

	late_writer_begin(w, p, m, group, run, level);
	r = copy_runs(&view, group, runs, n, x, w, ret_bad);
	late_view_done(&view);
	if (r == -MNO_ECORRUPT) {
		int err = run_each(p, group, run, true, m, NULL);

		return err < 0 ? err : r;
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = run_each(p, group, runs[i].run, true, m, NULL);
	s->late.merged += x->samples;
	return r;
}

/* Samples of one call. */
static size_t budget(const struct mno_series *s)
{
	return s->late.budget ? s->late.budget : LATE_BUDGET;
}

/*
 * Of the @n newest runs as many as this transaction may still merge, two at least or none; all if
 * there may be no more of them. What is too large for any transaction stays in runs of its own:
 * two neighbours have more than the budget, so a day has few of them.
 */
static int take_runs(struct mno_series *s, struct mno_txn *p, uint32_t group,
	const struct late_run *runs, size_t n, struct extent *ret, size_t *ret_n)
{
	size_t room = budget(s) - MNO_MIN(s->late.merged, budget(s)), i = 0;
	int r = 0;

	*ret = (struct extent){.t0 = INT64_MAX, .t1 = INT64_MIN};
	for (; i < n; i++) {
		struct extent x = *ret;

		r = run_each(p, group, runs[i].run, false, NULL, &x);
		if (r < 0 || (x.samples > room && (s->late.merged || n < LATE_RUNS)))
			break;
		*ret = x;
	}
	*ret_n = i > 1 ? i : 0;
	return r;
}

int late_merge(struct mno_series *s, struct mno_txn *p, struct late_meta *m, uint32_t group,
	int64_t t0_ms, bool all, struct late_writer *w)
{
	struct late_view view = {.e = p->e, .t = p->t};
	struct late_run runs[LATE_RUNS];
	unsigned level = 0;
	size_t n, take, bad = 0;
	int r = late_some(&view, group, runs, LATE_RUNS, &n);

	if (r < 0)
		return r;
	n = due(runs, n, all, &level);
	while (n > 1) {
		struct extent x;

		r = take_runs(s, p, group, runs, n, &x, &take);
		if (r < 0)
			return r;
		if (take < n && s->late.merged)
			return 1; /* it stays due */
		if (!take)
			return 0;
		r = merge_runs(s, p, m, group, runs, take, take < n ? level_of(runs, take) : level,
			&x, w, &bad);
		if (r != -MNO_ECORRUPT)
			return r;
		/* a damaged block stays where it is, reads tell of it: up to its run only */
		n = bad;
	}
	return 0;
}

/* --- in the background ------------------------------------------------------------------------ */

/* The first group from @from on. -ENOENT. */
static int next_group(struct mno_txn *p, uint32_t from, uint32_t *ret)
{
	uint8_t key[LATE_KEY] = {0};
	MDB_val k = {sizeof(key), key}, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(p->t, p->e->dbi[MNO_DB_LATE], &c));

	if (r < 0)
		return r;
	mno_be32(key, from);
	r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_SET_RANGE));
	mdb_cursor_close(c);
	if (r == 0 && k.mv_size != LATE_KEY)
		r = -MNO_ECORRUPT;
	if (r == 0)
		*ret = mno_get_be32(k.mv_data);
	return r;
}

/* Goes on at s->late.group. -ENOENT: all of it done. */
static int compact_day(
	struct mno_series *s, struct mno_txn *txn, int64_t t0_ms, struct late_writer *w)
{
	struct late_meta *m;
	struct mno_txn *p;
	int r = mno_txn_part(txn, MNO_CLASS_TS, t0_ms, &p);

	if (r == 0)
		r = late_meta_get(s, p, t0_ms, &m);
	while (r == 0 && s->late.merged < budget(s)) {
		r = next_group(p, s->late.group, &s->late.group);
		if (r == 0)
			r = late_merge(s, p, m, s->late.group, t0_ms, true, w);
		if (r == 0)
			s->late.group++;
	}
	if (r == 1) /* the next call goes on with it */
		r = 0;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT)
		m->merged_run = m->next_run;
	return late_meta_put(p, m) ?: r;
}

int mno_series_compact(struct mno_series *s, struct mno_txn *txn, size_t samples, bool *ret_more)
{
	_cleanup_(late_writer_free_p)
	struct late_writer *w = NULL;
	int r = late_writer_new(&w);

	*ret_more = false;
	s->late.budget = samples;
	for (size_t i = 0; i < s->late.shown.n && r == 0; i++) {
		const struct late_part *p = &s->late.shown.v[i];

		if (p->m.merged_run == p->m.next_run)
			continue;
		if (p->t0_ms != s->late.day)
			s->late.group = 0;
		s->late.day = p->t0_ms;
		*ret_more = true;
		r = compact_day(s, txn, p->t0_ms, w);
		if (r != -ENOENT)
			break;
		s->late.group = 0;
		r = 0;
		if (s->late.merged >= budget(s))
			break;
	}
	s->late.budget = 0;
	return r;
}
