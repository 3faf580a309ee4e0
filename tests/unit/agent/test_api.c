/* SPDX-License-Identifier: Apache-2.0 */
/* The API in this process, on a store with rows made by hand: shapes, errors, streams. */
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <json-c/json.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "api.h"
#include "mno/client.h"
#include "mno/err.h"
#include "mno/time.h"
#include "proc/proc_wire.h"

struct fixture {
	struct mno_agent a;
	struct mno_api *api;
	struct mno_client *client;
	struct mno_buf body;
	int status;
	int64_t now_ms; /* of the newest row */
	char dir[64], socket[96];
};

static void put_series(struct fixture *f, struct mno_txn *txn)
{
	static const char *const keys[] = {"up{job=\"a\"}", "up{job=\"b\\\"c\"}", "load"};
	uint32_t ids[3];

	assert_int_equal(mno_series_open(f->a.env, &f->a.series), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
			mno_series_resolve(f->a.series, txn, keys[i], strlen(keys[i]), &ids[i]), 0);
	for (int i = 9; i >= 0; i--)
		assert_int_equal(mno_series_append(f->a.series, txn, f->now_ms - i * 1000, ids,
					 (double[]){1, 0, i + 0.25}, 3),
			0);
}

static struct mno_proc make_proc(uint32_t pid, uint64_t start_ns, uint64_t end_ns, const char *comm)
{
	struct mno_proc p = {.pid = pid,
		.ppid = 1,
		.uid = 1000,
		.start_ns = start_ns,
		.start_boottime_ns = start_ns,
		.end_ns = end_ns,
		.exit_code = 3,
		.flags = MNO_PROC_ENDED | MNO_PROC_EXECED,
		.duration_ns = end_ns - start_ns};

	snprintf(p.comm, sizeof(p.comm), "%s", comm);
	p.exe = (char *)"/usr/bin/tool";
	p.cgroup = (char *)"/system.slice/web";
	p.argv = (char *)"tool\0-x";
	p.argv_len = 8;
	return p;
}

static void put_procs(struct fixture *f, struct mno_txn *txn)
{
	uint64_t now = (uint64_t)f->now_ms * NS_PER_MS;
	struct mno_ledger_opts lo = {.sz = sizeof(lo), .boot_offset_ns = f->a.boot_offset_ns};
	struct mno_proc rows[3];

	for (uint32_t i = 0; i < 3; i++)
		rows[i] = make_proc(100 + i, now - (60 - i) * NS_PER_SEC,
			now - (50 - i) * NS_PER_SEC, i == 1 ? "odd\xff\x1b" : "tool");
	assert_int_equal(mno_ledger_store(f->a.env, txn, rows, 3), 0);
	assert_int_equal(mno_ledger_new(&lo, &f->a.ledger), 0);
	assert_int_equal(mno_ledger_exec(f->a.ledger,
				 &(struct mno_exec_fact){.pid = 200,
					 .ppid = 100,
					 .start_boottime_ns =
						 now - (uint64_t)f->a.boot_offset_ns - NS_PER_SEC,
					 .ktime = now - (uint64_t)f->a.boot_offset_ns,
					 .comm = "live",
					 .exe = "/bin/live",
					 .argv = "live",
					 .argv_len = 5}),
		0);
}

static struct mno_proc_fork fork_record(struct fixture *f, uint32_t pid)
{
	return (struct mno_proc_fork){.hdr = {.size = sizeof(struct mno_proc_fork),
					      .kind = MNO_PROC_FORK,
					      .version = MNO_WIRE_VERSION,
					      .ktime = (uint64_t)f->now_ms * NS_PER_MS -
						       (uint64_t)f->a.boot_offset_ns + pid},
		.id = {.pid = pid, .ppid = 1, .comm = "child"}};
}

static void put_events(struct fixture *f, struct mno_txn *txn)
{
	uint64_t now = (uint64_t)f->now_ms * NS_PER_MS;
	struct mno_proc_fork v[5];

	for (uint32_t i = 0; i < 5; i++)
		v[i] = fork_record(f, i + 1);
	assert_int_equal(mno_events_store(f->a.env, txn, now, now + 5, v, sizeof(v), 5), 0);
}

