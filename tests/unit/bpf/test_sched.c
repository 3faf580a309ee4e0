/* SPDX-License-Identifier: Apache-2.0 */
/* The sched probe's user side on maps filled by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include "cgroups.h"
#include "mno/metric.h"
#include "sched/sched_user.h"

#define BANKS 2
#define CPUS  2

struct world {
	struct mno_sched_table t;
	struct mno_pstats cpus[CPUS];
	struct mno_metrics *m;
	struct mno_cgroup v[8];
	uint32_t retired[4];
	struct mno_cgroup_view slots;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mno_sched_maps maps = {.banks = BANKS, .n_cpus = CPUS, .cpus = w->cpus};

	maps.cgroups = calloc((size_t)BANKS * MNO_SCHED_SLOTS, sizeof(*maps.cgroups));
	maps.culprits = calloc((size_t)MNO_SCHED_SLOTS * MNO_SCHED_SLOTS, sizeof(uint64_t));
	w->slots.v = w->v;
	w->slots.retired = w->retired;
	w->v[w->slots.n++] = (struct mno_cgroup){.path = "~other"};
	*state = w;
	if (mno_metrics_new(4000, &w->m) < 0)
		return -1;
	return mno_sched_table_init(&w->t, &maps);
}

static int teardown(void **state)
{
	struct world *w = *state;

	mno_sched_table_done(&w->t);
	free(w->t.maps.cgroups);
	free(w->t.maps.culprits);
	mno_metrics_free(w->m);
	free(w);
	return 0;
}

static void add_cgroup(struct world *w, uint32_t slot, uint32_t gen, const char *path)
{
	w->v[w->slots.n++] =
		(struct mno_cgroup){.id = slot, .slot = slot, .gen = gen, .path = path};
}

static struct mno_sched_cgroup *raw(struct world *w, unsigned bank, uint32_t slot)
{
	return &w->t.maps.cgroups[bank * MNO_SCHED_SLOTS + slot];
}

static struct mno_sched_cpu *cpu(struct world *w, unsigned i)
{
	return (struct mno_sched_cpu *)w->cpus[i].own;
}

static uint64_t *culprit(struct world *w, uint32_t victim, uint32_t slot)
{
	return &w->t.maps.culprits[victim * MNO_SCHED_SLOTS + slot];
}

static void ignore(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
}

static void tick(struct world *w)
{
	mno_sched_table_tick(&w->t, w->m, &w->slots, NS_PER_SEC);
	mno_metrics_tick(w->m, ignore, NULL);
	w->slots.n_retired = 0;
}

static bool shown(struct world *w, const char *line)
{
	_cleanup_buf_ struct mno_buf out = {};

	mno_metrics_render(w->m, &out);
	return strstr(mno_buf_cstr(&out), line);
}

static void waited(struct world *w, unsigned bank, uint32_t slot, uint64_t ns, uint32_t n)
{
	raw(w, bank, slot)->runq_hist[mno_hist_index(ns)] += n;
	raw(w, bank, slot)->runq_ns += ns * n;
	raw(w, bank, slot)->switches += n;
}

static void test_sums_over_banks(void **state)
{
	struct world *w = *state;

	add_cgroup(w, 3, 1, "/a");
	raw(w, 0, 3)->cpu_ns = 1500000000;
	raw(w, 1, 3)->cpu_ns = 250000000;
	raw(w, 1, 3)->preempted = 7;
	raw(w, 0, 3)->wait[MNO_WAIT_DISK] = (struct mno_sched_wait){2000000000, 4};
	waited(w, 0, 3, 500, 2);
	waited(w, 1, 3, 50000, 3);
	waited(w, 1, 3, 5000000000, 1);
	tick(w);
	assert_true(shown(w, "mno_cgroup_cpu_seconds_total{cgroup=\"/a\"} 1.75\n"));
	assert_true(shown(w, "mno_cgroup_switches_total{cgroup=\"/a\"} 6\n"));
	assert_true(shown(w, "mno_cgroup_preemptions_total{cgroup=\"/a\"} 7\n"));
	assert_true(shown(w, "mno_cgroup_wait_seconds_total{cgroup=\"/a\",class=\"disk\"} 2\n"));
	assert_false(shown(w, "class=\"lock\""));
	assert_true(shown(w, "_bucket{cgroup=\"/a\",le=\"1e-06\"} 2\n"));
	assert_true(shown(w, "_bucket{cgroup=\"/a\",le=\"1e-05\"} 2\n"));
	assert_true(shown(w, "_bucket{cgroup=\"/a\",le=\"0.0001\"} 5\n"));
	assert_true(shown(w, "_bucket{cgroup=\"/a\",le=\"1\"} 5\n"));
	assert_true(shown(w, "_bucket{cgroup=\"/a\",le=\"+Inf\"} 6\n"));
	assert_true(shown(w, "wait_seconds_count{cgroup=\"/a\"} 6\n"));
	assert_false(shown(w, "~other")); /* nothing happened there */
}

