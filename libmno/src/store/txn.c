/* SPDX-License-Identifier: Apache-2.0 */
/* The store's write transaction: main's, and those of the partitions it touches. */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "pages.h"

#define READER_CHECK_NS (10 * NS_PER_SEC)

/* Doubles the map up to its bound when less than a quarter is left or the last txn hit its end. */
static int grow_map(struct mno_env *e)
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
	want = MNO_MIN(size * 2, e->store->opts.map_size);
	if (want <= size)
		return 0; /* free pages inside may still do; if not, the put says so */
	pthread_rwlock_wrlock(&e->map_lock);
	mno_env_readers_reset(e); /* nobody reads now: LMDB wants no snapshot open */
	e->map_at = NULL;
	r = mno_lmdb_error(mdb_env_set_mapsize(e->env, want));
	pthread_rwlock_unlock(&e->map_lock);
	if (r < 0)
		return r;
	e->map_bytes = want;
	e->map_full = false;
	return 0;
}

static void check_readers(struct mno_env *e)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC);
	int dead = 0;

	if (now - e->reader_check_ns < READER_CHECK_NS)
		return;
	e->reader_check_ns = now;
	mdb_reader_check(e->env, &dead);
}

int mno_env_txn_begin(struct mno_env *e, struct mno_txn **ret)
{
	int r;

	if (e->txn.t)
		return -EBUSY;
	if (!e->touched) {
		mno_pages_forget(e->dir_fd);
		e->touched = true;
	}
	mno_env_readers_reset(e);
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

int mno_env_txn_commit(struct mno_env *e)
{
	uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);
	int r = mno_env_count_save(e);

	if (r < 0) {
		e->reserved = 0; /* what was put is undone */
		mno_env_txn_abort(e);
		return r;
	}
	r = mno_txn_error(&e->txn, mdb_txn_commit(TAKE_PTR(e->txn.t)));
	if (r < 0)
		e->reserved = 0;

	if (r == 0) {
		e->commits++;
		e->sync_ns = mno_now_ns(CLOCK_MONOTONIC) - t0;
		e->longest_sync_ns = MNO_MAX(e->longest_sync_ns, e->sync_ns);
		mno_env_trim(e);
	}
	return r;
}

void mno_env_txn_abort(struct mno_env *e)
{
	if (e->txn.t)
		mdb_txn_abort(TAKE_PTR(e->txn.t));
}

static int part_commit(struct mno_env *e)
{
	int r = mno_env_txn_commit(e);

	/* class D2 leaves the last meta page to the next commit: here main must not be first */
	if (r == 0 && mno_class_info(e->class)->flags & MNO_CLASS_ORDERED)
		r = mno_lmdb_error(mdb_env_sync(e->env, 1));
	return r;
}

/* Room for one more: times that span so many partitions come from a clock gone mad. */
static int part_commit_first(struct mno_store *s)
{
	struct mno_env *e = s->parts[0];
	int r = part_commit(e);

	memmove(s->parts, s->parts + 1, --s->n_parts * sizeof(*s->parts));
	mno_env_unref(e);
	return r;
}

int mno_txn_part(struct mno_txn *main_txn, enum mno_class c, int64_t t_ms, struct mno_txn **ret)
{
	struct mno_store *s = main_txn->e->store;
	struct mno_env *e;
	int r;

	for (size_t i = 0; i < s->n_parts; i++) {
		e = s->parts[i];
		if (e->class == c && e->t0_ms <= t_ms && t_ms < e->t1_ms) {
			*ret = &e->txn;
			return 0;
		}
	}
	r = s->n_parts == MNO_PARTS_MAX ? part_commit_first(s) : 0;
	if (r < 0)
		return r;
	r = mno_store_env(s, c, t_ms, true, &e);
	if (r < 0)
		return r;
	r = mno_env_txn_begin(e, ret);
	if (r < 0) {
		mno_env_unref(e);
		return r;
	}
	s->parts[s->n_parts++] = e;
	return 0;
}

static void parts_abort(struct mno_store *s)
{
	for (size_t i = 0; i < s->n_parts; i++) {
		mno_env_txn_abort(s->parts[i]);
		mno_env_unref(s->parts[i]);
	}
	s->n_parts = 0;
}

static int parts_commit(struct mno_store *s)
{
	int r = 0;

	for (size_t i = 0; i < s->n_parts && r == 0; i++)
		r = part_commit(s->parts[i]);
	parts_abort(s);
	return r;
}

int mno_store_begin_reclaim(struct mno_store *s, struct mno_txn **ret)
{
	return mno_env_txn_begin(s->main, ret);
}

int mno_store_begin(struct mno_store *s, struct mno_txn **ret)
{
	int r = mno_store_floor(s);

	return r < 0 ? r : mno_store_begin_reclaim(s, ret);
}

/* What a transaction did to the values of an old key counts when it is committed, not before. */
static void reseal_ends(struct mno_store *s, bool committed)
{
	if (s->reseal.ending && committed) {
		s->reseal.end_ns = mno_now_ns(CLOCK_MONOTONIC);
		s->reseal.at_end = true;
	}
	s->reseal.ending = false;
}

int mno_store_commit(struct mno_store *s, struct mno_txn *t)
{
	int r;

	if (t != &s->main->txn || !t->t)
		return -EINVAL;
	r = parts_commit(s);
	if (r == 0)
		r = mno_env_txn_commit(s->main);
	else
		mno_env_txn_abort(s->main);
	reseal_ends(s, r == 0);
	return r;
}

void mno_store_abort(struct mno_store *s, struct mno_txn *t)
{
	parts_abort(s);
	if (t != &s->main->txn)
		return;
	mno_env_txn_abort(s->main);
	reseal_ends(s, false);
}
