/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include "http.h"
#include "mno/err.h"

void mno_sse_init(struct mno_sse *s)
{
	memset(s, 0, sizeof(*s));
	s->line.max = s->data.max = MNO_SSE_MAX;
}

void mno_sse_done(struct mno_sse *s)
{
	mno_buf_done(&s->line);
	mno_buf_done(&s->data);
}

static int dispatch(struct mno_sse *s, mno_sse_fn fn, void *arg)
{
	bool has = s->has_data;
	int r = 0;

	s->has_data = false;
	if (has) {
		const char *text = mno_buf_cstr(&s->data);

		if (s->data.err)
			return s->data.err == -ENOMEM ? -ENOMEM : -MNO_ELIMIT;
		r = fn(arg, s->event[0] ? s->event : "message", text, s->data.len);
	}
	mno_buf_reset(&s->data);
	s->event[0] = '\0';
	return r;
}

static void add_data(struct mno_sse *s, const char *value)
{
	if (s->has_data)
		mno_buf_addc(&s->data, '\n');
	mno_buf_adds(&s->data, value);
	s->has_data = true;
}

/* One line: empty = the event is complete, ":..." = comment, else "field: value". */
static int on_line(struct mno_sse *s, mno_sse_fn fn, void *arg)
{
	char *line, *value;

	mno_buf_addc(&s->line, '\0');
	if (s->line.err)
		return s->line.err == -ENOMEM ? -ENOMEM : -MNO_ELIMIT;
	line = s->line.data;
	if (!*line)
		return dispatch(s, fn, arg);
	value = line + strcspn(line, ":");
	if (*value) {
		*value++ = '\0';
		if (*value == ' ')
			value++;
	}
	if (strcmp(line, "data") == 0)
		add_data(s, value);
	else if (strcmp(line, "event") == 0)
		snprintf(s->event, sizeof(s->event), "%s", value);
	return 0;
}

int mno_sse_feed(struct mno_sse *s, const char *p, size_t n, mno_sse_fn fn, void *arg)
{
	while (n) {
		const char *nl = p;
		size_t part;
		int r;

		if (s->after_cr && *p == '\n') {
			p++;
			n--;
			s->after_cr = false;
			continue;
		}
		s->after_cr = false;
		while (nl < p + n && *nl != '\n' && *nl != '\r')
			nl++;
		part = (size_t)(nl - p);
		mno_buf_add(&s->line, p, part);
		if (part == n)
			return s->line.err ? (s->line.err == -ENOMEM ? -ENOMEM : -MNO_ELIMIT) : 0;
		s->after_cr = *nl == '\r';
		r = on_line(s, fn, arg);
		mno_buf_reset(&s->line);
		if (r)
			return r;
		p += part + 1;
		n -= part + 1;
	}
	return 0;
}
