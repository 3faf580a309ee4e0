/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block as bytes:
 *   u16 ticks, u64 column mask, times, per column varint(length), then the columns.
 *   times:  i64 first, then packed(deltas)
 *   column: u8 kind | u8 flags, [u16 first, u16 count | bitmap], [staleness marks], values
 *   values: CONST  zigzag varint of an integer
 *           CONST8 the 8 bytes
 *           INT    u8 exponent, values or deltas packed: value = m / 10^exponent
 *           XOR    8 planes of bytes of each value XOR the one before
 *   packed: u8 width, zigzag varint lowest, exceptions {varint n, (varint gap, varint high)*},
 *           n * width bits; value = lowest + bits + (high << width)
 */
#include <errno.h>
#include <math.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "series_internal.h"

enum column_kind { COL_CONST, COL_CONST8, COL_INT, COL_DELTA, COL_XOR, COL_KINDS };
enum column_flags { COL_RUN = 1, COL_BITMAP = 2, COL_STALE = 4 };
#define FLAGS_ALL 7
#define WIDTH_MAX 56u                /* an unaligned 8-byte load holds any value */
#define INT_LIMIT 9007199254740992.0 /* 2^53: integers below are exact */
#define EXP_MAX   12
#define BITMAP    (HEAD_ROWS / 8)

