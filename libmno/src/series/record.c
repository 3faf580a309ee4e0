/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the dictionary: those of a group in one sealed value, packed together, as their texts
 * have most in common. Its head tells which ids are in it (a) and which of them are in the head (b).
 *   i64 first, i64 last of each; varint length of each text; the texts
 * A long text has a value of its own in SERIES, and so have records of before there were groups.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "../store/verify.h"
#include "series_internal.h"

#define OWN_TEXT   2048u /* a longer text has its own value: a group is 136 KiB at most */
#define OWN_SEALED 2000u /* a stored value that may be of a shorter one */
#define LEVEL      5

static uint64_t bit(unsigned col)
{
	return 1ULL << col;
}

void records_done(struct records *g)
{
	mno_buf_done(&g->text);
	*g = (struct records){0};
}

/* a: last time, 0 in the head; b: first time, 0 not known */
static void single_times(struct records *g, unsigned col, const struct mno_seal *info)
{
	g->first[col] = info->b ? (int64_t)info->b : INT64_MIN;
	g->last[col] = info->a ? (int64_t)info->a : INT64_MAX;
}

/* --- reading --------------------------------------------------------------------------------------- */

static int decode(struct records *g, const struct mno_seal *info)
{
	struct mno_reader r = {
		.p = (uint8_t *)g->text.data, .end = (uint8_t *)g->text.data + g->text.len};
	size_t at;

	for (uint64_t left = info->a; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		g->first[c] = (int64_t)mno_read_u64(&r);
		g->last[c] = (int64_t)mno_read_u64(&r);
	}
	for (uint64_t left = info->a; left; left &= left - 1) {
		uint64_t len = mno_read_varint(&r);

		g->len[__builtin_ctzll(left)] = (uint32_t)len;
		if (len > OWN_TEXT)
			return -MNO_ECORRUPT;
	}
	at = (size_t)(r.p - (uint8_t *)g->text.data);
	for (uint64_t left = info->a; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		g->at[c] = (uint32_t)at;
		at += g->len[c];
	}
	if (r.bad || at != g->text.len)
		return -MNO_ECORRUPT;
	g->mask = info->a;
	return 0;
}

int records_check(const uint8_t *key, const struct mno_seal *info, const struct mno_buf *raw)
{
	struct records g = {.text = *raw};
	int r = decode(&g, info);

	for (uint64_t left = g.mask; left && r == 0; left &= left - 1) {
		_cleanup_(key_labels_done)
		struct key_labels k = {0};
		unsigned c = (unsigned)__builtin_ctzll(left);

		r = key_parse(raw->data + g.at[c], g.len[c], &k);
	}
	return r == -EINVAL ? -MNO_ECORRUPT : r;
}

static int load_group(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, struct records *g)
{
	struct mno_seal info;
	uint8_t key[4];
	MDB_val k = {sizeof(key), key}, v;
	int r;

	mno_be32(key, g->no);
	r = mno_lmdb_error(mdb_get(t, s->env->main->dbi[MNO_DB_SERIES_GROUP], &k, &v));
	if (r == 0)
		r = mno_seal_open(s->env->main, MNO_DB_SERIES_GROUP, z, key, sizeof(key), v.mv_data,
			v.mv_size, MNO_SEAL_RECORDS, &info, &g->text);
	if (r == 0)
		r = decode(g, &info);
	if (r == -MNO_EVERSION) /* the store is of this version: the byte is damaged */
		r = -MNO_ECORRUPT;
	if (r != -MNO_ECORRUPT)
		return r == -ENOENT ? 0 : r;
	/* which they were can still be told, if the head is whole */
	if (mno_seal_peek(key, sizeof(key), v.mv_data, v.mv_size, MNO_SEAL_RECORDS, &info) < 0)
		info.a = UINT64_MAX;
	g->damaged = info.a;
	mno_buf_reset(&g->text);
	dict_damaged(s, g->no * GROUP_SERIES, g->no * GROUP_SERIES + GROUP_SERIES - 1);
	return 0;
}

/* Those with values of their own. */
static int load_singles(struct mno_series *s, MDB_txn *t, struct records *g)
{
	uint8_t from[4];
	MDB_val k = {sizeof(from), from}, v;
	struct mno_seal info;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(t, s->env->main->dbi[MNO_DB_SERIES], &c));

	if (r < 0)
		return r;
	mno_be32(from, g->no * GROUP_SERIES);
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	for (; r == 0; r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
		uint32_t id = k.mv_size == 4 ? mno_get_be32(k.mv_data) : 0;
		unsigned col = id % GROUP_SERIES;

		if (id / GROUP_SERIES != g->no)
			break;
		if (mno_seal_peek(k.mv_data, 4, v.mv_data, v.mv_size, MNO_SEAL_SERIES, &info) < 0) {
			g->damaged |= bit(col);
			dict_damaged(s, id, id);
			continue;
		}
		single_times(g, col, &info);
		g->single |= bit(col);
		g->small |= v.mv_size <= OWN_SEALED ? bit(col) : 0;
	}
	g->mask &= ~g->single;
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

