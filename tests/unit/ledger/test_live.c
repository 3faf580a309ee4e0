/* SPDX-License-Identifier: Apache-2.0 */
/* The live table: rows come out the same in whatever order the facts came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "mno/ledger.h"
#include "mno/time.h"

#define OFFSET 1700000000000000000LL

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	unsigned *calls = arg;

	if (calls)
		++*calls;
	if (id == 666)
		return NULL;
	snprintf(buf, size, "/slice/cg-%llu", (unsigned long long)id);
	return buf;
}

static struct mno_ledger *new_ledger(struct mno_ledger_opts o)
{
	struct mno_ledger *l;

	o.sz = sizeof(o);
	o.boot_offset_ns = OFFSET;
	assert_int_equal(mno_ledger_new(&o, &l), 0);
	mno_ledger_set_cgroup_fn(l, cgroup_path, NULL);
	return l;
}

static void to_json(const struct mno_proc *p, struct mno_buf *out)
{
	struct mno_json j;

	mno_json_init(&j, out);
	mno_proc_json(p, &j);
}

static int fork_(struct mno_ledger *l, uint32_t pid, uint64_t start, uint32_t ppid, uint64_t pstart)
{
	return mno_ledger_fork(l, &(struct mno_fork_fact){.pid = pid,
					  .ppid = ppid,
					  .uid = 10,
					  .start_boottime_ns = start,
					  .parent_start_boottime_ns = pstart,
					  .cgroup_id = 5,
					  .ktime = start + 1,
					  .comm = "forked"});
}

static int exec_(
	struct mno_ledger *l, uint32_t pid, uint64_t start, uint64_t ktime, const char *exe)
{
	return mno_ledger_exec(l, &(struct mno_exec_fact){.pid = pid,
					  .ppid = 1,
					  .uid = 20,
					  .start_boottime_ns = start,
					  .parent_start_boottime_ns = 1,
					  .cgroup_id = 6,
					  .ktime = ktime,
					  .comm = "exec",
					  .exe = exe,
					  .argv = exe,
					  .argv_len = strlen(exe) + 1});
}

static int exit_(struct mno_ledger *l, uint32_t pid, uint64_t start, uint64_t ktime, uint32_t code)
{
	return mno_ledger_exit(l, &(struct mno_exit_fact){.pid = pid,
					  .ppid = 1,
					  .uid = 20,
					  .start_boottime_ns = start,
					  .parent_start_boottime_ns = 1,
					  .cgroup_id = 6,
					  .ktime = ktime,
					  .comm = "exit",
					  .code = code,
					  .cpu_ns = 777,
					  .rss_peak_bytes = 4096,
					  .io_read_bytes = 1,
					  .io_write_bytes = 2});
}

static int signal_(struct mno_ledger *l, uint32_t target, uint32_t signo, uint32_t from,
	uint64_t ktime, bool oom)
{
	return mno_ledger_signal(l, &(struct mno_signal_fact){.sender_pid = from,
					    .target_pid = target,
					    .signo = signo,
					    .ktime = ktime,
					    .sender_comm = "killer",
					    .oom = oom});
}

/* --- every order ------------------------------------------------------------------------------------ */

/* A parent that execs before and after it forks, a child that execs and is killed, its own child. */
static void fact(struct mno_ledger *l, unsigned n)
{
	switch (n) {
	case 0:
		fork_(l, 100, 1000, 1, 1);
		break;
	case 1:
		exec_(l, 100, 1000, 1010, "/bin/parent");
		break;
	case 2:
		fork_(l, 200, 1020, 100, 1000);
		break;
	case 3:
		exec_(l, 100, 1000, 1030, "/bin/later");
		break;
	case 4:
		fork_(l, 300, 1040, 200, 1020);
		break;
	case 5:
		exec_(l, 200, 1020, 1050, "/bin/child");
		break;
	case 6:
		signal_(l, 200, 9, 4242, 1060, false);
		break;
	case 7:
		exit_(l, 200, 1020, 1070, 9);
		break;
	case 8:
		exit_(l, 300, 1040, 1080, 3 << 8);
		break;
	}
}
#define FACTS 9
#ifdef __SANITIZE_ADDRESS__
#define EVERY 97 /* the whole would take minutes */
#else
#define EVERY 1
#endif

