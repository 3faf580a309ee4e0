/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flipped bits over all files of a store: each is found, or the byte is not in use; never a crash,
 * never a wrong answer. A sample; MNO_FLIPS=10000 or make bench BENCH=flips for all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include "flips.h"

static void test_flips(void **state)
{
	const char *env = getenv("MNO_FLIPS");
	unsigned n = env ? (unsigned)strtoul(env, NULL, 10) : 300;
	struct flips_result f;

	assert_int_equal(flips_run(n, 20261123, false, &f), 0);
	assert_int_equal(f.n, n);
	assert_int_equal(f.crashed, 0);
	assert_int_equal(f.wrong, 0);
	assert_int_equal(f.silent, 0);
	assert_int_equal(f.unproven, 0);
	assert_true(f.lost > 0 && f.mended > 0 && f.unused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
