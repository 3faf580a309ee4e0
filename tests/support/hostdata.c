/* SPDX-License-Identifier: Apache-2.0 */
#include "hostdata.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define FILE_MAX   ((size_t)8 << 20)
#define TEXT_MAX   ((size_t)128 << 20)
#define SERIES_MAX 8192
#define TICKS_MAX  8192

/* Marks an absent value; no exporter writes this NaN. */
static const uint64_t absent = 0x7ff8deadbeef0001ULL;

bool hostdata_has(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits != absent;
}

static int read_text(const char *path, char **ret)
{
	FILE *f = fopen(path, "rbe");
	char *z = malloc(FILE_MAX), *text = malloc(TEXT_MAX);
	size_t n;
	int r = -ENOMEM;

	if (!f)
		r = -errno;
	if (f && z && text) {
		n = fread(z, 1, FILE_MAX, f);
		n = ZSTD_decompress(text, TEXT_MAX - 1, z, n);
		r = ZSTD_isError(n) ? -EINVAL : 0;
		if (r == 0)
			text[n] = '\0';
	}
	if (f)
		fclose(f);
	free(z);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	return 0;
}

static int by_time(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Calls @fn for each sample; lines are "S key" and "delta_ms,value". */
static int each_sample(struct hostdata *h, char *text,
	int (*fn)(struct hostdata *h, size_t series, int64_t t, double v))
{
	size_t series = SIZE_MAX;
	int64_t t = 0;
	int r = 0;

	for (char *line = text, *end; *line && r == 0; line = end) {
		end = line + strcspn(line, "\n");
		end += *end == '\n';
		if (*line == 'S') {
			series++;
			t = 0;
		} else if (*line != '#') {
			char *comma;

			t += strtoll(line, &comma, 10);
			r = *comma == ',' && series != SIZE_MAX
				    ? fn(h, series, t, strtod(comma + 1, NULL))
				    : -EINVAL;
		}
	}
	return r;
}

/* The first series has all ticks: an exporter's own. */
static int add_tick(struct hostdata *h, size_t series, int64_t t, double v)
{
	h->n_samples++;
	if (series > 0)
		return 0;
	if (h->n_ticks == TICKS_MAX)
		return -E2BIG;
	h->t_ms[h->n_ticks++] = t;
	return 0;
}

static int set_sample(struct hostdata *h, size_t series, int64_t t, double v)
{
	const int64_t *at = bsearch(&t, h->t_ms, h->n_ticks, sizeof(t), by_time);

	if (!at)
		return -EINVAL;
	h->v[(size_t)(at - h->t_ms) * h->n_series + series] = v;
	return 0;
}

static int take_keys(struct hostdata *h)
{
	for (char *line = h->text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*line == 'S' && h->n_series == SERIES_MAX)
			return -E2BIG;
		if (*line == 'S') {
			h->keys[h->n_series] = strndup(line + 2, (size_t)(end - line) - 2);
			if (!h->keys[h->n_series++])
				return -ENOMEM;
		}
		end += *end == '\n';
	}
	return h->n_series ? 0 : -EINVAL;
}

static int fill(struct hostdata *h)
{
	size_t n = h->n_ticks * h->n_series;

	h->v = malloc(n * sizeof(*h->v));
	if (!h->v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		memcpy(&h->v[i], &absent, sizeof(absent));
	h->span_ms = h->t_ms[h->n_ticks - 1] + 1000 - h->t_ms[0];
	return each_sample(h, h->text, set_sample);
}

int hostdata_read(const char *path, struct hostdata *ret)
{
	struct hostdata h = {0};
	int r;

	if (!path)
		path = getenv("BENCH_DATA");
	r = read_text(path ? path : HOSTDATA_FILE, &h.text);
	if (r < 0)
		return r;
	h.keys = calloc(SERIES_MAX, sizeof(*h.keys));
	h.t_ms = calloc(TICKS_MAX, sizeof(*h.t_ms));
	r = h.keys && h.t_ms ? take_keys(&h) : -ENOMEM;
	if (r == 0)
		r = each_sample(&h, h.text, add_tick);
	if (r == 0)
		r = h.n_ticks ? fill(&h) : -EINVAL;
	if (r < 0) {
		hostdata_done(&h);
		return r;
	}
	*ret = h;
	return 0;
}

void hostdata_done(struct hostdata *h)
{
	for (size_t i = 0; i < h->n_series; i++)
		free(h->keys[i]);
	free(h->keys);
	free(h->t_ms);
	free(h->v);
	free(h->text);
	*h = (struct hostdata){0};
}

void hostdata_need(struct hostdata *ret)
{
	int r = hostdata_read(NULL, ret);

	if (r == -ENOENT) {
		printf("skipped: no recorded host in %s (or where BENCH_DATA says)\n",
			HOSTDATA_FILE);
		exit(77);
	}
	if (r < 0) {
		fprintf(stderr, "recorded host: %s\n", strerror(-r));
		exit(1);
	}
}

size_t hostdata_row(const struct hostdata *h, size_t tick, const uint32_t *ids, uint32_t *ret_ids,
	double *ret_v)
{
	const double *v = h->v + tick % h->n_ticks * h->n_series;
	size_t n = 0;

	for (size_t s = 0; s < h->n_series; s++)
		if (hostdata_has(v[s])) {
			ret_ids[n] = ids[s];
			ret_v[n++] = v[s];
		}
	return n;
}

int64_t hostdata_time(const struct hostdata *h, size_t tick)
{
	return h->t_ms[tick % h->n_ticks] + (int64_t)(tick / h->n_ticks) * h->span_ms;
}

char *hostdata_key_of(const struct hostdata *h, size_t series, unsigned copy)
{
	const char *key = h->keys[series];
	size_t name = strcspn(key, "{");
	bool labels = key[name] == '{' && key[name + 1] != '}';
	char *out;
	int n = asprintf(&out, "%.*s{host=\"h%u\",sid=\"%zu\"%s%s", (int)name, key, copy, series,
		labels ? "," : "}", labels ? key + name + 1 : "");

	return n < 0 ? NULL : out;
}
