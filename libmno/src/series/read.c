/* SPDX-License-Identifier: Apache-2.0 */
/* Samples out: the head's copy first, then sealed blocks up to where the head begins. */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "series_internal.h"

struct samples {
	size_t n, cap;
	int64_t *t;
	double *v;
};

/* One group of one read. Memory: 16 bytes a sample, bounded by the caller's max_samples. */
struct gather {
	struct mno_series *s;
	uint32_t group;
	uint64_t want; /* columns */
	int64_t t0, t1;
	size_t left;    /* samples that may still come */
	int64_t head_t; /* blocks count up to here */
	struct samples old[GROUP_SERIES], fresh[GROUP_SERIES];
	uint32_t damaged;
	ZSTD_DCtx *z;
	struct mno_buf key, val, raw;
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

static void gather_done(struct gather *g)
{
	for (unsigned i = 0; i < GROUP_SERIES; i++) {
		samples_done(&g->old[i]);
		samples_done(&g->fresh[i]);
	}
	mno_buf_done(&g->key);
	mno_buf_done(&g->val);
	mno_buf_done(&g->raw);
	ZSTD_freeDCtx(g->z);
	free(g);
}
MNO_DEFINE_CLEANUP(struct gather *, gather_done)

/* --- head ------------------------------------------------------------------------------------------ */

static int from_rows(struct gather *g, const struct head *h, const struct rows *rw)
{
	for (uint64_t want = g->want; want; want &= want - 1) {
		unsigned col = (unsigned)__builtin_ctzll(want);
		struct samples *c = &g->fresh[col];
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
	if (h->n == 0)
		return 0;
	if (g->head_t == INT64_MAX)
		g->head_t = h->t[0];
	if (h->t[0] > g->t1 || h->t[h->n - 1] < g->t0 || g->group >= h->n_rows ||
		!h->rows[g->group])
		return 0;
	return from_rows(g, h, h->rows[g->group]);
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

/* --- blocks ----------------------------------------------------------------------------------------- */

static int from_column(struct gather *g, const struct block *b, unsigned col)
{
	struct samples *c = &g->old[col];
	uint16_t idx[HEAD_ROWS];
	double v[HEAD_ROWS];
	size_t n, from = 0;
	int r = block_column(b, col, idx, v, &n);

	if (r < 0)
		return r;
	while (from < n && b->t[idx[from]] < g->t0)
		from++;
	while (n > from && (b->t[idx[n - 1]] > g->t1 || b->t[idx[n - 1]] >= g->head_t))
		n--;
	r = take(g, c, n - from);
	if (r < 0)
		return r;
	for (size_t i = from; i < n; i++) {
		c->t[c->n] = b->t[idx[i]];
		c->v[c->n++] = v[i];
	}
	return 0;
}

/* -MNO_ECORRUPT: this block cannot be used. */
static int from_block(struct gather *g)
{
	struct mno_seal info;
	struct block b;
	int r;

	r = mno_seal_peek(g->key.data, g->key.len, g->val.data, g->val.len, MNO_SEAL_BLOCK, &info);
	if (r == 0 && mno_time_unkey(info.a) < g->t0)
		return 0;
	if (r == 0)
		r = mno_seal_open(g->s->env->main, MNO_DB_BLOCK, g->z, g->key.data, g->key.len,
			g->val.data, g->val.len, MNO_SEAL_BLOCK, &info, &g->raw);
	if (r == 0)
		r = block_open((uint8_t *)g->raw.data, g->raw.len, &b);
	for (uint64_t want = g->want; want && r == 0; want &= want - 1)
		r = from_column(g, &b, (unsigned)__builtin_ctzll(want));
	return r;
}

static bool same_group(const struct gather *g)
{
	return g->key.len == 12 && mno_get_be32((uint8_t *)g->key.data) == g->group;
}

/* Positions at the last block that begins at or before t0, or the first after it. */
static int first_block(struct gather *g, const uint8_t from[12])
{
	struct mno_store *e = g->s->env;
	int r = mno_store_fetch(e, MNO_DB_BLOCK, MNO_SEEK_LE, from, 12, &g->key, &g->val);

	if (r == 0 && same_group(g))
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	return mno_store_fetch(e, MNO_DB_BLOCK, MNO_SEEK_GE, from, 12, &g->key, &g->val);
}

static void note_damage(struct gather *g)
{
	g->damaged++;
	g->s->env->damaged++;
	if (__atomic_fetch_add(&g->s->damaged_blocks, 1, __ATOMIC_RELAXED) == 0)
		mno_err("series: a stored block of group %u is damaged and left out", g->group);
}

static int gather_blocks(struct gather *g)
{
	uint8_t from[12];
	int r;

	mno_be32(from, g->group);
	mno_be64(from + 4, mno_time_key(g->t0));
	r = first_block(g, from);
	while (r == 0 && same_group(g)) {
		int64_t t = mno_time_unkey(mno_get_be64((uint8_t *)g->key.data + 4));

		if (t > g->t1 || t >= g->head_t)
			break;
		r = from_block(g);
		if (r == -MNO_ECORRUPT || r == -MNO_EVERSION)
			note_damage(g);
		else if (r < 0)
			return r;
		r = mno_store_fetch(g->s->env, MNO_DB_BLOCK, MNO_SEEK_GT, g->key.data, g->key.len,
			&g->key, &g->val);
	}
	return r == -ENOENT ? 0 : r;
}

/* --- both --------------------------------------------------------------------------------------------- */

static int join(struct gather *g, unsigned col)
{
	struct samples *o = &g->old[col], *f = &g->fresh[col];
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

static int read_group(struct gather *g, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	int r;

	for (unsigned i = 0; i < GROUP_SERIES; i++)
		g->old[i].n = g->fresh[i].n = 0;
	g->damaged = 0;
	r = gather_head(g);
	if (r == 0)
		r = gather_blocks(g);
	for (uint64_t want = g->want; want && r == 0; want &= want - 1) {
		unsigned col = (unsigned)__builtin_ctzll(want);
		struct mno_column c = {.id = g->group * GROUP_SERIES + col, .damaged = g->damaged};

		r = join(g, col);
		if (r < 0)
			return r;
		c.n = g->old[col].n;
		c.t_ms = g->old[col].t;
		c.v = g->old[col].v;
		if (c.n || c.damaged)
			r = fn(arg, &c);
	}
	return r;
}

int mno_series_read(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	size_t max_samples, int (*fn)(void *arg, const struct mno_column *c), void *arg)
{
	_cleanup_(gather_done_p)
	struct gather *g = calloc(1, sizeof(*g));
	int r = 0;

	if (!g)
		return -ENOMEM;
	g->z = ZSTD_createDCtx();
	if (!g->z)
		return -ENOMEM;
	*g = (struct gather){.s = s, .t0 = t0, .t1 = t1, .left = max_samples, .z = g->z};
	for (size_t i = 0; i < n && r == 0;) {
		g->group = ids[i] / GROUP_SERIES;
		g->want = 0;
		for (; i < n && ids[i] / GROUP_SERIES == g->group; i++)
			g->want |= 1ULL << (ids[i] % GROUP_SERIES);
		r = read_group(g, fn, arg);
	}
	return r;
}
