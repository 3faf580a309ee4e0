/* SPDX-License-Identifier: Apache-2.0 */
/* Selectors: syntax and error texts (those of Prometheus 2.42), and their meaning on a small store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "mno/err.h"
#include "mno/promql.h"
#include "../../../libmno/src/store/store_internal.h"

#define EMPTY_MATCHER                                                                              \
	"1:1: parse error: vector selector must contain at least one non-empty matcher"

/* query and Prometheus' own error; NULL = it parses */
static const struct {
	const char *query, *error;
} syntax[] = {
	{"up", NULL},
	{"up{job='a'}", NULL},
	{"up{job=`a\\`}", NULL},
	{"up{job=\"a\",}", NULL},
	{"{__name__=\"up\"}", NULL},
	{"up[1h30m]", NULL},
	{"up[ 5m ]", NULL},
	{"up [5ms]", NULL},
	{"up offset -5m", NULL},
	{"up @ 100", NULL},
	{"up @ start()", NULL},
	{"up @ -5", NULL},
	{"up[5m] @ 100 offset 5m", NULL},
	{"up offset 1d @ end()", NULL},
	{"up # foo } bar", NULL},
	{"sum", NULL},
	{"by", NULL},
	{"offset", NULL},
	{"UP OFFSET 5m", NULL},
	{"a:b:c", NULL},
	{":a", NULL},
	{"up{by=\"x\",offset=\"y\"}", NULL},
	{"up{job=\"a\\u00e9\\x41\\101\"}", NULL},
	{"up{job!~\"\"}", NULL},
	{"up{job!=\"\",job=\"\"}", NULL},
	{"{__name__=\"\",job=\"x\"}", NULL},
	{"{__name__=~\"a.*\"}", NULL},
	{"", "1:1: parse error: no expression found in input"},
	{"#c", "1:1: parse error: no expression found in input"},
	{"up{", "1:4: parse error: unexpected end of input inside braces"},
	{"up{job", "1:7: parse error: unexpected end of input inside braces"},
	{"up{job=", "1:8: parse error: unexpected end of input inside braces"},
	{"up{job=\"x", "1:8: parse error: unterminated quoted string"},
	{"up{job=`x", "1:8: parse error: unterminated raw string"},
	{"up{job=\"x\"} foo", "1:13: parse error: unexpected identifier \"foo\""},
	{"{}", EMPTY_MATCHER},
	{"{job=~\".*\"}", EMPTY_MATCHER},
	{"{job!=\"x\"}", EMPTY_MATCHER},
	{"{job=\"\"}", EMPTY_MATCHER},
	{"{__name__!~\"a\"}", EMPTY_MATCHER},
	{"up[5m", "1:6: parse error: unclosed left bracket"},
	{"up[5]", "1:4: parse error: missing unit character in duration"},
	{"up[]", "1:4: parse error: missing unit character in duration"},
	{"up[5x]", "1:4: parse error: bad duration syntax: \"5\""},
	{"up[5 m]", "1:4: parse error: missing unit character in duration"},
	{"up[0s]", "1:4: parse error: duration must be greater than 0"},
	{"up[30m1h]", "1:4: parse error: not a valid duration string: \"30m1h\""},
	{"up[1hs]", "1:4: parse error: not a valid duration string: \"1hs\""},
	{"up[99999999999y]", "1:4: parse error: duration out of range"},
	{"up[5m][5m]", "1:7: parse error: ranges only allowed for vector selectors"},
	{"up[5m]]", "1:7: parse error: unexpected right bracket ']'"},
	{"up[5m]{a=\"b\"}", "1:7: parse error: unexpected \"{\""},
	{"up offset", "1:10: parse error: unexpected end of input in offset, expected duration"},
	{"up offset 5", "1:11: parse error: unexpected number \"5\" in offset, expected duration"},
	{"up offset foo",
		"1:11: parse error: unexpected identifier \"foo\" in offset, expected duration"},
	{"up offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"},
	{"up offset 5m [5m]", "1:14: parse error: no offset modifiers allowed before range"},
	{"up @", "1:5: parse error: unexpected end of input in @, expected timestamp"},
	{"up @ foo", "1:6: parse error: unexpected identifier \"foo\" in @, expected timestamp"},
	{"up @ 1s", "1:6: parse error: unexpected duration \"1s\" in @, expected timestamp"},
	{"up @ start", "1:11: parse error: unexpected end of input in @, expected timestamp"},
	{"up @ end(", "1:10: parse error: unclosed left parenthesis"},
	{"up @ inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"},
	{"up @ nan", "1:1: parse error: timestamp out of bounds for @ modifier: NaN"},
	{"up @ 9223372036854775807", "1:1: parse error: timestamp out of bounds for @ modifier: "
				     "9223372036854775808.000000"},
	{"up @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"},
	{"up @ 1.5.5", "1:9: parse error: unexpected number \".5\""},
	{"up{job=\"\\q\"}", "1:8: parse error: unknown escape sequence U+0071 'q'"},
	{"up{job=\"\\400\"}", "1:8: parse error: escape sequence is an invalid Unicode code point"},
	{"up{job=\"\\ud800\"}",
		"1:8: parse error: escape sequence is an invalid Unicode code point"},
	{"up{job=\"\\u12\"}", "1:8: parse error: illegal character U+0022 '\"' in escape sequence"},
	{"up{,}", "1:4: parse error: unexpected \",\" in label matching, expected identifier or "
		  "\"}\""},
	{"up{job=\"x\",,}", "1:12: parse error: unexpected \",\" in label matching, expected "
			    "identifier or \"}\""},
	{"up{job=\"a\" instance=\"b\"}", "1:12: parse error: unexpected identifier \"instance\" in "
					 "label matching, expected \",\" or "
					 "\"}\""},
	{"up{job==\"a\"}", "1:8: parse error: unexpected \"=\" in label matching, expected string"},
	{"up{job=x}",
		"1:8: parse error: unexpected identifier \"x\" in label matching, expected string"},
	{"up{job=5}", "1:8: parse error: unexpected character inside braces: '5'"},
	{"up{1a=\"b\"}", "1:4: parse error: unexpected character inside braces: '1'"},
	{"up{job@=\"a\"}", "1:7: parse error: unexpected character inside braces: '@'"},
	{"up{a:b=\"x\"}", "1:5: parse error: unexpected character inside braces: ':'"},
	{"up{job!\"x\"}", "1:7: parse error: unexpected character after '!' inside braces: '\"'"},
	{"up{__name__=\"up\"}",
		"1:1: parse error: metric name must not be set twice: \"up\" or \"up\""},
	{"$", "1:1: parse error: unexpected character: '$'"},
	{"\xc3\xa9", "1:1: parse error: unexpected character: '\xc3\xa9'"},
	{"up}", "1:3: parse error: unexpected character: '}'"},
	{"up)", "1:4: parse error: unexpected right parenthesis ')'"},
	{"up \"x\"", "1:4: parse error: unexpected string \"\\\"x\\\"\""},
	{"up 5", "1:4: parse error: unexpected number \"5\""},
	{"up 5m", "1:4: parse error: unexpected duration \"5m\""},
	{"up by", "1:4: parse error: unexpected <by>"},
	{"up, up", "1:3: parse error: unexpected \",\""},
	{"= up", "1:1: parse error: unexpected \"=\""},
	{"a:b c:d", "1:5: parse error: unexpected metric identifier \"c:d\""},
	{"5up", "1:1: parse error: bad number or duration syntax: \"5\""},
	{"1m", "1:1: parse error: unexpected duration \"1m\""},
	{"up !~ \"x\"", "1:4: parse error: unexpected character after '!': '~'"},
	{"[5m]", "1:1: parse error: unexpected \"[\""},
	{"up{job\n=\"x\"} foo", "2:7: parse error: unexpected identifier \"foo\""},
};

