/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection by labels. label-match: the keys of a fleet of 8 recorded hosts (10,152 series), in the
 * head. churn-*: series that live a minute, 700 new ones each minute, a million in all (argument:
 * how many), as a day brings them. At a tenth, at half and at the end: CPU time of an equality, of a
 * prefix, of five minutes at the end and in the middle, of reading the samples of the last five
 * minutes of a node; bytes on disk a series, samples and all; resident memory, and its peak.
 */
#include <errno.h>

#include "../support/benchkit.h"

#define COPIES       8
#define NEW_A_MINUTE 700
#define SERIES       1000000
#define ROUNDS       20

/* Best of ROUNDS, ms; *@ret_n: how many matched. */
static double match_ms(struct mno_series *s, struct mno_matcher *m, size_t n, int64_t t0,
	int64_t t1, size_t *ret_n)
{
	double best = 1e9;
	char err[200];

	bench_must("compile", mno_matchers_compile(m, n, err, sizeof(err)));
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct mno_ids ids = {0};
		double from = bench_cpu(), took;

		bench_must("select", mno_series_select_range(s, m, n, t0, t1, SIZE_MAX, &ids));
		took = (bench_cpu() - from) * 1e3;
		best = took < best ? took : best;
		*ret_n = ids.n;
		mno_ids_done(&ids);
	}
	mno_matchers_done(m, n);
	return best;
}

static void bench_fleet(void)
{
	struct mno_matcher name[] = {{MNO_MATCH_EQ, "__name__", "node_cpu_seconds_total", NULL}};
	struct mno_matcher regex[] = {
		{MNO_MATCH_RE, "__name__", "node_(disk|network)_.*bytes.*", NULL},
		{MNO_MATCH_NE, "device", "lo", NULL}};
	struct mno_series_stat st;
	struct hostdata h;
	struct bench_series b;
	struct workdir dir;
	size_t n_name, n_regex;
	double ms_name, ms_regex;
	uint32_t *ids;

	hostdata_need(&h);
	workdir_new(&dir, "series-labels");
	bench_series_open(&b, dir.path);
	ids = bench_series_ids(&b, &h, COPIES);
	ms_name = match_ms(b.s, name, 1, INT64_MIN, INT64_MAX, &n_name);
	ms_regex = match_ms(b.s, regex, 2, INT64_MIN, INT64_MAX, &n_regex);
	mno_series_stat(b.s, &st);
	printf("bench label-match %.3f ms\n", ms_name);
	printf("bench label-match-regex %.3f ms\n", ms_regex);
	printf("bench label-memory %.0f B\n", (double)st.index_bytes / (double)st.head_series);
	printf("# %zu and %zu of %lu series in the head\n", n_name, n_regex,
		(unsigned long)st.head_series);
	free(ids);
	bench_series_close(&b);
	workdir_done(&dir);
	hostdata_done(&h);
}

/* --- a million ------------------------------------------------------------------------------------- */

/* One minute, a row each second. */
static void one_minute(struct bench_series *b, unsigned minute)
{
	static uint32_t ids[NEW_A_MINUTE];
	static double v[NEW_A_MINUTE];
	char key[200];

	bench_series_begin(b);
	for (unsigned i = 0; i < NEW_A_MINUTE; i++) {
		snprintf(key, sizeof(key),
			"job_seconds_total{job=\"batch\",node=\"n%u\",pod=\"pod-%u-%x\"}", i % 20,
			minute, i * 2654435761u);
		ids[i] = bench_series_id(b, key);
	}
	for (unsigned part = 0; part < 60; part++) {
		for (unsigned i = 0; i < NEW_A_MINUTE; i++)
			v[i] = part * i;
		bench_must("append",
			mno_series_append(b->s, b->txn, (int64_t)minute * 60000 + part * 1000 + 1,
				ids, v, NEW_A_MINUTE));
	}
	bench_series_commit(b);
}

static int count_samples(void *arg, const struct mno_run *r)
{
	*(size_t *)arg += r->n;
	return 0;
}

