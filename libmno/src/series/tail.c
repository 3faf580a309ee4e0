/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tail: the head's rows on disk, one value per row, each the changes since the row before.
 *   row: (varint group gap, u64 mask of changed columns, per column a token)*
 *   token: varint(zigzag(difference) << 1) between integers, or varint(1) and the 8 bytes
 * A column that had a value in the row before and is not in the mask has the same value again.
 * Right after a seal, the first entry is the last sealed row (flag CARRY): state, no samples.
 */
#include <errno.h>
#include <math.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "mno/log.h"
#include "series_internal.h"

#define CARRY     1
#define INT_LIMIT 4503599627370496.0 /* 2^52 */

static bool as_int(uint64_t bits, int64_t *ret)
{
	double v = of_bits(bits);

	if (!(fabs(v) < INT_LIMIT))
		return false;
	*ret = (int64_t)v;
	return bits_of((double)*ret) == bits;
}

static void put_value(struct mno_buf *out, uint64_t before, uint64_t now)
{
	int64_t a, b;

	if (as_int(before, &a) && as_int(now, &b)) {
		mno_varint_add(out, mno_zigzag(b - a) << 1);
		return;
	}
	mno_varint_add(out, 1);
	mno_buf_add(out, &now, 8);
}

static bool get_value(struct mno_reader *r, uint64_t before, uint64_t *ret)
{
	uint64_t token = mno_read_varint(r);
	int64_t a;

	if (token == 1) {
		*ret = mno_read_u64(r);
		return !r->bad;
	}
	if (token & 1 || r->bad || !as_int(before, &a))
		return false;
	*ret = bits_of((double)(int64_t)((uint64_t)a + (uint64_t)mno_unzigzag(token >> 1)));
	return true;
}

/* Adds one group's changes from @before (where @alive) to @now (where @present). */
static void put_group(struct mno_buf *out, uint32_t group, uint32_t *last, const double *before,
	uint64_t alive, const double *now, uint64_t present)
{
	uint64_t changed = present & ~alive;

	for (uint64_t left = present & alive; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		if (bits_of(before[c]) != bits_of(now[c]))
			changed |= 1ULL << c;
	}
	if (!changed)
		return;
	mno_varint_add(out, group - *last);
	*last = group;
	mno_buf_add(out, &changed, 8);
	for (; changed; changed &= changed - 1) {
		unsigned c = (unsigned)__builtin_ctzll(changed);

		put_value(out, alive >> c & 1 ? bits_of(before[c]) : 0, bits_of(now[c]));
	}
}

static int put_entry(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, uint8_t flags)
{
	struct mno_seal info = {.kind = MNO_SEAL_TAIL, .flags = flags};
	uint8_t key[8];

	if (s->raw.err)
		return s->raw.err;
	mno_be64(key, mno_time_key(t_ms));
	return mno_seal_put(
		txn, MNO_DB_TAIL, key, sizeof(key), &info, s->raw.data, s->raw.len, NULL);
}

int tail_put(struct mno_series *s, struct mno_txn *txn, size_t r, int64_t t_ms)
{
	const struct rows *rw;
	uint32_t last = 0;

	mno_buf_reset(&s->raw);
	SPARSE_EACH(&s->head->rows, no, rw)
	{
		if (rw->present[r + 1])
			put_group(&s->raw, no, &last, rows_before(rw, r), rw->alive, rows_at(rw, r),
				rw->present[r + 1]);
	}
	return put_entry(s, txn, t_ms, 0);
}

int tail_restart(struct mno_series *s, struct mno_txn *txn, const struct head *h)
{
	const struct rows *rw;
	uint32_t last = 0;
	int r;

	r = mno_txn_error(txn, mdb_drop(txn->t, txn->e->dbi[MNO_DB_TAIL], 0));
	if (r < 0)
		return r;
	mno_buf_reset(&s->raw);
	SPARSE_EACH(&h->rows, no, rw)
	{
		if (rw->alive)
			put_group(&s->raw, no, &last, NULL, 0, rows_at(rw, h->n - 1), rw->alive);
	}
	return put_entry(s, txn, h->t[h->n - 1], CARRY);
}

int tail_trim(struct mno_series *s, struct mno_txn *txn)
{
	const struct head *h = s->head;
	int64_t last = h->n ? h->t[h->n - 1] : h->base_t;
	MDB_cursor *c;
	MDB_val k, v;
	int r;

	if (!s->tail_trim)
		return 0;
	r = mno_lmdb_error(mdb_cursor_open(txn->t, txn->e->dbi[MNO_DB_TAIL], &c));
	if (r < 0)
		return r;
	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_LAST))) == 0) {
		if (k.mv_size == 8 && mno_time_unkey(mno_get_be64(k.mv_data)) <= last)
			break;
		r = mno_txn_error(txn, mdb_cursor_del(c, 0));
		if (r < 0)
			break;
	}
	mdb_cursor_close(c);
	if (r < 0 && r != -ENOENT)
		return r;
	s->tail_trim = false;
	return 0;
}

