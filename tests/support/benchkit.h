/* SPDX-License-Identifier: Apache-2.0 */
/* What benchmarks of the store share: the clock, the end, series in a directory of their own. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hostdata.h"
#include "mno/err.h"
#include "mno/series.h"
#include "workdir.h"

static inline double bench_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* CPU time of all threads of this process, in seconds. */
static inline double bench_cpu(void)
{
	return bench_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* Ends the program when @r tells an error. */
static inline void bench_must(const char *what, int r)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, mno_strerror(r));
	exit(1);
}

static inline void *bench_alloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	bench_must("memory", p ? 0 : -ENOMEM);
	return p;
}

static inline int bench_by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Sorts @v; @q in 0..1. */
static inline double bench_quantile(double *v, size_t n, double q)
{
	qsort(v, n, sizeof(*v), bench_by_value);
	return v[(size_t)((double)(n - 1) * q + 0.5)];
}

/* A field of /proc/self/status in KiB ("VmHWM", "RssAnon"), 0 if not there. */
static inline long bench_status_kib(const char *field)
{
	FILE *f = fopen("/proc/self/status", "re");
	size_t len = strlen(field);
	char line[256];
	long v = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ':')
			v = strtol(line + len + 1, NULL, 10);
	if (f)
		fclose(f);
	return v;
}

struct bench_series {
	struct mno_store *store;
	struct mno_series *s;
	struct mno_txn *txn;
};

static inline void bench_series_open(struct bench_series *b, const char *dir)
{
	*b = (struct bench_series){0};
	bench_must("open the store", mno_store_open(dir, NULL, &b->store));
	bench_must("open its series", mno_series_open(b->store, &b->s));
}

static inline void bench_series_close(struct bench_series *b)
{
	b->s = mno_series_close(b->s);
	b->store = mno_store_close(b->store);
}

static inline void bench_series_begin(struct bench_series *b)
{
	bench_must("begin", mno_store_begin(b->store, &b->txn));
}

static inline void bench_series_commit(struct bench_series *b)
{
	bench_must("commit", mno_store_commit(b->store, b->txn));
	mno_series_committed(b->s);
	b->txn = NULL;
}

static inline uint32_t bench_series_id(struct bench_series *b, const char *key)
{
	uint32_t id;

	bench_must(key, mno_series_resolve(b->s, b->txn, key, strlen(key), &id));
	return id;
}

/* Ids of @copies hosts, one after the other; in a transaction of its own. Caller frees. */
static inline uint32_t *bench_series_ids(
	struct bench_series *b, const struct hostdata *h, unsigned copies)
{
	uint32_t *ids = bench_alloc(h->n_series * copies, sizeof(*ids));

	bench_series_begin(b);
	for (unsigned c = 0; c < copies; c++)
		for (size_t i = 0; i < h->n_series; i++) {
			char *key = copies > 1 ? hostdata_key_of(h, i, c) : strdup(h->keys[i]);

			bench_must("memory", key ? 0 : -ENOMEM);
			ids[c * h->n_series + i] = bench_series_id(b, key);
			free(key);
		}
	bench_series_commit(b);
	return ids;
}

/*
 * All of the data, @copies hosts of it, @a_txn ticks in a transaction. *@ret_cpu: seconds once the
 * series are known. Samples.
 */
static inline size_t bench_series_load(struct bench_series *b, const struct hostdata *h,
	unsigned copies, size_t a_txn, bool seal, double *ret_cpu)
{
	uint32_t *ids = bench_series_ids(b, h, copies);
	uint32_t *row = bench_alloc(h->n_series * copies, sizeof(*row));
	double *v = bench_alloc(h->n_series * copies, sizeof(*v));
	double t0 = bench_cpu();
	size_t samples = 0;

	for (size_t tick = 0; tick < h->n_ticks; tick++) {
		size_t n = 0;

		if (!b->txn)
			bench_series_begin(b);
		for (unsigned c = 0; c < copies; c++)
			n += hostdata_row(h, tick, ids + c * h->n_series, row + n, v + n);
		bench_must("append", mno_series_append(b->s, b->txn, h->t_ms[tick], row, v, n));
		samples += n;
		if (seal && tick == h->n_ticks - 1)
			bench_must("seal", mno_series_seal(b->s, b->txn));
		if (tick % a_txn == a_txn - 1 || tick == h->n_ticks - 1)
			bench_series_commit(b);
	}
	*ret_cpu = bench_cpu() - t0;
	free(ids);
	free(row);
	free(v);
	return samples;
}
