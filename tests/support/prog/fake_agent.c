/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent for the tests of mnoctl: answers from files, and misbehaves on demand.
 * Usage: fake_agent SOCKET DIR. DIR/routes has lines "METHOD PATH STATUS MODE FILE"; the first
 * whose method is the request's and whose PATH ("/a/b", or "/a/b?part of the query") matches is
 * taken. "*" matches any. Each request is appended to DIR/requests. Ends on SIGTERM.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BODY_MAX (1 << 20)

static char body[BODY_MAX];
static char head[16384];

static void put(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

static void put_head(int fd, const char *status, const char *type, const char *framing)
{
	char text[512];
	int n = snprintf(text, sizeof(text),
		"HTTP/1.1 %s X\r\nContent-Type: %s\r\nX-Mno-Completeness: 0.9975\r\n%s\r\n\r\n",
		status, type, framing);

	put(fd, text, (size_t)n);
}

static const char *type_of(const char *status)
{
	return *status == '2' ? "application/json" : "application/problem+json";
}

static void put_length(int fd, const char *status, size_t n, long off)
{
	char framing[64];

	snprintf(framing, sizeof(framing), "Content-Length: %ld", (long)n + off);
	put_head(fd, status, type_of(status), framing);
	put(fd, body, n);
}

static void put_chunked(int fd, const char *status, size_t n, int end)
{
	put_head(fd, status, type_of(status), "Transfer-Encoding: chunked");
	for (size_t at = 0; at < n;) {
		size_t part = n - at < 37 ? n - at : 37;
		char size[32];

		put(fd, size, (size_t)snprintf(size, sizeof(size), "%zx;x=y\r\n", part));
		put(fd, body + at, part);
		put(fd, "\r\n", 2);
		at += part;
	}
	if (end)
		put(fd, "0\r\nTrailer: x\r\n\r\n", 17);
}

/* Never ends: the reader has to stop by itself. */
static void put_endless(int fd)
{
	static char junk[65536];

	memset(junk, 'a', sizeof(junk));
	for (int i = 0; i < 2048; i++)
		put(fd, junk, sizeof(junk));
}

static void put_stream(int fd, size_t n)
{
	put_head(fd, "200", "text/event-stream", "Transfer-Encoding: chunked");
	for (size_t at = 0; at < n;) { /* portions that cut lines anywhere */
		size_t part = n - at < 11 ? n - at : 11;
		char size[32];

		put(fd, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", part));
		put(fd, body + at, part);
		put(fd, "\r\n", 2);
		at += part;
	}
}

static void answer(int fd, const char *status, const char *mode, size_t n)
{
	char c;

	if (strcmp(mode, "length") == 0)
		put_length(fd, status, n, 0);
	else if (strcmp(mode, "chunked") == 0)
		put_chunked(fd, status, n, 1);
	else if (strcmp(mode, "chunked-cut") == 0)
		put_chunked(fd, status, n, 0);
	else if (strcmp(mode, "length-long") == 0) /* says more than comes */
		put_length(fd, status, n, 100);
	else if (strcmp(mode, "length-short") == 0) /* says less: the rest is cut off */
		put_length(fd, status, n, -5);
	else if (strcmp(mode, "garbage") == 0)
		put(fd, "\x00\xff\x1b]0;owned\x07 what?\r\n\r\n", 23);
	else if (strcmp(mode, "endless") == 0)
		put_endless(fd);
	else if (strcmp(mode, "endless-body") == 0) {
		put_head(fd, status, type_of(status), "Connection: close");
		put_endless(fd);
	} else if (strcmp(mode, "head-cut") == 0)
		put(fd, "HTTP/1.1 200 OK\r\nContent-", 25);
	else if (strcmp(mode, "stream") == 0)
		put_stream(fd, n);
	else if (strcmp(mode, "stream-hang") == 0) {
		put_stream(fd, n);
		while (recv(fd, &c, 1, 0) > 0)
			;
	} else if (strcmp(mode, "hang") == 0)
		while (recv(fd, &c, 1, 0) > 0)
			;
	/* "close": nothing at all */
}

static int matches(const char *pattern, const char *path)
{
	const char *q = strchr(pattern, '?');
	size_t n = q ? (size_t)(q - pattern) : strlen(pattern);

	if (strcmp(pattern, "*") == 0)
		return 1;
	if (strncmp(path, pattern, n) != 0 || (path[n] && path[n] != '?'))
		return 0;
	return !q || strstr(path + n, q + 1) != NULL;
}

static size_t load(const char *dir, const char *file)
{
	char path[512];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(body, 1, sizeof(body), f);
	fclose(f);
	return n;
}

static void serve(int fd, const char *dir)
{
	char method[16], target[8192], path[512], line[1024];
	char m[16], p[256], status[8], mode[32], file[128];
	size_t n = 0;
	FILE *f;

	while (n < sizeof(head) - 1 && !strstr(head, "\r\n\r\n")) {
		ssize_t k = recv(fd, head + n, sizeof(head) - 1 - n, 0);

		if (k <= 0)
			return;
		n += (size_t)k;
	}
	if (sscanf(head, "%15s %8191s", method, target) != 2)
		return;
	snprintf(path, sizeof(path), "%s/requests", dir);
	f = fopen(path, "a");
	if (f) {
		fprintf(f, "%s %s\n", method, target);
		fclose(f);
	}
	snprintf(path, sizeof(path), "%s/routes", dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%15s %255s %7s %31s %127s", m, p, status, mode, file) != 5)
			continue;
		if ((strcmp(m, "*") != 0 && strcmp(m, method) != 0) || !matches(p, target))
			continue;
		answer(fd, status, mode, load(dir, file));
		fclose(f);
		return;
	}
	if (f)
		fclose(f);
	n = (size_t)snprintf(body, sizeof(body),
		"{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,"
		"\"detail\":\"no such path\",\"code\":\"not_found\"}");
	put_length(fd, "404", n, 0);
}

int main(int argc, char **argv)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 3 || s < 0 || strlen(argv[1]) >= sizeof(sa.sun_path))
		return 2;
	strcpy(sa.sun_path, argv[1]);
	unlink(argv[1]);
	signal(SIGCHLD, SIG_IGN);
	if (bind(s, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(s, 16) < 0) {
		perror(argv[1]);
		return 1;
	}
	for (;;) {
		int fd = accept(s, NULL, NULL);

		if (fd < 0)
			continue;
		if (fork() == 0) {
			close(s);
			alarm(60); /* a hanging answer does not outlive its test */
			serve(fd, argv[2]);
			_exit(0);
		}
		close(fd);
	}
}
