/* SPDX-License-Identifier: Apache-2.0 */
/* From text into a store and back: any order, twice, in small batches, more series than are
 * remembered; what the store does not take is counted. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include <snappy-c.h>

#include "mno/buf.h"
#include "mno/load.h"
#include "tmpstate.h"

#define DAY_MS (86400000LL)
#define T0     (1795000000000LL)

struct rig {
	struct tmpstate dir;
	struct mno_store *store;
	struct mno_series *s;
	struct mno_load *load;
	struct mno_ingest *ingest;
	uint64_t stored, hists, refused, batches;
	int fail_at; /* batch whose transaction is undone */
};

static int set_up(void **state)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 4096};
	struct rig *r = calloc(1, sizeof(*r));

	tmpstate_new(&r->dir);
	assert_int_equal(mno_store_open(r->dir.dir, &o, &r->store), 0);
	assert_int_equal(mno_series_open(r->store, &r->s), 0);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	mno_series_close(r->s);
	mno_store_close(r->store);
	tmpstate_done(&r->dir);
	free(r);
	return 0;
}

static int on_full(void *arg, struct mno_batch *b)
{
	struct rig *r = arg;
	struct mno_load_count count = {0};
	struct mno_txn *t;
	int e;

	assert_int_equal(mno_store_begin(r->store, &t), 0);
	e = mno_batch_store(b, t, &count);
	assert_int_equal(e, 0);
	if (++r->batches == (uint64_t)r->fail_at) {
		mno_store_abort(r->store, t);
		mno_series_rollback(r->s);
		return -EIO;
	}
	assert_int_equal(mno_store_commit(r->store, t), 0);
	mno_series_committed(r->s);
	r->stored += count.samples;
	r->hists += count.histograms;
	r->refused += count.refused;
	mno_batch_free(b);
	return 0;
}

/* What the ingester returned. */
static int load_as(struct rig *r, const char *format, const struct mno_buf *text, size_t batch)
{
	struct mno_load_opts o = {
		.sz = sizeof(o), .series = r->s, .batch_samples = batch, .full = on_full, .arg = r};
	int e;

	r->stored = r->hists = r->refused = r->batches = 0;
	assert_int_equal(mno_load_new(&o, &r->load), 0);
	assert_int_equal(mno_ingest_new(mno_ingest_format_find(format), NULL, mno_load_sink(),
				 r->load, &r->ingest),
		0);
	e = mno_ingest_feed(r->ingest, text->data, text->len);
	if (e == 0)
		e = mno_ingest_end(r->ingest, NULL);
	if (e == 0)
		e = mno_load_flush(r->load);
	mno_ingest_free(r->ingest);
	mno_load_free(r->load);
	return e;
}

static int load(struct rig *r, const struct mno_buf *text, size_t batch)
{
	return load_as(r, "prometheus-text", text, batch);
}

/* What a column must be: value = second * 100 + number of the series. */
struct expected {
	size_t n, series;
	int64_t first;
};

static int check_column(void *arg, const struct mno_column *c)
{
	struct expected *e = arg;
	size_t n = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (isnan(c->v[i]))
			continue;
		assert_true(c->t_ms[i] == e->first + (int64_t)n * 1000);
		assert_true(((int64_t)c->v[i] - (int64_t)n * 100) >= 0 &&
			    ((int64_t)c->v[i] - (int64_t)n * 100) < 100);
		n++;
	}
	assert_int_equal(n, e->n);
	e->series++;
	return 0;
}

static void read_all(struct rig *r, struct expected *e)
{
	static char name[] = "__name__", any[] = ".+";
	struct mno_matcher m = {.op = MNO_MATCH_RE, .name = name, .value = any};
	struct mno_ids ids = {0};
	char err[64];

	assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), 0);
	assert_int_equal(mno_series_select(r->s, &m, 1, SIZE_MAX, &ids), 0);
	e->series = 0;
	assert_int_equal(mno_series_read(r->s, ids.v, ids.n, INT64_MIN, INT64_MAX, SIZE_MAX,
				 check_column, e),
		0);
	mno_ids_done(&ids);
	mno_matchers_done(&m, 1);
}

