/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in, columns out: against a model, across aborts, kills and readers beside the writer. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include "rig.h"

/* --- round trips against a plain model ---------------------------------------------------------- */

#define M_SERIES 150
#define M_ROWS   1100
struct model {
	size_t rows;
	int64_t t[M_ROWS];
	uint64_t bits[M_SERIES][M_ROWS];
	bool has[M_SERIES][M_ROWS];
	uint32_t ids[M_SERIES];
	uint64_t seed;
	int64_t t0, t1; /* of the check in progress */
};

static const uint64_t odd_bits[] = {0, 1ULL << 63, 0x7ff0000000000000, 0x7ff8dead0000beef,
	0xfff0000000000001, 1, 0x7fefffffffffffff, 0x4340000000000001, 0x3fb999999999999a};

static uint64_t model_value(struct model *m, unsigned k)
{
	uint64_t r = rnd(&m->seed);

	switch (k % 6) {
	case 0:
		return bits_of(7);
	case 1:
		return bits_of((double)(m->rows * k));
	case 2:
		return bits_of((double)(r % 5000) / 100);
	case 3:
		return r & ~(1ULL << 62); /* any, but no staleness mark */
	case 4:
		return odd_bits[r % ARRAY_SIZE(odd_bits)];
	default:
		return bits_of((double)(r % 3));
	}
}

static bool model_gone(const struct model *m, unsigned k, size_t row)
{
	return row > 0 && m->has[k][row - 1] && m->bits[k][row - 1] != MNO_STALE_BITS;
}

/* Adds one row to model and store; what is missing from it gets its mark in the model. */
static void model_row(struct model *m, struct st *s, struct mno_txn *t)
{
	uint32_t ids[M_SERIES];
	double v[M_SERIES];
	size_t n = 0, row = m->rows;

	m->t[row] = (row ? m->t[row - 1] : 1700000000000) + 990 + (int64_t)(rnd(&m->seed) % 20);
	for (unsigned i = 0; i < M_SERIES; i++) {
		unsigned k = M_SERIES - 1 - i;                 /* ids need not be sorted */
		bool here = k % 10 == 9   ? row / 100 % 3 == 1 /* comes and goes for long */
			    : k % 10 == 8 ? rnd(&m->seed) % 8 != 0
			    : k % 10 == 7 ? row < k * 3
					  : true;

		m->has[k][row] = here || model_gone(m, k, row);
		m->bits[k][row] = here ? model_value(m, k) : MNO_STALE_BITS;
		if (here) {
			ids[n] = m->ids[k];
			v[n++] = of_bits(m->bits[k][row]);
		}
	}
	assert_int_equal(mno_series_append(s->s, t, m->t[row], ids, v, n), 0);
	m->rows++;
}

static void model_resolve(struct model *m, struct st *s, struct mno_txn *t)
{
	char key[64];

	for (unsigned k = 0; k < M_SERIES; k++) {
		snprintf(key, sizeof(key), "metric_%u{series=\"%u\"}", k % 7, k);
		m->ids[k] = resolve(s, t, key);
	}
}

static int check_column(void *arg, const struct mno_column *c)
{
	struct model *m = arg;
	unsigned k = 0;
	size_t at = 0;

	while (m->ids[k] != c->id)
		k++;
	assert_int_equal(c->damaged, 0);
	for (size_t row = 0; row < m->rows; row++) {
		if (!m->has[k][row] || m->t[row] < m->t0 || m->t[row] > m->t1)
			continue;
		assert_true(at < c->n);
		assert_int_equal(c->t_ms[at], m->t[row]);
		assert_true(bits_of(c->v[at]) == m->bits[k][row]);
		at++;
	}
	assert_int_equal(at, c->n);
	return 0;
}

static void model_check_range(struct model *m, struct st *s, int64_t t0, int64_t t1)
{
	uint32_t ids[M_SERIES];

	memcpy(ids, m->ids, sizeof(ids));
	for (unsigned i = 1; i < M_SERIES; i++) /* they came in order */
		assert_true(ids[i] > ids[i - 1]);
	m->t0 = t0;
	m->t1 = t1;
	assert_int_equal(
		mno_series_read(s->s, ids, M_SERIES, t0, t1, SIZE_MAX, check_column, m), 0);
}

static void model_check(struct model *m, struct st *s)
{
	model_check_range(m, s, INT64_MIN, INT64_MAX);
	for (unsigned i = 0; i < 5; i++) {
		int64_t a = m->t[rnd(&m->seed) % m->rows] + (int64_t)(rnd(&m->seed) % 3) - 1;

		model_check_range(m, s, a, a + (int64_t)(rnd(&m->seed) % 600000));
	}
	model_check_range(m, s, m->t[m->rows - 1] + 1, INT64_MAX);
	model_check_range(m, s, 0, m->t[0] - 1);
}

