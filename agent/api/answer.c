/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers have in common: errors, completeness, parameters. */
#include "api_internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mno/time.h"
#include "mno/util.h"

static const struct {
	int status;
	const char *title;
} titles[] = {
	{400, "Bad Request"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{409, "Conflict"},
	{410, "Gone"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{415, "Unsupported Media Type"},
	{422, "Unprocessable Content"},
	{500, "Internal Server Error"},
	{503, "Service Unavailable"},
	{507, "Insufficient Storage"},
};

static const char *title_of(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
		if (titles[i].status == status)
			return titles[i].title;
	return "Error";
}

/* Forgets what was written so far. */
static void restart(struct mno_req *q)
{
	mno_buf_reset(&q->out);
	mno_json_init(&q->j, &q->out);
}

static void put_problem(
	struct mno_req *q, int status, const char *code, const char *hint, const char *detail)
{
	restart(q);
	q->type = "application/problem+json";
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "type", "about:blank");
	mno_json_kstr(&q->j, "title", title_of(status));
	mno_json_ki64(&q->j, "status", status);
	mno_json_kstr(&q->j, "detail", detail);
	mno_json_kstr(&q->j, "code", code);
	if (hint)
		mno_json_kstr(&q->j, "hint", hint);
	mno_json_end(&q->j);
}

int api_problem(
	struct mno_req *q, int status, const char *code, const char *hint, const char *fmt, ...)
{
	char detail[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	put_problem(q, status, code, hint, detail);
	return status;
}

/* Prometheus' name of an error of ours. */
static const char *prom_type(int status)
{
	static const struct {
		int status;
		const char *type;
	} map[] = {{400, "bad_data"}, {403, "bad_data"}, {404, "not_found"}, {405, "bad_data"},
		{413, "bad_data"}, {422, "execution"}, {503, "timeout"}};

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].status == status)
			return map[i].type;
	return "internal";
}

int api_error(
	struct mno_req *q, int status, const char *code, const char *hint, const char *fmt, ...)
{
	char detail[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	if (!q->path || strncmp(q->path, "/api/v1/", 8)) {
		put_problem(q, status, code, hint, detail);
		return status;
	}
	restart(q);
	q->type = "application/json";
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "status", "error");
	mno_json_kstr(&q->j, "errorType", prom_type(status));
	if (hint)
		snprintf(detail + strlen(detail), sizeof(detail) - strlen(detail), "; %s", hint);
	mno_json_kstr(&q->j, "error", detail);
	mno_json_end(&q->j);
	return status;
}

int api_done(struct mno_req *q)
{
	if (q->out.err == 0)
		return 200;
	if (q->out.err == -ENOMEM)
		return api_error(q, 500, "internal", NULL, "out of memory");
	return api_error(q, 422, "limit",
		"ask for a shorter window, or set limit=", "the answer would be larger than %u MiB",
		API_ANSWER_MAX >> 20);
}

void api_set_completeness(struct mno_req *q, uint64_t seen, uint64_t dropped)
{
	double share = seen ? 1.0 - (double)MNO_MIN(dropped, seen) / (double)seen : 1.0;

	/* never rounded up to "all of it" */
	if (dropped && share > 0.999999)
		share = 0.999999;
	snprintf(q->completeness, sizeof(q->completeness), dropped ? "%.6f" : "%.1f", share);
}

static void find_totals(struct mno_req *q, const char *probe, struct mno_probe_status *s)
{
	struct mno_probes *p = q->agent->probes;

	if (!p)
		return;
	if (!probe) {
		mno_probes_totals(p, s);
		return;
	}
	for (size_t i = 0; mno_probes_status(p, i, s); i++)
		if (!strcmp(s->probe->name, probe))
			return;
	*s = (struct mno_probe_status){};
}

void api_put_completeness(struct mno_req *q, const char *probe)
{
	struct mno_probe_status s = {};

	find_totals(q, probe, &s);
	mno_json_key(&q->j, "completeness");
	mno_json_obj(&q->j);
	mno_json_ku64(&q->j, "seen", s.seen);
	mno_json_ku64(&q->j, "stored", s.stored);
	mno_json_ku64(&q->j, "sampled", s.sampled);
	mno_json_ku64(&q->j, "dropped", s.dropped);
	/* in the rings, or waiting for the next commit */
	mno_json_ku64(&q->j, "in_flight", s.in_flight);
	mno_json_end(&q->j);
	api_set_completeness(q, s.seen, s.dropped);
}

