/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small store with a value of every kind, all of which follow from their number: what is read can
 * be told to be right, missing or wrong without a copy. Include it in one source file.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../../libmno/src/series/series_internal.h"
#include "../../support/tmpstate.h"
#include "mno/docs.h"
#include "mno/err.h"
#include "mno/ledger.h"
#include "mno/log.h"
#include "mno/rollup.h"
#include "mno/store_quarantine.h"
#include "mno_wire.h"

#define V_SERIES  70u /* two groups, and a bit */
#define V_CHURN   2100u
#define V_STEP_MS 60000
#define V_DAY_MS  86400000LL
#define V_START   (20000 * V_DAY_MS)
#define V_ROWS    1880u /* a day that is sealed, two windows, some rows of the tail */
#define V_MORE    30u   /* rows that are added after the damage */
#define V_LATE    50u
#define V_HISTS   40u
#define V_PROCS   300u
#define V_DOCS    40u
#define V_LONG    3000u /* bytes of a label: its series has a record of its own */

struct v_world {
	struct mno_store *store;
	struct mno_series *series;
	struct mno_docs *docs;
	uint32_t ids[V_SERIES], late, hist;
	int64_t until; /* end of the rows */
};

/* What was seen of a store; plain, to go through a pipe. */
struct v_seen {
	int failed; /* first call that should not have */
	char what[160];
	uint32_t reports, missing, wrong;
};

static inline void v_fail(struct v_seen *s, int r, const char *what)
{
	if (r < 0 && !s->failed) {
		s->failed = r;
		snprintf(s->what, sizeof(s->what), "%s: %s", what, mno_strerror(r));
	}
}

__attribute__((format(printf, 2, 3))) static inline void v_wrong(
	struct v_seen *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!s->wrong++ && !s->failed)
		vsnprintf(s->what, sizeof(s->what), fmt, ap);
	va_end(ap);
}

static inline double v_value(unsigned series, int64_t t_ms)
{
	uint64_t x = ((uint64_t)t_ms / V_STEP_MS * 1000 + series + 1) * 0x9e3779b97f4a7c15ULL;

	return (double)(rnd(&x) >> 44) / (series % 3 ? 1 : 8);
}

static inline int64_t v_late_time(unsigned i)
{
	return V_START - 3 * V_DAY_MS + i * 7000;
}

static inline int64_t v_hist_time(unsigned i)
{
	return V_START + i * 15000;
}

static inline uint64_t v_proc_time(unsigned i)
{
	return (uint64_t)V_START * 1000000 + i * 400ULL * 1000000000;
}

static inline int v_key(char *buf, size_t size, unsigned i)
{
	if (i != V_SERIES - 1)
		return snprintf(buf, size, "row{i=\"%u\",job=\"v\"}", i);
	memset(buf, 'x', size);
	snprintf(buf, size, "row{i=\"%u\",job=\"", i);
	buf[strlen(buf)] = 'y';
	return snprintf(buf + V_LONG, size - V_LONG, "\"}") + (int)V_LONG;
}

/* --- opening and writing ---------------------------------------------------------------------- */

static inline int v_open(struct v_world *w, const char *dir)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1, .map_initial = 64 << 20};
	struct mno_docs_opts d = {.sz = sizeof(d), .no_worker = true};
	int r;

	*w = (struct v_world){0};
	r = mno_store_open(dir, &o, &w->store);
	if (r == 0)
		r = mno_series_open(w->store, &w->series);
	return r == 0 ? mno_docs_open(w->store, &d, &w->docs) : r;
}

static inline void v_close(struct v_world *w)
{
	w->docs = mno_docs_close(w->docs);
	w->series = mno_series_close(w->series);
	w->store = mno_store_close(w->store);
}

static inline int v_resolve(struct v_world *w, struct mno_txn *t)
{
	char key[V_LONG + 64];
	int r = 0;

	for (unsigned i = 0; i < V_SERIES && r == 0; i++)
		r = mno_series_resolve(
			w->series, t, key, (size_t)v_key(key, sizeof(key), i), &w->ids[i]);
	if (r == 0)
		r = mno_series_resolve(w->series, t, "late", 4, &w->late);
	return r < 0 ? r : mno_series_resolve(w->series, t, "hist", 4, &w->hist);
}

static inline int v_end(struct v_world *w, struct mno_txn *t, int r)
{
	if (r == 0)
		r = mno_store_commit(w->store, t);
	else
		mno_store_abort(w->store, t);
	if (r == 0)
		mno_series_committed(w->series);
	else
		mno_series_rollback(w->series);
	return r;
}

