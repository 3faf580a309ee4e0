/* SPDX-License-Identifier: Apache-2.0 */
/* The stored dictionary: key text of every id, found by fingerprint; who is in the head. */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "series_internal.h"

#define INDEX_LAG    512u            /* new series that are indexed together */
#define INDEX_NS     (4 * NS_PER_MS) /* of a transaction, at most, with one batch more */
#define INDEX_FAR    8192u           /* more: an index that is made anew takes more of the time */
#define INDEX_MAX    (512u << 20)    /* bytes of labels in memory; a series more is refused */
#define EXPIRE_BATCH 64u
#define EXPIRE_NS    (4 * NS_PER_MS)

uint64_t dict_fingerprint(const struct mno_series *s, const char *key, size_t len)
{
	return mno_siphash(s->env->hash_key, key, len);
}

/* a: last time, 0 in the head; b: first time, 0 not known */
static struct record times_of(const struct mno_seal *info)
{
	return (struct record){.first_ms = info->b ? (int64_t)info->b : INT64_MIN,
		.last_ms = info->a ? (int64_t)info->a : INT64_MAX};
}

int dict_record(const struct mno_series *s, ZSTD_DCtx *z, const uint8_t id_be[4], const void *val,
	size_t len, struct mno_buf *raw, struct record *ret)
{
	struct mno_seal info;
	int r = mno_seal_open(
		s->env->main, MNO_DB_SERIES, z, id_be, 4, val, len, MNO_SEAL_SERIES, &info, raw);

	if (r < 0)
		return r;
	*ret = times_of(&info);
	ret->key = raw->data;
	ret->len = raw->len;
	return 0;
}

int record_times(const uint8_t id_be[4], const void *val, size_t len, struct record *ret)
{
	struct mno_seal info;
	int r = mno_seal_peek(id_be, 4, val, len, MNO_SEAL_SERIES, &info);

	if (r == 0)
		*ret = times_of(&info);
	return r;
}

void dict_damaged(struct mno_series *s, const uint8_t id_be[4])
{
	s->env->damaged++;
	if (__atomic_fetch_add(&s->damaged_records, 1, __ATOMIC_RELAXED) == 0)
		mno_err("series: the record of series %u is damaged: its labels are lost",
			mno_get_be32(id_be));
}

static int record_put(
	struct mno_series *s, struct mno_txn *txn, const struct hot *h, int64_t last_ms)
{
	struct mno_seal info = {
		.kind = MNO_SEAL_SERIES, .a = (uint64_t)last_ms, .b = (uint64_t)h->first_ms};
	uint8_t id[4];

	mno_be32(id, h->id);
	mno_buf_reset(&s->key);
	hot_key(h, &s->key);
	if (s->key.err)
		return s->key.err;
	return mno_seal_put(txn, MNO_DB_SERIES, id, 4, &info, s->key.data, s->key.len, NULL);
}

void dict_mark_dirty(struct mno_series *s, struct hot *h)
{
	if (h->dirty)
		return;
	h->dirty = true;
	h->next_dirty = s->dirty;
	s->dirty = h;
}

static int write_hot(struct mno_series *s, struct mno_txn *txn, const struct hot *h)
{
	uint8_t fp[12], id[4];
	int r;

	mno_be64(fp, h->fp);
	mno_be32(fp + 8, h->id);
	mno_be32(id, h->id);
	r = record_put(s, txn, h, 0);
	if (r == 0)
		r = mno_txn_put(txn, MNO_DB_SERIES_FP, fp, sizeof(fp), "", 0);
	if (r == 0)
		r = mno_txn_put(txn, MNO_DB_SERIES_HOT, id, sizeof(id), "", 0);
	return r;
}

/* Oldest first, so that keys come in order and pages get full. */
static struct hot *reverse(struct hot *list)
{
	struct hot *out = NULL;

	while (list) {
		struct hot *next = list->next_dirty;

		list->next_dirty = out;
		out = list;
		list = next;
	}
	return out;
}

/* They stay on a list until the commit: an abort puts them back. */
int dict_flush(struct mno_series *s, struct mno_txn *txn)
{
	uint64_t lag;

	s->dirty = reverse(s->dirty);
	while (s->dirty) {
		struct hot *h = s->dirty;
		int r = write_hot(s, txn, h);

		if (r < 0)
			return r;
		s->dirty = h->next_dirty;
		h->next_dirty = s->inflight;
		s->inflight = h;
	}
	lag = s->now.next_id -
	      MNO_MIN(__atomic_load_n(&s->indexed, __ATOMIC_RELAXED), s->now.next_id);
	return index_step(s, txn, INDEX_LAG, lag > INDEX_FAR ? 5 * INDEX_NS : INDEX_NS);
}

