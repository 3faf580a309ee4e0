/* SPDX-License-Identifier: Apache-2.0 */
/* What is left after the drop, read from /proc/PID/status, and that it is enough and no more. */
#include <stdarg.h>
#include <setjmp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <bpf/bpf.h>
#include <cmocka.h>

#include "doctor/doctor_private.h"
#include "privilege.h"

#define BPF_AND_PERFMON ((1ULL << 39) | (1ULL << 38))

/* Field of /proc/PID/status, read as hexadecimal. */
static unsigned long long status_of(pid_t pid, const char *field)
{
	char path[64], line[256];
	unsigned long long v = ~0ULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			sscanf(line + strlen(field) + 1, "%llx", &v);
	fclose(f);
	return v;
}

/* Runs @fn in a child that stays until it was looked at; *@ret_pid, result by the pipe. */
struct child {
	pid_t pid;
	int out, go;
};
static struct child start(int (*fn)(void))
{
	int out[2], go[2], r;
	struct child c;

	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(go), 0);
	c.pid = fork();
	if (!c.pid) {
		char b;

		close(go[1]);
		r = fn();
		if (write(out[1], &r, sizeof(r)) != sizeof(r) || read(go[0], &b, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(out[1]);
	close(go[0]);
	c.out = out[0];
	c.go = go[1];
	return c;
}
static int result(struct child *c)
{
	int r = -EPIPE;

	assert_int_equal(read(c->out, &r, sizeof(r)), sizeof(r));
	return r;
}
static void end(struct child *c)
{
	close(c->go);
	close(c->out);
	assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

static int drop(void)
{
	return mno_privilege_drop(
		&(struct mno_privilege_opts){.sz = sizeof(struct mno_privilege_opts)});
}
static int drop_all(void)
{
	return mno_privilege_drop(&(struct mno_privilege_opts){
		.sz = sizeof(struct mno_privilege_opts), .no_bpf = true});
}
static int drop_to_nobody(void)
{
	return mno_privilege_drop(&(struct mno_privilege_opts){
		.sz = sizeof(struct mno_privilege_opts), .user = "nobody"});
}
static int drop_to_unknown(void)
{
	return mno_privilege_drop(&(struct mno_privilege_opts){
		.sz = sizeof(struct mno_privilege_opts), .user = "no-such-user"});
}

static void test_status_after_drop(void **state)
{
	static const char *const empty[] = {"CapInh", "CapBnd", "CapAmb"};
	struct child c = start(drop);

	assert_int_equal(result(&c), 0);
	assert_int_equal(status_of(c.pid, "CapPrm"), BPF_AND_PERFMON);
	assert_int_equal(status_of(c.pid, "CapEff"), BPF_AND_PERFMON);
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
		assert_int_equal(status_of(c.pid, empty[i]), 0);
	assert_int_equal(status_of(c.pid, "NoNewPrivs"), 1);
	end(&c);
}

static void test_no_bpf_keeps_nothing(void **state)
{
	struct child c = start(drop_all);

	assert_int_equal(result(&c), 0);
	assert_int_equal(status_of(c.pid, "CapPrm"), 0);
	end(&c);
}

static void test_user(void **state)
{
	struct child c = start(drop_to_nobody);

	assert_int_equal(result(&c), 0);
	assert_int_equal(status_of(c.pid, "Uid"), 0x65534);
	assert_int_equal(status_of(c.pid, "CapEff"), BPF_AND_PERFMON);
	end(&c);
	c = start(drop_to_unknown);
	assert_int_equal(result(&c), -ESRCH);
	end(&c);
}

/* After the drop: on-demand probes still load, and nothing else of root's rights is left. */
static int use_rights(void)
{
	struct mno_trial t[MNO_TRIALS];
	int r = drop();

	if (r)
		return r;
	mno_trials_run(t, NULL);
	if (!t[MNO_TRY_RAW_TP].works || !t[MNO_TRY_TP_BTF].works || !t[MNO_TRY_ITER].works)
		return -ENOSYS;
	if (bpf_map_create(BPF_MAP_TYPE_RINGBUF, "r", 0, 0, 4096, NULL) < 0)
		return -ENOBUFS;
	if (!mount("none", "/mnt", "tmpfs", 0, NULL) || errno != EPERM)
		return -EEXIST;
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) >= 0)
		return -EALREADY;
	return 0;
}

static void test_rights_suffice(void **state)
{
	struct child c = start(use_rights);
	int r = result(&c);

	end(&c);
	assert_int_equal(r, 0);
}

static int ask_broker(void)
{
	struct mno_broker *b = NULL;
	int r = mno_broker_start(&b), fd = -1;

	if (!r)
		r = drop();
	for (int i = 0; !r && i < 3; i++) {
		fd = mno_broker_stats_fd(b);
		r = fd < 0 ? fd : 0;
		if (fd >= 0)
			close(fd);
	}
	mno_broker_stop(b);
	return r;
}

static void test_broker(void **state)
{
	struct child c = start(ask_broker);
	int r = result(&c);

	end(&c);
	assert_int_equal(r, 0);
}

static int broker_dies(void)
{
	struct mno_broker *b = NULL;
	char path[64];
	int r = mno_broker_start(&b), pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "re");
	if (r || !f || fscanf(f, "%d", &pid) != 1)
		return -EIO;
	fclose(f);
	kill(pid, SIGKILL);
	r = mno_broker_stats_fd(b);
	mno_broker_stop(b);
	return r;
}

static void test_broker_gone_is_an_error(void **state)
{
	struct child c = start(broker_dies);
	int r = result(&c);

	end(&c);
	assert_true(r == -EPIPE || r == -ECONNRESET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_after_drop),
		cmocka_unit_test(test_no_bpf_keeps_nothing),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_rights_suffice),
		cmocka_unit_test(test_broker),
		cmocka_unit_test(test_broker_gone_is_an_error),
	};

	if (geteuid()) {
		puts("needs root");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
