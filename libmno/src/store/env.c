/* SPDX-License-Identifier: Apache-2.0 */
/* The environment: directory, lock, format version, map size. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "store_internal.h"

#define MAP_DEFAULT     (16ULL << 30)
#define MAP_INITIAL     (1ULL << 30)
#define FLOOR_DEFAULT   (256ULL << 20)
#define MAX_READERS     512
#define CHECK_MAX_NS    (60 * NS_PER_MS) /* a start must not become slower with the store's age */
#define LOCK_BYTES      36864            /* 64 for each reader and for the head, rounded up */
#define READER_CHECK_NS (10 * NS_PER_SEC)

static const char format_key[] = "format", hash_key_key[] = "hash_key";

static const char *const db_names[MNO_DB_MAX] = {
#define X(id, name) [MNO_DB_##id] = name,
	MNO_DBS(X)
#undef X
};

/* Before LMDB maps it: a file cut short would end in SIGBUS on the first missing page. */
static int check_length(struct mno_store *e)
{
	uint64_t want;
	MDB_envinfo info;
	MDB_stat st;
	struct stat f;
	mdb_filehandle_t fd;
	int r;

	r = mno_lmdb_error(mdb_env_info(e->env, &info));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_env_stat(e->env, &st));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_env_get_fd(e->env, &fd));
	if (r < 0)
		return r;
	if (fstat(fd, &f) < 0)
		return -errno;
	want = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
	if ((uint64_t)f.st_size >= want)
		return 0;
	if (want - (uint64_t)f.st_size > MNO_UNWRITTEN_SLACK) {
		mno_err("store: data.mdb has %llu of %llu bytes: it was cut",
			(unsigned long long)f.st_size, (unsigned long long)want);
		return -MNO_ECORRUPT;
	}
	if (!e->opts.read_only && ftruncate(fd, (off_t)want) < 0)
		return -errno;
	return 0;
}

