/* SPDX-License-Identifier: Apache-2.0 */
#include "mno/promql.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hists.h"
#include "mno/arena.h"
#include "mno/err.h"
#include "mno/time.h"

#define READ_SERIES  64         /* series per read: as many as the store keeps together */
#define READ_SAMPLES (4u << 20) /* held in memory at once, 16 bytes each */

struct label {
	const char *name, *value;
};

struct item {
	uint32_t id;
	uint32_t n_labels;
	struct label *labels;
	size_t off, len;   /* of its values in eval.text; len 0: none */
	size_t hoff, hlen; /* of its native histograms */
};

struct eval {
	struct mno_series *series;
	const struct mno_selector *sel;
	struct mno_promql_limits lim;
	struct mno_promql_error *err;
	int64_t start, end, step; /* step 0: instant */
	struct mno_arena *arena;  /* items' labels */
	struct item *items;
	size_t n, cap;
	size_t columns;      /* read so far */
	struct mno_buf text; /* values, in the order of reading */
	bool has_hists;      /* the store has any native histograms */
	struct hists hists;  /* of the series being read */
	size_t hist_at;      /* the first of hists.col that is not in text yet */
};

static void eval_done(struct eval *e)
{
	mno_arena_free(e->arena);
	free(e->items);
	mno_buf_done(&e->text);
	hists_done(&e->hists);
}

static _printf_(4, 5) int fail(
	struct mno_promql_error *err, int r, enum mno_promql_error_type type, const char *fmt, ...)
{
	va_list ap;

	err->type = type;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return r;
}

/* Turns a code of the store into the error that a client sees. */
static int explain(struct eval *e, int r)
{
	switch (r) {
	case -MNO_ELIMIT:
		return fail(e->err, r, MNO_PROMQL_EXECUTION,
			"query processing would load too many samples into memory in query "
			"execution");
	case -ETIMEDOUT:
		return fail(e->err, r, MNO_PROMQL_TIMEOUT, "query timed out in query execution");
	case -E2BIG:
		return fail(e->err, r, MNO_PROMQL_EXECUTION,
			"the answer would be larger than %zu MiB: ask for fewer series, a shorter "
			"range or "
			"a longer step",
			e->lim.max_bytes >> 20);
	default:
		return fail(e->err, r, MNO_PROMQL_INTERNAL, "the store could not be read: %s",
			mno_strerror(r));
	}
}

static int eval_init(struct eval *e, const struct mno_promql_limits *lim)
{
	e->lim = lim ? *lim : (struct mno_promql_limits){};
	if (!e->lim.max_series)
		e->lim.max_series = 100000;
	if (!e->lim.max_samples)
		e->lim.max_samples = 50000000;
	if (!e->lim.max_bytes)
		e->lim.max_bytes = 64u << 20;
	e->text.max = e->hists.text.max = e->lim.max_bytes;
	return mno_arena_new(e->lim.max_bytes, &e->arena);
}

static int check_deadline(const void *arg)
{
	const struct eval *e = arg;

	if (e->lim.stop && *e->lim.stop)
		return -ETIMEDOUT;
	if (e->lim.deadline_ns && mno_now_ns(CLOCK_MONOTONIC) > e->lim.deadline_ns)
		return -ETIMEDOUT;
	return 0;
}

