/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 of the writer under load: what it acknowledged is there, documents as telemetry, nothing
 * needs a repair, and it goes on from there. $KILLS: how often (500).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "../../support/tmpstate.h"
#include "fault_load.h"
#include "mno/log.h"

#define KILLS_DEFAULT 500
#define FRESH_EVERY   25 /* kills, then a new store: checks stay short, and its making is hit, too */

struct child {
	struct load l;
	struct load_mark from;
	int fd;
	bool liar; /* acknowledges before the commit: the test must notice */
};

struct ack {
	char kind;
	int step;
};

static void tell(struct child *c, char kind, int step)
{
	struct ack a = {kind, step};

	if (write(c->fd, &a, sizeof(a)) != sizeof(a))
		_exit(2);
}

static void *docs_main(void *arg)
{
	struct child *c = arg;

	for (int i = c->from.docs; i < LOAD_STEPS_MAX; i++) {
		if (c->liar)
			tell(c, 'd', i);
		if (load_docs(&c->l, i) < 0)
			_exit(3);
		if (!c->liar)
			tell(c, 'd', i);
	}
	return NULL;
}

static _Noreturn void child_main(struct child *c, const char *dir)
{
	pthread_t thread;

	if (load_open(&c->l, dir) < 0)
		_exit(4);
	tell(c, 'o', 0);
	if (pthread_create(&thread, NULL, docs_main, c))
		_exit(5);
	for (int i = c->from.rows; i < LOAD_STEPS_MAX; i++) {
		if (c->liar)
			tell(c, 'r', i);
		if (load_rows(&c->l, i) < 0)
			_exit(6);
		if (!c->liar)
			tell(c, 'r', i);
	}
	_exit(7);
}

/* One life: started, killed after @us from its start or from its opening. *@acked follows. */
static void live(
	const char *dir, struct child *c, unsigned us, bool from_open, struct load_mark *acked)
{
	int fd[2], status;
	struct ack a;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	c->from = *acked;
	c->fd = fd[1];
	pid = fork();
	if (pid == 0)
		child_main(c, dir);
	assert_true(pid > 0);
	close(fd[1]);
	if (from_open) {
		struct pollfd p = {.fd = fd[0], .events = POLLIN};

		poll(&p, 1, 10000);
	}
	usleep(us);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	while (read(fd[0], &a, sizeof(a)) == sizeof(a)) {
		if (a.kind == 'r')
			acked->rows = a.step + 1;
		if (a.kind == 'd')
			acked->docs = a.step + 1;
	}
	close(fd[0]);
	/* it was killed: an end of its own is an error */
	if (!WIFSIGNALED(status))
		print_error("the writer ended by itself: %d\n", WEXITSTATUS(status));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_kill(void **state)
{
	const char *n = getenv("KILLS");
	int kills = n ? atoi(n) : KILLS_DEFAULT;
	uint64_t seed = 0x6b696c6c;
	struct load_mark acked = {0}, total = {0};
	struct tmpstate tmp;
	int opening = 0;

	tmpstate_new(&tmp);
	for (int i = 0; i < kills; i++) {
		struct child c = {.fd = -1};
		struct load_mark found, before = acked;
		bool from_open = rnd(&seed) % 4;

		live(tmp.dir, &c, (unsigned)(rnd(&seed) % (from_open ? 40000 : 15000)), from_open,
			&acked);
		opening += acked.rows == before.rows && acked.docs == before.docs;
		assert_int_equal(load_check(tmp.dir, acked, 0, i % 5 == 4, &found), 0);
		/* at most what was not acknowledged yet when it was killed */
		assert_true(found.rows <= acked.rows + 1 && found.docs <= acked.docs + 1);
		total.rows += acked.rows - before.rows;
		total.docs += acked.docs - before.docs;
		acked = found;
		if (i % FRESH_EVERY == FRESH_EVERY - 1) {
			tmpstate_done(&tmp);
			tmpstate_new(&tmp);
			acked = (struct load_mark){0};
		}
	}
	tmpstate_done(&tmp);
	print_message(
		"%d kills, %d of them before anything was acknowledged; %d commits of telemetry "
		"and %d transactions of documents acknowledged, none lost\n",
		kills, opening, total.rows, total.docs);
	assert_true(total.rows > kills && total.docs > kills && opening < kills / 2);
}

/* A writer that acknowledges too early is caught. */
static void test_liar(void **state)
{
	uint64_t seed = 77;
	struct tmpstate tmp;
	int caught = 0;

	for (int i = 0; i < 20 && !caught; i++) {
		struct child c = {.fd = -1, .liar = true};
		struct load_mark acked = {0}, found;

		tmpstate_new(&tmp);
		live(tmp.dir, &c, (unsigned)(rnd(&seed) % 30000), true, &acked);
		caught += load_check(tmp.dir, acked, 0, false, &found) < 0;
		tmpstate_done(&tmp);
	}
	assert_true(caught);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_liar),
	};

	return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
