/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples out. The head is looked at first, and what is stored counts up to where it begins; then
 * each partition, its windows first, and its blocks count up to where those begin: data only ever
 * moves from the newer to the older, so what moves meanwhile is seen once. No lock and no
 * transaction spans them; blocks are copied out and decoded on their own.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "gather.h"

static void samples_done(struct samples *c)
{
	free(c->t);
	free(c->v);
}

int samples_room(struct samples *c, size_t n)
{
	size_t cap = MNO_MAX(c->n + n, c->cap * 2);
	int64_t *t;
	double *v;

	if (c->n + n <= c->cap)
		return 0;
	t = realloc(c->t, cap * sizeof(*t));
	if (!t)
		return -ENOMEM;
	c->t = t;
	v = realloc(c->v, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	c->v = v;
	c->cap = cap;
	return 0;
}

static int take(struct gather *g, struct samples *c, size_t n)
{
	if (n > g->left)
		return -MNO_ELIMIT;
	g->left -= n;
	return samples_room(c, n);
}

static void holds_clear(struct holds *l)
{
	for (size_t i = 0; i < l->n; i++) {
		mno_buf_done(&l->v[i].key);
		mno_buf_done(&l->v[i].val);
	}
	l->n = 0;
}

static void holds_done(struct holds *l)
{
	holds_clear(l);
	free(l->v);
}

void gather_done(struct gather *g)
{
	for (size_t i = 0; g->old && i < READ_BATCH * GROUP_SERIES; i++)
		samples_done(&g->old[i]);
	for (size_t i = 0; g->fresh && i < SCAN_BATCH * GROUP_SERIES; i++)
		samples_done(&g->fresh[i]);
	late_gather_done(&g->late);
	holds_done(&g->windows);
	holds_done(&g->olds);
	free(g->old);
	free(g->fresh);
	free(g->days);
	free(g->agg);
	mno_buf_done(&g->key);
	mno_buf_done(&g->val);
	mno_buf_done(&g->next);
	mno_buf_done(&g->raw);
	ZSTD_freeDCtx(__atomic_exchange_n(&g->s->spare_z, g->z, __ATOMIC_ACQ_REL));
	free(g);
}
int gather_new(struct mno_series *s, bool keep, struct gather **ret)
{
	_cleanup_(gather_done_p)
	struct gather *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->s = s;
	/* small reads follow one another: one is kept for the next, of whichever thread */
	g->z = __atomic_exchange_n(&s->spare_z, NULL, __ATOMIC_ACQ_REL);
	if (!g->z)
		g->z = ZSTD_createDCtx();
	g->fresh = calloc(SCAN_BATCH * GROUP_SERIES, sizeof(*g->fresh));
	if (keep)
		g->old = calloc(READ_BATCH * GROUP_SERIES, sizeof(*g->old));
	if (!g->z || !g->fresh || (keep && !g->old))
		return -ENOMEM;
	*ret = TAKE_PTR(g);
	return 0;
}

size_t gather_begin(struct gather *g, const uint32_t *ids, size_t n, size_t groups)
{
	size_t i = 0;

	g->n_groups = 0;
	while (i < n) {
		uint32_t group = ids[i] / GROUP_SERIES;

		if (g->n_groups == groups)
			break;
		g->group[g->n_groups] = group;
		g->want[g->n_groups] = 0;
		g->damaged[g->n_groups] = 0;
		for (; i < n && ids[i] / GROUP_SERIES == group; i++)
			g->want[g->n_groups] |= 1ULL << (ids[i] % GROUP_SERIES);
		g->n_groups++;
	}
	for (size_t k = 0; k < g->n_groups * GROUP_SERIES; k++) {
		g->fresh[k].n = 0;
		if (g->old)
			g->old[k].n = 0;
	}
	return i;
}

/* --- head ------------------------------------------------------------------------------------------ */

static int from_rows(struct gather *g, size_t gi, const struct head *h, const struct rows *rw)
{
	for (uint64_t want = g->want[gi]; want; want &= want - 1) {
		unsigned col = (unsigned)__builtin_ctzll(want);
		struct samples *c = &g->fresh[gi * GROUP_SERIES + col];
		size_t n = 0;
		int r;

		for (size_t i = 0; i < h->n; i++)
			n += (rw->present[i + 1] >> col & 1) && h->t[i] >= g->t0 &&
			     h->t[i] <= g->t1;
		r = take(g, c, n);
		if (r < 0)
			return r;
		for (size_t i = 0; n && i < h->n; i++) {
			if (!(rw->present[i + 1] >> col & 1) || h->t[i] < g->t0 || h->t[i] > g->t1)
				continue;
			c->t[c->n] = h->t[i];
			c->v[c->n++] = rows_at(rw, i)[col];
		}
	}
	return 0;
}

static int from_head(struct gather *g, const struct head *h)
{
	int r = 0;

	if (h->n == 0)
		return 0;
	if (g->head_t == INT64_MAX)
		g->head_t = h->t[0];
	if (h->t[0] > g->t1 || h->t[h->n - 1] < g->t0)
		return 0;
	for (size_t i = 0; i < g->n_groups && r == 0; i++) {
		const struct rows *rw = sparse_get(&h->rows, g->group[i]);

		if (rw)
			r = from_rows(g, i, h, rw);
	}
	return r;
}

static int gather_head(struct gather *g)
{
	struct mno_series *s = g->s;
	int r = 0;

	g->head_t = INT64_MAX;
	pthread_rwlock_rdlock(&s->lock);
	for (size_t i = 0; i < s->n_pending && r == 0; i++)
		r = from_head(g, s->pending[i]);
	if (r == 0)
		r = from_head(g, s->head);
	pthread_rwlock_unlock(&s->lock);
	return r;
}

/* --- one block ---------------------------------------------------------------------------------- */

static int emit(struct gather *g, size_t gi, unsigned col, const struct mno_run *run)
{
	struct samples *c;
	int r;

	if (g->fn)
		return g->fn(g->arg, run);
	if (g->agg) {
		struct mno_agg *a = &g->agg[gi * GROUP_SERIES + col];

		if (run->constant)
			agg_add_same(a, run->t_ms, run->v[0], run->n);
		else
			agg_add(a, run->t_ms, run->v, run->n);
		return 0;
	}
	c = &g->old[gi * GROUP_SERIES + col];
	r = take(g, c, run->n);
	if (r < 0)
		return r;
	memcpy(c->t + c->n, run->t_ms, run->n * sizeof(*c->t));
	memcpy(c->v + c->n, run->v, run->n * sizeof(*c->v));
	c->n += run->n;
	return 0;
}

/* @until: the last time that counts. */
static int from_column(struct gather *g, size_t gi, unsigned col, const struct window *w,
	const struct piece *p, int64_t until)
{
	struct mno_run run = {.id = g->group[gi] * GROUP_SERIES + col, .v = g->v};
	struct column c;
	int r = column_decode(p->p[col], p->len[col], w->n, &c, g->v);

	if (r < 0)
		return r;
	run.constant = c.constant;
	run.n = c.n;
	run.t_ms = w->t + c.first;
	if (c.map) {
		column_ticks(&c, w->n, g->idx);
		for (size_t i = 0; i < c.n; i++)
			g->t[i] = w->t[g->idx[i]];
		run.t_ms = g->t;
	}
	for (; run.n && run.t_ms[0] < g->t0; run.n--, run.t_ms++)
		run.v++;
	while (run.n && run.t_ms[run.n - 1] > until)
		run.n--;
	return run.n ? emit(g, gi, col, &run) : 0;
}

static int from_group(struct gather *g, size_t gi, size_t at, int64_t until)
{
	int r = block_pieces(&g->b, at, g->piece);

	for (size_t w = 0; w < g->b.n_windows && r == 0; w++) {
		const struct window *win = &g->b.w[w];
		uint64_t have = g->piece[w].columns & g->want[gi];

		if (win->t[0] > until || win->t[win->n - 1] < g->t0)
			continue;
		for (; have && r == 0; have &= have - 1)
			r = from_column(
				g, gi, (unsigned)__builtin_ctzll(have), win, &g->piece[w], until);
	}
	return r;
}

static int open_block(struct gather *g, struct mno_env *e, enum mno_db db,
	const struct mno_buf *key, const struct mno_buf *val)
{
	struct mno_seal info;
	int r = mno_seal_open(e, db, g->z, key->data, key->len, val->data, val->len, MNO_SEAL_BLOCK,
		&info, &g->raw);

	return r < 0 ? r : block_open((uint8_t *)g->raw.data, g->raw.len, &g->b);
}

void note_damage(struct gather *g, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		g->damaged[i]++;
	g->s->env->damaged++;
	if (__atomic_fetch_add(&g->s->damaged_blocks, 1, __ATOMIC_RELAXED) == 0)
		mno_err("series: a stored block of groups from %u on is damaged and left out",
			g->group[from]);
}

/* A block that covers the wanted groups [from, to). */
static int from_block(struct gather *g, struct mno_env *e, enum mno_db db,
	const struct mno_buf *key, const struct mno_buf *val, size_t from, size_t to, int64_t until)
{
	int r = open_block(g, e, db, key, val);

	for (size_t i = from, at = 0; i < to && r == 0; i++) {
		while (at < g->b.n_groups && g->b.g[at].group < g->group[i])
			at++;
		if (at < g->b.n_groups && g->b.g[at].group == g->group[i])
			r = from_group(g, i, at, until);
	}
	if (r != -MNO_ECORRUPT && r != -MNO_EVERSION && r != -ENOKEY)
		return r;
	note_damage(g, from, to);
	return 0;
}

/* --- walks: all blocks of a set of windows begin at the same time ---------------------------------- */

static int seek(struct gather *g, enum mno_db db, enum mno_seek dir, const uint8_t from[BLOCK_KEY],
	struct mno_buf *key, struct mno_buf *val)
{
	int r = g->txn ? mno_read_fetch(g->e, g->txn, db, dir, from, BLOCK_KEY, key, val)
		       : mno_env_fetch(g->e, db, dir, from, BLOCK_KEY, key, val);

	return r == 0 && key->len != BLOCK_KEY ? -MNO_ECORRUPT : r;
}

/* The first wanted group that the block behind g->key has or may have; all if there is none. */
static int groups_before(struct gather *g, enum mno_db db, int64_t t, size_t *ret)
{
	size_t i = 0;
	int r = seek(g, db, MNO_SEEK_GT, (uint8_t *)g->key.data, &g->next, NULL);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT || block_key_time(g->next.data) != t)
		i = g->n_groups;
	while (i < g->n_groups && g->group[i] < block_key_group(g->next.data))
		i++;
	*ret = i;
	return 0;
}

