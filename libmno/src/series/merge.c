/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows become blocks. A sealed head is one window of up to 192 ticks; four of them wait in
 * WINDOW of their day's partition as small blocks, with the fifth they are put together, group by
 * group as they come, into blocks of about PACK_TARGET bytes. Nothing is decoded for that: columns
 * are moved as bytes. They wait there and not in main for the sake of its free pages: a long list
 * of them would be written anew with each row of the tail.
 * A partition is committed before main is. If main then is not, the tail still has the rows of the
 * last window: reads take from a partition what is before the head, and the next seal takes away
 * what comes again.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "series_internal.h"

#define WINDOWS_MAX 64 /* that wait: 4 but for a store that was written by something else */
#define NO_GROUP    UINT32_MAX

/* A window that waits, read block by block. Its memory: one block. */
struct part {
	int64_t t0;
	uint8_t key[BLOCK_KEY];
	struct mno_buf raw;
	struct block b;
	size_t at; /* group of the block */
	bool end;
	uint64_t samples; /* of blocks opened and not yet accounted for */
};

struct columns {
	uint64_t present[GROUP_SERIES][HEAD_ROWS / 64];
	double v[GROUP_SERIES][HEAD_ROWS];
};

struct merge {
	struct mno_series *s;
	struct mno_txn *from; /* of the windows: the partition's; main's for those in PART */
	enum mno_db from_db, to_db;
	struct mno_txn *to; /* the partition's */
	const struct head *h;
	uint32_t h_group; /* next of the head with rows */
	size_t n_parts;
	struct part part[BLOCK_WINDOWS];
	struct window w[BLOCK_WINDOWS];
	struct piece piece[BLOCK_WINDOWS], own[BLOCK_WINDOWS];
	struct block_maker maker;
	struct mno_buf enc;
	struct columns c;
	struct agg_maker aggs;
	struct mno_agg agg[GROUP_SERIES];
};

static void merge_free(struct merge *m)
{
	for (size_t i = 0; i < BLOCK_WINDOWS; i++)
		mno_buf_done(&m->part[i].raw);
	block_maker_done(&m->maker);
	agg_maker_done(&m->aggs);
	mno_buf_done(&m->enc);
	free(m);
}
MNO_DEFINE_CLEANUP(struct merge *, merge_free)

/* --- windows that wait -------------------------------------------------------------------------- */

int block_seek(struct mno_txn *txn, enum mno_db db, enum mno_seek dir, const uint8_t *from,
	MDB_val *k, MDB_val *v)
{
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, txn->e->dbi[db], &c));

	if (r < 0)
		return r;
	*k = (MDB_val){BLOCK_KEY, (void *)from};
	r = mno_lmdb_error(mno_cursor_seek(c, dir, k, v));
	mdb_cursor_close(c);
	if (r == 0 && k->mv_size != BLOCK_KEY)
		r = -MNO_ECORRUPT;
	return r;
}

/* A damaged one is kept as it is among the blocks: reads go on to tell of it. */
static int part_keep(struct merge *m, const struct part *p, const MDB_val *v)
{
	_cleanup_buf_ struct mno_buf copy = {0};
	uint8_t key[BLOCK_KEY];

	mno_err("series: a stored block of group %u and later ones is damaged",
		block_key_group(p->key));
	m->s->env->damaged++;
	mno_buf_add(&copy, v->mv_data, v->mv_size);
	if (copy.err)
		return copy.err;
	/* a tick later: it must not be in the way of what the other windows have */
	block_key(key, p->t0 + 1, block_key_group(p->key));
	return mno_txn_put(m->to, MNO_DB_PACK, key, sizeof(key), copy.data, copy.len);
}

static int part_open(struct merge *m, struct part *p, const MDB_val *v)
{
	struct mno_seal info;
	int r = mno_seal_open(m->from->e, m->from_db, m->s->z, p->key, BLOCK_KEY, v->mv_data,
		v->mv_size, MNO_SEAL_BLOCK, &info, &p->raw);

	if (r == 0)
		r = block_open((uint8_t *)p->raw.data, p->raw.len, &p->b);
	if (r == 0 && p->b.n_windows != 1)
		r = -MNO_ECORRUPT;
	if (r < 0)
		return r;
	p->samples += info.b;
	p->at = 0;
	return 0;
}

