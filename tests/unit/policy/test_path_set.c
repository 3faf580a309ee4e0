/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mno/macro.h"
#include "mno/pathset.h"

static void check_one(const char *pat, const char *path, uint32_t want)
{
	struct mno_pathset_pattern v = {pat, 7};
	struct mno_pathset_error e;
	struct mno_pathset *s = NULL;

	assert_int_equal(mno_pathset_compile(&v, 1, NULL, &s, &e), 0);
	assert_int_equal(mno_pathset_match(s, path, strlen(path)), want ? 7 : 0);
	mno_pathset_free(s);
}

static void test_match(void **state)
{
	(void)state;
	check_one("/a/b", "/a/b", 1);
	check_one("/a/b", "/a/bc", 0);
	check_one("/x/**", "/x/y/z", 1);
	check_one("/x/**", "/x", 0);
	check_one("/x/**", "/x/", 0);
	check_one("**/*.so", "/l/x.so", 1);
	check_one("**/*.so", "/l/x.so.1", 0);
	check_one("/a*c", "/abbc", 1);
	check_one("/a*c", "/ab/c", 0);
	check_one("/[a-c]?", "/bz", 1);
	check_one("/[!a-c]", "/b", 0);
	check_one("/\\*", "/*", 1);
	check_one("/\\*", "/a", 0);
}

static void test_errors(void **state)
{
	static const struct {
		const char *p;
		size_t at;
	} t[] = {
		{"a/b", 0},
		{"/a[b", 2},
		{"/a\\", 2},
		{"/[z-a]", 2},
		{"/[+-9]", 2},
	};
	struct mno_pathset_error e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(mno_pathset_check(t[i].p, &e), -EINVAL);
		assert_int_equal(e.offset, t[i].at);
	}
}

static void test_budget(void **state)
{
	struct mno_pathset_pattern v[] = {{"/fine", 1}, {"/**a?????????????????????????", 2}};
	struct mno_pathset_opts o = {.sz = sizeof(o), .max_states = 5000};
	struct mno_pathset_error e;
	struct mno_pathset *s = NULL;

	(void)state;
	assert_int_equal(mno_pathset_compile(v, 2, &o, &s, &e), -E2BIG);
	assert_int_equal(e.pattern, 1);
	assert_null(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
