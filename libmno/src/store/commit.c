/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include "commit.h"
#include "mno/err.h"
#include "mno/time.h"

#define NEST_GROUPS 16u

struct request {
	int (*fn)(void *arg, struct mno_txn *txn);
	void *arg;
	bool reclaim, done;
	int result;
	pthread_cond_t ready;
	struct request *next;
};

struct mno_committer {
	struct mno_env *e;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct request *first, **last; /* waiting */
	bool stopping;
	unsigned nest; /* so many groups to come are nested */
	struct mno_committer_stat stat;
};

/* In a nested transaction, so that what fails takes nothing else with it. */
static int run_nested(struct mno_committer *c, struct mno_txn *group, struct request *q)
{
	struct mno_txn t = {.e = c->e};
	int r = mno_txn_error(group, mdb_txn_begin(c->e->env, group->t, 0, &t.t));

	if (r < 0)
		return r;
	r = q->fn(q->arg, &t);
	if (r >= 0)
		return mno_txn_error(group, mdb_txn_commit(t.t)) ?: r;
	mdb_txn_abort(t.t);
	return r;
}

static bool map_is_small(const struct mno_committer *c, const struct request *q)
{
	return q->result == -ENOSPC && c->e->map_full &&
	       c->e->map_bytes < c->e->store->opts.map_size;
}

/*
 * A nested transaction copies each page that it touches, so all requests run in the group's own
 * until one fails: then the group is undone, and is run again with each in a nested one. After
 * that some groups are nested from the start, for failures come in bursts.
 * -EAGAIN: again, because the map was full and will be larger, or nested.
 */
static int run_group(struct mno_committer *c, struct request *q, bool nested)
{
	bool floor = mno_store_floor(c->e->store) < 0, any = false, alone = !q->next;
	struct mno_txn *t;
	int r = mno_env_txn_begin(c->e, &t);

	if (r < 0)
		return r;
	for (; q; q = q->next) {
		if (floor && !q->reclaim) {
			q->result = -ENOSPC;
			continue;
		}
		q->result = nested ? run_nested(c, t, q) : q->fn(q->arg, t);
		any |= q->result >= 0;
		if (map_is_small(c, q) || (q->result < 0 && !nested && !alone)) {
			c->nest += map_is_small(c, q) ? 0 : NEST_GROUPS;
			mno_env_txn_abort(c->e);
			return -EAGAIN;
		}
	}
	if (any)
		return mno_env_txn_commit(c->e);
	mno_env_txn_abort(c->e);
	return 0;
}

static int run_again(struct mno_committer *c, struct request *group)
{
	int r;

	do
		r = run_group(c, group, c->nest > 0 && group->next);
	while (r == -EAGAIN);
	c->nest -= c->nest > 0 && group->next;
	return r;
}

static struct request *take_group(struct mno_committer *c, size_t *ret_n)
{
	struct request *group = c->first, **end = &group;
	size_t n = 0;

	while (*end && n < MNO_COMMIT_GROUP) {
		end = &(*end)->next;
		n++;
	}
	c->first = *end;
	if (!c->first)
		c->last = &c->first;
	*end = NULL;
	*ret_n = n;
	return group;
}

/* Each waiter frees its request as soon as it is told: the next one is read before. */
static void tell(struct mno_committer *c, struct request *group, size_t n, int r, uint64_t took)
{
	c->stat.groups++;
	c->stat.requests += n;
	c->stat.failed += r < 0;
	c->stat.largest = MNO_MAX(c->stat.largest, n);
	c->stat.waiting -= n;
	c->stat.last_ns = took;
	c->stat.longest_ns = MNO_MAX(c->stat.longest_ns, took);
	for (struct request *q = group, *next; q; q = next) {
		next = q->next;
		if (r < 0)
			q->result = r;
		q->done = true;
		pthread_cond_signal(&q->ready);
	}
}

static void *committer_main(void *arg)
{
	struct mno_committer *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct request *group;
		uint64_t t0;
		size_t n;
		int r;

		while (!c->first && !c->stopping)
			pthread_cond_wait(&c->work, &c->lock);
		if (!c->first)
			break;
		group = take_group(c, &n);
		pthread_mutex_unlock(&c->lock);
		t0 = mno_now_ns(CLOCK_MONOTONIC);
		r = run_again(c, group);
		t0 = mno_now_ns(CLOCK_MONOTONIC) - t0;
		pthread_mutex_lock(&c->lock);
		tell(c, group, n, r, t0);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int mno_committer_run(
	struct mno_committer *c, int (*fn)(void *arg, struct mno_txn *txn), void *arg, bool reclaim)
{
	struct request q = {.fn = fn, .arg = arg, .reclaim = reclaim};

	pthread_mutex_lock(&c->lock);
	if (c->stopping || c->stat.waiting >= MNO_COMMIT_WAITING) {
		pthread_mutex_unlock(&c->lock);
		return -EAGAIN;
	}
	pthread_cond_init(&q.ready, NULL);
	*c->last = &q;
	c->last = &q.next;
	c->stat.waiting++;
	pthread_cond_signal(&c->work);
	while (!q.done)
		pthread_cond_wait(&q.ready, &c->lock);
	pthread_mutex_unlock(&c->lock);
	pthread_cond_destroy(&q.ready);
	return q.result;
}

void mno_committer_stat(struct mno_committer *c, struct mno_committer_stat *ret)
{
	pthread_mutex_lock(&c->lock);
	*ret = c->stat;
	pthread_mutex_unlock(&c->lock);
}

int mno_committer_new(struct mno_env *e, struct mno_committer **ret)
{
	struct mno_committer *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->e = e;
	c->last = &c->first;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	r = -pthread_create(&c->thread, NULL, committer_main, c);
	if (r < 0) {
		pthread_cond_destroy(&c->work);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct mno_committer *mno_committer_free(struct mno_committer *c)
{
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}
