/* SPDX-License-Identifier: Apache-2.0 */
#include "lex.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mno/macro.h"
#include "mno/util.h"

static const struct {
	const char *word;
	enum promql_token tok;
} words[] = {
	{"and", TOK_OP},
	{"or", TOK_OP},
	{"unless", TOK_OP},
	{"atan2", TOK_OP},
	{"sum", TOK_AGGR},
	{"avg", TOK_AGGR},
	{"count", TOK_AGGR},
	{"min", TOK_AGGR},
	{"max", TOK_AGGR},
	{"group", TOK_AGGR},
	{"stddev", TOK_AGGR},
	{"stdvar", TOK_AGGR},
	{"topk", TOK_AGGR},
	{"bottomk", TOK_AGGR},
	{"count_values", TOK_AGGR},
	{"quantile", TOK_AGGR},
	{"offset", TOK_OFFSET},
	{"by", TOK_KEYWORD},
	{"without", TOK_KEYWORD},
	{"on", TOK_KEYWORD},
	{"ignoring", TOK_KEYWORD},
	{"bool", TOK_KEYWORD},
	{"start", TOK_START},
	{"end", TOK_END},
	{"inf", TOK_NUMBER},
	{"nan", TOK_NUMBER},
	{"group_left", TOK_KEYWORD},
	{"group_right", TOK_KEYWORD},
};

static const struct {
	const char *text;
	enum promql_token tok;
} marks[] = {
	/* longer ones first */
	{"==", TOK_OP},
	{"=~", TOK_RE},
	{"!=", TOK_OP},
	{"<=", TOK_OP},
	{">=", TOK_OP},
	{"=", TOK_EQ},
	{"<", TOK_OP},
	{">", TOK_OP},
	{"+", TOK_OP},
	{"-", TOK_OP},
	{"*", TOK_OP},
	{"/", TOK_OP},
	{"%", TOK_OP},
	{"^", TOK_OP},
	{"@", TOK_AT},
	{",", TOK_COMMA},
};

static int peek(const struct promql_lexer *l)
{
	return l->pos < l->len ? (unsigned char)l->text[l->pos] : -1;
}

static bool is_alpha(int c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(int c)
{
	return is_alpha(c) || is_digit(c);
}

static bool accept(struct promql_lexer *l, const char *set)
{
	int c = peek(l);

	if (c <= 0 || !strchr(set, c))
		return false;
	l->pos++;
	return true;
}

static void accept_run(struct promql_lexer *l, const char *set)
{
	while (accept(l, set))
		;
}

static _printf_(2, 3) enum promql_token fail(struct promql_lexer *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->msg, sizeof(l->msg), fmt, ap);
	va_end(ap);
	return TOK_ERROR;
}

/* The character at @pos in single quotes, for messages. */
static const char *show_char(const struct promql_lexer *l, size_t pos, char buf[16])
{
	size_t n = pos < l->len ? mno_utf8_len(l->text + pos, l->len - pos) : 0;

	if (n == 0)
		snprintf(buf, 16, "'\xef\xbf\xbd'");
	else if (n == 1 && (iscntrl((unsigned char)l->text[pos]) || l->text[pos] == '\''))
		snprintf(buf, 16, "'\\x%02x'", (unsigned char)l->text[pos]);
	else
		snprintf(buf, 16, "'%.*s'", (int)n, l->text + pos);
	return buf;
}

static void skip_blank(struct promql_lexer *l)
{
	for (;;) {
		accept_run(l, " \t\n\r");
		if (peek(l) != '#')
			return;
		while (peek(l) >= 0 && peek(l) != '\n')
			l->pos++;
	}
}

/* digits, fraction, exponent, hex; false when letters follow */
static bool scan_number(struct promql_lexer *l)
{
	const char *digits = "0123456789";

	if (accept(l, "0") && accept(l, "xX"))
		digits = "0123456789abcdefABCDEF";
	accept_run(l, digits);
	if (accept(l, "."))
		accept_run(l, digits);
	if (accept(l, "eE")) {
		accept(l, "+-");
		accept_run(l, "0123456789");
	}
	return !is_alnum(peek(l));
}

