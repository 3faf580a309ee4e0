/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of PromQL, read on demand. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum promql_token {
	TOK_EOF,
	TOK_ERROR, /* .msg of the lexer says what */
	TOK_IDENT,
	TOK_METRIC, /* an identifier with a colon */
	TOK_STRING,
	TOK_NUMBER,
	TOK_DURATION,
	TOK_LBRACE,
	TOK_RBRACE,
	TOK_LBRACKET,
	TOK_RBRACKET,
	TOK_LPAREN,
	TOK_RPAREN,
	TOK_COMMA,
	TOK_COLON,
	TOK_EQ,
	TOK_NE,
	TOK_RE,
	TOK_NRE,
	TOK_AT,
	TOK_OP,      /* any other operator, "and", "or" ... */
	TOK_AGGR,    /* sum, avg ... */
	TOK_KEYWORD, /* by, without, bool ... */
	TOK_OFFSET,
	TOK_START,
	TOK_END,
};

struct promql_lexer {
	const char *text;
	size_t len, pos;
	size_t start; /* of the current token; its end is pos */
	int parens;
	bool in_braces, in_brackets, bracket_first;
	char msg[160];
};

enum promql_token promql_next(struct promql_lexer *l);
/* Names the current token as error texts do: identifier "foo", end of input, <by>, "{" ... */
void promql_describe(const struct promql_lexer *l, enum promql_token t, char *buf, size_t size);
/* @n bytes of @s in double quotes with escapes, cut to fit @size. */
void promql_quote(char *buf, size_t size, const char *s, size_t n);
/* Value of a checked TOK_STRING into @out (at least @n bytes). Returns its length. */
size_t promql_unquote(const char *s, size_t n, char *out);
