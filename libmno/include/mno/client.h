/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP over the agent's unix socket, for programs that ask the agent. One request at a time per
 * connection object; not thread-safe.
 */
#pragma once

#include <sys/types.h>
#include "mno/buf.h"

struct mno_client;

/* @socket_path is copied (at most 107 bytes, else -ENAMETOOLONG). Nothing is connected yet.
 * @timeout_ns: per request, 0 = 10 s. */
int mno_client_new(const char *socket_path, uint64_t timeout_ns, struct mno_client **ret);
struct mno_client *mno_client_free(struct mno_client *c);
MNO_DEFINE_CLEANUP(struct mno_client *, mno_client_free)

/*
 * Sends @method @target ("/mno/v1/status?x=y", already escaped) with optional @body and reads
 * the whole answer (at most 64 MiB) into @ret_body. 0 and *@ret_status = HTTP status, or
 * -ENOENT / -ECONNREFUSED (no agent), -EACCES, -ETIMEDOUT, -MNO_ECLOSED, -MNO_ETRUNCATED,
 * -EPROTO (not HTTP), -MNO_ELIMIT (larger than that), -EINVAL (@method or @target).
 * On failure the outputs are untouched.
 */
int mno_client_request(struct mno_client *c, const char *method, const char *target,
	const void *body, size_t body_len, int *ret_status, struct mno_buf *ret_body);

/* Part of what the last answer should contain that it does contain, 0..1; -1 when not said. */
double mno_client_completeness(const struct mno_client *c);

/*
 * POSTs a body of any length, piece by piece: @read fills @buf (at most @size bytes) and returns
 * how many, 0 at the end, or a negative error that ends the request and is returned. An answer that
 * comes before the end of the body ends the reading. Waits up to @idle_ns for the agent to take
 * more, and for its answer. *@stop != 0: -ECANCELED. Else as mno_client_request().
 */
int mno_client_upload(struct mno_client *c, const char *target,
	ssize_t (*read)(void *arg, void *buf, size_t size), void *arg, uint64_t idle_ns,
	volatile const int *stop, int *ret_status, struct mno_buf *ret_body);

/*
 * GETs a server-sent event stream and calls @fn for each event's data (NUL-terminated) until it
 * returns non-zero (which is returned), the agent goes (-MNO_ECLOSED), or *@stop becomes non-zero
 * (0 is returned); -ETIMEDOUT when nothing, not even a comment, came for 45 s, -MNO_ELIMIT for
 * an event over 1 MiB. A non-200 answer: *@ret_status and its body (at most 64 KiB) in @ret_body,
 * returns -EPROTO.
 */
int mno_client_stream(struct mno_client *c, const char *target,
	int (*fn)(void *arg, const char *event, const char *data, size_t len), void *arg,
	volatile const int *stop, int *ret_status, struct mno_buf *ret_body);

/* Appends @s percent-encoded for a query value. */
void mno_url_escape(struct mno_buf *b, const char *s);
