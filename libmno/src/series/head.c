/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head: rows since the last sealed block. Memory: per group of 64 series in use 2.6 KiB and
 * 16 KiB per 32 ticks, at most 131 KiB; twice that for the rows between a seal and its commit.
 * Only the writer changes it; what readers see changes under the write lock.
 */
#include <errno.h>
#include "late.h"

#define FREE_CHUNKS_MAX 64 /* 1 MiB kept for the next rows */

void head_show(struct mno_series *s)
{
	s->shown = (struct shown){s->now, s->head_bytes};
}

int head_new(struct mno_series *s, struct head **ret)
{
	struct head *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->base_t = INT64_MIN;
	s->head_bytes += sizeof(*h);
	*ret = h;
	return 0;
}

static void *chunk_get(struct mno_series *s)
{
	void *p = s->free_chunks;

	if (p) {
		s->free_chunks = *(void **)p;
		s->n_free_chunks--;
		return p;
	}
	p = malloc(CHUNK_ROWS * GROUP_SERIES * sizeof(double));
	if (p)
		s->head_bytes += CHUNK_ROWS * GROUP_SERIES * sizeof(double);
	return p;
}

static void chunk_put(struct mno_series *s, void *p)
{
	if (!p)
		return;
	if (s->n_free_chunks >= FREE_CHUNKS_MAX) {
		free(p);
		s->head_bytes -= CHUNK_ROWS * GROUP_SERIES * sizeof(double);
		return;
	}
	*(void **)p = s->free_chunks;
	s->free_chunks = p;
	s->n_free_chunks++;
}

void rows_free(struct mno_series *s, struct rows *rw)
{
	if (!rw)
		return;
	for (unsigned i = 0; i < HEAD_CHUNKS; i++)
		chunk_put(s, rw->chunk[i]);
	s->head_bytes -= sizeof(*rw);
	free(rw);
}

void head_free(struct mno_series *s, struct head *h)
{
	struct rows *rw;

	if (!h)
		return;
	SPARSE_EACH(&h->rows, no, rw)
	rows_free(s, rw);
	s->head_bytes -= sizeof(*h) + h->rows.bytes;
	sparse_done(&h->rows);
	free(h);
}

struct rows *rows_make(struct mno_series *s, struct head *h, uint32_t group)
{
	struct rows *rw = calloc(1, sizeof(*rw));
	size_t before = h->rows.bytes;

	if (!rw)
		return NULL;
	if (sparse_put(&h->rows, group, rw) < 0) {
		free(rw);
		return NULL;
	}
	s->head_bytes += sizeof(*rw) + h->rows.bytes - before;
	return rw;
}

struct rows *head_rows(struct mno_series *s, uint32_t group)
{
	struct head *h = s->head;
	struct rows *rw = sparse_get(&h->rows, group);

	if (rw)
		return rw;
	pthread_rwlock_wrlock(&s->lock);
	rw = rows_make(s, h, group);
	pthread_rwlock_unlock(&s->lock);
	return rw;
}

int rows_reserve(struct mno_series *s, struct rows *rw, size_t r)
{
	void *p;

	if (rw->chunk[r / CHUNK_ROWS])
		return 0;
	p = chunk_get(s);
	if (!p)
		return -ENOMEM;
	/* Readers look at rows below head->n only, all in earlier chunks: no lock needed for them,
	 * but the pointer itself is copied by them. */
	pthread_rwlock_wrlock(&s->lock);
	rw->chunk[r / CHUNK_ROWS] = p;
	pthread_rwlock_unlock(&s->lock);
	return 0;
}

uint64_t rows_alive_at(const struct rows *rw, size_t r)
{
	uint64_t alive = rw->present[r + 1];
	const double *v = rows_at(rw, r);

	for (uint64_t left = alive; left; left &= left - 1)
		if (bits_of(v[__builtin_ctzll(left)]) == MNO_STALE_BITS)
			alive &= ~(left & -left);
	return alive;
}