/* 2026-11-23T16:30:00[.123](Z|+01:00) */
static int parse_rfc3339(const char *s, int64_t *ret_ms)
{
	int n = 0, zone_h = 0, zone_m = 0, sign = 0;
	unsigned ms = 0, scale = 100;
	struct tm tm = {};
	time_t t;

	if (sscanf(s, "%4d-%2d-%2d%*1[Tt]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		    &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) < 6 ||
		n != 19)
		return -EINVAL;
	s += n;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
			ms += (unsigned)(*s - '0') * scale;
	if (*s == '+' || *s == '-') {
		sign = *s == '-' ? -1 : 1;
		if (sscanf(s + 1, "%2d:%2d%n", &zone_h, &zone_m, &n) < 2 || n != 5 || s[6])
			return -EINVAL;
	} else if ((*s != 'Z' && *s != 'z') || s[1]) {
		return -EINVAL;
	}
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 || zone_h > 23 || zone_m > 59)
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	t = timegm(&tm) - (time_t)sign * (zone_h * 3600 + zone_m * 60);
	*ret_ms = (int64_t)t * 1000 + ms;
	return 0;
}

int api_parse_time(const char *s, int64_t *ret_ms)
{
	/* later ones are as good as this, and sums with durations cannot overflow */
	const double bound = 9e15;
	double v;

	if (mno_parse_f64(s, &v) < 0)
		return parse_rfc3339(s, ret_ms);
	if (isnan(v))
		return -EINVAL;
	v = round(v * 1000);
	*ret_ms = (int64_t)(v > bound ? bound : v < -bound ? -bound : v);
	return 0;
}

int api_parse_since(const char *s, uint64_t now_ns, uint64_t *ret_ns)
{
	size_t n = strlen(s);
	uint64_t ago;
	int64_t ms;

	/* a plain number is a point in time, not a duration */
	if (n && s[n - 1] >= 'a' && s[n - 1] <= 'z' && s[n - 1] != 'z') {
		if (mno_duration_parse(s, &ago) < 0)
			return -EINVAL;
		*ret_ns = ago < now_ns ? now_ns - ago : 0;
		return 0;
	}
	if (api_parse_time(s, &ms) < 0 || ms < 0)
		return -EINVAL;
	*ret_ns = (uint64_t)MNO_MIN(ms, INT64_MAX / 1000000) * NS_PER_MS;
	return 0;
}

int api_window(struct mno_req *q, uint64_t ago_ns, uint64_t *ret_t0, uint64_t *ret_t1)
{
	static const char *const names[] = {"since", "until"};
	uint64_t now = mno_now_ns(CLOCK_REALTIME), t[2] = {now - MNO_MIN(ago_ns, now), now};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *s = mno_params_get(&q->params, names[i]);

		if (s && *s && api_parse_since(s, now, &t[i]) < 0)
			return api_problem(q, 400, "bad_request",
				"write a duration ago (10m), Unix seconds, or 2026-01-31T12:00:00Z",
				"%s=%.100s is not a time", names[i], s);
	}
	if (t[1] < t[0])
		return api_problem(q, 400, "bad_request", NULL, "until is before since");
	*ret_t0 = t[0];
	*ret_t1 = t[1];
	return 0;
}

int api_owner_only(struct mno_req *q, const char *name, const char *hint, const char *text)
{
	const char *v = mno_params_get(&q->params, name);

	if (!v || !*v ||
		(q->client && (q->client->peer.uid == 0 || q->client->peer.uid == geteuid())))
		return 0;
	return api_problem(q, 403, "forbidden", hint, "%s", text);
}

int api_number(struct mno_req *q, const char *name, uint64_t min, uint64_t max, uint64_t def,
	uint64_t *ret)
{
	const char *s = mno_params_get(&q->params, name);
	uint64_t v = def;

	if (s && *s && (mno_parse_u64(s, &v) < 0 || v < min || v > max))
		return api_problem(q, 400, "bad_request", NULL,
			"%s=%.100s: expected a number from %llu to %llu", name, s,
			(unsigned long long)min, (unsigned long long)max);
	*ret = v;
	return 0;
}
