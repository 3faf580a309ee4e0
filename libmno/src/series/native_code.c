/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch of native histograms as bytes, each told by what differs from the one before:
 *   u8 version, varint count, i64 first time, then per histogram
 *   zigzag varint difference of time differences
 *   u8 SAME_LAYOUT | FLOAT | STALE | reset hint << 4; a STALE one has no more
 *   unless SAME_LAYOUT: u8 schema, u64 zero threshold, spans of both signs (varint number, per
 *   span zigzag varint offset, varint length)
 *   u64 sum; count, zero count and buckets of both signs
 * Integers: zigzag varint of the difference to the same bucket in the histogram before (0 if the
 * layout changed). Floats: the bytes that differ by XOR, behind u8 first byte << 4 | bytes.
 */
#include <errno.h>
#include "../store/codec.h"
#include "mno/err.h"
#include "native.h"

#define VERSION     1
#define SAME_LAYOUT 1
#define FLOAT       2
#define STALE       4
#define RESET_SHIFT 4
#define FLAGS       (SAME_LAYOUT | FLOAT | STALE | 3 << RESET_SHIFT)

/* --- histograms in memory --------------------------------------------------------------------- */

void natives_done(struct natives *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].mem);
	b->n = 0;
}

static int check_buckets(const struct mno_native_buckets *b, bool is_float)
{
	uint64_t n = 0;

	if (b->n_spans > MNO_NATIVE_BUCKETS || b->n > MNO_NATIVE_BUCKETS)
		return -EINVAL;
	if ((b->n_spans && !b->spans) ||
		(b->n && !(is_float ? (void *)b->counts : (void *)b->deltas)))
		return -EINVAL;
	for (size_t i = 0; i < b->n_spans; i++)
		n += b->spans[i].length;
	return n == b->n ? 0 : -EINVAL;
}

int native_check(const struct mno_native_hist *h)
{
	if (h->schema < MNO_NATIVE_SCHEMA_MIN || h->schema > MNO_NATIVE_SCHEMA_MAX ||
		h->reset >= MNO_NATIVE_RESET_N)
		return -EINVAL;
	return check_buckets(&h->positive, h->is_float) ?: check_buckets(&h->negative, h->is_float);
}

static size_t buckets_size(const struct mno_native_buckets *b)
{
	return b->n_spans * sizeof(*b->spans) + b->n * 8;
}

/* Lays out room for @b at @p: its values, then its spans. */
static uint8_t *place(struct mno_native_buckets *b, bool is_float, uint8_t *p)
{
	b->deltas = is_float ? NULL : (int64_t *)p;
	b->counts = is_float ? (double *)p : NULL;
	p += b->n * 8;
	b->spans = (struct mno_native_span *)p;
	return p + b->n_spans * sizeof(*b->spans);
}

/* Room for the buckets whose numbers are in v->h. */
static int native_room(struct native *v)
{
	size_t n = buckets_size(&v->h.positive) + buckets_size(&v->h.negative);

	v->mem = malloc(n + 1);
	if (!v->mem)
		return -ENOMEM;
	place(&v->h.negative, v->h.is_float, place(&v->h.positive, v->h.is_float, v->mem));
	return 0;
}

static void copy_buckets(const struct mno_native_buckets *to, const struct mno_native_buckets *from)
{
	if (from->n)
		memcpy(to->deltas ? (void *)to->deltas : (void *)to->counts,
			to->deltas ? (void *)from->deltas : (void *)from->counts, from->n * 8);
	if (from->n_spans)
		memcpy((void *)to->spans, from->spans, from->n_spans * sizeof(*from->spans));
}

_Static_assert(sizeof(struct mno_native_span) == 8, "values behind spans are aligned");

int native_copy(struct native *to, int64_t t_ms, const struct mno_native_hist *h)
{
	struct native v = {.t_ms = t_ms, .h = *h};
	int r = native_room(&v);

	if (r < 0)
		return r;
	copy_buckets(&v.h.positive, &h->positive);
	copy_buckets(&v.h.negative, &h->negative);
	*to = v;
	return 0;
}

static bool same_spans(const struct mno_native_buckets *a, const struct mno_native_buckets *b)
{
	return a->n == b->n && a->n_spans == b->n_spans &&
	       (!a->n_spans || !memcmp(a->spans, b->spans, a->n_spans * sizeof(*a->spans)));
}

static bool same_layout(const struct mno_native_hist *a, const struct mno_native_hist *b)
{
	return a->schema == b->schema && a->is_float == b->is_float &&
	       bits_of(a->zero_threshold) == bits_of(b->zero_threshold) &&
	       same_spans(&a->positive, &b->positive) && same_spans(&a->negative, &b->negative);
}

static bool same_values(
	const struct mno_native_buckets *a, const struct mno_native_buckets *b, bool is_float)
{
	return !a->n || !memcmp(is_float ? (void *)a->counts : (void *)a->deltas,
				is_float ? (void *)b->counts : (void *)b->deltas, a->n * 8);
}

