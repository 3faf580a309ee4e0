/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/events: stored records, or the live stream. */
#include "api_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mno/err.h"
#include "mno/util.h"

#define LIMIT_MAX 100000
#define LIMIT_DEF 1000
#define KINDS_MAX 64

struct pick {
	const struct mno_req *q;
	const struct mno_kinds *kinds;
	uint16_t want[KINDS_MAX];
	size_t n_want;
	uint64_t pid;        /* 0 = of all */
	uint64_t t0, t1;     /* boottime, as the records have it */
	uint64_t found;      /* records of these kinds and time */
	uint64_t skip, left; /* in the second pass */
	uint64_t unreadable; /* of another version, or damaged */
	struct mno_event_ctx ctx;
	struct mno_json *j; /* NULL in the first pass */
};

static int no_such_kind(struct mno_req *q, const struct mno_kinds *k, const char *name)
{
	const char *guess = NULL;
	unsigned best = 3;

	for (size_t i = 0; i < k->n; i++) {
		unsigned d = mno_edit_distance(name, k->v[i]->name);

		if (d < best) {
			best = d;
			guess = k->v[i]->name;
		}
	}
	return api_problem(q, 400, "bad_request", "mnoctl probes lists the kinds of each probe",
		guess ? "there is no kind %.100s; did you mean %s?" : "there is no kind %.100s",
		name, guess);
}

/* kind=, repeated or with commas; 0 or a status */
static int read_kinds(struct mno_req *q, struct pick *p)
{
	const char *list;
	size_t pos = 0;

	p->kinds = mno_probes_kinds();
	while ((list = mno_params_next(&q->params, "kind", &pos))) {
		for (const char *s = list; *s;) {
			size_t n = strcspn(s, ",");
			const struct mno_kind *k;
			char name[64];

			snprintf(name, sizeof(name), "%.*s", (int)MNO_MIN(n, sizeof(name) - 1), s);
			s += n + (s[n] == ',');
			k = mno_kind_by_name(p->kinds, name);
			if (!k)
				return no_such_kind(q, p->kinds, name);
			if (p->n_want == KINDS_MAX)
				return api_problem(
					q, 400, "limit", NULL, "more than %d kinds", KINDS_MAX);
			p->want[p->n_want++] = k->kind;
		}
	}
	return 0;
}

static bool wanted(const struct pick *p, const struct mno_hdr *h)
{
	if (h->ktime < p->t0 || h->ktime > p->t1)
		return false;
	for (size_t i = 0; i < p->n_want; i++)
		if (p->want[i] == h->kind)
			return true;
	return p->n_want == 0;
}

/* Whether a checked record is about the process wanted: its own, or a signal from or to it. */
static bool is_about(const struct pick *p, const struct mno_kind *kind, const void *rec)
{
	static const char *const names[] = {"pid", "sender_pid", "target_pid"};
	uint32_t pid;

	for (size_t i = 0; i < kind->n_fields; i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			const struct mno_field *f = &kind->fields[i];

			if (strcmp(f->name, names[k]) || f->size != sizeof(pid))
				continue;
			memcpy(&pid, (const char *)rec + f->off, sizeof(pid));
			if (pid == p->pid)
				return true;
		}
	return false;
}

static int take_event(void *arg, const void *rec, size_t len)
{
	const struct mno_kind *kind;
	struct pick *p = arg;

	int r = api_expired(p->q);

	if (r < 0 || !wanted(p, rec))
		return r;
	if (mno_event_check(p->kinds, rec, len, &kind) < 0) {
		p->unreadable++;
		return 0;
	}
	if (p->pid && !is_about(p, kind, rec))
		return 0;
	p->found++;
	if (!p->j || p->found <= p->skip || !p->left)
		return 0;
	p->left--;
	mno_event_json(kind, rec, &p->ctx, p->j);
	return p->j->out->err;
}

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	struct mno_agent *a = arg;

	return a->cgroups ? mno_cgroups_path(a->cgroups, id, buf, size) : NULL;
}

/* Two passes: the newest ones are wanted, but they are read in time order. */
static int put_stored(struct mno_req *q, struct pick *p, uint64_t t0, uint64_t t1, uint64_t limit)
{
	int r = mno_events_read(q->agent->env, t0, t1, take_event, p);

	p->skip = p->found > limit ? p->found - limit : 0;
	p->found = p->unreadable = 0;
	p->left = limit;
	p->j = &q->j;
	return r < 0 ? r : mno_events_read(q->agent->env, t0, t1, take_event, p);
}

/* Unix to boottime ns, kept in range */
static uint64_t to_boottime(uint64_t unix_ns, int64_t offset_ns)
{
	return unix_ns > (uint64_t)offset_ns ? unix_ns - (uint64_t)offset_ns : 0;
}

static int stored(struct mno_req *q, struct pick *p)
{
	struct mno_agent *a = q->agent;
	uint64_t t0, t1, limit;
	int r = api_window(q, 15 * 60 * NS_PER_SEC, &t0, &t1);

	if (!r)
		r = api_number(q, "limit", 1, LIMIT_MAX, LIMIT_DEF, &limit);
	if (!r)
		r = api_number(q, "pid", 1, UINT32_MAX, 0, &p->pid);
	if (r)
		return r;
	p->t0 = to_boottime(t0, a->boot_offset_ns);
	p->t1 = to_boottime(t1, a->boot_offset_ns);
	p->ctx = (struct mno_event_ctx){
		.boot_offset_ns = a->boot_offset_ns, .cgroup_path = cgroup_path, .arg = a};
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "events");
	mno_json_arr(&q->j);
	r = a->env ? put_stored(q, p, t0, t1, limit) : 0;
	if (r == -ETIMEDOUT)
		return api_problem(q, 503, "unavailable", "ask for a shorter window",
			"reading the events took too long");
	if (r < 0 && r != -E2BIG)
		return api_problem(q, 500, "internal", NULL, "the events could not be read: %s",
			mno_strerror(r));
	mno_json_end_arr(&q->j);
	api_put_completeness(q, NULL);
	mno_json_kbool(&q->j, "truncated", p->skip > 0);
	mno_json_ku64(&q->j, "unreadable", p->unreadable);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_events(struct mno_req *q)
{
	struct pick p = {.q = q};
	uint64_t follow;
	int r = api_number(q, "follow", 0, 1, 0, &follow);

	if (!r)
		r = read_kinds(q, &p);
	if (r)
		return r;
	return follow ? api_stream_open(q, p.want, p.n_want) : stored(q, &p);
}
