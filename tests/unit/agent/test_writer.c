/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's account: every row that was given is stored or lost, and which is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tmpstate.h"
#include "writer.h"

static struct tmpstate dir;
static struct mno_store *env;
static struct mno_series *series;
static struct mno_ledger *ledger;
static struct mno_writer *writer;

static int setup(void **state)
{
	struct mno_store_opts eo = {.sz = sizeof(eo), .floor_bytes = 1};
	struct mno_ledger_opts lo = {.sz = sizeof(lo)};
	struct mno_writer_opts wo = {.sz = sizeof(wo)};

	tmpstate_new(&dir);
	assert_int_equal(mno_store_open(dir.dir, &eo, &env), 0);
	assert_int_equal(mno_series_open(env, &series), 0);
	assert_int_equal(mno_ledger_new(&lo, &ledger), 0);
	wo.env = env;
	wo.series = series;
	wo.ledger = ledger;
	assert_int_equal(mno_writer_new(&wo, &writer), 0);
	return 0;
}

static int teardown(void **state)
{
	mno_writer_stop(writer);
	mno_ledger_free(ledger);
	mno_series_close(series);
	mno_store_close(env);
	tmpstate_done(&dir);
	return 0;
}

static void give(int64_t t_ms)
{
	struct mno_row *row = calloc(1, sizeof(*row) + sizeof(row->cells[0]));

	row->t_ms = t_ms;
	row->n = 1;
	row->cells[0].value = (double)t_ms;
	if (!mno_writer_knows(writer, 0, 0))
		row->cells[0].key = strdup("a");
	assert_int_equal(mno_writer_row(writer, row), 0);
}

static void expect(uint64_t stored, uint64_t lost, bool behind)
{
	struct mno_writer_stat st;

	assert_int_equal(mno_writer_flush(writer), 0);
	mno_writer_stat(writer, &st);
	assert_int_equal(st.rows_stored, stored);
	assert_int_equal(st.rows_lost, lost);
	assert_int_equal(st.clock_behind, behind);
}

static int sum_column(void *arg, const struct mno_column *c)
{
	size_t *n = arg;

	for (size_t i = 0; i < c->n; i++) {
		assert_true(c->v[i] == (double)c->t_ms[i]);
		assert_true(i == 0 || c->t_ms[i] > c->t_ms[i - 1]);
	}
	*n += c->n;
	return 0;
}

static size_t stored(void)
{
	uint32_t id = 0;
	struct mno_ids ids = {0};
	struct mno_matcher m = {.op = MNO_MATCH_EQ, .name = "__name__", .value = "a"};
	size_t n = 0;

	assert_int_equal(mno_series_select(series, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 1);
	id = ids.v[0];
	mno_ids_done(&ids);
	assert_int_equal(mno_series_read(series, &id, 1, 0, INT64_MAX, 1000, sum_column, &n), 0);
	return n;
}

/* A clock that goes back costs nothing and is told until it has caught up. */
static void test_clock_goes_back(void **state)
{
	give(5000);
	expect(1, 0, false);
	give(5000);
	give(4000);
	expect(3, 0, true);
	expect(3, 0, true); /* a commit without rows says nothing about the clock */
	give(6000);
	expect(4, 0, false);
	assert_int_equal(stored(), 3); /* 5000 came twice */
}

/* By days, back and forth; before 1970 there is no time to store. */
static void test_clock_jumps(void **state)
{
	static const int64_t days[] = {100, 97, 103, 99, 100, 110, 20};

	for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
		for (int64_t k = 0; k < 5; k++)
			give((days[i] * 86400 + k + (int64_t)i) * 1000);
		assert_int_equal(mno_writer_flush(writer), 0);
	}
	expect(35, 0, true);
	assert_int_equal(stored(), 34); /* day 100: one second came twice */
	give(-5000);
	expect(35, 1, true);
	give(111LL * 86400 * 1000);
	expect(36, 1, false);
	assert_int_equal(stored(), 35);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clock_goes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_jumps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