enum { SERIES = 70, TICKS = 500 };

static void put_line(struct mno_buf *b, unsigned series, unsigned tick)
{
	mno_buf_addf(b, "m{i=\"%u\"} %u %lld\n", series, tick * 100 + series,
		T0 + (long long)tick * 1000);
}

static void by_series(struct mno_buf *b)
{
	for (unsigned s = 0; s < SERIES; s++)
		for (unsigned t = 0; t < TICKS; t++)
			put_line(b, s, t);
}

static void by_time(struct mno_buf *b)
{
	for (unsigned t = 0; t < TICKS; t++)
		for (unsigned s = 0; s < SERIES; s++)
			put_line(b, s, t);
}

static void shuffled(struct mno_buf *b)
{
	unsigned k = 12345;

	/* 7919 is a prime that does not divide the count: every line comes once */
	for (unsigned i = 0; i < SERIES * TICKS; i++) {
		k = (k + 7919) % (SERIES * TICKS);
		put_line(b, k % SERIES, k / SERIES);
	}
}

/* Each order into a store of its own, then all others on top: nothing changes. */
static void test_orders(void **state)
{
	static void (*const orders[])(struct mno_buf * b) = {shuffled, by_series, by_time};
	static const size_t batches[] = {999, 0, 5000};
	struct expected e = {.n = TICKS, .first = T0};
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		_cleanup_buf_ struct mno_buf b = {0};

		orders[i](&b);
		assert_int_equal(load(r, &b, batches[i]), 0);
		assert_int_equal(r->stored, SERIES * TICKS);
		assert_int_equal(r->refused, 0);
		read_all(r, &e);
		assert_int_equal(e.series, SERIES);
	}
}

/* A batch that was undone ends it; the same again from its beginning completes it. */
static void test_undone(void **state)
{
	struct expected e = {.n = TICKS, .first = T0};
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};

	by_series(&b);
	r->fail_at = 5;
	assert_int_equal(load(r, &b, 3000), -EIO);
	r->fail_at = 0;
	assert_int_equal(load(r, &b, 3000), 0);
	assert_int_equal(r->stored, SERIES * TICKS);
	read_all(r, &e);
	assert_int_equal(e.series, SERIES);
}

/* Decades in one batch, and what no store has a day for. */
static void test_far_apart(void **state)
{
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	static const int64_t times[] = {T0, DAY_MS, T0 - 700 * DAY_MS, -DAY_MS, 9000 * DAY_MS};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		mno_buf_addf(&b, "a %zu %lld\n", i, (long long)times[i]);
	assert_int_equal(load(r, &b, 0), 0);
	assert_int_equal(r->stored, 4);
	assert_int_equal(r->refused, 1);
}

/* More series than the reader remembers: their numbers start again. */
static void test_many(void **state)
{
	enum { MANY = 270000 };
	struct expected e = {.n = 1, .first = T0};
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};

	for (unsigned i = 0; i < MANY; i++)
		mno_buf_addf(&b, "m{i=\"%u\"} %u %lld\n", i, i % 100, T0);
	for (unsigned i = 0; i < 10; i++)
		mno_buf_addf(&b, "m{i=\"%u\"} %u %lld\n", i, i % 100, T0);
	assert_int_equal(load(r, &b, 0), 0);
	assert_int_equal(r->stored, MANY + 10);
	read_all(r, &e);
	assert_int_equal(e.series, MANY);
}

static int check_last(void *arg, const struct mno_column *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->t_ms[i] == T0)
			*(double *)arg = c->v[i];
	return 0;
}

/* Of two values of one time the later counts, also when the batch has to be sorted. */
static void test_far_apart_order(void **state)
{
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	double last = 0;
	uint32_t id = 1;

	mno_buf_addf(&b, "a 0 %lld\n", DAY_MS);
	for (int i = 1; i <= 1001; i++)
		mno_buf_addf(&b, "a %d %lld\n", i, T0 - (i % 7 ? 0 : 1000LL * i));
	assert_int_equal(load(r, &b, 0), 0);
	assert_int_equal(r->refused, 0);
	assert_int_equal(
		mno_series_read(r->s, &id, 1, INT64_MIN, INT64_MAX, SIZE_MAX, check_last, &last),
		0);
	assert_true(last == 1000); /* 1001 is a multiple of 7 */
}

