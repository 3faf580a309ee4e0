/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers of one width in a row, and what does not fit beside them:
 *   u8 width | ZIGZAG, [zigzag varint lowest], n * width bits, varint exceptions,
 *   {varint gap, varint high}*; value = lowest + (bits | high << width), or its zigzag inverse.
 * After the idea of patched frame-of-reference coding (Zukowski et al., ICDE 2006).
 */
#include "../store/codec.h"
#include "series_internal.h"

#define ZIGZAG 0x80

static unsigned bit_len(uint64_t v)
{
	return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* The width with the fewest bits in all; an exception costs about 12 bits and 8/7 of its high. */
static void best_width(const uint32_t hist[65], size_t n, struct fit *f)
{
	size_t count = 0, high = 0, cost;
	unsigned top = 64;

	while (top && !hist[top])
		top--;
	f->width = top;
	f->bits = top * n;
	for (unsigned w = top; w-- > 0;) {
		count += hist[w + 1];
		high += count;
		cost = w * n + 12 * count + high * 8 / 7;
		if (cost < f->bits) {
			f->bits = cost;
			f->width = w;
		}
	}
}

struct fit fit_lowest(const int64_t *v, size_t n)
{
	uint32_t hist[65] = {0};
	int64_t low = n ? v[0] : 0, high = low;
	struct fit f = {0};

	for (size_t i = 1; i < n; i++) {
		low = MNO_MIN(low, v[i]);
		high = MNO_MAX(high, v[i]);
	}
	f.low = (uint64_t)low;
	if (low == high)
		return f;
	for (size_t i = 0; i < n; i++)
		hist[bit_len((uint64_t)v[i] - f.low)]++;
	best_width(hist, n, &f);
	return f;
}

struct fit fit_zigzag(const int64_t *v, size_t n)
{
	uint32_t hist[65] = {0};
	struct fit f = {.zigzag = true};

	for (size_t i = 0; i < n; i++)
		hist[bit_len(mno_zigzag(v[i]))]++;
	best_width(hist, n, &f);
	return f;
}

static void put_bits(struct mno_buf *out, const uint64_t *v, size_t n, unsigned w)
{
	size_t bytes = (n * w + 7) / 8;
	char *p = mno_buf_reserve(out, bytes + 8);
	uint64_t mask = w ? ~0ULL >> (64 - w) : 0, acc = 0;
	unsigned have = 0;

	if (!p)
		return;
	for (size_t i = 0; i < n; i++) {
		acc |= (v[i] & mask) << have;
		have += w;
		memcpy(p, &acc, 8);
		p += have / 8;
		acc >>= have & ~7u; /* below 64: have is at most 7 + WIDTH_MAX */
		have &= 7;
	}
	memcpy(p, &acc, 8);
	mno_buf_commit(out, bytes);
}

static void put_exceptions(struct mno_buf *out, const uint64_t *v, size_t n, unsigned w)
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

void fit_put(struct mno_buf *out, const int64_t *v, size_t n, const struct fit *f)
{
	uint64_t u[HEAD_ROWS];

	mno_buf_addc(out, (char)(f->width | (f->zigzag ? ZIGZAG : 0)));
	if (!f->zigzag)
		mno_varint_add(out, mno_zigzag((int64_t)f->low));
	for (size_t i = 0; i < n; i++)
		u[i] = f->zigzag ? mno_zigzag(v[i]) : (uint64_t)v[i] - f->low;
	put_bits(out, u, n, f->width);
	put_exceptions(out, u, n, f->width);
}

/* --- reading: one loop for each width, so that shifts and masks are constants ----------------- */

#define LOAD(p, w, j)                                                                              \
	({                                                                                         \
		uint64_t _x;                                                                       \
		memcpy(&_x, (p) + (j) * (w) / 8, 8);                                               \
		_x >> ((j) * (w) % 8) & ((w) ? ~0ULL >> (64 - ((w) ? (w) : 1)) : 0);               \
	})

/* Eight values of w bits are w bytes. */
#define GET(w)                                                                                     \
	static void get_##w(const uint8_t *p, uint64_t *v, size_t eights)                          \
	{                                                                                          \
		for (; eights; eights--, p += (w), v += 8) {                                       \
			v[0] = LOAD(p, w, 0);                                                      \
			v[1] = LOAD(p, w, 1);                                                      \
			v[2] = LOAD(p, w, 2);                                                      \
			v[3] = LOAD(p, w, 3);                                                      \
			v[4] = LOAD(p, w, 4);                                                      \
			v[5] = LOAD(p, w, 5);                                                      \
			v[6] = LOAD(p, w, 6);                                                      \
			v[7] = LOAD(p, w, 7);                                                      \
		}                                                                                  \
	}
/* clang-format off */
#define WIDTHS(X) \
	X(1)  X(2)  X(3)  X(4)  X(5)  X(6)  X(7)  X(8)  X(9)  X(10) X(11) X(12) X(13) X(14) \
	X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) \
	X(29) X(30) X(31) X(32) X(33) X(34) X(35) X(36) X(37) X(38) X(39) X(40) X(41) X(42) \
	X(43) X(44) X(45) X(46) X(47) X(48) X(49) X(50) X(51) X(52) X(53) X(54) X(55) X(56)
/* clang-format on */
WIDTHS(GET)

static void (*const get_eights[WIDTH_MAX + 1])(const uint8_t *p, uint64_t *v, size_t eights) = {
#define ROW(w) [w] = get_##w,
	WIDTHS(ROW)
#undef ROW
};

/* @p is followed by 8 readable bytes. */
static void get_bits(const uint8_t *p, uint64_t *v, size_t n, unsigned w)
{
	size_t eights = n / 8;
	uint64_t mask;

	if (w == 0) {
		memset(v, 0, n * sizeof(*v));
		return;
	}
	get_eights[w](p, v, eights);
	mask = ~0ULL >> (64 - w);
	for (size_t i = eights * 8, bit = i * w; i < n; i++, bit += w) {
		uint64_t x;

		memcpy(&x, p + bit / 8, 8);
		v[i] = x >> (bit % 8) & mask;
	}
}

static bool get_exceptions(struct mno_reader *r, uint64_t *v, size_t n, unsigned w)
{
	uint64_t count = mno_read_varint(r), at = 0;

	if (count > n)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t gap = mno_read_varint(r), high = mno_read_varint(r);

		if (r->bad || gap >= n - at)
			return false;
		at += gap;
		v[at] |= high << w;
	}
	return !r->bad;
}

bool fit_get(struct mno_reader *r, int64_t *v, size_t n)
{
	unsigned w = mno_read_u8(r);
	bool zigzag = w & ZIGZAG;
	uint64_t *u = (uint64_t *)v, low = 0;
	const uint8_t *p;

	w &= ~(unsigned)ZIGZAG;
	if (!zigzag)
		low = (uint64_t)mno_unzigzag(mno_read_varint(r));
	if (w > WIDTH_MAX || r->bad)
		return false;
	p = mno_read_bytes(r, (n * w + 7) / 8);
	if (!p)
		return false;
	get_bits(p, u, n, w);
	if (!get_exceptions(r, u, n, w))
		return false;
	if (zigzag)
		for (size_t i = 0; i < n; i++)
			v[i] = mno_unzigzag(u[i]);
	else if (low)
		for (size_t i = 0; i < n; i++)
			u[i] += low;
	return true;
}
