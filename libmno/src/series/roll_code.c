/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window of rollups as bytes:
 *   u8 version, u16 points, u64 columns, then sections, each varint length and bytes, with what
 *   the columns have of it one after the other:
 *     forms u16; counts; and only of points with a count:
 *     last; then what is shorter of the value and its difference to what can be guessed: first to
 *     the last of the point before; min and max to those of first and last; sum to count times
 *     the middle of first and last; resets to 0.
 * A difference is only given if it gives back the very bits, and left out if all are 0: constant
 * series cost next to nothing.
 */
#include <errno.h>
#include <math.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "rollup_internal.h"

#define VERSION 1

enum field { F_FIRST, F_MIN, F_MAX, F_SUM, F_RESETS, F_MAX_FIELD };
enum section { S_FORMS, S_COUNT, S_LAST, S_FIELDS, SECTIONS = S_FIELDS + F_MAX_FIELD };
/* Two bits of flags for each field. */
enum form { FORM_NONE, FORM_DIFF, FORM_RAW, FORM_BAD };

void roll_begin(struct roll *r, size_t n_points)
{
	r->n_points = n_points;
	r->columns = 0;
}

static void sum_add(struct roll *r, unsigned col, size_t at, double v)
{
	double old = r->sum[col][at], sum = old + v;

	r->sum[col][at] = sum;
	r->lost[col][at] += fabs(old) >= fabs(v) ? old - sum + v : v - sum + old;
}

static void column_open(struct roll *r, unsigned col)
{
	if (r->columns >> col & 1)
		return;
	memset(r->count[col], 0, sizeof(r->count[col]));
	r->columns |= 1ULL << col;
}

static void point_open(struct roll *r, unsigned col, size_t at, double v)
{
	r->count[col][at] = 1;
	r->sum[col][at] = v;
	r->min[col][at] = r->max[col][at] = r->first[col][at] = r->last[col][at] = v;
	r->resets[col][at] = r->lost[col][at] = 0;
	r->drops[col][at] = 0;
}

static void point_add(struct roll *r, unsigned col, size_t at, double v)
{
	double last = r->last[col][at];

	r->count[col][at]++;
	sum_add(r, col, at, v);
	if (v < r->min[col][at] || isnan(r->min[col][at]))
		r->min[col][at] = v;
	if (v > r->max[col][at] || isnan(r->max[col][at]))
		r->max[col][at] = v;
	if (v < last) {
		r->resets[col][at] += last;
		r->drops[col][at]++;
	}
	r->last[col][at] = v;
}

