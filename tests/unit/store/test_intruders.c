/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others do to the directory of a store, and what the world outside sends: other processes,
 * files that are not ours, partitions that vanish, labels of any size, a clock that jumps, a flood.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "../../support/tmpstate.h"
#include "fault_load.h"
#include "mno/log.h"

static struct tmpstate tmp;

static int setup(void **state)
{
	tmpstate_new(&tmp);
	return 0;
}

static int teardown(void **state)
{
	tmpstate_done(&tmp);
	return 0;
}

static const char *path(const char *name)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "%s/%s", tmp.dir, name);
	return buf;
}

static void fill(int from, int to)
{
	struct load l;

	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (int i = from; i < to; i++) {
		assert_int_equal(load_rows(&l, i), 0);
		assert_int_equal(load_docs(&l, i), 0);
	}
	load_close(&l);
}

static void check(int n)
{
	struct load_mark found;

	assert_int_equal(load_check(tmp.dir, (struct load_mark){n, n}, 0, true, &found), 0);
	assert_int_equal(found.rows, n);
}

static void test_two_processes(void **state)
{
	struct load l;
	int status;
	pid_t pid;

	fill(0, 3);
	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (int i = 0; i < 5; i++) {
		pid = fork();
		if (pid == 0) {
			struct mno_store *other;

			_exit(mno_store_open(tmp.dir, NULL, &other) == -MNO_EBUSY_STATE ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_int_equal(load_rows(&l, 3 + i), 0); /* the first one works on */
		assert_int_equal(load_docs(&l, 3 + i), 0);
	}
	load_close(&l);
	check(8);
}

/* Names that are none of ours, and names that are and lie: nothing of them stops the store. */
static void test_foreign(void **state)
{
	fill(0, 22);
	assert_int_equal(symlink("/etc/passwd", path("link")), 0);
	assert_int_equal(mkdir(path("foreign"), 0700), 0);
	assert_int_equal(close(creat(path("README"), 0600)), 0);
	assert_int_equal(mkfifo(path("pipe"), 0600), 0);
	assert_int_equal(close(creat(path("ts-2026"), 0600)), 0);
	assert_int_equal(mkdir(path("ts-20269999"), 0700), 0);
	check(22);
	assert_int_equal(access(path("README"), F_OK), 0);
}

struct lie {
	const char *what;
	void (*make)(const char *at);
};

static void lie_file(const char *at)
{
	assert_int_equal(close(creat(at, 0600)), 0);
}
static void lie_empty_dir(const char *at)
{
	assert_int_equal(mkdir(at, 0700), 0);
}
static void lie_fifo(const char *at)
{
	char data[160];

	lie_empty_dir(at);
	snprintf(data, sizeof(data), "%s/data.mdb", at);
	assert_int_equal(mkfifo(data, 0600), 0);
}
static void lie_text(const char *at)
{
	char data[160];
	FILE *f;

	lie_empty_dir(at);
	snprintf(data, sizeof(data), "%s/data.mdb", at);
	f = fopen(data, "w");
	for (int i = 0; i < 3000; i++)
		fprintf(f, "this is no database\n");
	fclose(f);
}
static void lie_link(const char *at)
{
	char other[64] = "/tmp/mno-test-XXXXXX";

	assert_non_null(mkdtemp(other));
	assert_int_equal(symlink(other, at), 0);
}

static int count_files(const char *p, const struct stat *st, int type, struct FTW *f)
{
	return type == FTW_F ? 1 : 0;
}

/* In place of a partition that is read, and written, too. */
static void test_lies(void **state)
{
	static const struct lie lies[] = {
		{"a file", lie_file},
		{"an empty directory", lie_empty_dir},
		{"a pipe as data.mdb", lie_fifo},
		{"text as data.mdb", lie_text},
		{"a link to elsewhere", lie_link},
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		char elsewhere[96] = "", cmd[128];
		struct load l;
		int r;

		fill(0, 10); /* before midnight */
		lies[i].make(path("ts-20261102"));
		assert_int_equal(load_open(&l, tmp.dir), 0);
		l.quiet = true;
		for (int k = 10; k < 30; k++)
			load_rows(&l, k); /* may be refused, must not crash nor hang */
		r = load_docs(&l, 10);
		assert_int_equal(r, 0);
		load_close(&l);
		if (readlink(path("ts-20261102"), elsewhere, sizeof(elsewhere) - 1) > 0) {
			/* nothing of ours is written where somebody's link points */
			assert_int_equal(nftw(elsewhere, count_files, 8, FTW_PHYS), 0);
			rmdir(elsewhere);
		}
		/* mended by taking it away, unless the store has set it aside itself */
		snprintf(cmd, sizeof(cmd), "rm -rf %s/ts-20261102", tmp.dir);
		assert_int_equal(system(cmd), 0);
		assert_int_equal(load_open(&l, tmp.dir), 0);
		load_close(&l);
		tmpstate_done(&tmp);
		tmpstate_new(&tmp);
	}
}

static size_t rows_of(struct load *l)
{
	struct load_seen *s = calloc(1, sizeof(*s));
	struct mno_ids ids = {0};
	struct mno_matcher m = {MNO_MATCH_EQ, "i", "0", NULL};
	size_t n;

	assert_int_equal(mno_series_select(l->series, &m, 1, 10, &ids), 0);
	assert_int_equal(ids.n, 1);
	mno_series_read(l->series, ids.v, 1, 0, INT64_MAX, 1 << 20, load_column, s);
	mno_ids_done(&ids);
	n = (size_t)s->rows[0];
	free(s);
	return n;
}

/* A partition deleted behind the agent's back: it is gone, all else is there and goes on. */
static void test_deleted(void **state)
{
	char cmd[512];

	for (int open = 0; open < 2; open++) {
		struct load l;

		fill(0, 25); /* past midnight: the first day is sealed */
		snprintf(cmd, sizeof(cmd), "rm -rf %s/ts-20261101 %s/event-20261101 %s/r10s-*",
			tmp.dir, tmp.dir, tmp.dir);
		if (!open)
			assert_int_equal(system(cmd), 0);
		assert_int_equal(load_open(&l, tmp.dir), 0);
		if (open) {
			assert_int_equal(rows_of(&l), 100);
			assert_int_equal(system(cmd), 0);
		}
		for (int i = 25; i < 40; i++) {
			assert_int_equal(load_rows(&l, i), 0);
			assert_int_equal(load_docs(&l, i), 0);
		}
		load_close(&l);
		assert_int_equal(load_open(&l, tmp.dir), 0);
		assert_true(rows_of(&l) >= 80 && rows_of(&l) <= 160);
		assert_int_equal(load_rows(&l, 40), 0);
		load_close(&l);
		tmpstate_done(&tmp);
		tmpstate_new(&tmp);
	}
}

/* --- labels ----------------------------------------------------------------------------------- */

static int try_key(struct load *l, int64_t *now, const char *key, size_t len, uint32_t *id)
{
	struct mno_txn *t;
	double v = 1;
	int r;

	assert_int_equal(mno_store_begin(l->store, &t), 0);
	r = mno_series_resolve(l->series, t, key, len, id);
	if (r == 0)
		assert_int_equal(mno_series_append(l->series, t, ++*now, id, &v, 1), 0);
	assert_int_equal(mno_store_commit(l->store, t), 0);
	mno_series_committed(l->series);
	return r;
}

static void test_label_sizes(void **state)
{
	static const size_t sizes[] = {
		0, 1, 255, 256, 511, 512, 2000, 4095, 4096, 16384, 65535, 65536, 65537, 200000};
	char *key = malloc(300000);
	int64_t now = LOAD_T0;
	struct load l;

	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t n = (size_t)sprintf(key, "big{size=\"%zu\",v=\"", sizes[i]);
		uint32_t id = 0, again = 0;

		memset(key + n, 'x', sizes[i]);
		n += sizes[i];
		n += (size_t)sprintf(key + n, "\"}");
		assert_int_equal(try_key(&l, &now, key, n, &id), sizes[i] > 65536 ? -EINVAL : 0);
		if (sizes[i] > 65536)
			continue;
		load_close(&l);
		assert_int_equal(load_open(&l, tmp.dir), 0);
		assert_int_equal(try_key(&l, &now, key, n, &again), 0);
		assert_int_equal(again, id);
	}
	load_close(&l);
	free(key);
}

static void test_label_counts(void **state)
{
	char key[8192];
	int64_t now = LOAD_T0;
	struct load l;

	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (unsigned labels = 100; labels <= 200; labels += 50) {
		size_t n = (size_t)sprintf(key, "many{");
		uint32_t id;

		for (unsigned i = 0; i < labels; i++)
			n += (size_t)sprintf(key + n, "%sl%03u=\"v%u\"", i ? "," : "", i, i);
		n += (size_t)sprintf(key + n, "}");
		assert_int_equal(try_key(&l, &now, key, n, &id), labels < 128 ? 0 : -EINVAL);
	}
	load_close(&l);
}

/* Refused or kept as they are: the store stays whole, and says the same after a start. */
static void test_label_bytes(void **state)
{
	static const char *const texts[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80",
		"\xc0\xaf", "\x01\x02", "\xf4\x90\x80\x80", "\xe2\x82\xac"};
	int64_t now = LOAD_T0;
	struct load l;

	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char key[64];
		uint32_t a = 0, b = 0;
		int n = snprintf(key, sizeof(key), "bytes{v=\"%s\"}", texts[i]);
		int r = try_key(&l, &now, key, (size_t)n, &a);

		assert_true(r == 0 || r == -EINVAL);
		load_close(&l);
		assert_int_equal(load_open(&l, tmp.dir), 0);
		assert_int_equal(try_key(&l, &now, key, (size_t)n, &b), r);
		assert_int_equal(a, b);
	}
	assert_int_equal(load_verify(&l), 0);
	load_close(&l);
}

