/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "mno/buf.h"
#include "mno/load.h"

#define BATCH_SAMPLES 262144u
#define KEYS_MAX      (4u << 20)          /* text of new series in a batch */
#define T_END         (253402300800000LL) /* the store has days from 1970 to 9999 */
#define PART_MS       (256 * 86400000LL)  /* within what a call of the store may span */

struct mno_batch {
	struct mno_load *load;
	bool forget;         /* numbers start at 0 again */
	size_t n_series;     /* new ones */
	struct mno_buf keys; /* theirs: u32 length, text */
	size_t n;
	struct mno_sample *v; /* owned; .id is the number of the series */
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
	const struct mno_sample *a = pa, *b = pb;

	return (a->t_ms > b->t_ms) - (a->t_ms < b->t_ms);
}

/* What spans more days than one call may: in parts. */
static int add_parts(
	struct mno_load *l, struct mno_txn *txn, struct mno_sample *v, size_t n, uint64_t *stored)
{
	int r = 0;

	qsort(v, n, sizeof(*v), by_time);
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