static int by_pid(const void *a, const void *b)
{
	const struct mno_proc *x = a, *y = b;

	return (int)x->pid - (int)y->pid;
}

static void outcome(struct mno_ledger *l, struct mno_buf *out)
{
	struct mno_proc rows[8];
	size_t n;

	mno_ledger_flush(l);
	n = mno_ledger_take_ended(l, rows, 8);
	qsort(rows, n, sizeof(*rows), by_pid);
	for (size_t i = 0; i < n; i++) {
		to_json(&rows[i], out);
		mno_proc_done(&rows[i]);
	}
}

static int live_json(void *arg, const struct mno_proc *p)
{
	struct mno_proc copy = *p;

	copy.duration_ns = 0; /* of a running one: depends on now */
	to_json(&copy, arg);
	return 0;
}

static void run_order(const unsigned *order, struct mno_buf *out)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	struct mno_ledger_stat st;

	mno_buf_reset(out);
	for (unsigned i = 0; i < FACTS; i++)
		fact(l, order[i]);
	mno_ledger_live(l, live_json, out);
	outcome(l, out);
	mno_ledger_stat(l, &st);
	assert_int_equal(st.live, 1);
	assert_int_equal(st.started, 3);
	assert_int_equal(st.ended, 2);
	assert_int_equal(st.lost_starts + st.lost_exits + st.lost_rows, 0);
	mno_ledger_free(l);
}

static bool next_order(unsigned *v, unsigned n)
{
	unsigned i = n - 1, j = n - 1, k;

	while (i > 0 && v[i - 1] >= v[i])
		i--;
	if (i == 0)
		return false;
	while (v[j] <= v[i - 1])
		j--;
	k = v[i - 1], v[i - 1] = v[j], v[j] = k;
	for (j = n - 1; i < j; i++, j--)
		k = v[i], v[i] = v[j], v[j] = k;
	return true;
}

static void test_orders(void **state)
{
	unsigned order[FACTS] = {0, 1, 2, 3, 4, 5, 6, 7, 8}, n = 0;
	_cleanup_buf_ struct mno_buf want = {0}, got = {0};

	run_order(order, &want);
	mno_buf_cstr(&want);
	/* the right answer, before all others are compared with it */
	assert_non_null(strstr(want.data, "\"pid\":100"));
	assert_non_null(strstr(want.data, "\"exe\":\"/bin/later\""));
	assert_non_null(strstr(want.data, "\"exe\":\"/bin/child\",\"argv\":[\"/bin/child\"]"));
	assert_non_null(strstr(want.data, "\"exe\":\"/bin/parent\",\"argv\":[\"/bin/parent\"]"));
	assert_non_null(strstr(want.data, "\"killer\":{\"pid\":4242,\"comm\":\"killer\"}"));
	assert_non_null(strstr(want.data, "\"exit_code\":3"));
	while (next_order(order, FACTS)) {
		if (++n % EVERY)
			continue;
		run_order(order, &got);
		if (strcmp(mno_buf_cstr(&got), want.data) == 0)
			continue;
		printf("order");
		for (unsigned i = 0; i < FACTS; i++)
			printf(" %u", order[i]);
		printf("\nwant %s\ngot  %s\n", want.data, got.data);
		fail();
	}
	assert_int_equal(n, 362879);
}

/* --- cases ----------------------------------------------------------------------------------------------- */

static struct mno_proc take_one(struct mno_ledger *l)
{
	struct mno_proc p;

	assert_int_equal(mno_ledger_take_ended(l, &p, 1), 1);
	return p;
}