static void test_histogram_counts_wrap(void **state)
{
	struct world *w = *state;
	uint32_t *count;

	add_cgroup(w, 1, 1, "/a");
	waited(w, 0, 1, 500, 1);
	count = &raw(w, 0, 1)->runq_hist[mno_hist_index(500)];
	*count = UINT32_MAX - 1;
	tick(w);
	assert_true(shown(w, "_count{cgroup=\"/a\"} 4294967294\n") ||
		    shown(w, "_count{cgroup=\"/a\"} 4.294967294e+09\n"));
	waited(w, 0, 1, 500, 5); /* over the 32-bit edge */
	tick(w);
	assert_true(w->t.slots[1].now.runq_le[MNO_SCHED_BOUNDS - 1] == 4294967299ULL);
	assert_true(w->t.slots[1].now.runq_le[0] == 4294967299ULL);
}

static void test_open_stints(void **state)
{
	struct world *w = *state;

	add_cgroup(w, 1, 1, "/a");
	waited(w, 0, 1, 500, 1);
	raw(w, 0, 1)->cpu_ns = 1000;
	*cpu(w, 0) = (struct mno_sched_cpu){.since = 5000, .slot = 1, .pid = 9};
	*cpu(w, 1) = (struct mno_sched_cpu){.since = 9000, .slot = 0, .pid = 8}; /* this thread */
	tick(w);
	assert_int_equal(w->t.slots[1].now.cpu_ns, 1000 + 4000);
	/* the stint ended, its sum is not in yet: never backwards */
	*cpu(w, 0) = (struct mno_sched_cpu){.since = 9500, .slot = 0, .pid = 0};
	tick(w);
	assert_int_equal(w->t.slots[1].now.cpu_ns, 5000);
	raw(w, 0, 1)->cpu_ns = 1000 + 4500;
	tick(w);
	assert_int_equal(w->t.slots[1].now.cpu_ns, 5500);
}

static void test_three_largest_culprits(void **state)
{
	struct world *w = *state;
	static const char *const paths[] = {"/a", "/b", "/c", "/d", "/e"};

	for (uint32_t i = 0; i < 5; i++) {
		add_cgroup(w, i + 1, 1, paths[i]);
		waited(w, 0, i + 1, 500, 1);
	}
	*culprit(w, 1, 2) = 1000000000;
	*culprit(w, 1, 3) = 3000000000;
	*culprit(w, 1, 4) = 2000000000;
	*culprit(w, 1, 5) = 500000000;
	tick(w);
	assert_true(shown(w, "seconds_total{culprit=\"/c\",victim=\"/a\"} 3\n"));
	assert_true(shown(w, "seconds_total{culprit=\"/d\",victim=\"/a\"} 2\n"));
	assert_true(shown(w, "seconds_total{culprit=\"/b\",victim=\"/a\"} 1\n"));
	assert_false(shown(w, "culprit=\"/e\""));
	assert_int_equal(w->t.slots[1].top_slot, 3);
	*culprit(w, 1, 5) = 4000000000;
	tick(w);
	assert_true(shown(w, "seconds_total{culprit=\"/e\",victim=\"/a\"} 4\n"));
	assert_false(shown(w, "culprit=\"/b\""));
	assert_int_equal(w->t.slots[1].top_slot, 5);
	assert_int_equal(w->t.slots[1].top_ns, 3500000000);
	tick(w); /* nothing new: nobody to name */
	assert_int_equal(w->t.slots[1].top_ns, 0);
}

