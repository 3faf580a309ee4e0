/* SPDX-License-Identifier: Apache-2.0 */
/* The event contract, and the process probe's records made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "mno/err.h"
#include "mno/event.h"
#include "mno_probe.h"
#include "proc/proc_wire.h"

static const struct mno_kind *kind_ptrs[16];
static struct mno_kinds kinds = {.v = kind_ptrs};

static int collect_kinds(void **state)
{
	for (kinds.n = 0; kinds.n < mno_probe_proc.n_kinds; kinds.n++)
		kind_ptrs[kinds.n] = &mno_probe_proc.kinds[kinds.n];
	return 0;
}

struct exec_rec {
	struct mno_proc_exec e;
	char tail[64];
};

static size_t make_exec(struct exec_rec *r)
{
	static const char exe[] = "convert\0bin\0usr", argv[] = "convert\0in \"1\".png\0\xff";

	memset(r, 0, sizeof(*r));
	r->e.hdr = (struct mno_hdr){
		.kind = MNO_PROC_EXEC, .version = MNO_WIRE_VERSION, .ktime = 1000, .seq = 7};
	r->e.id = (struct mno_proc_id){
		.pid = 12, .ppid = 3, .uid = 33, .start_boottime = 900, .cgroup_id = 77};
	memcpy(r->e.id.comm, "convert", 8);
	memcpy(r->tail, exe, sizeof(exe));
	memcpy(r->tail + sizeof(exe), argv, sizeof(argv));
	r->e.exe = (struct mno_var){sizeof(r->e), sizeof(exe), 0};
	r->e.argv = (struct mno_var){sizeof(r->e) + sizeof(exe), sizeof(argv), MNO_VAR_CUT};
	r->e.hdr.size = sizeof(r->e) + sizeof(exe) + sizeof(argv);
	return r->e.hdr.size;
}

static void exec_as_json(void **state)
{
	struct mno_event_ctx ctx = {.boot_offset_ns = 1000000};
	_cleanup_buf_ struct mno_buf b = {0};
	const struct mno_kind *kd;
	struct exec_rec r;
	struct mno_json j;

	assert_int_equal(mno_event_check(&kinds, &r, make_exec(&r), &kd), 0);
	mno_json_init(&j, &b);
	mno_event_json(kd, &r, &ctx, &j);
	assert_string_equal(mno_buf_cstr(&b),
		"{\"kind\":\"exec\",\"time_ns\":1001000,\"cpu\":0,\"seq\":7,\"pid\":12,\"ppid\":3,"
		"\"uid\":33,\"comm\":\"convert\",\"cgroup\":77,\"start_ns\":1000900,"
		"\"parent_start_ns\":1000000,\"exe\":\"/usr/bin/convert\","
		"\"argv\":[\"convert\",\"in \\\"1\\\".png\",\"\xef\xbf\xbd\"],\"argv_cut\":true,"
		"\"file\":\"\"}");
}

static void bad_records_are_refused(void **state)
{
	const struct mno_kind *kd = NULL;
	struct exec_rec r;
	size_t n = make_exec(&r);

	assert_int_equal(mno_event_check(&kinds, &r, 31, &kd), -MNO_ETRUNCATED);
	assert_int_equal(mno_event_check(&kinds, &r, n - 1, &kd), -MNO_ETRUNCATED);
	r.e.hdr.size = 40;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ETRUNCATED);
	make_exec(&r);
	r.e.hdr.kind = 0x7777;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_EUNKNOWN_KIND);
	make_exec(&r);
	r.e.hdr.version = 9;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_EVERSION);
	make_exec(&r);
	r.e.argv.len = 0xfff0;
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ECORRUPT);
	make_exec(&r);
	r.e.exe.off = 8; /* into the header */
	assert_int_equal(mno_event_check(&kinds, &r, n, &kd), -MNO_ECORRUPT);
	assert_null(kd);
}

static void paths_from_components(void **state)
{
	char buf[32];

	assert_int_equal(mno_event_path("c\0b\0a", 6, buf, sizeof(buf)), 6);
	assert_string_equal(buf, "/a/b/c");
	mno_event_path("/usr/bin/x", 10, buf, sizeof(buf));
	assert_string_equal(buf, "/usr/bin/x");
	assert_int_equal(mno_event_path("", 0, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	mno_event_path("cccccccccccc\0bbbbbbbbbbbb\0aaaaaaaaaaaa", 39, buf, sizeof(buf));
	assert_string_equal(buf, "/aaaaaaaaaaaa/bbbbbbbbbbbb");
}

static void every_kind_is_whole(void **state)
{
	_cleanup_buf_ struct mno_buf page = {0};

	for (size_t i = 0; i < kinds.n; i++) {
		const struct mno_kind *k = kinds.v[i];

		assert_int_equal(k->kind >> 8, MNO_PROBE_proc);
		assert_ptr_equal(mno_kind_by_name(&kinds, k->name), k);
		assert_ptr_equal(mno_kind_find(&kinds, k->kind), k);
		for (size_t f = 0; f < k->n_fields; f++) {
			assert_true(k->fields[f].off + k->fields[f].size <= k->size);
			assert_true(*k->fields[f].help);
		}
	}
	mno_kinds_reference(&kinds, &page);
	assert_non_null(strstr(mno_buf_cstr(&page), "rss_peak_bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exec_as_json),
		cmocka_unit_test(bad_records_are_refused),
		cmocka_unit_test(paths_from_components),
		cmocka_unit_test(every_kind_is_whole),
	};

	return cmocka_run_group_tests(tests, collect_kinds, NULL);
}
