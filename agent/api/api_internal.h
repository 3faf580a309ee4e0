/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the API share: the server, a request, helpers for handlers. */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "../agent.h"
#include "mno/json.h"
#include "params.h"
#include "peer.h"

#define API_CONNS_MAX      1024              /* slow or idle ones are closed beyond that */
#define API_CONNS_SLACK    512               /* room per thread while they go */
#define API_CONN_MEMORY    (24 * 1024)       /* request line and headers of a connection */
#define API_HEADER_NS      (10 * NS_PER_SEC) /* a request must be complete after that */
#define API_IDLE_SECONDS   10
#define API_STREAM_SECONDS 300 /* a stream's reader may pause so long */
#define API_BODY_MAX       (1024 * 1024)
#define API_ANSWER_MAX     (64u << 20)
#define API_QUERY_NS       (60 * NS_PER_SEC) /* longest evaluation */
#define API_KEEPALIVE_NS   (15 * NS_PER_SEC)
#define API_LATER          (-1) /* result of a handler: call me again at q->wake_ns */
#define API_MORE           0    /* result of an upload's handler: the next piece */
#define API_UPLOAD_PIECE   (256u << 10)
#define API_UPLOADS_MAX    4
#define API_CPU_SAMPLES    11
#define API_POOL           2            /* threads for answers that may take longer */
#define API_HELD_MAX       (128u << 20) /* bodies and answers of all clients together */

#define API_NAMES_MAX 4
#define API_NAME_MAX  264 /* bytes of one, with its NUL */

struct api_route;
struct api_stream;
struct api_top;

/* A connection from accept to close. */
struct api_conn {
	struct api_conn *prev, *next;
	int fd;
	bool waiting; /* for a complete request, since .since_ns */
	uint64_t since_ns;
	struct api_peer peer;
};

struct mno_api {
	struct mno_agent *agent;
	struct MHD_Daemon *daemon;
	struct api_peers *peers;
	struct api_top *top;
	char *path; /* of the socket we bound */
	int listen_fd;
	dev_t dev; /* of that socket's file */
	ino_t ino;

	pthread_t thread; /* time-outs, keep-alive, samples */
	bool thread_runs;
	pthread_t pool[API_POOL];
	size_t n_pool;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t cond, pool_cond;
	_Atomic bool stopping;  /* set under the lock; long work looks at it without */
	struct api_conn *conns; /* newest first */
	size_t n_conns, max_conns;
	struct mno_req *jobs, **jobs_end; /* suspended requests for the pool, in order */
	struct mno_req *later;            /* suspended requests with a wake-up time */
	struct api_stream *streams;
	struct api_upload *imports; /* running */
	struct api_cpu {
		uint64_t mono_ns, used_ns;
	} cpu[API_CPU_SAMPLES]; /* ring, .n_cpu taken so far */
	size_t n_cpu;
	atomic_uint uploads; /* running */
	atomic_size_t held;  /* bytes of bodies and of answers that are not yet taken */
};

/* What stood for each <...> of a route's pattern, decoded. */
struct api_names {
	size_t n;
	bool too_long; /* one of them was: there is only its beginning */
	char v[API_NAMES_MAX][API_NAME_MAX];
};

/* One request; handlers read the upper part and write the lower. */
struct mno_req {
	struct mno_api *api;
	struct mno_agent *agent;
	struct MHD_Connection *conn;
	struct api_conn *client; /* NULL only between request line and headers */
	char *uri;               /* raw, owned */
	char *path;              /* decoded, owned */
	const char *method;
	struct mno_params params; /* body's fields first, then the query string's */
	struct mno_buf body;
	bool started, too_large;
	bool crowded; /* no room for its body */
	size_t held;  /* its part of api->held */
	struct api_names names;
	const char *name;     /* the first of them */
	unsigned round;       /* 0 at the first call of the handler, 1 after API_LATER, ... */
	uint64_t wake_ns;     /* CLOCK_MONOTONIC */
	struct mno_req *next; /* among those that wait, for the clock or for the pool */
	const struct api_route *route; /* set when the request was understood */
	int result;                    /* the pool's: status to send; 0 = not done */
	bool last;                     /* upload: .body is the last piece, maybe empty */
	bool counted;                  /* in api->uploads */
	void *upload;                  /* the handler's own, between pieces */
	void (*upload_free)(void *upload);
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, of reading the store */

	struct mno_buf out;
	struct mno_json j;     /* writes to .out */
	const char *type;      /* content type; JSON unless set */
	char etag[24];         /* header value, "" = none */
	char completeness[32]; /* header value, "" = none */
	char allow[32];
	struct MHD_Response *response; /* a stream's; replaces .out */
};

struct api_route {
	const char *methods;          /* "GET", "POST", "GET, POST", ... */
	const char *pattern;          /* each "<name>" stands for one segment */
	int (*fn)(struct mno_req *q); /* HTTP status, or API_LATER */
	const char *summary;
	bool pool;   /* runs on the pool's threads */
	bool upload; /* is called with each piece of the body: API_MORE, or the status to send */
};

/* The route of the first @n bytes of a path as it stands in the request line (a name may have an
 * escaped "/" in it): NULL when there is none; *@ret_allow lists the methods of the path when only
 * the method is wrong. Pure. */
