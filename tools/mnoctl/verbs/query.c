/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "mno/time.h"
#include "mno/util.h"
#include "verbs.h"

#define MAX_POINTS 11000 /* of one series, as Prometheus limits it */

const struct ctl_option query_options[] = {
	{"since", 0, CTL_TIME, .metavar = "TIME",
		.help = "a range from then on: 1h, Unix seconds or RFC 3339"},
	{"step", 0, CTL_DURATION, .metavar = "DURATION",
		.help = "with --since: distance of the samples (default: about 60 samples)"},
	{"time", 0, CTL_TIME, .metavar = "TIME", .help = "the answer as of then (default now)"},
	{0},
};

struct span {
	uint64_t from, to, step; /* ns; from 0 = instant */
};

static double sample(struct json_object *pair, double *ret_time)
{
	struct json_object *v = jidx(pair, 1), *t = jidx(pair, 0);
	double d = NAN;

	if (ret_time)
		*ret_time = t ? json_object_get_double(t) : NAN;
	if (v && mno_parse_f64(json_object_get_string(v), &d) < 0)
		d = NAN;
	return d;
}

/* A label all series share says nothing about one of them. */
static bool is_common(struct json_object *result, const char *key)
{
	const char *first = jstr(jget(jidx(result, 0), "metric"), key);

	for (size_t i = 0; i < jlen(result); i++) {
		struct json_object *m = jget(jidx(result, i), "metric");

		if (!jget(m, key) || strcmp(jstr(m, key), first) != 0)
			return false;
	}
	return true;
}

/* As Prometheus quotes a label's value. */
static void add_quoted(struct mno_buf *b, const char *s)
{
	mno_buf_addc(b, '"');
	for (; s && *s; s++) {
		if (*s == '"' || *s == '\\')
			mno_buf_addc(b, '\\');
		mno_buf_addc(b, *s);
	}
	mno_buf_addc(b, '"');
}

/* name{label="value",...}; only what tells the series apart unless @full. */
static const char *series_name(
	struct ctl *c, struct json_object *result, struct json_object *metric, bool full)
{
	_cleanup_buf_ struct mno_buf b = {0};
	const char *only = NULL;
	size_t n = 0;

	if (!json_object_is_type(metric, json_type_object))
		return "{}";
	json_object_object_foreach(metric, key, v)
	{
		if (strcmp(key, "__name__") == 0 || (!full && is_common(result, key)))
			continue;
		mno_buf_addf(&b, "%s%s=", n++ ? "," : "", key);
		add_quoted(&b, json_object_get_string(v));
		only = json_object_get_string(v);
	}
	if (full || !is_common(result, "__name__")) {
		_cleanup_buf_ struct mno_buf named = {0};

		mno_buf_addf(
			&named, n ? "%s{%s}" : "%s%s", jstr(metric, "__name__"), mno_buf_cstr(&b));
		return named.len ? ctl_esc(c, mno_buf_cstr(&named)) : "{}";
	}
	if (n == 1)
		return ctl_esc(c, *only ? only : "\"\"");
	return n ? ctl_esc(c, mno_buf_cstr(&b)) : ctl_esc(c, jstr(metric, "__name__"));
}

/* Prometheus' names end with the unit; counters of a unit end with _total behind it. */
static const char *unit_of(struct json_object *result)
{
	static const struct {
		const char *suffix, *unit;
	} rows[] = {{"_seconds", "s"}, {"_bytes", "B"}, {"_percent", "%"}, {"_ratio", "of 1"},
		{"_celsius", "C"}, {"_seconds_total", "s"}, {"_bytes_total", "B"},
		{"_total", "count"}};
	const char *name = jstr(jget(jidx(result, 0), "metric"), "__name__");

	if (!*name || !is_common(result, "__name__"))
		return "";
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = strlen(rows[i].suffix), len = strlen(name);

		if (len > n && strcmp(name + len - n, rows[i].suffix) == 0)
			return rows[i].unit;
	}
	return "";
}

static const char *value_text(struct ctl *c, double v, const char *unit)
{
	char *s = ctl_scratch(c);

	if (strcmp(unit, "B") == 0 && isfinite(v))
		return ctl_bytes(c, v);
	snprintf(s, CTL_TEXT_MAX, "%.6g%s%s", v, *unit && strcmp(unit, "count") != 0 ? " " : "",
		strcmp(unit, "count") == 0 ? "" : unit);
	return s;
}

