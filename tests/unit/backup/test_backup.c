/* SPDX-License-Identifier: Apache-2.0 */
#include "../series/rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "mno/backup.h"
#include "mno/err.h"
#include "mno/store_keys.h"
#include "mno/time.h"

#define DAY_MS (86400 * 1000LL)

static char dest[96], back[96], last[512];
static unsigned findings;

static void note(void *arg, const char *file, const char *what)
{
	findings++;
	snprintf(last, sizeof(last), "%s: %s", file, what);
}

static const struct mno_backup_opts opts = {.sz = sizeof(opts), .finding = note};

static int names(void **state)
{
	int r = setup(state);
	struct st *s = *state;

	snprintf(dest, sizeof(dest), "%s-backups", s->tmp.dir);
	snprintf(back, sizeof(back), "%s-back", s->tmp.dir);
	findings = 0;
	*last = '\0';
	return r;
}

static int unnames(void **state)
{
	nftw(dest, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	nftw(back, tmpstate_remove, 16, FTW_DEPTH | FTW_PHYS);
	return teardown(state);
}
#define B(fn) cmocka_unit_test_setup_teardown(fn, names, unnames)

static void write_days(struct st *s, int64_t from_ms, unsigned ticks)
{
	uint32_t id[2];
	struct mno_txn *t = begin(s);

	assert_int_equal(mno_series_resolve(s->s, t, "one", 3, &id[0]), 0);
	assert_int_equal(mno_series_resolve(s->s, t, "two", 3, &id[1]), 0);
	for (unsigned i = 0; i < ticks; i++) {
		double v[2] = {i, i * 0.5};

		assert_int_equal(mno_series_append(s->s, t, from_ms + i * 1000LL, id, v, 2), 0);
		if (i % 100 == 99) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
}

static const char *path_of(const struct mno_backup_info *b, const char *file)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s%s%s", dest, b->name, *file ? "/" : "", file);
	return path;
}

static int sum_column(void *arg, const struct mno_column *c)
{
	for (size_t i = 0; i < c->n; i++)
		*(double *)arg += c->v[i] * (double)(c->t_ms[i] % 1000003);
	return c->damaged ? -1 : 0;
}

static double sum(struct st *s)
{
	static const char *const keys[] = {"one", "two"};
	double total = 0;
	uint32_t id[2];
	struct mno_txn *t = begin(s);

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(mno_series_resolve(s->s, t, keys[i], 3, &id[i]), 0);
	mno_store_abort(s->e, t);
	assert_int_equal(
		mno_series_read(s->s, id, 2, 0, INT64_MAX / 2, SIZE_MAX, sum_column, &total), 0);
	return total;
}

static void damage(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t c = 0;

	assert_true(fd >= 0 && pread(fd, &c, 1, at) == 1);
	c ^= 4;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void test_restore(void **state)
{
	struct st *s = *state, r = {0};
	int64_t t0 = mno_now_ms() - 3 * DAY_MS;
	struct mno_backup_info b;
	struct mno_backup_verdict v;
	struct mno_restore_opts o = {.sz = sizeof(o), .o = opts};
	char key[128];
	double before;

	write_days(s, t0, 3000);
	before = sum(s);
	assert_true(before > 0);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	assert_true(b.complete && b.is_signed && b.new_bytes == b.bytes && !b.left_out);
	assert_int_not_equal(access(path_of(&b, "keys/kek"), F_OK), 0);
	write_days(s, t0 + 2 * DAY_MS, 100); /* goes on; the backup does not change */
	assert_int_equal(mno_backup_verify(path_of(&b, ""), s->tmp.dir, &opts, &v), 0);
	assert_string_equal(last, "");
	assert_true(!v.damaged && v.signature && v.walked);

	/* without the key nothing is restored, and nothing is left */
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), -ENOKEY);
	assert_int_not_equal(access(back, F_OK), 0);
	snprintf(key, sizeof(key), "%s/keys/kek", s->tmp.dir);
	o.key = key;
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), 0);
	assert_true(v.signature && v.walked && !v.damaged);
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), -EEXIST);
	snprintf(r.tmp.dir, sizeof(r.tmp.dir), "%.63s", back);
	up(&r);
	assert_true(sum(&r) == before);
	o.replace = true;
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), -MNO_EBUSY_STATE);
	write_days(&r, t0 + 2 * DAY_MS, 100);
	assert_true(sum(&r) == sum(s));
	down(&r);
}