/* The next readable block of the window, or its end. */
static int part_next(struct merge *m, struct part *p, enum mno_seek dir)
{
	MDB_val k, v;
	int r;

	for (;; dir = MNO_SEEK_GT) {
		r = block_seek(m->from, m->from_db, dir, p->key, &k, &v);
		if (r == -ENOENT || (r == 0 && block_key_time(k.mv_data) != p->t0)) {
			p->end = true;
			return 0;
		}
		if (r < 0)
			return r;
		memcpy(p->key, k.mv_data, BLOCK_KEY);
		r = part_open(m, p, &v);
		if (r != -MNO_ECORRUPT)
			return r;
		r = part_keep(m, p, &v);
		if (r < 0)
			return r;
	}
}

static int part_skip(struct merge *m, struct part *p)
{
	return ++p->at < p->b.n_groups ? 0 : part_next(m, p, MNO_SEEK_GT);
}

static uint32_t part_group(const struct part *p)
{
	return p->end ? NO_GROUP : p->b.g[p->at].group;
}

/* First ticks of the windows, ascending. */
static int part_list(struct mno_txn *txn, enum mno_db db, int64_t t0[WINDOWS_MAX], size_t *ret_n)
{
	uint8_t from[BLOCK_KEY] = {0};
	size_t n = 0;
	MDB_val k, v;
	int r = block_seek(txn, db, MNO_SEEK_GE, from, &k, &v);

	for (; r == 0; r = block_seek(txn, db, MNO_SEEK_GT, from, &k, &v)) {
		if (n == WINDOWS_MAX)
			return -MNO_ECORRUPT;
		t0[n] = block_key_time(k.mv_data);
		block_key(from, t0[n++], UINT32_MAX);
	}
	*ret_n = n;
	return r == -ENOENT ? 0 : r;
}

/* The day that what waits is of. -ENOENT: there is no partition. */
static int part_day(struct mno_series *s, int64_t *ret)
{
	_cleanup_free_ int64_t *days = NULL;
	const struct head *h = s->head;
	size_t n = 0;
	int r;

	*ret = h->n ? h->t[0] : h->base_t;
	if (*ret != INT64_MIN)
		return 0;
	r = mno_store_partitions(s->env, MNO_CLASS_TS, INT64_MIN, INT64_MAX, &days, &n);
	if (r == 0 && n)
		*ret = days[n - 1];
	return r < 0 ? r : n ? 0 : -ENOENT;
}

static int load_from(struct mno_series *s, struct mno_env *e, enum mno_db db)
{
	_cleanup_buf_ struct mno_buf key = {0};
	uint8_t from[BLOCK_KEY] = {0};
	int64_t t;
	int r = mno_env_fetch(e, db, MNO_SEEK_GE, from, sizeof(from), &key, NULL);

	if (r < 0 || key.len != BLOCK_KEY)
		return r == -ENOENT ? 0 : r;
	t = block_key_time(key.data);
	if (!s->head->n || t < s->head->t[0])
		s->part_t0 = s->part_t0_committed = t;
	return 0;
}

int merge_load(struct mno_series *s)
{
	struct mno_env *e;
	int64_t day;
	int r;

	s->part_t0 = s->part_t0_committed = INT64_MIN;
	r = load_from(s, s->env->main, MNO_DB_PART);
	s->old_part = s->part_t0 != INT64_MIN;
	if (r < 0 || s->old_part)
		return r;
	r = part_day(s, &day);
	if (r == 0)
		r = mno_store_env(s->env, MNO_CLASS_TS, day, false, &e);
	if (r < 0)
		return r == -ENOMEM ? r
				    : 0; /* a partition that cannot be opened is told of by reads */
	r = load_from(s, e, MNO_DB_WINDOW);
	mno_env_unref(e);
	return r;
}

/* --- the head ---------------------------------------------------------------------------------- */

