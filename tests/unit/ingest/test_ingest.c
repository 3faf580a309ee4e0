/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of metrics: every format whole and byte by byte, and what they must refuse. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <snappy-c.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../../libmno/src/ingest/ingest_internal.h"
#include "../../../libmno/src/series/series_internal.h"
#include "collect.h"

/* Reads in portions of several sizes: all must come to @want. */
static void expect_n(const char *format, const struct mno_ingest_opts *o, const char *s, size_t n,
	const char *want)
{
	static const size_t steps[] = {SIZE_MAX, 1, 2, 3, 7, 61, 4096};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct collect c = {0};

		assert_int_equal(collect_read(&c, format, o, s, n, MNO_MIN(steps[i], n + 1)), 0);
		collect_figures(&c);
		assert_string_equal(mno_buf_cstr(&c.out), want);
		collect_done(&c);
	}
}

static void expect(const char *format, const char *s, const char *want)
{
	expect_n(format, NULL, s, strlen(s), want);
}

static void prometheus_text(void **state)
{
	(void)state;
	expect("prometheus-text",
		"# HELP http_requests_total The \"total\"\n"
		"# TYPE http_requests_total counter\n"
		"http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n"
		"http_requests_total{code=\"200\",method=\"post\"} 1028 1395066364000\n"
		"\n"
		"  up\t1\t1395066363000\r\n"
		"up 0 1395066364000\n"
		"a{x=\"C:\\\\D\\n\\\"q\\\"\",y=\"\"} 1.458255915e9 1395066363000\n"
		"empty{} +Inf -62135596800000\n"
		"nan { b = \"1\" , } NaN 1\n"
		"no_newline -0 1",
		"http_requests_total{code=\"200\",method=\"post\"} @1395066363000 1027\n"
		"http_requests_total{code=\"200\",method=\"post\"} @1395066364000 1028\n"
		"up @1395066363000 1\n"
		"up @1395066364000 0\n"
		"a{x=\"C:\\\\D\\n\\\"q\\\"\"} @1395066363000 1458255915\n"
		"empty @-62135596800000 inf\n"
		"nan{b=\"1\"} @1 nan=7ff8000000000001\n"
		"no_newline @1 -0\n"
		"lines 11 series 6 samples 8 histograms 0 metadata 2\n");
}

static void refusals(void **state)
{
	(void)state;
	expect("prometheus-text",
		"ok 1 5\n"
		"9bad 1 5\n"
		"a{1x=\"1\"} 1 5\n"
		"a{x=\"1\" 1 5\n"
		"a{x=\"1\",x=\"2\"} 1 5\n"
		"a{x=\"\xff\"} 1 5\n"
		"a one 5\n"
		"a 1\n"
		"a 1 5.5\n"
		"a 1 5 6\n"
		"a\n"
		"a{x='1'} 1 5\n"
		"a{x=\"\\t\"} 1 5\n"
		"a{__name__=\"b\"} 1 5\n"
		"{x=\"1\"} 1 5\n"
		"a 1e999 5\n"
		"a 0x10 5\n"
		"ok 2 6\n",
		"ok @5 1\nok @6 2\n"
		"lines 18 series 1 samples 2 histograms 0 bad_syntax=5 bad_name=3 bad_utf8=1 "
		"duplicate_label=2 bad_value=3 no_timestamp=1 bad_timestamp=1\n"
		"! 2 bad_name 9bad 1 5\n"
		"! 3 bad_name a{1x=\"1\"} 1 5\n"
		"! 4 bad_syntax a{x=\"1\" 1 5\n"
		"! 5 duplicate_label a{x=\"1\",x=\"2\"} 1 5\n"
		"! 6 bad_utf8 a{x=\"\xff\"} 1 5\n"
		"! 7 bad_value a one 5\n"
		"! 8 no_timestamp a 1\n"
		"! 9 bad_timestamp a 1 5.5\n"
		"! 10 bad_syntax a 1 5 6\n"
		"! 11 bad_syntax a\n"
		"! 14 duplicate_label a{__name__=\"b\"} 1 5\n"
		"! 15 bad_name {x=\"1\"} 1 5\n"
		"! 16 bad_value a 1e999 5\n"
		"! 17 bad_value a 0x10 5\n");
}

