/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that owe a request: nobody keeps the agent from answering others by being slow. */
#include "api_internal.h"

#include <sys/socket.h>

#include "mno/time.h"

static void unlink_conn(struct mno_api *api, struct api_conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else if (api->conns == c)
		api->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
}

static void push_conn(struct mno_api *api, struct api_conn *c)
{
	c->next = api->conns;
	if (c->next)
		c->next->prev = c;
	api->conns = c;
}

/* The oldest that waits is told to go: its thread sees the end of the stream and frees it. */
static void evict_one(struct mno_api *api)
{
	struct api_conn *victim = NULL;

	for (struct api_conn *c = api->conns; c; c = c->next)
		if (c->waiting && (!victim || c->since_ns <= victim->since_ns))
			victim = c;
	if (!victim)
		return;
	victim->waiting = false;
	shutdown(victim->fd, SHUT_RDWR);
}

void api_conn_opened(struct mno_api *api, struct api_conn *c)
{
	c->waiting = true;
	c->since_ns = mno_now_ns(CLOCK_MONOTONIC);
	pthread_mutex_lock(&api->lock);
	push_conn(api, c);
	if (++api->n_conns > api->max_conns)
		evict_one(api);
	pthread_mutex_unlock(&api->lock);
}

void api_conn_closed(struct mno_api *api, struct api_conn *c)
{
	pthread_mutex_lock(&api->lock);
	unlink_conn(api, c);
	api->n_conns--;
	pthread_mutex_unlock(&api->lock);
}

void api_conn_busy(struct mno_api *api, struct api_conn *c, bool busy)
{
	pthread_mutex_lock(&api->lock);
	c->waiting = !busy;
	c->since_ns = mno_now_ns(CLOCK_MONOTONIC);
	pthread_mutex_unlock(&api->lock);
}

void api_conn_reap(struct mno_api *api, uint64_t now_ns)
{
	for (struct api_conn *c = api->conns; c; c = c->next)
		if (c->waiting && now_ns > c->since_ns + API_HEADER_NS) {
			c->waiting = false;
			shutdown(c->fd, SHUT_RDWR);
		}
}