/* Rows [from, to) of all series; @seal puts them away at the end. */
static inline int v_rows(struct v_world *w, unsigned from, unsigned to, bool seal)
{
	struct mno_txn *t;
	double v[V_SERIES];
	int r = mno_store_begin(w->store, &t);

	if (r < 0)
		return r;
	r = v_resolve(w, t);
	for (unsigned n = from; n < to && r == 0; n++) {
		int64_t at = V_START + (int64_t)n * V_STEP_MS;

		for (unsigned i = 0; i < V_SERIES; i++)
			v[i] = v_value(i, at);
		r = mno_series_append(w->series, t, at, w->ids, v, V_SERIES);
		if (r == 0 && n % 100 == 99) {
			r = v_end(w, t, r);
			if (r == 0)
				r = mno_store_begin(w->store, &t);
		}
	}
	if (r == 0 && seal)
		r = mno_series_seal(w->series, t);
	return v_end(w, t, r);
}

static inline int v_rollups(struct v_world *w)
{
	bool more = true;
	int r = 0;

	for (unsigned i = 0; more && r == 0 && i < 2000; i++) {
		struct mno_txn *t;

		more = false;
		r = mno_store_begin_reclaim(w->store, &t);
		if (r == 0)
			r = v_end(w, t, mno_rollup_run(w->series, t, &more));
	}
	return r;
}

/* Series that live one row: so many that the index of labels is made. */
static inline int v_churn(struct v_world *w)
{
	struct mno_txn *t;
	uint32_t *ids = calloc(V_CHURN, sizeof(*ids));
	double *v = calloc(V_CHURN, sizeof(*v));
	char key[64];
	int r = mno_store_begin(w->store, &t);

	for (unsigned i = 0; i < V_CHURN && r == 0; i++) {
		int n = snprintf(key, sizeof(key), "churn{i=\"c%u\",k=\"%u\"}", i, i % 5);

		r = mno_series_resolve(w->series, t, key, (size_t)n, &ids[i]);
	}
	if (r == 0)
		r = mno_series_append(w->series, t, V_START - 1000, ids, v, V_CHURN);
	r = v_end(w, t, r);
	free(ids);
	free(v);
	return r;
}

static inline int v_late(struct v_world *w, unsigned from, unsigned to)
{
	struct mno_txn *t;
	int r = mno_store_begin(w->store, &t);

	if (r == 0)
		r = v_resolve(w, t);
	for (unsigned i = from; i < to && r == 0; i++) {
		struct mno_sample s = {w->late, v_late_time(i), i};

		r = mno_series_add(w->series, t, &s, 1);
	}
	return v_end(w, t, r);
}

static inline int v_hists(struct v_world *w, unsigned from, unsigned to)
{
	struct mno_txn *t;
	int r = mno_store_begin(w->store, &t);

	if (r == 0)
		r = v_resolve(w, t);
	for (unsigned i = from; i < to && r == 0; i++) {
		struct mno_native_span span = {.offset = 1, .length = 1};
		int64_t delta = i + 1;
		struct mno_native_hist h = {.count = i + 1,
			.sum = i * 0.5,
			.positive = {.n_spans = 1, .n = 1, .spans = &span, .deltas = &delta}};

		r = mno_series_add_hist(w->series, t, w->hist, v_hist_time(i), &h);
	}
	return v_end(w, t, r);
}

struct v_event {
	struct mno_hdr h;
	uint64_t i;
};

static inline int v_ledger(struct v_world *w, unsigned from, unsigned to)
{
	int r = 0;

	for (unsigned i = from; i < to && r == 0; i += 25) {
		struct mno_proc p[25];
		struct v_event e[25];
		struct mno_txn *t;

		memset(p, 0, sizeof(p));
		memset(e, 0, sizeof(e));
		for (unsigned k = 0; k < 25; k++) {
			p[k] = (struct mno_proc){.pid = i + k + 1,
				.flags = MNO_PROC_ENDED,
				.start_ns = v_proc_time(i + k) - 1000,
				.end_ns = v_proc_time(i + k)};
			snprintf(p[k].comm, sizeof(p[k].comm), "p%u", i + k + 1);
			e[k] = (struct v_event){.h = {.size = sizeof(e[k]),
							.kind = 1,
							.version = 1,
							.ktime = v_proc_time(i + k),
							.seq = i + k},
				.i = i + k};
		}
		r = mno_store_begin(w->store, &t);
		if (r == 0)
			r = mno_ledger_store(w->store, t, p, 25);
		if (r == 0)
			r = mno_events_store(
				w->store, t, e[0].h.ktime, e[24].h.ktime, e, sizeof(e), 25);
		r = v_end(w, t, r);
	}
	return r;
}

