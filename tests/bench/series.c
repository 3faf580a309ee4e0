/* SPDX-License-Identifier: Apache-2.0 */
/*
 * series-size: bytes of the store per sample, all included, for a recorded host (1 Hz, jittered).
 * series-ingest: resolved series to committed rows. series-scan: all columns read once.
 * CPU time of this process. Arguments: [path of host_metrics.csv.zst]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "../support/tmpstate.h"
#include "mno/err.h"
#include "mno/series.h"
#include "mno/time.h"

#define DATA_FILE  "../shared/data/host_metrics.csv.zst"
#define SERIES_MAX 4096
#define SYNTHETIC  10000

struct store {
	struct tmpstate tmp;
	struct mno_store *e;
	struct mno_series *s;
};

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, int r)
{
	fprintf(stderr, "bench series: %s: %s\n", what, mno_strerror(r));
	exit(1);
}

static void open_store(struct store *st)
{
	int r;

	tmpstate_new(&st->tmp);
	r = mno_store_open(st->tmp.dir, NULL, &st->e);
	if (r == 0)
		r = mno_series_open(st->e, &st->s);
	if (r < 0)
		die("open", r);
}

static void close_store(struct store *st)
{
	mno_series_close(st->s);
	mno_store_close(st->e);
	tmpstate_done(&st->tmp);
}

static void write_row(
	struct store *st, int64_t t_ms, const uint32_t *ids, const double *v, size_t n)
{
	struct mno_txn *t;
	int r = mno_store_begin(st->e, &t);

	if (r == 0)
		r = mno_series_append(st->s, t, t_ms, ids, v, n);
	if (r == 0)
		r = mno_store_commit(st->e, t);
	if (r < 0)
		die("append", r);
	mno_series_committed(st->s);
}

static void resolve_all(struct store *st, char *const *keys, uint32_t *ids, size_t n)
{
	struct mno_txn *t;
	int r = mno_store_begin(st->e, &t);

	for (size_t i = 0; i < n && r == 0; i++)
		r = mno_series_resolve(st->s, t, keys[i], strlen(keys[i]), &ids[i]);
	if (r == 0)
		r = mno_store_commit(st->e, t);
	if (r < 0)
		die("resolve", r);
	mno_series_committed(st->s);
}

/* --- the recorded host ---------------------------------------------------------------------- */

/* Samples of all series in order of time; a scrape's samples are within a second. */
struct sample {
	int64_t t;
	uint32_t series;
	double v;
};
struct host {
	char *keys[SERIES_MAX];
	size_t n_series, n, cap;
	struct sample *v;
};

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "rb");
	size_t n = 0, cap = 4 << 20, out;
	char *z = malloc(cap), *text;

	if (!f || !z) {
		free(z);
		return NULL;
	}
	n = fread(z, 1, cap, f);
	fclose(f);
	out = (size_t)256 << 20;
	text = malloc(out);
	out = text ? ZSTD_decompress(text, out - 1, z, n) : 0;
	free(z);
	if (!text || ZSTD_isError(out)) {
		free(text);
		return NULL;
	}
	text[out] = '\0';
	*ret_len = out;
	return text;
}

static void add_sample(struct host *h, int64_t t, double v)
{
	if (h->n == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 1 << 20;
		h->v = realloc(h->v, h->cap * sizeof(*h->v));
		if (!h->v)
			die("memory", -ENOMEM);
	}
	h->v[h->n++] = (struct sample){t, (uint32_t)h->n_series - 1, v};
}

static int by_time(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;

	if (x->t != y->t)
		return x->t < y->t ? -1 : 1;
	return x->series < y->series ? -1 : x->series > y->series;
}

static void parse_host(char *text, struct host *h)
{
	int64_t t = 0;

	for (char *line = text, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (line[0] == 'S') {
			if (h->n_series == SERIES_MAX)
				die("too many series", -E2BIG);
			h->keys[h->n_series++] = line + 2;
			t = 0;
		} else {
			char *comma;

			t += strtoll(line, &comma, 10);
			if (*comma == ',')
				add_sample(h, t, strtod(comma + 1, NULL));
		}
	}
	qsort(h->v, h->n, sizeof(*h->v), by_time);
}

