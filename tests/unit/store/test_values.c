/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit flipped in one stored value, in each in turn: the store opens, what is lost is missing
 * and told, nothing wrong is answered, and new writes of every kind are taken and read back, also
 * after the next start. MNO_VALUES=n: so many values of each database (8); 0: all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "mno/map.h"
#include "mno/store_check.h"
#include "values_world.h"

#define CHILD_MS   60000
#define VALUES_MAX 20000u
#define ENVS_MAX   24u
#define OF_EACH    8u /* of a database, evenly */

struct value {
	unsigned env;
	char db[32];
	char key[100];
	uint64_t at;
	size_t len;
	bool sealed;
};

static struct {
	struct tmpstate whole, work;
	char env[ENVS_MAX][40];
	unsigned n_envs;
	struct value *v;
	size_t n;
} w;

/* --- files -------------------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
	_cleanup_close_ int a = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int b = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(a >= 0 && b >= 0 && fstat(a, &st) == 0);
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = copy_file_range(a, NULL, b, NULL, (size_t)left, 0);

		assert_true(n > 0);
		left -= n;
	}
}

static void copy_tree(const char *from, const char *to)
{
	DIR *d = opendir(from);
	struct dirent *e;

	assert_non_null(d);
	mkdir(to, 0700);
	while ((e = readdir(d))) {
		char a[PATH_MAX], b[PATH_MAX];
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
		assert_int_equal(lstat(a, &st), 0);
		if (S_ISDIR(st.st_mode))
			copy_tree(a, b);
		else if (strcmp(e->d_name, "pages.sum") != 0) /* nothing is to be mended by it */
			copy_file(a, b);
	}
	closedir(d);
}

/* --- which values there are ----------------------------------------------------------------------- */

static void key_text(const MDB_val *k, char *buf, size_t size)
{
	const uint8_t *p = k->mv_data;
	size_t n = 0;

	for (size_t i = 0; i < k->mv_size && n + 3 < size; i++)
		n += (size_t)snprintf(buf + n, size - n,
			p[i] >= ' ' && p[i] < 0x7f && k->mv_size > 8 ? "%c" : "%02x", p[i]);
}

static void list_db(MDB_txn *t, unsigned env, const char *db, const char *map)
{
	size_t first = w.n;
	MDB_cursor *c;
	MDB_dbi dbi;
	MDB_val k, v;

	assert_int_equal(mdb_dbi_open(t, db, 0, &dbi), 0);
	assert_int_equal(mdb_cursor_open(t, dbi, &c), 0);
	while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
		struct value *x = &w.v[w.n];

		if (!v.mv_size)
			continue;
		assert_true(w.n < VALUES_MAX);
		*x = (struct value){.env = env,
			.at = (uint64_t)((const char *)v.mv_data - map),
			.len = v.mv_size};
		snprintf(x->db, sizeof(x->db), "%s", db);
		key_text(&k, x->key, sizeof(x->key));
		w.n++;
	}
	mdb_cursor_close(c);
	print_message("%s %s: %zu values\n", w.env[env], db, w.n - first);
}

static void list_env(unsigned env)
{
	char path[PATH_MAX];
	MDB_envinfo info;
	MDB_env *e;
	MDB_txn *t;
	MDB_cursor *c;
	MDB_dbi names;
	MDB_val k, v;

	snprintf(path, sizeof(path), "%s/%s", w.whole.dir, w.env[env]);
	assert_int_equal(mdb_env_create(&e), 0);
	mdb_env_set_maxdbs(e, MNO_DB_MAX + 4);
	assert_int_equal(mdb_env_open(e, path, MDB_RDONLY | MDB_NOLOCK, 0600), 0);
	assert_int_equal(mdb_env_info(e, &info), 0);
	assert_int_equal(mdb_txn_begin(e, NULL, MDB_RDONLY, &t), 0);
	/* where the map begins cannot be asked for: from a known page */
	assert_int_equal(mdb_dbi_open(t, NULL, 0, &names), 0);
	assert_int_equal(mdb_cursor_open(t, names, &c), 0);
	while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
		const char *page = (const char *)((uintptr_t)k.mv_data & ~4095ULL);
		uint64_t no;
		char name[32];

		memcpy(&no, page, sizeof(no)); /* a page begins with its number */
		snprintf(name, sizeof(name), "%.*s", (int)k.mv_size, (const char *)k.mv_data);
		list_db(t, env, name, page - no * 4096);
	}
	mdb_cursor_close(c);
	mdb_txn_abort(t);
	mdb_env_close(e);
}

