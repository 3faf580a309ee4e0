/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migrate_docs: documents of form 1 are put in form 2 and compared while they are read: 512 bytes
 * of JSON each, three indexes, encrypted. Reads are of random ids on one thread, by its CPU time
 * and by the clock, alone and meanwhile.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../../libmno/src/docs/docs_internal.h"
#include "../support/benchkit.h"
#include "../support/tmpstate.h"

#define DOCS  200000u
#define BATCH 1000u
#define ALONE 1.0 /* seconds */

struct batch {
	unsigned from;
};

static int put_batch(void *arg, struct mno_docs_txn *t)
{
	struct batch *b = arg;
	char id[16], text[600];
	int r = 0;

	t->state.form = DOCS_FORM_1;
	for (unsigned i = b->from; i < b->from + BATCH && r == 0; i++) {
		struct mno_doc_op op = {.verb = MNO_DOC_PUT,
			.ns = "bench",
			.coll = "rows",
			.id = id,
			.id_len = (size_t)snprintf(id, sizeof(id), "%08u", i),
			.kind = MNO_DOC_JSON,
			.value = text};

		op.len = (size_t)snprintf(text, sizeof(text),
			"{\"name\":\"row-%u\",\"rank\":%u,\"group\":\"g%u\",\"text\":\"%0*u\"}", i,
			i * 2654435761u, i % 100, 512 - 60, i);
		r = mno_docs_txn_op(t, &op, NULL);
	}
	return r;
}

static void fill(struct mno_docs *d)
{
	static const char *const paths[] = {"name", "rank", "group"};
	struct batch b = {0};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct mno_doc_index x = {.name = paths[i], .path = paths[i]};

		bench_must("index", mno_docs_index_create(d, "bench", "rows", &x, NULL));
	}
	for (; b.from < DOCS; b.from += BATCH)
		bench_must("put", mno_docs_write(d, put_batch, &b, NULL));
}

struct reads {
	struct mno_docs *d;
	atomic_bool stop;
	uint64_t n;
	double cpu, wall;
};

static void *read_main(void *arg)
{
	struct reads *q = arg;
	struct mno_buf b = {0};
	struct mno_doc doc;
	uint64_t seed = 42;
	char id[16];

	q->cpu = -bench_clock(CLOCK_THREAD_CPUTIME_ID);
	q->wall = -bench_clock(CLOCK_MONOTONIC);
	for (q->n = 0; !q->stop; q->n++) {
		int n = snprintf(id, sizeof(id), "%08u", (unsigned)(rnd(&seed) % DOCS));

		bench_must("get", mno_docs_get(q->d, "bench", "rows", id, (size_t)n, &b, &doc));
	}
	q->cpu += bench_clock(CLOCK_THREAD_CPUTIME_ID);
	q->wall += bench_clock(CLOCK_MONOTONIC);
	mno_buf_done(&b);
	return NULL;
}

static enum mno_docs_form_stage stage(struct mno_docs *d)
{
	struct mno_docs_form f;

	bench_must("form", mno_docs_form(d, &f));
	bench_must("failed", f.failed ? -EIO : 0);
	return f.stage;
}

static void read_until(struct reads *q, double seconds)
{
	struct timespec ts = {.tv_nsec = 5000000};
	double end = bench_clock(CLOCK_MONOTONIC) + seconds;
	pthread_t th;

	q->stop = false;
	bench_must("thread", -pthread_create(&th, NULL, read_main, q));
	while (seconds > 0 ? bench_clock(CLOCK_MONOTONIC) < end : stage(q->d) != MNO_DOCS_FORM_DONE)
		nanosleep(&ts, NULL);
	q->stop = true;
	pthread_join(th, NULL);
}

int main(void)
{
	struct mno_docs_opts o = {.sz = sizeof(o), .no_worker = true, .feed_without_values = true};
	struct reads alone, meanwhile;
	struct mno_store *s;
	struct mno_docs *d;
	struct tmpstate t;
	double cpu, wall;

	tmpstate_new(&t);
	bench_must("store", mno_store_open(t.dir, NULL, &s));
	bench_must("documents", mno_docs_open(s, &o, &d));
	fill(d);
	alone = (struct reads){.d = d};
	read_until(&alone, ALONE);
	mno_docs_close(d);
	o.no_worker = false;
	cpu = -bench_cpu();
	wall = -bench_clock(CLOCK_MONOTONIC);
	bench_must("documents", mno_docs_open(s, &o, &d));
	meanwhile = (struct reads){.d = d};
	read_until(&meanwhile, 0);
	cpu += bench_cpu() - meanwhile.cpu;
	wall += bench_clock(CLOCK_MONOTONIC);
	printf("migrate_docs %.0f K/s (documents a second of CPU, rewritten and compared; %.0f K/s "
	       "by "
	       "the clock; reads %.0f K/s of CPU alone, %.0f K/s meanwhile; by the clock %.0f K/s "
	       "and %.0f K/s: %.2f times slower)\n",
		DOCS / cpu / 1e3, DOCS / wall / 1e3, (double)alone.n / alone.cpu / 1e3,
		(double)meanwhile.n / meanwhile.cpu / 1e3, (double)alone.n / alone.wall / 1e3,
		(double)meanwhile.n / meanwhile.wall / 1e3,
		(double)alone.n / alone.wall / ((double)meanwhile.n / meanwhile.wall));
	mno_docs_close(d);
	mno_store_close(s);
	tmpstate_done(&t);
	return 0;
}
