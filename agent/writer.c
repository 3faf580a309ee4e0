/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/queue.h"
#include "mno/store_check.h"
#include "mno/store_clock.h"
#include "mno/store_keys.h"
#include "mno/store_parts.h"
#include "mno/store_quarantine.h"
#include "mno/time.h"
#include "probes.h"
#include "writer.h"

#define QUEUE_ITEMS          512
#define QUEUE_BYTES          (24u << 20) /* raw records waiting for a commit */
#define COMMIT_EVERY_NS      NS_PER_SEC
#define LEDGER_BATCH         4096
#define RECLAIM_EVERY        10 /* failed rounds */
#define EXPIRE_EVERY         60 /* commits */
#define DEFAULT_RETENTION_MS (14LL * 86400 * 1000)
#define READER_MAX_NS        NS_PER_SEC
#define RESEAL_BYTES         (1u << 20) /* of older values, in one commit */
#define TIDY_EVERY           300        /* commits, from one tidying to the next */
#define TIDY_SAMPLES         (128u << 10)
#define MAX_PROBES           32

/* Late: not later than the last stored one, so its samples went in as late ones. */
enum row_fate { ROW_STORED, ROW_LATE, ROW_LOST };

struct item {
	struct mno_row *row;       /* or */
	struct mno_writer_job job; /* if .fn, or */
	char *records;
	size_t len;
	uint64_t first_ns, last_ns;
	uint32_t counts[MAX_PROBES];
	enum row_fate fate;
};

/* What the writer knows of a metric slot. The key stays: an aborted commit forgets the id. */
struct known {
	uint32_t gen, id;
	bool resolved;
	char *key;
};

struct mno_writer {
	struct mno_writer_opts o;
	pthread_t thread;
	bool started, watched;
	struct mno_queue *queue;
	atomic_size_t bytes;
	atomic_bool stopping;
	/* tick thread: generation last sent with its key */
	uint32_t *sent;
	size_t n_sent;
	/* writer thread */
	struct known *known;
	size_t n_known;
	uint32_t *ids;
	double *values;
	size_t row_cap;
	struct mno_proc *procs;
	uint64_t rounds;
	uint64_t tidy_in; /* commits */
	bool expire_more; /* series past their time are left: a step with each commit */
	pthread_mutex_t stat_lock;
	struct mno_writer_stat stat;
};

struct mno_row *mno_row_free(struct mno_row *row)
{
	for (size_t i = 0; row && i < row->n; i++)
		free((char *)row->cells[i].key);
	free(row);
	return NULL;
}

static void free_item(void *p)
{
	struct item *it = p;

	if (!it)
		return;
	if (it->job.fn)
		it->job.done(it->job.arg, -ESHUTDOWN);
	mno_row_free(it->row);
	free(it->records);
	free(it);
}

bool mno_writer_knows(struct mno_writer *w, uint32_t slot, uint32_t gen)
{
	return slot < w->n_sent && w->sent[slot] == gen + 1;
}

static int remember_sent(struct mno_writer *w, const struct mno_row *row)
{
	for (size_t i = 0; i < row->n; i++) {
		uint32_t slot = row->cells[i].slot;

		if (slot >= w->n_sent) {
			size_t n = MNO_MAX((size_t)slot + 1, w->n_sent * 2);
			uint32_t *p = reallocarray(w->sent, n, sizeof(*p));

			if (!p)
				return -ENOMEM;
			memset(p + w->n_sent, 0, (n - w->n_sent) * sizeof(*p));
			w->sent = p;
			w->n_sent = n;
		}
		w->sent[slot] = row->cells[i].gen + 1;
	}
	return 0;
}

int mno_writer_row(struct mno_writer *w, struct mno_row *row)
{
	struct item *it = calloc(1, sizeof(*it));
	int r = it ? remember_sent(w, row) : -ENOMEM;

	if (r == 0) {
		it->row = row;
		r = mno_queue_push(w->queue, it);
	}
	if (r < 0) {
		/* keys that went down with the row must be sent again */
		for (size_t i = 0; i < row->n; i++)
			if (row->cells[i].key && row->cells[i].slot < w->n_sent)
				w->sent[row->cells[i].slot] = 0;
		free(it);
		pthread_mutex_lock(&w->stat_lock);
		w->stat.rows_lost++;
		pthread_mutex_unlock(&w->stat_lock);
	}
	return r;
}

