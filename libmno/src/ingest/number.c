/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and times as metrics are written. No locale, no allocation. */
#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include "ingest_internal.h"

#define WORD_MAX 400 /* digits of a float that still say something */

static const double tens[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
	1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* A decimal taken apart: m * 10^exp. */
struct decimal {
	uint64_t m;
	int exp;
	unsigned digits; /* significant ones in m; more than 19 do not fit */
	bool negative, fraction;
};

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

static inline const char *read_digits(const char *s, const char *end, struct decimal *d)
{
	for (; s < end && is_digit(*s); s++) {
		d->m = d->m * 10 + (unsigned char)(*s - '0');
		d->digits += d->m != 0;
	}
	return s;
}

static const char *read_exponent(const char *s, const char *end, struct decimal *d)
{
	const char *from;
	bool negative = s < end && *s == '-';
	int e = 0;

	s += s < end && (*s == '-' || *s == '+');
	for (from = s; s < end && is_digit(*s); s++)
		e = e < 100000 ? e * 10 + (*s - '0') : e;
	d->exp += negative ? -e : e;
	return s == from ? NULL : s;
}

/* Takes all of @s..@end apart; false when it is no plain decimal. */
static bool read_decimal(const char *s, const char *end, struct decimal *d)
{
	const char *from;
	size_t whole;

	*d = (struct decimal){0};
	if (s < end && (*s == '-' || *s == '+'))
		d->negative = *s++ == '-';
	from = s;
	s = read_digits(s, end, d);
	whole = (size_t)(s - from);
	if (s < end && *s == '.') {
		from = ++s;
		s = read_digits(s, end, d);
		d->exp = -(int)MNO_MIN((size_t)(s - from), (size_t)100000);
		d->fraction = true;
		whole += (size_t)(s - from);
	}
	if (!whole)
		return false;
	if (s < end && (*s == 'e' || *s == 'E')) {
		d->fraction = true;
		s = read_exponent(s + 1, end, d);
	}
	return s == end;
}

/* Infinities and NaN; the NaN is the one that Prometheus stores for a NaN that was sent. */
static bool read_special(const char *s, const char *end, double *ret)
{
	static const struct {
		const char *text;
		uint64_t bits;
	} words[] = {
		{"nan", 0x7ff8000000000001},
		{"inf", 0x7ff0000000000000},
		{"infinity", 0x7ff0000000000000},
	};
	bool sign = s < end && (*s == '-' || *s == '+'), negative = sign && *s == '-';
	size_t n = (size_t)(end - s) - sign;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		uint64_t bits = words[i].bits | (uint64_t)negative << 63;

		if (n != strlen(words[i].text) || strncasecmp(s + sign, words[i].text, n) != 0 ||
			(i == 0 && sign))
			continue;
		memcpy(ret, &bits, sizeof(bits));
		return true;
	}
	return false;
}

/* What has more digits than fit a double exactly, in a decimal that was checked. */
static bool read_long(locale_t c_locale, const char *s, const char *end, double *ret)
{
	char word[WORD_MAX + 1];
	size_t n = (size_t)(end - s);

	if (n > WORD_MAX || !c_locale) /* no locale: a guess at a format, the value is not needed */
		return n <= WORD_MAX;
	memcpy(word, s, n);
	word[n] = '\0';
	*ret = strtod_l(word, NULL, c_locale);
	return !isinf(*ret); /* beyond a double's range is an error, as in Go */
}

bool ingest_f64(locale_t c_locale, const char *s, const char *end, double *ret)
{
	struct decimal d;
	double v;

	if (!read_decimal(s, end, &d))
		return read_special(s, end, ret);
	*ret = 0;
	if (d.digits > 19 || d.m > 1ULL << 53 || d.exp < -22 || d.exp > 22)
		return read_long(c_locale, s, end, ret);
	v = (double)d.m;
	v = d.exp < 0 ? v / tens[-d.exp] : v * tens[d.exp];
	*ret = d.negative ? -v : v;
	return true;
}

bool ingest_i64(const char *s, const char *end, int64_t *ret)
{
	struct decimal d;

	if (!read_decimal(s, end, &d) || d.fraction || d.digits > 18)
		return false;
	*ret = d.negative ? -(int64_t)d.m : (int64_t)d.m;
	return true;
}

