/* SPDX-License-Identifier: Apache-2.0 */
#include "mno/promql.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lex.h"
#include "mno/err.h"

#define AT_BOUND_MS (1LL << 60) /* leaves room for offsets and ranges */

struct parser {
	struct promql_lexer lex;
	enum promql_token tok;
	struct mno_selector *sel;
	struct mno_promql_error *err;
	bool matchers_only, has_offset;
	char *name; /* of the metric, before the braces; owned */
};

/* "line:column: parse error: text"; the column counts bytes from 1 */
static _printf_(3, 4) int fail_at(struct parser *p, size_t pos, const char *fmt, ...)
{
	size_t line = 1, col = pos + 1;
	va_list ap;
	int n;

	for (size_t i = 0; i < pos && i < p->lex.len; i++)
		if (p->lex.text[i] == '\n') {
			line++;
			col = pos - i;
		}
	p->err->type = MNO_PROMQL_BAD_DATA;
	n = snprintf(p->err->msg, sizeof(p->err->msg), "%zu:%zu: parse error: ", line, col);
	va_start(ap, fmt);
	vsnprintf(p->err->msg + n, sizeof(p->err->msg) - (size_t)n, fmt, ap);
	va_end(ap);
	return -MNO_ESYNTAX;
}

static int unexpected(struct parser *p, const char *where)
{
	char what[160];

	if (p->tok == TOK_ERROR)
		return fail_at(p, p->lex.start, "%s", p->lex.msg);
	promql_describe(&p->lex, p->tok, what, sizeof(what));
	return fail_at(p, p->lex.start, "unexpected %s%s", what, where);
}

static int unsupported(struct parser *p, size_t pos, const char *what)
{
	return fail_at(p, pos,
		"%s not supported: ask for a selector such as name{label=\"value\"}, optionally "
		"followed by [5m], offset 5m or @ 1700000000",
		what);
}

static void next(struct parser *p)
{
	p->tok = promql_next(&p->lex);
}

static char *token_text(const struct parser *p)
{
	return strndup(p->lex.text + p->lex.start, p->lex.pos - p->lex.start);
}

int mno_promql_duration(const char *s, size_t len, int64_t *ret_ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {{"y", 31536000000}, {"w", 604800000}, {"d", 86400000}, {"h", 3600000},
		{"m", 60000}, {"s", 1000}, {"ms", 1}};
	int64_t total = 0;
	size_t i = 0, u = 0;

	if (len == 1 && s[0] == '0') {
		*ret_ms = 0;
		return 0;
	}
	while (i < len) {
		size_t begin = i, n;
		int64_t v = 0, ms;

		for (; i < len && s[i] >= '0' && s[i] <= '9'; i++)
			if (__builtin_mul_overflow(v, 10, &v) ||
				__builtin_add_overflow(v, s[i] - '0', &v))
				return -ERANGE;
		for (n = 0; i + n < len && s[i + n] >= 'a' && s[i + n] <= 'z'; n++)
			;
		/* units come once each, the longest first */
		while (u < ARRAY_SIZE(units) &&
			(strlen(units[u].unit) != n || memcmp(units[u].unit, s + i, n)))
			u++;
		if (begin == i || u == ARRAY_SIZE(units))
			return -EINVAL;
		/* the bound is that of a signed count of nanoseconds */
		if (__builtin_mul_overflow(v, units[u].ms, &ms) ||
			__builtin_add_overflow(total, ms, &total) || total > INT64_MAX / 1000000)
			return -ERANGE;
		i += n;
		u++;
	}
	if (len == 0)
		return -EINVAL;
	*ret_ms = total;
	return 0;
}

static int take_duration(struct parser *p, int64_t *ret)
{
	const char *s = p->lex.text + p->lex.start;
	size_t n = p->lex.pos - p->lex.start;
	char q[96];
	int r = mno_promql_duration(s, n, ret);

	if (r == 0)
		return 0;
	promql_quote(q, sizeof(q), s, n);
	return r == -ERANGE ? fail_at(p, p->lex.start, "duration out of range")
			    : fail_at(p, p->lex.start, "not a valid duration string: %s", q);
}

