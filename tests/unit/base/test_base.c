/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "mno/arena.h"
#include "mno/buf.h"
#include "mno/err.h"
#include "mno/json.h"
#include "mno/log.h"
#include "mno/map.h"
#include "mno/queue.h"
#include "mno/time.h"
#include "mno/util.h"

static void every_code_has_a_text(void **state)
{
#define X(name, code, text)                                                                        \
	assert_string_equal(mno_strerror(-(code)), text);                                          \
	assert_string_equal(mno_errname(code), "MNO_E" #name);
	MNO_ERRORS(X)
#undef X
	assert_string_equal(mno_errname(-ENOENT), "ENOENT");
	assert_string_equal(mno_strerror(-4999), "unknown error");
	assert_string_equal(mno_strerror(99999), "unknown error");
	assert_non_null(mno_strerror(0));
}

static void durations(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t ns;
	} cases[] = {
		{"250ms", 0, 250 * NS_PER_MS},
		{"60", 0, 60 * NS_PER_SEC},
		{"1h30m", 0, 5400 * NS_PER_SEC},
		{"2w", 0, 1209600 * NS_PER_SEC},
		{"0s", 0, 0},
		{"", -EINVAL, 0},
		{"5x", -EINVAL, 0},
		{"-5s", -EINVAL, 0},
		{"1h30", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"1 s", -EINVAL, 0},
		{"101y", -ERANGE, 0},
		{"99999999999999999999s", -ERANGE, 0},
		{"50y50y1s", -ERANGE, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t ns = 77;

		assert_int_equal(mno_duration_parse(cases[i].text, &ns), cases[i].r);
		assert_int_equal(ns, cases[i].r ? 77 : cases[i].ns);
	}
}

static void duration_texts(void **state)
{
	char b[32];

	assert_string_equal(mno_duration_format(420 * NS_PER_MS, b, sizeof(b)), "420 ms");
	assert_string_equal(mno_duration_format(3200 * NS_PER_MS, b, sizeof(b)), "3.2 s");
	assert_string_equal(mno_duration_format(15120 * NS_PER_SEC, b, sizeof(b)), "4 h 12 min");
	assert_string_equal(mno_duration_format(0, b, sizeof(b)), "0 ns");
	assert_string_equal(mno_duration_format(UINT64_MAX, b, sizeof(b)), "213503 d 23 h");
}

static void arena_keeps_its_cap(void **state)
{
	_cleanup_(mno_arena_free_p)
	struct mno_arena *a = NULL;
	size_t got = 0;

	assert_int_equal(mno_arena_new(100000, &a), 0);
	for (char *p; (p = mno_arena_alloc(a, 1000)); got += 1000)
		memset(p, 0x5a, 1000);
	assert_in_range(got, 80000, 100000);
	assert_null(mno_arena_alloc(a, SIZE_MAX));
	assert_null(mno_arena_calloc(a, SIZE_MAX / 2, 4));
	mno_arena_reset(a);
	assert_int_equal(mno_arena_used(a), 0);
	assert_string_equal(mno_arena_strndup(a, "abcdef", 3), "abc");
	assert_int_equal((uintptr_t)mno_arena_alloc(a, 1) % 16, 0);
	assert_null(mno_arena_free(NULL));
}

static void buffer_error_sticks(void **state)
{
	_cleanup_buf_ struct mno_buf b = {.max = 10};

	mno_buf_adds(&b, "12345678");
	mno_buf_adds(&b, "9ab");
	assert_int_equal(b.err, -E2BIG);
	mno_buf_addc(&b, 'x');
	assert_int_equal(b.len, 8);
	assert_string_equal(mno_buf_cstr(&b), "");
	mno_buf_reset(&b);
	mno_buf_addf(&b, "%d", 42);
	assert_int_equal(b.err, -E2BIG); /* room for formatting is part of the bound */
	mno_buf_done(&b);
	mno_buf_addf(&b, "%0500d|%s", 7, "end");
	assert_int_equal(b.len, 504);
	assert_string_equal(mno_buf_cstr(&b) + 499, "7|end");
}

static void map_against_a_model(void **state)
{
	enum { N = 2000 };
	static char model[N];
	struct mno_map *m = NULL;
	unsigned seed = 1;
	size_t count = 0;

	assert_int_equal(mno_map_new(0, &m), 0);
	for (int i = 0; i < 60000; i++) {
		uint32_t k = (seed = seed * 1103515245 + 12345) >> 8;

		k %= N;
		if (seed >> 31) {
			assert_int_equal(mno_map_put(m, &k, 4, &model[k], NULL), 0);
			count += !model[k];
			model[k] = 1;
		} else {
			assert_ptr_equal(mno_map_remove(m, &k, 4), model[k] ? &model[k] : NULL);
			count -= model[k];
			model[k] = 0;
		}
	}
	assert_int_equal(mno_map_count(m), count);
	for (uint32_t k = 0; k < N; k++)
		assert_ptr_equal(mno_map_get(m, &k, 4), model[k] ? &model[k] : NULL);
	mno_map_free(m, NULL);
}

static void map_removal_while_iterating(void **state)
{
	for (int round = 0; round < 50; round++) {
		struct mno_map *m = NULL;
		char seen[300] = {0};
		size_t pos = 0, n = 0, len;
		const void *key;
		void *v;

		assert_int_equal(mno_map_new(300, &m), 0);
		for (uint32_t k = 0; k < 300; k++)
			assert_int_equal(mno_map_put(m, &k, 4, &seen[k], NULL), 0);
		assert_int_equal(mno_map_put(m, "full?", 5, m, NULL), -ENOSPC);
		while (mno_map_next(m, &pos, &key, &len, &v)) {
			uint32_t k;

			memcpy(&k, key, 4);
			assert_int_equal(seen[k]++, 0);
			n++;
			if (k % 3)
				assert_ptr_equal(mno_map_remove(m, &k, 4), v);
		}
		assert_int_equal(n, 300);
		assert_int_equal(mno_map_count(m), 100);
		mno_map_free(m, NULL);
	}
}

static void siphash_vector(void **state)
{
	uint8_t key[16], in[8];

	for (int i = 0; i < 16; i++)
		key[i] = i;
	for (int i = 0; i < 8; i++)
		in[i] = i;
	/* the first vectors of SipHash-1-3 with key 00..0f */
	assert_true(mno_siphash(key, in, 0) == 0xabac0158050fc4dcULL);
	assert_true(mno_siphash(key, in, 1) == 0xc9f49bf37d57ca93ULL);
}

static void json_document(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;

	mno_json_init(&j, &b);
	mno_json_obj(&j);
	mno_json_kstr(&j, "a\"b", "x\n\x01\xff\xc3\xa9\\");
	mno_json_key(&j, "v");
	mno_json_arr(&j);
	mno_json_u64(&j, UINT64_MAX);
	mno_json_i64(&j, INT64_MIN);
	mno_json_f64(&j, NAN);
	mno_json_f64(&j, 0.1);
	mno_json_f64(&j, 1e300);
	mno_json_f64(&j, -3);
	mno_json_obj(&j);
	mno_json_end(&j);
	mno_json_end_arr(&j);
	mno_json_kstr(&j, "n", NULL);
	mno_json_end(&j);
	assert_string_equal(mno_buf_cstr(&b), "{\"a\\\"b\":\"x\\n\\u0001\xef\xbf\xbd\xc3\xa9\\\\\","
					      "\"v\":[18446744073709551615,-9223372036854775808,"
					      "null,0.1,1e+300,-3,{}],\"n\":null}");
}

static void json_depth_is_bounded(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;

	mno_json_init(&j, &b);
	for (int i = 0; i < 40; i++)
		mno_json_arr(&j);
	assert_int_equal(b.err, -E2BIG);
}

static void floats_as_prometheus(void **state)
{
	static const struct {
		double v;
		const char *text;
	} cases[] = {
		{1, "1"},
		{0.5, "0.5"},
		{-0.0, "-0"},
		{1e20, "100000000000000000000"},
		{1e21, "1e+21"},
		{0.000001, "0.000001"},
		{0.00000012, "1.2e-07"},
		{1.0 / 3, "0.3333333333333333"},
		{123456.789, "123456.789"},
		{INFINITY, "+Inf"},
		{-INFINITY, "-Inf"},
		{NAN, "NaN"},
		{5e-324, "5e-324"},
		{1.7976931348623157e308, "1.7976931348623157e+308"},
		{-1436379136.25, "-1436379136.25"},
	};
	char buf[40];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = mno_f64_format(cases[i].v, buf);

		assert_string_equal(buf, cases[i].text);
		assert_int_equal(n, strlen(buf));
	}
}