/* A native histogram: how many values, and their mean. */
static const char *hist_text(struct ctl *c, struct json_object *pair, const char *unit)
{
	struct json_object *h = jidx(pair, 1);
	double count = NAN, sum = NAN;
	char *s = ctl_scratch(c);

	if (mno_parse_f64(jstr(h, "count"), &count) < 0 || mno_parse_f64(jstr(h, "sum"), &sum) < 0)
		return "?";
	snprintf(s, CTL_TEXT_MAX, "%.6g values, mean %s", count, value_text(c, sum / count, unit));
	return s;
}

/* The last of a series' samples in a range, of either kind. */
static const char *last_text(struct ctl *c, struct json_object *series, const char *unit)
{
	struct json_object *v = jget(series, "values"), *h = jget(series, "histograms"), *lv, *lh;
	double tv = -INFINITY, th = -INFINITY, value;

	lv = jlen(v) ? jidx(v, jlen(v) - 1) : NULL;
	lh = jlen(h) ? jidx(h, jlen(h) - 1) : NULL;
	value = sample(lv, &tv);
	if (lh)
		sample(lh, &th);
	return lh && !(lv && tv >= th) ? hist_text(c, lh, unit) : value_text(c, value, unit);
}

/* Labels all series share, once above the table. */
static void show_common(struct ctl *c, struct json_object *result)
{
	struct json_object *metric = jget(jidx(result, 0), "metric");
	size_t n = 0;

	if (!json_object_is_type(metric, json_type_object) || jlen(result) < 2)
		return;
	ctl_style_on(c, CTL_DIM);
	json_object_object_foreach(metric, key, v)
	{
		if (!is_common(result, key))
			continue;
		mno_buf_addf(&c->out, "%s%s=\"%s\"", n++ ? "  " : "all: ", ctl_esc(c, key),
			ctl_esc(c, json_object_get_string(v)));
	}
	ctl_style_off(c, CTL_DIM);
	mno_buf_adds(&c->out, n ? "\n" : "");
}

static void table_range(struct ctl *c, struct json_object *result)
{
	static const struct ctl_col columns[] = {{.head = "series", .flex = true},
		{.head = "last", .right = true}, {.head = "low", .right = true, .drop = 2},
		{.head = "high", .right = true, .drop = 1}, {.head = "course"}};
	_cleanup_table_ struct ctl_table t;
	const char *unit = unit_of(result);
	size_t room = c->width > 110 ? 60 : c->width > 70 ? 30 : 12;

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	show_common(c, result);
	for (size_t i = 0; i < jlen(result); i++) {
		struct json_object *s = jidx(result, i), *values = jget(s, "values");
		size_t n = jlen(values);
		_cleanup_free_ double *v = calloc(n + 1, sizeof(*v));
		double lo = NAN, hi = NAN;

		for (size_t k = 0; v && k < n; k++) {
			v[k] = sample(jidx(values, k), NULL);
			lo = fmin(lo, v[k]);
			hi = fmax(hi, v[k]);
		}
		ctl_cell(&t, CTL_BOLD, "%s", series_name(c, result, jget(s, "metric"), false));
		ctl_cell(&t, CTL_PLAIN, "%s", last_text(c, s, unit));
		ctl_cell(&t, CTL_DIM, "%s", n ? value_text(c, lo, unit) : "");
		ctl_cell(&t, CTL_DIM, "%s", n ? value_text(c, hi, unit) : "");
		ctl_cell(&t, CTL_GOOD, "%s", v ? ctl_spark(c, v, n, room) : "");
	}
	ctl_table_print(c, &t);
}

static void table_instant(struct ctl *c, struct json_object *result)
{
	static const struct ctl_col columns[] = {
		{.head = "series", .flex = true}, {.head = "value", .right = true}};
	_cleanup_table_ struct ctl_table t;
	const char *unit = unit_of(result);

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	show_common(c, result);
	for (size_t i = 0; i < jlen(result); i++) {
		struct json_object *s = jidx(result, i);

		ctl_cell(&t, CTL_PLAIN, "%s",
			series_name(c, result, jget(s, "metric"), jlen(result) < 2));
		if (jget(s, "histogram"))
			ctl_cell(&t, CTL_BOLD, "%s", hist_text(c, jget(s, "histogram"), unit));
		else
			ctl_cell(&t, CTL_BOLD, "%s",
				value_text(c, sample(jget(s, "value"), NULL), unit));
	}
	ctl_table_print(c, &t);
}

