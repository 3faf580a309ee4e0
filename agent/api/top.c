/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /mno/v1/top: the probes' live members merged by cgroup; without the sched probe, rates between
 * two looks at /proc and cgroup files, and said to be so.
 */
#include "api_internal.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <string.h>

#include "mno/err.h"
#include "mno/map.h"
#include "mno/time.h"
#include "top_files.h"

#define ROWS_MAX        1024
#define PROCS_MAX       200
#define LOOK_MAX_AGE_NS (30 * NS_PER_SEC)

struct api_top {
	pthread_mutex_t lock;
	struct top_look looks[2]; /* [0] the older */
	bool with_procs;          /* the looks have processes */
};

int api_top_new(struct api_top **ret)
{
	struct api_top *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	*ret = t;
	return 0;
}

struct api_top *api_top_free(struct api_top *t)
{
	if (!t)
		return NULL;
	top_look_done(&t->looks[0]);
	top_look_done(&t->looks[1]);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return NULL;
}

/* One line of the answer; NAN = not known. */
struct row {
	char *path;
	double cpu, wait, throttled, block_p99, tcp_p99, syscalls, culprit_percent;
	char *culprit;
};

struct table {
	struct row *v;
	size_t n;
	struct mno_map *by_path;
	struct mno_map *calls; /* pid -> its object in the syscall probe's list */
	struct json_object *sched, *block, *tcp, *syscall; /* NULL: probe not running */
	double interval;                                   /* seconds */
};

static void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->v[i].path);
		free(t->v[i].culprit);
	}
	free(t->v);
	mno_map_free(t->by_path, NULL);
	mno_map_free(t->calls, NULL);
	json_object_put(t->sched);
	json_object_put(t->block);
	json_object_put(t->tcp);
	json_object_put(t->syscall);
}

/* The named probe's live members as an object; NULL when it is not running. */
static struct json_object *snapshot(struct mno_agent *a, const char *probe)
{
	_cleanup_buf_ struct mno_buf text = {.max = 16u << 20};
	struct mno_json j;
	int r;

	if (!a->probes)
		return NULL;
	mno_json_init(&j, &text);
	mno_json_obj(&j);
	r = mno_probes_snapshot(a->probes, probe, &j);
	mno_json_end(&j);
	return r == 0 && !text.err ? json_tokener_parse(mno_buf_cstr(&text)) : NULL;
}

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return o && json_object_is_type(o, json_type_object) &&
			       json_object_object_get_ex(o, key, &v)
		       ? v
		       : NULL;
}

static double number(struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key);

	return v && (json_object_is_type(v, json_type_double) ||
			    json_object_is_type(v, json_type_int))
		       ? json_object_get_double(v)
		       : NAN;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key);

	return v && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static size_t array_len(struct json_object *o)
{
	return o && json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
}

/* The row of @path, made on first sight; NULL at the bound. */
static struct row *row_of(struct table *t, const char *path)
{
	size_t n = path ? strlen(path) : 0;
	struct row *r = n ? mno_map_get(t->by_path, path, n) : NULL;

	if (r || !n || t->n == ROWS_MAX)
		return r;
	r = &t->v[t->n];
	*r = (struct row){.path = strdup(path),
		.cpu = NAN,
		.wait = NAN,
		.throttled = NAN,
		.block_p99 = NAN,
		.tcp_p99 = NAN,
		.syscalls = NAN,
		.culprit_percent = NAN};
	if (!r->path || mno_map_put(t->by_path, path, n, r, NULL) < 0) {
		free(r->path);
		return NULL;
	}
	t->n++;
	return r;
}

