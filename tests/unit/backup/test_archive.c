/* SPDX-License-Identifier: Apache-2.0 */
/* Partitions that leave the store and come back. */
#include "../series/rig.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "mno/archive.h"
#include "mno/store_keys.h"
#include "mno/time.h"

#define DAY_MS (86400 * 1000LL)

static char dest[96], said[2048], day[32];
static int64_t t0;

static void note(void *arg, const char *file, const char *what)
{
	size_t n = strlen(said);

	snprintf(said + n, sizeof(said) - n, "%s: %s\n", file, what);
}
static const struct mno_backup_opts opts = {.sz = sizeof(opts), .finding = note};

static int names(void **state)
{
	int r = setup(state);
	struct st *s = *state;
	time_t sec;
	struct tm tm;

	snprintf(dest, sizeof(dest), "%s-archive", s->tmp.dir);
	*said = '\0';
	t0 = (mno_now_ms() / DAY_MS - 5) * DAY_MS + 3600 * 1000;
	sec = (time_t)(t0 / 1000);
	gmtime_r(&sec, &tm);
	strftime(day, sizeof(day), "ts-%Y%m%d", &tm);
	return r;
}

static int unnames(void **state)
{
	nftw(dest, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	return teardown(state);
}
#define A(fn) cmocka_unit_test_setup_teardown(fn, names, unnames)

/* Five days, so that the first ones are sealed and closed. */
static void write_days(struct st *s)
{
	uint32_t id;

	for (unsigned d = 0; d < 5; d++) {
		struct mno_txn *t = begin(s);

		assert_int_equal(mno_series_resolve(s->s, t, "one", 3, &id), 0);
		for (unsigned i = 0; i < 600; i++) {
			double v = d * 1000.0 + i;

			assert_int_equal(mno_series_append(
						 s->s, t, t0 + d * DAY_MS + i * 1000LL, &id, &v, 1),
				0);
		}
		commit(s, t);
	}
}

static int sum_column(void *arg, const struct mno_column *c)
{
	for (size_t i = 0; i < c->n; i++)
		*(double *)arg += c->v[i] + 1;
	return c->damaged ? -1 : 0;
}

/* Of the first day. */
static double sum(struct st *s)
{
	struct mno_txn *t = begin(s);
	double total = 0;
	uint32_t id;

	assert_int_equal(mno_series_resolve(s->s, t, "one", 3, &id), 0);
	mno_store_abort(s->e, t);
	assert_int_equal(mno_series_read(s->s, &id, 1, t0, t0 + DAY_MS - 7200000, SIZE_MAX,
				 sum_column, &total),
		0);
	return total;
}

static void expire(struct st *s, int64_t t_ms)
{
	bool more = true;

	while (more) {
		struct mno_txn *t = begin(s);

		assert_int_equal(mno_series_expire(s->s, t, t_ms, &more), 0);
		commit(s, t);
	}
}

static const char *path_of(const char *file)
{
	static char path[192];

	snprintf(path, sizeof(path), "%s/%s%s", dest, day, file);
	return path;
}

static void test_move(void **state)
{
	struct st *s = *state;
	struct mno_backup_info info;
	struct mno_backup_verdict v;
	struct mno_series_stat before, after;
	char name[32], today[32];
	double want;
	time_t now = time(NULL);
	struct tm tm;

	write_days(s);
	want = sum(s);
	assert_true(want > 0);
	gmtime_r(&now, &tm);
	strftime(today, sizeof(today), "ts-%Y%m%d", &tm);
	assert_int_equal(mno_archive_create(s->e, today, dest, true, &opts, &info), -EINVAL);
	assert_int_equal(mno_archive_create(s->e, "main", dest, true, &opts, &info), -EINVAL);
	assert_int_equal(
		mno_archive_create(s->e, "ts-19990101", dest, true, &opts, &info), -ENOENT);

	/* a copy first: the store is as it was */
	assert_int_equal(mno_archive_create(s->e, day, dest, false, &opts, &info), 0);
	assert_true(sum(s) == want && info.is_signed);
	assert_int_equal(mno_archive_create(s->e, day, dest, true, &opts, &info), -EEXIST);
	assert_int_equal(mno_archive_attach(s->e, path_of(""), &opts, name), -EEXIST);
	nftw(dest, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);

	assert_int_equal(mno_archive_create(s->e, day, dest, true, &opts, &info), 0);
	mno_series_parted(s->s);
	assert_true(sum(s) == 0);
	assert_int_equal(mno_backup_verify(path_of(""), NULL, &opts, &v), 0);
	assert_int_equal(v.damaged, 0);

	/* retention takes the rest, but for what the archive needs; another key comes */
	expire(s, t0 + 4 * DAY_MS);
	assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	down(s);
	up(s);
	assert_int_equal(mno_archive_attach(s->e, path_of(""), &opts, name), 0);
	assert_string_equal(name, day);
	assert_int_equal(mno_series_joined(s->s, t0), 0);
	assert_true(sum(s) == want);
	/* what is attached outlives retention, and is counted out once at most */
	mno_series_stat(s->s, &before);
	expire(s, t0 + 4 * DAY_MS);
	expire(s, t0 + 4 * DAY_MS);
	mno_series_stat(s->s, &after);
	assert_int_equal(before.samples, after.samples);
	assert_true(sum(s) == want);
	down(s);
	up(s);
	assert_true(sum(s) == want);

	assert_int_equal(mno_archive_detach(s->e, "ts-19990101", false), -ENOENT);
	assert_int_equal(mno_archive_detach(s->e, day, false), 0);
	mno_series_parted(s->s);
	assert_true(sum(s) == 0);
	assert_int_equal(mno_archive_attach(s->e, path_of(""), &opts, name), 0);
	assert_int_equal(mno_archive_detach(s->e, day, true), 0);
	assert_int_equal(mno_archive_detach(s->e, day, true), -ENOENT);
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t c = 0;

	assert_true(fd >= 0 && pread(fd, &c, 1, at) == 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void test_refused(void **state)
{
	struct st *s = *state, other = {0};
	struct mno_backup_info info;
	char name[32], file[64], left[160];
	size_t n;

	write_days(s);
	assert_int_equal(mno_archive_create(s->e, day, dest, true, &opts, &info), 0);
	snprintf(file, sizeof(file), "/%s/data.mdb", day);
	snprintf(left, sizeof(left), "%s/%s", s->tmp.dir, day);

	flip(path_of(file), 5000);
	assert_int_equal(mno_archive_attach(s->e, path_of(""), &opts, name), -MNO_ECORRUPT);
	assert_non_null(strstr(said, "its bytes are not what they were"));
	assert_int_not_equal(access(left, F_OK), 0);
	flip(path_of(file), 5000);

	/* of another store */
	tmpstate_new(&other.tmp);
	up(&other);
	assert_int_equal(mno_archive_attach(other.e, path_of(""), &opts, name), -EXDEV);
	down(&other);
	tmpstate_done(&other.tmp);

	/* its key is gone */
	assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	assert_int_equal(mno_store_forget_keys(s->e, &n), 0);
	assert_int_equal(mno_archive_attach(s->e, path_of(""), &opts, name), -ENOKEY);
	assert_non_null(strstr(said, "sealed under key "));
	assert_int_not_equal(access(left, F_OK), 0);
}

static int count(void *arg, const char *name)
{
	++*(unsigned *)arg;
	return 0;
}

static void test_before(void **state)
{
	struct st *s = *state;
	unsigned n = 0, more = 0;

	write_days(s);
	assert_int_equal(mno_archive_each_before(s->e, t0 + 2 * DAY_MS, count, &n), 0);
	assert_int_equal(mno_archive_each_before(s->e, t0 + 3 * DAY_MS, count, &more), 0);
	assert_true(n >= 2 && more > n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {A(test_move), A(test_refused), A(test_before)};

	return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