static bool is_metric_word(const struct parser *p)
{
	static const char *const also[] = {"by", "without", "and", "or", "unless"};
	size_t n = p->lex.pos - p->lex.start;

	if (p->tok != TOK_KEYWORD && p->tok != TOK_OP)
		return p->tok == TOK_IDENT || p->tok == TOK_METRIC || p->tok == TOK_AGGR ||
		       p->tok == TOK_OFFSET || p->tok == TOK_START || p->tok == TOK_END;
	for (size_t i = 0; i < ARRAY_SIZE(also); i++)
		if (strlen(also[i]) == n && !strncasecmp(also[i], p->lex.text + p->lex.start, n))
			return true;
	return false;
}

/* Adds a matcher; takes @name and @value. */
static int add_matcher(
	struct parser *p, enum mno_match_op op, char *name, char *value, size_t name_pos)
{
	struct mno_selector *s = p->sel;
	struct mno_matcher *m =
		name && value && s->n < MNO_PROMQL_MAX_MATCHERS ? &s->matchers[s->n] : NULL;
	char why[256] = "";
	int r;

	if (!m) {
		r = name && value ? fail_at(p, name_pos, "more than %d label matchers",
					    MNO_PROMQL_MAX_MATCHERS)
				  : -ENOMEM;
		free(name);
		free(value);
		return r;
	}
	*m = (struct mno_matcher){.op = op, .name = name, .value = value};
	s->n++;
	r = mno_matchers_compile(m, 1, why, sizeof(why));
	return r == -MNO_ESYNTAX ? fail_at(p, name_pos, "error parsing regexp: %s", why) : r;
}

static char *string_value(struct parser *p)
{
	size_t n = p->lex.pos - p->lex.start;
	char *v = malloc(n);

	if (v)
		v[promql_unquote(p->lex.text + p->lex.start, n, v)] = 0;
	return v;
}

static bool has_nul(const struct parser *p, const char *v)
{
	_cleanup_free_ char *copy = malloc(p->lex.pos - p->lex.start);

	return copy && promql_unquote(p->lex.text + p->lex.start, p->lex.pos - p->lex.start,
			       copy) != strlen(v);
}

/* name op "value" */
static int parse_matcher(struct parser *p)
{
	static const int ops[] = {[TOK_EQ] = MNO_MATCH_EQ + 1,
		[TOK_NE] = MNO_MATCH_NE + 1,
		[TOK_RE] = MNO_MATCH_RE + 1,
		[TOK_NRE] = MNO_MATCH_NRE + 1};
	_cleanup_free_ char *name = token_text(p);
	size_t pos = p->lex.start;
	char *value;
	int op, r;

	next(p);
	op = p->tok < ARRAY_SIZE(ops) ? ops[p->tok] : 0;
	if (!op)
		return unexpected(p, " in label matching, expected label matching operator");
	next(p);
	if (p->tok != TOK_STRING)
		return unexpected(p, " in label matching, expected string");
	value = string_value(p);
	if (value && has_nul(p, value)) {
		free(value);
		return fail_at(p, p->lex.start, "a label value cannot contain a NUL byte");
	}
	r = add_matcher(p, (enum mno_match_op)(op - 1), TAKE_PTR(name), value, pos);
	next(p);
	return r;
}

static int parse_braces(struct parser *p)
{
	int r;

	next(p);
	while (p->tok != TOK_RBRACE) {
		if (p->tok != TOK_IDENT)
			return unexpected(p, " in label matching, expected identifier or \"}\"");
		r = parse_matcher(p);
		if (r < 0)
			return r;
		if (p->tok == TOK_COMMA)
			next(p);
		else if (p->tok != TOK_RBRACE)
			return unexpected(p, " in label matching, expected \",\" or \"}\"");
	}
	next(p);
	return 0;
}

