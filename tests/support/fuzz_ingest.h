/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes through a reader: whole and byte by byte, which must come to the same samples and
 * figures; every key that comes out must be canonical.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "../../libmno/src/series/series_internal.h"
#include "mno/buf.h"
#include "mno/ingest.h"

struct fuzz_sink {
	struct mno_buf out;
	uint32_t n;
};

static int fuzz_series(void *arg, uint32_t series, const char *key, size_t len)
{
	struct fuzz_sink *s = arg;
	struct key_labels k = {0};
	struct mno_buf again = {0};

	if (series != s->n++ || key_parse(key, len, &k) < 0)
		abort();
	key_format(k.v, k.n, &again);
	if (again.err || again.len != len || memcmp(again.data, key, len) != 0)
		abort();
	mno_buf_add(&s->out, key, len);
	mno_buf_done(&again);
	key_labels_done(&k);
	return 0;
}

static int fuzz_forget(void *arg)
{
	((struct fuzz_sink *)arg)->n = 0;
	return 0;
}

static int fuzz_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	struct fuzz_sink *s = arg;

	for (size_t i = 0; i < n; i++) {
		if (v[i].series >= s->n)
			abort();
		mno_buf_add(&s->out, &v[i].series, sizeof(v[i].series));
		mno_buf_add(&s->out, &v[i].t_ms, sizeof(v[i].t_ms));
		mno_buf_add(&s->out, &v[i].value, sizeof(v[i].value));
	}
	return 0;
}

static void fuzz_buckets(struct fuzz_sink *s, const struct mno_native_buckets *b)
{
	for (size_t i = 0; i < b->n_spans; i++)
		mno_buf_add(&s->out, &b->spans[i], sizeof(b->spans[i]));
	for (size_t i = 0; i < b->n; i++)
		mno_buf_add(&s->out, b->deltas ? (const void *)&b->deltas[i] : &b->counts[i], 8);
}

static int fuzz_histogram(void *arg, uint32_t series, int64_t t_ms, const struct mno_native_hist *h)
{
	struct fuzz_sink *s = arg;

	if (series >= s->n)
		abort();
	mno_buf_add(&s->out, &t_ms, sizeof(t_ms));
	fuzz_buckets(s, &h->negative);
	fuzz_buckets(s, &h->positive);
	return 0;
}

static void fuzz_read(const struct mno_ingest_format *f, const uint8_t *data, size_t size,
	size_t step, struct mno_buf *out)
{
	static const struct mno_ingest_sink sink = {
		fuzz_series, fuzz_forget, fuzz_samples, fuzz_histogram};
	static const struct mno_ingest_opts o = {
		.sz = sizeof(o), .min_ms = -1000000000000000, .max_ms = 1000000000000000};
	struct fuzz_sink s = {.n = 0};
	struct mno_ingest_stat st;
	struct mno_ingest *p;

	if (mno_ingest_new(f, &o, &sink, &s, &p) < 0)
		abort();
	for (size_t i = 0; i < size; i += step) {
		_cleanup_free_ uint8_t *copy = malloc(step);
		size_t n = MNO_MIN(step, size - i);

		if (!copy) /* an exact copy, so that reads past the end are seen */
			abort();
		memcpy(copy, data + i, n);
		if (mno_ingest_feed(p, copy, n) < 0)
			abort();
	}
	if (mno_ingest_end(p, &st) < 0 || st.n_examples > MNO_INGEST_EXAMPLES ||
		(mno_ingest_refused(&st) && !st.n_examples))
		abort();
	mno_ingest_free(p);
	/* padding would differ */
	for (size_t i = 0; i < st.n_examples; i++)
		mno_buf_addf(&s.out, "%llu %d %s;", (unsigned long long)st.examples[i].line,
			st.examples[i].reason, st.examples[i].text);
	mno_buf_addf(
		&s.out, "%llu %llu", (unsigned long long)st.lines, (unsigned long long)st.samples);
	mno_buf_add(&s.out, st.refused, sizeof(st.refused));
	*out = s.out;
}

static void fuzz_format(const char *name, const uint8_t *data, size_t size)
{
	const struct mno_ingest_format *f = mno_ingest_format_find(name);
	struct mno_buf whole = {0}, bytes = {0}, odd = {0};

	if (!size)
		return;
	mno_ingest_format_guess(NULL, (const char *)data, size);
	fuzz_read(f, data, size, size, &whole);
	fuzz_read(f, data, size, 1, &bytes);
	fuzz_read(f, data, size, 13, &odd);
	if (whole.len != bytes.len || memcmp(whole.data, bytes.data, whole.len) != 0 ||
		whole.len != odd.len || memcmp(whole.data, odd.data, whole.len) != 0)
		abort();
	mno_buf_done(&whole);
	mno_buf_done(&bytes);
	mno_buf_done(&odd);
}
