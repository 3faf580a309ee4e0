/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../libmno/src/store/store_internal.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"

struct st {
	struct tmpstate tmp;
	struct mno_store *e;
};

static int open_env(struct st *s, struct mno_store_opts o)
{
	o.sz = sizeof(o);
	return mno_store_open(s->tmp.dir, &o, &s->e);
}

static int setup(void **state)
{
	struct st *s = calloc(1, sizeof(*s));

	tmpstate_new(&s->tmp);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct st *s = *state;

	mno_store_close(s->e);
	tmpstate_done(&s->tmp);
	free(s);
	return 0;
}

static void reopen(struct st *s)
{
	s->e = mno_store_close(s->e);
	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
}

static int put_text(struct st *s, const char *key, const void *val, size_t len)
{
	struct mno_txn *t;
	int r = mno_store_begin(s->e, &t);

	if (r < 0)
		return r;
	r = mno_txn_put(t, MNO_DB_META, key, strlen(key), val, len);
	if (r < 0) {
		mno_store_abort(s->e, t);
		return r;
	}
	return mno_store_commit(s->e, t);
}

static bool has_text(struct st *s, const char *key)
{
	return mno_store_fetch(s->e, MNO_DB_META, MNO_SEEK_EQ, key, strlen(key), NULL, NULL) == 0;
}

static void test_round_trip(void **state)
{
	struct st *s = *state;
	struct mno_store_stat st;
	struct mno_txn *t, *t2;

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_int_equal(put_text(s, "a", "1", 1), 0);
	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_store_begin(s->e, &t2), -EBUSY);
	assert_int_equal(mno_txn_put(t, MNO_DB_META, "b", 1, "2", 1), 0);
	assert_false(has_text(s, "b")); /* not before the commit */
	mno_store_abort(s->e, t);
	assert_int_equal(mno_store_commit(s->e, t), -EINVAL);
	reopen(s);
	assert_true(has_text(s, "a"));
	assert_false(has_text(s, "b"));
	assert_int_equal(mno_store_stat(s->e, &st), 0);
	assert_true(st.file_bytes > 0 && st.used_bytes > 0 && st.used_bytes <= st.file_bytes);
}

static void test_second_open(void **state)
{
	struct st *s = *state;
	struct mno_store *other;
	int status;
	pid_t pid;

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &other), -MNO_EBUSY_STATE);
	pid = fork();
	if (pid == 0)
		_exit(mno_store_open(s->tmp.dir, NULL, &other) == -MNO_EBUSY_STATE ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	reopen(s); /* the refused ones did no harm */
}

static void test_newer_version(void **state)
{
	struct st *s = *state;
	_cleanup_buf_ struct mno_buf v = {0};
	struct mno_store *e;

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_int_equal(
		mno_store_fetch(s->e, MNO_DB_META, MNO_SEEK_EQ, "identity", 8, NULL, &v), 0);
	v.data[0]++; /* the first bytes are the format */
	assert_int_equal(put_text(s, "identity", v.data, v.len), 0);
	assert_int_equal(put_text(s, "identity.copy", "", 0), 0); /* as it would be, too */
	s->e = mno_store_close(s->e);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &e), -MNO_EVERSION);
}

static void write_file(const char *path, const void *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	close(fd);
}

static void make_main(struct st *s)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/main", s->tmp.dir);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void test_no_store(void **state)
{
	struct st *s = *state;
	char junk[16384];
	struct mno_store *e;

	memset(junk, 'x', sizeof(junk));
	make_main(s);
	write_file(s->tmp.data, junk, sizeof(junk));
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &e), -MNO_ECORRUPT);
	assert_int_equal(mno_store_open("/proc/no/such/dir", NULL, &e), -ENOENT);
	assert_int_equal(mno_store_open(s->tmp.data, NULL, &e), -ENOTDIR);
}

/* An LMDB environment of somebody else is not taken over. */
static void test_foreign_store(void **state)
{
	struct st *s = *state;
	MDB_env *m;
	MDB_txn *t;
	MDB_dbi d;
	MDB_val k = {1, (void *)"k"}, v = {1, (void *)"v"};
	struct mno_store *e;
	char path[80];

	make_main(s);
	snprintf(path, sizeof(path), "%s/main", s->tmp.dir);
	assert_int_equal(mdb_env_create(&m), 0);
	assert_int_equal(mdb_env_open(m, path, 0, 0600), 0);
	assert_int_equal(mdb_txn_begin(m, NULL, 0, &t), 0);
	assert_int_equal(mdb_dbi_open(t, NULL, 0, &d), 0);
	assert_int_equal(mdb_put(t, d, &k, &v, 0), 0);
	assert_int_equal(mdb_txn_commit(t), 0);
	mdb_env_close(m);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &e), -MNO_ECORRUPT);
}

