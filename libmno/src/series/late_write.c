/* SPDX-License-Identifier: Apache-2.0 */
/* Sorted samples of one group become the blocks of a run. */
#include <errno.h>
#include "late.h"

struct late_writer {
	struct mno_txn *p;
	struct late_meta *m;
	uint32_t group, run;
	unsigned level;
	size_t n_windows; /* full ones; the next is being filled */
	struct window w[BLOCK_WINDOWS];
	struct piece piece[BLOCK_WINDOWS];
	struct mno_buf enc[BLOCK_WINDOWS]; /* what the pieces point into */
	uint64_t samples;                  /* of the block */
	uint64_t columns;                  /* of the window */
	uint64_t present[GROUP_SERIES][HEAD_ROWS / 64];
	double v[GROUP_SERIES][HEAD_ROWS];
	struct block_maker maker;
};

int late_writer_new(struct late_writer **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct late_writer *late_writer_free(struct late_writer *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < BLOCK_WINDOWS; i++)
		mno_buf_done(&w->enc[i]);
	block_maker_done(&w->maker);
	free(w);
	return NULL;
}

unsigned late_level(size_t ticks)
{
	unsigned level = 0;

	for (; ticks >= LATE_DUE && level + 1 < LATE_LEVELS; level++)
		ticks /= LATE_DUE;
	return level;
}

static void window_clear(struct late_writer *w)
{
	for (uint64_t left = w->columns; left; left &= left - 1)
		memset(w->present[__builtin_ctzll(left)], 0, sizeof(w->present[0]));
	w->columns = 0;
	if (w->n_windows < BLOCK_WINDOWS)
		w->w[w->n_windows].n = 0;
}

int late_writer_begin(struct late_writer *w, struct mno_txn *p, struct late_meta *m, uint32_t group,
	uint32_t run, unsigned level)
{
	w->p = p;
	w->m = m;
	w->group = group;
	w->run = run;
	w->level = level;
	w->n_windows = 0;
	w->samples = 0;
	window_clear(w);
	return 0;
}

static int block_write(struct late_writer *w)
{
	const struct window *last = &w->w[w->n_windows - 1];
	struct mno_seal info = {.kind = MNO_SEAL_LATE,
		.flags = (uint8_t)w->level,
		.a = mno_time_key(last->t[last->n - 1]),
		.b = w->samples};
	uint8_t key[LATE_KEY];
	size_t bytes;
	int r;

	block_begin(&w->maker, w->n_windows);
	block_add(&w->maker, w->group, w->piece);
	r = block_end(&w->maker, w->w);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w->n_windows; i++)
		info.count += (uint32_t)w->w[i].n;
	mno_be32(key, w->group);
	mno_be32(key + 4, w->run);
	mno_be64(key + 8, mno_time_key(w->w[0].t[0]));
	r = mno_seal_put(w->p, MNO_DB_LATE, key, sizeof(key), &info, w->maker.out.data,
		w->maker.out.len, &bytes);
	if (r < 0)
		return r;
	w->m->bytes += bytes;
	w->n_windows = 0;
	w->w[0].n = 0;
	w->samples = 0;
	w->w[0].n = 0;
	return 0;
}

static int window_encode(struct late_writer *w)
{
	struct window *win = &w->w[w->n_windows];
	struct piece *p = &w->piece[w->n_windows];
	struct mno_buf *enc = &w->enc[w->n_windows];
	uint32_t at[GROUP_SERIES];

	p->columns = w->columns;
	mno_buf_reset(enc);
	for (uint64_t left = w->columns; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		at[c] = (uint32_t)enc->len;
		column_encode(w->v[c], w->present[c], win->n, enc);
		p->len[c] = (uint32_t)(enc->len - at[c]);
	}
	for (uint64_t left = w->columns; left; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		p->p[c] = (uint8_t *)enc->data + at[c];
	}
	w->n_windows++;
	window_clear(w);
	return enc->err;
}

static int window_full(struct late_writer *w)
{
	int r = window_encode(w);

	return r == 0 && w->n_windows == BLOCK_WINDOWS ? block_write(w) : r;
}

int late_writer_add(struct late_writer *w, const struct late_set *s)
{
	size_t at[GROUP_SERIES] = {0};
	uint64_t left = 0;

	for (unsigned i = 0; i < GROUP_SERIES; i++)
		left |= (uint64_t)(s->c[i].n > 0) << i;
	while (left) {
		struct window *win = &w->w[w->n_windows];
		int64_t t = INT64_MAX;

		for (uint64_t x = left; x; x &= x - 1) {
			unsigned i = (unsigned)__builtin_ctzll(x);

			t = MNO_MIN(t, s->c[i].t[at[i]]);
		}
		for (uint64_t x = left; x; x &= x - 1) {
			unsigned i = (unsigned)__builtin_ctzll(x);

			if (s->c[i].t[at[i]] != t)
				continue;
			w->v[i][win->n] = s->c[i].v[at[i]];
			w->present[i][win->n / 64] |= 1ULL << win->n % 64;
			w->columns |= 1ULL << i;
			w->samples++;
			if (++at[i] == s->c[i].n)
				left &= ~(1ULL << i);
		}
		win->t[win->n++] = t;
		if (win->n == HEAD_ROWS) {
			int r = window_full(w);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

int late_writer_end(struct late_writer *w)
{
	int r = w->w[w->n_windows].n ? window_full(w) : 0;

	return r == 0 && w->n_windows ? block_write(w) : r;
}
