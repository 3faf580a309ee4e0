/* SPDX-License-Identifier: Apache-2.0 */
/* The tcp probe's records and user side, made by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "mno/err.h"
#include "tcp/tcp_user.h"
#include "metric_check.h"

static const struct mno_kind *kind_ptrs[TCP_KINDS];
static const struct mno_kinds kinds = {kind_ptrs, TCP_KINDS};

static int collect_kinds(void **state)
{
	for (size_t i = 0; i < TCP_KINDS; i++)
		kind_ptrs[i] = &tcp_kinds[i];
	return 0;
}

static void make_close(struct tcp_event *e)
{
	*e = (struct tcp_event){.hdr = {.size = sizeof(*e),
					.kind = TCP_CLOSE,
					.version = TCP_VERSION,
					.ktime = 5000,
					.seq = 9,
					.cpu = 1},
		.pid_start_ns = 100,
		.cgroup = 42,
		.duration_ns = 3000,
		.pid = 77,
		.error = ECONNRESET,
		.direction = TCP_DIR_IN,
		.local_port = 443,
		.peer_port = 50000,
		.local_ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1},
		.peer_ip = {[0] = 0x20, [1] = 0x01, [2] = 0x0d, [3] = 0xb8, [15] = 7},
		.comm = "nginx",
		.bytes_in = 1ull << 40,
		.bytes_out = 12,
		.srtt_us = 250,
		.retransmits = 3,
		.reason = TCP_END_RESET};
}

static const char *json_of(const void *rec, size_t len, struct mno_buf *b)
{
	const struct mno_event_ctx ctx = {.boot_offset_ns = 1000000};
	const struct mno_kind *kd;
	struct mno_json j;

	assert_int_equal(mno_event_check(&kinds, rec, len, &kd), 0);
	mno_buf_reset(b);
	mno_json_init(&j, b);
	mno_event_json(kd, rec, &ctx, &j);
	return mno_buf_cstr(b);
}

static void close_as_json(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct tcp_event e;

	make_close(&e);
	assert_string_equal(json_of(&e, sizeof(e), &b),
		"{\"kind\":\"close\",\"time_ns\":1005000,\"cpu\":1,\"seq\":9,\"pid\":77,"
		"\"start_ns\":1000100,\"comm\":\"nginx\",\"cgroup\":42,"
		"\"local_ip\":\"10.0.0.1\",\"local_port\":443,"
		"\"peer_ip\":\"2001:db8::7\",\"peer_port\":50000,\"direction\":\"in\","
		"\"duration_ns\":3000,\"bytes_in\":1099511627776,\"bytes_out\":12,"
		"\"srtt_us\":250,\"retransmits\":3,\"reason\":\"reset_by_peer\",\"error\":104}");
}

static void connect_as_json(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct tcp_event e;

	make_close(&e);
	e.hdr.kind = TCP_CONNECT;
	e.hdr.size = TCP_OPEN_SIZE;
	e.error = ECONNREFUSED;
	assert_string_equal(json_of(&e, TCP_OPEN_SIZE, &b),
		"{\"kind\":\"connect\",\"time_ns\":1005000,\"cpu\":1,\"seq\":9,\"pid\":77,"
		"\"start_ns\":1000100,\"comm\":\"nginx\",\"cgroup\":42,"
		"\"local_ip\":\"10.0.0.1\",\"local_port\":443,"
		"\"peer_ip\":\"2001:db8::7\",\"peer_port\":50000,\"latency_ns\":3000,"
		"\"error\":111}");
	e.hdr.kind = TCP_ACCEPT;
	assert_null(strstr(json_of(&e, TCP_OPEN_SIZE, &b), "error"));
}

static void bad_records(void **state)
{
	const struct mno_kind *kd = NULL;
	struct tcp_event e;

	make_close(&e);
	assert_int_equal(mno_event_check(&kinds, &e, sizeof(e) - 1, &kd), -MNO_ETRUNCATED);
	e.hdr.size = TCP_OPEN_SIZE; /* a close as short as a connect */
	assert_int_equal(mno_event_check(&kinds, &e, sizeof(e), &kd), -MNO_ETRUNCATED);
	make_close(&e);
	e.hdr.version++;
	assert_int_equal(mno_event_check(&kinds, &e, sizeof(e), &kd), -MNO_EVERSION);
	make_close(&e);
	e.hdr.kind = TCP_CLOSE + 1;
	assert_int_equal(mno_event_check(&kinds, &e, sizeof(e), &kd), -MNO_EUNKNOWN_KIND);
	assert_null(kd);
}