static void test_row(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_proc p;
	json_object *o, *v;

	fork_(l, 7, 1000, 1, 500);
	mno_ledger_exec(l, &(struct mno_exec_fact){.pid = 7,
				   .ppid = 1,
				   .uid = 33,
				   .start_boottime_ns = 1000,
				   .cgroup_id = 9,
				   .ktime = 1100,
				   .comm = "cat\xff\x1b",
				   .exe = "/usr/bin/c\"at",
				   .argv = "cat\0\0a\nb\0\xc3\x28",
				   .argv_len = 11,
				   .argv_cut = true});
	signal_(l, 7, 15, 99, 1200, false);
	exit_(l, 7, 1000, 5000, 15 | 0x80);
	p = take_one(l);
	assert_int_equal(p.start_ns, 1000 + OFFSET);
	assert_int_equal(p.end_ns, 5000 + OFFSET);
	to_json(&p, &out);
	o = json_tokener_parse(mno_buf_cstr(&out));
	assert_non_null(o);
#define WANT(key, text)                                                                            \
	assert_true(json_object_object_get_ex(o, key, &v));                                        \
	assert_string_equal(json_object_to_json_string_ext(v, JSON_C_TO_STRING_NOSLASHESCAPE), text)
	WANT("pid", "7");
	WANT("ppid", "1");
	WANT("uid", "20");
	WANT("exe", "\"/usr/bin/c\\\"at\"");
	WANT("cgroup", "\"/slice/cg-6\"");
	WANT("exit_code", "0");
	WANT("exit_signal", "15");
	WANT("duration_ns", "4000");
	WANT("cpu_ns", "777");
	WANT("rss_peak_bytes", "4096");
	WANT("running", "false");
	WANT("execs", "1");
	WANT("argv_cut", "true");
	WANT("core", "true");
	WANT("oom", "false");
	WANT("lost_start", "false");
	WANT("seeded", "false");
	WANT("killer", "{\"pid\":99,\"comm\":\"killer\"}");
	WANT("parent_start_ns", "1700000000000000500");
	assert_true(json_object_object_get_ex(o, "argv", &v));
	assert_int_equal(json_object_array_length(v), 4);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(v, 1)), "");
	json_object_put(o);
	mno_proc_done(&p);
	assert_null(p.mem);
	mno_ledger_free(l);
}

static void test_running_json(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	_cleanup_buf_ struct mno_buf out = {0};

	fork_(l, 7, 1000, 1, 500);
	assert_int_equal(mno_ledger_live(l, live_json, &out), 0);
	mno_buf_cstr(&out);
	assert_non_null(strstr(out.data, "\"exit_code\":null"));
	assert_non_null(strstr(out.data, "\"end_ns\":null"));
	assert_non_null(strstr(out.data, "\"running\":true"));
	assert_non_null(strstr(out.data, "\"killer\":null"));
	mno_ledger_free(l);
}

static void test_seeded(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	struct mno_proc p;

	mno_ledger_exec(l, &(struct mno_exec_fact){.pid = 50,
				   .ppid = 1,
				   .start_boottime_ns = 10,
				   .ktime = 9000,
				   .comm = "old",
				   .exe = "/bin/old",
				   .seeded = true});
	fork_(l, 51, 9500, 50, 10);
	exit_(l, 51, 9500, 9600, 0);
	p = take_one(l);
	assert_string_equal(p.exe, "/bin/old"); /* inherited */
	assert_int_equal(p.flags & (MNO_PROC_EXECED | MNO_PROC_SEEDED | MNO_PROC_LOST_START), 0);
	mno_proc_done(&p);
	exit_(l, 50, 10, 9700, 0);
	p = take_one(l);
	assert_int_equal(p.flags & (MNO_PROC_SEEDED | MNO_PROC_LOST_START), MNO_PROC_SEEDED);
	assert_int_equal(p.execs, 0);
	mno_proc_done(&p);
	/* seen by the iterator after its exit was taken: no ghost stays */
	mno_ledger_exec(l, &(struct mno_exec_fact){.pid = 50,
				   .start_boottime_ns = 10,
				   .ktime = 9000,
				   .exe = "/bin/old",
				   .seeded = true});
	struct mno_ledger_stat st;

	mno_ledger_stat(l, &st);
	assert_int_equal(st.live, 0);
	mno_ledger_free(l);
}

