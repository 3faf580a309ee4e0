/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tail: the head's rows on disk, one value per row, each the changes since the row before.
 *   row: varint bytes of heads, heads, per head and changed column a number (number.h), by its
 *   difference from the row before
 *   head: varint group gap, u64 mask of changed columns
 * A column that had a value in the row before and is not in the mask has the same value again.
 * Row n of the head is in slot n + 1; slot 0 has the last sealed row: state, no samples. After a
 * seal the slots are used again from the first on: what is in a slot counts if its time is after
 * that of the slot before. So the tail keeps its size, frees no more pages than it takes, and its
 * tree stays one page high: a row costs few pages beside its own.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "number.h"

#define CARRY 0 /* slot */

/* What a column without a value before is held against. */
static const struct number nothing = {.how = HOW_INT};

/* Adds one group's changes from @before (where @alive) to @now (where @present). */
static void put_group(struct tail_row *out, uint32_t group, const double *before, uint64_t alive,
	const double *now, uint64_t present)
{
	uint64_t changed = present & ~alive;

	for (uint64_t left = present & alive; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		if (bits_of(before[c]) != bits_of(now[c]))
			changed |= 1ULL << c;
	}
	if (!changed)
		return;
	mno_varint_add(&out->heads, group - out->last);
	out->last = group;
	mno_buf_add(&out->heads, &changed, 8);
	for (; changed; changed &= changed - 1) {
		unsigned c = (unsigned)__builtin_ctzll(changed);

		number_put(&out->numbers, now[c], alive >> c & 1 ? number_of(before[c]) : nothing);
	}
}

static void row_begin(struct tail_row *row)
{
	mno_buf_reset(&row->heads);
	mno_buf_reset(&row->numbers);
	row->last = 0;
}

static int put_slot(struct mno_series *s, struct mno_txn *txn, uint8_t slot, int64_t t_ms)
{
	struct mno_seal info = {.kind = MNO_SEAL_TAIL, .a = mno_time_key(t_ms)};
	struct tail_row *row = &s->row;

	mno_buf_reset(&s->raw);
	mno_varint_add(&s->raw, row->heads.len);
	mno_buf_add(&s->raw, row->heads.data, row->heads.len);
	mno_buf_add(&s->raw, row->numbers.data, row->numbers.len);
	if (row->heads.err || row->numbers.err || s->raw.err)
		return -ENOMEM;
	return mno_seal_put(txn, MNO_DB_TAIL, &slot, 1, &info, s->raw.data, s->raw.len, NULL);
}

int tail_put(struct mno_series *s, struct mno_txn *txn, size_t r, int64_t t_ms)
{
	const struct rows *rw;

	row_begin(&s->row);
	SPARSE_EACH(&s->head->rows, no, rw)
	{
		if (rw->present[r + 1])
			put_group(&s->row, no, rows_before(rw, r), rw->alive, rows_at(rw, r),
				rw->present[r + 1]);
	}
	return put_slot(s, txn, (uint8_t)(r + 1), t_ms);
}

int tail_restart(struct mno_series *s, struct mno_txn *txn, const struct head *h)
{
	const struct rows *rw;

	row_begin(&s->row);
	SPARSE_EACH(&h->rows, no, rw)
	{
		if (rw->alive)
			put_group(&s->row, no, NULL, 0, rows_at(rw, h->n - 1), rw->alive);
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

static int replay_group(struct mno_series *s, struct mno_reader *heads, struct mno_reader *rd,
	uint32_t *group, bool carry, size_t r)
{
	uint64_t gap = mno_read_varint(heads), changed = mno_read_u64(heads);
	struct rows *rw;
	double *row;

	if (heads->bad || gap > SERIES_ID_MAX / GROUP_SERIES - *group)
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
		row[c] = number_get(
			rd, rw->alive >> c & 1 ? number_of(rows_before(rw, r)[c]) : nothing);
	}
	return rd->bad ? -MNO_ECORRUPT : 0;
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
	struct mno_reader heads = {0};
	struct head *h = s->head;
	size_t r = h->n;
	uint32_t group = 0;
	uint64_t n;
	int err = 0;

	n = mno_read_varint(&rd);
	heads.p = mno_read_bytes(&rd, n);
	if (!heads.p)
		return -MNO_ECORRUPT;
	heads.end = heads.p + n;
	if (carry ? r || h->base_t != INT64_MIN : r == HEAD_ROWS)
		return -MNO_ECORRUPT;
	if (!carry)
		err = carry_rows(s, r);
	while (err == 0 && heads.p < heads.end)
		err = replay_group(s, &heads, &rd, &group, carry, r);
	if (err == 0 && rd.p != rd.end)
		err = -MNO_ECORRUPT;
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