static void list_all(void)
{
	DIR *d = opendir(w.whole.dir);
	struct dirent *e;

	w.v = calloc(VALUES_MAX, sizeof(*w.v));
	assert_non_null(d);
	while ((e = readdir(d))) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s/data.mdb", w.whole.dir, e->d_name);
		if (access(path, F_OK) < 0 || e->d_name[0] == '.')
			continue;
		assert_true(w.n_envs < ENVS_MAX);
		snprintf(w.env[w.n_envs], sizeof(w.env[0]), "%.39s", e->d_name);
		list_env(w.n_envs++);
	}
	closedir(d);
}

/* --- one flip ------------------------------------------------------------------------------------- */

static void count_report(void *arg, enum mno_log_level level, const char *msg)
{
	((struct v_seen *)arg)->reports += level <= MNO_LOG_WARN;
	if (getenv("MNO_VALUES_LOG"))
		fprintf(stderr, "  log: %s\n", msg);
}

/* Two starts: reads and writes, reads again. */
static void look(struct v_seen *seen)
{
	struct v_world v;
	int r;

	mno_log_set(count_report, seen, MNO_LOG_WARN);
	for (unsigned start = 0; start < 2; start++) {
		r = v_open(&v, w.work.dir);
		v_fail(seen, r, start ? "opening it again" : "opening");
		if (r == 0) {
			v_read(&v, start ? V_MORE : 0, seen);
			if (!start)
				v_write(&v, seen);
			if (!start)
				v_read(&v, V_MORE, seen);
		}
		v_close(&v);
	}
}

/* 0, or -ECHILD: it crashed or hung. */
static int in_child(struct v_seen *ret)
{
	int fds[2], status;
	struct pollfd p;
	pid_t pid;
	bool done;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct v_seen seen = {0};

		look(&seen);
		_exit(write(fds[1], &seen, sizeof(seen)) == sizeof(seen) ? 0 : 1);
	}
	close(fds[1]);
	p = (struct pollfd){.fd = fds[0], .events = POLLIN};
	done = pid > 0 && poll(&p, 1, CHILD_MS) == 1 &&
	       read(fds[0], ret, sizeof(*ret)) == sizeof(*ret);
	close(fds[0]);
	if (pid > 0 && !done)
		kill(pid, SIGKILL);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return done && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

static void restore(void)
{
	tmpstate_done(&w.work);
	copy_tree(w.whole.dir, w.work.dir);
}

static void flip(const struct value *x, uint64_t bit)
{
	char path[PATH_MAX];
	uint8_t b;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/data.mdb", w.work.dir, w.env[x->env]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &b, 1, (off_t)(x->at + bit / 8)), 1);
	b ^= (uint8_t)(1u << bit % 8);
	assert_int_equal(pwrite(fd, &b, 1, (off_t)(x->at + bit / 8)), 1);
	close(fd);
}

/* Whether the value's bit means anything: a value of many pages ends in padding. */
static unsigned judge(const struct value *x, uint64_t bit, int r, const struct v_seen *s)
{
	const char *what = NULL;

	if (r < 0)
		what = "crashed or hung";
	else if (s->failed)
		what = "failed";
	else if (s->wrong)
		what = "gave a wrong answer";
	else if (s->missing && !s->reports)
		what = "lost something silently";
	if (what)
		print_message("%s %s %s, bit %llu of %zu bytes: %s: %s (missing %u, reports %u, "
			      "wrong %u)\n",
			w.env[x->env], x->db, x->key, (unsigned long long)bit, x->len, what,
			s->what, s->missing, s->reports, s->wrong);
	return what != NULL;
}

