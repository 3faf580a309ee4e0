/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents and key-value beside raw LMDB with the same rows, in the same process and file system,
 * full sync both. CPU time of the process, its threads included. Each figure is taken with and
 * without encryption. docs-put: 512 B of JSON with 3 indexes, 10,000 a transaction, ids
 * ascending, as those made from a time are; docs-put-random: ids in random order; docs-get: by id, random, of a million; kv-put, kv-get: 512 B without indexes as percent of
 * raw LMDB; commit: one document a transaction, nothing else going on;
 * commit-disk: as many pages written and synced in the same way by nothing but pwrite().
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../support/benchkit.h"
#include "../support/tmpstate.h"
#include "mno/docs.h"
#include "mno/err.h"
#include "mno/time.h"

#define ROWS    1000000u
#define BATCH   10000u
#define PUTS    300000u
#define GETS    600000u
#define SAMPLE  200000u
#define COMMITS 400u
#define VALUE   512u
#define ID_LEN  12u
#define RAW_MAP (8ULL << 30)

struct bench {
	struct tmpstate tmp;
	struct mno_store *s;
	struct mno_docs *d;
};

static double cpu(void)
{
	return (double)mno_now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9;
}

static void bench_open(struct bench *b, bool plain)
{
	const struct mno_store_opts o = {.sz = sizeof(o), .plain = plain};

	tmpstate_new(&b->tmp);
	bench_must("open", mno_store_open(b->tmp.dir, &o, &b->s));
	bench_must("documents", mno_docs_open(b->s, NULL, &b->d));
}

static void bench_close(struct bench *b)
{
	mno_docs_close(b->d);
	mno_store_close(b->s);
	tmpstate_done(&b->tmp);
}

/* Ids in random order: a permutation of all 2^20, cut to what is wanted. */
static uint32_t scatter(uint32_t i)
{
	i = (i * 0x9e375u + 0x3c6efu) & 0xfffff;
	i ^= i >> 11;
	return (i * 0x7f4a7u) & 0xfffff;
}

static void make_id(uint32_t i, bool random, char *id)
{
	snprintf(id, ID_LEN + 1, "doc-%08u", random ? scatter(i) : i);
}

/* VALUE bytes of JSON as an inventory would have. */
static void make_json(uint32_t i, uint64_t *rng, char *buf)
{
	static const char *const states[] = {"running", "stopped", "failed", "draining"};
	int n = snprintf(buf, VALUE + 1,
		"{\"host\":\"web-%05u\",\"state\":\"%s\",\"load\":%llu.%02llu,\"tags\":[\"prod\","
		"\"eu\"],"
		"\"owner\":{\"team\":\"t%llu\",\"mail\":\"team@example.org\"},\"note\":\"",
		(unsigned)(rnd(rng) % 100000), states[rnd(rng) % 4],
		(unsigned long long)(rnd(rng) % 1000), (unsigned long long)(rnd(rng) % 100),
		(unsigned long long)(rnd(rng) % 500));

	while (n < (int)VALUE - 2)
		buf[n++] = (char)('a' + rnd(rng) % 26);
	memcpy(buf + n, "\"}", 3);
}

struct batch {
	struct mno_doc_op ops[BATCH];
	char ids[BATCH][ID_LEN + 1], values[BATCH][VALUE + 1];
};

static void fill_batch(
	struct batch *b, uint32_t from, uint64_t *rng, enum mno_doc_kind kind, bool random)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		make_id(from + i, random, b->ids[i]);
		make_json(from + i, rng, b->values[i]);
		b->ops[i] = (struct mno_doc_op){.verb = MNO_DOC_PUT,
			.ns = "bench",
			.coll = "c",
			.id = b->ids[i],
			.id_len = ID_LEN,
			.kind = kind,
			.value = b->values[i],
			.len = VALUE};
	}
}

/* Documents put a CPU second. */
static double put_docs(
	struct bench *b, struct batch *batch, uint32_t n, enum mno_doc_kind kind, bool random)
{
	struct mno_docs_error err;
	uint64_t rng = 7;
	double used = 0;