static int add_item(struct eval *e, const struct item *it)
{
	if (e->n == e->cap) {
		size_t cap = e->cap ? e->cap * 2 : 64;
		struct item *v = reallocarray(e->items, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		e->items = v;
		e->cap = cap;
	}
	e->items[e->n++] = *it;
	return e->text.err;
}

/* --- labels and order --------------------------------------------------------------------- */

struct label_list {
	struct mno_arena *arena;
	struct label v[MNO_SERIES_LABELS_MAX];
	uint32_t n;
};

static int take_label(void *arg, const char *name, const char *value)
{
	struct label_list *l = arg;
	char *n = mno_arena_strndup(l->arena, name, strlen(name));
	char *v = mno_arena_strndup(l->arena, value, strlen(value));
	uint32_t i = l->n;

	if (!n || !v)
		return -E2BIG;
	if (l->n == ARRAY_SIZE(l->v))
		return -E2BIG;
	for (; i > 0 && strcmp(l->v[i - 1].name, n) > 0; i--)
		l->v[i] = l->v[i - 1];
	l->v[i] = (struct label){n, v};
	l->n++;
	return 0;
}

static int load_labels(struct eval *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < e->n; i++) {
		struct label_list l = {.arena = e->arena};
		struct item *it = &e->items[i];
		int r = mno_series_labels(e->series, it->id, take_label, &l);

		if (r == -ENOENT ||
			r == -MNO_ECORRUPT) /* expired meanwhile; or lost, and said so */
			continue;
		if (r < 0)
			return r;
		it->labels = mno_arena_calloc(e->arena, l.n, sizeof(*it->labels));
		if (!it->labels && l.n)
			return -E2BIG;
		memcpy(it->labels, l.v, l.n * sizeof(*it->labels));
		it->n_labels = l.n;
		e->items[kept++] = *it;
	}
	e->n = kept;
	return 0;
}

static int compare_items(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;
	uint32_t n = MNO_MIN(a->n_labels, b->n_labels);

	for (uint32_t i = 0; i < n; i++) {
		int c = strcmp(a->labels[i].name, b->labels[i].name);

		if (c == 0)
			c = strcmp(a->labels[i].value, b->labels[i].value);
		if (c)
			return c;
	}
	return (a->n_labels > b->n_labels) - (a->n_labels < b->n_labels);
}

static void write_labels(const struct item *it, struct mno_json *j)
{
	mno_json_obj(j);
	for (uint32_t i = 0; i < it->n_labels; i++)
		mno_json_kstr(j, it->labels[i].name, it->labels[i].value);
	mno_json_end(j);
}

static int sort_items(struct eval *e)
{
	int r = load_labels(e);

	if (r == 0 && e->n)
		qsort(e->items, e->n, sizeof(*e->items), compare_items);
	return r;
}

/* --- values ------------------------------------------------------------------------------- */

static bool is_stale(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits == MNO_STALE_BITS;
}

/* Seconds with three digits if there is a fraction: 1700000000 or 1700000000.500 */
static void put_time(struct mno_buf *b, int64_t t_ms)
{
	char *p = mno_buf_reserve(b, 32), *o = p;
	uint64_t t = t_ms < 0 ? 0 - (uint64_t)t_ms : (uint64_t)t_ms;

	if (!p)
		return;
	o += sprintf(o, "[%s%" PRIu64, t_ms < 0 ? "-" : "", t / 1000);
	if (t % 1000)
		o += sprintf(o, ".%03u", (unsigned)(t % 1000));
	mno_buf_commit(b, (size_t)(o - p));
}

/* What stands for a moment: a float, or the text of a native histogram. */
struct point {
	double v;
	const struct hist_pick *h;
};

static void put_point(struct eval *e, int64_t t_ms, const struct point *p)
{
	char *s, *o;

	put_time(&e->text, t_ms);
	if (p->h) {
		mno_buf_addc(&e->text, ',');
		mno_buf_add(&e->text, e->hists.text.data + p->h->off, p->h->len);
		mno_buf_addc(&e->text, ']');
		return;
	}
	s = o = mno_buf_reserve(&e->text, 48);
	if (!s)
		return;
	o = stpcpy(o, ",\"");
	o += mno_f64_format(p->v, o);
	o = stpcpy(o, "\"]");
	mno_buf_commit(&e->text, (size_t)(o - s));
}

/* One series: its floats, its histograms, and how far they are read. */
struct points {
	const struct mno_column *c;
	const struct hist_pick *h;
	size_t n_h, at, at_h;
};

