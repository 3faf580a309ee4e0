/* SPDX-License-Identifier: Apache-2.0 */
/* The stored dictionary: key text of every id, found by fingerprint; who is in the head. */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "series_internal.h"

#define INDEX_LAG    1024u           /* new series that are indexed together */
#define INDEX_NS     (4 * NS_PER_MS) /* of a transaction, at most, with one batch more */
#define INDEX_FAR    8192u           /* more: an index that is made anew takes more of the time */
#define INDEX_MAX    (512u << 20)    /* bytes of labels in memory; a series more is refused */
#define EXPIRE_BATCH 64u
#define EXPIRE_NS    (4 * NS_PER_MS)

uint64_t dict_fingerprint(const struct mno_series *s, const char *key, size_t len)
{
	return mno_siphash(s->env->hash_key, key, len);
}

void dict_damaged(struct mno_series *s, uint32_t first, uint32_t last)
{
	s->env->damaged++;
	if (__atomic_fetch_add(&s->damaged_records, 1, __ATOMIC_RELAXED) == 0)
		mno_err("series: the records of series %u to %u are damaged: their labels are lost",
			first, last);
}

static int record_put(
	struct mno_series *s, struct mno_txn *txn, const struct hot *h, int64_t last_ms)
{
	struct records *g;
	int r = records_edit(s, txn, h->id / GROUP_SERIES, &g);

	if (r < 0)
		return r;
	mno_buf_reset(&s->key);
	hot_key(h, &s->key);
	if (s->key.err)
		return s->key.err;
	return records_set(txn, g, h->id % GROUP_SERIES, h->first_ms ? h->first_ms : INT64_MIN,
		last_ms, s->key.data, s->key.len);
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
	int r = record_put(s, txn, h, INT64_MAX);

	if (h->id < EARLY_IDS) {
		s->early_fp[h->id] = h->fp;
		return r;
	}
	return r < 0 ? r : recent_add(s, txn, h->fp, h->id);
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
	uint64_t lag, indexed;
	size_t made = 0;
	int err;

	s->dirty = reverse(s->dirty);
	while (s->dirty) {
		struct hot *h = s->dirty;
		int r = write_hot(s, txn, h);

		if (r < 0)
			return r;
		s->dirty = h->next_dirty;
		h->next_dirty = s->inflight;
		s->inflight = h;
		made++;
	}
	err = records_sync(s, txn);
	if (err == 0 && made)
		err = recent_store(s, txn, made);
	if (err < 0)
		return err;
	indexed = __atomic_load_n(&s->indexed, __ATOMIC_RELAXED);
	lag = s->now.next_id - MNO_MIN(indexed, s->now.next_id);
	if (!__atomic_load_n(&s->index_bad, __ATOMIC_RELAXED) &&
		(lag < INDEX_LAG || (indexed <= 1 && s->now.next_id <= EARLY_IDS)))
		return 0;
	return index_step(s, txn, INDEX_LAG, lag > INDEX_FAR ? 5 * INDEX_NS : INDEX_NS);
}

int dict_cool(struct mno_series *s, struct mno_txn *txn, struct hot *h, int64_t last_ms)
{
	uint8_t cold[12];
	int r;

	last_ms = last_ms ? last_ms : 1; /* 0 means hot */
	mno_be64(cold, mno_time_key(last_ms));
	mno_be32(cold + 8, h->id);
	r = record_put(s, txn, h, last_ms);
	if (r == 0)
		r = mno_txn_put(txn, MNO_DB_SERIES_COLD, cold, sizeof(cold), "", 0);
	if (r == 0)
		r = span_widen(s, txn, h->id / GROUP_SERIES, h->first_ms, last_ms);
	return r;
}

/* One record into the head. */
static int heat(
	struct mno_series *s, MDB_txn *t, const struct records *g, unsigned col, struct hot **ret)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	struct record rec;
	int r = records_key(s, t, s->z, g, col, &raw, &rec);

	if (r == 0)
		r = key_parse(rec.key, rec.len, &k);
	if (r < 0)
		return r == -EINVAL ? -MNO_ECORRUPT : r;
	r = hot_add(s, g->no * GROUP_SERIES + col, dict_fingerprint(s, rec.key, rec.len), &k, ret);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->lock);
	(*ret)->first_ms = rec.first_ms != INT64_MIN ? rec.first_ms : 0;
	pthread_rwlock_unlock(&s->lock);
	if (rec.last_ms != INT64_MAX)
		dict_mark_dirty(s, *ret);
	return 0;
}