	for (uint32_t at = 0; at < n; at += BATCH) {
		double t0;

		fill_batch(batch, at, &rng, kind, random);
		t0 = cpu();
		bench_must("put", mno_docs_apply(b->d, batch->ops, BATCH, NULL, &err));
		used += cpu() - t0;
	}
	return n / used;
}

static void add_indexes(struct bench *b)
{
	static const struct mno_doc_index defs[] = {
		{.name = "host", .path = "host"},
		{.name = "state", .path = "state"},
		{.name = "load", .path = "load"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		bench_must("index", mno_docs_index_create(b->d, "bench", "c", &defs[i], NULL));
}

static int by_ns(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

struct gets { /* ids made before the clock runs */
	char id[GETS + SAMPLE][ID_LEN + 1];
};

static struct gets *make_gets(void)
{
	struct gets *g = bench_alloc(1, sizeof(*g));
	uint64_t rng = 99;

	for (uint32_t i = 0; i < GETS + SAMPLE; i++)
		make_id((uint32_t)(rnd(&rng) % ROWS), true, g->id[i]);
	return g;
}

/* Gets a CPU second; *@ret_p99 in us, of calls timed one by one. */
static double get_docs(struct bench *b, const struct gets *g, double *ret_p99)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	uint32_t *ns = bench_alloc(SAMPLE, sizeof(*ns));
	struct mno_doc doc;
	double t0 = 0;

	for (uint32_t i = 0; i < GETS + SAMPLE; i++) {
		const char *id = g->id[i];
		uint64_t begun;

		if (i == SAMPLE)
			t0 = cpu();
		if (i >= SAMPLE) {
			bench_must("get", mno_docs_get(b->d, "bench", "c", id, ID_LEN, &buf, &doc));
			continue;
		}
		begun = mno_now_ns(CLOCK_MONOTONIC);
		bench_must("get", mno_docs_get(b->d, "bench", "c", id, ID_LEN, &buf, &doc));
		ns[i] = (uint32_t)(mno_now_ns(CLOCK_MONOTONIC) - begun);
	}
	t0 = cpu() - t0;
	qsort(ns, SAMPLE, sizeof(*ns), by_ns);
	*ret_p99 = ns[SAMPLE - SAMPLE / 100] / 1e3;
	free(ns);
	return GETS / t0;
}

/* --- raw LMDB --------------------------------------------------------------------------------------- */

struct raw {
	struct tmpstate tmp;
	MDB_env *env;
	MDB_dbi doc, idx;
};

static void raw_must(const char *what, int rc)
{
	if (rc) {
		fprintf(stderr, "bench store: raw LMDB: %s: %s\n", what, mdb_strerror(rc));
		exit(1);
	}
}

static void raw_open(struct raw *r)
{
	MDB_txn *t;

	tmpstate_new(&r->tmp);
	raw_must("create", mdb_env_create(&r->env));
	mdb_env_set_maxdbs(r->env, 4);
	mdb_env_set_mapsize(r->env, RAW_MAP);
	raw_must("open",
		mdb_env_open(r->env, r->tmp.dir, MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT, 0600));
	raw_must("begin", mdb_txn_begin(r->env, NULL, 0, &t));
	raw_must("dbi", mdb_dbi_open(t, "doc", MDB_CREATE, &r->doc));
	raw_must("dbi", mdb_dbi_open(t, "idx", MDB_CREATE, &r->idx));
	raw_must("commit", mdb_txn_commit(t));
}

static void raw_close(struct raw *r)
{
	mdb_env_close(r->env);
	tmpstate_done(&r->tmp);
}

/* An index key of about the size that ours has, from the value's bytes. */
struct raw_key {
	char b[32];
	size_t n;
};

static int raw_order(const void *a, const void *b)
{
	const struct raw_key *x = a, *y = b;
	int r = memcmp(x->b, y->b, MNO_MIN(x->n, y->n));

	return r ? r : (x->n > y->n) - (x->n < y->n);
}

static void raw_batch(struct raw *r, const struct batch *b, bool indexes, struct raw_key *keys)
{
	MDB_val k, v;
	MDB_cursor *c;
	MDB_txn *t;
	size_t n = 0;

	raw_must("begin", mdb_txn_begin(r->env, NULL, 0, &t));
	for (uint32_t i = 0; i < BATCH; i++) {
		k = (MDB_val){ID_LEN, (void *)b->ids[i]};
		v = (MDB_val){VALUE, (void *)b->values[i]};
		raw_must("put", mdb_put(t, r->doc, &k, &v, 0));
		for (int x = 0; indexes && x < 3; x++, n++)
			keys[n].n = (size_t)snprintf(keys[n].b, sizeof(keys[n].b), "%d%.*s%s", x,
				x ? 8 : 10, b->values[i] + 9 + 20 * x, b->ids[i]);
	}
	qsort(keys, n, sizeof(*keys), raw_order);
	raw_must("cursor", mdb_cursor_open(t, r->idx, &c));
	for (size_t i = 0; i < n; i++) {
		k = (MDB_val){keys[i].n, keys[i].b};
		v = (MDB_val){0, NULL};
		raw_must("put", mdb_cursor_put(c, &k, &v, 0));
	}
	mdb_cursor_close(c);
	raw_must("commit", mdb_txn_commit(t));
}

static double raw_put(struct raw *r, struct batch *batch, uint32_t n, bool indexes, bool random)
{
	struct raw_key *keys = calloc((size_t)BATCH * 3, sizeof(*keys));
	uint64_t rng = 7;
	double used = 0;

	for (uint32_t at = 0; at < n; at += BATCH) {
		double t0;

		fill_batch(batch, at, &rng, MNO_DOC_JSON, random);
		t0 = cpu();
		raw_batch(r, batch, indexes, keys);
		used += cpu() - t0;
	}
	free(keys);
	return n / used;
}

/* As our get does: a read transaction each, the value copied out. */
static double raw_get(struct raw *r, const struct gets *g)
{
	char copy[VALUE];
	MDB_txn *t;
	double t0 = 0;

	for (uint32_t i = 0; i < GETS + SAMPLE; i++) {
		MDB_val k = {ID_LEN, (void *)g->id[i]}, v;

		if (i == SAMPLE)
			t0 = cpu();
		raw_must("begin", mdb_txn_begin(r->env, NULL, MDB_RDONLY, &t));
		raw_must("get", mdb_get(t, r->doc, &k, &v));
		memcpy(copy, v.mv_data, VALUE);
		__asm__ volatile("" : : "r"(copy) : "memory");
		mdb_txn_abort(t);
	}
	return GETS / (cpu() - t0);
}

/* --- commits ---------------------------------------------------------------------------------------- */

/* What the disk takes for a commit's work without any of ours: DISK_PAGES scattered over a file that
 * has its blocks, fdatasync(), then a page with O_DSYNC, as LMDB writes its meta page. */
#define DISK_PAGES 13u /* of such a commit */
#define DISK_FILE  4096u

struct disk {
	int fd, sync_fd;
	uint64_t rng;
	char page[4096];
};

static void disk_open(struct disk *f, const char *dir)
{
	char path[PATH_MAX];

	*f = (struct disk){.rng = 17};
	snprintf(path, sizeof(path), "%s/disk", dir);
	f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	f->sync_fd = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
	bench_must("disk", f->fd < 0 || f->sync_fd < 0 ? -errno : 0);
	for (off_t i = 0; i < DISK_FILE; i++)
		bench_must("disk", pwrite(f->fd, f->page, 4096, i * 4096) == 4096 ? 0 : -EIO);
	bench_must("disk", fsync(f->fd) < 0 ? -errno : 0);
}

static void disk_page(struct disk *f, int fd, off_t page)
{
	bench_must("disk", pwrite(fd, f->page, 4096, page * 4096) == 4096 ? 0 : -EIO);
}

static uint32_t disk_write(struct disk *f)
{
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);

	for (unsigned i = 0; i < DISK_PAGES; i++)
		disk_page(f, f->fd, 1 + (off_t)(rnd(&f->rng) % (DISK_FILE - 1)));
	bench_must("disk", fdatasync(f->fd) < 0 ? -errno : 0);
	disk_page(f, f->sync_fd, 0);
	return (uint32_t)(mno_now_ns(CLOCK_MONOTONIC) - t0);
}

static void commits(struct bench *b, struct raw *r, struct batch *batch)
{
	uint32_t ours[COMMITS], theirs[COMMITS], disk[COMMITS];
	struct mno_docs_error err;
	struct disk file;
	uint64_t rng = 3;

	disk_open(&file, b->tmp.dir);

	fill_batch(batch, 0, &rng, MNO_DOC_JSON, true);
	for (uint32_t i = 0; i < COMMITS; i++) {
		MDB_val k = {ID_LEN, batch->ids[i]}, v = {VALUE, batch->values[i]};
		uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);
		MDB_txn *t;

		bench_must("put", mno_docs_apply(b->d, &batch->ops[i], 1, NULL, &err));
		ours[i] = (uint32_t)(mno_now_ns(CLOCK_MONOTONIC) - t0);
		t0 = mno_now_ns(CLOCK_MONOTONIC);
		raw_must("begin", mdb_txn_begin(r->env, NULL, 0, &t));
		raw_must("put", mdb_put(t, r->doc, &k, &v, 0));
		raw_must("commit", mdb_txn_commit(t));
		theirs[i] = (uint32_t)(mno_now_ns(CLOCK_MONOTONIC) - t0);
		disk[i] = disk_write(&file);
	}
	close(file.fd);
	close(file.sync_fd);
	qsort(ours, COMMITS, sizeof(*ours), by_ns);
	qsort(theirs, COMMITS, sizeof(*theirs), by_ns);
	qsort(disk, COMMITS, sizeof(*disk), by_ns);
	printf("bench commit-disk %.0f us\n", disk[COMMITS / 2] / 1e3);
	printf("bench commit-disk-p99 %.0f us\n", disk[COMMITS - COMMITS / 100] / 1e3);
	printf("bench commit %.0f us ratio %.2f peer lmdb\n", ours[COMMITS / 2] / 1e3,
		(double)theirs[COMMITS / 2] / ours[COMMITS / 2]);
	printf("bench commit-p99 %.0f us ratio %.2f peer lmdb\n",
		ours[COMMITS - COMMITS / 100] / 1e3,
		(double)theirs[COMMITS - COMMITS / 100] / ours[COMMITS - COMMITS / 100]);
}

