/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, closing, figures, expiry. */
#include <errno.h>
#include "mno/err.h"
#include "late.h"

#define EXPIRE_BLOCKS 512 /* deletions in one call */
#define EXPIRE_SERIES 512

struct mno_series *mno_series_close(struct mno_series *s)
{
	if (!s)
		return NULL;
	head_free(s, s->head);
	for (size_t i = 0; i < s->n_pending; i++)
		head_free(s, s->pending[i]);
	while (s->free_chunks) {
		void *p = s->free_chunks;

		s->free_chunks = *(void **)p;
		free(p);
	}
	rollup_free(s);
	recent_free(s);
	hot_free_all(s);
	late_close(s);
	records_done(&s->edit);
	if (s->spare)
		records_done(s->spare);
	free(s->spare);
	ZSTD_freeDCtx(s->z);
	mno_buf_done(&s->raw);
	mno_buf_done(&s->key);
	mno_buf_done(&s->row.heads);
	mno_buf_done(&s->row.numbers);
	pthread_rwlock_destroy(&s->lock);
	free(s);
	return NULL;
}

static int open_parts(struct mno_series *s)
{
	int r = mno_map_new(0, &s->syms.map);

	if (r == 0)
		r = mno_map_new(0, &s->by_fp);
	if (r == 0)
		r = head_new(s, &s->head);
	if (r == 0)
		r = counters_load(s);
	if (r == 0)
		r = late_open(s);
	if (r == 0)
		r = dict_load(s);
	if (r == 0)
		r = tail_replay(s);
	if (r == 0)
		r = merge_load(s);
	head_show(s);
	return r;
}

int mno_series_open(struct mno_store *env, struct mno_series **ret)
{
	_cleanup_(mno_series_close_p)
	struct mno_series *s = calloc(1, sizeof(*s));
	pthread_rwlockattr_t a;
	int r;

	if (!s)
		return -ENOMEM;
	s->env = env;
	s->z = ZSTD_createDCtx();
	if (!s->z) {
		free(TAKE_PTR(s));
		return -ENOMEM;
	}
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&s->lock, &a);
	pthread_rwlockattr_destroy(&a);
	r = open_parts(s);
	if (r == 0)
		r = rollup_open(s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

void mno_series_stat(struct mno_series *s, struct mno_series_stat *ret)
{
	pthread_rwlock_rdlock(&s->lock);
	*ret = (struct mno_series_stat){
		.series = s->now.series,
		.samples = s->shown.c.samples,
		.block_bytes = s->shown.c.block_bytes,
		.memory_bytes = s->shown.head_bytes,
		.head_series = s->n_hot,
		.head_samples = head_samples(s->head),
		.damaged_blocks = __atomic_load_n(&s->damaged_blocks, __ATOMIC_RELAXED),
		.first_ms = s->shown.c.first_ms,
	};
	dict_stat(s, ret);
	if (s->head->n)
		ret->last_ms = s->head->t[s->head->n - 1];
	else if (s->head->base_t != INT64_MIN)
		ret->last_ms = s->head->base_t;
	late_stat(s, ret);
	pthread_rwlock_unlock(&s->lock);
}

/* --- expiry: a bounded number of steps a call ----------------------------------------------------------- */

static void expire_account(struct mno_series *s, const MDB_val *k, const MDB_val *v)
{
	struct mno_seal info = {0};

	mno_seal_peek(k->mv_data, k->mv_size, v->mv_data, v->mv_size, MNO_SEAL_BLOCK, &info);
	s->now.block_bytes -= MNO_MIN(v->mv_size, s->now.block_bytes);
	s->now.samples -= MNO_MIN(info.b, s->now.samples);
}

/* 0: the first block is deleted; 1: there is none that is old enough. */
static int expire_first(struct mno_series *s, struct mno_txn *part, MDB_cursor *c, int64_t t_ms)
{
	struct mno_seal info = {0};
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));

	if (r == -ENOENT)
		return 1;
	if (r < 0)
		return r;
	if (k.mv_size != BLOCK_KEY)
		return -MNO_ECORRUPT;
	/* A damaged header cannot say when the block ends: it begins before the limit, it goes. */
	r = mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size, MNO_SEAL_BLOCK, &info);
	if (block_key_time(k.mv_data) >= t_ms || (r == 0 && mno_time_unkey(info.a) >= t_ms)) {
		s->now.first_ms = block_key_time(k.mv_data);
		return 1;
	}
	expire_account(s, &k, &v);
	return mno_txn_error(part, mdb_cursor_del(c, 0));
}

/* Takes the figures of a partition that is about to go out of ours; they are no more than that. */
static void expire_count(struct mno_series *s, int64_t day)
{
	static const enum mno_db dbs[] = {MNO_DB_PACK, MNO_DB_WINDOW};
	struct mno_env *e;
	MDB_cursor *c;
	MDB_val k, v;
	MDB_txn *t;

	if (s->part_t0 != INT64_MIN && day_of(s->part_t0) == day_of(day))
		s->part_t0 = INT64_MIN;
	if (mno_store_env(s->env, MNO_CLASS_TS, day, false, &e) < 0)
		return;
	if (mno_read_begin(e, &t) == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
			if (mdb_cursor_open(t, e->dbi[dbs[i]], &c) != 0)
				continue;
			while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
				expire_account(s, &k, &v);
			mdb_cursor_close(c);
		}
		mno_read_end(e, t);
	}
	mno_env_unref(e);
}