static void test_round_trip(void **state)
{
	struct st *s = *state;
	struct model *m = calloc(1, sizeof(*m));
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);

	m->seed = 11;
	model_resolve(m, s, t);
	commit(s, t);
	while (m->rows < M_ROWS) {
		size_t some = 1 + rnd(&m->seed) % 90,
		       upto = MNO_MIN(m->rows + some, (size_t)M_ROWS);

		t = begin(s);
		while (m->rows < upto)
			model_row(m, s, t);
		model_check_range(m, s, INT64_MIN, INT64_MAX); /* visible before the commit */
		commit(s, t);
		if (rnd(&m->seed) % 4 == 0) {
			down(s);
			up(s);
		}
		model_check(m, s);
	}
	mno_series_stat(s->s, &st);
	assert_int_equal(st.first_ms, m->t[0]);
	assert_int_equal(st.last_ms, m->t[M_ROWS - 1]);
	assert_int_equal(st.series, M_SERIES);
	assert_int_equal(
		mno_series_read(s->s, m->ids, M_SERIES, 0, INT64_MAX, 100, check_column, m),
		-MNO_ELIMIT);
	free(m);
}

/* Random aborts: the store goes on as if the rows had never been, across seals. */
static void test_rollback(void **state)
{
	struct st *s = *state;
	struct model *m = calloc(1, sizeof(*m));
	unsigned aborted = 0;

	m->seed = 23;
	while (m->rows < M_ROWS) {
		size_t before = m->rows, some = 1 + rnd(&m->seed) % 300,
		       upto = MNO_MIN(before + some, (size_t)M_ROWS);
		struct mno_txn *t = begin(s);

		if (before == 0)
			model_resolve(m, s, t); /* the ids hold even if this is undone */
		while (m->rows < upto)
			model_row(m, s, t);
		if (rnd(&m->seed) % 2) {
			commit(s, t);
			continue;
		}
		mno_store_abort(s->e, t);
		mno_series_rollback(s->s);
		m->rows = before;
		aborted++;
		if (before)
			model_check(m, s);
	}
	assert_true(aborted > 2);
	model_check(m, s);
	down(s);
	up(s);
	model_check(m, s);
	free(m);
}

static void test_bad_rows(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m"), bad = id + 1, zero = 0;
	double v = 1;

	assert_int_equal(mno_series_append(s->s, t, 1000, &id, &v, 1), 0);
	assert_int_equal(mno_series_append(s->s, t, 1000, &id, &v, 1), -EINVAL);
	assert_int_equal(mno_series_append(s->s, t, 999, &id, &v, 1), -EINVAL);
	assert_int_equal(mno_series_append(s->s, t, 2000, &bad, &v, 1), -ENOENT);
	assert_int_equal(mno_series_append(s->s, t, 2000, &zero, &v, 1), -ENOENT);
	assert_int_equal(mno_series_append(s->s, t, 2000, NULL, NULL, 0), 0);
	commit(s, t);
	down(s);
	up(s);
	t = begin(s);
	assert_int_equal(mno_series_append(s->s, t, 2000, &id, &v, 1), -EINVAL);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
}

/* More than a transaction may take is refused; the rest can be committed or undone. */
static void test_huge_transaction(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m");
	int r = 0, n = 0;

	for (; r == 0 && n < 5000; n++)
		r = mno_series_append(s->s, t, 1000 + n, &id, &(double){n}, 1);
	assert_int_equal(r, -E2BIG);
	assert_true(n > 2048);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
	t = begin(s);
	assert_int_equal(mno_series_append(s->s, t, 1000, &id, &(double){5}, 1), 0);
	commit(s, t);
}

/* --- crash ------------------------------------------------------------------------------------------- */

#define C_SERIES 200
static double crash_value(uint32_t id, int64_t t)
{
	return id % 5 == 0 ? 3 : id % 3 ? (double)(t * id) : (double)(t % 1000) / 7;
}

static void crash_child(struct st *s, int fd)
{
	uint32_t ids[C_SERIES];
	double v[C_SERIES];
	struct mno_series_stat st;
	struct mno_txn *t;
	char key[32];

	if (mno_store_open(s->tmp.dir, NULL, &s->e) < 0 || mno_series_open(s->e, &s->s) < 0)
		_exit(2);
	if (mno_store_begin(s->e, &t) < 0)
		_exit(3);
	for (uint32_t i = 0; i < C_SERIES; i++) {
		snprintf(key, sizeof(key), "c{i=\"%u\"}", i);
		if (mno_series_resolve(s->s, t, key, strlen(key), &ids[i]) < 0)
			_exit(4);
	}
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
	mno_series_stat(s->s, &st);
	for (int64_t now = st.last_ms + 1;; now++) {
		for (uint32_t i = 0; i < C_SERIES; i++)
			v[i] = crash_value(ids[i], now);
		if (mno_store_begin(s->e, &t) < 0 ||
			mno_series_append(s->s, t, now, ids, v, C_SERIES) < 0 ||
			mno_store_commit(s->e, t) < 0)
			_exit(5);
		mno_series_committed(s->s);
		if (write(fd, &now, sizeof(now)) != sizeof(now))
			_exit(6);
	}
}

static int crash_column(void *arg, const struct mno_column *c)
{
	int64_t last = *(int64_t *)arg;

	assert_true(c->n >= (size_t)last); /* one row a millisecond, from 1 on */
	for (size_t i = 0; i < c->n; i++) {
		assert_int_equal(c->t_ms[i], (int64_t)i + 1);
		assert_true(c->v[i] == crash_value(c->id, c->t_ms[i]));
	}
	return 0;
}

