/* SPDX-License-Identifier: Apache-2.0 */
/* Labels as others write them, to the canonical key of a series. */
#include "ingest_internal.h"
#include "../series/series_internal.h"
#include "mno/util.h"

static const char metric_name[] = "__name__";

static bool is_start(char c, bool colon)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');
}

/* Length of the identifier at @s, 0 if there is none. */
static size_t ident(const char *s, const char *end, bool colon)
{
	const char *p = s;

	if (p == end || !is_start(*p, colon))
		return 0;
	while (p < end && (is_start(*p, colon) || (*p >= '0' && *p <= '9')))
		p++;
	return (size_t)(p - s);
}

static bool is_text(const char *s, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = s[i] ? mno_utf8_len(s + i, n - i) : 0;
		if (!len)
			return false;
	}
	return true;
}

enum mno_ingest_reason ingest_label_add(
	struct ingest_labels *l, const char *name, size_t name_len, const char *value, size_t len)
{
	bool is_metric = name_len == strlen(metric_name) && !memcmp(name, metric_name, name_len);

	_Static_assert(KEY_LABELS <= ARRAY_SIZE(((struct ingest_labels *)0)->v), "room for all");
	if (!name_len || ident(name, name + name_len, false) != name_len)
		return MNO_INGEST_BAD_NAME;
	if (is_metric && l->metric)
		return MNO_INGEST_DUPLICATE_LABEL;
	if (is_metric && (!len || ident(value, value + len, true) != len))
		return MNO_INGEST_BAD_NAME;
	if (!len)
		return MNO_INGEST_TAKEN;
	if (name_len > KEY_MAX || len > KEY_MAX)
		return MNO_INGEST_LONG_LABELS;
	if (l->n == KEY_LABELS)
		return MNO_INGEST_MANY_LABELS;
	if (!is_text(value, len))
		return MNO_INGEST_BAD_UTF8;
	l->v[l->n] = (struct ingest_label){name, value, (uint32_t)name_len, (uint32_t)len};
	if (is_metric)
		l->metric = &l->v[l->n];
	l->n++;
	return MNO_INGEST_TAKEN;
}

static int by_name(const void *pa, const void *pb)
{
	const struct ingest_label *a = pa, *b = pb;
	int d = memcmp(a->name, b->name, MNO_MIN(a->name_len, b->name_len));

	return d ? d : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

static void add_escaped(struct mno_buf *out, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\n')
			mno_buf_add(out, "\\n", 2);
		else if (s[i] == '"' || s[i] == '\\')
			mno_buf_add(out, (char[2]){'\\', s[i]}, 2);
		else
			mno_buf_addc(out, s[i]);
	}
}

enum mno_ingest_reason ingest_labels_key(struct ingest_labels *l, struct mno_buf *out)
{
	struct ingest_label name;
	char sep = '{';

	mno_buf_reset(out);
	if (!l->metric)
		return MNO_INGEST_BAD_NAME;
	name = *l->metric;
	mno_buf_add(out, name.value, name.value_len);
	qsort(l->v, l->n, sizeof(*l->v), by_name);
	for (size_t i = 0; i < l->n; i++) {
		if (i && by_name(&l->v[i - 1], &l->v[i]) == 0)
			return MNO_INGEST_DUPLICATE_LABEL;
		if (l->v[i].name == name.name)
			continue;
		mno_buf_addc(out, sep);
		mno_buf_add(out, l->v[i].name, l->v[i].name_len);
		mno_buf_add(out, "=\"", 2);
		add_escaped(out, l->v[i].value, l->v[i].value_len);
		mno_buf_addc(out, '"');
		sep = ',';
	}
	if (l->n > 1)
		mno_buf_addc(out, '}');
	return out->len > KEY_MAX ? MNO_INGEST_LONG_LABELS : MNO_INGEST_TAKEN;
}

/* The quoted value at @s into l->text; NULL when it does not end or has an unknown escape. */
static const char *unquote(struct ingest_labels *l, const char *s, const char *end)
{
	if (s == end || *s++ != '"')
		return NULL;
	for (; s < end && *s != '"'; s++) {
		char c = *s;

		if (c == '\\') {
			if (++s == end || !*s || !strchr("\\\"n", *s))
				return NULL;
			c = *s == 'n' ? '\n' : *s;
		}
		mno_buf_addc(&l->text, c);
	}
	return s < end ? s + 1 : NULL;
}

/* One `name="value"`; moves *@s behind it. */
static enum mno_ingest_reason parse_one(struct ingest_labels *l, const char **s, const char *end)
{
	const char *p = *s, *name = p;
	size_t n = ident(p, end, false), at = l->text.len;
	enum mno_ingest_reason why;

	if (!n)
		return MNO_INGEST_BAD_NAME;
	p = ingest_blanks(p + n, end);
	if (p == end || *p != '=')
		return p < end && *p >= '!' && *p != ',' && *p != '}' ? MNO_INGEST_BAD_NAME
								      : MNO_INGEST_BAD_SYNTAX;
	p = unquote(l, ingest_blanks(p + 1, end), end);
	if (!p)
		return MNO_INGEST_BAD_SYNTAX;
	if (l->text.err)
		return MNO_INGEST_LONG_LABELS;
	why = ingest_label_add(l, name, n, l->text.data + at, l->text.len - at);
	*s = ingest_blanks(p, end);
	return why;
}

static enum mno_ingest_reason parse_braces(struct ingest_labels *l, const char *s, const char *end)
{
	if (*s++ != '{')
		return MNO_INGEST_BAD_NAME;
	if (end[-1] != '}')
		return MNO_INGEST_BAD_SYNTAX;
	end--;
	for (s = ingest_blanks(s, end); s < end;) {
		enum mno_ingest_reason why = parse_one(l, &s, end);

		if (why)
			return why;
		if (s < end && *s++ != ',')
			return MNO_INGEST_BAD_SYNTAX;
		s = ingest_blanks(s, end);
	}
	return MNO_INGEST_TAKEN;
}

enum mno_ingest_reason ingest_labels_parse(
	struct ingest_labels *l, const char *s, const char *end, struct mno_buf *out)
{
	size_t n = ident(s, end, true);
	enum mno_ingest_reason why = MNO_INGEST_TAKEN;

	l->n = 0;
	l->metric = NULL;
	mno_buf_reset(&l->text);
	/* values only get shorter: the texts in it never move */
	if (!mno_buf_reserve(&l->text, (size_t)(end - s) + 1))
		return MNO_INGEST_LONG_LABELS;
	if (n)
		why = ingest_label_add(l, metric_name, strlen(metric_name), s, n);
	s = ingest_blanks(s + n, end);
	if (!why && s < end)
		why = parse_braces(l, s, end);
	return why ? why : ingest_labels_key(l, out);
}
