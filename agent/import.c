/* SPDX-License-Identifier: Apache-2.0 */
#include "import.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "mno/load.h"
#include "mno/time.h"

#define BATCHES_MAX 1 /* with the writer, while the next is being filled */
#define RETRY_MS    5 /* when its queue is full */

struct mno_import {
	struct mno_agent *agent;
	struct mno_ingest *ingest;
	struct mno_load *load;
	struct mno_ingest_stat final;
	bool ended;
	uint64_t start_ns;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t cond;
	unsigned in_flight;
	bool left; /* by its reader: who ends the last batch frees it */
	int err;
	uint64_t stored, hists, unstored, commits;
	struct mno_import_progress shown; /* as of the last piece */
};

/* A batch on its way through the writer. */
struct job {
	struct mno_import *im;
	struct mno_batch *batch;
	struct mno_load_count count;
};

static void destroy(struct mno_import *im)
{
	mno_ingest_free(im->ingest);
	mno_load_free(im->load);
	pthread_cond_destroy(&im->cond);
	pthread_mutex_destroy(&im->lock);
	free(im);
}

struct mno_import *mno_import_free(struct mno_import *im)
{
	bool last;

	if (!im)
		return NULL;
	pthread_mutex_lock(&im->lock);
	im->left = true;
	last = im->in_flight == 0;
	pthread_mutex_unlock(&im->lock);
	if (last)
		destroy(im);
	return NULL;
}

/* --- writer thread -------------------------------------------------------------------------------- */

static int store_batch(void *arg, struct mno_txn *t)
{
	struct job *job = arg;
	int err;

	pthread_mutex_lock(&job->im->lock);
	err = job->im->err;
	pthread_mutex_unlock(&job->im->lock);
	/* after a failure nothing more is stored: what follows may build on what is missing */
	return err ? err : mno_batch_store(job->batch, t, &job->count);
}

static void batch_done(void *arg, int r)
{
	struct job *job = arg;
	struct mno_import *im = job->im;
	bool last;

	mno_batch_free(job->batch);
	pthread_mutex_lock(&im->lock);
	if (r < 0 && !im->err)
		im->err = r;
	if (r == 0) {
		im->stored += job->count.samples;
		im->hists += job->count.histograms;
		im->unstored += job->count.refused;
	}
	im->commits += r == 0;
	last = --im->in_flight == 0 && im->left;
	pthread_cond_signal(&im->cond);
	pthread_mutex_unlock(&im->lock);
	free(job);
	if (last)
		destroy(im);
}

/* --- reader's thread ------------------------------------------------------------------------------ */

/* Waits until fewer than @n batches are with the writer. 0, or the import's error. */
static int wait_for_writer(struct mno_import *im, unsigned n)
{
	int r;

	pthread_mutex_lock(&im->lock);
	while (im->in_flight >= n && !im->err)
		pthread_cond_wait(&im->cond, &im->lock);
	r = im->err;
	pthread_mutex_unlock(&im->lock);
	return r;
}

/* The writer takes events and rows without waiting; an import has time. */
static int push(struct mno_import *im, struct job *job)
{
	const struct mno_writer_job wj = {store_batch, batch_done, job};
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
	int r;

	pthread_mutex_lock(&im->lock);
	im->in_flight++;
	pthread_mutex_unlock(&im->lock);
	while ((r = mno_writer_run(im->agent->writer, &wj)) == -ENOBUFS)
		nanosleep(&pause, NULL);
	if (r < 0) {
		pthread_mutex_lock(&im->lock);
		im->in_flight--;
		pthread_mutex_unlock(&im->lock);
	}
	return r;
}

static int on_full(void *arg, struct mno_batch *b)
{
	struct mno_import *im = arg;
	struct job *job;
	int r = wait_for_writer(im, BATCHES_MAX);

	if (r < 0)
		return r;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	*job = (struct job){.im = im, .batch = b};
	r = push(im, job);
	if (r < 0)
		free(job);
	return r;
}

static int open_parts(
	struct mno_import *im, const struct mno_ingest_format *f, bool has_default, int64_t t_ms)
{
	struct mno_load_opts lo = {
		.sz = sizeof(lo), .series = im->agent->series, .full = on_full, .arg = im};
	const struct mno_series_bounds in = mno_series_bounds(
		mno_now_ms(), mno_writer_retention_ms(im->agent->writer), MNO_IMPORT_AHEAD_MS);
	struct mno_ingest_opts io = {.sz = sizeof(io),
		.min_ms = in.min_ms,
		.max_ms = in.max_ms,
		.has_default_ms = has_default,
		.default_ms = t_ms};
	int r = mno_load_new(&lo, &im->load);

