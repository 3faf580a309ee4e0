/* SPDX-License-Identifier: Apache-2.0 */
/* The slow pool: results, deadlines, jobs that hang, and the bounds of threads and queue. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "mno/time.h"
#include "slow.h"

/* A job that blocks until the gate opens. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool open;
	atomic_int started, destroyed;
};

static int setup(void **state)
{
	struct gate *g = calloc(1, sizeof(*g));

	if (!g)
		return -1;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->cond, NULL);
	*state = g;
	return 0;
}

static void open_gate(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->open = true;
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

static int teardown(void **state)
{
	struct gate *g = *state;

	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->cond);
	free(g);
	return 0;
}

static void wait_at_gate(void *arg)
{
	struct gate *g = arg;

	g->started++;
	pthread_mutex_lock(&g->lock);
	while (!g->open)
		pthread_cond_wait(&g->cond, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void leave_gate(void *arg)
{
	struct gate *g = arg;

	g->destroyed++;
}

static void answer(void *arg)
{
	*(int *)arg = 42;
}

static int poll_until(struct mno_slow_job *j, int while_result, void **ret_arg)
{
	int r = while_result;

	for (int i = 0; i < 1000 && r == while_result; i++) {
		r = mno_slow_poll(j, ret_arg);
		if (r == while_result)
			usleep(5000);
	}
	return r;
}

/* Waits until the counter reaches @n; fails after 5 s. */
static void wait_count(atomic_int *v, int n)
{
	for (int i = 0; i < 1000 && *v < n; i++)
		usleep(5000);
	assert_int_equal(*v, n);
}

static void test_result(void **state)
{
	struct mno_slow_job *job = NULL;
	struct mno_slow_stat st;
	struct mno_slow *s;
	void *arg = NULL;
	int *v = calloc(1, sizeof(*v));

	assert_int_equal(mno_slow_new(&s), 0);
	mno_slow_stat(s, &st);
	assert_int_equal(st.threads, 0);
	assert_int_equal(mno_slow_submit(s, answer, free, v, 5 * NS_PER_SEC, &job), 0);
	assert_int_equal(poll_until(job, -EINPROGRESS, &arg), 0);
	assert_ptr_equal(arg, v);
	assert_int_equal(*v, 42);
	assert_null(mno_slow_release(job));
	assert_null(mno_slow_release(NULL));
	mno_slow_stat(s, &st);
	assert_int_equal(st.done, 1);
	assert_int_equal(st.timed_out, 0);
	assert_int_equal(st.threads, 1);
	assert_null(mno_slow_free(s));
	assert_null(mno_slow_free(NULL));
}

static void test_hung_job_is_told_and_returns(void **state)
{
	struct gate *g = *state;
	struct mno_slow_job *job;
	struct mno_slow_stat st;
	struct mno_slow *s;
	void *arg = NULL;

	assert_int_equal(mno_slow_new(&s), 0);
	assert_int_equal(mno_slow_submit(s, wait_at_gate, leave_gate, g, 30 * NS_PER_MS, &job), 0);
	wait_count(&g->started, 1);
	assert_int_equal(poll_until(job, -EINPROGRESS, &arg), -ETIMEDOUT);
	assert_int_equal(mno_slow_poll(job, &arg), -ETIMEDOUT);
	assert_null(arg);
	mno_slow_stat(s, &st);
	assert_int_equal(st.timed_out, 1);
	assert_int_equal(st.hung, 1);
	open_gate(g);
	assert_int_equal(poll_until(job, -ETIMEDOUT, &arg), 0);
	assert_ptr_equal(arg, g);
	mno_slow_stat(s, &st);
	assert_int_equal(st.timed_out, 1); /* counted once, and not as done */
	assert_int_equal(st.done, 0);
	assert_int_equal(st.hung, 0);
	assert_int_equal(g->destroyed, 0);
	mno_slow_release(job);
	assert_int_equal(g->destroyed, 1);
	mno_slow_free(s);
}

