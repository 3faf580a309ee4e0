/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of faults write, and how they know that nothing of it is wrong: rows, late
 * samples and ended processes (class D2), documents (D3). All values follow from their number, so
 * that the model is arithmetic. The load begins shortly before midnight (UTC): it seals blocks,
 * makes partitions and rollups on its way.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../libmno/src/series/series_internal.h"
#include "mno/docs.h"
#include "mno/err.h"
#include "mno/ledger.h"
#include "mno/rollup.h"
#include "mno/store_check.h"

#define LOAD_SERIES    6
#define LOAD_ROWS      4               /* of a commit */
#define LOAD_T0        1793577580000LL /* 2026-11-01 23:59:40 */
#define LOAD_ROW_MS    250
#define LOAD_LATE_MS   (3 * 86400000LL) /* the late samples are of another day */
#define LOAD_STEPS_MAX 4096

struct load {
	const char *dir;
	struct mno_store *store;
	struct mno_series *series;
	struct mno_docs *docs;
	uint32_t ids[LOAD_SERIES + 1]; /* the last one: of late samples */
	bool resolved;
	bool quiet; /* errors are expected */
};

/* How far a store has come, or was acknowledged: commits of telemetry, documents. */
struct load_mark {
	int rows, docs;
};

static inline int64_t load_time(int row)
{
	return LOAD_T0 + (int64_t)row * LOAD_ROW_MS;
}

static inline double load_value(int series, int64_t t_ms)
{
	return (double)(t_ms % 100000) * 0.25 + series * 1000;
}

static inline int64_t load_late_time(int step)
{
	return LOAD_T0 - LOAD_LATE_MS - (int64_t)(step * 7919 % 4093) * 1000 - step;
}

__attribute__((format(printf, 1, 2))) static inline int load_wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return -MNO_ECORRUPT;
}

static inline int load_open(struct load *l, const char *dir)
{
	struct mno_store_opts o = {.sz = sizeof(o), .floor_bytes = 1, .map_initial = 64 << 20};
	struct mno_docs_opts d = {
		.sz = sizeof(d), .no_worker = true, .feed_age_ms = 1ULL << 60, .form_step = 16};
	int r;

	*l = (struct load){.dir = dir};
	r = mno_store_open(dir, &o, &l->store);
	if (r == 0)
		r = mno_series_open(l->store, &l->series);
	return r == 0 ? mno_docs_open(l->store, &d, &l->docs) : r;
}

static inline void load_close(struct load *l)
{
	l->docs = mno_docs_close(l->docs);
	l->series = mno_series_close(l->series);
	l->store = mno_store_close(l->store);
}

static inline int load_resolve(struct load *l, struct mno_txn *t)
{
	char key[64];
	int r = 0;

	for (int i = 0; i <= LOAD_SERIES && r == 0; i++) {
		int n = snprintf(key, sizeof(key), "%s{i=\"%d\",job=\"load\"}",
			i == LOAD_SERIES ? "late" : "row", i);

		r = mno_series_resolve(l->series, t, key, (size_t)n, &l->ids[i]);
	}
	l->resolved = r == 0;
	return r;
}

static inline int load_telemetry(struct load *l, struct mno_txn *t, int step)
{
	struct mno_proc p = {.pid = (uint32_t)step,
		.start_ns = (uint64_t)load_time(step * LOAD_ROWS) * 1000000,
		.end_ns = (uint64_t)load_time(step * LOAD_ROWS + 1) * 1000000};
	struct mno_sample late[2];
	double v[LOAD_SERIES];
	int r = l->resolved ? 0 : load_resolve(l, t);

	for (int row = step * LOAD_ROWS; row < (step + 1) * LOAD_ROWS && r == 0; row++) {
		for (int i = 0; i < LOAD_SERIES; i++)
			v[i] = load_value(i, load_time(row));
		r = mno_series_append(l->series, t, load_time(row), l->ids, v, LOAD_SERIES);
	}
	for (int i = 0; i < 2; i++)
		late[i] = (struct mno_sample){l->ids[LOAD_SERIES], load_late_time(step * 2 + i),
			load_value(LOAD_SERIES, load_late_time(step * 2 + i))};
	if (r == 0)
		r = mno_series_add(l->series, t, late, 2);
	snprintf(p.comm, sizeof(p.comm), "load-%u", (unsigned)step % 1000);
	return r == 0 ? mno_ledger_store(l->store, t, &p, 1) : r;
}