static void fill(struct st *s, unsigned from, unsigned n, size_t size)
{
	char *val = calloc(1, size), key[16];
	struct mno_txn *t;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	for (unsigned i = from; i < from + n; i++) {
		snprintf(key, sizeof(key), "k%08u", i);
		assert_int_equal(mno_txn_put(t, MNO_DB_META, key, strlen(key), val, size), 0);
	}
	assert_int_equal(mno_store_commit(s->e, t), 0);
	free(val);
}

static void test_cut_file(void **state)
{
	struct st *s = *state;
	struct mno_store *e;
	struct stat st;

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	fill(s, 0, 2000, 8176);
	s->e = mno_store_close(s->e);
	assert_int_equal(stat(s->tmp.data, &st), 0);
	assert_int_equal(truncate(s->tmp.data, st.st_size / 4), 0);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &e), -MNO_ECORRUPT);
}

static void test_floor(void **state)
{
	struct st *s = *state;
	struct mno_txn *t;

	assert_int_equal(open_env(s, (struct mno_store_opts){.floor_bytes = UINT64_MAX}), 0);
	assert_int_equal(mno_store_begin(s->e, &t), -ENOSPC);
	assert_int_equal(mno_store_begin_reclaim(s->e, &t), 0);
	mno_store_abort(s->e, t);
}

static void test_map_grows(void **state)
{
	struct st *s = *state;
	struct mno_store_stat st;

	assert_int_equal(
		open_env(s, (struct mno_store_opts){.map_initial = 1 << 20, .map_size = 64 << 20}),
		0);
	for (unsigned i = 0; i < 40; i++)
		fill(s, i * 20, 20, 8176);
	assert_int_equal(mno_store_stat(s->e, &st), 0);
	assert_true(st.map_bytes > 4u << 20 && st.map_bytes <= 64u << 20);
	assert_true(has_text(s, "k00000000") && has_text(s, "k00000799"));
}

/* One transaction larger than what is left: refused, then the map grows, then it works. */
static void test_map_full_once(void **state)
{
	struct st *s = *state;
	char val[8176] = {0}, key[16];
	struct mno_txn *t;
	int r = 0;

	assert_int_equal(
		open_env(s, (struct mno_store_opts){.map_initial = 1 << 20, .map_size = 4 << 20}),
		0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(mno_store_begin(s->e, &t), 0);
		r = 0;
		for (unsigned i = 0; i < 150 && r == 0; i++) {
			snprintf(key, sizeof(key), "f%u", i);
			r = mno_txn_put(t, MNO_DB_META, key, strlen(key), val, sizeof(val));
		}
		if (r < 0) {
			assert_int_equal(r, -ENOSPC);
			assert_int_equal(round, 0);
			mno_store_abort(s->e, t);
		}
	}
	assert_int_equal(mno_store_commit(s->e, t), 0);
	assert_true(has_text(s, "f149"));
}

static void test_map_bound(void **state)
{
	struct st *s = *state;
	char val[8176] = {0};
	int r = 0;
	unsigned n = 0;

	assert_int_equal(
		open_env(s, (struct mno_store_opts){.map_initial = 1 << 20, .map_size = 2 << 20}),
		0);
	for (; r == 0 && n < 1000; n++) {
		char key[16];

		snprintf(key, sizeof(key), "b%u", n);
		r = put_text(s, key, val, sizeof(val));
	}
	assert_int_equal(r, -ENOSPC);
	assert_true(has_text(s, "b0")); /* what is there stays */
	reopen(s);
	assert_int_equal(put_text(s, "again", "x", 1), 0);
}

/* A disk that takes no more bytes: the commit fails, what was there serves, the next one works. */
static void child_full_disk(struct st *s)
{
	struct rlimit lim = {4 << 20, RLIM_INFINITY};
	char val[8176] = {0};
	int r = 0;

	signal(SIGXFSZ, SIG_IGN);
	if (open_env(s, (struct mno_store_opts){0}) < 0 || put_text(s, "first", "1", 1) < 0)
		_exit(2);
	setrlimit(RLIMIT_FSIZE, &lim);
	for (unsigned i = 0; r == 0 && i < 2000; i++) {
		char key[16];

		snprintf(key, sizeof(key), "d%u", i);
		r = put_text(s, key, val, sizeof(val));
	}
	if (r == 0)
		_exit(3);
	lim.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &lim);
	if (!has_text(s, "first") || !has_text(s, "d0"))
		_exit(4);
	_exit(put_text(s, "after", "1", 1) < 0 ? 5 : 0);
}

