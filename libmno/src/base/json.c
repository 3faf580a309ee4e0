/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "mno/json.h"
#include "mno/util.h"

#define MAX_DEPTH 31

void mno_json_init(struct mno_json *j, struct mno_buf *out)
{
	*j = (struct mno_json){.out = out, .first = 1};
}

static void separate(struct mno_json *j)
{
	if (j->after_key)
		j->after_key = false;
	else if (j->first & (1u << j->depth))
		j->first &= ~(1u << j->depth);
	else
		mno_buf_addc(j->out, ',');
}

static void open_level(struct mno_json *j, char c)
{
	separate(j);
	if (j->depth == MAX_DEPTH) {
		j->out->err = j->out->err ?: -E2BIG;
		return;
	}
	j->first |= 1u << ++j->depth;
	mno_buf_addc(j->out, c);
}

static void close_level(struct mno_json *j, char c)
{
	if (j->depth)
		j->depth--;
	mno_buf_addc(j->out, c);
}

void mno_json_obj(struct mno_json *j)
{
	open_level(j, '{');
}

void mno_json_end(struct mno_json *j)
{
	close_level(j, '}');
}

void mno_json_arr(struct mno_json *j)
{
	open_level(j, '[');
}

void mno_json_end_arr(struct mno_json *j)
{
	close_level(j, ']');
}

/* How many bytes from @s on can be copied unchanged. */
static size_t plain_run(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		unsigned char c = (unsigned char)s[i];
		size_t len;

		if (c < 0x20 || c == '"' || c == '\\')
			break;
		if (c < 0x80) {
			i++;
			continue;
		}
		len = mno_utf8_len(s + i, n - i);
		if (!len)
			break;
		i += len;
	}
	return i;
}

static void add_escaped(struct mno_buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		mno_buf_add(b, "\\\"", 2);
		break;
	case '\\':
		mno_buf_add(b, "\\\\", 2);
		break;
	case '\n':
		mno_buf_add(b, "\\n", 2);
		break;
	case '\r':
		mno_buf_add(b, "\\r", 2);
		break;
	case '\t':
		mno_buf_add(b, "\\t", 2);
		break;
	default:
		if (c < 0x20)
			mno_buf_addf(b, "\\u%04x", c);
		else
			mno_buf_add(b, "\xef\xbf\xbd", 3);
	}
}

static void add_string(struct mno_buf *b, const char *s, size_t n)
{
	mno_buf_addc(b, '"');
	while (n) {
		size_t run = plain_run(s, n);

		mno_buf_add(b, s, run);
		s += run;
		n -= run;
		if (n) {
			add_escaped(b, (unsigned char)*s++);
			n--;
		}
	}
	mno_buf_addc(b, '"');
}

void mno_json_key(struct mno_json *j, const char *key)
{
	separate(j);
	add_string(j->out, key, strlen(key));
	mno_buf_addc(j->out, ':');
	j->after_key = true;
}

void mno_json_strn(struct mno_json *j, const char *s, size_t n)
{
	separate(j);
	add_string(j->out, s, n);
}

void mno_json_str(struct mno_json *j, const char *s)
{
	if (s)
		mno_json_strn(j, s, strlen(s));
	else
		mno_json_null(j);
}

