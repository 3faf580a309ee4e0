/* SPDX-License-Identifier: Apache-2.0 */
/* Text for terminals and pipes. Everything is collected first and written once. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include "ctl.h"
#include "mno/time.h"
#include "mno/util.h"

static const char *const styles[] = {
	[CTL_PLAIN] = "",
	[CTL_BOLD] = "\033[1m",
	[CTL_DIM] = "\033[2m",
	[CTL_GOOD] = "\033[32m",
	[CTL_WARN] = "\033[33m",
	[CTL_BAD] = "\033[31m",
};

char *ctl_scratch(struct ctl *c)
{
	return c->text[c->next_text++ % ARRAY_SIZE(c->text)];
}

/* With such marks a name could pose as another. */
bool ctl_is_deceptive(const char *s, size_t n)
{
	unsigned cp;

	if (n != 3)
		return false;
	cp = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
	return (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	       (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff;
}

/* One character of @s made safe into @dst (>= 16 bytes); returns its bytes in @s. */
static size_t esc_char(char *dst, const char *s, size_t left)
{
	size_t n = mno_utf8_len(s, left), step = n ? n : 1;
	char *o = dst;

	if (!ctl_is_deceptive(s, n)) {
		mno_escape_terminal(dst, 16, s, step);
		return step;
	}
	for (size_t i = 0; i < n; i++)
		o += sprintf(o, "\\x%02x", (unsigned char)s[i]);
	return step;
}

const char *ctl_esc(struct ctl *c, const char *s)
{
	char *out = ctl_scratch(c), one[16];
	size_t o = 0, left = s ? strnlen(s, CTL_TEXT_MAX) : 0;

	while (left) {
		size_t n = esc_char(one, s, left), len = strlen(one);

		if (o + len + sizeof("\u2026") > CTL_TEXT_MAX) {
			memcpy(out + o, "\u2026", sizeof("\u2026")); /* what is cut is marked */
			return out;
		}
		memcpy(out + o, one, len);
		o += len;
		s += n;
		left -= n;
	}
	out[o] = '\0';
	return out;
}

void ctl_style_on(struct ctl *c, enum ctl_style s)
{
	if (c->color)
		mno_buf_adds(&c->out, styles[s]);
}

void ctl_style_off(struct ctl *c, enum ctl_style s)
{
	if (c->color && s != CTL_PLAIN)
		mno_buf_adds(&c->out, "\033[0m");
}

_printf_(2, 0) static void add_formatted(struct mno_buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *room;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	room = n >= 0 ? mno_buf_reserve(b, (size_t)n + 1) : NULL;
	if (room) {
		vsnprintf(room, (size_t)n + 1, fmt, again);
		mno_buf_commit(b, (size_t)n);
	}
	va_end(again);
}

void ctl_printf(struct ctl *c, enum ctl_style s, const char *fmt, ...)
{
	va_list ap;

	ctl_style_on(c, s);
	va_start(ap, fmt);
	add_formatted(&c->out, fmt, ap);
	va_end(ap);
	ctl_style_off(c, s);
}

/* Next code point of valid UTF-8 (ours or escaped): its bytes, and its columns. */
static size_t next_char(const char *s, size_t *ret_columns)
{
	size_t n = MNO_MAX(mno_utf8_len(s, strlen(s)), (size_t)1);
	const unsigned char *p = (const unsigned char *)s;
	wchar_t cp = n == 1 ? p[0] : p[0] & (0x7f >> n);
	int w;

	for (size_t i = 1; i < n; i++)
		cp = (wchar_t)(cp << 6 | (p[i] & 0x3f));
	w = wcwidth(cp);
	*ret_columns = w < 0 ? 1 : (size_t)w;
	return n;
}

size_t ctl_columns(const char *s)
{
	size_t sum = 0, w;

	while (*s) {
		s += next_char(s, &w);
		sum += w;
	}
	return sum;
}

size_t ctl_fit(const char *s, size_t columns)
{
	const char *p = s;
	size_t used = 0, w;

	while (*p) {
		size_t n = next_char(p, &w);

		if (used + w > columns)
			break;
		used += w;
		p += n;
	}
	return (size_t)(p - s);
}

/* Breaks @text at spaces so that it fits; the rest hangs under column @indent. */
static void add_wrapped(struct ctl *c, size_t indent, const char *text)
{
	size_t room = c->width > 0 && (size_t)c->width > indent + 20 ? (size_t)c->width - indent
								     : SIZE_MAX;

	while (ctl_columns(text) > room) {
		size_t cut = ctl_fit(text, room), at = cut;

		while (at && text[at] != ' ')
			at--;
		if (!at)
			at = MNO_MAX(cut, (size_t)1);
		mno_buf_add(&c->out, text, at);
		mno_buf_addf(&c->out, "\n%*s", (int)indent, "");
		text += at;
		text += strspn(text, " ");
	}
	mno_buf_adds(&c->out, text);
}

void ctl_field(struct ctl *c, const char *label, enum ctl_style s, const char *fmt, ...)
{
	_cleanup_buf_ struct mno_buf text = {0};
	size_t pad = MNO_MAX(ctl_columns(label), MNO_MAX(c->label, (size_t)10)) + 1;
	va_list ap;

	va_start(ap, fmt);
	add_formatted(&text, fmt, ap);
	va_end(ap);
	ctl_style_on(c, CTL_BOLD);
	mno_buf_addf(&c->out, "  %s", label);
	ctl_style_off(c, CTL_BOLD);
	mno_buf_addf(&c->out, "%*s", (int)(pad - ctl_columns(label)), "");
	ctl_style_on(c, s);
	add_wrapped(c, pad + 2, mno_buf_cstr(&text));
	ctl_style_off(c, s);
	mno_buf_addc(&c->out, '\n');
}

void ctl_labels(struct ctl *c, struct json_object *rows, const char *key)
{
	c->label = 0;
	for (size_t i = 0; i < jlen(rows); i++)
		c->label = MNO_MAX(c->label, ctl_columns(ctl_esc(c, jstr(jidx(rows, i), key))));
	c->label = MNO_MIN(c->label, (size_t)36);
}

void ctl_head(struct ctl *c, const char *title, const char *fmt, ...)
{
	_cleanup_buf_ struct mno_buf text = {0};
	bool fits;
	va_list ap;

	va_start(ap, fmt);
	add_formatted(&text, fmt, ap);
	va_end(ap);
	fits = !c->width ||
	       ctl_columns(title) + ctl_columns(mno_buf_cstr(&text)) + 2 <= (size_t)c->width;
	ctl_printf(c, CTL_BOLD, "%s", title);
	mno_buf_adds(&c->out, fits ? "  " : "\n  ");
	add_wrapped(c, 2, mno_buf_cstr(&text));
	mno_buf_addc(&c->out, '\n');
}

void ctl_footer(struct ctl *c, const char *fmt, ...)
{
	_cleanup_buf_ struct mno_buf text = {0};
	va_list ap;

	va_start(ap, fmt);
	add_formatted(&text, fmt, ap);
	va_end(ap);
	ctl_style_on(c, CTL_DIM);
	if (!c->tty)
		mno_buf_adds(&c->out, "# ");
	add_wrapped(c, 0, mno_buf_cstr(&text));
	ctl_style_off(c, CTL_DIM);
	mno_buf_addc(&c->out, '\n');
}

/* For terminals that cannot show it; every symbol of ours is here. */
static const struct {
	const char *utf8, *ascii;
} plain[] = {
	{"\u00b7", "|"},
	{"\u2013", "-"},
	{"\u2190", "<-"},
	{"\u2026", "~"},
	{"\u00d7", "x"},
	{"\u2581", "_"},
	{"\u2582", "."},
	{"\u2583", ","},
	{"\u2584", "-"},
	{"\u2585", "="},
	{"\u2586", "+"},
	{"\u2587", "*"},
	{"\u2588", "#"},
	{"\u251c\u2500 ", "|- "},
	{"\u2514\u2500 ", "`- "},
	{"\u2502", "|"},
};

static void to_ascii(struct mno_buf *b, const char *s, size_t n)
{
	while (n) {
		size_t len = MNO_MAX(mno_utf8_len(s, n), (size_t)1), i;

		for (i = 0; len > 1 && i < ARRAY_SIZE(plain); i++) {
			size_t k = strlen(plain[i].utf8);

			if (k <= n && memcmp(plain[i].utf8, s, k) == 0) {
				mno_buf_adds(b, plain[i].ascii);
				len = k;
				break;
			}
		}
		if (len == 1)
			mno_buf_addc(b, *s);
		else if (i == ARRAY_SIZE(plain))
			mno_buf_addc(b, '?');
		s += len;
		n -= len;
	}
}

int ctl_flush(struct ctl *c)
{
	_cleanup_buf_ struct mno_buf ascii = {0};
	struct mno_buf *b = &c->out;

	if (!c->utf8 && c->tty && !c->json) {
		to_ascii(&ascii, b->data, b->len);
		b = &ascii;
	}
	if (b->err)
		return ctl_fail(c, CTL_INTERNAL, NULL, "not enough memory for the answer");
	for (size_t at = 0; at < b->len;) {
		ssize_t n = write(STDOUT_FILENO, b->data + at, b->len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			mno_buf_reset(&c->out);
			return ctl_fail(c, CTL_INTERNAL, NULL, "cannot write the answer: %s",
				strerror(errno));
		}
		at += (size_t)n;
	}
	mno_buf_reset(&c->out);
	return 0;
}

const char *ctl_dash(const struct ctl *c)
{
	return c->tty ? "\u2013" : "-";
}

const char *ctl_percent(struct ctl *c, double v)
{
	char *s = ctl_scratch(c);

	if (isnan(v))
		return ctl_dash(c);
	if (v > 0 && v < 0.005)
		return "<0.01 %"; /* little is not nothing */
	snprintf(s, CTL_TEXT_MAX, "%.*f %%", fabs(v) < 0.995 ? 2 : fabs(v) < 9.95, v);
	return s;
}

const char *ctl_bytes(struct ctl *c, double v)
{
	return isnan(v) ? ctl_dash(c) : mno_human_bytes(v, ctl_scratch(c), CTL_TEXT_MAX);
}

const char *ctl_count(struct ctl *c, double v)
{
	return isnan(v) ? ctl_dash(c) : mno_human_count(v, ctl_scratch(c), CTL_TEXT_MAX);
}

const char *ctl_exact(struct ctl *c, uint64_t v)
{
	char digits[24], *s = ctl_scratch(c), *o = s;
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)v);

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			*o++ = ',';
		*o++ = digits[i];
	}
	*o = '\0';
	return s;
}