static void floats_read_back(void **state)
{
	uint64_t x = 88172645463325252ULL;
	char buf[40];

	for (int i = 0; i < 200000; i++) {
		double v;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(&v, &x, 8);
		if (!isfinite(v))
			continue;
		mno_f64_format(v, buf);
		assert_true(strtod(buf, NULL) == v);
	}
}

static void terminal_is_safe(void **state)
{
	static const char evil[] = "a\x1b[2J\xff\xc2\x9b\xc3\xa9\x7f";
	char out[64], tiny[6];

	mno_escape_terminal(out, sizeof(out), evil, sizeof(evil) - 1);
	assert_string_equal(out, "a\\x1b[2J\\xff\\xc2\\x9b\xc3\xa9\\x7f");
	mno_escape_terminal(tiny, sizeof(tiny), evil, sizeof(evil) - 1);
	assert_string_equal(tiny, "a\\x1b");
}

static void numbers_from_text(void **state)
{
	uint64_t u = 5;
	double d;

	assert_int_equal(mno_parse_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(mno_parse_u64("18446744073709551616", &u), -ERANGE);
	assert_int_equal(mno_parse_u64("+1", &u), -EINVAL);
	assert_int_equal(mno_parse_u64("", &u), -EINVAL);
	assert_int_equal(mno_parse_f64("1e3", &d), 0);
	assert_true(d == 1000);
	assert_int_equal(mno_parse_f64(" 1", &d), -EINVAL);
	assert_int_equal(mno_parse_f64("0x1", &d), -EINVAL);
	assert_int_equal(mno_parse_f64("1z", &d), -EINVAL);
	assert_int_equal(mno_parse_f64("-Inf", &d), 0);
}

static void spelling(void **state)
{
	assert_int_equal(mno_edit_distance("polcy", "policy"), 1);
	assert_int_equal(mno_edit_distance("sttaus", "status"), 1);
	assert_int_equal(mno_edit_distance("", "abc"), 3);
	assert_int_equal(mno_edit_distance("same", "same"), 0);
}

static void queue_full_and_closed(void **state)
{
	struct mno_queue *q = NULL;
	int a, b, c;

	assert_int_equal(mno_queue_new(2, &q), 0);
	assert_int_equal(mno_queue_push(q, &a), 0);
	assert_int_equal(mno_queue_push(q, &b), 0);
	assert_int_equal(mno_queue_push(q, &c), -ENOBUFS);
	assert_ptr_equal(mno_queue_pop(q, 0), &a);
	mno_queue_close(q);
	assert_int_equal(mno_queue_push(q, &c), -ESHUTDOWN);
	assert_ptr_equal(mno_queue_pop(q, 0), &b);
	assert_null(mno_queue_pop(q, NS_PER_SEC));
	mno_queue_free(q, NULL);
}

static void keep_message(void *arg, enum mno_log_level level, const char *msg)
{
	snprintf(arg, 64, "%d %s", level, msg);
}

static void log_sink(void **state)
{
	char got[64] = "";

	mno_err("nobody listens");
	mno_log_set(keep_message, got, MNO_LOG_INFO);
	mno_debug("too fine");
	assert_string_equal(got, "");
	mno_warn("bad \x1b %d", 7);
	assert_string_equal(got, "4 bad \\x1b 7");
	mno_log_set(NULL, NULL, MNO_LOG_INFO);
}

static void human_numbers(void **state)
{
	char b[16];

	assert_string_equal(mno_human_count(1269, b, sizeof(b)), "1,269");
	assert_string_equal(mno_human_count(31900000, b, sizeof(b)), "31.9 M");
	assert_string_equal(mno_human_bytes(11.8 * 1048576, b, sizeof(b)), "11.8 MiB");
	assert_string_equal(mno_human_bytes(12, b, sizeof(b)), "12 B");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_has_a_text),
		cmocka_unit_test(durations),
		cmocka_unit_test(duration_texts),
		cmocka_unit_test(arena_keeps_its_cap),
		cmocka_unit_test(buffer_error_sticks),
		cmocka_unit_test(map_against_a_model),
		cmocka_unit_test(map_removal_while_iterating),
		cmocka_unit_test(siphash_vector),
		cmocka_unit_test(json_document),
		cmocka_unit_test(json_depth_is_bounded),
		cmocka_unit_test(floats_as_prometheus),
		cmocka_unit_test(floats_read_back),
		cmocka_unit_test(terminal_is_safe),
		cmocka_unit_test(numbers_from_text),
		cmocka_unit_test(spelling),
		cmocka_unit_test(queue_full_and_closed),
		cmocka_unit_test(log_sink),
		cmocka_unit_test(human_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