/* The newest as of @t, not older than the lookback, not a staleness mark. */
static bool point_at(struct points *s, int64_t t, struct point *ret)
{
	const struct mno_column *c = s->c;
	int64_t oldest = t - MNO_PROMQL_LOOKBACK_MS, seen;
	const struct hist_pick *h;

	while (s->at < c->n && c->t_ms[s->at] <= t)
		s->at++;
	while (s->at_h < s->n_h && s->h[s->at_h].t_ms <= t)
		s->at_h++;
	h = s->at_h ? &s->h[s->at_h - 1] : NULL;
	seen = s->at ? c->t_ms[s->at - 1] : INT64_MIN;
	if (h && h->t_ms > seen && h->t_ms >= oldest) {
		*ret = (struct point){.h = h};
		return h->len > 0;
	}
	if (!s->at || seen < oldest || is_stale(c->v[s->at - 1]))
		return false;
	*ret = (struct point){.v = c->v[s->at - 1]};
	return true;
}

/* The moment whose samples stand for the step at @t. */
static int64_t moment(const struct eval *e, int64_t t)
{
	switch (e->sel->at) {
	case MNO_AT_TIME:
		t = e->sel->at_ms;
		break;
	case MNO_AT_START:
		t = e->start;
		break;
	case MNO_AT_END:
		t = e->end;
		break;
	case MNO_AT_NONE:
		break;
	}
	return t - e->sel->offset_ms;
}

static void begin_or_comma(struct eval *e, size_t begin)
{
	mno_buf_addc(&e->text, e->text.len == begin ? '[' : ',');
}

/* The steps at which there is a float, or those at which there is a histogram. */
static void write_steps(struct eval *e, struct points s, bool hists)
{
	size_t begin = e->text.len;
	struct point p;

	for (int64_t t = e->start; t <= e->end && !e->text.err; t += e->step)
		if (point_at(&s, moment(e, t), &p) && hists == (p.h != NULL)) {
			begin_or_comma(e, begin);
			put_point(e, t, &p);
		}
	if (e->text.len > begin)
		mno_buf_addc(&e->text, ']');
}

static void write_raw(struct eval *e, const struct points *s, bool hists)
{
	size_t begin = e->text.len, n = hists ? s->n_h : s->c->n;

	for (size_t i = 0; i < n && !e->text.err; i++) {
		if (!hists && is_stale(s->c->v[i]))
			continue;
		begin_or_comma(e, begin);
		if (hists)
			put_point(e, s->h[i].t_ms, &(struct point){.h = &s->h[i]});
		else
			put_point(e, s->c->t_ms[i], &(struct point){.v = s->c->v[i]});
	}
	if (e->text.len > begin)
		mno_buf_addc(&e->text, ']');
}

static void write_points(struct eval *e, struct points *s, bool hists)
{
	struct point p;

	if (e->step)
		write_steps(e, *s, hists);
	else if (e->sel->range_ms)
		write_raw(e, s, hists);
	else if (point_at(s, moment(e, e->start), &p) && hists == (p.h != NULL))
		put_point(e, e->start, &p);
}

/* @h may be NULL */
static int write_series(struct eval *e, const struct mno_column *c, const struct hist_col *h)
{
	struct item it = {.id = c->id, .off = e->text.len};
	struct points s = {.c = c};

	if (h && h->n) {
		s.h = e->hists.pick + h->first;
		s.n_h = h->n;
	}
	write_points(e, &s, false);
	it.hoff = e->text.len;
	it.len = it.hoff - it.off;
	if (s.n_h)
		write_points(e, &s, true);
	it.hlen = e->text.len - it.hoff;
	if (e->text.err)
		return e->text.err;
	return it.len || it.hlen ? add_item(e, &it) : 0;
}

/* Series below @id that have histograms alone. */
static int write_hists_below(struct eval *e, uint64_t id)
{
	int r = 0;

	for (; r == 0 && e->hist_at < e->hists.n && e->hists.col[e->hist_at].id < id;
		e->hist_at++) {
		struct mno_column none = {.id = e->hists.col[e->hist_at].id};

		r = write_series(e, &none, &e->hists.col[e->hist_at]);
		if (e->lim.cost)
			e->lim.cost->series++;
	}
	return r;
}