/* Numbers that no name stands for, and a name full of what a terminal takes for commands. */
static void odd_values(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	const char *text;
	struct tcp_event e;

	make_close(&e);
	e.direction = 99;
	e.reason = ~0u;
	memcpy(e.comm, "\x1b[2J\xff\"\\abcdefgh", 16); /* not terminated */
	text = json_of(&e, sizeof(e), &b);
	assert_non_null(strstr(text, "\\u001b[2J"));
	assert_non_null(strstr(text, "\\\"\\\\abcdefg"));
	assert_null(strchr(text, '\x1b'));
	assert_non_null(strstr(text, "\"direction\":"));
	assert_int_equal(text[strlen(text) - 1], '}');
}

/* Every reason and direction that the kernel side can send has a name. */
static void names_are_complete(void **state)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct tcp_event e;

	for (uint32_t i = 0; i < TCP_REASONS; i++) {
		make_close(&e);
		e.reason = i;
		e.direction = i % (TCP_DIR_IN + 1);
		assert_null(strstr(json_of(&e, sizeof(e), &b), "\"reason\":null"));
		assert_non_null(strstr(mno_buf_cstr(&b), "\"reason\":\""));
		assert_non_null(strstr(mno_buf_cstr(&b), "\"direction\":\""));
	}
}

static void counters_become_series(void **state)
{
	const struct mno_cgroup slots[] = {
		{.slot = 0, .gen = 1, .path = "~other"}, {.slot = 255, .gen = 3, .path = "/web"}};
	struct tcp_cgroup *cgs = calloc(TCP_SLOTS, sizeof(*cgs));
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_table *table = NULL;
	struct mno_metrics *m = NULL;
	struct mno_json j;

	assert_non_null(cgs);
	assert_int_equal(mno_metrics_new(1000, &m), 0);
	assert_int_equal(tcp_series_new(&table), 0);
	cgs[255] = (struct tcp_cgroup){.connects = 2,
		.accepts = 3,
		.failures = 1,

		.bytes_in = 100,
		.bytes_out = 200,
		.retransmits = 4,

		.connect_ns = 3000000,
		.rtt_count = 1,
		.rtt_ns = 500000};
	cgs[255].connect[mno_hist_index(1000000)]++;
	cgs[255].connect[mno_hist_index(2000000)]++;
	cgs[255].rtt[mno_hist_index(500000)]++;
	tcp_series_tick(table, m, (struct mno_cgroup_view){.v = slots, .n = 2}, cgs);
	assert_metric(m, "mno_cgroup_tcp_connections_total{cgroup=\"/web\",direction=\"out\"}", 2);
	assert_metric(m, "mno_cgroup_tcp_connections_total{cgroup=\"/web\",direction=\"in\"}", 3);
	assert_metric(m, "mno_cgroup_tcp_connect_failures_total{cgroup=\"/web\"}", 1);
	assert_metric(m, "mno_cgroup_tcp_bytes_total{cgroup=\"/web\",direction=\"in\"}", 100);
	assert_metric(m, "mno_cgroup_tcp_bytes_total{cgroup=\"/web\",direction=\"out\"}", 200);
	assert_metric(m, "mno_cgroup_tcp_retransmits_total{cgroup=\"/web\"}", 4);
	assert_metric(m, "mno_cgroup_tcp_connect_seconds_sum{cgroup=\"/web\"}", 0.003);
	assert_metric(m, "mno_cgroup_tcp_connect_seconds_count{cgroup=\"/web\"}", 2);
	assert_metric(m, "mno_cgroup_tcp_rtt_seconds_count{cgroup=\"/web\"}", 1);
	assert_metric(m, "mno_cgroup_tcp_rtt_seconds_sum{cgroup=\"/web\"}", 0.0005);
	assert_no_metric(m, "mno_cgroup_tcp_retransmits_total{cgroup=\"~other\"}");
	mno_json_init(&j, &b);
	mno_json_obj(&j);
	tcp_series_snapshot(table, &j);
	mno_json_end(&j);
	assert_non_null(strstr(mno_buf_cstr(&b), "\"path\":\"/web\",\"tcp_p50_seconds\":0.000"));
	mno_table_free(table);
	mno_metrics_free(m);
	free(cgs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(close_as_json),
		cmocka_unit_test(connect_as_json),
		cmocka_unit_test(bad_records),
		cmocka_unit_test(odd_values),
		cmocka_unit_test(names_are_complete),
		cmocka_unit_test(counters_become_series),
	};

	return cmocka_run_group_tests(tests, collect_kinds, NULL);
}
