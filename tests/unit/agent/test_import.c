/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads through the API to the writer and back: bodies of any length, clients of any kind. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "api.h"
#include "mno/client.h"
#include "mno/err.h"
#include "mno/time.h"
#include "tmpstate.h"

struct fixture {
	struct tmpstate dir;
	struct mno_agent a;
	struct mno_api *api;
	struct mno_client *client;
	struct mno_buf body;
	int64_t t0; /* of the first sample */
	char socket[100];
};

static int start(void **state, uint64_t floor_bytes)
{
	struct mno_store_opts eo = {.sz = sizeof(eo), .floor_bytes = floor_bytes};
	struct mno_ledger_opts lo = {.sz = sizeof(lo)};
	struct mno_writer_opts wo = {.sz = sizeof(wo)};
	struct fixture *f = calloc(1, sizeof(*f));

	tmpstate_new(&f->dir);
	snprintf(f->socket, sizeof(f->socket), "%s.sock", f->dir.dir);
	f->a.opts.socket_path = f->socket;
	f->t0 = mno_now_ms() / 1000 * 1000 - 3600000;
	assert_int_equal(mno_store_open(f->dir.dir, &eo, &f->a.env), 0);
	assert_int_equal(mno_series_open(f->a.env, &f->a.series), 0);
	assert_int_equal(mno_ledger_new(&lo, &f->a.ledger), 0);
	wo.env = f->a.env;
	wo.series = f->a.series;
	wo.ledger = f->a.ledger;
	assert_int_equal(mno_writer_new(&wo, &f->a.writer), 0);
	assert_int_equal(mno_writer_start(f->a.writer), 0);
	assert_int_equal(mno_hub_new(&f->a.hub), 0);
	assert_int_equal(mno_metrics_new(16, &f->a.metrics), 0);
	assert_int_equal(mno_api_start(&f->a, &f->api), 0);
	assert_int_equal(mno_client_new(f->socket, 20 * NS_PER_SEC, &f->client), 0);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	return start(state, 4096);
}

static int set_up_full_disk(void **state)
{
	return start(state, 1ULL << 60);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	mno_client_free(f->client);
	mno_api_stop(f->api);
	mno_writer_stop(f->a.writer);
	mno_buf_done(&f->body);
	mno_metrics_free(f->a.metrics);
	mno_hub_free(f->a.hub);
	mno_ledger_free(f->a.ledger);
	mno_series_close(f->a.series);
	mno_store_close(f->a.env);
	tmpstate_done(&f->dir);
	free(f);
	return 0;
}

/* --- bodies --------------------------------------------------------------------------------------- */

struct source {
	const char *s;
	size_t n, step; /* 0 = as much as is asked for */
	int err;        /* instead of the end */
};

static ssize_t read_source(void *arg, void *buf, size_t size)
{
	struct source *src = arg;
	size_t n = MNO_MIN(src->n, src->step ? MNO_MIN(size, src->step) : size);

	if (!n)
		return src->err;
	memcpy(buf, src->s, n);
	src->s += n;
	src->n -= n;
	return (ssize_t)n;
}

static int upload(struct fixture *f, const char *target, struct source *src, int *status)
{
	return mno_client_upload(
		f->client, target, read_source, src, 20 * NS_PER_SEC, NULL, status, &f->body);
}

/* Uploads a text; the caller puts the answer. */
static struct json_object *import(
	struct fixture *f, const char *params, const char *s, size_t n, size_t step, int want)
{
	struct source src = {.s = s, .n = n, .step = step};
	char target[200];
	int status = 0;

	snprintf(target, sizeof(target), "/mno/v1/import%s", params);
	assert_int_equal(upload(f, target, &src, &status), 0);
	if (status != want)
		fail_msg("status %d: %s", status, mno_buf_cstr(&f->body));
	return json_tokener_parse(mno_buf_cstr(&f->body));
}

static int64_t number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : -1;
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "";
}

struct sum {
	size_t n;
	double sum;
};

static int add_column(void *arg, const struct mno_column *c)
{
	struct sum *s = arg;

	for (size_t i = 0; i < c->n; i++) {
		if (isnan(c->v[i]))
			continue;
		s->n++;
		s->sum += c->v[i];
	}
	return 0;
}

static struct sum stored(struct fixture *f)
{
	static char name[] = "__name__", any[] = ".+";
	struct mno_matcher m = {.op = MNO_MATCH_RE, .name = name, .value = any};
	struct mno_ids ids = {0};
	struct sum s = {0};
	char err[64];

	assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), 0);
	assert_int_equal(mno_series_select(f->a.series, &m, 1, SIZE_MAX, &ids), 0);
	assert_int_equal(
		mno_series_read(f->a.series, ids.v, ids.n, 0, INT64_MAX, SIZE_MAX, add_column, &s),
		0);
	mno_ids_done(&ids);
	mno_matchers_done(&m, 1);
	return s;
}

/* --- tests ---------------------------------------------------------------------------------------- */

/* Longer than all buffers on the way, in portions of several sizes. */
static void test_large(void **state)
{
	static const size_t steps[] = {0, 70001, 999};
	enum { SERIES = 50, ROWS = 1500 };
	struct fixture *f = *state;

	for (size_t k = 0; k < ARRAY_SIZE(steps); k++) {
		_cleanup_buf_ struct mno_buf b = {0};
		struct json_object *o;
		struct sum s;

		for (int t = 0; t < ROWS; t++)
			for (int i = 0; i < SERIES; i++)
				mno_buf_addf(&b, "m{i=\"%d\"} %d %lld\n", i, t + i,
					(long long)f->t0 + ((int)k * ROWS + t) * 250);
		o = import(f, "?format=prometheus-text", b.data, b.len, steps[k], 200);
		assert_int_equal(number(o, "accepted"), SERIES * ROWS);
		assert_int_equal(number(o, "series"), SERIES);
		assert_int_equal(number(o, "refused_total"), 0);
		assert_int_equal(number(o, "bytes"), b.len);
		assert_int_equal(number(o, "first_ms"), f->t0 + (int64_t)k * ROWS * 250);
		json_object_put(o);
		s = stored(f);
		assert_int_equal(s.n, (k + 1) * SERIES * ROWS);
		assert_true(
			s.sum == (double)(k + 1) * (SERIES * (ROWS * (ROWS - 1) / 2.0) +
							   ROWS * (SERIES * (SERIES - 1) / 2.0)));
	}
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	struct json_object *o, *refused, *examples;

	mno_buf_addf(&b,
		"a 1 %lld\nbroken\na one %lld\na 1 1000\na 1 %lld\na{x=\"\xff\"} 1 1\n\"\x1b[31m\n",
		(long long)f->t0, (long long)f->t0, (long long)f->t0 + 2 * 3600000);
	o = import(f, "?file=metrics.prom", b.data, b.len, 0, 200);
	assert_string_equal(text(o, "format"), "prometheus-text");
	assert_string_equal(text(o, "guessed"), "true");
	assert_int_equal(number(o, "accepted"), 1);
	assert_int_equal(number(o, "refused_total"), 6);
	json_object_object_get_ex(o, "refused", &refused);
	assert_int_equal(number(refused, "bad_syntax"), 1);
	assert_int_equal(number(refused, "bad_value"), 1);
	assert_int_equal(number(refused, "too_old"), 1);
	assert_int_equal(number(refused, "too_new"), 1);
	assert_int_equal(number(refused, "bad_utf8"), 1);
	assert_int_equal(number(refused, "bad_name"), 1);
	json_object_object_get_ex(o, "examples", &examples);
	assert_int_equal(json_object_array_length(examples), 6);
	assert_int_equal(number(json_object_array_get_idx(examples, 0), "line"), 2);
	assert_string_equal(text(json_object_array_get_idx(examples, 0), "text"), "broken");
	json_object_put(o);
}

static void test_default_time(void **state)
{
	struct fixture *f = *state;
	struct json_object *o;
	char params[100];

	snprintf(params, sizeof(params), "?format=prometheus-text&time=%lld.250",
		(long long)f->t0 / 1000);
	o = import(f, params, "a 1\nb 2\n", 8, 0, 200);
	assert_int_equal(number(o, "accepted"), 2);
	assert_int_equal(number(o, "last_ms"), f->t0 + 250);
	json_object_put(o);
	json_object_put(import(f, "?time=yesterday", "a 1\n", 4, 0, 400));
}

static void test_formats(void **state)
{
	struct fixture *f = *state;
	struct json_object *o = import(f, "?format=yaml", "a: 1\n", 5, 0, 400);

	assert_non_null(strstr(text(o, "hint"), "openmetrics, prometheus-text, csv, remote-write"));
	json_object_put(o);
	o = import(f, "", "<html></html>\n", 14, 0, 400);
	assert_string_equal(text(o, "code"), "bad_request");
	json_object_put(o);
	json_object_put(import(f, "", "", 0, 0, 400));
	o = import(f, "?format=csv", "", 0, 0, 200);
	assert_int_equal(number(o, "accepted"), 0);
	json_object_put(o);
}

