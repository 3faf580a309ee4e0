/* SPDX-License-Identifier: Apache-2.0 */
/* One environment: directory, data key, format, map size. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include "../crypt/crypt.h"
#include "compact.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/map.h"
#include "mno/time.h"
#include "pages.h"

#define MAX_READERS  62               /* a page of lock.mdb */
#define CHECK_MAX_NS (60 * NS_PER_MS) /* a start must not become slower with the store's age */
#define LOCK_BYTES   4096             /* 64 for each reader, 128 for the head */

/* In META, not sealed: who the environment is. */
#define IDENTITY_KEY  "identity"
#define IDENTITY_COPY "identity.copy" /* the same, and its checksum */
struct identity {
	uint32_t format;
	uint16_t class;
	uint16_t encrypted;
	int64_t t0_ms;
	uint8_t id[MNO_ENV_ID_LEN];
};
_Static_assert(sizeof(struct identity) == 32, "on disk");
struct identity_copy {
	struct identity d;
	uint64_t sum;
};

/* Before LMDB maps it: a file cut short would end in SIGBUS on the first missing page. */
static int check_length(struct mno_env *e)
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
	if (!e->store->opts.read_only && ftruncate(fd, (off_t)want) < 0)
		return -errno;
	return 0;
}

/*
 * LMDB maps its table of readers from a sparse file: on a full disk the first touch would end in
 * SIGBUS. With its blocks given beforehand, there is no room or all of it.
 */
