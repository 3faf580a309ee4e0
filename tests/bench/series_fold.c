/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorded host, and a fleet of 8 copies of it, as the rivals get them: bytes of all files a
 * sample, CPU time of loading (64 ticks a commit) and of a query over all of it:
 * sum by(device)(rate({__name__=~".+"}[1m])) at 61 steps of 15 s, by Prometheus' rules.
 * host8-2threads: how much sooner two threads have it, best of five each, by the wall clock.
 * host8-check is the sum over the answer, to be held against Prometheus' own.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>

#include "../support/benchkit.h"

#define COPIES      8
#define TICKS_A_TXN 64
#define STEPS       61
#define STEP_MS     15000
#define RANGE_MS    60000
#define GROUPS_MAX  512
#define QUERIES     5
#define THREADS     2

/* --- the query ---------------------------------------------------------------------------------- */

struct query {
	struct mno_series *s;
	const uint32_t *ids;
	size_t n_ids;
	int64_t start;
	size_t n_groups, samples;
	char *groups[GROUPS_MAX];
	double sums[GROUPS_MAX][STEPS];
	char device[256];
	/* the series in hand; gain: what resets took from it, up to each sample */
	int64_t *t;
	double *v, *gain;
	size_t cap;
};

static int take_device(void *arg, const char *name, const char *value)
{
	struct query *q = arg;

	if (!strcmp(name, "device"))
		snprintf(q->device, sizeof(q->device), "%s", value);
	return 0;
}

static double *sums_of(struct query *q, uint32_t id)
{
	size_t g = 0;

	q->device[0] = '\0';
	bench_must("labels", mno_series_labels(q->s, id, take_device, q));
	while (g < q->n_groups && strcmp(q->groups[g], q->device) != 0)
		g++;
	if (g == q->n_groups) {
		bench_must("too many devices", g < GROUPS_MAX ? 0 : -E2BIG);
		q->groups[q->n_groups++] = strdup(q->device);
	}
	return q->sums[g];
}

/* rate() of samples @a..@b in the window that ends at @t: extrapolated to its borders where the
 * samples come near enough to them, never below zero */
static double rate(const struct query *q, size_t a, size_t b, int64_t t)
{
	double gain = q->v[b] - q->v[a] + q->gain[b] - q->gain[a];
	double len = (double)(q->t[b] - q->t[a]) / 1e3, mean = len / (double)(b - a);
	double to_start = (double)(q->t[a] - (t - RANGE_MS)) / 1e3;
	double to_end = (double)(t - q->t[b]) / 1e3, whole = len;

	if (gain > 0 && q->v[a] >= 0 && len * q->v[a] / gain < to_start)
		to_start = len * q->v[a] / gain;
	whole += to_start < mean * 1.1 ? to_start : mean / 2;
	whole += to_end < mean * 1.1 ? to_end : mean / 2;
	return gain * whole / len / (RANGE_MS / 1e3);
}

/* Into q->t and q->v without marks of staleness, q->gain beside them. Returns how many. */
static size_t take_samples(struct query *q, const struct mno_column *c)
{
	size_t n = 0;

	if (q->cap < c->n) {
		q->cap = c->n;
		q->t = realloc(q->t, q->cap * sizeof(*q->t));
		q->v = realloc(q->v, q->cap * sizeof(*q->v));
		q->gain = realloc(q->gain, q->cap * sizeof(*q->gain));
		bench_must("memory", q->t && q->v && q->gain ? 0 : -ENOMEM);
	}
	for (size_t i = 0; i < c->n; i++) {
		if (isnan(c->v[i]))
			continue;
		q->t[n] = c->t_ms[i];
		q->v[n] = c->v[i];
		q->gain[n] = n ? q->gain[n - 1] + (q->v[n] < q->v[n - 1] ? q->v[n - 1] : 0) : 0;
		n++;
	}
	return n;
}

static int add_series(void *arg, const struct mno_column *c)
{
	struct query *q = arg;
	double *sums = sums_of(q, c->id);
	size_t n = take_samples(q, c), a = 0, b = 0; /* samples a..b-1 are in the window */

	q->samples += n;
	for (int i = 0; i < STEPS; i++) {
		int64_t t = q->start + i * STEP_MS;

		while (b < n && q->t[b] <= t)
			b++;
		while (a < b && q->t[a] < t - RANGE_MS)
			a++;
		if (b > a + 1)
			sums[i] += rate(q, a, b - 1, t);
	}
	return 0;
}

static void select_all(struct mno_series *s, struct mno_ids *ret)
{
	static char any[] = ".+", name[] = "__name__";
	struct mno_matcher m = {.op = MNO_MATCH_RE, .name = name, .value = any};
	char err[128];

	bench_must("matcher", mno_matchers_compile(&m, 1, err, sizeof(err)));
	bench_must("select", mno_series_select(s, &m, 1, SIZE_MAX, ret));
	mno_matchers_done(&m, 1);
}

