/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows that are made again: late samples touched them, or their stored value is damaged. What
 * waits is a row of ROLL_LATE; of what is damaged it comes last, so that it finds a tier below that
 * has what was late. A stored value is never replaced by one with less in it: samples may be gone by
 * retention, or be damaged, too.
 */
#include <errno.h>
#include "../store/quarantine.h"
#include "../store/verify.h"
#include "mno/err.h"
#include "mno/log.h"
#include "rollup_internal.h"

#define LATE_KEY 13    /* tier u8 | t0 u64 | group u32 */
#define DAMAGED  0x80u /* with the tier: the value with this key is */

int rollup_mark_all(struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n)
{
	int64_t end = INT64_MIN; /* of the shortest window; longer ones end with one of them */

	for (size_t i = 0; i < n; i++) {
		int r;

		if (v[i].t_ms < end)
			continue;
		r = mno_rollup_mark(s, txn, v[i].id, v[i].t_ms);
		if (r < 0)
			return r;
		end = roll_window_of(MNO_TIER_10S, v[i].t_ms) + roll_window_len(MNO_TIER_10S);
	}
	return 0;
}

int mno_rollup_mark(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms)
{
	uint8_t key[LATE_KEY];
	int r = 0;

	for (unsigned t = 0; s->rollup && t < MNO_TIER_MAX && r == 0; t++) {
		if (t_ms >= s->rollup->tier[t].until)
			continue; /* not made yet */
		key[0] = (uint8_t)t;
		mno_be64(key + 1, mno_time_key(roll_window_of(t, t_ms)));
		mno_be32(key + 9, id / GROUP_SERIES);
		r = mno_txn_put(txn, MNO_DB_ROLL_LATE, key, sizeof(key), "", 0);
	}
	return r;
}

int rollup_damaged(struct mno_txn *txn, enum mno_db db, const void *key, size_t klen)
{
	uint8_t row[LATE_KEY];

	for (unsigned t = 0; t < MNO_TIER_MAX; t++) {
		if (roll_tiers[t].db != db || klen != ROLL_KEY)
			continue;
		row[0] = (uint8_t)(DAMAGED | t);
		memcpy(row + 1, key, ROLL_KEY);
		return mno_txn_put(txn, MNO_DB_ROLL_LATE, row, sizeof(row), "", 0);
	}
	return -EINVAL;
}

/* --- what is stored -------------------------------------------------------------------------- */

/* The value that has a group, or would. */
struct stored {
	bool there;
	bool known; /* its head is whole */
	uint32_t first, last;
	uint64_t points;
	struct mno_buf bytes;
};

/* Its key begins with group @group, or with one before. */
static int stored_get(struct mno_txn *part, enum mno_db db, int64_t t0, uint32_t group, bool exact,
	struct stored *ret)
{
	uint8_t key[ROLL_KEY];
	struct mno_seal info;
	MDB_cursor *c;
	MDB_val k = {ROLL_KEY, key}, v;
	int r = mno_lmdb_error(mdb_cursor_open(part->t, part->e->dbi[db], &c));

	if (r < 0)
		return r;
	roll_key(key, group, t0);
	r = mno_lmdb_error(mno_cursor_seek(c, exact ? MNO_SEEK_EQ : MNO_SEEK_LE, &k, &v));
	if (r == 0 && k.mv_size == ROLL_KEY && memcmp(k.mv_data, key, 8) == 0) {
		ret->first = ret->last = mno_get_be32((uint8_t *)k.mv_data + 8);
		ret->known = mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size,
				     MNO_SEAL_ROLL, &info) == 0;
		if (ret->known) {
			ret->last = (uint32_t)info.a;
			ret->points = info.b;
		}
		ret->there = !ret->known || group <= ret->last;
		mno_buf_add(&ret->bytes, v.mv_data, v.mv_size);
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r < 0 ? r : ret->bytes.err;
}

static int group_ids(uint32_t first, uint32_t last, struct mno_ids *ret)
{
	ret->v = malloc(((size_t)last - first + 1) * GROUP_SERIES * sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (uint32_t i = first * GROUP_SERIES; i <= last * GROUP_SERIES + GROUP_SERIES - 1; i++)
		if (i)
			ret->v[ret->n++] = i;
	return 0;
}

/* Makes the window of the groups again, in s->raw; *@ret_whole: with all that was in @is. */
static int make_again(struct mno_series *s, enum mno_tier t, int64_t t0, const struct stored *is,
	struct roll_value *ret, bool *ret_whole)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	int r = group_ids(is->first, is->last, &ids);

	if (r == 0)
		r = roll_value_make(s, t, t0, ids.v, ids.n, true, ret);
	*ret_whole = r == 0 &&
		     (!is->there || (is->known && !ret->damaged && ret->groups &&
					    ret->first == is->first && ret->points >= is->points));
	return r;
}

/* Puts what make_again() made; what was damaged goes into the list of quarantine, as rebuilt. */
static int put_again(struct mno_series *s, struct mno_txn *txn, struct mno_txn *part,
	enum mno_tier t, int64_t t0, const struct stored *is, const struct roll_value *v)
{
	uint8_t key[ROLL_KEY];
	int r;

