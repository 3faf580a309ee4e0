/* SPDX-License-Identifier: Apache-2.0 */
/* The language of conditions: "path OP value". */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "mno/err.h"
#include "value.h"

static const struct {
	const char *text; /* longer ones first */
	enum mno_doc_cmp cmp;
} operators[] = {
	{"!=", MNO_DOC_NE},
	{"<=", MNO_DOC_LE},
	{">=", MNO_DOC_GE},
	{"=", MNO_DOC_EQ},
	{"<", MNO_DOC_LT},
	{">", MNO_DOC_GT},
	{"^", MNO_DOC_PREFIX},
	{"~", MNO_DOC_WORDS},
	{"?", MNO_DOC_EXISTS},
};

int docs_fail(struct mno_docs_error *err, int r, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return r;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return r;
}

bool docs_name_ok(const char *s)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_.-";
	size_t n = s ? strspn(s, allowed) : 0;

	return n && n <= MNO_DOC_NAME_MAX && !s[n] && *s != '_' && *s != '.';
}

static size_t find_operator(const char *s, size_t n, size_t *ret_len, enum mno_doc_cmp *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\\') {
			i++;
			continue;
		}
		for (size_t k = 0; k < ARRAY_SIZE(operators); k++) {
			size_t len = strlen(operators[k].text);

			if (n - i < len || memcmp(s + i, operators[k].text, len))
				continue;
			*ret_len = len;
			*ret = operators[k].cmp;
			return i;
		}
	}
	return n;
}

struct one {
	struct mno_arena *a;
	struct mno_doc_cond *c;
};

static int take_scalar(void *arg, unsigned path, const struct docs_scalar *v)
{
	struct one *o = arg;
	char *copy = mno_arena_strndup(o->a, "", 0);

	o->c->type = v->type;
	o->c->len = v->type >= MNO_DOC_NUMBER ? v->n : 0;
	if (o->c->len) {
		copy = mno_arena_alloc(o->a, v->n + 1);
		if (copy) {
			memcpy(copy, v->p, v->n);
			copy[v->n] = 0;
		}
	}
	o->c->text = copy;
	return copy ? 0 : -ENOMEM;
}

/* A JSON scalar, or else the text itself. */
static int read_value(struct mno_arena *a, const char *s, size_t n, struct mno_doc_cond *c)
{
	static const struct docs_path root;
	const struct docs_path *paths[] = {&root};
	_cleanup_buf_ struct mno_buf scratch = {0};
	struct one o = {a, c};
	struct docs_scalar text = {.type = MNO_DOC_STRING, .p = s, .n = n};
	bool object = n && (*s == '{' || *s == '[');
	int r;

	if (!object) {
		r = docs_scan(s, n, paths, 1, &scratch, take_scalar, &o, NULL);
		if (r != -MNO_ESYNTAX)
			return r;
	}
	return take_scalar(&o, 0, &text);
}

int mno_docs_where(struct mno_arena *a, const char *s, size_t n, struct mno_doc_cond *ret,
	struct mno_docs_error *err)
{
	struct mno_doc_cond c = {.type = MNO_DOC_STRING, .text = ""};
	struct docs_path path;
	size_t len = 0, at = find_operator(s, n, &len, &c.cmp);
	const struct docs_scalar text = {
		.type = MNO_DOC_STRING, .p = s + at + len, .n = n - at - len};
	struct one o = {a, &c};
	int r;

	if (at == n)
		return docs_fail(err, -MNO_ESYNTAX,
			"no operator in \"%.*s\": write path=value, or one of != < <= > >= ^ ~ ?",
			(int)MNO_MIN(n, (size_t)100), s);
	if (docs_path_parse(s, at, &path) < 0)
		return docs_fail(err, -MNO_ESYNTAX,
			"\"%.*s\" is no path: write member.member, or $ for the whole value",
			(int)MNO_MIN(at, (size_t)100), s);
	c.path = mno_arena_strndup(a, s, at);
	if (!c.path)
		return -ENOMEM;
	if (c.cmp == MNO_DOC_PREFIX || c.cmp == MNO_DOC_WORDS)
		r = take_scalar(&o, 0, &text);
	else if (c.cmp == MNO_DOC_EXISTS)
		r = text.n ? docs_fail(err, -MNO_ESYNTAX, "nothing may follow \"%s?\"", c.path) : 0;
	else
		r = read_value(a, text.p, text.n, &c);
	if (r == 0)
		*ret = c;
	return r;
}
