/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics, and /api/v1/metadata read from the same text. */
#include "api_internal.h"

#include <stdio.h>
#include <string.h>

int api_metrics(struct mno_req *q)
{
	struct mno_probe_status s = {};

	q->type = "text/plain; version=0.0.4; charset=utf-8";
	mno_metrics_render(q->agent->metrics, &q->out);
	if (q->agent->probes)
		mno_probes_totals(q->agent->probes, &s);
	api_set_completeness(q, s.seen, s.dropped);
	return api_done(q);
}

/* A family's help and type, as they stand in the text. */
struct family {
	const char *name, *help, *type;
	size_t name_len, help_len, type_len;
};

/* Splits "# HELP name rest" into @f; false when the line is something else. */
static bool read_comment(const char *line, size_t n, const char *word, const char **name,
	size_t *name_len, const char **rest, size_t *rest_len)
{
	size_t w = strlen(word);
	const char *space;

	if (n <= w || memcmp(line, word, w))
		return false;
	*name = line + w;
	space = memchr(*name, ' ', n - w);
	*name_len = space ? (size_t)(space - *name) : n - w;
	*rest = space ? space + 1 : *name + *name_len;
	*rest_len = (size_t)(line + n - *rest);
	return true;
}

static void put_help(struct mno_json *j, const char *s, size_t n)
{
	char text[1024];
	size_t o = 0;

	for (size_t i = 0; i < n && o + 1 < sizeof(text); i++) {
		if (s[i] == '\\' && i + 1 < n)
			text[o++] = s[++i] == 'n' ? '\n' : s[i];
		else
			text[o++] = s[i];
	}
	mno_json_strn(j, text, o);
}

static void put_family(struct mno_json *j, const struct family *f)
{
	char name[256];

	snprintf(name, sizeof(name), "%.*s", (int)f->name_len, f->name);
	mno_json_key(j, name);
	mno_json_arr(j);
	mno_json_obj(j);
	mno_json_key(j, "type");
	if (f->type_len == 7 && !memcmp(f->type, "untyped", 7))
		mno_json_str(j, "unknown");
	else
		mno_json_strn(j, f->type, f->type_len);
	mno_json_key(j, "help");
	put_help(j, f->help, f->help_len);
	mno_json_kstr(j, "unit", "");
	mno_json_end(j);
	mno_json_end_arr(j);
}

static void put_families(
	struct mno_req *q, const char *text, size_t n, const char *only, uint64_t limit)
{
	const char *end = text + n;
	struct family f = {};

	for (const char *line = text; line < end;) {
		const char *nl = memchr(line, '\n', (size_t)(end - line)) ?: end;
		size_t len = (size_t)(nl - line);

		if (read_comment(
			    line, len, "# HELP ", &f.name, &f.name_len, &f.help, &f.help_len)) {
			;
		} else if (limit && read_comment(line, len, "# TYPE ", &f.name, &f.name_len,
					    &f.type, &f.type_len)) {
			if (!only ||
				(strlen(only) == f.name_len && !memcmp(only, f.name, f.name_len))) {
				put_family(&q->j, &f);
				limit--;
			}
			f.help_len = 0;
		}
		line = nl + 1;
	}
}

int api_metadata(struct mno_req *q)
{
	_cleanup_buf_ struct mno_buf text = {.max = API_ANSWER_MAX};
	const char *only = mno_params_get(&q->params, "metric");
	uint64_t limit;
	int r = api_number(q, "limit", 0, UINT32_MAX, UINT32_MAX, &limit);

	if (r)
		return r;
	mno_metrics_render(q->agent->metrics, &text);
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "status", "success");
	mno_json_key(&q->j, "data");
	mno_json_obj(&q->j);
	put_families(q, text.data, text.len, only && *only ? only : NULL, limit);
	mno_json_end(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
