/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Up to 192 values of one series as bytes, without the loss of a bit:
 *   u8 kind | flags, [RUN u8 first, u8 count - 1 | BITMAP], [STALE places], values
 *   CONST  zigzag varint of an integer
 *   CONST8 the 8 bytes
 *   XOR    8 planes of bytes of each value XOR the one before
 *   others u8 scale | DIVIDED, [varint divisor], zigzag varint first, then the integers
 *          k = (m - first) / divisor, packed (bits.c):
 *          PLAIN k; DELTA differences; DOD zigzag varint first difference, differences of
 *          differences; SPARSE bitmap of changes, their differences
 * The scale says how a double comes from the integer m: the way in which programs make decimals
 * differs (m / 1000, m * 0.001, m / 1000 / 1000), and so do the last bits.
 */
#include <math.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "../store/codec.h"
#include "mno/err.h"
#include "series_internal.h"

/* A division that became a multiplication would give other doubles back than were stored. */
#if defined(__FAST_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__ASSOCIATIVE_MATH__) ||     \
	defined(__NO_SIGNED_ZEROS__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "series are stored to the last bit: build without -ffast-math and its parts"
#endif
#if defined(__FLT_EVAL_METHOD__) && (__FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 2)
#error "series need doubles that are computed as doubles (on x86: -mfpmath=sse)"
#endif

enum column_kind { COL_CONST, COL_CONST8, COL_XOR, COL_PLAIN, COL_DELTA, COL_DOD, COL_SPARSE };
#define KIND_MASK  0x0f
#define COL_RUN    0x10
#define COL_BITMAP 0x20
#define COL_STALE  0x40
#define COL_ALL    0x7f
#define DIVIDED    0x80
#define INT_LIMIT  9007199254740992.0 /* 2^53: integers below are exact */

/* double = m / a / b * c; the first that is exact for all values is taken. */
struct scale {
	double up; /* what a value is multiplied with to find m */
	double a, b, c;
};
enum { SCALE_INT = 0, SCALE_TENS = 12, SCALES = 18, SCALE_BITS = SCALES };
static const struct scale scales[SCALES] = {
	{1, 1, 1, 1}, {1e1, 1e1, 1, 1}, {1e2, 1e2, 1, 1}, {1e3, 1e3, 1, 1}, {1e4, 1e4, 1, 1},
	{1e5, 1e5, 1, 1}, {1e6, 1e6, 1, 1}, {1e7, 1e7, 1, 1}, {1e8, 1e8, 1, 1}, {1e9, 1e9, 1, 1},
	{1e10, 1e10, 1, 1}, {1e11, 1e11, 1, 1}, {1e12, 1e12, 1, 1}, /* the decimal shifts */
	{1e3, 1, 1, 1e-3}, {1e6, 1, 1, 1e-6}, {1e9, 1, 1, 1e-9},    /* by multiplication */
	{1e6, 1e3, 1e3, 1}, {1e9, 1e3, 1e6, 1},                     /* in two steps */
};

/* --- doubles and integers ------------------------------------------------------------------------ */

static int64_t nearest(double x)
{
#ifdef __SSE2__
	return _mm_cvtsd_si64(_mm_set_sd(x));
#else
	return llrint(x);
#endif
}

static double from_int(const struct scale *s, int64_t m)
{
	double v = (double)m / s->a;

	if (s->b != 1)
		v /= s->b;
	return s->c == 1 ? v : v * s->c;
}

static bool exact_int(double v, int64_t *m)
{
	if (!(fabs(v) < INT_LIMIT))
		return false;
	*m = (int64_t)v;
	return bits_of((double)*m) == bits_of(v);
}

static bool exact(const struct scale *s, double v, int64_t *m)
{
	double x = v * s->up;

	if (!(fabs(x) < INT_LIMIT))
		return false;
	*m = nearest(x);
	return bits_of(from_int(s, *m)) == bits_of(v);
}

/* Index of the first value that this scale does not hold, or @n. */
static size_t try_scale(unsigned scale, const double *v, size_t n, int64_t *m)
{
	size_t i = 0;

	if (scale == SCALE_INT)
		while (i < n && exact_int(v[i], &m[i]))
			i++;
	else
		while (i < n && exact(&scales[scale], v[i], &m[i]))
			i++;
	return i;
}

/* Bits in an order that keeps neighbours near: an involution. */
static int64_t fold(uint64_t b)
{
	return (int64_t)(b >> 63 ? b ^ 0x7fffffffffffffffULL : b);
}

static unsigned to_integers(const double *v, size_t n, int64_t *m)
{
	size_t bad = 0;
	int64_t probe;

	for (unsigned scale = 0; scale < SCALES; scale++) {
		/* what the last scale stumbled over is the first to try */
		if (scale != SCALE_INT && !exact(&scales[scale], v[bad], &probe))
			continue;
		bad = try_scale(scale, v, n, m);
		if (bad == n)
			return scale;
	}
	for (size_t i = 0; i < n; i++)
		m[i] = fold(bits_of(v[i]));
	return SCALE_BITS;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t t = a % b;

		a = b;
		b = t;
	}
	return a;
}

