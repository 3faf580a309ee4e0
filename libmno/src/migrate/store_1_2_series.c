/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of format 1 (one group, one window) into those of format 2 (some groups, up to four
 * windows of one day). What a set of windows becomes depends on the old form only: done twice, it
 * puts the same under the same keys. Memory: one block of each window, and one being made.
 */
#include <errno.h>
#include <string.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"

#define NO_GROUP UINT32_MAX

/* Ticks [lo, hi) of an old window, all of one day. */
struct share {
	size_t from, to; /* its blocks in old_1.blocks */
	size_t at;       /* of them the next */
	size_t lo, hi;
	struct mno_buf enc;
};

struct pack_maker {
	struct share share[BLOCK_WINDOWS];
	struct window w[BLOCK_WINDOWS];
	struct piece piece[BLOCK_WINDOWS];
	struct block_maker maker;
	size_t n; /* shares */
	struct block_v1 b;
	uint16_t idx[BLOCK_V1_ROWS];
	double in[BLOCK_V1_ROWS], v[HEAD_ROWS];
	uint64_t present[HEAD_ROWS / 64];
	struct {
		size_t n;
		int64_t t[BLOCK_V1_ROWS];
	} all; /* ticks of the old window being cut */
};

void series_1_done(struct old_1 *o)
{
	struct pack_maker *p = TAKE_PTR(o->pack);

	if (!p)
		return;
	for (size_t i = 0; i < BLOCK_WINDOWS; i++)
		mno_buf_done(&p->share[i].enc);
	block_maker_done(&p->maker);
	free(p);
}

/* --- the list ---------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct old_block *x = a, *y = b;

	if (x->t0 != y->t0)
		return x->t0 < y->t0 ? -1 : 1;
	return x->group < y->group ? -1 : x->group > y->group;
}

static int list_blocks(struct old_1 *o)
{
	const uint32_t most = SERIES_ID_MAX / GROUP_SERIES;
	MDB_cursor *c;
	MDB_val k, v;
	int r;

	if (!o->has[MNO_DB_BLOCK])
		return 0;
	o->blocks = reallocarray(NULL, o->entries[MNO_DB_BLOCK] + 1, sizeof(*o->blocks));
	if (!o->blocks)
		return -ENOMEM;
	r = mno_lmdb_error(mdb_cursor_open(o->t, o->dbi[MNO_DB_BLOCK], &c));
	if (r < 0)
		return r;
	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
		if (k.mv_size != 12 || o->n_blocks == o->entries[MNO_DB_BLOCK] ||
			mno_get_be32(k.mv_data) > most) {
			o->strange++;
			continue;
		}
		o->blocks[o->n_blocks++] = (struct old_block){
			.t0 = mno_time_unkey(mno_get_be64((uint8_t *)k.mv_data + 4)),
			.group = mno_get_be32(k.mv_data)};
	}
	mdb_cursor_close(c);
	qsort(o->blocks, o->n_blocks, sizeof(*o->blocks), by_time);
	return r == -ENOENT ? 0 : r;
}

static int maker_new(struct old_1 *o)
{
	o->pack = calloc(1, sizeof(*o->pack));
	return o->pack ? list_blocks(o) : -ENOMEM;
}

/* --- one old block ------------------------------------------------------------------------------ */

static int block_1_open(struct old_1 *o, size_t at, struct block_v1 *b)
{
	uint8_t key[12];
	MDB_val k = {sizeof(key), key}, v;
	struct mno_seal info;
	int r;

	mno_be32(key, o->blocks[at].group);
	mno_be64(key + 4, mno_time_key(o->blocks[at].t0));
	r = mno_lmdb_error(mdb_get(o->t, o->dbi[MNO_DB_BLOCK], &k, &v));
	if (r == 0)
		r = mno_seal_open(NULL, MNO_DB_BLOCK, o->z, key, sizeof(key), v.mv_data, v.mv_size,
			MNO_SEAL_BLOCK, &info, &o->raw);
	if (r == 0)
		r = block_v1_open((uint8_t *)o->raw.data, o->raw.len, b);
	return r == 0 && b->t[0] != o->blocks[at].t0 ? -MNO_ECORRUPT : r;
}