/* An error in the middle: the rest is read over, the answer comes. */
static void test_error_then_more(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	struct json_object *o;

	while (b.len < 3 << 20)
		mno_buf_adds(&b, "<p>this is no metric</p>\n");
	o = import(f, "", b.data, b.len, 0, 400);
	assert_string_equal(text(o, "code"), "bad_request");
	json_object_put(o);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	struct json_object *o;

	mno_buf_addf(&b, "a 1 %lld\n", (long long)f->t0);
	o = import(f, "?format=prometheus-text", b.data, b.len, 0, 503);
	assert_string_equal(text(o, "code"), "no_space");
	json_object_put(o);
}

/* The places of clients that left are free again, soon. */
static void expect_free(struct fixture *f)
{
	for (int i = 0; i < 250; i++) {
		struct source src = {.s = "", .n = 0};
		int status = 0;

		assert_int_equal(upload(f, "/mno/v1/import?format=csv", &src, &status), 0);
		if (status == 200)
			return;
		usleep(20000);
	}
	fail_msg("uploads of clients that left are still counted");
}

static void test_reader_fails(void **state)
{
	struct fixture *f = *state;
	struct source src = {.s = "a 1 1\n", .n = 6, .err = -EIO};
	int status = 0;

	assert_int_equal(upload(f, "/mno/v1/import?format=csv", &src, &status), -EIO);
	expect_free(f);
}

/* --- clients that do it by hand --------------------------------------------------------------------- */

static int dial(struct fixture *f, const char *request)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	return fd;
}

static void expect_answer(int fd, const char *want)
{
	char buf[4096];
	size_t n = 0;
	ssize_t k;

	while (n < sizeof(buf) - 1 && (k = recv(fd, buf + n, sizeof(buf) - 1 - n, 0)) > 0) {
		n += (size_t)k;
		buf[n] = '\0';
		if (strstr(buf, want))
			return;
	}
	buf[n] = '\0';
	fail_msg("no \"%s\" in: %s", want, buf);
}

#define POST "POST /mno/v1/import?format=prometheus-text HTTP/1.1\r\nHost: mno\r\n"

static void test_too_many(void **state)
{
	struct fixture *f = *state;
	int fd[5];

	for (int i = 0; i < 5; i++) {
		fd[i] = dial(f, POST "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
		expect_answer(fd[i], i < 4 ? "HTTP/1.1 100" : "HTTP/1.1 503");
	}
	for (int i = 0; i < 5; i++)
		close(fd[i]);
	expect_free(f);
}

/* Leaves in the middle: what came as whole pieces may be stored, the agent goes on. */
static void test_leaves(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 20; i++) {
		_cleanup_buf_ struct mno_buf b = {0};
		int fd = dial(f, POST "Content-Length: 100000000\r\n\r\n");

		for (int k = 0; k < 20000; k++)
			mno_buf_addf(&b, "m{i=\"%d\"} 1 %lld\n", k, (long long)f->t0 + i);
		/* it may have been refused already: the others have not all left */
		for (size_t n = 0; n < b.len / 20 * (size_t)i; n += 4096)
			if (send(fd, b.data + n, 4096, MSG_NOSIGNAL) < 0)
				break;
		close(fd);
	}
	expect_free(f);
}

/* Ends while uploads are in every state. */
static void test_stop(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct mno_buf b = {0};
	int fd[3];

	for (int k = 0; k < 20000; k++)
		mno_buf_addf(&b, "m{i=\"%d\"} 1 %lld\n", k, (long long)f->t0);
	for (int i = 0; i < 3; i++) {
		fd[i] = dial(f, POST "Content-Length: 100000000\r\n\r\n");
		assert_true(send(fd[i], b.data, b.len / 3 * (size_t)i, MSG_NOSIGNAL) >= 0);
	}
	f->api = mno_api_stop(f->api);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_large),
		CASE(test_refused),
		CASE(test_default_time),
		CASE(test_formats),
		CASE(test_error_then_more),
		cmocka_unit_test_setup_teardown(test_full_disk, set_up_full_disk, tear_down),
		CASE(test_reader_fails),
		CASE(test_too_many),
		CASE(test_leaves),
		CASE(test_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