void roll_add(struct roll *r, unsigned col, int64_t t0, int64_t step, const int64_t *t,
	const double *v, size_t n)
{
	column_open(r, col);
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

static void point_merge(struct roll *r, unsigned col, size_t at, const struct mno_rollup *p)
{
	if (p->min < r->min[col][at] || isnan(r->min[col][at]))
		r->min[col][at] = p->min;
	if (p->max > r->max[col][at] || isnan(r->max[col][at]))
		r->max[col][at] = p->max;
	if (p->first < r->last[col][at])
		r->resets[col][at] += r->last[col][at];
	r->resets[col][at] += p->resets;
	r->count[col][at] += p->count;
	sum_add(r, col, at, p->sum);
	r->last[col][at] = p->last;
}

static void point_copy(struct roll *r, unsigned col, size_t at, const struct mno_rollup *p)
{
	r->count[col][at] = p->count;
	r->sum[col][at] = p->sum;
	r->lost[col][at] = 0;
	r->min[col][at] = p->min;
	r->max[col][at] = p->max;
	r->first[col][at] = p->first;
	r->last[col][at] = p->last;
	r->resets[col][at] = p->resets;
	r->drops[col][at] = 0;
}

void roll_add_points(struct roll *r, unsigned col, int64_t t0, int64_t step,
	const struct mno_rollup *p, size_t n)
{
	column_open(r, col);
	for (size_t i = 0; i < n; i++) {
		int64_t at = p[i].t_ms - t0;

		if (at < 0 || at >= step * (int64_t)r->n_points)
			continue;
		at /= step;
		if (r->count[col][at] == 0)
			point_copy(r, col, (size_t)at, &p[i]);
		else
			point_merge(r, col, (size_t)at, &p[i]);
	}
}

/* --- fields and differences ------------------------------------------------------------------ */

/* What a field is told as a difference to, and the way back. */
static double base_of(enum field f, const struct mno_rollup *p, bool is_first)
{
	switch (f) {
	case F_FIRST:
		return is_first ? p->last : p[-1].last;
	case F_MIN:
		return p->first < p->last ? p->first : p->last;
	case F_MAX:
		return p->first > p->last ? p->first : p->last;
	case F_SUM:
		return floor(p->count * (p->first + p->last) / 2);
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
	_cleanup_buf_ struct mno_buf diff = {0}, raw = {0};
	double v[HEAD_ROWS], d[HEAD_ROWS];
	bool zero = true, exact = true;

	for (size_t i = 0; i < n; i++) {
		double base = base_of(f, &p[i], i == 0);

		v[i] = *field_of(f, &p[i]);
		d[i] = v[i] - base;
		exact &= bits_of(base + d[i]) == bits_of(v[i]);
		zero &= bits_of(d[i]) == 0;
	}
	if (exact && zero)
		return FORM_NONE;
	put_column(v, n, &raw);
	if (exact)
		put_column(d, n, &diff);
	if (exact && diff.len < raw.len)
		mno_buf_add(out, diff.data, diff.len);
	else
		mno_buf_add(out, raw.data, raw.len);
	if (raw.err || diff.err)
		out->err = -ENOMEM;
	return exact && diff.len < raw.len ? FORM_DIFF : FORM_RAW;
}

static double resets_of(const struct roll *r, unsigned col, size_t at)
{
	uint32_t drops = r->drops[col][at];

	return drops > 1 && drops > r->count[col][at] / 4 ? NAN : r->resets[col][at];
}

/* Infinities and NaN have no rounding to make good. */
static double total(const struct roll *r, unsigned col, size_t at)
{
	double sum = r->sum[col][at] + r->lost[col][at];

	return isfinite(sum) ? sum : r->sum[col][at];
}

static void encode_column(const struct roll *r, unsigned col, struct mno_buf out[SECTIONS])
{
	struct mno_rollup p[ROLL_POINTS];
	double v[HEAD_ROWS];
	uint16_t forms = 0;
	size_t n = 0;

	for (size_t i = 0; i < r->n_points; i++) {
		v[i] = r->count[col][i];
		if (v[i] == 0)
			continue;
		p[n++] = (struct mno_rollup){.count = v[i],
			.sum = total(r, col, i),
			.min = r->min[col][i],
			.max = r->max[col][i],
			.first = r->first[col][i],
			.last = r->last[col][i],
			.resets = resets_of(r, col, i)};
	}
	put_column(v, r->n_points, &out[S_COUNT]);
	for (size_t i = 0; i < n; i++)
		v[i] = p[i].last;
	if (n)
		put_column(v, n, &out[S_LAST]);
	for (unsigned f = 0; f < F_MAX_FIELD && n; f++)
		forms |= (uint16_t)(put_field(f, p, n, &out[S_FIELDS + f]) << (2 * f));
	mno_buf_add(&out[S_FORMS], &forms, sizeof(forms));
}

/* A series may have had nothing but staleness marks. */
static uint64_t with_points(const struct roll *r)
{
	uint64_t columns = 0;

	for (uint64_t left = r->columns; left; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);

		for (size_t i = 0; i < r->n_points; i++)
			if (r->count[col][i] > 0)
				columns |= 1ULL << col;
	}
	return columns;
}

void roll_encode(const struct roll *r, struct mno_buf *out)
{
	struct mno_buf part[SECTIONS] = {0};
	uint64_t columns = with_points(r);
	uint16_t n = (uint16_t)r->n_points;

	mno_buf_addc(out, VERSION);
	mno_buf_add(out, &n, sizeof(n));
	mno_buf_add(out, &columns, sizeof(columns));
	for (uint64_t left = columns; left; left &= left - 1)
		encode_column(r, (unsigned)__builtin_ctzll(left), part);
	for (size_t i = 0; i < SECTIONS; i++) {
		mno_varint_add(out, part[i].len);
		mno_buf_add(out, part[i].data, part[i].len);
		if (part[i].err)
			out->err = part[i].err;
		mno_buf_done(&part[i]);
	}
}

/* --- reading --------------------------------------------------------------------------------- */

static const uint8_t *next_bytes(struct mno_reader *r, size_t *ret_len)
{
	uint64_t len = mno_read_varint(r);

	*ret_len = len;
	return len <= mno_reader_left(r) && !r->bad ? mno_read_bytes(r, len) : NULL;
}

/* Exactly @n values; @v may be NULL to skip them. */
static bool get_column(struct mno_reader *r, double *v, size_t n)
{
	size_t len;
	const uint8_t *p = next_bytes(r, &len);
	struct column c;

	if (!p || !v)
		return p != NULL;
	return column_decode(p, len, n, &c, v) == 0 && c.n == n && c.first == 0 && !c.map;
}

static bool get_field(struct mno_reader *r, enum field f, enum form form, struct roll_column *c)
{
	double v[HEAD_ROWS] = {0};

	if (form == FORM_BAD || (form != FORM_NONE && !get_column(r, v, c->n)))
		return false;
	for (size_t i = 0; i < c->n; i++)
		*field_of(f, &c->p[i]) =
			form == FORM_RAW ? v[i] : base_of(f, &c->p[i], i == 0) + v[i];
	return true;
}

static bool take_column(
	struct mno_reader part[SECTIONS], uint16_t forms, size_t n_points, struct roll_column *c)
{
	double v[HEAD_ROWS];

	if (!get_column(&part[S_COUNT], v, n_points))
		return false;
	c->n = 0;
	for (size_t i = 0; i < n_points; i++)
		if (v[i] > 0) {
			c->at[c->n] = (uint16_t)i;
			c->p[c->n++].count = v[i];
		}
	if (c->n && !get_column(&part[S_LAST], v, c->n))
		return false;
	for (size_t i = 0; i < c->n; i++)
		c->p[i].last = v[i];
	for (unsigned f = 0; f < F_MAX_FIELD && c->n; f++)
		if (!get_field(&part[S_FIELDS + f], f, forms >> (2 * f) & 3, c))
			return false;
	return true;
}

/* Whether a column has points is in its counts, which are not looked at: it always has some. */
static bool skip_column(struct mno_reader part[SECTIONS], uint16_t forms)
{
	bool ok = get_column(&part[S_COUNT], NULL, 0) && get_column(&part[S_LAST], NULL, 0);

	for (unsigned f = 0; f < F_MAX_FIELD && ok; f++)
		if ((forms >> (2 * f) & 3) != FORM_NONE)
			ok = get_column(&part[S_FIELDS + f], NULL, 0);
	return ok;
}

static bool open_sections(struct mno_reader *r, struct mno_reader part[SECTIONS])
{
	for (size_t i = 0; i < SECTIONS; i++) {
		size_t len;
		const uint8_t *p = next_bytes(r, &len);

		if (!p)
			return false;
		part[i] = (struct mno_reader){.p = p, .end = p + len};
	}
	return true;
}

int roll_decode(const uint8_t *raw, size_t len, uint64_t want,
	int (*fn)(void *arg, unsigned col, struct roll_column *c), void *arg)
{
	struct mno_reader r = {.p = raw, .end = raw + len}, part[SECTIONS];
	uint8_t version = mno_read_u8(&r);
	const uint8_t *p = mno_read_bytes(&r, 2);
	uint64_t columns = mno_read_u64(&r);
	struct roll_column c;
	uint16_t n, forms;
	int err = 0;

	if (!p || r.bad)
		return -MNO_ECORRUPT;
	memcpy(&n, p, sizeof(n));
	if (version != VERSION)
		return version > VERSION ? -MNO_EVERSION : -MNO_ECORRUPT;
	if (n == 0 || n > ROLL_POINTS || !open_sections(&r, part))
		return -MNO_ECORRUPT;
	for (; columns && err == 0; columns &= columns - 1) {
		unsigned col = (unsigned)__builtin_ctzll(columns);
		bool wanted = want >> col & 1;

		p = mno_read_bytes(&part[S_FORMS], sizeof(forms));
		if (!p)
			return -MNO_ECORRUPT;
		memcpy(&forms, p, sizeof(forms));
		if (!(wanted ? take_column(part, forms, n, &c) : skip_column(part, forms)))
			return -MNO_ECORRUPT;
		if (wanted && c.n)
			err = fn(arg, col, &c);
	}
	return err;
}
