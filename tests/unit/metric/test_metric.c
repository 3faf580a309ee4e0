/* SPDX-License-Identifier: Apache-2.0 */
/* The metric table: keys, slots, ticks, removal and the text format. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "mno/metric.h"
#include "mno/time.h"
#include "mno/util.h"

static const struct mno_family cpu = {"t_cpu_seconds_total", "CPU time.", MNO_COUNTER};
static const struct mno_family load = {"t_load1", "Load \\ of\nthe host.", MNO_GAUGE};
static const struct mno_family wait = {"t_wait_seconds", "Waits.", MNO_HISTOGRAM};
static const struct mno_family camel = {"t_MemFree_bytes", "Free.", MNO_GAUGE};

#define ADD(m, f, slot, ...)                                                                       \
	({                                                                                         \
		const struct mno_label _l[] = {__VA_ARGS__};                                       \
		mno_metrics_add(m, f, NULL, _l, ARRAY_SIZE(_l), slot);                             \
	})

struct got {
	size_t n;
	struct {
		uint32_t slot, gen;
		char key[3200];
		double value;
	} row[16];
};

static void collect(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
	struct got *g = arg;

	assert_true(g->n < ARRAY_SIZE(g->row) && key_len < sizeof(g->row[0].key));
	assert_int_equal(strlen(key), key_len);
	g->row[g->n].slot = slot;
	g->row[g->n].gen = gen;
	memcpy(g->row[g->n].key, key, key_len + 1);
	g->row[g->n++].value = value;
}

static struct got tick(struct mno_metrics *m)
{
	struct got g = {.n = 0};

	mno_metrics_tick(m, collect, &g);
	return g;
}

static int setup(void **state)
{
	return mno_metrics_new(8, (struct mno_metrics **)state);
}

static int teardown(void **state)
{
	mno_metrics_free(*state);
	return 0;
}

static void test_key_is_canonical(void **state)
{
	struct mno_metrics *m = *state;
	uint32_t a = 99, b = 98;
	struct got g;

	assert_int_equal(ADD(m, &cpu, &a, {"mode", "user"}, {"cpu", "0"}, {"empty", ""}), 0);
	assert_int_equal(ADD(m, &cpu, &b, {"cpu", "0"}, {"mode", "user"}), 0);
	assert_int_equal(a, b);
	assert_int_equal(mno_metrics_count(m), 1);
	mno_metrics_set(m, a, 1);
	g = tick(m);
	assert_int_equal(g.n, 1);
	assert_string_equal(g.row[0].key, "t_cpu_seconds_total{cpu=\"0\",mode=\"user\"}");
	assert_int_equal(mno_metrics_find(m, g.row[0].key, strlen(g.row[0].key), &b), 0);
	assert_int_equal(mno_metrics_find(m, "t_nothing", 9, &b), -ENOENT);
	assert_int_equal(mno_metrics_add(m, &load, NULL, NULL, 0, &b), 0);
	assert_int_equal(mno_metrics_find(m, "t_load1", 7, &a), 0);
	assert_int_equal(a, b);
}

static void test_values_are_escaped_and_utf8(void **state)
{
	struct mno_metrics *m = *state;
	char big[2000];
	uint32_t s;
	struct got g;

	assert_int_equal(ADD(m, &load, &s, {"a", "x\"\\\ny"},
				 {"b", "\xff"
				       "\xc3\xa9\xe2\x82"}),
		0);
	mno_metrics_set(m, s, 1);
	memset(big, 'z', sizeof(big));
	big[MNO_LABEL_VALUE_MAX - 1] = '\xc3'; /* a character across the cut is left out whole */
	big[MNO_LABEL_VALUE_MAX] = '\xa9';
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(ADD(m, &load, &s, {"a", big}), 0);
	mno_metrics_set(m, s, 2);
	g = tick(m);
	assert_string_equal(g.row[0].key, "t_load1{a=\"x\\\"\\\\\\ny\",b=\"\xef\xbf\xbd\xc3\xa9"
					  "\xef\xbf\xbd\xef\xbf\xbd\"}");
	assert_int_equal(strlen(g.row[1].key), strlen("t_load1{a=\"\"}") + MNO_LABEL_VALUE_MAX - 1);
}