static void test_full_disk(void **state)
{
	struct st *s = *state;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		child_full_disk(s);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_true(has_text(s, "first") && has_text(s, "after"));
}

static void test_read_only(void **state)
{
	struct st *s = *state;
	struct mno_store_opts o = {.sz = sizeof(o), .read_only = true};
	struct mno_store *e = NULL;
	int status;
	pid_t pid;

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_int_equal(put_text(s, "a", "1", 1), 0);
	pid = fork();
	if (pid == 0) {
		struct mno_txn *t;
		struct st in = {0};
		int r = mno_store_open(s->tmp.dir, &o, &e);

		in.e = e;
		_exit(r == 0 && has_text(&in, "a") && mno_store_begin(e, &t) == -EACCES ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* More readers at once than there are places, ended in another order; what was kept sees what was
 * committed since, also after the map grew, and is watched only while it reads. */
static void test_readers_kept(void **state)
{
	enum { MANY = MNO_ENV_READERS + 6 };
	struct st *s = *state;
	MDB_txn *t[MANY];
	struct mno_env *e;
	char text[24];

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	e = s->e->main;
	for (int round = 0; round < 3; round++) {
		_cleanup_buf_ struct mno_buf val = {0};

		snprintf(text, sizeof(text), "round %d", round);
		assert_int_equal(put_text(s, "k", text, strlen(text)), 0);
		for (int i = 0; i < MANY; i++)
			assert_int_equal(mno_read_begin(e, &t[i]), 0);
		for (int i = 0; i < MANY; i++)
			for (int k = 0; k < i; k++)
				assert_ptr_not_equal(t[i], t[k]);
		assert_true(mno_env_oldest_reader_ns(e) > 0);
		for (int i = 0; i < MANY; i++)
			mno_read_end(e, t[i * 11 % MANY]);
		assert_int_equal(mno_env_oldest_reader_ns(e), 0);
		assert_int_equal(mno_env_fetch(e, MNO_DB_META, MNO_SEEK_EQ, "k", 1, NULL, &val), 0);
		assert_int_equal(val.len, strlen(text));
		assert_memory_equal(val.data, text, val.len);
	}
	assert_int_equal(e->slow_readers, 0);
	assert_int_equal(mno_read_begin(e, &t[0]), 0);
	usleep(MNO_READ_SLICE_NS / 1000 + 30000);
	assert_true(mno_env_oldest_reader_ns(e) >= MNO_READ_SLICE_NS);
	mno_read_end(e, t[0]);
	assert_int_equal(e->slow_readers, 1);
}

static void test_seek(void **state)
{
	struct st *s = *state;
	static const struct {
		enum mno_seek dir;
		const char *from, *want;
	} cases[] = {
		{MNO_SEEK_EQ, "zb", "zb"},
		{MNO_SEEK_EQ, "zc", NULL},
		{MNO_SEEK_GE, "zb", "zb"},
		{MNO_SEEK_GE, "zc", "zd"},
		{MNO_SEEK_GT, "zb", "zd"},
		{MNO_SEEK_GT, "zd", NULL},
		{MNO_SEEK_LE, "zb", "zb"},
		{MNO_SEEK_LE, "zc", "zb"},
		{MNO_SEEK_LE, "zz", "zd"},
		{MNO_SEEK_LT, "zd", "zb"},
		{MNO_SEEK_LT, "zz", "zd"},
		{MNO_SEEK_LT, "\1", NULL},
	};

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	assert_int_equal(put_text(s, "zb", "1", 1), 0);
	assert_int_equal(put_text(s, "zd", "1", 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct mno_buf key = {0};
		int r = mno_store_fetch(s->e, MNO_DB_META, cases[i].dir, cases[i].from,
			strlen(cases[i].from), &key, NULL);

		assert_int_equal(r, cases[i].want ? 0 : -ENOENT);
		if (cases[i].want)
			assert_string_equal(mno_buf_cstr(&key), cases[i].want);
	}
}

static void seal(struct st *s, const void *key, size_t klen, const void *raw, size_t len)
{
	struct mno_seal info = {.kind = MNO_SEAL_EVENT, .count = 7, .a = 1, .b = 2};
	struct mno_txn *t;
	size_t bytes;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	assert_int_equal(mno_seal_put(t, MNO_DB_TAIL, key, klen, &info, raw, len, &bytes), 0);
	assert_true(bytes <= 2000 || (bytes + 16) % 4096 == 0);
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

static void test_seal_sizes(void **state)
{
	struct st *s = *state;
	uint64_t seed = 7;
	uint8_t *raw = malloc(70000);

	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	for (size_t i = 0; i < 70000; i++)
		raw[i] = (uint8_t)rnd(&seed);
	for (size_t n = 0; n < 70000; n = n < 4200 ? n + 37 : n * 2) {
		_cleanup_buf_ struct mno_buf val = {0}, out = {0};
		struct mno_seal info;

		seal(s, "key", 3, raw, n);
		assert_int_equal(
			mno_store_fetch(s->e, MNO_DB_TAIL, MNO_SEEK_EQ, "key", 3, NULL, &val), 0);
		assert_int_equal(mno_seal_open(s->e->main, MNO_DB_TAIL, NULL, "key", 3, val.data,
					 val.len, MNO_SEAL_EVENT, &info, &out),
			0);
		assert_int_equal(out.len, n);
		assert_true(n == 0 || memcmp(out.data, raw, n) == 0);
		assert_int_equal(info.count, 7);
		/* the value of another key, and of another kind */
		assert_int_equal(mno_seal_open(s->e->main, MNO_DB_TAIL, NULL, "kez", 3, val.data,
					 val.len, MNO_SEAL_EVENT, &info, &out),
			-MNO_ECORRUPT);
		assert_int_equal(mno_seal_open(s->e->main, MNO_DB_TAIL, NULL, "key", 3, val.data,
					 val.len, MNO_SEAL_PROC, &info, &out),
			-MNO_ECORRUPT);
	}
	free(raw);
}

static void test_every_bit_flip(void **state)
{
	struct st *s = *state;
	_cleanup_buf_ struct mno_buf val = {0}, out = {0};
	char text[600];
	struct mno_seal info;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "process "[i % 8];
	assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
	seal(s, "key", 3, text, sizeof(text));
	assert_int_equal(mno_store_fetch(s->e, MNO_DB_TAIL, MNO_SEEK_EQ, "key", 3, NULL, &val), 0);
	assert_true(val.len < sizeof(text)); /* it was compressed */
	for (size_t bit = 0; bit < val.len * 8; bit++) {
		int r;

		val.data[bit / 8] ^= (char)(1 << bit % 8);
		r = mno_seal_open(s->e->main, MNO_DB_TAIL, NULL, "key", 3, val.data, val.len,
			MNO_SEAL_EVENT, &info, &out);
		assert_true(r == -MNO_ECORRUPT || r == -MNO_EVERSION);
		val.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	for (size_t n = 0; n < val.len; n++)
		assert_int_equal(mno_seal_open(s->e->main, MNO_DB_TAIL, NULL, "key", 3, val.data, n,
					 MNO_SEAL_EVENT, &info, &out),
			-MNO_ECORRUPT);
}

static void child_writes(struct st *s, int fd)
{
	for (uint32_t i = 0;; i++) {
		char key[16];

		snprintf(key, sizeof(key), "c%u", i);
		if (put_text(s, key, &i, sizeof(i)) < 0 || write(fd, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

/* kill -9 in the middle of commits: what was told as committed is there, without any repair. */
static void test_kill(void **state)
{
	struct st *s = *state;
	uint64_t seed = 99;

	for (int round = 0; round < 8; round++) {
		uint32_t last = 0, i;
		bool any = false;
		char key[16];
		int fd[2];
		pid_t pid;

		assert_int_equal(pipe(fd), 0);
		pid = fork();
		if (pid == 0) {
			if (open_env(s, (struct mno_store_opts){0}) < 0)
				_exit(1);
			child_writes(s, fd[1]);
		}
		close(fd[1]);
		any = read(fd[0], &last, sizeof(last)) == sizeof(last); /* it is under way */
		usleep(10000 + rnd(&seed) % 20000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		while (read(fd[0], &i, sizeof(i)) == sizeof(i))
			last = i;
		close(fd[0]);
		assert_true(any);
		assert_int_equal(open_env(s, (struct mno_store_opts){0}), 0);
		for (i = 0; i <= last; i++) {
			snprintf(key, sizeof(key), "c%u", i);
			assert_true(has_text(s, key));
		}
		s->e = mno_store_close(s->e);
	}
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_round_trip),
		T(test_second_open),
		T(test_newer_version),
		T(test_no_store),
		T(test_foreign_store),
		T(test_cut_file),
		T(test_floor),
		T(test_map_grows),
		T(test_map_full_once),
		T(test_map_bound),
		T(test_full_disk),
		T(test_read_only),
		T(test_readers_kept),
		T(test_seek),
		T(test_seal_sizes),
		T(test_every_bit_flip),
		T(test_kill),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
