/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor on the live kernel: every way to attach is tried, and what it says fits together. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <json-c/json.h>

#include "doctor/doctor_private.h"
#include "mno/time.h"

static json_object *get(json_object *o, const char *key)
{
	json_object *v = NULL;

	assert_true(json_object_object_get_ex(o, key, &v));
	return v;
}

static json_object *report(struct mno_doctor *d)
{
	_cleanup_buf_ struct mno_buf b = {0};
	struct mno_json j;
	json_object *o;

	mno_json_init(&j, &b);
	mno_json_obj(&j);
	mno_doctor_json(d, &j);
	mno_json_end(&j);
	o = json_tokener_parse(mno_buf_cstr(&b));
	assert_non_null(o);
	return o;
}

/* The whole report: a slow host is asked again. */
static json_object *full_report(struct mno_doctor *d)
{
	json_object *r = report(d);

	for (int i = 0;
		i < 30 && strstr(json_object_get_string(get(r, "level_reason")), "not ended");
		i++) {
		json_object_put(r);
		r = report(d);
	}
	return r;
}

static json_object *row(json_object *rows, const char *key, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		json_object *r = json_object_array_get_idx(rows, i);

		if (!strcmp(json_object_get_string(get(r, key)), name))
			return r;
	}
	return NULL;
}

static bool works(json_object *report, const char *list, const char *key, const char *name)
{
	json_object *r = row(get(report, list), key, name);

	assert_non_null(r);
	return json_object_get_boolean(get(r, "works"));
}

static void test_tries_everything(void **state)
{
	static const char *const types[] = {"tp_btf", "raw_tp", "tracepoint", "fentry", "fexit",
		"kprobe", "uprobe", "perf_event", "iter", "cgroup", "lsm", "fmod_ret", "syscall"};
	const struct mno_doctor_opts o = {.sz = sizeof(o), .delay_ns = 3600 * NS_PER_SEC};
	struct mno_doctor *d = NULL;
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);
	json_object *r;

	assert_int_equal(mno_doctor_new(&o, &d), 0);
	r = full_report(d); /* ends the delay */
	assert_true(mno_now_ns(CLOCK_MONOTONIC) - t0 < 60 * NS_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		json_object *a = row(get(r, "attach"), "type", types[i]);

		assert_non_null(a);
		printf("%-12s %-4s %s\n", types[i],
			json_object_get_boolean(get(a, "works")) ? "yes" : "no",
			json_object_get_string(get(a, "reason")));
		/* a refusal is never without its reason */
		if (!json_object_get_boolean(get(a, "works")))
			assert_true(json_object_get_string_len(get(a, "reason")) > 8);
	}
	printf("level %s: %s (%.0f ms)\n", json_object_get_string(get(r, "level")),
		json_object_get_string(get(r, "level_reason")),
		(double)(mno_now_ns(CLOCK_MONOTONIC) - t0) / 1e6);
	/* a kernel that runs raw tracepoints from root runs these, too, if it has BTF */
	if (works(r, "attach", "type", "raw_tp") &&
		json_object_get_boolean(get(get(r, "host"), "btf")))
		assert_true(works(r, "attach", "type", "tp_btf"));
	assert_true(works(r, "levels", "level", "L4") == works(r, "attach", "type", "lsm"));
	assert_string_equal(json_object_get_string(get(r, "level")), mno_doctor_level(d));
	json_object_put(r);
	assert_null(mno_doctor_free(d));
}

static void test_leaves_nothing_behind(void **state)
{
	struct mno_host h;
	char path[192];

	mno_host_read(&h, NULL);
	if (!*h.cgroup_root)
		skip();
	snprintf(path, sizeof(path), "%s/mno-doctor.%d", h.cgroup_root, getpid());
	assert_int_not_equal(access(path, F_OK), 0);
}

static void test_level_is_the_highest_proven(void **state)
{
	struct mno_trial t[MNO_TRIALS];
	struct mno_host h = {.cgroup_mode = "unified"};
	char why[400];

	mno_trials_init(t, "");
	assert_int_equal(mno_level_of(t), 0);
	t[MNO_TRY_SIGNAL].works = true;
	assert_int_equal(mno_level_of(t), 1);
	t[MNO_TRY_CGROUP].works = true;
	assert_int_equal(mno_level_of(t), 2);
	t[MNO_TRY_LSM].works = true;
	assert_int_equal(mno_level_of(t), 4);
	t[MNO_TRY_LSM].works = false;
	strcpy(h.lsms, "lockdown,yama");
	mno_level_reason(2, t, &h, why, sizeof(why));
	assert_non_null(strstr(why, "bpf is not among"));
}

static void test_without_bpf(void **state)
{
	const struct mno_doctor_opts o = {.sz = sizeof(o), .no_bpf = true};
	struct mno_doctor *d = NULL;
	json_object *r;

	assert_int_equal(mno_doctor_new(&o, &d), 0);
	r = report(d);
	assert_string_equal(json_object_get_string(get(r, "level")), "L0");
	assert_non_null(row(get(r, "findings"), "what", "BPF is switched off"));
	json_object_put(r);
	mno_doctor_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tries_everything),
		cmocka_unit_test(test_leaves_nothing_behind),
		cmocka_unit_test(test_level_is_the_highest_proven),
		cmocka_unit_test(test_without_bpf),
	};

	if (geteuid()) {
		puts("needs root");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