static void merge_sched(struct table *t)
{
	struct json_object *list = member(t->sched, "cgroups");

	for (size_t i = 0; i < array_len(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct row *r = row_of(t, text(o, "path"));
		const char *culprit = text(o, "culprit");

		if (!r)
			continue;
		r->cpu = number(o, "cpu_percent");
		r->wait = number(o, "wait_percent");
		r->culprit_percent = number(o, "culprit_percent");
		if (culprit && !r->culprit)
			r->culprit = strdup(culprit);
	}
}

/* One number a cgroup, from another probe's list. */
static void merge_number(struct table *t, struct json_object *probe, const char *key, size_t off)
{
	struct json_object *list = member(probe, "cgroups");

	for (size_t i = 0; i < array_len(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct row *r = row_of(t, text(o, "path"));

		if (r)
			*(double *)((char *)r + off) = number(o, key);
	}
}

static void merge_files(struct table *t, const struct top_look *before, const struct top_look *now)
{
	double us = (double)(now->at_ns - before->at_ns) / 1000;

	for (size_t i = 0; i < now->n_cgroups; i++) {
		const struct top_cgroup_usage *c = &now->cgroups[i],
					      *b = top_find_cgroup(before, c->path);
		struct row *r;

		if (!b || c->cpu_us < b->cpu_us)
			continue;
		/* with the probe, cgroups that did nothing are left out */
		r = t->sched ? mno_map_get(t->by_path, c->path, strlen(c->path))
			     : row_of(t, c->path);
		if (!r)
			continue;
		if (!t->sched)
			r->cpu = 100 * (double)(c->cpu_us - b->cpu_us) / us;
		if (c->has_throttled && c->throttled_us >= b->throttled_us)
			r->throttled = 100 * (double)(c->throttled_us - b->throttled_us) / us;
	}
}

static int by_cpu(const void *pa, const void *pb)
{
	const struct row *a = pa, *b = pb;
	double x = isnan(a->cpu) ? -1 : a->cpu, y = isnan(b->cpu) ? -1 : b->cpu;

	return x != y ? (x < y ? 1 : -1) : strcmp(a->path, b->path);
}

static void put_cgroups(struct mno_json *j, struct table *t)
{
	if (t->n)
		qsort(t->v, t->n, sizeof(*t->v), by_cpu);
	mno_json_key(j, "cgroups");
	mno_json_arr(j);
	for (size_t i = 0; i < t->n; i++) {
		const struct row *r = &t->v[i];

		mno_json_obj(j);
		mno_json_kstr(j, "path", r->path);
		mno_json_kf64(j, "cpu_percent", r->cpu);
		mno_json_kf64(j, "wait_percent", r->wait);
		mno_json_kf64(j, "throttled_percent", r->throttled);
		mno_json_kf64(j, "block_p99_seconds", r->block_p99);
		mno_json_kf64(j, "tcp_p99_seconds", r->tcp_p99);
		mno_json_kf64(j, "syscalls_per_second", r->syscalls);
		mno_json_kstr(j, "culprit", r->culprit);
		mno_json_kf64(j, "culprit_percent", r->culprit_percent);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static void index_calls(struct table *t)
{
	struct json_object *list = member(t->syscall, "processes");

	for (size_t i = 0; i < array_len(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		uint32_t pid = (uint32_t)json_object_get_int64(member(o, "pid"));

		mno_map_put(t->calls, &pid, sizeof(pid), o, NULL);
	}
}

/* NAN without the probe; a process that is not in its list made no call */
static double calls_of(const struct table *t, uint32_t pid)
{
	struct json_object *o = mno_map_get(t->calls, &pid, sizeof(pid));

	if (!t->syscall)
		return NAN;
	return o ? number(o, "syscalls_per_second") : 0;
}

static void put_proc_of_probe(struct mno_json *j, const struct table *t, struct json_object *o)
{
	static const char *const rates[] = {
		"cpu_percent", "wait_percent", "io_read_bps", "io_write_bps", "block_wait_percent"};
	uint32_t pid = (uint32_t)json_object_get_int64(member(o, "pid"));

	mno_json_obj(j);
	mno_json_ku64(j, "pid", pid);
	mno_json_kstr(j, "comm", text(o, "comm"));
	mno_json_kstr(j, "cgroup", text(o, "cgroup"));
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++)
		mno_json_kf64(j, rates[i], number(o, rates[i]));
	mno_json_kf64(j, "syscalls_per_second", calls_of(t, pid));
	mno_json_ku64(j, "rss_bytes", (uint64_t)json_object_get_int64(member(o, "rss_bytes")));
	mno_json_end(j);
}

struct busy {
	const struct top_proc_usage *now, *before;
	uint64_t weight;
};

static int by_weight(const void *pa, const void *pb)
{
	const struct busy *a = pa, *b = pb;

	if (a->weight != b->weight)
		return a->weight < b->weight ? 1 : -1;
	return a->now->rss_bytes != b->now->rss_bytes
		       ? (a->now->rss_bytes < b->now->rss_bytes ? 1 : -1)
		       : 0;
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return now >= before && seconds > 0 ? (double)(now - before) / seconds : NAN;
}

static void put_proc_of_files(struct mno_json *j, const struct table *t, const struct busy *b)
{
	double seconds = t->interval;
	const struct top_proc_usage *n = b->now, *o = b->before;
	double hz = (double)sysconf(_SC_CLK_TCK);
	char path[4096];

	mno_json_obj(j);
	mno_json_ku64(j, "pid", n->pid);
	mno_json_kstr(j, "comm", n->comm);
	mno_json_kstr(j, "cgroup", top_proc_cgroup(n->pid, path, sizeof(path)) ? path : NULL);
	mno_json_kf64(j, "cpu_percent", 100 / hz * rate(n->cpu_ticks, o->cpu_ticks, seconds));
	mno_json_kf64(j, "wait_percent", 1e-7 * rate(n->wait_ns, o->wait_ns, seconds));
	mno_json_kf64(
		j, "io_read_bps", n->has_io ? rate(n->read_bytes, o->read_bytes, seconds) : NAN);
	mno_json_kf64(
		j, "io_write_bps", n->has_io ? rate(n->write_bytes, o->write_bytes, seconds) : NAN);
	mno_json_kf64(j, "block_wait_percent", NAN);
	mno_json_kf64(j, "syscalls_per_second", calls_of(t, n->pid));
	mno_json_ku64(j, "rss_bytes", n->rss_bytes);
	mno_json_end(j);
}

static void put_files_procs(struct mno_json *j, const struct table *t,
	const struct top_look *before, const struct top_look *now)
{
	_cleanup_free_ struct busy *v = calloc(now->n_procs + 1, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; v && i < now->n_procs; i++) {
		const struct top_proc_usage *p = &now->procs[i], *b = top_find_proc(before, p);

		if (b)
			v[n++] = (struct busy){p, b, p->cpu_ticks - b->cpu_ticks};
	}
	if (n)
		qsort(v, n, sizeof(*v), by_weight);
	for (size_t i = 0; i < n && i < PROCS_MAX; i++)
		put_proc_of_files(j, t, &v[i]);
}

/* What is not known, and why: never a zero in its place. */
static void put_degraded(struct mno_json *j, const struct table *t, bool cut)
{
	const struct {
		bool missing;
		const char *what, *why, *todo;
	} all[] = {
		{!t->sched, "CPU from /proc and cpu.stat only, no culprit",
			"the sched probe is not running", "mnoctl probes shows why"},
		{!t->block, "no block latency", "the block probe is not running",
			"mnoctl probes shows why"},
		{!t->tcp, "no TCP latency", "the tcp probe is not running",
			"mnoctl probes shows why"},
		{!t->syscall, "no system calls per second",
			"the syscall probe is on demand: it costs every call of the host",
			"mnoctl probes enable syscall --for 60s"},
		{cut, "not all cgroups or processes were read", "there are more than the bound",
			NULL},
	};

	mno_json_key(j, "degraded");
	mno_json_arr(j);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (!all[i].missing)
			continue;
		mno_json_obj(j);
		mno_json_kstr(j, "what", all[i].what);
		mno_json_kstr(j, "why", all[i].why);
		mno_json_kstr(j, "todo", all[i].todo);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static void put_procs(struct mno_json *j, const struct table *t, const struct top_look *before,
	const struct top_look *now)
{
	struct json_object *list = member(t->sched, "processes");

	mno_json_key(j, "processes");
	mno_json_arr(j);
	if (!t->sched)
		put_files_procs(j, t, before, now);
	for (size_t i = 0; i < array_len(list) && i < PROCS_MAX; i++)
		put_proc_of_probe(j, t, json_object_array_get_idx(list, i));
	mno_json_end_arr(j);
}

static int make_table(struct mno_agent *a, struct table *t)
{
	t->v = calloc(ROWS_MAX, sizeof(*t->v));
	if (!t->v || mno_map_new(ROWS_MAX * 2, &t->by_path) < 0 || mno_map_new(0, &t->calls) < 0)
		return -ENOMEM;
	t->sched = snapshot(a, "sched");
	t->block = snapshot(a, "block");
	t->tcp = snapshot(a, "tcp");
	t->syscall = snapshot(a, "syscall");
	return 0;
}

/* Looks at the files and chooses what to compare with; *@ret_before NULL when it is too early.
 * @t->lock held; the look is kept in t->looks[1]. */
static int look(struct api_top *t, struct mno_agent *a, bool procs, uint64_t interval,
	const struct top_look **ret_before)
{
	struct top_look now = {};
	uint64_t age;
	int r = top_look_take(a->opts.cgroup_root, procs, &now);

	if (r < 0)
		return r;
	if (t->with_procs != procs ||
		(t->looks[1].at_ns && now.at_ns - t->looks[1].at_ns > LOOK_MAX_AGE_NS)) {
		top_look_done(&t->looks[0]);
		top_look_done(&t->looks[1]);
		t->with_procs = procs;
	}
	/* a newer one that is too fresh to compare with is replaced, until the older is too old */
	age = now.at_ns - t->looks[1].at_ns;
	if (age >= interval - interval / 8 || !t->looks[0].at_ns ||
		now.at_ns - t->looks[0].at_ns > 2 * interval) {
		top_look_done(&t->looks[0]);
		t->looks[0] = t->looks[1];
	} else {
		top_look_done(&t->looks[1]);
	}
	t->looks[1] = now;
	*ret_before = t->looks[0].at_ns && now.at_ns - t->looks[0].at_ns >= interval / 8
			      ? &t->looks[0]
			      : NULL;
	return 0;
}

static bool too_early(const struct table *t, const struct top_look *before)
{
	return !before || (t->sched && !(number(t->sched, "processes_interval_seconds") > 0));
}

static void put_top(struct mno_req *q, struct table *t, const struct top_look *before,
	const struct top_look *now)
{
	static const struct top_look none;

	before = before ?: &none;
	t->interval = before->at_ns ? (double)(now->at_ns - before->at_ns) / (double)NS_PER_SEC : 0;
	merge_sched(t);
	merge_number(t, t->block, "block_p99_seconds", offsetof(struct row, block_p99));
	merge_number(t, t->tcp, "tcp_p99_seconds", offsetof(struct row, tcp_p99));
	merge_number(t, t->syscall, "syscalls_per_second", offsetof(struct row, syscalls));
	merge_files(t, before, now);
	index_calls(t);
	mno_json_obj(&q->j);
	mno_json_kf64(&q->j, "interval_seconds",
		t->sched ? number(t->sched, "processes_interval_seconds") : t->interval);
	put_cgroups(&q->j, t);
	put_procs(&q->j, t, before, now);
	api_put_completeness(q, NULL);
	put_degraded(&q->j, t, now->cut);
	mno_json_end(&q->j);
}

/* interval=; 0 or a status */
static int read_interval(struct mno_req *q, uint64_t *ret)
{
	const char *s = mno_params_get(&q->params, "interval");

	*ret = NS_PER_SEC;
	if (s && *s &&
		(mno_duration_parse(s, ret) < 0 || *ret < 100 * NS_PER_MS ||
			*ret > 60 * NS_PER_SEC))
		return api_problem(q, 400, "bad_request", "write interval=1s",
			"interval=%.100s: expected a duration from 100ms to 60s", s);
	return 0;
}

int api_top(struct mno_req *q)
{
	_cleanup_(table_done)
	struct table t = {};
	struct api_top *top = q->api->top;
	const struct top_look *before = NULL;
	uint64_t interval;
	int r = read_interval(q, &interval);

	if (r)
		return r;
	r = make_table(q->agent, &t);
	if (r < 0)
		return api_problem(q, 500, "internal", NULL, "%s", mno_strerror(r));
	pthread_mutex_lock(&top->lock);
	r = look(top, q->agent, !t.sched, interval, &before);
	if (r == 0 && q->round == 0 && too_early(&t, before)) {
		q->wake_ns = mno_now_ns(CLOCK_MONOTONIC) + interval;
		r = 1;
	}
	if (r == 0)
		put_top(q, &t, before, &top->looks[1]);
	pthread_mutex_unlock(&top->lock);
	if (r > 0)
		return API_LATER;
	return r < 0 ? api_problem(q, 500, "internal", NULL, "the files could not be read: %s",
			       mno_strerror(r))
		     : api_done(q);
}
