/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, closing, figures, expiry. */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

#define EXPIRE_BLOCKS 512  /* deletions in one call */
#define EXPIRE_GROUPS 4096 /* groups looked at in one call */
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
	hot_free_all(s);
	mno_buf_done(&s->raw);
	mno_buf_done(&s->key);
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
		r = dict_load(s);
	if (r == 0)
		r = tail_replay(s);
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
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&s->lock, &a);
	pthread_rwlockattr_destroy(&a);
	r = open_parts(s);
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
		.memory_bytes = s->shown.head_bytes + s->hot_bytes + s->syms.bytes +
				mno_map_bytes(s->syms.map) + mno_map_bytes(s->by_fp) +
				s->n_groups * sizeof(*s->groups),
		.head_series = s->n_hot,
		.damaged_blocks = __atomic_load_n(&s->damaged_blocks, __ATOMIC_RELAXED),
		.first_ms = s->shown.c.first_ms,
	};
	if (s->head->n)
		ret->last_ms = s->head->t[s->head->n - 1];
	else if (s->head->base_t != INT64_MIN)
		ret->last_ms = s->head->base_t;
	for (size_t i = 0; i < s->n_groups; i++)
		ret->memory_bytes += s->groups[i] ? sizeof(struct group) : 0;
	pthread_rwlock_unlock(&s->lock);
}

/* --- expiry: group by group, a bounded number of steps a call ---------------------------------------- */

struct expiry {
	struct mno_series *s;
	MDB_cursor *c;
	int64_t t_ms;
	size_t deleted, groups;
};

/* Looks at the first block of the group at the cursor. 0: deleted it; 1: the group is done. */
static int expire_block(struct expiry *x, const MDB_val *k, const MDB_val *v)
{
	int64_t t0 = mno_time_unkey(mno_get_be64((uint8_t *)k->mv_data + 4));
	struct mno_seal info = {0};
	size_t bytes = v->mv_size;
	int r;

	/* A damaged header cannot say when the block ends: it begins before the limit, it goes. */
	r = mno_seal_peek(k->mv_data, k->mv_size, v->mv_data, v->mv_size, MNO_SEAL_BLOCK, &info);
	if (t0 >= x->t_ms || (r == 0 && mno_time_unkey(info.a) >= x->t_ms)) {
		if (t0 < x->s->expire_first)
			x->s->expire_first = t0;
		return 1;
	}
	r = mno_lmdb_error(mdb_cursor_del(x->c, 0));
	if (r < 0)
		return r;
	x->deleted++;
	x->s->now.block_bytes -= MNO_MIN(bytes, x->s->now.block_bytes);
	x->s->now.samples -= MNO_MIN(info.b, x->s->now.samples);
	return 0;
}

/* -ENOENT at the end of the pass. */
static int expire_groups(struct expiry *x)
{
	uint8_t key[12];

	while (x->deleted < EXPIRE_BLOCKS && x->groups < EXPIRE_GROUPS) {
		MDB_val k = {sizeof(key), key}, v;
		int r;

		mno_be32(key, x->s->expire_group);
		mno_be64(key + 4, 0);
		r = mno_lmdb_error(mno_cursor_seek(x->c, MNO_SEEK_GE, &k, &v));
		if (r < 0)
			return r;
		if (k.mv_size != sizeof(key))
			return -MNO_ECORRUPT;
		x->s->expire_group = mno_get_be32(k.mv_data);
		r = expire_block(x, &k, &v);
		if (r < 0)
			return r;
		x->s->expire_group += (uint32_t)r;
		x->groups += (size_t)r;
	}
	return 0;
}

static int expire_blocks(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, bool *ret_more)
{
	struct expiry x = {.s = s, .t_ms = t_ms};
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, s->env->main->dbi[MNO_DB_BLOCK], &x.c));

	if (r < 0)
		return r;
	if (s->expire_group == 0)
		s->expire_first = s->head->n ? s->head->t[0] : INT64_MAX;
	r = expire_groups(&x);
	mdb_cursor_close(x.c);
	if (r == 0) {
		*ret_more = true;
		return 0;
	}
	if (r != -ENOENT)
		return r;
	s->expire_group = 0;
	s->now.first_ms = s->expire_first == INT64_MAX ? 0 : s->expire_first;
	return 0;
}

int mno_series_expire(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, bool *ret_more)
{
	bool more = false;
	int r;

	pthread_rwlock_wrlock(&s->lock);
	r = expire_blocks(s, txn, t_ms, &more);
	if (r == 0)
		r = dict_expire(s, txn, t_ms, EXPIRE_SERIES, &more);
	pthread_rwlock_unlock(&s->lock);
	if (r == 0)
		r = counters_save(s, txn);
	if (r == 0)
		*ret_more = more;
	return r;
}
