/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed workloads whose instructions are counted by instructions.sh. Usage: instructions WORK N:
 * makes ready what WORK needs and does it N times; what N = 1 takes more than N = 0 is its price.
 * Without arguments: the names. A new workload is a function and a row of works[].
 */
#include <errno.h>

#include "../support/benchkit.h"
#include "../support/tmpstate.h"
#include "mno/docs.h"
#include "mno/json.h"

#define SERIES 640

struct rig {
	struct workdir dir;
	struct bench_series b;
	uint32_t ids[SERIES];
	double v[SERIES];
	int64_t t_ms;
	uint64_t seed;
};

static void rig_open(struct rig *g)
{
	char key[96];

	g->seed = 42;
	workdir_new(&g->dir, "instructions");
	bench_series_open(&g->b, g->dir.path);
	bench_series_begin(&g->b);
	for (unsigned i = 0; i < SERIES; i++) {
		snprintf(key, sizeof(key), "metric_%u{device=\"d%u\",job=\"node\"}", i % 40, i);
		g->ids[i] = bench_series_id(&g->b, key);
	}
	bench_series_commit(&g->b);
}

static void rig_close(struct rig *g)
{
	bench_series_close(&g->b);
	workdir_done(&g->dir);
}

/* The mix of a host: three of five never change, of the others two in five do at a tick. */
static void next_values(struct rig *g)
{
	g->t_ms += 1000;
	for (unsigned i = 0; i < SERIES; i++)
		if (i % 5 >= 3 && rnd(&g->seed) % 10 < 4)
			g->v[i] += (double)(rnd(&g->seed) % 1000) / (i % 5 == 3 ? 1 : 100);
}

static void rows(struct rig *g, unsigned n, unsigned a_txn)
{
	for (unsigned i = 0; i < n; i++) {
		next_values(g);
		if (!g->b.txn)
			bench_series_begin(&g->b);
		bench_must("append",
			mno_series_append(g->b.s, g->b.txn, g->t_ms, g->ids, g->v, SERIES));
		if ((i + 1) % a_txn == 0 || i + 1 == n)
			bench_series_commit(&g->b);
	}
}

/* 200 commits of one row, far from the end of a block */
static void ingest(unsigned n)
{
	struct rig g = {0};

	rig_open(&g);
	rows(&g, 8, 1);
	while (n--)
		rows(&g, 200, 1);
	rig_close(&g);
}

/* 1,100 rows in commits of 64: blocks are sealed */
static void seal(unsigned n)
{
	struct rig g = {0};

	rig_open(&g);
	while (n--)
		rows(&g, 1100, 64);
	rig_close(&g);
}

static int sum_column(void *arg, const struct mno_column *c)
{
	for (size_t i = 0; i < c->n; i++)
		*(double *)arg += c->v[i];
	return 0;
}

/* all samples of 1,100 rows, ten times */
static void scan(unsigned n)
{
	struct rig g = {0};
	double sum = 0;

	rig_open(&g);
	rows(&g, 1100, 64);
	for (n *= 10; n > 0; n--)
		bench_must("read", mno_series_read(g.b.s, g.ids, SERIES, 0, INT64_MAX, SIZE_MAX,
					   sum_column, &sum));
	rig_close(&g);
	if (sum < 0)
		printf("# %f\n", sum);
}

/* half of the series by a regular expression, 20 times */
static void match(unsigned n)
{
	static char label[] = "device", re[] = "d[0-9]*[02468]";
	struct rig g = {0};
	char err[128];

	rig_open(&g);
	for (n *= 20; n > 0; n--) {
		struct mno_matcher m = {.op = MNO_MATCH_RE, .name = label, .value = re};
		struct mno_ids ids = {0};

		bench_must("matcher", mno_matchers_compile(&m, 1, err, sizeof(err)));
		bench_must("select", mno_series_select(g.b.s, &m, 1, SIZE_MAX, &ids));
		bench_must("half of them", ids.n == SERIES / 2 ? 0 : -EINVAL);
		mno_matchers_done(&m, 1);
		mno_ids_done(&ids);
	}
	rig_close(&g);
}