int mno_writer_events(struct mno_writer *w, const void *records, size_t len, uint64_t first_ns,
	uint64_t last_ns, const uint32_t *counts, size_t n_probes)
{
	struct item *it;
	int r = -ENOMEM;

	if (atomic_fetch_add(&w->bytes, len) + len > QUEUE_BYTES) {
		atomic_fetch_sub(&w->bytes, len);
		return -ENOBUFS;
	}
	it = calloc(1, sizeof(*it));
	if (it)
		it->records = malloc(len);
	if (it && it->records) {
		memcpy(it->records, records, len);
		it->len = len;
		it->first_ns = first_ns;
		it->last_ns = last_ns;
		memcpy(it->counts, counts, MNO_MIN(n_probes, (size_t)MAX_PROBES) * sizeof(*counts));
		r = mno_queue_push(w->queue, it);
	}
	if (r < 0) {
		atomic_fetch_sub(&w->bytes, len);
		free_item(it);
	}
	return r;
}

int mno_writer_run(struct mno_writer *w, const struct mno_writer_job *job)
{
	struct item *it = calloc(1, sizeof(*it));
	int r;

	if (!it)
		return -ENOMEM;
	it->job = *job;
	r = mno_queue_push(w->queue, it);
	if (r < 0)
		free(it);
	return r;
}

int64_t mno_writer_retention_ms(const struct mno_writer *w)
{
	return w->o.retention_ms;
}

static struct known *known_slot(struct mno_writer *w, uint32_t slot)
{
	if (slot >= w->n_known) {
		size_t n = MNO_MAX((size_t)slot + 1, w->n_known * 2);
		struct known *p = reallocarray(w->known, n, sizeof(*p));

		if (!p)
			return NULL;
		memset(p + w->n_known, 0, (n - w->n_known) * sizeof(*p));
		w->known = p;
		w->n_known = n;
	}
	return &w->known[slot];
}

static int cell_id(struct mno_writer *w, struct mno_txn *t, struct mno_row_cell *c, uint32_t *ret)
{
	struct known *k = known_slot(w, c->slot);
	int r;

	if (!k)
		return -ENOMEM;
	if (c->key) {
		free(k->key);
		k->key = (char *)TAKE_PTR(c->key);
		k->gen = c->gen;
		k->resolved = false;
	}
	if (!k->key || k->gen != c->gen)
		return -ESTALE;
	if (!k->resolved) {
		r = mno_series_resolve(w->o.series, t, k->key, strlen(k->key), &k->id);
		if (r < 0)
			return r;
		k->resolved = true;
	}
	*ret = k->id;
	return 0;
}