uint64_t head_samples(const struct head *h)
{
	const struct rows *rw;
	uint64_t n = 0;

	SPARSE_EACH(&h->rows, no, rw)
	for (size_t r = 0; r < h->n; r++)
		n += (uint64_t)__builtin_popcountll(rw->present[r + 1]);
	return n;
}

/* --- one row ---------------------------------------------------------------------------------------- */

static void row_clear(struct head *h, size_t r)
{
	struct rows *rw;

	SPARSE_EACH(&h->rows, no, rw)
	rw->present[r + 1] = 0;
}

int series_admit(struct mno_series *s, struct mno_txn *txn, uint32_t id)
{
	struct group *g = group_at(s, id / GROUP_SERIES);
	uint64_t bit = 1ULL << (id % GROUP_SERIES);
	struct hot *h;

	if (!g || !(g->hot_mask & bit))
		return dict_heat(s, txn, id, &h);
	if (g->cooling & bit) {
		g->cooling &= ~bit;
		dict_mark_dirty(s, g->hot[id % GROUP_SERIES]);
	}
	return 0;
}

static int row_fill(struct mno_series *s, struct mno_txn *txn, size_t r, const uint32_t *ids,
	const double *values, size_t n)
{
	uint32_t group = UINT32_MAX;
	struct rows *rw = NULL;
	const struct group *g = NULL;
	double *row = NULL;
	int err;

	for (size_t i = 0; i < n; i++) {
		uint64_t bit = 1ULL << (ids[i] % GROUP_SERIES);

		if (ids[i] / GROUP_SERIES != group || !(g->hot_mask & bit) || (g->cooling & bit)) {
			err = series_admit(s, txn, ids[i]);
			if (err < 0)
				return err;
			group = ids[i] / GROUP_SERIES;
			g = group_at(s, group);
			rw = head_rows(s, group);
			if (!rw || rows_reserve(s, rw, r) < 0)
				return -ENOMEM;
			row = rows_at(rw, r);
		}
		rw->present[r + 1] |= bit;
		row[ids[i] % GROUP_SERIES] = values[i];
	}
	return 0;
}

/* Series that were there in the row before and are not in this one end here. */
static int row_end_missing(struct mno_series *s, size_t r)
{
	struct rows *rw;

	SPARSE_EACH(&s->head->rows, no, rw)
	{
		uint64_t gone = rw->alive & ~rw->present[r + 1];

		if (!gone)
			continue;
		if (rows_reserve(s, rw, r) < 0)
			return -ENOMEM;
		rw->present[r + 1] |= gone;
		for (; gone; gone &= gone - 1)
			rows_at(rw, r)[__builtin_ctzll(gone)] = of_bits(MNO_STALE_BITS);
	}
	return 0;
}

static void row_publish(struct mno_series *s, size_t r, int64_t t_ms)
{
	struct head *h = s->head;
	struct rows *rw;
	uint64_t samples = 0;

	SPARSE_EACH(&h->rows, no, rw)
	{
		rw->alive = rw->present[r + 1] ? rows_alive_at(rw, r) : 0;
		samples += (uint64_t)__builtin_popcountll(rw->present[r + 1]);
	}
	pthread_rwlock_wrlock(&s->lock);
	h->t[r] = t_ms;
	h->n = r + 1;
	s->now.samples += samples;
	if (!s->now.first_ms)
		s->now.first_ms = t_ms;
	head_show(s);
	pthread_rwlock_unlock(&s->lock);
}

static int64_t last_time(const struct head *h)
{
	return h->n ? h->t[h->n - 1] : h->base_t;
}

static int append_row(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, const uint32_t *ids,
	const double *values, size_t n)
{
	size_t r = s->head->n;
	bool named;
	int err;

	err = row_fill(s, txn, r, ids, values, n);
	if (err == 0)
		err = late_row(s, txn, t_ms, ids, values, n);
	if (err == 0)
		err = row_end_missing(s, r);
	named = s->dirty;
	if (err == 0)
		err = dict_flush(s, txn);
	if (err == 0)
		err = tail_put(s, txn, r, t_ms);
	if (err == 0 && named) /* the other counters follow from the rows */
		err = counters_save(s, txn);
	if (err < 0) {
		row_clear(s->head, r);
		return err;
	}
	row_publish(s, r, t_ms);
	return 0;
}