/* Finds the block of wanted group @i; covers [i, *ret_to). -ENOENT: none, go on at *ret_to. */
static int find_block(struct gather *g, enum mno_db db, int64_t t, size_t i, size_t *ret_to)
{
	uint8_t from[BLOCK_KEY];
	int r;

	block_key(from, t, g->group[i]);
	r = seek(g, db, MNO_SEEK_LE, from, &g->key, &g->val);
	if (r == 0 && block_key_time(g->key.data) != t)
		r = -ENOENT;
	*ret_to = i + 1;
	return r < 0 ? r : groups_before(g, db, t, ret_to);
}

/* The time at which the set of windows around t0 begins, or the first later one. */
static int first_set(struct gather *g, enum mno_db db, int64_t *ret)
{
	uint8_t from[BLOCK_KEY];
	int r;

	block_key(from, g->t0, UINT32_MAX);
	r = seek(g, db, MNO_SEEK_LE, from, &g->key, NULL);
	if (r == -ENOENT)
		r = seek(g, db, MNO_SEEK_GE, from, &g->key, NULL);
	if (r == 0)
		*ret = block_key_time(g->key.data);
	return r;
}

static int next_set(struct gather *g, enum mno_db db, int64_t *t)
{
	uint8_t from[BLOCK_KEY];
	int r;

	block_key(from, *t, UINT32_MAX);
	r = seek(g, db, MNO_SEEK_GT, from, &g->key, NULL);
	if (r == 0)
		*t = block_key_time(g->key.data);
	return r;
}

