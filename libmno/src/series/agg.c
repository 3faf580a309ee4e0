/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Aggregates beside blocks: what a sum or an increase over long windows needs of a series, so that
 * its samples need not be decoded.
 *   varint groups, per group: varint number (the first) or gap, u64 columns, varint samples of most
 *   per column: u8 flags, [varint samples], [varint resets, number lost], number first,
 *   [last, [lowest, highest], sum], [varint ms of the first after the block's begin, varint ms of
 *   the last before its end]
 *   number: as in number.h; behind the first by the difference from it, the sum by that from the
 *   first one times the samples
 */
#include <errno.h>
#include "mno/err.h"
#include "number.h"

enum {
	AGG_VARIES = 1,
	AGG_RESETS = 2,
	AGG_PARTLY = 4,
	AGG_COUNT = 8,  /* other than of most */
	AGG_RISES = 16, /* the first is the lowest, the last the highest */
	AGG_FLAGS = 31
};

void agg_add(struct mno_agg *a, const int64_t *t, const double *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bits_of(v[i]) == MNO_STALE_BITS)
			continue;
		if (!a->count) {
			*a = (struct mno_agg){.id = a->id,
				.damaged = a->damaged,
				.first_ms = t[i],
				.first = v[i],
				.min = v[i],
				.max = v[i],
				.last = v[i]};
		} else if (v[i] < a->last) {
			a->resets++;
			a->lost += a->last;
		}
		a->min = v[i] < a->min || isnan(a->min) ? v[i] : a->min;
		a->max = v[i] > a->max || isnan(a->max) ? v[i] : a->max;
		a->sum += v[i];
		a->last = v[i];
		a->last_ms = t[i];
		a->count++;
	}
}

void agg_add_same(struct mno_agg *a, const int64_t *t, double v, size_t n)
{
	if (bits_of(v) == MNO_STALE_BITS || n == 0)
		return;
	agg_add(a, t, &v, 1);
	a->count += n - 1;
	a->sum += v * (double)(n - 1);
	a->last_ms = t[n - 1];
}

void agg_join(struct mno_agg *a, const struct mno_agg *next)
{
	struct mno_agg sum = *a;

	if (!next->count)
		return;
	if (!a->count) {
		sum = *next;
		sum.id = a->id;
		sum.damaged = a->damaged;
		*a = sum;
		return;
	}
	sum.resets += next->resets + (next->first < a->last);
	sum.lost += next->lost + (next->first < a->last ? a->last : 0);
	sum.min = next->min < a->min || isnan(a->min) ? next->min : a->min;
	sum.max = next->max > a->max || isnan(a->max) ? next->max : a->max;
	sum.sum += next->sum;
	sum.count += next->count;
	sum.last = next->last;
	sum.last_ms = next->last_ms;
	*a = sum;
}

/* --- as bytes ------------------------------------------------------------------------------------ */

/* No difference: bits of none. */
static const struct number no_number = {.how = HOW_BITS + 1};

/* What a sum is held against: the first one as often as there are samples. */
static struct number number_times(struct number n, uint64_t count)
{
	if (n.how >= HOW_BITS || count > (uint64_t)NUMBER_LIMIT ||
		fabs((double)n.m * (double)count) >= NUMBER_LIMIT)
		return no_number;
	n.m *= (int64_t)count;
	return n;
}

static unsigned flags_of(const struct mno_agg *a, uint64_t most, int64_t t0, int64_t t1)
{
	bool same = bits_of(a->min) == bits_of(a->max) && bits_of(a->first) == bits_of(a->min) &&
		    bits_of(a->last) == bits_of(a->first) &&
		    bits_of(a->sum) == bits_of(a->first * (double)a->count);
	bool rises = !same && bits_of(a->first) == bits_of(a->min) &&
		     bits_of(a->last) == bits_of(a->max);

	return (same ? 0 : AGG_VARIES) | (a->resets ? AGG_RESETS : 0) |
	       (a->first_ms != t0 || a->last_ms != t1 ? AGG_PARTLY : 0) |
	       (a->count != most ? AGG_COUNT : 0) | (rises ? AGG_RISES : 0);
}

static void put_one(
	struct mno_buf *out, const struct mno_agg *a, uint64_t most, int64_t t0, int64_t t1)
{
	unsigned flags = flags_of(a, most, t0, t1);
	struct number first = number_of(a->first);

