/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the agent, and saying in plain words what went wrong. The agent's text is not trusted. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "ctl.h"
#include "mno/err.h"
#include "mno/json.h"
#include "mno/time.h"
#include "mno/util.h"

#define JSON_DEPTH 32
#define SEE_LOG    "systemctl status mnod, or where make run was typed"

static void error_json(struct mno_buf *b, const struct ctl_error *e)
{
	struct mno_json j;

	mno_json_init(&j, b);
	mno_json_obj(&j);
	mno_json_key(&j, "error");
	mno_json_obj(&j);
	mno_json_kstr(&j, "code", ctl_exits[e->exit].code);
	mno_json_kstr(&j, "message", e->msg);
	if (e->hint[0])
		mno_json_kstr(&j, "hint", e->hint);
	mno_json_end(&j);
	mno_json_end(&j);
	mno_buf_addc(b, '\n');
}

int ctl_error_print(struct ctl *c, const struct ctl_error *e)
{
	char safe[CTL_TEXT_MAX * 2];

	if (e != &c->last)
		c->last = *e;
	if (c->quiet)
		return e->exit;
	if (c->json) {
		_cleanup_buf_ struct mno_buf b = {0};

		error_json(&b, e);
		if (b.err || fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0)
			return CTL_INTERNAL;
		return e->exit;
	}
	fprintf(stderr, "mnoctl: %s\n",
		mno_escape_terminal(safe, sizeof(safe), e->msg, strlen(e->msg)));
	if (e->hint[0])
		fprintf(stderr, "  %s\n",
			mno_escape_terminal(safe, sizeof(safe), e->hint, strlen(e->hint)));
	return e->exit;
}

int ctl_fail(struct ctl *c, int exit_code, const char *hint, const char *fmt, ...)
{
	struct ctl_error e;
	va_list ap;

	ctl_error_set(&e, exit_code, hint, "%s", "");
	va_start(ap, fmt);
	vsnprintf(e.msg, sizeof(e.msg), fmt, ap);
	va_end(ap);
	return ctl_error_print(c, &e);
}

static const struct {
	int err, exit;
	const char *text, *hint;
} failures[] = {
	{ENOENT, CTL_UNREACHABLE, "no agent at",
		"start it (systemctl start mnod, or make run), or name its socket: -s SOCKET"},
	{ENOTDIR, CTL_UNREACHABLE, "no agent at", "name the agent's socket: -s SOCKET"},
	{ENOTSOCK, CTL_UNREACHABLE, "not a socket:", "name the agent's socket: -s SOCKET"},
	{ECONNREFUSED, CTL_UNREACHABLE, "nobody listens at",
		"the agent ended without cleaning up, or has just started: " SEE_LOG},
	{EACCES, CTL_REFUSED, "no permission for",
		"only root and the group mno may ask: sudo, or usermod -aG mno YOU"},
	{EPERM, CTL_REFUSED, "no permission for",
		"only root and the group mno may ask: sudo, or usermod -aG mno YOU"},
	{ETIMEDOUT, CTL_UNREACHABLE, "no answer in time from",
		"the agent is stopped or overloaded: " SEE_LOG},
	{MNO_ECLOSED, CTL_UNREACHABLE,
		"closed without an answer:", "the agent ended just now: " SEE_LOG},
	{MNO_ETRUNCATED, CTL_UNREACHABLE,
		"the answer broke off in the middle:", "the agent ended just now: " SEE_LOG},
	{ECONNRESET, CTL_UNREACHABLE,
		"closed without an answer:", "the agent ended just now: " SEE_LOG},
	{EPROTO, CTL_INTERNAL,
		"this is not an answer of the agent:", "does another program listen there?"},
	{MNO_ELIMIT, CTL_INTERNAL, "the answer is larger than 64 MiB or has no end:",
		"ask for less: --since, --limit"},
	{ENAMETOOLONG, CTL_INVALID, "a socket path has at most 107 bytes:", NULL},
	{EINVAL, CTL_INVALID, "this cannot be asked:", NULL},
};

void ctl_explain_errno(const struct ctl *c, int err, struct ctl_error *e)
{
	struct stat st;

	err = err < 0 ? -err : err;
	if (err == ECONNREFUSED && stat(c->socket, &st) == 0 && !S_ISSOCK(st.st_mode))
		err = ENOTSOCK; /* the kernel says the same of every other file */
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++)
		if (failures[i].err == err) {
			ctl_error_set(e, failures[i].exit, failures[i].hint, "%s %s",
				failures[i].text, c->socket);
			return;
		}
	ctl_error_set(e, CTL_INTERNAL, NULL, "%s: %s", c->socket, mno_strerror(err));
}

static int status_exit(int status)
{
	static const struct {
		int status, exit;
	} rows[] = {
		{400, CTL_INVALID},
		{401, CTL_REFUSED},
		{403, CTL_REFUSED},
		{404, CTL_NO},
		{409, CTL_NO},
		{410, CTL_NO},
		{412, CTL_NO},
		{413, CTL_INVALID},
		{414, CTL_INVALID},
		{415, CTL_INVALID},
		{422, CTL_INVALID},
		{429, CTL_NO},
		{503, CTL_NO},
		{507, CTL_NO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].status == status)
			return rows[i].exit;
	return CTL_INTERNAL;
}

struct json_object *ctl_parse_json(const char *text, size_t len)
{
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH);
	struct json_object *o = NULL;

	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	if (len && len < INT32_MAX)
		o = json_tokener_parse_ex(t, text, (int)len);
	/* a number or a cut literal ends only at the end of the text */
	if (o && json_tokener_get_error(t) != json_tokener_success) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(t);
	return o;
}