static inline int v_text(char *buf, size_t size, unsigned i, unsigned version)
{
	return snprintf(buf, size, "{\"n\":%u,\"u\":\"u%u\",\"text\":\"word%u all\",\"v\":%u}", i,
		i, i % 4, version);
}

static inline int v_put(struct v_world *w, unsigned i, unsigned version)
{
	char id[16], text[128];
	int n = v_text(text, sizeof(text), i, version);
	struct mno_doc_op op = {.verb = MNO_DOC_PUT,
		.ns = "ns",
		.coll = "c",
		.id = id,
		.id_len = (size_t)snprintf(id, sizeof(id), "d%03u", i),
		.kind = MNO_DOC_JSON,
		.value = text,
		.len = (size_t)n};

	return mno_docs_apply(w->docs, &op, 1, NULL, NULL);
}

static inline int v_work(struct v_world *w)
{
	int r = 1;

	for (unsigned i = 0; r == 1 && i < 1000; i++)
		r = mno_docs_work(w->docs);
	return r;
}

static inline int v_documents(struct v_world *w)
{
	static const struct mno_doc_index defs[] = {
		{.name = "n", .path = "n"},
		{.name = "u", .path = "u", .unique = true},
		{.name = "t", .path = "text", .type = MNO_DOC_FULLTEXT, .multi = true},
	};
	int r = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(defs) && r == 0; i++)
		r = mno_docs_index_create(w->docs, "ns", "c", &defs[i], NULL);
	for (unsigned i = 0; i < V_DOCS && r == 0; i++)
		r = v_put(w, i, 0);
	return r < 0 ? r : v_work(w);
}