static bool is_damage(int r)
{
	return r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY;
}

static size_t window_end(const struct old_1 *o, size_t at)
{
	size_t to = at;

	while (to < o->n_blocks && o->blocks[to].t0 == o->blocks[at].t0)
		to++;
	return to;
}

/* Times of the window whose blocks begin at @at, from the first of them that can be read. */
static int window_times(struct old_1 *o, size_t at, size_t to)
{
	int r = -ENOENT;

	for (; at < to; at++) {
		r = block_1_open(o, at, &o->pack->b);
		if (!is_damage(r))
			break;
	}
	if (r < 0)
		return is_damage(r) ? -ENOENT : r;
	o->pack->all.n = o->pack->b.n;
	memcpy(o->pack->all.t, o->pack->b.t, o->pack->b.n * sizeof(*o->pack->b.t));
	return 0;
}

/* --- sets of shares ----------------------------------------------------------------------------- */

static void add_share(struct pack_maker *p, size_t from, size_t to, size_t lo, size_t hi)
{
	struct share *s = &p->share[p->n];
	struct window *w = &p->w[p->n++];

	s->from = s->at = from;
	s->to = to;
	s->lo = lo;
	s->hi = hi;
	w->n = hi - lo;
	memcpy(w->t, p->all.t + lo, w->n * sizeof(*w->t));
}

/*
 * The next set from block @*at, tick @*lo on: shares of one day. Leaves there where to go on.
 * Windows that nobody can read are counted and left out.
 */
static int next_set(struct migrate *m, struct old_1 *o, size_t *at, size_t *lo)
{
	struct pack_maker *p = o->pack;

	p->n = 0;
	while (*at < o->n_blocks && p->n < BLOCK_WINDOWS) {
		size_t to = window_end(o, *at), hi;
		int r = window_times(o, *at, to);

		if (r < 0 && r != -ENOENT)
			return r;
		if (r == -ENOENT) {
			m->c.damaged += to - *at;
			*at = to;
			continue;
		}
		if (p->n && day_of(p->all.t[*lo]) != day_of(p->w[0].t[0]))
			return 0;
		for (hi = *lo + 1; hi < p->all.n && hi - *lo < HEAD_ROWS; hi++)
			if (day_of(p->all.t[hi]) != day_of(p->all.t[*lo]))
				break;
		add_share(p, *at, to, *lo, hi);
		*lo = hi == p->all.n ? 0 : hi;
		if (!*lo)
			*at = to;
	}
	return 0;
}

/* One column of the block that p->b is; its ticks in the share. */
static int take_column(struct migrate *m, struct pack_maker *p, const struct share *s, unsigned col,
	uint64_t seed, size_t *ret_n)
{
	size_t n, got = 0;
	int r = block_v1_column(&p->b, col, p->idx, p->in, &n);

	if (r < 0)
		return r;
	memset(p->present, 0, sizeof(p->present));
	for (size_t i = 0; i < n; i++) {
		size_t tick = p->idx[i] - s->lo;

		if (p->idx[i] < s->lo || p->idx[i] >= s->hi)
			continue;
		p->present[tick / 64] |= 1ULL << (tick % 64);
		p->v[tick] = p->in[i];
		sum_sample(&m->c.sum[SUM_SAMPLES], seed, p->b.t[p->idx[i]], p->in[i]);
		got++;
	}
	*ret_n = got;
	return 0;
}

static int take_columns(
	struct migrate *m, struct pack_maker *p, struct share *s, uint32_t group, struct piece *to)
{
	uint32_t at[GROUP_SERIES];

	for (uint64_t left = p->b.columns; left; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);
		size_t n = 0;

		if (take_column(m, p, s, col, sum_seed(group * GROUP_SERIES + col), &n) < 0) {
			m->c.damaged += s->lo == 0;
			continue;
		}
		if (!n)
			continue;
		m->c.done += n;
		p->maker.samples += n;
		at[col] = (uint32_t)s->enc.len;
		column_encode(p->v, p->present, s->hi - s->lo, &s->enc);
		to->len[col] = (uint32_t)(s->enc.len - at[col]);
		to->columns |= 1ULL << col;
	}
	for (uint64_t left = to->columns; left; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);

		to->p[col] = (uint8_t *)s->enc.data + at[col];
	}
	return s->enc.err;
}