static void test_others_go_on_and_threads_are_bounded(void **state)
{
	enum { MAX = MNO_SLOW_THREADS + MNO_SLOW_SPARE };
	struct gate *g = *state;
	struct mno_slow_job *hung[MAX], *job;
	struct mno_slow_stat st;
	struct mno_slow *s;
	int *v = calloc(1, sizeof(*v));
	void *arg;

	assert_int_equal(mno_slow_new(&s), 0);
	for (int i = 0; i < MAX; i++) {
		assert_int_equal(
			mno_slow_submit(s, wait_at_gate, leave_gate, g, 200 * NS_PER_MS, &hung[i]),
			0);
		assert_int_equal(poll_until(hung[i], -EINPROGRESS, &arg), -ETIMEDOUT);
		wait_count(&g->started, i + 1);
		if (i != MNO_SLOW_THREADS)
			continue;
		/* More hang than there are threads, and still others get their answer. */
		assert_int_equal(mno_slow_submit(s, answer, NULL, v, 5 * NS_PER_SEC, &job), 0);
		assert_int_equal(poll_until(job, -EINPROGRESS, &arg), 0);
		mno_slow_release(job);
	}
	/* Now all threads are stuck: no new one, the job times out without having run. */
	*v = 0;
	assert_int_equal(mno_slow_submit(s, answer, NULL, v, 20 * NS_PER_MS, &job), 0);
	assert_int_equal(poll_until(job, -EINPROGRESS, &arg), -ECANCELED);
	mno_slow_stat(s, &st);
	assert_int_equal(st.threads, MAX);
	assert_int_equal(st.hung, MAX);
	assert_int_equal(st.queued, 0);
	assert_int_equal(st.timed_out, MAX + 1);
	open_gate(g);
	for (int i = 0; i < MAX; i++) {
		assert_int_equal(poll_until(hung[i], -ETIMEDOUT, &arg), 0);
		mno_slow_release(hung[i]);
	}
	assert_int_equal(*v, 0);
	mno_slow_release(job);
	for (int i = 0; i < 1000 && st.threads > MNO_SLOW_THREADS; i++) {
		usleep(5000);
		mno_slow_stat(s, &st);
	}
	assert_int_equal(st.threads, MNO_SLOW_THREADS); /* the spare ones have gone */
	assert_int_equal(st.hung, 0);
	/* and the pool works on */
	assert_int_equal(mno_slow_submit(s, answer, free, v, 5 * NS_PER_SEC, &job), 0);
	assert_int_equal(poll_until(job, -EINPROGRESS, &arg), 0);
	mno_slow_release(job);
	mno_slow_free(s);
}

static void test_queue_is_bounded(void **state)
{
	struct gate *g = *state;
	struct mno_slow_job *jobs[MNO_SLOW_QUEUE_MAX + MNO_SLOW_THREADS], *extra = NULL;
	struct mno_slow_stat st;
	struct mno_slow *s;
	size_t n;

	assert_int_equal(mno_slow_new(&s), 0);
	for (n = 0; n < ARRAY_SIZE(jobs); n++) {
		assert_int_equal(
			mno_slow_submit(s, wait_at_gate, leave_gate, g, 60 * NS_PER_SEC, &jobs[n]),
			0);
		if (n < MNO_SLOW_THREADS)
			wait_count(&g->started, (int)n + 1);
	}
	assert_int_equal(
		mno_slow_submit(s, wait_at_gate, leave_gate, g, NS_PER_SEC, &extra), -ENOBUFS);
	assert_null(extra);
	mno_slow_stat(s, &st);
	assert_int_equal(st.refused, 1);
	assert_int_equal(st.threads, MNO_SLOW_THREADS);
	/* Released while waiting: never run. */
	for (size_t i = MNO_SLOW_THREADS; i < n; i++)
		mno_slow_release(jobs[i]);
	assert_int_equal(g->destroyed, MNO_SLOW_QUEUE_MAX);
	open_gate(g);
	for (size_t i = 0; i < MNO_SLOW_THREADS; i++)
		mno_slow_release(jobs[i]);
	wait_count(&g->destroyed, (int)n);
	assert_int_equal(g->started, MNO_SLOW_THREADS);
	mno_slow_free(s);
}

static void test_free_leaves_hung_thread_behind(void **state)
{
	struct gate *g = *state;
	struct mno_slow_job *job;
	struct mno_slow *s;
	uint64_t t0;
	void *arg;

	assert_int_equal(mno_slow_new(&s), 0);
	assert_int_equal(mno_slow_submit(s, wait_at_gate, leave_gate, g, 10 * NS_PER_MS, &job), 0);
	wait_count(&g->started, 1);
	assert_int_equal(poll_until(job, -EINPROGRESS, &arg), -ETIMEDOUT);
	mno_slow_release(job);
	assert_int_equal(g->destroyed, 0); /* still in use by the thread */
	t0 = mno_now_ns(CLOCK_MONOTONIC);
	mno_slow_free(s);
	assert_true(mno_now_ns(CLOCK_MONOTONIC) - t0 < 5 * NS_PER_SEC);
	open_gate(g);
	wait_count(&g->destroyed, 1);
	usleep(50000); /* the thread frees the pool after that; the leak checker looks */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_result),
		TEST(test_hung_job_is_told_and_returns),
		TEST(test_others_go_on_and_threads_are_bounded),
		TEST(test_queue_is_bounded),
		TEST(test_free_leaves_hung_thread_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
