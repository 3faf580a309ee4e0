/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of late samples: found, read, written. */
#include <errno.h>
#include "late.h"
#include "mno/err.h"
#include "mno/log.h"

/* --- sets of samples -------------------------------------------------------------------------- */

void late_set_done(struct late_set *s)
{
	for (size_t i = 0; i < GROUP_SERIES; i++) {
		free(s->c[i].t);
		free(s->c[i].v);
	}
	*s = (struct late_set){0};
}

void late_set_reset(struct late_set *s)
{
	s->damaged = 0;
	for (size_t i = 0; i < GROUP_SERIES; i++)
		s->c[i].n = 0;
}

static int col_room(struct late_col *c, size_t n)
{
	size_t cap = MNO_MAX(c->n + n, c->cap * 2);
	int64_t *t;
	double *v;

	if (c->n + n <= c->cap)
		return 0;
	t = reallocarray(c->t, cap, sizeof(*t));
	if (!t)
		return -ENOMEM;
	c->t = t;
	v = reallocarray(c->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	c->v = v;
	c->cap = cap;
	return 0;
}

int late_col_add(struct late_col *c, int64_t t, double v)
{
	int r = c->n < c->cap ? 0 : col_room(c, 1);

	if (r < 0)
		return r;
	c->t[c->n] = t;
	c->v[c->n++] = v;
	return 0;
}

static void col_take(struct late_col *out, const struct late_col *c, size_t from, size_t n)
{
	if (!n)
		return;
	memcpy(out->t + out->n, c->t + from, n * sizeof(*c->t));
	memcpy(out->v + out->n, c->v + from, n * sizeof(*c->v));
	out->n += n;
}

int late_col_merge(const struct late_col *lo, const struct late_col *hi, struct late_col *out)
{
	size_t a = 0, b = 0;
	int r;

	out->n = 0;
	r = col_room(out, lo->n + hi->n);
	if (r < 0)
		return r;
	while (a < lo->n && b < hi->n) {
		bool high = hi->t[b] <= lo->t[a];
		const struct late_col *c = high ? hi : lo;
		size_t i = high ? b : a;

		a += lo->t[a] <= hi->t[b]; /* one that is as late is left out */
		b += high;
		out->t[out->n] = c->t[i];
		out->v[out->n++] = c->v[i];
	}
	col_take(out, lo, a, lo->n - a);
	col_take(out, hi, b, hi->n - b);
	return 0;
}

/* --- where runs are --------------------------------------------------------------------------- */

static void late_key(uint8_t key[LATE_KEY], uint32_t group, uint32_t run, uint64_t t)
{
	mno_be32(key, group);
	mno_be32(key + 4, run);
	mno_be64(key + 8, t);
}

static int at_key(MDB_cursor *c, enum mno_seek dir, const uint8_t *from, MDB_val *k, MDB_val *v)
{
	int r;

	*k = (MDB_val){LATE_KEY, (void *)from};
	r = mno_lmdb_error(mno_cursor_seek(c, dir, k, v));
	return r == 0 && k->mv_size != LATE_KEY ? -MNO_ECORRUPT : r;
}

static bool same(const MDB_val *k, const uint8_t *from, size_t n)
{
	return !memcmp(k->mv_data, from, n);
}

int late_some(struct late_view *w, uint32_t group, struct late_run *ret, size_t max, size_t *ret_n)
{
	uint8_t from[LATE_KEY];
	MDB_cursor *c;
	MDB_val k, v;
	size_t n = 0;
	int r = mno_lmdb_error(mdb_cursor_open(w->t, w->e->dbi[MNO_DB_LATE], &c));

	if (r < 0)
		return r;
	late_key(from, group, UINT32_MAX, UINT64_MAX);
	r = at_key(c, MNO_SEEK_LE, from, &k, &v);
	while (r == 0 && same(&k, from, 4) && n < max) {
		struct mno_seal info = {.flags = LATE_LEVELS - 1};

		mno_seal_peek(k.mv_data, LATE_KEY, v.mv_data, v.mv_size, MNO_SEAL_LATE, &info);
		ret[n].run = mno_get_be32((uint8_t *)k.mv_data + 4);
		ret[n].level = MNO_MIN(info.flags, LATE_LEVELS - 1);
		late_key(from, group, ret[n++].run, 0);
		r = at_key(c, MNO_SEEK_LT, from, &k, &v);
	}
	mdb_cursor_close(c);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_n = n;
	return 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct late_reader {
	struct late_view *w;
	uint32_t group;
	uint64_t want;
	int64_t t0, t1;
	struct late_set part; /* of the run */
	struct mno_buf raw;
	struct block b;
	struct piece piece[BLOCK_WINDOWS];
	double v[HEAD_ROWS];
	uint16_t idx[HEAD_ROWS];
};

void late_view_done(struct late_view *w)
{
	if (w->q) {
		late_set_done(&w->q->part);
		mno_buf_done(&w->q->raw);
	}
	free(TAKE_PTR(w->q));
}

static int take_column(
	struct late_reader *q, unsigned col, const struct window *w, const struct piece *p)
{
	struct column c;
	size_t n;
	int r = column_decode(p->p[col], p->len[col], w->n, &c, q->v);

	if (r < 0)
		return r;
	n = column_ticks(&c, w->n, q->idx);
	if (n > q->w->left)
		return -MNO_ELIMIT;
	r = col_room(&q->part.c[col], n);
	for (size_t i = 0; i < n && r == 0; i++) {
		int64_t t = w->t[q->idx[i]];

		if (t < q->t0 || t > q->t1)
			continue;
		r = late_col_add(&q->part.c[col], t, q->v[i]);
		q->w->left--;
	}
	return r;
}

/* All of its columns, or none: what was taken goes if one is malformed. */
static int take_block(struct late_reader *q, const MDB_val *k, const MDB_val *v)
{
	size_t before[GROUP_SERIES];
	struct mno_seal info;
	int r = mno_seal_open(q->w->e, MNO_DB_LATE, q->w->z, k->mv_data, k->mv_size, v->mv_data,
		v->mv_size, MNO_SEAL_LATE, &info, &q->raw);

	for (unsigned i = 0; i < GROUP_SERIES; i++)
		before[i] = q->part.c[i].n;
	if (r == 0)
		r = block_open((uint8_t *)q->raw.data, q->raw.len, &q->b);
	if (r == 0 && (q->b.n_groups != 1 || q->b.g[0].group != q->group))
		r = -MNO_ECORRUPT;
	if (r == 0)
		r = block_pieces(&q->b, 0, q->piece);
	for (size_t i = 0; r == 0 && i < q->b.n_windows; i++) {
		const struct window *w = &q->b.w[i];
		uint64_t have = q->piece[i].columns & q->want;

		if (w->t[0] > q->t1 || w->t[w->n - 1] < q->t0)
			continue;
		for (; have && r == 0; have &= have - 1)
			r = take_column(q, (unsigned)__builtin_ctzll(have), w, &q->piece[i]);
	}
	for (unsigned i = 0; r < 0 && i < GROUP_SERIES; i++)
		q->part.c[i].n = before[i];
	return r;
}

static int put_under(struct late_set *acc, struct late_set *part, uint64_t want)
{
	for (; want; want &= want - 1) {
		unsigned i = (unsigned)__builtin_ctzll(want);
		struct late_col *lo = &part->c[i], *hi = &acc->c[i], out = {0};
		int r;

		if (!lo->n)
			continue;
		if (!hi->n) {
			struct late_col swap = *hi;

			*hi = *lo;
			*lo = swap;
			continue;
		}
		r = late_col_merge(lo, hi, &out);
		free(hi->t);
		free(hi->v);
		*hi = out;
		if (r < 0)
			return r;
	}
	return 0;
}

static bool ended(const MDB_val *k, const MDB_val *v, int64_t t0)
{
	struct mno_seal info;

	return mno_seal_peek(
		       k->mv_data, k->mv_size, v->mv_data, v->mv_size, MNO_SEAL_LATE, &info) == 0 &&
	       mno_time_unkey(info.a) < t0;
}

static int walk_run(struct late_reader *q, MDB_cursor *c, uint32_t run)
{
	uint8_t from[LATE_KEY], first[LATE_KEY];
	MDB_val k, v;
	int r;

	late_key(first, q->group, run, 0);
	late_key(from, q->group, run, mno_time_key(q->t0));
	r = at_key(c, MNO_SEEK_LE, from, &k, &v);
	if (r == -ENOENT || (r == 0 && !same(&k, first, 8)))
		r = at_key(c, MNO_SEEK_GE, from, &k, &v);
	while (r == 0 && same(&k, first, 8)) {
		if (mno_time_unkey(mno_get_be64((uint8_t *)k.mv_data + 8)) > q->t1)
			break;
		if (!ended(&k, &v, q->t0))
			r = take_block(q, &k, &v);
		if (r == -MNO_ECORRUPT || r == -MNO_EVERSION) {
			q->part.damaged++;
			r = 0;
		}
		if (r == 0)
			r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT));
		if (r == 0 && k.mv_size != LATE_KEY)
			r = -MNO_ECORRUPT;
	}
	return r == -ENOENT ? 0 : r;
}