const struct api_route *api_route_find(const char *method, const char *path, size_t n,
	struct api_names *ret, const char **ret_allow);
/* The route that is spelled most like @path, or NULL. */
const char *api_route_guess(const char *path);

/* Problem JSON (RFC 9457) as the answer; returns @status. @hint may be NULL. */
int api_problem(struct mno_req *q, int status, const char *code, const char *hint, const char *fmt,
	...) _printf_(5, 6);
/* The error in the shape that the path's family has: problem JSON or Prometheus'. */
int api_error(struct mno_req *q, int status, const char *code, const char *hint, const char *fmt,
	...) _printf_(5, 6);
/* Ends a JSON answer: 200, or an error if it did not fit. */
int api_done(struct mno_req *q);

/* Sets the completeness header from counts. */
void api_set_completeness(struct mno_req *q, uint64_t seen, uint64_t dropped);
/* Adds "completeness":{seen,stored,sampled,dropped} of all probes, or of the named one. */
void api_put_completeness(struct mno_req *q, const char *probe);

/* time=, start= ... of /api/v1: Unix seconds or RFC3339 to ms. 0, -EINVAL. */
int api_parse_time(const char *s, int64_t *ret_ms);
/* since=, until= of /mno/v1: as above, or a duration ago. 0, -EINVAL. */
int api_parse_since(const char *s, uint64_t now_ns, uint64_t *ret_ns);
/* Window of since=/until= in Unix ns (defaults: @ago_ns before now, now). 0, or the status of the
 * error that was answered. */
int api_window(struct mno_req *q, uint64_t ago_ns, uint64_t *ret_t0, uint64_t *ret_t1);
/* Number parameter in [min, max], or @def when absent. 0, or a status as above. */
int api_number(struct mno_req *q, const char *name, uint64_t min, uint64_t max, uint64_t def,
	uint64_t *ret);

/* A parameter that names a place on the host, where the agent reads or writes as its own user: only
 * that user and root may set it. 0 (also when it is absent or empty), or the status of the error
 * that was answered. */
int api_owner_only(struct mno_req *q, const char *name, const char *hint, const char *text);

/* --- connections (conns.c); the server calls them ------------------------------------------ */
void api_conn_opened(struct mno_api *api, struct api_conn *c);
void api_conn_closed(struct mno_api *api, struct api_conn *c);
void api_conn_busy(struct mno_api *api, struct api_conn *c, bool busy);
/* Shuts down connections that owe a request for too long. api->lock held. */
void api_conn_reap(struct mno_api *api, uint64_t now_ns);

/* --- the API's own thread (api_clock.c) ------------------------------------------------------- */
int api_clock_start(struct mno_api *api);
void api_clock_stop(struct mno_api *api);
/* Suspends @q's connection until q->wake_ns; false when the server is stopping. */
bool api_clock_later(struct mno_req *q);
/* Percent of one core used by the agent's process over the last ~10 s. */
double api_cpu_percent(struct mno_api *api);

/* --- the pool (pool.c) ------------------------------------------------------------------------ */
int api_pool_start(struct mno_api *api);
/* Joins the threads; what still waits was resumed with an answer. api->stopping is set. */
void api_pool_stop(struct mno_api *api);
/* Suspends @q's connection until its handler ran there; false when the server is stopping. */
bool api_pool_give(struct mno_req *q);
/* -ETIMEDOUT when a handler should give up: the deadline passed, or the server stops. */
int api_expired(const struct mno_req *q);

/* --- streams (stream.c) ----------------------------------------------------------------------- */
/* What a stream says; called on the server's threads, one at a time. */
struct api_stream_source {
	/* Appends up to about @max bytes of events to @text; nothing when there is nothing. */
	void (*fill)(void *src, struct mno_buf *text, size_t max);
	void (*end)(void *src);
	size_t text_max; /* of .text, beyond which it holds an error */
};
/* Opens a stream that owns @src from here on, also on failure. *@ret is valid until end() was
 * called, and for api_stream_wake() only. 200, or the status of an error answered. */
int api_stream_new(
	struct mno_req *q, const struct api_stream_source *ops, void *src, struct api_stream **ret);
/* There is something to say. Any thread. @arg is the stream. */
void api_stream_wake(void *arg);
/* Opens the event stream of @q: its response, or a status of an error answered. */
int api_stream_open(struct mno_req *q, const uint16_t *kinds, size_t n);
/* Once a second, api->lock held: keep-alive and clients that left. */
void api_streams_tick(struct mno_api *api, uint64_t now_ns);
/* Ends all; api->lock held, api->stopping set. */
void api_streams_end(struct mno_api *api);

/* --- top (top.c) -------------------------------------------------------------------------------- */
int api_top_new(struct api_top **ret);
struct api_top *api_top_free(struct api_top *t);

/* One probe's status object, shared by status and probes. */
void api_put_probe(struct mno_req *q, const struct mno_probe_status *s, bool long_form);

/* --- handlers: rows of routes.def ----------------------------------------------------------- */
#define ROUTE(methods, pattern, fn, summary) int fn(struct mno_req *q);
#define ROUTE_POOL                           ROUTE
#define ROUTE_UPLOAD                         ROUTE
#include "routes.def"
#undef ROUTE
#undef ROUTE_POOL
#undef ROUTE_UPLOAD