int dict_cool(struct mno_series *s, struct mno_txn *txn, struct hot *h, int64_t last_ms)
{
	uint8_t cold[12], id[4];
	int r;

	last_ms = last_ms ? last_ms : 1; /* 0 means hot */
	mno_be64(cold, mno_time_key(last_ms));
	mno_be32(cold + 8, h->id);
	mno_be32(id, h->id);
	r = record_put(s, txn, h, last_ms);
	if (r == 0)
		r = mno_txn_put(txn, MNO_DB_SERIES_COLD, cold, sizeof(cold), "", 0);
	if (r == 0)
		r = span_widen(s, txn, h->id / GROUP_SERIES, h->first_ms, last_ms);
	if (r == 0)
		r = mno_txn_del(txn, MNO_DB_SERIES_HOT, id, sizeof(id));
	return r == -ENOENT ? 0 : r;
}

static int fetch_record(
	struct mno_series *s, struct mno_txn *txn, const uint8_t id[4], struct mno_buf *val)
{
	const void *p;
	size_t len;
	int r;

	if (!txn)
		return mno_store_fetch(s->env, MNO_DB_SERIES, MNO_SEEK_EQ, id, 4, NULL, val);
	r = mno_txn_get(txn, MNO_DB_SERIES, id, 4, &p, &len);
	if (r < 0)
		return r;
	mno_buf_reset(val);
	mno_buf_add(val, p, len);
	return val->err;
}

int dict_heat(struct mno_series *s, struct mno_txn *txn, uint32_t id, struct hot **ret)
{
	_cleanup_buf_ struct mno_buf val = {0}, raw = {0};
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	struct record rec;
	uint8_t be[4];
	int r;

	mno_be32(be, id);
	r = fetch_record(s, txn, be, &val);
	if (r < 0)
		return r;
	r = dict_record(s, s->z, be, val.data, val.len, &raw, &rec);
	if (r < 0)
		return r;
	r = key_parse(rec.key, rec.len, &k);
	if (r < 0)
		return r == -EINVAL ? -MNO_ECORRUPT : r;
	r = hot_add(s, id, dict_fingerprint(s, rec.key, rec.len), &k, ret);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	(*ret)->first_ms = rec.first_ms != INT64_MIN ? rec.first_ms : 0;
	pthread_rwlock_unlock(&s->lock);
	if (rec.last_ms != INT64_MAX)
		dict_mark_dirty(s, *ret);
	return 0;
}

int dict_widen(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms)
{
	struct hot *h = hot_by_id(s, id);
	int r = h ? 0 : dict_heat(s, txn, id, &h);

	if (r < 0 || !h->first_ms || t_ms >= h->first_ms)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	h->first_ms = t_ms ? t_ms : -1; /* 0 means not known */
	pthread_rwlock_unlock(&s->lock);
	dict_mark_dirty(s, h);
	return 0;
}

