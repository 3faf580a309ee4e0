/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Series that come and go: pods of ten metrics, twelve new ones each 10 s, each alive for a minute
 * (1,036,800 series a day), beside 1,000 that stay; a row and a commit each 10 s. Argument: how many
 * in all. At a tenth, at half and at the end of them: resident memory (the most since the last one,
 * sampled each minute) and the engine's own figure; bytes of the store for each dead series; CPU
 * time of all threads for each new series, its rows and its way out included, since the last one;
 * CPU time, median, of label match and of the read after it over the last five minutes:
 *   steady    one that stays, by exact labels
 *   common    a metric and a namespace: 1/100 of the series
 *   regex     by a label that each pod has its own value of
 * and of common over five minutes at half of the time.
 */
#include <errno.h>

#include "../support/benchkit.h"

#define STEADY     1000u
#define METRICS    10u
#define NAMESPACES 10u
#define NODES      20u
#define NEW_PODS   12u /* each tick */
#define LIFE       6u  /* ticks */
#define TICK_MS    10000
#define SERIES     1000000u
#define ROUNDS     15
#define WINDOW_MS  300000
#define START_MS   1767225600000 /* begin of a day */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static const char *const metrics[METRICS] = {"container_cpu_usage_seconds_total",
	"container_cpu_cfs_throttled_seconds_total", "container_memory_working_set_bytes",
	"container_memory_rss", "container_network_receive_bytes_total",
	"container_network_transmit_bytes_total", "container_fs_reads_bytes_total",
	"container_fs_writes_bytes_total", "container_processes", "container_start_time_seconds"};

struct feed {
	struct bench_series b;
	uint64_t tick;
	uint32_t ids[STEADY + LIFE * NEW_PODS * METRICS]; /* steady ones, then a ring of pods */
	double v[STEADY + LIFE * NEW_PODS * METRICS];
	double cpu;
	long peak_kib;
};

static int64_t time_of(uint64_t tick)
{
	return START_MS + (int64_t)tick * TICK_MS;
}

static void steady_key(unsigned i, char *key, size_t size)
{
	snprintf(key, size, "node_work_total{device=\"dev-%u\",instance=\"node-%u:9100\"}", i,
		i % NODES);
}

static void pod_key(uint64_t pod, unsigned metric, char *key, size_t size)
{
	uint64_t a = mix(pod * 4), b = mix(pod * 4 + 1), c = mix(pod * 4 + 2), d = mix(pod * 4 + 3);

	snprintf(key, size,
		"%s{container=\"main\",id=\"%016lx%016lx%016lx%016lx\",namespace=\"team-%u\","
		"node=\"node-%u\",pod=\"batch-%u-%05x\"}",
		metrics[metric], (unsigned long)a, (unsigned long)b, (unsigned long)c,
		(unsigned long)d, (unsigned)(pod % NAMESPACES), (unsigned)(a % NODES),
		(unsigned)(pod / 100), (unsigned)(b & 0xfffff));
}

static void new_pods(struct feed *f)
{
	uint32_t *ring = f->ids + STEADY + f->tick % LIFE * NEW_PODS * METRICS;
	char key[400];

	for (unsigned p = 0; p < NEW_PODS; p++)
		for (unsigned m = 0; m < METRICS; m++) {
			pod_key(f->tick * NEW_PODS + p, m, key, sizeof(key));
			*ring++ = bench_series_id(&f->b, key);
		}
}

static void one_tick(struct feed *f)
{
	size_t n = STEADY + MNO_MIN(f->tick + 1, (uint64_t)LIFE) * NEW_PODS * METRICS;
	double from = bench_cpu();

	bench_series_begin(&f->b);
	new_pods(f);
	for (size_t i = 0; i < n; i++)
		f->v[i] += (double)(f->ids[i] % 16);
	bench_must(
		"append", mno_series_append(f->b.s, f->b.txn, time_of(f->tick), f->ids, f->v, n));
	bench_series_commit(&f->b);
	f->cpu += bench_cpu() - from;
	f->tick++;
	if (f->tick % 6 == 0)
		f->peak_kib = MNO_MAX(f->peak_kib, bench_status_kib("RssAnon"));
}

/* --- queries ------------------------------------------------------------------------------------- */

struct query {
	const char *name;
	struct mno_matcher m[2];
	size_t n;
	bool half; /* of the time; else the end */
};
struct answer {
	double match_us, read_us;
	size_t ids, samples;
};

static int count_samples(void *arg, const struct mno_column *c)
{
	*(size_t *)arg += c->n;
	return 0;
}

static struct answer ask(struct feed *f, struct query *q)
{
	int64_t t1 = time_of(q->half ? f->tick / 2 : f->tick - 1), t0 = t1 - WINDOW_MS + 1;
	double match[ROUNDS], read[ROUNDS];
	struct answer a = {0};
	char err[200];