/* Whether the block just found ends before what is wanted, as then do all of its set. */
static bool too_old(const struct gather *g)
{
	struct mno_seal info;

	return mno_seal_peek(g->key.data, g->key.len, g->val.data, g->val.len, MNO_SEAL_BLOCK,
		       &info) == 0 &&
	       mno_time_unkey(info.a) < g->t0;
}

/* Of the wanted groups [from, end). */
static int walk_set(struct gather *g, enum mno_db db, int64_t t, size_t from, size_t end,
	int (*visit)(struct gather *g, size_t from, size_t to))
{
	size_t to = 0;
	int r = 0;

	for (size_t i = from; i < end && r == 0; i = to) {
		r = find_block(g, db, t, i, &to);
		to = MNO_MIN(to, end);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r < 0 || too_old(g))
			break;
		r = visit(g, i, to);
	}
	return r;
}

static int visit_block(struct gather *g, size_t from, size_t to)
{
	return from_block(
		g, g->e, MNO_DB_PACK, &g->key, &g->val, from, to, MNO_MIN(g->t1, g->part_t - 1));
}

/* --- aggregates in place of blocks ------------------------------------------------------------- */

/* Whether all of the set is wanted, and its aggregates are there. */
static bool agg_covers(struct gather *g, int64_t t)
{
	struct mno_seal info;
	uint8_t from[BLOCK_KEY];

	if (!g->agg || t < g->t0)
		return false;
	block_key(from, t, UINT32_MAX);
	return seek(g, MNO_DB_AGG, MNO_SEEK_LE, from, &g->key, &g->val) == 0 &&
	       block_key_time(g->key.data) == t &&
	       mno_seal_peek(g->key.data, g->key.len, g->val.data, g->val.len, MNO_SEAL_AGG,
		       &info) == 0 &&
	       mno_time_unkey(info.a) <= MNO_MIN(g->t1, g->part_t - 1);
}

