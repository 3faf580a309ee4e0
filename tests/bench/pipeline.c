/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole way of a record after the ring: check, ledger, batch, compression, commit. Life of a
 * short process is three records (fork, exec, exit). CPU time of the process, all on one thread.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include "mno/err.h"
#include "mno/time.h"
#include "proc/proc_wire.h"
#include "router.h"
#include "tmpstate.h"

#define PROCESSES 200000
#define ROUND     4000

static double cpu_seconds(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

struct parts {
	struct mno_store *env;
	struct mno_series *series;
	struct mno_ledger *ledger;
	struct mno_hub *hub;
	struct mno_writer *writer;
	struct mno_router *router;
};

static int start(struct parts *p, const char *dir)
{
	struct mno_ledger_opts lo = {.sz = sizeof(lo), .boot_offset_ns = mno_boot_offset_ns()};
	struct mno_writer_opts wo = {.sz = sizeof(wo)};
	struct mno_router_opts ro = {.sz = sizeof(ro), .boot_offset_ns = lo.boot_offset_ns};
	int r = mno_store_open(dir, NULL, &p->env);

	if (r == 0)
		r = mno_series_open(p->env, &p->series);
	if (r == 0)
		r = mno_ledger_new(&lo, &p->ledger);
	if (r == 0)
		r = mno_hub_new(&p->hub);
	wo.env = p->env;
	wo.series = p->series;
	wo.ledger = ro.ledger = p->ledger;
	if (r == 0)
		r = mno_writer_new(&wo, &p->writer);
	ro.hub = p->hub;
	ro.writer = p->writer;
	return r < 0 ? r : mno_router_new(&ro, &p->router);
}

static void fill(
	struct mno_hdr *h, struct mno_proc_id *id, uint16_t kind, uint32_t size, uint32_t i)
{
	static uint64_t now = 1000000000;

	*h = (struct mno_hdr){.size = size,
		.kind = kind,
		.version = MNO_WIRE_VERSION,
		.ktime = now += 777,
		.seq = i};
	*id = (struct mno_proc_id){.start_boottime = 1000000000ULL + i * 3000ULL,
		.parent_start_boottime = 5,
		.cgroup_id = 1,
		.pid = 1000 + i % 30000,
		.ppid = 999,
		.uid = 33};
	memcpy(id->comm, "convert", 8);
}

static void life(struct parts *p, uint32_t i)
{
	static const char exe[] = "convert\0bin\0usr";
	struct mno_proc_fork f;
	struct mno_proc_exit x = {.cpu_ns = 1000000 + i, .code = 256, .exit_code = 1};
	struct {
		struct mno_proc_exec e;
		char tail[64];
	} e = {0};
	int n;

	fill(&f.hdr, &f.id, MNO_PROC_FORK, sizeof(f), i);
	mno_router_record(p->router, 0, &f, sizeof(f));
	memcpy(e.tail, exe, sizeof(exe));
	n = snprintf(e.tail + sizeof(exe), 40, "convert%cin%u.png%cout.webp", 0, i, 0);
	fill(&e.e.hdr, &e.e.id, MNO_PROC_EXEC,
		(uint32_t)(sizeof(e.e) + sizeof(exe) + (size_t)n + 1), i);
	e.e.exe = (struct mno_var){sizeof(e.e), sizeof(exe), 0};
	e.e.argv = (struct mno_var){sizeof(e.e) + sizeof(exe), (uint16_t)(n + 1), 0};
	mno_router_record(p->router, 0, &e, e.e.hdr.size);
	fill(&x.hdr, &x.id, MNO_PROC_EXIT, sizeof(x), i);
	mno_router_record(p->router, 0, &x, sizeof(x));
}

int main(void)
{
	struct mno_writer_stat st = {0};
	struct parts p = {0};
	struct tmpstate tmp;
	double t0;
	int r;

	tmpstate_new(&tmp);
	r = start(&p, tmp.dir);
	if (r < 0) {
		fprintf(stderr, "pipeline: %s\n", mno_strerror(r));
		return 1;
	}
	t0 = cpu_seconds();
	for (uint32_t i = 0; i < PROCESSES;) {
		for (uint32_t k = 0; k < ROUND; k++)
			life(&p, i++);
		mno_router_flush(p.router, NULL);
		r = mno_writer_flush(p.writer);
	}
	t0 = cpu_seconds() - t0;
	mno_writer_stat(p.writer, &st);
	if (r < 0 || st.events_stored != 3ULL * PROCESSES || st.procs_stored != PROCESSES) {
		fprintf(stderr, "pipeline: stored %llu records and %llu rows of %u\n",
			(unsigned long long)st.events_stored, (unsigned long long)st.procs_stored,
			PROCESSES);
		return 1;
	}
	printf("bench decode-store %.0f K/s\n", 3 * PROCESSES / t0 / 1000);
	mno_router_free(p.router);
	mno_writer_stop(p.writer);
	mno_hub_free(p.hub);
	mno_ledger_free(p.ledger);
	mno_series_close(p.series);
	mno_store_close(p.env);
	tmpstate_done(&tmp);
	return 0;
}
