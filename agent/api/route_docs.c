/* SPDX-License-Identifier: Apache-2.0 */
/* One document, and transactions. */
#include "docs_api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mno/arena.h"
#include "mno/err.h"
#include "mno/util.h"

#define ARENA_MAX (16u << 20) /* of one transaction's operations */

static const struct {
	int err, status;
	const char *code, *hint;
} errors[] = {
	{MNO_EPRECONDITION, 412, "precondition", "read it again, and decide anew"},
	{MNO_EUNIQUE, 409, "conflict", NULL},
	{EEXIST, 409, "conflict", NULL},
	{EINVAL, 400, "bad_request", NULL},
	{MNO_ESYNTAX, 400, "bad_request", NULL},
	{ENOENT, 404, "not_found", NULL},
	{MNO_EGONE, 410, "gone", NULL},
	{MNO_ELIMIT, 422, "limit", NULL},
	{E2BIG, 422, "limit", "set a lower limit=, or keys=1"},
	{ENOSPC, 507, "no_space", "free space there, or inodes: df, df -i"},
	{EROFS, 503, "unavailable", "the state directory became read only: dmesg tells why"},
	{EAGAIN, 503, "unavailable", "too much waits to be written: try again"},
	{ETIMEDOUT, 503, "unavailable", "ask for less"},
	{MNO_ECORRUPT, 500, "damaged", "mnoctl store check tells what is lost"},
	{ENOKEY, 500, "damaged", "the key that this was encrypted with is gone"},
};

int api_docs_error(struct mno_req *q, int r, const struct mno_docs_error *err)
{
	const char *text = err && err->msg[0] ? err->msg : mno_strerror(r);

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (errors[i].err == -r)
			return api_problem(
				q, errors[i].status, errors[i].code, errors[i].hint, "%s", text);
	return api_problem(q, 500, "internal", NULL, "%s", text);
}

int api_docs_there(struct mno_req *q)
{
	return q->agent->docs ? 0
			      : api_problem(q, 503, "unavailable", "the agent's log says why",
					"documents cannot be used");
}

/* --- kinds ---------------------------------------------------------------------------------------- */

static const struct {
	const char *type;
	enum mno_doc_kind kind;
} types[] = {
	{"application/json", MNO_DOC_JSON}, {"text/plain", MNO_DOC_TEXT},
	{"application/octet-stream", MNO_DOC_BINARY},
	{"application/x-mno-integer", MNO_DOC_INTEGER},
	{"application/x-mno-decimal", MNO_DOC_DECIMAL},
	{"application/x-www-form-urlencoded", MNO_DOC_JSON}, /* curl says so of all it sends */
};

/* kind= decides, then Content-Type; without both it is JSON. 0, or a status. */
static int read_kind(struct mno_req *q, enum mno_doc_kind *ret)
{
	const char *type = MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "Content-Type");
	const char *kind = mno_params_get(&q->params, "kind");
	size_t n = type ? strcspn(type, "; ") : 0;

	if (kind && *kind) {
		*ret = mno_doc_kind_find(kind);
		return *ret ? 0
			    : api_problem(q, 400, "bad_request", NULL,
				      "kind=%.40s: expected json, binary, text, integer or decimal",
				      kind);
	}
	*ret = MNO_DOC_JSON;
	for (size_t i = 0; n && i < ARRAY_SIZE(types); i++)
		if (strlen(types[i].type) == n && !strncasecmp(types[i].type, type, n)) {
			*ret = types[i].kind;
			return 0;
		}
	return !n ? 0
		  : api_problem(q, 415, "bad_request",
			    "application/json, text/plain, application/octet-stream, "
			    "application/x-mno-integer, application/x-mno-decimal; or set kind=",
			    "no kind of document is sent as %.80s", type);
}

static const char *type_of(enum mno_doc_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].kind == kind)
			return kind == MNO_DOC_TEXT ? "text/plain; charset=utf-8" : types[i].type;
	return "application/octet-stream";
}

/* --- preconditions --------------------------------------------------------------------------------- */

/* "12", W/"12" or 12 as a version; "*" as @star. 0, -EINVAL. */
static int read_tag(const char *s, enum mno_doc_pre star, struct mno_doc_op *op)
{
	char text[24];
	size_t n;

	if (!strcmp(s, "*")) {
		op->pre = star;
		return 0;
	}
	s += strncmp(s, "W/", 2) ? 0 : 2;
	s += *s == '"';
	n = strcspn(s, "\"");
	if (n >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, n);
	text[n] = 0;
	op->pre = MNO_DOC_IF_VERSION;
	return mno_parse_u64(text, &op->if_version);
}

/* If-Match and If-None-Match, or if_version=, if_absent=1, if_present=1. 0, or a status. */
static int read_pre(struct mno_req *q, struct mno_doc_op *op)
{
	const char *match = MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "If-Match");
	const char *none = MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "If-None-Match");
	const char *version = mno_params_get(&q->params, "if_version");
	uint64_t absent = 0, present = 0;
	int r = api_number(q, "if_absent", 0, 1, 0, &absent);

	if (!r)
		r = api_number(q, "if_present", 0, 1, 0, &present);
	if (r)
		return r;
	if ((match != NULL) + (none != NULL) + (version && *version) + absent + present > 1)
		return api_problem(q, 400, "bad_request", NULL, "more than one precondition");
	if (absent || (none && !strcmp(none, "*")))
		op->pre = MNO_DOC_IF_ABSENT;
	else if (present)
		op->pre = MNO_DOC_IF_PRESENT;
	else if (none)
		return api_problem(q, 400, "bad_request", NULL, "If-None-Match is * or nothing");
	match = version && *version ? version : match;
	if (match && read_tag(match, MNO_DOC_IF_PRESENT, op) < 0)
		return api_problem(q, 400, "bad_request", "it is the ETag of an earlier answer",
			"%.40s is no version of a document", match);
	return 0;
}

