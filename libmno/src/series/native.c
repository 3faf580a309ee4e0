/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of native histograms: added to, joined, read. */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "native.h"

#define BATCH_JOIN (NATIVE_MAX / NATIVE_SMALL)

struct where {
	struct mno_series *s;
	struct mno_txn *p;
	struct late_meta *m;
	uint32_t id;
	struct natives *b;
	struct mno_buf raw;
};

static void native_key(uint8_t key[NATIVE_KEY], uint32_t id, int64_t t)
{
	mno_be32(key, id);
	mno_be64(key + 4, mno_time_key(t));
}

static int64_t key_time(const void *key)
{
	return mno_time_unkey(mno_get_be64((const uint8_t *)key + 4));
}

static int open_batch(struct mno_env *e, ZSTD_DCtx *z, const void *key, const void *val, size_t len,
	struct mno_buf *raw, struct natives *ret)
{
	struct mno_seal info;
	int r = mno_seal_open(
		e, MNO_DB_HIST, z, key, NATIVE_KEY, val, len, MNO_SEAL_HIST, &info, raw);

	if (r == 0)
		r = native_decode((uint8_t *)raw->data, raw->len, ret);
	if (r == 0 && ret->v[0].t_ms != key_time(key))
		r = -MNO_ECORRUPT;
	return r;
}

/* --- adding ----------------------------------------------------------------------------------- */

/* Position of the batch at or before @t; its key and head. -ENOENT. */
static int find(struct where *w, enum mno_seek dir, int64_t t, uint8_t key[NATIVE_KEY],
	struct mno_seal *info, MDB_val *v)
{
	uint8_t from[NATIVE_KEY];
	MDB_val k = {sizeof(from), from};
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(w->p->t, w->p->e->dbi[MNO_DB_HIST], &c));

	if (r < 0)
		return r;
	native_key(from, w->id, t);
	r = mno_lmdb_error(mno_cursor_seek(c, dir, &k, v));
	mdb_cursor_close(c);
	if (r == 0 && k.mv_size != NATIVE_KEY)
		r = -MNO_ECORRUPT;
	if (r == 0 && memcmp(k.mv_data, from, 4))
		r = -ENOENT;
	if (r < 0)
		return r;
	memcpy(key, k.mv_data, NATIVE_KEY);
	*info = (struct mno_seal){.count = NATIVE_MAX};
	mno_seal_peek(key, NATIVE_KEY, v->mv_data, v->mv_size, MNO_SEAL_HIST, info);
	return 0;
}

static int remove_batch(struct where *w, const uint8_t key[NATIVE_KEY], size_t bytes)
{
	w->m->hist_bytes -= MNO_MIN(bytes, w->m->hist_bytes);
	return mno_txn_del(w->p, MNO_DB_HIST, key, NATIVE_KEY);
}

static int write_batch(struct where *w, const struct native *v, size_t n)
{
	struct mno_seal info = {
		.kind = MNO_SEAL_HIST, .count = (uint32_t)n, .a = mno_time_key(v[n - 1].t_ms)};
	uint8_t key[NATIVE_KEY];
	size_t bytes;
	int r;

	native_key(key, w->id, v[0].t_ms);
	mno_buf_reset(&w->raw);
	native_encode(v, n, &w->raw);
	if (w->raw.err)
		return w->raw.err;
	r = mno_seal_put(
		w->p, MNO_DB_HIST, key, sizeof(key), &info, w->raw.data, w->raw.len, &bytes);
	if (r == 0)
		w->m->hist_bytes += bytes;
	return r;
}

/* Puts it into w->b, in order. 1: it is there already, as it is. */
static int insert(struct where *w, int64_t t, const struct mno_native_hist *h)
{
	struct natives *b = w->b;
	struct native v;
	size_t i = b->n;
	int r;

	while (i && b->v[i - 1].t_ms >= t)
		i--;
	if (i < b->n && b->v[i].t_ms == t && native_equal(&b->v[i].h, h))
		return 1;
	r = native_copy(&v, t, h);
	if (r < 0)
		return r;
	if (i < b->n && b->v[i].t_ms == t) {
		free(b->v[i].mem);
	} else {
		memmove(b->v + i + 1, b->v + i, (b->n - i) * sizeof(*b->v));
		b->n++;
		w->m->hists++;
	}
	b->v[i] = v;
	return 0;
}

/* Keys of the batches in front of @t, the last first. -ENOENT: they are not all small and full. */
static int find_small(
	struct where *w, int64_t t, uint8_t keys[BATCH_JOIN][NATIVE_KEY], size_t bytes[BATCH_JOIN])
{
	for (size_t i = 0; i < BATCH_JOIN; i++) {
		struct mno_seal info;
		MDB_val v;
		int r = find(w, MNO_SEEK_LT, t, keys[i], &info, &v);

		if (r == 0 && info.count != NATIVE_SMALL)
			r = -ENOENT;
		if (r < 0)
			return r;
		t = key_time(keys[i]);
		bytes[i] = v.mv_size;
	}
	return 0;
}

