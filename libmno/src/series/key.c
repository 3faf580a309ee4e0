/* SPDX-License-Identifier: Apache-2.0 */
/* Series keys: `name{a="x",b="y"}` to labels and back. */
#include <errno.h>
#include "series_internal.h"

static const char name_label[] = "__name__";

void key_labels_done(struct key_labels *k)
{
	free(k->text);
	k->text = NULL;
	k->n = 0;
}

static bool is_start(char c, bool colon)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');
}

/* Length of the identifier at @p, 0 if there is none. */
static size_t ident(const char *p, const char *end, bool colon)
{
	const char *q = p;

	if (p == end || !is_start(*p, colon))
		return 0;
	while (q < end && (is_start(*q, colon) || (*q >= '0' && *q <= '9')))
		q++;
	return (size_t)(q - p);
}

/* Copies a quoted value without its escapes to *@w; returns what follows the closing quote. */
static const char *unquote(const char *p, const char *end, char **w)
{
	if (p == end || *p++ != '"')
		return NULL;
	for (; p < end && *p != '"'; p++) {
		char c = *p;

		if (c == '\0')
			return NULL;
		if (c == '\\') {
			if (++p == end || !strchr("\\\"n", *p) || !*p)
				return NULL;
			c = *p == 'n' ? '\n' : *p;
		}
		*(*w)++ = c;
	}
	if (p == end)
		return NULL;
	*(*w)++ = '\0';
	return p + 1;
}

static const char *copy_name(const char *p, size_t n, char **w)
{
	const char *start = *w;

	memcpy(*w, p, n);
	(*w)[n] = '\0';
	*w += n + 1;
	return start;
}

/* One `name="value"`; returns what follows. */
static const char *parse_label(const char *p, const char *end, struct key_labels *k, char **w)
{
	size_t n = ident(p, end, false);
	struct key_label l;

	if (!n)
		return NULL;
	l.name = copy_name(p, n, w);
	p += n;
	if (p == end || *p++ != '=')
		return NULL;
	l.value = *w;
	p = unquote(p, end, w);
	if (!p || strcmp(l.name, name_label) == 0)
		return NULL;
	if (!*l.value)
		return p;
	if (*w - l.value > (ptrdiff_t)MNO_SERIES_VALUE_MAX + 1)
		return NULL;
	if (k->n == KEY_LABELS)
		return NULL;
	k->v[k->n++] = l;
	return p;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct key_label *)a)->name, ((const struct key_label *)b)->name);
}

static bool sort_labels(struct key_label *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(v[i - 1].name, v[i].name) == 0)
			return false;
	return true;
}

static bool parse_braces(const char *p, const char *end, struct key_labels *k, char **w)
{
	if (p == end)
		return true;
	if (*p++ != '{' || end[-1] != '}')
		return false;
	end--;
	while (p < end) {
		p = parse_label(p, end, k, w);
		if (!p)
			return false;
		if (p < end && (*p++ != ',' || p == end))
			return false;
	}
	return p == end;
}

int key_parse(const char *key, size_t len, struct key_labels *ret)
{
	struct key_labels k = {0};
	const char *end = key + len;
	size_t n, skip;
	char *w;

	if (len == 0 || len > KEY_MAX)
		return -EINVAL;
	/* every string gets shorter by its quotes, which makes up for the NULs; the name's is extra */
	k.text = w = malloc(len + 2);
	if (!k.text)
		return -ENOMEM;
	n = ident(key, end, true);
	if (n)
		k.v[k.n++] = (struct key_label){name_label, copy_name(key, n, &w)};
	skip = k.n;
	if (!parse_braces(key + n, end, &k, &w) || !sort_labels(k.v + skip, k.n - skip) ||
		k.n == 0) {
		key_labels_done(&k);
		return -EINVAL;
	}
	*ret = k;
	return 0;
}

static void add_escaped(struct mno_buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			mno_buf_adds(out, "\\n");
		else if (*s == '"' || *s == '\\')
			mno_buf_add(out, (char[2]){'\\', *s}, 2);
		else
			mno_buf_addc(out, *s);
	}
}

void key_format(const struct key_label *v, size_t n, struct mno_buf *out)
{
	size_t i = 0;

	if (n && strcmp(v[0].name, name_label) == 0)
		mno_buf_adds(out, v[i++].value);
	if (i == n)
		return;
	for (char sep = '{'; i < n; i++, sep = ',') {
		mno_buf_addc(out, sep);
		mno_buf_adds(out, v[i].name);
		mno_buf_adds(out, "=\"");
		add_escaped(out, v[i].value);
		mno_buf_addc(out, '"');
	}
	mno_buf_addc(out, '}');
}
