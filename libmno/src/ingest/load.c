/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "../series/native.h"
#include "mno/buf.h"
#include "mno/load.h"

#define BATCH_SAMPLES 262144u
#define KEYS_MAX      (4u << 20)          /* text of new series in a batch */
#define HISTS_MAX     8192u               /* native histograms in a batch */
#define HIST_BYTES    (8u << 20)          /* theirs */
#define T_END         (253402300800000LL) /* the store has days from 1970 to 9999 */
#define PART_MS       (256 * 86400000LL)  /* within what a call of the store may span */

struct hist {
	uint32_t series;
	struct native v; /* owned */
};

struct mno_batch {
	struct mno_load *load;
	bool forget;         /* numbers start at 0 again */
	size_t n_series;     /* new ones */
	struct mno_buf keys; /* theirs: u32 length, text */
	size_t n;
	struct mno_sample *v; /* owned; .id is the number of the series */
	size_t n_hists, cap_hists, hist_bytes;
	struct hist *hists; /* owned */
};

struct mno_load {
	struct mno_load_opts o;
	/* reader's thread */
	struct mno_batch *batch;
	/* writer thread */
	uint32_t *ids; /* of a series' number; 0 = the store refused it */
	size_t n_ids, cap_ids;
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
	free(l);
	return NULL;
}

struct mno_batch *mno_batch_free(struct mno_batch *b)
{
	if (!b)
		return NULL;
	mno_buf_done(&b->keys);
	for (size_t i = 0; i < b->n_hists; i++)
		free(b->hists[i].v.mem);
	free(b->hists);
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
	b->v = malloc(l->o.batch_samples * sizeof(*b->v));
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
	int r = l->batch && l->batch->keys.len + len > KEYS_MAX ? mno_load_flush(l) : 0;

	r = r ? r : need_batch(l);

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

static int on_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	struct mno_load *l = arg;

	while (n) {
		size_t part;
		int r = l->batch && l->batch->n == l->o.batch_samples ? mno_load_flush(l) : 0;

		r = r ? r : need_batch(l);
		if (r < 0)
			return r;
		part = MNO_MIN(n, l->o.batch_samples - l->batch->n);
		for (size_t i = 0; i < part; i++)
			l->batch->v[l->batch->n + i] =
				(struct mno_sample){v[i].series, v[i].t_ms, v[i].value};
		l->batch->n += part;
		v += part;
		n -= part;
	}
	return 0;
}

static int more_hists(struct mno_batch *b)
{
	size_t cap = b->cap_hists ? b->cap_hists * 2 : 64;
	struct hist *p;

	if (b->n_hists < b->cap_hists)
		return 0;
	p = reallocarray(b->hists, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	b->hists = p;
	b->cap_hists = cap;
	return 0;
}

static int on_histogram(void *arg, uint32_t series, int64_t t_ms, const struct mno_native_hist *h)
{
	size_t bytes =
		8 * (h->positive.n + h->positive.n_spans + h->negative.n + h->negative.n_spans);
	struct mno_load *l = arg;
	struct mno_batch *b;
	int r = native_check(h);

	if (r == 0 && l->batch &&
		(l->batch->n_hists == HISTS_MAX || l->batch->hist_bytes + bytes > HIST_BYTES))
		r = mno_load_flush(l);
	r = r ?: need_batch(l) ?: more_hists(l->batch);
	if (r < 0)
		return r;
	b = l->batch;
	b->hists[b->n_hists].series = series;
	r = native_copy(&b->hists[b->n_hists].v, t_ms, h);
	b->n_hists += r == 0;
	b->hist_bytes += r == 0 ? bytes : 0;
	return r;
}

const struct mno_ingest_sink *mno_load_sink(void)
{
	static const struct mno_ingest_sink sink = {.series = on_series,
		.forget = on_forget,
		.samples = on_samples,
		.histogram = on_histogram};

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

/* [@from, @mid) and [@mid, @to) of @v, each in order, into @out: of equal times the first first. */
static void merge(
	const struct mno_sample *v, size_t from, size_t mid, size_t to, struct mno_sample *out)
{
	for (size_t i = from, k = mid, n = from; n < to; n++)
		out[n] = i < mid && (k == to || v[i].t_ms <= v[k].t_ms) ? v[i++] : v[k++];
}

/* By time; equal times keep their order, since of two values the later one counts. */
static int sort_samples(struct mno_sample *v, size_t n)
{
	_cleanup_free_ struct mno_sample *room = malloc(n * sizeof(*v));
	struct mno_sample *from = v, *to = room, *swap;

	if (!room)
		return -ENOMEM;
	for (size_t run = 1; run < n; run *= 2) {
		for (size_t i = 0; i < n; i += 2 * run)
			merge(from, i, MNO_MIN(i + run, n), MNO_MIN(i + 2 * run, n), to);
		swap = from;
		from = to;
		to = swap;
	}
	if (from != v)
		memcpy(v, from, n * sizeof(*v));
	return 0;
}

/* What spans more days than one call may: in parts. */
static int add_parts(
	struct mno_load *l, struct mno_txn *txn, struct mno_sample *v, size_t n, uint64_t *stored)
{
	int r = sort_samples(v, n);

	for (size_t i = 0, k; i < n && r == 0; i += k) {
		for (k = 1; i + k < n && v[i + k].t_ms - v[i].t_ms < PART_MS; k++)
			;
		r = mno_series_add(l->o.series, txn, v + i, k);
		*stored += r == 0 ? k : 0;
	}
	return r;
}

/* All samples of a batch, whatever their order. Its numbers of series become ids. */
static int add_samples(struct mno_batch *b, struct mno_txn *txn, uint64_t *stored)
{
	struct mno_load *l = b->load;
	size_t n = 0;
	int r;

	for (size_t i = 0; i < b->n; i++) {
		b->v[n] = b->v[i];
		b->v[n].id = l->ids[b->v[i].id];
		n += b->v[n].id != 0 && b->v[n].t_ms >= 0 && b->v[n].t_ms < T_END;
	}
	r = n ? mno_series_add(l->o.series, txn, b->v, n) : 0;
	if (r == -ERANGE)
		return add_parts(l, txn, b->v, n, stored);
	*stored += r == 0 ? n : 0;
	return r;
}

static int add_hists(struct mno_batch *b, struct mno_txn *txn, uint64_t *stored)
{
	struct mno_load *l = b->load;
	int r = 0;

	for (size_t i = 0; i < b->n_hists && r == 0; i++) {
		const struct native *v = &b->hists[i].v;
		uint32_t id = l->ids[b->hists[i].series];

		if (!id || v->t_ms < 0 || v->t_ms >= T_END)
			continue;
		r = mno_series_add_hist(l->o.series, txn, id, v->t_ms, &v->h);
		*stored += r == 0;
		r = r == -EINVAL ? 0 : r;
	}
	return r;
}

int mno_batch_store(struct mno_batch *b, struct mno_txn *txn, struct mno_load_count *ret)
{
	struct mno_load_count c = {0};
	int r = resolve(b, txn);

	if (r == 0)
		r = add_samples(b, txn, &c.samples);
	if (r == 0)
		r = add_hists(b, txn, &c.histograms);
	if (r < 0)
		return r;
	c.refused = b->n - c.samples + b->n_hists - c.histograms;
	*ret = c;
	return 0;
}
