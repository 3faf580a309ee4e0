/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server may send: read in one piece and byte by byte, which must come to the same; then
 * the same bytes as a stream of events.
 */
#include <stdlib.h>
#include <string.h>
#include "../../libmno/src/client/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int collect(void *arg, const char *p, size_t n)
{
	mno_buf_add(arg, p, n);
	return 0;
}

static int read_all(struct mno_http *h, const char *p, size_t n, size_t step, struct mno_buf *b)
{
	mno_http_init(h);
	for (size_t at = 0; at < n; at += step) {
		int r = mno_http_feed(h, p + at, MNO_MIN(step, n - at), collect, b);

		if (r)
			return r;
	}
	return mno_http_eof(h);
}

static int on_event(void *arg, const char *event, const char *data, size_t len)
{
	if (strlen(data) != len)
		abort();
	mno_buf_addf(arg, "%s:%s;", event, data);
	return 0;
}

static void read_events(const char *p, size_t n, size_t step, struct mno_buf *b)
{
	struct mno_sse s;
	int r = 0;

	mno_sse_init(&s);
	for (size_t at = 0; at < n && !r; at += step)
		r = mno_sse_feed(&s, p + at, MNO_MIN(step, n - at), on_event, b);
	mno_sse_done(&s);
}

static void same(const struct mno_buf *a, const struct mno_buf *b)
{
	if (a->len != b->len || (a->len && memcmp(a->data, b->data, a->len) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct mno_buf whole = {0}, bytes = {0}, e1 = {0}, e2 = {0};
	struct mno_http h1, h2;
	const char *p = (const char *)data;
	int r1, r2;

	if (!size)
		return 0;
	r1 = read_all(&h1, p, size, size, &whole);
	r2 = read_all(&h2, p, size, 1, &bytes);
	if (r1 != r2 || h1.status != h2.status)
		abort();
	same(&whole, &bytes);
	read_events(p, size, size, &e1);
	read_events(p, size, 1, &e2);
	same(&e1, &e2);
	return 0;
}
