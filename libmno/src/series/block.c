/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block as bytes: a few groups of 64 series, one to five windows of up to 192 ticks.
 *   u8 windows, per window: u16 ticks, i64 first time, packed differences (or 0xff and i64 each)
 *   varint groups, per group: varint number (the first) or gap, per window u64 columns, varint bytes
 *   per group: per column, per window that has it: varint length; then the columns in that order
 * What stands side by side is alike: zstd runs over all of it.
 */
#include "mno/err.h"
#include "series_internal.h"

#define WIDE 0xff /* in place of a width: times too far apart to pack */

void block_maker_done(struct block_maker *m)
{
	mno_buf_done(&m->table);
	mno_buf_done(&m->body);
	mno_buf_done(&m->out);
}

void block_begin(struct block_maker *m, size_t n_windows)
{
	mno_buf_reset(&m->table);
	mno_buf_reset(&m->body);
	mno_buf_reset(&m->out);
	m->n_windows = n_windows;
	m->n_groups = 0;
	m->samples = 0;
	m->series = 0;
}

static void add_columns(struct mno_buf *out, const struct piece *p, size_t n, uint64_t any)
{
	for (uint64_t left = any; left; left &= left - 1)
		for (size_t w = 0; w < n; w++)
			if (p[w].columns & (left & -left))
				mno_varint_add(out, p[w].len[__builtin_ctzll(left)]);
	for (uint64_t left = any; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		for (size_t w = 0; w < n; w++)
			if (p[w].columns >> c & 1)
				mno_buf_add(out, p[w].p[c], p[w].len[c]);
	}
}

void block_add(struct block_maker *m, uint32_t group, const struct piece *pieces)
{
	size_t before = m->body.len;
	uint64_t any = 0;

	mno_varint_add(&m->table, m->n_groups ? group - m->last : group);
	for (size_t w = 0; w < m->n_windows; w++) {
		any |= pieces[w].columns;
		mno_buf_add(&m->table, &pieces[w].columns, 8);
	}
	add_columns(&m->body, pieces, m->n_windows, any);
	mno_varint_add(&m->table, m->body.len - before);
	if (!m->n_groups)
		m->first = group;
	m->last = group;
	m->n_groups++;
	m->series += (uint32_t)__builtin_popcountll(any);
}

static void add_window(struct mno_buf *out, const struct window *w)
{
	uint16_t n = (uint16_t)w->n;
	int64_t d[HEAD_ROWS];
	struct fit f;

	for (size_t i = 1; i < w->n; i++)
		d[i - 1] = (int64_t)((uint64_t)w->t[i] - (uint64_t)w->t[i - 1]);
	mno_buf_add(out, &n, sizeof(n));
	mno_buf_add(out, &w->t[0], sizeof(w->t[0]));
	f = fit_lowest(d, w->n - 1);
	if (f.width <= WIDTH_MAX) {
		fit_put(out, d, w->n - 1, &f);
		return;
	}
	mno_buf_addc(out, (char)WIDE);
	mno_buf_add(out, d, (w->n - 1) * sizeof(*d));
}

int block_end(struct block_maker *m, const struct window *w)
{
	mno_buf_addc(&m->out, (char)m->n_windows);
	for (size_t i = 0; i < m->n_windows; i++)
		add_window(&m->out, &w[i]);
	mno_varint_add(&m->out, m->n_groups);
	mno_buf_add(&m->out, m->table.data, m->table.len);
	mno_buf_add(&m->out, m->body.data, m->body.len);
	return m->table.err ?: m->body.err ?: m->out.err;
}

/* --- reading ----------------------------------------------------------------------------------- */

static bool read_gaps(struct mno_reader *r, int64_t *d, size_t n)
{
	const uint8_t *p;

	if (!mno_reader_left(r) || *r->p != WIDE)
		return fit_get(r, d, n);
	r->p++;
	p = mno_read_bytes(r, n * sizeof(*d));
	if (p)
		memcpy(d, p, n * sizeof(*d));
	return p;
}

static bool read_window(struct mno_reader *r, struct window *w)
{
	const uint8_t *p = mno_read_bytes(r, 2);
	int64_t d[HEAD_ROWS];
	uint16_t n;

	if (!p)
		return false;
	memcpy(&n, p, sizeof(n));
	w->n = n;
	w->t[0] = (int64_t)mno_read_u64(r);
	if (n == 0 || n > HEAD_ROWS || r->bad || !read_gaps(r, d, n - 1u))
		return false;
	for (size_t i = 1; i < n; i++) {
		w->t[i] = (int64_t)((uint64_t)w->t[i - 1] + (uint64_t)d[i - 1]);
		if (w->t[i] <= w->t[i - 1])
			return false;
	}
	return true;
}

static bool read_windows(struct mno_reader *r, struct block *b)
{
	b->n_windows = mno_read_u8(r);
	if (b->n_windows == 0 || b->n_windows > BLOCK_WINDOWS)
		return false;
	for (size_t i = 0; i < b->n_windows; i++)
		if (!read_window(r, &b->w[i]) ||
			(i && b->w[i].t[0] <= b->w[i - 1].t[b->w[i - 1].n - 1]))
			return false;
	return true;
}

static bool read_groups(struct mno_reader *r, struct block *b)
{
	uint64_t at = 0;

	b->n_groups = mno_read_varint(r);
	if (b->n_groups == 0 || b->n_groups > BLOCK_GROUPS)
		return false;
	for (size_t i = 0; i < b->n_groups; i++) {
		struct block_group *g = &b->g[i];
		uint64_t gap = mno_read_varint(r), len;

		if (gap > SERIES_ID_MAX / GROUP_SERIES - at || (i && !gap))
			return false;
		at += gap;
		g->group = (uint32_t)at;
		for (size_t w = 0; w < b->n_windows; w++)
			g->columns[w] = mno_read_u64(r);
		len = mno_read_varint(r);
		if (r->bad || len > UINT32_MAX)
			return false;
		g->len = (uint32_t)len;
	}
	return true;
}

int block_open(const uint8_t *raw, size_t len, struct block *ret)
{
	struct mno_reader r = {.p = raw, .end = raw + len};

	if (!read_windows(&r, ret) || !read_groups(&r, ret))
		return -MNO_ECORRUPT;
	for (size_t i = 0; i < ret->n_groups; i++) {
		ret->g[i].p = mno_read_bytes(&r, ret->g[i].len);
		if (!ret->g[i].p)
			return -MNO_ECORRUPT;
	}
	return r.p == r.end ? 0 : -MNO_ECORRUPT;
}

int block_pieces(const struct block *b, size_t i, struct piece ret[BLOCK_WINDOWS])
{
	const struct block_group *g = &b->g[i];
	struct mno_reader r = {.p = g->p, .end = g->p + g->len};
	uint64_t any = 0;

	for (size_t w = 0; w < b->n_windows; w++)
		any |= ret[w].columns = g->columns[w];
	for (uint64_t left = any; left; left &= left - 1)
		for (size_t w = 0; w < b->n_windows; w++) {
			uint64_t len;

			if (!(g->columns[w] & (left & -left)))
				continue;
			len = mno_read_varint(&r);
			if (len > g->len)
				return -MNO_ECORRUPT;
			ret[w].len[__builtin_ctzll(left)] = (uint32_t)len;
		}
	for (uint64_t left = any; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		for (size_t w = 0; w < b->n_windows; w++)
			if (g->columns[w] >> c & 1)
				ret[w].p[c] = mno_read_bytes(&r, ret[w].len[c]);
	}
	return r.bad ? -MNO_ECORRUPT : 0;
}