	roll_key(key, is->first, t0);
	r = mno_quarantine_rebuilt(
		part, roll_tiers[t].db, key, sizeof(key), is->bytes.data, is->bytes.len);
	return r < 0 ? r : roll_value_put(s, txn, t, t0, v);
}

static bool too_wide(const struct stored *is)
{
	return is->known && is->last - is->first >= ROLL_GROUPS * 64;
}

/* --- late samples ---------------------------------------------------------------------------- */

static int remake_late(struct mno_series *s, struct mno_txn *txn, struct mno_txn *part,
	enum mno_tier t, int64_t t0, uint32_t group, struct stored *is)
{
	struct roll_value v;
	bool whole;
	int r = stored_get(part, roll_tiers[t].db, t0, group, false, is);

	if (r < 0)
		return r;
	if (is->there && !is->known && is->first == group)
		return 0; /* what it has cannot be told; whoever reads it reports it */
	if (!is->there || !is->known || too_wide(is)) {
		is->there = false;
		is->first = is->last = group;
	}
	s->rollup->tier[t].remade++;
	r = make_again(s, t, t0, is, &v, &whole);
	if (r < 0 || !whole)
		return r;
	return is->there && mno_seal_is_mark(roll_tiers[t].db, is->bytes.data, is->bytes.len)
		       ? put_again(s, txn, part, t, t0, is, &v)
		       : roll_value_put(s, txn, t, t0, &v);
}

/* --- damage ---------------------------------------------------------------------------------- */

static bool is_damaged(struct mno_series *s, struct mno_txn *part, enum mno_tier t, int64_t t0,
	const struct stored *is)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	struct mno_seal info;
	uint8_t key[ROLL_KEY];
	int r;

	roll_key(key, is->first, t0);
	r = mno_seal_open(part->e, roll_tiers[t].db, s->z, key, sizeof(key), is->bytes.data,
		is->bytes.len, MNO_SEAL_ROLL, &info, &raw);
	return r == -MNO_ECORRUPT || r == -MNO_EVERSION;
}

static int remake_damaged(struct mno_series *s, struct mno_txn *txn, struct mno_txn *part,
	enum mno_tier t, int64_t t0, uint32_t group, struct stored *is)
{
	struct roll_value v;
	uint8_t key[ROLL_KEY];
	bool whole = false;
	int r = stored_get(part, roll_tiers[t].db, t0, group, true, is);

	if (r < 0 || !is->there || !is_damaged(s, part, t, t0, is))
		return r;
	if (is->known && !too_wide(is))
		r = make_again(s, t, t0, is, &v, &whole);
	if (r < 0)
		return r;
	if (whole)
		return put_again(s, txn, part, t, t0, is, &v);
	roll_key(key, group, t0);
	return mno_quarantine_move(part, roll_tiers[t].db, key, sizeof(key),
		is->known ? "; not rebuilt: what it was made from is not all there"
			  : "; not rebuilt: its head is damaged, too");
}

/* What retention has taken meanwhile is not made again for what was damaged in it. */
static bool is_gone(struct mno_series *s, enum mno_tier t, int64_t t0)
{
	struct mno_env *e;
	int r = mno_store_env(s->env, roll_tiers[t].class, t0, false, &e);

	if (r == 0)
		mno_env_unref(e);
	return r == -ENOENT;
}

/* --- one step -------------------------------------------------------------------------------- */

static int first_late(struct mno_txn *txn, uint8_t key[LATE_KEY])
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, txn->e->dbi[MNO_DB_ROLL_LATE], &c));

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));
	if (r == 0 && k.mv_size == LATE_KEY)
		memcpy(key, k.mv_data, LATE_KEY);
	else if (r == 0)
		r = -MNO_ECORRUPT;
	mdb_cursor_close(c);
	return r;
}

static int remake(struct mno_series *s, struct mno_txn *txn, const uint8_t key[LATE_KEY])
{
	enum mno_tier t = key[0] & ~DAMAGED;
	int64_t t0 = mno_time_unkey(mno_get_be64(key + 1));
	uint32_t group = mno_get_be32(key + 9);
	struct stored is = {0};
	struct mno_txn *part;
	int r;

	if (t >= MNO_TIER_MAX || group > SERIES_ID_MAX / GROUP_SERIES ||
		(key[0] & DAMAGED && is_gone(s, t, t0)))
		return 0;
	r = mno_txn_part(txn, roll_tiers[t].class, t0, &part);
	if (r == 0)
		r = (key[0] & DAMAGED ? remake_damaged : remake_late)(
			s, txn, part, t, t0, group, &is);
	mno_buf_done(&is.bytes);
	return r;
}

int rollup_remake(struct mno_series *s, struct mno_txn *txn, uint8_t *tier)
{
	uint8_t key[LATE_KEY];
	int r = first_late(txn, key);

	if (r < 0)
		return r;
	if (*tier == MNO_TIER_MAX)
		*tier = key[0];
	if (*tier != key[0])
		return -ENOENT;
	r = remake(s, txn, key);
	return r < 0 ? r : mno_txn_del(txn, MNO_DB_ROLL_LATE, key, sizeof(key));
}
