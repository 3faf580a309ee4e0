/* SPDX-License-Identifier: Apache-2.0 */
/* Late samples for reads. */
#include <errno.h>
#include "late.h"
#include "mno/err.h"

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

int late_gather(struct mno_series *s, const int64_t *days, size_t n_days, uint32_t group,
	uint64_t want, int64_t t0, int64_t t1, size_t *left, ZSTD_DCtx *z, struct late_set *ret)
{
	struct late_view w = {.z = z, .left = *left};
	struct late_set set = {0};
	int r = 0;

	late_set_reset(ret);
	for (size_t d = 0; d < n_days && r == 0; d++) {
		struct late_set *to = n_days == 1 ? ret : &set;

		late_set_reset(&set);
		r = read_day(s, days[d], group, want, t0, t1, &w, to);
		if (to == ret)
			break;
		ret->damaged += set.damaged;
		for (uint64_t left_cols = want; left_cols && r == 0; left_cols &= left_cols - 1) {
			unsigned i = (unsigned)__builtin_ctzll(left_cols);

			r = append_col(&ret->c[i], &set.c[i]);
		}
	}
	*left = w.left;
	late_view_done(&w);
	late_set_done(&set);
	return r;
}

bool late_any(struct mno_series *s, const int64_t *days, size_t n_days, const uint32_t *groups,
	size_t n_groups)
{
	bool any = false;

	for (size_t d = 0; d < n_days && !any; d++) {
		struct late_run run;
		struct late_view w = {0};
		struct mno_env *e;
		int r = mno_store_env(s->env, MNO_CLASS_TS, days[d], false, &e);

		if (r < 0) {
			any = r != -ENOENT; /* the other way tells of it */
			continue;
		}
		if (mno_read_begin(e, &w.t) == 0) {
			w.e = e;
			for (size_t i = 0; i < n_groups && !any; i++) {
				size_t n = 0;

				any = late_some(&w, groups[i], &run, 1, &n) < 0 || n;
			}
			mno_read_end(e, w.t);
		}
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
