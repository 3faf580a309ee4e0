/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's duty: the series of 8 hosts (10,152), one commit a simulated second, for 2,048 of them
 * without sleeping, so that the blocks that are sealed meanwhile are in the figure. duty-cpu: CPU
 * time of all threads, in percent of the simulated time. duty-write: bytes written to files, as
 * /proc/self/io counts them, without what the file system adds. Each host reads the recording from
 * another place on, so that no two do the same at one time.
 */
#include <errno.h>

#include "../support/benchkit.h"

#define HOSTS  8
#define APART  117 /* ticks between two hosts */
#define WARM   256
#define TICKS  2048
#define SERIES ((size_t)HOSTS * h->n_series)

/*
 * Bytes handed over by write calls; the store writes a page once a commit. -1: this kernel does not
 * count. write_bytes would count all of a large folio of the page cache for one page in it.
 */
static double written(void)
{
	FILE *f = fopen("/proc/self/io", "re");
	unsigned long long v;
	char line[128];
	double n = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "wchar: %llu", &v) == 1)
			n = (double)v;
	if (f)
		fclose(f);
	return n;
}

struct row {
	uint32_t *all, *ids;
	double *v;
	size_t n;
};

static void fill_row(struct row *row, const struct hostdata *h, size_t tick)
{
	row->n = 0;
	for (size_t c = 0; c < HOSTS; c++)
		row->n += hostdata_row(h, tick + c * APART, row->all + c * h->n_series,
			row->ids + row->n, row->v + row->n);
}

static double write_tick(struct bench_series *b, const struct row *row, int64_t t_ms)
{
	double t0 = bench_cpu();

	bench_series_begin(b);
	bench_must("append", mno_series_append(b->s, b->txn, t_ms, row->ids, row->v, row->n));
	bench_series_commit(b);
	return bench_cpu() - t0;
}

int main(void)
{
	static double ms[TICKS], kb[TICKS];
	struct bench_series b;
	struct hostdata host, *h = &host;
	struct workdir w;
	struct row row;
	double cpu = 0, io = 0;

	hostdata_need(h);
	workdir_new(&w, "duty");
	bench_series_open(&b, w.path);
	row.all = bench_series_ids(&b, h, HOSTS);
	row.ids = bench_alloc(SERIES, sizeof(*row.ids));
	row.v = bench_alloc(SERIES, sizeof(*row.v));
	for (size_t i = 0; i < WARM + TICKS; i++) {
		fill_row(&row, h, i);
		io = written();
		/* those of the warm-up are overwritten by the last ones */
		ms[i % TICKS] = 1e3 * write_tick(&b, &row, hostdata_time(h, i));
		kb[i % TICKS] = (written() - io) / 1e3;
	}
	for (size_t i = io = 0; i < TICKS; i++) {
		cpu += ms[i];
		io += kb[i];
	}
	printf("bench duty-cpu %.3f %%\n", cpu / TICKS / 10);
	if (io > 0)
		printf("bench duty-write %.1f KB/s\n", io / TICKS);
	else
		printf("skip duty-write: the kernel counts no bytes for %s\n", w.path);
	printf("# %zu series; a commit %.2f ms, 99 %% within %.2f, slowest %.2f ms of CPU time; "
	       "memory %.1f MiB\n",
		SERIES, bench_quantile(ms, TICKS, 0.5), bench_quantile(ms, TICKS, 0.99),
		bench_quantile(ms, TICKS, 1), (double)bench_status_kib("RssAnon") / 1024);
	printf("# a commit writes %.1f KB, 99 %% within %.1f, the most %.1f KB\n",
		bench_quantile(kb, TICKS, 0.5), bench_quantile(kb, TICKS, 0.99),
		bench_quantile(kb, TICKS, 1));
	bench_series_close(&b);
	workdir_done(&w);
	free(row.all);
	free(row.ids);
	free(row.v);
	hostdata_done(h);
	return 0;
}