/* What share @i has of @group. */
static int take_share(struct migrate *m, struct old_1 *o, size_t i, uint32_t group)
{
	struct pack_maker *p = o->pack;
	struct share *s = &p->share[i];
	int r;

	p->piece[i].columns = 0;
	if (s->at == s->to || o->blocks[s->at].group != group)
		return 0;
	mno_buf_reset(&s->enc);
	r = block_1_open(o, s->at++, &p->b);
	if (r == 0 && (s->hi > p->b.n ||
			      memcmp(p->b.t + s->lo, p->w[i].t, (s->hi - s->lo) * sizeof(*p->b.t))))
		r = -MNO_ECORRUPT;
	if (is_damage(r)) {
		m->c.damaged += s->lo == 0;
		return 0;
	}
	m->c.bytes += o->raw.len;
	return r < 0 ? r : take_columns(m, p, s, group, &p->piece[i]);
}

static int flush(struct migrate *m, struct pack_maker *p, struct mno_txn *to)
{
	const struct window *last = &p->w[p->n - 1];
	struct mno_seal info = {.kind = MNO_SEAL_BLOCK,
		.count = p->maker.series,
		.a = mno_time_key(last->t[last->n - 1]),
		.b = p->maker.samples};
	uint8_t key[BLOCK_KEY];
	size_t bytes;
	int r;

	if (!p->maker.n_groups)
		return 0;
	r = block_end(&p->maker, p->w);
	if (r < 0)
		return r;
	block_key(key, p->w[0].t[0], p->maker.first);
	r = mno_seal_put(to, MNO_DB_PACK, key, sizeof(key), &info, p->maker.out.data,
		p->maker.out.len, &bytes);
	if (r < 0)
		return r;
	m->c.block_bytes += bytes;
	block_begin(&p->maker, p->n);
	return 0;
}

static uint32_t next_group(const struct old_1 *o)
{
	uint32_t group = NO_GROUP;

	for (size_t i = 0; i < o->pack->n; i++)
		if (o->pack->share[i].at < o->pack->share[i].to)
			group = MNO_MIN(group, o->blocks[o->pack->share[i].at].group);
	return group;
}

static int put_set(struct migrate *m, struct old_1 *o, struct mno_txn *txn)
{
	struct pack_maker *p = o->pack;
	struct mno_txn *to;
	uint32_t group;
	int r = mno_txn_part(txn, MNO_CLASS_TS, p->w[0].t[0], &to);

	if (r < 0)
		return r;
	if (!m->c.first_ms)
		m->c.first_ms = p->w[0].t[0];
	block_begin(&p->maker, p->n);
	while (r == 0 && (group = next_group(o)) != NO_GROUP) {
		uint64_t any = 0;

		for (size_t i = 0; i < p->n && r == 0; i++) {
			r = take_share(m, o, i, group);
			any |= p->piece[i].columns;
		}
		if (r == 0 && any)
			block_add(&p->maker, group, p->piece);
		if (r == 0 &&
			(p->maker.body.len >= PACK_TARGET || p->maker.n_groups == BLOCK_GROUPS))
			r = flush(m, p, to);
	}
	return r < 0 ? r : flush(m, p, to);
}

