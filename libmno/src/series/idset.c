/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of series ids by group of 64. As bytes, for each group:
 *   varint(gap to the group before << 2 | form), then by form
 *   ONE: column u8; FEW: count u8, columns u8 each; MASK: mask u64; ALL: nothing
 */
#include <errno.h>
#include "labels_internal.h"
#include "mno/err.h"

#define GROUP     64u
#define GROUP_MAX (UINT32_MAX / GROUP)

enum form { ONE, FEW, MASK, ALL };

void set_done(struct id_set *s)
{
	free(s->v);
	*s = (struct id_set){0};
}

int set_add(struct id_set *s, uint32_t group, uint64_t mask)
{
	if (s->n && s->v[s->n - 1].group == group) {
		s->v[s->n - 1].mask |= mask;
		return 0;
	}
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct id_group *p = reallocarray(s->v, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->v = p;
		s->cap = cap;
	}
	s->v[s->n++] = (struct id_group){group, mask};
	return 0;
}

static int by_group(const void *a, const void *b)
{
	uint32_t x = ((const struct id_group *)a)->group, y = ((const struct id_group *)b)->group;

	return x < y ? -1 : x > y;
}

void set_sort(struct id_set *s)
{
	bool sorted = true;
	size_t n = 0;

	for (size_t i = 1; i < s->n && sorted; i++)
		sorted = s->v[i - 1].group < s->v[i].group;
	if (sorted)
		return;
	qsort(s->v, s->n, sizeof(*s->v), by_group);
	for (size_t i = 0; i < s->n; i++) {
		if (n && s->v[n - 1].group == s->v[i].group)
			s->v[n - 1].mask |= s->v[i].mask;
		else
			s->v[n++] = s->v[i];
	}
	s->n = n;
}

/* keep = in both if @both, else in @a only */
static void combine(struct id_set *a, const struct id_set *b, bool both)
{
	size_t n = 0, j = 0;

	for (size_t i = 0; i < a->n; i++) {
		struct id_group e = a->v[i];
		uint64_t other;

		while (j < b->n && b->v[j].group < e.group)
			j++;
		other = j < b->n && b->v[j].group == e.group ? b->v[j].mask : 0;
		e.mask &= both ? other : ~other;
		if (e.mask)
			a->v[n++] = e;
	}
	a->n = n;
}

void set_and(struct id_set *a, const struct id_set *b)
{
	combine(a, b, true);
}

void set_sub(struct id_set *a, const struct id_set *b)
{
	combine(a, b, false);
}

int set_or(struct id_set *a, const struct id_set *b)
{
	int r = 0;

	for (size_t i = 0; i < b->n && r == 0; i++)
		r = set_add(a, b->v[i].group, b->v[i].mask);
	set_sort(a);
	return r;
}

size_t set_count(const struct id_set *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += (size_t)__builtin_popcountll(s->v[i].mask);
	return n;
}

size_t set_find(const struct id_set *s, uint32_t group)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->v[mid].group < group)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void put_mask(struct mno_buf *out, uint32_t gap, uint64_t mask)
{
	int n = __builtin_popcountll(mask);
	enum form form = n == 1 ? ONE : n == GROUP ? ALL : n < 7 ? FEW : MASK;

	mno_varint_add(out, (uint64_t)gap << 2 | form);
	if (form == MASK)
		mno_buf_add(out, &mask, 8);
	if (form == FEW)
		mno_buf_addc(out, (char)n);
	for (; form < MASK && mask; mask &= mask - 1)
		mno_buf_addc(out, (char)__builtin_ctzll(mask));
}

void set_encode(const struct id_set *s, size_t from, size_t to, struct mno_buf *out)
{
	uint32_t last = 0;

	for (size_t i = from; i < to; i++) {
		put_mask(out, s->v[i].group - last, s->v[i].mask);
		last = s->v[i].group;
	}
}

static uint64_t get_mask(struct mno_reader *r, enum form form)
{
	uint64_t mask = 0;
	unsigned n = form == FEW ? mno_read_u8(r) : 1;

	if (form == ALL)
		return UINT64_MAX;
	if (form == MASK)
		return mno_read_u64(r);
	while (n-- && !r->bad) {
		uint8_t c = mno_read_u8(r);

		if (c >= GROUP)
			return 0;
		mask |= 1ULL << c;
	}
	return mask;
}

int set_decode(const void *p, size_t len, struct id_set *s)
{
	struct mno_reader r = {.p = p, .end = (const uint8_t *)p + len};
	uint64_t group = 0;
	bool first = true;

	while (r.p < r.end) {
		uint64_t token = mno_read_varint(&r), gap = token >> 2, mask;
		int err;

		if (r.bad || gap > GROUP_MAX - group || (!gap && !first))
			return -MNO_ECORRUPT;
		group += gap;
		first = false;
		mask = get_mask(&r, token & 3);
		if (r.bad || !mask)
			return -MNO_ECORRUPT;
		err = set_add(s, (uint32_t)group, mask);
		if (err < 0)
			return err;
	}
	return 0;
}
