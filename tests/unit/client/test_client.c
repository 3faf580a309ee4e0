/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <cmocka.h>
#include "../../../libmno/src/client/http.h"
#include "mno/client.h"
#include "mno/err.h"
#include "mno/time.h"

/* ---- the reader alone ---- */

static int collect(void *arg, const char *p, size_t n)
{
	struct mno_buf *b = arg;

	mno_buf_add(b, p, n);
	return b->err;
}

/* Feeds @text in portions of @step bytes; the end of the stream when it is not complete. */
static int read_all(
	const char *text, size_t len, size_t step, struct mno_http *h, struct mno_buf *b)
{
	mno_http_init(h);
	for (size_t at = 0; at < len; at += step) {
		int r = mno_http_feed(h, text + at, MNO_MIN(step, len - at), collect, b);

		if (r)
			return r;
	}
	return mno_http_eof(h);
}

static const struct {
	const char *text;
	int r, status;
	const char *body;
} answers[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1, 200, "hello"},
	{"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 1, 200, "hello"},
	{"HTTP/1.1 404\r\ncontent-length:\t2 \r\n\r\nno", 1, 404, "no"},
	{"HTTP/1.0 200 OK\r\n\r\nto the end", 1, 200, "to the end"},
	{"HTTP/1.1 204 No Content\r\n\r\n", 1, 204, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1, 200, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n "
	 "world\r\n0\r\n\r\n",
		1, 200, "hello world"},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\nX: y\r\n\r\n", 1, 200, ""},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 1, 200, "x"},
	/* what follows a complete answer is not part of it */
	{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", 1, 200, "he"},
	{"", -MNO_ECLOSED, 0, ""},
	{"HTTP/1.1 200 OK\r\nContent-", -MNO_ECLOSED, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", -MNO_ETRUNCATED, 200, "hello"},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", -MNO_ETRUNCATED, 200,
		"ab"},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", -MNO_ETRUNCATED,
		200, "hello"},
	{"SSH-2.0-OpenSSH\r\n", -EPROTO, 0, ""},
	{"HTTP/2 200 OK\r\n\r\n", -EPROTO, 0, ""},
	{"HTTP/1.1 20 OK\r\n\r\n", -EPROTO, 0, ""},
	{"HTTP/1.1 2000 OK\r\n\r\n", -EPROTO, 0, ""},
	{"HTTP/1.1 999 X\r\n\r\n", -EPROTO, 999, ""},
	{"HTTP/1.1 101 Switching\r\n\r\n", -EPROTO, 101, ""},
	{"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nspace : x\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -EPROTO, 200,
		""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello", -EPROTO, 200, ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n", -EPROTO, 200,
		""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", -EPROTO, 200, "ab"},
};

static void answers_in_any_portions(void **state)
{
	static const size_t steps[] = {1, 2, 3, 7, 100000};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		for (size_t k = 0; k < ARRAY_SIZE(steps); k++) {
			_cleanup_buf_ struct mno_buf b = {0};
			struct mno_http h;
			int r = read_all(
				answers[i].text, strlen(answers[i].text), steps[k], &h, &b);

			if (r != answers[i].r || h.status != answers[i].status ||
				strcmp(mno_buf_cstr(&b), answers[i].body) != 0)
				fail_msg("%s: %d, status %d, body %s", answers[i].text, r, h.status,
					mno_buf_cstr(&b));
		}
}

static void nul_in_the_head(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n";
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_http h;

	assert_int_equal(read_all(text, sizeof(text) - 1, 4, &h, &b), -EPROTO);
}

static void heads_are_bounded(void **state)
{
	_cleanup_buf_ struct mno_buf text = {0}, b = {0};
	struct mno_http h;

	mno_buf_adds(&text, "HTTP/1.1 200 OK\r\nX: ");
	for (int i = 0; i < MNO_HTTP_LINE_MAX; i++)
		mno_buf_addc(&text, 'a');
	assert_int_equal(read_all(text.data, text.len, 1000, &h, &b), -MNO_ELIMIT);
	mno_buf_reset(&text);
	mno_buf_adds(&text, "HTTP/1.1 200 OK\r\n");
	while (text.len <= MNO_HTTP_HEAD_MAX)
		mno_buf_adds(&text, "Header: value\r\n");
	assert_int_equal(read_all(text.data, text.len, 1000, &h, &b), -MNO_ELIMIT);
	/* informational answers without end count, too */
	mno_buf_reset(&text);
	while (text.len <= MNO_HTTP_HEAD_MAX)
		mno_buf_adds(&text, "HTTP/1.1 100 C\r\n\r\n");
	assert_int_equal(read_all(text.data, text.len, 1000, &h, &b), -MNO_ELIMIT);
}

static void completeness_header(void **state)
{
	static const struct {
		const char *value;
		double want;
	} cases[] = {{"0.9975", 0.9975}, {"1", 1}, {"2", -1}, {"-1", -1}, {"NaN", -1}, {"x", -1}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct mno_buf b = {0};
		struct mno_http h;
		char text[128];

		snprintf(text, sizeof(text), "HTTP/1.1 204 X\r\nx-mno-COMPLETENESS: %s\r\n\r\n",
			cases[i].value);
		assert_int_equal(read_all(text, strlen(text), 5, &h, &b), 1);
		assert_true(h.completeness == cases[i].want);
	}
}

/* ---- events ---- */

static int note_event(void *arg, const char *event, const char *data, size_t len)
{
	struct mno_buf *b = arg;

	assert_int_equal(strlen(data), len);
	mno_buf_addf(b, "[%s|%s]", event, data);
	return strcmp(event, "stop") == 0 ? 42 : 0;
}

static void event_streams(void **state)
{
	static const struct {
		const char *text, *want;
		int r;
	} cases[] = {
		{"data: a\n\n", "[message|a]", 0},
		{"event: exec\ndata: {}\n\nevent: exit\ndata:x\n\n", "[exec|{}][exit|x]", 0},
		{": comment\n\nevent: exec\n\ndata: a\n\n", "[message|a]", 0},
		{"data: a\ndata: b\n\n", "[message|a\nb]", 0},
		{"data: a\r\ndata: b\r\n\r\n", "[message|a\nb]", 0},
		{"data: a\rdata: b\r\r", "[message|a\nb]", 0},
		{"id: 7\nretry: 3\ndata\n\n", "[message|]", 0},
		{"data: not ended\n", "", 0},
		{"event: stop\ndata: x\n\ndata: after\n\n", "[stop|x]", 42},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t step = 1; step < 20; step += 3) {
			_cleanup_buf_ struct mno_buf b = {0};
			size_t len = strlen(cases[i].text);
			struct mno_sse s;
			int r = 0;

			mno_sse_init(&s);
			for (size_t at = 0; at < len && !r; at += step)
				r = mno_sse_feed(&s, cases[i].text + at, MNO_MIN(step, len - at),
					note_event, &b);
			assert_int_equal(r, cases[i].r);
			assert_string_equal(mno_buf_cstr(&b), cases[i].want);
			mno_sse_done(&s);
		}
}

static void events_are_bounded(void **state)
{
	static char chunk[65536];
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_sse s;
	int r = 0;

	memset(chunk, 'a', sizeof(chunk));
	mno_sse_init(&s);
	for (int i = 0; i < 32 && !r; i++)
		r = mno_sse_feed(&s, chunk, sizeof(chunk), note_event, &b);
	assert_int_equal(r, -MNO_ELIMIT);
	mno_sse_done(&s);
	/* many small data lines of one event */
	mno_sse_init(&s);
	for (int i = 0, n = 0; i < 2000000 && !n; i++)
		n = r = mno_sse_feed(&s, "data: 12345678\n", 15, note_event, &b);
	assert_int_equal(r ? r : mno_sse_feed(&s, "\n", 1, note_event, &b), -MNO_ELIMIT);
	mno_sse_done(&s);
}

/* ---- over a socket ---- */

struct server {
	char path[64];
	int fd;
	pthread_t thread;
	const char *reply;
	bool hold; /* keep the connection open behind the reply */
	char got[4096];
};

static void *serve(void *arg)
{
	struct server *s = arg;
	size_t n = 0;
	int fd = accept(s->fd, NULL, NULL);
	char c;

	while (n < sizeof(s->got) - 1 && !strstr(s->got, "\r\n\r\n")) {
		ssize_t k = recv(fd, s->got + n, sizeof(s->got) - 1 - n, 0);

		if (k <= 0)
			break;
		n += (size_t)k;
	}
	send(fd, s->reply, strlen(s->reply), MSG_NOSIGNAL);
	while (s->hold && recv(fd, &c, 1, 0) > 0)
		;
	close(fd);
	return NULL;
}

static void server_up(struct server *s, const char *reply)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(s->path, sizeof(s->path), "/tmp/mno-test-client.%d", (int)getpid());
	unlink(s->path);
	strcpy(sa.sun_path, s->path);
	s->reply = reply;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(s->fd, 1), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_down(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->fd);
	unlink(s->path);
}