/* A row that is not later than the last stored one: the clock went back. Its samples are late. */
static int add_row(struct mno_writer *w, struct mno_txn *t, int64_t t_ms, size_t n)
{
	_cleanup_free_ struct mno_sample *v = calloc(n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		v[i] = (struct mno_sample){w->ids[i], t_ms, w->values[i]};
	return mno_series_add(w->o.series, t, v, n);
}

static int store_row(
	struct mno_writer *w, struct mno_txn *t, struct mno_row *row, enum row_fate *ret)
{
	size_t n = 0;
	int r;

	if (row->n > w->row_cap) {
		uint32_t *ids = reallocarray(w->ids, row->n, sizeof(*ids));
		double *values = ids ? reallocarray(w->values, row->n, sizeof(*values)) : NULL;

		w->ids = ids ?: w->ids;
		if (!values)
			return -ENOMEM;
		w->values = values;
		w->row_cap = row->n;
	}
	for (size_t i = 0; i < row->n; i++) {
		r = cell_id(w, t, &row->cells[i], &w->ids[n]);
		/* refused series are counted by the store */
		if (r == -ESTALE || r == -EINVAL || r == -EOVERFLOW || r == -MNO_ELIMIT)
			continue;
		if (r < 0)
			return r;
		w->values[n++] = row->cells[i].value;
	}
	r = mno_series_append(w->o.series, t, row->t_ms, w->ids, w->values, n);
	if (r != -EINVAL)
		return r;
	r = add_row(w, t, row->t_ms, n);
	*ret = r == -ERANGE ? ROW_LOST : ROW_LATE; /* a clock before 1970, say: others go on */
	return r == -ERANGE ? 0 : r;
}

static int store_procs(struct mno_writer *w, struct mno_txn *t, uint64_t *ret_n)
{
	size_t n;
	int r = 0;

	while (r == 0 && (n = mno_ledger_take_ended(w->o.ledger, w->procs, LEDGER_BATCH))) {
		r = mno_ledger_store(w->o.env, t, w->procs, n);
		*ret_n += n;
		for (size_t i = 0; i < n; i++)
			mno_proc_done(&w->procs[i]);
		if (n < LEDGER_BATCH)
			break;
	}
	return r;
}

struct batch {
	struct item *items[QUEUE_ITEMS];
	size_t n;
};

static int store_item(struct mno_writer *w, struct mno_txn *t, struct item *it)
{
	uint32_t count = 0;

	if (it->job.fn) /* only without the thread: it is told that nothing was done */
		return 0;
	if (it->row)
		return store_row(w, t, it->row, &it->fate);
	for (size_t i = 0; i < MAX_PROBES; i++)
		count += it->counts[i];
	return mno_events_store(
		w->o.env, t, it->first_ns, it->last_ns, it->records, it->len, count);
}

static int tell_clock(struct mno_writer *w, struct mno_txn *t, int64_t *ret_ms)
{
	return mno_store_clock(w->o.env, t, mno_now_ms(), mno_now_ns(CLOCK_BOOTTIME), ret_ms);
}

static void expire(struct mno_writer *w, struct mno_txn *t)
{
	int64_t now, end;
	uint64_t end_ns;
	bool more = false;

	if (tell_clock(w, t, &now) < 0)
		return;
	end = now - w->o.retention_ms;
	end_ns = end > 0 ? (uint64_t)end * NS_PER_MS : 0;
	w->expire_more = mno_series_expire(w->o.series, t, end, &more) == 0 && more;
	mno_ledger_expire(w->o.env, t, end_ns, &more);
	mno_events_expire(w->o.env, t, end_ns, &more);
	for (unsigned i = 0; i < MNO_TIER_MAX; i++)
		if (w->o.rollup_ms[i])
			mno_rollup_expire(w->o.series, i, now - w->o.rollup_ms[i]);
}

/* Below the disk floor nothing is added, but what is past its time may still go; then the oldest
 * partition of bulk data, one in a round. */
static void reclaim(struct mno_writer *w)
{
	struct mno_txn *t;

	if (w->rounds++ % RECLAIM_EVERY || mno_store_begin_reclaim(w->o.env, &t) < 0)
		return;
	expire(w, t);
	mno_store_commit(w->o.env, t);
	mno_store_make_room(w->o.env);
}

/* Commits @t, or undoes it because of @r; what the series remember follows. */
static int end_txn(struct mno_writer *w, struct mno_txn *t, int r)
{
	if (r == 0)
		r = mno_store_commit(w->o.env, t);
	else
		mno_store_abort(w->o.env, t);
	if (r == 0) {
		mno_series_committed(w->o.series);
		if (mno_store_resealed(w->o.env) < 0)
			mno_debug("the old data key is not dropped yet");
		return 0;
	}
	mno_series_rollback(w->o.series);
	for (size_t i = 0; i < w->n_known; i++)
		w->known[i].resolved = false;
	return r;
}

static int commit_batch(struct mno_writer *w, struct batch *b, uint64_t *ret_procs)
{
	struct mno_txn *t;
	int64_t now;
	bool more;
	int r = mno_store_begin(w->o.env, &t);

	mno_store_watch_readers(w->o.env, READER_MAX_NS);
	if (r == -ENOSPC)
		reclaim(w);
	if (r < 0)
		return r;
	r = mno_rollup_run(w->o.series, t, &more); /* first: it reads what is committed */
	for (size_t i = 0; i < b->n && r == 0; i++)
		r = store_item(w, t, b->items[i]);
	if (r == 0)
		r = store_procs(w, t, ret_procs);
	if (r == 0 && !w->rounds) /* before it can step */
		r = tell_clock(w, t, &now);
	if (r == 0 && (++w->rounds % EXPIRE_EVERY == 0 || w->expire_more))
		expire(w, t);
	if (r == 0 && w->watched && (w->rounds % EXPIRE_EVERY == 1 || atomic_load(&w->stopping)))
		r = mno_ledger_keep_running(w->o.ledger, w->o.env, t);
	if (r == 0)
		r = mno_store_quarantine(w->o.env, t);
	if (r == 0)
		r = mno_verify_place_save(w->o.env, t);
	if (r == 0)
		r = mno_store_reseal(w->o.env, t, RESEAL_BYTES);
	return end_txn(w, t, r);
}

/* Between two batches: rows wait for one job at most. */
static void run_job(struct mno_writer *w, struct item *it)
{
	const struct mno_writer_job job = it->job;
	struct mno_txn *t;
	int r = mno_store_begin(w->o.env, &t);

	if (r == 0)
		r = end_txn(w, t, job.fn(job.arg, t));
	pthread_mutex_lock(&w->stat_lock);
	*(r < 0 ? &w->stat.commit_errors : &w->stat.commits) += 1;
	pthread_mutex_unlock(&w->stat_lock);
	job.done(job.arg, r);
	free(it);
}

/* Once each time that the clock is found to have gone back. */
static void say_early(struct mno_writer *w, bool was, bool is)
{
	struct mno_series_stat s;

	if (was == is)
		return;
	mno_series_stat(w->o.series, &s);
	if (is)
		mno_info(
			"the clock is before the last stored sample (Unix time %lld): until it has "
			"passed that, samples are stored as late ones",
			(long long)(s.last_ms / 1000));
	else
		mno_info("the clock has passed the last stored sample");
}

/* What a batch came to: into the statistics and the probes' accounts. */
static void account(struct mno_writer *w, struct batch *b, uint64_t procs, int r, uint64_t took_ns)
{
	uint64_t sums[MAX_PROBES] = {0}, events = 0, rows = 0, late = 0, lost = 0;
	bool first_failure, was_early, is_early;

	for (size_t i = 0; i < b->n; i++) {
		rows += b->items[i]->row != NULL;
		late += b->items[i]->fate != ROW_STORED;
		lost += b->items[i]->fate == ROW_LOST;
		for (size_t p = 0; p < MAX_PROBES; p++)
			sums[p] += b->items[i]->counts[p];
	}
	for (size_t p = 0; p < MAX_PROBES; p++) {
		events += sums[p];
		if (sums[p] && w->o.probes)
			mno_probes_account(
				w->o.probes, p, r < 0 ? 0 : sums[p], r < 0 ? sums[p] : 0);
	}
	pthread_mutex_lock(&w->stat_lock);
	first_failure = r < 0 && !w->stat.last_error;
	w->stat.last_error = r;
	w->stat.last_commit_ns = took_ns;
	was_early = w->stat.clock_behind;
	is_early = r < 0 || !rows ? was_early : late > 0;
	w->stat.clock_behind = is_early;
	w->stat.rows_stored += r < 0 ? 0 : rows - lost;
	w->stat.rows_lost += r < 0 ? rows : lost;
	*(r < 0 ? &w->stat.events_lost : &w->stat.events_stored) += events;
	*(r < 0 ? &w->stat.procs_lost : &w->stat.procs_stored) += procs;
	*(r < 0 ? &w->stat.commit_errors : &w->stat.commits) += 1;
	if (r == 0)
		w->stat.last_commit_ms = mno_now_ms();
	pthread_mutex_unlock(&w->stat_lock);
	say_early(w, was_early, is_early);
	if (first_failure)
		mno_err("nothing is stored until this is mended: %s%s. What is lost is counted.",
			mno_strerror(r),
			r == -ENOSPC ? " (free disk space, or lower the retention)" : "");
}

static void write_batch(struct mno_writer *w, struct batch *b)
{
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC), procs = 0;
	int r = commit_batch(w, b, &procs);

	account(w, b, procs, r, mno_now_ns(CLOCK_MONOTONIC) - t0);
	for (size_t i = 0; i < b->n; i++) {
		atomic_fetch_sub(&w->bytes, b->items[i]->len);
		free_item(b->items[i]);
	}
	b->n = 0;
}