/* One commit of telemetry; what fails is undone. */
static inline int load_rows(struct load *l, int step)
{
	struct mno_txn *t;
	bool more;
	int r = mno_store_begin(l->store, &t);

	if (r < 0)
		return r;
	r = mno_rollup_run(l->series, t, &more);
	if (r == 0)
		r = load_telemetry(l, t, step);
	if (r == 0)
		r = mno_store_commit(l->store, t);
	else
		mno_store_abort(l->store, t);
	if (r == 0) {
		mno_series_committed(l->series);
	} else {
		mno_series_rollback(l->series);
		l->resolved = false;
		if (!l->quiet)
			load_wrong("telemetry of step %d: %s", step, mno_strerror(r));
	}
	return r;
}

static inline size_t load_text(char *buf, size_t size, int step)
{
	return (size_t)snprintf(buf, size,
		"{\"n\":%d,\"half\":%d,\"text\":\"entry %d of an audit\"}", step, step / 2, step);
}

/* One transaction of documents: an entry of a log, and two that must always say the same. */
static inline int load_docs(struct load *l, int step)
{
	struct mno_docs_error err = {0};
	char id[16], text[96];
	size_t n = load_text(text, sizeof(text), step);
	struct mno_doc_op ops[3] = {
		{.verb = MNO_DOC_PUT,
			.ns = "load",
			.coll = "audit",
			.id = id,
			.kind = MNO_DOC_JSON,
			.value = text,
			.len = n},
		{.verb = MNO_DOC_PUT,
			.ns = "load",
			.coll = "left",
			.id = "x",
			.id_len = 1,
			.kind = MNO_DOC_JSON,
			.value = text,
			.len = n},
		{.verb = MNO_DOC_PUT,
			.ns = "load",
			.coll = "right",
			.id = "x",
			.id_len = 1,
			.kind = MNO_DOC_JSON,
			.value = text,
			.len = n},
	};

	int r;

	ops[0].id_len = (size_t)snprintf(id, sizeof(id), "%08d", step);
	r = mno_docs_apply(l->docs, ops, step % 4 ? 1 : 3, NULL, &err);
	if (r < 0 && !l->quiet)
		load_wrong("documents of step %d: %s: %s", step, mno_strerror(r), err.msg);
	return r;
}

/* --- checks --------------------------------------------------------------------------------- */

struct load_seen {
	int rows[LOAD_SERIES], series;
	uint8_t late[LOAD_STEPS_MAX * 2], procs[LOAD_STEPS_MAX];
	int n_late, n_procs, bad, docs;
	int64_t from;
};

static inline int load_column(void *arg, const struct mno_column *c)
{
	struct load_seen *s = arg;

	s->bad += c->damaged > 0;
	for (size_t i = 0; i < c->n; i++) {
		s->bad += c->t_ms[i] != load_time((int)i) ||
			  c->v[i] != load_value(s->series, c->t_ms[i]);
	}
	s->rows[s->series] = (int)c->n;
	return 0;
}

static inline int load_late(void *arg, const struct mno_column *c)
{
	struct load_seen *s = arg;

	s->bad += c->damaged > 0;
	for (size_t i = 0; i < c->n; i++) {
		int step;

		for (step = 0; step < LOAD_STEPS_MAX * 2; step++)
			if (load_late_time(step) == c->t_ms[i])
				break;
		if (step == LOAD_STEPS_MAX * 2 || c->v[i] != load_value(LOAD_SERIES, c->t_ms[i]))
			s->bad++;
		else
			s->late[step] = 1;
	}
	return 0;
}

static inline int load_proc(void *arg, const struct mno_proc *p)
{
	struct load_seen *s = arg;
	char want[32];

	snprintf(want, sizeof(want), "load-%u", p->pid);
	if (p->pid >= LOAD_STEPS_MAX || strcmp(want, p->comm))
		s->bad++;
	else
		s->procs[p->pid] = 1;
	return 0;
}

static inline int load_check_series(struct load *l, struct load_seen *s, int *ret_steps)
{
	int r = 0;

	for (s->series = 0; s->series <= LOAD_SERIES && r == 0; s->series++) {
		struct mno_ids ids = {0};
		char value[16];
		struct mno_matcher m = {MNO_MATCH_EQ, "i", value, NULL};

		snprintf(value, sizeof(value), "%d", s->series);
		r = mno_series_select(l->series, &m, 1, 10, &ids);
		if (r == 0 && ids.n > 1)
			r = load_wrong("%zu series of one name", ids.n);
		if (r == 0 && ids.n)
			r = mno_series_read(l->series, ids.v, ids.n, 0, INT64_MAX, 1 << 20,
				s->series == LOAD_SERIES ? load_late : load_column, s);
		mno_ids_done(&ids);
	}
	*ret_steps = s->rows[0] / LOAD_ROWS;
	for (int i = 0; i < LOAD_SERIES && r == 0; i++)
		if (s->rows[i] != s->rows[0] || s->rows[i] % LOAD_ROWS)
			r = load_wrong("series %d has %d rows, the first one %d", i, s->rows[i],
				s->rows[0]);
	return r;
}