static void test_incremental(void **state)
{
	struct st *s = *state;
	struct mno_backup_info a, b, c;
	struct mno_backup_verdict v;
	int64_t t0 = mno_now_ms() - 3 * DAY_MS;
	size_t n;

	write_days(s, t0, 3000);
	down(s);
	up(s);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &a), 0);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	assert_string_equal(b.previous, a.name);
	assert_true(b.new_bytes < 65536 && b.bytes == a.bytes); /* only keys are copied again */
	write_days(s, t0 + 3000 * 1000LL, 5);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &c), 0);
	assert_true(c.new_bytes > 4096);
	assert_int_equal(mno_backup_prune(dest, 1, &opts, &n), 0);
	assert_int_equal(n, 2);
	assert_int_not_equal(access(path_of(&a, ""), F_OK), 0);
	assert_int_equal(mno_backup_verify(path_of(&c, ""), s->tmp.dir, &opts, &v), 0);
	assert_true(!v.damaged && v.walked);
}

/* One bit anywhere, a file cut, a file gone: found, named, and never restored. */
static void test_damage(void **state)
{
	struct st *s = *state;
	struct mno_backup_info b;
	struct mno_backup_verdict v;
	struct mno_restore_opts o = {.sz = sizeof(o), .o = opts};
	uint64_t seed = 7;
	size_t n;
	char key[128];
	struct stat st;

	snprintf(key, sizeof(key), "%s/keys/kek", s->tmp.dir);
	o.key = key;
	write_days(s, mno_now_ms() - 3 * DAY_MS, 3000);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	assert_int_equal(stat(path_of(&b, "main/data.mdb"), &st), 0);
	for (unsigned i = 0; i < 20; i++) {
		off_t at = (off_t)(rnd(&seed) % (uint64_t)st.st_size);

		findings = 0;
		damage(path_of(&b, "main/data.mdb"), at);
		assert_int_equal(mno_backup_verify(path_of(&b, ""), NULL, &opts, &v), 0);
		assert_true(v.damaged == 1 && findings == 1);
		assert_non_null(strstr(last, "main/data.mdb"));
		assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), -MNO_ECORRUPT);
		assert_int_not_equal(access(back, F_OK), 0);
		damage(path_of(&b, "main/data.mdb"), at);
	}
	/* the last whole one never goes */
	damage(path_of(&b, "main/key"), 50);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	damage(path_of(&b, "main/key"), 50);
	assert_int_equal(mno_backup_prune(dest, 1, &opts, &n), -MNO_ECORRUPT);
	damage(path_of(&b, "main/key"), 50);
	assert_int_equal(stat(path_of(&b, "manifest.json"), &st), 0);
	for (off_t at = 0; at < st.st_size; at += 37) {
		damage(path_of(&b, "manifest.json"), at);
		assert_int_equal(
			mno_backup_verify(path_of(&b, ""), NULL, &opts, &v), -MNO_ECORRUPT);
		damage(path_of(&b, "manifest.json"), at);
	}
	assert_int_equal(unlink(path_of(&b, "main/key")), 0);
	assert_int_equal(mno_backup_verify(path_of(&b, ""), NULL, &opts, &v), 0);
	assert_int_equal(v.damaged, 1);
	assert_non_null(strstr(last, "missing"));
}

/* A partition that is damaged can be left out; main cannot. */
static void test_partial(void **state)
{
	struct st *s = *state, r = {0};
	struct mno_backup_info b;
	struct mno_backup_verdict v;
	struct mno_restore_opts o = {.sz = sizeof(o), .o = opts};
	char key[128], file[64] = "";
	struct dirent *de;
	DIR *d;

	snprintf(key, sizeof(key), "%s/keys/kek", s->tmp.dir);
	o.key = key;
	write_days(s, mno_now_ms() - 3 * DAY_MS, 3000);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	d = opendir(path_of(&b, ""));
	while ((de = readdir(d)))
		if (!strncmp(de->d_name, "ts-", 3))
			snprintf(file, sizeof(file), "%.40s/data.mdb", de->d_name);
	closedir(d);
	assert_true(*file);
	assert_int_equal(truncate(path_of(&b, file), 5000), 0);
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), -MNO_ECORRUPT);
	assert_non_null(strstr(last, "sealed blocks of samples of 20"));
	o.partial = true;
	assert_int_equal(mno_backup_restore(path_of(&b, ""), back, &o, &v), 0);
	snprintf(r.tmp.dir, sizeof(r.tmp.dir), "%.63s", back);
	up(&r);
	down(&r);
}