int records_load(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, uint32_t no, struct records *g)
{
	uint64_t hot;
	int r;

	g->no = no;
	g->txn_id = mdb_txn_id(t);
	g->mask = g->single = g->small = g->damaged = 0;
	g->valid = g->dirty = false;
	mno_buf_reset(&g->text);
	r = load_group(s, t, z, g);
	if (r == 0)
		r = load_singles(s, t, g);
	if (r < 0)
		return r;
	hot = records_hot(g);
	g->was_hot = hot != 0;
	g->valid = true;
	return 0;
}

uint64_t records_hot(const struct records *g)
{
	uint64_t hot = 0;

	for (uint64_t left = records_all(g); left; left &= left - 1)
		if (g->last[__builtin_ctzll(left)] == INT64_MAX)
			hot |= left & -left;
	return hot;
}

int records_key(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, const struct records *g,
	unsigned col, struct mno_buf *raw, struct record *ret)
{
	struct mno_seal info;
	uint8_t id[4];
	MDB_val k = {sizeof(id), id}, v;
	int r;

	*ret = (struct record){.first_ms = g->first[col], .last_ms = g->last[col]};
	if (g->mask & bit(col)) {
		ret->key = g->text.data + g->at[col];
		ret->len = g->len[col];
		return 0;
	}
	if (!(g->single & bit(col)))
		return g->damaged & bit(col) ? -MNO_ECORRUPT : -ENOENT;
	mno_be32(id, g->no * GROUP_SERIES + col);
	r = mno_lmdb_error(mdb_get(t, s->env->main->dbi[MNO_DB_SERIES], &k, &v));
	if (r == 0)
		r = mno_seal_open(s->env->main, MNO_DB_SERIES, z, id, sizeof(id), v.mv_data,
			v.mv_size, MNO_SEAL_SERIES, &info, raw);
	if (r == -MNO_EVERSION) /* the store is of this version: the byte is damaged */
		r = -MNO_ECORRUPT;
	ret->key = raw->data;
	ret->len = raw->len;
	return r;
}

int records_next(struct mno_series *s, MDB_txn *t, uint32_t *no)
{
	static const enum mno_db dbs[] = {MNO_DB_SERIES_GROUP, MNO_DB_SERIES};
	static const uint32_t per[] = {1, GROUP_SERIES};
	uint64_t best = UINT64_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
		uint8_t from[4];
		MDB_val k = {sizeof(from), from}, v;
		MDB_cursor *c;
		int r = mno_lmdb_error(mdb_cursor_open(t, s->env->main->dbi[dbs[i]], &c));

		if (r < 0)
			return r;
		mno_be32(from, *no * per[i]);
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
		if (r == 0 && k.mv_size == 4)
			best = MNO_MIN(best, (uint64_t)(mno_get_be32(k.mv_data) / per[i]));
		mdb_cursor_close(c);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	if (best == UINT64_MAX)
		return -ENOENT;
	*no = (uint32_t)best;
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------------ */

static int single_del(struct mno_txn *txn, struct records *g, unsigned col)
{
	uint8_t id[4];

	mno_be32(id, g->no * GROUP_SERIES + col);
	g->single &= ~bit(col);
	g->small &= ~bit(col);
	return mno_txn_del(txn, MNO_DB_SERIES, id, sizeof(id));
}

static int single_put(
	struct mno_txn *txn, struct records *g, unsigned col, const char *key, size_t len)
{
	struct mno_seal info = {.kind = MNO_SEAL_SERIES};
	uint8_t id[4];

	info.a = g->last[col] == INT64_MAX ? 0 : (uint64_t)(g->last[col] ? g->last[col] : 1);
	info.b = g->first[col] == INT64_MIN ? 0 : (uint64_t)g->first[col];
	mno_be32(id, g->no * GROUP_SERIES + col);
	g->single |= bit(col);
	g->mask &= ~bit(col);
	return mno_seal_put(txn, MNO_DB_SERIES, id, sizeof(id), &info, key, len, NULL);
}

int records_set(struct mno_txn *txn, struct records *g, unsigned col, int64_t first, int64_t last,
	const char *key, size_t len)
{
	int r = 0;

	g->dirty = true;
	g->first[col] = first;
	g->last[col] = last;
	g->damaged &= ~bit(col);
	if (len > OWN_TEXT)
		return single_put(txn, g, col, key, len);
	if (g->single & bit(col))
		r = single_del(txn, g, col);
	if (r < 0 || g->mask & bit(col))
		return r; /* the text of an id never changes */
	g->at[col] = (uint32_t)g->text.len;
	g->len[col] = (uint32_t)len;
	mno_buf_add(&g->text, key, len);
	if (g->text.err)
		return g->text.err;
	g->mask |= bit(col);
	return 0;
}

int records_del(struct mno_txn *txn, struct records *g, unsigned col)
{
	g->dirty = true;
	g->mask &= ~bit(col);
	return g->single & bit(col) ? single_del(txn, g, col) : 0;
}

/* Short ones that still have their own values. */
static int take_singles(struct mno_series *s, struct mno_txn *txn, struct records *g)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	int r = 0;

	for (uint64_t left = g->small; left && r == 0; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);
		struct record rec;

		r = records_key(s, txn->t, s->z, g, col, &raw, &rec);
		if (r == 0 && rec.len <= OWN_TEXT)
			r = records_set(txn, g, col, rec.first_ms, rec.last_ms, rec.key, rec.len);
		r = r == -MNO_ECORRUPT ? 0 : r; /* stays, to be told of */
	}
	return r;
}

