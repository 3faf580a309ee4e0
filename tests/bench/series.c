/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fleet of 8 copies of the recorded host, 10,152 series, and the host alone.
 * series-size: bytes of all files a sample, the host's rows committed one by one, sealed and closed.
 * series-ingest: resolved series to rows that are committed (64 a transaction) and sealed.
 * series-scan: sum and rate of every series over all of it; -2threads: how much sooner two have it,
 * by the wall clock, best of seven each. series-agg: count, sum and increase of all of it, in
 * samples that this stands for. CPU time of this process but for that.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>

#include "../support/benchkit.h"

#define COPIES  8
#define ROUNDS  7
#define THREADS 2

static void bench_size(const struct hostdata *h)
{
	struct mno_series_stat ss;
	struct mno_store_stat es;
	struct bench_series b;
	struct workdir w;
	double cpu;
	size_t n;

	workdir_new(&w, "series");
	bench_series_open(&b, w.path);
	n = bench_series_load(&b, h, 1, 1, true, &cpu);
	mno_series_stat(b.s, &ss);
	bench_must("figures", mno_store_stat(b.store, &es));
	bench_series_close(&b);
	bench_series_open(&b, w.path); /* what a start makes smaller is in the figure */
	bench_series_close(&b);
	printf("bench series-size %.3f B\n", (double)workdir_bytes(&w) / (double)n);
	printf("# blocks alone %.3f B, pages in use %.3f B a sample\n",
		(double)ss.block_bytes / (double)n, (double)es.used_bytes / (double)n);
	workdir_done(&w);
}

/* --- scan -------------------------------------------------------------------------------------- */

struct tally {
	double sum, gain, last;
	int64_t t0, t1;
	size_t n;
};
struct part {
	struct mno_series *s;
	const uint32_t *ids;
	size_t n;
	struct tally *v; /* by id */
};

static int add_run(void *arg, const struct mno_run *r)
{
	struct tally *t = &((struct part *)arg)->v[r->id];
	double sum = 0, gain = 0, last = t->n ? t->last : r->v[0];

	if (isnan(last))
		last = 0;
	if (r->constant && !isnan(r->v[0])) { /* a reset at its begin at most */
		sum = r->v[0] * (double)r->n;
		gain = r->v[0] >= last ? r->v[0] - last : r->v[0];
		last = r->v[0];
	} else {
		for (size_t i = 0; i < r->n; i++) {
			double v = isnan(r->v[i]) ? last : r->v[i]; /* a mark: nothing gained */

			sum += isnan(r->v[i]) ? 0 : v;
			gain += v >= last ? v - last : v;
			last = v;
		}
	}
	if (!t->n)
		t->t0 = r->t_ms[0];
	t->t1 = r->t_ms[r->n - 1];
	t->sum += sum;
	t->gain += gain;
	t->last = last;
	t->n += r->n;
	return 0;
}

static void *scan_part(void *arg)
{
	struct part *p = arg;

	bench_must("scan",
		mno_series_scan(p->s, p->ids, p->n, INT64_MIN, INT64_MAX, add_run, p, NULL));
	return NULL;
}

/* Sum of all sums and rates; *@ret_n: samples. */
static double scan(
	struct mno_series *s, const uint32_t *ids, size_t n, size_t threads, size_t *ret_n)
{
	struct tally *v = bench_alloc((size_t)ids[n - 1] + 1, sizeof(*v));
	struct part part[THREADS];
	pthread_t th[THREADS];
	double all = 0;

	for (size_t i = 0; i < threads; i++) {
		size_t from = i * n / threads;

		part[i] = (struct part){s, ids + from, (i + 1) * n / threads - from, v};
		if (i)
			bench_must("thread", -pthread_create(&th[i], NULL, scan_part, &part[i]));
	}
	scan_part(&part[0]);
	for (size_t i = 1; i < threads; i++)
		pthread_join(th[i], NULL);
	*ret_n = 0;
	for (size_t i = 0; i < n; i++) {
		const struct tally *t = &v[ids[i]];

		*ret_n += t->n;
		all += t->sum + (t->t1 > t->t0 ? t->gain * 1e3 / (double)(t->t1 - t->t0) : 0);
	}
	free(v);
	return all;
}

static void bench_scan(struct bench_series *b, size_t samples)
{
	double cpu = INFINITY, wall[THREADS] = {INFINITY, INFINITY}, want = 0;
	struct mno_ids ids = {0};
	size_t n = 0;

	bench_must("select", mno_series_select(b->s, NULL, 0, SIZE_MAX, &ids));
	for (size_t i = 0; i < ROUNDS * THREADS; i++) {
		double c = bench_cpu(), t = bench_clock(CLOCK_MONOTONIC);
		double got = scan(b->s, ids.v, ids.n, 1 + i % THREADS, &n);

		t = bench_clock(CLOCK_MONOTONIC) - t;
		c = bench_cpu() - c;
		wall[i % THREADS] = fmin(wall[i % THREADS], t);
		if (i % THREADS == 0)
			cpu = fmin(cpu, c);
		if (i && got != want)
			bench_must("the same sum", -EILSEQ);
		want = got;
	}
	if (n < samples)
		bench_must("samples are missing", -MNO_ECORRUPT);
	printf("bench series-scan %.1f M/s\n", (double)n / cpu / 1e6);
	printf("bench series-scan-2threads %.2f x\n", wall[0] / wall[1]);
	printf("# %zu samples: %.1f ms of CPU time, %.1f ms by the clock, %.1f with two threads\n",
		n, cpu * 1e3, wall[0] * 1e3, wall[1] * 1e3);
	mno_ids_done(&ids);
}

static int add_agg(void *arg, const struct mno_agg *a)
{
	*(uint64_t *)arg += a->count;
	return 0;
}

/* Count, sum and increase of each series, from what is stored beside blocks. */
static void bench_agg(struct bench_series *b)
{
	struct mno_ids ids = {0};
	double cpu = INFINITY;
	uint64_t n = 0;

	bench_must("select", mno_series_select(b->s, NULL, 0, SIZE_MAX, &ids));
	for (size_t i = 0; i < ROUNDS; i++) {
		double c = bench_cpu();

		n = 0;
		bench_must("aggregates",
			mno_series_read_agg(b->s, ids.v, ids.n, INT64_MIN, INT64_MAX, add_agg, &n));
		cpu = fmin(cpu, bench_cpu() - c);
	}
	printf("bench series-agg %.1f M/s\n", (double)n / cpu / 1e6);
	mno_ids_done(&ids);
}

static void bench_speed(const struct hostdata *h)
{
	struct bench_series b;
	struct workdir w;
	double cpu;
	size_t n;

	workdir_new(&w, "series");
	bench_series_open(&b, w.path);
	n = bench_series_load(&b, h, COPIES, 64, true, &cpu);
	printf("bench series-ingest %.2f M/s\n", (double)n / cpu / 1e6);
	bench_scan(&b, n);
	bench_agg(&b);
	bench_series_close(&b);
	workdir_done(&w);
}

int main(void)
{
	struct hostdata h;

	hostdata_need(&h);
	bench_size(&h);
	bench_speed(&h);
	hostdata_done(&h);
	return 0;
}