static int set_up(void **state)
{
	static const struct mno_family family = {"mno_test", "A\nhelp", MNO_GAUGE};
	struct mno_store_opts eo = {.sz = sizeof(eo), .map_size = 64 << 20, .floor_bytes = 4096};
	struct fixture *f = calloc(1, sizeof(*f));
	struct mno_txn *txn;
	uint32_t slot;

	strcpy(f->dir, "/tmp/mno-api-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->socket, sizeof(f->socket), "%s/sock", f->dir);
	f->a.opts.socket_path = f->socket;
	f->a.start_ns = mno_now_ns(CLOCK_BOOTTIME);
	f->a.boot_offset_ns = mno_boot_offset_ns();
	strcpy(f->a.hostname, "test");
	f->now_ms = mno_now_ms() - 1000;
	assert_int_equal(mno_store_open(f->dir, &eo, &f->a.env), 0);
	assert_int_equal(mno_store_begin(f->a.env, &txn), 0);
	put_series(f, txn);
	put_procs(f, txn);
	put_events(f, txn);
	assert_int_equal(mno_store_commit(f->a.env, txn), 0);
	mno_series_committed(f->a.series);
	assert_int_equal(mno_hub_new(&f->a.hub), 0);
	assert_int_equal(mno_metrics_new(16, &f->a.metrics), 0);
	assert_int_equal(mno_metrics_add(f->a.metrics, &family, NULL, NULL, 0, &slot), 0);
	mno_metrics_set(f->a.metrics, slot, 2.5);
	mno_metrics_tick(f->a.metrics, NULL, NULL);
	assert_int_equal(mno_api_start(&f->a, &f->api), 0);
	assert_int_equal(mno_client_new(f->socket, 10 * NS_PER_SEC, &f->client), 0);
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	mno_client_free(f->client);
	mno_api_stop(f->api);
	mno_buf_done(&f->body);
	mno_metrics_free(f->a.metrics);
	mno_hub_free(f->a.hub);
	mno_ledger_free(f->a.ledger);
	mno_series_close(f->a.series);
	mno_store_close(f->a.env);
	nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

/* Asks and parses; the caller puts the result. */
static struct json_object *ask(
	struct fixture *f, const char *method, const char *target, const char *body)
{
	struct json_object *o;

	mno_buf_reset(&f->body);
	assert_int_equal(mno_client_request(f->client, method, target, body,
				 body ? strlen(body) : 0, &f->status, &f->body),
		0);
	o = json_tokener_parse(mno_buf_cstr(&f->body));
	if (!o)
		fail_msg("%s: not JSON: %s", target, f->body.data);
	return o;
}

static const char *text(struct json_object *o, const char *key)
{
	return json_object_get_string(json_object_object_get(o, key)) ?: "(none)";
}

/* The whole body, byte for byte. */
static void expect(struct fixture *f, const char *target, int status, const char *body)
{
	mno_buf_reset(&f->body);
	assert_int_equal(
		mno_client_request(f->client, "GET", target, NULL, 0, &f->status, &f->body), 0);
	assert_string_equal(mno_buf_cstr(&f->body), body);
	assert_int_equal(f->status, status);
}

static void expect_code(struct fixture *f, const char *method, const char *target, int status,
	const char *code, const char *detail)
{
	struct json_object *o = ask(f, method, target, NULL);

	if (f->status != status || strcmp(text(o, "code"), code) ||
		!strstr(text(o, "detail"), detail))
		fail_msg("%s: %d %s", target, f->status, f->body.data);
	assert_int_equal(json_object_get_int(json_object_object_get(o, "status")), status);
	json_object_put(o);
}

#define PROM_ERROR(type, msg)                                                                      \
	"{\"status\":\"error\",\"errorType\":\"" type "\",\"error\":\"" msg "\"}"

/* the fields of a form come before those of the address */
static void test_form(struct fixture *f)
{
	static const char request[] =
		"POST /api/v1/query?query=nothing HTTP/1.1\r\nHost: mno\r\n"
		"Connection: close\r\nContent-Length: 27\r\n"
		"Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n\r\n"
		"query=up%7Bjob%3D%22a%22%7D";
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char buf[4096];
	size_t n = 0;
	ssize_t got;

	strcpy(sa.sun_path, f->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	while ((got = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	buf[n] = 0;
	assert_non_null(strstr(buf, "HTTP/1.1 200 OK"));
	assert_non_null(strstr(buf, "X-Mno-Completeness: 1.0"));
	assert_non_null(strstr(buf, "{\"__name__\":\"up\",\"job\":\"a\"}"));
}

static void test_query(void **state)
{
	struct fixture *f = *state;
	char want[512], target[256];

	snprintf(target, sizeof(target), "/api/v1/query?query=up&time=%lld",
		(long long)f->now_ms / 1000 + 1);
	snprintf(want, sizeof(want),
		"{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":["
		"{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"value\":[%lld,\"1\"]},"
		"{\"metric\":{\"__name__\":\"up\",\"job\":\"b\\\"c\"},\"value\":[%lld,\"0\"]}]}}",
		(long long)f->now_ms / 1000 + 1, (long long)f->now_ms / 1000 + 1);
	expect(f, target, 200, want);
	test_form(f);
	expect(f, "/api/v1/query?query=nothing", 200,
		"{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}");
	json_object_put(ask(f, "GET", "/api/v1/query?query=load%5B1m%5D", NULL));
	assert_non_null(strstr(f->body.data, "\"resultType\":\"matrix\""));
	assert_non_null(strstr(f->body.data, "\"9.25\""));
	snprintf(target, sizeof(target), "/api/v1/query_range?query=load&start=%f&end=%f&step=1",
		(double)(f->now_ms - 3000) / 1000, (double)f->now_ms / 1000);
	json_object_put(ask(f, "GET", target, NULL));
	assert_non_null(strstr(f->body.data, "\"3.25\"]"));
	assert_non_null(strstr(f->body.data, "\"0.25\"]]"));
	assert_null(strstr(f->body.data, "\"4.25\""));
}

/* in Prometheus' words and order of checks */
static void test_query_errors(void **state)
{
	static const struct {
		const char *target;
		int status;
		const char *body;
	} cases[] = {
		{"/api/v1/query", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"query\\\": 1:1: parse error: "
					       "no expression found "
					       "in input")},
		{"/api/v1/query?query=up&time=abc", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"time\\\": Invalid time value "
					       "for 'time': cannot "
					       "parse \\\"abc\\\" to a valid timestamp")},
		{"/api/v1/query?query=up&timeout=1x", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"timeout\\\": cannot parse "
					       "\\\"1x\\\" to a valid duration")},
		{"/api/v1/query_range?query=up%7B&start=1&end=2", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"step\\\": cannot parse "
					       "\\\"\\\" to a valid duration")},
		{"/api/v1/query_range?query=up%7B&start=1&end=2&step=1", 400,
			PROM_ERROR("bad_data",
				"1:4: parse error: unexpected end of input inside braces")},
		{"/api/v1/query_range?query=up&start=5&end=2&step=1", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"end\\\": end timestamp must "
					       "not be before start time")},
		{"/api/v1/query_range?query=up&start=5&end=7&step=0", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"step\\\": zero or negative "
					       "query resolution step widths are "
					       "not accepted. Try a positive integer")},
		{"/api/v1/query_range?query=up&start=0&end=11001&step=1", 400,
			PROM_ERROR("bad_data", "exceeded maximum resolution of 11,000 points per "
					       "timeseries. Try decreasing the "
					       "query resolution (?step=XX)")},
		{"/api/v1/query_range?query=up%5B5m%5D&start=1&end=2&step=1", 400,
			PROM_ERROR("bad_data", "invalid expression type \\\"range vector\\\" for "
					       "range query, must be Scalar or "
					       "instant Vector")},
		{"/api/v1/series", 400, PROM_ERROR("bad_data", "no match[] parameter provided")},
		{"/api/v1/series?match[]=%7B%7D", 400,
			PROM_ERROR("bad_data", "invalid parameter \\\"match[]\\\": match[] must "
					       "contain at least one "
					       "non-empty matcher")},
		{"/api/v1/label/1a/values", 400,
			PROM_ERROR("bad_data", "invalid label name: \\\"1a\\\"")},
		{"/api/v1/labels?start=x", 400,
			PROM_ERROR("bad_data",
				"invalid parameter \\\"start\\\": Invalid time value for 'start': "
				"cannot parse \\\"x\\\" to a valid timestamp")},
		{"/api/v1/querry", 404,
			PROM_ERROR("not_found",
				"no such path: /api/v1/querry; did you mean /api/v1/query?")},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect(*state, cases[i].target, cases[i].status, cases[i].body);
}

static void test_names(void **state)
{
	struct fixture *f = *state;

	expect(f, "/api/v1/labels", 200,
		"{\"status\":\"success\",\"data\":[\"__name__\",\"job\"]}");
	expect(f, "/api/v1/labels?match[]=load", 200,
		"{\"status\":\"success\",\"data\":[\"__name__\"]}");
	expect(f, "/api/v1/label/job/values", 200,
		"{\"status\":\"success\",\"data\":[\"a\",\"b\\\"c\"]}");
	expect(f, "/api/v1/label/nope/values", 200, "{\"status\":\"success\",\"data\":[]}");
	expect(f, "/api/v1/label/__name__/values?match[]=load&match[]=up", 200,
		"{\"status\":\"success\",\"data\":[\"load\",\"up\"]}");
	expect(f, "/api/v1/series?match[]=up&match[]=%7Bjob=%22a%22%7D", 200,
		"{\"status\":\"success\",\"data\":[{\"__name__\":\"up\",\"job\":\"a\"},"
		"{\"__name__\":\"up\",\"job\":\"b\\\"c\"}]}");
	expect(f, "/api/v1/series?match[]=up&end=1000", 200,
		"{\"status\":\"success\",\"data\":[]}");
	expect(f, "/api/v1/metadata", 200,
		"{\"status\":\"success\",\"data\":{\"mno_test\":[{\"type\":\"gauge\",\"help\":"
		"\"A\\nhelp\","
		"\"unit\":\"\"}]}}");
}

static void test_routes(void **state)
{
	struct fixture *f = *state;

	expect_code(f, "GET", "/mno/v1/statu", 404, "not_found", "/mno/v1/statu");
	assert_non_null(strstr(f->body.data, "did you mean /mno/v1/status?"));
	expect_code(f, "GET", "/", 404, "not_found", "no such path");
	assert_non_null(strstr(f->body.data, "GET /mno/v1 lists all paths"));
	json_object_put(ask(f, "GET", "/mno/v1", NULL));
	assert_non_null(strstr(
		f->body.data, "{\"methods\":\"GET, POST\",\"path\":\"/api/v1/query_range\","));
	expect_code(f, "DELETE", "/metrics", 405, "bad_request", "only GET");
	expect_code(f, "GET", "/mno/v1/probes/proc/enable", 405, "bad_request", "only POST");
	expect_code(f, "GET", "/%00", 400, "bad_request", "escape");
	expect_code(f, "GET", "/mno/v1/proc?comm=%zz", 400, "bad_request", "escape");
	expect_code(
		f, "POST", "/mno/v1/probes/proc/enable?for=1h", 503, "unavailable", "without BPF");
	expect_code(f, "GET", "/mno/v1/doctor", 503, "unavailable", "examined");
}

static void test_status(void **state)
{
	static const char *const keys[] = {"version", "host", "uptime_seconds", "probes",
		"completeness", "memory", "cpu_percent", "store", "level", "cgroups", "degraded"};
	struct fixture *f = *state;
	struct json_object *o = ask(f, "GET", "/mno/v1/status", NULL), *store;

	assert_int_equal(f->status, 200);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!json_object_object_get(o, keys[i]))
			fail_msg("no %s in %s", keys[i], f->body.data);
	store = json_object_object_get(o, "store");
	assert_string_equal(text(store, "series"), "3");
	assert_string_equal(text(store, "samples"), "30");
	assert_string_equal(text(o, "level"), "L0");
	assert_non_null(strstr(text(o, "degraded"), "no BPF probes"));
	assert_true(json_object_get_int64(json_object_object_get(
			    json_object_object_get(o, "memory"), "rss_bytes")) > 1 << 20);
	assert_true(json_object_get_int64(json_object_object_get(
			    json_object_object_get(o, "memory"), "file_bytes")) > 1 << 16);
	json_object_put(o);
	assert_true(mno_client_completeness(f->client) == 1.0);
}

