/* SPDX-License-Identifier: Apache-2.0 */
/* Keys are changed while the store works; a crash at any point is taken up; nothing is lost. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include "../../../libmno/src/crypt/crypt.h"
#include "../series/rig.h"
#include "mno/ledger.h"
#include "mno/store_check.h"
#include "mno/store_keys.h"

#define IDS  70
#define ROWS 600

static void fill(struct st *s)
{
	struct mno_txn *t = begin(s);
	struct mno_proc proc = {.pid = 7, .start_ns = 10, .end_ns = NS_PER_SEC};
	uint32_t ids[IDS];
	char key[32];

	for (unsigned i = 0; i < IDS; i++) {
		snprintf(key, sizeof(key), "k{i=\"%u\"}", i);
		ids[i] = resolve(s, t, key);
		assert_int_equal(ids[i], i + 1);
	}
	assert_int_equal(mno_ledger_store(s->e, t, &proc, 1), 0);
	commit(s, t);
	add_rows(s, ids, IDS, 1, ROWS + 1);
}

/* All samples are there, and no value is damaged. */
static void whole(struct st *s)
{
	struct mno_verify_opts o = {.sz = sizeof(o), .deep = true, .pages = false};
	struct mno_verify_progress p;
	struct seen seen = {0};
	uint32_t ids[IDS];

	for (unsigned i = 0; i < IDS; i++)
		ids[i] = i + 1;
	assert_int_equal(
		mno_series_read(s->s, ids, IDS, 0, 100000, SIZE_MAX, count_column, &seen), 0);
	assert_int_equal(seen.samples, IDS * ROWS);
	assert_int_equal(seen.damaged, 0);
	assert_int_equal(mno_store_verify(s->e, &o, &p), 0);
	assert_int_equal(p.damaged, 0);
}

static void kek_id(struct st *s, char id[17])
{
	struct mno_store_keys_stat k;

	assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
	assert_true(k.encrypted);
	assert_false(k.changing);
	memcpy(id, k.kek_id, 17);
}

static void *read_on(void *arg)
{
	struct st *s = arg;
	uint32_t ids[2] = {1, 70};

	for (unsigned i = 0; i < 200; i++) {
		struct seen seen = {0};

		assert_int_equal(
			mno_series_read(s->s, ids, 2, 0, 100000, SIZE_MAX, count_column, &seen), 0);
		assert_int_equal(seen.samples, 2 * ROWS);
	}
	return NULL;
}