static inline int load_check_docs(struct load *l, int *ret_docs)
{
	_cleanup_buf_ struct mno_buf a = {0}, b = {0};
	struct mno_doc x, y;
	char id[16], text[96];
	int n, r = 0, r2;

	for (n = 0;; n++) {
		size_t len = load_text(text, sizeof(text), n);

		snprintf(id, sizeof(id), "%08d", n);
		r = mno_docs_get(l->docs, "load", "audit", id, 8, &a, &x);
		if (r < 0)
			break;
		if (x.len != len || memcmp(x.value, text, len))
			return load_wrong("document %d is another: %.*s", n, (int)x.len,
				(const char *)x.value);
	}
	if (r != -ENOENT)
		return load_wrong("document %d: %s", n, mno_strerror(r));
	r = mno_docs_get(l->docs, "load", "left", "x", 1, &a, &x);
	r2 = mno_docs_get(l->docs, "load", "right", "x", 1, &b, &y);
	if (r != r2 || (n > 0) != (r == 0))
		return load_wrong("half of a transaction of documents");
	if (n) {
		size_t len = load_text(text, sizeof(text), (n - 1) / 4 * 4);

		if (x.len != len || y.len != len || memcmp(x.value, text, len) ||
			memcmp(y.value, text, len))
			return load_wrong(
				"half of a transaction: %.*s", (int)x.len, (const char *)x.value);
	}
	*ret_docs = n;
	return 0;
}

static inline void load_finding(void *arg, const struct mno_finding *f)
{
	load_wrong("damage: %s %s: %s", f->env, f->db, f->why);
}

static inline void load_fault(void *arg, const char *fault)
{
	load_wrong("documents: %s", fault);
}

static inline int load_verify(struct load *l)
{
	struct mno_verify_opts o = {
		.sz = sizeof(o), .deep = true, .pages = true, .finding = load_finding};
	struct mno_verify_progress p;
	uint64_t n, faults = 0;
	int r = mno_store_verify(l->store, &o, &p);

	if (r == 0 && p.damaged)
		r = -MNO_ECORRUPT;
	if (r == 0)
		r = mno_docs_check(l->docs, 0, load_fault, NULL, &n, &faults);
	return r == 0 && faults ? -MNO_ECORRUPT : r;
}

/*
 * Opens the store of @dir (no repair step there is) and compares with the model. @acked: what was
 * acknowledged; @d2: commits of telemetry that may be missing from that. *@ret: what is there.
 */
static inline int load_check(
	const char *dir, struct load_mark acked, int d2, bool deep, struct load_mark *ret)
{
	struct load_seen *s = calloc(1, sizeof(*s));
	struct load l;
	int rows = 0, docs = 0, r = load_open(&l, dir);

	if (r < 0)
		load_wrong("does not open: %s", mno_strerror(r));
	if (r == 0)
		r = load_check_series(&l, s, &rows);
	if (r == 0)
		r = mno_ledger_read(l.store, 0, UINT64_MAX, load_proc, s);
	if (r == 0)
		r = load_check_docs(&l, &docs);
	if (r == 0 && s->bad)
		r = load_wrong("%d samples or processes are not what was stored", s->bad);
	if (r == 0 && rows < acked.rows - d2)
		r = load_wrong("%d commits of %d acknowledged are there", rows, acked.rows);
	for (int i = 0; i < rows * 2 && r == 0; i++)
		if (!s->late[i])
			r = load_wrong("late sample %d of %d commits is missing", i, rows);
	for (int i = 0; i < MNO_MIN(rows, acked.rows) - d2 && r == 0; i++)
		if (!s->procs[i])
			r = load_wrong("process %d of %d commits is missing", i, rows);
	if (r == 0 && docs < acked.docs)
		r = load_wrong("%d documents of %d acknowledged", docs, acked.docs);
	if (r == 0 && deep)
		r = load_verify(&l);
	*ret = (struct load_mark){rows, docs};
	load_close(&l);
	free(s);
	return r;
}