static int take_column(void *arg, const struct mno_column *c)
{
	const struct hist_col *h = NULL;
	struct eval *e = arg;
	int r;

	e->columns++;
	if (e->lim.cost) {
		e->lim.cost->series++;
		e->lim.cost->samples += c->n;
		e->lim.cost->damaged += c->damaged;
	}
	r = write_hists_below(e, c->id);
	if (r < 0)
		return r;
	if (e->hist_at < e->hists.n && e->hists.col[e->hist_at].id == c->id)
		h = &e->hists.col[e->hist_at++];
	r = write_series(e, c, h);
	e->lim.max_samples -= MNO_MIN(c->n, e->lim.max_samples);
	return r < 0 ? r : check_deadline(e);
}

static int read_hists(struct eval *e, const uint32_t *ids, size_t n, int64_t t0, int64_t t1)
{
	struct hist_moments m = {moment(e, e->start), moment(e, e->end), MNO_MAX(e->step, 1)};
	int r;

	if (!e->has_hists)
		return 0;
	if (!e->step && e->sel->range_ms)
		m.step = 0;
	e->hist_at = 0;
	r = hists_read(
		&e->hists, e->series, ids, n, t0, t1, &m, e->lim.max_samples, check_deadline, e);
	if (r < 0)
		return r;
	e->lim.max_samples -= e->hists.samples;
	if (e->lim.cost) {
		e->lim.cost->samples += e->hists.samples;
		e->lim.cost->damaged += e->hists.damaged;
	}
	return 0;
}

/* Reads @n series, in halves if they are too much at once. */
static int read_some(struct eval *e, const uint32_t *ids, size_t n, int64_t t0, int64_t t1)
{
	size_t most = MNO_MIN(e->lim.max_samples, (size_t)READ_SAMPLES), columns = e->columns;
	int r = check_deadline(e);

	if (r == 0)
		r = mno_series_read(e->series, ids, n, t0, t1, most, take_column, e);
	if (r == 0)
		r = write_hists_below(e, (uint64_t)ids[n - 1] + 1);
	if (r != -MNO_ELIMIT || n == 1 || columns != e->columns)
		return r;
	r = read_some(e, ids, n / 2, t0, t1);
	return r < 0 ? r : read_some(e, ids + n / 2, n - n / 2, t0, t1);
}

static int read_columns(struct eval *e)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {};
	int64_t back = e->sel->range_ms ? e->sel->range_ms : MNO_PROMQL_LOOKBACK_MS;
	int64_t t0 = moment(e, e->start) - back, t1 = moment(e, e->end);
	int r = mno_series_select_range(
		e->series, e->sel->matchers, e->sel->n, t0, t1, e->lim.max_series, &ids);
	struct mno_series_stat st;

	mno_series_stat(e->series, &st);
	e->has_hists = st.histograms > 0;
	for (size_t i = 0, n; r == 0 && i < ids.n; i += n) {
		for (n = 1; i + n < ids.n && ids.v[i + n] / READ_SERIES == ids.v[i] / READ_SERIES;
			n++)
			;
		r = read_hists(e, ids.v + i, n, t0, t1);
		if (r == 0)
			r = read_some(e, ids.v + i, n, t0, t1);
	}
	return r;
}

static void write_part(
	const struct eval *e, const char *key, size_t off, size_t len, struct mno_json *j)
{
	if (!len)
		return;
	mno_json_key(j, key);
	mno_json_raw(j, e->text.data + off, len);
}

