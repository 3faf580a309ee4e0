/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, matchers, label names and values. */
#include <stdio.h>
#include <time.h>
#include "mno/time.h"
#include "rig.h"

/* --- keys ------------------------------------------------------------------------------------ */

static void test_keys(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	static const char *const bad[] = {"", "{", "a{", "a}", "a{b}", "a{b=}", "a{b=\"",
		"a{b=\"x}", "a{b=\"x\",}", "a{,b=\"x\"}", "a{b=\"x\"}c", "a{b=\"x\",b=\"y\"}", "1a",
		"a{1=\"x\"}", "a{b=\"\\q\"}", "a{b=\"x\" }", "a b", "{}", "a{__name__=\"b\"}",
		"a{b:c=\"x\"}", "a{b=\"\\", "{b=\"\"}"};
	static const char *const same[][2] = {
		{"m{a=\"1\",b=\"2\"}", "m{b=\"2\",a=\"1\"}"},
		{"m{a=\"1\",b=\"2\"}", "m{a=\"1\",b=\"2\",c=\"\"}"},
		{"m", "m{}"},
	};
	_cleanup_buf_ struct mno_buf out = {0};
	uint32_t id;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(mno_series_resolve(s->s, t, bad[i], strlen(bad[i]), &id), -EINVAL);
	assert_int_equal(mno_series_resolve(s->s, t, "a{b=\"x\0y\"}", 11, &id), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		assert_int_equal(resolve(s, t, same[i][0]), resolve(s, t, same[i][1]));
	assert_int_not_equal(resolve(s, t, "m"), resolve(s, t, "m{a=\"1\"}"));
	id = resolve(s, t, "a:b_1{x=\"q\\\"\\\\\\n\xff\xfe\x01{},=\"}");
	assert_int_equal(mno_series_key(s->s, id, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "a:b_1{x=\"q\\\"\\\\\\n\xff\xfe\x01{},=\"}");
	assert_int_equal(mno_series_key(s->s, id + 1, &out), -ENOENT);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
}

static int resolve_buf(struct st *s, struct mno_txn *t, const struct mno_buf *key)
{
	uint32_t id;

	return mno_series_resolve(s->s, t, key->data, key->len, &id);
}

static void add_label(struct mno_buf *key, const char *name, size_t n)
{
	mno_buf_addf(key, ",%s=\"", name);
	while (n--)
		mno_buf_addc(key, 'x');
	mno_buf_addc(key, '"');
}

static void test_key_limits(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	_cleanup_buf_ struct mno_buf key = {0}, many = {0};

	mno_buf_adds(&key, "m{z=\"\"");
	add_label(&key, "a", MNO_SERIES_VALUE_MAX);
	mno_buf_addc(&key, '}');
	assert_int_equal(resolve_buf(s, t, &key), 0);
	mno_buf_reset(&key);
	mno_buf_adds(&key, "m{z=\"\"");
	add_label(&key, "a", MNO_SERIES_VALUE_MAX + 1);
	mno_buf_addc(&key, '}');
	assert_int_equal(resolve_buf(s, t, &key), -EINVAL);
	/* a key as long as can be, and one byte more */
	for (size_t more = 0; more < 2; more++) {
		mno_buf_reset(&key);
		mno_buf_adds(&key, "m{z=\"\"");
		for (unsigned i = 0; i < 4; i++)
			add_label(&key, (char[2]){(char)('a' + i)}, MNO_SERIES_VALUE_MAX - 200);
		add_label(&key, "e", KEY_MAX - key.len - 6 + more);
		mno_buf_addc(&key, '}');
		assert_int_equal(key.len, KEY_MAX + more);
		assert_int_equal(resolve_buf(s, t, &key), more ? -EINVAL : 0);
	}
	for (unsigned n = KEY_LABELS - 1; n <= KEY_LABELS; n++) {
		mno_buf_reset(&many);
		mno_buf_adds(&many, "m{");
		for (unsigned i = 0; i < n; i++)
			mno_buf_addf(&many, "%sl%02u=\"v\"", i ? "," : "", i);
		mno_buf_adds(&many, "}");
		assert_int_equal(resolve_buf(s, t, &many), n == KEY_LABELS ? -EINVAL : 0);
	}
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
}

/* --- select ------------------------------------------------------------------------------------------------ */

#define S_SERIES 10000
static void make_many(struct st *s)
{
	struct mno_txn *t = begin(s);
	uint32_t id;
	char key[160];

	for (unsigned i = 0; i < S_SERIES; i++) {
		snprintf(key, sizeof(key), "m%u{cpu=\"%u\",host=\"h%u\"%s}", i % 50, i % 64,
			i / 640, i % 2 ? ",odd=\"yes\"" : "");
		assert_int_equal(mno_series_resolve(s->s, t, key, strlen(key), &id), 0);
	}
	assert_int_equal(mno_series_append(s->s, t, 1, &id, &(double){1}, 1), 0);
	commit(s, t);
}

static bool naive(unsigned i, unsigned c)
{
	char name[8], cpu[8];

	snprintf(name, sizeof(name), "m%u", i % 50);
	snprintf(cpu, sizeof(cpu), "%u", i % 64);
	switch (c) {
	case 0:
		return strcmp(name, "m7") == 0;
	case 1:
		return strcmp(name, "m7") != 0;
	case 2:
		return name[1] == '1' && !name[3];
	case 3:
		return i % 2 == 0;
	case 4:
		return i % 2 == 1;
	case 5:
		return strcmp(cpu, "3") == 0 && strcmp(name, "m3") == 0;
	case 6:
		return false;
	default:
		return true;
	}
}

static void test_select(void **state)
{
	struct st *s = *state;
	struct mno_matcher cases[][2] = {
		{{MNO_MATCH_EQ, "__name__", "m7", NULL}},
		{{MNO_MATCH_NE, "__name__", "m7", NULL}},
		{{MNO_MATCH_RE, "__name__", "m1.?", NULL}},
		{{MNO_MATCH_EQ, "odd", "", NULL}},
		{{MNO_MATCH_NRE, "odd", "", NULL}},
		{{MNO_MATCH_EQ, "cpu", "3", NULL}, {MNO_MATCH_RE, "__name__", "m(3|4)", NULL}},
		{{MNO_MATCH_EQ, "no_such", "x", NULL}},
		{{MNO_MATCH_RE, "no_such", ".*", NULL}},
	};
	char err[200];

	make_many(s);
	for (int again = 0; again < 2; again++) {
		for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
			struct mno_ids ids = {0};
			size_t n = cases[c][1].name ? 2 : 1, want = 0;
			uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC), took;

			assert_int_equal(mno_matchers_compile(cases[c], n, err, sizeof(err)), 0);
			assert_int_equal(mno_series_select(s->s, cases[c], n, SIZE_MAX, &ids), 0);
			took = mno_now_ns(CLOCK_MONOTONIC) - t0;
			for (unsigned i = 0; i < S_SERIES; i++)
				want += naive(i, c);
			assert_int_equal(ids.n, want);
			printf("select case %u: %zu ids, %.2f ms\n", c, ids.n, (double)took / 1e6);
			mno_ids_done(&ids);
			mno_matchers_done(cases[c], n);
		}
		down(s); /* the same from what is stored */
		up(s);
	}
}

