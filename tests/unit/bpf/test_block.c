/* SPDX-License-Identifier: Apache-2.0 */
/* The block probe's user side, fed with values made by hand; and the table of rows below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "block/block_user.h"
#include "metric_check.h"

#define OPS           "{device=\"~other\",op=\"read\"}"
#define BUCKET(n, le) n "_bucket{device=\"~other\",le=\"" le "\",op=\"read\"}"
#define LATENCY(le)   BUCKET("mno_block_latency_seconds", le)
#define SIZE(le)      BUCKET("mno_block_size_bytes", le)

struct state {
	struct mno_metrics *m;
	struct block_series series;
	struct block_device_row devs[BLOCK_ROWS];
	struct block_cgroup cgs[BLOCK_SLOTS];
	struct mno_cgroup slots[4];
	size_t n;
	const uint32_t *retired;
	size_t n_retired;
};

static int setup(void **state)
{
	struct state *s = calloc(1, sizeof(*s));

	if (!s || mno_metrics_new(4096, &s->m) || block_series_init(&s->series))
		return -1;
	s->slots[0] = (struct mno_cgroup){.slot = 0, .gen = 1, .path = "~other"};
	s->slots[1] = (struct mno_cgroup){.slot = 5, .gen = 1, .path = "/a"};
	s->n = 2;
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct state *s = *state;

	block_series_done(&s->series);
	mno_metrics_free(s->m);
	free(s);
	return 0;
}

static void run_tick(struct state *s)
{
	const struct mno_cgroup_view view = {
		.v = s->slots, .n = s->n, .retired = s->retired, .n_retired = s->n_retired};

	block_series_tick(&s->series, s->m, view, s->devs, s->cgs);
}

static void add(struct block_stat *b, uint64_t ns, uint32_t bytes)
{
	b->count++;
	b->bytes += bytes;
	b->latency_ns += ns;
	b->latency[mno_hist_index(ns)]++;
	b->size[mno_hist_index(bytes ? bytes - 1 : 0)]++;
}

static void add_cgroup(struct block_cgroup *c, uint64_t ns)
{
	c->count++;
	c->latency_ns += ns;
	c->latency[mno_hist_index(ns)]++;
}

static void nothing_happened(void **state)
{
	struct state *s = *state;

	run_tick(s);
	assert_int_equal(mno_metrics_count(s->m), 0);
}

static void device_histogram(void **state)
{
	struct state *s = *state;
	struct block_stat *b = &s->devs[BLOCK_OTHER].op[BLOCK_READ];

	add(b, 10000, 4096);
	add(b, 20000, 4096);
	add(b, 2000000, 65536);
	b->queue_ns = 500000000;
	run_tick(s);
	assert_metric(s->m, LATENCY("0.000016384"), 1);
	assert_metric(s->m, LATENCY("0.000065536"), 2);
	assert_metric(s->m, LATENCY("0.001048576"), 2);
	assert_metric(s->m, LATENCY("0.004194304"), 3);
	assert_metric(s->m, LATENCY("+Inf"), 3);
	assert_metric(s->m, "mno_block_latency_seconds_count" OPS, 3);
	assert_metric(s->m, "mno_block_latency_seconds_sum" OPS, 0.00203);
	assert_metric(s->m, SIZE("4096"), 2);
	assert_metric(s->m, SIZE("65536"), 3);
	assert_metric(s->m, "mno_block_size_bytes_sum" OPS, 2 * 4096 + 65536);
	assert_metric(s->m, "mno_block_bytes_total" OPS, 2 * 4096 + 65536);
	assert_metric(s->m, "mno_block_queue_seconds_total" OPS, 0.5);
	assert_no_metric(s->m, "mno_block_errors_total" OPS);
	/* more of the same, and the first error */
	add(b, 10000, 4096);
	b->errors++;
	run_tick(s);
	assert_metric(s->m, LATENCY("0.000016384"), 2);
	assert_metric(s->m, "mno_block_latency_seconds_count" OPS, 4);
	assert_metric(s->m, "mno_block_errors_total" OPS, 1);
	/* a tick without news still has the values */
	mno_metrics_tick(s->m, NULL, NULL);
	run_tick(s);
	assert_true(metric_tick(s->m, "mno_block_latency_seconds_count" OPS) == 4);
}