/* A selector must name something, or it would read the whole store. */
static int check_selector(struct parser *p, size_t pos)
{
	struct mno_selector *s = p->sel;

	for (size_t i = 0; p->name && i < s->n; i++)
		if (!strcmp(s->matchers[i].name, "__name__") && s->matchers[i].value != p->name)
			return fail_at(p, pos,
				"metric name must not be set twice: \"%.200s\" or \"%.200s\"",
				p->name, s->matchers[i].value);
	for (size_t i = 0; i < s->n; i++)
		if (mno_matcher_test(&s->matchers[i], "") == 0)
			return 0;
	if (p->matchers_only) {
		snprintf(p->err->msg, sizeof(p->err->msg),
			"match[] must contain at least one non-empty matcher");
		return -MNO_ESYNTAX;
	}
	return fail_at(p, pos, "vector selector must contain at least one non-empty matcher");
}

static int parse_range(struct parser *p)
{
	int r;

	if (p->sel->range_ms)
		return fail_at(p, p->lex.start, "ranges only allowed for vector selectors");
	if (p->has_offset)
		return fail_at(p, p->lex.start, "no offset modifiers allowed before range");
	if (p->sel->at)
		return fail_at(p, p->lex.start, "no @ modifiers allowed before range");
	next(p);
	if (p->tok != TOK_DURATION)
		return unexpected(p, "");
	r = take_duration(p, &p->sel->range_ms);
	if (r < 0)
		return r;
	if (p->sel->range_ms == 0)
		return fail_at(p, p->lex.start, "duration must be greater than 0");
	next(p);
	if (p->tok == TOK_COLON)
		return unsupported(p, p->lex.start, "subqueries are");
	if (p->tok != TOK_RBRACKET)
		return unexpected(p, " in subquery selector, expected \":\" or \"]\"");
	next(p);
	return 0;
}

static bool at_minus(const struct parser *p)
{
	return p->tok == TOK_OP && p->lex.text[p->lex.start] == '-';
}

static int parse_offset(struct parser *p, size_t selector_pos)
{
	bool minus;
	int r;

	next(p);
	minus = at_minus(p);
	if (minus)
		next(p);
	if (p->tok != TOK_DURATION)
		return unexpected(p, " in offset, expected duration");
	if (p->has_offset)
		return fail_at(p, selector_pos, "offset may not be set multiple times");
	r = take_duration(p, &p->sel->offset_ms);
	if (r < 0)
		return r;
	if (minus)
		p->sel->offset_ms = -p->sel->offset_ms;
	p->has_offset = true;
	next(p);
	return 0;
}

static int at_number(struct parser *p, size_t selector_pos, double sign)
{
	_cleanup_free_ char *text = token_text(p);
	bool octal, fits = true;
	double v;

	if (!text)
		return -ENOMEM;
	octal = text[0] == '0' && strspn(text, "01234567") == strlen(text);
	v = sign * (octal ? (double)strtoull(text, NULL, 8) : strtod(text, NULL));
	if (isinf(v) && (*text | 32) != 'i')
		return fail_at(
			p, p->lex.start, "error parsing number: \"%.40s\" is out of range", text);
	if (isinf(v) || isnan(v) || v >= 9.2233720368547758e18 || v <= -9.2233720368547758e18)
		fits = false;
	if (!fits)
		return isfinite(v) ? fail_at(p, selector_pos,
					     "timestamp out of bounds for @ modifier: %f", v)
				   : fail_at(p, selector_pos,
					     "timestamp out of bounds for @ modifier: %s",
					     isnan(v) ? "NaN"
					     : v > 0  ? "+Inf"
						      : "-Inf");
	v = round(v * 1000);
	p->sel->at_ms = v > (double)AT_BOUND_MS    ? AT_BOUND_MS
			: v < -(double)AT_BOUND_MS ? -AT_BOUND_MS
						   : (int64_t)v;
	p->sel->at = MNO_AT_TIME;
	return 0;
}

/* start() or end() */
static int at_word(struct parser *p)
{
	static const enum promql_token rest[] = {TOK_LPAREN, TOK_RPAREN};

	p->sel->at = p->tok == TOK_START ? MNO_AT_START : MNO_AT_END;
	for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
		next(p);
		if (p->tok != rest[i])
			return unexpected(p, " in @, expected timestamp");
	}
	return 0;
}

