/* SPDX-License-Identifier: Apache-2.0 */
/* Order of encoded values, the JSON reader, words, conditions, transactions as JSON. */
#include <math.h>
#include "../../../libmno/src/docs/value.h"
#include "rig.h"

static void encode(const char *s, struct mno_buf *b)
{
	mno_buf_reset(b);
	assert_int_equal(docs_number_encode(b, s, strlen(s)), 0);
}

static int order(const char *a, const char *b)
{
	_cleanup_buf_ struct mno_buf x = {0}, y = {0};
	int r;

	encode(a, &x);
	encode(b, &y);
	r = docs_bytes_compare(x.data, x.len, y.data, y.len);
	return (r > 0) - (r < 0);
}

static void test_numbers(void **state)
{
	static const char *const ascending[] = {"-1e30000", "-123456789012345678901234567890",
		"-12.5", "-12.05", "-12", "-1", "-0.5", "-0.05", "-1e-30000", "0", "1e-30000",
		"0.001", "0.0010000000000000000000001", "0.01", "0.1", "0.12", "0.5", "1", "1.0001",
		"9", "9.9", "10", "11", "99", "100", "101", "9223372036854775807",
		"9223372036854775808", "1e19", "1e100"};
	static const char *const equal[][2] = {{"1", "1.0"}, {"1", "10e-1"}, {"100", "1e2"},
		{"0", "-0"}, {"0", "0.00e9"}, {"-12.50", "-1250e-2"}, {"0.05", "5E-2"},
		{"120", "0.12e+3"}};
	static const char *const bad[] = {
		"", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 ", "NaN", "--1", "1.2.3"};
	_cleanup_buf_ struct mno_buf b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(ascending); i++)
		for (size_t k = 0; k < ARRAY_SIZE(ascending); k++)
			assert_int_equal(order(ascending[i], ascending[k]), (i > k) - (i < k));
	for (size_t i = 0; i < ARRAY_SIZE(equal); i++)
		assert_int_equal(order(equal[i][0], equal[i][1]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(docs_number_encode(&b, bad[i], strlen(bad[i])), -MNO_ESYNTAX);
	assert_int_equal(docs_number_encode(&b, "1e30001", 7), -ERANGE);
	assert_int_equal(docs_number_encode(&b, "1e99999999999999999999", 22), -ERANGE);
}

/* Exact halves and tenths: the order of doubles is that of their texts. */
static void test_numbers_random(void **state)
{
	uint64_t rng = 5;

	for (int i = 0; i < 20000; i++) {
		double v[2];
		char s[2][64];

		for (int k = 0; k < 2; k++) {
			v[k] = (double)((int64_t)rnd(&rng) >> (rnd(&rng) % 64)) /
			       (double)(1 << rnd(&rng) % 8);
			snprintf(s[k], sizeof(s[k]), rnd(&rng) % 2 ? "%.17g" : "%.20f", v[k]);
		}
		if (strtod(s[0], NULL) == v[0] && strtod(s[1], NULL) == v[1])
			assert_int_equal(order(s[0], s[1]), (v[0] > v[1]) - (v[0] < v[1]));
	}
}

static void test_json(void **state)
{
	static const char *const good[] = {"{}", "[]", " [1, -2.5e3 ,\"\\u00e9\\ud83d\\ude00\"] ",
		"\"\"", "0", "null", "{\"a\":{\"b\":[[[{}]]]}}", "[[],[[]]]", "\t\r\n1\n"};
	static const char *const bad[] = {"", " ", "{", "[", "]", "{]", "[}", "[1,]", "{\"a\"}",
		"{\"a\":}", "{\"a\":1,}", "{a:1}", "'a'", "\"\x01\"", "\"\\x\"", "\"\\u12\"",
		"\"\\ud800\"", "\"\\udc00\"", "\"\xff\"", "\"\xc3\"", "01", "1 2", "tru", "nulll",
		"[1 2]", "{\"a\":1 \"b\":2}", "\"", "\"\\", "NaN", "[\"a\",,1]"};
	_cleanup_buf_ struct mno_buf scratch = {0};
	char deep[80];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(
			docs_scan(good[i], strlen(good[i]), NULL, 0, &scratch, NULL, NULL, NULL),
			0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			docs_scan(bad[i], strlen(bad[i]), NULL, 0, &scratch, NULL, NULL, NULL),
			-MNO_ESYNTAX);
	memset(deep, '[', 32);
	memset(deep + 32, ']', 32);
	assert_int_equal(docs_scan(deep, 64, NULL, 0, &scratch, NULL, NULL, NULL), 0);
	memset(deep, '[', 33);
	memset(deep + 33, ']', 33);
	assert_int_equal(docs_scan(deep, 66, NULL, 0, &scratch, NULL, NULL, NULL), -MNO_ESYNTAX);
}

static int note(void *arg, unsigned path, const struct docs_scalar *v)
{
	mno_buf_addf(arg, "%u%s%d:%.*s ", path, v->in_array ? "*" : "", (int)v->type, (int)v->n,
		v->p ?: "");
	return 0;
}

static void test_paths(void **state)
{
	static const char json[] = "{\"a\":{\"b.c\":1,\"b\":[true,{\"c\":\"x\\ny\"},[2]]},"
				   "\"\\u0061x\":null,\"z\":{\"a\":{\"b\":3}}}";
	static const char *const texts[] = {"a.b\\.c", "a.b.c", "a.b", "ax", "$", "q"};
	_cleanup_buf_ struct mno_buf scratch = {0}, out = {0};
	struct docs_path p[6];
	const struct docs_path *paths[6];

	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(docs_path_parse(texts[i], strlen(texts[i]), &p[i]), 0);
		paths[i] = &p[i];
	}
	assert_int_equal(docs_scan(json, strlen(json), paths, 6, &scratch, note, &out, NULL), 0);
	assert_string_equal(mno_buf_cstr(&out), "03:1 2*2: 1*4:x\ny 2*3:2 30: ");
	assert_int_equal(docs_path_parse("", 0, &p[0]), -EINVAL);
	assert_int_equal(docs_path_parse("a..b", 4, &p[0]), -EINVAL);
	assert_int_equal(docs_path_parse("a.", 2, &p[0]), -EINVAL);
}

static void test_words(void **state)
{
	static const char text[] = "Z\xc3\x9cRICH, don't  \xd0\x9f\xd0\xa0\xd0\x98 x86_64 "
				   "\xe6\x9d\xb1\xe4\xba\xac\xff"
				   "end";
	_cleanup_buf_ struct mno_buf out = {0};
	struct docs_words w;
	struct docs_groups g;

	docs_words_begin(&w, text, strlen(text));
	while (docs_words_next(&w))
		mno_buf_addf(&out, "%.*s|", (int)w.n, w.word);
	assert_string_equal(mno_buf_cstr(&out), "z\xc3\xbcrich|don|t|\xd0\xbf\xd1\x80\xd0\xb8|x86|"
						"64|\xe6\x9d\xb1|\xe4\xba\xac|end|");
	assert_int_equal(docs_groups_parse("a b* | C", 8, &g), 0);
	assert_int_equal(g.n, 2);
	assert_int_equal(g.g[0].n, 2);
	assert_true(g.g[0].terms[1].prefix && !g.g[0].terms[0].prefix);
	assert_int_equal(docs_groups_parse(" | ", 3, &g), -EINVAL);
	assert_int_equal(docs_groups_parse("a|b|c|d|e|f|g|h|i", 17, &g), -EINVAL);
}

static void test_where(void **state)
{
	static const struct {
		const char *s;
		enum mno_doc_cmp cmp;
		enum mno_doc_type type;
		const char *path, *text;
	} good[] = {
		{"a.b=1", MNO_DOC_EQ, MNO_DOC_NUMBER, "a.b", "1"},
		{"a>=\"1\"", MNO_DOC_GE, MNO_DOC_STRING, "a", "1"},
		{"a!=true", MNO_DOC_NE, MNO_DOC_TRUE, "a", ""},
		{"a=two words", MNO_DOC_EQ, MNO_DOC_STRING, "a", "two words"},
		{"a={\"b\":1}", MNO_DOC_EQ, MNO_DOC_STRING, "a", "{\"b\":1}"},
		{"a^17", MNO_DOC_PREFIX, MNO_DOC_STRING, "a", "17"},
		{"$~x | y", MNO_DOC_WORDS, MNO_DOC_STRING, "$", "x | y"},
		{"a?", MNO_DOC_EXISTS, MNO_DOC_STRING, "a", ""},
		{"a\\=b=c", MNO_DOC_EQ, MNO_DOC_STRING, "a\\=b", "c"},
	};
	static const char *const bad[] = {"", "a", "=1", "a..b=1", "a?1", ".=1"};
	struct mno_docs_error err;
	struct mno_doc_cond c;
	struct mno_arena *a;

	assert_int_equal(mno_arena_new(65536, &a), 0);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(mno_docs_where(a, good[i].s, strlen(good[i].s), &c, &err), 0);
		assert_int_equal(c.cmp, good[i].cmp);
		assert_int_equal(c.type, good[i].type);
		assert_string_equal(c.path, good[i].path);
		assert_string_equal(c.text, good[i].text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.msg[0] = 0;
		assert_int_equal(mno_docs_where(a, bad[i], strlen(bad[i]), &c, &err), -MNO_ESYNTAX);
		assert_true(err.msg[0]);
	}
	mno_arena_free(a);
}

static void test_ops(void **state)
{
	static const char good[] =
		" {\"ops\":[{\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"\\u0041\","
		"\"value\":{\"big\": 123456789012345678901234567890 }},"
		"{\"op\":\"delete\",\"ns\":\"n\",\"coll\":\"c\",\"id_base64\":\"AP8\",\"if_"
		"version\":7},"
		"{\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"t\",\"kind\":\"text\","
		"\"value\":"
		"\"a\\nb\",\"if_absent\":true},"
		"{\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"d\",\"kind\":\"decimal\","
		"\"value\":1.50}]} ";
	static const char *const bad[] = {"", "{", "[]", "{}", "{\"ops\":[]}", "{\"ops\":{}}",
		"[1]", "[{}]", "[{\"op\":\"put\"}]", "{\"ops\":[],\"more\":1}",
		"[{\"op\":\"burn\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\"}]",
		"[{\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\"}]",
		"[{\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":1,\"value\":1}]",
		"[{\"op\":\"put\",\"op\":\"put\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\","
		"\"value\":1}]",
		"[{\"op\":\"delete\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\",\"nonsense\":1}]",
		"[{\"op\":\"delete\",\"ns\":\"n\\u0000\",\"coll\":\"c\",\"id\":\"i\"}]",
		"[{\"op\":\"delete\",\"ns\":\"n\",\"coll\":\"c\",\"id_base64\":\"*\"}]",
		"[{\"op\":\"delete\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\",\"if_version\":-1}]",
		"[{\"op\":\"delete\",\"ns\":\"n\",\"coll\":\"c\",\"id\":\"i\",\"if_version\":1,"
		"\"if_present\":true}]"};
	struct mno_docs_error err;
	struct mno_doc_op *ops;
	struct mno_arena *a;
	size_t n;

	assert_int_equal(mno_arena_new(1 << 20, &a), 0);
	assert_int_equal(mno_docs_ops_parse(a, good, strlen(good), &ops, &n, &err), 0);
	assert_int_equal(n, 4);
	assert_string_equal(ops[0].id, "A");
	assert_string_equal(ops[0].value, "{\"big\": 123456789012345678901234567890 }");
	assert_int_equal(ops[1].verb, MNO_DOC_DELETE);
	assert_memory_equal(ops[1].id, "\0\xff", 2);
	assert_int_equal(ops[1].pre, MNO_DOC_IF_VERSION);
	assert_int_equal(ops[1].if_version, 7);
	assert_string_equal(ops[2].value, "a\nb");
	assert_int_equal(ops[2].pre, MNO_DOC_IF_ABSENT);
	assert_string_equal(ops[3].value, "1.50");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.msg[0] = 0;
		assert_true(mno_docs_ops_parse(a, bad[i], strlen(bad[i]), &ops, &n, &err) < 0);
		assert_true(err.msg[0]);
	}
	mno_arena_free(a);
}

static void test_base64(void **state)
{
	uint64_t rng = 3;

	for (size_t n = 0; n < 70; n++) {
		_cleanup_buf_ struct mno_buf text = {0}, back = {0};
		uint8_t b[70];

		for (size_t i = 0; i < n; i++)
			b[i] = (uint8_t)rnd(&rng);
		mno_base64_add(&text, b, n, n & 1);
		assert_int_equal(mno_base64_read(mno_buf_cstr(&text), text.len, &back), 0);
		assert_int_equal(back.len, n);
		assert_memory_equal(mno_buf_cstr(&back), b, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_numbers_random),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_ops),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