static const char *first_of(struct json_object *o, const char *const *keys)
{
	for (; *keys; keys++)
		if (*jstr(o, *keys))
			return jstr(o, *keys);
	return "";
}

void ctl_explain_status(int status, const char *body, size_t len, struct ctl_error *e)
{
	static const char *const texts[] = {"detail", "error", "title", NULL};
	struct json_object *o = ctl_parse_json(body, len);
	const char *text = first_of(o, texts);

	if (*text)
		ctl_error_set(e, status_exit(status), jstr(o, "hint"), "%s", text);
	else
		ctl_error_set(e, status_exit(status), NULL,
			"the agent answered with HTTP status %d", status);
	json_object_put(o);
}

void ctl_answer_done(struct ctl_answer *a)
{
	mno_buf_done(&a->body);
	json_object_put(a->root);
	a->root = NULL;
}

int ctl_ask(struct ctl *c, const char *method, const char *target, struct ctl_answer *ret)
{
	return ctl_send(c, method, target, NULL, 0, ret);
}

int ctl_send(struct ctl *c, const char *method, const char *target, const void *body, size_t len,
	struct ctl_answer *ret)
{
	uint64_t start = mno_now_ns(CLOCK_MONOTONIC);
	struct ctl_error e;
	int status = 0, r;

	*ret = (struct ctl_answer){.completeness = -1};
	r = mno_client_request(c->client, method, target, body, len, &status, &ret->body);
	if (r < 0) {
		ctl_explain_errno(c, r, &e);
		return ctl_error_print(c, &e);
	}
	if (status != 200) {
		ctl_explain_status(status, ret->body.data, ret->body.len, &e);
		return ctl_error_print(c, &e);
	}
	ret->root = ctl_parse_json(ret->body.data, ret->body.len);
	if (!ret->root) {
		ctl_explain_errno(c, EPROTO, &e);
		return ctl_error_print(c, &e);
	}
	ret->completeness = mno_client_completeness(c->client);
	ret->took_ns = mno_now_ns(CLOCK_MONOTONIC) - start;
	return 0;
}

void ctl_param(struct mno_buf *target, const char *name, const char *value)
{
	if (!value)
		return;
	mno_buf_addc(target, memchr(target->data, '?', target->len) ? '&' : '?');
	mno_buf_addf(target, "%s=", name);
	mno_url_escape(target, value);
}

/* In valid JSON these can stand only inside strings, where \u00XX means the same. */
static void put_json_text(struct mno_buf *out, const char *s, size_t n)
{
	while (n) {
		size_t len = MNO_MAX(mno_utf8_len(s, n), (size_t)1);
		unsigned char ch = (unsigned char)*s;

		if (len == 1 && ((ch < 0x20 && ch != '\n' && ch != '\t') || ch == 0x7f))
			mno_buf_addf(out, "\\u%04x", ch);
		else if (len == 2 && ch == 0xc2 && (s[1] & 0x7f) < 0x20)
			mno_buf_addf(out, "\\u%04x", (unsigned)(s[1] & 0xff));
		else if (ctl_is_deceptive(s, len))
			mno_buf_addf(out, "\\u%04x",
				(ch & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu));
		else
			mno_buf_add(out, s, len);
		s += len;
		n -= len;
	}
}

void ctl_put_json(struct ctl *c, const struct mno_buf *body)
{
	size_t n = body->len;

	while (n && strchr(" \r\n\t", body->data[n - 1]))
		n--;
	put_json_text(&c->out, body->data, n);
	mno_buf_addc(&c->out, '\n');
}

void ctl_put_json_object(struct ctl *c, struct json_object *o)
{
	const char *s = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	put_json_text(&c->out, s, strlen(s));
	mno_buf_addc(&c->out, '\n');
}

int ctl_follow(struct ctl *c, const char *target,
	int (*fn)(void *arg, const char *event, const char *data, size_t len), void *arg)
{
	_cleanup_buf_ struct mno_buf body = {0};
	struct ctl_error e;
	int status = 0, r;

	r = mno_client_stream(c->client, target, fn, arg, c->stop, &status, &body);
	if (r >= 0)
		return r;
	if (r == -EPROTO && status && status != 200)
		ctl_explain_status(status, body.data, body.len, &e);
	else if (r == -MNO_ECLOSED && status == 200)
		ctl_error_set(&e, CTL_UNREACHABLE, "is it restarting? " SEE_LOG,
			"the agent ended the stream");
	else
		ctl_explain_errno(c, r, &e);
	return ctl_error_print(c, &e);
}

struct json_object *jget(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &v)
		       ? v
		       : NULL;
}

const char *jstr(struct json_object *o, const char *key)
{
	struct json_object *v = jget(o, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

uint64_t ju64(struct json_object *o, const char *key)
{
	struct json_object *v = jget(o, key);

	if (json_object_is_type(v, json_type_int))
		return json_object_get_int64(v) < 0 ? 0 : json_object_get_uint64(v);
	if (json_object_is_type(v, json_type_double)) {
		double d = json_object_get_double(v);

		return d > 0 && d < 1.8e19 ? (uint64_t)d : 0;
	}
	return 0;
}

double jf64(struct json_object *o, const char *key)
{
	struct json_object *v = jget(o, key);

	if (json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double))
		return json_object_get_double(v);
	return NAN;
}

bool jtrue(struct json_object *o, const char *key)
{
	struct json_object *v = jget(o, key);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

bool jnull(struct json_object *o, const char *key)
{
	return !jget(o, key);
}

size_t jlen(struct json_object *arr)
{
	return json_object_is_type(arr, json_type_array) ? json_object_array_length(arr) : 0;
}

struct json_object *jidx(struct json_object *arr, size_t i)
{
	return i < jlen(arr) ? json_object_array_get_idx(arr, i) : NULL;
}
