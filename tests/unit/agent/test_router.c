/* SPDX-License-Identifier: Apache-2.0 */
/* Hand-made records through router and writer: what reaches ledger, store and subscribers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "memory/memory_wire.h"
#include "mno/time.h"
#include "proc/proc_wire.h"
#include "router.h"
#include "tmpstate.h"

#define PROBE_PROC 0

struct parts {
	struct tmpstate tmp;
	struct mno_store *env;
	struct mno_series *series;
	struct mno_ledger *ledger;
	struct mno_hub *hub;
	struct mno_writer *writer;
	struct mno_router *router;
	int64_t offset;
};

static int start(void **state)
{
	struct parts *p = calloc(1, sizeof(*p));
	struct mno_ledger_opts lo = {.sz = sizeof(lo)};
	struct mno_writer_opts wo = {.sz = sizeof(wo)};
	struct mno_router_opts ro = {.sz = sizeof(ro)};

	tmpstate_new(&p->tmp);
	p->offset = ro.boot_offset_ns = lo.boot_offset_ns = mno_boot_offset_ns();
	assert_int_equal(mno_store_open(p->tmp.dir, NULL, &p->env), 0);
	assert_int_equal(mno_series_open(p->env, &p->series), 0);
	assert_int_equal(mno_ledger_new(&lo, &p->ledger), 0);
	assert_int_equal(mno_hub_new(&p->hub), 0);
	wo.env = p->env;
	wo.series = p->series;
	wo.ledger = ro.ledger = p->ledger;
	assert_int_equal(mno_writer_new(&wo, &p->writer), 0);
	ro.hub = p->hub;
	ro.writer = p->writer;
	assert_int_equal(mno_router_new(&ro, &p->router), 0);
	*state = p;
	return 0;
}

static int stop(void **state)
{
	struct parts *p = *state;

	mno_router_free(p->router);
	mno_writer_stop(p->writer);
	mno_hub_free(p->hub);
	mno_ledger_free(p->ledger);
	mno_series_close(p->series);
	mno_store_close(p->env);
	tmpstate_done(&p->tmp);
	free(p);
	return 0;
}

static void fill(struct mno_hdr *h, struct mno_proc_id *id, uint16_t kind, uint32_t size)
{
	*h = (struct mno_hdr){.size = size,
		.kind = kind,
		.version = MNO_WIRE_VERSION,
		.ktime = mno_now_ns(CLOCK_BOOTTIME)};
	*id = (struct mno_proc_id){
		.start_boottime = 1000, .pid = 42, .ppid = 7, .uid = 33, .cgroup_id = 1};
	memcpy(id->comm, "worker", 7);
}

static void send_life(struct parts *p, uint32_t code)
{
	struct mno_proc_fork f;
	struct mno_proc_exit x = {.cpu_ns = 123, .code = code};

	fill(&f.hdr, &f.id, MNO_PROC_FORK, sizeof(f));
	mno_router_record(p->router, PROBE_PROC, &f, sizeof(f));
	fill(&x.hdr, &x.id, MNO_PROC_EXIT, sizeof(x));
	mno_router_record(p->router, PROBE_PROC, &x, sizeof(x));
}

static int keep_row(void *arg, const struct mno_proc *row)
{
	struct mno_proc *kept = arg;

	*kept = *row;
	kept->exe = kept->cgroup = kept->argv = kept->mem = NULL;
	return 0;
}

static int count_record(void *arg, const void *rec, size_t len)
{
	++*(unsigned *)arg;
	return 0;
}

static void a_life_is_stored(void **state)
{
	struct parts *p = *state;
	struct mno_proc row = {0};
	struct mno_writer_stat st;
	unsigned records = 0;

	send_life(p, 3 << 8);
	mno_router_flush(p->router, NULL);
	assert_int_equal(mno_writer_flush(p->writer), 0);
	mno_writer_stat(p->writer, &st);
	assert_int_equal(st.events_stored, 2);
	assert_int_equal(st.procs_stored, 1);
	assert_int_equal(mno_ledger_read(p->env, 0, UINT64_MAX, keep_row, &row), 0);
	assert_int_equal(row.pid, 42);
	assert_int_equal(row.exit_code, 3);
	assert_int_equal(row.cpu_ns, 123);
	assert_int_equal(mno_events_read(p->env, 0, UINT64_MAX, count_record, &records), 0);
	assert_int_equal(records, 2);
}

static void a_victim_of_the_oom_killer_is_marked(void **state)
{
	struct parts *p = *state;
	struct mno_proc row = {0};
	struct memory_oom o = {.pid = 42};

	o.hdr = (struct mno_hdr){.size = sizeof(o),
		.kind = MEMORY_OOM_KILL,
		.version = MEMORY_VERSION,
		.ktime = mno_now_ns(CLOCK_BOOTTIME)};
	mno_router_record(p->router, 5, &o, sizeof(o));
	send_life(p, 9);
	mno_router_flush(p->router, NULL);
	assert_int_equal(mno_writer_flush(p->writer), 0);
	assert_int_equal(mno_ledger_read(p->env, 0, UINT64_MAX, keep_row, &row), 0);
	assert_int_equal(row.exit_signal, 9);
	assert_true(row.flags & MNO_PROC_OOM);
}

static void seeds_are_not_events(void **state)
{
	struct parts *p = *state;
	struct mno_ledger_stat ls;
	struct mno_writer_stat st;
	struct mno_proc_exec e = {0};

	fill(&e.hdr, &e.id, MNO_PROC_SEED, sizeof(e));
	mno_router_record(p->router, PROBE_PROC, &e, sizeof(e));
	mno_router_flush(p->router, NULL);
	assert_int_equal(mno_writer_flush(p->writer), 0);
	mno_writer_stat(p->writer, &st);
	mno_ledger_stat(p->ledger, &ls);
	assert_int_equal(st.events_stored, 0);
	assert_int_equal(ls.live, 1);
}

static void malformed_records_change_nothing(void **state)
{
	struct parts *p = *state;
	struct mno_ledger_stat ls;
	struct mno_writer_stat st;
	struct mno_proc_fork f;

	fill(&f.hdr, &f.id, MNO_PROC_FORK, sizeof(f));
	mno_router_record(p->router, PROBE_PROC, &f, sizeof(f) - 8);
	f.hdr.kind = 0x7f01;
	mno_router_record(p->router, PROBE_PROC, &f, sizeof(f));
	fill(&f.hdr, &f.id, MNO_PROC_FORK, 16);
	mno_router_record(p->router, PROBE_PROC, &f, sizeof(f));
	mno_router_record(p->router, 9999, &f, sizeof(f));
	assert_int_equal(mno_writer_flush(p->writer), 0);
	mno_writer_stat(p->writer, &st);
	mno_ledger_stat(p->ledger, &ls);
	assert_int_equal(st.events_stored, 0);
	assert_int_equal(ls.live, 0);
}

static void subscribers_get_what_they_asked_for(void **state)
{
	static const uint16_t kinds[] = {MNO_PROC_EXIT};
	_cleanup_buf_ struct mno_buf rec = {0};
	struct parts *p = *state;
	struct mno_sub *sub;
	uint64_t lost = 7;

	assert_int_equal(mno_hub_subscribe(p->hub, kinds, 1, NULL, NULL, &sub), 0);
	send_life(p, 0);
	assert_int_equal(mno_hub_next(sub, &rec, &lost), 0);
	assert_int_equal(((struct mno_hdr *)rec.data)->kind, MNO_PROC_EXIT);
	assert_int_equal(lost, 0);
	assert_true(mno_hub_next(sub, &rec, &lost) < 0);
	mno_hub_unsubscribe(sub);
}

static struct mno_row *make_row(int64_t t_ms, const char *key, double v)
{
	struct mno_row *row = calloc(1, sizeof(*row) + sizeof(row->cells[0]));

	row->t_ms = t_ms;
	row->n = 1;
	row->cells[0] = (struct mno_row_cell){.slot = 3, .gen = 1, .value = v};
	row->cells[0].key = key ? strdup(key) : NULL;
	return row;
}

static void rows_become_samples(void **state)
{
	struct parts *p = *state;
	int64_t now = mno_now_ms();
	struct mno_series_stat ss;
	struct mno_writer_stat st;

	assert_false(mno_writer_knows(p->writer, 3, 1));
	assert_int_equal(mno_writer_row(p->writer, make_row(now, "up{job=\"x\"}", 1)), 0);
	assert_true(mno_writer_knows(p->writer, 3, 1));
	assert_false(mno_writer_knows(p->writer, 3, 2));
	assert_int_equal(mno_writer_flush(p->writer), 0);
	assert_int_equal(mno_writer_row(p->writer, make_row(now + 1000, NULL, 2)), 0);
	assert_int_equal(mno_writer_row(p->writer, make_row(now - 5000, NULL, 3)), 0);
	assert_int_equal(mno_writer_flush(p->writer), 0);
	mno_series_stat(p->series, &ss);
	mno_writer_stat(p->writer, &st);
	assert_int_equal(ss.samples, 3); /* the clock went back: a late sample */
	assert_int_equal(st.rows_stored, 3);
	assert_int_equal(st.rows_lost, 0);
	assert_int_equal(st.last_error, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_life_is_stored, start, stop),
		cmocka_unit_test_setup_teardown(a_victim_of_the_oom_killer_is_marked, start, stop),
		cmocka_unit_test_setup_teardown(seeds_are_not_events, start, stop),
		cmocka_unit_test_setup_teardown(malformed_records_change_nothing, start, stop),
		cmocka_unit_test_setup_teardown(subscribers_get_what_they_asked_for, start, stop),
		cmocka_unit_test_setup_teardown(rows_become_samples, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
