/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "../../../libmno/src/series/series_internal.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"
#include "mno/time.h"

struct st {
	struct tmpstate tmp;
	struct mno_env *e;
	struct mno_series *s;
};

static void up(struct st *s)
{
	assert_int_equal(mno_env_open(s->tmp.dir, NULL, &s->e), 0);
	assert_int_equal(mno_series_open(s->e, &s->s), 0);
}

static void down(struct st *s)
{
	s->s = mno_series_close(s->s);
	s->e = mno_env_close(s->e);
}

static int setup(void **state)
{
	struct st *s = calloc(1, sizeof(*s));

	tmpstate_new(&s->tmp);
	up(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct st *s = *state;

	down(s);
	tmpstate_done(&s->tmp);
	free(s);
	return 0;
}

static struct mno_txn *begin(struct st *s)
{
	struct mno_txn *t;

	assert_int_equal(mno_env_begin(s->e, &t), 0);
	return t;
}

static void commit(struct st *s, struct mno_txn *t)
{
	assert_int_equal(mno_env_commit(s->e, t), 0);
	mno_series_committed(s->s);
}

static uint32_t resolve(struct st *s, struct mno_txn *t, const char *key)
{
	uint32_t id;

	assert_int_equal(mno_series_resolve(s->s, t, key, strlen(key), &id), 0);
	return id;
}

/* --- keys ------------------------------------------------------------------------------------ */

static void test_keys(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	static const char *const bad[] = {"", "{", "a{", "a}", "a{b}", "a{b=}", "a{b=\"",
		"a{b=\"x}", "a{b=\"x\",}", "a{,b=\"x\"}", "a{b=\"x\"}c", "a{b=\"x\",b=\"y\"}", "1a",
		"a{1=\"x\"}", "a{b=\"\\q\"}", "a{b=\"x\" }", "a b", "{}", "a{__name__=\"b\"}",
		"a{b:c=\"x\"}", "a{b=\"\\", "{b=\"\"}"};
	static const char *const same[][2] = {
		{"m{a=\"1\",b=\"2\"}", "m{b=\"2\",a=\"1\"}"},
		{"m{a=\"1\",b=\"2\"}", "m{a=\"1\",b=\"2\",c=\"\"}"},
		{"m", "m{}"},
	};
	_cleanup_buf_ struct mno_buf out = {0};
	uint32_t id;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(mno_series_resolve(s->s, t, bad[i], strlen(bad[i]), &id), -EINVAL);
	assert_int_equal(mno_series_resolve(s->s, t, "a{b=\"x\0y\"}", 11, &id), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		assert_int_equal(resolve(s, t, same[i][0]), resolve(s, t, same[i][1]));
	assert_int_not_equal(resolve(s, t, "m"), resolve(s, t, "m{a=\"1\"}"));
	id = resolve(s, t, "a:b_1{x=\"q\\\"\\\\\\n\xff\xfe\x01{},=\"}");
	assert_int_equal(mno_series_key(s->s, id, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "a:b_1{x=\"q\\\"\\\\\\n\xff\xfe\x01{},=\"}");
	assert_int_equal(mno_series_key(s->s, id + 1, &out), -ENOENT);
	mno_env_abort(s->e, t);
	mno_series_rollback(s->s);
}

static void test_key_limits(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	_cleanup_buf_ struct mno_buf key = {0}, many = {0};
	uint32_t id;

	mno_buf_adds(&key, "m{a=\"");
	while (key.len < KEY_MAX - 2)
		mno_buf_addc(&key, 'x');
	mno_buf_adds(&key, "\"}");
	assert_int_equal(mno_series_resolve(s->s, t, key.data, key.len, &id), 0);
	mno_buf_addc(&key, ' ');
	assert_int_equal(mno_series_resolve(s->s, t, key.data, key.len, &id), -EINVAL);
	mno_buf_adds(&many, "m{");
	for (unsigned i = 0; i < KEY_LABELS; i++)
		mno_buf_addf(&many, "%sl%02u=\"v\"", i ? "," : "", i);
	mno_buf_adds(&many, "}");
	assert_int_equal(mno_series_resolve(s->s, t, many.data, many.len, &id), -EINVAL);
	mno_env_abort(s->e, t);
	mno_series_rollback(s->s);
}

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
		mno_env_abort(s->e, t);
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
	mno_env_abort(s->e, t);
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
	mno_env_abort(s->e, t);
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

	if (mno_env_open(s->tmp.dir, NULL, &s->e) < 0 || mno_series_open(s->e, &s->s) < 0)
		_exit(2);
	if (mno_env_begin(s->e, &t) < 0)
		_exit(3);
	for (uint32_t i = 0; i < C_SERIES; i++) {
		snprintf(key, sizeof(key), "c{i=\"%u\"}", i);
		if (mno_series_resolve(s->s, t, key, strlen(key), &ids[i]) < 0)
			_exit(4);
	}
	mno_env_abort(s->e, t);
	mno_series_rollback(s->s);
	mno_series_stat(s->s, &st);
	for (int64_t now = st.last_ms + 1;; now++) {
		for (uint32_t i = 0; i < C_SERIES; i++)
			v[i] = crash_value(ids[i], now);
		if (mno_env_begin(s->e, &t) < 0 ||
			mno_series_append(s->s, t, now, ids, v, C_SERIES) < 0 ||
			mno_env_commit(s->e, t) < 0)
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

/* --- damage -------------------------------------------------------------------------------------------- */

static void flip(
	struct st *s, enum mno_db db, enum mno_seek dir, const void *key, size_t klen, size_t bit)
{
	_cleanup_buf_ struct mno_buf k = {0}, v = {0};
	struct mno_txn *t = begin(s);

	assert_int_equal(mno_store_fetch(s->e, db, dir, key, klen, &k, &v), 0);
	v.data[bit / 8] ^= (char)(1 << bit % 8);
	assert_int_equal(mno_txn_put(t, db, k.data, k.len, v.data, v.len), 0);
	commit(s, t);
}

static void add_rows(struct st *s, const uint32_t *ids, size_t n_ids, int64_t from, int64_t to)
{
	struct mno_txn *t = begin(s);
	double v[256];

	for (int64_t now = from; now < to; now++) {
		for (size_t i = 0; i < n_ids; i++)
			v[i] = (double)(now * ids[i]);
		assert_int_equal(mno_series_append(s->s, t, now, ids, v, n_ids), 0);
		if (now % 100 == 99) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
}

struct seen {
	size_t columns, samples, damaged;
	int64_t last;
};

static int count_column(void *arg, const struct mno_column *c)
{
	struct seen *seen = arg;

	seen->columns++;
	seen->samples += c->n;
	seen->damaged += c->damaged;
	for (size_t i = 0; i < c->n; i++)
		assert_true(c->v[i] == (double)(c->t_ms[i] * c->id) || isnan(c->v[i]));
	if (c->n)
		seen->last = c->t_ms[c->n - 1];
	return 0;
}

static void test_damaged_block(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t ids[130];
	char key[32];
	uint8_t from[12] = {0};

	for (unsigned i = 0; i < 130; i++) {
		snprintf(key, sizeof(key), "d{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	add_rows(s, ids, 130, 1, 600);                 /* two sealed blocks of three groups */
	for (size_t bit = 0; bit < 48 * 8; bit += 5) { /* header; then the first payload byte */
		struct seen seen = {0};
		size_t at = bit < 48 * 8 - 5 ? bit : 48 * 8;

		flip(s, MNO_DB_BLOCK, MNO_SEEK_GE, from, sizeof(from), at);
		assert_int_equal(
			mno_series_read(s->s, ids, 130, 0, 1000, SIZE_MAX, count_column, &seen), 0);
		assert_int_equal(seen.columns, 130);
		/* ids begin at 1: the first group holds 63 of them */
		assert_int_equal(seen.damaged, 63);
		assert_int_equal(seen.samples, 130 * 599 - 63 * 256);
		flip(s, MNO_DB_BLOCK, MNO_SEEK_GE, from, sizeof(from), at);
	}
	struct seen whole = {0};
	struct mno_env_stat st;

	assert_int_equal(
		mno_series_read(s->s, ids, 130, 0, 1000, SIZE_MAX, count_column, &whole), 0);
	assert_int_equal(whole.samples, 130 * 599);
	assert_int_equal(whole.damaged, 0);
	assert_int_equal(mno_env_stat(s->e, &st), 0);
	assert_true(st.damaged > 0);
}

/* A damaged tail row ends the replay there; what follows can be stored and replayed again. */
static void test_damaged_tail(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t ids[3] = {resolve(s, t, "a"), resolve(s, t, "b"), resolve(s, t, "c")};
	struct seen seen = {0};
	uint8_t key[8];

	commit(s, t);
	add_rows(s, ids, 3, 1, 301); /* 256 sealed, 44 in the tail */
	mno_be64(key, mno_time_key(280));
	flip(s, MNO_DB_TAIL, MNO_SEEK_EQ, key, 8, 48 * 8 + 3);
	down(s);
	up(s);
	assert_int_equal(mno_series_read(s->s, ids, 3, 0, 1000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, 3 * 279);
	add_rows(s, ids, 3, 400, 450);
	down(s);
	up(s);
	seen = (struct seen){0};
	assert_int_equal(mno_series_read(s->s, ids, 3, 0, 1000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, 3 * (279 + 50));
	assert_int_equal(seen.last, 449);
}

static void test_damaged_dictionary(void **state)
{
	struct st *s = *state;
	struct mno_txn *t = begin(s);
	uint32_t a = resolve(s, t, "a"), b = resolve(s, t, "b");
	struct mno_ids ids = {0};
	uint8_t key[4];

	commit(s, t);
	add_rows(s, (uint32_t[]){a, b}, 2, 1, 10);
	mno_be32(key, a);
	flip(s, MNO_DB_SERIES, MNO_SEEK_EQ, key, 4, 48 * 8);
	down(s);
	up(s);
	t = begin(s);
	assert_int_equal(resolve(s, t, "b"), b);
	assert_true(resolve(s, t, "a") > b); /* a new one */
	commit(s, t);
	add_rows(s, (uint32_t[]){b}, 1, 20, 30);
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, 2);
	mno_ids_done(&ids);
}

/* --- churn, expiry, memory ---------------------------------------------------------------------------- */

static void test_churn(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_ids ids = {0};
	struct mno_matcher m = {MNO_MATCH_EQ, "i", "77", NULL};
	struct mno_txn *t;
	uint64_t peak = 0, early = 0;
	uint32_t first = 0, id;
	struct seen seen = {0};
	char key[40];
	bool more = true;

	/* 4 new series per row, each lives 8 rows: 12,000 in all, 32 at a time */
	for (int64_t now = 0; now < 3000; now++) {
		uint32_t live[32];
		double v[32];

		t = begin(s);
		for (unsigned i = 0; i < 32; i++) {
			snprintf(key, sizeof(key), "churn{i=\"%u\"}", (unsigned)now * 4 + i);
			live[i] = resolve(s, t, key);
			v[i] = (double)((now + 1) * live[i]);
			if (now == 70 && i == 0)
				first = live[0];
		}
		assert_int_equal(mno_series_append(s->s, t, now + 1, live, v, 32), 0);
		commit(s, t);
		mno_series_stat(s->s, &st);
		peak = MNO_MAX(peak, st.memory_bytes);
		if (now == 1000)
			early = peak;
	}
	assert_int_equal(st.series, 3000 * 4 + 28);
	assert_true(st.head_series < 3 * 256 * 4);
	assert_true(peak < early + early / 4); /* flat */
	/* one that left long ago is still found, by the same id */
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, st.series);
	for (size_t i = 1; i < ids.n; i++)
		assert_true(ids.v[i] > ids.v[i - 1]);
	assert_int_equal(mno_series_select(s->s, NULL, 0, 100, &ids), -MNO_ELIMIT);
	mno_ids_done(&ids);
	assert_int_equal(mno_series_select(s->s, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 1);
	id = ids.v[0];
	mno_ids_done(&ids);
	t = begin(s);
	assert_int_equal(resolve(s, t, "churn{i=\"77\"}"), id);
	assert_int_equal(resolve(s, t, "churn{i=\"280\"}"), first);
	commit(s, t);
	assert_int_equal(mno_series_read(s->s, &id, 1, 0, 10000, SIZE_MAX, count_column, &seen), 0);
	/* retention takes blocks and names */
	for (unsigned i = 0; more && i < 1000; i++) {
		t = begin(s);
		assert_int_equal(mno_series_expire(s->s, t, 2000, &more), 0);
		commit(s, t);
	}
	assert_false(more);
	mno_series_stat(s->s, &st);
	assert_true(st.series < 7000 && st.series > 4000);
	assert_true(st.first_ms > 1500 && st.first_ms <= 2000);
	down(s);
	up(s);
	assert_int_equal(mno_series_select(s->s, NULL, 0, SIZE_MAX, &ids), 0);
	assert_int_equal(ids.n, st.series);
	mno_ids_done(&ids);
	m.value = "120";
	assert_int_equal(mno_series_select(s->s, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 0);
	mno_ids_done(&ids);
}

static void test_memory_bound(void **state)
{
	struct st *s = *state;
	struct mno_series_stat st;
	struct mno_txn *t = begin(s);
	static uint32_t ids[2000];
	static double v[2000];
	uint64_t peak = 0;
	char key[200];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key),
			"mno_some_metric_%u_seconds_total{cgroup=\"/system.slice/unit-%u.service\","
			"mode=\"%u\"}",
			i % 40, i / 40, i % 7);
		ids[i] = resolve(s, t, key);
	}
	commit(s, t);
	for (int64_t now = 1; now < 600; now++) {
		t = begin(s);
		for (unsigned i = 0; i < 2000; i++)
			v[i] = i % 3 ? (double)(i * now) : 1;
		assert_int_equal(mno_series_append(s->s, t, now, ids, v, 2000), 0);
		mno_series_stat(s->s, &st);
		peak = MNO_MAX(peak, st.memory_bytes);
		commit(s, t);
	}
	printf("2,000 series: at most %.2f MiB\n", (double)peak / (1 << 20));
	assert_true(peak <= 6u << 20);
}

/* --- select ------------------------------------------------------------------------------------------------ */

#define S_SERIES 10000
static void make_many(struct st *s)
{
	struct mno_txn *t = begin(s);
	uint32_t id;
	char key[160];

	for (unsigned i = 0; i < S_SERIES; i++) {
		snprintf(key, sizeof(key), "m%u{cpu=\"%u\",host=\"h%u\"%s}", i % 50, i % 64,
			i / 640, i % 2 ? ",odd=\"yes\"" : "");
		assert_int_equal(mno_series_resolve(s->s, t, key, strlen(key), &id), 0);
	}
	assert_int_equal(mno_series_append(s->s, t, 1, &id, &(double){1}, 1), 0);
	commit(s, t);
}

static bool naive(unsigned i, unsigned c)
{
	char name[8], cpu[8];

	snprintf(name, sizeof(name), "m%u", i % 50);
	snprintf(cpu, sizeof(cpu), "%u", i % 64);
	switch (c) {
	case 0:
		return strcmp(name, "m7") == 0;
	case 1:
		return strcmp(name, "m7") != 0;
	case 2:
		return name[1] == '1' && !name[3];
	case 3:
		return i % 2 == 0;
	case 4:
		return i % 2 == 1;
	case 5:
		return strcmp(cpu, "3") == 0 && strcmp(name, "m3") == 0;
	case 6:
		return false;
	default:
		return true;
	}
}

static void test_select(void **state)
{
	struct st *s = *state;
	struct mno_matcher cases[][2] = {
		{{MNO_MATCH_EQ, "__name__", "m7", NULL}},
		{{MNO_MATCH_NE, "__name__", "m7", NULL}},
		{{MNO_MATCH_RE, "__name__", "m1.?", NULL}},
		{{MNO_MATCH_EQ, "odd", "", NULL}},
		{{MNO_MATCH_NRE, "odd", "", NULL}},
		{{MNO_MATCH_EQ, "cpu", "3", NULL}, {MNO_MATCH_RE, "__name__", "m(3|4)", NULL}},
		{{MNO_MATCH_EQ, "no_such", "x", NULL}},
		{{MNO_MATCH_RE, "no_such", ".*", NULL}},
	};
	char err[200];

	make_many(s);
	for (int again = 0; again < 2; again++) {
		for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
			struct mno_ids ids = {0};
			size_t n = cases[c][1].name ? 2 : 1, want = 0;
			uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC), took;

			assert_int_equal(mno_matchers_compile(cases[c], n, err, sizeof(err)), 0);
			assert_int_equal(mno_series_select(s->s, cases[c], n, SIZE_MAX, &ids), 0);
			took = mno_now_ns(CLOCK_MONOTONIC) - t0;
			for (unsigned i = 0; i < S_SERIES; i++)
				want += naive(i, c);
			assert_int_equal(ids.n, want);
			printf("select case %u: %zu ids, %.2f ms\n", c, ids.n, (double)took / 1e6);
			mno_ids_done(&ids);
			mno_matchers_done(cases[c], n);
		}
		down(s); /* the same from what is stored */
		up(s);
	}
}

static void test_regex(void **state)
{
	struct st *s = *state;
	static const char *const bad[] = {"(", "[", "*", "a(?=b)", "a(?!b)", "(?<=a)b", "(a)\\1",
		"a++", "(?R)", "(?>a)", "(*ANYCRLF)a", "\\Ka", "(?P>x)", "(?1)", "\\"};
	static const char *const good[] = {"a|b", "(?:a)", "(?i)A", "(?P<x>a)", "[a-z]+", "[]a]",
		"\\.", "a{1,3}", "a*?", "\\d+", "[[:alpha:]]", "\\pL", "^a$", "", "[\\]x]"};
	struct mno_matcher slow = {MNO_MATCH_RE, "v", "(a|aa|aaa)+", NULL};
	struct mno_txn *t;
	struct mno_ids ids = {0};
	char err[256], key[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct mno_matcher m = {MNO_MATCH_RE, "a", bad[i], NULL};

		err[0] = '\0';
		assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), -MNO_ESYNTAX);
		assert_true(err[0]);
		mno_matchers_done(&m, 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct mno_matcher m = {MNO_MATCH_RE, "a", good[i], NULL};

		assert_int_equal(mno_matchers_compile(&m, 1, err, sizeof(err)), 0);
		mno_matchers_done(&m, 1);
	}
	/* catastrophic backtracking ends at the limit */
	snprintf(key, sizeof(key), "m{v=\"%0200d\"}", 0);
	for (char *p = strchr(key, '0'); *p == '0'; p++)
		*p = p[1] == '0' ? 'a' : '!';
	t = begin(s);
	resolve(s, t, key);
	commit(s, t);
	assert_int_equal(mno_matchers_compile(&slow, 1, err, sizeof(err)), 0);
	assert_int_equal(mno_series_select(s->s, &slow, 1, SIZE_MAX, &ids), -MNO_ELIMIT);
	mno_matchers_done(&slow, 1);
	/* not compiled */
	assert_int_equal(mno_series_select(s->s, &slow, 1, SIZE_MAX, &ids), -EINVAL);
}

static int collect(void *arg, const char *text)
{
	mno_buf_addf(arg, "%s ", text);
	return 0;
}

static int collect_label(void *arg, const char *name, const char *value)
{
	mno_buf_addf(arg, "%s=%s ", name, value);
	return 0;
}

static int stop_now(void *arg, const char *text)
{
	return 77;
}

static void test_labels(void **state)
{
	struct st *s = *state;
	struct mno_matcher m = {MNO_MATCH_EQ, "__name__", "y", NULL};
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_txn *t = begin(s);
	uint32_t id;

	resolve(s, t, "x{Z=\"1\",b=\"2\"}");
	id = resolve(s, t, "y{c=\"q\",Z=\"2\"}");
	resolve(s, t, "y");
	commit(s, t);
	assert_int_equal(mno_series_label_names(s->s, NULL, 0, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "Z __name__ b c ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_label_names(s->s, &m, 1, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "Z __name__ c ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_label_values(s->s, "Z", NULL, 0, collect, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "1 2 ");
	mno_buf_reset(&out);
	assert_int_equal(mno_series_labels(s->s, id, collect_label, &out), 0);
	assert_string_equal(mno_buf_cstr(&out), "__name__=y Z=2 c=q ");
	assert_int_equal(mno_series_label_names(s->s, NULL, 0, stop_now, NULL), 77);
	assert_int_equal(mno_series_labels(s->s, 999, collect_label, &out), -ENOENT);
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

	while (!q->stop) {
		int64_t upto = q->committed;
		int r = mno_series_read(
			q->s->s, q->ids, 70, 1, INT64_MAX, SIZE_MAX, race_column, &upto);

		if (r < 0)
			return (void *)(intptr_t)r;
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

static int no_txn_column(void *arg, const struct mno_column *c)
{
	struct slow *q = arg;

	mdb_reader_list(q->s->e->env, holds_txn, &q->lines);
	return 0;
}

static void test_no_long_reader(void **state)
{
	struct st *s = *state;
	struct slow q = {.s = s};
	struct mno_txn *t = begin(s);
	uint32_t id = resolve(s, t, "m");
	MDB_txn *held;
	int lines = 0;

	commit(s, t);
	add_rows(s, &id, 1, 1, 600);
	assert_int_equal(mno_read_begin(s->e, &held), 0); /* the check sees one that is held */
	mdb_reader_list(s->e->env, holds_txn, &lines);
	mno_read_end(s->e, held);
	assert_true(lines > 0);
	assert_int_equal(mno_series_read(s->s, &id, 1, 0, 1000, SIZE_MAX, no_txn_column, &q), 0);
	assert_int_equal(q.lines, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_keys),
		T(test_key_limits),
		T(test_round_trip),
		T(test_rollback),
		T(test_bad_rows),
		T(test_huge_transaction),
		T(test_kill),
		T(test_damaged_block),
		T(test_damaged_tail),
		T(test_damaged_dictionary),
		T(test_churn),
		T(test_memory_bound),
		T(test_select),
		T(test_regex),
		T(test_labels),
		T(test_readers),
		T(test_no_long_reader),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
