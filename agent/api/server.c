/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: socket, threads, one request from its first byte to its answer. */
#include "../api.h"
#include "api_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "mno/docs.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "mno/util.h"
#include "socket.h"

#define FDS_WANTED   8192
#define FDS_RESERVED 256 /* for the rest of the agent */
#define THREADS      2

static struct mno_req *req_free(struct mno_req *q)
{
	if (!q)
		return NULL;
	mno_params_done(&q->params);
	mno_buf_done(&q->body);
	mno_buf_done(&q->out);
	if (q->response)
		MHD_destroy_response(q->response);
	if (q->upload)
		q->upload_free(q->upload);
	if (q->counted)
		atomic_fetch_sub(&q->api->uploads, 1);
	atomic_fetch_sub(&q->api->held, q->held);
	free(q->uri);
	free(q->path);
	free(q);
	return NULL;
}

/* Memory is bounded over all clients: those who take their answers slowly, too. */
static bool hold(struct mno_req *q, size_t n)
{
	if (atomic_fetch_add(&q->api->held, n) + n > API_HELD_MAX) {
		atomic_fetch_sub(&q->api->held, n);
		return false;
	}
	q->held += n;
	return true;
}

static int refuse_crowd(struct mno_req *q)
{
	return api_error(q, 503, "limit", "ask again, or for less",
		"answers that clients have not taken yet fill %u MiB", API_HELD_MAX >> 20);
}

/* Called with the request line, before anything is decoded. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
	struct mno_req *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->api = cls;
	q->agent = q->api->agent;
	q->conn = conn;
	q->body.max = API_BODY_MAX;
	q->out.max = API_ANSWER_MAX;
	q->uri = strdup(uri);
	mno_json_init(&q->j, &q->out);
	return q->uri ? q : req_free(q);
}

static void on_completed(
	void *cls, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode why)
{
	struct mno_req *q = *con_cls;

	if (q && q->client)
		api_conn_busy(cls, q->client, false);
	*con_cls = req_free(q);
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	const union MHD_ConnectionInfo *info;
	struct mno_api *api = cls;
	struct api_conn *c = *context;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (c)
			api_conn_closed(api, c);
		free(c);
		*context = NULL;
		return;
	}
	info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	c = info ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		return;
	c->fd = info->connect_fd;
	api_peer_read(api->peers, c->fd, &c->peer);
	*context = c;
	api_conn_opened(api, c);
}

/* Hands the written answer to the server. */
static enum MHD_Result send_answer(struct mno_req *q, int status)
{
	struct MHD_Response *r = TAKE_PTR(q->response);
	enum MHD_Result ok;

	if (!r && !hold(q, q->out.len)) {
		mno_buf_done(&q->out);
		q->out.max = API_ANSWER_MAX;
		status = refuse_crowd(q);
	}
	if (r) { /* a stream: its reader may pause, what it loses meanwhile is told */
		MHD_set_connection_option(
			q->conn, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)API_STREAM_SECONDS);
	} else {
		r = MHD_create_response_from_buffer(q->out.len, q->out.data,
			q->out.data ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
		if (!r)
			return MHD_NO;
		q->out = (struct mno_buf){.max = API_ANSWER_MAX};
	}
	MHD_add_response_header(
		r, MHD_HTTP_HEADER_CONTENT_TYPE, q->type ? q->type : "application/json");
	if (q->etag[0])
		MHD_add_response_header(r, MHD_HTTP_HEADER_ETAG, q->etag);
	if (q->completeness[0])
		MHD_add_response_header(r, "X-Mno-Completeness", q->completeness);
	if (q->allow[0])
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, q->allow);
	if (q->too_large)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	ok = MHD_queue_response(q->conn, (unsigned)status, r);
	MHD_destroy_response(r);
	return ok;
}