const char *ctl_things(struct ctl *c, uint64_t n, const char *one, const char *many)
{
	char *s = ctl_scratch(c);

	snprintf(s, CTL_TEXT_MAX, "%s %s", ctl_exact(c, n), n == 1 ? one : many);
	return s;
}

const char *ctl_ns(struct ctl *c, double ns)
{
	static const struct {
		double below, unit;
		const char *name;
	} units[] = {{1e3, 1, "ns"}, {1e6, 1e3, "us"}, {1e9, 1e6, "ms"}, {60e9, 1e9, "s"}};
	char *s;

	if (isnan(ns) || ns < 0)
		return ctl_dash(c);
	s = ctl_scratch(c);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		double v = ns / units[i].unit;

		if (ns >= units[i].below)
			continue;
		snprintf(s, CTL_TEXT_MAX, "%.*f %s", v < 99.95 && i, v, units[i].name);
		return s;
	}
	return mno_duration_format(ns < 1.8e19 ? (uint64_t)ns : UINT64_MAX, s, CTL_TEXT_MAX);
}

const char *ctl_seconds(struct ctl *c, double s)
{
	return ctl_ns(c, s * 1e9);
}

const char *ctl_ago(struct ctl *c, uint64_t unix_ns)
{
	uint64_t now = mno_now_ns(CLOCK_REALTIME);
	char *s;

	if (!unix_ns)
		return ctl_dash(c);
	if (unix_ns + NS_PER_SEC > now)
		return "just now";
	s = ctl_scratch(c);
	snprintf(s, CTL_TEXT_MAX, "%.64s ago", ctl_ns(c, (double)(now - unix_ns)));
	return s;
}