static void test_bad_input_is_refused(void **state)
{
	static const struct mno_family none = {"", "x", MNO_GAUGE}, digit = {"1x", "x", MNO_GAUGE},
				       dash = {"a-b", "x", MNO_GAUGE},
				       twin = {"t_load1", "x", MNO_COUNTER},
				       clash = {"t_wait_seconds_count", "x", MNO_GAUGE};
	struct mno_metrics *m = *state;
	struct mno_label many[MNO_LABELS_MAX + 1];
	uint32_t s = 77;

	assert_int_equal(ADD(m, &none, &s, {"a", "1"}), -EINVAL);
	assert_int_equal(ADD(m, &digit, &s, {"a", "1"}), -EINVAL);
	assert_int_equal(ADD(m, &dash, &s, {"a", "1"}), -EINVAL);
	assert_int_equal(ADD(m, &load, &s, {"a", "1"}, {"a", "2"}), -EINVAL);
	assert_int_equal(ADD(m, &load, &s, {"__name__", "1"}), -EINVAL);
	assert_int_equal(ADD(m, &load, &s, {"a:b", "1"}), -EINVAL);
	assert_int_equal(ADD(m, &load, &s, {"", "1"}), -EINVAL);
	assert_int_equal(mno_metrics_add(m, &wait, NULL, NULL, 0, &s), -EINVAL);
	assert_int_equal(mno_metrics_add(m, &wait, "_bucket", NULL, 0, &s), -EINVAL);
	assert_int_equal(mno_metrics_add(m, &wait, "_max", NULL, 0, &s), -EINVAL);
	assert_int_equal(mno_metrics_add(m, &load, "_sum", NULL, 0, &s), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct mno_label){"a", "b"};
	assert_int_equal(mno_metrics_add(m, &load, NULL, many, ARRAY_SIZE(many), &s), -E2BIG);
	assert_int_equal(s, 77);
	assert_int_equal(mno_metrics_count(m), 0);

	assert_int_equal(mno_metrics_add(m, &load, NULL, NULL, 0, &s), 0);
	assert_int_equal(mno_metrics_add(m, &twin, NULL, NULL, 0, &s), -EINVAL);
	assert_int_equal(mno_metrics_add(m, &wait, "_count", NULL, 0, &s), 0);
	assert_int_equal(mno_metrics_add(m, &clash, NULL, NULL, 0, &s), -EINVAL);
	assert_int_equal(mno_metrics_new(0, &m), -EINVAL);
	assert_int_equal(mno_metrics_new((size_t)1 << 40, &m), -EINVAL);
}

static void test_unset_is_absent(void **state)
{
	struct mno_metrics *m = *state;
	uint32_t a, b;
	struct got g;

	assert_int_equal(ADD(m, &cpu, &a, {"cpu", "0"}), 0);
	assert_int_equal(ADD(m, &cpu, &b, {"cpu", "1"}), 0);
	mno_metrics_set(m, a, 1);
	mno_metrics_set(m, b, 2);
	assert_int_equal(tick(m).n, 2);
	mno_metrics_set(m, b, 3);
	mno_metrics_set(m, b, 4);
	mno_metrics_set(m, 8, 1); /* out of range: no effect, no crash */
	mno_metrics_set(m, UINT32_MAX, 1);
	g = tick(m);
	assert_int_equal(g.n, 1);
	assert_int_equal(g.row[0].slot, b);
	assert_true(g.row[0].value == 4);
	assert_true(mno_metrics_value(m, a) == 1);
	assert_int_equal(tick(m).n, 0);
	mno_metrics_tick(m, NULL, NULL);
}

static void test_removed_slot_is_reused_with_new_generation(void **state)
{
	struct mno_metrics *m = *state;
	uint32_t a, b, c;
	struct got g;

	assert_int_equal(ADD(m, &cpu, &a, {"cpu", "0"}), 0);
	assert_int_equal(ADD(m, &cpu, &b, {"cpu", "1"}), 0);
	mno_metrics_set(m, a, 1);
	g = tick(m);
	mno_metrics_remove(m, a);
	mno_metrics_remove(m, a);
	mno_metrics_remove(m, 5);
	mno_metrics_set(m, a, 9); /* a source that has not noticed */
	assert_int_equal(tick(m).n, 0);
	assert_int_equal(ADD(m, &cpu, &c, {"cpu", "2"}), 0);
	assert_int_equal(c, a);
	assert_true(mno_metrics_value(m, c) == 0);
	mno_metrics_set(m, c, 5);
	assert_int_not_equal(tick(m).row[0].gen, g.row[0].gen);
	assert_int_equal(mno_metrics_count(m), 2);
	assert_int_equal(mno_metrics_slots(m), 2);
}

static void test_full_table_refuses_and_counts(void **state)
{
	struct mno_metrics *m = *state;
	char name[16];
	uint32_t s = 0;

	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(ADD(m, &cpu, &s, {"cpu", name}), 0);
	}
	assert_int_equal(ADD(m, &cpu, &s, {"cpu", "8"}), -ENOSPC);
	assert_int_equal(ADD(m, &cpu, &s, {"cpu", "9"}), -ENOSPC);
	assert_int_equal(mno_metrics_refused(m), 2);
	assert_int_equal(ADD(m, &cpu, &s, {"cpu", "7"}), 0);
	mno_metrics_remove(m, 3);
	assert_int_equal(ADD(m, &cpu, &s, {"cpu", "8"}), 0);
	assert_int_equal(s, 3);
}

