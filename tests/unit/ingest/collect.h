/* SPDX-License-Identifier: Apache-2.0 */
/* A sink that writes down all it is told, as text, and feeding in portions of any size. */
#pragma once

#include <stdio.h>
#include "mno/buf.h"
#include "mno/ingest.h"

struct collect {
	struct mno_buf out;
	char *keys[4096];
	size_t n_keys, calls;
	int fail_at; /* call that fails; 0 = none */
	struct mno_ingest_stat st;
};

static inline int collect_call(struct collect *c)
{
	return ++c->calls == (size_t)c->fail_at ? -ENOSPC : 0;
}

static inline int collect_series(void *arg, uint32_t series, const char *key, size_t len)
{
	struct collect *c = arg;

	if (series != c->n_keys || c->n_keys == ARRAY_SIZE(c->keys))
		abort();
	c->keys[c->n_keys++] = strndup(key, len);
	return collect_call(c);
}

static inline void collect_drop(struct collect *c)
{
	while (c->n_keys)
		free(c->keys[--c->n_keys]);
}

static inline int collect_forget(void *arg)
{
	collect_drop(arg);
	return 0;
}

static inline int collect_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	struct collect *c = arg;

	for (size_t i = 0; i < n; i++) {
		uint64_t bits;

		if (v[i].series >= c->n_keys)
			abort();
		memcpy(&bits, &v[i].value, 8);
		mno_buf_addf(&c->out, "%s @%lld %.17g", c->keys[v[i].series], (long long)v[i].t_ms,
			v[i].value);
		if (v[i].value != v[i].value)
			mno_buf_addf(&c->out, "=%llx", (unsigned long long)bits);
		mno_buf_addc(&c->out, '\n');
	}
	return collect_call(c);
}

static inline void collect_buckets(struct collect *c, const struct mno_native_buckets *b)
{
	for (size_t i = 0; i < b->n_spans; i++)
		mno_buf_addf(&c->out, " %d+%u", b->spans[i].offset, b->spans[i].length);
	for (size_t i = 0; i < b->n; i++)
		mno_buf_addf(&c->out, " %g", b->deltas ? (double)b->deltas[i] : b->counts[i]);
}

static inline int collect_histogram(
	void *arg, uint32_t series, int64_t t_ms, const struct mno_native_hist *h)
{
	struct collect *c = arg;

	mno_buf_addf(&c->out, "%s @%lld H schema %d count %g sum %g zero %g/%g hint %u neg",
		c->keys[series], (long long)t_ms, h->schema,
		h->is_float ? h->count_float : (double)h->count, h->sum,
		h->is_float ? h->zero_count_float : (double)h->zero_count, h->zero_threshold,
		h->reset);
	collect_buckets(c, &h->negative);
	mno_buf_adds(&c->out, " pos");
	collect_buckets(c, &h->positive);
	mno_buf_addc(&c->out, '\n');
	return 0;
}

static inline void collect_done(struct collect *c)
{
	collect_drop(c);
	mno_buf_done(&c->out);
}

static const struct mno_ingest_sink collect_sink = {
	collect_series, collect_forget, collect_samples, collect_histogram};

/* Reads @n bytes in portions of @step; *c starts zeroed. What the ingester returned. */
static inline int collect_read(struct collect *c, const char *format,
	const struct mno_ingest_opts *o, const char *s, size_t n, size_t step)
{
	struct mno_ingest *p;
	int r = mno_ingest_new(mno_ingest_format_find(format), o, &collect_sink, c, &p), e;

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i += step)
		r = mno_ingest_feed(p, s + i, MNO_MIN(step, n - i));
	e = mno_ingest_end(p, &c->st);
	mno_ingest_free(p);
	return r < 0 ? r : e;
}

/* The figures as text, to be compared. */
static inline void collect_figures(struct collect *c)
{
	mno_buf_addf(&c->out, "lines %llu series %llu samples %llu histograms %llu",
		(unsigned long long)c->st.lines, (unsigned long long)c->st.series,
		(unsigned long long)c->st.samples, (unsigned long long)c->st.histograms);
	for (unsigned i = 1; i < MNO_INGEST_REASON_N; i++)
		if (c->st.refused[i])
			mno_buf_addf(&c->out, " %s=%llu", mno_ingest_reason_name(i),
				(unsigned long long)c->st.refused[i]);
	if (c->st.exemplars)
		mno_buf_addf(&c->out, " exemplars %llu", (unsigned long long)c->st.exemplars);
	if (c->st.metadata)
		mno_buf_addf(&c->out, " metadata %llu", (unsigned long long)c->st.metadata);
	if (c->st.no_end)
		mno_buf_adds(&c->out, " no end");
	mno_buf_addc(&c->out, '\n');
	for (size_t i = 0; i < c->st.n_examples; i++)
		mno_buf_addf(&c->out, "! %llu %s %s\n", (unsigned long long)c->st.examples[i].line,
			mno_ingest_reason_name(c->st.examples[i].reason), c->st.examples[i].text);
}