int dict_heat(struct mno_series *s, struct mno_txn *txn, uint32_t id, struct hot **ret)
{
	struct records *g;
	int r = records_edit(s, txn, id / GROUP_SERIES, &g);

	return r < 0 ? r : heat(s, txn->t, g, id % GROUP_SERIES, ret);
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

/* 1: the stored series has this key. What is damaged has none: the series gets a new id. */
static int has_key(
	struct mno_series *s, struct mno_txn *txn, uint32_t id, const char *key, size_t len)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	struct records *g;
	struct record rec;
	int r = records_edit(s, txn, id / GROUP_SERIES, &g);

	if (r < 0)
		return r;
	if (records_key(s, txn->t, s->z, g, id % GROUP_SERIES, &raw, &rec) < 0)
		return 0;
	return rec.len == len && memcmp(rec.key, key, len) == 0;
}

/* The stored id of a key that is not in the head. */
static int find_stored(struct mno_series *s, struct mno_txn *txn, uint64_t fp, const char *key,
	size_t key_len, uint32_t *ret_id)
{
	uint8_t from[12];
	MDB_val k = {sizeof(from), from}, v;
	uint32_t recent;
	MDB_cursor *c;
	int r;

	for (size_t at = 0; recent_next(&s->recent, fp, &at, &recent);) {
		r = has_key(s, txn, recent, key, key_len);
		if (r == 1)
			*ret_id = recent;
		if (r)
			return MNO_MIN(r, 0);
	}
	for (uint32_t id = 1; id < EARLY_IDS && id < s->now.next_id; id++) {
		if (s->early_fp[id] != fp)
			continue;
		r = has_key(s, txn, id, key, key_len);
		if (r == 1)
			*ret_id = id;
		if (r)
			return MNO_MIN(r, 0);
	}
	mno_be64(from, fp);
	mno_be32(from + 8, 0);
	r = mno_lmdb_error(mdb_cursor_open(txn->t, s->env->main->dbi[MNO_DB_SERIES_FP], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GE, &k, &v));
	for (; r == 0; r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
		const uint8_t *p = k.mv_data;
		uint32_t id;

		if (k.mv_size != 12 || mno_get_be64(p) != fp) {
			r = -ENOENT;
			break;
		}
		id = mno_get_be32(p + 8);
		r = has_key(s, txn, id, key, key_len);
		if (r == 1)
			*ret_id = id;
		if (r)
			break;
	}
	mdb_cursor_close(c);
	return MNO_MIN(r, 0);
}

static size_t index_bytes(const struct mno_series *s)
{
	return s->hot_bytes + s->syms.bytes + mno_map_bytes(s->syms.map) + mno_map_bytes(s->by_fp) +
	       s->groups.bytes + s->groups.n * sizeof(struct group) +
	       __atomic_load_n(&s->recent.bytes, __ATOMIC_RELAXED);
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
	uint32_t id = 0;
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

/* The series of one group that were in the head; *@damaged counts those that cannot be read. */
static int load_group(struct mno_series *s, uint32_t no, size_t *damaged)
{
	struct rd rd;
	int r = rd_open(&rd, s);

	if (r == 0)
		r = records_load(s, rd.t, rd.z, no, &s->edit);
	for (uint64_t left = r == 0 ? records_hot(&s->edit) : 0; left; left &= left - 1) {
		struct hot *h;

		r = heat(s, rd.t, &s->edit, (unsigned)__builtin_ctzll(left), &h);
		if (r == -ENOMEM)
			break;
		*damaged += r < 0;
	}
	*damaged += r == 0 && s->edit.damaged;
	s->edit.valid = false;
	rd_done(&rd);
	return r == -MNO_ECORRUPT ? 0 : r;
}

static int load_fps(struct mno_series *s, struct rd *rd, uint32_t no, struct mno_buf *raw)
{
	struct records *g = &s->edit;
	int r = records_load(s, rd->t, rd->z, no, g);

	for (uint64_t left = r == 0 ? records_all(g) : 0; left && r == 0; left &= left - 1) {
		unsigned col = (unsigned)__builtin_ctzll(left);
		uint32_t id = no * GROUP_SERIES + col;
		struct record rec;
		uint64_t fp;

		if (records_key(s, rd->t, rd->z, g, col, raw, &rec) < 0)
			continue;
		fp = dict_fingerprint(s, rec.key, rec.len);
		if (id < EARLY_IDS)
			s->early_fp[id] = fp;
		else if (id >= s->recent.from)
			r = recent_load(s, fp, id);
	}
	return r;
}

/* Fingerprints of the first ids and of the last, from their records. */
static int load_early(struct mno_series *s)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	struct rd rd;
	uint32_t no = 0, from;
	int r = rd_open(&rd, s);

	if (r == 0)
		r = recent_from(s, &from);
	for (; r == 0; no++) {
		if (no >= EARLY_IDS / GROUP_SERIES)
			no = MNO_MAX(no, from / GROUP_SERIES);
		r = rd_renew(&rd);
		if (r == 0)
			r = records_next(s, rd.t, &no);
		if (r < 0 || (no >= EARLY_IDS / GROUP_SERIES && !from))
			break;
		r = load_fps(s, &rd, no, &raw);
	}
	s->edit.valid = false;
	rd_done(&rd);
	return r == -ENOENT ? 0 : r;
}

