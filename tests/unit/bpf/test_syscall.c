/* SPDX-License-Identifier: Apache-2.0 */
/* The syscall probe's user side on maps filled by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include "mno/metric.h"
#include "syscall/syscall_user.h"

#define BANKS 2

struct world {
	struct mno_syscall_table t;
	struct mno_metrics *m;
	struct mno_cgroup v[4];
	uint32_t retired[4];
	struct mno_cgroup_view slots;
	uint32_t back[8]; /* entries given back */
	size_t n_back;
};

static int give_back(void *arg, uint32_t entry)
{
	struct world *w = arg;

	w->back[w->n_back++ % 8] = entry;
	return 0;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mno_syscall_maps maps = {.banks = BANKS};

	maps.entries = calloc((size_t)BANKS * MNO_SYSCALL_ENTRIES, sizeof(*maps.entries));
	maps.index = calloc((size_t)MNO_SYSCALL_SLOTS * MNO_SYSCALL_NRS, sizeof(*maps.index));
	w->slots.v = w->v;
	w->slots.retired = w->retired;
	w->v[w->slots.n++] = (struct mno_cgroup){.path = "~other"};
	w->v[w->slots.n++] = (struct mno_cgroup){.id = 1, .slot = 4, .gen = 1, .path = "/a"};
	mno_syscall_table_init(&w->t, &maps, give_back, w);
	*state = w;
	return mno_metrics_new(4000, &w->m);
}

static int teardown(void **state)
{
	struct world *w = *state;

	mno_syscall_table_done(&w->t);
	free(w->t.maps.entries);
	free(w->t.maps.index);
	mno_metrics_free(w->m);
	free(w);
	return 0;
}

static void called(struct world *w, uint32_t slot, unsigned nr, uint32_t entry, unsigned bank,
	uint64_t ns, uint32_t n, uint32_t errors)
{
	struct mno_syscall_entry *e = &w->t.maps.entries[bank * MNO_SYSCALL_ENTRIES + entry];

	if (entry)
		w->t.maps.index[slot * MNO_SYSCALL_NRS + nr] = entry;
	e->count += n;
	e->ns += ns * n;
	e->errors += errors;
	e->hist[mno_hist_index(ns)] += n;
}

static void ignore(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
}

static void tick(struct world *w)
{
	mno_syscall_table_tick(&w->t, w->m, &w->slots, NS_PER_SEC);
	mno_metrics_tick(w->m, ignore, NULL);
	w->slots.n_retired = 0;
}

static bool shown(struct world *w, const char *line)
{
	_cleanup_buf_ struct mno_buf out = {};

	mno_metrics_render(w->m, &out);
	return strstr(mno_buf_cstr(&out), line);
}

static void test_sums(void **state)
{
	struct world *w = *state;

	called(w, 4, SYS_read, 7, 0, 2000, 3, 1);
	called(w, 4, SYS_read, 7, 1, 500000000, 2, 0);
	called(w, 0, SYS_read, 8, 1, 2000, 1, 0);
	tick(w);
	assert_true(shown(w, "mno_cgroup_syscalls_total{cgroup=\"/a\",syscall=\"read\"} 5\n"));
	assert_true(shown(w, "errors_total{cgroup=\"/a\",syscall=\"read\"} 1\n"));
	assert_true(shown(w, "seconds_bucket{cgroup=\"/a\",syscall=\"read\",le=\"1e-05\"} 3\n") ||
		    shown(w, "seconds_bucket{cgroup=\"/a\",le=\"1e-05\",syscall=\"read\"} 3\n"));
	assert_true(shown(w, "seconds_count{cgroup=\"/a\",syscall=\"read\"} 5\n"));
	assert_true(shown(w, "seconds_sum{cgroup=\"/a\",syscall=\"read\"} 1.000006\n"));
	assert_true(shown(w, "mno_cgroup_syscalls_total{cgroup=\"~other\",syscall=\"read\"} 1\n"));
	assert_false(shown(w, "errors_total{cgroup=\"~other\""));
}

static void test_overflow_is_counted(void **state)
{
	struct world *w = *state;

	called(w, 4, SYS_write, 0, 0, 2000, 9, 0);
	w->t.maps.index[4 * MNO_SYSCALL_NRS + SYS_write] = MNO_SYSCALL_NONE_LEFT;
	tick(w);
	assert_true(
		shown(w, "mno_cgroup_syscalls_total{cgroup=\"~other\",syscall=\"~other\"} 9\n"));
}

static void test_entries_come_back(void **state)
{
	struct world *w = *state;
	size_t series;

	tick(w);
	series = mno_metrics_count(w->m);
	called(w, 4, SYS_read, 7, 0, 2000, 3, 1);
	called(w, 9, SYS_read, 8, 1, 2000, 5, 1); /* its cgroup is never listed */
	w->t.maps.index[3 * MNO_SYSCALL_NRS + 1] = MNO_SYSCALL_NONE_LEFT;
	tick(w);
	w->slots.n = 1;
	w->retired[w->slots.n_retired++] = 4;
	w->retired[w->slots.n_retired++] = 9;
	tick(w);
	assert_int_equal(w->n_back, 2);
	assert_int_equal(w->back[0], 7);
	assert_int_equal(w->back[1], 8);
	assert_false(shown(w, "/a"));
	assert_true(shown(w, "{cgroup=\"~other\",syscall=\"~other\"} 5\n"));
	assert_int_equal(w->t.maps.index[4 * MNO_SYSCALL_NRS + SYS_read], 0);
	assert_int_equal(w->t.maps.index[3 * MNO_SYSCALL_NRS + 1], 0); /* may try again */
	assert_int_equal(w->t.maps.entries[7].count, 0);
	assert_true(mno_metrics_count(w->m) <= series + 8); /* the rest's own */
}

static void test_close_leaves_no_series(void **state)
{
	struct world *w = *state;

	called(w, 4, SYS_read, 7, 0, 2000, 3, 1);
	tick(w);
	assert_true(mno_metrics_count(w->m) > 5);
	mno_syscall_table_done(&w->t);
	assert_int_equal(mno_metrics_count(w->m), 0);
}

static void test_json(void **state)
{
	_cleanup_buf_ struct mno_buf out = {};
	struct world *w = *state;
	struct mno_json j;

	called(w, 4, SYS_read, 7, 0, 2000, 3, 1);
	tick(w);
	called(w, 4, SYS_read, 7, 0, 2000, 20, 0);
	tick(w);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	mno_syscall_table_json(&w->t, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&out), "{\"path\":\"/a\",\"syscalls_per_second\":20}"));
	assert_non_null(strstr(out.data,
		"{\"cgroup\":\"/a\",\"syscall\":\"read\",\"per_second\":20,\"count\":23,"));
}

static void test_names(void **state)
{
	char buf[32];

	assert_string_equal(mno_syscall_name(SYS_openat), "openat");
	assert_string_equal(mno_syscall_name(SYS_execve), "execve");
	assert_null(mno_syscall_name(MNO_SYSCALL_NRS));
	assert_string_equal(mno_syscall_label(MNO_SYSCALL_COMPAT, buf, sizeof(buf)), "32-bit");
	assert_string_equal(mno_syscall_label(500, buf, sizeof(buf)), "nr-500");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_sums),
		T(test_overflow_is_counted),
		T(test_entries_come_back),
		T(test_close_leaves_no_series),
		T(test_json),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
