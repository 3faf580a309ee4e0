/* SPDX-License-Identifier: Apache-2.0 */
/* Late samples for reads. */
#include <errno.h>
#include "late.h"
#include "mno/err.h"

#define GATHER_GROUPS 16u

static int append_col(struct late_col *to, const struct late_col *c)
{
	int r = 0;

	for (size_t i = 0; i < c->n && r == 0; i++)
		r = late_col_add(to, c->t[i], c->v[i]);
	return r;
}

/* One partition: as of one moment, so that what a merge moves is seen once. */
static int read_day(struct mno_series *s, int64_t day, uint32_t group, uint64_t want, int64_t t0,
	int64_t t1, struct late_view *w, struct late_set *set)
{
	struct mno_env *e;
	int r = mno_store_env(s->env, MNO_CLASS_TS, day, false, &e);

	if (r == -ENOENT) /* retention took it meanwhile */
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		set->damaged++;
		return 0;
	}
	r = mno_read_begin(e, &w->t);
	if (r == 0) {
		w->e = e;
		r = late_read(w, group, want, t0, t1, set);
		mno_read_end(e, w->t);
	}
	mno_env_unref(e);
	return r;
}

static int gather_group(struct late_gather *g, struct mno_series *s, uint32_t group, uint64_t want,
	int64_t t0, int64_t t1, struct late_view *w, struct late_set *ret)
{
	struct late_set set = {0};
	int r = 0;

	late_set_reset(ret);
	for (size_t d = 0; d < g->n_days && r == 0; d++) {
		late_set_reset(&set);
		r = read_day(s, g->days[d], group, want, t0, t1, w, &set);
		ret->damaged += set.damaged;
		for (uint64_t left = want; left && r == 0; left &= left - 1) {
			unsigned i = (unsigned)__builtin_ctzll(left);

			r = append_col(&ret->c[i], &set.c[i]);
		}
	}
	late_set_done(&set);
	return r;
}

int late_gather(struct late_gather *g, struct mno_series *s, const uint32_t *groups,
	const uint64_t *want, size_t n, int64_t t0, int64_t t1, size_t *left, ZSTD_DCtx *z)
{
	struct late_view w = {.z = z, .left = *left};
	int r = 0;

	g->n_sets = 0;
	if (!g->n_days)
		return 0;
	if (!g->set) {
		g->set = calloc(MNO_MAX(n, (size_t)GATHER_GROUPS), sizeof(*g->set));
		g->cap_sets = g->set ? MNO_MAX(n, (size_t)GATHER_GROUPS) : 0;
	}
	if (g->cap_sets < n)
		return -ENOMEM;
	for (; g->n_sets < n && r == 0; g->n_sets++)
		r = gather_group(
			g, s, groups[g->n_sets], want[g->n_sets], t0, t1, &w, &g->set[g->n_sets]);
	*left = w.left;
	late_view_done(&w);
	return r;
}

void late_gather_done(struct late_gather *g)
{
	for (size_t i = 0; i < g->cap_sets; i++)
		late_set_done(&g->set[i]);
	free(g->set);
	free(g->days);
	free(g->merged.t);
	free(g->merged.v);
}

int late_over(struct late_gather *g, size_t i, unsigned col, struct mno_column *c)
{
	struct late_col rows = {.n = c->n, .t = (int64_t *)c->t_ms, .v = (double *)c->v};
	int r;

	if (i >= g->n_sets || !g->set[i].c[col].n)
		return 0;
	r = late_col_merge(&rows, &g->set[i].c[col], &g->merged);
	if (r < 0)
		return r;
	c->n = g->merged.n;
	c->t_ms = g->merged.t;
	c->v = g->merged.v;
	return 0;
}

static bool any_in(struct mno_env *e, const uint32_t *groups, size_t n_groups)
{
	struct late_view w = {.e = e};
	struct late_run run;
	size_t n = 0;

	if (mno_read_begin(e, &w.t) < 0)
		return true; /* who reads will be told */
	for (size_t i = 0; i < n_groups && !n; i++)
		if (late_some(&w, groups[i], &run, 1, &n) < 0)
			n = 1;
	mno_read_end(e, w.t);
	return n;
}

bool late_any(const struct late_gather *g, struct mno_series *s, const uint32_t *groups, size_t n)
{
	bool any = false;

	for (size_t d = 0; d < g->n_days && !any; d++) {
		struct mno_env *e;
		int r = mno_store_env(s->env, MNO_CLASS_TS, g->days[d], false, &e);

		any = r < 0 ? r != -ENOENT : any_in(e, groups, n);
		if (r == 0)
			mno_env_unref(e);
	}
	return any;
}

/* --- scans ------------------------------------------------------------------------------------ */

struct scan {
	int (*fn)(void *arg, const struct mno_run *run);
	void *arg;
	uint64_t damaged;
};

static int hand_column(void *arg, const struct mno_column *c)
{
	struct scan *q = arg;
	int r = 0;

	q->damaged += c->damaged;
	for (size_t i = 0; i < c->n && r == 0; i += HEAD_ROWS)
		r = q->fn(q->arg, &(struct mno_run){.id = c->id,
					  .n = MNO_MIN(c->n - i, (size_t)HEAD_ROWS),
					  .t_ms = c->t_ms + i,
					  .v = c->v + i});
	return r;
}

int late_scan(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_run *run), void *arg, uint64_t *damaged)
{
	struct scan q = {.fn = fn, .arg = arg};
	struct mno_series_stat st;
	int64_t t, end, a, b;
	int r = 0;

	mno_series_stat(s, &st);
	t = MNO_MAX(t0, st.first_ms ? st.first_ms : t0);
	end = MNO_MIN(t1, st.last_ms);
	for (; t <= end && r == 0; t = b) {
		mno_class_bounds(MNO_CLASS_TS, t, &a, &b);
		r = mno_series_read(s, ids, n, t, MNO_MIN(b - 1, t1), SIZE_MAX, hand_column, &q);
	}
	*damaged += q.damaged;
	return r;
}