static void write_result(const struct eval *e, bool vector, struct mno_json *j)
{
	mno_json_obj(j);
	mno_json_kstr(j, "resultType", vector ? "vector" : "matrix");
	mno_json_key(j, "result");
	mno_json_arr(j);
	for (size_t i = 0; i < e->n && !j->out->err; i++) {
		const struct item *it = &e->items[i];

		mno_json_obj(j);
		mno_json_key(j, "metric");
		write_labels(it, j);
		write_part(e, vector ? "value" : "values", it->off, it->len, j);
		write_part(e, vector ? "histogram" : "histograms", it->hoff, it->hlen, j);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
	mno_json_end(j);
}

static int evaluate(struct eval *e, const struct mno_promql_limits *lim, struct mno_json *j)
{
	bool vector = !e->step && !e->sel->range_ms;
	int r = eval_init(e, lim);

	if (r == 0)
		r = read_columns(e);
	if (r == 0)
		r = sort_items(e);
	if (r == 0) {
		write_result(e, vector, j);
		r = j->out->err;
	}
	return r < 0 ? explain(e, r) : 0;
}

int mno_promql_instant(struct mno_series *s, const struct mno_selector *sel, int64_t t_ms,
	const struct mno_promql_limits *lim, struct mno_json *j, struct mno_promql_error *err)
{
	_cleanup_(eval_done)
	struct eval e = {.series = s, .sel = sel, .err = err, .start = t_ms, .end = t_ms};

	return evaluate(&e, lim, j);
}

int mno_promql_range(struct mno_series *s, const struct mno_selector *sel, int64_t start_ms,
	int64_t end_ms, int64_t step_ms, const struct mno_promql_limits *lim, struct mno_json *j,
	struct mno_promql_error *err)
{
	_cleanup_(eval_done)
	struct eval e = {.series = s,
		.sel = sel,
		.err = err,
		.start = start_ms,
		.end = end_ms,
		.step = step_ms};

	if (sel->range_ms)
		return fail(err, -EINVAL, MNO_PROMQL_BAD_DATA,
			"invalid expression type \"range vector\" for range query, must be Scalar "
			"or "
			"instant Vector");
	if (step_ms <= 0 || end_ms < start_ms ||
		(end_ms - start_ms) / step_ms > MNO_PROMQL_MAX_POINTS)
		return fail(err, -EINVAL, MNO_PROMQL_BAD_DATA,
			"exceeded maximum resolution of 11,000 points per timeseries. Try "
			"decreasing the "
			"query resolution (?step=XX)");
	return evaluate(&e, lim, j);
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int add_matching(struct eval *e, const struct mno_selector *sel, struct mno_ids *all)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {};
	int r = mno_series_select_range(
		e->series, sel->matchers, sel->n, e->start, e->end, e->lim.max_series, &ids);
	uint32_t *v;

	if (r < 0 || !ids.n)
		return r;
	v = reallocarray(all->v, all->n + ids.n, sizeof(*v));
	if (!v)
		return -ENOMEM;
	memcpy(v + all->n, ids.v, ids.n * sizeof(*v));
	all->v = v;
	all->cap = all->n += ids.n;
	return 0;
}

int mno_promql_series(struct mno_series *s, struct mno_selector *const *sels, size_t n,
	int64_t start_ms, int64_t end_ms, const struct mno_promql_limits *lim, struct mno_json *j,
	struct mno_promql_error *err)
{
	_cleanup_(eval_done)
	struct eval e = {.series = s, .err = err, .start = start_ms, .end = end_ms};
	_cleanup_(mno_ids_done)
	struct mno_ids all = {};
	int r = eval_init(&e, lim);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_matching(&e, sels[i], &all);
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), compare_ids);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		if (i == 0 || all.v[i] != all.v[i - 1])
			r = add_item(&e, &(struct item){.id = all.v[i]});
	if (r == 0)
		r = sort_items(&e);
	if (r < 0)
		return explain(&e, r);
	mno_json_arr(j);
	for (size_t i = 0; i < e.n && !j->out->err; i++)
		write_labels(&e.items[i], j);
	mno_json_end_arr(j);
	return j->out->err ? explain(&e, j->out->err) : 0;
}
