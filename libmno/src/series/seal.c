/* SPDX-License-Identifier: Apache-2.0 */
/* The head becomes a window of blocks; what was not seen in it leaves the memory. */
#include <errno.h>
#include "series_internal.h"

#define SILENT_MS 300000 /* a series without samples for so long needs no place in memory */

/* The last time that the head has of a series in rows [0, n); what comes before them if none. */
static int64_t last_seen(const struct head *h, const struct rows *rw, unsigned col, size_t n)
{
	while (rw && n && !(rw->present[n] >> col & 1))
		n--;
	if (rw && n)
		return h->t[n - 1];
	return h->base_t != INT64_MIN ? h->base_t : h->t[0];
}

/* Series of a group that are not in @seen, the rows from @n on; @from: the time of the first. */
static int cool_group(struct mno_series *s, struct mno_txn *txn, const struct head *h,
	uint32_t group, uint64_t seen, size_t n, int64_t from)
{
	const struct rows *rw = sparse_get(&h->rows, group);
	struct group *g = group_at(s, group);
	uint64_t idle = g ? g->hot_mask & ~seen & ~g->cooling : 0;

	for (; idle; idle &= idle - 1) {
		unsigned col = (unsigned)__builtin_ctzll(idle);
		int r;

		if (g->hot[col]->dirty)
			continue; /* resolved and never stored yet */
		if (g->hot[col]->late_ms >= from)
			continue; /* it comes by mno_series_add() */
		if (n && g->hot[col]->first_ms >= from)
			continue; /* its first row may be the next */
		r = dict_cool(s, txn, g->hot[col], n ? last_seen(h, rw, col, n) : from);
		if (r < 0)
			return r;
		g->cooling |= 1ULL << col;
	}
	return 0;
}

/* The next head begins with the last row of @old as what to compare with. */
static int head_after(struct mno_series *s, const struct head *old, struct head **ret)
{
	const struct rows *from;
	struct head *h;
	int r = head_new(s, &h);

	if (r < 0)
		return r;
	h->base_t = old->t[old->n - 1];
	SPARSE_EACH(&old->rows, no, from)
	{
		struct rows *to;

		if (!from->alive)
			continue;
		to = rows_make(s, h, no);
		if (!to) {
			head_free(s, h);
			return -ENOMEM;
		}
		to->alive = to->present[0] = from->alive;
		memcpy(to->base, rows_at(from, old->n - 1), sizeof(to->base));
	}
	*ret = h;
	return 0;
}

static uint64_t rows_seen(const struct rows *rw, size_t from, size_t n)
{
	uint64_t seen = 0;

	for (size_t r = from; r < n; r++)
		seen |= rw->present[r + 1];
	return seen;
}

/* What no row from @from on has. */
static int cool_all(struct mno_series *s, struct mno_txn *txn, const struct head *h, size_t from)
{
	const struct group *g;

	SPARSE_EACH(&s->groups, no, g)
	{
		const struct rows *rw = sparse_get(&h->rows, no);
		uint64_t seen = rw ? rows_seen(rw, from, h->n) : 0;
		int r = cool_group(s, txn, h, no, seen, from, h->t[from]);

		if (r < 0)
			return r;
	}
	return 0;
}

int head_cool(struct mno_series *s, struct mno_txn *txn, int64_t t_ms)
{
	const struct head *h = s->head;
	size_t from = h->n;

	if (!h->n || h->n % CHUNK_ROWS || h->t[0] > t_ms - SILENT_MS)
		return 0;
	while (from && h->t[from - 1] > t_ms - SILENT_MS)
		from--;
	if (from == 0 || from == h->n) /* nothing is told from silence of all */
		return 0;
	return cool_all(s, txn, h, from);
}

int head_seal(struct mno_series *s, struct mno_txn *txn, bool day_ends)
{
	struct head *next = NULL;
	int r;

	if (s->n_pending == PENDING_MAX)
		return -E2BIG; /* commit more often */
	r = merge_windows(s, txn, s->head, day_ends);
	if (r == 0)
		r = cool_all(s, txn, s->head, 0);
	if (r == 0)
		r = tail_restart(s, txn, s->head);
	if (r == 0)
		r = head_after(s, s->head, &next);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	s->pending[s->n_pending++] = s->head;
	s->head = next;
	pthread_rwlock_unlock(&s->lock);
	return counters_save(s, txn);
}

int mno_series_seal(struct mno_series *s, struct mno_txn *txn)
{
	int r = tail_trim(s, txn);

	if (r < 0)
		return r;
	if (s->head->n)
		r = head_seal(s, txn, true);
	else if (s->part_t0 != INT64_MIN)
		r = merge_windows(s, txn, NULL, true);
	if (r == 0)
		r = tail_clear(s, txn);
	return r < 0 ? r : counters_save(s, txn);
}