static void test_kill(void **state)
{
	struct st *s = *state;
	uint64_t seed = 77;
	int64_t last = 0, now;

	down(s);
	for (int round = 0; round < 12 || (last <= HEAD_ROWS + 20 && round < 200); round++) {
		struct mno_ids ids = {0};
		int fd[2];
		pid_t pid;

		assert_int_equal(pipe(fd), 0);
		pid = fork();
		if (pid == 0)
			crash_child(s, fd[1]);
		close(fd[1]);
		usleep(30000 + rnd(&seed) % 60000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		while (read(fd[0], &now, sizeof(now)) == sizeof(now))
			last = now;
		close(fd[0]);
		up(s);
		assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
		assert_int_equal(ids.n, last ? C_SERIES : 0);
		assert_int_equal(mno_series_read(s->s, ids.v, ids.n, INT64_MIN, INT64_MAX, SIZE_MAX,
					 crash_column, &last),
			0);
		mno_ids_done(&ids);
		down(s);
	}
	assert_true(last > HEAD_ROWS); /* it went across a seal */
	up(s);
}

/* --- readers beside the writer ---------------------------------------------------------------------------- */

struct race {
	struct st *s;
	uint32_t ids[70];
	_Atomic int64_t committed;
	_Atomic bool stop;
	_Atomic size_t reads;
};

static int race_column(void *arg, const struct mno_column *c)
{
	int64_t upto = *(int64_t *)arg;

	if (c->n < (size_t)upto)
		return -ERANGE;
	for (size_t i = 0; i < c->n; i++)
		if (c->t_ms[i] != (int64_t)i + 1 || c->v[i] != (double)(c->t_ms[i] * c->id))
			return -EPROTO;
	return 0;
}

static void *race_reader(void *arg)
{
	struct race *q = arg;
	struct mno_series_stat st;

	while (!q->stop) {
		int64_t upto = q->committed;
		int r = mno_series_read(
			q->s->s, q->ids, 70, 1, INT64_MAX, SIZE_MAX, race_column, &upto);

		if (r < 0)
			return (void *)(intptr_t)r;
		mno_series_stat(q->s->s, &st);
		if (st.samples < (uint64_t)upto * 70)
			return (void *)(intptr_t)-EILSEQ;
		q->reads++;
	}
	return NULL;
}

/* No gap and no sample twice, while blocks are sealed and committed. */
static void test_readers(void **state)
{
	struct st *s = *state;
	struct race q = {.s = s};
	struct mno_txn *t = begin(s);
	pthread_t th[2];
	char key[32];

	for (unsigned i = 0; i < 70; i++) {
		snprintf(key, sizeof(key), "r{i=\"%u\"}", i);
		q.ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&th[i], NULL, race_reader, &q), 0);
	for (int64_t now = 1; now < 2400; now++) {
		double v[70];

		for (unsigned i = 0; i < 70; i++)
			v[i] = (double)(now * q.ids[i]);
		t = begin(s);
		assert_int_equal(mno_series_append(s->s, t, now, q.ids, v, 70), 0);
		commit(s, t);
		q.committed = now;
	}
	q.stop = true;
	for (int i = 0; i < 2; i++) {
		void *r;

		pthread_join(th[i], &r);
		assert_int_equal((intptr_t)r, 0);
	}
	assert_true(q.reads > 4);
}

/* A slow callback keeps no transaction open, or pages could not be reused meanwhile. */
struct slow {
	struct st *s;
	int lines;
};

static int holds_txn(const char *msg, void *arg)
{
	/* "pid thread txnid": a slot without a transaction shows "-" */
	*(int *)arg += strchr(msg, '-') == NULL && strstr(msg, "txnid") == NULL &&
		       strstr(msg, "no active") == NULL;
	return 0;
}

/* Those that a writer does not end before it begins. */
static int held_snapshots(struct mno_env *e)
{
	int lines = 0;

	mno_env_readers_reset(e);
	mdb_reader_list(e->env, holds_txn, &lines);
	return lines;
}

static int no_txn_column(void *arg, const struct mno_column *c)
{
	struct slow *q = arg;

	q->lines += held_snapshots(q->s->e->main);
	return 0;
}

static void test_no_long_reader(void **state)
{
	struct st *s = *state;
	struct slow q = {.s = s};
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m");
	MDB_txn *held;

	commit(s, t);
	add_rows(s, &id, 1, 1, 600);
	assert_int_equal(
		mno_read_begin(s->e->main, &held), 0); /* the check sees one that is held */
	assert_true(held_snapshots(s->e->main) > 0);
	mno_read_end(s->e->main, held);
	assert_int_equal(mno_series_read(s->s, &id, 1, 0, 1000, SIZE_MAX, no_txn_column, &q), 0);
	assert_int_equal(q.lines, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_round_trip),
		T(test_rollback),
		T(test_bad_rows),
		T(test_huge_transaction),
		T(test_kill),
		T(test_readers),
		T(test_no_long_reader),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