static inline int v_build(struct v_world *w)
{
	int r = v_churn(w);

	for (unsigned n = 0; n < V_ROWS && r == 0; n += 470)
		r = v_rows(w, n, MNO_MIN(n + 470, V_ROWS), false);
	if (r == 0)
		r = v_late(w, 0, V_LATE);
	if (r == 0)
		r = v_hists(w, 0, V_HISTS);
	if (r == 0)
		r = v_ledger(w, 0, V_PROCS);
	if (r == 0)
		r = v_documents(w);
	return r < 0 ? r : v_rollups(w);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct v_reading {
	struct v_seen *seen;
	struct v_world *w;
	unsigned rows; /* that may be there */
	bool row[V_SERIES][V_ROWS + 2 * V_MORE];
	bool late[2 * V_LATE], hist[2 * V_HISTS], proc[2 * V_PROCS], event[2 * V_PROCS],
		doc[V_DOCS + 10], found[V_DOCS + 10];
	uint64_t n_row, n_churn, n_late, n_hist, n_proc, n_event, n_doc, n_agg;
};

/* Which series it is: 0.. of the rows; -1 late, -2 hist, -3 churn; -4 its labels are lost. */
static inline int v_which(struct v_reading *r, uint32_t id)
{
	_cleanup_buf_ struct mno_buf key = {0};
	unsigned i = 0;

	if (mno_series_key(r->w->series, id, &key) < 0)
		return -4;
	if (!strcmp(mno_buf_cstr(&key), "late"))
		return -1;
	if (!strcmp(mno_buf_cstr(&key), "hist"))
		return -2;
	if (!strncmp(mno_buf_cstr(&key), "churn{", 6))
		return -3;
	if (sscanf(mno_buf_cstr(&key), "row{i=\"%u\"", &i) == 1 && i < V_SERIES)
		return (int)i;
	v_wrong(r->seen, "a series that never was: %.60s", mno_buf_cstr(&key));
	return -4;
}

static inline int v_column(void *arg, const struct mno_column *c)
{
	struct v_reading *r = arg;
	int s = v_which(r, c->id);

	r->seen->reports += c->damaged;
	for (size_t i = 0; i < c->n; i++) {
		int64_t t = c->t_ms[i], row = (t - V_START) / V_STEP_MS;
		int64_t late = (t - v_late_time(0)) / 7000;

		if (s >= 0 && row >= 0 && row < r->rows && t % V_STEP_MS == 0 &&
			c->v[i] == v_value((unsigned)s, t) && !r->row[s][row])
			r->row[s][row] = ++r->n_row > 0;
		else if (s == -1 && late >= 0 && late < 2 * V_LATE && c->v[i] == (double)late &&
			 !r->late[late])
			r->late[late] = ++r->n_late > 0;
		else if (s == -3 && t == V_START - 1000 && c->v[i] == 0)
			r->n_churn++;
		else if (s == -3 && t == V_START && bits_of(c->v[i]) == MNO_STALE_BITS)
			continue;
		else if (s != -4)
			v_wrong(r->seen, "series %d has %g at %lld", s, c->v[i], (long long)t);
	}
	return 0;
}

static inline int v_agg(void *arg, const struct mno_agg *a)
{
	struct v_reading *r = arg;
	int s = v_which(r, a->id);

	r->seen->reports += a->damaged;
	if (s >= 0)
		r->n_agg += a->count;
	if (s >= 0 && a->count && a->first != v_value((unsigned)s, a->first_ms))
		v_wrong(r->seen, "aggregate of %d begins with %g", s, a->first);
	if (s >= 0 && a->count && a->last != v_value((unsigned)s, a->last_ms))
		v_wrong(r->seen, "aggregate of %d ends with %g", s, a->last);
	return 0;
}

static inline int v_point(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	struct v_reading *r = arg;
	int s = v_which(r, id);

	for (size_t i = 0; i < n && s >= 0; i++)
		if (p[i].first != v_value((unsigned)s, p[i].t_ms) && p[i].t_ms % V_STEP_MS == 0 &&
			p[i].t_ms >= V_START)
			v_wrong(r->seen, "rollup of %d at %lld is %g", s, (long long)p[i].t_ms,
				p[i].first);
	return 0;
}

static inline int v_histogram(void *arg, uint32_t id, int64_t t_ms, const struct mno_native_hist *h)
{
	struct v_reading *r = arg;
	int64_t i = (t_ms - V_START) / 15000;
	int s = v_which(r, id);

	if (s == -4)
		return 0;
	if (s != -2 || i < 0 || i >= 2 * V_HISTS || h->count != (uint64_t)i + 1 ||
		h->sum != (double)i * 0.5 || r->hist[i])
		v_wrong(r->seen, "histogram %lld is another", (long long)i);
	else
		r->hist[i] = ++r->n_hist > 0;
	return 0;
}

static inline int v_proc(void *arg, const struct mno_proc *p)
{
	struct v_reading *r = arg;
	unsigned i = p->pid - 1;
	char comm[16];

	snprintf(comm, sizeof(comm), "p%u", p->pid);
	if (i >= 2 * V_PROCS || r->proc[i] || p->end_ns != v_proc_time(i) || strcmp(comm, p->comm))
		v_wrong(r->seen, "process %u is another", p->pid);
	else
		r->proc[i] = ++r->n_proc > 0;
	return 0;
}

static inline int v_event(void *arg, const void *rec, size_t len)
{
	struct v_reading *r = arg;
	struct v_event e;

	memcpy(&e, rec, MNO_MIN(len, sizeof(e)));
	if (len != sizeof(e) || e.i >= 2 * V_PROCS || e.h.seq != e.i || r->event[e.i])
		v_wrong(r->seen, "a record is another");
	else
		r->event[e.i] = ++r->n_event > 0;
	return 0;
}

static inline void v_check_doc(struct v_reading *r, unsigned i, const struct mno_doc *d)
{
	char a[128], b[128];
	int n = v_text(a, sizeof(a), i, 0), m = v_text(b, sizeof(b), i, 1);

	if ((d->len != (size_t)n || memcmp(d->value, a, d->len)) &&
		(d->len != (size_t)m || memcmp(d->value, b, d->len)))
		v_wrong(r->seen, "document %u is another", i);
}

static inline int v_found(void *arg, const struct mno_doc *d)
{
	struct v_reading *r = arg;
	char id[16] = "";
	unsigned i = 0;

	memcpy(id, d->id, MNO_MIN(d->id_len, sizeof(id) - 1));
	if (sscanf(id, "d%u", &i) != 1 || i >= V_DOCS + 10 || r->found[i])
		v_wrong(r->seen, "document %s is found and should not be", id);
	else
		r->found[i] = true;
	v_check_doc(r, i, d);
	return 0;
}

/* A miss that nobody reported is one of the answer's own figures. */
static inline void v_miss(struct v_seen *s, uint64_t want, uint64_t have)
{
	if (have < want)
		s->missing += (uint32_t)(want - have);
}

static inline void v_query(struct v_reading *r, const char *where, unsigned want)
{
	struct mno_docs_query q = {.ns = "ns", .coll = "c", .limit = 1000};
	struct mno_doc_cond c = {.path = where};
	struct mno_docs_found f = {0};
	unsigned n = 0;
	int e;

	if (!strcmp(where, "n"))
		c = (struct mno_doc_cond){.path = "n",
			.cmp = MNO_DOC_LT,
			.type = MNO_DOC_NUMBER,
			.text = "1000",
			.len = 4};
	else if (!strcmp(where, "text"))
		c = (struct mno_doc_cond){.path = "text",
			.cmp = MNO_DOC_WORDS,
			.type = MNO_DOC_STRING,
			.text = "all",
			.len = 3};
	q.conds = &c;
	q.n_conds = *where ? 1 : 0;
	memset(r->found, 0, sizeof(r->found));
	e = mno_docs_find(r->w->docs, &q, v_found, r, &f, NULL);
	r->seen->reports += e < 0;
	r->seen->reports += (uint32_t)f.damaged;
	for (unsigned i = 0; i < V_DOCS; i++)
		n += r->found[i];
	v_miss(r->seen, want, n);
}

static inline int v_change(void *arg, const struct mno_doc_change *c)
{
	++*(uint64_t *)arg;
	return 0;
}

static inline void v_read_docs(struct v_reading *r)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	uint64_t n = 0, next, oldest = 1;
	int e;

	for (unsigned i = 0; i < V_DOCS; i++) {
		struct mno_doc d;
		char id[16];

		e = mno_docs_get(r->w->docs, "ns", "c", id,
			(size_t)snprintf(id, sizeof(id), "d%03u", i), &buf, &d);
		if (e == 0)
			v_check_doc(r, i, &d);
		r->seen->reports += e < 0 && e != -ENOENT;
		r->n_doc += e == 0;
	}
	v_miss(r->seen, V_DOCS, r->n_doc);
	v_query(r, "", V_DOCS);
	v_query(r, "n", V_DOCS);
	v_query(r, "text", V_DOCS);
	e = mno_docs_feed_bounds(r->w->docs, &oldest, &next);
	if (e == 0)
		e = mno_docs_feed_read(r->w->docs, oldest, v_change, &n, &next);
	r->seen->reports += e < 0;
	v_miss(r->seen, V_DOCS, n);
}