/* The stored id of a key that is not in the head. */
static int find_stored(struct mno_series *s, struct mno_txn *txn, uint64_t fp, const char *key,
	size_t key_len, uint32_t *ret_id)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	uint8_t from[12];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	int r;

	mno_be64(from, fp);
	mno_be32(from + 8, 0);
	r = mno_lmdb_error(mdb_cursor_open(txn->t, s->env->main->dbi[MNO_DB_SERIES_FP], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	for (; r == 0; r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
		const uint8_t *p = k.mv_data;
		struct record rec;
		const void *val;
		size_t len;

		if (k.mv_size != 12 || mno_get_be64(p) != fp) {
			r = -ENOENT;
			break;
		}
		if (mno_txn_get(txn, MNO_DB_SERIES, p + 8, 4, &val, &len) < 0 ||
			dict_record(s, s->z, p + 8, val, len, &raw, &rec) < 0)
			continue; /* a damaged record: the series gets a new id */
		if (rec.len == key_len && memcmp(rec.key, key, key_len) == 0) {
			*ret_id = mno_get_be32(p + 8);
			break;
		}
	}
	mdb_cursor_close(c);
	return r;
}

static size_t index_bytes(const struct mno_series *s)
{
	return s->hot_bytes + s->syms.bytes + mno_map_bytes(s->syms.map) + mno_map_bytes(s->by_fp) +
	       s->groups.bytes + s->groups.n * sizeof(struct group);
}

static int make_series(
	struct mno_series *s, uint64_t fp, const struct key_labels *k, struct hot **ret)
{
	int64_t last;
	int r;

	if (s->now.next_id > SERIES_ID_MAX)
		return -EOVERFLOW;
	r = hot_add(s, (uint32_t)s->now.next_id, fp, k, ret);
	if (r < 0)
		return r;
	last = s->head->n ? s->head->t[s->head->n - 1] : s->head->base_t;
	pthread_rwlock_wrlock(&s->lock);
	if (last != INT64_MIN)
		(*ret)->first_ms = last + 1;
	s->now.next_id++;
	s->now.series++;
	pthread_rwlock_unlock(&s->lock);
	dict_mark_dirty(s, *ret);
	return 0;
}

/* Into the head: from the dictionary, or new. s->key has the key. */
static int admit(struct mno_series *s, struct mno_txn *txn, uint64_t fp, const struct key_labels *k,
	struct hot **ret)
{
	uint32_t id;
	int r;

	if (index_bytes(s) + s->key.len > s->index_max)
		return -MNO_ELIMIT;
	r = find_stored(s, txn, fp, s->key.data, s->key.len, &id);
	if (r == 0)
		return dict_heat(s, txn, id, ret);
	return r == -ENOENT ? make_series(s, fp, k, ret) : r;
}

int mno_series_resolve(
	struct mno_series *s, struct mno_txn *txn, const char *key, size_t len, uint32_t *ret_id)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	struct hot *h;
	uint64_t fp;
	int r = key_parse(key, len, &k);

	if (r < 0)
		return r;
	mno_buf_reset(&s->key);
	key_format(k.v, k.n, &s->key);
	if (s->key.err)
		return s->key.err;
	fp = dict_fingerprint(s, s->key.data, s->key.len);
	h = hot_by_key(s, fp, &k);
	if (!h)
		r = admit(s, txn, fp, &k, &h);
	if (r == -EOVERFLOW || r == -MNO_ELIMIT)
		__atomic_fetch_add(&s->refused, 1, __ATOMIC_RELAXED);
	if (r < 0)
		return r;
	*ret_id = h->id;
	return 0;
}

void dict_stat(const struct mno_series *s, struct mno_series_stat *ret)
{
	uint64_t indexed = __atomic_load_n(&s->indexed, __ATOMIC_RELAXED);

	ret->index_bytes = index_bytes(s);
	ret->refused = __atomic_load_n(&s->refused, __ATOMIC_RELAXED);
	ret->memory_bytes += ret->index_bytes;
	ret->index_lag = s->now.next_id - MNO_MIN(indexed, s->now.next_id);
	ret->ids_left = SERIES_ID_MAX + 1ULL - MNO_MIN(s->now.next_id, SERIES_ID_MAX + 1ULL);
	ret->damaged_records = __atomic_load_n(&s->damaged_records, __ATOMIC_RELAXED);
	ret->damaged_lists = __atomic_load_n(&s->damaged_lists, __ATOMIC_RELAXED);
}

static int load_state(struct mno_series *s)
{
	struct index_state st;
	struct rd rd;
	int r = rd_open(&rd, s);

	if (r == 0)
		r = index_state_get(s, rd.t, &st);
	if (r == 0)
		s->indexed = st.next;
	s->index_max = INDEX_MAX;
	rd_done(&rd);
	return r;
}

int dict_load(struct mno_series *s)
{
	uint8_t id[4] = {0};
	_cleanup_buf_ struct mno_buf k = {0};
	size_t damaged = 0;
	int r;

	r = mno_store_fetch(s->env, MNO_DB_SERIES_HOT, MNO_SEEK_GE, id, 4, &k, NULL);
	for (; r == 0;
		r = mno_store_fetch(s->env, MNO_DB_SERIES_HOT, MNO_SEEK_GT, id, 4, &k, NULL)) {
		struct hot *h;

		if (k.len != 4)
			return -MNO_ECORRUPT;
		memcpy(id, k.data, 4);
		r = dict_heat(s, NULL, mno_get_be32(id), &h);
		if (r == -ENOMEM)
			return r;
		damaged += r < 0;
	}
	if (damaged)
		mno_err("series: %zu damaged dictionary records; these series get new ids",
			damaged);
	return r == -ENOENT ? load_state(s) : r;
}

