/* SPDX-License-Identifier: Apache-2.0 */
/* The syscall probe: exact counts of a child's calls in a cgroup of the test's own. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>
#include "mno/metric.h"
#include "probe_rig.h"
#include "syscall/syscall_user.h"

#define PIDS   1000
#define CLOSES 500
#define SLEEPS 3

static struct mno_rig rig;
static char dir[512];
static struct mno_metrics *metrics;
static const struct mno_syscall_entry *entries;
static const uint64_t *cells;
static size_t entries_size, cells_size;

static int rung_up(size_t rung)
{
	char name[64];
	void *p;
	int r;

	snprintf(name, sizeof(name), "mno-test-%d-s", getpid());
	if (mno_rig_cgroup_make(name, dir, sizeof(dir)) < 0)
		return -1;
	r = mno_rig_load(&rig, &mno_probe_syscall, rung);
	if (r < 0) {
		printf("the probe does not load: %s\n", strerror(-r));
		return -1;
	}
	if (mno_map_values(rig.obj, "syscall_entries", &p, &entries_size) < 0)
		return -1;
	entries = p;
	if (mno_map_values(rig.obj, "syscall_index", &p, &cells_size) < 0)
		return -1;
	cells = p;
	return mno_metrics_new(20000, &metrics);
}

static int up_tp_btf(void **state)
{
	return rung_up(0);
}

static int up_raw_tp(void **state)
{
	return rung_up(1);
}

static int down(void **state)
{
	munmap((void *)entries, entries_size);
	munmap((void *)cells, cells_size);
	mno_rig_unload(&rig);
	metrics = mno_metrics_free(metrics);
	mno_rig_cgroup_remove(dir);
	return 0;
}

static void calls(void)
{
	struct timespec ms20 = {.tv_nsec = 20000000};

	for (int i = 0; i < PIDS; i++)
		syscall(SYS_getppid);
	for (int i = 0; i < CLOSES; i++)
		syscall(SYS_close, -1);
	for (int i = 0; i < SLEEPS; i++)
		syscall(SYS_nanosleep, &ms20, NULL);
}

static void run_child(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (mno_rig_cgroup_enter(dir) < 0)
			_exit(1);
		calls();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static uint32_t own_slot(void)
{
	const struct mno_cgroup *v;
	size_t n;

	mno_cgroups_refresh(rig.cgroups);
	n = mno_cgroups_slots(rig.cgroups, &v);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].path, strrchr(dir, '/')))
			return v[i].slot;
	fail_msg("the cgroup has no slot");
	return 0;
}

static struct mno_syscall_entry sum_of(uint32_t slot, unsigned nr)
{
	uint64_t entry = cells[slot * MNO_SYSCALL_NRS + nr];
	struct mno_syscall_entry s = {};

	assert_true(entry > 0 && entry < MNO_SYSCALL_ENTRIES);
	for (unsigned b = 0; b < MNO_MIN(rig.banks, (unsigned)MNO_SYSCALL_BANKS); b++) {
		const struct mno_syscall_entry *e = &entries[b * MNO_SYSCALL_ENTRIES + entry];

		s.count += e->count;
		s.errors += e->errors;
		s.ns += e->ns;
		for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
			s.hist[i] += e->hist[i];
	}
	return s;
}

static void test_counts(void **state)
{
	struct mno_syscall_entry e;
	uint64_t slow = 0;
	uint32_t slot;

	run_child();
	slot = own_slot();
	e = sum_of(slot, SYS_getppid);
	assert_int_equal(e.count, PIDS);
	assert_int_equal(e.errors, 0);
	assert_true(e.ns / e.count < 100000);
	e = sum_of(slot, SYS_close);
	assert_true(e.count >= CLOSES && e.count <= CLOSES + 4); /* and one of cgroup.procs */
	assert_int_equal(e.errors, CLOSES);
	e = sum_of(slot, SYS_nanosleep);
	assert_int_equal(e.count, SLEEPS);
	assert_true(e.ns >= SLEEPS * 20 * NS_PER_MS);
	for (uint32_t i = mno_hist_index(19 * NS_PER_MS); i < MNO_HIST_BUCKETS; i++)
		slow += e.hist[i];
	assert_int_equal(slow, SLEEPS);
}

static bool shown(const char *text)
{
	_cleanup_buf_ struct mno_buf out = {};

	mno_metrics_render(metrics, &out);
	return strstr(mno_buf_cstr(&out), text);
}

static void ignore(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
}

static void tick(void)
{
	struct mno_probe_tick t = {
		.metrics = metrics, .cgroups = rig.cgroups, .interval_ns = NS_PER_SEC};

	mno_cgroups_refresh(rig.cgroups);
	rig.probe->tick(rig.priv, &t);
	mno_metrics_tick(metrics, ignore, NULL);
}

static void test_series_come_and_go(void **state)
{
	char text[700];

	tick();
	snprintf(text, sizeof(text),
		"mno_cgroup_syscalls_total{cgroup=\"%s\",syscall=\"getppid\"} 1000",
		strrchr(dir, '/'));
	assert_true(shown(text));
	snprintf(text, sizeof(text),
		"mno_cgroup_syscall_errors_total{cgroup=\"%s\",syscall=\"close\"} 500",
		strrchr(dir, '/'));
	assert_true(shown(text));
	mno_rig_cgroup_remove(dir);
	for (int i = 0; i < 3; i++)
		tick();
	assert_false(shown(strrchr(dir, '/')));
}

static void test_snapshot(void **state)
{
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_json j;
	char key[64];

	mno_json_init(&j, &out);
	mno_json_obj(&j);
	rig.probe->snapshot(rig.priv, rig.cgroups, &j);
	mno_json_end(&j);
	snprintf(key, sizeof(key), "{\"pid\":%d,", getpid());
	assert_non_null(strstr(mno_buf_cstr(&out), key));
	assert_non_null(strstr(out.data, "\"p99_seconds\":"));
	assert_int_equal(mno_rig_stat(&rig, offsetof(struct mno_pstats, errors)), 0);
}

/* Rate of this process in a snapshot; NAN when it has none yet. */
static double own_rate(void)
{
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_json j;
	const char *at;
	char key[64];
	double v;

	mno_json_init(&j, &out);
	mno_json_obj(&j);
	rig.probe->snapshot(rig.priv, rig.cgroups, &j);
	mno_json_end(&j);
	snprintf(key, sizeof(key), "{\"pid\":%d,", getpid());
	at = strstr(mno_buf_cstr(&out), key);
	at = at ? strstr(at, "\"syscalls_per_second\":") : NULL;
	return at && sscanf(at, "\"syscalls_per_second\":%lf", &v) == 1 ? v : NAN;
}

/* A look right after another must not make a burst of a few milliseconds a rate. */
static void test_rates_of_quick_looks(void **state)
{
	double rate;

	own_rate();
	usleep(300000);
	own_rate();
	for (int i = 0; i < 2000; i++)
		close(-1);
	rate = own_rate();
	assert_true(rate > 200 && rate < 12000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_series_come_and_go),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_rates_of_quick_looks),
	};
	const struct CMUnitTest raw[] = {cmocka_unit_test(test_counts)};
	int bad;

	mno_rig_need_bpf();
	bad = cmocka_run_group_tests(tests, up_tp_btf, down);
	return cmocka_run_group_tests(raw, up_raw_tp, down) + bad;
}