static const double pow10_table[EXP_MAX + 1] = {
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

/* --- packing ----------------------------------------------------------------------------------- */

static unsigned bit_len(uint64_t v)
{
	return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* The width with the fewest bits in total when what does not fit costs ~24 bits more. */
static unsigned best_width(const uint64_t *v, size_t n)
{
	unsigned hist[65] = {0}, best;
	size_t above = 0, cost;

	for (size_t i = 0; i < n; i++)
		hist[bit_len(v[i])]++;
	best = 64;
	while (best && !hist[best])
		best--;
	if (best > WIDTH_MAX)
		return best;
	cost = best * n;
	for (unsigned w = best; w-- > 0;) {
		above += hist[w + 1];
		if (w * n + above * 24 < cost) {
			cost = w * n + above * 24;
			best = w;
		}
	}
	return best;
}

static void put_bits(uint8_t *p, const uint64_t *v, size_t n, unsigned w)
{
	uint64_t mask = w ? ~0ULL >> (64 - w) : 0;
	size_t bit = 0;

	for (size_t i = 0; i < n; i++, bit += w) {
		uint64_t x;

		memcpy(&x, p + (bit >> 3), 8);
		x |= (v[i] & mask) << (bit & 7);
		memcpy(p + (bit >> 3), &x, 8);
	}
}

static void add_exceptions(struct mno_buf *out, const uint64_t *v, size_t n, unsigned w)
{
	size_t count = 0, last = 0;

	for (size_t i = 0; i < n; i++)
		count += v[i] >> w != 0;
	mno_varint_add(out, count);
	for (size_t i = 0; i < n && count; i++) {
		if (!(v[i] >> w))
			continue;
		mno_varint_add(out, i - last);
		mno_varint_add(out, v[i] >> w);
		last = i;
	}
}

/* false if the values spread too wide to pack. */
static bool pack(struct mno_buf *out, const int64_t *v, size_t n)
{
	uint64_t u[HEAD_ROWS];
	int64_t low = n ? v[0] : 0;
	unsigned w;
	size_t bytes;
	char *p;

	for (size_t i = 1; i < n; i++)
		low = MNO_MIN(low, v[i]);
	for (size_t i = 0; i < n; i++)
		u[i] = (uint64_t)v[i] - (uint64_t)low;
	w = best_width(u, n);
	if (w > WIDTH_MAX)
		return false;
	mno_buf_addc(out, (char)w);
	mno_varint_add(out, mno_zigzag(low));
	add_exceptions(out, u, n, w);
	bytes = (n * w + 7) / 8;
	p = mno_buf_reserve(out, bytes + 8);
	if (!p)
		return true; /* the error sticks */
	memset(p, 0, bytes + 8);
	put_bits((uint8_t *)p, u, n, w);
	mno_buf_commit(out, bytes);
	return true;
}

static bool apply_exceptions(struct mno_reader *r, uint64_t *v, size_t n, unsigned w)
{
	uint64_t count = mno_read_varint(r), at = 0;

	if (count > n)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		at += mno_read_varint(r);
		if (at >= n || r->bad)
			return false;
		v[at] = mno_read_varint(r) << w;
	}
	return !r->bad;
}

static bool unpack(struct mno_reader *r, int64_t *v, size_t n)
{
	unsigned w = mno_read_u8(r);
	uint64_t low = (uint64_t)mno_unzigzag(mno_read_varint(r)), mask, high[HEAD_ROWS];
	const uint8_t *p;
	size_t bit = 0;

	if (w > WIDTH_MAX || r->bad)
		return false;
	memset(high, 0, n * sizeof(*high));
	if (!apply_exceptions(r, high, n, w))
		return false;
	mask = w ? ~0ULL >> (64 - w) : 0;
	p = mno_read_bytes(r, (n * w + 7) / 8);
	if (!p)
		return false;
	for (size_t i = 0; i < n; i++, bit += w) {
		uint64_t x;

		memcpy(&x, p + (bit >> 3), 8);
		v[i] = (int64_t)(low + ((x >> (bit & 7)) & mask) + high[i]);
	}
	return true;
}

/* --- values of one column ----------------------------------------------------------------------- */

/* @m such that m / 10^e has exactly the bits of @v. */
static bool exact(double v, unsigned e, int64_t *m)
{
	double x = v * pow10_table[e];

	if (!(fabs(x) < INT_LIMIT))
		return false;
	if (e == 0) {
		*m = (int64_t)x;
		return bits_of((double)*m) == bits_of(v);
	}
	*m = (int64_t)(x >= 0 ? x + 0.5 : x - 0.5);
	return bits_of((double)*m / pow10_table[e]) == bits_of(v);
}

/* Scales all values by one power of ten, the smallest that is exact for all. */
static bool to_integers(const double *v, size_t n, int64_t *m, unsigned *ret_e)
{
	unsigned e = 0;
	size_t i = 0;

	while (i < n) {
		if (exact(v[i], e, &m[i])) {
			i++;
			continue;
		}
		if (++e > EXP_MAX)
			return false;
		i = 0;
	}
	*ret_e = e;
	return true;
}

static void encode_xor(const double *v, size_t n, struct mno_buf *out)
{
	char *p = mno_buf_reserve(out, n * 8);
	uint64_t last = 0;

	if (!p)
		return;
	for (size_t i = 0; i < n; i++) {
		uint64_t x = bits_of(v[i]) ^ last;

		last = bits_of(v[i]);
		for (unsigned b = 0; b < 8; b++)
			p[b * n + i] = (char)(x >> (8 * b));
	}
	mno_buf_commit(out, n * 8);
}

static size_t spread_bits(const int64_t *v, size_t n)
{
	int64_t low = v[0], high = v[0];

	for (size_t i = 1; i < n; i++) {
		low = MNO_MIN(low, v[i]);
		high = MNO_MAX(high, v[i]);
	}
	return bit_len((uint64_t)high - (uint64_t)low);
}

static bool encode_int(const double *v, size_t n, struct mno_buf *out, uint8_t *ret_kind)
{
	int64_t m[HEAD_ROWS], d[HEAD_ROWS];
	size_t start = out->len;
	unsigned e;
	bool ok;

	if (!to_integers(v, n, m, &e))
		return false;
	d[0] = 0;
	for (size_t i = 1; i < n; i++)
		d[i] = m[i] - m[i - 1];
	mno_buf_addc(out, (char)e);
	if (n > 1 && spread_bits(d + 1, n - 1) < spread_bits(m, n)) {
		*ret_kind = COL_DELTA;
		mno_varint_add(out, mno_zigzag(m[0]));
		ok = pack(out, d + 1, n - 1);
	} else {
		*ret_kind = COL_INT;
		ok = pack(out, m, n);
	}
	if (!ok)
		out->len = start;
	return ok;
}

static uint8_t encode_values(const double *v, size_t n, struct mno_buf *out)
{
	uint64_t first = bits_of(v[0]), diff = 0;
	uint8_t kind = COL_XOR;
	int64_t m;

	for (size_t i = 1; i < n; i++)
		diff |= bits_of(v[i]) ^ first;
	if (!diff && exact(v[0], 0, &m)) {
		mno_varint_add(out, mno_zigzag(m));
		return COL_CONST;
	}
	if (!diff) {
		mno_buf_add(out, v, 8);
		return COL_CONST8;
	}
	if (!encode_int(v, n, out, &kind))
		encode_xor(v, n, out);
	return kind;
}

/* Takes staleness marks out of @v (each gets its neighbour's value); their places into @at. */
static size_t take_stale(double *v, size_t n, uint16_t *at)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		if (bits_of(v[i]) == MNO_STALE_BITS)
			at[count++] = (uint16_t)i;
	for (size_t i = 0; count && i < count; i++)
		v[at[i]] = at[i] ? v[at[i] - 1] : 0;
	return count;
}

