/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection a request: the socket is local, a connect costs microseconds, and nothing of an
 * earlier answer can leak into the next.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "http.h"
#include "mno/client.h"
#include "mno/err.h"
#include "mno/time.h"

#define DEFAULT_TIMEOUT_NS (10 * NS_PER_SEC)
#define BODY_MAX           (64u << 20)
#define ERROR_BODY_MAX     (64u << 10)
/* The agent sends a comment every 15 s: three missed ones mean that it hangs. */
#define STREAM_IDLE_NS (45 * NS_PER_SEC)
#define STOP_POLL_MS   200
#define TARGET_MAX     (32u << 10)
#define UPLOAD_PIECE   (64u << 10)

struct mno_client {
	struct sockaddr_un addr;
	uint64_t timeout_ns;
	double completeness;
};

int mno_client_new(const char *socket_path, uint64_t timeout_ns, struct mno_client **ret)
{
	struct mno_client *c;

	if (!*socket_path)
		return -EINVAL;
	if (strlen(socket_path) >= sizeof(c->addr.sun_path))
		return -ENAMETOOLONG;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->addr.sun_family = AF_UNIX;
	strcpy(c->addr.sun_path, socket_path);
	c->timeout_ns = timeout_ns ? timeout_ns : DEFAULT_TIMEOUT_NS;
	c->completeness = -1;
	*ret = c;
	return 0;
}

struct mno_client *mno_client_free(struct mno_client *c)
{
	free(c);
	return NULL;
}

double mno_client_completeness(const struct mno_client *c)
{
	return c->completeness;
}

/* One request and the reading of its answer. */
struct exchange {
	int fd;
	uint64_t deadline;        /* CLOCK_MONOTONIC ns */
	volatile const int *stop; /* or NULL */
	struct mno_http http;
};