/* The part of the query over q->ids; a thread of its own where there are several. */
static void *read_part(void *arg)
{
	struct query *q = arg;

	bench_must("read", mno_series_read(q->s, q->ids, q->n_ids, q->start - RANGE_MS,
				   q->start + (STEPS - 1) * STEP_MS, SIZE_MAX, add_series, q));
	return NULL;
}

static double finish(struct query *q)
{
	double sum = 0;

	for (size_t g = 0; g < q->n_groups; g++) {
		for (int i = 0; i < STEPS; i++)
			sum += q->sums[g][i];
		free(q->groups[g]);
	}
	free(q->t);
	free(q->v);
	free(q->gain);
	return sum;
}

/* Sum over the answer; the figures of the last part in *ret. */
static double run_query(struct mno_series *s, int64_t first, size_t threads, struct query *ret)
{
	struct query *q = bench_alloc(threads, sizeof(*q));
	struct mno_ids ids = {0};
	pthread_t id[THREADS];
	double sum = 0;

	select_all(s, &ids);
	for (size_t i = 0; i < threads; i++) {
		q[i].s = s;
		q[i].start = first + RANGE_MS;
		q[i].ids = ids.v + i * ids.n / threads;
		q[i].n_ids = (i + 1) * ids.n / threads - i * ids.n / threads;
		if (i > 0)
			bench_must("thread", -pthread_create(&id[i], NULL, read_part, &q[i]));
	}
	read_part(&q[0]);
	for (size_t i = 1; i < threads; i++)
		pthread_join(id[i], NULL);
	for (size_t i = 0; i < threads; i++)
		sum += finish(&q[i]);
	mno_ids_done(&ids);
	*ret = q[threads - 1];
	free(q);
	return sum;
}

static void bench_query(struct bench_series *b, const struct hostdata *h)
{
	double ms[QUERIES], wall[2] = {INFINITY, INFINITY}, sum = 0;
	struct query *q = bench_alloc(1, sizeof(*q));

	for (size_t i = 0; i < 2 * QUERIES; i++) {
		double cpu = bench_cpu(), t = bench_clock(CLOCK_MONOTONIC);

		sum = run_query(b->s, h->t_ms[0], 2 - i % 2, q);
		t = bench_clock(CLOCK_MONOTONIC) - t;
		wall[i % 2] = fmin(wall[i % 2], t);
		ms[i / 2] = (bench_cpu() - cpu) * 1e3; /* of the run with one thread, the later */
	}
	printf("bench host8-query %.1f ms\n", bench_quantile(ms, QUERIES, 0.5));
	printf("# %zu devices from %zu samples; fastest %.1f ms\n", q->n_groups, q->samples, ms[0]);
	printf("bench host8-2threads %.2f x\n", wall[1] / wall[0]);
	printf("bench host8-check %.17g 1\n", sum);
	free(q);
}

/* "# main 0.21 B a sample, ts-20261123 0.34": where the bytes are */
static void tell_parts(const struct workdir *w, size_t samples)
{
	DIR *d = opendir(w->path);
	const char *sep = "#";

	for (struct dirent *e; d && (e = readdir(d));) {
		struct workdir part;

		if (e->d_name[0] == '.' || e->d_type != DT_DIR)
			continue;
		snprintf(part.path, sizeof(part.path), "%.100s/%.100s", w->path, e->d_name);
		printf("%s %s %.3f B a sample", sep, e->d_name,
			(double)workdir_bytes(&part) / (double)samples);
		sep = ",";
	}
	puts(sep[0] == ',' ? "" : "# one file");
	if (d)
		closedir(d);
}

static void bench_host(const struct hostdata *h, unsigned copies)
{
	struct bench_series b;
	struct mno_store_stat es;
	struct workdir w;
	double t0, bytes;
	size_t n;

	workdir_new(&w, "fold");
	bench_series_open(&b, w.path);
	n = bench_series_load(&b, h, copies, TICKS_A_TXN, false, &t0);
	bench_must("figures", mno_store_stat(b.store, &es));
	if (n != h->n_samples * copies)
		bench_must("samples are missing", -MNO_ECORRUPT);
	if (copies > 1)
		bench_query(&b, h);
	bench_series_close(&b);
	bytes = (double)workdir_bytes(&w);
	printf("bench host%u-size %.3f B\n", copies, bytes / (double)n);
	printf("bench host%u-ingest %.2f M/s\n", copies, (double)n / t0 / 1e6);
	printf("# %zu samples; %.3f B of pages in use a sample; peak memory %.1f MiB\n", n,
		(double)es.used_bytes / (double)n, (double)bench_status_kib("VmHWM") / 1024);
	tell_parts(&w, n);
	workdir_done(&w);
}

int main(void)
{
	struct hostdata h;

	hostdata_need(&h);
	bench_host(&h, 1);
	bench_host(&h, COPIES);
	hostdata_done(&h);
	return 0;
}