bool native_equal(const struct mno_native_hist *a, const struct mno_native_hist *b)
{
	bool counts = a->is_float
			      ? bits_of(a->count_float) == bits_of(b->count_float) &&
					bits_of(a->zero_count_float) == bits_of(b->zero_count_float)
			      : a->count == b->count && a->zero_count == b->zero_count;

	return same_layout(a, b) && counts && a->reset == b->reset &&
	       bits_of(a->sum) == bits_of(b->sum) &&
	       same_values(&a->positive, &b->positive, a->is_float) &&
	       same_values(&a->negative, &b->negative, a->is_float);
}

/* Nothing but a staleness mark: what is behind it is told by what was before. */
static bool is_mark(const struct mno_native_hist *h)
{
	static const struct mno_native_hist empty;

	return bits_of(h->sum) == MNO_STALE_BITS && same_layout(h, &empty) && !h->count &&
	       !h->zero_count && !h->reset;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put_bits(struct mno_buf *out, uint64_t now, uint64_t before)
{
	uint64_t x = now ^ before;
	unsigned first = x ? (unsigned)__builtin_ctzll(x) / 8 : 0;
	unsigned n = x ? 8 - (unsigned)__builtin_clzll(x) / 8 - first : 0;

	mno_buf_addc(out, (char)(first << 4 | n));
	x >>= 8 * first;
	mno_buf_add(out, &x, n);
}

static void put_int(struct mno_buf *out, uint64_t now, uint64_t before)
{
	mno_varint_add(out, mno_zigzag((int64_t)(now - before)));
}

static void put_spans(struct mno_buf *out, const struct mno_native_buckets *b)
{
	mno_varint_add(out, b->n_spans);
	for (size_t i = 0; i < b->n_spans; i++) {
		mno_varint_add(out, mno_zigzag(b->spans[i].offset));
		mno_varint_add(out, b->spans[i].length);
	}
}

/* @before: of the same layout, or NULL */
static void put_buckets(struct mno_buf *out, const struct mno_native_buckets *b,
	const struct mno_native_buckets *before, bool is_float)
{
	uint64_t now = 0, then = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (is_float) {
			put_bits(out, bits_of(b->counts[i]),
				before ? bits_of(before->counts[i]) : 0);
			continue;
		}
		now += (uint64_t)b->deltas[i];
		then += before ? (uint64_t)before->deltas[i] : 0;
		put_int(out, now, then);
	}
}

static void put_hist(
	struct mno_buf *out, const struct mno_native_hist *h, const struct mno_native_hist *before)
{
	bool same = before && same_layout(h, before);
	const struct mno_native_hist none = {0}, *b = same ? before : &none;
	uint8_t flags = (uint8_t)((same ? SAME_LAYOUT : 0) | (h->is_float ? FLOAT : 0) |
				  h->reset << RESET_SHIFT);

	mno_buf_addc(out, (char)flags);
	if (!same) {
		mno_buf_addc(out, (char)h->schema);
		mno_buf_add(out, &h->zero_threshold, 8);
		put_spans(out, &h->positive);
		put_spans(out, &h->negative);
	}
	put_bits(out, bits_of(h->sum), bits_of(b->sum));
	if (h->is_float) {
		put_bits(out, bits_of(h->count_float), bits_of(b->count_float));
		put_bits(out, bits_of(h->zero_count_float), bits_of(b->zero_count_float));
	} else {
		put_int(out, h->count, b->count);
		put_int(out, h->zero_count, b->zero_count);
	}
	put_buckets(out, &h->positive, same ? &b->positive : NULL, h->is_float);
	put_buckets(out, &h->negative, same ? &b->negative : NULL, h->is_float);
}

