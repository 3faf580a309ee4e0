/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for answers that may take longer, so that the server's own are never kept. */
#include "api_internal.h"

#include <errno.h>

#include "mno/time.h"

int api_expired(const struct mno_req *q)
{
	return q->api->stopping || mno_now_ns(CLOCK_MONOTONIC) > q->deadline_ns ? -ETIMEDOUT : 0;
}

bool api_pool_give(struct mno_req *q)
{
	struct mno_api *api = q->api;
	bool ok;

	pthread_mutex_lock(&api->lock);
	ok = !api->stopping;
	if (ok) {
		MHD_suspend_connection(q->conn);
		q->next = NULL;
		*api->jobs_end = q;
		api->jobs_end = &q->next;
		pthread_cond_signal(&api->pool_cond);
	}
	pthread_mutex_unlock(&api->lock);
	return ok;
}

/* Waits for work; NULL when there is none left and the server stops. api->lock held. */
static struct mno_req *take_job(struct mno_api *api)
{
	struct mno_req *q;

	while (!api->jobs && !api->stopping)
		pthread_cond_wait(&api->pool_cond, &api->lock);
	q = api->jobs;
	if (q)
		api->jobs = q->next;
	if (!api->jobs)
		api->jobs_end = &api->jobs;
	return q;
}

/* The answer is written; sending it, or waiting for the clock, is up to the server's thread. */
static void do_job(struct mno_req *q)
{
	struct MHD_Connection *conn = q->conn;

	q->result = q->api->stopping ? api_error(q, 503, "unavailable", NULL, "the agent is ending")
				     : q->route->fn(q);
	if (q->route->upload)
		mno_buf_reset(&q->body);
	MHD_resume_connection(conn); /* from here on @q may be gone */
}

static void *run(void *arg)
{
	struct mno_api *api = arg;
	struct mno_req *q;

	pthread_mutex_lock(&api->lock);
	while ((q = take_job(api))) {
		pthread_mutex_unlock(&api->lock);
		do_job(q);
		pthread_mutex_lock(&api->lock);
	}
	pthread_mutex_unlock(&api->lock);
	return NULL;
}

int api_pool_start(struct mno_api *api)
{
	for (; api->n_pool < API_POOL; api->n_pool++) {
		int r = pthread_create(&api->pool[api->n_pool], NULL, run, api);

		if (r)
			return -r;
		pthread_setname_np(api->pool[api->n_pool], "mno-api-pool");
	}
	return 0;
}

void api_pool_stop(struct mno_api *api)
{
	pthread_mutex_lock(&api->lock);
	pthread_cond_broadcast(&api->pool_cond);
	pthread_mutex_unlock(&api->lock);
	while (api->n_pool)
		pthread_join(api->pool[--api->n_pool], NULL);
}