/* the units after the first number of a duration */
static bool scan_duration(struct promql_lexer *l)
{
	if (!accept(l, "smhdwy"))
		return false;
	accept(l, "s");
	while (accept(l, "0123456789")) {
		accept_run(l, "0123456789");
		if (!accept(l, "smhdw"))
			return false;
		accept(l, "s");
	}
	return !is_alnum(peek(l));
}

static enum promql_token bad_duration(struct promql_lexer *l, const char *what)
{
	char q[64];

	promql_quote(q, sizeof(q), l->text + l->start, l->pos - l->start);
	return fail(l, "bad %s syntax: %s", what, q);
}

static enum promql_token lex_number(struct promql_lexer *l)
{
	if (scan_number(l))
		return TOK_NUMBER;
	return scan_duration(l) ? TOK_DURATION : bad_duration(l, "number or duration");
}

/* right after '[' */
static enum promql_token lex_range(struct promql_lexer *l)
{
	if (scan_number(l))
		return fail(l, "missing unit character in duration");
	return scan_duration(l) ? TOK_DURATION : bad_duration(l, "duration");
}

static int digit_value(int c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

static enum promql_token show_escape(
	struct promql_lexer *l, const char *fmt_before, const char *after)
{
	char c[16];
	unsigned code = (unsigned)(peek(l) < 0 ? 0xfffd : peek(l));

	return fail(l, "%s U+%04X %s%s", fmt_before, code, show_char(l, l->pos, c), after);
}

static enum promql_token lex_digits(struct promql_lexer *l, int n, int base, uint32_t max)
{
	uint32_t x = 0;

	for (; n > 0; n--, l->pos++) {
		int d = digit_value(peek(l));

		if (peek(l) < 0)
			return fail(l, "escape sequence not terminated");
		if (d >= base)
			return show_escape(l, "illegal character", " in escape sequence");
		x = x * (uint32_t)base + (uint32_t)d;
	}
	if (x > max || (x >= 0xd800 && x < 0xe000))
		return fail(l, "escape sequence is an invalid Unicode code point");
	return TOK_STRING;
}

/* after the backslash */
static enum promql_token lex_escape(struct promql_lexer *l, int quote)
{
	int c = peek(l);

	if (c < 0)
		return fail(l, "escape sequence not terminated");
	if (c >= '0' && c <= '7')
		return lex_digits(l, 3, 8, 255);
	if (c != quote && !strchr("abfnrtv\\xuU", c))
		return show_escape(l, "unknown escape sequence", "");
	l->pos++;
	if (c == 'x')
		return lex_digits(l, 2, 16, 255);
	if (c == 'u')
		return lex_digits(l, 4, 16, 0x10ffff);
	return c == 'U' ? lex_digits(l, 8, 16, 0x10ffff) : TOK_STRING;
}

static enum promql_token lex_string(struct promql_lexer *l)
{
	int quote = l->text[l->pos++];
	enum promql_token t;
	size_t n;

	for (;;) {
		int c = peek(l);

		if (c < 0 || (c == '\n' && quote != '`'))
			return fail(l, "unterminated %s string", quote == '`' ? "raw" : "quoted");
		n = mno_utf8_len(l->text + l->pos, l->len - l->pos);
		if (n == 0 || c == 0)
			return fail(l, "invalid UTF-8 rune");
		l->pos += n;
		if (c == quote)
			return TOK_STRING;
		if (c != '\\' || quote == '`')
			continue;
		t = lex_escape(l, quote);
		if (t == TOK_ERROR)
			return t;
	}
}

static enum promql_token lex_braces(struct promql_lexer *l)
{
	char c[16];

	if (peek(l) < 0)
		return fail(l, "unexpected end of input inside braces");
	if (is_alpha(peek(l))) {
		while (is_alnum(peek(l)))
			l->pos++;
		return TOK_IDENT;
	}
	if (strchr("\"'`", peek(l)) && peek(l))
		return lex_string(l);
	if (accept(l, ","))
		return TOK_COMMA;
	if (accept(l, "="))
		return accept(l, "~") ? TOK_RE : TOK_EQ;
	if (accept(l, "}")) {
		l->in_braces = false;
		return TOK_RBRACE;
	}
	if (accept(l, "!")) {
		if (accept(l, "~"))
			return TOK_NRE;
		if (accept(l, "="))
			return TOK_NE;
		return fail(l, "unexpected character after '!' inside braces: %s",
			show_char(l, l->pos, c));
	}
	if (accept(l, "{"))
		return fail(l, "unexpected left brace '{'");
	return fail(l, "unexpected character inside braces: %s", show_char(l, l->pos, c));
}

static enum promql_token lex_word(struct promql_lexer *l)
{
	bool colon = false;
	size_t n;

	while (is_alnum(peek(l)) || peek(l) == ':') {
		colon |= peek(l) == ':';
		l->pos++;
	}
	n = l->pos - l->start;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].word) == n &&
			!strncasecmp(words[i].word, l->text + l->start, n))
			return words[i].tok;
	return colon ? TOK_METRIC : TOK_IDENT;
}