static int open_dir(struct mno_store *e, const char *dir)
{
	if (!e->opts.read_only && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	e->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->dir_fd < 0)
		return -errno;
	if (e->opts.read_only)
		return 0;
	e->lock_fd = openat(e->dir_fd, "owner.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (e->lock_fd < 0)
		return -errno;
	if (flock(e->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -MNO_EBUSY_STATE : -errno;
	return 0;
}

/* 0 known, -ENOENT none yet. */
static int read_format(struct mno_store *e, MDB_txn *t)
{
	MDB_val k = {sizeof(format_key) - 1, (void *)format_key}, v;
	uint32_t version;
	int r = mno_lmdb_error(mdb_get(t, e->dbi[MNO_DB_META], &k, &v));

	if (r < 0)
		return r;
	if (v.mv_size != sizeof(version))
		return -MNO_ECORRUPT;
	memcpy(&version, v.mv_data, sizeof(version));
	if (version > MNO_STORE_FORMAT)
		return -MNO_EVERSION;
	if (version == 0)
		return -MNO_ECORRUPT;
	k = (MDB_val){sizeof(hash_key_key) - 1, (void *)hash_key_key};
	r = mno_lmdb_error(mdb_get(t, e->dbi[MNO_DB_META], &k, &v));
	if (r < 0 || v.mv_size != sizeof(e->hash_key))
		return -MNO_ECORRUPT;
	memcpy(e->hash_key, v.mv_data, sizeof(e->hash_key));
	return 0;
}

static int write_format(struct mno_store *e, MDB_txn *t)
{
	MDB_val k = {sizeof(format_key) - 1, (void *)format_key}, v;
	uint32_t version = MNO_STORE_FORMAT;
	int r;

	if (getrandom(e->hash_key, sizeof(e->hash_key), 0) != sizeof(e->hash_key))
		return -EIO;
	v = (MDB_val){sizeof(version), &version};
	r = mno_lmdb_error(mdb_put(t, e->dbi[MNO_DB_META], &k, &v, 0));
	if (r < 0)
		return r;
	k = (MDB_val){sizeof(hash_key_key) - 1, (void *)hash_key_key};
	v = (MDB_val){sizeof(e->hash_key), e->hash_key};
	return mno_lmdb_error(mdb_put(t, e->dbi[MNO_DB_META], &k, &v, 0));
}

/* Whether the main database is empty: only then may a store be made in it. */
static int is_empty(MDB_txn *t, bool *ret)
{
	MDB_dbi main_db;
	MDB_stat st;
	int r = mno_lmdb_error(mdb_dbi_open(t, NULL, 0, &main_db));

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_stat(t, main_db, &st));
	if (r < 0)
		return r;
	*ret = st.ms_entries == 0;
	return 0;
}

static int open_dbs(struct mno_store *e, MDB_txn *t)
{
	unsigned flags = e->opts.read_only ? 0 : MDB_CREATE;
	bool empty;
	int r = is_empty(t, &empty);

	if (r < 0)
		return r;
	r = mno_lmdb_error(
		mdb_dbi_open(t, db_names[MNO_DB_META], empty ? flags : 0, &e->dbi[MNO_DB_META]));
	if (r == -ENOENT)
		return -MNO_ECORRUPT; /* a database, but not ours */
	if (r < 0)
		return r;
	r = read_format(e, t);
	if (r == -ENOENT)
		r = empty && !e->opts.read_only ? write_format(e, t) : -MNO_ECORRUPT;
	for (int i = 0; i < MNO_DB_MAX && r == 0; i++)
		r = mno_lmdb_error(mdb_dbi_open(t, db_names[i], flags, &e->dbi[i]));
	return r;
}

static int open_format(struct mno_store *e)
{
	MDB_txn *t;
	int r;

	r = mno_lmdb_error(mdb_txn_begin(e->env, NULL, e->opts.read_only ? MDB_RDONLY : 0, &t));
	if (r < 0)
		return r;
	r = open_dbs(e, t);
	if (r < 0) {
		mdb_txn_abort(t);
		return r;
	}
	return mno_lmdb_error(mdb_txn_commit(t));
}

/*
 * LMDB maps its table of readers from a sparse file: on a full disk the first touch would end in
 * SIGBUS. With its blocks given beforehand, there is no room or all of it.
 */
static int reserve_lock(struct mno_store *e)
{
	_cleanup_close_ int fd = -1;

	if (e->opts.read_only)
		return 0;
	fd = openat(e->dir_fd, "lock.mdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	return -posix_fallocate(fd, 0, LOCK_BYTES);
}

/* A new directory has no file yet; what else is in its place LMDB will refuse. */
static int check_pages(struct mno_store *e)
{
	_cleanup_close_ int fd = -1;

	if (e->opts.read_only) /* its owner may be writing */
		return 0;
	fd = openat(e->dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? 0 : mno_store_check(fd, CHECK_MAX_NS);
}

static int open_lmdb(struct mno_store *e, const char *dir)
{
	unsigned flags = MDB_NOMETASYNC | MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT;
	uint64_t initial = MNO_MIN(e->opts.map_initial, e->opts.map_size);
	MDB_envinfo info;
	int dead = 0, r;

	r = mno_lmdb_error(mdb_env_create(&e->env));
	if (r < 0)
		return r;
	mdb_env_set_maxdbs(e->env, MNO_DB_MAX + 4);
	mdb_env_set_maxreaders(e->env, MAX_READERS);
	mdb_env_set_mapsize(e->env, initial);
	r = mno_lmdb_error(
		mdb_env_open(e->env, dir, flags | (e->opts.read_only ? MDB_RDONLY : 0), 0600));
	if (r < 0)
		return r;
	r = check_length(e);
	if (r < 0)
		return r;
	mdb_reader_check(e->env, &dead);
	if (dead)
		mno_info("store: freed %d reader slots of dead processes", dead);
	r = mno_lmdb_error(mdb_env_info(e->env, &info));
	if (r < 0)
		return r;
	e->map_bytes = info.me_mapsize;
	return open_format(e);
}

static int open_locks(struct mno_store *e)
{
	pthread_rwlockattr_t a;
	int r;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	r = pthread_rwlock_init(&e->map_lock, &a);
	pthread_rwlockattr_destroy(&a);
	return -r;
}

int mno_store_open(const char *dir, const struct mno_store_opts *o, struct mno_store **ret)
{
	_cleanup_(mno_store_close_p)
	struct mno_store *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->dir_fd = e->lock_fd = -1;
	if (o)
		memcpy(&e->opts, o, MNO_MIN(o->sz, sizeof(*o)));
	if (!e->opts.map_size)
		e->opts.map_size = MAP_DEFAULT;
	if (!e->opts.map_initial)
		e->opts.map_initial = MAP_INITIAL;
	r = open_locks(e);
	if (r < 0)
		return r;
	e->cctx = ZSTD_createCCtx();
	if (!e->cctx)
		return -ENOMEM;
	r = open_dir(e, dir);
	if (r < 0)
		return r;
	r = reserve_lock(e);
	if (r == 0)
		r = check_pages(e);
	if (r == 0)
		r = open_lmdb(e, dir);
	if (r < 0)
		return r == -ECANCELED ? -MNO_ECORRUPT : r; /* LMDB gave up on a page */
	*ret = TAKE_PTR(e);
	return 0;
}

struct mno_store *mno_store_close(struct mno_store *e)
{
	if (!e)
		return NULL;
	if (e->txn.t)
		mdb_txn_abort(e->txn.t);
	if (e->env)
		mdb_env_close(e->env);
	ZSTD_freeCCtx(e->cctx);
	mno_buf_done(&e->scratch);
	mno_close_p(&e->lock_fd);
	mno_close_p(&e->dir_fd);
	pthread_rwlock_destroy(&e->map_lock);
	free(e);
	return NULL;
}

static int check_floor(struct mno_store *e)
{
	uint64_t floor_bytes = e->opts.floor_bytes;
	struct statvfs s;

	if (fstatvfs(e->dir_fd, &s) < 0)
		return -errno;
	if (!floor_bytes)
		floor_bytes = MNO_MIN(FLOOR_DEFAULT, (uint64_t)s.f_blocks * s.f_frsize / 20);
	return (uint64_t)s.f_bavail * s.f_frsize < floor_bytes ? -ENOSPC : 0;
}

/* Doubles the map up to its bound when less than a quarter is left or the last txn hit its end. */
static int grow_map(struct mno_store *e)
{
	uint64_t size = e->map_bytes, used, want;
	MDB_envinfo info;
	MDB_stat st;
	int r;

	if (mdb_env_info(e->env, &info) || mdb_env_stat(e->env, &st))
		return -EIO;
	used = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
	if (!e->map_full && used < size - size / 4)
		return 0;
	want = MNO_MIN(size * 2, e->opts.map_size);
	if (want <= size)
		return 0; /* free pages inside may still do; if not, the put says so */
	pthread_rwlock_wrlock(&e->map_lock);
	r = mno_lmdb_error(mdb_env_set_mapsize(e->env, want));
	pthread_rwlock_unlock(&e->map_lock);
	if (r < 0)
		return r;
	e->map_bytes = want;
	e->map_full = false;
	return 0;
}

static void check_readers(struct mno_store *e)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
	int dead = 0;

	if (now - e->reader_check_ns < READER_CHECK_NS)
		return;
	e->reader_check_ns = now;
	mdb_reader_check(e->env, &dead);
}

int mno_store_begin_reclaim(struct mno_store *e, struct mno_txn **ret)
{
	int r;

	if (e->txn.t)
		return -EBUSY;
	check_readers(e);
	r = grow_map(e);
	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_txn_begin(e->env, NULL, 0, &e->txn.t));
	if (r < 0) {
		e->txn.t = NULL;
		return r;
	}
	e->txn.e = e;
	*ret = &e->txn;
	return 0;
}

int mno_store_begin(struct mno_store *e, struct mno_txn **ret)
{
	int r = check_floor(e);

	return r < 0 ? r : mno_store_begin_reclaim(e, ret);
}

int mno_store_commit(struct mno_store *e, struct mno_txn *t)
{
	MDB_txn *m;
	int r;

	if (t != &e->txn || !t->t)
		return -EINVAL;
	m = TAKE_PTR(t->t);
	r = mno_txn_error(t, mdb_txn_commit(m));
	if (r == 0) {
		e->commits++;
		mno_store_trim(e);
	}
	return r;
}

void mno_store_abort(struct mno_store *e, struct mno_txn *t)
{
	if (t == &e->txn && t->t)
		mdb_txn_abort(TAKE_PTR(t->t));
}

int mno_store_stat(struct mno_store *e, struct mno_store_stat *ret)
{
	struct mno_store_stat s = {
		.map_bytes = e->map_bytes, .commits = e->commits, .damaged = e->damaged};
	mdb_filehandle_t fd;
	struct statvfs v;
	struct stat f;
	MDB_txn *t;
	int r;

	r = mno_lmdb_error(mdb_env_get_fd(e->env, &fd));
	if (r < 0)
		return r;
	if (fstat(fd, &f) < 0 || fstatvfs(e->dir_fd, &v) < 0)
		return -errno;
	s.file_bytes = (uint64_t)f.st_size;
	s.free_disk_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	r = mno_read_begin(e, &t);
	if (r < 0)
		return r;
	for (int i = 0; i < MNO_DB_MAX; i++) {
		MDB_stat st;

		if (mdb_stat(t, e->dbi[i], &st) == 0)
			s.used_bytes +=
				(st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) *
				(uint64_t)st.ms_psize;
	}
	mno_read_end(e, t);
	*ret = s;
	return 0;
}
