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
#include "enforce_try.h"
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

#define JAIL 1

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

static struct mkt_comb comb, other_comb;

/* Names of 100 bytes: a path of several chunks of 64 bytes, as a loop's trap on 6.1 needs. */
static void test_path(void **state)
{
	char exact[256], below[256], in_below[300], not_below[300];
	uint32_t a, b;

	NEED_LSM();
	snprintf(exact, sizeof(exact), "%s",
		at("path/0123456789012345678901234567890123456789"
		   "012345678901234567890123456789/exact"));
	snprintf(below, sizeof(below), "%s",
		at("path/0123456789012345678901234567890123456789"
		   "012345678901234567890123456789/below"));
	*strrchr(exact, '/') = 0;
	assert_int_equal(mkdir(at("path"), 0700), 0);
	assert_int_equal(mkdir(exact, 0700), 0);
	exact[strlen(exact)] = '/';
	assert_int_equal(mkdir(below, 0700), 0);
	snprintf(in_below, sizeof(in_below), "%s/x", below);
	snprintf(not_below, sizeof(not_below), "%sx", below);
	close(open(exact, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open(in_below, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open(not_below, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	begin();
	a = mkt_class(&t);
	b = mkt_class(&t);
	mkt_rule(&t, JAIL, a, MNO_E_READ, MNO_E_DENY, 81);
	mkt_rule(&t, JAIL, b, MNO_E_READ, MNO_E_DENY, 82);
	mkt_comb_init(&comb);
	mkt_comb_add(&comb, exact, a);
	strcat(below, "/**");
	mkt_comb_add(&comb, below, b);
	mkt_path(&t, JAIL, comb.bytes, sizeof(comb.bytes), MKT_COMB_MASK, MKT_COMB_ROOT);
	arm();
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), 0);
	assert_int_equal(refused(at("jail"), "open", not_below), 0);
	assert_int_equal(refused(at("jail"), "open", exact), TRIES);
	assert_int_equal(records().last.rule_id, 81);
	assert_int_equal(refused(at("jail"), "open", in_below), TRIES);
	assert_int_equal(records().last.rule_id, 82);
	assert_int_equal(mno_enforce_stats(e).no_slot, 0);
}

/* Generation A refuses the secret, B the neighbour. */
static void tables_of(const char *refused_file, uint32_t id)
{
	begin();
	mkt_rule(&t, JAIL, mkt_label(&t, refused_file, true), MNO_E_READ, MNO_E_DENY, id);
	t.t.generation++;
}

static void test_deadline(void **state)
{
	uint64_t left;
	uint32_t first;

	NEED_LSM();
	tables_of(at("secret"), 91);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_flip(e, 0), 0);
	first = t.t.generation;
	tables_of(at("neighbour"), 92);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(refused(at("jail"), "open", at("secret")), TRIES);
	assert_int_equal(mno_enforce_flip(e, 2000), 0);
	assert_int_equal(mno_enforce_generation(e, &left), first + 1);
	assert_in_range(left, 1, 2000);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), -EBUSY);
	assert_int_equal(refused(at("jail"), "open", at("secret")), 0);
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), TRIES);
	usleep((useconds_t)(left + 10) * 1000);
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), 0);
	assert_int_equal(refused(at("jail"), "open", at("secret")), TRIES);
	assert_int_equal(mno_enforce_generation(e, &left), first);
	assert_int_equal(mno_enforce_confirm(e), -ETIME);
	/* in time: it stays, and a rollback goes back */
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_flip(e, 5000), 0);
	assert_int_equal(mno_enforce_confirm(e), 0);
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), TRIES);
	assert_int_equal(mno_enforce_rollback(e), 0);
	assert_int_equal(refused(at("jail"), "open", at("secret")), TRIES);
	assert_int_equal(mno_enforce_rollback(e), -ENOENT);
}

/* The path's class is another in each generation, and allowed in the other: a verdict from the
 * rows of one and the automaton of the other lets the file through. */
static void tables_of_flip(bool odd, bool mixed)
{
	struct mkt_comb *c = odd != mixed ? &other_comb : &comb;
	uint32_t even_class, odd_class;

	begin();
	even_class = mkt_class(&t);
	odd_class = mkt_class(&t);
	mkt_rule(&t, JAIL, odd ? odd_class : even_class, MNO_E_READ, MNO_E_DENY, odd ? 95 : 94);
	mkt_comb_init(&comb);
	mkt_comb_add(&comb, at("secret"), even_class);
	mkt_comb_init(&other_comb);
	mkt_comb_add(&other_comb, at("secret"), odd_class);
	mkt_path(&t, JAIL, c->bytes, sizeof(c->bytes), MKT_COMB_MASK, MKT_COMB_ROOT);
	t.t.generation++;
}

static pid_t attack(const char *what, const char *arg)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execl(at("jail"), "try", what, arg, NULL);
		_exit(254);
	}
	return pid;
}

