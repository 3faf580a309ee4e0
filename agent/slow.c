/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "mno/time.h"
#include "slow.h"

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_CANCELLED };

struct mno_slow_job {
	struct mno_slow *pool;
	void (*fn)(void *arg);
	void (*destroy)(void *arg);
	void *arg;
	uint64_t deadline_ns;
	enum job_state state;
	bool late;                         /* counted as timed out */
	bool released;                     /* nobody asks any more */
	struct mno_slow_job *next, **prev; /* in the queue or among the running */
};

struct mno_slow {
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	unsigned refs; /* owner, threads, jobs */
	bool closing, held;
	struct mno_slow_job *queue, **queue_tail, *running;
	unsigned n_running;
	struct mno_slow_stat stat;
};

static uint64_t now(void)
{
	return mno_now_ns(CLOCK_MONOTONIC);
}

/* Drops a reference and the lock. */
static void unref_unlock(struct mno_slow *s)
{
	bool last = --s->refs == 0;

	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->idle);
	free(s);
}

int mno_slow_new(struct mno_slow **ret)
{
	struct mno_slow *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, &attr);
	pthread_cond_init(&s->idle, &attr);
	pthread_condattr_destroy(&attr);
	s->queue_tail = &s->queue;
	s->refs = 1;
	*ret = s;
	return 0;
}

/* Lock held. */
static void queue_remove(struct mno_slow *s, struct mno_slow_job *j)
{
	*j->prev = j->next;
	if (j->next)
		j->next->prev = j->prev;
	else
		s->queue_tail = j->prev;
	s->stat.queued--;
}

static void queue_add(struct mno_slow *s, struct mno_slow_job *j)
{
	j->next = NULL;
	j->prev = s->queue_tail;
	*s->queue_tail = j;
	s->queue_tail = &j->next;
	s->stat.queued++;
}

static void running_add(struct mno_slow *s, struct mno_slow_job *j)
{
	j->state = JOB_RUNNING;
	j->prev = &s->running;
	j->next = s->running;
	if (j->next)
		j->next->prev = &j->next;
	s->running = j;
	s->n_running++;
}

static void running_remove(struct mno_slow *s, struct mno_slow_job *j)
{
	s->n_running--;
	*j->prev = j->next;
	if (j->next)
		j->next->prev = j->prev;
}

/* Counts a job that passed its deadline; a running one means a hung thread. */
static void check_late(struct mno_slow *s, struct mno_slow_job *j, uint64_t t)
{
	if (j->late || t <= j->deadline_ns || j->state == JOB_DONE || j->state == JOB_CANCELLED)
		return;
	j->late = true;
	s->stat.timed_out++;
	if (j->state == JOB_RUNNING)
		s->stat.hung++;
}

static void check_running(struct mno_slow *s)
{
	uint64_t t = now();

	for (struct mno_slow_job *j = s->running; j; j = j->next)
		check_late(s, j, t);
}

static void job_free(struct mno_slow_job *j)
{
	if (j->destroy)
		j->destroy(j->arg);
	free(j);
}

/* Next job that is still in time; overdue ones are left to their owners. Lock held. */
static struct mno_slow_job *take_job(struct mno_slow *s)
{
	while (s->queue) {
		struct mno_slow_job *j = s->queue;

		queue_remove(s, j);
		check_late(s, j, now());
		if (!j->late)
			return j;
		j->state = JOB_CANCELLED;
	}
	return NULL;
}

/* Lock held; gives it back while the job runs. */
static void run_job(struct mno_slow *s, struct mno_slow_job *j)
{
	bool released;

	running_add(s, j);
	pthread_mutex_unlock(&s->lock);
	j->fn(j->arg);
	pthread_mutex_lock(&s->lock);
	running_remove(s, j);
	check_late(s, j, now());
	if (j->late)
		s->stat.hung--;
	else
		s->stat.done++;
	j->state = JOB_DONE;
	released = j->released;
	if (!released)
		return;
	pthread_mutex_unlock(&s->lock);
	job_free(j);
	pthread_mutex_lock(&s->lock);
	s->refs--; /* the job's; the thread has its own */
}

static void *thread_main(void *arg)
{
	struct mno_slow *s = arg;

	pthread_mutex_lock(&s->lock);
	/* A thread that came back from a hung job may be one too many. */
	while (!s->closing && s->stat.threads - s->stat.hung <= MNO_SLOW_THREADS) {
		struct mno_slow_job *j = take_job(s);

		if (j)
			run_job(s, j);
		else
			pthread_cond_wait(&s->work, &s->lock);
	}
	s->stat.threads--;
	pthread_cond_signal(&s->idle);
	unref_unlock(s);
	return NULL;
}