/* --- groups ----------------------------------------------------------------------------------------- */

#define GROUP_THREADS 64u
#define GROUP_ROWS    100u /* of one request */
#define GROUP_EACH    20u  /* requests of a thread */

struct writer {
	pthread_t id;
	struct mno_docs *d;
	const struct batch *values;
	uint32_t first; /* row; no two threads have one in common */
};

static void *write_requests(void *arg)
{
	struct writer *w = arg;
	struct mno_doc_op ops[GROUP_ROWS];
	char ids[GROUP_ROWS][ID_LEN + 1];
	struct mno_docs_error err;

	for (uint32_t i = 0, row = w->first; i < GROUP_EACH; i++) {
		for (uint32_t k = 0; k < GROUP_ROWS; k++, row++) {
			ops[k] = w->values->ops[row % BATCH];
			make_id(row, true, ids[k]);
			ops[k].id = ids[k];
		}
		bench_must("put", mno_docs_apply(w->d, ops, GROUP_ROWS, NULL, &err));
	}
	return NULL;
}

/* Small durable requests from many threads at once: rows a second of wall time, and of CPU time. */
static void groups(struct batch *batch, bool plain, bool indexes)
{
	struct writer w[GROUP_THREADS];
	const double rows = GROUP_THREADS * GROUP_EACH * GROUP_ROWS;
	struct bench b;
	uint64_t rng = 5, t0;
	double used;

	bench_open(&b, plain);
	if (indexes)
		add_indexes(&b);
	fill_batch(batch, 0, &rng, MNO_DOC_JSON, true);
	t0 = mno_now_ns(CLOCK_MONOTONIC);
	used = cpu();
	for (unsigned i = 0; i < GROUP_THREADS; i++) {
		w[i] = (struct writer){
			.d = b.d, .values = batch, .first = i * GROUP_EACH * GROUP_ROWS};
		bench_must("thread", -pthread_create(&w[i].id, NULL, write_requests, &w[i]));
	}
	for (unsigned i = 0; i < GROUP_THREADS; i++)
		pthread_join(w[i].id, NULL);
	used = cpu() - used;
	printf("bench group-rows%s%s %.1f K/s\n", indexes ? "-indexed" : "", plain ? "-plain" : "",
		rows / ((double)(mno_now_ns(CLOCK_MONOTONIC) - t0) / 1e9) / 1e3);
	printf("bench group-rows-cpu%s%s %.1f K/s\n", indexes ? "-indexed" : "",
		plain ? "-plain" : "", rows / used / 1e3);
	bench_close(&b);
}