/* le is inclusive in Prometheus: what equals a bound's bucket edge belongs above it */
static void values_at_the_bounds(void **state)
{
	struct state *s = *state;
	struct block_stat *b = &s->devs[BLOCK_OTHER].op[BLOCK_READ];

	add(b, (1 << 14) - 1, 0);
	add(b, 1 << 14, 0);
	add(b, ~0ull >> 1, 0);
	run_tick(s);
	assert_metric(s->m, LATENCY("0.000016384"), 1);
	assert_metric(s->m, LATENCY("0.000065536"), 2);
	assert_metric(s->m, LATENCY("4.294967296"), 2);
	assert_metric(s->m, LATENCY("+Inf"), 3);
}

static void device_names(void **state)
{
	char dir[] = "/tmp/mno-block-XXXXXX", link[64], name[8];

	assert_non_null(mkdtemp(dir));
	snprintf(link, sizeof(link), "%s/254:16", dir);
	assert_int_equal(symlink("../../devices/virtio/block/vdb", link), 0);
	block_device_name(dir, BLOCK_KEY(254, 16), name, sizeof(name));
	assert_string_equal(name, "vdb");
	block_device_name(dir, BLOCK_KEY(7, 1048575), name, sizeof(name));
	assert_string_equal(name, "7:10485"); /* cut, never past the end */
	unlink(link);
	assert_int_equal(symlink("nothing/", link), 0);
	block_device_name(dir, BLOCK_KEY(254, 16), name, sizeof(name));
	assert_string_equal(name, "254:16");
	unlink(link);
	rmdir(dir);
	assert_int_not_equal(BLOCK_KEY(0, 0), 0);
}

/* A device that has no name in this machine's /sys gets its numbers. */
static void device_row(void **state)
{
	struct state *s = *state;

	s->devs[3].key = BLOCK_KEY(2047, 77);
	add(&s->devs[3].op[BLOCK_FLUSH], 1000, 0);
	add(&s->devs[4].op[BLOCK_WRITE], 1000, 0); /* no key: nobody's */
	run_tick(s);
	assert_metric(s->m, "mno_block_latency_seconds_count{device=\"2047:77\",op=\"flush\"}", 1);
	assert_no_metric(s->m, "mno_block_latency_seconds_count{device=\"2047:77\",op=\"write\"}");
}

static void cgroup_rows(void **state)
{
	struct state *s = *state;
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_json j;

	for (int i = 0; i < 100; i++)
		add_cgroup(&s->cgs[5], 1000000);
	add_cgroup(&s->cgs[5], 50000000);
	add_cgroup(&s->cgs[6], 1000); /* a slot in nobody's use */
	run_tick(s);
	assert_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/a\"}", 101);
	assert_no_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"~other\"}");
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	block_series_snapshot(&s->series, &j);
	mno_json_end(&j);
	assert_non_null(strstr(
		mno_buf_cstr(&out), "{\"cgroups\":[{\"path\":\"/a\",\"block_p50_seconds\":0.00"));
	assert_non_null(strstr(mno_buf_cstr(&out), "\"block_count\":101}]}"));
	/* nothing new: nothing to show */
	run_tick(s);
	mno_buf_reset(&out);
	mno_json_init(&j, &out);
	mno_json_obj(&j);
	block_series_snapshot(&s->series, &j);
	mno_json_end(&j);
	assert_string_equal(mno_buf_cstr(&out), "{\"cgroups\":[]}");
}