/* Rows as an agent makes them: one time for all that one tick reads. */
static size_t write_host(struct store *st, const struct host *h)
{
	static uint32_t ids[SERIES_MAX], row_ids[SERIES_MAX];
	static double values[SERIES_MAX];
	static size_t row_of[SERIES_MAX];
	size_t n = 0, rows = 0, stored = 0;
	int64_t t = 0;

	resolve_all(st, h->keys, ids, h->n_series);
	for (size_t i = 0; i < h->n; i++) {
		const struct sample *s = &h->v[i];

		if (n && (s->t - t > 500 || row_of[s->series] == rows + 1)) {
			write_row(st, t, row_ids, values, n);
			rows++;
			stored += n;
			n = 0;
		}
		if (!n)
			t = s->t;
		row_of[s->series] = rows + 1;
		row_ids[n] = ids[s->series];
		values[n++] = s->v;
	}
	if (n)
		write_row(st, t, row_ids, values, n);
	return stored + n;
}

static void bench_size(const char *path)
{
	struct mno_series_stat ss;
	struct mno_store_stat es;
	static struct host h;
	struct store st;
	size_t len, stored;
	char *text = read_file(path, &len);

	if (!text) {
		printf("skip series-size: no %s\n", path);
		return;
	}
	parse_host(text, &h);
	open_store(&st);
	stored = write_host(&st, &h);
	mno_series_stat(st.s, &ss);
	if (mno_store_stat(st.e, &es) < 0 || stored != h.n || ss.samples < h.n)
		die("samples are missing", -MNO_ECORRUPT);
	/* rivals on the same data: Prometheus 2.42, VictoriaMetrics 1.79 (values and index) */
	printf("bench series-size %.3f B ratio %.2f peer prometheus\n",
		(double)es.used_bytes / (double)h.n, 2.08 * (double)h.n / (double)es.used_bytes);
	printf("# %zu samples of %zu series; blocks alone %.3f B a sample; memory %.1f MiB\n", h.n,
		h.n_series, (double)ss.block_bytes / (double)h.n,
		(double)ss.memory_bytes / (1 << 20));
	close_store(&st);
	free(h.v);
	free(text);
}

/* --- synthetic ---------------------------------------------------------------------------------- */

static int scan_column(void *arg, const struct mno_column *c)
{
	double sum = 0;

	for (size_t i = 0; i < c->n; i++)
		sum += c->v[i];
	*(double *)arg += sum;
	return 0;
}

/* The mix of a host: three of five constant, one in six changes a tick. */
static void next_values(double *v, size_t n, uint64_t *seed)
{
	for (size_t i = 0; i < n; i++) {
		if (i % 5 < 3)
			continue;
		if (rnd(seed) % 10 < 4)
			v[i] += i % 5 == 3 ? (double)(rnd(seed) % 1000)
					   : (double)(rnd(seed) % 100) / 100;
	}
}

static void bench_speed(void)
{
	enum { ROWS = 768 };
	static char *keys[SYNTHETIC];
	static uint32_t ids[SYNTHETIC];
	static double v[SYNTHETIC];
	uint64_t seed = 42;
	double t0, ingest = 0, scan, sum = 0;
	struct store st;
	int r;

	open_store(&st);
	for (size_t i = 0; i < SYNTHETIC; i++)
		if (asprintf(&keys[i], "m%zu{i=\"%zu\"}", i % 100, i) < 0)
			die("memory", -ENOMEM);
	resolve_all(&st, keys, ids, SYNTHETIC);
	for (int64_t t = 1; t <= ROWS; t++) {
		next_values(v, SYNTHETIC, &seed);
		t0 = cpu_seconds();
		write_row(&st, t * 1000, ids, v, SYNTHETIC);
		ingest += cpu_seconds() - t0;
	}
	printf("bench series-ingest %.2f M/s\n", (double)SYNTHETIC * ROWS / ingest / 1e6);
	t0 = cpu_seconds();
	r = mno_series_read(st.s, ids, SYNTHETIC, 0, INT64_MAX, SIZE_MAX, scan_column, &sum);
	scan = cpu_seconds() - t0;
	if (r < 0)
		die("read", r);
	printf("bench series-scan %.1f M/s\n", (double)SYNTHETIC * ROWS / scan / 1e6);
	close_store(&st);
	for (size_t i = 0; i < SYNTHETIC; i++)
		free(keys[i]);
}

int main(int argc, char **argv)
{
	bench_size(argc > 1 ? argv[1] : DATA_FILE);
	bench_speed();
	return 0;
}