static int refuse_peer(struct mno_req *q)
{
	return api_error(q, 403, "forbidden",
		"ask as root, or add the user to group " MNO_API_GROUP
		" (usermod -aG " MNO_API_GROUP " USER) and log in again",
		"uid %u may not ask the agent: only root, the agent's own user and members of "
		"group " MNO_API_GROUP " may",
		q->client ? q->client->peer.uid : (uid_t)-1);
}

static int refuse_large(struct mno_req *q)
{
	return api_error(q, 413, "limit",
		"split it: a document has at most 1 MiB, and so has the text of a transaction",
		"the body is longer than %u bytes", API_BODY_MAX);
}

/* Path and parameters from the request line and a form body. 0, or a status. */
static int read_params(struct mno_req *q)
{
	const char *query = strchrnul(q->uri, '?');
	const char *type = MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "Content-Type");
	static const char form[] = "application/x-www-form-urlencoded";
	int r = 0;

	q->path = mno_url_unescape(q->uri, (size_t)(query - q->uri), false);
	if (!q->path)
		return api_problem(q, 400, "bad_request", NULL, "the path has a broken %%-escape");
	if (q->body.len && type && !strcmp(q->method, "POST") &&
		!strncasecmp(type, form, strlen(form)))
		r = mno_params_add(&q->params, q->body.data, q->body.len);
	if (r == 0 && *query)
		r = mno_params_add(&q->params, query + 1, strlen(query + 1));
	if (r < 0)
		return api_error(q, 400, "bad_request", NULL,
			"the parameters could not be read: %s",
			r == -MNO_ELIMIT ? "more than 256 of them" : mno_strerror(r));
	if (q->params.bad && strncmp(q->path, "/api/v1/", 8))
		return api_problem(q, 400, "bad_request", "escape a literal % as %25",
			"a parameter has a broken %%-escape");
	return 0;
}

static int not_found(struct mno_req *q)
{
	const char *guess = api_route_guess(q->path);
	char hint[160] = "GET /mno/v1 lists all paths";

	if (guess)
		snprintf(hint, sizeof(hint), "did you mean %s?", guess);
	return api_error(q, 404, "not_found", hint, "no such path: %.200s", q->path);
}

/* Finds the route. 0, or the status of an error answered. */
static int understand(struct mno_req *q)
{
	const char *allow;
	int status = read_params(q);

	if (status)
		return status;
	q->route = api_route_find(
		q->method, q->uri, (size_t)(strchrnul(q->uri, '?') - q->uri), &q->names, &allow);
	q->name = q->names.v[0];
	if (q->route && q->names.too_long) {
		q->route = NULL;
		return api_error(q, 400, "bad_request", NULL,
			"a name in the path has at most %d bytes; the id of a document at most %u",
			API_NAME_MAX - 1, MNO_DOC_ID_MAX);
	}
	if (q->route)
		return 0;
	if (!allow)
		return not_found(q);
	snprintf(q->allow, sizeof(q->allow), "%s", allow);
	return api_error(q, 405, "bad_request", NULL, "%.20s is not possible on %.200s, only %s",
		q->method, q->path, allow);
}

/* The request is complete, or comes back from the pool or from waiting. */
static enum MHD_Result answer(struct mno_req *q)
{
	int status = q->result;
	bool ok = true;

	q->result = 0;
	if (!q->route) {
		q->deadline_ns = mno_now_ns(CLOCK_MONOTONIC) + API_QUERY_NS;
		status = understand(q);
	}
	if (status > 0)
		return send_answer(q, status);
	if (status == 0 && !q->route->pool)
		status = q->route->fn(q);
	else if (status == 0)
		ok = api_pool_give(q);
	if (status == API_LATER) {
		q->round++;
		ok = api_clock_later(q);
	}
	if (status > 0)
		return send_answer(q, status);
	return ok ? MHD_YES
		  : send_answer(q, api_error(q, 503, "unavailable", NULL, "the agent is ending"));
}

/* --- uploads: bodies of any length, in pieces --------------------------------------------------- */