/* *@at: wanted groups up to here are done. */
static int join_aggs(struct gather *g, size_t *at, size_t to)
{
	struct mno_agg one[GROUP_SERIES];
	struct agg_reader a;
	struct mno_seal info;
	uint64_t columns = 0;
	uint32_t group = 0;
	int r = mno_seal_open(g->e, MNO_DB_AGG, g->z, g->key.data, g->key.len, g->val.data,
		g->val.len, MNO_SEAL_AGG, &info, &g->raw);

	if (r == 0)
		r = agg_open(&a, (uint8_t *)g->raw.data, g->raw.len, block_key_time(g->key.data),
			mno_time_unkey(info.a));
	while (r == 0 && *at < to) {
		r = agg_next(&a, &group, &columns, one);
		while (r == 0 && *at < to && g->group[*at] < group)
			++*at;
		if (r < 0 || *at == to || g->group[*at] != group)
			continue;
		for (uint64_t c = columns & g->want[*at]; c; c &= c - 1)
			agg_join(&g->agg[*at * GROUP_SERIES + (unsigned)__builtin_ctzll(c)],
				&one[__builtin_ctzll(c)]);
		++*at;
	}
	return r == -ENOENT ? 0 : r;
}

/* What aggregates cannot tell the blocks do. */
static int visit_aggs(struct gather *g, size_t from, size_t to)
{
	int64_t t = block_key_time(g->key.data);
	size_t at = from;
	int r = join_aggs(g, &at, to);

	if (r == 0 || r == -ENOMEM)
		return r;
	g->s->env->damaged++;
	return walk_set(g, MNO_DB_PACK, t, at, to, visit_block);
}

static int walk(struct gather *g, enum mno_db db, int64_t until,
	int (*visit)(struct gather *g, size_t from, size_t to))
{
	int64_t t = 0;
	int r = first_set(g, db, &t);

	while (r == 0 && t <= until) {
		if (db == MNO_DB_PACK && agg_covers(g, t))
			r = walk_set(g, MNO_DB_AGG, t, 0, g->n_groups, visit_aggs);
		else
			r = walk_set(g, db, t, 0, g->n_groups, visit);
		if (r == 0)
			r = next_set(g, db, &t);
	}
	return r == -ENOENT ? 0 : r;
}

