/* SPDX-License-Identifier: Apache-2.0 */
/* Format 1 to 2, on a store that the version which had format 1 wrote. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "rig.h"
#include "../../../libmno/src/store/store_internal.h"

static struct mno_migrate_opts opts(uint64_t step)
{
	return (struct mno_migrate_opts){
		.sz = sizeof(struct mno_migrate_opts), .store = store_opts(), .step_records = step};
}

static void assert_all_answers(const char *dir)
{
	size_t n;
	char *want = read_zst(FIXTURE "answers.txt.zst", &n), *got = answers(dir);

	assert_answers(got, want);
	free(want);
	free(got);
}

/* It is as it was, to the byte. */
static void assert_old_form(const char *dir)
{
	char path[160];
	size_t n;
	char *want = read_zst(FIXTURE "data.mdb.zst", &n), *got = malloc(n + 1);
	FILE *f;

	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fread(got, 1, n + 1, f), n);
	fclose(f);
	assert_memory_equal(got, want, n);
	free(got);
	free(want);
	assert_false(there(dir, "main"));
}

static void old_answers_come_from_the_new_form(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_migrate_report rep;
	struct mno_store *e;

	assert_int_equal(mno_store_open(t->dir, store_opts(), &e), -MNO_EMIGRATE);
	assert_int_equal(mno_migrate_look(t->dir, &rep), 0);
	assert_int_equal(rep.stage, MNO_MIGRATE_NEEDED);
	assert_int_equal(rep.from, 1);
	assert_true(rep.need_bytes > rep.old_bytes && rep.records_total > 15000);
	assert_old_form(t->dir);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_true(there(t->dir, ".old-1/data.mdb"));
	assert_false(there(t->dir, "data.mdb"));
	assert_false(there(t->dir, ".new-2"));
	assert_int_equal(mno_migrate_look(t->dir, &rep), 0);
	assert_int_equal(rep.stage, MNO_MIGRATE_DONE);
	assert_int_equal(rep.samples, 15164);
	assert_int_equal(rep.series, 24);
	assert_int_equal(rep.procs, 4);
	assert_int_equal(rep.events, 60);
	assert_int_equal(rep.damaged, 0);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0); /* nothing is left to do */
}

/* The copy of the rows of running processes: a restart makes ended ones of it. */
static void running_rows_are_carried_over(void **state)
{
	struct mno_ledger_opts lo = {.sz = sizeof(lo)};
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_ledger *l;
	struct mno_store *e;
	struct mno_txn *txn;
	size_t n = 0;

	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_store_open(t->dir, store_opts(), &e), 0);
	assert_int_equal(mno_ledger_new(&lo, &l), 0);
	assert_int_equal(mno_store_begin(e, &txn), 0);
	assert_int_equal(mno_ledger_end_unwatched(l, e, txn, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(mno_store_commit(e, txn), 0);
	mno_ledger_free(l);
	mno_store_close(e);
}

static void new_rows_follow_the_old_ones(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_series_stat st;
	struct mno_series *s;
	struct mno_store *e;
	struct mno_txn *txn;
	const char *key = "m0_total{host=\"h0\",path=\"/a\\\\b\\\"0\"}";
	uint32_t id, old_id;
	double v = 1;

	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_store_open(t->dir, store_opts(), &e), 0);
	assert_int_equal(mno_series_open(e, &s), 0);
	mno_series_stat(s, &st);
	assert_int_equal(st.samples, 15164);
	assert_int_equal(mno_store_begin(e, &txn), 0);
	assert_int_equal(mno_series_resolve(s, txn, "fresh", 5, &id), 0);
	assert_int_equal(id, 25);
	assert_int_equal(mno_series_resolve(s, txn, key, strlen(key), &old_id), 0);
	assert_int_equal(old_id, 1);
	assert_int_equal(mno_series_append(s, txn, st.last_ms, &id, &v, 1), -EINVAL);
	assert_int_equal(mno_series_append(s, txn, st.last_ms + 1, &id, &v, 1), 0);
	assert_int_equal(mno_store_commit(e, txn), 0);
	mno_series_committed(s);
	mno_series_close(s);
	mno_store_close(e);
}