static bool is_upload(struct mno_req *q, const char *method)
{
	const char *allow;
	const struct api_route *r =
		api_route_find(method, q->uri, strcspn(q->uri, "?"), &q->names, &allow);

	return r && r->upload;
}

/* Who may not, or not now, is told before the body is sent. */
static enum MHD_Result begin_upload(struct mno_req *q)
{
	int status;

	api_conn_busy(q->api, q->client, true); /* it may take its time */
	q->too_large = true;                    /* if it is refused, its body is not read */
	if (!q->client->peer.allowed)
		return send_answer(q, refuse_peer(q));
	status = understand(q);
	if (status)
		return send_answer(q, status);
	q->counted = true;
	if (atomic_fetch_add(&q->api->uploads, 1) >= API_UPLOADS_MAX)
		return send_answer(
			q, api_error(q, 503, "limit", "try again when one has ended",
				   "%u imports are running, which is the limit", API_UPLOADS_MAX));
	if (!hold(q, API_UPLOAD_PIECE))
		return send_answer(q, refuse_crowd(q));
	q->too_large = false;
	q->body.max = API_UPLOAD_PIECE;
	MHD_set_connection_option(
		q->conn, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)API_STREAM_SECONDS);
	return MHD_YES;
}

/*
 * More of an upload's body. A full piece goes to the pool; until it is done the connection sleeps,
 * so the client is read no faster than its data is taken. After a failure the rest is read over:
 * an answer can only follow the request.
 */
static enum MHD_Result on_piece(struct mno_req *q, const char *data, size_t *size)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(q->conn, MHD_CONNECTION_INFO_CONNECTION_SUSPENDED);
	size_t n = MNO_MIN(*size, API_UPLOAD_PIECE - q->body.len);

	if (info && info->suspended) /* still with the pool */
		return MHD_YES;
	if (q->result > 0) {
		*size = 0;
		return MHD_YES;
	}
	mno_buf_add(&q->body, data, n);
	if (q->body.err)
		return MHD_NO;
	*size -= n;
	if (q->body.len < API_UPLOAD_PIECE)
		return MHD_YES;
	return api_pool_give(q) ? MHD_YES : MHD_NO;
}

/* The headers are complete. */
static enum MHD_Result begin(struct mno_req *q, const char *method)
{
	const union MHD_ConnectionInfo *info;
	const char *length;
	uint64_t n;

	q->started = true;
	q->method = method;
	info = MHD_get_connection_info(q->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	q->client = info ? info->socket_context : NULL;
	if (!q->client)
		return MHD_NO;
	if (is_upload(q, method))
		return begin_upload(q);
	length = MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "Content-Length");
	q->too_large = length && (mno_parse_u64(length, &n) < 0 || n > API_BODY_MAX);
	if (q->too_large)
		return send_answer(q, refuse_large(q));
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **con_cls)
{
	struct mno_req *q = *con_cls;

	if (!q)
		return MHD_NO;
	if (!q->started)
		return begin(q, method);
	if (*size && q->route && q->route->upload)
		return on_piece(q, data, size);
	if (*size) {
		q->too_large |= *size > API_BODY_MAX - q->body.len;
		q->crowded |= !q->too_large && !hold(q, *size);
		if (!q->too_large && !q->crowded)
			mno_buf_add(&q->body, data, *size);
		*size = 0;
		return MHD_YES;
	}
	api_conn_busy(cls, q->client, true);
	if (!q->client->peer.allowed)
		return send_answer(q, refuse_peer(q));
	if (q->crowded)
		return send_answer(q, refuse_crowd(q));
	q->last = true;
	return q->too_large ? send_answer(q, refuse_large(q)) : answer(q);
}

static _printf_(2, 0) void on_log(void *cls, const char *fmt, va_list ap)
{
	char msg[512];
	int n = vsnprintf(msg, sizeof(msg), fmt, ap);

	if (n > 0)
		mno_debug("http: %.*s", (int)strcspn(msg, "\n"), msg);
}

