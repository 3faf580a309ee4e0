/* SPDX-License-Identifier: Apache-2.0 */
/* The decision in plain C: the same lines that the BPF programs run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "enforce/decide.h"

static struct mno_e_gen *g;

static int setup(void **state)
{
	g = calloc(1, sizeof(*g));
	assert_non_null(g);
	g->rule[1] = (struct mno_e_rule){.id = 11, .rank = 5, .verdict = MNO_E_DENY};
	g->rule[2] = (struct mno_e_rule){.id = 12, .rank = 9, .verdict = MNO_E_ALLOW};
	g->rule[3] = (struct mno_e_rule){.id = 13, .rank = 7, .verdict = MNO_E_KILL};
	g->rule[4] = (struct mno_e_rule){.id = 14, .rank = 0, .verdict = MNO_E_DENY};
	g->row[1].rule[MNO_E_READ] = 1;
	g->row[2].rule[MNO_E_READ] = 2;
	g->row[2].enter = 3;
	g->row_of[1][20] = 1;
	g->row_of[1][21] = 2;
	g->domain[1].unresolved_rule = 3;
	g->domain[2].default_rule = 4;
	return 0;
}

static int teardown(void **state)
{
	free(g);
	return 0;
}

static uint32_t decide(struct mno_e_ask q)
{
	return mno_e_decide(g, &q).rule;
}

static void test_rank(void **state)
{
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {20}}), 1);
	/* whatever the order of the classes */
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {20, 21}}), 2);
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {21, 20}}), 2);
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {0, 0, 20}}), 1);
}

static void test_nothing_applies(void **state)
{
	assert_int_equal(
		decide((struct mno_e_ask){.domain = 1, .op = MNO_E_WRITE, .cls = {20}}), 0);
	assert_int_equal(decide((struct mno_e_ask){.domain = 0, .cls = {20}}), 0);
	assert_int_equal(decide((struct mno_e_ask){.domain = 2, .cls = {20}}), 4);
}

static void test_unresolved(void **state)
{
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .unresolved = 1}), 3);
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {20}, .unresolved = 1}), 3);
	assert_int_equal(decide((struct mno_e_ask){.domain = 1, .cls = {21}, .unresolved = 1}), 2);
}

/* Numbers that no table of this size has: some verdict, no access outside. */
static void test_out_of_range(void **state)
{
	decide((struct mno_e_ask){.domain = ~0u, .op = ~0u, .cls = {~0u, ~0u, ~0u}});
	g->row_of[1][20] = 0xffff;
	g->row[MNO_E_ROWS - 1].rule[MNO_E_READ] = 0xffff;
	assert_in_range(decide((struct mno_e_ask){.domain = 1, .cls = {20}}), 0, MNO_E_RULES - 1);
	g->row_of[1][20] = 1;
	g->row[MNO_E_ROWS - 1].rule[MNO_E_READ] = 0;
}

static void test_enter(void **state)
{
	struct mno_e_ask q = {.domain = 1, .op = MNO_E_EXEC, .cls = {20, 21}};

	assert_int_equal(mno_e_enters(g, &q), 3);
	q.cls[1] = 0;
	assert_int_equal(mno_e_enters(g, &q), 0);
}

static void test_slot(void **state)
{
	assert_int_equal(mno_e_slot(0xffff, 5), MNO_E_NONE);
	assert_int_equal(mno_e_slot(1, ~0ull), 1);
	assert_int_equal(mno_e_slot(1 | 0 << 8 | 100ull << 16, 99999999), 1);
	assert_int_equal(mno_e_slot(1 | 0 << 8 | 100ull << 16, 100000000), 0);
	assert_int_equal(mno_e_slot(0 | 0xff << 8 | 1ull << 16, 2000000), MNO_E_NONE);
}

static void test_comb(void **state)
{
	assert_int_equal(mno_e_comb_step(64ull << 32 | 128, 64), 128);
	assert_int_equal(mno_e_comb_step(64ull << 32 | 128, 65), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rank),
		cmocka_unit_test(test_nothing_applies),
		cmocka_unit_test(test_unresolved),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_enter),
		cmocka_unit_test(test_slot),
		cmocka_unit_test(test_comb),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
