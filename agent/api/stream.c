/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events. A stream with nothing to say is suspended; who resumes it is decided by one
 * atomic flag, so that the hub's publisher, the clock and the server never do it twice.
 */
#include "api_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "mno/time.h"

#define CHUNK (16 * 1024) /* text is made up to about so much at once */
#define BLOCK (32 * 1024)

struct api_stream {
	struct api_stream *prev, *next; /* api->lock */
	struct mno_api *api;
	struct MHD_Connection *conn;
	int fd;
	const struct api_stream_source *ops;
	void *src;
	struct mno_buf text;
	size_t sent; /* of .text */
	_Atomic uint64_t spoke_ns;
	_Atomic bool suspended, pending, nudged, gone;
};

/* From the publisher's thread, or the clock's. */
void api_stream_wake(void *arg)
{
	struct api_stream *s = arg;

	atomic_store(&s->pending, true);
	if (atomic_exchange(&s->suspended, false))
		MHD_resume_connection(s->conn);
}

/* Has the source fill .text; false when there is nothing to say. */
static bool fill(struct api_stream *s)
{
	mno_buf_reset(&s->text);
	s->sent = 0;
	s->ops->fill(s->src, &s->text, CHUNK);
	if (s->text.err) /* sources keep to their text_max */
		mno_buf_reset(&s->text);
	if (!s->text.len && atomic_exchange(&s->nudged, false))
		mno_buf_adds(&s->text, ": keep-alive\n\n");
	return s->text.len > 0;
}

/* Nothing to say: sleeps until it is woken, unless that has come already or all ends. */
static void doze(struct api_stream *s)
{
	pthread_mutex_lock(&s->api->lock);
	if (!s->api->stopping) {
		MHD_suspend_connection(s->conn);
		atomic_store(&s->suspended, true);
	}
	pthread_mutex_unlock(&s->api->lock);
	if (atomic_load(&s->pending) && atomic_exchange(&s->suspended, false))
		MHD_resume_connection(s->conn);
}

static bool is_stopping(struct mno_api *api)
{
	bool r;

	pthread_mutex_lock(&api->lock);
	r = api->stopping;
	pthread_mutex_unlock(&api->lock);
	return r;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct api_stream *s = cls;
	size_t n;

	if (is_stopping(s->api))
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (atomic_load(&s->gone))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	atomic_store(&s->pending, false);
	if (s->sent == s->text.len && !fill(s)) {
		doze(s);
		return 0;
	}
	n = MNO_MIN(max, s->text.len - s->sent);
	memcpy(buf, s->text.data + s->sent, n);
	s->sent += n;
	s->spoke_ns = mno_now_ns(CLOCK_MONOTONIC);
	return (ssize_t)n;
}

static void stream_free(void *cls)
{
	struct api_stream *s = cls;

	pthread_mutex_lock(&s->api->lock);
	if (s->prev)
		s->prev->next = s->next;
	else if (s->api->streams == s)
		s->api->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	pthread_mutex_unlock(&s->api->lock);
	s->ops->end(s->src);
	mno_buf_done(&s->text);
	free(s);
}

static void link_stream(struct api_stream *s)
{
	pthread_mutex_lock(&s->api->lock);
	s->next = s->api->streams;
	if (s->next)
		s->next->prev = s;
	s->api->streams = s;
	pthread_mutex_unlock(&s->api->lock);
}

int api_stream_new(
	struct mno_req *q, const struct api_stream_source *ops, void *src, struct api_stream **ret)
{
	struct api_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		ops->end(src);
		return api_problem(q, 500, "internal", NULL, "out of memory");
	}
	s->api = q->api;
	s->conn = q->conn;
	s->fd = q->client->fd;
	s->ops = ops;
	s->src = src;
	s->text.max = ops->text_max;
	s->spoke_ns = mno_now_ns(CLOCK_MONOTONIC);
	mno_buf_adds(&s->text, ": mno events\n\n"); /* headers go out at once with it */
	link_stream(s);
	q->response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, BLOCK, read_stream, s, stream_free);
	if (!q->response) {
		stream_free(s);
		return api_problem(q, 500, "internal", NULL, "the stream could not be opened");
	}
	q->type = "text/event-stream";
	MHD_add_response_header(q->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
	*ret = s;
	return 200;
}

/* Both directions closed: the client is gone, not only done asking. */
static bool has_left(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

void api_streams_tick(struct mno_api *api, uint64_t now_ns)
{
	for (struct api_stream *s = api->streams; s; s = s->next) {
		if (!atomic_load(&s->suspended))
			continue;
		if (has_left(s->fd))
			atomic_store(&s->gone, true);
		else if (now_ns > s->spoke_ns + API_KEEPALIVE_NS)
			atomic_store(&s->nudged, true);
		else
			continue;
		api_stream_wake(s);
	}
}

void api_streams_end(struct mno_api *api)
{
	for (struct api_stream *s = api->streams; s; s = s->next)
		api_stream_wake(s);
}
