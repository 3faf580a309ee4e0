/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call in turn fails - of the files (EIO, a full disk, a short write), of memory, of LMDB -
 * until a whole life of a store passes without: no crash, nothing leaks, and what was acknowledged
 * is there when nothing fails any more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include "mno/crypt.h"
#include "mno/log.h"
#include "mno/store_keys.h"
#include "fault_files.h"
#include "fault_load.h"
#include "../../support/tmpstate.h"

#define STEPS 3  /* of telemetry in one life; the second is on the other side of midnight */
#define FIRST 19 /* the last but one step before midnight */
#define BASE  2  /* what a store has when the faults begin */

/* One counter for each kind of call; only one counts at a time. */
static struct nth {
	bool on;
	unsigned long at, seen;
} memory, lmdb;

static bool nth_fails(struct nth *n)
{
	return n->on && __atomic_add_fetch(&n->seen, 1, __ATOMIC_RELAXED) == n->at;
}

/* --- memory: counted, too, so that a leak shows ------------------------------------------------ */
#if !defined(__SANITIZE_ADDRESS__)
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);
static volatile long live_blocks; /* malloc() changes it, which compilers do not expect */

static void *counted(void *p)
{
	if (p)
		__atomic_add_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
	return p;
}

void *malloc(size_t n)
{
	if (nth_fails(&memory)) {
		errno = ENOMEM;
		return NULL;
	}
	return counted(__libc_malloc(n));
}
void *calloc(size_t n, size_t size)
{
	if (nth_fails(&memory)) {
		errno = ENOMEM;
		return NULL;
	}
	return counted(__libc_calloc(n, size));
}
void *realloc(void *p, size_t n)
{
	void *q;

	if (n && nth_fails(&memory)) {
		errno = ENOMEM;
		return NULL;
	}
	q = __libc_realloc(p, n);
	if (!p)
		counted(q);
	else if (!n)
		__atomic_sub_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
	return q;
}
int posix_memalign(void **ret, size_t align, size_t n)
{
	void *p = nth_fails(&memory) ? NULL : counted(__libc_memalign(align, n));

	if (p)
		*ret = p;
	return p ? 0 : ENOMEM;
}
void *aligned_alloc(size_t align, size_t n)
{
	void *p = NULL;

	return posix_memalign(&p, align, n) ? NULL : p;
}
void free(void *p)
{
	if (p)
		__atomic_sub_fetch(&live_blocks, 1, __ATOMIC_RELAXED);
	__libc_free(p);
}
#define HAVE_MEMORY 1
#else
static volatile long live_blocks; /* malloc() changes it, which compilers do not expect */
#define HAVE_MEMORY 0
#endif

/* --- LMDB -------------------------------------------------------------------------------------- */

#define REAL(fn) ((__typeof__(&fn))dlsym(RTLD_NEXT, #fn))
#define WRAP(fn, params, args)                                                                     \
	int fn params                                                                              \
	{                                                                                          \
		static __typeof__(&fn) real;                                                       \
                                                                                                   \
		if (!real)                                                                         \
			real = REAL(fn);                                                           \
		return nth_fails(&lmdb) ? ENOMEM : real args;                                      \
	}