static int reserve_lock(struct mno_env *e)
{
	_cleanup_close_ int fd = -1;

	fd = openat(e->dir_fd, "lock.mdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) /* LMDB reads without one where it cannot be made */
		return e->store->opts.read_only ? 0 : -errno;
	return -posix_fallocate(fd, 0, LOCK_BYTES);
}

/* A new directory has no file yet; what else is in its place LMDB will refuse. */
static int check_pages(struct mno_env *e)
{
	struct mno_pages_found found = {0};
	int r;

	if (e->store->opts.read_only) /* its owner may be writing */
		return 0;
	r = mno_pages_verify(e->dir_fd, CHECK_MAX_NS, &found);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (found.mended) {
		mno_warn("store: %s: %llu flipped bits in data.mdb were found and mended; look "
			 "after memory and disk of this host",
			e->name, (unsigned long long)found.mended);
		e->store->mended += found.mended;
	}
	return found.bad ? -MNO_ECORRUPT : 0;
}

/* --- the databases inside -------------------------------------------------------------------- */

/*
 * With a change of the KEK under way, some environments have the one key and some the other: those
 * that are behind are brought forward here, also after a crash.
 */
static int open_wrapped(struct mno_env *e)
{
	struct mno_store *s = e->store;
	int r = mno_cipher_open(s->keys, e->dir_fd, e->id, &e->cipher);

	if (r != -ENOKEY || !s->next_keys)
		return r;
	return mno_cipher_open(s->next_keys, e->dir_fd, e->id, &e->cipher);
}

static int open_cipher(struct mno_env *e)
{
	int r;

	if (!e->store->keys)
		return -ENOKEY;
	r = open_wrapped(e);
	if (r == -MNO_ECORRUPT && !e->store->opts.read_only && mno_cipher_mend(e->dir_fd) > 0) {
		e->store->mended++;
		r = open_wrapped(e);
	}
	return r;
}

/* Detects damage, not forgery: the key is no secret. */
static uint64_t identity_sum(const struct identity *d)
{
	static const uint8_t key[16] = "mno identity sum";

	return mno_siphash(key, d, sizeof(*d));
}

unsigned mno_env_format_newest(enum mno_class c)
{
	return c == MNO_CLASS_DOCS ? MNO_STORE_FORMAT + 1 : MNO_STORE_FORMAT;
}

static int put_identity(struct mno_env *e, MDB_txn *t, const struct identity *d)
{
	struct identity_copy c = {*d, identity_sum(d)};
	MDB_val k = {strlen(IDENTITY_KEY), (void *)IDENTITY_KEY}, v = {sizeof(c.d), &c.d};
	int r = mno_lmdb_error(mdb_put(t, e->dbi[MNO_DB_META], &k, &v, 0));

	k = (MDB_val){strlen(IDENTITY_COPY), (void *)IDENTITY_COPY};
	v = (MDB_val){sizeof(c), &c};
	return r < 0 ? r : mno_lmdb_error(mdb_put(t, e->dbi[MNO_DB_META], &k, &v, 0));
}

/* Both forms; the copy, when its sum is right, has the say. Stores of before have none. */
static int get_identity(
	struct mno_env *e, MDB_txn *t, struct identity *ret, bool *ret_copy, bool *ret_same)
{
	MDB_val k = {strlen(IDENTITY_KEY), (void *)IDENTITY_KEY}, v;
	struct identity_copy c;
	bool first;
	int r = mno_lmdb_error(mdb_get(t, e->dbi[MNO_DB_META], &k, &v));

	if (r < 0)
		return r == -ENOENT ? -MNO_ECORRUPT : r;
	first = v.mv_size >= sizeof(*ret);
	if (first)
		memcpy(ret, v.mv_data, sizeof(*ret));
	k = (MDB_val){strlen(IDENTITY_COPY), (void *)IDENTITY_COPY};
	*ret_copy = mdb_get(t, e->dbi[MNO_DB_META], &k, &v) == 0 && v.mv_size == sizeof(c);
	if (*ret_copy)
		memcpy(&c, v.mv_data, sizeof(c));
	*ret_copy = *ret_copy && c.sum == identity_sum(&c.d);
	*ret_same = *ret_copy && first && !memcmp(&c.d, ret, sizeof(*ret));
	if (*ret_copy)
		*ret = c.d;
	return first || *ret_copy ? 0 : -MNO_ECORRUPT;
}

static int mend_identity(struct mno_env *e, MDB_txn *t, struct identity *ret)
{
	bool copy, same;
	int r = get_identity(e, t, ret, &copy, &same);

	if (r < 0 || same)
		return r;
	if (copy) {
		mno_warn("store: %s: its identity is damaged, and mended from the copy of it",
			e->name);
		e->store->mended++;
	}
	/* a partition of before is left as it is: backups know it by its bytes */
	if (e->store->opts.read_only ||
		(!copy && (ret->format < MNO_STORE_FORMAT ||
				  ret->format > mno_env_format_newest(e->class) ||
				  mno_class_info(e->class)->period != MNO_PERIOD_NONE)))
		return 0;
	mno_pages_forget(e->dir_fd);
	return put_identity(e, t, ret);
}

int mno_env_format_put(struct mno_env *e, MDB_txn *t, unsigned format)
{
	struct identity d;
	bool copy, same;
	int r = get_identity(e, t, &d, &copy, &same);

	if (r < 0 || d.format == format)
		return r;
	d.format = format;
	return put_identity(e, t, &d);
}

static int read_identity(struct mno_env *e, MDB_txn *t)
{
	unsigned newest = mno_env_format_newest(e->class);
	struct identity d;
	int r = mend_identity(e, t, &d);

	if (r < 0)
		return r;
	if (d.format > newest) {
		mno_err("store: %s is of format %u, which a newer mno wrote; this one knows "
			"formats up to %u: start the newer one",
			e->name, d.format, newest);
		return -MNO_EVERSION;
	}
	if (d.format < MNO_STORE_FORMAT || d.class != e->class || d.t0_ms != e->t0_ms)
		return -MNO_ECORRUPT; /* another environment in its place */
	memcpy(e->id, d.id, sizeof(e->id));
	if (!d.encrypted)
		return 0;
	r = open_cipher(e);
	return r == -ENOENT ? -MNO_ECORRUPT : r; /* its data key is gone: nobody can read it */
}

static int write_identity(struct mno_env *e, MDB_txn *t)
{
	struct identity d = {.format = mno_env_format_newest(e->class),
		.class = (uint16_t)e->class,
		.encrypted = !e->store->opts.plain,
		.t0_ms = e->t0_ms};
	int r;

	if (getrandom(e->id, sizeof(e->id), 0) != sizeof(e->id))
		return -EIO;
	if (d.encrypted) { /* the key file is durable before anything is sealed with it */
		struct mno_keys *keys = e->store->next_keys ?: e->store->keys;

		r = mno_cipher_create(keys, e->dir_fd, e->id, MNO_SUITE_AUTO, &e->cipher);
		/* a crash came before the identity: nothing was ever sealed with that key */
		if (r == -EEXIST && (r = mno_cipher_erase(e->dir_fd)) == 0)
			r = mno_cipher_create(keys, e->dir_fd, e->id, MNO_SUITE_AUTO, &e->cipher);
		if (r < 0)
			return r;
	}
	memcpy(d.id, e->id, sizeof(d.id));
	return put_identity(e, t, &d);
}

/* Whether the main database is empty: only then may an environment be made in it. */
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

static int open_dbs(struct mno_env *e, MDB_txn *t, bool create)
{
	unsigned flags = e->store->opts.read_only ? 0 : MDB_CREATE;
	bool empty;
	int r = is_empty(t, &empty);

	if (r < 0)
		return r;
	if (empty && (!flags || !create))
		return -ENOENT;
	r = mno_lmdb_error(
		mdb_dbi_open(t, mno_db_name(MNO_DB_META), empty ? flags : 0, &e->dbi[MNO_DB_META]));
	if (r == -ENOENT)
		return -MNO_ECORRUPT; /* a database, but not ours */
	if (r == 0)
		r = empty ? write_identity(e, t) : read_identity(e, t);
	for (unsigned i = 0; i < MNO_DB_MAX && r == 0; i++) {
		if (!mno_db_in(i, e->class))
			continue;
		r = mno_lmdb_error(mdb_dbi_open(t, mno_db_name(i), flags, &e->dbi[i]));
		if (r == -ENOENT && !flags) {
			e->dbi[i] = MNO_DBI_NONE;
			r = 0;
		}
	}
	return r;
}

static int open_format(struct mno_env *e, bool create)
{
	MDB_txn *t;
	int r;

	r = mno_lmdb_error(
		mdb_txn_begin(e->env, NULL, e->store->opts.read_only ? MDB_RDONLY : 0, &t));
	if (r < 0)
		return r;
	r = open_dbs(e, t, create);
	if (r < 0) {
		mdb_txn_abort(t);
		return r;
	}
	return mno_lmdb_error(mdb_txn_commit(t));
}

/* --- opening --------------------------------------------------------------------------------- */

void mno_env_name(struct mno_env *e)
{
	static const int digits[] = {
		[MNO_PERIOD_DAY] = 8, [MNO_PERIOD_MONTH] = 6, [MNO_PERIOD_YEAR] = 4};
	const struct mno_class_info *c = mno_class_info(e->class);
	time_t s = (time_t)(e->t0_ms / 1000);
	char stamp[16] = "";
	struct tm tm;

	if (c->period == MNO_PERIOD_NONE || !gmtime_r(&s, &tm)) {
		snprintf(e->name, sizeof(e->name), "%s", c->dir);
		return;
	}
	strftime(stamp, sizeof(stamp), "%Y%m%d", &tm);
	snprintf(e->name, sizeof(e->name), "%s-%.*s", c->dir, digits[c->period], stamp);
}

/* LMDB would wait for somebody at the other end of a pipe. */
static int check_kind(struct mno_env *e, const char *file)
{
	struct stat st;

	if (fstatat(e->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISREG(st.st_mode))
		return 0;
	mno_err("store: %s/%s is no regular file: move it away", e->name, file);
	return -MNO_ECORRUPT;
}

static int open_dir(struct mno_env *e, bool create)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

	create = create && !e->store->opts.read_only;
	if (create && mkdirat(e->store->dir_fd, e->name, 0700) < 0 && errno != EEXIST)
		return -errno;
	/* a link in place of a partition is none of ours: nothing is written where it points */
	if (mno_class_info(e->class)->period != MNO_PERIOD_NONE)
		flags |= O_NOFOLLOW;
	e->dir_fd = openat(e->store->dir_fd, e->name, flags);
	if (e->dir_fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? -MNO_ECORRUPT : -errno;
	return check_kind(e, "data.mdb") ?: check_kind(e, "lock.mdb");
}

/* LMDB's first pages, and the file's name, are there before anything refers to them. */
static int keep_first_pages(struct mno_env *e)
{
	int r = mno_lmdb_error(mdb_env_sync(e->env, 1));

	return r == 0 && fsync(e->dir_fd) < 0 ? -errno : r;
}

static int open_lmdb(struct mno_env *e, bool create, bool fresh)
{
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT;
	const struct mno_store_opts *o = &e->store->opts;
	char path[64];
	MDB_envinfo info;
	int dead = 0, r;

	if (mno_class_info(e->class)->durability == MNO_DURABILITY_D2)
		flags |= MDB_NOMETASYNC;
	r = mno_lmdb_error(mdb_env_create(&e->env));
	if (r < 0)
		return r;
	mdb_env_set_maxdbs(e->env, MNO_DB_MAX + 4);
	mdb_env_set_maxreaders(e->env, MAX_READERS);
	mdb_env_set_mapsize(e->env, MNO_MIN(o->map_initial, o->map_size));
	/* by descriptor: the directory may have been moved or replaced since */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->dir_fd);
	r = mno_lmdb_error(
		mdb_env_open(e->env, path, flags | (o->read_only ? MDB_RDONLY : 0), 0600));
	if (r == 0 && fresh)
		r = keep_first_pages(e);
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
	return open_format(e, create);
}

static int open_locks(struct mno_env *e)
{
	pthread_rwlockattr_t a;
	int r;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	r = pthread_rwlock_init(&e->map_lock, &a);
	pthread_rwlockattr_destroy(&a);
	return -r;
}

/* Sums of pages are only written beside data, by a clean close. */
static bool data_is_lost(const struct mno_env *e)
{
	struct stat st;

	if (fstatat(e->dir_fd, "data.mdb", &st, 0) == 0 ? st.st_size > 0 : errno != ENOENT)
		return false;
	if (faccessat(e->dir_fd, "pages.sum", F_OK, 0) < 0)
		return false;
	mno_err("store: %s/data.mdb is gone or empty, but it was there: restore it from a backup, "
		"or remove %s to go on without what was in it",
		e->name, e->name);
	return true;
}

static int open_all(struct mno_env *e, bool create)
{
	bool fresh;
	int r = open_dir(e, create);

	if (r < 0)
		return r;
	if (!e->store->opts.read_only && (r = mno_env_sweep_unborn(e->dir_fd)) < 0)
		return r;
	fresh = faccessat(e->dir_fd, "data.mdb", F_OK, 0) < 0;
	if (data_is_lost(e))
		return -MNO_ECORRUPT;
	if (fresh && !create)
		return -ENOENT;
	if (!e->store->opts.read_only)
		mno_env_drop_compact(e->dir_fd);
	r = reserve_lock(e);
	if (r == 0)
		r = check_pages(e);
	if (r == 0)
		r = open_lmdb(e, create, fresh);
	if (r == 0)
		r = mno_env_count_load(e);
	if (r == 0 && fresh && fsync(e->store->dir_fd) < 0)
		r = -errno;
	e->touched = fresh || faccessat(e->dir_fd, "pages.sum", F_OK, 0) < 0;
	return r == -ECANCELED ? -MNO_ECORRUPT : r; /* LMDB gave up on a page */
}

int mno_env_new(
	struct mno_store *s, enum mno_class c, int64_t t_ms, bool create, struct mno_env **ret)
{
	struct mno_env *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->store = s;
	e->class = c;
	e->dir_fd = -1;
	mno_class_bounds(c, t_ms, &e->t0_ms, &e->t1_ms);
	mno_env_name(e);
	r = open_locks(e);
	if (r < 0) {
		free(e);
		return r;
	}
	e->cctx = s->opts.read_only ? NULL : ZSTD_createCCtx();
	r = e->cctx || s->opts.read_only ? open_all(e, create) : -ENOMEM;
	if (r < 0) {
		mno_env_free(e);
		return r;
	}
	*ret = e;
	return 0;
}

struct mno_env *mno_env_free(struct mno_env *e)
{
	if (!e)
		return NULL;
	mno_env_txn_abort(e);
	if (e->env && e->touched)
		mdb_env_sync(e->env, 1);
	mno_env_readers_free(e);
	if (e->env)
		mdb_env_close(e->env);
	if (e->env && e->touched && !e->gone && !e->store->opts.read_only &&
		mno_pages_record(e->dir_fd, MNO_PAGES_RECORD_NS) < 0)
		mno_pages_forget(e->dir_fd);
	mno_cipher_close(e->cipher);
	ZSTD_freeCCtx(e->cctx);
	mno_buf_done(&e->scratch);
	mno_close_p(&e->dir_fd);
	pthread_rwlock_destroy(&e->map_lock);
	free(e);
	return NULL;
}

int mno_env_stat(struct mno_env *e, struct mno_store_stat *add)
{
	uint64_t pinned = e->pinned_ns;
	mdb_filehandle_t fd;
	struct stat f;
	MDB_txn *t;
	int r;

	r = mno_lmdb_error(mdb_env_get_fd(e->env, &fd));
	if (r < 0)
		return r;
	if (fstat(fd, &f) < 0)
		return -errno;
	r = mno_read_begin(e, &t);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < MNO_DB_MAX; i++) {
		MDB_stat st;

		if (!mno_db_in(i, e->class) || mdb_stat(t, e->dbi[i], &st) != 0)
			continue;
		add->entries += st.ms_entries;
		add->used_bytes += (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) *
				   (uint64_t)st.ms_psize;
	}
	mno_read_end(e, t);
	add->file_bytes += (uint64_t)f.st_size;
	add->map_bytes += e->map_bytes;
	add->commits += e->commits;
	add->slow_readers += e->slow_readers;
	if (pinned)
		add->pinned_ns = MNO_MAX(add->pinned_ns, mno_now_ns(CLOCK_MONOTONIC) - pinned);
	add->oldest_reader_ns = MNO_MAX(add->oldest_reader_ns, mno_env_oldest_reader_ns(e));
	add->environments++;
	return 0;
}