/* What all differences are multiples of; of bits, as differences may wrap, a power of two. */
static uint64_t common_divisor(const int64_t *m, size_t n, unsigned scale)
{
	uint64_t g = 0;

	for (size_t i = 1; i < n && g != 1; i++) {
		uint64_t d = (uint64_t)m[i] - (uint64_t)m[i - 1];

		if (scale == SCALE_BITS)
			g |= d;
		else if (d)
			g = gcd((int64_t)d < 0 ? -d : d, g);
	}
	if (scale == SCALE_BITS)
		g &= -g;
	return g ? g : 1;
}

static void divide(int64_t *m, size_t n, uint64_t g)
{
	int64_t first = m[0];
	unsigned shift = (unsigned)__builtin_ctzll(g);

	for (size_t i = 0; i < n; i++)
		m[i] = (int64_t)((uint64_t)m[i] - (uint64_t)first);
	if (g == 1)
		return;
	if ((g & (g - 1)) == 0)
		for (size_t i = 0; i < n; i++)
			m[i] >>= shift;
	else
		for (size_t i = 0; i < n; i++)
			m[i] /= (int64_t)g;
}

/* --- writing --------------------------------------------------------------------------------------- */

struct plan {
	enum column_kind kind;
	struct fit fit;
	size_t bits; /* in all */
	const int64_t *v;
	size_t n; /* of v */
};

static void plan_try(struct plan *p, enum column_kind kind, const int64_t *v, size_t n, size_t more)
{
	struct fit f = fit_lowest(v, n), z;
	size_t bits = f.bits + 24;

	/* without negative ones among them it cannot be better */
	if ((int64_t)f.low < 0 && f.bits) {
		z = fit_zigzag(v, n);
		if (z.bits + 16 < bits) {
			f = z;
			bits = z.bits + 16;
		}
	}
	bits += more;
	if (bits < p->bits)
		*p = (struct plan){kind, f, bits, v, n};
}

struct work {
	size_t changes;
	uint8_t map[HEAD_ROWS / 8];
	int64_t m[HEAD_ROWS], d[HEAD_ROWS], dd[HEAD_ROWS], change[HEAD_ROWS];
};

static void differences(struct work *w, size_t n)
{
	memset(w->map, 0, sizeof(w->map));
	w->changes = 0;
	for (size_t i = 0; i + 1 < n; i++) {
		int64_t d = (int64_t)((uint64_t)w->m[i + 1] - (uint64_t)w->m[i]);

		w->d[i] = d;
		w->change[w->changes] = d;
		w->changes += d != 0;
		w->map[i / 8] |= (uint8_t)((d != 0) << (i % 8));
	}
	for (size_t i = 0; i + 2 < n; i++)
		w->dd[i] = (int64_t)((uint64_t)w->d[i + 1] - (uint64_t)w->d[i]);
}

static struct plan choose(struct work *w, size_t n)
{
	struct plan p = {.bits = SIZE_MAX};

	differences(w, n);
	plan_try(&p, COL_DELTA, w->d, n - 1, 0);
	plan_try(&p, COL_PLAIN, w->m, n, 0);
	if (n > 2)
		plan_try(&p, COL_DOD, w->dd, n - 2, 16);
	if (n + 24 < p.bits)
		plan_try(&p, COL_SPARSE, w->change, w->changes, n);
	return p;
}

/* COL_XOR if they are spread too wide. */
static enum column_kind encode_ints(const double *v, size_t n, struct mno_buf *out)
{
	struct work w;
	struct plan p;
	uint64_t g, first;
	unsigned scale;

	w.m[0] = 0; /* n is not 0: the compiler cannot know */
	scale = to_integers(v, n, w.m);
	g = common_divisor(w.m, n, scale);
	first = (uint64_t)w.m[0];
	divide(w.m, n, g);
	p = choose(&w, n);
	if (p.fit.width > WIDTH_MAX || p.bits > 60 * n)
		return COL_XOR;
	mno_buf_addc(out, (char)(scale | (g > 1 ? DIVIDED : 0)));
	if (g > 1)
		mno_varint_add(out, g);
	mno_varint_add(out, mno_zigzag((int64_t)first));
	if (p.kind == COL_DOD)
		mno_varint_add(out, mno_zigzag(w.d[0]));
	if (p.kind == COL_SPARSE)
		mno_buf_add(out, w.map, (n + 6) / 8);
	fit_put(out, p.v, p.n, &p.fit);
	return p.kind;
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

static bool all_same(const double *v, size_t n)
{
	uint64_t first = bits_of(v[0]), diff = 0;

	for (size_t i = 1; i < n; i++)
		diff |= bits_of(v[i]) ^ first;
	return !diff;
}

static enum column_kind encode_values(const double *v, size_t n, struct mno_buf *out)
{
	enum column_kind kind;
	int64_t m;