/* --- windows, then blocks ------------------------------------------------------------------------ */

static int hold(struct gather *g, size_t from, size_t to)
{
	struct holds *l = g->into;
	struct held *h;

	if (l->n == l->cap) {
		size_t cap = MNO_MAX(l->cap * 2, (size_t)16);

		h = realloc(l->v, cap * sizeof(*h));
		if (!h)
			return -ENOMEM;
		l->v = h;
		l->cap = cap;
	}
	h = &l->v[l->n++];
	*h = (struct held){.key = g->key, .val = g->val, .from = from, .to = to};
	g->key = g->val = (struct mno_buf){0};
	return 0;
}

/* All of them as of one moment: a merge takes all away at once. *@t: the first of them, if earlier. */
static int hold_windows(
	struct gather *g, struct mno_env *e, enum mno_db db, struct holds *into, int64_t *t)
{
	uint8_t from[BLOCK_KEY] = {0};
	int r;

	g->e = e;
	g->into = into;
	r = mno_read_begin(e, &g->txn);
	if (r < 0)
		return r;
	r = seek(g, db, MNO_SEEK_GE, from, &g->key, NULL);
	if (r == 0) {
		*t = MNO_MIN(*t, block_key_time(g->key.data));
		r = walk(g, db, MNO_MIN(g->t1, g->head_t - 1), hold);
	}
	mno_read_end(e, TAKE_PTR(g->txn));
	return r == -ENOENT ? 0 : r;
}

static int emit_windows(struct gather *g, struct mno_env *e, enum mno_db db, struct holds *l)
{
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0; i++)
		r = from_block(g, e, db, &l->v[i].key, &l->v[i].val, l->v[i].from, l->v[i].to,
			MNO_MIN(g->t1, g->head_t - 1));
	holds_clear(l);
	return r;
}

/* Listed once for a read, and again when there may be a newer one by now. */
static int list_days(struct gather *g, int64_t until)
{
	int r;

	if (g->days_known && g->n_days && day_of(g->days[g->n_days - 1]) >= day_of(until))
		return 0;
	free(g->days);
	g->days = NULL;
	r = mno_store_partitions(g->s->env, MNO_CLASS_TS, g->t0, g->t1, &g->days, &g->n_days);
	g->days_known = r == 0;
	return r;
}

static int walk_parts(struct gather *g, struct mno_env *e)
{
	int r;

	g->part_t = g->old_t;
	r = hold_windows(g, e, MNO_DB_WINDOW, &g->windows, &g->part_t);
	if (r == 0)
		r = walk(g, MNO_DB_PACK, MNO_MIN(g->t1, g->part_t - 1), visit_block);
	return r < 0 ? r : emit_windows(g, e, MNO_DB_WINDOW, &g->windows);
}

/* A partition that cannot be opened is as damaged as any block. */
static int walk_day(struct gather *g, int64_t day)
{
	int r = mno_store_env(g->s->env, MNO_CLASS_TS, day, false, &g->e);

	if (r == -ENOENT) /* retention took it meanwhile */
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		note_damage(g, 0, g->n_groups);
		return 0;
	}
	r = walk_parts(g, g->e);
	mno_env_unref(g->e);
	return r;
}

static int gather_days(struct gather *g)
{
	int64_t until = MNO_MIN(g->t1, g->old_t - 1);
	int r = list_days(g, until);

	for (size_t i = 0; i < g->n_days && r == 0 && g->days[i] <= until; i++)
		r = walk_day(g, g->days[i]);
	return r;
}

int gather_all(struct gather *g)
{
	struct mno_env *main = g->s->env->main;
	int r = gather_head(g);

	g->old_t = g->head_t;
	if (r == 0 && g->s->old_part)
		r = hold_windows(g, main, MNO_DB_PART, &g->olds, &g->old_t);
	if (r == 0)
		r = gather_days(g);
	return r < 0 ? r : emit_windows(g, main, MNO_DB_PART, &g->olds);
}
