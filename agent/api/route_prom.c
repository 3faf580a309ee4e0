/* SPDX-License-Identifier: Apache-2.0 */
/* /api/v1/query and query_range: checks in Prometheus' order, errors in its words. */
#include "api_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mno/promql.h"
#include "mno/time.h"
#include "mno/util.h"

/* "invalid parameter "x": ..." */
#define BAD_PARAM(q, name, ...)                                                                    \
	api_error(q, 400, "bad_request", NULL, "invalid parameter \"" name "\": " __VA_ARGS__)

static int prom_error(struct mno_req *q, const struct mno_promql_error *e, const char *prefix)
{
	static const int status[] = {[MNO_PROMQL_BAD_DATA] = 400,
		[MNO_PROMQL_EXECUTION] = 422,
		[MNO_PROMQL_TIMEOUT] = 503,
		[MNO_PROMQL_INTERNAL] = 500};

	return api_error(q, status[e->type], "bad_request", NULL, "%s%s", prefix, e->msg);
}

/* Seconds or a duration, to ms. */
static int parse_step(const char *s, int64_t *ret_ms)
{
	double v;

	if (mno_parse_f64(s, &v) < 0)
		return mno_promql_duration(s, strlen(s), ret_ms);
	if (isnan(v) || fabs(v) > 9e12)
		return -EINVAL;
	/* a step below a millisecond is one */
	*ret_ms = v > 0 && v < 0.001 ? 1 : (int64_t)(v * 1000);
	return 0;
}

static const char *param(struct mno_req *q, const char *name)
{
	return mno_params_get(&q->params, name) ?: "";
}

/* timeout=; 0 or a status */
static int read_limits(struct mno_req *q, struct mno_promql_limits *lim)
{
	const char *s = param(q, "timeout");
	uint64_t wait_ns = API_QUERY_NS;
	int64_t ms;

	if (*s) {
		if (parse_step(s, &ms) < 0)
			return BAD_PARAM(
				q, "timeout", "cannot parse \"%.100s\" to a valid duration", s);
		wait_ns = MNO_MIN(wait_ns, (uint64_t)MNO_MAX(ms, 0) * NS_PER_MS);
	}
	lim->max_bytes = API_ANSWER_MAX;
	lim->stop = &q->api->stopping;
	lim->deadline_ns = mno_now_ns(CLOCK_MONOTONIC) + wait_ns;
	return 0;
}

static void open_success(struct mno_req *q)
{
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "status", "success");
	mno_json_key(&q->j, "data");
}

/* @damaged columns of blocks were left out: said as Prometheus says such things. */
static int close_success(struct mno_req *q, uint64_t damaged)
{
	struct mno_probe_status s = {};
	char text[128];

	if (damaged) {
		snprintf(text, sizeof(text), "%llu stored columns are damaged: samples are missing",
			(unsigned long long)damaged);
		mno_json_key(&q->j, "warnings");
		mno_json_arr(&q->j);
		mno_json_str(&q->j, text);
		mno_json_end_arr(&q->j);
	}

	mno_json_end(&q->j);
	if (q->agent->probes)
		mno_probes_totals(q->agent->probes, &s);
	api_set_completeness(q, s.seen, s.dropped + damaged);
	return api_done(q);
}

int api_query(struct mno_req *q)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *sel = NULL;
	const char *text = param(q, "query"), *when = param(q, "time");
	struct mno_promql_cost cost = {};
	struct mno_promql_limits lim = {.cost = &cost};
	struct mno_promql_error err;
	int64_t t = mno_now_ms();
	int r;

	if (*when && api_parse_time(when, &t) < 0)
		return BAD_PARAM(q, "time",
			"Invalid time value for 'time': cannot parse \"%.100s\" to a valid "
			"timestamp",
			when);
	r = read_limits(q, &lim);
	if (r)
		return r;
	if (mno_selector_parse(text, strlen(text), false, &sel, &err) < 0)
		return prom_error(q, &err, "invalid parameter \"query\": ");
	open_success(q);
	if (mno_promql_instant(q->agent->series, sel, t, &lim, &q->j, &err) < 0)
		return prom_error(q, &err, "");
	return close_success(q, cost.damaged);
}

