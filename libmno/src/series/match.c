/* SPDX-License-Identifier: Apache-2.0 */
/* Label matchers; regular expressions are PCRE2 kept to what RE2 also has, with bounded work. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include "mno/err.h"
#include "series_internal.h"

#define PATTERN_MAX 4096
#define MATCH_STEPS 100000
#define MATCH_DEPTH 2000
#define MATCH_HEAP  1024 /* KiB */
#define OPTIONS                                                                                    \
	(PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY |                \
		PCRE2_NEVER_BACKSLASH_C)

struct regex {
	pcre2_code *code;
	pcre2_code *bytes; /* for values that are no UTF-8; NULL if the expression needs UTF-8 */
	pcre2_match_context *ctx;
	pcre2_match_data *data;
};

static void *regex_free(struct regex *re)
{
	if (!re)
		return NULL;
	pcre2_match_data_free(re->data);
	pcre2_match_context_free(re->ctx);
	pcre2_code_free(re->code);
	pcre2_code_free(re->bytes);
	free(re);
	return NULL;
}
MNO_DEFINE_CLEANUP(struct regex *, regex_free)

/* Group openings that RE2 knows: "(?:", "(?P<", "(?<name>", flags. */
static bool group_ok(const char *p)
{
	if (*p == '*')
		return false;
	if (*p != '?')
		return true;
	p++;
	if (*p == ':')
		return true;
	if (*p == 'P')
		return p[1] == '<';
	if (*p == '<')
		return p[1] != '=' && p[1] != '!';
	return *p && strspn(p, "imsU-") > 0 && strchr(":)", p[strspn(p, "imsU-")]);
}

/* What only a backtracking engine can do is refused, so that answers equal Prometheus'. */
static bool is_regular(const char *p)
{
	bool in_class = false;

	for (; *p; p++) {
		if (*p == '\\') {
			if (!*++p)
				return true; /* the compiler tells */
			if (!in_class && strchr("123456789gkKGRXCZ", *p))
				return false;
		} else if (in_class) {
			in_class = *p != ']';
		} else if (*p == '[') {
			in_class = true;
			p += p[1] == '^';
			p += p[1] == ']';
		} else if (*p == '(' && !group_ok(p + 1)) {
			return false;
		} else if (strchr("*+?}", *p) && p[1] == '+') {
			return false; /* possessive */
		}
	}
	return true;
}

static int regex_new(const char *pattern, char *err, size_t err_size, struct regex **ret)
{
	_cleanup_(regex_free_p)
	struct regex *re = calloc(1, sizeof(*re));
	size_t len = strlen(pattern), at;
	int code;

	if (!re)
		return -ENOMEM;
	if (len > PATTERN_MAX) {
		snprintf(err, err_size, "regular expression longer than %d bytes", PATTERN_MAX);
		return -MNO_ESYNTAX;
	}
	if (!is_regular(pattern)) {
		snprintf(err, err_size,
			"invalid regular expression \"%s\": look-around, back references and "
			"possessive "
			"repeats are not supported",
			pattern);
		return -MNO_ESYNTAX;
	}
	re->code = pcre2_compile((PCRE2_SPTR)pattern, len,
		OPTIONS | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
	if (!re->code) {
		char text[160] = "";

		pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
		snprintf(err, err_size, "invalid regular expression \"%s\": %s at %zu", pattern,
			text, at);
		return -MNO_ESYNTAX;
	}
	re->bytes = pcre2_compile((PCRE2_SPTR)pattern, len, OPTIONS, &code, &at, NULL);
	re->ctx = pcre2_match_context_create(NULL);
	re->data = pcre2_match_data_create(1, NULL);
	if (!re->ctx || !re->data)
		return -ENOMEM;
	pcre2_set_match_limit(re->ctx, MATCH_STEPS);
	pcre2_set_depth_limit(re->ctx, MATCH_DEPTH);
	pcre2_set_heap_limit(re->ctx, MATCH_HEAP);
	*ret = TAKE_PTR(re);
	return 0;
}

int mno_matchers_compile(struct mno_matcher *m, size_t n, char *err, size_t err_size)
{
	for (size_t i = 0; i < n; i++) {
		struct regex *re;
		int r;

		if (m[i].op != MNO_MATCH_RE && m[i].op != MNO_MATCH_NRE)
			continue;
		m[i].re = regex_free(m[i].re);
		r = regex_new(m[i].value, err, err_size, &re);
		if (r < 0)
			return r;
		m[i].re = re;
	}
	return 0;
}

void mno_matchers_done(struct mno_matcher *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		m[i].re = regex_free(m[i].re);
}

/* Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const char *text)
{
	const uint8_t *p = (const uint8_t *)text;

	while (*p) {
		unsigned n = *p < 0x80 ? 0 : *p < 0xc2 ? 4 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
		uint8_t lead = *p++, low = 0x80, high = 0xbf;

		if (n == 4 || lead > 0xf4)
			return false;
		if (lead == 0xe0)
			low = 0xa0;
		if (lead == 0xf0)
			low = 0x90;
		if (lead == 0xed)
			high = 0x9f;
		if (lead == 0xf4)
			high = 0x8f;
		for (; n; n--, low = 0x80, high = 0xbf)
			if (*p < low || *p++ > high)
				return false;
	}
	return true;
}

int match_regex(const struct mno_matcher *m, const char *value)
{
	const struct regex *re = m->re;
	const pcre2_code *code;
	int r;

	if (!re)
		return -EINVAL; /* not compiled */
	code = re->bytes && !is_utf8(value) ? re->bytes : re->code;
	r = pcre2_match(code, (PCRE2_SPTR)value, strlen(value), 0, 0, re->data, re->ctx);
	if (r >= 0)
		return 1;
	if (r == PCRE2_ERROR_NOMATCH)
		return 0;
	return r == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -MNO_ELIMIT;
}