WRAP(mdb_env_create, (MDB_env * *e), (e))
WRAP(mdb_env_open, (MDB_env * e, const char *p, unsigned f, mdb_mode_t m), (e, p, f, m))
WRAP(mdb_env_sync, (MDB_env * e, int force), (e, force))
WRAP(mdb_env_info, (MDB_env * e, MDB_envinfo *i), (e, i))
WRAP(mdb_env_stat, (MDB_env * e, MDB_stat *s), (e, s))
WRAP(mdb_env_set_mapsize, (MDB_env * e, size_t n), (e, n))
WRAP(mdb_env_copyfd2, (MDB_env * e, mdb_filehandle_t fd, unsigned f), (e, fd, f))
WRAP(mdb_txn_begin, (MDB_env * e, MDB_txn *p, unsigned f, MDB_txn **t), (e, p, f, t))
WRAP(mdb_dbi_open, (MDB_txn * t, const char *n, unsigned f, MDB_dbi *d), (t, n, f, d))
WRAP(mdb_stat, (MDB_txn * t, MDB_dbi d, MDB_stat *s), (t, d, s))
WRAP(mdb_get, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v), (t, d, k, v))
WRAP(mdb_put, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v, unsigned f), (t, d, k, v, f))
WRAP(mdb_del, (MDB_txn * t, MDB_dbi d, MDB_val *k, MDB_val *v), (t, d, k, v))
WRAP(mdb_cursor_open, (MDB_txn * t, MDB_dbi d, MDB_cursor **c), (t, d, c))
WRAP(mdb_cursor_renew, (MDB_txn * t, MDB_cursor *c), (t, c))
WRAP(mdb_cursor_get, (MDB_cursor * c, MDB_val *k, MDB_val *v, MDB_cursor_op op), (c, k, v, op))
WRAP(mdb_cursor_put, (MDB_cursor * c, MDB_val *k, MDB_val *v, unsigned f), (c, k, v, f))
WRAP(mdb_cursor_del, (MDB_cursor * c, unsigned f), (c, f))
WRAP(mdb_txn_renew, (MDB_txn * t), (t))

int mdb_txn_commit(MDB_txn *t)
{
	if (!nth_fails(&lmdb))
		return REAL(mdb_txn_commit)(t);
	mdb_txn_abort(t); /* as LMDB does when a commit fails */
	return EIO;
}

/* --- one life ---------------------------------------------------------------------------------- */

struct life {
	struct load_mark acked;
	bool whole; /* nothing failed */
};

static void live(const char *dir, struct life *life)
{
	struct load l;
	size_t n;
	bool good = load_open(&l, dir) == 0;

	l.quiet = true;
	for (int i = 0; i < STEPS && l.docs; i++) {
		/* one that failed is tried again, as by an agent that goes on */
		bool rows = load_rows(&l, life->acked.rows) == 0;
		bool docs = load_docs(&l, life->acked.docs) == 0;

		life->acked.rows += rows;
		life->acked.docs += docs;
		good &= rows && docs;
	}
	if (l.docs && mno_store_rotate_data(l.store, "docs", &n) < 0)
		good = false;
	if (l.docs && mno_store_rotate_kek(l.store, NULL) < 0)
		good = false;
	load_close(&l);
	life->whole = good;
}

static int copy_one(const char *from, const char *to)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "cp -a --sparse=always %s/. %s/", from, to);
	return system(cmd);
}

/* A store that stands right before midnight: one life seals, makes partitions and rollups. */
static void base_new(struct tmpstate *base)
{
	struct load l;

	tmpstate_new(base);
	assert_int_equal(load_open(&l, base->dir), 0);
	for (int i = 0; i < FIRST; i++)
		assert_int_equal(load_rows(&l, i), 0);
	for (int i = 0; i < BASE; i++)
		assert_int_equal(load_docs(&l, i), 0);
	load_close(&l);
}

struct kind {
	const char *name;
	struct nth *nth; /* NULL: calls of files */
	int err;
	bool sticky, short_write;
	unsigned mask;
};
#define SPACE (1u << FILE_WRITE | 1u << FILE_TRUNC | 1u << FILE_LINK)
#define ALL_FILE                                                                                   \
	(SPACE | 1u << FILE_SYNC | 1u << FILE_RENAME | 1u << FILE_UNLINK | 1u << FILE_OTHER)

static void arm(const struct kind *k, unsigned long n, dev_t dev)
{
	file_faults.dev = dev;
	if (k->nth) {
		*k->nth = (struct nth){true, n, 0};
		return;
	}
	file_faults.err = k->err;
	file_faults.sticky = k->sticky;
	file_faults.short_write = k->short_write;
	file_faults.mask = k->mask;
	file_faults.seen = file_faults.failed = 0;
	file_faults.nth = n;
}

static bool disarm(const struct kind *k)
{
	bool failed = k->nth ? k->nth->seen >= k->nth->at : file_faults.failed > 0;

	memory.on = lmdb.on = false;
	file_faults.nth = 0;
	file_faults.dev = 0;
	return failed;
}

