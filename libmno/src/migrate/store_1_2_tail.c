/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last rows of format 1: one value for each, under its time, told as the changes since the row
 * before; up to 256, in front of them maybe the last sealed row (CARRY: state, no samples).
 *   row: (varint group gap, u64 mask of changed columns, per column a token)*
 *   token: varint(zigzag(difference) << 1) between integers, or varint(1) and the 8 bytes
 * Here they are appended one after the other. Memory: two rows of all series in them.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "../store/codec.h"
#include "migrate_internal.h"
#include "mno/err.h"

#define CARRY     1                  /* flag of a value */
#define INT_LIMIT 4503599627370496.0 /* 2^52 */

struct cells {
	uint64_t present; /* in this row */
	uint64_t alive;   /* in it, and no staleness mark */
	uint64_t lost;    /* their series has no record that can be read */
	uint64_t bits[GROUP_SERIES];
};

struct tail_1 {
	struct migrate *m;
	struct mno_series *s;
	struct mno_txn *txn;
	struct sparse cells; /* struct cells by group */
	size_t rows;
	uint32_t *ids;
	double *v;
	size_t cap;
};

static void tail_1_done(struct tail_1 *t)
{
	struct cells *c;

	SPARSE_EACH(&t->cells, no, c)
	free(c);
	sparse_done(&t->cells);
	free(t->ids);
	free(t->v);
}

/* --- one value -------------------------------------------------------------------------------- */

static bool get_value(struct mno_reader *r, uint64_t before, uint64_t *ret)
{
	uint64_t token = mno_read_varint(r);
	double v = of_bits(before);

	if (token == 1) {
		*ret = mno_read_u64(r);
		return !r->bad;
	}
	if (token & 1 || r->bad || !(fabs(v) < INT_LIMIT) || bits_of((double)(int64_t)v) != before)
		return false;
	*ret = bits_of(
		(double)(int64_t)((uint64_t)(int64_t)v + (uint64_t)mno_unzigzag(token >> 1)));
	return true;
}

