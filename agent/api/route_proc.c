/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/proc: the ledger, live and stored, newest start first. */
#include "api_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mno/err.h"
#include "mno/time.h"
#include "mno/util.h"

#define LIMIT_MAX 100000
#define LIMIT_DEF 10000

struct row {
	uint64_t start_ns, start_boottime_ns;
	uint32_t pid;
	uint32_t nth; /* of reading: the later one knows more */
	size_t off, len;
};

/* Rows found so far, as text. At most twice the limit are kept, the newest win. */
struct rows {
	const struct mno_req *q;
	uint64_t t0, t1;
	uint64_t limit, pid, uid;
	const char *comm, *exe, *cgroup;
	bool running, has_pid, has_uid, truncated;
	struct row *v;
	size_t n, cap;
	uint32_t nth;
	struct mno_buf text;
};

static void rows_done(struct rows *r)
{
	free(r->v);
	mno_buf_done(&r->text);
}

/* @path is @want or below it; "nginx" means any component sequence of the path. */
static bool in_cgroup(const char *path, const char *want)
{
	const char *at = want[0] == '/' ? path : strstr(path, want);
	size_t n = strlen(want);

	while (n > 1 && want[n - 1] == '/')
		n--;
	if (!strcmp(want, "/"))
		return true;
	return at && !strncmp(at, want, n) && (at[n] == 0 || at[n] == '/') &&
	       (at == path || at[-1] == '/');
}

/* the whole path, or its last component */
static bool is_exe(const char *exe, const char *want)
{
	const char *slash = strrchr(exe, '/');

	return !strcmp(exe, want) || (slash && !strcmp(slash + 1, want));
}

static bool wanted(const struct rows *r, const struct mno_proc *p)
{
	bool ended = p->flags & MNO_PROC_ENDED;

	if (p->start_ns > r->t1 || (ended && p->end_ns && p->end_ns < r->t0))
		return false;
	if ((r->running && ended) || (r->has_pid && p->pid != r->pid) ||
		(r->has_uid && p->uid != r->uid))
		return false;
	if (r->comm && strncmp(p->comm, r->comm, sizeof(p->comm) - 1))
		return false;
	return (!r->exe || is_exe(p->exe ?: "", r->exe)) &&
	       (!r->cgroup || in_cgroup(p->cgroup ?: "", r->cgroup));
}

static int newest_first(const void *pa, const void *pb)
{
	const struct row *a = pa, *b = pb;

	if (a->start_ns != b->start_ns)
		return a->start_ns < b->start_ns ? 1 : -1;
	if (a->pid != b->pid)
		return a->pid < b->pid ? 1 : -1;
	return (a->nth < b->nth) - (a->nth > b->nth);
}

/* Sorts, drops older sightings of the same process, and cuts to the limit. */
static int settle(struct rows *r)
{
	struct mno_buf text = {.max = r->text.max};
	size_t kept = 0;

	if (r->n)
		qsort(r->v, r->n, sizeof(*r->v), newest_first);
	for (size_t i = 0; i < r->n; i++) {
		struct row row = r->v[i];

		if (kept && r->v[kept - 1].pid == row.pid &&
			r->v[kept - 1].start_boottime_ns == row.start_boottime_ns)
			continue;
		if (kept == r->limit) {
			r->truncated = true;
			break;
		}
		mno_buf_add(&text, r->text.data + row.off, row.len);
		row.off = text.len - row.len;
		r->v[kept++] = row;
	}
	r->n = kept;
	mno_buf_done(&r->text);
	r->text = text;
	return text.err;
}

static int make_room(struct rows *r)
{
	size_t cap = r->cap ? r->cap * 2 : 256;
	struct row *v;

	if (r->n >= 2 * r->limit + 256)
		return settle(r);
	if (r->n < r->cap)
		return 0;
	v = reallocarray(r->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->v = v;
	r->cap = cap;
	return 0;
}

static int take_row(void *arg, const struct mno_proc *p)
{
	struct rows *r = arg;
	struct mno_json j;
	size_t off;
	int e;

	e = api_expired(r->q);
	if (e < 0 || !wanted(r, p))
		return e;
	e = make_room(r);
	if (e < 0)
		return e;
	off = r->text.len;
	mno_json_init(&j, &r->text);
	mno_proc_json(p, &j);
	r->v[r->n++] = (struct row){
		p->start_ns, p->start_boottime_ns, p->pid, r->nth++, off, r->text.len - off};
	return r->text.err;
}

/* Live first: a process that ends meanwhile is then found again, never missed. */
static int read_rows(struct mno_agent *a, struct rows *r)
{
	int e = 0;

	if (a->ledger)
		e = mno_ledger_live(a->ledger, take_row, r);
	if (e == 0 && a->ledger)
		e = mno_ledger_waiting(a->ledger, take_row, r);
	if (e == 0 && a->env && !r->running)
		e = mno_ledger_read(a->env, r->t0, r->t1, take_row, r);
	return e < 0 ? e : settle(r);
}

static const char *text_param(struct mno_req *q, const char *name)
{
	const char *s = mno_params_get(&q->params, name);

	return s && *s ? s : NULL;
}

/* 0 or a status */
static int read_filter(struct mno_req *q, struct rows *r)
{
	uint64_t running;
	int e = api_window(q, 15 * 60 * NS_PER_SEC, &r->t0, &r->t1);

	if (!e)
		e = api_number(q, "limit", 1, LIMIT_MAX, LIMIT_DEF, &r->limit);
	if (!e)
		e = api_number(q, "running", 0, 1, 0, &running);
	if (!e)
		e = api_number(q, "pid", 0, UINT32_MAX, 0, &r->pid);
	if (!e)
		e = api_number(q, "uid", 0, UINT32_MAX, 0, &r->uid);
	if (e)
		return e;
	r->running = running;
	r->has_pid = text_param(q, "pid");
	r->has_uid = text_param(q, "uid");
	r->comm = text_param(q, "comm");
	r->exe = text_param(q, "exe");
	r->cgroup = text_param(q, "cgroup");
	return 0;
}

int api_proc(struct mno_req *q)
{
	_cleanup_(rows_done)
	struct rows r = {.q = q, .text = {.max = API_ANSWER_MAX / 2}};
	int e = read_filter(q, &r);

	if (e)
		return e;
	e = read_rows(q->agent, &r);
	if (e == -E2BIG)
		return api_problem(q, 422, "limit",
			"ask for a shorter window, or set limit=", "more rows than fit into %u MiB",
			API_ANSWER_MAX >> 21);
	if (e == -ETIMEDOUT)
		return api_problem(q, 503, "unavailable", "ask for a shorter window",
			"reading the ledger took too long");
	if (e < 0)
		return api_problem(q, 500, "internal", NULL, "the ledger could not be read: %s",
			mno_strerror(e));
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "processes");
	mno_json_arr(&q->j);
	for (size_t i = 0; i < r.n; i++)
		mno_json_raw(&q->j, r.text.data + r.v[i].off, r.v[i].len);
	mno_json_end_arr(&q->j);
	api_put_completeness(q, "proc");
	mno_json_kbool(&q->j, "truncated", r.truncated);
	mno_json_end(&q->j);
	return api_done(q);
}