static int same_id(void *arg, const char *id)
{
	return !strcmp(id, arg);
}

static void read_key(const char *state, uint8_t key[32])
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/keys/kek", state);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && read(fd, key, 32) == 32);
	close(fd);
}

/* A backup wants the key of its time: kept beside the new one, or said to be missing. */
static void test_old_key(void **state)
{
	struct st *s = *state, r = {0};
	struct mno_backup_info a, b;
	struct mno_backup_verdict v;
	struct mno_restore_opts o = {.sz = sizeof(o), .o = opts};
	char kept[160], copy[160], text[64];
	uint8_t old[32];
	struct stat st;
	double before;
	size_t n;
	int fd;

	write_days(s, mno_now_ms() - 3 * DAY_MS, 1000);
	before = sum(s);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &a), 0);
	read_key(s->tmp.dir, old);
	assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	assert_int_equal(mno_backup_create(s->e, dest, &opts, &b), 0);
	assert_string_not_equal(a.kek_id, b.kek_id);
	assert_int_equal(mno_store_old_keys(s->e, same_id, a.kek_id), 1);
	snprintf(kept, sizeof(kept), "%s/keys/kek.%s", s->tmp.dir, a.kek_id);
	assert_int_equal(stat(kept, &st), 0);
	assert_true(st.st_size == 32 && (st.st_mode & 07777) == 0600);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(
			mno_backup_verify(path_of(i ? &a : &b, ""), s->tmp.dir, &opts, &v), 0);
		assert_true(!v.damaged && v.signature && v.walked);
	}
	/* a store that is replaced lends the old key, and the restored one keeps both */
	down(s);
	o.replace = true;
	assert_int_equal(mno_backup_restore(path_of(&a, ""), s->tmp.dir, &o, &v), 0);
	up(s);
	assert_true(sum(s) == before);
	assert_int_equal(mno_store_old_keys(s->e, same_id, b.kek_id), 1);
	assert_int_equal(mno_backup_verify(path_of(&b, ""), s->tmp.dir, &opts, &v), 0);
	assert_true(!v.damaged && v.signature && v.walked);

	assert_int_equal(mno_store_rotate_kek(s->e, NULL), 0);
	assert_int_equal(mno_store_forget_keys(s->e, &n), 0);
	assert_int_equal(n, 2);
	findings = 0;
	assert_int_equal(mno_backup_verify(path_of(&a, ""), s->tmp.dir, &opts, &v), -ENOKEY);
	snprintf(text, sizeof(text), "sealed under key %s, which is not here", a.kek_id);
	assert_true(findings == 1 && !v.damaged && v.files && strstr(last, text));
	/* the new key is not the one, a copy of the old one is */
	o.replace = false;
	snprintf(copy, sizeof(copy), "%s/keys/kek", s->tmp.dir);
	o.key = copy;
	assert_int_equal(mno_backup_restore(path_of(&a, ""), back, &o, &v), -ENOKEY);
	assert_true(strstr(last, text) && strstr(last, "keys/kek is key "));
	fd = open(kept, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0 && write(fd, old, 32) == 32);
	close(fd);
	o.key = kept;
	assert_int_equal(mno_backup_restore(path_of(&a, ""), back, &o, &v), 0);
	snprintf(r.tmp.dir, sizeof(r.tmp.dir), "%.63s", back);
	up(&r);
	assert_true(sum(&r) == before);
	down(&r);
	assert_int_equal(mno_backup_verify(path_of(&a, ""), s->tmp.dir, &opts, &v), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {B(test_restore), B(test_incremental), B(test_damage),
		B(test_partial), B(test_old_key)};

	return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