/* Rows to columns, chunk by chunk; *@ret_samples counts what is present. */
static uint64_t transpose(const struct rows *rw, size_t n, struct columns *c, uint64_t *ret_samples)
{
	uint64_t any = 0, all = ~0ULL, samples = 0;

	for (size_t r = 0; r < n; r++) {
		any |= rw->present[r + 1];
		all &= rw->present[r + 1];
		samples += (uint64_t)__builtin_popcountll(rw->present[r + 1]);
	}
	for (uint64_t left = any; left; left &= left - 1)
		for (size_t i = 0; i < HEAD_ROWS / 64; i++)
			c->present[__builtin_ctzll(left)][i] =
				!(all & left & -left) || n <= i * 64 ? 0
				: n >= i * 64 + 64                   ? ~0ULL
								     : (1ULL << n % 64) - 1;
	for (size_t r = 0; any != all && r < n; r++)
		for (uint64_t here = rw->present[r + 1] & ~all; here; here &= here - 1)
			c->present[__builtin_ctzll(here)][r / 64] |= 1ULL << (r % 64);
	for (size_t r0 = 0; r0 < n; r0 += 8) {
		const double(*in)[GROUP_SERIES] = rw->chunk[r0 / CHUNK_ROWS];

		if (!in)
			continue;
		in += r0 % CHUNK_ROWS;
		for (unsigned col = 0; col < GROUP_SERIES; col++)
			for (size_t r = 0; r < 8; r++)
				c->v[col][r0 + r] = in[r][col];
	}
	*ret_samples = samples;
	return any;
}

static uint32_t head_group(const struct head *h, uint32_t from)
{
	return h && sparse_next(&h->rows, &from) ? from : NO_GROUP;
}

static int head_piece(struct merge *m, uint32_t group, struct piece *p)
{
	uint32_t at[GROUP_SERIES];
	uint64_t samples;
	char *pad;

	p->columns = transpose(sparse_get(&m->h->rows, group), m->h->n, &m->c, &samples);
	m->maker.samples += samples;
	mno_buf_reset(&m->enc);
	for (uint64_t left = p->columns; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		at[c] = (uint32_t)m->enc.len;
		column_encode(m->c.v[c], m->c.present[c], m->h->n, &m->enc);
		p->len[c] = (uint32_t)(m->enc.len - at[c]);
	}
	pad = mno_buf_reserve(&m->enc, 8);
	if (pad)
		memset(pad, 0, 8);
	for (uint64_t left = p->columns; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		p->p[c] = (uint8_t *)m->enc.data + at[c];
	}
	return m->enc.err;
}

/* --- both -------------------------------------------------------------------------------------- */

static int flush(struct merge *m)
{
	size_t n = m->n_parts + (m->h != NULL), bytes;
	const struct window *last = &m->w[n - 1];
	struct mno_seal info = {.kind = MNO_SEAL_BLOCK,
		.count = m->maker.series,
		.a = mno_time_key(last->t[last->n - 1]),
		.b = m->maker.samples};
	uint8_t key[BLOCK_KEY];
	int r;

	if (!m->maker.n_groups)
		return 0;
	for (size_t i = 0; i < m->n_parts; i++) {
		info.b += m->part[i].samples;
		m->part[i].samples = 0;
	}
	r = block_end(&m->maker, m->w);
	if (r < 0)
		return r;
	block_key(key, m->w[0].t[0], m->maker.first);
	r = mno_seal_put(m->to, m->to_db, key, sizeof(key), &info, m->maker.out.data,
		m->maker.out.len, &bytes);
	if (r < 0)
		return r;
	m->s->now.block_bytes += bytes;
	block_begin(&m->maker, n);
	return 0;
}

static int flush_aggs(struct merge *m)
{
	const struct window *last = &m->w[m->n_parts + (m->h != NULL) - 1];
	struct mno_seal info = {.kind = MNO_SEAL_AGG, .a = mno_time_key(last->t[last->n - 1])};
	uint8_t key[BLOCK_KEY];
	size_t bytes;
	int r;

	if (!m->aggs.n_groups)
		return 0;
	block_key(key, m->w[0].t[0], m->aggs.first);
	r = agg_end(&m->aggs);
	if (r == 0)
		r = mno_seal_put(m->to, MNO_DB_AGG, key, sizeof(key), &info, m->aggs.out.data,
			m->aggs.out.len, &bytes);
	agg_begin(&m->aggs);
	return r;
}

