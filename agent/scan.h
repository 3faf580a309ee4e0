/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scanners for the kernel's text files. They never read at or past .end, never need a NUL, and
 * leave the position where the first unexpected byte is. Pure, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct mno_scan {
	const char *p, *end;
};

/* Skips spaces and tabs. */
static inline void mno_scan_blanks(struct mno_scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
		s->p++;
}

/* A decimal after optional blanks; over 2^64-1 it stays there. false: no digit. */
static inline bool mno_scan_u64(struct mno_scan *s, uint64_t *ret)
{
	const char *start;
	uint64_t v = 0;

	mno_scan_blanks(s);
	start = s->p;
	while (s->p < s->end && (unsigned char)(*s->p - '0') <= 9) {
		unsigned d = (unsigned char)(*s->p++ - '0');

		/* 19 digits always fit */
		if (s->p - start < 20)
			v = v * 10 + d;
		else if (__builtin_mul_overflow(v, 10ULL, &v) || __builtin_add_overflow(v, d, &v))
			v = UINT64_MAX;
	}
	if (s->p == start)
		return false;
	*ret = v;
	return true;
}

/* As mno_scan_u64() with an optional sign and fraction ("0.91", "-1"); no exponent. The result is
 * the double nearest to the decimal up to 15 digits, so that it is stored as that decimal. */
static inline bool mno_scan_f64(struct mno_scan *s, double *ret)
{
	double mantissa, unit = 1;
	bool negative;
	uint64_t v;

	mno_scan_blanks(s);
	negative = s->p < s->end && *s->p == '-';
	s->p += negative;
	if (!mno_scan_u64(s, &v))
		return false;
	mantissa = (double)v;
	if (s->p < s->end && *s->p == '.') {
		for (s->p++; s->p < s->end && (unsigned char)(*s->p - '0') <= 9; s->p++) {
			if (mantissa > 1e15 || unit > 1e15)
				continue; /* below the precision */
			mantissa = mantissa * 10 + (*s->p - '0');
			unit *= 10;
		}
	}
	*ret = (negative ? -mantissa : mantissa) / unit;
	return true;
}

/* The bytes up to the next blank, newline or @stop, after optional blanks; 0 if there are none. */
static inline size_t mno_scan_word(struct mno_scan *s, char stop, const char **ret)
{
	mno_scan_blanks(s);
	*ret = s->p;
	while (s->p < s->end && *s->p != ' ' && *s->p != '\t' && *s->p != '\n' && *s->p != stop)
		s->p++;
	return (size_t)(s->p - *ret);
}

/* Steps over @c if it is next. */
static inline bool mno_scan_char(struct mno_scan *s, char c)
{
	if (s->p >= s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

/* Steps over @text if it is next. */
static inline bool mno_scan_text(struct mno_scan *s, const char *text, size_t len)
{
	if ((size_t)(s->end - s->p) < len || memcmp(s->p, text, len) != 0)
		return false;
	s->p += len;
	return true;
}

/* To the start of the next line; false at the end of the text. */
static inline bool mno_scan_line(struct mno_scan *s)
{
	const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));

	s->p = nl ? nl + 1 : s->end;
	return s->p < s->end;
}
