/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window of rollups as bytes:
 *   u8 version, u16 points, u64 columns, then per column: varint length and
 *     u8 flags, the counts, then each field that is there, only of points with a count:
 *     last; first as last - first; min as min(first, last) - min; max as max - max(first, last);
 *     sum as sum - count * last; resets
 * A field is given as such a difference only if that gives back its very bits, and left out if all
 * differences are 0: constant series cost next to nothing.
 */
#include <errno.h>
#include <math.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "rollup_internal.h"

#define VERSION 1

enum field { F_FIRST, F_MIN, F_MAX, F_SUM, F_RESETS, F_MAX_FIELD };
/* Two bits of flags for each field. */
enum form { FORM_NONE, FORM_DIFF, FORM_RAW, FORM_BAD };

void roll_begin(struct roll *r, size_t n_points)
{
	r->n_points = n_points;
	r->columns = 0;
}

static void point_open(struct roll *r, unsigned col, size_t at, double v)
{
	r->count[col][at] = 1;
	r->sum[col][at] = v;
	r->min[col][at] = r->max[col][at] = r->first[col][at] = r->last[col][at] = v;
	r->resets[col][at] = 0;
}

static void point_add(struct roll *r, unsigned col, size_t at, double v)
{
	double last = r->last[col][at];

	r->count[col][at]++;
	r->sum[col][at] += v;
	if (v < r->min[col][at] || isnan(r->min[col][at]))
		r->min[col][at] = v;
	if (v > r->max[col][at] || isnan(r->max[col][at]))
		r->max[col][at] = v;
	if (v < last)
		r->resets[col][at] += last - v;
	r->last[col][at] = v;
}

void roll_add(struct roll *r, unsigned col, int64_t t0, int64_t step, const int64_t *t,
	const double *v, size_t n)
{
	uint64_t bit = 1ULL << col;

	if (!(r->columns & bit)) {
		memset(r->count[col], 0, sizeof(r->count[col]));
		r->columns |= bit;
	}
	for (size_t i = 0; i < n; i++) {
		int64_t at = t[i] - t0;

		if (at < 0 || at >= step * (int64_t)r->n_points || bits_of(v[i]) == MNO_STALE_BITS)
			continue;
		at /= step;
		if (r->count[col][at] == 0)
			point_open(r, col, (size_t)at, v[i]);
		else
			point_add(r, col, (size_t)at, v[i]);
	}
}

/* --- fields and differences ------------------------------------------------------------------ */

/* What a field is told as a difference to, and the way back. */
static double base_of(enum field f, const struct mno_rollup *p)
{
	switch (f) {
	case F_FIRST:
		return p->last;
	case F_MIN:
		return p->first < p->last ? p->first : p->last;
	case F_MAX:
		return p->first > p->last ? p->first : p->last;
	case F_SUM:
		return p->count * p->last;
	default:
		return 0;
	}
}

static double *field_of(enum field f, struct mno_rollup *p)
{
	double *const fields[F_MAX_FIELD] = {
		[F_FIRST] = &p->first,
		[F_MIN] = &p->min,
		[F_MAX] = &p->max,
		[F_SUM] = &p->sum,
		[F_RESETS] = &p->resets,
	};

	return fields[f];
}

static void all_present(uint64_t *present, size_t n)
{
	memset(present, 0, HEAD_ROWS / 8);
	for (size_t i = 0; i < n; i++)
		present[i / 64] |= 1ULL << (i % 64);
}

static void put_column(double *v, size_t n, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf enc = {0};
	uint64_t present[HEAD_ROWS / 64];

	all_present(present, n);
	column_encode(v, present, n, &enc);
	mno_varint_add(out, enc.len);
	mno_buf_add(out, enc.data, enc.len);
	if (enc.err)
		out->err = enc.err;
}

static enum form put_field(enum field f, struct mno_rollup *p, size_t n, struct mno_buf *out)
{
	double v[HEAD_ROWS];
	bool zero = true, exact = true;

	for (size_t i = 0; i < n; i++) {
		double x = *field_of(f, &p[i]), base = base_of(f, &p[i]);

		v[i] = x - base;
		exact &= bits_of(base + v[i]) == bits_of(x);
		zero &= bits_of(v[i]) == 0;
	}
	if (exact && zero)
		return FORM_NONE;
	if (!exact)
		for (size_t i = 0; i < n; i++)
			v[i] = *field_of(f, &p[i]);
	put_column(v, n, out);
	return exact ? FORM_DIFF : FORM_RAW;
}

