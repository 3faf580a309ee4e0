/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of pages: one flipped bit is mended, more is told; sums of another state are of no use. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include "../../../libmno/src/store/pages.h"
#include "../series/rig.h"
#include "mno/ledger.h"
#include "mno/store_parts.h"

#define PAGE 4096

static void fill(struct st *s, int64_t from)
{
	struct mno_txn *t = begin(s);
	struct mno_proc proc = {.pid = 7, .start_ns = 10, .end_ns = NS_PER_SEC};
	uint32_t ids[2] = {resolve(s, t, "a"), resolve(s, t, "b")};

	assert_int_equal(mno_ledger_store(s->e, t, &proc, 1), 0);
	commit(s, t);
	add_rows(s, ids, 2, from, from + 100);
}

static size_t samples(struct st *s)
{
	struct seen seen = {0};
	uint32_t ids[2] = {1, 2};

	assert_int_equal(
		mno_series_read(s->s, ids, 2, 0, 100000, SIZE_MAX, count_column, &seen), 0);
	return seen.samples;
}

static void path_of(struct st *s, char path[128], const char *name)
{
	snprintf(path, 128, "%s/%s", s->tmp.dir, name);
}

struct first {
	uint64_t leaf;
};

static int find_leaf(void *arg, const struct mno_page *p)
{
	if (p->kind == MNO_PAGE_TREE && p->p[10] == 2)
		((struct first *)arg)->leaf = p->no;
	return 0;
}

/* Changes @n bytes of the page @at, or of the last leaf if that is 0. Returns which page it was. */
static uint64_t damage(struct st *s, const char *name, size_t n, uint8_t mask, uint64_t at)
{
	struct first f = {.leaf = at};
	struct mno_pages w = {.fn = find_leaf, .arg = &f};
	uint8_t page[PAGE];
	char path[128];
	int fd;

	path_of(s, path, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	if (!at)
		assert_int_equal(mno_pages_walk(fd, 0, &w), 0);
	assert_true(f.leaf > 1);
	assert_int_equal(pread(fd, page, PAGE, (off_t)f.leaf * PAGE), PAGE);
	for (size_t i = 0; i < n; i++)
		page[PAGE - 1 - i] ^= mask;
	assert_int_equal(pwrite(fd, page, PAGE, (off_t)f.leaf * PAGE), PAGE);
	close(fd);
	return f.leaf;
}

static uint64_t mended(struct st *s)
{
	struct mno_store_health h;

	mno_store_health(s->e, &h);
	return h.mended;
}

static void test_mended(void **state)
{
	struct st *s = *state;

	fill(s, 1);
	down(s);
	damage(s, "main/data.mdb", 1, 16, 0);
	up(s);
	assert_int_equal(mended(s), 1);
	assert_int_equal(samples(s), 200);
	down(s);
	up(s);
	assert_int_equal(mended(s), 0); /* on disk as well */
}

static int find_values(void *arg, const struct mno_page *p)
{
	uint64_t *no = arg;

	if (p->kind == MNO_PAGE_VALUE && p->n == 3)
		no[p->p[16] - '0'] = p->no;
	return 0;
}

static void put_pages(struct st *s, struct mno_txn *t, const char *key, char fill, size_t pages)
{
	char text[4 * PAGE];

	memset(text, fill, sizeof(text));
	assert_int_equal(mno_txn_put(t, MNO_DB_META, key, strlen(key), text, pages * PAGE - 16), 0);
}

/* The count of pages in the header of a value: LMDB frees so many when it is written over. */
static void test_count_of_pages(void **state)
{
	struct st *s = *state;
	uint64_t no[3] = {0};
	struct mno_pages w = {.fn = find_values, .arg = no, .values = true};
	uint32_t has[3], flipped;
	struct mno_txn *t = begin(s);
	char path[128];
	int fd;

	put_pages(s, t, "0", '0', 3);
	put_pages(s, t, "1", '1', 4);
	put_pages(s, t, "1", '1', 3); /* smaller, in the same pages */
	put_pages(s, t, "2", '2', 3);
	commit(s, t);
	down(s);
	path_of(s, path, "main/data.mdb");
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(mno_pages_walk(fd, 0, &w), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(no[i] > 1);
		assert_int_equal(pread(fd, &has[i], 4, (off_t)no[i] * PAGE + 12), 4);
		assert_int_equal(has[i], i == 1 ? 4 : 3);
	}
	up(s);
	assert_int_equal(mended(s), 0); /* more pages than it takes, which nobody else has */
	down(s);
	assert_true(no[0] < no[1]); /* else there are no others behind it */
	flipped = has[0] | 4;
	assert_int_equal(pwrite(fd, &flipped, 4, (off_t)no[0] * PAGE + 12), 4);
	up(s);
	assert_int_equal(mended(s), 1);
	assert_int_equal(pread(fd, &flipped, 4, (off_t)no[0] * PAGE + 12), 4);
	assert_int_equal(flipped, has[0]);
	down(s);
	up(s);
	assert_int_equal(mended(s), 0);
	close(fd);
}

static void test_main_is_not_replaced(void **state)
{
	struct st *s = *state;
	struct mno_store *e;
	uint64_t page;

	fill(s, 1);
	down(s);
	page = damage(s, "main/data.mdb", 2, 16, 0);
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &e), -MNO_ECORRUPT);
	damage(s, "main/data.mdb", 2, 16, page);
	up(s);
	assert_int_equal(samples(s), 200);
}