/*
 * Late samples lie in pieces until they are merged: some with each commit, in a transaction of
 * its own and only while nobody waits, so that the next row is not late.
 */
static void tidy(struct mno_writer *w)
{
	bool more = false;
	struct mno_txn *t;
	int r;

	if (w->tidy_in && --w->tidy_in)
		return;
	if (mno_queue_len(w->queue) || mno_store_begin(w->o.env, &t) < 0)
		return;
	r = mno_series_compact(w->o.series, t, TIDY_SAMPLES, &more);
	if (r == 0 && !more)
		mno_store_abort(w->o.env, t); /* nothing was written */
	else
		r = end_txn(w, t, r);
	if (r < 0 && r != -ENOSPC)
		mno_warn("late samples are not merged: %s", mno_strerror(r));
	w->tidy_in = r == 0 && more ? 1 : TIDY_EVERY;
	pthread_mutex_lock(&w->stat_lock);
	w->stat.merges += r == 0 && more;
	pthread_mutex_unlock(&w->stat_lock);
}

/* A row ends a second: it and all that came before it make one commit. */
static void *writer_main(void *arg)
{
	struct mno_writer *w = arg;
	struct batch b = {.n = 0};
	uint64_t due = mno_now_ns(CLOCK_MONOTONIC) + COMMIT_EVERY_NS;

	for (;;) {
		uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
		struct item *it = mno_queue_pop(w->queue, due > now ? due - now : 0);

		if (it && it->job.fn) {
			run_job(w, it);
			if (mno_now_ns(CLOCK_MONOTONIC) < due)
				continue;
			write_batch(w, &b); /* jobs do not keep others waiting */
			due = mno_now_ns(CLOCK_MONOTONIC) + COMMIT_EVERY_NS;
			continue;
		}
		if (it)
			b.items[b.n++] = it;
		else if (atomic_load(&w->stopping))
			break;
		if (!it || it->row || b.n == QUEUE_ITEMS) {
			write_batch(w, &b);
			due = mno_now_ns(CLOCK_MONOTONIC) + COMMIT_EVERY_NS + COMMIT_EVERY_NS / 2;
			if (!atomic_load(&w->stopping))
				tidy(w);
		}
	}
	write_batch(w, &b);
	return NULL;
}