static void test_lost_start(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){.linger_ns = 30 * NS_PER_MS});
	struct mno_ledger_stat st;
	struct mno_proc p;

	exit_(l, 9, 100, 200, 1 << 8);
	assert_int_equal(mno_ledger_take_ended(l, &p, 1), 0); /* its start may still come */
	usleep(40000);
	p = take_one(l);
	assert_true(p.flags & MNO_PROC_LOST_START);
	assert_string_equal(p.comm, "exit");
	assert_int_equal(p.exit_code, 1);
	mno_proc_done(&p);
	fork_(l, 9, 100, 1, 1); /* too late: ignored */
	mno_ledger_stat(l, &st);
	assert_int_equal(st.live, 0);
	assert_int_equal(st.lost_starts, 1);
	mno_ledger_free(l);
}

static void test_pid_reuse(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){.linger_ns = 20 * NS_PER_MS});
	struct mno_ledger_stat st;
	struct mno_proc p[3];

	fork_(l, 9, 100, 1, 1);
	fork_(l, 9, 500, 1, 1); /* the exit of the first is late */
	exit_(l, 9, 100, 300, 5 << 8);
	assert_int_equal(mno_ledger_take_ended(l, p, 3), 1);
	assert_int_equal(p[0].exit_code, 5);
	assert_int_equal(p[0].end_ns, 300 + OFFSET);
	assert_int_equal(p[0].flags & MNO_PROC_LOST_EXIT, 0);
	mno_proc_done(&p[0]);
	fork_(l, 9, 900, 1, 1); /* the exit of the second is lost */
	usleep(30000);
	assert_int_equal(mno_ledger_take_ended(l, p, 3), 1);
	assert_true(p[0].flags & MNO_PROC_LOST_EXIT);
	mno_proc_done(&p[0]);
	mno_ledger_gone(l, 9, 900, 1000);
	mno_ledger_gone(l, 10, 900, 1000);
	mno_ledger_flush(l);
	assert_int_equal(mno_ledger_take_ended(l, p, 3), 1);
	mno_proc_done(&p[0]);
	mno_ledger_stat(l, &st);
	assert_int_equal(st.lost_exits, 2);
	assert_int_equal(st.live + st.waiting, 0);
	mno_ledger_free(l);
}

static void test_signals(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	struct mno_proc p;

	fork_(l, 9, 100, 1, 1);
	signal_(l, 9, 15, 1, 110, false); /* handled */
	signal_(l, 9, 9, 2, 120, true);
	signal_(l, 9, 9, 3, 130, false); /* it was dead already */
	exit_(l, 9, 100, 140, 9);
	p = take_one(l);
	assert_int_equal(p.killer_pid, 2);
	assert_true(p.flags & MNO_PROC_OOM);
	mno_proc_done(&p);
	fork_(l, 10, 100, 1, 1);
	signal_(l, 10, 15, 1, 110, false);
	exit_(l, 10, 100, 140, 0); /* a normal end: nobody killed it */
	p = take_one(l);
	assert_int_equal(p.killer_pid, 0);
	assert_int_equal(p.flags & MNO_PROC_OOM, 0);
	mno_proc_done(&p);
	mno_ledger_free(l);
}