static void test_flips(void **state)
{
	pid_t pid;
	int status, flips = 0;
	uint64_t before;

	NEED_LSM();
	tables_of_flip(true, true);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_flip(e, 0), 0);
	/* control: a mixture is seen */
	assert_int_equal(refused(at("jail"), "open", at("secret")), 0);
	tables_of_flip(false, false);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_flip(e, 0), 0);
	before = mno_enforce_stats(e).denied;
	pid = attack("never-open", at("secret"));
	while (waitpid(pid, &status, WNOHANG) == 0) {
		tables_of_flip(++flips & 1, false);
		assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
		assert_int_equal(mno_enforce_flip(e, 0), 0);
	}
	assert_true(WIFEXITED(status));
	print_message("%d flips under %llu denials\n", flips,
		(unsigned long long)(mno_enforce_stats(e).denied - before));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(flips > 10);
}

/* Already running, with a thread, before anything is armed. */
static void test_seed(void **state)
{
	uint64_t seeded;
	int status;
	pid_t pid;

	NEED_LSM();
	tables_of(at("secret"), 96);
	pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		_exit(enforce_try("fork-open", at("secret")));
	}
	waitpid(pid, &status, WUNTRACED);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), 0);
	assert_int_equal(mno_enforce_seed(e, &pid, 1, JAIL, &seeded), 0);
	assert_int_equal(seeded, 1);
	assert_int_equal(mno_enforce_flip(e, 0), 0);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), TRIES);
}

static const struct op_case {
	const char *what, *arg;
	int op;
	bool any; /* the operation has no object here */
} op_cases[] = {
	{"write", "secret", MNO_E_WRITE, false},
	{"truncate-open", "secret", MNO_E_WRITE, false},
	{"exec", "program", MNO_E_EXEC, false},
	{"mmap", "program", MNO_E_MMAP_EXEC, false},
	{"mprotect", "secret", MNO_E_MPROTECT_EXEC, false},
	{"unlink", "tree/f", MNO_E_UNLINK, false},
	{"rename", "tree/f", MNO_E_RENAME, false},
	{"rename-into", "tree/f", MNO_E_RENAME, false},
	{"link", "tree/f", MNO_E_LINK, false},
	{"create", "tree/new", MNO_E_CREATE, false},
	{"mkdir", "tree/new", MNO_E_CREATE, false},
	{"chmod", "tree/f", MNO_E_SETATTR, false},
	{"socket", "", MNO_E_SOCKET, true},
	{"bind", "", MNO_E_BIND, true},
	{"connect", "", MNO_E_CONNECT, true},
	{"sendto", "", MNO_E_SEND, true},
	{"capable", "", MNO_E_CAPABILITY, true},
	{"ptrace", "", MNO_E_PTRACE, true},
	{"kill", "", MNO_E_SIGNAL, true},
	{"bpf", "", MNO_E_BPF, true},
	{"mount", "", MNO_E_MOUNT, true},
	{"userns", "", MNO_E_NAMESPACE, true},
};

static int hook_error(const char *hook)
{
	size_t n;
	const struct mno_enforce_hook *h = mno_enforce_hooks(e, &n);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(h[i].hook, hook))
			return h[i].error;
	return -ENOENT;
}

/* Each operation passes without its rule, and is refused with it, TRIES of TRIES. */
static void test_operations(void **state)
{
	size_t wrong = 0;

	NEED_LSM();
	for (size_t i = 0; i < ARRAY_SIZE(op_cases); i++) {
		const struct op_case *c = &op_cases[i];
		bool tree = !strncmp(c->arg, "tree", 4);
		char *object = strdup(at(tree ? "tree" : c->arg)), *arg = strdup(at(c->arg));
		bool address = c->op == MNO_E_BIND || c->op == MNO_E_CONNECT || c->op == MNO_E_SEND;
		int without, with, want = TRIES;

		/* lockdown=confidentiality: not attached, and the list of hooks says so */
		if (address && hook_error("socket_connect") == -EACCES)
			want = 0;
		begin();
		arm();
		without = refused(at("jail"), c->what, arg);
		begin();
		mkt_rule(&t, JAIL, c->any ? MNO_E_CLASS_ANY : mkt_label(&t, object, !tree),
			(enum mno_e_op)c->op, MNO_E_DENY, 100 + (uint32_t)i);
		arm();
		(void)records();
		with = refused(at("jail"), c->what, arg);
		struct seen s = records();

		print_message("%s: refused %d of %d, %d without the rule, records %zu\n", c->what,
			with, TRIES, without, s.n);
		wrong += with != want || without != 0 || s.n < (size_t)want ||
			 (want && s.last.rule_id != 100 + i);
		mno_enforce_disarm(e);
		free(object);
		free(arg);
	}
	assert_int_equal(wrong, 0);
}

