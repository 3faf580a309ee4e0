/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts: the calls of a writer that change files are logged, and the store is opened as a
 * disk with a volatile cache would hold it after a cut at any time. $CUTS: how many (1,000).
 * The writer begins on a store of documents of form 1, which are migrated, and back, and again,
 * while it writes series and documents and its keys change; and, in a log of its own, a store of
 * format 1 is migrated.
 * tests/vm does the same with the write log of a guest's disk, that is with a real file system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "mno/log.h"
#include "mno/map.h"
#include "mno/store_keys.h"
#include "../migrate/docs_rig.h"
#include "fault_form.h"
#include "fault_cuts.h"

#define CUTS_DEFAULT 1000
#define D2_COMMITS   2 /* of one second each */
#define STEPS        40
#define STORE_CUTS   250 /* of the migration of a store */

struct log {
	const uint8_t *data;
	size_t len;
	const struct file_entry **v;
	size_t n, syncs;
	uint64_t root;
};

static void shm_new(struct tmpstate *t)
{
	snprintf(t->dir, sizeof(t->dir), "%s/mno-test-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(t->dir));
}

/* --- the writer ------------------------------------------------------------------------------- */

static bool no_sync; /* of LMDB: what a careless writer would open it with */

int mdb_env_open(MDB_env *e, const char *path, unsigned flags, mdb_mode_t mode)
{
	int (*real)(MDB_env *, const char *, unsigned, mdb_mode_t) = (int (*)(
		MDB_env *, const char *, unsigned, mdb_mode_t))dlsym(RTLD_NEXT, "mdb_env_open");

	return real(e, path, flags | (no_sync ? MDB_NOSYNC : 0), mode);
}

/* What is put there is on disk before anything else happens. */
static void sync_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;
	char sub[512];
	int fd;

	while (d && (de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		if (de->d_type == DT_DIR) {
			sync_tree(sub);
			continue;
		}
		fd = open(sub, O_RDONLY | O_CLOEXEC);
		fsync(fd);
		close(fd);
	}
	fd = d ? dirfd(d) : -1;
	if (fd >= 0)
		fsync(fd);
	if (d)
		closedir(d);
}

struct docs_arg {
	struct load *l;
	int from, to;
};

static void *docs_main(void *arg)
{
	struct docs_arg *a = arg;

	for (int i = a->from; i < a->to; i++) {
		if (load_docs(a->l, i) < 0)
			_exit(2);
		file_ack('d', i + 1);
		if (form_some(a->l, i) < 0)
			_exit(8);
	}
	return NULL;
}

/* One run of a program: half of the steps; the keys change while it writes. */
static void session(const char *dir, int from, int to, bool rotate)
{
	struct load l;
	struct docs_arg a = {&l, from * 2, to * 2};
	pthread_t thread;
	size_t n;

	if (load_open(&l, dir) < 0)
		_exit(3);
	if (pthread_create(&thread, NULL, docs_main, &a))
		_exit(4);
	for (int i = from; i < to; i++) {
		if (load_rows(&l, i) < 0)
			_exit(5);
		file_ack('r', i + 1);
		if (rotate && i == from + 6 && mno_store_rotate_kek(l.store, NULL) < 0)
			_exit(6);
		if (rotate && i == from + 10 && mno_store_rotate_data(l.store, "docs", &n) < 0)
			_exit(7);
		if (rotate && i == from + 14 && mno_store_rotate_data(l.store, "main", &n) < 0)
			_exit(7);
	}
	pthread_join(thread, NULL);
	load_close(&l);
}

static void load_session(const char *dir, int steps, bool whole)
{
	if (whole) {
		put_docs_fixture(dir);
		sync_tree(dir);
	}
	file_ack('f', 1);
	session(dir, 0, steps / 2, false);
	session(dir, steps / 2, steps, whole);
}

static int count_call(void *arg, const struct mno_migrate_progress *p)
{
	++*(unsigned *)arg;
	return 0;
}

static int migrate_again(const char *dir, unsigned *calls)
{
	struct mno_migrate_opts o = {.sz = sizeof(o),
		.store = store_opts(),
		.step_records = 3000,
		.progress = count_call,
		.arg = calls,
		.again = true};

	return mno_migrate_start(dir, &o);
}

/* There, back, and there again. */
static void store_session(const char *dir, int steps, bool whole)
{
	unsigned calls = 0;

	put_fixture(dir);
	sync_tree(dir);
	file_ack('f', 1);
	if (migrate_again(dir, &calls) < 0 || mno_migrate_want_undo(dir, true) < 0 ||
		migrate_again(dir, &calls) < 0 || mno_migrate_confirm(dir) < 0 || calls < 10)
		_exit(9);
}

typedef void (*session_fn)(const char *dir, int steps, bool whole);

static void record(struct log *log, session_fn fn, int steps, bool whole)
{
	struct tmpstate tmp;
	struct stat st;
	int status, fd;
	pid_t pid;

	shm_new(&tmp);
	fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(fd >= 0 && stat(tmp.dir, &st) == 0);
	*log = (struct log){.root = st.st_ino};
	pid = fork();
	if (pid == 0) {
		file_faults.log = fd;
		file_faults.dev = st.st_dev;
		fn(tmp.dir, steps, whole);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		print_error("the writer ended with %x\n", status);
	assert_int_equal(status, 0);
	log->len = (size_t)lseek(fd, 0, SEEK_END);
	log->data = mmap(NULL, log->len, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(log->data != MAP_FAILED);
	close(fd);
	tmpstate_done(&tmp);
	log->v = calloc(log->len / sizeof(struct file_entry) + 1, sizeof(*log->v));
	for (size_t at = 0; at < log->len;) {
		/* entries are packed: data of odd length makes the next one unaligned, copy it then */
		struct file_entry *e = malloc(sizeof(*e));
		uint64_t len;

		memcpy(e, log->data + at, sizeof(*e));
		len = e->len;
		e = realloc(e, sizeof(*e) + len);
		memcpy(e + 1, log->data + at + sizeof(*e), len);
		log->v[log->n++] = e;
		log->syncs += e->op == FILE_SYNC || e->synced;
		at += sizeof(*e) + len;
	}
}

static void log_done(struct log *log)
{
	for (size_t i = 0; i < log->n; i++)
		free((void *)log->v[i]);
	free(log->v);
	munmap((void *)log->data, log->len);
}

/* --- cuts ------------------------------------------------------------------------------------- */

struct cuts {
	size_t want, done, bad;
	bool reorders, stop_at_first;
	uint64_t docs; /* sum of the fixture's documents; 0: it is not there */
	size_t stages[MNO_DOCS_FORM_STAGES];    /* that were found */
	const struct mno_migrate_digest *store; /* of a migrated store: that is what is cut */
	struct load_mark lost; /* the most of what was acknowledged and is not there */
};

/* Now and then also when the migration has ended, or was taken back. */
static int check_fixture(struct cuts *c, const char *dir)
{
	static const enum form_end ends[6] = {[1] = FORM_RESUMED, [4] = FORM_UNDONE};
	enum mno_docs_form_stage stage;
	int r = form_check(dir, c->docs, ends[c->done % ARRAY_SIZE(ends)], &stage);

	if (r == 0)
		c->stages[stage]++;
	return r;
}

static int check_store(struct cuts *c, const char *dir)
{
	struct mno_migrate_digest got;
	unsigned calls = 0;
	int r = migrate_again(dir, &calls);

	if (r == 0)
		r = mno_migrate_digest(dir, &got);
	if (r < 0)
		return load_wrong("migration: %s", mno_strerror(r));
	return memcmp(&got, c->store, sizeof(got)) ? load_wrong("migrated, but not the same") : 0;
}

static void cut(struct cuts *c, const struct cut_disk *d, struct load_mark acked)
{
	struct tmpstate tmp;
	struct load_mark found = {0};
	int r;

	shm_new(&tmp);
	cut_here(d, tmp.dir, c->done);
	c->done++;
	r = c->store ? check_store(c, tmp.dir)
		     : load_check(tmp.dir, acked, D2_COMMITS, c->done % 4 == 0, &found);
	if (r == 0 && c->docs)
		r = check_fixture(c, tmp.dir);
	if (r < 0) {
		c->bad++;
		print_message("cut %zu, acknowledged %d and %d\n", c->done, acked.rows, acked.docs);
		if (getenv("KEEP"))
			exit(1);
	}
	c->lost.rows = MNO_MAX(c->lost.rows, acked.rows - found.rows);
	c->lost.docs = MNO_MAX(c->lost.docs, acked.docs - found.docs);
	tmpstate_done(&tmp);
}

/* Some cuts before each sync, where most is in the balance, and at random entries between. */
static void replay(const struct log *log, struct cuts *c)
{
	struct cut_disk *d = calloc(1, sizeof(*d));
	struct load_mark acked = {0};
	size_t begin = 0, each, odd;

	while (log->v[begin]->op != FILE_ACK)
		begin++;
	each = c->want / (log->n - begin);
	odd = c->want % (log->n - begin) * 1000 / (log->n - begin);
	d->root = log->root;
	d->seed = 42;
	d->reorders = c->reorders;
	for (size_t i = 0; i < log->n && !(c->bad && c->stop_at_first); i++) {
		const struct file_entry *e = log->v[i];
		size_t n = i < begin ? 0 : each + (rnd(&d->seed) % 1000 < odd);

		if (e->op == FILE_SYNC && !n && i > begin)
			n = 1;
		for (size_t k = 0; k < n; k++)
			cut(c, d, acked);
		cut_step(d, e);
		if (e->op == FILE_ACK && e->name[0] == 'r')
			acked.rows = (int)e->a;
		if (e->op == FILE_ACK && e->name[0] == 'd')
			acked.docs = (int)e->a;
	}
	cut_done(d);
}

static uint64_t fixture_sum(void)
{
	struct tmpstate tmp;
	struct load l;
	uint64_t sum;

	shm_new(&tmp);
	put_docs_fixture(tmp.dir);
	assert_int_equal(load_open(&l, tmp.dir), 0);
	assert_int_equal(form_sum(l.docs, &sum), 0);
	load_close(&l);
	tmpstate_done(&tmp);
	return sum;
}

static size_t cuts_wanted(size_t def)
{
	const char *n = getenv("CUTS");

	return n ? (size_t)atoi(n) : def;
}

static void test_cuts(void **state)
{
	struct cuts c = {.want = cuts_wanted(CUTS_DEFAULT), .docs = fixture_sum()};
	struct log log;

	record(&log, load_session, STEPS, true);
	replay(&log, &c);
	print_message(
		"%zu cuts in a log of %zu calls, %zu of them flush, %zu bytes; lost: at most %d "
		"commits of telemetry, %d documents\n",
		c.done, log.n, log.syncs, log.len, c.lost.rows, MNO_MAX(c.lost.docs, 0));
	for (unsigned i = 0; i < MNO_DOCS_FORM_STAGES; i++)
		print_message(
			"  documents found %s: %zu\n", mno_docs_form_stage_name(i), c.stages[i]);
	log_done(&log);
	assert_int_equal(c.bad, 0);
	assert_true(c.done >= c.want * 9 / 10);
	assert_true(c.lost.rows > 0); /* cuts that take nothing away prove nothing */
	assert_true(c.stages[MNO_DOCS_FORM_COPYING] && c.stages[MNO_DOCS_FORM_CHECKING]);
	assert_true(c.stages[MNO_DOCS_FORM_DONE] && c.stages[MNO_DOCS_FORM_UNDOING]);
}

static void test_cuts_of_a_store(void **state)
{
	struct mno_migrate_digest want;
	struct cuts c = {.want = MNO_MIN(cuts_wanted(STORE_CUTS), (size_t)STORE_CUTS)};
	struct tmpstate tmp;
	struct log log;
	unsigned calls = 0;

	shm_new(&tmp);
	put_fixture(tmp.dir);
	assert_int_equal(migrate_again(tmp.dir, &calls), 0);
	assert_int_equal(mno_migrate_digest(tmp.dir, &want), 0);
	tmpstate_done(&tmp);
	c.store = &want;
	record(&log, store_session, 0, true);
	replay(&log, &c);
	print_message("%zu cuts of the migration of a store, in a log of %zu calls, %zu flush\n",
		c.done, log.n, log.syncs);
	log_done(&log);
	assert_int_equal(c.bad, 0);
	assert_true(c.done >= c.want * 9 / 10);
}

static void test_no_sync(void **state)
{
	struct cuts c = {.want = 300, .stop_at_first = true};
	struct log log;

	no_sync = true;
	record(&log, load_session, 12, false);
	no_sync = false;
	replay(&log, &c);
	log_done(&log);
	assert_true(c.bad);
}

static void test_no_barrier(void **state)
{
	struct cuts c = {.want = 300, .stop_at_first = true, .reorders = true};
	struct log log;

	record(&log, load_session, 12, false);
	replay(&log, &c);
	log_done(&log);
	assert_true(c.bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_cuts_of_a_store),
		cmocka_unit_test(test_no_sync),
		cmocka_unit_test(test_no_barrier),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