/* The slot goes to another cgroup: its series begin at 0, the old ones are gone. */
static void slot_changes_hands(void **state)
{
	struct state *s = *state;

	add_cgroup(&s->cgs[5], 1000000);
	add_cgroup(&s->cgs[5], 1000000);
	s->cgs[5].bytes = 512;
	run_tick(s);
	s->slots[1] = (struct mno_cgroup){.slot = 5, .gen = 2, .path = "/b"};
	run_tick(s);
	assert_no_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/a\"}");
	assert_no_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/b\"}");
	assert_no_metric(s->m, "mno_cgroup_block_bytes_total{cgroup=\"/b\"}");
	add_cgroup(&s->cgs[5], 3000);
	s->cgs[5].bytes += 100;
	run_tick(s);
	assert_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/b\"}", 1);
	assert_metric(s->m, "mno_cgroup_block_latency_seconds_sum{cgroup=\"/b\"}", 3e-6);
	assert_metric(s->m,
		"mno_cgroup_block_latency_seconds_bucket{cgroup=\"/b\",le=\"0.000016384\"}", 1);
	assert_metric(s->m, "mno_cgroup_block_bytes_total{cgroup=\"/b\"}", 100);
	/* gone without a successor */
	s->n = 1;
	run_tick(s);
	assert_no_metric(s->m, "mno_cgroup_block_bytes_total{cgroup=\"/b\"}");
}

/* A cgroup that came and went between two ticks left its counts in the slot. */
static void cgroup_came_and_went(void **state)
{
	static const uint32_t slots[] = {5, 100000};
	struct state *s = *state;

	s->n = 1;
	s->retired = slots;
	s->n_retired = 2;
	add_cgroup(&s->cgs[5], 1000000);
	s->cgs[5].bytes = 512;
	run_tick(s);
	assert_int_equal(mno_metrics_count(s->m), 0);
	s->n = 2;
	s->n_retired = 0;
	add_cgroup(&s->cgs[5], 3000);
	s->cgs[5].bytes += 100;
	run_tick(s);
	assert_metric(s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/a\"}", 1);
	assert_metric(s->m, "mno_cgroup_block_latency_seconds_sum{cgroup=\"/a\"}", 3e-6);
	assert_metric(s->m, "mno_cgroup_block_bytes_total{cgroup=\"/a\"}", 100);
}

/* Counters of 32 bits in the buckets wrap; the totals go on. */
static void buckets_wrap(void **state)
{
	struct state *s = *state;
	uint32_t i = mno_hist_index(1000);

	s->cgs[5].count = s->cgs[5].latency[i] = UINT32_MAX - 1;
	run_tick(s);
	s->cgs[5].count += 5;
	s->cgs[5].latency[i] += 5;
	run_tick(s);
	assert_metric(
		s->m, "mno_cgroup_block_latency_seconds_count{cgroup=\"/a\"}", UINT32_MAX + 4.0);
}

static void out_of_range_slots(void **state)
{
	struct state *s = *state;

	s->slots[2] = (struct mno_cgroup){.slot = 100000, .gen = 1, .path = "/far"};
	s->n = 3;
	run_tick(s);
	s->n = 0; /* a host without cgroup v2 */
	run_tick(s);
	assert_int_equal(mno_metrics_count(s->m), 0);
}

/* Metrics are full: all or nothing of a histogram, and no half of it left over. */
static void no_room(void **state)
{
	struct state *s = *state;
	struct mno_metrics *small, *all = s->m;

	assert_int_equal(mno_metrics_new(6, &small), 0);
	s->m = small;
	add_cgroup(&s->cgs[5], 1000);
	run_tick(s);
	assert_int_equal(mno_metrics_count(small), 0);
	s->cgs[5].bytes = 7;
	run_tick(s);
	assert_metric(small, "mno_cgroup_block_bytes_total{cgroup=\"/a\"}", 7);
	mno_metrics_free(small);
	s->m = all;
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(nothing_happened),
		CASE(device_histogram),
		CASE(values_at_the_bounds),
		CASE(device_names),
		CASE(device_row),
		CASE(cgroup_rows),
		CASE(slot_changes_hands),
		CASE(cgroup_came_and_went),
		CASE(buckets_wrap),
		CASE(out_of_range_slots),
		CASE(no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
