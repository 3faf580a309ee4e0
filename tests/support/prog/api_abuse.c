/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that behave badly, for tests of the agent's socket. Usage: api_abuse SOCKET CASE [N]
 * Exit 0 if the agent did what it should; says why not on stdout.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "mno/macro.h"

#define STATUS "GET /mno/v1/status HTTP/1.1\r\nHost: mno\r\n\r\n"

static const char *path;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _printf_(1, 2) int bad(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return 1;
}

static int dial(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool say(int fd, const void *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* Reads until @ms pass, the peer closes, or @needle is there; returns the length, NUL-terminated. */
static size_t hear(int fd, char *buf, size_t size, const char *needle, int ms, bool *ret_closed)
{
	double end = now() + ms / 1e3;
	size_t n = 0;

	*ret_closed = false;
	buf[0] = 0;
	while (n + 1 < size && now() < end) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;

		if (poll(&p, 1, (int)((end - now()) * 1e3) + 1) <= 0)
			continue;
		got = recv(fd, buf + n, size - 1 - n, 0);
		if (got <= 0) {
			*ret_closed = true;
			break;
		}
		n += (size_t)got;
		buf[n] = 0;
		if (needle && strstr(buf, needle))
			break;
	}
	return n;
}

/* One request on a connection of its own; seconds it took, or -1. */
static double ask_status(void)
{
	double t0 = now();
	char buf[65536];
	int fd = dial();
	bool closed;

	if (fd < 0)
		return -1;
	if (say(fd, STATUS, strlen(STATUS)))
		hear(fd, buf, sizeof(buf), "\"degraded\":", 5000, &closed);
	else
		buf[0] = 0;
	close(fd);
	return strstr(buf, "HTTP/1.1 200") && strstr(buf, "\"degraded\":") ? now() - t0 : -1;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* 200 times; prints what it took. */
static int measure(const char *beside)
{
	double t[200];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = ask_status();
		if (t[i] < 0)
			return bad("status failed at try %zu beside %s: %s", i, beside,
				strerror(errno));
	}
	qsort(t, ARRAY_SIZE(t), sizeof(*t), compare);
	printf("status beside %s: p50 %.2f ms, p99 %.2f ms\n", beside, t[100] * 1e3, t[198] * 1e3);
	return 0;
}

/* @n connections that send a byte of a request now and then. */
static int slow(int n)
{
	static const char request[] = STATUS;
	_cleanup_free_ int *fds = calloc((size_t)n, sizeof(*fds));
	struct rlimit l = {.rlim_cur = (rlim_t)n + 64, .rlim_max = (rlim_t)n + 64};
	int open = 0, r = 0;
	char beside[64];

	setrlimit(RLIMIT_NOFILE, &l);
	for (int i = 0; i < n; i++) {
		fds[i] = dial();
		if (fds[i] < 0)
			return bad("connection %d: %s", i, strerror(errno));
	}
	snprintf(beside, sizeof(beside), "%d slow clients", n);
	for (int round = 0; r == 0 && round < 3; round++) {
		for (int i = 0; i < n; i++)
			say(fds[i], request + round, 1);
		r = measure(beside);
	}
	for (int i = 0; i < n; i++) {
		char c;

		open += recv(fds[i], &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
		close(fds[i]);
	}
	printf("%d of them were still connected\n", open);
	return r;
}

/* A client that never ends its request is sent away, however busy it looks. */
static int slowloris(int unused)
{
	int fd = dial();
	double t0 = now();

	if (!say(fd, "GET /metrics HTTP/1.1\r\n", 23))
		return bad("could not send");
	while (now() < t0 + 20) {
		struct timespec ts = {.tv_nsec = 500000000};

		nanosleep(&ts, NULL);
		if (!say(fd, "X", 1)) {
			printf("sent away after %.1f s\n", now() - t0);
			return now() - t0 < 15 ? 0 : bad("that is too late");
		}
	}
	return bad("still connected after 20 s");
}

static int garbage(int unused)
{
	static const char *const texts[] = {"\r\n\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n", "\0\0\0\0",
		"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
		"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		"chunked\r\n\r\nzz\r\n",
		"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: "
		"99999999999999999999\r\n\r\n",
		"GET /%00%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"};
	unsigned seed = 1;
	char buf[4096];
	bool closed;

	for (size_t i = 0; i < 400; i++) {
		const char *s = i < ARRAY_SIZE(texts) ? texts[i] : buf;
		size_t n = i < ARRAY_SIZE(texts) ? strlen(s) + (*s == 0) * 4
						 : 1 + (size_t)rand_r(&seed) % 2000;
		int fd = dial();

		if (fd < 0)
			return bad("garbage %zu: %s", i, strerror(errno));
		for (size_t k = 0; s == buf && k < n; k++)
			buf[k] = (char)rand_r(&seed);
		say(fd, s, n);
		shutdown(fd, SHUT_WR);
		hear(fd, buf, sizeof(buf), NULL, i < ARRAY_SIZE(texts) ? 200 : 20, &closed);
		close(fd);
		if (i < ARRAY_SIZE(texts) && strstr(buf, "HTTP/1.1 2"))
			return bad("garbage %zu was answered: %.200s", i, buf);
	}
	return measure("garbage");
}

/* A client that closed its sending side after the request still gets the whole answer. */
static int half_closed(int unused)
{
	char buf[65536];
	int fd = dial();
	bool closed;

	say(fd, STATUS, strlen(STATUS));
	shutdown(fd, SHUT_WR);
	hear(fd, buf, sizeof(buf), NULL, 3000, &closed);
	close(fd);
	return strstr(buf, "\"degraded\":") ? 0 : bad("no whole answer: %.200s", buf);
}

static int pipelined(int unused)
{
	static const char two[] = STATUS "GET /nothing HTTP/1.1\r\nHost: mno\r\n\r\n";
	char buf[65536];
	int fd = dial();
	bool closed;

	say(fd, two, strlen(two));
	hear(fd, buf, sizeof(buf), "404 Not Found", 3000, &closed);
	close(fd);
	return strstr(buf, "200 OK") && strstr(buf, "404 Not Found") ? 0 : bad("%.200s", buf);
}

static int expect_status(const char *head, size_t fill, const char *tail, const char *want)
{
	size_t n = strlen(head) + fill + strlen(tail);
	_cleanup_free_ char *text = malloc(n + 1);
	char buf[8192];
	int fd = dial();
	bool closed;

	memset(text, 'a', n);
	memcpy(text, head, strlen(head));
	memcpy(text + n - strlen(tail), tail, strlen(tail) + 1);
	say(fd, text, n);
	hear(fd, buf, sizeof(buf), "\r\n\r\n", 3000, &closed);
	close(fd);
	return strstr(buf, want) ? 0 : bad("expected %s, got: %.200s", want, buf);
}

static int too_large(int unused)
{
	return expect_status(
		       "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n",
		       1000, "", " 413 ") ||
	       expect_status("GET /", 100000, " HTTP/1.1\r\nHost: x\r\n\r\n", " 414 ") ||
	       expect_status("GET / HTTP/1.1\r\nHost: x\r\nX: ", 100000, "\r\n\r\n", " 431 ") ||
	       expect_status(
		       "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: "
		       "application/x-www-form-urlencoded\r\nContent-Length: 200006\r\n\r\nquery=",
		       200000, "", " 400 ") ||
	       measure("large requests");
}

/* Event streams that are never read, then left without a word; the last of too many is refused. */
static int streams(int n)
{
	static const char request[] = "GET /mno/v1/events?follow=1 HTTP/1.1\r\nHost: mno\r\n\r\n";
	_cleanup_free_ int *fds = calloc((size_t)n, sizeof(*fds));
	char buf[4096];
	bool closed;
	int r;

	for (int i = 0; i < n; i++) {
		fds[i] = dial();
		if (fds[i] < 0 || !say(fds[i], request, strlen(request)))
			return bad("stream %d: %s", i, strerror(errno));
		if (hear(fds[i], buf, sizeof(buf), "\n\n", 3000, &closed) == 0)
			return bad("stream %d: no answer", i);
		if (i < 60 && !strstr(buf, "text/event-stream"))
			return bad("stream %d: %.300s", i, buf);
	}
	if (n > 64 && !strstr(buf, "503"))
		return bad("stream %d was not refused: %.300s", n, buf);
	r = measure("streams nobody reads");
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return r;
}

/* Everything stored, asked for @n times at once and never read. */
static int heavy(int n)
{
	static const char request[] =
		"GET /api/v1/query?query=%7B__name__=~%22.%2B%22%7D[1d] HTTP/1.1\r\n"
		"Host: mno\r\n\r\n";
	_cleanup_free_ int *fds = calloc((size_t)n, sizeof(*fds));
	int r;

	for (int i = 0; i < n; i++) {
		fds[i] = dial();
		if (fds[i] < 0 || !say(fds[i], request, strlen(request)))
			return bad("query %d: %s", i, strerror(errno));
	}
	r = measure("heavy queries nobody reads");
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return r;
}

/* Clients that ask for some 20 MB each and do not take it: together they are bounded. */
static int hoarders(int n)
{
	_cleanup_free_ int *fds = calloc((size_t)n, sizeof(*fds));
	char text[400], buf[1024];
	int refused = 0, r = 0;
	long now_s = time(NULL);
	bool closed;

	snprintf(text, sizeof(text),
		"GET /api/v1/query_range?query=%%7B__name__%%3D~%%22node_.%%2B%%22%%7D&start=%ld&end=%ld"
		"&step=0.001 HTTP/1.1\r\nHost: mno\r\n\r\n",
		now_s - 2, now_s);
	for (int i = 0; i < n; i++) {
		fds[i] = dial();
		if (fds[i] < 0 || !say(fds[i], text, strlen(text)))
			return bad("hoarder %d: %s", i, strerror(errno));
		hear(fds[i], buf, sizeof(buf), "\r\n\r\n", 5000, &closed);
		if (strstr(buf, " 503 "))
			refused++;
		else if (!strstr(buf, " 200 "))
			r = bad("hoarder %d: %.300s", i, buf);
	}
	printf("%d of %d were refused\n", refused, n);
	if (r == 0 && !refused)
		r = bad("nothing bounds what they hold");
	if (r == 0)
		r = measure("hoarders");
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return r;
}

/* Waits on a stream until the agent goes: the end must come, not silence. */
static int stream_end(int unused)
{
	static const char request[] =
		"GET /mno/v1/events?follow=1&kind=signal HTTP/1.1\r\nHost: mno\r\n\r\n";
	char buf[4096];
	int fd = dial();
	bool closed;
	double t0;

	say(fd, request, strlen(request));
	hear(fd, buf, sizeof(buf), "mno events", 3000, &closed);
	puts("ready");
	fflush(stdout);
	t0 = now();
	do
		hear(fd, buf, sizeof(buf), NULL, 1000, &closed);
	while (!closed && now() < t0 + 20);
	close(fd);
	return closed ? 0 : bad("the stream did not end");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int n);
	} cases[] = {{"slow", slow}, {"slowloris", slowloris}, {"garbage", garbage},
		{"half-closed", half_closed}, {"pipelined", pipelined}, {"too-large", too_large},
		{"streams", streams}, {"heavy", heavy}, {"hoarders", hoarders},
		{"stream-end", stream_end}};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc > 2 && i < ARRAY_SIZE(cases); i++)
		if (!strcmp(argv[2], cases[i].name)) {
			path = argv[1];
			return cases[i].fn(argc > 3 ? atoi(argv[3]) : 0);
		}
	fprintf(stderr, "usage: api_abuse SOCKET CASE [N]\n");
	return 2;
}