static void test_values(void **state)
{
	const char *env = getenv("MNO_VALUES"), *only = getenv("MNO_VALUES_DB");
	size_t of_each = env ? strtoul(env, NULL, 10) : OF_EACH, done = 0, found = 0;
	unsigned bad = 0;
	uint64_t seed = 20261123;

	for (size_t i = 0, end; i < w.n; i = end) {
		size_t n, take;

		for (end = i;
			end < w.n && w.v[end].env == w.v[i].env && !strcmp(w.v[end].db, w.v[i].db);
			end++)
			;
		n = end - i;
		take = of_each && of_each < n ? of_each : n;
		for (size_t k = 0; k < take; k++) {
			const struct value *x = &w.v[i + k * n / take];
			uint64_t bit = rnd(&seed) % (MNO_MIN(x->len, (size_t)160) * 8);
			struct v_seen s = {0};
			int r;

			if (only && strcmp(only, x->db) != 0)
				continue;
			restore();
			flip(x, bit);
			r = in_child(&s);
			bad += judge(x, bit, r, &s);
			found += s.reports > 0;
			done++;
		}
	}
	print_message("%zu of %zu values: %zu told of, %u faults\n", done, w.n, found, bad);
	assert_int_equal(bad, 0);
	assert_true(found > done / 2);
}

struct kept {
	uint8_t bytes[1 << 19];
	size_t len, n;
	uint64_t id;
	bool rebuilt;
	char env[40], lost[256];
};

static int keep_bytes(void *arg, const struct mno_quarantined *q)
{
	struct kept *k = arg;

	k->n++;
	k->id = q->id;
	k->len = MNO_MIN(q->len, sizeof(k->bytes));
	memcpy(k->bytes, q->bytes, k->len);
	k->rebuilt = q->rebuilt;
	snprintf(k->env, sizeof(k->env), "%s", q->env);
	snprintf(k->lost, sizeof(k->lost), "%s", q->lost);
	assert_true(*q->lost && *q->key && q->time_ms > 0);
	return 0;
}

static const struct value *find_value(const char *db)
{
	for (size_t i = 0; i < w.n; i++)
		if (!strcmp(w.v[i].db, db))
			return &w.v[i];
	return NULL;
}

static uint64_t damage_of(struct v_world *v)
{
	struct mno_verify_opts o = {.sz = sizeof(o)};
	struct mno_verify_progress p = {0};

	assert_int_equal(mno_store_verify(v->store, &o, &p), 0);
	return p.damaged;
}

/* The bytes are kept as they were, the answer stays incomplete, and a drop ends it. */
static void test_quarantine(void **state)
{
	static const char *const dbs[] = {"pack", "late", "hist", "proc", "event"};

	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
		const struct value *x = find_value(dbs[i]);
		_cleanup_free_ uint8_t *was = malloc(x->len);
		struct kept *k = calloc(1, sizeof(*k));
		struct v_world v;
		char path[PATH_MAX];
		int fd;

		restore();
		flip(x, 60 * 8 + 3);
		snprintf(path, sizeof(path), "%s/%s/data.mdb", w.work.dir, w.env[x->env]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(fd, was, x->len, (off_t)x->at), (ssize_t)x->len);
		close(fd);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(damage_of(&v), 1);
		assert_int_equal(v_quarantine(&v), 0);
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(mno_quarantine_each(v.store, NULL, 0, keep_bytes, k), 0);
		assert_int_equal(k->n, 1);
		assert_int_equal(k->len, x->len);
		assert_memory_equal(k->bytes, was, k->len);
		assert_int_equal(damage_of(&v), 1);
		assert_int_equal(v_quarantine(&v), 0);
		assert_int_equal(mno_quarantine_drop(v.store, k->env, k->id + 1), -ENOENT);
		assert_int_equal(mno_quarantine_drop(v.store, k->env, k->id), 0);
		assert_int_equal(v_quarantine(&v), 0);
		k->n = 0;
		assert_int_equal(mno_quarantine_each(v.store, NULL, 0, keep_bytes, k), 0);
		assert_int_equal(k->n, 0);
		assert_int_equal(damage_of(&v), 0);
		v_close(&v);
		free(k);
	}
}

