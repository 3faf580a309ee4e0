/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring-decode-store: facts of processes that live 3 ms (fork, exec, exit), as the drain hands them
 * over, through the ledger into committed batches; records per second of CPU time. Also bytes per
 * stored process.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../support/tmpstate.h"
#include "mno/err.h"
#include "mno/ledger.h"

#define PROCESSES 400000
#define BATCH     4096

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, int r)
{
	fprintf(stderr, "bench ledger: %s: %s\n", what, mno_strerror(r));
	exit(1);
}

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	snprintf(buf, size, "/system.slice/builder-%llu.service", (unsigned long long)id);
	return buf;
}

/* One process: three records. */
static void process(struct mno_ledger *l, uint32_t i, uint64_t *seed)
{
	uint64_t start = 1000000000ULL + i * 50000ULL, noise = rnd(seed);
	uint32_t pid = 300 + i % 30000;
	char argv[80];
	int len, r;

	r = mno_ledger_fork(l, &(struct mno_fork_fact){.pid = pid,
				       .ppid = 250,
				       .uid = 1000,
				       .start_boottime_ns = start,
				       .parent_start_boottime_ns = 77,
				       .cgroup_id = 40 + i % 3,
				       .ktime = start,
				       .comm = "make"});
	len = snprintf(argv, sizeof(argv), "cc%c-c%c-O2%cfile-%u.c", 0, 0, 0, i % 500);
	if (r == 0)
		r = mno_ledger_exec(l, &(struct mno_exec_fact){.pid = pid,
					       .ppid = 250,
					       .uid = 1000,
					       .start_boottime_ns = start,
					       .parent_start_boottime_ns = 77,
					       .cgroup_id = 40 + i % 3,
					       .ktime = start + 400000,
					       .comm = "cc",
					       .exe = "/usr/bin/cc",
					       .argv = argv,
					       .argv_len = (size_t)len + 1});
	if (r == 0)
		r = mno_ledger_exit(l, &(struct mno_exit_fact){.pid = pid,
					       .ppid = 250,
					       .uid = 1000,
					       .start_boottime_ns = start,
					       .parent_start_boottime_ns = 77,
					       .cgroup_id = 40 + i % 3,
					       .ktime = start + 3000000 + noise % 500000,
					       .comm = "cc",
					       .code = noise % 50 ? 0 : 256,
					       .cpu_ns = 2000000 + noise % 300000,
					       .rss_peak_bytes = (2000 + noise % 200) * 4096});
	if (r < 0)
		die("fact", r);
}

static size_t store(struct mno_store *e, struct mno_ledger *l)
{
	static struct mno_proc rows[BATCH];
	size_t n, total = 0;
	struct mno_txn *t;
	int r = mno_store_begin(e, &t);

	if (r < 0)
		die("begin", r);
	while ((n = mno_ledger_take_ended(l, rows, BATCH))) {
		r = mno_ledger_store(e, t, rows, n);
		if (r < 0)
			die("store", r);
		for (size_t i = 0; i < n; i++)
			mno_proc_done(&rows[i]);
		total += n;
	}
	r = mno_store_commit(e, t);
	if (r < 0)
		die("commit", r);
	return total;
}

int main(void)
{
	struct mno_ledger_opts o = {.sz = sizeof(o), .boot_offset_ns = 1700000000000000000};
	double t0, facts = 0, all;
	struct mno_store_stat es;
	struct mno_ledger *l = NULL;
	struct tmpstate tmp;
	struct mno_store *e;
	uint64_t seed = 3;
	size_t stored = 0;
	int r;

	tmpstate_new(&tmp);
	r = mno_store_open(tmp.dir, NULL, &e);
	if (r == 0)
		r = mno_ledger_new(&o, &l);
	if (r < 0)
		die("open", r);
	mno_ledger_set_cgroup_fn(l, cgroup_path, NULL);
	all = cpu_seconds();
	for (uint32_t i = 0; i < PROCESSES;) {
		t0 = cpu_seconds();
		for (uint32_t k = 0; k < 16000; k++)
			process(l, i++, &seed);
		facts += cpu_seconds() - t0;
		stored += store(e, l);
	}
	all = cpu_seconds() - all;
	if (stored != PROCESSES)
		die("rows are missing", -MNO_ECORRUPT);
	mno_store_stat(e, &es);
	printf("bench ring-decode-store %.0f K/s\n", 3.0 * PROCESSES / all / 1e3);
	printf("bench ledger-fact %.0f ns\n", facts / (3.0 * PROCESSES) * 1e9);
	printf("bench ledger-row %.1f B\n", (double)es.used_bytes / PROCESSES);
	mno_ledger_free(l);
	mno_store_close(e);
	tmpstate_done(&tmp);
	return 0;
}