static int count_proc(void *arg, const struct mno_proc *p)
{
	++*(size_t *)arg;
	return 0;
}

struct parts {
	size_t n, aside;
};

static int count_part(void *arg, const struct mno_part_stat *p)
{
	struct parts *q = arg;

	q->n++;
	q->aside += p->error == -MNO_ECORRUPT;
	return 0;
}

static void test_partition_set_aside(void **state)
{
	struct st *s = *state;
	struct mno_store_health h;
	struct parts parts = {0};
	size_t n = 0;
	char path[128];

	fill(s, 1);
	down(s);
	damage(s, "event-19700101/data.mdb", 5, 0xff, 0);
	up(s);
	assert_int_equal(samples(s), 200);
	assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX / 2, count_proc, &n), 0);
	assert_int_equal(n, 0);
	mno_store_health(s->e, &h);
	assert_int_equal(h.set_aside, 1);
	path_of(s, path, "event-19700101.damaged-1/data.mdb");
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(mno_store_each_part(s->e, count_part, &parts), 0);
	assert_int_equal(parts.n, 3); /* main, the day, and what is kept of it */
	assert_int_equal(parts.aside, 2);
	/* its day goes on in a new one */
	fill(s, 200);
	assert_int_equal(mno_ledger_read(s->e, 0, UINT64_MAX / 2, count_proc, &n), 0);
	assert_int_equal(n, 1);
}

static void copy(struct st *s, const char *from, const char *to)
{
	char a[128], b[128], cmd[300];

	path_of(s, a, from);
	path_of(s, b, to);
	snprintf(cmd, sizeof(cmd), "cp %s %s", a, b);
	assert_int_equal(system(cmd), 0);
}

/* Sums that a power cut left behind of an older state are not held against the file. */
static void test_stale(void **state)
{
	struct st *s = *state;
	char path[128];

	fill(s, 1);
	down(s);
	copy(s, "main/pages.sum", "old");
	up(s);
	path_of(s, path, "main/pages.sum");
	fill(s, 200);
	assert_int_not_equal(access(path, F_OK), 0);
	down(s);
	assert_int_equal(access(path, F_OK), 0);
	copy(s, "old", "main/pages.sum");
	up(s);
	assert_int_equal(mended(s), 0);
	assert_int_equal(samples(s), 400);
}

/* The sums' own file damaged, or gone. */
static void test_sums_damaged(void **state)
{
	struct st *s = *state;
	char path[128];
	int fd;

	fill(s, 1);
	for (unsigned i = 0; i < 40; i++) {
		uint8_t b;

		down(s);
		path_of(s, path, "main/pages.sum");
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(pread(fd, &b, 1, i * 7), 1);
		b ^= 1;
		assert_int_equal(pwrite(fd, &b, 1, i * 7), 1);
		if (i == 39)
			assert_int_equal(ftruncate(fd, 20), 0);
		close(fd);
		up(s);
		assert_int_equal(samples(s), 200);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mended),
		T(test_count_of_pages),
		T(test_main_is_not_replaced),
		T(test_partition_set_aside),
		T(test_stale),
		T(test_sums_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