	return r < 0 ? r : mno_ingest_new(f, &io, mno_load_sink(), im->load, &im->ingest);
}

int mno_import_new(struct mno_agent *a, const struct mno_ingest_format *f, bool has_default,
	int64_t default_ms, struct mno_import **ret)
{
	struct mno_import *im = calloc(1, sizeof(*im));
	int r;

	if (!im)
		return -ENOMEM;
	im->agent = a;
	im->start_ns = mno_now_ns(CLOCK_MONOTONIC);
	pthread_mutex_init(&im->lock, NULL);
	pthread_cond_init(&im->cond, NULL);
	r = open_parts(im, f, has_default, default_ms);
	if (r < 0)
		destroy(im);
	else
		*ret = im;
	return r;
}

int mno_import_feed(struct mno_import *im, const void *bytes, size_t n)
{
	int r = mno_ingest_feed(im->ingest, bytes, n);
	const struct mno_ingest_stat *st = mno_ingest_stat(im->ingest);

	pthread_mutex_lock(&im->lock);
	im->shown.bytes = st->bytes;
	im->shown.lines = st->lines;
	im->shown.refused = mno_ingest_refused(st);
	pthread_mutex_unlock(&im->lock);
	return r;
}

int mno_import_end(struct mno_import *im)
{
	int r = mno_ingest_end(im->ingest, &im->final), w;

	if (r == 0)
		r = mno_load_flush(im->load);
	w = wait_for_writer(im, 1);
	im->ended = true;
	return r < 0 ? r : w;
}

void mno_import_progress(struct mno_import *im, struct mno_import_progress *ret)
{
	pthread_mutex_lock(&im->lock);
	*ret = im->shown;
	ret->refused += im->unstored;
	ret->stored = im->stored;
	pthread_mutex_unlock(&im->lock);
	ret->seconds = (double)(mno_now_ns(CLOCK_MONOTONIC) - im->start_ns) / 1e9;
}

static void put_refused(struct mno_json *j, const struct mno_ingest_stat *st)
{
	mno_json_key(j, "refused");
	mno_json_obj(j);
	for (unsigned i = 1; i < MNO_INGEST_REASON_N; i++)
		if (st->refused[i])
			mno_json_ku64(j, mno_ingest_reason_name(i), st->refused[i]);
	mno_json_end(j);
	mno_json_ku64(j, "refused_total", mno_ingest_refused(st));
	mno_json_key(j, "examples");
	mno_json_arr(j);
	for (size_t i = 0; i < st->n_examples; i++) {
		mno_json_obj(j);
		mno_json_ku64(j, "line", st->examples[i].line);
		mno_json_kstr(j, "reason", mno_ingest_reason_name(st->examples[i].reason));
		mno_json_kstr(j, "text", st->examples[i].text);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

void mno_import_json(struct mno_import *im, struct mno_json *j)
{
	struct mno_ingest_stat st = im->ended ? im->final : *mno_ingest_stat(im->ingest);
	uint64_t stored, hists, commits;

	pthread_mutex_lock(&im->lock);
	stored = im->stored;
	hists = im->hists;
	commits = im->commits;
	st.refused[MNO_INGEST_UNSTORED] += im->unstored;
	pthread_mutex_unlock(&im->lock);
	mno_json_ku64(j, "bytes", st.bytes);
	mno_json_ku64(j, "lines", st.lines);
	mno_json_ku64(j, "accepted", stored);
	mno_json_ku64(j, "histograms", hists);
	mno_json_ku64(j, "series", st.series);
	mno_json_ki64(j, "first_ms", st.first_ms);
	mno_json_ki64(j, "last_ms", st.last_ms);
	put_refused(j, &st);
	mno_json_ku64(j, "exemplars_skipped", st.exemplars);
	mno_json_ku64(j, "metadata_skipped", st.metadata);
	mno_json_kbool(j, "end_missing", st.no_end);
	mno_json_ku64(j, "commits", commits);
	mno_json_kf64(j, "seconds", (double)(mno_now_ns(CLOCK_MONOTONIC) - im->start_ns) / 1e9);
}
