/* SPDX-License-Identifier: Apache-2.0 */
/* The memory probe's records and user side, made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "mno/err.h"
#include "memory/memory_user.h"
#include "metric_check.h"

static const struct mno_kind *kind_ptrs[] = {&memory_kinds[0]};
static const struct mno_kinds kinds = {kind_ptrs, 1};

struct record {
	struct memory_oom o;
	char tail[MEMORY_CHAIN_MAX];
};

static size_t make_oom(struct record *r)
{
	static const char chain[] = "12:sh\0001:init";

	memset(r, 0, sizeof(*r));
	r->o = (struct memory_oom){
		.hdr = {.kind = MEMORY_OOM_KILL, .version = MEMORY_VERSION, .ktime = 5000},
		.start_ns = 10,
		.cgroup = 3,
		.rss_bytes = 1 << 20,
		.total_vm_bytes = 1 << 21,
		.trigger_start_ns = 20,
		.trigger_cgroup = 4,
		.pid = 99,
		.uid = 1000,
		.score_adj = -500,
		.trigger_pid = 98,
		.comm = "hog",
		.trigger_comm = "cc1",
		.ancestors = {sizeof(r->o), sizeof(chain), 0},
	};
	memcpy(r->tail, chain, sizeof(chain));
	r->o.hdr.size = sizeof(r->o) + sizeof(chain);
	return r->o.hdr.size;
}

static void oom_as_json(void **state)
{
	const struct mno_event_ctx ctx = {.boot_offset_ns = 1000000};
	_cleanup_buf_ struct mno_buf b = {0};
	const struct mno_kind *kd;
	struct mno_json j;
	struct record r;

	assert_int_equal(mno_event_check(&kinds, &r, make_oom(&r), &kd), 0);
	mno_json_init(&j, &b);
	mno_event_json(kd, &r, &ctx, &j);
	assert_string_equal(mno_buf_cstr(&b),
		"{\"kind\":\"oom_kill\",\"time_ns\":1005000,\"cpu\":0,\"seq\":0,\"pid\":99,"
		"\"start_ns\":1000010,\"comm\":\"hog\",\"uid\":1000,\"cgroup\":3,"
		"\"rss_bytes\":1048576,\"total_vm_bytes\":2097152,\"score_adj\":-500,"
		"\"ancestors\":[\"12:sh\",\"1:init\"],"
		"\"trigger_pid\":98,\"trigger_start_ns\":1000020,\"trigger_comm\":\"cc1\","
		"\"trigger_cgroup\":4}");
}

static void bad_records(void **state)
{
	const struct mno_kind *kd = NULL;
	struct record r;
	size_t n = make_oom(&r);

	assert_int_equal(mno_event_check(&kinds, &r, sizeof(r.o) - 1, &kd), -MNO_ETRUNCATED);
	r.o.hdr.size = sizeof(r.o) - 8;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ETRUNCATED);
	make_oom(&r);
	r.o.ancestors.len++; /* past the record's end */
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ECORRUPT);
	make_oom(&r);
	r.o.ancestors.off = 8; /* into the header */
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ECORRUPT);
	make_oom(&r);
	r.o.ancestors.off = r.o.ancestors.len = UINT16_MAX;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ECORRUPT);
	assert_null(kd);
}

static void counters_become_series(void **state)
{
	const struct mno_cgroup slots[] = {{.slot = 7, .gen = 1, .path = "/db"}};
	struct memory_cgroup *cgs = calloc(MEMORY_SLOTS, sizeof(*cgs));
	struct memory_stall stalls[MEMORY_KINDS] = {0};
	struct memory_series s;
	struct mno_metrics *m = NULL;

	assert_non_null(cgs);
	assert_int_equal(mno_metrics_new(1000, &m), 0);
	assert_int_equal(memory_series_init(&s), 0);
	cgs[7] = (struct memory_cgroup){.reclaim_ns = {1000000000, 2500000000},
		.reclaim_count = {1, 2},
		.reclaimed_pages = {32, 64},
		.major_faults = 5,
		.oom_kills = 1};
	stalls[MEMORY_CGROUP].count = 1;
	stalls[MEMORY_CGROUP].ns = 2500000000;
	stalls[MEMORY_CGROUP].hist[mno_hist_index(2500000000)] = 1;
	memory_series_tick(&s, m, (struct mno_cgroup_view){.v = slots, .n = 1}, cgs, stalls);
	assert_metric(m, "mno_cgroup_reclaim_seconds_total{cgroup=\"/db\",shortage=\"host\"}", 1);
	assert_metric(
		m, "mno_cgroup_reclaim_seconds_total{cgroup=\"/db\",shortage=\"cgroup\"}", 2.5);
	assert_metric(m, "mno_cgroup_reclaims_total{cgroup=\"/db\",shortage=\"cgroup\"}", 2);
	assert_metric(m, "mno_cgroup_reclaimed_pages_total{cgroup=\"/db\",shortage=\"host\"}", 32);
	assert_metric(m, "mno_cgroup_major_faults_total{cgroup=\"/db\"}", 5);
	assert_metric(m, "mno_cgroup_oom_kills_total{cgroup=\"/db\"}", 1);
	assert_metric(m, "mno_reclaim_latency_seconds_count{shortage=\"cgroup\"}", 1);
	assert_metric(m, "mno_reclaim_latency_seconds_sum{shortage=\"cgroup\"}", 2.5);
	assert_metric(
		m, "mno_reclaim_latency_seconds_bucket{le=\"1.073741824\",shortage=\"cgroup\"}", 0);
	assert_metric(
		m, "mno_reclaim_latency_seconds_bucket{le=\"4.294967296\",shortage=\"cgroup\"}", 1);
	assert_no_metric(m, "mno_reclaim_latency_seconds_count{shortage=\"host\"}");
	memory_series_done(&s);
	mno_metrics_free(m);
	free(cgs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oom_as_json),
		cmocka_unit_test(bad_records),
		cmocka_unit_test(counters_become_series),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
