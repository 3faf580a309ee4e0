/* SPDX-License-Identifier: Apache-2.0 */
/* The sched probe against what the kernel itself says, in cgroups of the test's own. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include "mno/time.h"
#include "probe_rig.h"
#include "sched/sched_user.h"

#define BUSY_MS 300
/* the kernel leaves out of a task's CPU time what the hypervisor took; the run queue's clock does not */
#define STEAL_NS (20 * NS_PER_MS)

struct view {
	const struct mno_sched_cgroup *cgroups;
	const uint64_t *culprits;
	size_t cgroups_size, culprits_size;
};

static struct mno_rig rig;
static struct view view;
static char dir_a[512], dir_b[512];
static pid_t children[8];
static size_t n_children;

static void view_open(struct view *v, const struct mno_rig *r)
{
	void *p;

	assert_int_equal(mno_map_values(r->obj, "sched_cgroups", &p, &v->cgroups_size), 0);
	v->cgroups = p;
	assert_int_equal(mno_map_values(r->obj, "sched_culprits", &p, &v->culprits_size), 0);
	v->culprits = p;
}

static void view_close(struct view *v)
{
	munmap((void *)v->cgroups, v->cgroups_size);
	munmap((void *)v->culprits, v->culprits_size);
}

static int setup(void **state)
{
	char name[64];
	int r;

	snprintf(name, sizeof(name), "mno-test-%d-a", getpid());
	if (mno_rig_cgroup_make(name, dir_a, sizeof(dir_a)) < 0)
		return -1;
	snprintf(name, sizeof(name), "mno-test-%d-b", getpid());
	if (mno_rig_cgroup_make(name, dir_b, sizeof(dir_b)) < 0)
		return -1;
	r = mno_rig_load(&rig, &mno_probe_sched, 0);
	if (r < 0) {
		printf("the probe does not load: %s\n", strerror(-r));
		return -1;
	}
	view_open(&view, &rig);
	return 0;
}

static int teardown(void **state)
{
	view_close(&view);
	mno_rig_unload(&rig);
	mno_rig_cgroup_remove(dir_a);
	mno_rig_cgroup_remove(dir_b);
	return 0;
}

/* Slot of the cgroup with that directory; fails the test if it has none. */
static uint32_t slot_of(const struct mno_rig *r, const char *dir)
{
	const struct mno_cgroup *v;
	size_t n;

	mno_cgroups_refresh(r->cgroups);
	n = mno_cgroups_slots(r->cgroups, &v);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].path, strrchr(dir, '/')))
			return v[i].slot;
	fail_msg("no slot for %s", dir);
	return 0;
}

static struct mno_sched_sums sums_of(const struct mno_rig *r, const struct view *v, uint32_t slot)
{
	struct mno_sched_sums s = {};

	for (unsigned b = 0; b < r->banks; b++) {
		const volatile struct mno_sched_cgroup *g = &v->cgroups[b * MNO_SCHED_SLOTS + slot];

		s.cpu_ns += g->cpu_ns;
		s.switches += g->switches;
		s.preempted += g->preempted;
		s.runq_ns += g->runq_ns;
		for (size_t w = 0; w < MNO_WAIT_N; w++) {
			s.wait[w].ns += g->wait[w].ns;
			s.wait[w].count += g->wait[w].count;
		}
		for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
			s.runq_le[MNO_SCHED_BOUNDS - 1] += g->runq_hist[i];
	}
	return s;
}

