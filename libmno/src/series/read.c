/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples out. The parts are looked at from the newest to the oldest - the head, the windows in
 * PART, the blocks - and each counts up to where the one before begins: data only ever moves from
 * the newer to the older, so what moves meanwhile is seen once. No lock and no transaction spans
 * them; blocks are copied out and decoded on their own.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "late.h"

#define READ_BATCH 4u  /* groups, each with samples of its own in memory */
#define SCAN_BATCH 16u /* groups; samples of the head alone are in memory */

struct samples {
	size_t n, cap;
	int64_t *t;
	double *v;
};

/* Stored blocks of PART, as they are. */
struct held {
	struct mno_buf key, val;
	size_t from, to; /* wanted groups that it covers */
};

/* Some groups of one read. Memory: 16 bytes a sample, bounded by the caller's max_samples. */
struct gather {
	struct mno_series *s;
	size_t n_groups;
	uint32_t group[SCAN_BATCH];
	uint64_t want[SCAN_BATCH]; /* columns */
	uint32_t damaged[SCAN_BATCH];
	int64_t t0, t1;
	size_t left;                 /* samples that may still come */
	int64_t head_t, part_t;      /* windows count up to here, blocks up to there */
	struct samples *old, *fresh; /* by group and column; old is NULL in a scan */
	struct held *held;
	size_t n_held, cap_held;
	struct mno_env *e; /* being walked */
	MDB_txn *txn;      /* while PART is copied */
	int64_t *days;     /* start of each partition */
	size_t n_days;
	bool days_known;
	ZSTD_DCtx *z;
	struct mno_buf key, val, next, raw;
	struct block b;
	struct piece piece[BLOCK_WINDOWS];
	double v[HEAD_ROWS];
	int64_t t[HEAD_ROWS];
	uint16_t idx[HEAD_ROWS];
	int64_t *late_days; /* partitions with late samples */
	size_t n_late_days;
	struct late_set *late; /* by group; NULL without such partitions */
	struct late_col merged;
	int (*fn)(void *arg, const struct mno_run *r); /* of a scan */
	void *arg;
};

static void samples_done(struct samples *c)
{
	free(c->t);
	free(c->v);
}

static int samples_room(struct samples *c, size_t n)
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

static void held_clear(struct gather *g)
{
	for (size_t i = 0; i < g->n_held; i++) {
		mno_buf_done(&g->held[i].key);
		mno_buf_done(&g->held[i].val);
	}
	g->n_held = 0;
}

static void gather_done(struct gather *g)
{
	for (size_t i = 0; g->old && i < READ_BATCH * GROUP_SERIES; i++)
		samples_done(&g->old[i]);
	for (size_t i = 0; g->fresh && i < SCAN_BATCH * GROUP_SERIES; i++)
		samples_done(&g->fresh[i]);
	for (size_t i = 0; g->late && i < READ_BATCH; i++)
		late_set_done(&g->late[i]);
	free(g->late);
	free(g->late_days);
	free(g->merged.t);
	free(g->merged.v);
	held_clear(g);
	free(g->old);
	free(g->fresh);
	free(g->held);
	free(g->days);
	mno_buf_done(&g->key);
	mno_buf_done(&g->val);
	mno_buf_done(&g->next);
	mno_buf_done(&g->raw);
	ZSTD_freeDCtx(__atomic_exchange_n(&g->s->spare_z, g->z, __ATOMIC_ACQ_REL));
	free(g);
}
MNO_DEFINE_CLEANUP(struct gather *, gather_done)

static int gather_new(struct mno_series *s, bool scan, struct gather **ret)
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
	if (!scan)
		g->old = calloc(READ_BATCH * GROUP_SERIES, sizeof(*g->old));
	if (!g->z || !g->fresh || (!scan && !g->old))
		return -ENOMEM;
	*ret = TAKE_PTR(g);
	return 0;
}

/* Takes the next groups of @ids, ascending; returns how many ids they have. */
static size_t gather_begin(struct gather *g, const uint32_t *ids, size_t n, size_t groups)
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

static void note_damage(struct gather *g, size_t from, size_t to)
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

