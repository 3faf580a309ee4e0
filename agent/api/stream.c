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

#define CHUNK    (16 * 1024) /* text is made up to about so much at once */
#define TEXT_MAX (1024 * 1024)
#define BLOCK    (32 * 1024)

struct api_stream {
	struct api_stream *prev, *next; /* api->lock */
	struct mno_api *api;
	struct MHD_Connection *conn;
	int fd;
	struct mno_sub *sub;
	struct mno_buf rec, text;
	size_t sent; /* of .text */
	_Atomic uint64_t spoke_ns;
	_Atomic bool suspended, pending, nudged, gone;
};

/* From the publisher's thread, or the clock's. */
static void wake(void *arg)
{
	struct api_stream *s = arg;

	atomic_store(&s->pending, true);
	if (atomic_exchange(&s->suspended, false))
		MHD_resume_connection(s->conn);
}

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	struct mno_agent *a = arg;

	return a->cgroups ? mno_cgroups_path(a->cgroups, id, buf, size) : NULL;
}

static void put_lost(struct api_stream *s, uint64_t lost)
{
	if (lost)
		mno_buf_addf(&s->text, "event: lost\ndata: {\"lost\":%llu}\n\n",
			(unsigned long long)lost);
}

static void put_record(struct api_stream *s)
{
	struct mno_agent *a = s->api->agent;
	struct mno_event_ctx ctx = {
		.boot_offset_ns = a->boot_offset_ns, .cgroup_path = cgroup_path, .arg = a};
	const struct mno_kind *kind;
	struct mno_json j;

	if (mno_event_check(mno_probes_kinds(), s->rec.data, s->rec.len, &kind) < 0)
		return;
	mno_buf_addf(&s->text, "event: %s\ndata: ", kind->name);
	mno_json_init(&j, &s->text);
	mno_event_json(kind, s->rec.data, &ctx, &j);
	mno_buf_adds(&s->text, "\n\n");
}

/* Moves what waits in the queue to .text; false when there is nothing to say. */
static bool fill(struct api_stream *s)
{
	uint64_t lost = 0;
	int r = 0;

	mno_buf_reset(&s->text);
	s->sent = 0;
	while (r == 0 && s->text.len < CHUNK) {
		r = mno_hub_next(s->sub, &s->rec, &lost);
		if (r == 0 || r == -EAGAIN)
			put_lost(s, lost);
		if (r == 0)
			put_record(s);
	}
	if (s->text.err) { /* a record that does not fit cannot come: TEXT_MAX is larger */
		mno_buf_reset(&s->text);
		put_lost(s, 1);
	}
	if (!s->text.len && atomic_exchange(&s->nudged, false))
		mno_buf_adds(&s->text, ": keep-alive\n\n");
	return s->text.len > 0;
}

/* Nothing to say: sleeps until wake(), unless that has come already or all ends. */
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
	mno_hub_unsubscribe(s->sub);
	mno_buf_done(&s->rec);
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

int api_stream_open(struct mno_req *q, const uint16_t *kinds, size_t n)
{
	struct api_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return api_problem(q, 500, "internal", NULL, "out of memory");
	s->api = q->api;
	s->conn = q->conn;
	s->fd = q->client->fd;
	s->text.max = TEXT_MAX;
	s->spoke_ns = mno_now_ns(CLOCK_MONOTONIC);
	mno_buf_adds(&s->text, ": mno events\n\n"); /* headers go out at once with it */
	link_stream(s);
	r = mno_hub_subscribe(q->agent->hub, kinds, n, wake, s, &s->sub);
	if (r == 0)
		q->response = MHD_create_response_from_callback(
			MHD_SIZE_UNKNOWN, BLOCK, read_stream, s, stream_free);
	if (q->response) {
		q->type = "text/event-stream";
		MHD_add_response_header(q->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
		return 200;
	}
	stream_free(s);
	if (r == -EMFILE)
		return api_problem(q, 503, "limit", "end one of them",
			"%d event streams are open, which is the limit", MNO_SUBS_MAX);
	return api_problem(q, 500, "internal", NULL, "the stream could not be opened");
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
		wake(s);
	}
}

void api_streams_end(struct mno_api *api)
{
	for (struct api_stream *s = api->streams; s; s = s->next)
		wake(s);
}
