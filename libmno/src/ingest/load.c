/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "mno/buf.h"
#include "mno/load.h"

#define BATCH_SAMPLES 131072u
#define BATCH_TIMES   1500u /* changes of time in a batch: rows of a transaction are limited */

struct mno_batch {
	struct mno_load *load;
	bool forget;         /* numbers start at 0 again */
	size_t n_series;     /* new ones */
	struct mno_buf keys; /* theirs: u32 length, text */
	size_t n, cap, n_times;
	struct mno_ingest_sample *v; /* owned */
};

struct mno_load {
	struct mno_load_opts o;
	/* reader's thread */
	struct mno_batch *batch;
	/* writer thread */
	uint32_t *ids; /* of a series' number; 0 = the store refused it */
	size_t n_ids, cap_ids;
	uint32_t *row_ids;
	double *row_values;
	size_t row_cap;
};

int mno_load_new(const struct mno_load_opts *o, struct mno_load **ret)
{
	struct mno_load *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->o = *o;
	if (!l->o.batch_samples)
		l->o.batch_samples = BATCH_SAMPLES;
	*ret = l;
	return 0;
}

struct mno_load *mno_load_free(struct mno_load *l)
{
	if (!l)
		return NULL;
	mno_batch_free(l->batch);
	free(l->ids);
	free(l->row_ids);
	free(l->row_values);
	free(l);
	return NULL;
}

struct mno_batch *mno_batch_free(struct mno_batch *b)
{
	if (!b)
		return NULL;
	mno_buf_done(&b->keys);
	free(b->v);
	free(b);
	return NULL;
}

/* --- reader's thread ---------------------------------------------------------------------------- */

static int need_batch(struct mno_load *l)
{
	struct mno_batch *b;

	if (l->batch)
		return 0;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->load = l;
	b->cap = 2 * l->o.batch_samples;
	b->v = malloc(b->cap * sizeof(*b->v));
	if (!b->v) {
		mno_batch_free(b);
		return -ENOMEM;
	}
	l->batch = b;
	return 0;
}

int mno_load_flush(struct mno_load *l)
{
	struct mno_batch *b = l->batch;
	int r;

	if (!b)
		return 0;
	r = l->o.full(l->o.arg, b);
	if (r == 0)
		l->batch = NULL;
	return r;
}

static int on_series(void *arg, uint32_t series, const char *key, size_t len)
{
	struct mno_load *l = arg;
	uint32_t n = (uint32_t)len;
	int r = need_batch(l);

	if (r < 0)
		return r;
	mno_buf_add(&l->batch->keys, &n, sizeof(n));
	mno_buf_add(&l->batch->keys, key, len);
	l->batch->n_series++;
	return l->batch->keys.err;
}

static int on_forget(void *arg)
{
	struct mno_load *l = arg;
	int r = mno_load_flush(l);

	if (r == 0)
		r = need_batch(l);
	if (r == 0)
		l->batch->forget = true;
	return r;
}

/* A batch ends where time changes, so that samples of one time are stored together. */
static bool is_enough(const struct mno_load *l, const struct mno_batch *b, int64_t t_ms)
{
	if (!b || !b->n)
		return false;
	return b->n == b->cap || ((b->n >= l->o.batch_samples || b->n_times == BATCH_TIMES) &&
					 t_ms != b->v[b->n - 1].t_ms);
}

static int on_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	struct mno_load *l = arg;

	for (size_t i = 0; i < n; i++) {
		struct mno_batch *b = l->batch;
		int r;

		if (!b || is_enough(l, b, v[i].t_ms)) {
			r = mno_load_flush(l);
			r = r ? r : need_batch(l);
			if (r < 0)
				return r;
			b = l->batch;
		}
		b->n_times += b->n == 0 || b->v[b->n - 1].t_ms != v[i].t_ms;
		b->v[b->n++] = v[i];
	}
	return 0;
}