/* Starts a thread if more jobs wait (@queued) than threads are idle, and there may be one more.
 * Lock held. */
static int need_thread(struct mno_slow *s, uint32_t queued)
{
	pthread_attr_t attr;
	pthread_t id;
	sigset_t all, old;
	int r;

	if (s->stat.threads - s->n_running >= queued ||
		s->stat.threads - s->stat.hung >= MNO_SLOW_THREADS ||
		s->stat.threads >= MNO_SLOW_THREADS + MNO_SLOW_SPARE)
		return 0;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&id, &attr, thread_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return s->stat.threads - s->stat.hung > 0 ? 0 : -EAGAIN;
	s->stat.threads++;
	s->refs++;
	return 0;
}

void mno_slow_hold(struct mno_slow *s, bool held)
{
	pthread_mutex_lock(&s->lock);
	s->held = held;
	pthread_mutex_unlock(&s->lock);
}

static int submit_locked(struct mno_slow *s, struct mno_slow_job *j)
{
	int r;

	check_running(s);
	if (s->held)
		return -EAGAIN;
	if (s->stat.queued >= MNO_SLOW_QUEUE_MAX || s->closing)
		r = -ENOBUFS;
	else
		r = need_thread(s, s->stat.queued + 1);
	if (r < 0) {
		s->stat.refused++;
		return r;
	}
	queue_add(s, j);
	s->refs++;
	pthread_cond_signal(&s->work);
	return 0;
}

int mno_slow_submit(struct mno_slow *s, void (*fn)(void *arg), void (*destroy)(void *arg),
	void *arg, uint64_t timeout_ns, struct mno_slow_job **ret_job)
{
	struct mno_slow_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->pool = s;
	j->fn = fn;
	j->destroy = destroy;
	j->arg = arg;
	j->deadline_ns = now() + timeout_ns;
	j->state = JOB_QUEUED;
	pthread_mutex_lock(&s->lock);
	r = submit_locked(s, j);
	pthread_mutex_unlock(&s->lock);
	if (r < 0) {
		free(j);
		return r;
	}
	*ret_job = j;
	return 0;
}

int mno_slow_poll(struct mno_slow_job *j, void **ret_arg)
{
	struct mno_slow *s = j->pool;
	int r;

	pthread_mutex_lock(&s->lock);
	check_running(s);
	check_late(s, j, now());
	if (j->state == JOB_QUEUED && j->late) {
		queue_remove(s, j);
		j->state = JOB_CANCELLED;
	}
	/* Jobs may wait behind one that has just turned out to hang. */
	if (!s->closing)
		need_thread(s, s->stat.queued);
	if (j->state == JOB_DONE)
		r = 0;
	else if (j->state == JOB_CANCELLED)
		r = -ECANCELED;
	else
		r = j->late ? -ETIMEDOUT : -EINPROGRESS;
	if (r == 0)
		*ret_arg = j->arg;
	pthread_mutex_unlock(&s->lock);
	return r;
}

struct mno_slow_job *mno_slow_release(struct mno_slow_job *j)
{
	struct mno_slow *s;

	if (!j)
		return NULL;
	s = j->pool;
	pthread_mutex_lock(&s->lock);
	if (j->state == JOB_RUNNING) {
		j->released = true; /* its thread frees it */
		pthread_mutex_unlock(&s->lock);
		return NULL;
	}
	if (j->state == JOB_QUEUED)
		queue_remove(s, j);
	unref_unlock(s);
	job_free(j);
	return NULL;
}

/* Whether a thread is at work that may still end in time. Lock held. */
static bool worth_waiting(struct mno_slow *s)
{
	check_running(s);
	return s->stat.threads > s->stat.hung;
}

struct mno_slow *mno_slow_free(struct mno_slow *s)
{
	struct timespec t;
	uint64_t end;

	if (!s)
		return NULL;
	end = now() + NS_PER_SEC;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	while (s->queue) {
		struct mno_slow_job *j = s->queue;

		queue_remove(s, j);
		j->state = JOB_CANCELLED;
	}
	pthread_cond_broadcast(&s->work);
	while (worth_waiting(s) && now() < end) {
		uint64_t wake = MNO_MIN(now() + 20 * NS_PER_MS, end);

		t.tv_sec = (time_t)(wake / NS_PER_SEC);
		t.tv_nsec = (long)(wake % NS_PER_SEC);
		pthread_cond_timedwait(&s->idle, &s->lock, &t);
	}
	unref_unlock(s);
	return NULL;
}

void mno_slow_stat(struct mno_slow *s, struct mno_slow_stat *ret)
{
	pthread_mutex_lock(&s->lock);
	check_running(s);
	*ret = s->stat;
	pthread_mutex_unlock(&s->lock);
}