static int parse_at(struct parser *p, size_t selector_pos)
{
	bool again = p->sel->at != MNO_AT_NONE;
	double sign = 1;
	int r;

	next(p);
	if (p->tok == TOK_START || p->tok == TOK_END) {
		r = at_word(p);
	} else {
		if (at_minus(p) || (p->tok == TOK_OP && p->lex.text[p->lex.start] == '+')) {
			sign = at_minus(p) ? -1 : 1;
			next(p);
		}
		if (p->tok != TOK_NUMBER)
			return unexpected(p, " in @, expected timestamp");
		r = at_number(p, selector_pos, sign);
	}
	if (r < 0)
		return r;
	if (again)
		return fail_at(p, selector_pos, "@ <timestamp> may not be set multiple times");
	next(p);
	return 0;
}

/* What follows the selector, up to the end of the text. */
static int parse_tail(struct parser *p, size_t selector_pos)
{
	int r = 0;

	while (r == 0 && p->tok != TOK_EOF) {
		if (p->matchers_only)
			return unexpected(p, "");
		if (p->tok == TOK_LBRACKET)
			r = parse_range(p);
		else if (p->tok == TOK_OFFSET)
			r = parse_offset(p, selector_pos);
		else if (p->tok == TOK_AT)
			r = parse_at(p, selector_pos);
		else if (p->tok == TOK_OP)
			return unsupported(p, p->lex.start, "operators are");
		else
			return unexpected(p, "");
	}
	return r;
}

static int parse_name(struct parser *p)
{
	bool aggr = p->tok == TOK_AGGR;
	size_t pos = p->lex.start;
	char *name = token_text(p), *label = strdup("__name__");
	int r;

	p->name = name;
	r = add_matcher(p, MNO_MATCH_EQ, label, name, pos);
	if (r < 0)
		return r;
	next(p);
	if (p->tok == TOK_LPAREN || (aggr && p->tok == TOK_KEYWORD))
		return unsupported(p, pos, aggr ? "aggregations are" : "function calls are");
	return 0;
}

static int parse_first(struct parser *p)
{
	size_t pos = p->lex.start;
	int r = 0;

	if (p->tok == TOK_EOF)
		return fail_at(p, 0, "no expression found in input");
	if (!p->matchers_only) {
		if (p->tok == TOK_NUMBER || p->tok == TOK_STRING)
			return unsupported(p, pos, "scalar and string literals are");
		if (p->tok == TOK_LPAREN)
			return unsupported(p, pos, "parentheses are");
		if (p->tok == TOK_OP && strchr("+-", p->lex.text[pos]))
			return unsupported(p, pos, "operators are");
	}
	if (is_metric_word(p))
		r = parse_name(p);
	else if (p->tok != TOK_LBRACE)
		return unexpected(p, "");
	if (r == 0 && p->tok == TOK_LBRACE)
		r = parse_braces(p);
	if (r == 0)
		r = parse_tail(p, pos);
	return r < 0 ? r : check_selector(p, pos);
}

struct mno_selector *mno_selector_free(struct mno_selector *s)
{
	if (!s)
		return NULL;
	mno_matchers_done(s->matchers, s->n);
	for (size_t i = 0; i < s->n; i++) {
		free((char *)s->matchers[i].name);
		free((char *)s->matchers[i].value);
	}
	free(s->matchers);
	free(s);
	return NULL;
}

int mno_selector_parse(const char *text, size_t len, bool matchers_only, struct mno_selector **ret,
	struct mno_promql_error *err)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *s = calloc(1, sizeof(*s));
	struct parser p = {.lex = {.text = text, .len = len},
		.sel = s,
		.err = err,
		.matchers_only = matchers_only};
	int r;

	err->type = MNO_PROMQL_BAD_DATA;
	if (len > MNO_PROMQL_MAX_TEXT) {
		snprintf(err->msg, sizeof(err->msg), "query is longer than %d bytes",
			MNO_PROMQL_MAX_TEXT);
		return -MNO_ESYNTAX;
	}
	if (s)
		s->matchers = calloc(MNO_PROMQL_MAX_MATCHERS, sizeof(*s->matchers));
	if (!s || !s->matchers)
		return -ENOMEM;
	next(&p);
	r = parse_first(&p);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}
