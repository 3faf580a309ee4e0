/* SPDX-License-Identifier: Apache-2.0 */
/* What the doctor makes of made-up hosts: no kernel, no root. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "doctor/doctor_private.h"

static void test_mounts(void **state)
{
	struct mno_host h = {.cgroup_mode = "none"};

	mno_host_mounts(&h, "sysfs /sys sysfs rw 0 0\n"
			    "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
			    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
			    "cgroup2 /mnt/second cgroup2 rw 0 0\n"
			    "bpf /sys/fs/bpf bpf rw 0 0\n"
			    "tracefs /sys/kernel/tracing tracefs rw 0 0\n");
	assert_string_equal(h.cgroup_mode, "hybrid");
	assert_string_equal(h.cgroup_root, "/sys/fs/cgroup/unified");
	assert_string_equal(h.bpffs, "/sys/fs/bpf");
	assert_string_equal(h.tracefs, "/sys/kernel/tracing");

	h = (struct mno_host){0};
	mno_host_mounts(&h, "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0");
	assert_string_equal(h.cgroup_mode, "unified");
	h = (struct mno_host){0};
	mno_host_mounts(&h, "cgroup /c cgroup rw 0 0\n");
	assert_string_equal(h.cgroup_mode, "v1");
	h = (struct mno_host){0};
	mno_host_mounts(&h, "garbage\n\n   \nonly two\n");
	assert_string_equal(h.cgroup_mode, "none");
	assert_string_equal(h.cgroup_root, "");
}

/* A name as long as the kernel allows must not run over the field that holds it. */
static void test_long_mount_point(void **state)
{
	struct mno_host h = {0};
	char line[5000];

	memset(line, 'x', sizeof(line));
	memcpy(line, "bpf /", 5);
	strcpy(line + 4500, " bpf rw 0 0\n");
	mno_host_mounts(&h, line);
	assert_string_equal(h.bpffs, "");
}

static void test_words(void **state)
{
	char out[8];

	assert_true(mno_host_bracketed("none [integrity] confidentiality", out, sizeof(out)));
	assert_string_equal(out, "integri"); /* cut, terminated */
	assert_false(mno_host_bracketed("none integrity", out, sizeof(out)));
	assert_false(mno_host_bracketed("none [integrity", out, sizeof(out)));
	assert_true(mno_host_listed("lockdown,capability,bpf", "bpf", ','));
	assert_true(mno_host_listed("bpf", "bpf", ','));
	assert_false(mno_host_listed("lockdown,bpfx", "bpf", ','));
	assert_false(mno_host_listed("", "bpf", ','));
}

struct seen {
	char text[4096];
	int errors, warnings;
};
static void note(
	void *arg, const char *severity, const char *what, const char *why, const char *todo)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	assert_true(*what && *why && *todo);
	snprintf(s->text + n, sizeof(s->text) - n, "%s|%s|%s|%s\n", severity, what, why, todo);
	s->errors += !strcmp(severity, "error");
	s->warnings += !strcmp(severity, "warn");
}

static struct mno_host good_host(void)
{
	return (struct mno_host){.btf = true,
		.lockdown = "none",
		.lsms = "lockdown,capability,bpf",
		.cgroup_mode = "unified",
		.cgroup_root = "/sys/fs/cgroup",
		.controllers = "cpuset cpu io memory pids",
		.bpffs = "/sys/fs/bpf",
		.tracefs = "/sys/kernel/tracing"};
}

static void test_good_host(void **state)
{
	struct mno_trial t[MNO_TRIALS];
	struct mno_host h = good_host();
	struct seen s = {0};

	mno_trials_init(t, "fine");
	for (size_t i = 0; i < MNO_TRIALS; i++)
		t[i].works = true;
	mno_findings(&h, t, false, note, &s);
	assert_int_equal(s.errors, 0);
	assert_null(strstr(s.text, "LSM"));
	assert_null(strstr(s.text, "cgroup"));
	assert_int_equal(mno_level_of(t), 4);
}

/* The trap: an LSM program loads and attaches, and is never called. */
static void test_bpf_not_an_lsm(void **state)
{
	struct mno_trial t[MNO_TRIALS];
	struct mno_host h = good_host();
	struct seen s = {0};
	char why[400];

	mno_trials_init(t, "");
	for (size_t i = 0; i < MNO_TRIALS; i++)
		t[i].works = i != MNO_TRY_LSM;
	strcpy(t[MNO_TRY_LSM].reason, "it loads and attaches, but is never called");
	strcpy(h.lsms, "lockdown,yama");
	mno_findings(&h, t, false, note, &s);
	assert_non_null(strstr(s.text, "warn|LSM programs load but never run"));
	assert_non_null(strstr(s.text, "lsm=lockdown,yama,bpf"));
	assert_int_equal(mno_level_of(t), 3);
	mno_level_reason(3, t, &h, why, sizeof(why));
	assert_non_null(strstr(why, "bpf is not among"));
}

static void test_degraded_hosts(void **state)
{
	struct mno_trial t[MNO_TRIALS];
	struct mno_host h = good_host();
	struct seen s = {0};

	mno_trials_init(t, "the kernel refuses");
	strcpy(h.lockdown, "confidentiality");
	strcpy(h.controllers, "hugetlb");
	h.cgroup_mode = "hybrid";
	h.btf = false;
	*h.bpffs = '\0';
	mno_findings(&h, t, false, note, &s);
	assert_non_null(strstr(s.text, "error|the kernel has no BTF"));
	assert_non_null(strstr(s.text, "warn|kernel lockdown is confidentiality"));
	assert_non_null(strstr(s.text, "cpu, memory, io, pids: not in the v2 tree"));
	assert_non_null(strstr(s.text, "/sys/fs/bpf is not mounted"));

	s = (struct seen){0};
	*h.cgroup_root = '\0';
	mno_findings(&h, t, true, note, &s);
	assert_non_null(strstr(s.text, "no cgroup v2 tree"));
	assert_non_null(strstr(s.text, "--no-bpf"));
	assert_null(strstr(s.text, "BTF"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_long_mount_point),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_good_host),
		cmocka_unit_test(test_bpf_not_an_lsm),
		cmocka_unit_test(test_degraded_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