static void openmetrics(void **state)
{
	(void)state;
	expect("openmetrics",
		"# TYPE foo counter\n"
		"# UNIT foo seconds\n"
		"# HELP foo text\n"
		"foo_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"oHg5SJYRHA0\"} 9.8 "
		"1520879607.788\n"
		"foo_created{a=\"b\"} 1520430000.125 1520879607.789\n"
		"foo_total{a=\"b\"} 18 1520879608\n"
		"foo_total{a=\"b\"} 19 1.5208796e9\n"
		"foo_total{a=\"b\"} 20 -0.0015\n"
		"foo_total{a=\"b\"} 21 1 # nonsense\n"
		"# a remark\n"
		"# EOF\n"
		"foo_total 1 1\n",
		"foo_total{a=\"b\"} @1520879607789 17\n"
		"foo_created{a=\"b\"} @1520879607789 1520430000.125\n"
		"foo_total{a=\"b\"} @1520879608000 18\n"
		"foo_total{a=\"b\"} @1520879600000 19\n"
		"foo_total{a=\"b\"} @-2 20\n"
		"lines 12 series 2 samples 5 histograms 0 bad_syntax=3 exemplars 1 metadata 3\n"
		"! 9 bad_syntax foo_total{a=\"b\"} 21 1 # nonsense\n"
		"! 10 bad_syntax # a remark\n"
		"! 12 bad_syntax foo_total 1 1\n");
	expect("openmetrics", "a 1 1\n",
		"a @1000 1\nlines 1 series 1 samples 1 histograms 0 no end\n");
}

static void csv_long(void **state)
{
	(void)state;
	expect("csv",
		"\xef\xbb\xbfTime,Series,Value\r\n"
		"2026-11-02T14:02:11.5Z,\"up{job=\"\"a,b\"\",i=\"\"1\"\"}\",1\r\n"
		"1700000000,up,2.5\r\n"
		"1700000000.25, up ,3\r\n"
		"1700000000123,up,4\r\n"
		"2024-02-29 23:59:60+05:30,up,5\r\n"
		"\r\n"
		"2023-02-29T00:00:00Z,up,6\r\n"
		",up,7\r\n"
		"1,up\r\n"
		"1,up,1,1\r\n"
		"1,\"x{a=\"\"two\nlines\"\"}\",8\r\n"
		"1,\"up\"x,9\r\n"
		"1,up,\"10\"\r\n",
		"up{i=\"1\",job=\"a,b\"} @1793628131500 1\n"
		"up @1700000000000 2.5\n"
		"up @1700000000250 3\n"
		"up @1700000000123 4\n"
		"up @1709231400000 5\n"
		"x{a=\"two\\nlines\"} @1000 8\n"
		"up @1000 10\n"
		"lines 14 series 3 samples 7 histograms 0 bad_syntax=3 no_timestamp=1 "
		"bad_timestamp=1\n"
		"! 8 bad_timestamp 2023-02-29T00:00:00Z,up,6\n"
		"! 9 no_timestamp ,up,7\n"
		"! 10 bad_syntax 1,up\n"
		"! 11 bad_syntax 1,up,1,1\n"
		"! 13 bad_syntax 1,\"up\"x,9\n");
}

static void csv_wide(void **state)
{
	(void)state;
	expect("csv",
		"time,up,\"load{cpu=\"\"0\"\"}\",9x\n"
		"1,1,0.5,7\n"
		"2,,nope,\n"
		"3,1\n"
		"4,1,2,3,4\n"
		"never,1,2,3\n",
		"up @1000 1\n"
		"load{cpu=\"0\"} @1000 0.5\n"
		"up @3000 1\n"
		"up @4000 1\n"
		"load{cpu=\"0\"} @4000 2\n"
		"lines 6 series 2 samples 5 histograms 0 bad_syntax=2 bad_name=3 bad_value=1 "
		"bad_timestamp=3\n"
		"! 1 bad_name 9x\n"
		"! 2 bad_name 7\n"
		"! 3 bad_value nope\n"
		"! 4 bad_syntax 3,1\n"
		"! 5 bad_name 3\n"
		"! 5 bad_syntax 4,1,2,3,4\n"
		"! 6 bad_timestamp 1\n"
		"! 6 bad_timestamp 2\n"
		"! 6 bad_timestamp 3\n");
	expect("csv", "a,b\n1,2\n",
		"lines 2 series 0 samples 0 histograms 0 bad_syntax=2\n"
		"! 1 bad_syntax a,b\n! 2 bad_syntax 1,2\n");
}