/* Finding and reading what @m takes in [t0, t1]. */
static double read_ms(struct mno_series *s, struct mno_matcher *m, size_t n, int64_t t0, int64_t t1)
{
	double best = 1e9;
	char err[200];

	bench_must("compile", mno_matchers_compile(m, n, err, sizeof(err)));
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct mno_ids ids = {0};
		double from = bench_cpu(), took;
		size_t got = 0;

		bench_must("select", mno_series_select_range(s, m, n, t0, t1, SIZE_MAX, &ids));
		bench_must("read",
			mno_series_scan(s, ids.v, ids.n, t0, t1, count_samples, &got, NULL));
		took = (bench_cpu() - from) * 1e3;
		best = took < best ? took : best;
		bench_must("samples are missing", got ? 0 : -MNO_ECORRUPT);
		mno_ids_done(&ids);
	}
	mno_matchers_done(m, n);
	return best;
}

static void churn_figures(
	struct bench_series *b, const struct workdir *dir, unsigned minutes, double cpu)
{
	struct mno_matcher pod[] = {{MNO_MATCH_EQ, "pod", "pod-50-0", NULL}};
	struct mno_matcher prefix[] = {{MNO_MATCH_RE, "pod", "pod-50-.*", NULL}};
	struct mno_matcher job[] = {
		{MNO_MATCH_EQ, "job", "batch", NULL}, {MNO_MATCH_EQ, "node", "n7", NULL}};
	int64_t end = (int64_t)minutes * 60000, mid = end / 2;
	double rss = (double)bench_status_kib("RssAnon") / 1024;
	struct mno_series_stat st;
	struct mno_store_stat es;
	unsigned k;
	size_t n[4];

	mno_series_stat(b->s, &st);
	bench_must("stat", mno_store_stat(b->store, &es));
	k = (unsigned)((st.series + 500) / 1000);
	printf("bench churn-eq-%uk %.3f ms\n", k,
		match_ms(b->s, pod, 1, INT64_MIN, INT64_MAX, &n[0]));
	printf("bench churn-prefix-%uk %.3f ms\n", k,
		match_ms(b->s, prefix, 1, INT64_MIN, INT64_MAX, &n[1]));
	printf("bench churn-now-%uk %.3f ms\n", k,
		match_ms(b->s, job, 2, end - 300000, end, &n[2]));
	printf("bench churn-then-%uk %.3f ms\n", k,
		match_ms(b->s, job, 2, mid - 300000, mid, &n[3]));
	printf("bench churn-query-%uk %.3f ms\n", k, read_ms(b->s, job, 2, end - 300000, end));
	printf("bench churn-disk-%uk %.0f B\n", k, (double)workdir_bytes(dir) / (double)st.series);
	printf("bench churn-cpu-%uk %.1f us\n", k, cpu * 1e6 / (double)st.series);
	printf("bench churn-rss-%uk %.1f MiB\n", k, rss);
	printf("# %zu, %zu, %zu, %zu series; pages in use %.0f B a series; peak memory %.1f MiB, "
	       "files that are mapped in it\n",
		n[0], n[1], n[2], n[3], (double)es.used_bytes / (double)st.series,
		(double)bench_status_kib("VmHWM") / 1024);
}

static void bench_million(unsigned series)
{
	unsigned minutes = series / NEW_A_MINUTE;
	struct bench_series b;
	struct workdir dir;
	double cpu = 0;

	workdir_new(&dir, "series-labels");
	bench_series_open(&b, dir.path);
	for (unsigned i = 0; i < minutes; i++) {
		double from = bench_cpu();

		one_minute(&b, i);
		cpu += bench_cpu() - from;
		if (i + 1 == minutes / 10 || i + 1 == minutes / 2 || i + 1 == minutes)
			churn_figures(&b, &dir, i + 1, cpu);
	}
	bench_series_close(&b);
	workdir_done(&dir);
}

int main(int argc, char **argv)
{
	bench_million(argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : SERIES);
	bench_fleet();
	return 0;
}