void native_encode(const struct native *v, size_t n, struct mno_buf *out)
{
	const struct mno_native_hist *before = NULL;
	uint64_t step = 0;

	mno_buf_addc(out, VERSION);
	mno_varint_add(out, n);
	if (n)
		mno_buf_add(out, &v[0].t_ms, 8);
	for (size_t i = 0; i < n; i++) {
		uint64_t d = i ? (uint64_t)v[i].t_ms - (uint64_t)v[i - 1].t_ms : 0;

		mno_varint_add(out, mno_zigzag((int64_t)(d - step)));
		step = d;
		if (is_mark(&v[i].h)) {
			mno_buf_addc(out, STALE);
			continue;
		}
		put_hist(out, &v[i].h, before);
		before = &v[i].h;
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

static uint64_t get_bits(struct mno_reader *r, uint64_t before)
{
	unsigned head = mno_read_u8(r), first = head >> 4, n = head & 15;
	const uint8_t *p;
	uint64_t x = 0;

	if (first + n > 8) {
		r->bad = true;
		return 0;
	}
	p = mno_read_bytes(r, n);
	if (p)
		memcpy(&x, p, n);
	return before ^ (n ? x << 8 * first : 0);
}

static uint64_t get_int(struct mno_reader *r, uint64_t before)
{
	return before + (uint64_t)mno_unzigzag(mno_read_varint(r));
}

/* Into @spans, of MNO_NATIVE_BUCKETS; the numbers into @b. */
static bool get_spans(
	struct mno_reader *r, struct mno_native_span *spans, struct mno_native_buckets *b)
{
	uint64_t n = mno_read_varint(r), sum = 0;

	if (n > MNO_NATIVE_BUCKETS)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		int64_t offset = mno_unzigzag(mno_read_varint(r));
		uint64_t length = mno_read_varint(r);

		if (r->bad || length > MNO_NATIVE_BUCKETS || offset != (int32_t)offset)
			return false;
		spans[i] = (struct mno_native_span){(int32_t)offset, (uint32_t)length};
		sum += length;
	}
	b->n_spans = n;
	b->n = sum;
	return sum <= MNO_NATIVE_BUCKETS;
}

static void get_buckets(struct mno_reader *r, const struct mno_native_buckets *b,
	const struct mno_native_buckets *before, bool is_float)
{
	uint64_t now, last = 0, then = 0;

	for (size_t i = 0; i < b->n && !r->bad; i++) {
		if (is_float) {
			((double *)b->counts)[i] =
				of_bits(get_bits(r, before ? bits_of(before->counts[i]) : 0));
			continue;
		}
		then += before ? (uint64_t)before->deltas[i] : 0;
		now = get_int(r, then);
		((int64_t *)b->deltas)[i] = (int64_t)(now - last);
		last = now;
	}
}

static int get_layout(struct mno_reader *r, struct native *v, uint8_t flags)
{
	struct mno_native_span pos[MNO_NATIVE_BUCKETS], neg[MNO_NATIVE_BUCKETS];
	uint64_t threshold;
	int err;

	v->h.is_float = flags & FLOAT;
	v->h.schema = (int8_t)mno_read_u8(r);
	threshold = mno_read_u64(r);
	v->h.zero_threshold = of_bits(threshold);
	if (!get_spans(r, pos, &v->h.positive) || !get_spans(r, neg, &v->h.negative) || r->bad)
		return -MNO_ECORRUPT;
	if (v->h.schema < MNO_NATIVE_SCHEMA_MIN || v->h.schema > MNO_NATIVE_SCHEMA_MAX)
		return -MNO_ECORRUPT;
	err = native_room(v);
	if (err < 0)
		return err;
	memcpy((void *)v->h.positive.spans, pos, v->h.positive.n_spans * sizeof(*pos));
	memcpy((void *)v->h.negative.spans, neg, v->h.negative.n_spans * sizeof(*neg));
	return 0;
}

/* @v is zeroed; @before is NULL for the first. What it owns is the caller's even on failure. */
static int get_hist(
	struct mno_reader *r, struct native *v, const struct mno_native_hist *before, uint8_t flags)
{
	const struct mno_native_hist none = {0}, *b = before;
	bool same = flags & SAME_LAYOUT;
	int err;

	if (same && (!before || before->is_float != !!(flags & FLOAT)))
		return -MNO_ECORRUPT;
	if (same) {
		err = native_copy(v, v->t_ms, before);
	} else {
		b = &none;
		err = get_layout(r, v, flags);
	}
	if (err < 0)
		return err;
	v->h.reset = flags >> RESET_SHIFT;
	v->h.sum = of_bits(get_bits(r, bits_of(b->sum)));
	if (v->h.is_float) {
		v->h.count_float = of_bits(get_bits(r, bits_of(b->count_float)));
		v->h.zero_count_float = of_bits(get_bits(r, bits_of(b->zero_count_float)));
	} else {
		v->h.count = get_int(r, b->count);
		v->h.zero_count = get_int(r, b->zero_count);
	}
	get_buckets(r, &v->h.positive, same ? &b->positive : NULL, v->h.is_float);
	get_buckets(r, &v->h.negative, same ? &b->negative : NULL, v->h.is_float);
	return r->bad ? -MNO_ECORRUPT : 0;
}

int native_decode(const uint8_t *raw, size_t len, struct natives *ret)
{
	struct mno_reader r = {.p = raw, .end = raw + len};
	const struct mno_native_hist *before = NULL;
	uint8_t version = mno_read_u8(&r);
	uint64_t n = mno_read_varint(&r), step = 0, t = mno_read_u64(&r);

	if (r.bad || version != VERSION || n == 0 || n > NATIVE_MAX)
		return version > VERSION ? -MNO_EVERSION : -MNO_ECORRUPT;
	for (uint64_t i = 0; i < n; i++) {
		struct native *v = &ret->v[i];
		uint8_t flags;
		int err;

		step += (uint64_t)mno_unzigzag(mno_read_varint(&r));
		t += step;
		flags = mno_read_u8(&r);
		if (r.bad || flags & ~FLAGS || (i ? (int64_t)t <= v[-1].t_ms : step != 0))
			return -MNO_ECORRUPT;
		*v = (struct native){.t_ms = (int64_t)t};
		ret->n++;
		if (flags == STALE) {
			v->h.sum = of_bits(MNO_STALE_BITS);
			continue;
		}
		if (flags & STALE)
			return -MNO_ECORRUPT;
		err = get_hist(&r, v, before, flags);
		if (err < 0)
			return err;
		before = &v->h;
	}
	return r.p == r.end ? 0 : -MNO_ECORRUPT;
}