static struct cells *cells_of(struct tail_1 *t, uint32_t group)
{
	struct cells *c = sparse_get(&t->cells, group);

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (c && sparse_put(&t->cells, group, c) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

static int read_group(struct tail_1 *t, struct mno_reader *rd, uint32_t *group)
{
	uint64_t gap = mno_read_varint(rd), changed = mno_read_u64(rd);
	struct cells *c;

	if (rd->bad || gap > SERIES_ID_MAX / GROUP_SERIES - *group)
		return -MNO_ECORRUPT;
	*group += (uint32_t)gap;
	if (*group > t->s->now.next_id / GROUP_SERIES)
		return -MNO_ECORRUPT;
	c = cells_of(t, *group);
	if (!c)
		return -ENOMEM;
	c->present |= changed;
	for (; changed; changed &= changed - 1) {
		unsigned col = (unsigned)__builtin_ctzll(changed);

		if (!get_value(rd, c->alive >> col & 1 ? c->bits[col] : 0, &c->bits[col]))
			return -MNO_ECORRUPT;
	}
	return 0;
}

static void end_row(struct tail_1 *t)
{
	struct cells *c;

	SPARSE_EACH(&t->cells, no, c)
	{
		c->alive = c->present;
		for (uint64_t left = c->present; left; left &= left - 1)
			if (c->bits[__builtin_ctzll(left)] == MNO_STALE_BITS)
				c->alive &= ~(left & -left);
	}
}

/* What is not told is as in the row before. */
static int read_row(struct tail_1 *t, const struct mno_buf *raw)
{
	struct mno_reader rd = {.p = (uint8_t *)raw->data, .end = (uint8_t *)raw->data + raw->len};
	struct cells *c;
	uint32_t group = 0;
	int r = 0;

	SPARSE_EACH(&t->cells, no, c)
	c->present = c->alive;
	while (rd.p < rd.end && r == 0)
		r = read_group(t, &rd, &group);
	return r;
}

/* --- into the new form ------------------------------------------------------------------------ */

/* Samples of a series without a record can be found by nobody. */
static int admit(struct tail_1 *t, uint32_t no, struct cells *c)
{
	for (uint64_t left = c->present & ~c->lost; left; left &= left - 1) {
		uint32_t id = no * GROUP_SERIES + (uint32_t)__builtin_ctzll(left);
		int r = id && id < t->s->now.next_id ? series_admit(t->s, t->txn, id) : -ENOENT;

		if (r == -ENOENT || r == -MNO_ECORRUPT) {
			c->lost |= left & -left;
			t->m->c.damaged++;
		} else if (r < 0) {
			return r;
		}
	}
	c->present &= ~c->lost;
	return 0;
}

static int reserve(struct tail_1 *t)
{
	size_t cap = t->cells.n * GROUP_SERIES + 1;
	uint32_t *ids;
	double *v;

	if (cap <= t->cap)
		return 0;
	ids = reallocarray(t->ids, cap, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	t->ids = ids;
	v = reallocarray(t->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	t->v = v;
	t->cap = cap;
	return 0;
}

static int put_row(struct tail_1 *t, int64_t t_ms)
{
	struct sum *sum = &t->m->c.sum[SUM_SAMPLES];
	struct cells *c;
	size_t n = 0;
	int r = reserve(t);

	if (r < 0)
		return r;
	SPARSE_EACH(&t->cells, no, c)
	{
		r = admit(t, no, c);
		if (r < 0)
			return r;
		for (uint64_t left = c->present; left; left &= left - 1) {
			unsigned col = (unsigned)__builtin_ctzll(left);

			t->ids[n] = no * GROUP_SERIES + col;
			t->v[n] = of_bits(c->bits[col]);
			sum_sample(sum, sum_seed(t->ids[n]), t_ms, t->v[n]);
			n++;
		}
	}
	t->m->c.done += n;
	t->rows++;
	return mno_series_append(t->s, t->txn, t_ms, t->ids, t->v, n);
}

/* As after a seal: what the next row is compared with, and series that end in it. */
static int put_carry(struct tail_1 *t, int64_t t_ms)
{
	struct head *h = t->s->head;
	struct cells *c;
	int r;

	SPARSE_EACH(&t->cells, no, c)
	{
		struct rows *rw;

		r = admit(t, no, c);
		rw = r == 0 ? head_rows(t->s, no) : NULL;
		if (!rw || rows_reserve(t->s, rw, 0) < 0)
			return r < 0 ? r : -ENOMEM;
		memcpy(rw->base, c->bits, sizeof(rw->base));
		memcpy(rows_at(rw, 0), c->bits, sizeof(rw->base));
		rw->alive = rw->present[0] = c->present;
	}
	h->n = 1; /* what is put is the last row of a head */
	h->t[0] = t_ms;
	r = tail_restart(t->s, t->txn, h);
	h->n = 0;
	h->base_t = t_ms;
	return r;
}

static int read_value(struct tail_1 *t, const MDB_val *k, const MDB_val *v, bool *ret_carry)
{
	struct old_1 *o = t->m->old;
	struct mno_seal info;
	int r = k->mv_size == 8 ? mno_seal_open(NULL, MNO_DB_TAIL, o->z, k->mv_data, 8, v->mv_data,
					  v->mv_size, MNO_SEAL_TAIL, &info, &o->raw)
				: -MNO_ECORRUPT;

	if (r < 0)
		return r;
	*ret_carry = info.flags & CARRY;
	if (*ret_carry && (t->rows || t->s->head->base_t != INT64_MIN))
		return -MNO_ECORRUPT;
	return read_row(t, &o->raw);
}

static int carry_values(struct tail_1 *t, MDB_cursor *c)
{
	bool bad = false, carry = false;
	MDB_val k, v;
	int r;

	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
		/* rows are told as changes: behind a damaged one there is nothing to be read */
		if (!bad)
			r = read_value(t, &k, &v, &carry);
		bad |= r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY;
		t->m->c.damaged += bad;
		t->m->c.bytes += v.mv_size;
		if (bad)
			continue;
		if (r == 0)
			r = (carry ? put_carry : put_row)(
				t, mno_time_unkey(mno_get_be64(k.mv_data)));
		if (r < 0)
			break;
		end_row(t);
	}
	return r == -ENOENT ? 0 : r;
}

int tail_1_append(struct migrate *m, struct mno_series *s, struct mno_txn *txn)
{
	struct tail_1 t = {.m = m, .s = s, .txn = txn};
	struct old_1 *o = m->old;
	MDB_cursor *c;
	int r;

	if (!o->has[MNO_DB_TAIL])
		return 0;
	r = mno_lmdb_error(mdb_cursor_open(o->t, o->dbi[MNO_DB_TAIL], &c));
	if (r < 0)
		return r;
	r = carry_values(&t, c);
	mdb_cursor_close(c);
	tail_1_done(&t);
	return r;
}
