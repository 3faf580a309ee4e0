/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the default profile adds to work that has nothing to do with it: a system call, fork +
 * exec, a TCP request over the loopback, in CPU time. Rounds with and without it take turns; the median
 * of the pairs' differences counts. Beside it stands what programs that do nothing add when they are
 * attached to task switches and TCP states: the kernel's own part, which no probe there is without. MNO_BENCH_PROBES=sched,tcp measures only these probes,
 * MNO_BENCH_WORK=added-tcp only this work, in MNO_BENCH_ROUNDS pairs.
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include "cgroups.h"
#include "probe_rig.h"
#include "probes.h"
#include "bench_probes.skel.h"

#define ROUNDS_MAX 500
#define CALLS      200000
#define FORKS      60
#define REQUESTS   600

struct agent {
	struct mno_cgroups *cgroups;
	struct mno_metrics *metrics;
	struct mno_probes *probes;
};

static int some_probes(struct agent *a, const char *list)
{
	char text[256], *save = NULL;
	int r = 0;

	snprintf(text, sizeof(text), "%s", list);
	for (char *p = strtok_r(text, ",", &save); p && r == 0; p = strtok_r(NULL, ",", &save))
		r = mno_probes_enable(a->probes, p, 0);
	return r;
}

static int agent_start(struct agent *a)
{
	struct mno_probes_opts o = {.sz = sizeof(o)};
	const char *list = getenv("MNO_BENCH_PROBES");
	char root[512];
	int r;

	*a = (struct agent){};
	if (!mno_rig_cgroup_root(root, sizeof(root)))
		return -ENOENT;
	r = mno_cgroups_new(root, &a->cgroups);
	if (r == 0)
		r = mno_cgroups_maps_new(a->cgroups);
	if (r == 0)
		r = mno_metrics_new(20000, &a->metrics);
	if (r < 0)
		return r;
	o.cgroups = a->cgroups;
	o.metrics = a->metrics;
	r = mno_probes_new(&o, &a->probes);
	if (r < 0)
		return r;
	return list ? some_probes(a, list) : mno_probes_start(a->probes);
}

static void agent_stop(struct agent *a)
{
	mno_probes_free(a->probes);
	mno_metrics_free(a->metrics);
	mno_cgroups_free(a->cgroups);
}

static void drain(struct agent *a)
{
	if (a)
		while (mno_probes_drain(a->probes))
			;
}

/* CPU time of this process, its ended children and @child (0 = none): the host may be busy. */
static uint64_t cpu_ns(pid_t child)
{
	struct timespec ts = {};
	struct rusage u[2];
	uint64_t us = 0;
	clockid_t clock;

	getrusage(RUSAGE_SELF, &u[0]);
	getrusage(RUSAGE_CHILDREN, &u[1]);
	for (int i = 0; i < 2; i++)
		us += (uint64_t)(u[i].ru_utime.tv_sec + u[i].ru_stime.tv_sec) * 1000000 +
		      (uint64_t)(u[i].ru_utime.tv_usec + u[i].ru_stime.tv_usec);
	if (child && clock_getcpuclockid(child, &clock) == 0)
		clock_gettime(clock, &ts);
	return us * 1000 + (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static double calls_ns(struct agent *a)
{
	uint64_t t = cpu_ns(0);

	for (int i = 0; i < CALLS; i++)
		syscall(SYS_getppid);
	return (double)(cpu_ns(0) - t) / CALLS;
}

static double forks_ns(struct agent *a)
{
	char name[] = "true", *argv[] = {name, NULL};
	uint64_t ns = 0, t;

	for (int i = 0; i < FORKS; i++) {
		pid_t pid;

		t = cpu_ns(0);
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) ||
			waitpid(pid, NULL, 0) != pid)
			return NAN;
		ns += cpu_ns(0) - t;
		drain(a);
	}
	return (double)ns / FORKS;
}

static int listen_local(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*addr = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)addr, sizeof(*addr)) < 0 || listen(fd, 64) < 0 ||
		getsockname(fd, (struct sockaddr *)addr, &len) < 0)
		return -errno;
	return fd;
}

static void serve(int fd)
{
	char buf[256];
	int c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((c = accept(fd, NULL, NULL)) >= 0) {
		ssize_t n = read(c, buf, sizeof(buf));

		if (n > 0 && write(c, buf, (size_t)n) != n)
			_exit(1);
		close(c);
	}
	_exit(0);
}

static int request(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char buf[64] = "request";
	ssize_t n = -1;

	if (fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 &&
		write(fd, buf, sizeof(buf)) > 0)
		n = read(fd, buf, sizeof(buf));
	if (fd >= 0)
		close(fd);
	return n > 0 ? 0 : -EIO;
}