/* Appends what a batch has to w->b. */
static int take_batch(struct where *w, uint8_t key[NATIVE_KEY])
{
	struct natives *one = calloc(1, sizeof(*one));
	struct mno_seal info;
	MDB_val v;
	int r = one ? find(w, MNO_SEEK_EQ, key_time(key), key, &info, &v) : -ENOMEM;

	if (r == 0)
		r = open_batch(w->p->e, w->s->z, key, v.mv_data, v.mv_size, &w->raw, one);
	if (r == 0 && w->b->n + one->n > NATIVE_MAX)
		r = -MNO_ECORRUPT;
	if (r == 0) {
		memcpy(w->b->v + w->b->n, one->v, one->n * sizeof(*one->v));
		w->b->n += one->n;
		one->n = 0;
	}
	if (one)
		natives_done(one);
	free(one);
	return r;
}

/* Small batches in front of @t that stand side by side become one, if all can be read. */
static int join(struct where *w, int64_t t)
{
	uint8_t keys[BATCH_JOIN][NATIVE_KEY];
	size_t bytes[BATCH_JOIN];
	int r = find_small(w, t, keys, bytes);

	natives_done(w->b);
	for (size_t i = BATCH_JOIN; i-- > 0 && r == 0;)
		r = take_batch(w, keys[i]);
	if (r == -ENOENT || r == -MNO_ECORRUPT)
		return 0;
	for (size_t i = 0; i < BATCH_JOIN && r == 0; i++)
		r = remove_batch(w, keys[i], bytes[i]);
	return r < 0 ? r : write_batch(w, w->b->v, w->b->n);
}

/* Reads the batch that @t belongs to into w->b. -ENOENT: it begins one of its own. */
static int batch_for(
	struct where *w, int64_t t, uint8_t key[NATIVE_KEY], size_t *ret_bytes, bool *ret_full)
{
	struct mno_seal info;
	MDB_val v;
	int r = find(w, MNO_SEEK_LE, t, key, &info, &v);

	if (r < 0)
		return r;
	*ret_bytes = v.mv_size;
	*ret_full = info.count == NATIVE_SMALL && mno_time_unkey(info.a) < t;
	if (info.count >= NATIVE_SMALL && mno_time_unkey(info.a) < t)
		return -ENOENT;
	r = open_batch(w->p->e, w->s->z, key, v.mv_data, v.mv_size, &w->raw, w->b);
	if (r != -MNO_ECORRUPT)
		return r;
	natives_done(w->b);
	mno_err("series: a stored batch of histograms is damaged"); /* it stays, reads tell of it */
	return -ENOENT;
}

/* 1: nothing was to be done. */
static int add_one(struct where *w, int64_t t, const struct mno_native_hist *h)
{
	uint8_t key[NATIVE_KEY];
	size_t bytes = 0, first;
	bool full = false, have;
	int r = batch_for(w, t, key, &bytes, &full);

	if (r < 0 && r != -ENOENT)
		return r;
	have = r == 0;
	r = insert(w, t, h);
	if (r == 0 && have)
		r = remove_batch(w, key, bytes);
	first = w->b->n > NATIVE_MAX ? w->b->n / 2 : w->b->n;
	if (r == 0)
		r = write_batch(w, w->b->v, first);
	if (r == 0 && first < w->b->n)
		r = write_batch(w, w->b->v + first, w->b->n - first);
	return r == 0 && full ? join(w, t) : r;
}

static int add_to_day(struct where *w, int64_t t, const struct mno_native_hist *h)
{
	struct late_meta before = *w->m;
	int r = add_one(w, t, h);

	if (r == 1)
		return 0;
	if (r < 0)
		return r;
	w->m->first_ms = MNO_MIN(w->m->first_ms, t);
	w->m->last_ms = MNO_MAX(w->m->last_ms, t);
	w->m->next_id = MNO_MAX(w->m->next_id, w->id + 1);
	return memcmp(&before, w->m, sizeof(before)) ? late_meta_put(w->p, w->m) : 0;
}