static void encode_column(const struct roll *r, unsigned col, struct mno_buf *out)
{
	struct mno_rollup p[ROLL_POINTS];
	double v[HEAD_ROWS];
	size_t n = 0, flags_at = out->len;
	uint16_t flags = 0;

	mno_buf_add(out, &flags, sizeof(flags));
	for (size_t i = 0; i < r->n_points; i++) {
		v[i] = r->count[col][i];
		if (v[i] == 0)
			continue;
		p[n++] = (struct mno_rollup){.count = v[i],
			.sum = r->sum[col][i],
			.min = r->min[col][i],
			.max = r->max[col][i],
			.first = r->first[col][i],
			.last = r->last[col][i],
			.resets = r->resets[col][i]};
	}
	put_column(v, r->n_points, out);
	for (size_t i = 0; i < n; i++)
		v[i] = p[i].last;
	if (n)
		put_column(v, n, out);
	for (unsigned f = 0; f < F_MAX_FIELD && n; f++)
		flags |= (uint16_t)(put_field(f, p, n, out) << (2 * f));
	if (!out->err)
		memcpy(out->data + flags_at, &flags, sizeof(flags));
}

void roll_encode(const struct roll *r, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf enc = {0};
	uint16_t n = (uint16_t)r->n_points;

	mno_buf_addc(out, VERSION);
	mno_buf_add(out, &n, sizeof(n));
	mno_buf_add(out, &r->columns, sizeof(r->columns));
	for (uint64_t left = r->columns; left; left &= left - 1) {
		mno_buf_reset(&enc);
		encode_column(r, (unsigned)__builtin_ctzll(left), &enc);
		mno_varint_add(out, enc.len);
		mno_buf_add(out, enc.data, enc.len);
	}
	if (enc.err)
		out->err = enc.err;
}

/* --- reading --------------------------------------------------------------------------------- */

/* Exactly @n values. */
static bool get_column(struct mno_reader *r, double *v, size_t n)
{
	uint64_t len = mno_read_varint(r);
	const uint8_t *p = len <= mno_reader_left(r) ? mno_read_bytes(r, len) : NULL;
	struct column c;

	return p && column_decode(p, len, n, &c, v) == 0 && c.n == n && c.first == 0 && !c.map;
}

static bool get_field(struct mno_reader *r, enum field f, enum form form, struct roll_column *c)
{
	double v[HEAD_ROWS] = {0};

	if (form == FORM_BAD || (form != FORM_NONE && !get_column(r, v, c->n)))
		return false;
	for (size_t i = 0; i < c->n; i++)
		*field_of(f, &c->p[i]) = form == FORM_RAW ? v[i] : base_of(f, &c->p[i]) + v[i];
	return true;
}

static bool decode_column(struct mno_reader *r, size_t n_points, struct roll_column *c)
{
	double v[HEAD_ROWS];
	const uint8_t *p = mno_read_bytes(r, 2);
	uint16_t flags;

	if (!p || !get_column(r, v, n_points))
		return false;
	memcpy(&flags, p, sizeof(flags));
	c->n = 0;
	for (size_t i = 0; i < n_points; i++)
		if (v[i] > 0) {
			c->at[c->n] = (uint16_t)i;
			c->p[c->n++].count = v[i];
		}
	if (c->n && !get_column(r, v, c->n))
		return false;
	for (size_t i = 0; i < c->n; i++)
		c->p[i].last = v[i];
	for (unsigned f = 0; f < F_MAX_FIELD && c->n; f++)
		if (!get_field(r, f, flags >> (2 * f) & 3, c))
			return false;
	return true;
}

int roll_decode(const uint8_t *raw, size_t len, uint64_t want,
	int (*fn)(void *arg, unsigned col, struct roll_column *c), void *arg)
{
	struct mno_reader r = {.p = raw, .end = raw + len};
	uint8_t version = mno_read_u8(&r);
	const uint8_t *p = mno_read_bytes(&r, 2);
	uint64_t columns = mno_read_u64(&r);
	struct roll_column c;
	uint16_t n;
	int err = 0;

	if (!p || r.bad)
		return -MNO_ECORRUPT;
	memcpy(&n, p, sizeof(n));
	if (version != VERSION)
		return version > VERSION ? -MNO_EVERSION : -MNO_ECORRUPT;
	if (n == 0 || n > ROLL_POINTS)
		return -MNO_ECORRUPT;
	for (; columns && err == 0; columns &= columns - 1) {
		unsigned col = (unsigned)__builtin_ctzll(columns);
		uint64_t size = mno_read_varint(&r);
		struct mno_reader part = {.p = r.p, .end = r.p + size};

		if (size > mno_reader_left(&r))
			return -MNO_ECORRUPT;
		r.p += size;
		if (!(want >> col & 1))
			continue;
		if (!decode_column(&part, n, &c))
			return -MNO_ECORRUPT;
		if (c.n)
			err = fn(arg, col, &c);
	}
	return err;
}