static void encode_places(struct mno_buf *out, const uint16_t *at, size_t n)
{
	unsigned last = 0;

	mno_varint_add(out, n);
	for (size_t i = 0; i < n; i++) {
		mno_varint_add(out, at[i] - last);
		last = at[i];
	}
}

static void encode_presence(struct mno_buf *out, const uint64_t *bits, const uint16_t *idx,
	size_t n, size_t ticks, uint8_t *flags)
{
	uint16_t run[2];

	if (n == ticks)
		return;
	if ((size_t)(idx[n - 1] - idx[0]) + 1 == n) {
		*flags |= COL_RUN;
		run[0] = idx[0];
		run[1] = (uint16_t)n;
		mno_buf_add(out, run, sizeof(run));
		return;
	}
	*flags |= COL_BITMAP;
	mno_buf_add(out, bits, BITMAP);
}

static void encode_column(const struct block_in *in, unsigned col, struct mno_buf *out)
{
	uint16_t idx[HEAD_ROWS], stale[HEAD_ROWS];
	double v[HEAD_ROWS];
	size_t n = 0, n_stale, head = out->len;
	uint8_t flags = 0, kind;

	for (size_t i = 0; i < in->n; i++) {
		idx[n] = (uint16_t)i;
		v[n] = in->v[col][i];
		n += in->present[col][i / 64] >> (i % 64) & 1;
	}
	mno_buf_add(out, (char[2]){0, 0}, 2);
	encode_presence(out, in->present[col], idx, n, in->n, &flags);
	n_stale = take_stale(v, n, stale);
	if (n_stale) {
		flags |= COL_STALE;
		encode_places(out, stale, n_stale);
	}
	kind = encode_values(v, n, out);
	if (!out->err) {
		out->data[head] = (char)kind;
		out->data[head + 1] = (char)flags;
	}
}

void block_encode(const struct block_in *in, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf body = {0};
	uint16_t n = (uint16_t)in->n;
	int64_t d[HEAD_ROWS];

	mno_buf_add(out, &n, sizeof(n));
	mno_buf_add(out, &in->columns, sizeof(in->columns));
	mno_buf_add(out, &in->t[0], sizeof(in->t[0]));
	for (size_t i = 1; i < in->n; i++)
		d[i - 1] = (int64_t)((uint64_t)in->t[i] - (uint64_t)in->t[i - 1]);
	if (!pack(out, d, in->n - 1)) /* gaps over 2^56 ms: as they are */
		mno_buf_addc(out, (char)0xff), mno_buf_add(out, d, (in->n - 1) * sizeof(*d));
	for (uint64_t left = in->columns; left; left &= left - 1) {
		size_t before = body.len;

		encode_column(in, (unsigned)__builtin_ctzll(left), &body);
		mno_varint_add(out, body.len - before);
	}
	mno_buf_add(out, body.data, body.len);
	if (body.err)
		out->err = body.err;
}

/* --- reading -------------------------------------------------------------------------------------- */

static bool open_times(struct mno_reader *r, struct block *b)
{
	int64_t d[HEAD_ROWS];
	const uint8_t *p;

	b->t[0] = (int64_t)mno_read_u64(r);
	if (mno_reader_left(r) && *r->p == 0xff) {
		r->p++;
		p = mno_read_bytes(r, (b->n - 1) * sizeof(*d));
		if (!p)
			return false;
		memcpy(d, p, (b->n - 1) * sizeof(*d));
	} else if (!unpack(r, d, b->n - 1)) {
		return false;
	}
	for (size_t i = 1; i < b->n; i++) {
		b->t[i] = (int64_t)((uint64_t)b->t[i - 1] + (uint64_t)d[i - 1]);
		if (b->t[i] <= b->t[i - 1])
			return false;
	}
	return true;
}

int block_open(const uint8_t *raw, size_t len, struct block *ret)
{
	struct mno_reader r = {.p = raw, .end = raw + len};
	const uint8_t *p = mno_read_bytes(&r, 2);
	uint16_t n;

	if (!p)
		return -MNO_ECORRUPT;
	memcpy(&n, p, sizeof(n));
	ret->n = n;
	ret->columns = mno_read_u64(&r);
	if (n == 0 || n > HEAD_ROWS || r.bad || !open_times(&r, ret))
		return -MNO_ECORRUPT;
	memset(ret->body, 0, sizeof(ret->body));
	for (uint64_t left = ret->columns; left; left &= left - 1) {
		uint64_t l = mno_read_varint(&r);

		if (l > len)
			return -MNO_ECORRUPT;
		ret->body_len[__builtin_ctzll(left)] = (uint32_t)l;
	}
	for (uint64_t left = ret->columns; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		ret->body[c] = mno_read_bytes(&r, ret->body_len[c]);
		if (!ret->body[c])
			return -MNO_ECORRUPT;
	}
	return r.bad ? -MNO_ECORRUPT : 0;
}