static inline void v_read_labels(struct v_reading *r)
{
	for (unsigned i = 0; i < V_SERIES; i += 23) {
		struct mno_ids ids = {0};
		char value[16];
		struct mno_matcher m[2] = {
			{MNO_MATCH_EQ, "i", value, NULL}, {MNO_MATCH_EQ, "__name__", "row", NULL}};
		int e;

		snprintf(value, sizeof(value), "%u", i);
		e = mno_series_select_range(
			r->w->series, m, 2, V_START, V_START + V_DAY_MS, 100, &ids);
		r->seen->reports += e < 0;
		v_miss(r->seen, 1, ids.n);
		for (size_t k = 0; k < ids.n; k++) {
			int s = v_which(r, ids.v[k]);

			if (s != (int)i && s != -4)
				v_wrong(r->seen, "i=\"%u\" finds %d", i, s);
		}
		mno_ids_done(&ids);
	}
}

static inline void v_read_series(struct v_reading *r)
{
	struct mno_series *s = r->w->series;
	struct mno_ids ids = {0};
	uint64_t damaged = 0;
	int64_t until;
	int e = mno_series_select(s, NULL, 0, SIZE_MAX, &ids);

	if (e == 0)
		e = mno_series_read(s, ids.v, ids.n, 0, INT64_MAX / 2, SIZE_MAX, v_column, r);
	if (e == 0)
		e = mno_series_read_agg(s, ids.v, ids.n, 0, INT64_MAX / 2, v_agg, r);
	if (e == 0)
		e = mno_series_read_hist(
			s, ids.v, ids.n, 0, INT64_MAX / 2, v_histogram, r, &damaged);
	r->seen->reports += (uint32_t)damaged;
	for (unsigned t = 0; t < MNO_TIER_MAX && e == 0; t++) {
		e = mno_rollup_read(
			s, t, ids.v, ids.n, V_START, INT64_MAX / 2, v_point, r, &until, &damaged);
		r->seen->reports += (uint32_t)damaged;
	}
	v_fail(r->seen, e, "reading series");
	mno_ids_done(&ids);
	v_read_labels(r);
}