static void pin_to_last_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(rig.n_cpus - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void spin(void)
{
	for (volatile unsigned i = 0;; i++)
		;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* A child in the cgroup @dir that stops itself, then runs @fn when it is continued. */
static pid_t child_in(const char *dir, void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin_to_last_cpu();
		if (mno_rig_cgroup_enter(dir) < 0)
			_exit(1);
		sleep_ms(1); /* gets the CPU as a member of the cgroup: now it has a slot */
		raise(SIGSTOP);
		fn();
		_exit(0);
	}
	children[n_children++ % ARRAY_SIZE(children)] = pid;
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

/* Stopped and off the CPU: the parent is told while the task still runs its last microseconds,
 * or waits to run them. */
static void stop(pid_t pid)
{
	int status, on_cpu = 1;
	char path[64], line[128];
	FILE *f;

	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	for (int i = 0; i < 500 && on_cpu; i++) {
		f = fopen(path, "re");
		assert_non_null(f);
		on_cpu = !fgets(line, sizeof(line), f) || !strcmp(line, "0");
		fclose(f);
		sleep_ms(2);
	}
}

static void end_waited(pid_t pid)
{
	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		if (children[i] == pid)
			children[i] = 0;
}

static void end(pid_t pid)
{
	end_waited(pid);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* After each test: what a failed one left running. */
static int end_children(void **state)
{
	const struct mno_pstats *stats;
	uint32_t missed = 0;
	size_t size;
	void *p;

	assert_int_equal(mno_map_values(rig.obj, "stats", &p, &size), 0);
	stats = p;
	for (unsigned c = 0; c < rig.n_cpus; c++)
		missed += ((const struct mno_sched_cpu *)stats[c].own)->missed;
	munmap(p, size);
	if (mno_rig_misses(&rig) || missed)
		printf("  left out by the kernel: %lu runs, %u look-ups\n", mno_rig_misses(&rig),
			missed);
	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		if (children[i])
			end(children[i]);
	return 0;
}

/* CPU time and run-queue wait by the kernel's own account. */
static void schedstat(pid_t pid, uint64_t *cpu_ns, uint64_t *wait_ns)
{
	char path[64];
	unsigned long long a = 0, b = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu", &a, &b), 2);
	fclose(f);
	*cpu_ns += a;
	*wait_ns += b;
}

static void assert_near(const char *what, uint64_t got, uint64_t want, double share, uint64_t slack)
{
	uint64_t d = got > want ? got - want : want - got;

	printf("  %-24s %10.3f ms, expected %10.3f ms\n", what, (double)got / 1e6,
		(double)want / 1e6);
	assert_true(d <= (uint64_t)((double)want * share) + slack);
}

/* Two spinning tasks of one cgroup and one of another share a CPU. */
static void test_cpu_and_wait(void **state)
{
	pid_t a[2] = {child_in(dir_a, spin), child_in(dir_a, spin)}, b = child_in(dir_b, spin);
	uint32_t sa = slot_of(&rig, dir_a), sb = slot_of(&rig, dir_b);
	struct mno_sched_sums a0 = sums_of(&rig, &view, sa), b0 = sums_of(&rig, &view, sb), a1, b1;
	uint64_t cpu0 = 0, wait0 = 0, cpu1 = 0, wait1 = 0, bcpu0 = 0, bwait0 = 0, bcpu1 = 0,
		 bwait1 = 0;

	for (int i = 0; i < 2; i++)
		schedstat(a[i], &cpu0, &wait0);
	schedstat(b, &bcpu0, &bwait0);
	for (int i = 0; i < 2; i++)
		kill(a[i], SIGCONT);
	kill(b, SIGCONT);
	sleep_ms(BUSY_MS);
	for (int i = 0; i < 2; i++)
		stop(a[i]);
	stop(b);
	for (int i = 0; i < 2; i++)
		schedstat(a[i], &cpu1, &wait1);
	schedstat(b, &bcpu1, &bwait1);
	a1 = sums_of(&rig, &view, sa);
	b1 = sums_of(&rig, &view, sb);
	assert_near("cpu of two", a1.cpu_ns - a0.cpu_ns, cpu1 - cpu0, 0.02, STEAL_NS);
	assert_near("cpu of one", b1.cpu_ns - b0.cpu_ns, bcpu1 - bcpu0, 0.02, STEAL_NS);
	assert_near("wait of two", a1.runq_ns - a0.runq_ns, wait1 - wait0, 0.01, 5000000);
	assert_near("wait of one", b1.runq_ns - b0.runq_ns, bwait1 - bwait0, 0.01, 5000000);
	assert_true(a1.preempted > a0.preempted);
	assert_true(wait1 - wait0 > BUSY_MS * NS_PER_MS / 2); /* or it proved nothing */
	assert_int_equal(a1.switches, a1.runq_le[MNO_SCHED_BOUNDS - 1]);
	for (int i = 0; i < 2; i++)
		end(a[i]);
	end(b);
}

static void test_culprit(void **state)
{
	pid_t a = child_in(dir_a, spin), b = child_in(dir_b, spin);
	uint32_t sa = slot_of(&rig, dir_a), sb = slot_of(&rig, dir_b);
	const volatile uint64_t *ab = &view.culprits[sa * MNO_SCHED_SLOTS + sb];
	const volatile uint64_t *ba = &view.culprits[sb * MNO_SCHED_SLOTS + sa];
	const volatile uint64_t *row = &view.culprits[sa * MNO_SCHED_SLOTS];
	uint64_t ab0 = *ab, ba0 = *ba, wait, all0 = 0, all1 = 0;
	struct mno_sched_sums a0 = sums_of(&rig, &view, sa), b0 = sums_of(&rig, &view, sb);

	for (uint32_t i = 0; i < MNO_SCHED_SLOTS; i++)
		all0 += row[i];
	kill(a, SIGCONT);
	kill(b, SIGCONT);
	sleep_ms(BUSY_MS);
	stop(a);
	stop(b);
	wait = sums_of(&rig, &view, sa).runq_ns - a0.runq_ns;
	assert_true(wait > 0 && *ba > ba0);
	/* the host's other tasks count, too; more of them than the ring has stints are not told */
	for (uint32_t i = 0; i < MNO_SCHED_SLOTS; i++)
		all1 += row[i];
	assert_near("blamed on somebody", all1 - all0, wait, 0.4, 5000000);
	assert_true(all1 - all0 <= wait);
	/* both can run all the time: while the one has the CPU, the other waits */
	assert_near("a waited for b", *ab - ab0, sums_of(&rig, &view, sb).cpu_ns - b0.cpu_ns, 0.25,
		5000000);
	assert_int_equal(view.culprits[sa * MNO_SCHED_SLOTS + sa], 0);
	end(a);
	end(b);
}

/* The kernel's queueing stamps against stamps taken at the wake-up tracepoints. */
static void test_agrees_with_wakeup_stamps(void **state)
{
	struct mno_rig other;
	struct view seen;
	pid_t a, b;
	uint32_t sa, so;
	uint64_t mine, theirs;

	assert_int_equal(mno_rig_load(&other, &mno_probe_sched, 1), 0);
	view_open(&seen, &other);
	a = child_in(dir_a, spin);
	b = child_in(dir_b, spin);
	sa = slot_of(&rig, dir_a);
	so = slot_of(&other, dir_a);
	mine = sums_of(&rig, &view, sa).runq_ns;
	theirs = sums_of(&other, &seen, so).runq_ns;
	kill(a, SIGCONT);
	kill(b, SIGCONT);
	sleep_ms(BUSY_MS);
	stop(a);
	stop(b);
	mine = sums_of(&rig, &view, sa).runq_ns - mine;
	theirs = sums_of(&other, &seen, so).runq_ns - theirs;
	assert_true(mine > BUSY_MS * NS_PER_MS / 4);
	assert_near("wait, both ways", mine, theirs, 0.01, 5000000);
	end(a);
	end(b);
	view_close(&seen);
	mno_rig_unload(&other);
}

static void on_alarm(int sig)
{
}

static void interrupt_in(unsigned ms)
{
	struct itimerval it = {.it_value.tv_usec = (int)ms * 1000};
	struct sigaction sa = {.sa_handler = on_alarm}; /* no SA_RESTART */

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

static void wait_in_all_ways(void)
{
	struct timespec ms100 = {.tv_nsec = 100000000};
	struct timeval tv = {.tv_usec = 100000};
	int word = 0, fds[2], sv[2];
	char c;
	pid_t pid;

	sleep_ms(100);
	syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ms100, NULL, 0);
	poll(NULL, 0, 100);
	if (pipe(fds) < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) < 0)
		_exit(1);
	interrupt_in(100);
	if (read(fds[0], &c, 1) >= 0)
		_exit(2);
	setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (recv(sv[0], &c, 1, 0) >= 0)
		_exit(3);
	pid = fork();
	if (pid == 0) {
		sleep_ms(100);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void test_wait_classes(void **state)
{
	static const struct {
		enum mno_wait_class class;
		const char *what;
		unsigned ms;
	} want[] = {{MNO_WAIT_SLEEP, "sleep (two tasks)", 200}, {MNO_WAIT_LOCK, "lock", 100},
		{MNO_WAIT_POLL, "poll", 100}, {MNO_WAIT_PIPE, "pipe", 100},
		{MNO_WAIT_NET, "net", 100}, {MNO_WAIT_WAIT, "wait", 100}};
	pid_t a = child_in(dir_a, wait_in_all_ways);
	uint32_t sa = slot_of(&rig, dir_a);
	struct mno_sched_sums s0 = sums_of(&rig, &view, sa), s1;
	int status;

	kill(a, SIGCONT);
	assert_int_equal(waitpid(a, &status, 0), a);
	end_waited(a);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	s1 = sums_of(&rig, &view, sa);
	for (size_t w = 0; w < MNO_WAIT_N; w++)
		printf("  class %zu: %llu sleeps, %.3f ms\n", w,
			s1.wait[w].count - s0.wait[w].count,
			(double)(s1.wait[w].ns - s0.wait[w].ns) / 1e6);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		enum mno_wait_class w = want[i].class;

		assert_near(want[i].what, s1.wait[w].ns - s0.wait[w].ns, want[i].ms * NS_PER_MS,
			0.49, 0); /* timers are late on a busy host */
		assert_true(s1.wait[w].count > s0.wait[w].count);
	}
}

/* A removed cgroup's slot is shown once more, told as retired, then given away. */
static void test_slot_comes_back(void **state)
{
	char dir[512], name[64];
	const uint32_t *gone;
	bool told = false;
	uint32_t slot;
	pid_t pid;

	snprintf(name, sizeof(name), "mno-test-%d-c", getpid());
	assert_int_equal(mno_rig_cgroup_make(name, dir, sizeof(dir)), 0);
	pid = child_in(dir, spin);
	slot = slot_of(&rig, dir);
	end(pid);
	mno_rig_cgroup_remove(dir);
	assert_int_equal(slot_of(&rig, dir), slot); /* the last figures */
	mno_cgroups_refresh(rig.cgroups);
	for (size_t i = 0; i < mno_cgroups_retired(rig.cgroups, &gone); i++)
		told |= gone[i] == slot;
	assert_true(told);
	mno_cgroups_refresh(rig.cgroups);
	assert_int_equal(mno_cgroups_retired(rig.cgroups, &gone), 0);
}

static void test_every_switch_is_counted_once(void **state)
{
	uint64_t runs0 = mno_rig_stat(&rig, offsetof(struct mno_pstats, runs)), runs1;

	sleep_ms(20);
	runs1 = mno_rig_stat(&rig, offsetof(struct mno_pstats, runs));
	assert_true(runs1 > runs0);
	assert_int_equal(mno_rig_stat(&rig, offsetof(struct mno_pstats, errors)), 0);
}

static void test_threads_and_processes(void **state)
{
	_cleanup_buf_ struct mno_buf out = {};
	struct mno_json j;
	char key[64];

	mno_json_init(&j, &out);
	mno_json_obj(&j);
	rig.probe->snapshot(rig.priv, rig.cgroups, &j);
	mno_json_end(&j);
	snprintf(key, sizeof(key), "\"pid\":%d,", getpid());
	assert_non_null(strstr(mno_buf_cstr(&out), "\"cpu_percent\":null"));
	mno_buf_reset(&out);
	sleep_ms(250);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	rig.probe->snapshot(rig.priv, rig.cgroups, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&out), key));
	assert_null(strstr(mno_buf_cstr(&out), "\"cpu_percent\":null"));
}

int main(void)
{
#define T(f) cmocka_unit_test_teardown(f, end_children)
	const struct CMUnitTest tests[] = {
		T(test_cpu_and_wait),
		T(test_culprit),
		T(test_agrees_with_wakeup_stamps),
		T(test_wait_classes),
		T(test_slot_comes_back),
		T(test_every_switch_is_counted_once),
		T(test_threads_and_processes),
	};

	mno_rig_need_bpf();
	return cmocka_run_group_tests(tests, setup, teardown);
}
