/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit flipped in one stored value, in each in turn: the store opens, what is lost is missing
 * and told, nothing wrong is answered, and new writes of every kind are taken and read back, also
 * after the next start. MNO_VALUES=n: so many values of each database (8); 0: all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "values_files.h"

#define CHILD_MS 60000
#define OF_EACH  8u /* of a database, evenly */

/* --- one flip ------------------------------------------------------------------------------------- */

static void count_report(void *arg, enum mno_log_level level, const char *msg)
{
	((struct v_seen *)arg)->reports += level <= MNO_LOG_WARN;
	if (getenv("MNO_VALUES_LOG"))
		fprintf(stderr, "  log: %s\n", msg);
}

/* Two starts: reads and writes, reads again. */
static void look(struct v_seen *seen)
{
	struct v_world v;
	int r;

	mno_log_set(count_report, seen, MNO_LOG_WARN);
	for (unsigned start = 0; start < 2; start++) {
		r = v_open(&v, w.work.dir);
		v_fail(seen, r, start ? "opening it again" : "opening");
		if (r == 0) {
			v_read(&v, start ? V_MORE : 0, seen);
			if (!start)
				v_write(&v, seen);
			if (!start)
				v_read(&v, V_MORE, seen);
		}
		v_close(&v);
	}
}

/* 0, or -ECHILD: it crashed or hung. */
static int in_child(struct v_seen *ret)
{
	int fds[2], status;
	struct pollfd p;
	pid_t pid;
	bool done;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct v_seen seen = {0};

		look(&seen);
		_exit(write(fds[1], &seen, sizeof(seen)) == sizeof(seen) ? 0 : 1);
	}
	close(fds[1]);
	p = (struct pollfd){.fd = fds[0], .events = POLLIN};
	done = pid > 0 && poll(&p, 1, CHILD_MS) == 1 &&
	       read(fds[0], ret, sizeof(*ret)) == sizeof(*ret);
	close(fds[0]);
	if (pid > 0 && !done)
		kill(pid, SIGKILL);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return done && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

/* Whether the value's bit means anything: a value of many pages ends in padding. */
static unsigned judge(const struct value *x, uint64_t bit, int r, const struct v_seen *s)
{
	const char *what = NULL;

	if (r < 0)
		what = "crashed or hung";
	else if (s->failed)
		what = "failed";
	else if (s->wrong)
		what = "gave a wrong answer";
	else if (s->missing && !s->reports)
		what = "lost something silently";
	if (what)
		print_message("%s %s %s, bit %llu of %zu bytes: %s: %s (missing %u, reports %u, "
			      "wrong %u)\n",
			w.env[x->env], x->db, x->key, (unsigned long long)bit, x->len, what,
			s->what, s->missing, s->reports, s->wrong);
	return what != NULL;
}

static void test_values(void **state)
{
	const char *env = getenv("MNO_VALUES"), *only = getenv("MNO_VALUES_DB");
	size_t of_each = env ? strtoul(env, NULL, 10) : OF_EACH, done = 0, found = 0;
	unsigned bad = 0;
	uint64_t seed = 20261123;

	for (size_t i = 0, end; i < w.n; i = end) {
		size_t n, take;

		for (end = i;
			end < w.n && w.v[end].env == w.v[i].env && !strcmp(w.v[end].db, w.v[i].db);
			end++)
			;
		n = end - i;
		take = of_each && of_each < n ? of_each : n;
		for (size_t k = 0; k < take; k++) {
			const struct value *x = &w.v[i + k * n / take];
			uint64_t bit = rnd(&seed) % (MNO_MIN(x->len, (size_t)160) * 8);
			struct v_seen s = {0};
			int r;

			if (only && strcmp(only, x->db) != 0)
				continue;
			restore();
			flip(x, bit);
			r = in_child(&s);
			bad += judge(x, bit, r, &s);
			found += s.reports > 0;
			done++;
		}
	}
	print_message("%zu of %zu values: %zu told of, %u faults\n", done, w.n, found, bad);
	assert_int_equal(bad, 0);
	assert_true(found > done / 2);
}

struct stopping {
	struct mno_verify_place place;
	unsigned left;
	atomic_bool stop;
};

static void stop_after(void *arg, const struct mno_verify_progress *p)
{
	struct stopping *s = arg;

	s->place = *p->place;
	if (s->left && !--s->left)
		s->stop = true;
}

/* A pass that is cut off goes on where it was, also after a new start. */
static void test_place(void **state)
{
	struct stopping s = {0};
	struct mno_verify_opts o = {.sz = sizeof(o),
		.deep = true,
		.cancel = &s.stop,
		.progress = stop_after,
		.arg = &s};
	struct mno_verify_place from;
	struct mno_verify_progress whole, p;
	struct mno_txn *t;
	struct v_world v;

	restore();
	assert_int_equal(v_open(&v, w.work.dir), 0);
	assert_int_equal(mno_verify_place_load(v.store, &from), -ENOENT);
	assert_int_equal(mno_store_verify(v.store, &o, &whole), 0);
	for (unsigned cut = 1; cut < 60; cut += 9) {
		s = (struct stopping){.left = cut};
		o.from = NULL;
		assert_int_equal(mno_store_verify(v.store, &o, &p), -ECANCELED);
		mno_verify_place_keep(v.store, &s.place);
		assert_int_equal(mno_store_begin(v.store, &t), 0);
		assert_int_equal(v_end(&v, t, mno_verify_place_save(v.store, t)), 0);
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(mno_verify_place_load(v.store, &from), 0);
		assert_true(from.under_way && from.values > 0 && from.values < whole.values);
		o.from = &from;
		s.stop = false;
		assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
		/* the place itself is a value, and so are counts: no more than these are new */
		assert_in_range(p.values, whole.values, whole.values + 3);
		assert_int_equal(p.environments, whole.environments);
		assert_int_equal(p.damaged, 0);
	}
	v_close(&v);
}

/* Without damage nothing is missing, and nothing is told. */
static void test_whole(void **state)
{
	struct v_seen s = {0};

	restore();
	assert_int_equal(in_child(&s), 0);
	if (s.failed || s.reports || s.missing || s.wrong)
		print_message("%s (missing %u, reports %u, wrong %u)\n", s.what, s.missing,
			s.reports, s.wrong);
	assert_int_equal(s.failed, 0);
	assert_int_equal(s.reports, 0);
	assert_int_equal(s.missing, 0);
	assert_int_equal(s.wrong, 0);
}

/* What lies in the place of the sums of pages does not stop anything. */
static void test_sums_place(void **state)
{
	char path[PATH_MAX], inside[PATH_MAX];

	for (unsigned full = 0; full < 2; full++)
		for (unsigned e = 0; e < w.n_envs; e++) {
			struct v_world v;
			struct v_seen s = {0};

			restore();
			snprintf(path, sizeof(path), "%s/%.39s/pages.sum", w.work.dir, w.env[e]);
			snprintf(inside, sizeof(inside), "%s/%.39s/pages.sum/x", w.work.dir,
				w.env[e]);
			assert_int_equal(mkdir(path, 0700), 0);
			if (full)
				assert_int_equal(mkdir(inside, 0700), 0);
			assert_int_equal(v_open(&v, w.work.dir), 0);
			v_read(&v, 0, &s);
			v_write(&v, &s);
			v_close(&v);
			assert_int_equal(s.failed, 0);
			assert_int_equal(s.missing, 0);
			assert_int_equal(s.wrong, 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_sums_place),
		cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests_name("values", tests, setup, teardown);
}
