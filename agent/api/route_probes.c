/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/probes: list, enable, disable. */
#include "api_internal.h"

#include <errno.h>
#include <string.h>

#include "mno/err.h"
#include "mno/time.h"
#include "mno/util.h"

static void put_counts(struct mno_json *j, const struct mno_probe_status *s)
{
	/* facts it was told: a probe that only counts sends no records */
	mno_json_ku64(j, "events", MNO_MAX(s->seen, s->runs));
	mno_json_ku64(j, "lost", s->dropped);
	mno_json_ku64(j, "cost_ns_per_event", s->cost_ns_per_event);
	mno_json_ku64(j, "seen", s->seen);
	mno_json_ku64(j, "stored", s->stored);
	mno_json_ku64(j, "sampled", s->sampled);
	mno_json_ku64(j, "dropped", s->dropped);
	mno_json_ku64(j, "in_flight", s->in_flight);
	mno_json_ku64(j, "errors", s->errors);
	mno_json_ku64(j, "missed", s->missed);
	mno_json_kf64(j, "cpu_percent", s->cpu_percent);
	mno_json_ku64(j, "bpf_bytes", s->bpf_bytes);
}

static void put_until(struct mno_json *j, uint64_t until_ns)
{
	uint64_t now = mno_now_ns(CLOCK_BOOTTIME);

	mno_json_key(j, "until_seconds");
	if (until_ns)
		mno_json_f64(j, until_ns > now ? (double)(until_ns - now) / (double)NS_PER_SEC : 0);
	else
		mno_json_null(j);
}

void api_put_probe(struct mno_req *q, const struct mno_probe_status *s, bool long_form)
{
	struct mno_json *j = &q->j;

	mno_json_obj(j);
	mno_json_kstr(j, "name", s->probe->name);
	mno_json_kstr(j, "state", mno_probe_state_name(s->state));
	mno_json_kstr(j, "attach", s->attach ?: "");
	mno_json_kstr(j, "reason", s->reason);
	put_counts(j, s);
	put_until(j, s->until_ns);
	if (long_form) {
		mno_json_kstr(j, "summary", s->probe->summary);
		mno_json_kbool(j, "by_default", s->probe->by_default);
		mno_json_key(j, "kinds");
		mno_json_arr(j);
		for (size_t i = 0; i < s->probe->n_kinds; i++)
			mno_json_str(j, s->probe->kinds[i].name);
		mno_json_end_arr(j);
	}
	mno_json_end(j);
}

int api_probes(struct mno_req *q)
{
	struct mno_probe_status s;

	mno_json_obj(&q->j);
	mno_json_key(&q->j, "probes");
	mno_json_arr(&q->j);
	for (size_t i = 0; q->agent->probes && mno_probes_status(q->agent->probes, i, &s); i++)
		api_put_probe(q, &s, true);
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}

static bool find_probe(struct mno_req *q, struct mno_probe_status *s)
{
	for (size_t i = 0; mno_probes_status(q->agent->probes, i, s); i++)
		if (!strcmp(s->probe->name, q->name))
			return true;
	return false;
}

static int no_such_probe(struct mno_req *q)
{
	struct mno_probe_status s;
	const char *guess = NULL;
	unsigned best = 3;

	for (size_t i = 0; mno_probes_status(q->agent->probes, i, &s); i++) {
		unsigned d = mno_edit_distance(q->name, s.probe->name);

		if (d < best) {
			best = d;
			guess = s.probe->name;
		}
	}
	return api_problem(q, 404, "not_found", "mnoctl probes lists them",
		guess ? "there is no probe %s; did you mean %s?" : "there is no probe %s", q->name,
		guess);
}

/* The probe's status after @r, or the error that @r is. */
static int answer_change(struct mno_req *q, int r, const char *already)
{
	struct mno_probe_status s;

	if (r == -ENOENT || !find_probe(q, &s))
		return no_such_probe(q);
	if (r == -EALREADY)
		return api_problem(
			q, 409, "conflict", NULL, "probe %s is %s already", q->name, already);
	if (r < 0)
		return api_problem(q, 503, "unavailable",
			"mnoctl doctor shows what this host allows", "probe %s: %s", q->name,
			*s.reason ? s.reason : mno_strerror(r));
	api_put_probe(q, &s, true);
	return api_done(q);
}

static int need_probes(struct mno_req *q)
{
	return q->agent->probes
		       ? 0
		       : api_problem(q, 503, "unavailable", "start mnod without --no-bpf, as root",
				 "the agent runs without BPF");
}

int api_probe_enable(struct mno_req *q)
{
	const char *text = mno_params_get(&q->params, "for");
	uint64_t for_ns = 0;
	int r = need_probes(q);

	if (r)
		return r;
	if (text && *text && mno_duration_parse(text, &for_ns) < 0)
		return api_problem(q, 400, "bad_request", "write for=60s or for=10m",
			"for=%.100s is not a duration", text);
	return answer_change(q, mno_probes_enable(q->agent->probes, q->name, for_ns), "on");
}

int api_probe_disable(struct mno_req *q)
{
	int r = need_probes(q);

	return r ?: answer_change(q, mno_probes_disable(q->agent->probes, q->name), "off");
}