struct in_quarantine {
	size_t n;
	uint64_t id;
	char env[40];
};

static int last_record(void *arg, const struct mno_quarantined *q)
{
	struct in_quarantine *a = arg;

	a->n++;
	a->id = q->id;
	snprintf(a->env, sizeof(a->env), "%s", q->env);
	return 0;
}

/* Drops one record; what stays. */
static size_t drop_one(struct v_world *v)
{
	struct in_quarantine a = {0};

	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, last_record, &a), 0);
	assert_int_equal(mno_quarantine_drop(v->store, a.env, a.id), 0);
	assert_int_equal(v_quarantine(v), 0);
	a.n = 0;
	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, last_record, &a), 0);
	return a.n;
}

/* Names of series, documents, changes: what others refer to. */
static void test_drop_known(void **state)
{
	static const char *const dbs[] = {"series_group", "series", "doc", "doc_feed"};
	struct mno_verify_opts o = {.sz = sizeof(o)};
	struct mno_verify_progress p;
	struct mno_quarantine_stat st;
	struct v_seen seen = {0};
	struct v_world v;

	restore();
	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++)
		flip(find_value(dbs[i]), 30 * 8 + 1);
	assert_int_equal(v_open(&v, w.work.dir), 0);
	assert_int_equal(damage_of(&v), ARRAY_SIZE(dbs));
	assert_int_equal(v_quarantine(&v), 0);
	for (size_t left = ARRAY_SIZE(dbs); left--;) {
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.held, left + 1);
		assert_int_equal(damage_of(&v), left + 1);
		assert_int_equal(drop_one(&v), left);
	}
	for (unsigned start = 0; start < 2; start++) {
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.held, 0);
		assert_int_equal(st.waiting, 0);
		assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
		assert_int_equal(p.damaged, 0);
		assert_int_equal(p.gone, ARRAY_SIZE(dbs));
		v_read(&v, 0, &seen);
		assert_int_equal(seen.failed, 0);
		assert_int_equal(seen.wrong, 0);
		assert_true(seen.missing && seen.reports); /* it is still told what is not there */
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
	}
	v_write(&v, &seen); /* writes over document 0, among others */
	assert_int_equal(seen.failed, 0);
	assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
	assert_int_equal(p.damaged, 0);
	assert_true(p.gone < ARRAY_SIZE(dbs));
	v_close(&v);
}

/* --- rollups ---------------------------------------------------------------------------------------- */

struct rolls {
	uint64_t n, sum, damaged;
};

static int add_points(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	static const uint8_t secret[16] = "rollups' sum";
	struct rolls *a = arg;

	a->n += n;
	for (size_t i = 0; i < n; i++)
		a->sum += mno_siphash(secret, &p[i], sizeof(p[i])) * (id + 1);
	return 0;
}

static struct rolls roll_all(struct v_world *v)
{
	struct rolls a = {0};
	struct mno_ids ids = {0};

	assert_int_equal(mno_series_select(v->series, NULL, 0, SIZE_MAX, &ids), 0);
	for (unsigned t = 0; t < MNO_TIER_MAX; t++) {
		uint64_t damaged;

		assert_int_equal(mno_rollup_read(v->series, t, ids.v, ids.n, 0, INT64_MAX / 2,
					 add_points, &a, NULL, &damaged),
			0);
		a.damaged += damaged;
	}
	mno_ids_done(&ids);
	return a;
}