/* Of m->piece; a column that cannot be decoded has none, as its samples cannot be read either. */
static void add_aggs(struct merge *m, uint32_t group)
{
	size_t n = m->n_parts + (m->h != NULL);
	const struct window *last = &m->w[n - 1];
	int64_t t[HEAD_ROWS];
	double v[HEAD_ROWS];
	uint16_t idx[HEAD_ROWS];
	struct column col;

	memset(m->agg, 0, sizeof(m->agg));
	for (size_t w = 0; w < n; w++)
		for (uint64_t left = m->piece[w].columns; left; left &= left - 1) {
			unsigned c = (unsigned)__builtin_ctzll(left);

			if (column_decode(
				    m->piece[w].p[c], m->piece[w].len[c], m->w[w].n, &col, v) < 0)
				continue;
			if (!col.map && col.constant) {
				agg_add_same(&m->agg[c], m->w[w].t + col.first, v[0], col.n);
				continue;
			}
			column_ticks(&col, m->w[w].n, idx);
			for (size_t i = 0; i < col.n; i++)
				t[i] = m->w[w].t[idx[i]];
			agg_add(&m->agg[c], t, v, col.n);
		}
	agg_put(&m->aggs, group, m->agg, m->w[0].t[0], last->t[last->n - 1]);
}

/* Fills m->piece with what each window has of @group, and goes on behind it. */
static int take_group(struct merge *m, uint32_t group, uint64_t *ret_any)
{
	uint64_t any = 0;
	int r;

	for (size_t i = 0; i < m->n_parts; i++) {
		struct part *p = &m->part[i];

		m->piece[i].columns = 0;
		if (part_group(p) != group)
			continue;
		r = block_pieces(&p->b, p->at, m->own);
		if (r < 0)
			return r;
		m->piece[i] = m->own[0];
		any |= m->piece[i].columns;
	}
	if (m->h)
		m->piece[m->n_parts].columns = 0;
	if (m->h_group == group) {
		r = head_piece(m, group, &m->piece[m->n_parts]);
		if (r < 0)
			return r;
		any |= m->piece[m->n_parts].columns;
	}
	*ret_any = any;
	return 0;
}

static int skip_group(struct merge *m, uint32_t group)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		int r = part_group(&m->part[i]) == group ? part_skip(m, &m->part[i]) : 0;

		if (r < 0)
			return r;
	}
	if (m->h_group == group)
		m->h_group = head_group(m->h, group + 1);
	return 0;
}

static int merge_groups(struct merge *m)
{
	size_t target = m->to_db == MNO_DB_PACK ? PACK_TARGET : BLOCK_TARGET;
	int r = 0;

	block_begin(&m->maker, m->n_parts + (m->h != NULL));
	agg_begin(&m->aggs);
	while (r == 0) {
		uint32_t group = m->h_group;
		uint64_t any = 0;

		for (size_t i = 0; i < m->n_parts; i++)
			group = MNO_MIN(group, part_group(&m->part[i]));
		if (group == NO_GROUP)
			break;
		r = take_group(m, group, &any);
		if (r == 0 && any)
			block_add(&m->maker, group, m->piece);
		if (r == 0 && any && m->to_db == MNO_DB_PACK)
			add_aggs(m, group);
		/* behind this the pieces are void */
		if (r == 0)
			r = skip_group(m, group);
		if (r == 0 && (m->maker.body.len >= target || m->maker.n_groups == BLOCK_GROUPS))
			r = flush(m);
		if (r == 0 && m->aggs.body.len >= AGG_TARGET)
			r = flush_aggs(m);
	}
	if (r == 0)
		r = flush(m);
	return r < 0 ? r : flush_aggs(m);
}

static int merge_open(struct merge *m, const int64_t *t0, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct part *p = &m->part[i];
		int r;

		p->t0 = t0[i];
		p->end = false;
		block_key(p->key, p->t0, 0);
		r = part_next(m, p, MNO_SEEK_GE);
		if (r < 0)
			return r;
		if (p->end) { /* all of it damaged */
			m->w[i] = (struct window){.n = 1, .t = {p->t0}};
			continue;
		}
		m->w[i] = p->b.w[0];
	}
	m->n_parts = n;
	if (m->h) {
		m->w[n].n = m->h->n;
		memcpy(m->w[n].t, m->h->t, m->h->n * sizeof(*m->h->t));
	}
	m->h_group = head_group(m->h, 0);
	return 0;
}