int mno_series_add_hist(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms,
	const struct mno_native_hist *h)
{
	struct where w = {.s = s, .id = id};
	struct mno_sample seen = {.id = id, .t_ms = t_ms};
	int64_t a, b;
	int r = native_check(h) ?: late_check(s, &seen, 1);

	if (r == 0)
		r = late_admit(s, txn, &seen, 1);
	if (r == 0)
		r = dict_flush(s, txn);
	if (r == 0)
		r = counters_save(s, txn);
	mno_class_bounds(MNO_CLASS_TS, t_ms, &a, &b);
	if (r == 0)
		r = mno_txn_part(txn, MNO_CLASS_TS, a, &w.p);
	if (r == 0)
		r = late_meta_get(s, w.p, a, &w.m);
	if (r < 0)
		return r;
	w.b = calloc(1, sizeof(*w.b));
	r = w.b ? add_to_day(&w, t_ms, h) : -ENOMEM;
	if (w.b)
		natives_done(w.b);
	free(w.b);
	mno_buf_done(&w.raw);
	return r;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct hist_read {
	struct mno_series *s;
	struct mno_env *e;
	ZSTD_DCtx *z;
	struct mno_buf held, raw;
	struct natives b;
	int64_t t0, t1;
	uint64_t damaged;
	mno_hist_fn fn;
	void *arg;
};

static void note_damage(struct hist_read *q, uint32_t id)
{
	q->damaged++;
	q->s->env->damaged++;
	__atomic_fetch_add(&q->s->damaged_blocks, 1, __ATOMIC_RELAXED);
	mno_err("series: a stored batch of histograms of series %u is damaged and left out", id);
}

static int hand_batch(
	struct hist_read *q, uint32_t id, const void *key, const void *val, size_t len)
{
	int r = open_batch(q->e, q->z, key, val, len, &q->raw, &q->b);

	for (size_t i = 0; i < q->b.n && r == 0; i++)
		if (q->b.v[i].t_ms >= q->t0 && q->b.v[i].t_ms <= q->t1)
			r = q->fn(q->arg, id, q->b.v[i].t_ms, &q->b.v[i].h);
	natives_done(&q->b);
	return r;
}

/* Copies the batches that may have what is wanted, as of one moment: (key, u32 length, bytes)*. */
static int copy_batches(struct hist_read *q, MDB_txn *t, uint32_t id)
{
	uint8_t from[NATIVE_KEY];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *c;
	int r = mno_lmdb_error(mdb_cursor_open(t, q->e->dbi[MNO_DB_HIST], &c));

	if (r < 0)
		return r;
	native_key(from, id, q->t0);
	r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_LE, &k, &v));
	if (r == -ENOENT || (r == 0 && memcmp(k.mv_data, from, 4))) {
		k = (MDB_val){sizeof(from), from};
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GT, &k, &v));
	}
	for (; r == 0; r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) {
		uint32_t len = (uint32_t)v.mv_size;

		if (k.mv_size != NATIVE_KEY || memcmp(k.mv_data, from, 4) ||
			key_time(k.mv_data) > q->t1)
			break;
		mno_buf_add(&q->held, k.mv_data, NATIVE_KEY);
		mno_buf_add(&q->held, &len, sizeof(len));
		mno_buf_add(&q->held, v.mv_data, len);
	}
	mdb_cursor_close(c);
	return r == -ENOENT ? q->held.err : r < 0 ? r : q->held.err;
}

static int read_series(struct hist_read *q, uint32_t id)
{
	MDB_txn *t;
	size_t at = 0;
	int r = mno_read_begin(q->e, &t);

	if (r < 0)
		return r;
	mno_buf_reset(&q->held);
	r = copy_batches(q, t, id);
	mno_read_end(q->e, t);
	while (r == 0 && at < q->held.len) {
		const char *key = q->held.data + at;
		uint32_t len;

		memcpy(&len, key + NATIVE_KEY, sizeof(len));
		r = hand_batch(q, id, key, key + NATIVE_KEY + sizeof(len), len);
		if (r == -MNO_ECORRUPT || r == -MNO_EVERSION) {
			note_damage(q, id);
			r = 0;
		}
		at += NATIVE_KEY + sizeof(len) + len;
	}
	return r;
}

static int read_days(struct hist_read *q, uint32_t id, const int64_t *days, size_t n)
{
	int r = 0;

	for (size_t d = 0; d < n && r == 0; d++) {
		r = mno_store_env(q->s->env, MNO_CLASS_TS, days[d], false, &q->e);
		if (r == -ENOENT) { /* retention took it meanwhile */
			r = 0;
			continue;
		}
		if (r == -ENOMEM)
			return r;
		if (r < 0) {
			q->damaged++;
			r = 0;
			continue;
		}
		r = read_series(q, id);
		mno_env_unref(q->e);
	}
	return r;
}

int mno_series_read_hist(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0,
	int64_t t1, mno_hist_fn fn, void *arg, uint64_t *ret_damaged)
{
	_cleanup_free_ int64_t *days = NULL;
	struct hist_read *q = calloc(1, sizeof(*q));
	size_t n_days = 0;
	int r = q ? late_days(s, t0, t1, &days, &n_days) : -ENOMEM;

	if (r == 0) {
		q->s = s;
		q->t0 = t0;
		q->t1 = t1;
		q->fn = fn;
		q->arg = arg;
		q->z = ZSTD_createDCtx(); /* NULL is slower, no error */
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = read_days(q, ids[i], days, n_days);
	if (r == 0 && ret_damaged)
		*ret_damaged = q->damaged;
	if (q) {
		ZSTD_freeDCtx(q->z);
		mno_buf_done(&q->held);
		mno_buf_done(&q->raw);
	}
	free(q);
	return r;
}