static void csv_open_quote(void **state)
{
	(void)state;
	expect("csv", "series,time,value\nup,1,1\n\"up,2,2\nup,3,3\n",
		"up @1000 1\n"
		"lines 3 series 1 samples 1 histograms 0 cut_off=1\n"
		"! 3 cut_off \"up,2,2\nup,3,3\n\n");
}

/* --- remote write --------------------------------------------------------------------------------- */

static void put_varint(struct mno_buf *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		mno_buf_addc(b, (char)(v | 0x80));
	mno_buf_addc(b, (char)v);
}

static void put_bytes(struct mno_buf *b, unsigned field, const void *p, size_t n)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, n);
	mno_buf_add(b, p, n);
}

static void put_number(struct mno_buf *b, unsigned field, uint64_t v)
{
	put_varint(b, field << 3);
	put_varint(b, v);
}

static void put_double(struct mno_buf *b, unsigned field, uint64_t bits)
{
	put_varint(b, field << 3 | 1);
	mno_buf_add(b, &bits, 8);
}

static uint64_t bits(double v)
{
	uint64_t u;

	memcpy(&u, &v, 8);
	return u;
}

static uint64_t zigzag(int64_t v)
{
	return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static void put_label(struct mno_buf *b, const char *name, const char *value)
{
	_cleanup_buf_ struct mno_buf l = {0};

	put_bytes(&l, 1, name, strlen(name));
	put_bytes(&l, 2, value, strlen(value));
	put_bytes(b, 1, l.data, l.len);
}

static void put_sample(struct mno_buf *b, int64_t t, uint64_t v)
{
	_cleanup_buf_ struct mno_buf s = {0};

	if (v)
		put_double(&s, 1, v);
	put_number(&s, 2, (uint64_t)t);
	put_bytes(b, 2, s.data, s.len);
}

static void put_histogram(struct mno_buf *b, int64_t t, bool broken)
{
	_cleanup_buf_ struct mno_buf h = {0}, span = {0}, deltas = {0};

	put_number(&h, 1, 12);
	put_double(&h, 3, bits(18.5));
	put_number(&h, 4, zigzag(3));
	put_double(&h, 5, bits(0.001));
	put_number(&h, 6, 2);
	put_number(&span, 1, zigzag(-4));
	put_number(&span, 2, 2);
	put_bytes(&h, 11, span.data, span.len);
	put_varint(&deltas, zigzag(7));
	if (!broken)
		put_varint(&deltas, zigzag(-4));
	put_bytes(&h, 12, deltas.data, deltas.len);
	put_number(&h, 14, 2);
	put_number(&h, 15, (uint64_t)t);
	put_bytes(b, 4, h.data, h.len);
}

static void make_request(struct mno_buf *req, int64_t t)
{
	_cleanup_buf_ struct mno_buf a = {0}, h = {0}, bad = {0};

	put_label(&a, "job", "x");
	put_label(&a, "__name__", "up");
	put_sample(&a, t, bits(1.5));
	put_sample(&a, t + 1, 0x7ff0000000000002); /* stale */
	put_sample(&a, t + 2, 0);
	put_bytes(&a, 3, "", 0); /* an exemplar */
	put_bytes(req, 1, a.data, a.len);
	put_label(&h, "__name__", "latency");
	put_histogram(&h, t, false);
	put_histogram(&h, t, true);
	put_bytes(req, 1, h.data, h.len);
	put_label(&bad, "__name__", "b");
	put_label(&bad, "x-y", "b");
	put_sample(&bad, t, 0);
	put_sample(&bad, t, 0);
	put_bytes(req, 1, bad.data, bad.len);
	put_bytes(req, 3, "", 0); /* metadata */
}

static void put_packed(struct mno_buf *out, const struct mno_buf *req, bool framed)
{
	size_t n = snappy_max_compressed_length(req->len);
	_cleanup_free_ char *z = malloc(n);

	assert_int_equal(snappy_compress(req->data, req->len, z, &n), SNAPPY_OK);
	if (framed)
		put_varint(out, n);
	mno_buf_add(out, z, n);
}

#define UP(t0, t1, t2)                                                                             \
	"up{job=\"x\"} @" #t0 " 1.5\nup{job=\"x\"} @" #t1 " nan=7ff0000000000002\n"                \
	"up{job=\"x\"} @" #t2 " 0\n"
#define LATENCY(t)                                                                                 \
	"latency @" #t " H schema 3 count 12 sum 18.5 zero 2/0.001 hint 2 neg pos -4+2 7 -4\n"

/* Lines of figures without examples, which are not text here. */
static void expect_messages(const struct mno_buf *in, const char *want)
{
	static const size_t steps[] = {1 << 20, 1, 5, 64};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct collect c = {0};

		assert_int_equal(
			collect_read(&c, "remote-write", NULL, in->data, in->len, steps[i]), 0);
		c.st.n_examples = 0;
		collect_figures(&c);
		assert_string_equal(mno_buf_cstr(&c.out), want);
		collect_done(&c);
	}
}