static void test_regex(void **state)
{
	struct st *s = *state;
	static const char *const bad[] = {"(", "[", "*", "a(?=b)", "a(?!b)", "(?<=a)b", "(a)\\1",
		"a++", "(?R)", "(?>a)", "(*ANYCRLF)a", "\\Ka", "(?P>x)", "(?1)", "\\"};
	static const char *const good[] = {"a|b", "(?:a)", "(?i)A", "(?P<x>a)", "[a-z]+", "[]a]",
		"\\.", "a{1,3}", "a*?", "\\d+", "[[:alpha:]]", "\\pL", "^a$", "", "[\\]x]"};
	struct mno_matcher slow = {MNO_MATCH_RE, "v", "(a|aa|aaa)+", NULL};
	struct mno_txn *t;
	struct mno_ids ids = {0};
	char err[256], key[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct mno_matcher m = {MNO_MATCH_RE, "a", bad[i], NULL};

		err[0] = '\0';
		assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), -MNO_ESYNTAX);
		assert_true(err[0]);
		mno_matchers_done(&m, 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct mno_matcher m = {MNO_MATCH_RE, "a", good[i], NULL};

		assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), 0);
		mno_matchers_done(&m, 1);
	}
	/* catastrophic backtracking ends at the limit */
	snprintf(key, sizeof(key), "m{v=\"%0200d\"}", 0);
	for (char *p = strchr(key, '0'); *p == '0'; p++)
		*p = p[1] == '0' ? 'a' : '!';
	t = begin(s);
	resolve(s, t, key);
	commit(s, t);
	assert_int_equal(mno_matchers_compile(&slow, 1, err, sizeof(err)), 0);
	assert_int_equal(mno_series_select(s->s, &slow, 1, SIZE_MAX, &ids), -MNO_ELIMIT);
	mno_matchers_done(&slow, 1);
	/* not compiled */
	assert_int_equal(mno_series_select(s->s, &slow, 1, SIZE_MAX, &ids), -EINVAL);
}

static int collect(void *arg, const char *text)
{
	mno_buf_addf(arg, "%s ", text);
	return 0;
}

static int collect_label(void *arg, const char *name, const char *value)
{
	mno_buf_addf(arg, "%s=%s ", name, value);
	return 0;
}

static int stop_now(void *arg, const char *text)
{
	return 77;
}

static void test_labels(void **state)
{
	struct st *s = *state;
	struct mno_matcher m = {MNO_MATCH_EQ, "__name__", "y", NULL};
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_txn *t = begin(s);
	uint32_t id;

	resolve(s, t, "x{Z=\"1\",b=\"2\"}");
	id = resolve(s, t, "y{c=\"q\",Z=\"2\"}");
	resolve(s, t, "y");
	commit(s, t);
	assert_int_equal(mno_series_label_names(s->s, NULL, 0, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "Z __name__ b c ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_label_names(s->s, &m, 1, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "Z __name__ c ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_label_values(s->s, "Z", NULL, 0, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "1 2 ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_labels(s->s, id, collect_label, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "__name__=y Z=2 c=q ");
	assert_int_equal(mno_series_label_names(s->s, NULL, 0, stop_now, NULL), 77);
	assert_int_equal(mno_series_labels(s->s, 999, collect_label, &out), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_keys),
		T(test_key_limits),
		T(test_select),
		T(test_regex),
		T(test_labels),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