/* Waits until @fd is ready: 0, -ETIMEDOUT, -ECANCELED (stopped) or -errno. */
static int wait_ready(struct exchange *x, short events)
{
	for (;;) {
		uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
		struct pollfd p = {.fd = x->fd, .events = events};
		uint64_t ms;
		int r;

		if (x->stop && *x->stop)
			return -ECANCELED;
		if (now >= x->deadline)
			return -ETIMEDOUT;
		ms = (x->deadline - now) / NS_PER_MS + 1;
		/* A signal may arrive between the check above and poll(). */
		r = poll(&p, 1, (int)MNO_MIN(ms, x->stop ? (uint64_t)STOP_POLL_MS : 60000u));
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int connect_agent(const struct mno_client *c, struct exchange *x)
{
	x->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (x->fd < 0)
		return -errno;
	while (connect(x->fd, (const struct sockaddr *)&c->addr, sizeof(c->addr)) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		/* The backlog is full: a unix socket cannot be waited for in this state. */
		if (mno_now_ns(CLOCK_MONOTONIC) >= x->deadline)
			return -ETIMEDOUT;
		if (x->stop && *x->stop)
			return -ECANCELED;
		poll(NULL, 0, 10);
	}
	return 0;
}

static int send_all(struct exchange *x, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(x->fd, p, n, MSG_NOSIGNAL);
		int r;

		if (k >= 0) {
			p += k;
			n -= (size_t)k;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return 0; /* it may have answered before reading all */
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_ready(x, POLLOUT);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The request's head, without the empty line that ends it. */
static int put_head(struct mno_buf *b, const char *method, const char *target, const char *accept)
{
	for (const char *s = method; *s; s++)
		if (*s < 'A' || *s > 'Z')
			return -EINVAL;
	if (*target != '/' || strlen(target) > TARGET_MAX)
		return -EINVAL;
	for (const char *s = target; *s; s++)
		if (*s <= ' ' || *s > '~')
			return -EINVAL;
	mno_buf_addf(b, "%s %s HTTP/1.1\r\nHost: mno\r\nUser-Agent: libmno/" MNO_VERSION "\r\n",
		method, target);
	mno_buf_addf(b, "Accept: %s\r\nConnection: close\r\n", accept);
	return 0;
}

static int send_request(struct exchange *x, const char *method, const char *target,
	const char *accept, const void *body, size_t body_len)
{
	_cleanup_buf_ struct mno_buf b = {.max = BODY_MAX};
	int r = put_head(&b, method, target, accept);

	if (r < 0)
		return r;
	if (body || strcmp(method, "GET") != 0)
		mno_buf_addf(&b, "Content-Length: %zu\r\n", body_len);
	if (body)
		mno_buf_adds(&b, "Content-Type: application/json\r\n");
	mno_buf_adds(&b, "\r\n");
	mno_buf_add(&b, body, body ? body_len : 0);
	return b.err ? b.err : send_all(x, b.data, b.len);
}

/* Reads until the answer is complete, an error, or @fn stops it. */
static int read_answer(struct exchange *x, uint64_t idle_ns, mno_http_body_fn fn, void *arg)
{
	char buf[16384];

	for (;;) {
		ssize_t n = recv(x->fd, buf, sizeof(buf), 0);
		int r;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			r = wait_ready(x, POLLIN);
		else if (n < 0)
			r = errno == ECONNRESET ? mno_http_eof(&x->http) : -errno;
		else if (n == 0)
			r = mno_http_eof(&x->http);
		else
			r = mno_http_feed(&x->http, buf, (size_t)n, fn, arg);
		if (r)
			return r;
		if (n > 0 && idle_ns)
			x->deadline = mno_now_ns(CLOCK_MONOTONIC) + idle_ns;
	}
}

static int to_buf(void *arg, const char *p, size_t n)
{
	struct mno_buf *b = arg;

	mno_buf_add(b, p, n);
	return b->err == -E2BIG ? -MNO_ELIMIT : b->err;
}

static int open_exchange(struct mno_client *c, struct exchange *x, volatile const int *stop)
{
	*x = (struct exchange){.fd = -1, .stop = stop};
	mno_http_init(&x->http);
	c->completeness = -1;
	x->deadline = mno_now_ns(CLOCK_MONOTONIC) + c->timeout_ns;
	return connect_agent(c, x);
}

static void close_exchange(struct exchange *x)
{
	if (x->fd >= 0)
		close(x->fd);
}
#define _cleanup_exchange_ _cleanup_(close_exchange)

int mno_client_request(struct mno_client *c, const char *method, const char *target,
	const void *body, size_t body_len, int *ret_status, struct mno_buf *ret_body)
{
	_cleanup_exchange_ struct exchange x;
	_cleanup_buf_ struct mno_buf got = {.max = BODY_MAX};
	int r = open_exchange(c, &x, NULL);

	if (r == 0)
		r = send_request(&x, method, target, "application/json", body, body_len);
	if (r == 0)
		r = read_answer(&x, 0, to_buf, &got);
	if (r < 0)
		return r;
	c->completeness = x.http.completeness;
	*ret_status = x.http.status;
	mno_buf_done(ret_body);
	*ret_body = got;
	got = (struct mno_buf){0};
	return 0;
}

/* Whether the agent has said something already. */
static bool has_answered(const struct exchange *x)
{
	struct pollfd p = {.fd = x->fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* The body in chunks of HTTP/1.1. 0 also when an answer came before the end. */
static int send_body(struct exchange *x, ssize_t (*read_fn)(void *arg, void *buf, size_t size),
	void *arg, uint64_t idle_ns)
{
	enum { HEAD = 16, TAIL = 2 };
	_cleanup_free_ char *buf = malloc(HEAD + UPLOAD_PIECE + TAIL);
	char head[HEAD + 1];
	ssize_t n;
	int r;

	if (!buf)
		return -ENOMEM;
	do {
		size_t len;

		n = read_fn(arg, buf + HEAD, UPLOAD_PIECE);
		if (n < 0)
			return (int)n;
		if (x->stop && *x->stop)
			return -ECANCELED;
		len = (size_t)snprintf(head, sizeof(head), "%zx\r\n", (size_t)n);
		memcpy(buf + HEAD - len, head, len);
		memcpy(buf + HEAD + n, "\r\n", TAIL);
		if (has_answered(x))
			return 0;
		x->deadline = mno_now_ns(CLOCK_MONOTONIC) + idle_ns;
		r = send_all(x, buf + HEAD - len, len + (size_t)n + TAIL);
	} while (n > 0 && r == 0);
	return r;
}

int mno_client_upload(struct mno_client *c, const char *target,
	ssize_t (*read_fn)(void *arg, void *buf, size_t size), void *arg, uint64_t idle_ns,
	volatile const int *stop, int *ret_status, struct mno_buf *ret_body)
{
	_cleanup_exchange_ struct exchange x;
	_cleanup_buf_ struct mno_buf got = {.max = BODY_MAX}, head = {0};
	int r = open_exchange(c, &x, stop);

	if (r == 0)
		r = put_head(&head, "POST", target, "application/json");
	mno_buf_adds(&head, "Transfer-Encoding: chunked\r\n\r\n");
	if (r == 0)
		r = head.err ? head.err : send_all(&x, head.data, head.len);
	if (r == 0)
		r = send_body(&x, read_fn, arg, idle_ns);
	if (r < 0)
		return r;
	x.deadline = mno_now_ns(CLOCK_MONOTONIC) + idle_ns;
	r = read_answer(&x, 0, to_buf, &got);
	if (r < 0)
		return r;
	*ret_status = x.http.status;
	mno_buf_done(ret_body);
	*ret_body = got;
	got = (struct mno_buf){0};
	return 0;
}

struct stream {
	struct exchange x;
	struct mno_sse sse;
	struct mno_buf error;
	int (*fn)(void *arg, const char *event, const char *data, size_t len);
	void *arg;
	int result; /* of @fn, kept apart: it may be any number */
};

static bool is_stream(const struct mno_http *h)
{
	return h->status == 200 && h->event_stream;
}

static int on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct stream *s = arg;

	if (s->x.stop && *s->x.stop)
		return -ECANCELED;
	s->result = s->fn(s->arg, event, data, len);
	return s->result ? -ECANCELED : 0;
}

static int stream_body(void *arg, const char *p, size_t n)
{
	struct stream *s = arg;

	if (is_stream(&s->x.http))
		return mno_sse_feed(&s->sse, p, n, on_event, s);
	return to_buf(&s->error, p, n);
}

static int run_stream(struct mno_client *c, struct stream *s, const char *target)
{
	uint64_t idle = MNO_MAX(c->timeout_ns, STREAM_IDLE_NS);
	int r = send_request(&s->x, "GET", target, "text/event-stream", NULL, 0);

	if (r == 0)
		r = read_answer(&s->x, idle, stream_body, s);
	if (r == -ECANCELED)
		return s->result;
	if (mno_http_in_body(&s->x.http) && !is_stream(&s->x.http))
		return r < 0 && r != -MNO_ELIMIT ? r : -EPROTO;
	return r == 1 || r == -MNO_ETRUNCATED ? -MNO_ECLOSED : r;
}

int mno_client_stream(struct mno_client *c, const char *target,
	int (*fn)(void *arg, const char *event, const char *data, size_t len), void *arg,
	volatile const int *stop, int *ret_status, struct mno_buf *ret_body)
{
	struct stream s = {.fn = fn, .arg = arg, .error = {.max = ERROR_BODY_MAX}};
	int r;

	mno_sse_init(&s.sse);
	r = open_exchange(c, &s.x, stop);
	if (r == 0)
		r = run_stream(c, &s, target);
	else if (r == -ECANCELED)
		r = 0;
	*ret_status = s.x.http.status;
	mno_buf_done(ret_body);
	*ret_body = s.error;
	mno_sse_done(&s.sse);
	close_exchange(&s.x);
	return r;
}

static bool is_unreserved(unsigned char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
	       strchr("-._~", ch);
}

void mno_url_escape(struct mno_buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char ch = (unsigned char)*s;

		if (is_unreserved(ch))
			mno_buf_addc(b, (char)ch);
		else
			mno_buf_addf(b, "%%%02X", ch);
	}
}