/* an answer of 10,000 objects */
static void json(unsigned n)
{
	uint64_t seed = 7;

	while (n--) {
		struct mno_buf out = {0};
		struct mno_json j;

		mno_json_init(&j, &out);
		mno_json_arr(&j);
		for (unsigned i = 0; i < 10000; i++) {
			mno_json_obj(&j);
			mno_json_kstr(
				&j, "name", "a \"name\" with\nescapes and text – of two bytes");
			mno_json_ku64(&j, "count", rnd(&seed));
			mno_json_kf64(&j, "value", (double)(rnd(&seed) % 100000) / 1000);
			mno_json_kbool(&j, "ok", i % 2);
			mno_json_end(&j);
		}
		mno_json_end_arr(&j);
		bench_must("JSON", out.err);
		mno_buf_done(&out);
	}
}

/* --- documents -------------------------------------------------------------------------------- */

#define DOCS 500

struct docs_rig {
	struct workdir dir;
	struct mno_store *store;
	struct mno_docs *docs;
	struct mno_doc_op ops[DOCS];
	char ids[DOCS][16], values[DOCS][512];
};

static void docs_open(struct docs_rig *g)
{
	struct mno_docs_opts o = {.sz = sizeof(o), .no_worker = true};
	static const struct mno_doc_index x[] = {{.name = "name", .path = "name"},
		{.name = "number", .path = "number"},
		{.name = "tags", .path = "tags", .multi = true}};

	workdir_new(&g->dir, "instructions");
	bench_must("open", mno_store_open(g->dir.path, NULL, &g->store));
	bench_must("open documents", mno_docs_open(g->store, &o, &g->docs));
	for (size_t i = 0; i < ARRAY_SIZE(x); i++)
		bench_must("index", mno_docs_index_create(g->docs, "bench", "docs", &x[i], NULL));
	while (mno_docs_work(g->docs) > 0)
		;
}

static void docs_close(struct docs_rig *g)
{
	mno_docs_close(g->docs);
	mno_store_close(g->store);
	workdir_done(&g->dir);
}

/* 500 documents of 400 bytes with three indexes in one transaction; @from makes them others */
static void docs_put(struct docs_rig *g, unsigned from)
{
	for (unsigned i = 0; i < DOCS; i++) {
		int id = snprintf(g->ids[i], sizeof(g->ids[i]), "id-%08u", (from + i) * 7919);
		int n = snprintf(g->values[i], sizeof(g->values[i]),
			"{\"name\":\"name-%u\",\"number\":%u,\"tags\":[\"a\",\"b%u\"],\"text\":\"%"
			"0300u\"}",
			from + i, i * 3, i % 10, from + i);

		g->ops[i] = (struct mno_doc_op){.verb = MNO_DOC_PUT,
			.ns = "bench",
			.coll = "docs",
			.id = g->ids[i],
			.id_len = (size_t)id,
			.kind = MNO_DOC_JSON,
			.value = g->values[i],
			.len = (size_t)n};
	}
	bench_must("put", mno_docs_apply(g->docs, g->ops, DOCS, NULL, NULL));
}

static void put_docs(unsigned n)
{
	struct docs_rig *g = bench_alloc(1, sizeof(*g));

	docs_open(g);
	docs_put(g, 0);
	for (unsigned i = 1; i <= n * 4; i++)
		docs_put(g, i * DOCS);
	docs_close(g);
	free(g);
}

/* each of 500 documents, 20 times */
static void get_docs(unsigned n)
{
	struct docs_rig *g = bench_alloc(1, sizeof(*g));
	struct mno_buf buf = {0};
	struct mno_doc doc;

	docs_open(g);
	docs_put(g, 0);
	for (unsigned i = 0; i < n * 20 * DOCS; i++) {
		const struct mno_doc_op *o = &g->ops[i % DOCS];

		bench_must(
			"get", mno_docs_get(g->docs, o->ns, o->coll, o->id, o->id_len, &buf, &doc));
	}
	mno_buf_done(&buf);
	docs_close(g);
	free(g);
}

static const struct work {
	const char *name;
	void (*run)(unsigned n);
} works[] = {
	{"ingest", ingest},
	{"seal", seal},
	{"scan", scan},
	{"match", match},
	{"json", json},
	{"docs-put", put_docs},
	{"docs-get", get_docs},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < ARRAY_SIZE(works); i++) {
		if (argc == 1)
			puts(works[i].name);
		if (argc != 3 || strcmp(argv[1], works[i].name) != 0)
			continue;
		works[i].run((unsigned)atoi(argv[2]));
		return 0;
	}
	return argc == 1 ? 0 : 2;
}
