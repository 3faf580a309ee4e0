/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>

#include "hists.h"
#include "mno/json.h"

/* Which ends belong to a bucket, in Prometheus' numbers. */
enum rule { OPEN_LEFT = 0, OPEN_RIGHT = 1, CLOSED = 3 };

struct writer {
	struct mno_buf *out;
	bool any;
};

/* The upper end of bucket @i; the last one before infinity ends at the largest number. */
static double border(int64_t i, int schema)
{
	int64_t n = schema > 0 ? INT64_C(1) << schema : 1, exp;
	double part;

	if (schema <= 0) {
		part = 1;
		exp = i * (INT64_C(1) << -schema);
	} else {
		part = (double)exp2l((long double)(i & (n - 1)) / (long double)n);
		exp = i >> schema;
	}
	if (exp == DBL_MAX_EXP && part == 1)
		return DBL_MAX;
	return ldexp(part, exp < -5000 ? -5000 : exp > 5000 ? 5000 : (int)exp);
}

static void put_number(struct mno_buf *b, double v)
{
	char *p = mno_buf_reserve(b, 48);
	size_t n = 0;

	if (!p)
		return;
	p[n++] = '"';
	n += mno_f64_format(v, p + n);
	p[n++] = '"';
	mno_buf_commit(b, n);
}

static void put_bucket(struct writer *w, enum rule rule, double lower, double upper, double count)
{
	if (count == 0)
		return;
	mno_buf_addf(w->out, "%s[%d,", w->any ? "," : ",\"buckets\":[", (int)rule);
	put_number(w->out, lower);
	mno_buf_addc(w->out, ',');
	put_number(w->out, upper);
	mno_buf_addc(w->out, ',');
	put_number(w->out, count);
	mno_buf_addc(w->out, ']');
	w->any = true;
}

struct walk {
	int64_t at[MNO_NATIVE_BUCKETS];
	double count[MNO_NATIVE_BUCKETS];
	size_t n;
};

/* Buckets with their numbers; sums wrap as those of whole numbers do, whatever was stored. */
static void walk(const struct mno_native_buckets *b, bool is_float, struct walk *w)
{
	uint64_t sum = 0;
	int64_t at = 0;

	w->n = 0;
	for (size_t s = 0; s < b->n_spans; s++) {
		at += b->spans[s].offset;
		for (uint32_t k = 0; k < b->spans[s].length && w->n < b->n; k++, w->n++) {
			if (!is_float)
				sum += (uint64_t)b->deltas[w->n];
			w->at[w->n] = at++;
			w->count[w->n] = is_float ? b->counts[w->n] : (double)(int64_t)sum;
		}
	}
}

static void put_buckets(struct writer *w, const struct mno_native_hist *h, struct walk *k)
{
	double zero = h->is_float ? h->zero_count_float : (double)h->zero_count, near;

	walk(&h->negative, h->is_float, k);
	for (size_t i = k->n; i-- > 0;) {
		near = -border(k->at[i] - 1, h->schema);
		put_bucket(w, OPEN_RIGHT, -border(k->at[i], h->schema),
			near > -h->zero_threshold ? -h->zero_threshold : near, k->count[i]);
	}
	put_bucket(w, CLOSED, -h->zero_threshold, h->zero_threshold, zero);
	walk(&h->positive, h->is_float, k);
	for (size_t i = 0; i < k->n; i++) {
		near = border(k->at[i] - 1, h->schema);
		put_bucket(w, OPEN_LEFT, near < h->zero_threshold ? h->zero_threshold : near,
			border(k->at[i], h->schema), k->count[i]);
	}
}

void hist_json(const struct mno_native_hist *h, struct mno_buf *out)
{
	struct writer w = {.out = out};
	struct walk k;

	mno_buf_adds(out, "{\"count\":");
	put_number(out, h->is_float ? h->count_float : (double)h->count);
	mno_buf_adds(out, ",\"sum\":");
	put_number(out, h->sum);
	put_buckets(&w, h, &k);
	mno_buf_adds(out, w.any ? "]}" : "}");
}