static void test_metrics(void **state)
{
	struct fixture *f = *state;

	expect(f, "/metrics", 200,
		"# HELP mno_test A\\nhelp\n# TYPE mno_test gauge\nmno_test 2.5\n");
}

/* pids of the answer, as text */
static void expect_pids(struct fixture *f, const char *target, const char *want)
{
	struct json_object *o = ask(f, "GET", target, NULL),
			   *v = json_object_object_get(o, "processes");
	char got[256] = "";

	assert_int_equal(f->status, 200);
	for (size_t i = 0; i < json_object_array_length(v); i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s ",
			text(json_object_array_get_idx(v, i), "pid"));
	json_object_put(o);
	if (strcmp(got, want))
		fail_msg("%s: got %s, not %s", target, got, want);
}

static void test_proc(void **state)
{
	struct fixture *f = *state;

	expect_pids(f, "/mno/v1/proc", "200 102 101 100 ");
	expect_pids(f, "/mno/v1/proc?running=1", "200 ");
	expect_pids(f, "/mno/v1/proc?limit=2", "200 102 ");
	assert_non_null(strstr(f->body.data, "\"truncated\":true"));
	expect_pids(f, "/mno/v1/proc?pid=101", "101 ");
	assert_non_null(strstr(f->body.data, "\"truncated\":false"));
	expect_pids(f, "/mno/v1/proc?comm=tool", "102 100 ");
	expect_pids(f, "/mno/v1/proc?exe=live", "200 ");
	expect_pids(f, "/mno/v1/proc?uid=1000&exe=/usr/bin/tool", "102 101 100 ");
	expect_pids(f, "/mno/v1/proc?cgroup=web", "102 101 100 ");
	expect_pids(f, "/mno/v1/proc?cgroup=/system.slice", "102 101 100 ");
	expect_pids(f, "/mno/v1/proc?cgroup=/system", "");
	expect_pids(f, "/mno/v1/proc?since=20s", "200 ");
	expect_pids(f, "/mno/v1/proc?since=1h&until=40s", "102 101 100 ");
	expect_code(f, "GET", "/mno/v1/proc?limit=0", 400, "bad_request", "limit=0");
	expect_code(
		f, "GET", "/mno/v1/proc?since=yesterday", 400, "bad_request", "since=yesterday");
	expect_code(f, "GET", "/mno/v1/proc?since=1m&until=2m", 400, "bad_request", "before");
}

