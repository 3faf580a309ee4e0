/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tail: the head's rows on disk, one value per row, each the changes since the row before.
 *   row: (varint group gap, u64 mask of changed columns, per column a token)*
 *   token: varint(zigzag(difference) << 1) between integers, or varint(1) and the 8 bytes
 * A column that had a value in the row before and is not in the mask has the same value again.
 * Row n of the head is in slot n + 1; slot 0 has the last sealed row: state, no samples. After a
 * seal the slots are used again from the first on: what is in a slot counts if its time is after
 * that of the slot before. So the tail keeps its size, frees no more pages than it takes, and its
 * tree stays one page high: a row costs few pages beside its own.
 */
#include <errno.h>
#include <math.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "mno/log.h"
#include "series_internal.h"

#define CARRY     0                  /* slot */
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

static int put_slot(struct mno_series *s, struct mno_txn *txn, uint8_t slot, int64_t t_ms)
{
	struct mno_seal info = {.kind = MNO_SEAL_TAIL, .a = mno_time_key(t_ms)};

	if (s->raw.err)
		return s->raw.err;
	return mno_seal_put(txn, MNO_DB_TAIL, &slot, 1, &info, s->raw.data, s->raw.len, NULL);
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
	return put_slot(s, txn, (uint8_t)(r + 1), t_ms);
}

int tail_restart(struct mno_series *s, struct mno_txn *txn, const struct head *h)
{
	const struct rows *rw;
	uint32_t last = 0;

	mno_buf_reset(&s->raw);
	SPARSE_EACH(&h->rows, no, rw)
	{
		if (rw->alive)
			put_group(&s->raw, no, &last, NULL, 0, rows_at(rw, h->n - 1), rw->alive);
	}
	return put_slot(s, txn, CARRY, h->t[h->n - 1]);
}

int tail_clear(struct mno_series *s, struct mno_txn *txn)
{
	int r = 0;

	for (size_t i = s->head->n; i < HEAD_ROWS && (r == 0 || r == -ENOENT); i++)
		r = mno_txn_del(txn, MNO_DB_TAIL, &(uint8_t){(uint8_t)(i + 1)}, 1);
	return r == -ENOENT ? 0 : r;
}

int tail_trim(struct mno_series *s, struct mno_txn *txn)
{
	int r;

	if (!s->tail_trim)
		return 0;
	r = tail_clear(s, txn);
	if (s->head->base_t == INT64_MIN && r == 0)
		r = mno_txn_del(txn, MNO_DB_TAIL, &(uint8_t){CARRY}, 1);
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

/* What a slot is, by its header. */
enum slot_state { SLOT_NONE, SLOT_OLD, SLOT_ROW, SLOT_DAMAGED };

struct replay {
	struct mno_series *s;
	ZSTD_DCtx *z;
	struct mno_buf val, raw;
	int64_t last; /* time of the row before */
};

static int slot_fetch(struct replay *p, uint8_t slot, enum slot_state *ret, int64_t *ret_t)
{
	struct mno_seal info;
	int r = mno_store_fetch(p->s->env, MNO_DB_TAIL, MNO_SEEK_EQ, &slot, 1, NULL, &p->val);

	*ret = SLOT_NONE;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = mno_seal_peek(&slot, 1, p->val.data, p->val.len, MNO_SEAL_TAIL, &info);
	if (r == -MNO_EVERSION)
		return r;
	*ret_t = r < 0 ? INT64_MIN : mno_time_unkey(info.a);
	*ret = r < 0 ? SLOT_DAMAGED : *ret_t > p->last ? SLOT_ROW : SLOT_OLD;
	return 0;
}

static int slot_replay(struct replay *p, uint8_t slot, int64_t t_ms)
{
	int r = mno_seal_open(p->s->env->main, MNO_DB_TAIL, p->z, &slot, 1, p->val.data, p->val.len,
		MNO_SEAL_TAIL, NULL, &p->raw);

	return r < 0 ? r : replay_entry(p->s, &p->raw, slot == CARRY, t_ms);
}

/* One slot; *@ret_more: the next may have a row. *@lost counts those that cannot be read. */
static int replay_slot(struct replay *p, uint8_t slot, size_t *lost, bool *ret_more)
{
	enum slot_state state;
	int64_t t = INT64_MIN;
	int r = slot_fetch(p, slot, &state, &t);

	*ret_more = slot == CARRY || state == SLOT_ROW || state == SLOT_DAMAGED;
	if (r < 0 || state == SLOT_NONE || state == SLOT_OLD)
		return r;
	if (state == SLOT_ROW && !*lost) {
		r = slot_replay(p, slot, t);
		p->last = r == 0 ? t : p->last;
		if (r == -ENOMEM || r == -MNO_EVERSION)
			return r;
		*lost += r < 0;
		return 0;
	}
	/* Rows are told as changes: behind a damaged one nothing can be read. */
	p->last = MNO_MAX(p->last, t);
	++*lost;
	return 0;
}

int tail_replay(struct mno_series *s)
{
	/* without a context unpacking is slower, no error */
	struct replay p = {.s = s, .z = ZSTD_createDCtx(), .last = INT64_MIN};
	size_t lost = 0;
	bool more = true;
	int r = 0;

	for (unsigned slot = CARRY; slot <= HEAD_ROWS && more && r == 0; slot++)
		r = replay_slot(&p, (uint8_t)slot, &lost, &more);
	ZSTD_freeDCtx(p.z);
	mno_buf_done(&p.val);
	mno_buf_done(&p.raw);
	if (r < 0)
		return r;
	if (lost) {
		mno_err("series: %zu of the last rows are damaged and left out", lost);
		s->env->damaged += lost;
		s->tail_trim = true;
	}
	s->now.samples += head_samples(s->head);
	if (!s->now.first_ms && s->head->n)
		s->now.first_ms = s->head->t[0];
	s->committed = s->now;
	s->n_committed = s->head->n;
	return 0;
}