/* A connection, a request and its answer, on one CPU with the server. */
static double requests_ns(struct agent *a)
{
	struct sockaddr_in addr;
	int fd = listen_local(&addr);
	uint64_t ns = 0, t;
	pid_t pid;

	if (fd < 0)
		return NAN;
	pid = fork();
	if (pid == 0)
		serve(fd);
	for (int i = -1; i < REQUESTS / 100; i++) {
		t = cpu_ns(pid);
		for (int k = 0; k < 100; k++)
			if (request(&addr) < 0)
				ns = UINT64_MAX / 2;
		ns += i < 0 ? 0 : cpu_ns(pid) - t;
		drain(a);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
	return (double)ns / REQUESTS;
}

static const struct work {
	const char *name, *unit;
	double (*run)(struct agent *a);
} works[] = {
	{"added-syscall", "ns", calls_ns},
	{"added-forkexec", "%", forks_ns},
	{"added-tcp", "%", requests_ns},
};

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double added(const struct work *w, double off, double on)
{
	return w->unit[0] == '%' ? 100 * (on / off - 1) : on - off;
}

static void report(
	const struct work *w, const double *off, const double *on, const double *empty, size_t n)
{
	double d[ROUNDS_MAX], base[ROUNDS_MAX], floor[ROUNDS_MAX];

	for (size_t i = 0; i < n; i++) {
		d[i] = added(w, off[i], on[i]);
		floor[i] = added(w, off[i], empty[i]);
		base[i] = off[i];
	}
	qsort(d, n, sizeof(*d), by_value);
	qsort(floor, n, sizeof(*floor), by_value);
	qsort(base, n, sizeof(*base), by_value);
	printf("bench %s %.2f %s (of %.0f ns; quartiles %.2f .. %.2f; empty programs %.2f)\n",
		w->name, d[n / 2], w->unit, base[n / 2], d[n / 4], d[n * 3 / 4], floor[n / 2]);
}

static bool wanted(const struct work *w)
{
	const char *only = getenv("MNO_BENCH_WORK");

	return !only || !strcmp(only, w->name);
}

/* One half of a round: all works, with the agent or (NULL) without. */
static void measure(struct agent *a, double (*ret)[ROUNDS_MAX], size_t round)
{
	for (size_t w = 0; w < ARRAY_SIZE(works); w++)
		if (wanted(&works[w]))
			ret[w][round] = works[w].run(a);
}

static int round_with_agent(double (*ret)[ROUNDS_MAX], size_t round)
{
	struct agent a;
	int r = agent_start(&a);

	if (r == 0)
		measure(&a, ret, round);
	agent_stop(&a);
	return r;
}

static int round_with_empty(struct bench_probes_bpf *skel, double (*ret)[ROUNDS_MAX], size_t round)
{
	struct bpf_link *sw = bpf_program__attach(skel->progs.empty_switch),
			*tcp = bpf_program__attach(skel->progs.empty_tcp);
	int r = sw && tcp ? 0 : -errno;

	if (r == 0)
		measure(NULL, ret, round);
	bpf_link__destroy(sw);
	bpf_link__destroy(tcp);
	return r;
}

/* By turns, so that no part always runs on what the same other left behind. */
static int all_rounds(size_t rounds, double (*off)[ROUNDS_MAX], double (*on)[ROUNDS_MAX],
	double (*empty)[ROUNDS_MAX])
{
	struct bench_probes_bpf *skel = bench_probes_bpf__open_and_load();
	int r = skel ? 0 : -errno;

	for (size_t i = 0; i < rounds && r == 0; i++) {
		if (i % 2)
			r = round_with_agent(on, i);
		measure(NULL, off, i);
		if (r == 0)
			r = round_with_empty(skel, empty, i);
		if (r == 0 && i % 2 == 0)
			r = round_with_agent(on, i);
	}
	bench_probes_bpf__destroy(skel);
	return r;
}

int main(void)
{
	static double off[ARRAY_SIZE(works)][ROUNDS_MAX], on[ARRAY_SIZE(works)][ROUNDS_MAX],
		empty[ARRAY_SIZE(works)][ROUNDS_MAX];
	const char *text = getenv("MNO_BENCH_ROUNDS");
	size_t rounds = text ? strtoul(text, NULL, 10) : 15;
	cpu_set_t set;
	int r;

	mno_rig_need_bpf();
	rounds = MNO_MIN(MNO_MAX(rounds, (size_t)1), (size_t)ROUNDS_MAX);
	CPU_ZERO(&set);
	CPU_SET((unsigned)sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
	r = all_rounds(rounds, off, on, empty);
	if (r < 0) {
		fprintf(stderr, "the probes do not start: %s\n", strerror(-r));
		return 1;
	}
	for (size_t w = 0; w < ARRAY_SIZE(works); w++)
		if (wanted(&works[w]))
			report(&works[w], off[w], on[w], empty[w], rounds);
	return 0;
}