struct range_params {
	int64_t start, end, step;
};

/* 0 or a status */
static int read_range(struct mno_req *q, struct range_params *p)
{
	const char *s = param(q, "start"), *e = param(q, "end"), *step = param(q, "step");

	if (api_parse_time(s, &p->start) < 0)
		return BAD_PARAM(q, "start", "cannot parse \"%.100s\" to a valid timestamp", s);
	if (api_parse_time(e, &p->end) < 0)
		return BAD_PARAM(q, "end", "cannot parse \"%.100s\" to a valid timestamp", e);
	if (p->end < p->start)
		return BAD_PARAM(q, "end", "end timestamp must not be before start time");
	if (parse_step(step, &p->step) < 0)
		return BAD_PARAM(q, "step", "cannot parse \"%.100s\" to a valid duration", step);
	if (p->step <= 0)
		return BAD_PARAM(q, "step",
			"zero or negative query resolution step widths are not accepted. Try a "
			"positive "
			"integer");
	if ((p->end - p->start) / p->step > MNO_PROMQL_MAX_POINTS)
		return api_error(q, 400, "bad_request", NULL,
			"exceeded maximum resolution of 11,000 points per timeseries. Try "
			"decreasing the "
			"query resolution (?step=XX)");
	return 0;
}

int api_query_range(struct mno_req *q)
{
	_cleanup_(mno_selector_free_p)
	struct mno_selector *sel = NULL;
	const char *text = param(q, "query");
	struct mno_promql_cost cost = {};
	struct mno_promql_limits lim = {.cost = &cost};
	struct mno_promql_error err;
	struct range_params p;
	int r = read_range(q, &p);

	if (r == 0)
		r = read_limits(q, &lim);
	if (r)
		return r;
	if (mno_selector_parse(text, strlen(text), false, &sel, &err) < 0)
		return prom_error(q, &err, "");
	open_success(q);
	if (mno_promql_range(q->agent->series, sel, p.start, p.end, p.step, &lim, &q->j, &err) < 0)
		return prom_error(q, &err, "");
	return close_success(q, cost.damaged);
}

/* --- series, labels ------------------------------------------------------------------------ */

#define MATCH_MAX 32

struct matches {
	struct mno_selector *v[MATCH_MAX];
	size_t n;
	int64_t start, end;
	bool empty; /* the window holds no data */
};

static void matches_done(struct matches *m)
{
	for (size_t i = 0; i < m->n; i++)
		mno_selector_free(m->v[i]);
}

/* start= and end= choose by the lives of series, not sample by sample. */
static int read_window(struct mno_req *q, struct matches *m)
{
	const char *s = param(q, "start"), *e = param(q, "end");
	struct mno_series_stat st;

	m->start = INT64_MIN;
	m->end = INT64_MAX;
	if (*s && api_parse_time(s, &m->start) < 0)
		return BAD_PARAM(q, "start",
			"Invalid time value for 'start': cannot parse \"%.100s\" to a valid "
			"timestamp",
			s);
	if (*e && api_parse_time(e, &m->end) < 0)
		return BAD_PARAM(q, "end",
			"Invalid time value for 'end': cannot parse \"%.100s\" to a valid "
			"timestamp",
			e);
	mno_series_stat(q->agent->series, &st);
	m->empty = m->end < m->start ||
		   (st.first_ms && (m->end < st.first_ms || m->start > st.last_ms));
	return 0;
}