/* The n-th call fails. Whether one did. */
static bool one(const struct kind *k, unsigned long n, const struct tmpstate *base, bool fresh)
{
	struct life life = {.acked = {0, 0}};
	struct load_mark found;
	struct tmpstate tmp;
	long before, after;
	struct stat st;
	bool failed;
	int r;

	tmpstate_new(&tmp);
	if (!fresh) {
		assert_int_equal(copy_one(base->dir, tmp.dir), 0);
		life.acked = (struct load_mark){FIRST, BASE};
	}
	assert_int_equal(stat(tmp.dir, &st), 0);
	before = live_blocks;
	arm(k, n, st.st_dev);
	live(tmp.dir, &life);
	failed = disarm(k);
	after = live_blocks;
	r = load_check(tmp.dir, life.acked, 0, true, &found);
	if (r < 0 || after > before)
		print_error("%s %lu: result %d, acknowledged %d and %d, blocks of memory %+ld\n",
			k->name, n, r, life.acked.rows, life.acked.docs, after - before);
	assert_int_equal(r, 0);
	assert_true(n == 1 || after <= before); /* the first life fills caches */
	assert_true(failed || life.whole);
	tmpstate_done(&tmp);
	return failed;
}

static void until_it_passes(const struct kind *k, unsigned long step)
{
	const char *every = getenv("NTH_STEP"); /* 1: each call, some minutes */

	step = every ? strtoul(every, NULL, 10) : step;
	for (int fresh = 0; fresh < 2; fresh++) {
		struct tmpstate base;
		unsigned long n = 1, lives = 0;

		base_new(&base);
		for (; one(k, n, &base, fresh); lives++)
			n += lives < 50 ? 1 : step;
		tmpstate_done(&base);
		print_message("%s, %s store: %lu of %lu calls failed in turn\n", k->name,
			fresh ? "a new" : "an old", lives, n - 1);
		assert_true(lives > 20);
	}
}

static void test_eio(void **state)
{
	until_it_passes(&(struct kind){.name = "EIO", .err = EIO, .mask = ALL_FILE}, 3);
}

static void test_enospc(void **state)
{
	until_it_passes(
		&(struct kind){.name = "full disk", .err = ENOSPC, .sticky = true, .mask = SPACE},
		2);
}

static void test_short_write(void **state)
{
	until_it_passes(&(struct kind){.name = "short write",
				.err = ENOSPC,
				.short_write = true,
				.mask = 1u << FILE_WRITE},
		2);
}

static void test_lmdb(void **state)
{
	until_it_passes(&(struct kind){.name = "LMDB", .nth = &lmdb}, 11);
}

static void test_memory(void **state)
{
	if (!HAVE_MEMORY)
		skip();
	until_it_passes(&(struct kind){.name = "memory", .nth = &memory}, 17);
}

/* What the tests above go by can tell: a block that is not freed, a commit that is not there. */
static void test_controls(void **state)
{
	struct tmpstate base;
	struct load_mark found;
	long before = live_blocks;
	char *volatile leak = malloc(10);

	assert_true(!HAVE_MEMORY || live_blocks == before + 1);
	free(leak);
	assert_int_equal(live_blocks, before);
	base_new(&base);
	assert_int_equal(load_check(base.dir, (struct load_mark){FIRST, BASE}, 0, true, &found), 0);
	assert_true(load_check(base.dir, (struct load_mark){FIRST + 1, BASE}, 0, true, &found) < 0);
	assert_true(load_check(base.dir, (struct load_mark){FIRST, BASE + 1}, 0, true, &found) < 0);
	tmpstate_done(&base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_controls),
		cmocka_unit_test(test_eio),
		cmocka_unit_test(test_enospc),
		cmocka_unit_test(test_short_write),
		cmocka_unit_test(test_lmdb),
		cmocka_unit_test(test_memory),
	};

	mno_crypt_init();
	mno_log_set(NULL, NULL, MNO_LOG_ERR);
	return cmocka_run_group_tests_name("nth", tests, NULL, NULL);
}
