/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus text of a fleet of 8 recorded hosts, a scrape after the other, to durable blocks: CPU
 * time of reading, storing and committing, not of writing the text. text-parse: the reader alone.
 */
#include <errno.h>

#include "../support/benchkit.h"
#include "mno/buf.h"
#include "mno/json.h"
#include "mno/load.h"

#define COPIES      8
#define TICKS_A_RUN 32 /* scrapes in memory at a time: 26 MiB of text */
#define PIECE       (256u << 10)

struct run {
	struct bench_series b;
	struct mno_load *load;
	struct mno_ingest *ingest;
	uint64_t stored, refused, parsed;
};

/* What the agent's writer does with a batch. */
static int on_full(void *arg, struct mno_batch *batch)
{
	struct run *r = arg;
	struct mno_load_count count;

	bench_series_begin(&r->b);
	bench_must("store", mno_batch_store(batch, r->b.txn, &count));
	bench_series_commit(&r->b);
	r->stored += count.samples;
	r->refused += count.refused;
	mno_batch_free(batch);
	return 0;
}

static int no_series(void *arg, uint32_t series, const char *key, size_t len)
{
	return 0;
}

static int no_forget(void *arg)
{
	return 0;
}

static int no_samples(void *arg, const struct mno_ingest_sample *v, size_t n)
{
	((struct run *)arg)->parsed += n;
	return 0;
}

static const struct mno_ingest_sink nowhere = {no_series, no_forget, no_samples, NULL};

static void put_scrapes(struct mno_buf *b, const struct hostdata *h, char **keys, size_t tick)
{
	size_t end = MNO_MIN(tick + TICKS_A_RUN, h->n_ticks);

	mno_buf_reset(b);
	for (; tick < end; tick++)
		for (size_t s = 0; s < h->n_series * COPIES; s++) {
			double v = h->v[tick * h->n_series + s % h->n_series];
			char value[40];

			if (!hostdata_has(v))
				continue;
			mno_f64_format(v, value);
			mno_buf_addf(b, "%s %s %lld\n", keys[s], value, (long long)h->t_ms[tick]);
		}
	bench_must("memory", b->err);
}

static double feed(struct mno_ingest *p, const struct mno_buf *b)
{
	double t0 = bench_cpu();

	for (size_t i = 0; i < b->len; i += PIECE)
		bench_must("feed", mno_ingest_feed(p, b->data + i, MNO_MIN(PIECE, b->len - i)));
	return bench_cpu() - t0;
}

static void open_run(struct run *r, const char *dir)
{
	struct mno_load_opts lo = {.sz = sizeof(lo), .full = on_full, .arg = r};

	*r = (struct run){0};
	bench_series_open(&r->b, dir);
	lo.series = r->b.s;
	bench_must("load", mno_load_new(&lo, &r->load));
	bench_must("ingest", mno_ingest_new(mno_ingest_format_find("prometheus-text"), NULL,
				     mno_load_sink(), r->load, &r->ingest));
}

static double end_run(struct run *r)
{
	double t0 = bench_cpu();

	bench_must("end", mno_ingest_end(r->ingest, NULL));
	bench_must("flush", mno_load_flush(r->load));
	t0 = bench_cpu() - t0;
	r->ingest = mno_ingest_free(r->ingest);
	r->load = mno_load_free(r->load);
	bench_series_close(&r->b);
	return t0;
}

int main(void)
{
	struct mno_ingest *alone;
	struct hostdata h;
	struct workdir w;
	struct mno_buf text = {0};
	struct run r;
	double all = 0, parse = 0, bytes = 0;
	char **keys;

	hostdata_need(&h);
	workdir_new(&w, "text");
	keys = bench_alloc(h.n_series * COPIES, sizeof(*keys));
	for (size_t s = 0; s < h.n_series * COPIES; s++)
		keys[s] = hostdata_key_of(&h, s % h.n_series, (unsigned)(s / h.n_series));
	open_run(&r, w.path);
	bench_must("ingest", mno_ingest_new(mno_ingest_format_find("prometheus-text"), NULL,
				     &nowhere, &r, &alone));
	for (size_t tick = 0; tick < h.n_ticks; tick += TICKS_A_RUN) {
		put_scrapes(&text, &h, keys, tick);
		bytes += (double)text.len;
		parse += feed(alone, &text);
		all += feed(r.ingest, &text);
	}
	bench_must("end", mno_ingest_end(alone, NULL));
	mno_ingest_free(alone);
	all += end_run(&r);
	if (r.parsed != h.n_samples * COPIES || r.stored != r.parsed || r.refused)
		bench_must("samples are missing", -MNO_ECORRUPT);
	printf("bench text-ingest %.2f M/s\n", (double)r.stored / all / 1e6);
	printf("bench text-parse %.2f M/s\n", (double)r.parsed / parse / 1e6);
	printf("# %llu samples, %.1f bytes a line; reading alone %.1f ns a line, %.0f MB/s\n",
		(unsigned long long)r.stored, bytes / (double)r.parsed,
		parse / (double)r.parsed * 1e9, bytes / parse / 1e6);
	for (size_t s = 0; s < h.n_series * COPIES; s++)
		free(keys[s]);
	free(keys);
	mno_buf_done(&text);
	workdir_done(&w);
	hostdata_done(&h);
	return 0;
}
