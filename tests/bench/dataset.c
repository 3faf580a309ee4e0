/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorded host as text for rivals and importers. Usage: dataset FORMAT [COPIES] >FILE
 * openmetrics: grouped by series, seconds, "# EOF"; prometheus: the same in milliseconds;
 * json: one line a series as VictoriaMetrics imports it. COPIES > 1: a fleet of such hosts,
 * told apart by labels host and sid. labels: one JSON object a series, for promtool.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/hostdata.h"
#include "mno/json.h"

struct format {
	const char *name;
	void (*begin)(const char *key);
	void (*sample)(const char *key, int64_t t_ms, const char *value, size_t i);
	void (*end)(const struct hostdata *h, size_t series);
	const char *last;
};

/* name{a="x",b="y"} to {"__name__":"name","a":"x","b":"y"}: escapes are the same in both */
static void put_labels(const char *key)
{
	size_t name = strcspn(key, "{");

	printf("{\"__name__\":\"%.*s\"", (int)name, key);
	for (const char *p = key + name; *p && *p != '}' && p[1] != '}';) {
		size_t label = strcspn(++p, "=");

		printf(",\"%.*s\":\"", (int)label, p);
		for (p += label + 2; *p && *p != '"'; p++) {
			if (*p == '\\')
				putchar(*p++);
			putchar(*p);
		}
		putchar('"');
		p += *p == '"';
	}
	putchar('}');
}

static void begin_text(const char *key)
{
}

static void end_text(const struct hostdata *h, size_t series)
{
}

static void sample_openmetrics(const char *key, int64_t t_ms, const char *value, size_t i)
{
	printf("%s %s %lld.%03d\n", key, value, (long long)(t_ms / 1000), (int)(t_ms % 1000));
}

static void sample_prometheus(const char *key, int64_t t_ms, const char *value, size_t i)
{
	printf("%s %s %lld\n", key, value, (long long)t_ms);
}

static void begin_json(const char *key)
{
	printf("{\"metric\":");
	put_labels(key);
	printf(",\"values\":[");
}

static void sample_json(const char *key, int64_t t_ms, const char *value, size_t i)
{
	printf("%s%s", i ? "," : "", value);
}

static void end_json(const struct hostdata *h, size_t series)
{
	const char *comma = "";

	printf("],\"timestamps\":[");
	for (size_t i = 0; i < h->n_ticks; i++)
		if (hostdata_has(h->v[i * h->n_series + series])) {
			printf("%s%lld", comma, (long long)h->t_ms[i]);
			comma = ",";
		}
	printf("]}\n");
}

static void begin_labels(const char *key)
{
	put_labels(key);
	putchar('\n');
}

static const struct format formats[] = {
	{"openmetrics", begin_text, sample_openmetrics, end_text, "# EOF\n"},
	{"prometheus", begin_text, sample_prometheus, end_text, ""},
	{"json", begin_json, sample_json, end_json, ""},
	{"labels", begin_labels, NULL, end_text, ""},
};

static void put_series(
	const struct format *f, const struct hostdata *h, size_t series, const char *key)
{
	size_t n = 0;

	f->begin(key);
	for (size_t i = 0; f->sample && i < h->n_ticks; i++) {
		double v = h->v[i * h->n_series + series];
		char value[40];

		if (!hostdata_has(v))
			continue;
		mno_f64_format(v, value);
		f->sample(key, h->t_ms[i], value, n++);
	}
	f->end(h, series);
}

int main(int argc, char **argv)
{
	unsigned copies = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	const struct format *f = NULL;
	struct hostdata h;

	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(formats); i++)
		if (!strcmp(argv[1], formats[i].name))
			f = &formats[i];
	if (!f || copies < 1 || copies > 1000) {
		fprintf(stderr, "usage: dataset openmetrics|prometheus|json|labels [COPIES]\n");
		return 2;
	}
	hostdata_need(&h);
	/* copies inside, so that samples of one metric stand together */
	for (size_t s = 0; s < h.n_series; s++)
		for (unsigned c = 0; c < copies; c++) {
			char *key = copies > 1 ? hostdata_key_of(&h, s, c) : strdup(h.keys[s]);

			if (key)
				put_series(f, &h, s, key);
			free(key);
		}
	printf("%s", f->last);
	hostdata_done(&h);
	return fflush(stdout) || ferror(stdout);
}
