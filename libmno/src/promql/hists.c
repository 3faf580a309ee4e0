/* SPDX-License-Identifier: Apache-2.0 */
#include "hists.h"

#include <errno.h>

#include "mno/err.h"
#include "mno/promql.h"

/* A read under way. */
struct pass {
	struct hists *h;
	const struct hist_moments *m;
	int64_t wanted; /* the next moment that has none yet */
	size_t max_samples;
	int (*check)(const void *arg);
	const void *arg;
	bool have; /* one that the next may follow before it is wanted */
	int64_t t_ms;
	struct mno_native_hist kept; /* it points into mem */
	struct mno_buf mem;
};

void hists_done(struct hists *h)
{
	free(h->col);
	free(h->pick);
	mno_buf_done(&h->text);
	*h = (struct hists){0};
}

/* Makes room for one more. */
static int room(void **v, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 64;
	void *p;

	if (n < *cap)
		return 0;
	p = reallocarray(*v, more, size);
	if (!p)
		return -ENOMEM;
	*v = p;
	*cap = more;
	return 0;
}

static bool is_mark(const struct mno_native_hist *h)
{
	uint64_t bits;

	memcpy(&bits, &h->sum, sizeof(bits));
	return bits == MNO_STALE_BITS;
}

static int pick(struct hists *h, int64_t t_ms, const struct mno_native_hist *v)
{
	size_t off = h->text.len;
	int r = room((void **)&h->pick, h->n_pick, &h->cap_pick, sizeof(*h->pick));

	if (r < 0)
		return r;
	if (!is_mark(v))
		hist_json(v, &h->text);
	h->pick[h->n_pick++] =
		(struct hist_pick){.t_ms = t_ms, .off = off, .len = h->text.len - off};
	h->col[h->n - 1].n++;
	return h->text.err;
}

/* --- the newest one of each moment ------------------------------------------------------------- */

static const void *keep_part(struct mno_buf *mem, const void *p, size_t n)
{
	size_t at = mem->len;

	if (n)
		mno_buf_add(mem, p, n); /* has room: it does not move */
	return mem->data + at;
}

static void keep_buckets(struct mno_buf *mem, struct mno_native_buckets *b)
{
	b->spans = keep_part(mem, b->spans, b->n_spans * sizeof(*b->spans));
	if (b->deltas)
		b->deltas = keep_part(mem, b->deltas, b->n * sizeof(*b->deltas));
	if (b->counts)
		b->counts = keep_part(mem, b->counts, b->n * sizeof(*b->counts));
}

static int keep(struct pass *p, int64_t t_ms, const struct mno_native_hist *v)
{
	mno_buf_reset(&p->mem);
	if (!mno_buf_reserve(&p->mem, 32 * MNO_NATIVE_BUCKETS))
		return p->mem.err;
	p->kept = *v;
	keep_buckets(&p->mem, &p->kept.positive);
	keep_buckets(&p->mem, &p->kept.negative);
	p->t_ms = t_ms;
	p->have = true;
	return p->mem.err;
}

/* The kept one is followed at @until: is there a moment at which it was the newest? */
static int settle(struct pass *p, int64_t until)
{
	bool wanted;

	if (!p->have)
		return 0;
	p->have = false;
	while (p->wanted < p->t_ms && p->wanted <= p->m->end)
		p->wanted += p->m->step;
	wanted = p->wanted <= p->m->end && p->wanted < until &&
		 p->wanted - p->t_ms <= MNO_PROMQL_LOOKBACK_MS;
	return wanted ? pick(p->h, p->t_ms, &p->kept) : 0;
}

/* --- reading ------------------------------------------------------------------------------------ */

static int next_series(struct pass *p, uint32_t id)
{
	struct hists *h = p->h;
	int r = settle(p, INT64_MAX);

	if (r == 0)
		r = room((void **)&h->col, h->n, &h->cap, sizeof(*h->col));
	if (r < 0)
		return r;
	h->col[h->n++] = (struct hist_col){.id = id, .first = h->n_pick};
	p->wanted = p->m->start;
	return 0;
}

static int take(void *arg, uint32_t id, int64_t t_ms, const struct mno_native_hist *v)
{
	struct pass *p = arg;
	struct hists *h = p->h;
	int r = 0;

	if (!h->n || h->col[h->n - 1].id != id)
		r = next_series(p, id);
	h->samples += 6 + (v->positive.n + v->negative.n) / 2;
	if (r == 0 && h->samples > p->max_samples)
		return -MNO_ELIMIT;
	if (r == 0)
		r = p->check(p->arg);
	if (r < 0)
		return r;
	if (!p->m->step)
		return is_mark(v) ? 0 : pick(h, t_ms, v);
	r = settle(p, t_ms);
	return r < 0 ? r : keep(p, t_ms, v);
}

int hists_read(struct hists *h, struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0,
	int64_t t1, const struct hist_moments *m, size_t max_samples, int (*check)(const void *arg),
	const void *arg)
{
	struct pass p = {.h = h, .m = m, .max_samples = max_samples, .check = check, .arg = arg};
	int r;

	h->n = h->n_pick = 0;
	h->samples = h->damaged = 0;
	mno_buf_reset(&h->text);
	r = mno_series_read_hist(s, ids, n, t0, t1, take, &p, &h->damaged);
	if (r == 0)
		r = settle(&p, INT64_MAX);
	mno_buf_done(&p.mem);
	return r;
}