static void test_slot_is_given_to_another(void **state)
{
	struct world *w = *state;
	size_t series;

	tick(w);
	series = mno_metrics_count(w->m);
	add_cgroup(w, 1, 1, "/old");
	add_cgroup(w, 2, 1, "/stays");
	waited(w, 0, 1, 500, 10);
	waited(w, 0, 2, 500, 1);
	*culprit(w, 1, 2) = 7;
	*culprit(w, 2, 1) = 7;
	tick(w);
	assert_true(shown(w, "/old"));
	w->slots.n = 1;
	add_cgroup(w, 2, 1, "/stays");
	w->retired[w->slots.n_retired++] = 1;
	tick(w);
	assert_false(shown(w, "/old"));
	assert_int_equal(*culprit(w, 1, 2), 0);
	assert_int_equal(*culprit(w, 2, 1), 0);
	add_cgroup(w, 1, 2, "/new");
	waited(w, 0, 1, 500, 2);
	tick(w);
	assert_true(shown(w, "mno_cgroup_switches_total{cgroup=\"/new\"} 2\n"));
	assert_true(shown(w, "wait_seconds_count{cgroup=\"/new\"} 2\n"));
	w->slots.n = 1;
	w->retired[w->slots.n_retired++] = 1;
	w->retired[w->slots.n_retired++] = 2;
	tick(w);
	assert_int_equal(mno_metrics_count(w->m), series);
}

/* A cgroup that was never listed: what it used is not lost. */
static void test_unseen_goes_to_other(void **state)
{
	struct world *w = *state;

	waited(w, 1, 9, 500, 4);
	raw(w, 1, 9)->cpu_ns = 1000000000;
	w->retired[w->slots.n_retired++] = 9;
	tick(w);
	assert_true(shown(w, "mno_cgroup_cpu_seconds_total{cgroup=\"~other\"} 1\n"));
	assert_true(shown(w, "wait_seconds_count{cgroup=\"~other\"} 4\n"));
	assert_int_equal(raw(w, 1, 9)->switches, 0);
}

static void test_close_leaves_no_series(void **state)
{
	struct world *w = *state;

	add_cgroup(w, 1, 1, "/a");
	waited(w, 0, 1, 500, 1);
	*culprit(w, 1, 0) = 9;
	waited(w, 0, 0, 500, 1);
	tick(w);
	assert_true(mno_metrics_count(w->m) > 5);
	mno_sched_table_done(&w->t);
	assert_int_equal(mno_metrics_count(w->m), 0);
}

static void test_json_of_the_last_tick(void **state)
{
	_cleanup_buf_ struct mno_buf out = {};
	struct world *w = *state;
	struct mno_json j;

	add_cgroup(w, 1, 1, "/a");
	add_cgroup(w, 2, 1, "/b");
	waited(w, 0, 1, 500, 1);
	waited(w, 0, 2, 500, 1);
	tick(w);
	raw(w, 0, 1)->cpu_ns += 250000000;
	raw(w, 0, 1)->runq_ns += 100000000;
	*culprit(w, 1, 2) = 90000000;
	tick(w);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	mno_sched_table_json(&w->t, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&out), "{\"path\":\"/a\",\"cpu_percent\":25,"
						   "\"wait_percent\":10,"));
	assert_non_null(strstr(out.data, "\"culprit\":\"/b\",\"culprit_percent\":9"));
	assert_non_null(strstr(out.data, "\"culprit\":null,\"culprit_percent\":null"));
}