/* Reads all; what has to be there but is not counts as missing. @more: rows, beyond V_ROWS. */
static inline void v_read(struct v_world *w, unsigned more, struct v_seen *seen)
{
	struct v_reading *r = calloc(1, sizeof(*r));
	struct mno_series_stat ss;
	struct mno_store_stat st;

	*r = (struct v_reading){.seen = seen, .w = w, .rows = V_ROWS + more};
	v_read_series(r);
	seen->reports += mno_ledger_read(w->store, 0, UINT64_MAX / 2, v_proc, r) < 0;
	seen->reports += mno_events_read(w->store, 0, UINT64_MAX / 2, v_event, r) < 0;
	v_read_docs(r);
	v_miss(seen, (uint64_t)V_SERIES * r->rows, r->n_row);
	v_miss(seen, (uint64_t)V_SERIES * r->rows, r->n_agg);
	if (r->n_agg > r->n_row)
		v_wrong(seen, "aggregates of %llu samples, there are %llu",
			(unsigned long long)r->n_agg, (unsigned long long)r->n_row);
	v_miss(seen, V_CHURN, r->n_churn);
	v_miss(seen, V_LATE, r->n_late);
	v_miss(seen, V_HISTS, r->n_hist);
	v_miss(seen, V_PROCS, r->n_proc);
	v_miss(seen, V_PROCS, r->n_event);
	mno_series_stat(w->series, &ss);
	seen->reports += ss.damaged_blocks + ss.damaged_records + ss.damaged_lists > 0;
	if (mno_store_stat(w->store, &st) == 0)
		seen->reports += st.damaged > 0;
	/* what was added after the damage has to be there, damage or not */
	for (unsigned s = 0; s < V_SERIES && more; s++)
		for (unsigned n = V_ROWS; n < V_ROWS + more; n++)
			if (!r->row[s][n])
				v_wrong(seen, "row %u of series %u was added and is not there", n,
					s);
	for (unsigned i = V_LATE; i < V_LATE + 5 && more; i++)
		if (!r->late[i])
			v_wrong(seen, "late sample %u was added and is not there", i);
	for (unsigned i = V_HISTS; i < V_HISTS + 5 && more; i++)
		if (!r->hist[i])
			v_wrong(seen, "histogram %u was added and is not there", i);
	for (unsigned i = V_PROCS; i < V_PROCS + 25 && more; i++)
		if (!r->proc[i] || !r->event[i])
			v_wrong(seen, "process %u was added and is not there", i);
	free(r);
}

static inline int v_quarantine(struct v_world *w)
{
	struct mno_quarantine_stat st = {.waiting = 1};
	int r = 0;

	for (unsigned i = 0; i < 100 && st.waiting && r == 0; i++) {
		struct mno_txn *t;

		r = mno_store_begin_reclaim(w->store, &t);
		if (r == 0)
			r = v_end(w, t, mno_store_quarantine(w->store, t));
		if (r == 0)
			r = v_work(w);
		mno_quarantine_stat(w->store, &st);
	}
	return r < 0 ? r : st.waiting ? -EAGAIN : 0;
}

/* Writes of every kind. */
static inline void v_write(struct v_world *w, struct v_seen *seen)
{
	v_fail(seen, v_rows(w, V_ROWS, V_ROWS + V_MORE / 2, true), "adding rows, sealing");
	v_fail(seen, v_rows(w, V_ROWS + V_MORE / 2, V_ROWS + V_MORE, false), "adding more rows");
	v_fail(seen, v_late(w, V_LATE, V_LATE + 5), "adding late samples");
	v_fail(seen, v_hists(w, V_HISTS, V_HISTS + 5), "adding histograms");
	v_fail(seen, v_ledger(w, V_PROCS, V_PROCS + 25), "adding processes");
	v_fail(seen, v_put(w, V_DOCS + 1, 0), "a new document");
	for (unsigned i = 0; i < V_DOCS; i += 3)
		v_fail(seen, v_put(w, i, 1), "writing over a document");
	v_fail(seen, v_work(w), "the documents' upkeep");
	v_fail(seen, v_rollups(w), "making rollups");
	v_fail(seen, v_quarantine(w), "quarantine");
}