static int read_matches(struct mno_req *q, struct matches *m)
{
	struct mno_promql_error err;
	const char *text;
	size_t pos = 0;
	int r = read_window(q, m);

	while (r == 0 && (text = mno_params_next(&q->params, "match[]", &pos))) {
		if (m->n == MATCH_MAX)
			return BAD_PARAM(q, "match[]", "more than %d of them", MATCH_MAX);
		if (mno_selector_parse(text, strlen(text), true, &m->v[m->n], &err) < 0)
			return prom_error(q, &err, "invalid parameter \"match[]\": ");
		m->n++;
	}
	return r;
}

int api_series(struct mno_req *q)
{
	_cleanup_(matches_done)
	struct matches m = {};
	struct mno_promql_limits lim = {.max_bytes = API_ANSWER_MAX};
	struct mno_promql_error err;
	int r;

	if (!mno_params_get(&q->params, "match[]"))
		return api_error(q, 400, "bad_request", NULL, "no match[] parameter provided");
	r = read_matches(q, &m);
	if (r)
		return r;
	open_success(q);
	if (mno_promql_series(q->agent->series, m.v, m.empty ? 0 : m.n, m.start, m.end, &lim, &q->j,
		    &err) < 0)
		return prom_error(q, &err, "");
	return close_success(q, 0);
}

/* Sorted texts of several selectors, merged: a bounded list, as each selector gives its own. */
struct texts {
	char **v;
	size_t n, cap, bytes;
};

static void texts_done(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
	free(t->v);
}

static int take_text(void *arg, const char *text)
{
	struct texts *t = arg;

	t->bytes += strlen(text) + sizeof(char *) + 16;
	if (t->bytes > API_ANSWER_MAX)
		return -E2BIG;
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;
		char **v = reallocarray(t->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		t->v = v;
		t->cap = cap;
	}
	t->v[t->n] = strdup(text);
	return t->v[t->n] ? (t->n++, 0) : -ENOMEM;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int put_texts(struct mno_req *q, struct texts *t, int r)
{
	if (r < 0)
		return api_error(
			q, r == -E2BIG ? 422 : 500, "limit", NULL, "the store could not be read");
	if (t->n)
		qsort(t->v, t->n, sizeof(*t->v), compare_texts);
	open_success(q);
	mno_json_arr(&q->j);
	for (size_t i = 0; i < t->n; i++)
		if (i == 0 || strcmp(t->v[i], t->v[i - 1]))
			mno_json_str(&q->j, t->v[i]);
	mno_json_end_arr(&q->j);
	return close_success(q, 0);
}

/* @label NULL: the names */
static int list_texts(struct mno_req *q, const char *label)
{
	_cleanup_(matches_done)
	struct matches m = {};
	_cleanup_(texts_done)
	struct texts t = {};
	struct mno_series *s = q->agent->series;
	int r = read_matches(q, &m);

	if (r)
		return r;
	for (size_t i = 0; r == 0 && !m.empty && i < MNO_MAX(m.n, (size_t)1); i++) {
		const struct mno_matcher *v = m.n ? m.v[i]->matchers : NULL;
		size_t n = m.n ? m.v[i]->n : 0;

		r = label ? mno_series_label_values_range(
				    s, label, v, n, m.start, m.end, take_text, &t)
			  : mno_series_label_names_range(s, v, n, m.start, m.end, take_text, &t);
	}
	return put_texts(q, &t, r);
}

int api_labels(struct mno_req *q)
{
	return list_texts(q, NULL);
}

static bool is_label_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

	return n && !s[n] && !(*s >= '0' && *s <= '9');
}

int api_label_values(struct mno_req *q)
{
	if (!is_label_name(q->name))
		return api_error(
			q, 400, "bad_request", NULL, "invalid label name: \"%s\"", q->name);
	return list_texts(q, q->name);
}

int api_buildinfo(struct mno_req *q)
{
	static const char *const empty[] = {
		"revision", "branch", "buildUser", "buildDate", "goVersion"};

	open_success(q);
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "version", MNO_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
		mno_json_kstr(&q->j, empty[i], "");
	mno_json_end(&q->j);
	return close_success(q, 0);
}