static int walk_set(struct gather *g, enum mno_db db, int64_t t,
	int (*visit)(struct gather *g, size_t from, size_t to))
{
	size_t to = 0;
	int r = 0;

	for (size_t i = 0; i < g->n_groups && r == 0; i = to) {
		r = find_block(g, db, t, i, &to);
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

static int walk(struct gather *g, enum mno_db db, int64_t until,
	int (*visit)(struct gather *g, size_t from, size_t to))
{
	int64_t t = 0;
	int r = first_set(g, db, &t);

	while (r == 0 && t <= until) {
		r = walk_set(g, db, t, visit);
		if (r == 0)
			r = next_set(g, db, &t);
	}
	return r == -ENOENT ? 0 : r;
}

/* --- PART, then blocks ------------------------------------------------------------------------------ */

static int hold(struct gather *g, size_t from, size_t to)
{
	struct held *h;

	if (g->n_held == g->cap_held) {
		size_t cap = MNO_MAX(g->cap_held * 2, (size_t)16);

		h = realloc(g->held, cap * sizeof(*h));
		if (!h)
			return -ENOMEM;
		g->held = h;
		g->cap_held = cap;
	}
	h = &g->held[g->n_held++];
	*h = (struct held){.key = g->key, .val = g->val, .from = from, .to = to};
	g->key = g->val = (struct mno_buf){0};
	g->part_t = MNO_MIN(g->part_t, block_key_time(h->key.data));
	return 0;
}

/* All of it as of one moment: a merge takes all of PART away at once. */
static int gather_part(struct gather *g)
{
	uint8_t from[BLOCK_KEY] = {0};
	int r;

	g->part_t = g->head_t;
	g->e = g->s->env->main;
	r = mno_read_begin(g->e, &g->txn);
	if (r < 0)
		return r;
	r = seek(g, MNO_DB_PART, MNO_SEEK_GE, from, &g->key, NULL);
	if (r == 0) {
		g->part_t = MNO_MIN(g->part_t, block_key_time(g->key.data));
		r = walk(g, MNO_DB_PART, MNO_MIN(g->t1, g->head_t - 1), hold);
	}
	mno_read_end(g->e, TAKE_PTR(g->txn));
	return r == -ENOENT ? 0 : r;
}

static int visit_block(struct gather *g, size_t from, size_t to)
{
	return from_block(
		g, g->e, MNO_DB_PACK, &g->key, &g->val, from, to, MNO_MIN(g->t1, g->part_t - 1));
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

/* A partition that cannot be opened is as damaged as any block. */
static int walk_day(struct gather *g, int64_t day, int64_t until)
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
	r = walk(g, MNO_DB_PACK, until, visit_block);
	mno_env_unref(g->e);
	return r;
}

static int gather_blocks(struct gather *g)
{
	int64_t until = MNO_MIN(g->t1, g->part_t - 1);
	int r = list_days(g, until);

	for (size_t i = 0; i < g->n_days && r == 0 && g->days[i] <= until; i++)
		r = walk_day(g, g->days[i], until);
	return r;
}

static int gather_all(struct gather *g)
{
	int r = gather_head(g);

	if (r == 0)
		r = gather_part(g);
	if (r == 0)
		r = gather_blocks(g);
	for (size_t i = 0; i < g->n_held && r == 0; i++)
		r = from_block(g, g->s->env->main, MNO_DB_PART, &g->held[i].key, &g->held[i].val,
			g->held[i].from, g->held[i].to, MNO_MIN(g->t1, g->head_t - 1));
	held_clear(g);
	return r;
}

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
	int r = 0;

	if (!g->n_late_days)
		return 0;
	if (!g->late)
		g->late = calloc(READ_BATCH, sizeof(*g->late));
	if (!g->late)
		return -ENOMEM;
	for (size_t i = 0; i < g->n_groups && r == 0; i++) {
		r = late_gather(g->s, g->late_days, g->n_late_days, g->group[i], g->want[i], g->t0,
			g->t1, &g->left, g->z, &g->late[i]);
		for (uint32_t d = 0; d < g->late[i].damaged; d++)
			note_damage(g, i, i + 1);
	}
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
		if (g->late && g->late[gi].c[col].n) {
			r = late_col_merge(&(struct late_col){o->n, o->cap, o->t, o->v},
				&g->late[gi].c[col], &g->merged);
			c.n = g->merged.n;
			c.t_ms = g->merged.t;
			c.v = g->merged.v;
		}
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

int mno_series_read(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	size_t max_samples, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	_cleanup_(gather_done_p)
	struct gather *g = NULL;
	int r = gather_new(s, false, &g);

	if (r == 0)
		r = late_days(s, t0, t1, &g->late_days, &g->n_late_days);
	if (r < 0)
		return r;
	g->t0 = t0;
	g->t1 = t1;
	g->left = max_samples;
	return read_columns(g, ids, n, fn, arg);
}

int series_read_rows(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	_cleanup_(gather_done_p)
	struct gather *g = NULL;
	int r = gather_new(s, false, &g);

	if (r < 0)
		return r;
	g->t0 = t0;
	g->t1 = t1;
	g->left = SIZE_MAX;
	return read_columns(g, ids, n, fn, arg);
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
	int r = gather_new(s, true, &g);

	if (r == 0)
		r = late_days(s, t0, t1, &g->late_days, &g->n_late_days);
	if (r < 0)
		return r;
	g->t0 = t0;
	g->t1 = t1;
	g->left = SIZE_MAX;
	g->fn = fn;
	g->arg = arg;
	for (size_t i = 0; i < n && r == 0;) {
		size_t took = gather_begin(g, ids + i, n - i, SCAN_BATCH);

		if (g->n_late_days &&
			late_any(s, g->late_days, g->n_late_days, g->group, g->n_groups)) {
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
