/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include "http.h"
#include "mno/err.h"
#include "mno/util.h"

enum {
	ST_STATUS,
	ST_HEADER,
	ST_LENGTH,
	ST_TO_END,
	ST_CHUNK,
	ST_DATA,
	ST_DATA_END,
	ST_TRAILER,
	ST_DONE
};

void mno_http_init(struct mno_http *h)
{
	memset(h, 0, offsetof(struct mno_http, line));
	h->completeness = -1;
}

bool mno_http_in_body(const struct mno_http *h)
{
	return h->state > ST_HEADER;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK"; the reason is free text and may be missing. */
static int on_status(struct mno_http *h, char *s)
{
	if (strncmp(s, "HTTP/1.", 7) != 0 || !is_digit(s[7]) || s[8] != ' ')
		return -EPROTO;
	s += 9;
	if (!is_digit(s[0]) || !is_digit(s[1]) || !is_digit(s[2]) || (s[3] && s[3] != ' '))
		return -EPROTO;
	h->status = (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
	if (h->status < 100 || h->status > 599)
		return -EPROTO;
	h->state = ST_HEADER;
	return 0;
}

static int set_length(struct mno_http *h, const char *v)
{
	uint64_t n;

	/* Two lengths that differ are how answers get smuggled into one another. */
	if (mno_parse_u64(v, &n) < 0 || (h->has_length && h->left != n))
		return -EPROTO;
	h->has_length = true;
	h->left = n;
	return 0;
}

static int set_encoding(struct mno_http *h, const char *v)
{
	if (strcasecmp(v, "chunked") != 0 || h->chunked)
		return -EPROTO;
	h->chunked = true;
	return 0;
}

static int set_type(struct mno_http *h, const char *v)
{
	h->event_stream = strncasecmp(v, "text/event-stream", 17) == 0;
	return 0;
}

static int set_completeness(struct mno_http *h, const char *v)
{
	double d;

	if (mno_parse_f64(v, &d) == 0 && d >= 0 && d <= 1)
		h->completeness = d;
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(struct mno_http *h, const char *value);
} headers[] = {
	{"content-length", set_length},
	{"transfer-encoding", set_encoding},
	{"content-type", set_type},
	{"x-mno-completeness", set_completeness},
};

/* The empty line after the head decides how long the body is. */
static int end_of_head(struct mno_http *h)
{
	if (h->status < 200) { /* informational: the real answer follows */
		uint32_t used = h->head_bytes;

		if (h->status == 101)
			return -EPROTO;
		mno_http_init(h);
		h->head_bytes = used;
		return 0;
	}
	if (h->chunked && h->has_length)
		return -EPROTO;
	if (h->status == 204 || h->status == 304 || (h->has_length && !h->left))
		h->state = ST_DONE;
	else if (h->chunked)
		h->state = ST_CHUNK;
	else
		h->state = h->has_length ? ST_LENGTH : ST_TO_END;
	return 0;
}

static int on_header(struct mno_http *h, char *s)
{
	char *v = strchr(s, ':'), *end;

	if (!*s)
		return end_of_head(h);
	if (!v || v == s || strcspn(s, " \t") < (size_t)(v - s))
		return -EPROTO;
	*v++ = '\0';
	v += strspn(v, " \t");
	for (end = v + strlen(v); end > v && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		if (strcasecmp(s, headers[i].name) == 0)
			return headers[i].fn(h, v);
	return 0;
}

static int on_chunk(struct mno_http *h, char *s)
{
	size_t digits = strspn(s, "0123456789abcdefABCDEF");
	char *ext = s + digits + strspn(s + digits, " \t");

	if (!digits || digits > 15 || (*ext && *ext != ';'))
		return -EPROTO;
	h->left = strtoull(s, NULL, 16);
	h->state = h->left ? ST_DATA : ST_TRAILER;
	return 0;
}

static int on_data_end(struct mno_http *h, char *s)
{
	h->state = ST_CHUNK;
	return *s ? -EPROTO : 0;
}

static int on_trailer(struct mno_http *h, char *s)
{
	if (!*s)
		h->state = ST_DONE;
	return 0;
}

static int (*const on_line[])(struct mno_http *h, char *s) = {
	[ST_STATUS] = on_status,
	[ST_HEADER] = on_header,
	[ST_CHUNK] = on_chunk,
	[ST_DATA_END] = on_data_end,
	[ST_TRAILER] = on_trailer,
	[ST_DONE] = NULL,
};

/* Collects one line; returns the bytes used or an error. */
static ssize_t feed_line(struct mno_http *h, const char *p, size_t n)
{
	const char *nl = memchr(p, '\n', n);
	size_t part = nl ? (size_t)(nl - p) : n;
	int r;

	if (part >= sizeof(h->line) - h->line_len)
		return -MNO_ELIMIT;
	if (h->state <= ST_HEADER || h->state == ST_TRAILER) {
		h->head_bytes += (uint32_t)part + 1;
		if (h->head_bytes > MNO_HTTP_HEAD_MAX)
			return -MNO_ELIMIT;
	}
	memcpy(h->line + h->line_len, p, part);
	h->line_len += (uint32_t)part;
	if (!nl)
		return (ssize_t)part;
	if (h->line_len && h->line[h->line_len - 1] == '\r')
		h->line_len--;
	if (memchr(h->line, '\0', h->line_len))
		return -EPROTO;
	h->line[h->line_len] = '\0';
	h->line_len = 0;
	r = on_line[h->state](h, h->line);
	return r < 0 ? r : (ssize_t)part + 1;
}

static int feed_body(struct mno_http *h, const char *p, size_t n, mno_http_body_fn body, void *arg,
	size_t *ret_used)
{
	size_t take = h->state == ST_TO_END ? n : (size_t)MNO_MIN((uint64_t)n, h->left);
	int r = body(arg, p, take);

	if (r)
		return r;
	*ret_used = take;
	if (h->state == ST_TO_END)
		return 0;
	h->left -= take;
	if (!h->left)
		h->state = h->state == ST_DATA ? ST_DATA_END : ST_DONE;
	return 0;
}

int mno_http_feed(struct mno_http *h, const char *p, size_t n, mno_http_body_fn body, void *arg)
{
	while (n && h->state != ST_DONE) {
		size_t used = 0;

		if (h->state == ST_LENGTH || h->state == ST_TO_END || h->state == ST_DATA) {
			int r = feed_body(h, p, n, body, arg, &used);

			if (r)
				return r;
		} else {
			ssize_t r = feed_line(h, p, n);

			if (r < 0)
				return (int)r;
			used = (size_t)r;
		}
		p += used;
		n -= used;
	}
	return h->state == ST_DONE;
}

int mno_http_eof(const struct mno_http *h)
{
	if (h->state == ST_DONE || h->state == ST_TO_END)
		return 1;
	return mno_http_in_body(h) ? -MNO_ETRUNCATED : -MNO_ECLOSED;
}
