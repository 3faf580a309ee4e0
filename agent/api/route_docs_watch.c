/* SPDX-License-Identifier: Apache-2.0 */
/* The change feed as an event stream. */
#include "docs_api.h"

#include <errno.h>
#include <string.h>

#include "mno/err.h"

#define TEXT_MAX  (4u << 20)
#define SKIP_MAX  20000u        /* changes that are not wanted, at once */
#define EVENT_MAX (1000u << 10) /* larger values are left out: clients read 1 MiB at once */

struct watch {
	struct mno_docs *docs;
	uint64_t next;
	bool values, watching;
	char ns[MNO_DOC_NAME_MAX + 1], coll[MNO_DOC_NAME_MAX + 1];
	unsigned id;
	/* Of fill(). */
	struct mno_buf *text;
	size_t max;
	unsigned skipped;
};

static bool wanted(const struct watch *w, const struct mno_doc_change *c)
{
	return (!w->ns[0] || !strcmp(w->ns, c->ns)) && (!w->coll[0] || !strcmp(w->coll, c->coll));
}

/* A JSON text may have line ends between its tokens, which would end the event. */
static void one_line(struct mno_buf *text, size_t from)
{
	for (size_t i = from; i < text->len; i++)
		if (text->data[i] == '\r' || text->data[i] == '\n')
			text->data[i] = ' ';
}

static int take_change(void *arg, const struct mno_doc_change *c)
{
	struct watch *w = arg;
	struct mno_doc_change copy = *c;
	size_t at = w->text->len, from;
	struct mno_json j;

	if (!wanted(w, c))
		return ++w->skipped >= SKIP_MAX;
	if (!w->values)
		copy.doc.value = NULL;
	for (int i = 0; i < 2; i++) {
		mno_buf_addf(
			w->text, "id: %llu\nevent: change\ndata: ", (unsigned long long)c->seq);
		from = w->text->len;
		mno_json_init(&j, w->text);
		mno_doc_change_json(&copy, &j);
		one_line(w->text, from);
		mno_buf_adds(w->text, "\n\n");
		if (w->text->len - at <= EVENT_MAX)
			break;
		w->text->len = at;
		copy.doc.value = NULL;
	}
	return w->text->len >= w->max;
}

static void watch_fill(void *src, struct mno_buf *text, size_t max)
{
	struct watch *w = src;
	uint64_t was = w->next;
	int r;

	w->text = text;
	w->skipped = 0;
	w->max = max;
	r = mno_docs_feed_read(w->docs, w->next, take_change, w, &w->next);
	if (r == -MNO_EGONE)
		mno_buf_addf(text, "event: lost\ndata: {\"lost\":%llu,\"next\":%llu}\n\n",
			(unsigned long long)(w->next - was), (unsigned long long)w->next);
	else if (r < 0) {
		mno_buf_addf(text, "event: error\ndata: {\"error\":\"%s\"}\n\n", mno_strerror(r));
		w->next++; /* not the same again */
	}
	if (w->skipped >= SKIP_MAX)
		mno_buf_adds(text, ": going on\n\n");
}

static void watch_end(void *src)
{
	struct watch *w = src;

	if (w->watching)
		mno_docs_unwatch(w->docs, w->id);
	free(w);
}

static int read_filter(struct mno_req *q, struct watch *w)
{
	const char *ns = mno_params_get(&q->params, "ns"),
		   *coll = mno_params_get(&q->params, "coll");
	uint64_t values, oldest;
	int r = api_number(q, "since", 0, INT64_MAX, 0, &w->next);

	if (!r)
		r = api_number(q, "values", 0, 1, 0, &values);
	if (r)
		return r;
	w->values = values;
	if ((ns && strlen(ns) > MNO_DOC_NAME_MAX) || (coll && strlen(coll) > MNO_DOC_NAME_MAX))
		return api_problem(q, 400, "bad_request", NULL, "a name is longer than %u bytes",
			MNO_DOC_NAME_MAX);
	strcpy(w->ns, ns ?: "");
	strcpy(w->coll, coll ?: "");
	if (w->next)
		return 0;
	r = mno_docs_feed_bounds(w->docs, &oldest, &w->next);
	return r < 0 ? api_docs_error(q, r, NULL) : 0;
}

int api_docs_watch(struct mno_req *q)
{
	static const struct api_stream_source ops = {watch_fill, watch_end, TEXT_MAX};
	struct api_stream *s;
	struct watch *w;
	int r = api_docs_there(q);

	if (r)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return api_docs_error(q, -ENOMEM, NULL);
	w->docs = q->agent->docs;
	r = read_filter(q, w);
	if (r) {
		free(w);
		return r;
	}
	r = api_stream_new(q, &ops, w, &s);
	if (r != 200)
		return r;
	if (mno_docs_watch(w->docs, api_stream_wake, s, &w->id) == 0) {
		w->watching = true;
		return 200;
	}
	MHD_destroy_response(q->response);
	q->response = NULL;
	q->type = NULL;
	return api_problem(
		q, 503, "limit", "end one of them", "too many clients watch documents already");
}
