/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts: the calls of a writer that change files are logged, and the store is opened as a
 * disk with a volatile cache would hold it after a cut at any time. $CUTS: how many (1,000).
 * tests/vm does the same with the write log of a guest's disk, that is with a real file system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/mman.h>
#include <sys/wait.h>
#include "mno/log.h"
#include "mno/store_keys.h"
#include "fault_load.h"
#include "fault_cuts.h"

#define CUTS_DEFAULT 1000
#define D2_COMMITS   2 /* of one second each */
#define STEPS        40

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

static void record(struct log *log, int steps, bool rotate)
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
		session(tmp.dir, 0, steps / 2, false);
		session(tmp.dir, steps / 2, steps, rotate);
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
	struct load_mark lost; /* the most of what was acknowledged and is not there */
};

static void cut(struct cuts *c, const struct cut_disk *d, struct load_mark acked)
{
	struct tmpstate tmp;
	struct load_mark found = {0};

	shm_new(&tmp);
	cut_here(d, tmp.dir, c->done);
	c->done++;
	if (load_check(tmp.dir, acked, D2_COMMITS, c->done % 4 == 0, &found) < 0) {
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
	size_t each = c->want / log->n, odd = c->want % log->n * 1000 / log->n;

	d->root = log->root;
	d->seed = 42;
	d->reorders = c->reorders;
	for (size_t i = 0; i < log->n && !(c->bad && c->stop_at_first); i++) {
		const struct file_entry *e = log->v[i];
		size_t n = each + (rnd(&d->seed) % 1000 < odd);

		if (e->op == FILE_SYNC && !n)
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

static void test_cuts(void **state)
{
	const char *n = getenv("CUTS");
	struct cuts c = {.want = n ? (size_t)atoi(n) : CUTS_DEFAULT};
	struct log log;

	record(&log, STEPS, true);
	replay(&log, &c);
	print_message(
		"%zu cuts in a log of %zu calls, %zu of them flush, %zu bytes; lost: at most %d "
		"commits of telemetry, %d documents\n",
		c.done, log.n, log.syncs, log.len, c.lost.rows, MNO_MAX(c.lost.docs, 0));
	log_done(&log);
	assert_int_equal(c.bad, 0);
	assert_true(c.done >= c.want * 9 / 10);
	assert_true(c.lost.rows > 0); /* cuts that take nothing away prove nothing */
}

static void test_no_sync(void **state)
{
	struct cuts c = {.want = 300, .stop_at_first = true};
	struct log log;

	no_sync = true;
	record(&log, 12, false);
	no_sync = false;
	replay(&log, &c);
	log_done(&log);
	assert_true(c.bad);
}

static void test_no_barrier(void **state)
{
	struct cuts c = {.want = 300, .stop_at_first = true, .reorders = true};
	struct log log;

	record(&log, 12, false);
	replay(&log, &c);
	log_done(&log);
	assert_true(c.bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_no_sync),
		cmocka_unit_test(test_no_barrier),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