static void test_bounds(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){
		.max_live = 100, .max_ended = 50, .max_image_bytes = 20000});
	struct mno_ledger_stat st;
	struct mno_proc p[64];
	char argv[3000];
	size_t n;

	memset(argv, 'a', sizeof(argv));
	for (uint32_t i = 1; i <= 100; i++) {
		assert_int_equal(fork_(l, i, i, 0, 0), 0);
		mno_ledger_exec(l, &(struct mno_exec_fact){.pid = i,
					   .start_boottime_ns = i,
					   .ktime = 1000,
					   .exe = "/x",
					   .argv = argv,
					   .argv_len = sizeof(argv)});
	}
	assert_int_equal(fork_(l, 101, 101, 0, 0), -ENOSPC);
	mno_ledger_stat(l, &st);
	assert_int_equal(st.live, 100);
	assert_int_equal(st.lost_starts, 1);
	assert_true(st.memory_bytes < 1 << 20);
	for (uint32_t i = 1; i <= 100; i++)
		assert_int_equal(exit_(l, i, i, 2000, 0), 0);
	mno_ledger_stat(l, &st);
	assert_int_equal(st.waiting, 50);
	assert_int_equal(st.lost_rows, 50);
	n = mno_ledger_take_ended(l, p, 64);
	assert_int_equal(n, 50);
	for (size_t i = 0; i < n; i++) {
		assert_true(p[i].flags & MNO_PROC_ARGV_CUT);
		assert_true(p[i].argv_len <= MNO_ARGV_MAX);
		assert_string_equal(p[i].exe, "/x");
		mno_proc_done(&p[i]);
	}
	mno_ledger_free(l);
}

static void test_churn_is_flat(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	struct mno_ledger_stat st;
	struct mno_proc p[64];
	uint64_t early = 0;

	for (uint32_t i = 1; i <= 100000; i++) {
		size_t n;

		fork_(l, i % 4000 + 10, i, 1, 1);
		exec_(l, i % 4000 + 10, i, i + 2, "/bin/true");
		exit_(l, i % 4000 + 10, i, i + 3, 0);
		if (i % 50)
			continue;
		n = mno_ledger_take_ended(l, p, 64);
		assert_int_equal(n, 50);
		while (n)
			mno_proc_done(&p[--n]);
		mno_ledger_stat(l, &st);
		early = early ? early : st.memory_bytes;
	}
	assert_int_equal(st.memory_bytes, early);
	assert_int_equal(st.ended, 100000);
	assert_int_equal(st.lost_rows + st.lost_exits + st.lost_starts, 0);
	mno_ledger_free(l);
}

static void test_cgroup_once(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	unsigned calls = 0;
	struct mno_proc p;

	mno_ledger_set_cgroup_fn(l, cgroup_path, &calls);
	for (uint32_t i = 1; i <= 1000; i++) {
		fork_(l, i, i, 0, 0);
		exec_(l, i, i, i + 5, "/x");
		exit_(l, i, i, i + 9, 0);
	}
	assert_int_equal(calls, 2); /* once per cgroup, not per fact */
	p = take_one(l);
	assert_string_equal(p.cgroup, "/slice/cg-6");
	mno_proc_done(&p);
	mno_ledger_free(l);
}

static int count_row(void *arg, const struct mno_proc *p)
{
	++*(int *)arg;
	return 0;
}

static int stop_row(void *arg, const struct mno_proc *p)
{
	return 42;
}

static void test_visits(void **state)
{
	struct mno_ledger *l = new_ledger((struct mno_ledger_opts){0});
	int n = 0;

	fork_(l, 1, 1, 0, 0);
	fork_(l, 2, 2, 0, 0);
	exit_(l, 2, 2, 3, 0);
	exit_(l, 3, 3, 4, 0); /* lingers */
	mno_ledger_live(l, count_row, &n);
	assert_int_equal(n, 1);
	mno_ledger_waiting(l, count_row, &n);
	assert_int_equal(n, 3);
	assert_int_equal(mno_ledger_waiting(l, stop_row, NULL), 42);
	assert_int_equal(mno_ledger_live(l, stop_row, NULL), 42);
	mno_ledger_free(l);
	assert_null(mno_ledger_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_row),
		cmocka_unit_test(test_running_json),
		cmocka_unit_test(test_seeded),
		cmocka_unit_test(test_lost_start),
		cmocka_unit_test(test_pid_reuse),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_churn_is_flat),
		cmocka_unit_test(test_cgroup_once),
		cmocka_unit_test(test_visits),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