static enum promql_token lex_bracket(struct promql_lexer *l)
{
	if (accept(l, "[")) {
		if (l->in_brackets)
			return fail(l, "unexpected left bracket '['");
		l->in_brackets = l->bracket_first = true;
		return TOK_LBRACKET;
	}
	l->pos++;
	if (!l->in_brackets)
		return fail(l, "unexpected right bracket ']'");
	l->in_brackets = false;
	return TOK_RBRACKET;
}

static enum promql_token lex_paren(struct promql_lexer *l)
{
	if (accept(l, "(")) {
		l->parens++;
		return TOK_LPAREN;
	}
	l->pos++;
	if (--l->parens >= 0)
		return TOK_RPAREN;
	l->start = l->pos;
	return fail(l, "unexpected right parenthesis ')'");
}

static enum promql_token lex_end(struct promql_lexer *l)
{
	if (l->parens > 0)
		return fail(l, "unclosed left parenthesis");
	return l->in_brackets ? fail(l, "unclosed left bracket") : TOK_EOF;
}

static enum promql_token lex_mark(struct promql_lexer *l)
{
	char c[16];

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		size_t n = strlen(marks[i].text);

		if (l->len - l->pos >= n && !memcmp(l->text + l->pos, marks[i].text, n)) {
			l->pos += n;
			return marks[i].tok;
		}
	}
	if (peek(l) == '!')
		return fail(l, "unexpected character after '!': %s", show_char(l, l->pos + 1, c));
	return fail(l, "unexpected character: %s", show_char(l, l->pos, c));
}

static enum promql_token lex_statement(struct promql_lexer *l)
{
	int c = peek(l);

	if (c < 0)
		return lex_end(l);
	if (c == '[' || c == ']')
		return lex_bracket(l);
	if (c == '(' || c == ')')
		return lex_paren(l);
	if (c == ':' && l->in_brackets) {
		l->pos++;
		return TOK_COLON;
	}
	if (c == '{') {
		l->pos++;
		l->in_braces = true;
		return TOK_LBRACE;
	}
	if (is_alpha(c) || c == ':')
		return lex_word(l);
	if (is_digit(c) || (c == '.' && l->pos + 1 < l->len && is_digit(l->text[l->pos + 1])))
		return lex_number(l);
	if (c && strchr("\"'`", c))
		return lex_string(l);
	return lex_mark(l);
}

enum promql_token promql_next(struct promql_lexer *l)
{
	enum promql_token t;

	skip_blank(l);
	l->start = l->pos;
	if (l->bracket_first) {
		l->bracket_first = false;
		return lex_range(l);
	}
	t = l->in_braces ? lex_braces(l) : lex_statement(l);
	/* the position of a failure is where its token began */
	return t;
}