static int view_ready(struct late_view *w)
{
	if (!w->q)
		w->q = calloc(1, sizeof(*w->q));
	if (!w->q)
		return -ENOMEM;
	w->q->w = w;
	return 0;
}

static int read_run(struct late_view *w, MDB_cursor *c, uint32_t run, struct late_set *acc)
{
	struct late_reader *q = w->q;
	int r;

	late_set_reset(&q->part);
	r = walk_run(q, c, run);
	acc->damaged += q->part.damaged;
	return r < 0 ? r : put_under(acc, &q->part, q->want);
}

static int view_ask(struct late_view *w, uint32_t group, uint64_t want, int64_t t0, int64_t t1,
	MDB_cursor **ret)
{
	int r = view_ready(w);

	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_open(w->t, w->e->dbi[MNO_DB_LATE], ret));
	if (r < 0)
		return r;
	w->q->group = group;
	w->q->want = want;
	w->q->t0 = t0;
	w->q->t1 = t1;
	return 0;
}

int late_run_read(struct late_view *w, uint32_t group, uint32_t run, uint64_t want, int64_t t0,
	int64_t t1, struct late_set *acc)
{
	MDB_cursor *c;
	int r = view_ask(w, group, want, t0, t1, &c);

	if (r < 0)
		return r;
	r = read_run(w, c, run, acc);
	mdb_cursor_close(c);
	return r;
}

int late_read(struct late_view *w, uint32_t group, uint64_t want, int64_t t0, int64_t t1,
	struct late_set *acc)
{
	uint8_t from[LATE_KEY];
	MDB_cursor *c;
	MDB_val k, v;
	int r = view_ask(w, group, want, t0, t1, &c);

	if (r < 0)
		return r;
	late_key(from, group, UINT32_MAX, UINT64_MAX);
	r = at_key(c, MNO_SEEK_LE, from, &k, &v);
	while (r == 0 && same(&k, from, 4)) { /* the newest first */
		uint32_t run = mno_get_be32((uint8_t *)k.mv_data + 4);

		r = read_run(w, c, run, acc);
		late_key(from, group, run, 0);
		if (r == 0)
			r = at_key(c, MNO_SEEK_LT, from, &k, &v);
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}