static int ask(struct server *s, const char *method, const char *target, const char *body,
	uint64_t timeout_ns, int *status, struct mno_buf *out)
{
	_cleanup_(mno_client_free_p)
	struct mno_client *c = NULL;

	assert_int_equal(mno_client_new(s->path, timeout_ns, &c), 0);
	return mno_client_request(c, method, target, body, body ? strlen(body) : 0, status, out);
}

static void request_and_answer(void **state)
{
	struct server s = {0};
	_cleanup_buf_ struct mno_buf b = {0};
	int status = 0;

	server_up(&s, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(ask(&s, "POST", "/a?b=c%20d", "{}", 0, &status, &b), 0);
	server_down(&s);
	assert_int_equal(status, 201);
	assert_string_equal(mno_buf_cstr(&b), "ok");
	assert_non_null(strstr(s.got, "POST /a?b=c%20d HTTP/1.1\r\nHost: mno\r\n"));
	assert_non_null(strstr(s.got, "Content-Length: 2\r\n"));
}

static void outputs_untouched_on_failure(void **state)
{
	static const struct {
		const char *reply;
		int r;
	} cases[] = {
		{"", -MNO_ECLOSED},
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", -MNO_ETRUNCATED},
		{"\xff\xfe\r\n", -EPROTO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct server s = {0};
		_cleanup_buf_ struct mno_buf b = {0};
		int status = 77;

		mno_buf_adds(&b, "before");
		server_up(&s, cases[i].reply);
		assert_int_equal(ask(&s, "GET", "/", NULL, 0, &status, &b), cases[i].r);
		server_down(&s);
		assert_int_equal(status, 77);
		assert_string_equal(mno_buf_cstr(&b), "before");
	}
}

static void times_out(void **state)
{
	struct server s = {.hold = true};
	_cleanup_buf_ struct mno_buf b = {0};
	uint64_t start = mno_now_ns(CLOCK_MONOTONIC), took;
	int status = 0;

	server_up(&s, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nand then");
	assert_int_equal(ask(&s, "GET", "/", NULL, 100 * NS_PER_MS, &status, &b), -ETIMEDOUT);
	took = mno_now_ns(CLOCK_MONOTONIC) - start;
	server_down(&s);
	assert_in_range(took, 100 * NS_PER_MS, 3 * NS_PER_SEC);
}

static void bad_requests_stay_home(void **state)
{
	static const char *const targets[] = {"", "a", "/a b", "/a\r\nX: y", "/\x7f", "/\xc3\xa4"};
	struct server s = {0};
	_cleanup_buf_ struct mno_buf b = {0};
	int status = 0;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		server_up(&s, "");
		assert_int_equal(ask(&s, "GET", targets[i], NULL, 0, &status, &b), -EINVAL);
		server_down(&s);
		assert_int_equal(s.got[0], '\0');
	}
	server_up(&s, "");
	assert_int_equal(ask(&s, "GET /x", "/", NULL, 0, &status, &b), -EINVAL);
	server_down(&s);
}

static void nobody_there(void **state)
{
	_cleanup_(mno_client_free_p)
	struct mno_client *c = NULL, *l = NULL;
	_cleanup_buf_ struct mno_buf b = {0};
	char path[200];
	int status;

	assert_int_equal(mno_client_new("/nonexistent/socket", 0, &c), 0);
	assert_int_equal(mno_client_request(c, "GET", "/", NULL, 0, &status, &b), -ENOENT);
	assert_int_equal(mno_client_new("", 0, &l), -EINVAL);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(mno_client_new(path, 0, &l), -ENAMETOOLONG);
	assert_null(l);
	assert_null(mno_client_free(NULL));
}

static int stop_after(void *arg, const char *event, const char *data, size_t len)
{
	int *n = arg;

	return --*n == 0 ? 5 : 0;
}

static int raise_stop(void *arg, const char *event, const char *data, size_t len)
{
	*(volatile int *)arg = 1;
	return 0;
}

#define STREAM                                                                                     \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" \
	"14\r\ndata: one\n\ndata: two\r\n2\r\n\n\n\r\n"

static void streams(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	volatile int stop = 0;
	int n, status;

	for (int kind = 0; kind < 3; kind++) {
		_cleanup_(mno_client_free_p)
		struct mno_client *c = NULL;
		struct server s = {.hold = kind == 1};
		int r;

		server_up(&s, STREAM);
		assert_int_equal(mno_client_new(s.path, 0, &c), 0);
		n = kind == 0 ? 2 : 100;
		r = kind == 1 ? mno_client_stream(
					c, "/e", raise_stop, (void *)&stop, &stop, &status, &b)
			      : mno_client_stream(c, "/e", stop_after, &n, NULL, &status, &b);
		assert_int_equal(r, kind == 0 ? 5 : kind == 1 ? 0 : -MNO_ECLOSED);
		assert_int_equal(status, 200);
		server_down(&s);
	}
}

static void stream_refused(void **state)
{
	_cleanup_(mno_client_free_p)
	struct mno_client *c = NULL;
	_cleanup_buf_ struct mno_buf b = {0};
	struct server s = {0};
	int n = 1, status = 0;

	server_up(&s, "HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope");
	assert_int_equal(mno_client_new(s.path, 0, &c), 0);
	assert_int_equal(mno_client_stream(c, "/e", stop_after, &n, NULL, &status, &b), -EPROTO);
	server_down(&s);
	assert_int_equal(status, 403);
	assert_string_equal(mno_buf_cstr(&b), "nope");
	assert_int_equal(n, 1);
}

static void escaping(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};

	mno_url_escape(&b, "aZ09-._~ /?&=+%\xc3\xa4\n{\"@[");
	assert_string_equal(mno_buf_cstr(&b), "aZ09-._~%20%2F%3F%26%3D%2B%25%C3%A4%0A%7B%22%40%5B");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_in_any_portions),
		cmocka_unit_test(nul_in_the_head),
		cmocka_unit_test(heads_are_bounded),
		cmocka_unit_test(completeness_header),
		cmocka_unit_test(event_streams),
		cmocka_unit_test(events_are_bounded),
		cmocka_unit_test(request_and_answer),
		cmocka_unit_test(outputs_untouched_on_failure),
		cmocka_unit_test(times_out),
		cmocka_unit_test(bad_requests_stay_home),
		cmocka_unit_test(nobody_there),
		cmocka_unit_test(streams),
		cmocka_unit_test(stream_refused),
		cmocka_unit_test(escaping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