/* --- expiry --------------------------------------------------------------------------------------- */

/* A group whose last record went has no span to keep. */
static int span_expire(struct mno_series *s, struct mno_txn *txn, uint32_t group)
{
	uint8_t from[4];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, s->env->main->dbi[MNO_DB_SERIES], &c));

	if (r < 0)
		return r;
	mno_be32(from, group * GROUP_SERIES);
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	if (r == 0 && k.mv_size == 4 && mno_get_be32(k.mv_data) / GROUP_SERIES == group)
		r = 1;
	mdb_cursor_close(c);
	if (r == 1 || (r < 0 && r != -ENOENT))
		return r < 0 ? r : 0;
	return span_drop(s, txn, group);
}

static int forget(struct mno_series *s, struct mno_txn *txn, const uint8_t id_be[4],
	const struct record *rec, struct index_batch *b)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	uint8_t fp[12];
	int r;

	mno_be64(fp, dict_fingerprint(s, rec->key, rec->len));
	memcpy(fp + 8, id_be, 4);
	r = key_parse(rec->key, rec->len, &k);
	if (r == 0)
		r = index_batch_add(b, mno_get_be32(id_be), &k);
	if (r == -ENOMEM)
		return r;
	r = mno_txn_del(txn, MNO_DB_SERIES, id_be, 4);
	if (r == 0)
		r = mno_txn_del(txn, MNO_DB_SERIES_FP, fp, sizeof(fp));
	s->now.series -= s->now.series > 0;
	return r == -ENOENT ? 0 : r;
}

/* One entry of the order of expiry: the series goes unless it was seen again since. */
static int expire_one(
	struct mno_series *s, struct mno_txn *txn, const uint8_t cold[12], struct index_batch *b)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	const uint8_t *id = cold + 8;
	struct record rec;
	const void *val;
	size_t len;
	int r;

	r = mno_txn_get(txn, MNO_DB_SERIES, id, 4, &val, &len);
	if (r == 0 && dict_record(s, s->z, id, val, len, &raw, &rec) == 0 &&
		rec.last_ms == mno_time_unkey(mno_get_be64(cold)) &&
		!hot_by_id(s, mno_get_be32(id))) {
		r = forget(s, txn, id, &rec, b);
		if (r == 0)
			r = span_expire(s, txn, mno_get_be32(id) / GROUP_SERIES);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	return mno_txn_del(txn, MNO_DB_SERIES_COLD, cold, 12);
}

/* The oldest entry, if it is past its time; -ENOENT. */
static int next_expired(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, uint8_t ret[12])
{
	MDB_val k, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, s->env->main->dbi[MNO_DB_SERIES_COLD], &c));

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));
	if (r == 0 && k.mv_size != 12)
		r = -MNO_ECORRUPT;
	if (r == 0)
		memcpy(ret, k.mv_data, 12);
	mdb_cursor_close(c);
	return r == 0 && mno_time_unkey(mno_get_be64(ret)) >= t_ms ? -ENOENT : r;
}

/* *@ret_n: entries dealt with. */
static int expire_batch(
	struct mno_series *s, struct mno_txn *txn, int64_t t_ms, size_t max, size_t *ret_n)
{
	_cleanup_(index_batch_free_p)
	struct index_batch *b = index_batch_new(s);
	uint8_t cold[12];
	size_t n = 0;
	int r = b ? 0 : -ENOMEM;

	while (r == 0 && n < max && index_batch_size(b) < (1u << 20)) {
		r = next_expired(s, txn, t_ms, cold);
		if (r == 0)
			r = expire_one(s, txn, cold, b);
		n += r == 0;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_n = n;
	r = index_batch_apply(b, txn, true);
	if (r != -MNO_ECORRUPT)
		return r;
	index_damaged(s, "a list");
	return index_reset(s, txn);
}

int dict_expire(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, size_t max, bool *ret_more)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + EXPIRE_NS;

	for (size_t i = 0, n = 1; i < max; i += n) {
		size_t most = MNO_MIN(max - i, (size_t)EXPIRE_BATCH);
		int r = expire_batch(s, txn, t_ms, most, &n);

		if (r < 0 || n == 0)
			return r;
		if (mno_now_ns(CLOCK_MONOTONIC) >= end)
			break;
	}
	*ret_more = true;
	return 0;
}
