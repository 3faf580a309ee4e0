/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block as format 1 wrote it:
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
#include "../store/codec.h"
#include "mno/err.h"
#include "series_internal.h"

enum column_kind { COL_CONST, COL_CONST8, COL_INT, COL_DELTA, COL_XOR, COL_KINDS };
enum column_flags { COL_RUN = 1, COL_BITMAP = 2, COL_STALE = 4 };
#define FLAGS_ALL 7
#define EXP_MAX   12
#define BITMAP    (BLOCK_V1_ROWS / 8)

static const double pow10_table[EXP_MAX + 1] = {
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

/* --- packing ----------------------------------------------------------------------------------- */

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
	uint64_t low = (uint64_t)mno_unzigzag(mno_read_varint(r)), mask, high[BLOCK_V1_ROWS];
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

/* --- reading -------------------------------------------------------------------------------------- */

static bool open_times(struct mno_reader *r, struct block_v1 *b)
{
	int64_t d[BLOCK_V1_ROWS];
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

int block_v1_open(const uint8_t *raw, size_t len, struct block_v1 *ret)
{
	struct mno_reader r = {.p = raw, .end = raw + len};
	const uint8_t *p = mno_read_bytes(&r, 2);
	uint16_t n;

	if (!p)
		return -MNO_ECORRUPT;
	memcpy(&n, p, sizeof(n));
	ret->n = n;
	ret->columns = mno_read_u64(&r);
	if (n == 0 || n > BLOCK_V1_ROWS || r.bad || !open_times(&r, ret))
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
	int64_t m[BLOCK_V1_ROWS];
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

int block_v1_column(const struct block_v1 *b, unsigned col, uint16_t *idx, double *v, size_t *ret_n)
{
	uint16_t stale[BLOCK_V1_ROWS];
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
