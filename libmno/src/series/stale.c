/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a partition got before a crash that main did not: whole windows and blocks that come again,
 * and a block's last windows.
 */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

static int drop_from(struct mno_txn *part, enum mno_db db, int64_t t0)
{
	uint8_t from[BLOCK_KEY];
	MDB_val k, v;
	int r;

	block_key(from, t0, 0);
	while ((r = block_seek(part, db, MNO_SEEK_GE, from, &k, &v)) == 0) {
		r = mno_txn_del(part, db, k.mv_data, k.mv_size);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

/* --- a block that is right up to some window ------------------------------------------------------ */

struct cut {
	struct mno_series *s;
	struct mno_txn *part;
	uint8_t key[BLOCK_KEY];
	struct mno_seal info;
	struct mno_buf raw;
	struct block b;
	struct block_maker maker;
	struct piece piece[BLOCK_WINDOWS];
	double v[HEAD_ROWS];
	size_t keep; /* windows */
};

static void cut_free(struct cut *c)
{
	mno_buf_done(&c->raw);
	block_maker_done(&c->maker);
	free(c);
}
MNO_DEFINE_CLEANUP(struct cut *, cut_free)

/* Samples in a group's windows that go. */
static uint64_t count_gone(struct cut *c)
{
	struct column col;
	uint64_t n = 0;

	for (size_t w = c->keep; w < c->b.n_windows; w++)
		for (uint64_t left = c->piece[w].columns; left; left &= left - 1) {
			unsigned i = (unsigned)__builtin_ctzll(left);

			if (column_decode(c->piece[w].p[i], c->piece[w].len[i], c->b.w[w].n, &col,
				    c->v) == 0)
				n += col.n;
		}
	return n;
}

static int cut_groups(struct cut *c)
{
	uint64_t gone = 0;

	block_begin(&c->maker, c->keep);
	for (size_t i = 0; i < c->b.n_groups; i++) {
		int r = block_pieces(&c->b, i, c->piece);
		uint64_t any = 0;

		if (r < 0)
			return r;
		gone += count_gone(c);
		for (size_t w = 0; w < c->keep; w++)
			any |= c->piece[w].columns;
		if (any)
			block_add(&c->maker, c->b.g[i].group, c->piece);
	}
	c->info.b -= MNO_MIN(gone, c->info.b);
	return 0;
}

static int cut_put(struct cut *c)
{
	const struct window *last = &c->b.w[c->keep - 1];
	uint8_t key[BLOCK_KEY];
	int r = mno_txn_del(c->part, MNO_DB_PACK, c->key, sizeof(c->key));

	if (r < 0 || !c->maker.n_groups)
		return r;
	c->info.count = c->maker.series;
	c->info.a = mno_time_key(last->t[last->n - 1]);
	r = block_end(&c->maker, c->b.w);
	block_key(key, block_key_time(c->key), c->maker.first);
	return r < 0 ? r
		     : mno_seal_put(c->part, MNO_DB_PACK, key, sizeof(key), &c->info,
			       c->maker.out.data, c->maker.out.len, NULL);
}

/* A damaged one stays: reads tell of it. */
static int cut_block(struct cut *c, const MDB_val *v, int64_t t_ms)
{
	int r = mno_seal_open(c->part->e, MNO_DB_PACK, c->s->z, c->key, BLOCK_KEY, v->mv_data,
		v->mv_size, MNO_SEAL_BLOCK, &c->info, &c->raw);

	if (r == 0)
		r = block_open((uint8_t *)c->raw.data, c->raw.len, &c->b);
	for (c->keep = 0; r == 0 && c->keep < c->b.n_windows; c->keep++)
		if (c->b.w[c->keep].t[0] >= t_ms)
			break;
	if (r == 0 && (c->keep == 0 || c->keep == c->b.n_windows))
		return 0;
	if (r == 0)
		r = cut_groups(c);
	if (r == 0)
		r = cut_put(c);
	return r == -MNO_ECORRUPT ? 0 : r;
}

static int cut_set(struct mno_series *s, struct mno_txn *part, int64_t t0, int64_t t_ms)
{
	_cleanup_(cut_free_p)
	struct cut *c = calloc(1, sizeof(*c));
	MDB_val k, v;
	int r;

	if (!c)
		return -ENOMEM;
	c->s = s;
	c->part = part;
	block_key(c->key, t0, 0);
	r = block_seek(part, MNO_DB_PACK, MNO_SEEK_GE, c->key, &k, &v);
	while (r == 0 && block_key_time(k.mv_data) == t0) {
		memcpy(c->key, k.mv_data, BLOCK_KEY);
		r = cut_block(c, &v, t_ms);
		if (r == 0)
			r = block_seek(part, MNO_DB_PACK, MNO_SEEK_GT, c->key, &k, &v);
	}
	/* reads take the blocks where aggregates are not */
	return r < 0 && r != -ENOENT ? r : drop_from(part, MNO_DB_AGG, t0);
}

/* Sets that reach beyond @t_ms. Windows of a damaged block are sets of their own: some are looked at. */
static int cut_sets(struct mno_series *s, struct mno_txn *part, int64_t t_ms)
{
	uint8_t from[BLOCK_KEY];
	struct mno_seal info;
	MDB_val k, v;
	int r = 0;

	block_key(from, t_ms, 0);
	for (size_t i = 0; i <= BLOCK_WINDOWS && r == 0; i++) {
		r = block_seek(part, MNO_DB_PACK, MNO_SEEK_LT, from, &k, &v);
		if (r < 0)
			break;
		block_key(from, block_key_time(k.mv_data), 0);
		if (mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size, MNO_SEAL_BLOCK,
			    &info) == 0 &&
			mno_time_unkey(info.a) >= t_ms)
			r = cut_set(s, part, block_key_time(from), t_ms);
	}
	return r == -ENOENT ? 0 : r;
}

int stale_drop(struct mno_series *s, struct mno_txn *part, int64_t t_ms)
{
	static const enum mno_db dbs[] = {MNO_DB_WINDOW, MNO_DB_PACK, MNO_DB_AGG};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dbs) && r == 0; i++)
		r = drop_from(part, dbs[i], t_ms);
	return r < 0 ? r : cut_sets(s, part, t_ms);
}