/* what Prometheus can and this cannot: refused by name, never misread */
static const struct {
	const char *query, *position, *what;
} unsupported[] = {
	{"rate(up[5m])", "1:1: ", "function calls"},
	{"sum(up)", "1:1: ", "aggregations"},
	{"sum by (x) (up)", "1:1: ", "aggregations"},
	{"up + up", "1:4: ", "operators"},
	{"up == 1", "1:4: ", "operators"},
	{"up and up", "1:4: ", "operators"},
	{"up != 1", "1:4: ", "operators"},
	{"-up", "1:1: ", "operators"},
	{"1", "1:1: ", "literals"},
	{"inf", "1:1: ", "literals"},
	{"\"abc\"", "1:1: ", "literals"},
	{"(up)", "1:1: ", "parentheses"},
	{"up[5m:1m]", "1:6: ", "subqueries"},
};

static int parse(const char *text, struct mno_selector **ret, struct mno_promql_error *err)
{
	return mno_selector_parse(text, strlen(text), false, ret, err);
}

static void test_syntax(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(syntax); i++) {
		_cleanup_(mno_selector_free_p)
		struct mno_selector *s = NULL;
		struct mno_promql_error err = {};
		int r = parse(syntax[i].query, &s, &err);

		if (!syntax[i].error) {
			if (r < 0)
				fail_msg("%s: %s", syntax[i].query, err.msg);
			continue;
		}
		assert_int_equal(r, -MNO_ESYNTAX);
		assert_int_equal(err.type, MNO_PROMQL_BAD_DATA);
		assert_string_equal(err.msg, syntax[i].error);
	}
}

