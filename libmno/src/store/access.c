/* SPDX-License-Identifier: Apache-2.0 */
/* Puts, gets and one-shot reads in terms of our errors. */
#include <errno.h>
#include <sys/statvfs.h>
#include "mno/err.h"
#include "mno/time.h"
#include "store_internal.h"

#define FULL_BYTES (1u << 20)

static const struct {
	int rc, err;
} errors[] = {
	{MDB_NOTFOUND, ENOENT},
	{MDB_KEYEXIST, EEXIST},
	{MDB_MAP_FULL, ENOSPC},
	{MDB_TXN_FULL, ENOSPC},
	{MDB_READERS_FULL, EAGAIN},
	{MDB_MAP_RESIZED, EAGAIN},
	{MDB_BAD_TXN, ECANCELED},
	{MDB_BAD_VALSIZE, E2BIG},
	{MDB_VERSION_MISMATCH, MNO_EVERSION},
	{MDB_INVALID, MNO_ECORRUPT},
	{MDB_CORRUPTED, MNO_ECORRUPT},
	{MDB_PAGE_NOTFOUND, MNO_ECORRUPT},
	{MDB_INCOMPATIBLE, MNO_ECORRUPT},
	{MDB_PANIC, EIO},
};

int mno_lmdb_error(int rc)
{
	if (rc >= 0)
		return -rc; /* 0 or errno */
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (errors[i].rc == rc)
			return -errors[i].err;
	return -EIO;
}

int mno_txn_error(struct mno_txn *t, int rc)
{
	struct statvfs s;

	if (rc == MDB_MAP_FULL)
		t->e->map_full = true;
	/* a write that came out short on a disk without room for it */
	if (rc == EIO && fstatvfs(t->e->store->dir_fd, &s) == 0 &&
		(uint64_t)s.f_bavail * s.f_frsize < FULL_BYTES)
		rc = ENOSPC;
	return mno_lmdb_error(rc);
}

int mno_txn_put(struct mno_txn *t, enum mno_db db, const void *key, size_t klen, const void *val,
	size_t vlen)
{
	MDB_val k = {klen, (void *)key}, v = {vlen, (void *)val};

	return mno_txn_error(t, mdb_put(t->t, t->e->dbi[db], &k, &v, 0));
}

int mno_txn_del(struct mno_txn *t, enum mno_db db, const void *key, size_t klen)
{
	MDB_val k = {klen, (void *)key};

	return mno_txn_error(t, mdb_del(t->t, t->e->dbi[db], &k, NULL));
}

int mno_txn_get(struct mno_txn *t, enum mno_db db, const void *key, size_t klen, const void **ret_p,
	size_t *ret_len)
{
	MDB_val k = {klen, (void *)key}, v;
	int r = mno_lmdb_error(mdb_get(t->t, t->e->dbi[db], &k, &v));

	if (r < 0)
		return r;
	*ret_p = v.mv_data;
	*ret_len = v.mv_size;
	return 0;
}

/* A clock read is dear beside a get, and a slice is many ticks long. */
static uint64_t reader_now(void)
{
	return mno_now_ns(CLOCK_MONOTONIC_COARSE);
}

/* Where a thread looks first: so that each mostly has a place, and a line, of its own. */
static size_t reader_first(void)
{
	return (size_t)(((uint64_t)pthread_self() >> 6) * 0x9e3779b97f4a7c15ULL >> 32) %
	       MNO_ENV_READERS;
}

/*
 * What a transaction has looked up (LMDB's record of each database) holds as long as nothing is
 * committed: it goes on where the last reader ended. The count is read first, so it may be that of
 * an older state than the snapshot's, never of a newer one.
 */
static int reader_start(struct mno_env *e, struct mno_env_reader *r)
{
	uint64_t commits = e->commits;
	MDB_txn *t = r->t;
	int rc = 0;

	if (r->kept && r->commits != commits)
		mdb_txn_reset(t);
	if (!r->kept || r->commits != commits)
		rc = t ? mdb_txn_renew(t) : mdb_txn_begin(e->env, NULL, MDB_RDONLY, &t);
	r->kept = false;
	r->commits = commits;
	if (rc && r->t) {
		mdb_txn_abort(t);
		r->t = NULL;
	} else if (!rc) {
		atomic_store_explicit(&r->t, t, memory_order_relaxed);
		atomic_store_explicit(&r->since_ns, reader_now(), memory_order_relaxed);
	}
	return mno_lmdb_error(rc);
}

void mno_env_readers_reset(struct mno_env *e)
{
	for (size_t i = 0; i < MNO_ENV_READERS; i++) {
		struct mno_env_reader *r = &e->readers[i];

		/* one that is busy renews itself when it is next begun */
		if (!atomic_load_explicit(&r->t, memory_order_relaxed) ||
			atomic_exchange_explicit(&r->busy, true, memory_order_acquire))
			continue;
		if (r->kept)
			mdb_txn_reset(r->t);
		r->kept = false;
		atomic_store_explicit(&r->busy, false, memory_order_release);
	}
}

/* Keeps the transactions that end: to renew one takes neither memory nor the table's lock. A writer
 * ends the snapshots of those that are idle before it begins. When all
 * places are taken it is neither kept nor watched. */
