/* SPDX-License-Identifier: Apache-2.0 */
/* The API's own thread: wakes requests that wait, closes slow connections, keeps streams alive. */
#include "api_internal.h"

#include <errno.h>
#include <sys/resource.h>

#include "mno/time.h"

static struct api_cpu cpu_now(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (struct api_cpu){.mono_ns = mno_now_ns(CLOCK_MONOTONIC),
		.used_ns = (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * NS_PER_SEC +
			   (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000};
}

static void sample_cpu(struct mno_api *api)
{
	api->cpu[api->n_cpu++ % API_CPU_SAMPLES] = cpu_now();
}

double api_cpu_percent(struct mno_api *api)
{
	struct api_cpu now = cpu_now(), then;

	pthread_mutex_lock(&api->lock);
	then = api->cpu[api->n_cpu > API_CPU_SAMPLES ? api->n_cpu % API_CPU_SAMPLES : 0];
	pthread_mutex_unlock(&api->lock);
	return 100.0 * (double)(now.used_ns - then.used_ns) /
	       (double)MNO_MAX(now.mono_ns - then.mono_ns, (uint64_t)1);
}

bool api_clock_later(struct mno_req *q)
{
	struct mno_api *api = q->api;
	bool ok;

	pthread_mutex_lock(&api->lock);
	ok = !api->stopping;
	if (ok) {
		MHD_suspend_connection(q->conn);
		q->next = api->later;
		api->later = q;
		pthread_cond_signal(&api->cond);
	}
	pthread_mutex_unlock(&api->lock);
	return ok;
}

/* Resumes what is due; returns the next moment to look. */
static uint64_t wake_due(struct mno_api *api, uint64_t now, uint64_t next)
{
	struct mno_req **p = &api->later;

	while (*p) {
		struct mno_req *q = *p;

		if (q->wake_ns > now && !api->stopping) {
			next = MNO_MIN(next, q->wake_ns);
			p = &q->next;
			continue;
		}
		*p = q->next;
		MHD_resume_connection(q->conn);
	}
	return next;
}

static void *run(void *arg)
{
	struct mno_api *api = arg;
	uint64_t tick = mno_now_ns(CLOCK_MONOTONIC);

	pthread_mutex_lock(&api->lock);
	while (!api->stopping) {
		uint64_t now = mno_now_ns(CLOCK_MONOTONIC), next;
		struct timespec ts;

		if (now >= tick) {
			tick = now + NS_PER_SEC;
			sample_cpu(api);
			api_conn_reap(api, now);
			api_streams_tick(api, now);
		}
		next = wake_due(api, now, tick);
		ts = (struct timespec){.tv_sec = (time_t)(next / NS_PER_SEC),
			.tv_nsec = (long)(next % NS_PER_SEC)};
		pthread_cond_timedwait(&api->cond, &api->lock, &ts);
	}
	wake_due(api, 0, 0);
	api_streams_end(api);
	pthread_mutex_unlock(&api->lock);
	return NULL;
}

int api_clock_start(struct mno_api *api)
{
	int r;

	sample_cpu(api);
	r = pthread_create(&api->thread, NULL, run, api);

	if (r)
		return -r;
	api->thread_runs = true;
	pthread_setname_np(api->thread, "mno-api");
	return 0;
}

void api_clock_stop(struct mno_api *api)
{
	pthread_mutex_lock(&api->lock);
	api->stopping = true;
	pthread_cond_broadcast(&api->cond);
	pthread_mutex_unlock(&api->lock);
	if (api->thread_runs)
		pthread_join(api->thread, NULL);
	api->thread_runs = false;
}