/* --- replay ------------------------------------------------------------------------------------------ */

/* Same values as in the row before for all that were alive. */
static int carry_rows(struct mno_series *s, size_t r)
{
	struct rows *rw;

	SPARSE_EACH(&s->head->rows, no, rw)
	{
		if (!rw->alive)
			continue;
		if (rows_reserve(s, rw, r) < 0)
			return -ENOMEM;
		memcpy(rows_at(rw, r), rows_before(rw, r), GROUP_SERIES * sizeof(double));
		rw->present[r + 1] = rw->alive;
	}
	return 0;
}

static int replay_group(
	struct mno_series *s, struct mno_reader *rd, uint32_t *group, bool carry, size_t r)
{
	uint64_t gap = mno_read_varint(rd), changed = mno_read_u64(rd);
	struct rows *rw;
	double *row;

	if (rd->bad || gap > SERIES_ID_MAX / GROUP_SERIES - *group)
		return -MNO_ECORRUPT;
	*group += (uint32_t)gap;
	if (*group > s->now.next_id / GROUP_SERIES)
		return -MNO_ECORRUPT;
	rw = head_rows(s, *group);
	if (!rw || (!carry && rows_reserve(s, rw, r) < 0))
		return -ENOMEM;
	row = carry ? rw->base : rows_at(rw, r);
	rw->present[carry ? 0 : r + 1] |= changed;
	for (uint64_t left = changed; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);
		uint64_t bits, before = rw->alive >> c & 1 ? bits_of(rows_before(rw, r)[c]) : 0;

		if (!get_value(rd, before, &bits))
			return -MNO_ECORRUPT;
		row[c] = of_bits(bits);
	}
	return 0;
}

static void replay_alive(struct mno_series *s, bool carry, size_t r)
{
	struct rows *rw;

	SPARSE_EACH(&s->head->rows, no, rw)
	{
		if (carry)
			rw->alive = rw->present[0];
		else
			rw->alive = rw->present[r + 1] ? rows_alive_at(rw, r) : 0;
	}
}

/* @r: the row to fill; a damaged entry leaves the head as it was before. */
static int replay_entry(struct mno_series *s, const struct mno_buf *raw, bool carry, int64_t t_ms)
{
	struct mno_reader rd = {.p = (uint8_t *)raw->data, .end = (uint8_t *)raw->data + raw->len};
	struct head *h = s->head;
	size_t r = h->n;
	uint32_t group = 0;
	int err = 0;

	if (carry ? r || h->base_t != INT64_MIN : r == HEAD_ROWS)
		return -MNO_ECORRUPT;
	if (!carry)
		err = carry_rows(s, r);
	while (err == 0 && rd.p < rd.end)
		err = replay_group(s, &rd, &group, carry, r);
	if (err < 0) {
		struct rows *rw;

		SPARSE_EACH(&h->rows, no, rw)
		rw->present[carry ? 0 : r + 1] = 0;
		return err;
	}
	replay_alive(s, carry, r);
	if (carry) {
		h->base_t = t_ms;
	} else {
		h->t[r] = t_ms;
		h->n++;
	}
	return 0;
}

static int replay_value(struct mno_series *s, ZSTD_DCtx *z, struct mno_buf *key,
	struct mno_buf *val, struct mno_buf *raw)
{
	struct mno_seal info;
	int r;

	if (key->len != 8)
		return -MNO_ECORRUPT;
	r = mno_seal_open(s->env->main, MNO_DB_TAIL, z, key->data, key->len, val->data, val->len,
		MNO_SEAL_TAIL, &info, raw);
	if (r < 0)
		return r;
	return replay_entry(
		s, raw, info.flags & CARRY, mno_time_unkey(mno_get_be64((uint8_t *)key->data)));
}

int tail_replay(struct mno_series *s)
{
	_cleanup_buf_ struct mno_buf key = {0}, val = {0}, raw = {0};
	uint8_t from[8] = {0};
	ZSTD_DCtx *z = ZSTD_createDCtx(); /* NULL is slower, no error */
	size_t lost = 0;
	int r;

	r = mno_store_fetch(s->env, MNO_DB_TAIL, MNO_SEEK_GE, from, 8, &key, &val);
	while (r == 0) {
		int err = lost ? -MNO_ECORRUPT : replay_value(s, z, &key, &val, &raw);

		if (err == -ENOMEM || err == -MNO_EVERSION)
			r = err;
		lost += err < 0;
		if (r == 0)
			r = mno_store_fetch(
				s->env, MNO_DB_TAIL, MNO_SEEK_GT, key.data, key.len, &key, &val);
	}
	ZSTD_freeDCtx(z);
	if (r != -ENOENT)
		return r;
	if (lost) {
		/* Rows are told as changes: behind a damaged one nothing can be read. */
		mno_err("series: %zu of the last rows are damaged and left out", lost);
		s->tail_trim = true;
	}
	s->n_committed = s->head->n;
	return 0;
}
