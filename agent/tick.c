/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "cgroups.h"
#include "mno/log.h"
#include "mno/time.h"
#include "sources.h"
#include "tick.h"

struct mno_tick {
	struct mno_tick_opts o;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
};

struct row_build {
	struct mno_writer *writer;
	struct mno_row *row;
	size_t cap;
};

static void add_cell(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value)
{
	struct row_build *b = arg;
	struct mno_row_cell *c;

	if (b->row->n == b->cap)
		return;
	c = &b->row->cells[b->row->n++];
	*c = (struct mno_row_cell){.slot = slot, .gen = gen, .value = value};
	if (!mno_writer_knows(b->writer, slot, gen))
		c->key = strndup(key, key_len);
}

static void send_row(const struct mno_tick_opts *o, int64_t t_ms)
{
	struct row_build b = {.writer = o->writer, .cap = mno_metrics_slots(o->metrics)};

	b.row = malloc(sizeof(*b.row) + b.cap * sizeof(b.row->cells[0]));
	if (!b.row)
		return;
	b.row->t_ms = t_ms;
	b.row->n = 0;
	mno_metrics_tick(o->metrics, add_cell, &b);
	if (mno_writer_row(o->writer, b.row) < 0)
		mno_row_free(b.row);
}

void mno_tick_once(const struct mno_tick_opts *o, int64_t t_ms)
{
	uint64_t now = mno_now_ns(CLOCK_BOOTTIME);

	if (o->cgroups)
		mno_cgroups_refresh(o->cgroups);
	if (o->probes)
		mno_probes_tick(o->probes, now);
	if (o->sources)
		mno_sources_tick(o->sources, now);
	send_row(o, t_ms);
	if (o->reconcile)
		mno_reconcile_tick(o->reconcile, o->probes, o->ledger);
}

/*
 * Sleeps until the wall clock passes the next full second; false when told to stop. The wait is by
 * the monotonic clock: one for a time of the wall clock would last as long as that is put back.
 */
static bool wait_second(struct mno_tick *t, int64_t *ret_ms)
{
	int64_t next = (mno_now_ms() / 1000 + 1) * 1000, left;
	bool stop;

	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		left = next - mno_now_ms();
		if (left <= 0 || left > 1000) /* passed, or the clock was put back */
			break;
		mno_cond_wait_ns(&t->wake, &t->lock, (uint64_t)left * NS_PER_MS);
	}
	stop = t->stop;
	pthread_mutex_unlock(&t->lock);
	*ret_ms = mno_now_ms();
	return !stop;
}

static void *tick_main(void *arg)
{
	struct mno_tick *t = arg;
	int64_t ms;

	while (wait_second(t, &ms))
		mno_tick_once(&t->o, ms);
	return NULL;
}

int mno_tick_start(const struct mno_tick_opts *o, struct mno_tick **ret)
{
	struct mno_tick *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->o = *o;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	r = -pthread_create(&t->thread, NULL, tick_main, t);
	if (r < 0) {
		free(t);
		return r;
	}
	pthread_setname_np(t->thread, "mno-tick");
	*ret = t;
	return 0;
}

struct mno_tick *mno_tick_stop(struct mno_tick *t)
{
	if (!t)
		return NULL;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t);
	return NULL;
}