/* cursor: first tick of the next window, first of its ticks that counts, 1 */
static size_t find_cursor(const struct migrate *m, const struct old_1 *o)
{
	size_t lo = 0, hi = o->n_blocks;

	while (m->c.at[2] && lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (o->blocks[mid].t0 < (int64_t)m->c.at[0])
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int series_1_blocks(struct migrate *m, struct mno_txn *txn, bool *ret_end)
{
	uint64_t end = m->c.done + m->o.step_records;
	struct old_1 *o = m->old;
	size_t at, lo = m->c.at[1];
	int r = 0;

	if (!o->pack)
		r = maker_new(o);
	if (r < 0)
		return r;
	if (!m->c.at[2])
		m->c.damaged += o->strange;
	at = find_cursor(m, o);
	while (r == 0 && at < o->n_blocks && m->c.done < end) {
		r = next_set(m, o, &at, &lo);
		if (r == 0 && o->pack->n)
			r = put_set(m, o, txn);
	}
	*ret_end = at >= o->n_blocks;
	if (!*ret_end) {
		m->c.at[0] = (uint64_t)o->blocks[at].t0;
		m->c.at[1] = lo;
		m->c.at[2] = 1;
	}
	return r;
}

/* --- head and label index ------------------------------------------------------------------------ */

/* The last rows become part of the sums in the transaction that puts them. */
static int put_rows(struct migrate *m, struct mno_series *s, struct mno_txn *txn)
{
	int r;

	s->now.samples = m->c.sum[SUM_SAMPLES].n;
	s->now.block_bytes = m->c.block_bytes;
	s->now.series = m->c.sum[SUM_SERIES].n;
	s->now.first_ms = m->c.first_ms;
	r = tail_1_append(m, s, txn);
	if (r == 0)
		r = counters_save(s, txn);
	if (r < 0)
		return r;
	m->c.at[0] = 1;
	return cursor_put(m, txn, &m->c);
}

static int finish_rows(struct migrate *m)
{
	_cleanup_(mno_series_close_p)
	struct mno_series *s = NULL;
	struct cursor before = m->c;
	struct mno_txn *t;
	int r = mno_series_open(m->store, &s);

	if (r == 0)
		r = mno_store_begin_reclaim(m->store, &t);
	if (r < 0)
		return r;
	r = put_rows(m, s, t);
	if (r == 0)
		r = mno_store_commit(m->store, t);
	else
		mno_store_abort(m->store, t);
	if (r < 0)
		m->c = before;
	return r;
}

int series_1_finish(struct migrate *m)
{
	_cleanup_(mno_series_close_p)
	struct mno_series *s = NULL;
	int r = 0, full = 0;

	while (r == 0 && !m->c.at[0]) {
		r = finish_rows(m);
		/* a full map grows with the next transaction */
		if (r == -ENOSPC && mno_store_floor(m->store) == 0 && ++full < 64)
			r = 0;
	}
	if (r == 0)
		r = mno_series_open(m->store, &s);
	return r < 0 ? r : dict_rebuild(s);
}

/* --- sampled comparison -------------------------------------------------------------------------- */

struct want {
	const struct pack_maker *p;
	size_t n;
	bool same;
};

static int same_column(void *arg, const struct mno_column *c)
{
	struct want *w = arg;

	w->same = c->n == w->n;
	for (size_t i = 0; i < w->n && w->same; i++)
		w->same = c->t_ms[i] == w->p->b.t[w->p->idx[i]] &&
			  bits_of(c->v[i]) == bits_of(w->p->in[i]);
	return 0;
}

static int compare_block(struct old_1 *o, struct mno_series *s, size_t at)
{
	struct pack_maker *p = o->pack;
	int r = block_1_open(o, at, &p->b);

	if (r < 0)
		return is_damage(r) ? 0 : r;
	for (uint64_t left = p->b.columns; left && r == 0; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);
		uint32_t id = o->blocks[at].group * GROUP_SERIES + col;
		struct want w = {.p = p};

		if (block_v1_column(&p->b, col, p->idx, p->in, &w.n) < 0)
			continue;
		r = mno_series_read(
			s, &id, 1, p->b.t[0], p->b.t[p->b.n - 1], SIZE_MAX, same_column, &w);
		if (r == 0 && !w.same && w.n) {
			mno_err("migration: series %u is not the same after it", id);
			r = -MNO_ECORRUPT;
		}
	}
	return r;
}

#define COMPARE_BLOCKS 48

int series_1_compare(struct migrate *m)
{
	_cleanup_(mno_series_close_p)
	struct mno_series *s = NULL;
	struct old_1 *o = m->old;
	int r = 0;

	if (!o->pack)
		r = maker_new(o);
	if (r == 0)
		r = mno_series_open(m->store, &s);
	for (size_t i = 0; i < COMPARE_BLOCKS && o->n_blocks && r == 0; i++)
		r = compare_block(
			o, s, i == 0 ? o->n_blocks - 1 : sum_mix(i + m->c.done) % o->n_blocks);
	return r;
}