static void small_steps_make_the_same(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_digest a, b;
	struct mno_migrate_opts o = opts(1);

	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_int_equal(mno_migrate_digest(t->dir, &a), 0);
	teardown(state);
	setup(state);
	t = *state;
	o = opts(0);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_migrate_digest(t->dir, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

static void it_can_be_taken_back_until_confirmed(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_migrate_report rep;

	assert_int_equal(mno_migrate_want_undo(t->dir, true), -ENOENT);
	assert_int_equal(mno_migrate_confirm(t->dir), -ENOENT);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_int_equal(mno_migrate_want_undo(t->dir, true), 0);
	assert_int_equal(mno_migrate_want_undo(t->dir, false), 0);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_int_equal(mno_migrate_want_undo(t->dir, true), 0);
	assert_int_equal(mno_migrate_start(t->dir, &o), -MNO_EMIGRATE);
	assert_old_form(t->dir);
	assert_true(there(t->dir, ".undone-2/main/data.mdb"));
	assert_int_equal(mno_migrate_look(t->dir, &rep), 0);
	assert_int_equal(rep.stage, MNO_MIGRATE_UNDONE);
	/* it stays so until somebody wants it otherwise */
	assert_int_equal(mno_migrate_start(t->dir, &o), -MNO_EMIGRATE);
	o.again = true;
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
	assert_int_equal(mno_migrate_confirm(t->dir), 0);
	assert_false(there(t->dir, ".old-1"));
	assert_false(there(t->dir, ".undone-2"));
	assert_false(there(t->dir, ".migration"));
	assert_int_equal(mno_migrate_want_undo(t->dir, true), -ENOENT);
	assert_all_answers(t->dir);
}

static void the_old_form_goes_after_a_week(void **state)
{
	static const char text[] =
		"from=1\nto=2\nstage=4\nswitched_ms=1000\nundo_wanted=0\nrecords=1\nseries=1\n"
		"samples=1\nprocs=1\nevents=1\ndamaged=0\n";
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);

	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	put_file(t->dir, ".migration", text, sizeof(text) - 1);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_false(there(t->dir, ".old-1"));
	assert_all_answers(t->dir);
}

static void foreign_files_stay(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	char path[160];

	put_file(t->dir, "notes.txt", "mine", 4);
	put_file(t->dir, "ts-backup", "mine", 4);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_true(there(t->dir, "notes.txt") && there(t->dir, "ts-backup"));
	teardown(state);
	setup(state);
	t = *state;
	/* one that has a name which is needed: refused, and nothing is moved */
	put_file(t->dir, "ts-20231115", "mine", 4);
	assert_int_equal(mno_migrate_start(t->dir, &o), -EEXIST);
	assert_old_form(t->dir);
	assert_true(there(t->dir, "ts-20231115"));
	snprintf(path, sizeof(path), "%s/ts-20231115", t->dir);
	unlink(path);
	assert_int_equal(mno_migrate_start(t->dir, &o), 0);
	assert_all_answers(t->dir);
}

/* Opens the old environment for writing, as the old version would. */
static void change_old(const char *dir, const char *db, const char *key, const void *v, size_t n)
{
	MDB_val k = {strlen(key), (void *)key}, val = {n, (void *)v};
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	assert_int_equal(mdb_env_create(&env), 0);
	mdb_env_set_maxdbs(env, 16);
	mdb_env_set_mapsize(env, 64 << 20);
	assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, db, 0, &dbi), 0);
	assert_int_equal(mdb_put(txn, dbi, &k, &val, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void a_newer_format_is_refused(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);
	struct mno_migrate_report rep;
	uint32_t format = 7;

	change_old(t->dir, "meta", "format", &format, sizeof(format));
	assert_int_equal(mno_migrate_start(t->dir, &o), -MNO_EVERSION);
	assert_int_equal(mno_migrate_look(t->dir, &rep), 0);
	assert_int_equal(rep.stage, MNO_MIGRATE_NEWER);
	assert_int_equal(rep.from, 7);
	assert_false(there(t->dir, ".new-2"));
}

static void too_little_room_is_said_before(void **state)
{
	struct mno_store_opts so = {.sz = sizeof(so), .floor_bytes = UINT64_MAX / 2};
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(0);

	o.store = &so;
	assert_int_equal(mno_migrate_start(t->dir, &o), -ENOSPC);
	assert_old_form(t->dir);
	assert_false(there(t->dir, ".new-2"));
}

struct filler {
	char path[160];
	unsigned at, calls;
};

static int fill_disk(void *arg, const struct mno_migrate_progress *p)
{
	static const char zeros[4096];
	struct filler *f = arg;
	int fd;

	if (f->calls++ != f->at)
		return 0;
	fd = open(f->path, O_WRONLY | O_CREAT, 0600);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	close(fd);
	return 0;
}

static void full_disk(const char *dir)
{
	struct mno_migrate_opts o = opts(300);
	unsigned failed = 0;

	for (unsigned at = 0; at < 40; at += 3) {
		struct filler f = {.at = at};
		int r;

		assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=12m"), 0);
		put_fixture(dir);
		snprintf(f.path, sizeof(f.path), "%s/filler", dir);
		o.progress = fill_disk;
		o.arg = &f;
		r = mno_migrate_start(dir, &o);
		if (r < 0) {
			assert_int_equal(r, -ENOSPC);
			failed++;
			/* or it is complete, and only the names are not all changed */
			if (!there(dir, ".migration"))
				assert_old_form(dir);
			unlink(f.path);
			o.progress = NULL;
			assert_int_equal(mno_migrate_start(dir, &o), 0);
		}
		unlink(f.path);
		assert_all_answers(dir);
		assert_int_equal(umount(dir), 0);
	}
	assert_true(failed > 5);
}

static void a_full_disk_in_the_middle(void **state)
{
	struct tmpstate *t = *state;

	if (geteuid() || unshare(CLONE_NEWNS) ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		print_message("needs a mount of its own: not root\n");
		skip();
	}
	full_disk(t->dir);
}

static int stop(void *arg, const struct mno_migrate_progress *p)
{
	struct filler *f = arg;

	return f->calls++ == f->at ? -ECANCELED : 0;
}

static void stop_and_go_on(void **state)
{
	struct tmpstate *t = *state;
	struct mno_migrate_opts o = opts(300);
	unsigned tries = 0;
	int r = -ECANCELED;

	/* each run gets a little further than the one before */
	for (; r == -ECANCELED && tries < 200; tries++) {
		struct filler f = {.at = 3};

		o.arg = &f;
		o.progress = stop;
		r = mno_migrate_start(t->dir, &o);
	}
	assert_int_equal(r, 0);
	assert_true(tries > 3);
	assert_all_answers(t->dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(old_answers_come_from_the_new_form),
		T(running_rows_are_carried_over),
		T(new_rows_follow_the_old_ones),
		T(small_steps_make_the_same),
		T(it_can_be_taken_back_until_confirmed),
		T(the_old_form_goes_after_a_week),
		T(foreign_files_stay),
		T(a_newer_format_is_refused),
		T(too_little_room_is_said_before),
		T(stop_and_go_on),
		T(a_full_disk_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