const char *ctl_clock(struct ctl *c, uint64_t unix_ns)
{
	time_t t = (time_t)(unix_ns / NS_PER_SEC), now = time(NULL);
	char *s = ctl_scratch(c);
	struct tm tm, today;
	size_t n;

	localtime_r(&t, &tm);
	localtime_r(&now, &today);
	n = strftime(s, CTL_TEXT_MAX - 8,
		tm.tm_yday == today.tm_yday && tm.tm_year == today.tm_year ? "%H:%M:%S"
									   : "%Y-%m-%d %H:%M:%S",
		&tm);
	snprintf(s + n, 8, ".%03u", (unsigned)(unix_ns / NS_PER_MS % 1000));
	return s;
}

const char *ctl_completeness(struct ctl *c, struct json_object *o)
{
	double share = NAN;
	char *s;

	if (json_object_is_type(o, json_type_object)) {
		double seen = jf64(o, "seen"), dropped = jf64(o, "dropped");

		share = seen == 0 ? 1 : (seen - dropped) / seen; /* NaN stays NaN */
	} else if (o) {
		share = json_object_get_double(o);
	}
	if (isnan(share) || share < 0)
		return "completeness not known";
	s = ctl_scratch(c);
	/* rounding must not turn a loss into 100 % */
	if (share >= 1)
		snprintf(s, CTL_TEXT_MAX, "complete 100 %%");
	else
		snprintf(s, CTL_TEXT_MAX, "complete %.4g %%",
			MNO_MIN(floor(share * 1e6) / 1e4, 99.99));
	return s;
}

const char *ctl_spark(struct ctl *c, const double *v, size_t n, size_t columns)
{
	static const char *const bars[] = {
		"\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
	double lo = INFINITY, hi = -INFINITY;
	char *s = ctl_scratch(c), *o = s;

	columns = MNO_MIN(columns, (size_t)CTL_TEXT_MAX / 4);
	for (size_t i = 0; i < n; i++) {
		lo = isfinite(v[i]) ? fmin(lo, v[i]) : lo;
		hi = isfinite(v[i]) ? fmax(hi, v[i]) : hi;
	}
	for (size_t k = 0; k < MNO_MIN(columns, n); k++) {
		size_t from = n <= columns ? k : k * n / columns;
		size_t to = n <= columns ? k + 1 : (k + 1) * n / columns;
		double top = -INFINITY;
		size_t level = 0;

		for (size_t i = from; i < to; i++)
			top = isfinite(v[i]) ? fmax(top, v[i]) : top;
		if (hi > lo && isfinite(top))
			level = MNO_MIN((size_t)((top - lo) / (hi - lo) * 8), (size_t)7);
		o = stpcpy(o, isfinite(top) ? bars[level] : " ");
	}
	*o = '\0';
	return s;
}