/* A histogram's text has no blanks, and may be longer than those of the ring. */
static void add_hist(struct ctl *c, struct json_object *h)
{
	const char *text = json_object_to_json_string_ext(h, JSON_C_TO_STRING_PLAIN);
	size_t n = strlen(text);
	_cleanup_free_ char *safe = malloc(4 * n + 1);

	if (safe)
		mno_buf_adds(&c->out, mno_escape_terminal(safe, 4 * n + 1, text, n));
}

static void line(struct ctl *c, struct json_object *pair, const char *name)
{
	struct json_object *v = jidx(pair, 1);
	double t;

	if (!v)
		return;
	sample(pair, &t);
	mno_buf_addf(&c->out, "%.3f ", t);
	if (json_object_is_type(v, json_type_object)) {
		add_hist(c, v);
	} else {
		mno_buf_adds(&c->out, ctl_esc(c, json_object_get_string(v)));
		c->next_text--; /* keeps @name out of the ring's reach */
	}
	mno_buf_addf(&c->out, " %s\n", name);
}

/* For other programs: Unix seconds, value, series. */
static void lines(struct ctl *c, struct json_object *result)
{
	static const char *const many[] = {"values", "histograms"}, *const one[] = {
									    "value", "histogram"};

	for (size_t i = 0; i < jlen(result); i++) {
		struct json_object *s = jidx(result, i);
		const char *name = series_name(c, result, jget(s, "metric"), true);
		char *kept = ctl_scratch(c);

		strcpy(kept, name);
		for (size_t k = 0; k < ARRAY_SIZE(many); k++) {
			struct json_object *all = jget(s, many[k]);

			for (size_t n = 0; n < jlen(all); n++)
				line(c, jidx(all, n), kept);
			line(c, jget(s, one[k]), kept);
		}
	}
}

static size_t count_samples(struct json_object *result)
{
	size_t n = 0;

	for (size_t i = 0; i < jlen(result); i++) {
		struct json_object *s = jidx(result, i);

		n += jlen(jget(s, "values")) + jlen(jget(s, "histograms"));
		n += (jget(s, "value") != NULL) + (jget(s, "histogram") != NULL);
	}
	return n;
}

/* First name in the expression that is a metric's: "sum(rate(x[5m]))" has x. */
static void first_name(const char *expr, char *buf, size_t size)
{
	buf[0] = '\0';
	for (const char *p = expr; *p;) {
		size_t n = 0;

		while (isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == ':')
			n++;
		if (n && !isdigit((unsigned char)*p) && p[n] != '(' && n < size) {
			memcpy(buf, p, n);
			buf[n] = '\0';
			return;
		}
		p += n ? n : 1;
	}
}

/* An empty answer: was it misspelt, or is there nothing at that time? */
static void explain_empty(struct ctl *c, const char *expr, const struct span *s)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf words = {.max = 1 << 20};
	char name[64], near[64];
	struct json_object *names;

	if (s->from)
		ctl_printf(c, CTL_PLAIN, "no series: looked at %s from %s to %s\n",
			ctl_esc(c, expr), ctl_clock(c, s->from), ctl_clock(c, s->to));
	else
		ctl_printf(c, CTL_PLAIN, "no series: looked at %s at %s\n", ctl_esc(c, expr),
			ctl_clock(c, s->to));
	first_name(expr, name, sizeof(name));
	c->quiet++;
	if (*name && ctl_get(c, "/api/v1/label/__name__/values", &a) == 0) {
		names = jget(a.root, "data");
		for (size_t i = 0; i < jlen(names); i++)
			mno_buf_addf(&words, "%s ", json_object_get_string(jidx(names, i)));
		if (!words.err && ctl_word_in(mno_buf_cstr(&words), name))
			ctl_printf(c, CTL_PLAIN, "%s is stored: other labels, or another time?\n",
				ctl_esc(c, name));
		else if (!words.err && ctl_nearest(mno_buf_cstr(&words), name, near, sizeof(near)))
			ctl_printf(c, CTL_PLAIN, "%s is not stored. Did you mean \"%s\"?\n",
				ctl_esc(c, name), ctl_esc(c, near));
		else
			ctl_printf(c, CTL_PLAIN,
				"names that are stored: mnoctl completion --names metrics\n");
	}
	c->quiet--;
}