bool ingest_seconds(locale_t c_locale, const char *s, const char *end, int64_t *ret_ms)
{
	struct decimal d;
	double v;

	if (!read_decimal(s, end, &d))
		return false;
	if (d.digits <= 15 && d.exp <= 0 && d.exp >= -15) {
		uint64_t ms;

		if (d.exp >= -3) {
			ms = d.m * (uint64_t)tens[3 + d.exp];
		} else {
			uint64_t unit = (uint64_t)tens[-3 - d.exp];

			ms = (d.m + unit / 2) / unit;
		}
		*ret_ms = d.negative ? -(int64_t)ms : (int64_t)ms;
		return true;
	}
	if (!ingest_f64(c_locale, s, end, &v) || !(fabs(v) < (double)INGEST_T_MAX / 1000))
		return false;
	*ret_ms = (int64_t)llround(v * 1000);
	return true;
}

/* --- times of CSV ------------------------------------------------------------------------------- */

/* @n digits at *@s; moves behind them. */
static bool fixed(const char **s, const char *end, unsigned n, unsigned *ret)
{
	unsigned v = 0;

	if ((size_t)(end - *s) < n)
		return false;
	for (unsigned i = 0; i < n; i++, (*s)++) {
		if (!is_digit(**s))
			return false;
		v = v * 10 + (unsigned)(**s - '0');
	}
	*ret = v;
	return true;
}

static bool sign(const char **s, const char *end, const char *set)
{
	if (*s == end || !strchr(set, **s) || !**s)
		return false;
	(*s)++;
	return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar (Hinnant 2013). */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static bool read_fraction(const char **s, const char *end, int64_t *ms)
{
	unsigned scale = 100;
	const char *from = ++*s;

	for (; *s < end && is_digit(**s); (*s)++, scale /= 10)
		*ms += (int64_t)((unsigned)(**s - '0') * scale);
	return *s > from;
}

static bool read_offset(const char *s, const char *end, int64_t *ms)
{
	unsigned h, m;
	bool negative = s < end && *s == '-';

	if (s == end || (end - s == 1 && (*s == 'Z' || *s == 'z')))
		return true;
	if (!sign(&s, end, "+-") || !fixed(&s, end, 2, &h) || !sign(&s, end, ":") ||
		!fixed(&s, end, 2, &m) || s != end || h > 23 || m > 59)
		return false;
	*ms -= (negative ? -1 : 1) * (int64_t)(h * 60 + m) * 60000;
	return true;
}

static bool read_rfc3339(const char *s, const char *end, int64_t *ret_ms)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	unsigned y, mon, d, h, min, sec;
	int64_t ms;
	bool leap;

	if (!fixed(&s, end, 4, &y) || !sign(&s, end, "-") || !fixed(&s, end, 2, &mon) ||
		!sign(&s, end, "-") || !fixed(&s, end, 2, &d) || !sign(&s, end, "Tt ") ||
		!fixed(&s, end, 2, &h) || !sign(&s, end, ":") || !fixed(&s, end, 2, &min) ||
		!sign(&s, end, ":") || !fixed(&s, end, 2, &sec))
		return false;
	leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	if (mon < 1 || mon > 12 || d < 1 || d > days[mon - 1] + (unsigned)(mon == 2 && leap) ||
		h > 23 || min > 59 || sec > 60)
		return false;
	ms = ((days_of(y, mon, d) * 24 + h) * 60 + min) * 60000 + (int64_t)sec * 1000;
	if (s < end && *s == '.' && !read_fraction(&s, end, &ms))
		return false;
	if (!read_offset(s, end, &ms))
		return false;
	*ret_ms = ms;
	return true;
}

bool ingest_any_time(locale_t c_locale, const char *s, const char *end, int64_t *ret_ms)
{
	double v;

	if (end - s > 10 && s[4] == '-')
		return read_rfc3339(s, end, ret_ms);
	if (!ingest_f64(c_locale, s, end, &v) || !(fabs(v) < (double)INGEST_T_MAX))
		return false;
	if (fabs(v) < 1e11)
		return ingest_seconds(c_locale, s, end, ret_ms);
	*ret_ms = (int64_t)llround(v);
	return true;
}