static bool read_presence(
	struct mno_reader *r, uint8_t flags, size_t ticks, uint16_t *idx, size_t *ret_n)
{
	uint16_t run[2] = {0, (uint16_t)ticks};
	const uint8_t *p;
	size_t n = 0;

	if (flags & COL_BITMAP) {
		p = mno_read_bytes(r, BITMAP);
		for (size_t i = 0; p && i < ticks; i++) {
			idx[n] = (uint16_t)i;
			n += p[i / 8] >> (i % 8) & 1;
		}
		*ret_n = n;
		return n > 0;
	}
	if (flags & COL_RUN) {
		p = mno_read_bytes(r, sizeof(run));
		if (!p)
			return false;
		memcpy(run, p, sizeof(run));
	}
	if (run[1] == 0 || (size_t)run[0] + run[1] > ticks)
		return false;
	for (; n < run[1]; n++)
		idx[n] = (uint16_t)(run[0] + n);
	*ret_n = n;
	return true;
}

static bool read_ints(struct mno_reader *r, uint8_t kind, double *v, size_t n)
{
	unsigned e = mno_read_u8(r);
	int64_t m[HEAD_ROWS];
	uint64_t sum;

	if (e > EXP_MAX)
		return false;
	if (kind == COL_DELTA) {
		sum = (uint64_t)mno_unzigzag(mno_read_varint(r));
		m[0] = (int64_t)sum;
		if (!unpack(r, m + 1, n - 1))
			return false;
		for (size_t i = 1; i < n; i++)
			m[i] = (int64_t)(sum += (uint64_t)m[i]);
	} else if (!unpack(r, m, n)) {
		return false;
	}
	if (e == 0) {
		for (size_t i = 0; i < n; i++)
			v[i] = (double)m[i];
		return true;
	}
	for (size_t i = 0; i < n; i++)
		v[i] = (double)m[i] / pow10_table[e];
	return true;
}

static bool read_xor(struct mno_reader *r, double *v, size_t n)
{
	const uint8_t *p = mno_read_bytes(r, n * 8);
	uint64_t last = 0;

	if (!p)
		return false;
	for (size_t i = 0; i < n; i++) {
		for (unsigned b = 0; b < 8; b++)
			last ^= (uint64_t)p[b * n + i] << (8 * b);
		v[i] = of_bits(last);
	}
	return true;
}

static bool read_values(struct mno_reader *r, uint8_t kind, double *v, size_t n)
{
	double c;

	switch (kind) {
	case COL_CONST:
	case COL_CONST8:
		c = kind == COL_CONST ? (double)mno_unzigzag(mno_read_varint(r))
				      : of_bits(mno_read_u64(r));
		for (size_t i = 0; i < n; i++)
			v[i] = c;
		return true;
	case COL_INT:
	case COL_DELTA:
		return read_ints(r, kind, v, n);
	case COL_XOR:
		return read_xor(r, v, n);
	}
	return false;
}

static size_t read_places(struct mno_reader *r, uint16_t *at, size_t ticks)
{
	uint64_t n = mno_read_varint(r), pos = 0;

	if (n > ticks) {
		r->bad = true;
		return 0;
	}
	for (uint64_t i = 0; i < n; i++) {
		pos += mno_read_varint(r);
		if (pos >= ticks) {
			r->bad = true;
			return 0;
		}
		at[i] = (uint16_t)pos;
	}
	return n;
}

int block_column(const struct block *b, unsigned col, uint16_t *idx, double *v, size_t *ret_n)
{
	uint16_t stale[HEAD_ROWS];
	struct mno_reader r;
	uint8_t kind, flags;
	size_t n, n_stale = 0;

	if (!(b->columns >> col & 1)) {
		*ret_n = 0;
		return 0;
	}
	r = (struct mno_reader){.p = b->body[col], .end = b->body[col] + b->body_len[col]};
	kind = mno_read_u8(&r);
	flags = mno_read_u8(&r);
	if (flags & ~FLAGS_ALL || !read_presence(&r, flags, b->n, idx, &n))
		return -MNO_ECORRUPT;
	if (flags & COL_STALE)
		n_stale = read_places(&r, stale, n);
	if (r.bad || !read_values(&r, kind, v, n) || r.bad)
		return -MNO_ECORRUPT;
	for (size_t i = 0; i < n_stale; i++)
		v[stale[i]] = of_bits(MNO_STALE_BITS);
	*ret_n = n;
	return 0;
}