/* --- catch-up: what waited elsewhere comes at once ---------------------------------------------- */

static long peak_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static int sum_run(void *arg, const struct mno_run *run)
{
	*(size_t *)arg += run->n;
	return 0;
}

#define CATCH_SERIES 100
#define CATCH_CALL   100000

/* $CATCH_UP samples (1 M), newest first: memory follows the call, not the sum. */
static void test_catch_up(void **state)
{
	const char *env = getenv("CATCH_UP");
	size_t want = env ? strtoul(env, NULL, 10) : 1000000, n = 0, seen = 0;
	struct mno_sample *v = calloc(CATCH_CALL, sizeof(*v));
	uint32_t ids[CATCH_SERIES];
	long before = 0;
	struct load l;

	assert_int_equal(load_open(&l, tmp.dir), 0);
	for (size_t call = 0; n < want; call++) {
		struct mno_txn *t;

		assert_int_equal(mno_store_begin(l.store, &t), 0);
		for (int i = 0; i < CATCH_SERIES && !call; i++) {
			char key[32];
			int len = snprintf(key, sizeof(key), "catch{i=\"%d\"}", i);

			assert_int_equal(
				mno_series_resolve(l.series, t, key, (size_t)len, &ids[i]), 0);
		}
		for (size_t i = 0; i < CATCH_CALL; i++, n++)
			v[i] = (struct mno_sample){ids[n % CATCH_SERIES],
				LOAD_T0 - (int64_t)(n / CATCH_SERIES) * 1000, (double)(n % 1009)};
		assert_int_equal(mno_series_add(l.series, t, v, CATCH_CALL), 0);
		assert_int_equal(mno_store_commit(l.store, t), 0);
		mno_series_committed(l.series);
		if (call == 1)
			before = peak_kib();
	}
	print_message("%zu samples: peak memory %ld MiB after two calls, %ld MiB at the end\n", n,
		before >> 10, peak_kib() >> 10);
	assert_true(peak_kib() < before + (100 << 10));
	assert_int_equal(
		mno_series_scan(l.series, ids, CATCH_SERIES, 0, INT64_MAX, sum_run, &seen, NULL),
		0);
	assert_int_equal(seen, n);
	load_close(&l);
	free(v);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_two_processes),
		T(test_foreign),
		T(test_lies),
		T(test_deleted),
		T(test_label_sizes),
		T(test_label_counts),
		T(test_label_bytes),
		T(test_catch_up),
	};

	return cmocka_run_group_tests_name("intruders", tests, NULL, NULL);
}