	mno_buf_addc(out, (char)flags);
	if (flags & AGG_COUNT)
		mno_varint_add(out, a->count);
	if (flags & AGG_RESETS) {
		mno_varint_add(out, a->resets);
		number_put(out, a->lost, no_number);
	}
	number_put(out, a->first, no_number);
	if (flags & AGG_VARIES) {
		number_put(out, a->last, first);
		if (!(flags & AGG_RISES)) {
			number_put(out, a->min, first);
			number_put(out, a->max, first);
		}
		number_put(out, a->sum, number_times(first, a->count));
	}
	if (flags & AGG_PARTLY) {
		mno_varint_add(out, (uint64_t)a->first_ms - (uint64_t)t0);
		mno_varint_add(out, (uint64_t)t1 - (uint64_t)a->last_ms);
	}
}

static void get_values(struct mno_reader *r, unsigned flags, struct mno_agg *a)
{
	struct number first;

	a->first = a->last = a->min = a->max = number_get(r, no_number);
	a->sum = a->first * (double)a->count;
	if (!(flags & AGG_VARIES))
		return;
	first = number_of(a->first);
	a->last = a->max = number_get(r, first);
	if (!(flags & AGG_RISES)) {
		a->min = number_get(r, first);
		a->max = number_get(r, first);
	}
	a->sum = number_get(r, number_times(first, a->count));
}

static bool get_one(struct mno_reader *r, struct mno_agg *a, uint64_t most, int64_t t0, int64_t t1)
{
	unsigned flags = mno_read_u8(r);

	*a = (struct mno_agg){.count = flags & AGG_COUNT ? mno_read_varint(r) : most};
	if (flags & AGG_RESETS) {
		a->resets = mno_read_varint(r);
		a->lost = number_get(r, no_number);
	}
	get_values(r, flags, a);
	a->first_ms = t0;
	a->last_ms = t1;
	if (flags & AGG_PARTLY) {
		a->first_ms = (int64_t)((uint64_t)t0 + mno_read_varint(r));
		a->last_ms = (int64_t)((uint64_t)t1 - mno_read_varint(r));
	}
	return !r->bad && flags <= AGG_FLAGS && a->first_ms >= t0 && a->last_ms <= t1 &&
	       a->first_ms <= a->last_ms;
}

void agg_maker_done(struct agg_maker *m)
{
	mno_buf_done(&m->body);
	mno_buf_done(&m->out);
}

void agg_begin(struct agg_maker *m)
{
	mno_buf_reset(&m->body);
	mno_buf_reset(&m->out);
	m->n_groups = 0;
}

void agg_put(struct agg_maker *m, uint32_t group, const struct mno_agg a[GROUP_SERIES], int64_t t0,
	int64_t t1)
{
	uint64_t columns = 0, most = 0;

	for (unsigned c = 0; c < GROUP_SERIES; c++) {
		columns |= (uint64_t)(a[c].count != 0) << c;
		most = MNO_MAX(most, a[c].count);
	}
	mno_varint_add(&m->body, m->n_groups ? group - m->last : group);
	mno_buf_add(&m->body, &columns, sizeof(columns));
	mno_varint_add(&m->body, most);
	for (unsigned c = 0; c < GROUP_SERIES; c++)
		if (columns >> c & 1)
			put_one(&m->body, &a[c], most, t0, t1);
	if (!m->n_groups++)
		m->first = group;
	m->last = group;
}

int agg_end(struct agg_maker *m)
{
	mno_varint_add(&m->out, m->n_groups);
	mno_buf_add(&m->out, m->body.data, m->body.len);
	return m->body.err ?: m->out.err;
}

int agg_open(struct agg_reader *a, const uint8_t *raw, size_t len, int64_t t0, int64_t t1)
{
	*a = (struct agg_reader){.r = {.p = raw, .end = raw + len}, .t0 = t0, .t1 = t1};
	a->left = mno_read_varint(&a->r);
	return a->r.bad || a->left == 0 ? -MNO_ECORRUPT : 0;
}

int agg_next(struct agg_reader *a, uint32_t *ret_group, uint64_t *ret_columns,
	struct mno_agg ret[GROUP_SERIES])
{
	uint64_t gap, columns, most;

	if (!a->left)
		return a->r.p == a->r.end ? -ENOENT : -MNO_ECORRUPT;
	gap = mno_read_varint(&a->r);
	columns = mno_read_u64(&a->r);
	most = mno_read_varint(&a->r);
	if (a->r.bad || gap > SERIES_ID_MAX / GROUP_SERIES - a->group || (a->begun && !gap))
		return -MNO_ECORRUPT;
	a->begun = true;
	a->group += (uint32_t)gap;
	a->left--;
	for (uint64_t c = columns; c; c &= c - 1)
		if (!get_one(&a->r, &ret[__builtin_ctzll(c)], most, a->t0, a->t1))
			return -MNO_ECORRUPT;
	*ret_group = a->group;
	*ret_columns = columns;
	return 0;
}
