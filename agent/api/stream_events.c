/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of records, as they come. */
#include "api_internal.h"

#include <errno.h>

#define TEXT_MAX (1024 * 1024)

struct events {
	struct mno_agent *agent;
	struct mno_sub *sub;
	struct mno_buf rec;
};

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	struct mno_agent *a = arg;

	return a->cgroups ? mno_cgroups_path(a->cgroups, id, buf, size) : NULL;
}

static void put_lost(struct mno_buf *text, uint64_t lost)
{
	if (lost)
		mno_buf_addf(
			text, "event: lost\ndata: {\"lost\":%llu}\n\n", (unsigned long long)lost);
}

static void put_record(struct events *e, struct mno_buf *text)
{
	struct mno_agent *a = e->agent;
	struct mno_event_ctx ctx = {
		.boot_offset_ns = a->boot_offset_ns, .cgroup_path = cgroup_path, .arg = a};
	const struct mno_kind *kind;
	struct mno_json j;

	if (mno_event_check(mno_probes_kinds(), e->rec.data, e->rec.len, &kind) < 0)
		return;
	mno_buf_addf(text, "event: %s\ndata: ", kind->name);
	mno_json_init(&j, text);
	mno_event_json(kind, e->rec.data, &ctx, &j);
	mno_buf_adds(text, "\n\n");
}

static void events_fill(void *src, struct mno_buf *text, size_t max)
{
	struct events *e = src;
	uint64_t lost = 0;
	int r = 0;

	while (r == 0 && text->len < max) {
		r = mno_hub_next(e->sub, &e->rec, &lost);
		if (r == 0 || r == -EAGAIN)
			put_lost(text, lost);
		if (r == 0)
			put_record(e, text);
	}
	if (text->err) { /* a record that does not fit cannot come: TEXT_MAX is larger */
		mno_buf_reset(text);
		put_lost(text, 1);
	}
}

static void events_end(void *src)
{
	struct events *e = src;

	mno_hub_unsubscribe(e->sub);
	mno_buf_done(&e->rec);
	free(e);
}

int api_stream_open(struct mno_req *q, const uint16_t *kinds, size_t n)
{
	static const struct api_stream_source ops = {events_fill, events_end, TEXT_MAX};
	struct events *e = calloc(1, sizeof(*e));
	struct api_stream *s;
	int status, r;

	if (!e)
		return api_problem(q, 500, "internal", NULL, "out of memory");
	e->agent = q->agent;
	status = api_stream_new(q, &ops, e, &s);
	if (status != 200)
		return status;
	r = mno_hub_subscribe(q->agent->hub, kinds, n, api_stream_wake, s, &e->sub);
	if (r == 0)
		return 200;
	MHD_destroy_response(q->response);
	q->response = NULL;
	q->type = NULL;
	if (r == -EMFILE)
		return api_problem(q, 503, "limit", "end one of them",
			"%d event streams are open, which is the limit", MNO_SUBS_MAX);
	return api_problem(q, 500, "internal", NULL, "the stream could not be opened");
}