static void test_events(void **state)
{
	struct fixture *f = *state;
	struct json_object *o = ask(f, "GET", "/mno/v1/events?limit=2&until=2100-01-01T00:00:00Z",
				   NULL),
			   *v;

	v = json_object_object_get(o, "events");
	assert_int_equal(json_object_array_length(v), 2);
	assert_string_equal(text(json_object_array_get_idx(v, 0), "pid"), "4"); /* the newest two */
	assert_string_equal(text(json_object_array_get_idx(v, 1), "pid"), "5");
	assert_string_equal(text(json_object_array_get_idx(v, 1), "kind"), "fork");
	assert_string_equal(text(o, "truncated"), "true");
	json_object_put(o);
	o = ask(f, "GET", "/mno/v1/events?kind=exec,exit", NULL);
	assert_int_equal(json_object_array_length(json_object_object_get(o, "events")), 0);
	json_object_put(o);
	o = ask(f, "GET", "/mno/v1/events?pid=3&until=2100-01-01T00:00:00Z", NULL);
	v = json_object_object_get(o, "events");
	assert_int_equal(json_object_array_length(v), 1);
	assert_string_equal(text(json_object_array_get_idx(v, 0), "pid"), "3");
	assert_string_equal(text(o, "truncated"), "false");
	json_object_put(o);
	o = ask(f, "GET", "/mno/v1/events?pid=99&until=2100-01-01T00:00:00Z", NULL);
	assert_int_equal(json_object_array_length(json_object_object_get(o, "events")), 0);
	json_object_put(o);
	expect_code(f, "GET", "/mno/v1/events?pid=x", 400, "bad_request", "pid");
	expect_code(f, "GET", "/mno/v1/events?kind=frok", 400, "bad_request", "did you mean fork?");
	expect_code(f, "GET", "/mno/v1/events?follow=2", 400, "bad_request", "follow=2");
}