int dict_load(struct mno_series *s)
{
	uint8_t group[4] = {0};
	_cleanup_buf_ struct mno_buf k = {0};
	size_t damaged = 0;
	int r;

	r = mno_store_fetch(s->env, MNO_DB_SERIES_HOT, MNO_SEEK_GE, group, 4, &k, NULL);
	for (; r == 0;
		r = mno_store_fetch(s->env, MNO_DB_SERIES_HOT, MNO_SEEK_GT, group, 4, &k, NULL)) {
		if (k.len != 4)
			return -MNO_ECORRUPT;
		memcpy(group, k.data, 4);
		r = load_group(s, mno_get_be32(group), &damaged);
		if (r < 0)
			return r;
	}
	if (damaged)
		mno_err("series: %zu damaged dictionary records or groups of them; these series "
			"get new ids",
			damaged);
	if (r == -ENOENT)
		r = load_early(s);
	return r < 0 ? r : load_state(s);
}

/* --- expiry --------------------------------------------------------------------------------------- */

static int forget(struct mno_series *s, struct mno_txn *txn, struct records *g, unsigned col,
	const struct record *rec, struct index_batch *b)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	uint32_t id = g->no * GROUP_SERIES + col;
	uint64_t sum = dict_fingerprint(s, rec->key, rec->len);
	uint8_t fp[12];
	int r;

	mno_be64(fp, sum);
	mno_be32(fp + 8, id);
	r = recent_forget(s, sum, id);
	if (r == 0)
		r = key_parse(rec->key, rec->len, &k);
	if (r == 0)
		r = index_batch_add(b, id, &k);
	if (r == -ENOMEM)
		return r;
	r = records_del(txn, g, col);
	if (r == 0)
		r = mno_txn_del(txn, MNO_DB_SERIES_FP, fp, sizeof(fp));
	s->now.series -= s->now.series > 0;
	if (r < 0 && r != -ENOENT)
		return r;
	/* a group whose last record went has no span to keep */
	return records_all(g) ? 0 : span_drop(s, txn, g->no);
}

/* One entry of the order of expiry: the series goes unless it was seen again since. */
static int expire_one(
	struct mno_series *s, struct mno_txn *txn, const uint8_t cold[12], struct index_batch *b)
{
	_cleanup_buf_ struct mno_buf raw = {0};
	uint32_t id = mno_get_be32(cold + 8);
	unsigned col = id % GROUP_SERIES;
	struct records *g;
	struct record rec;
	int r = records_edit(s, txn, id / GROUP_SERIES, &g);

	if (r == 0 && records_key(s, txn->t, s->z, g, col, &raw, &rec) == 0 &&
		rec.last_ms == mno_time_unkey(mno_get_be64(cold)) && !hot_by_id(s, id))
		r = forget(s, txn, g, col, &rec, b);
	return r < 0 ? r : mno_txn_del(txn, MNO_DB_SERIES_COLD, cold, 12);
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
	r = records_sync(s, txn);
	if (r == 0)
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