static void test_wait_table(void **state)
{
	uint8_t table[MNO_SCHED_SYSCALLS];

	mno_sched_wait_table(table);
	assert_int_equal(table[SYS_futex], MNO_WAIT_LOCK);
	assert_int_equal(table[SYS_fsync], MNO_WAIT_DISK);
	assert_int_equal(table[SYS_read], MNO_WAIT_PIPE);
	assert_int_equal(table[SYS_epoll_pwait], MNO_WAIT_POLL);
	assert_int_equal(table[SYS_getpid], MNO_WAIT_OTHER);
	for (size_t i = 0; i < MNO_SCHED_SYSCALLS; i++)
		assert_true(table[i] < MNO_WAIT_N);
}

static struct mno_sched_thread thread(uint32_t tgid, uint32_t pid, uint64_t cpu)
{
	return (struct mno_sched_thread){.tgid = tgid,
		.pid = pid,
		.start_ns = tgid,
		.cgid = 1,
		.cpu_ns = cpu,
		.runq_ns = 10,
		.read_bytes = 100,
		.dead_cpu_ns = 1000,
		.rss_pages = 5,
		.comm = "prog"};
}

static void test_threads_become_processes(void **state)
{
	struct mno_sched_thread v[] = {thread(7, 9, 30), thread(5, 5, 1), thread(7, 7, 40)};
	struct mno_sched_look l = {};

	assert_int_equal(mno_sched_look_make(v, ARRAY_SIZE(v), 123, &l), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].tgid, 5);
	assert_int_equal(l.v[1].threads, 2);
	assert_int_equal(l.v[1].cpu_ns, 1070); /* the dead threads' time once */
	assert_int_equal(l.v[1].runq_ns, 20);
	assert_int_equal(l.v[1].rss_pages, 5);
	mno_sched_look_done(&l);
	assert_int_equal(mno_sched_look_make(v, 0, 123, &l), 0);
	assert_int_equal(l.n, 0);
	mno_sched_look_done(&l);
}

static void test_rates_between_looks(void **state)
{
	struct mno_sched_thread a[] = {thread(5, 5, 0), thread(6, 6, 0)},
				b[] = {thread(5, 5, 500000000), thread(6, 6, 250000000)};
	struct mno_sched_look l0 = {}, l1 = {}, none = {};
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_cgroups *cg = NULL;
	char root[] = "/tmp/mno-test-XXXXXX";
	struct mno_json j;

	assert_non_null(mkdtemp(root));
	b[1].start_ns = 99; /* another process under the same number: all of it is new */
	assert_int_equal(mno_cgroups_new(root, &cg), 0);
	assert_int_equal(mno_sched_look_make(a, 2, NS_PER_SEC, &l0), 0);
	assert_int_equal(mno_sched_look_make(b, 2, 2 * NS_PER_SEC, &l1), 0);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	mno_sched_look_json(&l1, &l0, cg, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&out), "\"pid\":5"));
	assert_non_null(strstr(out.data, "\"cpu_percent\":50,"));
	assert_non_null(strstr(out.data, "\"cpu_percent\":25.0001,"));
	assert_true(strstr(out.data, "\"pid\":5") < strstr(out.data, "\"pid\":6"));
	mno_buf_reset(&out);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	mno_sched_look_json(&l1, &none, cg, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&out), "\"cpu_percent\":null"));
	mno_sched_look_done(&l0);
	mno_sched_look_done(&l1);
	mno_cgroups_free(cg);
	rmdir(root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_sums_over_banks),
		T(test_histogram_counts_wrap),
		T(test_open_stints),
		T(test_three_largest_culprits),
		T(test_slot_is_given_to_another),
		T(test_unseen_goes_to_other),
		T(test_close_leaves_no_series),
		T(test_json_of_the_last_tick),
		cmocka_unit_test(test_wait_table),
		cmocka_unit_test(test_threads_become_processes),
		cmocka_unit_test(test_rates_between_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