const struct mno_ingest_sink *mno_load_sink(void)
{
	static const struct mno_ingest_sink sink = {
		.series = on_series, .forget = on_forget, .samples = on_samples};

	return &sink;
}

/* --- writer thread -------------------------------------------------------------------------------- */

static int add_id(struct mno_load *l, uint32_t id)
{
	if (l->n_ids == l->cap_ids) {
		size_t cap = l->cap_ids ? l->cap_ids * 2 : 1024;
		uint32_t *p = reallocarray(l->ids, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->ids = p;
		l->cap_ids = cap;
	}
	l->ids[l->n_ids++] = id;
	return 0;
}

static int resolve(struct mno_batch *b, struct mno_txn *txn)
{
	struct mno_load *l = b->load;
	const char *p = b->keys.data;

	if (b->forget)
		l->n_ids = 0;
	for (size_t i = 0; i < b->n_series; i++) {
		uint32_t n, id = 0;
		int r;

		memcpy(&n, p, sizeof(n));
		r = mno_series_resolve(l->o.series, txn, p + sizeof(n), n, &id);
		if (r == -EINVAL) /* over a limit of the store: its samples are counted */
			id = 0;
		else if (r < 0)
			return r;
		r = add_id(l, id);
		if (r < 0)
			return r;
		p += sizeof(n) + n;
	}
	return 0;
}

static int by_time(const void *pa, const void *pb)
{
	const struct mno_ingest_sample *a = pa, *b = pb;

	if (a->t_ms != b->t_ms)
		return a->t_ms < b->t_ms ? -1 : 1;
	return a->series < b->series ? -1 : a->series > b->series;
}

static bool is_sorted(const struct mno_batch *b)
{
	for (size_t i = 1; i < b->n; i++)
		if (b->v[i].t_ms < b->v[i - 1].t_ms)
			return false;
	return true;
}

static int need_row(struct mno_load *l, size_t n)
{
	uint32_t *ids;
	double *values;

	if (n <= l->row_cap)
		return 0;
	ids = reallocarray(l->row_ids, n, sizeof(*ids));
	l->row_ids = ids ? ids : l->row_ids;
	values = ids ? reallocarray(l->row_values, n, sizeof(*values)) : NULL;
	if (!values)
		return -ENOMEM;
	l->row_values = values;
	l->row_cap = n;
	return 0;
}

/* Samples of one time as a row of the head. Times that are not later than its last are refused. */
static int add_row(struct mno_load *l, struct mno_txn *txn, const struct mno_ingest_sample *v,
	size_t n, uint64_t *stored)
{
	size_t m = 0;
	int r = need_row(l, n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		l->row_ids[m] = l->ids[v[i].series];
		l->row_values[m] = v[i].value;
		m += l->row_ids[m] != 0;
	}
	r = mno_series_append(l->o.series, txn, v->t_ms, l->row_ids, l->row_values, m);
	*stored += r == 0 ? m : 0;
	return r == -EINVAL ? 0 : r;
}

/* All samples of a batch, whatever their order. */
static int add_samples(struct mno_batch *b, struct mno_txn *txn, uint64_t *stored)
{
	int r = 0;

	if (!is_sorted(b))
		qsort(b->v, b->n, sizeof(*b->v), by_time);
	for (size_t i = 0, n; i < b->n && r == 0; i += n) {
		for (n = 1; i + n < b->n && b->v[i + n].t_ms == b->v[i].t_ms;)
			n++;
		r = add_row(b->load, txn, b->v + i, n, stored);
	}
	return r;
}

int mno_batch_store(
	struct mno_batch *b, struct mno_txn *txn, uint64_t *ret_stored, uint64_t *ret_refused)
{
	uint64_t stored = 0;
	int r = resolve(b, txn);

	if (r == 0)
		r = add_samples(b, txn, &stored);
	if (r < 0)
		return r;
	*ret_stored = stored;
	*ret_refused = b->n - stored;
	return 0;
}