static int read_span(struct ctl *c, struct span *s)
{
	const struct ctl_args *a = c->args;
	uint64_t now = mno_now_ns(CLOCK_REALTIME), length;

	*s = (struct span){.to = now};
	if (ctl_has(a, "time"))
		ctl_time_parse(ctl_opt(a, "time"), now, &s->to);
	if (!ctl_has(a, "since"))
		return ctl_has(a, "step") ? ctl_fail(c, CTL_USAGE, NULL, "--step goes with --since")
					  : 0;
	ctl_time_parse(ctl_opt(a, "since"), now, &s->from);
	if (s->from >= s->to)
		return ctl_fail(c, CTL_INVALID, NULL, "--since is not before %s",
			ctl_has(a, "time") ? "--time" : "now");
	length = s->to - s->from;
	s->step = ctl_opt_ns(a, "step", MNO_MAX(length / 60 / NS_PER_SEC, 1ULL) * NS_PER_SEC);
	if (length / s->step > MAX_POINTS)
		return ctl_fail(c, CTL_INVALID, "a longer --step, or a later --since",
			"that would be %llu samples of each series, the limit is %d",
			(unsigned long long)(length / s->step), MAX_POINTS);
	return 0;
}

static void time_param(struct mno_buf *b, const char *name, uint64_t ns)
{
	char text[40];

	snprintf(text, sizeof(text), "%llu.%03llu", (unsigned long long)(ns / NS_PER_SEC),
		(unsigned long long)(ns / NS_PER_MS % 1000));
	ctl_param(b, name, text);
}

static void make_target(struct mno_buf *b, const char *expr, const struct span *s)
{
	mno_buf_adds(b, s->from ? "/api/v1/query_range" : "/api/v1/query");
	ctl_param(b, "query", expr);
	if (!s->from) {
		time_param(b, "time", s->to);
		return;
	}
	time_param(b, "start", s->from);
	time_param(b, "end", s->to);
	time_param(b, "step", s->step);
}

static void show(struct ctl *c, const char *type, struct json_object *result)
{
	bool matrix = strcmp(type, "matrix") == 0;

	if (!matrix && strcmp(type, "vector") != 0) /* scalar or string: [time, "value"] */
		ctl_printf(c, CTL_BOLD, "%s\n",
			ctl_esc(c, jidx(result, 1) ? json_object_get_string(jidx(result, 1)) : ""));
	else if (!c->tty)
		lines(c, result);
	else if (matrix)
		table_range(c, result);
	else
		table_instant(c, result);
}

int verb_query(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_buf_ struct mno_buf target = {0};
	const char *expr = c->args->pos[0], *type;
	struct json_object *result, *share = NULL;
	struct span s;
	int r = read_span(c, &s);

	if (r)
		return r;
	if (!*expr || strlen(expr) > 8192)
		return ctl_fail(c, CTL_INVALID, NULL, "the expression is %s",
			*expr ? "longer than 8192 bytes" : "empty");
	make_target(&target, expr, &s);
	r = ctl_get(c, mno_buf_cstr(&target), &a);
	if (ctl_answered(c, r, &a))
		return r;
	result = jget(jget(a.root, "data"), "result");
	type = jstr(jget(a.root, "data"), "resultType");
	if (jlen(result))
		show(c, type, result);
	else
		explain_empty(c, expr, &s);
	for (size_t i = 0; i < jlen(jget(a.root, "warnings")); i++)
		ctl_footer(c, "warning: %s",
			ctl_esc(c, json_object_get_string(jidx(jget(a.root, "warnings"), i))));
	if (a.completeness >= 0)
		share = json_object_new_double(a.completeness);
	ctl_footer(c, "%s \u00b7 %zu series, %s%s%s \u00b7 answered in %s",
		ctl_completeness(c, share), strcmp(type, "scalar") == 0 ? 1 : jlen(result),
		ctl_things(c, count_samples(result), "sample", "samples"),
		s.from ? ", one each " : "", s.from ? ctl_ns(c, (double)s.step) : "",
		ctl_ns(c, (double)a.took_ns));
	json_object_put(share);
	return 0;
}
