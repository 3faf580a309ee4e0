/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include "mno/queue.h"

struct mno_queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	size_t cap, head, len;
	bool closed;
	void *items[];
};

int mno_queue_new(size_t cap, struct mno_queue **ret)
{
	struct mno_queue *q = calloc(1, sizeof(*q) + cap * sizeof(void *));
	pthread_condattr_t attr;

	if (!q)
		return -ENOMEM;
	q->cap = cap;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->filled, &attr);
	pthread_condattr_destroy(&attr);
	*ret = q;
	return 0;
}

struct mno_queue *mno_queue_free(struct mno_queue *q, void (*destroy)(void *item))
{
	if (!q)
		return NULL;
	for (; q->len; q->len--, q->head = (q->head + 1) % q->cap)
		if (destroy)
			destroy(q->items[q->head]);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->filled);
	free(q);
	return NULL;
}

int mno_queue_push(struct mno_queue *q, void *item)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	if (q->closed) {
		r = -ESHUTDOWN;
	} else if (q->len == q->cap) {
		r = -ENOBUFS;
	} else {
		q->items[(q->head + q->len++) % q->cap] = item;
		pthread_cond_signal(&q->filled);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

void *mno_queue_pop(struct mno_queue *q, uint64_t timeout_ns)
{
	struct timespec end;
	void *item = NULL;

	clock_gettime(CLOCK_MONOTONIC, &end);
	timeout_ns += (uint64_t)end.tv_nsec;
	end.tv_sec += (time_t)(timeout_ns / NS_PER_SEC);
	end.tv_nsec = (long)(timeout_ns % NS_PER_SEC);
	pthread_mutex_lock(&q->lock);
	while (!q->len && !q->closed)
		if (pthread_cond_timedwait(&q->filled, &q->lock, &end) == ETIMEDOUT)
			break;
	if (q->len) {
		item = q->items[q->head];
		q->head = (q->head + 1) % q->cap;
		q->len--;
	}
	pthread_mutex_unlock(&q->lock);
	return item;
}

void mno_queue_close(struct mno_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

size_t mno_queue_len(struct mno_queue *q)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->len;
	pthread_mutex_unlock(&q->lock);
	return n;
}