static void test_unsupported(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(unsupported); i++) {
		_cleanup_(mno_selector_free_p)
		struct mno_selector *s = NULL;
		struct mno_promql_error err = {};

		assert_int_equal(parse(unsupported[i].query, &s, &err), -MNO_ESYNTAX);
		if (strncmp(err.msg, unsupported[i].position, strlen(unsupported[i].position)) ||
			!strstr(err.msg, unsupported[i].what) ||
			!strstr(err.msg, "not supported: ask for"))
			fail_msg("%s: %s", unsupported[i].query, err.msg);
	}
}

static void test_parts(void **state)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	struct mno_promql_error err;

	assert_int_equal(
		parse("up{a=\"\\x41\\n\\u00e9\\\"\",b!~`c.*`}[1h5s] @ 1.5 offset -1m", &s, &err),
		0);
	assert_int_equal(s->n, 3);
	assert_string_equal(s->matchers[0].name, "__name__");
	assert_string_equal(s->matchers[0].value, "up");
	assert_string_equal(s->matchers[1].value, "A\n\xc3\xa9\"");
	assert_int_equal(s->matchers[2].op, MNO_MATCH_NRE);
	assert_int_equal(s->range_ms, 3605000);
	assert_int_equal(s->offset_ms, -60000);
	assert_int_equal(s->at, MNO_AT_TIME);
	assert_int_equal(s->at_ms, 1500);
}

static void test_match_param(void **state)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	struct mno_promql_error err;

	assert_int_equal(mno_selector_parse("up[5m]", 6, true, &s, &err), -MNO_ESYNTAX);
	assert_string_equal(err.msg, "1:3: parse error: unexpected \"[\"");
	assert_int_equal(mno_selector_parse("{}", 2, true, &s, &err), -MNO_ESYNTAX);
	assert_string_equal(err.msg, "match[] must contain at least one non-empty matcher");
}

static void test_bounds(void **state)
{
	_cleanup_buf_ struct mno_buf b = {};
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	struct mno_promql_error err;

	mno_buf_adds(&b, "up{");
	for (int i = 0; i < 100; i++)
		mno_buf_addf(&b, "a%d=\"x\",", i);
	mno_buf_adds(&b, "}");
	assert_int_equal(mno_selector_parse(b.data, b.len, false, &s, &err), -MNO_ESYNTAX);
	assert_non_null(strstr(err.msg, "more than 64 label matchers"));
	mno_buf_reset(&b);
	while (b.len <= MNO_PROMQL_MAX_TEXT)
		mno_buf_adds(&b, "aaaaaaaaaaaaaaaa");
	assert_int_equal(mno_selector_parse(b.data, b.len, false, &s, &err), -MNO_ESYNTAX);
	assert_non_null(strstr(err.msg, "longer than"));
	/* a NUL is neither the end nor a blank */
	assert_int_equal(mno_selector_parse("up\0up", 5, false, &s, &err), -MNO_ESYNTAX);
	assert_int_equal(mno_selector_parse("up{a=\"\\x00\"}", 12, false, &s, &err), -MNO_ESYNTAX);
	assert_null(s);
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int r;
		int64_t ms;
	} cases[] = {{"0", 0, 0}, {"5m", 0, 300000},
		{"1w3d4h5m6s7ms", 0, 604800000 + 3 * 86400000 + 4 * 3600000 + 306007},
		{"1y", 0, 31536000000}, {"", -EINVAL, 0}, {"5", -EINVAL, 0}, {"m", -EINVAL, 0},
		{"5m5m", -EINVAL, 0}, {"1.5m", -EINVAL, 0}, {"300y", -ERANGE, 0},
		{"99999999999999999999s", -ERANGE, 0}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t ms = -1;

		assert_int_equal(
			mno_promql_duration(cases[i].text, strlen(cases[i].text), &ms), cases[i].r);
		if (cases[i].r == 0)
			assert_int_equal(ms, cases[i].ms);
	}
}