/* Partitions that end before @t_ms; how many are left, and the first of them. */
static int expire_days(struct mno_series *s, int64_t t_ms, size_t *ret_left, int64_t *ret_first)
{
	_cleanup_free_ int64_t *days = NULL;
	size_t n, dropped, left = 0;
	int64_t a, b;
	int r = mno_store_partitions(s->env, MNO_CLASS_TS, INT64_MIN, INT64_MAX, &days, &n);

	for (size_t i = 0; i < n && r == 0; i++) {
		mno_class_bounds(MNO_CLASS_TS, days[i], &a, &b);
		if (b <= t_ms && !mno_store_attached(s->env, MNO_CLASS_TS, days[i]))
			expire_count(s, days[i]);
		else if (left++ == 0)
			*ret_first = days[i];
	}
	if (r == 0 && left < n)
		r = mno_store_drop(s->env, MNO_CLASS_TS, t_ms, &dropped);
	*ret_left = left;
	return r;
}

static int64_t first_block(struct mno_series *s, int64_t day)
{
	_cleanup_buf_ struct mno_buf key = {0};
	uint8_t from[BLOCK_KEY] = {0};
	int64_t t = INT64_MIN;
	struct mno_env *e;

	if (mno_store_env(s->env, MNO_CLASS_TS, day, false, &e) < 0)
		return t;
	if (mno_env_fetch(e, MNO_DB_PACK, MNO_SEEK_GE, from, sizeof(from), &key, NULL) == 0 &&
		key.len == BLOCK_KEY)
		t = block_key_time(key.data);
	mno_env_unref(e);
	return t;
}

/* Aggregates of blocks that went. */
static int expire_aggs(struct mno_series *s, struct mno_txn *part)
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_open(part->t, part->e->dbi[MNO_DB_AGG], &c));

	if (r < 0)
		return r;
	for (size_t i = 0; i < EXPIRE_BLOCKS && r == 0; i++) {
		r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));
		if (r < 0 || k.mv_size != BLOCK_KEY || block_key_time(k.mv_data) >= s->now.first_ms)
			break;
		r = mno_txn_error(part, mdb_cursor_del(c, 0));
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? 0 : r;
}

/* In the only partition there is: for a retention that is shorter than a day. */
static int expire_within(
	struct mno_series *s, struct mno_txn *txn, int64_t day, int64_t t_ms, bool *ret_more)
{
	struct mno_txn *part;
	MDB_cursor *c;
	int r = mno_txn_part(txn, MNO_CLASS_TS, day, &part);

	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_open(part->t, part->e->dbi[MNO_DB_PACK], &c));
	if (r < 0)
		return r;
	for (size_t i = 0; i < EXPIRE_BLOCKS && r == 0; i++)
		r = expire_first(s, part, c, t_ms);
	mdb_cursor_close(c);
	*ret_more |= r == 0;
	return r < 0 ? r : expire_aggs(s, part);
}

static int expire_blocks(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, bool *ret_more)
{
	int64_t day = 0, first;
	size_t left;
	int r;

	r = expire_days(s, t_ms, &left, &day);
	s->now.first_ms = s->part_t0 != INT64_MIN ? s->part_t0 : s->head->n ? s->head->t[0] : 0;
	if (r < 0 || !left)
		return r;
	first = first_block(s, day);
	if (first != INT64_MIN)
		s->now.first_ms = first;
	return left == 1 && first < t_ms && !mno_store_attached(s->env, MNO_CLASS_TS, day)
		       ? expire_within(s, txn, day, t_ms, ret_more)
		       : 0;
}

int mno_series_expire(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, bool *ret_more)
{
	bool more = false;
	int r;

	pthread_rwlock_wrlock(&s->lock);
	r = expire_blocks(s, txn, t_ms, &more);
	if (r == 0)
		/* names of what is in an archive are needed when it comes back */
		r = dict_expire(
			s, txn, MNO_MIN(t_ms, mno_store_held_ms(s->env)), EXPIRE_SERIES, &more);
	late_forget(s);
	pthread_rwlock_unlock(&s->lock);
	if (r == 0)
		r = counters_save(s, txn);
	if (r == 0)
		*ret_more = more;
	return r;
}

void mno_series_parted(struct mno_series *s)
{
	pthread_rwlock_wrlock(&s->lock);
	late_forget(s);
	pthread_rwlock_unlock(&s->lock);
}

int mno_series_joined(struct mno_series *s, int64_t t_ms)
{
	int r;

	pthread_rwlock_wrlock(&s->lock);
	r = late_join(s, t_ms);
	pthread_rwlock_unlock(&s->lock);
	return r;
}