static void test_top(void **state)
{
	struct fixture *f = *state;
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);
	struct json_object *o = ask(f, "GET", "/mno/v1/top?interval=200ms", NULL), *v;
	double took = (double)(mno_now_ns(CLOCK_MONOTONIC) - t0) / 1e9;
	double interval = json_object_get_double(json_object_object_get(o, "interval_seconds"));
	bool self = false;

	assert_int_equal(f->status, 200);
	assert_true(took >= 0.2 && interval >= 0.2 && interval <= took);
	v = json_object_object_get(o, "processes");
	for (size_t i = 0; i < json_object_array_length(v); i++)
		self |= json_object_get_int(json_object_object_get(
				json_object_array_get_idx(v, i), "pid")) == getpid();
	/* 200 are shown; without BPF it says so */
	assert_true(self || json_object_array_length(v) == 200);
	assert_non_null(strstr(f->body.data, "the sched probe is not running"));
	json_object_put(o);
	/* a later call compares with the kept look and need not wait */
	usleep(210000);
	t0 = mno_now_ns(CLOCK_MONOTONIC);
	json_object_put(ask(f, "GET", "/mno/v1/top?interval=200ms", NULL));
	assert_true(mno_now_ns(CLOCK_MONOTONIC) - t0 < 190 * NS_PER_MS);
	expect_code(f, "GET", "/mno/v1/top?interval=1y", 400, "bad_request", "interval=1y");
}