/* --- on a store ----------------------------------------------------------------------------- */

struct fixture {
	char dir[64];
	struct mno_store *env;
	struct mno_series *series;
	uint32_t id[4];
};
#define T0 1700000000000 /* rows every 10 s from here */

static const char *const keys[] = {"up{instance=\"b\",job=\"x\"}", "up{instance=\"a\",job=\"x\"}",
	"load{}", "up{instance=\"c\",job=\"y\"}"};

static void append(
	struct fixture *f, struct mno_txn *txn, int64_t t, const char *which, double base)
{
	uint32_t ids[4];
	double v[4];
	size_t n = 0;

	for (size_t i = 0; i < 4; i++)
		if (which[i] == 'x') {
			ids[n] = f->id[i];
			v[n++] = base + (double)i;
		}
	assert_int_equal(mno_series_append(f->series, txn, t, ids, v, n), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct mno_store_opts o = {.sz = sizeof(o), .map_size = 64 << 20, .floor_bytes = 4096};
	struct mno_txn *txn;

	strcpy(f->dir, "/tmp/mno-promql-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(mno_store_open(f->dir, &o, &f->env), 0);
	assert_int_equal(mno_series_open(f->env, &f->series), 0);
	assert_int_equal(mno_store_begin(f->env, &txn), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(
			mno_series_resolve(f->series, txn, keys[i], strlen(keys[i]), &f->id[i]), 0);
	/* c ends after the 5th row, load comes with the 3rd */
	for (int i = 0; i < 10; i++)
		append(f, txn, T0 + i * 10000,
			i < 2   ? "xx-x"
			: i < 5 ? "xxxx"
				: "xxx-",
			i * 10 + 0.5);
	assert_int_equal(mno_store_commit(f->env, txn), 0);
	mno_series_committed(f->series);
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	mno_series_close(f->series);
	mno_store_close(f->env);
	nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

/* @step 0: instant at @start */
static void expect(struct fixture *f, const char *query, int64_t start, int64_t end, int64_t step,
	const char *want)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_promql_error err;
	struct mno_json j;

	if (parse(query, &s, &err) < 0)
		fail_msg("%s: %s", query, err.msg);
	mno_json_init(&j, &out);
	if ((step ? mno_promql_range(f->series, s, start, end, step, NULL, &j, &err)
		  : mno_promql_instant(f->series, s, start, NULL, &j, &err)) < 0)
		fail_msg("%s: %s", query, err.msg);
	assert_string_equal(mno_buf_cstr(&out), want);
}

static void test_instant(void **state)
{
	struct fixture *f = *state;

	/* sorted by labels, not by id; c is stale */
	expect(f, "up", T0 + 95500, 0, 0,
		"{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"up\",\"instance\":\"a\",\"job\":\"x\"},"
		"\"value\":[1700000095.500,\"91.5\"]},"
		"{\"metric\":{\"__name__\":\"up\",\"instance\":\"b\",\"job\":\"x\"},"
		"\"value\":[1700000095.500,\"90.5\"]}]}");
	expect(f, "up{instance=\"c\"}", T0 + 49999, 0, 0,
		"{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"up\",\"instance\":\"c\",\"job\":\"y\"},"
		"\"value\":[1700000049.999,\"43.5\"]}]}");
	expect(f, "up{instance=\"c\"}", T0 + 50000, 0, 0,
		"{\"resultType\":\"vector\",\"result\":[]}");
	/* the value of the row itself, and exactly 5 minutes later, but not after */
	expect(f, "load", T0 + 20000, 0, 0,
		"{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"load\"},\"value\":[1700000020,\"22.5\"]}]}");
	expect(f, "load", T0 + 90000 + 300000, 0, 0,
		"{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"load\"},\"value\":[1700000390,\"92.5\"]}]}");
	expect(f, "load", T0 + 90000 + 300001, 0, 0, "{\"resultType\":\"vector\",\"result\":[]}");
	expect(f, "load", T0 + 19999, 0, 0, "{\"resultType\":\"vector\",\"result\":[]}");
	expect(f, "nothing", T0, 0, 0, "{\"resultType\":\"vector\",\"result\":[]}");
}

static void test_offset_and_at(void **state)
{
	struct fixture *f = *state;
	static const char want[] =
		"{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"load\"},\"value\":[1700000090,\"32.5\"]}]}";

	expect(f, "load offset 1m", T0 + 90000, 0, 0, want);
	expect(f, "load @ 1700000030", T0 + 90000, 0, 0, want);
	expect(f, "load @ 1700000020 offset -10s", T0 + 90000, 0, 0, want);
	expect(f, "load @ end() offset 1m", T0 + 90000, 0, 0, want);
	expect(f, "load @ start()", T0 + 20000, T0 + 40000, 10000,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"load\"},"
		"\"values\":["
		"[1700000020,\"22.5\"],[1700000030,\"22.5\"],[1700000040,\"22.5\"]]}]}");
}

static void test_matrix(void **state)
{
	struct fixture *f = *state;

	/* both ends count; the staleness mark is no sample */
	expect(f, "up{instance=\"c\"}[20s]", T0 + 50000, 0, 0,
		"{\"resultType\":\"matrix\",\"result\":["
		"{\"metric\":{\"__name__\":\"up\",\"instance\":\"c\",\"job\":\"y\"},\"values\":["
		"[1700000030,\"33.5\"],[1700000040,\"43.5\"]]}]}");
	expect(f, "up{instance=\"c\"}[10s]", T0 + 90000, 0, 0,
		"{\"resultType\":\"matrix\",\"result\":[]}");
	expect(f, "load[10s] offset 20s", T0 + 90000, 0, 0,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"load\"},"
		"\"values\":["
		"[1700000060,\"62.5\"],[1700000070,\"72.5\"]]}]}");
}

static void test_steps(void **state)
{
	struct fixture *f = *state;

	expect(f, "up{instance=\"c\"}", T0 + 35000, T0 + 60000, 5000,
		"{\"resultType\":\"matrix\",\"result\":["
		"{\"metric\":{\"__name__\":\"up\",\"instance\":\"c\",\"job\":\"y\"},\"values\":["
		"[1700000035,\"33.5\"],[1700000040,\"43.5\"],[1700000045,\"43.5\"]]}]}");
	expect(f, "up{instance=\"c\"}", T0 + 50000, T0 + 60000, 5000,
		"{\"resultType\":\"matrix\",\"result\":[]}");
}

static void expect_error(struct fixture *f, const char *query, int64_t end, int64_t step,
	const struct mno_promql_limits *lim, enum mno_promql_error_type type, const char *part)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	_cleanup_buf_ struct mno_buf out = {.max = lim ? lim->max_bytes : 0};
	struct mno_promql_error err = {};
	struct mno_json j;

	assert_int_equal(parse(query, &s, &err), 0);
	mno_json_init(&j, &out);
	assert_true(mno_promql_range(f->series, s, T0, end, step, lim, &j, &err) < 0);
	assert_int_equal(err.type, type);
	if (!strstr(err.msg, part))
		fail_msg("%s: %s", query, err.msg);
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct mno_promql_limits few = {.max_samples = 5}, late = {.deadline_ns = 1},
				 small = {.max_bytes = 1 << 16};

	expect_error(f, "up[5m]", T0 + 1000, 1000, NULL, MNO_PROMQL_BAD_DATA,
		"invalid expression type \"range vector\" for range query");
	expect_error(f, "up", T0 + 11001 * 1000LL, 1000, NULL, MNO_PROMQL_BAD_DATA,
		"exceeded maximum resolution of 11,000 points per timeseries");
	expect_error(f, "up", T0 + 90000, 10000, &few, MNO_PROMQL_EXECUTION, "too many samples");
	expect_error(f, "up", T0 + 90000, 10000, &late, MNO_PROMQL_TIMEOUT, "timed out");
	expect_error(f, "up", T0 + 90000, 10, &small, MNO_PROMQL_EXECUTION, "larger than");
}

/* Rows enough to seal blocks; then one byte of the first is turned over. */
static void damage(struct fixture *f)
{
	_cleanup_buf_ struct mno_buf key = {}, value = {};
	const uint8_t from[12] = {};
	struct mno_txn *txn, *part;

	assert_int_equal(mno_store_begin(f->env, &txn), 0);
	for (int i = 10; i < 1000; i++)
		append(f, txn, T0 + i * 10000, "xxxx", 1);
	assert_int_equal(mno_store_commit(f->env, txn), 0);
	mno_series_committed(f->series);
	assert_int_equal(mno_store_begin(f->env, &txn), 0);
	assert_int_equal(mno_txn_part(txn, MNO_CLASS_TS, T0 + 9990000, &part), 0);
	assert_int_equal(mno_env_fetch(part->e, MNO_DB_WINDOW, MNO_SEEK_GE, from, sizeof(from),
				 &key, &value),
		0);
	value.data[value.len - 1] ^= 1;
	assert_int_equal(
		mno_txn_put(part, MNO_DB_WINDOW, key.data, key.len, value.data, value.len), 0);
	assert_int_equal(mno_store_commit(f->env, txn), 0);
}

static void test_damage(void **state)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = NULL;
	struct fixture *f = *state;
	struct mno_promql_cost cost = {};
	struct mno_promql_limits lim = {.cost = &cost};
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_promql_error err;
	struct mno_json j;

	damage(f);
	assert_int_equal(parse("up[1d]", &s, &err), 0);
	mno_json_init(&j, &out);
	assert_int_equal(mno_promql_instant(f->series, s, T0 + 1000 * 10000, &lim, &j, &err), 0);
	assert_int_equal(cost.series, 3);
	assert_int_equal(cost.damaged, 3); /* one block of each */
	assert_true(cost.samples > 1000 && cost.samples < 3 * 1000);
}

static void test_series_list(void **state)
{
	struct fixture *f = *state;
	static const char *const texts[] = {"up", "{job=\"x\"}", "load"};
	struct mno_selector *s[3];
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_promql_error err;
	struct mno_json j;

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
			mno_selector_parse(texts[i], strlen(texts[i]), true, &s[i], &err), 0);
	mno_json_init(&j, &out);
	assert_int_equal(
		mno_promql_series(f->series, s, 3, INT64_MIN, INT64_MAX, NULL, &j, &err), 0);
	assert_string_equal(mno_buf_cstr(&out),
		"[{\"__name__\":\"load\"},{\"__name__\":\"up\",\"instance\":\"a\",\"job\":\"x\"},"
		"{\"__name__\":\"up\",\"instance\":\"b\",\"job\":\"x\"},"
		"{\"__name__\":\"up\",\"instance\":\"c\",\"job\":\"y\"}]");
	for (size_t i = 0; i < 3; i++)
		mno_selector_free(s[i]);
}