/* Room for descriptors: the soft limit of a service is often 1,024. */
static size_t room_for_fds(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 512;
	if (l.rlim_cur < FDS_WANTED) {
		l.rlim_cur = MNO_MIN((rlim_t)FDS_WANTED, l.rlim_max);
		setrlimit(RLIMIT_NOFILE, &l);
		getrlimit(RLIMIT_NOFILE, &l);
	}
	return l.rlim_cur > 2 * FDS_RESERVED ? l.rlim_cur - FDS_RESERVED : l.rlim_cur / 2;
}

static int start_server(struct mno_api *api)
{
	size_t room = MNO_MIN(room_for_fds(), (size_t)API_CONNS_MAX + THREADS * API_CONNS_SLACK);

	/* Each thread takes room/THREADS connections at most, and one of them may get them all:
	 * slow ones must go before that. */
	api->max_conns = MNO_MIN((size_t)API_CONNS_MAX, room / THREADS - room / 16);
	api->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					       MHD_USE_ITC | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_request, api, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, api->listen_fd, MHD_OPTION_THREAD_POOL_SIZE, THREADS,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)room, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)API_CONN_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, API_IDLE_SECONDS,
		MHD_OPTION_URI_LOG_CALLBACK, on_uri, api, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
		api, MHD_OPTION_NOTIFY_CONNECTION, on_connection, api, MHD_OPTION_END);
	return api->daemon ? 0 : -EIO;
}

static int api_new(struct mno_agent *a, struct mno_api **ret)
{
	struct mno_api *api = calloc(1, sizeof(*api));
	pthread_condattr_t attr;
	int r;

	if (!api)
		return -ENOMEM;
	api->agent = a;
	api->listen_fd = -1;
	pthread_mutex_init(&api->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&api->cond, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&api->pool_cond, NULL);
	api->jobs_end = &api->jobs;
	r = api_peers_new(&api->peers);
	if (r == 0)
		r = api_top_new(&api->top);
	if (r == 0) {
		*ret = api;
		return 0;
	}
	mno_api_stop(api);
	return r;
}

int mno_api_listen(struct mno_agent *a, struct mno_api **ret)
{
	_cleanup_(mno_api_stop_p)
	struct mno_api *api = NULL;
	int r = api_new(a, &api);

	if (r < 0)
		return r;
	r = api_listen(a->opts.socket_path, api_group(), &api->listen_fd, &api->dev, &api->ino);
	if (r < 0)
		return r;
	api->path = strdup(a->opts.socket_path);
	if (!api->path) {
		api_unlisten(a->opts.socket_path, api->dev, api->ino);
		return -ENOMEM;
	}
	*ret = TAKE_PTR(api);
	return 0;
}

int mno_api_start(struct mno_agent *a, struct mno_api **ret)
{
	_cleanup_(mno_api_stop_p)
	struct mno_api *own = NULL;
	struct mno_api *api = *ret;
	int r = api ? 0 : mno_api_listen(a, &own);

	if (r < 0)
		return r;
	api = api ?: own;
	r = api_clock_start(api);
	if (r == 0)
		r = api_pool_start(api);
	if (r == 0)
		r = start_server(api);
	if (r < 0)
		return r;
	own = NULL;
	*ret = api;
	return 0;
}

struct mno_api *mno_api_stop(struct mno_api *api)
{
	if (!api)
		return NULL;
	api_clock_stop(api);
	api_pool_stop(api); /* nothing stays suspended */
	if (api->daemon) {
		MHD_stop_daemon(api->daemon); /* closes the listening socket */
		api->listen_fd = -1;
	}
	if (api->listen_fd >= 0)
		close(api->listen_fd);
	if (api->path)
		api_unlisten(api->path, api->dev, api->ino);
	free(api->path);
	api_top_free(api->top);
	api_peers_free(api->peers);
	pthread_cond_destroy(&api->cond);
	pthread_cond_destroy(&api->pool_cond);
	pthread_mutex_destroy(&api->lock);
	free(api);
	return NULL;
}