/* Level L2 on any kernel: one network refused to one cgroup, its neighbour and others not. */
static void test_cgroup(void **state)
{
	struct mno_enforce *all = e;
	char path[512];
	struct mno_enforce_opts o = {.no_lsm = true, .cgroup_domain = 2};
	int inside, outside;

	assert_int_equal(mno_rig_cgroup_make("enforce", path, sizeof(path)), 0);
	o.cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(o.cgroup_fd >= 0);
	assert_int_equal(mno_enforce_open(&o, &e), 0);
	assert_string_equal(mno_enforce_level(e, NULL), "L2");
	mkt_init(&t);
	mkt_rule(&t, 2, mkt_class(&t), MNO_E_CONNECT, MNO_E_DENY, 61);
	t.nets[t.t.n_nets++] = (struct mno_e_net_row){
		.key = {.prefixlen = 128, .addr = {[10] = 255, 255, 127, 0, 0, 1}},
		.net = {.n = 1, .port = {{.first = 9, .last = 9, .protocols = 1, .cls = 2}}}};
	arm();
	setenv("TRY_CGROUP", path, 1);
	inside = refused(self_exe, "connect", "9");
	assert_int_equal(refused(self_exe, "connect", "10"), 0);
	unsetenv("TRY_CGROUP");
	outside = refused(self_exe, "connect", "9");
	assert_int_equal(inside, TRIES);
	assert_int_equal(outside, 0);
	assert_int_equal(records().last.rule_id, 61);
	e = mno_enforce_free(e);
	e = all;
	close(o.cgroup_fd);
	mno_rig_cgroup_remove(path);
}

/* --- what outlives its loader; runs last, with an object of its own ------------------------- */
#define PINS "/sys/fs/bpf/mno-test-enforce"

static void load_and_die(int ready)
{
	struct mno_enforce_opts o = {.cgroup_fd = -1, .pin_dir = PINS};
	int r = mno_enforce_open(&o, &e);

	tables_of(at("secret"), 97);
	r = r ?: mno_enforce_fill(e, mkt_done(&t));
	r = r ?: mno_enforce_flip(e, 0);
	tables_of(at("neighbour"), 98);
	r = r ?: mno_enforce_fill(e, mkt_done(&t));
	r = r ?: mno_enforce_flip(e, 3000);
	if (write(ready, &r, sizeof(r)) != sizeof(r))
		_exit(1);
	for (;;)
		pause();
}

static void test_pins(void **state)
{
	struct mno_enforce_opts o = {.cgroup_fd = -1, .pin_dir = PINS};
	struct mno_e_label_row row = {.path = at("secret"), .fd = -1, .self = 3};
	struct mno_enforce *old;
	uint64_t left;
	int fds[2], r, status;
	pid_t pid;

	NEED_LSM();
	e = mno_enforce_free(e);
	assert_int_equal(refused(at("jail"), "open", at("secret")), 0);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0)
		load_and_die(fds[1]);
	assert_int_equal(read(fds[0], &r, sizeof(r)), sizeof(r));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(r, 0);
	/* nobody is there: B decides until its deadline, then A */
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), TRIES);
	assert_int_equal(refused(at("jail"), "open", at("secret")), 0);
	usleep(3100000);
	assert_int_equal(refused(at("jail"), "open", at("neighbour")), 0);
	assert_int_equal(refused(at("jail"), "open", at("secret")), TRIES);
	assert_int_equal(mno_enforce_adopt(PINS, &e), 0);
	assert_string_equal(mno_enforce_level(e, NULL), "L4");
	assert_int_not_equal(mno_enforce_generation(e, &left), 0);
	assert_true(records().n >= 2 * TRIES);
	tables_of(at("neighbour"), 99);
	assert_int_equal(mno_enforce_fill(e, mkt_done(&t)), -ESTALE);
	row.path = at("secret");
	assert_int_equal(mno_enforce_hold(e, &row, 1), 0);
	/* an upgrade under attack: new programs before the old ones go */
	pid = attack("never-open", at("secret"));
	old = e;
	assert_int_equal(mno_enforce_open(&o, &e), 0);
	mno_enforce_free(old);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(mno_enforce_unpin(e), 0);
	e = mno_enforce_free(e);
	assert_int_equal(refused(at("jail"), "open", at("secret")), 0);
	assert_int_equal(mno_enforce_open(&(struct mno_enforce_opts){.cgroup_fd = -1}, &e), 0);
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
	make_file("outside");
	snprintf(command, sizeof(command), "cp %s %s", self_exe, at("program"));
	assert_int_equal(system(command), 0);
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_inode),
		cmocka_unit_test(test_subtree),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_seed),
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_cgroup),
		cmocka_unit_test(test_pins),
	};

	if (argc == 3 && !strcmp(argv[0], "try"))
		return enforce_try(argv[1], argv[2]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