static void put_varint(struct mno_buf *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		mno_buf_addc(b, (char)(v | 0x80));
	mno_buf_addc(b, (char)v);
}

static void put_number(struct mno_buf *b, unsigned field, uint64_t v)
{
	put_varint(b, field << 3);
	put_varint(b, v);
}

static void put_bytes(struct mno_buf *b, unsigned field, const void *p, size_t n)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, n);
	mno_buf_add(b, p, n);
}

/* Buckets -4 and -3 of schema @schema with 7 and @second more. */
static void put_hist(struct mno_buf *series, int64_t t, int64_t schema, uint64_t second)
{
	_cleanup_buf_ struct mno_buf h = {0}, span = {0}, deltas = {0};

	put_number(&h, 1, 14 + second);
	put_number(&h, 4, (uint64_t)schema << 1 ^ (uint64_t)(schema >> 63));
	put_number(&span, 1, 7);
	put_number(&span, 2, 2);
	put_bytes(&h, 11, span.data, span.len);
	put_varint(&deltas, 14);
	put_varint(&deltas, second << 1);
	put_bytes(&h, 12, deltas.data, deltas.len);
	put_number(&h, 15, (uint64_t)t);
	put_bytes(series, 4, h.data, h.len);
}

enum { HISTS = 20000 };

static void make_hists(struct mno_buf *out)
{
	static const char label[] = "\x0a\x08__name__\x12\x07latency";
	_cleanup_buf_ struct mno_buf s = {0}, req = {0};
	_cleanup_free_ char *z = NULL;
	size_t n;

	put_bytes(&s, 1, label, sizeof(label) - 1);
	for (unsigned i = 0; i < HISTS; i++)
		put_hist(&s, T0 + i * 1000LL, 3, i);
	put_hist(&s, T0, 9, 1);      /* there is no such schema */
	put_hist(&s, T0, 259, 1);    /* nor when it is cut to a byte */
	put_hist(&s, -DAY_MS, 3, 1); /* no day for it */
	put_bytes(&req, 1, s.data, s.len);
	n = snappy_max_compressed_length(req.len);
	z = malloc(n);
	assert_int_equal(snappy_compress(req.data, req.len, z, &n), SNAPPY_OK);
	put_varint(out, n);
	mno_buf_add(out, z, n);
}

static int check_hist(void *arg, uint32_t id, int64_t t_ms, const struct mno_native_hist *h)
{
	unsigned *n = arg;

	assert_true(t_ms == T0 + *n * 1000LL);
	assert_int_equal(h->schema, 3);
	assert_int_equal(h->count, 14 + *n);
	assert_int_equal(h->positive.n, 2);
	assert_int_equal(h->positive.spans[0].offset, -4);
	assert_int_equal(h->positive.deltas[0], 7);
	assert_int_equal(h->positive.deltas[1], *n);
	++*n;
	return 0;
}

/* Native histograms come over the threads whole, in more batches than one, twice. */
static void test_histograms(void **state)
{
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_series_stat st;
	uint64_t damaged;

	make_hists(&b);
	for (unsigned i = 0; i < 2; i++) {
		unsigned n = 0;
		uint32_t id = 1;

		assert_int_equal(load_as(r, "remote-write", &b, 0), 0);
		assert_int_equal(r->hists, HISTS);
		assert_int_equal(r->refused, 1);
		assert_true(r->batches > 1);
		assert_int_equal(mno_series_read_hist(r->s, &id, 1, INT64_MIN, INT64_MAX,
					 check_hist, &n, &damaged),
			0);
		assert_int_equal(n, HISTS);
		assert_int_equal(damaged, 0);
		mno_series_stat(r->s, &st);
		assert_int_equal(st.histograms, HISTS);
	}
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_orders),
		CASE(test_undone),
		CASE(test_far_apart),
		CASE(test_far_apart_order),
		CASE(test_histograms),
		CASE(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