static void puts_with_indexes(struct batch *batch, bool plain, bool random)
{
	struct bench b;
	struct raw r;
	double put, raw;

	bench_open(&b, plain);
	raw_open(&r);
	add_indexes(&b);
	put = put_docs(&b, batch, PUTS, MNO_DOC_JSON, random);
	raw = raw_put(&r, batch, PUTS, true, random);
	printf("bench docs-put%s%s %.1f K/s ratio %.2f peer lmdb\n", random ? "-random" : "",
		plain ? "-plain" : "", put / 1e3, put / raw);
	if (!plain && !random)
		commits(&b, &r, batch);
	raw_close(&r);
	bench_close(&b);
}

static void key_value(struct batch *batch, bool plain)
{
	struct bench b;
	struct raw r;
	double put, raw, get, p99;
	struct gets *gets = make_gets();

	bench_open(&b, plain);
	raw_open(&r);
	put = put_docs(&b, batch, ROWS, MNO_DOC_BINARY, true);
	raw = raw_put(&r, batch, ROWS, false, true);
	printf("bench kv-put%s %.1f %% ratio %.2f peer lmdb\n", plain ? "" : "-encrypted",
		100 * put / raw, put / raw);
	get = get_docs(&b, gets, &p99);
	raw = raw_get(&r, gets);
	printf("bench docs-get%s %.1f K/s ratio %.2f peer lmdb\n", plain ? "-plain" : "", get / 1e3,
		get / raw);
	printf("bench docs-get-p99%s %.1f us\n", plain ? "-plain" : "", p99);
	printf("bench kv-get%s %.1f %% ratio %.2f peer lmdb\n", plain ? "" : "-encrypted",
		100 * get / raw, get / raw);
	free(gets);
	raw_close(&r);
	bench_close(&b);
}

/* With an argument only the groups whose names begin with it: docs-put, docs-random, kv, group. */
static bool wanted(int argc, char **argv, const char *group)
{
	return argc < 2 || !strncmp(group, argv[1], strlen(argv[1]));
}

int main(int argc, char **argv)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return 1;
	for (int plain = 0; plain < 2; plain++) {
		if (wanted(argc, argv, "docs-put"))
			puts_with_indexes(batch, plain, false);
		if (wanted(argc, argv, "docs-random"))
			puts_with_indexes(batch, plain, true);
		if (wanted(argc, argv, "kv"))
			key_value(batch, plain);
		if (wanted(argc, argv, "group"))
			for (int indexes = 0; indexes < 2; indexes++)
				groups(batch, plain, indexes);
	}
	free(batch);
	return 0;
}