static void remote_write(void **state)
{
	_cleanup_buf_ struct mno_buf req = {0}, req2 = {0}, file = {0}, one = {0};

	(void)state;
	make_request(&req, 1000);
	make_request(&req2, 2000);
	put_packed(&one, &req, false);
	expect_messages(&one,
		UP(1000, 1001, 1002) LATENCY(1000) "lines 1 series 2 samples 3 histograms 1 "
						   "bad_syntax=1 bad_name=2 exemplars 1 "
						   "metadata 1\n");
	put_packed(&file, &req, true);
	put_packed(&file, &req2, true);
	expect_messages(&file, UP(1000, 1001, 1002) LATENCY(1000) UP(2000, 2001, 2002)
				       LATENCY(2000) "lines 2 series 2 samples 6 histograms 2 "
						     "bad_syntax=2 bad_name=4 exemplars 2 "
						     "metadata 2\n");
}

/* What is damaged is refused; what stands behind its own length is still taken. */
static void remote_write_damage(void **state)
{
	_cleanup_buf_ struct mno_buf req = {0}, req2 = {0}, file = {0}, text = {0};
	size_t first;

	(void)state;
	make_request(&req, 1000);
	make_request(&req2, 2000);
	put_packed(&file, &req, true);
	first = file.len;
	put_packed(&file, &req2, true);
	file.data[first / 2] ^= 0x55;
	file.data[3] ^= 0x80;
	expect_messages(&file,
		UP(2000, 2001, 2002) LATENCY(2000) "lines 2 series 2 samples 3 histograms 1 "
						   "bad_syntax=2 bad_name=2 exemplars 1 "
						   "metadata 1\n");
	file.len -= 3;
	expect_messages(&file, "lines 2 series 0 samples 0 histograms 0 bad_syntax=1 cut_off=1\n");
	mno_buf_adds(&text, "this is no message at all, is it?");
	expect_messages(&text, "lines 1 series 0 samples 0 histograms 0 cut_off=1\n");
}

/* --- limits --------------------------------------------------------------------------------------- */