static void encode(const struct records *g, struct mno_buf *out)
{
	mno_buf_reset(out);
	for (uint64_t left = g->mask; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		mno_buf_add(out, &g->first[c], 8);
		mno_buf_add(out, &g->last[c], 8);
	}
	for (uint64_t left = g->mask; left; left &= left - 1)
		mno_varint_add(out, g->len[__builtin_ctzll(left)]);
	for (uint64_t left = g->mask; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		mno_buf_add(out, g->text.data + g->at[c], g->len[c]);
	}
}

static int group_put(struct mno_series *s, struct mno_txn *txn, const struct records *g)
{
	struct mno_seal info = {.kind = MNO_SEAL_RECORDS,
		.level = LEVEL,
		.count = (uint32_t)__builtin_popcountll(g->mask),
		.a = g->mask,
		.b = records_hot(g) & g->mask};
	uint8_t key[4];
	int r;

	mno_be32(key, g->no);
	if (!g->mask) {
		r = mno_txn_del(txn, MNO_DB_SERIES_GROUP, key, sizeof(key));
		return r == -ENOENT ? 0 : r;
	}
	encode(g, &s->raw);
	return s->raw.err ? s->raw.err
			  : mno_seal_put(txn, MNO_DB_SERIES_GROUP, key, sizeof(key), &info,
				    s->raw.data, s->raw.len, NULL);
}

int records_sync(struct mno_series *s, struct mno_txn *txn)
{
	struct records *g = &s->edit;
	bool hot;
	uint8_t key[4];
	int r;

	if (!g->valid || !g->dirty || g->txn_id != mdb_txn_id(txn->t))
		return 0;
	r = take_singles(s, txn, g);
	if (r == 0)
		r = group_put(s, txn, g);
	if (r < 0)
		return r;
	hot = records_hot(g) != 0;
	mno_be32(key, g->no);
	if (hot && !g->was_hot)
		r = mno_txn_put(txn, MNO_DB_SERIES_HOT, key, sizeof(key), "", 0);
	else if (!hot && g->was_hot)
		r = mno_txn_del(txn, MNO_DB_SERIES_HOT, key, sizeof(key));
	g->was_hot = hot;
	g->dirty = false;
	return r == -ENOENT ? 0 : r;
}

/* What a damaged value had of series that are in the head is known without it. */
static int restore(struct mno_series *s, struct mno_txn *txn, struct records *g)
{
	const struct group *hg = group_at(s, g->no);
	uint64_t left = hg ? hg->hot_mask & g->damaged : 0;
	_cleanup_buf_ struct mno_buf key = {0};
	int r = 0;

	for (; left && r == 0; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);
		const struct hot *h = hg->hot[col];

		mno_buf_reset(&key);
		hot_key(h, &key);
		r = key.err ? key.err
			    : records_set(txn, g, col, h->first_ms ? h->first_ms : INT64_MIN,
				      INT64_MAX, key.data, key.len);
	}
	return r;
}

int records_edit(struct mno_series *s, struct mno_txn *txn, uint32_t no, struct records **ret)
{
	struct records *g = &s->edit;
	int r;

	*ret = g;
	if (g->valid && g->no == no && g->txn_id == mdb_txn_id(txn->t))
		return 0;
	r = records_sync(s, txn);
	g->valid = false;
	if (r == 0)
		r = records_load(s, txn->t, s->z, no, g);
	return r == 0 && g->damaged ? restore(s, txn, g) : r;
}