	if (all_same(v, n)) {
		if (exact_int(v[0], &m)) {
			mno_varint_add(out, mno_zigzag(m));
			return COL_CONST;
		}
		mno_buf_add(out, v, 8);
		return COL_CONST8;
	}
	kind = encode_ints(v, n, out);
	if (kind == COL_XOR)
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
	for (size_t i = 0; i < count; i++)
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

/* Moves the present values to the front; *@ret_first is the first one's tick. */
static size_t squeeze(
	const uint64_t *present, size_t ticks, double *v, size_t *ret_first, size_t *ret_last)
{
	size_t n = 0;

	for (size_t w = 0; w * 64 < ticks; w++)
		for (uint64_t left = present[w]; left; left &= left - 1) {
			size_t i = w * 64 + (unsigned)__builtin_ctzll(left);

			if (n == 0)
				*ret_first = i;
			*ret_last = i;
			v[n++] = v[i];
		}
	return n;
}

static bool has_stale(const double *v, size_t n)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += bits_of(v[i]) == MNO_STALE_BITS;
	return count;
}

void column_encode(double *v, const uint64_t *present, size_t ticks, struct mno_buf *out)
{
	size_t head = out->len, first = 0, last = 0, n_stale = 0, n, count = 0;
	uint16_t stale[HEAD_ROWS];
	uint8_t flags = 0;
	enum column_kind kind;

	for (size_t w = 0; w * 64 < ticks; w++)
		count += (size_t)__builtin_popcountll(present[w]);
	n = count == ticks ? ticks : squeeze(present, ticks, v, &first, &last);
	mno_buf_addc(out, 0);
	if (n < ticks && last - first + 1 == n) {
		flags |= COL_RUN;
		mno_buf_add(out, (uint8_t[]){(uint8_t)first, (uint8_t)(n - 1)}, 2);
	} else if (n < ticks) {
		flags |= COL_BITMAP;
		mno_buf_add(out, present, (ticks + 7) / 8);
	}
	if (has_stale(v, n)) {
		n_stale = take_stale(v, n, stale);
		flags |= COL_STALE;
		encode_places(out, stale, n_stale);
	}
	kind = encode_values(v, n, out);
	if (!out->err)
		out->data[head] = (char)(kind | flags);
}

/* --- reading --------------------------------------------------------------------------------------- */

static void to_doubles(const struct scale *s, const int64_t *m, double *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		v[i] = (double)m[i];
	if (s->a != 1)
		for (size_t i = 0; i < n; i++)
			v[i] /= s->a;
	if (s->b != 1)
		for (size_t i = 0; i < n; i++)
			v[i] /= s->b;
	if (s->c != 1)
		for (size_t i = 0; i < n; i++)
			v[i] *= s->c;
}

static bool get_plain(struct mno_reader *r, int64_t *k, size_t n)
{
	return fit_get(r, k, n);
}

static bool get_delta(struct mno_reader *r, int64_t *k, size_t n)
{
	uint64_t at = 0;

	k[0] = 0;
	if (!fit_get(r, k + 1, n - 1))
		return false;
	for (size_t i = 1; i < n; i++)
		k[i] = (int64_t)(at += (uint64_t)k[i]);
	return true;
}

static bool get_dod(struct mno_reader *r, int64_t *k, size_t n)
{
	uint64_t step = (uint64_t)mno_unzigzag(mno_read_varint(r)), at = step;

	if (n < 2 || !fit_get(r, k + 2, n - 2))
		return false;
	k[0] = 0;
	k[1] = (int64_t)at;
	for (size_t i = 2; i < n; i++) {
		step += (uint64_t)k[i];
		k[i] = (int64_t)(at += step);
	}
	return true;
}

static bool get_sparse(struct mno_reader *r, int64_t *k, size_t n)
{
	const uint8_t *map = mno_read_bytes(r, (n + 6) / 8);
	int64_t change[HEAD_ROWS + 1];
	size_t count = 0, next = 0;
	uint64_t at = 0;

	if (!map)
		return false;
	for (size_t i = 0; i + 1 < n; i++)
		count += map[i / 8] >> (i % 8) & 1;
	if (!fit_get(r, change, count))
		return false;
	change[count] = 0;
	k[0] = 0;
	for (size_t i = 0; i + 1 < n; i++) {
		uint64_t bit = map[i / 8] >> (i % 8) & 1;

		at += (uint64_t)change[next] & -bit;
		next += bit;
		k[i + 1] = (int64_t)at;
	}
	return true;
}

static bool (*const get_ints[])(struct mno_reader *r, int64_t *k, size_t n) = {
	[COL_PLAIN] = get_plain,
	[COL_DELTA] = get_delta,
	[COL_DOD] = get_dod,
	[COL_SPARSE] = get_sparse,
};

static bool read_ints(struct mno_reader *r, uint8_t kind, double *v, size_t n)
{
	unsigned scale = mno_read_u8(r);
	uint64_t g = scale & DIVIDED ? mno_read_varint(r) : 1;
	uint64_t first = (uint64_t)mno_unzigzag(mno_read_varint(r));
	int64_t m[HEAD_ROWS];

	scale &= ~(unsigned)DIVIDED;
	if (scale > SCALE_BITS || r->bad || !get_ints[kind](r, m, n))
		return false;
	if (g != 1)
		for (size_t i = 0; i < n; i++)
			m[i] = (int64_t)((uint64_t)m[i] * g);
	for (size_t i = 0; i < n; i++)
		m[i] = (int64_t)((uint64_t)m[i] + first);
	if (scale != SCALE_BITS)
		to_doubles(&scales[scale], m, v, n);
	else
		for (size_t i = 0; i < n; i++)
			v[i] = of_bits((uint64_t)fold((uint64_t)m[i]));
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

static bool read_const(struct mno_reader *r, uint8_t kind, double *v, size_t n)
{
	double c = kind == COL_CONST ? (double)mno_unzigzag(mno_read_varint(r))
				     : of_bits(mno_read_u64(r));

	for (size_t i = 0; i < n; i++)
		v[i] = c;
	return true;
}

static bool read_values(struct mno_reader *r, uint8_t kind, double *v, size_t n)
{
	if (kind <= COL_CONST8)
		return read_const(r, kind, v, n);
	if (kind == COL_XOR)
		return read_xor(r, v, n);
	return kind < ARRAY_SIZE(get_ints) && read_ints(r, kind, v, n);
}

/* The places of values that are staleness marks. */
static bool read_stale(struct mno_reader *r, uint16_t *at, size_t n, size_t *ret_n)
{
	uint64_t count = mno_read_varint(r), pos = 0;

	if (count > n)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t gap = mno_read_varint(r);

		if (r->bad || gap >= n - pos)
			return false;
		pos += gap;
		at[i] = (uint16_t)pos;
	}
	*ret_n = count;
	return !r->bad;
}

static bool read_presence(struct mno_reader *r, uint8_t flags, size_t ticks, struct column *ret)
{
	const uint8_t *p;

	ret->first = 0;
	ret->n = ticks;
	ret->map = NULL;
	if (flags & COL_BITMAP) {
		ret->map = mno_read_bytes(r, (ticks + 7) / 8);
		ret->n = 0;
		for (size_t i = 0; ret->map && i < ticks; i++)
			ret->n += ret->map[i / 8] >> (i % 8) & 1;
	} else if (flags & COL_RUN) {
		p = mno_read_bytes(r, 2);
		if (!p)
			return false;
		ret->first = p[0];
		ret->n = (size_t)p[1] + 1;
	}
	return !r->bad && ret->n > 0 && ret->first + ret->n <= ticks;
}

int column_decode(const uint8_t *p, size_t len, size_t ticks, struct column *ret, double *v)
{
	struct mno_reader r = {.p = p, .end = p + len};
	uint8_t head = mno_read_u8(&r), kind = head & KIND_MASK;
	uint16_t stale[HEAD_ROWS];
	size_t n_stale = 0;

	if (r.bad || head & ~COL_ALL || !read_presence(&r, head, ticks, ret))
		return -MNO_ECORRUPT;
	if (head & COL_STALE && !read_stale(&r, stale, ret->n, &n_stale))
		return -MNO_ECORRUPT;
	if (!read_values(&r, kind, v, ret->n) || r.bad)
		return -MNO_ECORRUPT;
	ret->constant = kind <= COL_CONST8 && !n_stale;
	for (size_t i = 0; i < n_stale; i++)
		v[stale[i]] = of_bits(MNO_STALE_BITS);
	return 0;
}

size_t column_ticks(const struct column *c, size_t ticks, uint16_t *idx)
{
	size_t n = 0;

	if (!c->map) {
		for (; n < c->n; n++)
			idx[n] = (uint16_t)(c->first + n);
		return n;
	}
	for (size_t i = 0; i < ticks; i++)
		if (c->map[i / 8] >> (i % 8) & 1)
			idx[n++] = (uint16_t)i;
	return n;
}