static void label_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 255, 4096, 65536, KEY_MAX - 7, KEY_MAX - 6, KEY_MAX};
	_cleanup_buf_ struct mno_buf s = {0};
	struct collect c = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		mno_buf_adds(&s, "m{a=\"");
		for (size_t k = 0; k < sizes[i]; k++)
			mno_buf_addc(&s, (char)('a' + i));
		mno_buf_adds(&s, "\"} 1 1\n");
	}
	for (unsigned n = KEY_LABELS - 2; n <= KEY_LABELS; n++) {
		mno_buf_adds(&s, "many{");
		for (unsigned k = 0; k < n; k++)
			mno_buf_addf(&s, "l%u=\"v\",", k);
		mno_buf_adds(&s, "} 1 1\n");
	}
	assert_int_equal(collect_read(&c, "prometheus-text", NULL, s.data, s.len, 100), 0);
	assert_int_equal(c.st.samples, 8);
	assert_int_equal(c.st.refused[MNO_INGEST_LONG_LABELS], 2);
	assert_int_equal(c.st.refused[MNO_INGEST_MANY_LABELS], 1);
	collect_done(&c);
}

static void long_lines(void **state)
{
	static const size_t steps[] = {1000, 1 << 16, 8 << 20};
	_cleanup_buf_ struct mno_buf s = {0};

	(void)state;
	mno_buf_adds(&s, "a 1 1\n");
	for (size_t i = 0; i <= INGEST_LINE_MAX; i++)
		mno_buf_addc(&s, 'x');
	mno_buf_adds(&s, "\nb 1 1\n");
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct collect c = {0};

		assert_int_equal(
			collect_read(&c, "prometheus-text", NULL, s.data, s.len, steps[i]), 0);
		assert_int_equal(c.st.samples, 2);
		assert_int_equal(c.st.lines, 3);
		assert_int_equal(c.st.refused[MNO_INGEST_TOO_LONG], 1);
		assert_int_equal(c.st.examples[0].line, 2);
		collect_done(&c);
	}
}

static void times(void **state)
{
	const struct mno_ingest_opts o = {.sz = sizeof(o),
		.min_ms = 1000,
		.max_ms = 2000,
		.has_default_ms = true,
		.default_ms = 1500};
	const char *s = "a 1 999\na 2 1000\na 3 2000\na 4 2001\na 5\n";

	(void)state;
	expect_n("prometheus-text", &o, s, strlen(s),
		"a @1000 2\na @2000 3\na @1500 5\n"
		"lines 5 series 1 samples 3 histograms 0 too_old=1 too_new=1\n"
		"! 1 too_old a 1 999\n! 4 too_new a 4 2001\n");
}

enum { MANY = 300000 };
struct many {
	unsigned *names; /* of a series' number */
	uint32_t n, forgotten;
	size_t samples;
};

static int many_series(void *arg, uint32_t series, const char *key, size_t len)
{
	struct many *m = arg;

	assert_int_equal(series, m->n);
	assert_true(m->n < MANY && len > 5);
	m->names[m->n++] = (unsigned)strtoul(key + 5, NULL, 10);
	return 0;
}

static int many_forget(void *arg)
{
	struct many *m = arg;

	m->n = 0;
	m->forgotten++;
	return 0;
}

static int many_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	struct many *m = arg;

	for (size_t i = 0; i < n; i++) {
		assert_true(v[i].series < m->n);
		assert_int_equal(m->names[v[i].series], (unsigned)v[i].value);
	}
	m->samples += n;
	return 0;
}

static const struct mno_ingest_sink many_sink = {many_series, many_forget, many_samples, NULL};

/* More series than are remembered: numbers start again, nothing is mixed up. */
static void forgetting(void **state)
{
	struct many m = {.names = calloc(MANY, sizeof(*m.names))};
	_cleanup_buf_ struct mno_buf s = {0};
	struct mno_ingest *p;

	(void)state;
	assert_non_null(m.names);
	for (unsigned i = 0; i < MANY; i++)
		mno_buf_addf(&s, "m{a=\"%u\"} %u 1\nm{ a=\"%u\"} %u 2\n", i, i, i, i);
	assert_int_equal(
		mno_ingest_new(mno_ingest_format_find("prometheus-text"), NULL, &many_sink, &m, &p),
		0);
	assert_int_equal(mno_ingest_feed(p, s.data, s.len), 0);
	assert_int_equal(mno_ingest_end(p, NULL), 0);
	assert_int_equal(m.samples, 2 * MANY);
	assert_true(m.forgotten >= 1);
	mno_ingest_free(p);
	free(m.names);
}