/* One of each kind of value and family. */
static void fill(struct mno_metrics *m)
{
	static const double values[] = {3, 7, 12.5, 0x1p53, NAN};
	const struct mno_label inf = {"le", "+Inf"}, small = {"le", "0.1"};
	uint32_t s[6];

	assert_int_equal(mno_metrics_add(m, &wait, "_bucket", &small, 1, &s[0]), 0);
	assert_int_equal(mno_metrics_add(m, &wait, "_bucket", &inf, 1, &s[1]), 0);
	assert_int_equal(mno_metrics_add(m, &wait, "_sum", NULL, 0, &s[2]), 0);
	assert_int_equal(mno_metrics_add(m, &cpu, NULL, NULL, 0, &s[3]), 0);
	assert_int_equal(ADD(m, &load, &s[4], {"name", "a\"b\n\xff"}), 0);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		mno_metrics_set(m, s[i], values[i]);
	assert_int_equal(mno_metrics_add(m, &wait, "_count", NULL, 0, &s[5]), 0);
	mno_metrics_set(m, s[5], 7);
	assert_int_equal(mno_metrics_add(m, &camel, NULL, NULL, 0, &s[0]), 0);
	mno_metrics_set(m, s[0], 4096);
	assert_int_equal(ADD(m, &camel, &s[0], {"unset", "1"}), 0);
	mno_metrics_tick(m, NULL, NULL);
}

static void test_render(void **state)
{
	_cleanup_buf_ struct mno_buf out = {0};

	fill(*state);
	mno_metrics_render(*state, &out);
	assert_string_equal(mno_buf_cstr(&out),
		"# HELP t_Memfree_bytes Free. Stored as t_MemFree_bytes.\n"
		"# TYPE t_Memfree_bytes gauge\n"
		"t_Memfree_bytes 4096\n"
		"# HELP t_cpu_seconds_total CPU time.\n"
		"# TYPE t_cpu_seconds_total counter\n"
		"t_cpu_seconds_total 9007199254740992\n"
		"# HELP t_load1 Load \\\\ of\\nthe host.\n"
		"# TYPE t_load1 gauge\n"
		"t_load1{name=\"a\\\"b\\n\xef\xbf\xbd\"} NaN\n"
		"# HELP t_wait_seconds Waits.\n"
		"# TYPE t_wait_seconds histogram\n"
		"t_wait_seconds_bucket{le=\"0.1\"} 3\n"
		"t_wait_seconds_bucket{le=\"+Inf\"} 7\n"
		"t_wait_seconds_sum 12.5\n"
		"t_wait_seconds_count 7\n");
}

static void test_promtool_accepts(void **state)
{
	_cleanup_buf_ struct mno_buf out = {0};
	FILE *p;

	if (system("command -v promtool >/dev/null 2>&1") != 0) {
		print_message("promtool is not installed: its check was not run\n");
		skip();
	}
	fill(*state);
	mno_metrics_render(*state, &out);
	p = popen("promtool check metrics", "w");
	assert_non_null(p);
	assert_int_equal(fwrite(out.data, 1, out.len, p), out.len);
	assert_int_equal(pclose(p), 0);
}

static void add_one(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
	*(size_t *)arg += 1;
}

/* Prints a figure; what is asserted is that every series arrives, not the time. */
static void test_tick_of_many(void **state)
{
	enum { N = 3000, ROUNDS = 50 };
	struct mno_metrics *m;
	uint64_t best = UINT64_MAX, best_set = UINT64_MAX;
	uint32_t slots[N];
	size_t n = 0;

	assert_int_equal(mno_metrics_new(N, &m), 0);
	for (int i = 0; i < N; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(ADD(m, &cpu, &slots[i], {"cpu", name}, {"mode", "user"}), 0);
	}
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC), t1, t2;

		for (int i = 0; i < N; i++)
			mno_metrics_set(m, slots[i], i);
		t1 = mno_now_ns(CLOCK_MONOTONIC);
		mno_metrics_tick(m, add_one, &n);
		t2 = mno_now_ns(CLOCK_MONOTONIC);
		best_set = MNO_MIN(best_set, t1 - t0);
		best = MNO_MIN(best, t2 - t1);
	}
	assert_int_equal(n, (size_t)N * ROUNDS);
	assert_true(mno_metrics_bytes(m) < 1 << 20);
	print_message("3,000 series: set %llu ns, tick %llu ns, %zu bytes\n",
		(unsigned long long)best_set, (unsigned long long)best, mno_metrics_bytes(m));
	mno_metrics_free(m);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_key_is_canonical),
		TEST(test_values_are_escaped_and_utf8),
		TEST(test_bad_input_is_refused),
		TEST(test_unset_is_absent),
		TEST(test_removed_slot_is_reused_with_new_generation),
		TEST(test_full_table_refuses_and_counts),
		TEST(test_render),
		TEST(test_promtool_accepts),
		cmocka_unit_test(test_tick_of_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
