/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of values_world.h on disk: where each of its values lies, a bit flipped in one, and all
 * as it was. Include it in one source file.
 */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "mno/store_check.h"
#include "values_world.h"

#define VALUES_MAX 20000u
#define ENVS_MAX   24u

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

static inline void copy_file(const char *from, const char *to)
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

static inline void copy_tree(const char *from, const char *to)
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

static inline void key_text(const MDB_val *k, char *buf, size_t size)
{
	const uint8_t *p = k->mv_data;
	size_t n = 0;

	for (size_t i = 0; i < k->mv_size && n + 3 < size; i++)
		n += (size_t)snprintf(buf + n, size - n,
			p[i] >= ' ' && p[i] < 0x7f && k->mv_size > 8 ? "%c" : "%02x", p[i]);
}

static inline void list_db(MDB_txn *t, unsigned env, const char *db, const char *map)
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

static inline void list_env(unsigned env)
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

static inline void list_all(void)
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

static inline void restore(void)
{
	tmpstate_done(&w.work);
	copy_tree(w.whole.dir, w.work.dir);
}

static inline void flip(const struct value *x, uint64_t bit)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	tmpstate_done(&w.whole);
	tmpstate_done(&w.work);
	free(w.v);
	return 0;
}