/* --- what an expression begins with -------------------------------------------------------- */

/* One literal byte of a pattern; 0: it is something else. */
static char literal(const char **p)
{
	const char *q = *p;

	if (!*q || strchr(".*+?()[]{}^$|", *q))
		return '\0';
	if (*q == '\\') {
		q++;
		if (!*q || !ispunct((unsigned char)*q))
			return '\0';
	}
	*p = q + 1;
	return *q;
}

/* A repeat after the last character makes it no part of the prefix. */
static void drop_character(struct mno_buf *out, size_t from)
{
	while (out->len > from && ((uint8_t)out->data[out->len - 1] & 0xc0) == 0x80)
		out->len--;
	if (out->len > from)
		out->len--;
}

/* Whether another alternative may begin outside of all parentheses. */
static bool may_branch(const char *p)
{
	unsigned depth = 0;

	if (strchr(p, '|') && strchr(p, '['))
		return true; /* a class may hide parentheses */
	for (; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p == '(')
			depth++;
		else if (*p == ')')
			depth -= depth > 0;
		else if (*p == '|' && !depth)
			return true;
	}
	return false;
}

int match_literals(const char *pattern, struct mno_buf *out, bool *ret_exact)
{
	const char *p = pattern;
	size_t from = 0;
	char c;

	*ret_exact = false;
	if (strstr(pattern, "\\Q"))
		return 0;
	while (*p) {
		while ((c = literal(&p)))
			mno_buf_addc(out, c);
		if (*p != '|' && *p)
			break;
		mno_buf_addc(out, '\0');
		from = out->len;
		if (*p == '|' && !*++p)
			mno_buf_addc(out, '\0'); /* an empty last alternative */
	}
	if (out->err)
		return out->err;
	if (!*p) {
		*ret_exact = true;
		return 0;
	}
	if (from || may_branch(p)) {
		mno_buf_reset(out);
		return 0;
	}
	if (strchr("*+?{", *p))
		drop_character(out, 0);
	return 0;
}

int match_text(const struct mno_matcher *m, const char *value)
{
	int r;

	switch (m->op) {
	case MNO_MATCH_EQ:
		return strcmp(m->value, value) == 0;
	case MNO_MATCH_NE:
		return strcmp(m->value, value) != 0;
	case MNO_MATCH_RE:
		return match_regex(m, value);
	case MNO_MATCH_NRE:
		r = match_regex(m, value);
		return r < 0 ? r : !r;
	}
	return -EINVAL;
}

int mno_matcher_test(const struct mno_matcher *m, const char *value)
{
	return match_text(m, value);
}

int match_labels(const struct mno_matcher *m, size_t n, const struct key_labels *k)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = "";
		int r;

		for (size_t j = 0; j < k->n; j++)
			if (strcmp(k->v[j].name, m[i].name) == 0)
				value = k->v[j].value;
		r = match_text(&m[i], value);
		if (r <= 0)
			return r;
	}
	return 1;
}