/* --- one document ---------------------------------------------------------------------------------- */

static int get_doc(struct mno_req *q)
{
	_cleanup_buf_ struct mno_buf buf = {0};
	const char *id = q->names.v[2];
	struct mno_doc doc;
	uint64_t meta;
	int r = api_number(q, "meta", 0, 1, 0, &meta);

	if (r)
		return r;
	r = mno_docs_get(q->agent->docs, q->names.v[0], q->names.v[1], id, strlen(id), &buf, &doc);
	if (r == -ENOENT)
		return api_problem(q, 404, "not_found", NULL,
			"there is no document %.200s in %s/%s", id, q->names.v[0], q->names.v[1]);
	if (r == -EINVAL && strlen(id) > MNO_DOC_ID_MAX)
		return api_problem(q, 400, "bad_request", NULL,
			"an id has 1 to %u bytes, this one has %zu", MNO_DOC_ID_MAX, strlen(id));
	if (r < 0)
		return api_docs_error(q, r, NULL);
	snprintf(q->etag, sizeof(q->etag), "\"%llu\"", (unsigned long long)doc.version);
	if (meta) {
		mno_doc_json(&doc, &q->j);
		return api_done(q);
	}
	q->type = type_of(doc.kind);
	mno_buf_add(&q->out, doc.value, doc.len);
	return api_done(q);
}

static int put_doc(struct mno_req *q, enum mno_doc_verb verb)
{
	struct mno_doc_op op = {.verb = verb,
		.ns = q->names.v[0],
		.coll = q->names.v[1],
		.id = q->names.v[2],
		.id_len = strlen(q->names.v[2]),
		.value = q->body.data ?: "",
		.len = q->body.len};
	struct mno_doc_result res;
	struct mno_docs_error err;
	int r = verb == MNO_DOC_PUT ? read_kind(q, &op.kind) : 0;

	if (!r)
		r = read_pre(q, &op);
	if (r)
		return r;
	r = mno_docs_apply(q->agent->docs, &op, 1, &res, &err);
	if (r < 0)
		return api_docs_error(q, r, &err);
	if (verb == MNO_DOC_DELETE && !res.existed)
		return api_problem(q, 404, "not_found", NULL,
			"there is no document %.200s in %s/%s", q->names.v[2], op.ns, op.coll);
	if (verb == MNO_DOC_PUT)
		snprintf(q->etag, sizeof(q->etag), "\"%llu\"", (unsigned long long)res.version);
	mno_json_obj(&q->j);
	mno_json_ku64(&q->j, "version", res.version);
	mno_json_kbool(&q->j, verb == MNO_DOC_PUT ? "created" : "deleted",
		verb == MNO_DOC_DELETE || !res.existed);
	mno_json_end(&q->j);
	return api_done(q);
}

int api_doc(struct mno_req *q)
{
	int r = api_docs_there(q);

	if (r)
		return r;
	if (!strcmp(q->method, "PUT"))
		return put_doc(q, MNO_DOC_PUT);
	return strcmp(q->method, "DELETE") ? get_doc(q) : put_doc(q, MNO_DOC_DELETE);
}

/* --- transactions ----------------------------------------------------------------------------------- */

static int txn_error(struct mno_req *q, int r, struct mno_docs_error *err)
{
	char text[sizeof(err->msg)];

	memcpy(text, err->msg, sizeof(text));
	if (text[0] && err->op == MNO_DOC_OP_NONE)
		snprintf(err->msg, sizeof(err->msg), "%.350s; nothing was changed", text);
	else if (text[0])
		snprintf(err->msg, sizeof(err->msg), "operation %zu: %.340s; nothing was changed",
			err->op + 1, text);
	return api_docs_error(q, r, err);
}

int api_docs_txn(struct mno_req *q)
{
	_cleanup_(mno_arena_free_p)
	struct mno_arena *a = NULL;
	_cleanup_free_ struct mno_doc_result *res = NULL;
	struct mno_docs_error err = {0};
	struct mno_doc_op *ops;
	size_t n;
	int r = api_docs_there(q);

	if (r)
		return r;
	r = mno_arena_new(ARENA_MAX, &a);
	if (r == 0)
		r = mno_docs_ops_parse(a, mno_buf_cstr(&q->body), q->body.len, &ops, &n, &err);
	if (r < 0)
		return txn_error(q, r, &err);
	res = calloc(n, sizeof(*res));
	if (!res)
		return api_docs_error(q, -ENOMEM, NULL);
	r = mno_docs_apply(q->agent->docs, ops, n, res, &err);
	if (r < 0)
		return txn_error(q, r, &err);
	mno_json_obj(&q->j);
	mno_json_key(&q->j, "results");
	mno_json_arr(&q->j);
	for (size_t i = 0; i < n; i++) {
		mno_json_obj(&q->j);
		mno_json_ku64(&q->j, "version", res[i].version);
		mno_json_kbool(&q->j, "existed", res[i].existed);
		mno_json_end(&q->j);
	}
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
