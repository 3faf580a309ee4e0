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
#include "docs_rig.h"

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

/* --- documents --------------------------------------------------------------------------------- */

/* In a process of its own: works until nothing is left to do, at first asking for @want. */
static bool docs_killed(struct docs_rig *g, int want, uint64_t *seed, unsigned most)
{
	bool by_time = rnd(seed) & 1;
	unsigned step = 1 + (unsigned)(rnd(seed) % 40), at = (unsigned)(rnd(seed) % most);
	unsigned us = 1000 + (unsigned)(rnd(seed) % (most * 1500));
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct itimerval it = {.it_value.tv_usec = (suseconds_t)us};

		signal(SIGALRM, SIG_DFL);
		if (by_time)
			setitimer(ITIMER_REAL, &it, NULL);
		if (docs_try_open(g, step) < 0)
			_exit(2);
		if (want >= 0 && mno_docs_form_want(g->d, (enum mno_docs_form_want)want) < 0)
			want = -1; /* an earlier one did it */
		for (unsigned n = 0;; n++) {
			int r = mno_docs_work(g->d);

			if (r != 1)
				_exit(r ? 3 : 0);
			if (!by_time && n == at)
				raise(SIGKILL);
		}
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_true(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGALRM);
		return true;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

/* Until it was not killed and @stage is reached; all answers are the same then. */
static unsigned docs_until(
	struct docs_rig *g, int want, enum mno_docs_form_stage stage, uint64_t *seed)
{
	unsigned kills = 0;
	bool there = false;

	while (!there) {
		while (docs_killed(g, want, seed, 40))
			kills++;
		assert_int_equal(docs_try_open(g, 20), 0);
		there = docs_stage(g->d) == stage;
		assert_docs(g, g->want);
		docs_shut(g);
	}
	return kills;
}

static void documents_resumed_or_rolled_back(void **state)
{
	unsigned kills = 0, back = 0, want = env_number("MNO_KILLS", 200), rounds = 0;
	uint64_t seed = env_number("MNO_SEED", 20261123);
	struct docs_rig *g = *state;

	docs_shut(g);
	for (; kills + back < want || !back || rounds % 3; rounds++)
		switch (rounds % 3) { /* there, back, there again and for good */
		case 0:
			kills += docs_until(g, -1, MNO_DOCS_FORM_DONE, &seed);
			break;
		case 1:
			back += docs_until(g, MNO_DOCS_FORM_UNDO, MNO_DOCS_FORM_UNDONE, &seed);
			break;
		default:
			kills += docs_until(g, MNO_DOCS_FORM_RUN, MNO_DOCS_FORM_DONE, &seed);
			kills += docs_until(g, MNO_DOCS_FORM_CONFIRM, MNO_DOCS_FORM_NONE, &seed);
			docs_teardown(state);
			docs_setup(state);
			g = *state;
			docs_shut(g);
		}
	print_message("documents: %u kills on the way there, %u on the way back, %u rounds\n",
		kills, back, rounds);
	assert_true(back > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(resumed_or_rolled_back),
		cmocka_unit_test_setup_teardown(
			documents_resumed_or_rolled_back, docs_setup, docs_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