static int part_clear(struct mno_series *s, struct mno_txn *txn, enum mno_db db)
{
	uint8_t from[BLOCK_KEY] = {0};
	MDB_val k, v;
	int r = block_seek(txn, db, MNO_SEEK_GE, from, &k, &v);

	for (; r == 0; r = block_seek(txn, db, MNO_SEEK_GT, from, &k, &v)) {
		memcpy(from, k.mv_data, BLOCK_KEY);
		s->now.block_bytes -= MNO_MIN(v.mv_size, s->now.block_bytes);
	}
	if (r != -ENOENT)
		return r;
	return mno_txn_error(txn, mdb_drop(txn->t, txn->e->dbi[db], 0));
}

/* @n (none: no windows, only @h) windows of one day at @t0, and @h, into m->to_db. */
static int merge_some(struct merge *m, const int64_t *t0, size_t n)
{
	int r = merge_open(m, t0, n);

	return r < 0 ? r : merge_groups(m);
}

/* What waits, and @h or NULL, into blocks: five windows in each but the last. */
static int merge_all(struct merge *m, const struct head *h, const int64_t *t0, size_t n)
{
	size_t at = 0;
	int r = 0;

	m->to_db = MNO_DB_PACK;
	m->h = NULL;
	for (; r == 0 && n - at > BLOCK_WINDOWS - 1; at += BLOCK_WINDOWS)
		r = merge_some(m, t0 + at, BLOCK_WINDOWS);
	m->h = h;
	if (r == 0 && (at < n || h))
		r = merge_some(m, t0 + at, n - at);
	if (r == 0 && n)
		r = part_clear(m->s, m->from, m->from_db);
	return r;
}

/* Those that an earlier version left in main go to where they belong now. */
static int move_old(struct merge *m, struct mno_txn *txn)
{
	int64_t t0[WINDOWS_MAX];
	size_t n;
	int r;

	m->from = txn;
	m->from_db = MNO_DB_PART;
	r = part_list(txn, MNO_DB_PART, t0, &n);
	if (r < 0 || !n)
		return r;
	r = mno_txn_part(txn, MNO_CLASS_TS, t0[0], &m->to);
	if (r == 0)
		r = stale_drop(m->s, m->to, t0[0]);
	return r < 0 ? r : merge_all(m, NULL, t0, n);
}

static int merge_day(struct merge *m, struct mno_txn *txn, const struct head *h, bool all)
{
	struct mno_series *s = m->s;
	int64_t t0[WINDOWS_MAX];
	size_t n;
	int r = mno_txn_part(txn, MNO_CLASS_TS, h ? h->t[0] : s->part_t0, &m->to);

	if (r == 0 && h)
		r = stale_drop(s, m->to, h->t[0]);
	if (r == 0)
		r = part_list(m->to, MNO_DB_WINDOW, t0, &n);
	if (r < 0)
		return r;
	m->from = m->to;
	m->from_db = MNO_DB_WINDOW;
	if (all || n + 1 >= BLOCK_WINDOWS) {
		r = merge_all(m, h, t0, n);
		if (r == 0)
			s->part_t0 = INT64_MIN;
		return r;
	}
	m->to_db = MNO_DB_WINDOW;
	m->h = h;
	if (n == 0)
		s->part_t0 = h->t[0];
	return merge_some(m, NULL, 0);
}

int merge_windows(struct mno_series *s, struct mno_txn *txn, const struct head *h, bool all)
{
	_cleanup_(merge_free_p)
	struct merge *m = calloc(1, sizeof(*m));
	int r = 0;

	if (!m)
		return -ENOMEM;
	m->s = s;
	if (s->old_part) {
		r = move_old(m, txn);
		if (r == 0 && !h)
			s->part_t0 = INT64_MIN;
	}
	if (r == 0 && (h || s->part_t0 != INT64_MIN))
		r = merge_day(m, txn, h, all);
	return r;
}
