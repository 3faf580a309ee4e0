/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Incremental readers of what an HTTP/1.1 server sends: the answer and, in its body, server-sent
 * events. Both take any bytes in any portions; the server is not trusted. Not thread-safe.
 */
#pragma once

#include "mno/buf.h"

#define MNO_HTTP_LINE_MAX 8192
#define MNO_HTTP_HEAD_MAX (64u << 10)
#define MNO_SSE_MAX       (1u << 20)

/* Takes decoded body bytes; non-zero stops reading and is returned by mno_http_feed(). */
typedef int (*mno_http_body_fn)(void *arg, const char *p, size_t n);

struct mno_http {
	int status; /* of the final answer; 0 until its first line was read */
	bool event_stream;
	bool chunked, has_length;
	uint8_t state;
	uint32_t head_bytes, line_len;
	uint64_t left;       /* bytes of the body or of the current chunk */
	double completeness; /* X-Mno-Completeness, or -1 */
	char line[MNO_HTTP_LINE_MAX];
};

void mno_http_init(struct mno_http *h);

/*
 * Reads the next @n bytes of an answer. 0 = wants more, 1 = the answer is complete (what follows
 * is ignored), -EPROTO = this is not HTTP, -MNO_ELIMIT = head too large, or what @body returned.
 */
int mno_http_feed(struct mno_http *h, const char *p, size_t n, mno_http_body_fn body, void *arg);

/* The server closed: 1 = the answer is complete, -MNO_ECLOSED = before its head was,
 * -MNO_ETRUNCATED = inside its body. */
int mno_http_eof(const struct mno_http *h);

/* The head is read and the status is final. */
bool mno_http_in_body(const struct mno_http *h);

struct mno_sse {
	struct mno_buf line, data; /* owned, at most MNO_SSE_MAX each */
	char event[64];
	bool after_cr, has_data;
};

/* @event and @data are NUL-terminated, valid during the call. Non-zero stops the reader. */
typedef int (*mno_sse_fn)(void *arg, const char *event, const char *data, size_t len);

void mno_sse_init(struct mno_sse *s);
void mno_sse_done(struct mno_sse *s);
/* 0, what @fn returned, -MNO_ELIMIT (an event over MNO_SSE_MAX) or -ENOMEM. */
int mno_sse_feed(struct mno_sse *s, const char *p, size_t n, mno_sse_fn fn, void *arg);
