/* SPDX-License-Identifier: Apache-2.0 */
/* What retention may go by while the wall clock steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mno/store_clock.h"
#include "tmpstate.h"

#define T0   1700000000000LL
#define MIN  60000LL
#define HOUR (60 * MIN)
#define DAY  (24 * HOUR)

static struct tmpstate dir;
static struct mno_store *store;
static uint64_t up_ms;

static void open_store(void)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1};

	assert_int_equal(mno_store_open(dir.dir, &o, &store), 0);
}

static int setup(void **state)
{
	tmpstate_new(&dir);
	up_ms = 1000;
	open_store();
	return 0;
}

static int teardown(void **state)
{
	store = mno_store_close(store);
	tmpstate_done(&dir);
	return 0;
}

static int64_t tell(int64_t wall_ms, int64_t passed_ms)
{
	struct mno_txn *t;
	int64_t now = 0;

	up_ms += (uint64_t)passed_ms;
	assert_int_equal(mno_store_begin(store, &t), 0);
	assert_int_equal(mno_store_clock(store, t, wall_ms, up_ms * 1000000, &now), 0);
	assert_int_equal(mno_store_commit(store, t), 0);
	return now;
}

static void again(void)
{
	store = mno_store_close(store);
	up_ms = 1000;
	open_store();
}

static void test_steps(void **state)
{
	assert_true(tell(T0, 0) == T0);
	assert_true(tell(T0 + MIN, MIN) == T0 + MIN);
	assert_true(tell(T0 + HOUR, MIN) == T0 + HOUR); /* a small step */
	assert_true(tell(T0 + 200 * DAY, MIN) == T0 + HOUR + MIN);
	assert_true(tell(T0 + 200 * DAY + MIN, MIN) == T0 + HOUR + 2 * MIN);
	assert_true(mno_store_now_ms(store) == T0 + HOUR + 2 * MIN);
	assert_true(tell(T0 + HOUR, MIN) == T0 + HOUR); /* back */
	assert_true(tell(T0 - 20 * DAY, MIN) == T0 - 20 * DAY);
	assert_true(tell(INT64_MAX, MIN) == T0 - 20 * DAY + MIN);
	assert_true(tell(0, MIN) == 0);
}

/* A day of running on the new course is enough, in pieces too. */
static void test_believed(void **state)
{
	int64_t t = T0 + 200 * DAY;

	tell(T0, 0);
	assert_true(tell(t, MIN) < T0 + HOUR);
	assert_true(tell(t + 12 * HOUR, 12 * HOUR) < T0 + DAY);
	again();
	assert_true(mno_store_now_ms(store) < T0 + DAY);
	assert_true(tell(t + 12 * HOUR, 0) < T0 + DAY);
	assert_true(tell(t + 23 * HOUR, 11 * HOUR) < T0 + DAY);
	t += 24 * HOUR;
	assert_true(tell(t, HOUR) == t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_believed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
