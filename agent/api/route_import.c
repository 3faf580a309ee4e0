/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk import: the body comes in pieces, each is parsed when it is there, and the client is read
 * no faster than the writer stores. What runs is told by GET.
 */
#include "api_internal.h"

#include <errno.h>
#include <stdio.h>

#include "import.h"
#include "mno/err.h"
#include "mno/log.h"

struct api_upload {
	struct api_upload *prev, *next; /* api->lock */
	struct mno_api *api;
	struct mno_import *import;
	const struct mno_ingest_format *format;
	bool guessed;
};

static void upload_free(void *p)
{
	struct api_upload *u = p;

	pthread_mutex_lock(&u->api->lock);
	if (u->prev)
		u->prev->next = u->next;
	else if (u->api->imports == u)
		u->api->imports = u->next;
	if (u->next)
		u->next->prev = u->prev;
	pthread_mutex_unlock(&u->api->lock);
	mno_import_free(u->import);
	free(u);
}

static const char *format_names(char *buf, size_t size)
{
	const struct mno_ingest_format *f;
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; (f = mno_ingest_format_at(i)) && n < size; i++)
		n += (size_t)snprintf(
			buf + n, size - n, "%s%s", i ? ", " : "", mno_ingest_format_name(f));
	return buf;
}

/* What the body is: as the client says, or as it looks. 0, or the status of an error answered. */
static int find_format(struct mno_req *q, struct api_upload *u)
{
	const char *name = mno_params_get(&q->params, "format");
	const char *file = mno_params_get(&q->params, "file");
	char names[160], hint[200];

	snprintf(hint, sizeof(hint), "it is one of: %s", format_names(names, sizeof(names)));
	u->guessed = !name;
	u->format = name ? mno_ingest_format_find(name)
			 : mno_ingest_format_guess(file, q->body.data, q->body.len);
	if (u->format)
		return 0;
	if (name)
		return api_problem(q, 400, "bad_request", hint, "no such format: %.60s", name);
	return api_problem(q, 400, "bad_request", hint,
		q->body.len ? "what this is cannot be told by its name or its first lines: "
			      "name the format"
			    : "there is nothing in it: no format can be told");
}

static int open_import(struct mno_req *q, struct api_upload **ret)
{
	struct api_upload *u = calloc(1, sizeof(*u));
	const char *at = mno_params_get(&q->params, "time");
	int64_t t_ms = 0;
	int status;

	if (!u)
		return api_problem(q, 500, "internal", NULL, "out of memory");
	u->api = q->api;
	q->upload = u;
	q->upload_free = upload_free;
	if (at && api_parse_time(at, &t_ms) < 0)
		return api_problem(q, 400, "bad_request", "Unix seconds or RFC 3339",
			"time is not understood: %.60s", at);
	status = find_format(q, u);
	if (status)
		return status;
	if (mno_import_new(q->agent, u->format, at != NULL, t_ms, &u->import) < 0)
		return api_problem(q, 500, "internal", NULL, "out of memory");
	pthread_mutex_lock(&q->api->lock);
	u->next = q->api->imports;
	if (u->next)
		u->next->prev = u;
	q->api->imports = u;
	pthread_mutex_unlock(&q->api->lock);
	*ret = u;
	return 0;
}

static int failed(struct mno_req *q, struct api_upload *u, int r)
{
	struct mno_import_progress p;

	mno_import_progress(u->import, &p);
	return api_problem(q, r == -ENOSPC || r == -ESHUTDOWN ? 503 : 500,
		r == -ENOSPC ? "no_space" : "unavailable",
		r == -ENOSPC
			? "free disk space or lower the retention, then import the same again: "
			  "nothing is stored twice"
			: "import the same again: nothing is stored twice",
		"the import ended before its end: %s. %llu samples are stored", mno_strerror(r),
		(unsigned long long)p.stored);
}

static int answer(struct mno_req *q, struct api_upload *u)
{
	mno_json_obj(&q->j);
	mno_json_kstr(&q->j, "format", mno_ingest_format_name(u->format));
	mno_json_kbool(&q->j, "guessed", u->guessed);
	mno_import_json(u->import, &q->j);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_import(struct mno_req *q)
{
	struct api_upload *u = q->upload;
	int r = u ? 0 : open_import(q, &u);

	if (r)
		return r;
	r = mno_import_feed(u->import, q->body.data, q->body.len);
	if (r == 0 && !q->last)
		return API_MORE;
	if (r == 0)
		r = mno_import_end(u->import);
	return r < 0 ? failed(q, u, r) : answer(q, u);
}

/* At most API_UPLOADS_MAX of them: written under the lock, so that none goes meanwhile. */
int api_imports(struct mno_req *q)
{
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "imports");
	mno_json_arr(&q->j);
	pthread_mutex_lock(&q->api->lock);
	for (struct api_upload *u = q->api->imports; u; u = u->next) {
		struct mno_import_progress p;

		mno_import_progress(u->import, &p);
		mno_json_obj(&q->j);
		mno_json_kstr(&q->j, "format", mno_ingest_format_name(u->format));
		mno_json_ku64(&q->j, "bytes", p.bytes);
		mno_json_ku64(&q->j, "lines", p.lines);
		mno_json_ku64(&q->j, "accepted", p.stored);
		mno_json_ku64(&q->j, "refused_total", p.refused);
		mno_json_kf64(&q->j, "seconds", p.seconds);
		mno_json_end(&q->j);
	}
	pthread_mutex_unlock(&q->api->lock);
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
