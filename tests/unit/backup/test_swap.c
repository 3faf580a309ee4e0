/* SPDX-License-Identifier: Apache-2.0 */
/* A restore over a store is killed before each of its calls that change directories or wait for
 * the disk: there is always a whole store under the name, the old one or the new one. */
#include "../series/rig.h"
#include <sys/stat.h>

#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mno/backup.h"
#include "mno/time.h"

#define DAY_MS (86400 * 1000LL)
#define LAST   24 /* calls at the end, the swap among them: each of them is a point */
#define STRIDE 2  /* of those before */

static char dest[96], back[96], path[160];

static void write_ticks(struct st *s, int64_t t0, unsigned ticks)
{
	struct mno_txn *t = begin(s);
	uint32_t id;

	assert_int_equal(mno_series_resolve(s->s, t, "one", 3, &id), 0);
	for (unsigned i = 0; i < ticks; i++) {
		double v = i + 1;

		assert_int_equal(mno_series_append(s->s, t, t0 + i * 1000LL, &id, &v, 1), 0);
	}
	commit(s, t);
}

static int add_count(void *arg, const struct mno_column *c)
{
	*(size_t *)arg += c->n;
	return c->damaged ? -1 : 0;
}

/* Samples in the store @dir, all of which can be read. */
static size_t samples(const char *dir)
{
	struct st s = {0};
	size_t n = 0;
	uint32_t id;
	struct mno_txn *t;

	snprintf(s.tmp.dir, sizeof(s.tmp.dir), "%.63s", dir);
	up(&s);
	t = begin(&s);
	assert_int_equal(mno_series_resolve(s.s, t, "one", 3, &id), 0);
	mno_store_abort(s.e, t);
	assert_int_equal(
		mno_series_read(s.s, &id, 1, 0, INT64_MAX / 2, SIZE_MAX, add_count, &n), 0);
	down(&s);
	return n;
}

static bool counts(long nr)
{
	static const long calls[] = {SYS_rename, SYS_renameat, SYS_renameat2, SYS_fsync,
		SYS_mkdirat, SYS_unlinkat, SYS_rmdir, SYS_unlink, SYS_fdatasync, SYS_pwrite64,
		SYS_write, SYS_ftruncate};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i] == nr)
			return true;
	return false;
}

static void restore_in_child(const char *state)
{
	struct mno_restore_opts o = {.sz = sizeof(o), .replace = true};
	struct mno_backup_verdict v;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	_exit(mno_backup_restore(path, state, &o, &v) == 0 ? 0 : 1);
}

/* Number of the call that the stopped child @pid is about to make, else -1. */
static long call_of(pid_t pid)
{
#ifdef PTRACE_GET_SYSCALL_INFO
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) > 0 &&
		info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return (long)info.entry.nr;
#endif
	return -1;
}

/* Kills the restore before its @at-th such call. How many it made; -1: it cannot be watched. */
static int run_until(const char *state, int at)
{
	int status, n = 0;
	pid_t pid = fork();

	if (pid == 0)
		restore_in_child(state);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(long)PTRACE_O_TRACESYSGOOD);
	for (;;) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
			return -1;
		if (waitpid(pid, &status, 0) != pid)
			return -1;
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return n;
		}
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80) ||
			!counts(call_of(pid)))
			continue;
		if (n++ != at)
			continue;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return n;
	}
}

static void remove_tree(const char *dir)
{
	nftw(dir, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static void copy_store(const char *from)
{
	char command[300];

	remove_tree(back);
	snprintf(command, sizeof(command), "cp -a '%s' '%s' && rm -rf '%s'/../.old-*", from, back,
		back);
	assert_int_equal(system(command), 0);
}

static void test_swap(void **state)
{
	struct st *s = *state;
	struct mno_backup_info b;
	int64_t t0 = mno_now_ms() - 3 * DAY_MS;
	int total, killed = 0;
	size_t was, now;

	write_ticks(s, t0, 600);
	assert_int_equal(mno_backup_create(s->e, dest, NULL, &b), 0);
	snprintf(path, sizeof(path), "%s/%s", dest, b.name);
	write_ticks(s, t0 + 600000, 300);
	down(s);
	was = samples(s->tmp.dir);
	copy_store(s->tmp.dir);
	total = run_until(back, -1);
	if (total < 0) {
		print_message("no process can be traced here: not tested\n");
		up(s);
		skip();
	}
	now = samples(back);
	print_message("%zu samples before, %zu after, %d calls\n", was, now, total);
	assert_true(now > 0 && now < was && total > LAST);
	for (int i = 0; i < total; i += i < total - LAST ? STRIDE : 1) {
		size_t n;

		copy_store(s->tmp.dir);
		assert_int_equal(run_until(back, i), i + 1);
		n = samples(back); /* opens, and every sample is read */
		assert_true(n == was || n == now);
		if (n == was) { /* what was left does not stand in the way */
			assert_true(run_until(back, -1) > 0);
			assert_int_equal(samples(back), now);
		}
		killed++;
	}
	print_message("killed at %d of %d points\n", killed, total);
	up(s);
}

static int names(void **state)
{
	int r = setup(state);
	struct st *s = *state;

	snprintf(dest, sizeof(dest), "%s-backups", s->tmp.dir);
	/* in a directory of its own: what restores leave beside it goes with that */
	snprintf(back, sizeof(back), "%s-back", s->tmp.dir);
	assert_int_equal(mkdir(back, 0700), 0);
	strcat(back, "/state");
	return r;
}

static int unnames(void **state)
{
	*strrchr(back, '/') = '\0';
	remove_tree(dest);
	remove_tree(back);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_swap, names, unnames)};

	return cmocka_run_group_tests_name("swap", tests, NULL, NULL);
}
