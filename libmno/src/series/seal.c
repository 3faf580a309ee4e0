/* SPDX-License-Identifier: Apache-2.0 */
/* The head becomes blocks; what was not seen in it leaves the memory. */
#include <errno.h>
#include "series_internal.h"

struct columns {
	uint64_t present[GROUP_SERIES][HEAD_ROWS / 64];
	double v[GROUP_SERIES][HEAD_ROWS];
};

/* Rows to columns, chunk by chunk; *@ret_samples counts what is present. */
static uint64_t transpose(const struct rows *rw, size_t n, struct columns *c, uint64_t *ret_samples)
{
	uint64_t any = 0, samples = 0;

	memset(c->present, 0, sizeof(c->present));
	for (size_t r = 0; r < n; r++) {
		uint64_t here = rw->present[r + 1];

		any |= here;
		samples += (uint64_t)__builtin_popcountll(here);
		for (; here; here &= here - 1)
			c->present[__builtin_ctzll(here)][r / 64] |= 1ULL << (r % 64);
	}
	for (size_t r0 = 0; r0 < n; r0 += 8) {
		const double(*in)[GROUP_SERIES] = rw->chunk[r0 / CHUNK_ROWS];

		if (!in)
			continue;
		in += r0 % CHUNK_ROWS;
		for (unsigned col = 0; col < GROUP_SERIES; col++)
			for (size_t r = 0; r < 8; r++)
				c->v[col][r0 + r] = in[r][col];
	}
	*ret_samples = samples;
	return any;
}

static int seal_group(struct mno_series *s, struct mno_txn *txn, const struct head *h,
	uint32_t group, struct columns *c, uint64_t *ret_any)
{
	struct mno_seal info = {.kind = MNO_SEAL_BLOCK, .a = mno_time_key(h->t[h->n - 1])};
	struct block_in in = {.n = h->n, .t = h->t, .present = c->present, .v = c->v};
	uint8_t key[12];
	size_t bytes;
	int r;

	in.columns = transpose(h->rows[group], h->n, c, &info.b);
	*ret_any = in.columns;
	if (!in.columns)
		return 0;
	info.count = (uint32_t)__builtin_popcountll(in.columns);
	mno_buf_reset(&s->raw);
	block_encode(&in, &s->raw);
	if (s->raw.err)
		return s->raw.err;
	mno_be32(key, group);
	mno_be64(key + 4, mno_time_key(h->t[0]));
	r = mno_seal_put(
		txn, MNO_DB_BLOCK, key, sizeof(key), &info, s->raw.data, s->raw.len, &bytes);
	if (r < 0)
		return r;
	s->now.block_bytes += bytes;
	return 0;
}

/* Series of a group that no row of the block has. */
static int cool_group(struct mno_series *s, struct mno_txn *txn, const struct head *h,
	uint32_t group, uint64_t seen)
{
	struct group *g = group_at(s, group);
	uint64_t idle = g ? g->hot_mask & ~seen & ~g->cooling : 0;

	for (; idle; idle &= idle - 1) {
		unsigned col = (unsigned)__builtin_ctzll(idle);
		int r;

		if (g->hot[col]->dirty)
			continue; /* resolved and never stored yet */
		r = dict_cool(s, txn, g->hot[col], h->t[0]);
		if (r < 0)
			return r;
		g->cooling |= 1ULL << col;
	}
	return 0;
}

/* The next head begins with the last row of @old as what to compare with. */
static int head_after(struct mno_series *s, const struct head *old, struct head **ret)
{
	struct head *h;
	int r = head_new(s, &h);

	if (r < 0)
		return r;
	h->base_t = old->t[old->n - 1];
	h->rows = calloc(old->n_rows ? old->n_rows : 1, sizeof(*h->rows));
	if (!h->rows) {
		head_free(s, h);
		return -ENOMEM;
	}
	h->n_rows = old->n_rows;
	s->head_bytes += h->n_rows * sizeof(*h->rows);
	for (size_t i = 0; i < old->n_rows; i++) {
		const struct rows *from = old->rows[i];
		struct rows *to;

		if (!from || !from->alive)
			continue;
		to = calloc(1, sizeof(*to));
		if (!to) {
			head_free(s, h);
			return -ENOMEM;
		}
		s->head_bytes += sizeof(*to);
		to->alive = to->present[0] = from->alive;
		memcpy(to->base, rows_at(from, old->n - 1), sizeof(to->base));
		h->rows[i] = to;
	}
	*ret = h;
	return 0;
}

static int seal_all(struct mno_series *s, struct mno_txn *txn, const struct head *h)
{
	_cleanup_free_ struct columns *c = malloc(sizeof(*c));
	const struct group *g;
	int r = 0;

	if (!c)
		return -ENOMEM;
	for (size_t i = 0; i < h->n_rows && r == 0; i++) {
		uint64_t seen;

		if (!h->rows[i])
			continue;
		r = seal_group(s, txn, h, (uint32_t)i, c, &seen);
		if (r == 0)
			r = cool_group(s, txn, h, (uint32_t)i, seen);
	}
	SPARSE_EACH(&s->groups, no, g)
	{
		if (r == 0 && (no >= h->n_rows || !h->rows[no]))
			r = cool_group(s, txn, h, no, 0);
	}
	return r;
}

int head_seal(struct mno_series *s, struct mno_txn *txn)
{
	struct head *next;
	int r;

	if (s->n_pending == PENDING_MAX)
		return -E2BIG; /* commit more often */
	r = seal_all(s, txn, s->head);
	if (r < 0)
		return r;
	r = tail_restart(s, txn, s->head);
	if (r < 0)
		return r;
	r = head_after(s, s->head, &next);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	s->pending[s->n_pending++] = s->head;
	s->head = next;
	pthread_rwlock_unlock(&s->lock);
	return 0;
}