/* --- native histograms ------------------------------------------------------------------------ */

static void add_hist(struct fixture *f, const char *key, int64_t t, const struct mno_native_hist *h)
{
	struct mno_txn *txn;
	uint32_t id;

	assert_int_equal(mno_store_begin(f->env, &txn), 0);
	assert_int_equal(mno_series_resolve(f->series, txn, key, strlen(key), &id), 0);
	assert_int_equal(mno_series_add_hist(f->series, txn, id, t, h), 0);
	assert_int_equal(mno_store_commit(f->env, txn), 0);
	mno_series_committed(f->series);
}

static const struct mno_native_span h_spans[] = {{-1, 2}, {1, 1}}, h_minus[] = {{0, 1}};
static const int64_t h_deltas[] = {1, 1, -2}, h_one[] = {3};
static const double h_counts[] = {0.5};

#define H_TEXT                                                                                     \
	"{\"count\":\"12\",\"sum\":\"18.4\",\"buckets\":["                                         \
	"[1,\"-1\",\"-0.5\",\"3\"],[3,\"-0.001\",\"0.001\",\"2\"],"                                \
	"[0,\"0.25\",\"0.5\",\"1\"],[0,\"0.5\",\"1\",\"2\"]]}"

static void add_hists(struct fixture *f)
{
	struct mno_native_hist h = {.count = 12,
		.sum = 18.4,
		.zero_count = 2,
		.zero_threshold = 0.001,
		.positive = {2, 3, h_spans, h_deltas, NULL},
		.negative = {1, 1, h_minus, h_one, NULL}};
	struct mno_native_hist fine = {.schema = 2,
		.is_float = true,
		.count_float = 0.5,
		.sum = 0.55,
		.positive = {1, 1, h_minus, NULL, h_counts}};
	struct mno_native_hist mark = {0};
	uint64_t stale = MNO_STALE_BITS;

	memcpy(&mark.sum, &stale, sizeof(stale));
	add_hist(f, "lat{i=\"a\"}", T0 + 10000, &h);
	add_hist(f, "lat{i=\"a\"}", T0 + 20000, &fine);
	add_hist(f, "lat{i=\"a\"}", T0 + 40000, &h);
	add_hist(f, "lat{i=\"a\"}", T0 + 50000, &mark);
	add_hist(f, "load", T0 + 25000, &h); /* between floats */
}

