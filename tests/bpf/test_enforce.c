/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The enforcing programs with tables made by hand. Each denial is counted over TRIES tries, beside
 * a neighbour that must pass, and must stand in the rule's counter and in a record. Where the
 * kernel takes no LSM program, what is left must say so.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "mno/macro.h"
#include "enforce/enforce.h"
#include "enforce_tables.h"
#include "probe_rig.h"

static struct mno_enforce *e;
static struct mkt t;
static char dir[64];
static char self_exe[512];

static bool has_lsm(void)
{
	return !strcmp(mno_enforce_level(e, NULL), "L4");
}

#define NEED_LSM()                                                                                 \
	do {                                                                                       \
		const char *why;                                                                   \
		mno_enforce_level(e, &why);                                                        \
		if (!has_lsm()) {                                                                  \
			print_message("skipped: %s\n", why);                                       \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static const char *at(const char *name)
{
	static char path[8][512];
	static unsigned n;

	n = (n + 1) % 8;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

static void make_file(const char *name)
{
	int fd = open(at(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

/* In a child of this process that has execed jail: how many of TRIES calls of @what were refused. */
static int refused(const char *exe, const char *what, const char *arg)
{
	char path[512];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s", exe);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl(path, "try", what, arg, NULL);
		_exit(254);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		return -WTERMSIG(status);
	return WEXITSTATUS(status);
}

struct seen {
	size_t n;
	struct mno_e_record last;
};

static void on_record(void *arg, const struct mno_e_record *r)
{
	struct seen *s = arg;

	s->n++;
	s->last = *r;
}

static struct seen records(void)
{
	struct seen s = {};

	assert_true(mno_enforce_records(e, on_record, &s) >= 0);
	return s;
}

static void arm(void)
{
	t.t.generation++;
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_flip(e, 0), 0);
}

#define JAIL  1
#define TRIES 30

/* A domain entered by executing a copy of this program. */
static void begin(void)
{
	mkt_init(&t);
	mkt_enter(&t, 0, mkt_label(&t, at("jail"), true), JAIL);
	(void)records();
}

static void test_hooks(void **state)
{
	const struct mno_enforce_hook *h;
	const char *why;
	size_t n;

	h = mno_enforce_hooks(e, &n);
	assert_true(n > 4);
	print_message("level %s: ", mno_enforce_level(e, &why));
	print_message("%s\n", why);
	for (size_t i = 0; i < n; i++)
		print_message("hook %s %s error %d insns %u\n", h[i].hook, h[i].level, h[i].error,
			h[i].insns);
	/* a program that the verifier does not like is no skip */
	if (!has_lsm())
		assert_true(strstr(why, "not permitted") || strstr(why, "never called"));
}

static void test_inode(void **state)
{
	struct mno_e_stats before = mno_enforce_stats(e);
	struct seen s;
	uint64_t hits;

	NEED_LSM();
	begin();
	mkt_rule(&t, JAIL, mkt_label(&t, at("secret"), true), MNO_E_READ, MNO_E_DENY, 71);
	arm();
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), 0);
	assert_int_equal(refused(at("jail"), "open", at("secret")), TRIES);
	assert_int_equal(refused(self_exe, "open", at("secret")), 0);
	s = records();
	assert_int_equal(s.n, TRIES);
	assert_int_equal(s.last.rule_id, 71);
	assert_int_equal(s.last.generation, t.t.generation);
	assert_int_equal(s.last.domain, JAIL);
	assert_int_equal(s.last.hook, MNO_E_HOOK_FILE_OPEN);
	assert_string_equal(s.last.path, at("secret"));
	assert_int_equal(mno_enforce_hits(e, 1, &hits), 0);
	assert_int_equal(hits, TRIES);
	assert_int_equal(mno_enforce_stats(e).denied - before.denied, TRIES);
	assert_int_equal(mno_enforce_stats(e).lost, before.lost);
	assert_int_equal(refused(at("jail"), "open", at("link-to-secret")), TRIES);
	assert_int_equal(refused(at("jail"), "fork-open", at("secret")), TRIES);
}

static void make_deep(int levels, char *path, size_t size)
{
	int n = snprintf(path, size, "%s", at("tree"));

	for (int i = 0; i < levels; i++) {
		n += snprintf(path + n, size - (size_t)n, "/d");
		(void)mkdir(path, 0700);
	}
	snprintf(path + n, size - (size_t)n, "/f");
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static void test_subtree(void **state)
{
	char deep[1024], beyond[1024];

	NEED_LSM();
	make_deep(100, deep, sizeof(deep));
	make_deep(140, beyond, sizeof(beyond));
	begin();
	mkt_rule(&t, JAIL, mkt_label(&t, at("tree"), false), MNO_E_READ, MNO_E_DENY, 72);
	mkt_unresolved(&t, JAIL, MNO_E_DENY, 73);
	arm();
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), 0);
	assert_int_equal(refused(at("jail"), "open", at("tree/f")), TRIES);
	assert_int_equal(refused(at("jail"), "open", deep), TRIES);
	assert_int_equal(records().last.rule_id, 72);
	/* deeper than the walk: unresolved, never "no label" */
	assert_int_equal(refused(at("jail"), "open", beyond), TRIES);
	assert_int_equal(records().last.rule_id, 73);
	assert_int_equal(records().n, 0);
	/* control: the same with nothing to say of unresolved objects is allowed */
	begin();
	mkt_rule(&t, JAIL, mkt_label(&t, at("tree"), false), MNO_E_READ, MNO_E_DENY, 72);
	arm();
	assert_int_equal(refused(at("jail"), "open", beyond), 0);
	assert_int_equal(refused(at("jail"), "open", deep), TRIES);
}

static int setup(void **state)
{
	struct mno_enforce_opts o = {.cgroup_fd = -1};
	char command[1200];

	mno_rig_need_bpf();
	snprintf(dir, sizeof(dir), "/tmp/mno-enforce-%d", getpid());
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_true(readlink("/proc/self/exe", self_exe, sizeof(self_exe) - 1) > 0);
	snprintf(command, sizeof(command), "cp %s %s", self_exe, at("jail"));
	assert_int_equal(system(command), 0);
	make_file("secret");
	make_file("neighbour");
	assert_int_equal(link(at("secret"), at("link-to-secret")), 0);
	assert_int_equal(mkdir(at("tree"), 0700), 0);
	make_file("tree/f");
	return mno_enforce_open(&o, &e);
}

static int teardown(void **state)
{
	char command[128];

	if (e)
		mno_enforce_disarm(e);
	e = mno_enforce_free(e);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* What the program does when it is the subject: @what to @arg TRIES times; how often refused. */
static int try_open(const char *path, int flags)
{
	int n = 0;

	for (int i = 0; i < TRIES; i++) {
		int fd = open(path, flags | O_CLOEXEC);

		if (fd >= 0)
			close(fd);
		else if (errno == EPERM)
			n++;
		else
			return 253;
	}
	return n;
}

static int try(const char *what, const char *arg)
{
	if (!strcmp(what, "open"))
		return try_open(arg, O_RDONLY);
	if (!strcmp(what, "fork-open")) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(try_open(arg, O_RDONLY));
		return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									    : 252;
	}
	return 251;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_inode),
		cmocka_unit_test(test_subtree),
	};

	if (argc == 3 && !strcmp(argv[0], "try"))
		return try(argv[1], argv[2]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