static int reader_begin(struct mno_env *e, MDB_txn **ret)
{
	for (size_t i = 0, at = reader_first(); i < MNO_ENV_READERS; i++) {
		struct mno_env_reader *r = &e->readers[(at + i) % MNO_ENV_READERS];
		int err;

		if (atomic_load_explicit(&r->busy, memory_order_relaxed) ||
			atomic_exchange_explicit(&r->busy, true, memory_order_acquire))
			continue;
		err = reader_start(e, r);
		if (err < 0)
			atomic_store_explicit(&r->busy, false, memory_order_release);
		else
			*ret = r->t;
		return err;
	}
	return mno_lmdb_error(mdb_txn_begin(e->env, NULL, MDB_RDONLY, ret));
}

/* May be another thread than began. */
static void reader_end(struct mno_env *e, MDB_txn *t)
{
	for (size_t i = 0, at = reader_first(); i < MNO_ENV_READERS; i++) {
		struct mno_env_reader *r = &e->readers[(at + i) % MNO_ENV_READERS];

		if (atomic_load_explicit(&r->t, memory_order_relaxed) != t)
			continue;
		if (reader_now() - r->since_ns > MNO_READ_SLICE_NS)
			e->slow_readers++;
		/* another process may write a store that is read only here, uncounted */
		r->kept = !e->store->opts.read_only && r->commits == e->commits;
		if (!r->kept)
			mdb_txn_reset(t);
		atomic_store_explicit(&r->since_ns, 0, memory_order_relaxed);
		atomic_store_explicit(&r->busy, false, memory_order_release);
		return;
	}
	mdb_txn_abort(t);
}

void mno_env_readers_free(struct mno_env *e)
{
	for (size_t i = 0; i < MNO_ENV_READERS; i++) {
		if (e->readers[i].t)
			mdb_txn_abort(e->readers[i].t);
		e->readers[i].t = NULL;
	}
}

uint64_t mno_env_oldest_reader_ns(struct mno_env *e)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC), since, oldest = now;

	for (size_t i = 0; i < MNO_ENV_READERS; i++) {
		since = e->readers[i].since_ns;
		if (since)
			oldest = MNO_MIN(oldest, since);
	}
	return now - oldest;
}

int mno_read_begin(struct mno_env *e, MDB_txn **ret)
{
	int r;

	pthread_rwlock_rdlock(&e->map_lock);
	r = reader_begin(e, ret);
	if (r < 0)
		pthread_rwlock_unlock(&e->map_lock);
	return r;
}

void mno_read_end(struct mno_env *e, MDB_txn *t)
{
	reader_end(e, t);
	pthread_rwlock_unlock(&e->map_lock);
}

static bool same_key(const MDB_val *a, const void *p, size_t n)
{
	return a->mv_size == n && memcmp(a->mv_data, p, n) == 0;
}

int mno_cursor_seek(MDB_cursor *c, enum mno_seek dir, MDB_val *key, MDB_val *val)
{
	const MDB_val from = *key;
	int rc;

	if (dir == MNO_SEEK_EQ)
		return mdb_cursor_get(c, key, val, MDB_SET_KEY);
	rc = mdb_cursor_get(c, key, val, MDB_SET_RANGE);
	if (dir == MNO_SEEK_GE)
		return rc;
	if (dir == MNO_SEEK_GT) {
		if (rc == 0 && same_key(key, from.mv_data, from.mv_size))
			rc = mdb_cursor_get(c, key, val, MDB_NEXT);
		return rc;
	}
	if (rc == MDB_NOTFOUND)
		return mdb_cursor_get(c, key, val, MDB_LAST);
	if (rc != 0 || (dir == MNO_SEEK_LE && same_key(key, from.mv_data, from.mv_size)))
		return rc;
	return mdb_cursor_get(c, key, val, MDB_PREV);
}

int mno_read_fetch(struct mno_env *e, MDB_txn *t, enum mno_db db, enum mno_seek dir,
	const void *from, size_t from_len, struct mno_buf *key, struct mno_buf *val)
{
	MDB_val k = {from_len, (void *)from}, v;
	MDB_cursor *c;
	int r = -ENOENT;

	if (e->dbi[db] == MNO_DBI_NONE) /* read only, and of a time before there was one */
		return r;
	r = mno_lmdb_error(mdb_cursor_open(t, e->dbi[db], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mno_cursor_seek(c, dir, &k, &v));
	if (r == 0 && val) {
		mno_buf_reset(val);
		mno_buf_add(val, v.mv_data, v.mv_size);
		r = val->err;
	}
	if (r == 0 && key) {
		mno_buf_reset(key);
		mno_buf_add(key, k.mv_data, k.mv_size);
		r = key->err;
	}
	mdb_cursor_close(c);
	return r;
}

int mno_env_fetch(struct mno_env *e, enum mno_db db, enum mno_seek dir, const void *from,
	size_t from_len, struct mno_buf *key, struct mno_buf *val)
{
	MDB_txn *t;
	int r = mno_read_begin(e, &t);

	if (r < 0)
		return r;
	r = mno_read_fetch(e, t, db, dir, from, from_len, key, val);
	mno_read_end(e, t);
	return r;
}

int mno_store_fetch(struct mno_store *s, enum mno_db db, enum mno_seek dir, const void *from,
	size_t from_len, struct mno_buf *key, struct mno_buf *val)
{
	return mno_env_fetch(s->main, db, dir, from, from_len, key, val);
}
