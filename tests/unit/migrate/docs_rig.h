/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory that holds the fixture of documents of form 1, and what they answer. */
#pragma once

#include "../../fixtures/docs-1/dump.h"
#include "rig.h"

#define DOCS_FIXTURE "tests/fixtures/docs-1/"

static inline void put_docs_fixture(const char *dir)
{
	static const char *const dirs[] = {"docs", "main", "keys"};
	static const char *const files[] = {"keys/current", "keys/kek", "main/key", "main/data.mdb",
		"main/pages.sum", "docs/key", "docs/data.mdb", "docs/pages.sum"};
	char path[160];

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, dirs[i]);
		assert_int_equal(mkdirat(AT_FDCWD, path, 0700), 0); /* which tests of cuts see */
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		size_t n;
		char *p;

		snprintf(path, sizeof(path), DOCS_FIXTURE "%s.zst", files[i]);
		p = read_zst(path, &n);
		put_file(dir, files[i], p, n);
		free(p);
	}
}

struct docs_rig {
	struct tmpstate tmp;
	struct mno_store *s;
	struct mno_docs *d;
	char *want; /* what the version that wrote the fixture answered */
};

static inline int docs_try_open(struct docs_rig *g, unsigned step)
{
	struct mno_docs_opts o = {.sz = sizeof(o),
		.feed_age_ms = DUMP_FEED_AGE,
		.no_worker = true,
		.form_step = step};
	int r = mno_store_open(g->tmp.dir, store_opts(), &g->s);

	return r < 0 ? r : mno_docs_open(g->s, &o, &g->d);
}

static inline void docs_shut(struct docs_rig *g)
{
	g->d = mno_docs_close(g->d);
	g->s = mno_store_close(g->s);
}

static inline void docs_reopen(struct docs_rig *g, unsigned step)
{
	docs_shut(g);
	assert_int_equal(docs_try_open(g, step), 0);
}

/* Free it. */
static inline char *docs_answers(struct mno_docs *d)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert_int_equal(dump_docs(d, f), 0);
	fclose(f);
	return text;
}

static inline void assert_docs(struct docs_rig *g, const char *want)
{
	char *got = docs_answers(g->d);

	assert_answers(got, want);
	free(got);
}

static inline enum mno_docs_form_stage docs_stage(struct mno_docs *d)
{
	struct mno_docs_form f;

	assert_int_equal(mno_docs_form(d, &f), 0);
	return f.stage;
}

/* Works until there is nothing more to do. */
static inline unsigned docs_work(struct mno_docs *d)
{
	unsigned n = 0;
	int r;

	while ((r = mno_docs_work(d)) == 1)
		n++;
	assert_int_equal(r, 0);
	return n;
}

static inline int docs_setup(void **state)
{
	struct docs_rig *g = calloc(1, sizeof(*g));
	size_t n;

	tmpstate_new(&g->tmp);
	put_docs_fixture(g->tmp.dir);
	g->want = read_zst(DOCS_FIXTURE "answers.txt.zst", &n);
	*state = g;
	return docs_try_open(g, 20);
}

static inline int docs_teardown(void **state)
{
	struct docs_rig *g = *state;

	docs_shut(g);
	free(g->want);
	tmpstate_done(&g->tmp);
	free(g);
	return 0;
}