static void test_kek(void **state)
{
	struct st *s = *state;
	char before[17], after[17], path[128];
	struct mno_keys_opts o = {.sz = sizeof(o), .source = MNO_KEY_PASSPHRASE, .name = path};
	pthread_t reader;
	FILE *f;

	fill(s);
	kek_id(s, before);
	assert_int_equal(pthread_create(&reader, NULL, read_on, s), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	pthread_join(reader, NULL);
	kek_id(s, after);
	assert_string_not_equal(before, after);
	down(s);
	up(s);
	whole(s);
	/* another source: the store remembers it, nobody has to name it at the next start */
	snprintf(path, sizeof(path), "%s/phrase", s->tmp.dir);
	f = fopen(path, "w");
	fputs("a long passphrase\n", f);
	fclose(f);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(mno_store_rotate_kek(s->e, &o), 0);
	down(s);
	up(s);
	whole(s);
}

/* The steps one by one, as a crash after each leaves them. */
static void test_kek_cut_off(void **state)
{
	struct st *s = *state;
	char before[17], after[17];

	fill(s);
	for (unsigned wrapped = 0; wrapped < 3; wrapped++) {
		struct mno_keys *k = NULL;
		struct mno_env *part = NULL;

		kek_id(s, before);
		assert_int_equal(mno_keys_replace(s->e->dir_fd, NULL, &k), 0);
		if (wrapped > 0)
			assert_int_equal(
				mno_cipher_rewrap(s->e->main->cipher, s->e->main->dir_fd, k), 0);
		if (wrapped > 1) {
			assert_int_equal(
				mno_store_env(s->e, MNO_CLASS_EVENT, 1000, false, &part), 0);
			assert_int_equal(mno_cipher_rewrap(part->cipher, part->dir_fd, k), 0);
			mno_env_unref(part);
		}
		mno_keys_close(k);
		down(s);
		up(s);
		kek_id(s, after);
		assert_string_not_equal(before, after);
		whole(s);
	}
}

static void rotate_for_ever(const char *dir)
{
	struct st s = {0};
	size_t n;

	snprintf(s.tmp.dir, sizeof(s.tmp.dir), "%s", dir);
	up(&s);
	s.e->reseal.grace_ns = 0;
	for (;;) {
		struct mno_txn *t;

		mno_store_rotate_kek(s.e, NULL);
		mno_store_rotate_data(s.e, "main", &n);
		for (unsigned i = 0; i < 3; i++) {
			t = begin(&s);
			mno_store_reseal(s.e, t, 20000);
			commit(&s, t);
			mno_store_resealed(s.e);
		}
	}
}

static void test_killed(void **state)
{
	struct st *s = *state;
	uint64_t seed = 3;

	fill(s);
	down(s);
	for (unsigned i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (pid == 0)
			rotate_for_ever(s->tmp.dir);
		usleep((useconds_t)(20000 + rnd(&seed) % 60000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		up(s);
		whole(s);
		if (i < 39)
			down(s);
	}
}

static void step(struct st *s, size_t bytes)
{
	struct mno_txn *t = begin(s);

	assert_int_equal(mno_store_reseal(s->e, t, bytes), 0);
	commit(s, t);
	assert_int_equal(mno_store_resealed(s->e), 0);
}

static void test_data(void **state)
{
	struct st *s = *state;
	struct mno_store_keys_stat k;
	unsigned steps = 0;
	uint8_t old;
	size_t n;

	fill(s);
	old = mno_cipher_current(s->e->main->cipher);
	assert_int_equal(mno_store_rotate_data(s->e, "ts-19990101", &n), -ENOENT);
	assert_int_equal(mno_store_rotate_data(s->e, NULL, &n), 0);
	assert_int_equal(n, 2);
	assert_int_not_equal(mno_cipher_current(s->e->main->cipher), old);
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), -EBUSY);
	whole(s);
	for (;;) {
		s->e->reseal.grace_ns = 0;
		step(s, 1000);
		assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
		if (!k.resealing)
			break;
		if (++steps == 4) { /* the place survives */
			down(s);
			up(s);
		}
		assert_true(steps < 200);
	}
	assert_true(steps > 5);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	whole(s);
	down(s);
	up(s);
	whole(s);
}

/* The transaction that did the last values is lost: the key that still has them must stay. */
static void test_data_aborted(void **state)
{
	struct st *s = *state;
	struct mno_store_keys_stat k;
	struct mno_txn *t;
	size_t n;

	fill(s);
	s->e->reseal.grace_ns = 0;
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	t = begin(s);
	assert_int_equal(mno_store_reseal(s->e, t, 100 << 20), 0);
	mno_store_abort(s->e, t);
	mno_series_rollback(s->s);
	commit(s, begin(s));
	assert_int_equal(mno_store_resealed(s->e), 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	whole(s);
	step(s, 100 << 20);
	assert_int_equal(mno_store_keys_stat(s->e, &k), 0);
	assert_false(k.resealing);
	whole(s);
}

/* Who reads as of before sees values of the old key, and opens them. */
static void test_data_read(void **state)
{
	struct st *s = *state;
	MDB_txn *t;
	size_t n;

	fill(s);
	s->e->reseal.grace_ns = 0;
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	assert_int_equal(mno_read_begin(s->e->main, &t), 0);
	usleep(30000);
	step(s, 100 << 20);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	mno_read_end(s->e->main, t);
	step(s, 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	/* copies of values outlive the read by a moment */
	assert_int_equal(mno_store_rotate_data(s->e, "main", &n), 0);
	s->e->reseal.grace_ns = MNO_RESEAL_GRACE_NS;
	step(s, 100 << 20);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 2);
	s->e->reseal.grace_ns = 0;
	step(s, 0);
	assert_int_equal(mno_cipher_count(s->e->main->cipher), 1);
	whole(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kek),
		T(test_kek_cut_off),
		T(test_data),
		T(test_data_aborted),
		T(test_data_read),
		T(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
