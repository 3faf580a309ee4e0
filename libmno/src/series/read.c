/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: whole columns, runs as they come, aggregates. */
#include <errno.h>
#include "gather.h"

/* --- columns ------------------------------------------------------------------------------------------ */

static int join(struct samples *o, struct samples *f)
{
	int r;

	if (!f->n)
		return 0;
	r = samples_room(o, f->n);
	if (r < 0)
		return r;
	memcpy(o->t + o->n, f->t, f->n * sizeof(*o->t));
	memcpy(o->v + o->n, f->v, f->n * sizeof(*o->v));
	o->n += f->n;
	f->n = 0;
	return 0;
}

static int gather_late(struct gather *g)
{
	int r = late_gather(
		&g->late, g->s, g->group, g->want, g->n_groups, g->t0, g->t1, &g->left, g->z);

	for (size_t i = 0; i < g->late.n_sets; i++)
		for (uint32_t d = 0; d < g->late.set[i].damaged; d++)
			note_damage(g, i, i + 1);
	return r;
}

static int hand_group(
	struct gather *g, size_t gi, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	int r = 0;

	for (uint64_t want = g->want[gi]; want && r == 0; want &= want - 1) {
		unsigned col = (unsigned)__builtin_ctzll(want);
		struct samples *o = &g->old[gi * GROUP_SERIES + col];
		struct mno_column c = {
			.id = g->group[gi] * GROUP_SERIES + col, .damaged = g->damaged[gi]};

		r = join(o, &g->fresh[gi * GROUP_SERIES + col]);
		if (r < 0)
			return r;
		c.n = o->n;
		c.t_ms = o->t;
		c.v = o->v;
		r = late_over(&g->late, gi, col, &c);
		if (r < 0)
			return r;
		if (c.n || c.damaged)
			r = fn(arg, &c);
	}
	return r;
}

static int read_columns(struct gather *g, const uint32_t *ids, size_t n,
	int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0;) {
		i += gather_begin(g, ids + i, n - i, READ_BATCH);
		r = gather_all(g);
		if (r == 0)
			r = gather_late(g);
		for (size_t k = 0; k < g->n_groups && r == 0; k++)
			r = hand_group(g, k, fn, arg);
	}
	return r;
}

static int read_all(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	size_t max_samples, bool late, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	_cleanup_(gather_done_p)
	struct gather *g = NULL;
	int r = gather_new(s, true, &g);

	if (r == 0 && late)
		r = late_days(s, t0, t1, &g->late.days, &g->late.n_days);
	if (r < 0)
		return r;
	g->t0 = t0;
	g->t1 = t1;
	g->left = max_samples;
	return read_columns(g, ids, n, fn, arg);
}

int mno_series_read(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	size_t max_samples, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	return read_all(s, ids, n, t0, t1, max_samples, true, fn, arg);
}

int series_read_rows(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	return read_all(s, ids, n, t0, t1, SIZE_MAX, false, fn, arg);
}

/* --- runs --------------------------------------------------------------------------------------------- */

static int hand_fresh(struct gather *g)
{
	int r = 0;

	for (size_t i = 0; i < g->n_groups * GROUP_SERIES && r == 0; i++) {
		const struct samples *c = &g->fresh[i];

		if (c->n)
			r = g->fn(g->arg,
				&(struct mno_run){.id = g->group[i / GROUP_SERIES] * GROUP_SERIES +
							(uint32_t)(i % GROUP_SERIES),
					.n = c->n,
					.t_ms = c->t,
					.v = c->v});
	}
	return r;
}

int mno_series_scan(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_run *run), void *arg, uint64_t *ret_damaged)
{
	_cleanup_(gather_done_p)
	struct gather *g = NULL;
	uint64_t damaged = 0;
	int r = gather_new(s, false, &g);

	if (r == 0)
		r = late_days(s, t0, t1, &g->late.days, &g->late.n_days);
	if (r < 0)
		return r;
	g->t0 = t0;
	g->t1 = t1;
	g->left = SIZE_MAX;
	g->fn = fn;
	g->arg = arg;
	for (size_t i = 0; i < n && r == 0;) {
		size_t took = gather_begin(g, ids + i, n - i, SCAN_BATCH);

		if (late_any(&g->late, s, g->group, g->n_groups)) {
			r = late_scan(s, ids + i, took, t0, t1, fn, arg, &damaged);
			i += took;
			continue;
		}
		i += took;
		r = gather_all(g);
		if (r == 0)
			r = hand_fresh(g);
		for (size_t k = 0; k < g->n_groups; k++)
			damaged += g->damaged[k];
	}
	if (r == 0 && ret_damaged)
		*ret_damaged = damaged;
	return r;
}

/* --- aggregates --------------------------------------------------------------------------------------- */

static int hand_aggs(struct gather *g, int (*fn)(void *arg, const struct mno_agg *a), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < g->n_groups * GROUP_SERIES && r == 0; i++) {
		struct samples *f = &g->fresh[i];
		struct mno_agg *a = &g->agg[i];

		if (!(g->want[i / GROUP_SERIES] >> (i % GROUP_SERIES) & 1))
			continue;
		agg_add(a, f->t, f->v, f->n);
		a->id = g->group[i / GROUP_SERIES] * GROUP_SERIES + (uint32_t)(i % GROUP_SERIES);
		a->damaged = g->damaged[i / GROUP_SERIES];
		if (a->count || a->damaged)
			r = fn(arg, a);
	}
	return r;
}

struct agg_sink {
	int (*fn)(void *arg, const struct mno_agg *a);
	void *arg;
};

static int fold_column(void *arg, const struct mno_column *c)
{
	const struct agg_sink *sink = arg;
	struct mno_agg a = {.id = c->id, .damaged = c->damaged};

	agg_add(&a, c->t_ms, c->v, c->n);
	return a.count || a.damaged ? sink->fn(sink->arg, &a) : 0;
}

int mno_series_read_agg(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_agg *a), void *arg)
{
	const size_t all = SCAN_BATCH * GROUP_SERIES;
	struct agg_sink sink = {fn, arg};
	_cleanup_(gather_done_p)
	struct gather *g = NULL;
	int r = gather_new(s, false, &g);

	if (r < 0)
		return r;
	g->agg = calloc(all, sizeof(*g->agg));
	if (!g->agg)
		return -ENOMEM;
	r = late_days(s, t0, t1, &g->late.days, &g->late.n_days);
	g->t0 = t0;
	g->t1 = t1;
	g->left = SIZE_MAX;
	for (size_t i = 0; i < n && r == 0;) {
		memset(g->agg, 0, all * sizeof(*g->agg));
		size_t took = gather_begin(g, ids + i, n - i, SCAN_BATCH);

		/* late samples lie between those that aggregates were made of */
		if (late_any(&g->late, s, g->group, g->n_groups)) {
			r = mno_series_read(s, ids + i, took, t0, t1, SIZE_MAX, fold_column, &sink);
			i += took;
			continue;
		}
		i += took;
		r = gather_all(g);
		if (r == 0)
			r = hand_aggs(g, fn, arg);
	}
	return r;
}