/* What was found by the last read is made again, or put into quarantine; *@ret: the one record. */
static void settle(struct v_world *v, struct kept *ret)
{
	assert_int_equal(v_quarantine(v), 0);
	assert_int_equal(v_rollups(v), 0);
	assert_int_equal(v_quarantine(v), 0);
	*ret = (struct kept){0};
	assert_int_equal(mno_quarantine_each(v->store, NULL, 0, keep_bytes, ret), 0);
}

static const struct value *first_r10s(void)
{
	for (size_t i = 0; i < w.n; i++)
		if (!strcmp(w.v[i].db, "roll") && !strncmp(w.env[w.v[i].env], "r10s", 4))
			return &w.v[i];
	return NULL;
}

static bool is_raw(const struct value *x)
{
	return !strcmp(x->db, "pack") || !strcmp(x->db, "part") || !strcmp(x->db, "late");
}

/* Every rollup is made again to the last bit from what it was made of, and told of as such. */
static void test_rebuild(void **state)
{
	struct kept *k = calloc(1, sizeof(*k));
	struct mno_quarantine_stat st;
	struct rolls want, is;
	struct v_world v;
	size_t n = 0, seen = 0;

	restore();
	assert_int_equal(v_open(&v, w.work.dir), 0);
	want = roll_all(&v);
	v_close(&v);
	assert_true(want.n > 1000 && !want.damaged);
	for (size_t i = 0; i < w.n; i++) {
		const struct value *x = &w.v[i];

		if (strcmp(x->db, "roll") != 0 ||
			(seen++ % 9 && !strncmp(w.env[x->env], "r10s", 4)))
			continue;
		n++;
		restore();
		flip(x, 70 * 8 + i % 8);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		is = roll_all(&v);
		assert_true(is.damaged >= 1 && is.n < want.n);
		settle(&v, k);
		assert_int_equal(k->n, 1);
		assert_true(k->rebuilt);
		assert_int_equal(k->len, x->len);
		is = roll_all(&v);
		assert_int_equal(is.damaged, 0);
		assert_int_equal(is.n, want.n);
		assert_true(is.sum == want.sum);
		assert_int_equal(damage_of(&v), 0);
		mno_quarantine_stat(v.store, &st);
		assert_int_equal(st.rebuilt, 1);
		assert_int_equal(st.held, 0);
		v_close(&v);
	}
	print_message("%zu rollups\n", n);
	assert_true(n > 9);
	free(k);
}

/* Where samples are damaged, too, or gone, or its head is: it stays lost, and the rest is whole. */
static void test_no_rebuild(void **state)
{
	static const char *const why[] = {"not all there", "not all there", "its head is damaged"};
	const struct value *x = first_r10s();
	struct kept *k = calloc(1, sizeof(*k));

	for (unsigned how = 0; how < ARRAY_SIZE(why); how++) {
		struct v_world v;
		struct rolls was, is;
		size_t n;

		restore();
		flip(x, how == 2 ? 5 : 70 * 8);
		for (size_t i = 0; i < w.n && how == 0; i++)
			if (is_raw(&w.v[i]))
				flip(&w.v[i], 70 * 8);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		if (how == 1)
			assert_int_equal(
				mno_store_drop(v.store, MNO_CLASS_TS, V_START + 9 * V_DAY_MS, &n),
				0);
		was = roll_all(&v);
		assert_true(was.damaged >= 1);
		settle(&v, k);
		assert_true(how == 0 ? k->n > 1 : k->n == 1); /* blocks are in quarantine, too */
		is = roll_all(&v);
		assert_true(is.damaged >= 1 && is.n == was.n && is.sum == was.sum);
		assert_true(damage_of(&v) >= 1);
		if (how) {
			assert_false(k->rebuilt);
			assert_non_null(strstr(k->lost, why[how]));
		}
		v_close(&v);
	}
	free(k);
}

struct stopping {
	struct mno_verify_place place;
	unsigned left;
	atomic_bool stop;
};

static void stop_after(void *arg, const struct mno_verify_progress *p)
{
	struct stopping *s = arg;

	s->place = *p->place;
	if (s->left && !--s->left)
		s->stop = true;
}