/* --- streams ---------------------------------------------------------------------------------- */

#define FLOOD 60000

struct listener {
	struct fixture *f;
	const char *target;
	pthread_t thread;
	int r, stop;
	uint64_t records, lost, others;
	_Atomic bool open;
};

static int on_event(void *arg, const char *event, const char *data, size_t len)
{
	struct listener *l = arg;
	struct json_object *o = json_tokener_parse(data);

	if (!o)
		return -EPROTO;
	if (!strcmp(event, "lost"))
		l->lost += (uint64_t)json_object_get_int64(json_object_object_get(o, "lost"));
	else if (!strcmp(event, "fork"))
		l->records++;
	else
		l->others++;
	json_object_put(o);
	return l->records + l->lost >= FLOOD;
}

static void *listen_events(void *arg)
{
	struct listener *l = arg;
	_cleanup_(mno_client_free_p)
	struct mno_client *c = NULL;
	_cleanup_buf_ struct mno_buf body = {};
	int status;

	l->r = mno_client_new(l->f->socket, 0, &c);
	if (l->r == 0)
		l->r = mno_client_stream(c, l->target, on_event, l, &l->stop, &status, &body);
	return NULL;
}

static void test_stream(void **state)
{
	struct fixture *f = *state;
	struct listener l = {.f = f, .target = "/mno/v1/events?follow=1&kind=fork"};
	struct mno_proc_fork r = fork_record(f, 1), other = r;
	struct mno_sub *all[MNO_SUBS_MAX];
	size_t n = 0;

	assert_int_equal(pthread_create(&l.thread, NULL, listen_events, &l), 0);
	/* subscribed as soon as one place less is free */
	for (bool there = false; !there; usleep(1000)) {
		for (n = 0; n < MNO_SUBS_MAX &&
			    mno_hub_subscribe(f->a.hub, NULL, 0, NULL, NULL, &all[n]) == 0;
			n++)
			;
		there = n == MNO_SUBS_MAX - 1;
		while (n)
			mno_hub_unsubscribe(all[--n]);
	}
	other.hdr.kind = MNO_PROC_SEED;
	for (int i = 0; i < FLOOD; i++) {
		mno_hub_publish(f->a.hub, &r, sizeof(r));
		if (i % 100 == 0)
			mno_hub_publish(f->a.hub, &other, sizeof(other));
	}
	pthread_join(l.thread, NULL);
	/* every record came or is told as lost, none twice, none of another kind */
	assert_int_equal(l.r, 1);
	assert_int_equal(l.records + l.lost, FLOOD);
	assert_true(l.records > 0);
	assert_int_equal(l.others, 0);
}

/* Stopping does not wait for a stream or for a `top` that is due in a minute. */
static void test_stop(void **state)
{
	struct fixture *f = *state;
	struct listener l[2] = {{.f = f, .target = "/mno/v1/events?follow=1"},
		{.f = f, .target = "/mno/v1/top?interval=60s"}};
	uint64_t t0;

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&l[i].thread, NULL, listen_events, &l[i]), 0);
	usleep(200000);
	t0 = mno_now_ns(CLOCK_MONOTONIC);
	f->api = mno_api_stop(f->api);
	assert_true(mno_now_ns(CLOCK_MONOTONIC) - t0 < 2 * NS_PER_SEC);
	for (size_t i = 0; i < 2; i++)
		pthread_join(l[i].thread, NULL);
	assert_int_equal(l[0].r, -MNO_ECLOSED);
	assert_true(l[1].r < 0);
	assert_int_equal(access(f->socket, F_OK), -1);
}

static void test_socket(void **state)
{
	struct fixture *f = *state;
	struct mno_api *two = NULL;
	struct stat st;

	assert_int_equal(stat(f->socket, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(mno_api_start(&f->a, &two), -EADDRINUSE);
	f->api = mno_api_stop(f->api);
	/* a file that is no socket is not touched */
	fclose(fopen(f->socket, "w"));
	assert_int_equal(mno_api_start(&f->a, &two), -ENOTSOCK);
	assert_null(two);
	assert_int_equal(access(f->socket, F_OK), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_query),
		CASE(test_query_errors),
		CASE(test_names),
		CASE(test_routes),
		CASE(test_status),
		CASE(test_metrics),
		CASE(test_proc),
		CASE(test_events),
		CASE(test_top),
		CASE(test_stream),
		CASE(test_stop),
		CASE(test_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