/* Seals a full head, and at the end of a day all there is of it. */
static int make_room(struct mno_series *s, struct mno_txn *txn, int64_t t_ms)
{
	const struct head *h = s->head;
	bool old_head = h->n && day_of(h->t[0]) != day_of(t_ms);

	if (h->n == HEAD_ROWS || old_head)
		return head_seal(s, txn, old_head);
	if (s->part_t0 != INT64_MIN && day_of(s->part_t0) != day_of(t_ms))
		return merge_windows(s, txn, NULL, true);
	return head_cool(s, txn, t_ms);
}

int mno_series_append(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, const uint32_t *ids,
	const double *values, size_t n)
{
	int r;

	if (t_ms <= last_time(s->head))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (ids[i] == 0 || ids[i] >= s->now.next_id)
			return -ENOENT;
	r = tail_trim(s, txn);
	if (r == 0)
		r = make_room(s, txn, t_ms);
	return r < 0 ? r : append_row(s, txn, t_ms, ids, values, n);
}

/* --- ends of transactions ------------------------------------------------------------------------------- */

static void head_truncate(struct mno_series *s, struct head *h, size_t n)
{
	struct rows *rw;

	for (size_t r = n; r < HEAD_ROWS; r++)
		row_clear(h, r);
	h->n = n;
	SPARSE_EACH(&h->rows, no, rw)
	rw->alive = n == 0 ? rw->present[0] : rw->present[n] ? rows_alive_at(rw, n - 1) : 0;
}

static void cooling_clear(struct mno_series *s)
{
	struct group *g;

	SPARSE_EACH(&s->groups, no, g)
	g->cooling = 0;
}

void mno_series_rollback(struct mno_series *s)
{
	uint64_t made = s->now.next_id - s->committed.next_id;

	rollup_rollback(s);
	recent_rollback(s);
	s->edit.valid = false;
	pthread_rwlock_wrlock(&s->lock);
	if (s->n_pending) {
		head_free(s, s->head);
		for (size_t i = 1; i < s->n_pending; i++)
			head_free(s, s->pending[i]);
		s->head = s->pending[0];
		s->n_pending = 0;
	}
	head_truncate(s, s->head, s->n_committed);
	cooling_clear(s);
	s->part_t0 = s->part_t0_committed;
	/* Ids given out stay given: callers hold them, and the series are written next time. */
	s->committed.next_id = s->now.next_id;
	s->committed.series += made;
	s->now = s->committed;
	head_show(s);
	pthread_rwlock_unlock(&s->lock);
	late_rollback(s);
	while (s->inflight) {
		struct hot *h = s->inflight;

		s->inflight = h->next_dirty;
		h->next_dirty = s->dirty;
		s->dirty = h;
	}
}

/* Series put away by the transaction leave the index, unless a row after the seal has them. */
static void cooling_finish(struct mno_series *s)
{
	struct group *g;

	SPARSE_EACH(&s->groups, no, g)
	{
		uint64_t left = g->cooling;

		g->cooling = 0;
		for (; left; left &= left - 1)
			hot_remove(s, g->hot[__builtin_ctzll(left)]);
	}
}

void mno_series_committed(struct mno_series *s)
{
	s->edit.valid = false;
	recent_committed(s);
	pthread_rwlock_wrlock(&s->lock);
	for (size_t i = 0; i < s->n_pending; i++)
		head_free(s, s->pending[i]);
	s->n_pending = 0;
	cooling_finish(s);
	s->n_committed = s->head->n;
	s->part_t0_committed = s->part_t0;
	s->committed = s->now;
	late_committed(s);
	head_show(s);
	pthread_rwlock_unlock(&s->lock);
	while (s->inflight) {
		s->inflight->dirty = false;
		s->inflight = s->inflight->next_dirty;
	}
}