	bench_must("compile", mno_matchers_compile(q->m, q->n, err, sizeof(err)));
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct mno_ids ids = {0};
		double from = bench_cpu(), then;

		bench_must("select",
			mno_series_select_range(f->b.s, q->m, q->n, t0, t1, SIZE_MAX, &ids));
		then = bench_cpu();
		a.samples = 0;
		bench_must("read", mno_series_read(f->b.s, ids.v, ids.n, t0, t1, SIZE_MAX,
					   count_samples, &a.samples));
		read[i] = (bench_cpu() - then) * 1e6;
		match[i] = (then - from) * 1e6;
		a.ids = ids.n;
		mno_ids_done(&ids);
	}
	mno_matchers_done(q->m, q->n);
	a.match_us = bench_quantile(match, ROUNDS, 0.5);
	a.read_us = bench_quantile(read, ROUNDS, 0.5);
	return a;
}

static void ask_all(struct feed *f, const char *at)
{
	struct query all[] = {
		{.name = "steady",
			.m = {{MNO_MATCH_EQ, "__name__", "node_work_total", NULL},
				{MNO_MATCH_EQ, "device", "dev-77", NULL}},
			.n = 2},
		{.name = "common",
			.m = {{MNO_MATCH_EQ, "__name__", "container_memory_rss", NULL},
				{MNO_MATCH_EQ, "namespace", "team-7", NULL}},
			.n = 2},
		{.name = "regex",
			.m = {{MNO_MATCH_RE, "pod", "batch-.*-.*e", NULL},
				{MNO_MATCH_EQ, "__name__", "container_processes", NULL}},
			.n = 2},
		{.name = "regex-only", .m = {{MNO_MATCH_RE, "pod", "batch-.*-.*ee", NULL}}, .n = 1},
		{.name = "half",
			.m = {{MNO_MATCH_EQ, "__name__", "container_memory_rss", NULL},
				{MNO_MATCH_EQ, "namespace", "team-7", NULL}},
			.n = 2,
			.half = true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct answer a = ask(f, &all[i]);

		printf("bench churn-match-%s-%s %.0f us\n", all[i].name, at, a.match_us);
		printf("bench churn-read-%s-%s %.0f us\n", all[i].name, at, a.read_us);
		printf("# %zu series, %zu samples\n", a.ids, a.samples);
	}
}

/* --- the whole ----------------------------------------------------------------------------------- */

static void report(struct feed *f, const char *at, double cpu, uint64_t series)
{
	struct mno_series_stat st;
	struct mno_store_stat es;
	uint64_t dead;

	mno_series_stat(f->b.s, &st);
	bench_must("stat", mno_store_stat(f->b.store, &es));
	dead = MNO_MAX(st.series - STEADY, (uint64_t)1);
	printf("bench churn-rss-%s %.1f MiB\n", at, (double)f->peak_kib / 1024);
	printf("bench churn-memory-%s %.1f MiB\n", at, (double)st.memory_bytes / (1 << 20));
	printf("bench churn-disk-%s %.0f B\n", at, (double)es.used_bytes / (double)dead);
	printf("bench churn-cpu-%s %.1f us\n", at, cpu * 1e6 / (double)series);
	printf("# %lu series, %lu in the head, of memory %.1f MiB labels; blocks %.0f B a series\n",
		(unsigned long)st.series, (unsigned long)st.head_series,
		(double)st.index_bytes / (1 << 20), (double)st.block_bytes / (double)dead);
	ask_all(f, at);
	fflush(stdout);
}

static void feed_open(struct feed *f, const char *dir)
{
	char key[200];

	bench_series_open(&f->b, dir);
	bench_series_begin(&f->b);
	for (unsigned i = 0; i < STEADY; i++) {
		steady_key(i, key, sizeof(key));
		f->ids[i] = bench_series_id(&f->b, key);
	}
	bench_series_commit(&f->b);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned percent;
	} marks[] = {{"100k", 10}, {"500k", 50}, {"1m", 100}};
	uint64_t all = argc > 1 ? strtoul(argv[1], NULL, 10) : SERIES;
	static struct feed f;
	struct workdir dir;
	uint64_t before = 0;
	double cpu = 0;

	workdir_new(&dir, "series-churn");
	feed_open(&f, dir.path);
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		uint64_t until = all * marks[i].percent / 100;

		f.peak_kib = 0;
		while (f.tick * NEW_PODS * METRICS < until)
			one_tick(&f);
		report(&f, marks[i].name, f.cpu - cpu, f.tick * NEW_PODS * METRICS - before);
		cpu = f.cpu;
		before = f.tick * NEW_PODS * METRICS;
	}
	bench_series_close(&f.b);
	workdir_done(&dir);
	return 0;
}
