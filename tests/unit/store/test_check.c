/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over the pages: silent about every healthy file, and no damage that it lets pass kills. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../../libmno/src/store/store_internal.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"

#define PAGE 4096

struct st {
	struct tmpstate tmp;
	struct mno_store *e;
	uint8_t *image; /* of a healthy file */
	size_t size;
};

static int check(struct st *s)
{
	_cleanup_close_ int fd = open(s->tmp.data, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return mno_store_check(fd, 0);
}

static int open_env(struct st *s)
{
	return mno_store_open(s->tmp.dir,
		&(struct mno_store_opts){.sz = sizeof(struct mno_store_opts), .floor_bytes = 1},
		&s->e);
}

/* Puts and deletes of all sizes; now and then nearly all goes, which makes long lists. */
static void change(struct st *s, uint64_t *seed, unsigned round)
{
	static uint8_t value[20000];
	struct mno_txn *t;
	unsigned n = 1 + (unsigned)(rnd(seed) % 60);

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	for (unsigned i = 0; i < n || (round % 40 == 39 && i < 3000); i++) {
		uint32_t key = (uint32_t)(rnd(seed) % 2000);
		enum mno_db db = rnd(seed) % 2 ? MNO_DB_TAIL : MNO_DB_BLOCK;
		size_t len = rnd(seed) % 4 ? rnd(seed) % 300 : rnd(seed) % sizeof(value);

		if (i >= n || rnd(seed) % 3 == 0)
			mno_txn_del(t, db, &key, sizeof(key));
		else
			assert_int_equal(mno_txn_put(t, db, &key, sizeof(key), value, len), 0);
	}
	assert_int_equal(mno_store_commit(s->e, t), 0);
}

static int setup(void **state)
{
	struct st *s = calloc(1, sizeof(*s));
	uint64_t seed = 7;
	struct stat f;
	int fd;

	tmpstate_new(&s->tmp);
	assert_int_equal(open_env(s), 0);
	for (unsigned i = 0; i < 30; i++)
		change(s, &seed, i);
	s->e = mno_store_close(s->e);
	fd = open(s->tmp.data, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &f), 0);
	s->size = (size_t)f.st_size;
	s->image = malloc(s->size);
	assert_int_equal(read(fd, s->image, s->size), s->size);
	close(fd);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct st *s = *state;

	mno_store_close(s->e);
	tmpstate_done(&s->tmp);
	free(s->image);
	free(s);
	return 0;
}

static void write_image(struct st *s, const uint8_t *image)
{
	_cleanup_close_ int fd = open(s->tmp.data, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_int_equal(write(fd, image, s->size), s->size);
}

static void test_healthy(void **state)
{
	struct st *s = *state;
	uint64_t seed = 11;

	assert_int_equal(open_env(s), 0);
	for (unsigned i = 0; i < 400; i++) {
		change(s, &seed, i);
		assert_int_equal(check(s), 0);
	}
}

static uint16_t flags_of(const uint8_t *page)
{
	uint16_t v;

	memcpy(&v, page + 10, sizeof(v));
	return v;
}

/* A branch that leads back to the root would be walked for ever. */
static void test_loop(void **state)
{
	struct st *s = *state;
	size_t found = 0;

	for (uint64_t page = 2; page < s->size / PAGE; page++) {
		uint8_t *p = s->image + page * PAGE, *node, old[6];
		uint16_t at;

		if (flags_of(p) != 1)
			continue;
		memcpy(&at, p + 16, sizeof(at));
		node = p + at;
		memcpy(old, node, sizeof(old));
		memcpy(node, &page, sizeof(old));
		write_image(s, s->image);
		found += check(s) == -MNO_ECORRUPT;
		memcpy(node, old, sizeof(old));
	}
	assert_true(found >= 2); /* the others are pages of the past, which nothing leads to */
}

static void test_wrong_bounds(void **state)
{
	struct st *s = *state;
	size_t found = 0, open_failed = 0;

	for (uint64_t page = 2; page < s->size / PAGE; page++) {
		uint8_t *p = s->image + page * PAGE, old = p[13];

		if (flags_of(p) != 1 && flags_of(p) != 2)
			continue;
		p[13] = 0xf0;
		write_image(s, s->image);
		if (check(s) == -MNO_ECORRUPT) {
			found++;
			open_failed += open_env(s) == -MNO_ECORRUPT;
		}
		p[13] = old;
	}
	assert_true(found > 10);
	assert_int_equal(open_failed, found);
}

/* Reads every value, then writes. */
static _Noreturn void child_works(struct st *s)
{
	uint64_t seed = 3;
	MDB_cursor *c;
	MDB_txn *t;

	alarm(10);
	if (open_env(s) < 0)
		_exit(0);
	for (int db = 0; db < MNO_DB_MAX; db++) {
		MDB_val k, v;

		if (!mno_db_in((enum mno_db)db, MNO_CLASS_MAIN))
			continue;
		if (mno_read_begin(s->e->main, &t) < 0)
			_exit(0);
		if (mdb_cursor_open(t, s->e->main->dbi[db], &c) == 0) {
			for (int op = MDB_FIRST; mdb_cursor_get(c, &k, &v, op) == 0; op = MDB_NEXT)
				if (v.mv_size)
					seed += ((volatile uint8_t *)v.mv_data)[v.mv_size - 1] & 0;
			mdb_cursor_close(c);
		}
		mno_read_end(s->e->main, t);
	}
	for (unsigned i = 0; i < 5; i++) {
		struct mno_txn *w;
		uint32_t key = (uint32_t)(rnd(&seed) % 2000);

		if (mno_store_begin(s->e, &w) < 0)
			break;
		if (mno_txn_put(w, MNO_DB_TAIL, &key, sizeof(key), &seed, sizeof(seed)) < 0)
			mno_store_abort(s->e, w);
		else
			mno_store_commit(s->e, w);
	}
	_exit(0);
}

static void test_flips_do_not_kill(void **state)
{
	struct st *s = *state;
	uint8_t *image = malloc(s->size);
	uint64_t seed = 5;
	unsigned refused = 0;

	for (unsigned i = 0; i < 300; i++) {
		int status;
		pid_t pid;

		memcpy(image, s->image, s->size);
		for (unsigned k = 0; k < 1 + i % 3;
			k++) /* in the heads of pages and their first entries */
			image[rnd(&seed) % (s->size / PAGE) * PAGE + rnd(&seed) % 64] ^=
				(uint8_t)(1 << rnd(&seed) % 8);
		write_image(s, image);
		if (check(s) < 0) {
			refused++;
			continue;
		}
		pid = fork();
		if (pid == 0)
			child_works(s);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			print_message("round %u: status %x\n", i, (unsigned)status);
		assert_int_equal(status, 0);
	}
	assert_in_range(refused, 20, 280);
	free(image);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_healthy),
		T(test_loop),
		T(test_wrong_bounds),
		T(test_flips_do_not_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
