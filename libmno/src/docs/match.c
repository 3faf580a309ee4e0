/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a document fits: the last word after an index gave candidates. */
#include <errno.h>
#include <string.h>
#include "mno/err.h"
#include "value.h"

static int compile_value(struct docs_match_cond *c, struct mno_docs_error *err)
{
	const struct docs_scalar v = {.type = c->c.type, .p = c->c.text, .n = c->c.len};
	int r = docs_scalar_encode(&c->enc, &v);

	if (r == -ERANGE)
		return docs_fail(err, -EINVAL, "%.*s has more than 256 digits or is beyond 1e30000",
			(int)MNO_MIN(c->c.len, (size_t)60), c->c.text);
	return r;
}

static int compile(struct mno_arena *a, struct docs_match_cond *c, struct mno_docs_error *err)
{
	if (docs_path_parse(c->c.path, strlen(c->c.path), &c->path) < 0)
		return docs_fail(err, -EINVAL, "\"%.100s\" is no path", c->c.path);
	if (c->c.cmp == MNO_DOC_EXISTS)
		return 0;
	if (c->c.cmp != MNO_DOC_WORDS)
		return compile_value(c, err);
	c->groups = mno_arena_alloc(a, sizeof(*c->groups));
	if (!c->groups)
		return -ENOMEM;
	if (docs_groups_parse(c->c.text, c->c.len, c->groups) < 0)
		return docs_fail(err, -EINVAL,
			"\"%.*s\": expected 1 to %u words, and up to %u alternatives between |",
			(int)MNO_MIN(c->c.len, (size_t)60), c->c.text, DOCS_WORDS_MAX,
			DOCS_GROUPS_MAX);
	return 0;
}

int docs_match_new(struct mno_arena *a, const struct mno_doc_cond *conds, size_t n,
	struct docs_match *ret, struct mno_docs_error *err)
{
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	if (n > MNO_DOC_COND_MAX)
		return docs_fail(err, -EINVAL, "more than %u conditions", MNO_DOC_COND_MAX);
	ret->v = mno_arena_calloc(a, n ?: 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (; ret->n < n && r == 0; ret->n++) {
		ret->v[ret->n].c = conds[ret->n];
		ret->paths[ret->n] = &ret->v[ret->n].path;
		r = compile(a, &ret->v[ret->n], err);
	}
	if (r < 0)
		docs_match_done(ret);
	return r;
}

void docs_match_done(struct docs_match *m)
{
	for (unsigned i = 0; i < m->n; i++)
		mno_buf_done(&m->v[i].enc);
	mno_buf_done(&m->scratch);
	mno_buf_done(&m->enc);
	m->n = 0;
}

static bool term_fits(const struct docs_term *t, const struct docs_words *w)
{
	return (t->prefix ? t->n <= w->n : t->n == w->n) && !memcmp(t->word, w->word, t->n);
}

static void test_words(struct docs_match_cond *c, const struct docs_scalar *v)
{
	struct docs_words w;

	docs_words_begin(&w, v->p, v->n);
	while (docs_words_next(&w))
		for (unsigned g = 0; g < c->groups->n; g++)
			for (unsigned i = 0; i < c->groups->g[g].n; i++)
				if (term_fits(&c->groups->g[g].terms[i], &w))
					c->found[g] |= 1u << i;
}

static bool same_type(enum mno_doc_type a, enum mno_doc_type b)
{
	return a == b || (a <= MNO_DOC_TRUE && b <= MNO_DOC_TRUE && a && b);
}

static bool compare_fits(enum mno_doc_cmp cmp, int d)
{
	switch (cmp) {
	case MNO_DOC_LT:
		return d < 0;
	case MNO_DOC_LE:
		return d <= 0;
	case MNO_DOC_GT:
		return d > 0;
	case MNO_DOC_GE:
		return d >= 0;
	default:
		return d == 0;
	}
}

static int test_value(void *arg, unsigned path, const struct docs_scalar *v)
{
	struct docs_match *m = arg;
	struct docs_match_cond *c = &m->v[path];
	int r;

	c->some = true;
	if (c->c.cmp == MNO_DOC_EXISTS)
		return 0;
	if (c->c.cmp == MNO_DOC_WORDS) {
		if (v->type == MNO_DOC_STRING)
			test_words(c, v);
		return 0;
	}
	if (c->c.cmp == MNO_DOC_PREFIX) {
		c->hit |= v->type == MNO_DOC_STRING && v->n >= c->c.len &&
			  !memcmp(v->p, c->c.text, c->c.len);
		return 0;
	}
	if (!same_type(v->type, c->c.type))
		return 0;
	mno_buf_reset(&m->enc);
	r = docs_scalar_encode(&m->enc, v);
	if (r == -ERANGE)
		return 0; /* no number of a condition is like that */
	if (r == 0)
		c->hit |= compare_fits(c->c.cmp,
			docs_bytes_compare(m->enc.data, m->enc.len, c->enc.data, c->enc.len));
	return r;
}

static bool group_holds(const struct docs_match_cond *c, unsigned g)
{
	return c->found[g] == (1u << c->groups->g[g].n) - 1;
}

unsigned docs_match_group(const struct docs_match_cond *c)
{
	unsigned g = 0;

	while (g < c->groups->n && !group_holds(c, g))
		g++;
	return g;
}

static bool holds(const struct docs_match_cond *c)
{
	switch (c->c.cmp) {
	case MNO_DOC_EXISTS:
		return c->some;
	case MNO_DOC_NE:
		return c->some && !c->hit;
	case MNO_DOC_WORDS:
		return docs_match_group(c) < c->groups->n;
	default:
		return c->hit;
	}
}

int docs_match_test(struct docs_match *m, enum mno_doc_kind kind, const char *s, size_t len)
{
	int r;

	if (!m->n)
		return 1;
	for (unsigned i = 0; i < m->n; i++) {
		m->v[i].hit = m->v[i].some = false;
		memset(m->v[i].found, 0, sizeof(m->v[i].found));
	}
	r = docs_scan_value(kind, s, len, m->paths, m->n, &m->scratch, test_value, m, NULL);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < m->n; i++)
		if (!holds(&m->v[i]))
			return 0;
	return 1;
}