void promql_quote(char *buf, size_t size, const char *s, size_t n)
{
	size_t o = 0;

	buf[o++] = '"';
	for (size_t i = 0; i < n && o + 8 < size; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\') {
			buf[o++] = '\\';
			buf[o++] = (char)c;
		} else if (c == '\n' || c == '\t' || c == '\r') {
			buf[o++] = '\\';
			buf[o++] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
		} else if (c < 0x20 || c == 0x7f) {
			o += (size_t)snprintf(buf + o, size - o, "\\x%02x", c);
		} else {
			buf[o++] = (char)c;
		}
	}
	buf[o++] = '"';
	buf[o] = 0;
}

void promql_describe(const struct promql_lexer *l, enum promql_token t, char *buf, size_t size)
{
	static const char *const kinds[] = {
		[TOK_IDENT] = "identifier ",
		[TOK_METRIC] = "metric identifier ",
		[TOK_STRING] = "string ",
		[TOK_NUMBER] = "number ",
		[TOK_DURATION] = "duration ",
	};
	static const char *const wraps[] = {
		[TOK_OP] = "op:",
		[TOK_AT] = "op:",
		[TOK_AGGR] = "aggr:",
		[TOK_KEYWORD] = "",
		[TOK_OFFSET] = "",
		[TOK_START] = "",
		[TOK_END] = "",
	};
	const char *s = l->text + l->start;
	size_t n = l->pos - l->start;
	bool name = t == TOK_IDENT || t == TOK_METRIC, cut = !name && n > 10;
	char q[128];

	if (t == TOK_EOF) {
		snprintf(buf, size, "end of input");
		return;
	}
	if (t < ARRAY_SIZE(wraps) && wraps[t]) {
		snprintf(buf, size, "<%s%.*s>", wraps[t], (int)MNO_MIN(n, 40u), s);
		return;
	}
	promql_quote(q, sizeof(q), s, cut ? 10 : n);
	snprintf(buf, size, "%s%s%s", t < ARRAY_SIZE(kinds) && kinds[t] ? kinds[t] : "", q,
		cut ? "..." : "");
}

static size_t put_utf8(uint32_t x, char *o)
{
	if (x < 0x80) {
		o[0] = (char)x;
		return 1;
	}
	if (x < 0x800) {
		o[0] = (char)(0xc0 | x >> 6);
		o[1] = (char)(0x80 | (x & 0x3f));
		return 2;
	}
	if (x < 0x10000) {
		o[0] = (char)(0xe0 | x >> 12);
		o[1] = (char)(0x80 | (x >> 6 & 0x3f));
		o[2] = (char)(0x80 | (x & 0x3f));
		return 3;
	}
	o[0] = (char)(0xf0 | x >> 18);
	o[1] = (char)(0x80 | (x >> 12 & 0x3f));
	o[2] = (char)(0x80 | (x >> 6 & 0x3f));
	o[3] = (char)(0x80 | (x & 0x3f));
	return 4;
}

static uint32_t read_digits(const char *s, size_t n, uint32_t base)
{
	uint32_t x = 0;

	for (size_t i = 0; i < n; i++)
		x = x * base + (uint32_t)digit_value((unsigned char)s[i]);
	return x;
}

size_t promql_unquote(const char *s, size_t n, char *out)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	size_t o = 0, i = 1;

	if (s[0] == '`') {
		memcpy(out, s + 1, n - 2);
		return n - 2;
	}
	while (i < n - 1) {
		const char *p;

		if (s[i] != '\\') {
			out[o++] = s[i++];
			continue;
		}
		i++;
		if (s[i] >= '0' && s[i] <= '7') {
			out[o++] = (char)read_digits(s + i, 3, 8);
			i += 3;
		} else if (s[i] == 'x') {
			out[o++] = (char)read_digits(s + i + 1, 2, 16);
			i += 3;
		} else if (s[i] == 'u' || s[i] == 'U') {
			size_t d = s[i] == 'u' ? 4 : 8;

			o += put_utf8(read_digits(s + i + 1, d, 16), out + o);
			i += 1 + d;
		} else {
			p = strchr(from, s[i]);
			out[o++] = p ? to[p - from] : s[i];
			i++;
		}
	}
	return o;
}
