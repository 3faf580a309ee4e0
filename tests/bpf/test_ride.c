/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proc probe's program on switches rides on the sched probe's (agent/probes_ride.c): however
 * the two come and go, each process ends with exactly one record and all its CPU time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>
#include <bpf/libbpf.h>
#include "mno/time.h"
#include "probe_rig.h"
#include "probes_internal.h"
#include "proc/proc_wire.h"

#define CHILDREN 40
#define BURN_NS  (1 * NS_PER_MS)
#define SLACK_NS (20 * NS_PER_MS)

static struct {
	struct mno_cgroups *cgroups;
	struct mno_metrics *metrics;
	struct mno_probes *probes;
	uint64_t used[CHILDREN]; /* CPU time as wait4() tells it, in whole us */
	pid_t pid[CHILDREN];
	struct mno_proc_exit exit[CHILDREN];
	unsigned n[CHILDREN];
} S;

static void on_record(void *arg, size_t probe, const void *rec, size_t len)
{
	const struct mno_proc_exit *e = rec;

	if (e->hdr.kind != MNO_PROC_EXIT)
		return;
	for (size_t i = 0; i < CHILDREN; i++)
		if (S.pid[i] == (pid_t)e->id.pid) {
			S.exit[i] = *e;
			S.n[i]++;
		}
}

static int setup(void **state)
{
	struct mno_probes_opts o = {.sz = sizeof(o)};
	char root[512];

	mno_rig_need_bpf();
	if (!mno_rig_cgroup_root(root, sizeof(root)) || mno_cgroups_new(root, &S.cgroups) ||
		mno_cgroups_maps_new(S.cgroups) || mno_metrics_new(20000, &S.metrics))
		return -1;
	o.cgroups = S.cgroups;
	o.metrics = S.metrics;
	if (mno_probes_new(&o, &S.probes))
		return -1;
	mno_probes_set_sink(S.probes, on_record, NULL);
	return 0;
}

static int teardown(void **state)
{
	mno_probes_free(S.probes);
	mno_metrics_free(S.metrics);
	mno_cgroups_free(S.cgroups);
	return 0;
}

static _Noreturn void burn(size_t i)
{
	while (mno_now_ns(CLOCK_PROCESS_CPUTIME_ID) < BURN_NS)
		;
	_exit((int)i);
}

static uint64_t us(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

static void check_exits(void)
{
	struct rusage u;

	memset(S.n, 0, sizeof(S.n));
	memset(S.pid, 0, sizeof(S.pid));
	for (size_t i = 0; i < CHILDREN; i++) {
		S.pid[i] = fork();
		if (S.pid[i] == 0)
			burn(i);
		assert_true(S.pid[i] > 0);
		assert_int_equal(wait4(S.pid[i], NULL, 0, &u), S.pid[i]);
		S.used[i] = (us(u.ru_utime) + us(u.ru_stime)) * 1000;
		assert_true(S.used[i] >= BURN_NS);
	}
	/* the last switch, and what is used until then, may come after wait4() returned */
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	while (mno_probes_drain(S.probes))
		;
	for (size_t i = 0; i < CHILDREN; i++) {
		assert_int_equal(S.n[i], 1);
		assert_int_equal(S.exit[i].exit_code, i);
		assert_in_range(S.exit[i].cpu_ns, S.used[i], S.used[i] + SLACK_NS);
	}
}

static void on(const char *probe)
{
	assert_int_equal(mno_probes_enable(S.probes, probe, 0), 0);
}

static void off(const char *probe)
{
	assert_int_equal(mno_probes_disable(S.probes, probe), 0);
}

static void test_all_ways(void **state)
{
	const struct mno_ride *r = &S.probes->ride;

	on("proc");
	assert_non_null(r->own);
	check_exits();
	on("sched");
	assert_null(r->own); /* one program fewer on every switch of the host */
	check_exits();
	off("proc");
	on("proc");
	assert_null(r->own);
	check_exits();
	off("sched");
	assert_non_null(r->own);
	check_exits();
	off("proc");
	assert_null(r->own);
	on("sched");
	on("proc");
	check_exits();
	off("sched");
}

/* As it is for a moment at each change of the two: both ways are open. */
static void test_none_twice(void **state)
{
	struct bpf_link *link;

	on("sched");
	assert_null(S.probes->ride.own);
	link = bpf_program__attach(S.probes->ride.rider);
	assert_non_null(link);
	check_exits();
	bpf_link__destroy(link);
	check_exits();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_ways),
		cmocka_unit_test(test_none_twice),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