static void sink_fails(void **state)
{
	(void)state;
	for (int at = 1; at <= 3; at++) {
		struct collect c = {.fail_at = at};

		assert_int_equal(collect_read(&c, "prometheus-text", NULL, "a 1 1\nb 1 1\n", 12, 1),
			-ENOSPC);
		collect_done(&c);
	}
}

/* --- numbers -------------------------------------------------------------------------------------- */

static void floats(void **state)
{
	static const char *const good[] = {"0", "-0", "1", "+1", "0.1", "1e22", "1e-22",
		"123456789012345678", "9007199254740993", "0.30000000000000004",
		"1.7976931348623157e308", "5e-324", ".5", "5.", "1e+05", "00012.5000",
		"1234567890123456789012345", "4.35", "2.2250738585072011e-308",
		"179769313486231570000000000000000000000", "0.000001", "8.41e21",
		"9007199254740992e1"};
	static const char *const bad[] = {"", "-", ".", "e5", "1e", "1e+", "1..2", "0x1", "1_0",
		"1e400", "infinit", "+nan", "nan(1)", "1 ", "--1", "١"};
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	double v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		double want = strtod(good[i], NULL);

		assert_true(ingest_f64(c, good[i], good[i] + strlen(good[i]), &v));
		assert_memory_equal(&v, &want, sizeof(v));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(ingest_f64(c, bad[i], bad[i] + strlen(bad[i]), &v));
	freelocale(c);
}

/* Random doubles in all lengths of decimals read back as strtod() reads them. */
static void random_floats(void **state)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	uint64_t seed = 7;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		char s[64];
		double d, v, want;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(&d, &seed, 8);
		if (isnan(d) || isinf(d))
			continue;
		if (i % 2)
			d = (double)(seed >> 20) / 1000;
		snprintf(s, sizeof(s), i % 3 ? "%.*g" : "%.*e", (int)(seed >> 58) % 20, d);
		want = strtod(s, NULL);
		if (isinf(want))
			continue;
		assert_true(ingest_f64(c, s, s + strlen(s), &v));
		assert_memory_equal(&v, &want, sizeof(v));
	}
	freelocale(c);
}

static void guesses(void **state)
{
	static const struct {
		const char *file, *first, *want;
	} rows[] = {
		{NULL, "# TYPE a counter\na 1 1700000000000\n", "prometheus-text"},
		{NULL, "# TYPE a counter\na 1 1700000000.5\n# EOF\n", "openmetrics"},
		{NULL, "a{b=\"c\"} 1 1700000000.5\n", "openmetrics"},
		{NULL, "a{b=\"c\"} 1\nd 2\n", "prometheus-text"},
		{"x.om", "a 1\n", "openmetrics"},
		{"x.prom", "a 1\n", "prometheus-text"},
		{NULL, "time,a,b\n1,2,3\n", "csv"},
		{NULL, "series,value,time\n", "csv"},
		{"dir.csv/data", "", NULL},
		{"data.csv", "", "csv"},
		{NULL, "\x12\x01\x02\x03\x0a\x08__name__", "remote-write"},
		{"x", "<html>\n", NULL},
		{NULL, "", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct mno_ingest_format *f =
			mno_ingest_format_guess(rows[i].file, rows[i].first, strlen(rows[i].first));

		if (rows[i].want)
			assert_string_equal(f ? mno_ingest_format_name(f) : "none", rows[i].want);
		else
			assert_null(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prometheus_text),
		cmocka_unit_test(refusals),
		cmocka_unit_test(openmetrics),
		cmocka_unit_test(csv_long),
		cmocka_unit_test(csv_wide),
		cmocka_unit_test(csv_open_quote),
		cmocka_unit_test(remote_write),
		cmocka_unit_test(remote_write_damage),
		cmocka_unit_test(label_sizes),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(times),
		cmocka_unit_test(forgetting),
		cmocka_unit_test(sink_fails),
		cmocka_unit_test(floats),
		cmocka_unit_test(random_floats),
		cmocka_unit_test(guesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