static struct mno_writer *writer_free(struct mno_writer *w)
{
	if (!w)
		return NULL;
	mno_queue_free(w->queue, free_item);
	for (size_t i = 0; i < w->n_known; i++)
		free(w->known[i].key);
	free(w->known);
	free(w->sent);
	free(w->ids);
	free(w->values);
	free(w->procs);
	pthread_mutex_destroy(&w->stat_lock);
	free(w);
	return NULL;
}

int mno_writer_new(const struct mno_writer_opts *o, struct mno_writer **ret)
{
	struct mno_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->o = *o;
	if (!w->o.retention_ms)
		w->o.retention_ms = DEFAULT_RETENTION_MS;
	pthread_mutex_init(&w->stat_lock, NULL);
	w->procs = calloc(LEDGER_BATCH, sizeof(*w->procs));
	r = w->procs ? mno_queue_new(QUEUE_ITEMS, &w->queue) : -ENOMEM;
	if (r < 0) {
		writer_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

int mno_writer_flush(struct mno_writer *w)
{
	struct batch b = {.n = 0};

	while (b.n < QUEUE_ITEMS && (b.items[b.n] = mno_queue_pop(w->queue, 0)))
		b.n++;
	write_batch(w, &b);
	return w->stat.last_error;
}

int mno_writer_watched(struct mno_writer *w)
{
	struct mno_txn *t;
	size_t n = 0;
	int r = mno_store_begin(w->o.env, &t);

	if (r < 0)
		return r;
	r = mno_ledger_end_unwatched(w->o.ledger, w->o.env, t, &n);
	if (r == 0)
		r = mno_ledger_keep_running(w->o.ledger, w->o.env, t);
	if (r == 0)
		r = mno_store_commit(w->o.env, t);
	else
		mno_store_abort(w->o.env, t);
	if (r == 0 && n)
		mno_info("%zu processes ended while no agent was running", n);
	w->watched = true;
	return r;
}

int mno_writer_start(struct mno_writer *w)
{
	int r = -pthread_create(&w->thread, NULL, writer_main, w);

	if (r < 0)
		return r;
	w->started = true;
	pthread_setname_np(w->thread, "mno-writer");
	return 0;
}

struct mno_writer *mno_writer_stop(struct mno_writer *w)
{
	if (!w)
		return NULL;
	atomic_store(&w->stopping, true);
	mno_queue_close(w->queue);
	if (w->started)
		pthread_join(w->thread, NULL);
	else
		mno_writer_flush(w);
	return writer_free(w);
}

void mno_writer_stat(struct mno_writer *w, struct mno_writer_stat *ret)
{
	pthread_mutex_lock(&w->stat_lock);
	*ret = w->stat;
	ret->queued = mno_queue_len(w->queue);
	ret->queued_bytes = atomic_load(&w->bytes);
	pthread_mutex_unlock(&w->stat_lock);
}