/* A pass that is cut off goes on where it was, also after a new start. */
static void test_place(void **state)
{
	struct stopping s = {0};
	struct mno_verify_opts o = {.sz = sizeof(o),
		.deep = true,
		.cancel = &s.stop,
		.progress = stop_after,
		.arg = &s};
	struct mno_verify_place from;
	struct mno_verify_progress whole, p;
	struct mno_txn *t;
	struct v_world v;

	restore();
	assert_int_equal(v_open(&v, w.work.dir), 0);
	assert_int_equal(mno_verify_place_load(v.store, &from), -ENOENT);
	assert_int_equal(mno_store_verify(v.store, &o, &whole), 0);
	for (unsigned cut = 1; cut < 60; cut += 9) {
		s = (struct stopping){.left = cut};
		o.from = NULL;
		assert_int_equal(mno_store_verify(v.store, &o, &p), -ECANCELED);
		mno_verify_place_keep(v.store, &s.place);
		assert_int_equal(mno_store_begin(v.store, &t), 0);
		assert_int_equal(v_end(&v, t, mno_verify_place_save(v.store, t)), 0);
		v_close(&v);
		assert_int_equal(v_open(&v, w.work.dir), 0);
		assert_int_equal(mno_verify_place_load(v.store, &from), 0);
		assert_true(from.under_way && from.values > 0 && from.values < whole.values);
		o.from = &from;
		s.stop = false;
		assert_int_equal(mno_store_verify(v.store, &o, &p), 0);
		/* the place itself is a value, and so are counts: no more than these are new */
		assert_in_range(p.values, whole.values, whole.values + 3);
		assert_int_equal(p.environments, whole.environments);
		assert_int_equal(p.damaged, 0);
	}
	v_close(&v);
}

/* Without damage nothing is missing, and nothing is told. */
static void test_whole(void **state)
{
	struct v_seen s = {0};

	restore();
	assert_int_equal(in_child(&s), 0);
	if (s.failed || s.reports || s.missing || s.wrong)
		print_message("%s (missing %u, reports %u, wrong %u)\n", s.what, s.missing,
			s.reports, s.wrong);
	assert_int_equal(s.failed, 0);
	assert_int_equal(s.reports, 0);
	assert_int_equal(s.missing, 0);
	assert_int_equal(s.wrong, 0);
}

/* What lies in the place of the sums of pages does not stop anything. */
static void test_sums_place(void **state)
{
	char path[PATH_MAX], inside[PATH_MAX];

	for (unsigned full = 0; full < 2; full++)
		for (unsigned e = 0; e < w.n_envs; e++) {
			struct v_world v;
			struct v_seen s = {0};

			restore();
			snprintf(path, sizeof(path), "%s/%.39s/pages.sum", w.work.dir, w.env[e]);
			snprintf(inside, sizeof(inside), "%s/%.39s/pages.sum/x", w.work.dir,
				w.env[e]);
			assert_int_equal(mkdir(path, 0700), 0);
			if (full)
				assert_int_equal(mkdir(inside, 0700), 0);
			assert_int_equal(v_open(&v, w.work.dir), 0);
			v_read(&v, 0, &s);
			v_write(&v, &s);
			v_close(&v);
			assert_int_equal(s.failed, 0);
			assert_int_equal(s.missing, 0);
			assert_int_equal(s.wrong, 0);
		}
}

static int setup(void **state)
{
	struct v_world v;
	int r;

	tmpstate_new(&w.whole);
	tmpstate_new(&w.work);
	r = v_open(&v, w.whole.dir);
	if (r == 0)
		r = v_build(&v);
	v_close(&v);
	if (r < 0)
		print_message("building: %s\n", mno_strerror(r));
	if (r == 0)
		list_all();
	return r;
}

static int teardown(void **state)
{
	tmpstate_done(&w.whole);
	tmpstate_done(&w.work);
	free(w.v);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_drop_known),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_no_rebuild),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_sums_place),
		cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests_name("values", tests, setup, teardown);
}
