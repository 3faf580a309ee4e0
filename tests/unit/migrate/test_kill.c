/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration that is killed again and again, there and back: whatever it was doing, the next run
 * ends it or goes back, and what comes out is what comes out of one that was never killed.
 * MNO_KILLS: how many kills (default 200). MNO_SEED: of the random numbers.
 */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include "mno/log.h"
#include "rig.h"

struct killer {
	uint64_t at, calls;
};

static int kill_at(void *arg, const struct mno_migrate_progress *p)
{
	struct killer *k = arg;

	if (k->calls++ == k->at)
		raise(SIGKILL);
	return 0;
}

static char last_error[1024];

static void keep_error(void *arg, enum mno_log_level level, const char *msg)
{
	snprintf(last_error, sizeof(last_error), "%s", msg);
}

/* In a process of its own; true if it was killed, else *@ret: 0 done, 1 undone, 2 failed. */
static bool run_killed(const char *dir, uint64_t calls, uint64_t *seed, bool again, int *ret)
{
	bool by_time = rnd(seed) & 1;
	uint64_t at = rnd(seed) % calls, us = 1 + rnd(seed) % (calls * 1000);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct killer k = {.at = by_time ? UINT64_MAX : at};
		struct mno_migrate_opts o = {.sz = sizeof(o),
			.store = store_opts(),
			.progress = kill_at,
			.arg = &k,
			.step_records = 300 + rnd(seed) % 3000,
			.again = again};
		struct itimerval it = {.it_value.tv_usec = (suseconds_t)us};

		signal(SIGALRM, SIG_DFL);
		if (by_time)
			setitimer(ITIMER_REAL, &it, NULL);
		int r = mno_migrate_start(dir, &o);

		if (r < 0 && r != -MNO_EMIGRATE)
			fprintf(stderr, "%s: %s\n", last_error, mno_strerror(r));
		_exit(r == 0 ? 0 : r == -MNO_EMIGRATE ? 1 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_true(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGALRM);
		return true;
	}
	*ret = WEXITSTATUS(status);
	return false;
}

static unsigned until_done(const char *dir, uint64_t *seed, bool again, int want)
{
	unsigned kills = 0;
	int r = -1;

	while (run_killed(dir, want ? 8 : 60, seed, again, &r))
		kills++;
	assert_int_equal(r, want);
	return kills;
}

static void assert_digest(const char *dir, const struct mno_migrate_digest *want)
{
	struct mno_migrate_digest got;

	assert_int_equal(mno_migrate_digest(dir, &got), 0);
	assert_memory_equal(&got, want, sizeof(got));
}

static unsigned env_number(const char *name, unsigned def)
{
	const char *s = getenv(name);

	return s ? (unsigned)atoi(s) : def;
}

static void resumed_or_rolled_back(void **state)
{
	struct mno_migrate_opts o = {.sz = sizeof(o), .store = store_opts()};
	unsigned kills = 0, back = 0, want = env_number("MNO_KILLS", 200), rounds = 0;
	uint64_t seed = env_number("MNO_SEED", 20231114);
	struct tmpstate *t = *state;
	struct mno_migrate_digest ref;

	mno_log_set(keep_error, NULL, MNO_LOG_ERR);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_migrate_digest(t->dir, &ref), 0);
	for (; kills + back < want; rounds++) {
		teardown(state);
		setup(state);
		t = *state;
		kills += until_done(t->dir, &seed, false, 0);
		assert_digest(t->dir, &ref);
		if (rounds % 2)
			continue;
		assert_int_equal(mno_migrate_want_undo(t->dir, true), 0);
		back += until_done(t->dir, &seed, false, 1);
		assert_true(there(t->dir, "data.mdb"));
		assert_false(there(t->dir, "main"));
		kills += until_done(t->dir, &seed, true, 0);
		assert_digest(t->dir, &ref);
	}
	print_message(
		"%u kills on the way there, %u on the way back, %u rounds\n", kills, back, rounds);
	assert_true(back > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {T(resumed_or_rolled_back)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