static void add_u64(struct mno_buf *b, uint64_t v)
{
	char text[24], *p = text + sizeof(text);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	mno_buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

void mno_json_u64(struct mno_json *j, uint64_t v)
{
	separate(j);
	add_u64(j->out, v);
}

void mno_json_i64(struct mno_json *j, int64_t v)
{
	separate(j);
	if (v < 0)
		mno_buf_addc(j->out, '-');
	add_u64(j->out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

/* Shortest %g digits that read back as the same double. */
static int shortest(double v, char *buf, size_t size)
{
	for (int digits = 1; digits < 17; digits += digits < 15 ? 14 : 1) {
		int n = snprintf(buf, size, "%.*g", digits, v);

		if (strtod(buf, NULL) == v)
			return n;
	}
	return snprintf(buf, size, "%.17g", v);
}

void mno_json_f64(struct mno_json *j, double v)
{
	char text[32];

	if (!isfinite(v)) {
		mno_json_null(j);
		return;
	}
	if (fabs(v) < 1e15 && v == (double)(int64_t)v && !(v == 0 && signbit(v))) {
		mno_json_i64(j, (int64_t)v);
		return;
	}
	separate(j);
	mno_buf_add(j->out, text, (size_t)shortest(v, text, sizeof(text)));
}

void mno_json_bool(struct mno_json *j, bool v)
{
	separate(j);
	mno_buf_adds(j->out, v ? "true" : "false");
}

void mno_json_null(struct mno_json *j)
{
	separate(j);
	mno_buf_add(j->out, "null", 4);
}

void mno_json_raw(struct mno_json *j, const char *text, size_t n)
{
	separate(j);
	mno_buf_add(j->out, text, n);
}

void mno_json_kstr(struct mno_json *j, const char *key, const char *s)
{
	mno_json_key(j, key);
	mno_json_str(j, s);
}

void mno_json_ku64(struct mno_json *j, const char *key, uint64_t v)
{
	mno_json_key(j, key);
	mno_json_u64(j, v);
}

void mno_json_ki64(struct mno_json *j, const char *key, int64_t v)
{
	mno_json_key(j, key);
	mno_json_i64(j, v);
}

void mno_json_kf64(struct mno_json *j, const char *key, double v)
{
	mno_json_key(j, key);
	mno_json_f64(j, v);
}

void mno_json_kbool(struct mno_json *j, const char *key, bool v)
{
	mno_json_key(j, key);
	mno_json_bool(j, v);
}

/* Plain decimal notation of the shortest digits @m ("d.ddd") at decimal exponent @e. */
static size_t plain_decimal(char *out, const char *m, int e)
{
	char digits[20];
	size_t n = 0, o = 0;

	for (; *m; m++)
		if (*m != '.')
			digits[n++] = *m;
	if (e < 0) {
		out[o++] = '0';
		out[o++] = '.';
		for (int i = -1; i > e; i--)
			out[o++] = '0';
	}
	for (size_t i = 0; i < n; i++) {
		if (e >= 0 && i == (size_t)e + 1)
			out[o++] = '.';
		out[o++] = digits[i];
	}
	for (int i = (int)n; i <= e; i++)
		out[o++] = '0';
	return o;
}

size_t mno_f64_format(double v, char *buf)
{
	char sci[32], *exp;
	size_t o = 0;
	int e;

	if (isnan(v))
		return (size_t)sprintf(buf, "NaN");
	if (isinf(v))
		return (size_t)sprintf(buf, v > 0 ? "+Inf" : "-Inf");
	if (signbit(v)) {
		buf[o++] = '-';
		v = -v;
	}
	if (v < 1e15 && v == (double)(int64_t)v)
		return o + (size_t)sprintf(buf + o, "%lld", (long long)v);
	/* 15 digits are the shortest form once their trailing zeros go, but for subnormal numbers;
	 * few need 16 or 17 */
	for (int digits = v < 2.3e-308 ? 0 : 14; digits < 17; digits++) {
		snprintf(sci, sizeof(sci), "%.*e", digits, v);
		if (strtod(sci, NULL) == v)
			break;
	}
	exp = strchr(sci, 'e');
	e = atoi(exp + 1);
	while (exp[-1] == '0')
		exp--;
	if (exp[-1] == '.')
		exp--;
	*exp = '\0';
	/* the bounds of Prometheus' JSON encoder */
	if (e < 21 && e >= -6)
		o += plain_decimal(buf + o, sci, e);
	else
		o += (size_t)sprintf(buf + o, "%se%c%02d", sci, e < 0 ? '-' : '+', abs(e));
	buf[o] = '\0';
	return o;
}