static void test_histograms(void **state)
{
	static const char fine[] =
		"{\"count\":\"0.5\",\"sum\":\"0.55\",\"buckets\":[[0,\"0.8408964152537145\",\"1\","
		"\"0.5\"]]}";
	_cleanup_buf_ struct mno_buf want = {};
	struct fixture *f = *state;

	add_hists(f);
	expect(f, "lat", T0 + 45000, 0, 0,
		"{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"lat\",\"i\":"
		"\"a\"},"
		"\"histogram\":[1700000045," H_TEXT "]}]}");
	expect(f, "lat", T0 + 9999, 0, 0, "{\"resultType\":\"vector\",\"result\":[]}");
	expect(f, "lat", T0 + 50000, 0, 0, "{\"resultType\":\"vector\",\"result\":[]}");
	mno_buf_addf(&want,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"lat\",\"i\":"
		"\"a\"},"
		"\"histograms\":[[1700000010," H_TEXT "],[1700000020,%s],[1700000040," H_TEXT
		"]]}]}",
		fine);
	expect(f, "lat[1m]", T0 + 60000, 0, 0, mno_buf_cstr(&want));
	mno_buf_reset(&want);
	mno_buf_addf(&want,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"lat\",\"i\":"
		"\"a\"},"
		"\"histograms\":[[1700000019," H_TEXT "],[1700000029,%s],[1700000039,%s],"
		"[1700000049," H_TEXT "]]}]}",
		fine, fine);
	expect(f, "lat", T0 + 9000, T0 + 60000, 10000, mno_buf_cstr(&want));
	expect(f, "load", T0 + 20000, T0 + 30000, 5000,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"load\"},"
		"\"values\":[[1700000020,\"22.5\"],[1700000030,\"32.5\"]],"
		"\"histograms\":[[1700000025," H_TEXT "]]}]}");
	expect(f, "load[6s]", T0 + 30000, 0, 0,
		"{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"load\"},"
		"\"values\":[[1700000030,\"32.5\"]],"
		"\"histograms\":[[1700000025," H_TEXT "]]}]}");
}

static void test_histogram_limits(void **state)
{
	struct fixture *f = *state;
	struct mno_promql_limits few = {.max_samples = 12}, small = {.max_bytes = 1 << 12};

	add_hists(f);
	expect_error(f, "lat", T0 + 90000, 10000, &few, MNO_PROMQL_EXECUTION, "too many samples");
	expect_error(f, "lat", T0 + 90000, 100, &small, MNO_PROMQL_EXECUTION, "larger than");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_match_param),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_durations),
		cmocka_unit_test_setup_teardown(test_instant, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_offset_and_at, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_matrix, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_histograms, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_histogram_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_series_list, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
