/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of rows and of records, in the partition of the day of their last time:
 * key = last time | sequence number.
 */
#include <errno.h>
#include <string.h>
#include "batch.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "mno_wire.h"

#define KEY_LEN        12
#define EXPIRE_BATCHES 256
/* A batch of records spans at most this: where a search in time order may stop. */
#define SPAN_NS (60 * NS_PER_SEC)

static int part_of(struct mno_txn *txn, uint64_t last_ns, struct mno_txn **ret)
{
	return mno_txn_part(txn, MNO_CLASS_EVENT, (int64_t)(last_ns / NS_PER_MS), ret);
}

/* A key that is not there yet. */
static int new_key(struct mno_txn *txn, enum mno_db db, uint64_t last_ns, uint8_t key[KEY_LEN])
{
	const void *p;
	size_t len;

	mno_be64(key, last_ns);
	for (uint32_t seq = 0; seq < UINT32_MAX; seq++) {
		int r;

		mno_be32(key + 8, seq);
		r = mno_txn_get(txn, db, key, KEY_LEN, &p, &len);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
	}
	return -ENOSPC;
}

/* In a partition that stays: only where retention is shorter than a partition. */
static int expire_batches(struct mno_txn *txn, enum mno_db db, uint64_t t_ns, bool *ret_more)
{
	MDB_cursor *c;
	MDB_val k, v;
	bool more = true;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, txn->e->dbi[db], &c));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < EXPIRE_BATCHES && r == 0; i++) {
		r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));
		if (r == -ENOENT ||
			(r == 0 && k.mv_size == KEY_LEN && mno_get_be64(k.mv_data) >= t_ns)) {
			more = false;
			r = 0;
			break;
		}
		if (r == 0)
			r = mno_txn_error(txn, mdb_cursor_del(c, 0));
	}
	mdb_cursor_close(c);
	if (r == 0)
		*ret_more = more;
	return r;
}

static int expire(
	struct mno_store *s, struct mno_txn *txn, enum mno_db db, uint64_t t_ns, bool *ret_more)
{
	int64_t t_ms = (int64_t)(t_ns / NS_PER_MS), *parts = NULL;
	struct mno_txn *part;
	size_t n;
	int r = mno_store_drop(s, MNO_CLASS_EVENT, t_ms, &n);

	*ret_more = false;
	if (r == 0)
		r = mno_store_partitions(s, MNO_CLASS_EVENT, t_ms, INT64_MAX, &parts, &n);
	if (r == 0 && n == 1) /* it may begin later: what @t_ms is in need not be there */
		t_ms = parts[0];
	free(parts);
	if (r < 0 || n != 1)
		return r;
	r = mno_txn_part(txn, MNO_CLASS_EVENT, t_ms, &part);
	return r < 0 ? r : expire_batches(part, db, t_ns, ret_more);
}

static void note_damage(struct mno_store *e, const char *what, int err)
{
	if (atomic_fetch_add(&e->damaged, 1) == 0)
		mno_err("ledger: a stored batch of %s cannot be read and is left out: %s", what,
			mno_strerror(err));
}

/* --- rows -------------------------------------------------------------------------------------- */

static int by_end(const void *a, const void *b)
{
	const struct mno_proc *x = *(const struct mno_proc *const *)a;
	const struct mno_proc *y = *(const struct mno_proc *const *)b;

	return x->end_ns < y->end_ns ? -1 : x->end_ns > y->end_ns;
}

static int store_batch(struct mno_store *e, struct mno_txn *txn, const struct mno_proc *const *rows,
	size_t n, struct mno_buf *raw)
{
	struct mno_seal info = {.kind = MNO_SEAL_PROC,
		.count = (uint32_t)n,
		.a = UINT64_MAX,
		.b = rows[n - 1]->end_ns};
	struct mno_txn *part;
	uint8_t key[KEY_LEN];
	int r;

	for (size_t i = 0; i < n; i++)
		info.a = MNO_MIN(info.a, rows[i]->start_ns);
	mno_buf_reset(raw);
	r = batch_encode(rows, n, e->hash_key, raw);
	if (r == 0)
		r = part_of(txn, info.b, &part);
	if (r == 0)
		r = new_key(part, MNO_DB_PROC, info.b, key);
	if (r == 0)
		r = mno_seal_put(
			part, MNO_DB_PROC, key, sizeof(key), &info, raw->data, raw->len, NULL);
	return r;
}

/* How many rows from the first go into one batch, all of one partition. */
static size_t batch_rows(const struct mno_proc *const *rows, size_t n)
{
	size_t text = 0, i = 0;
	int64_t t0, t1;

	mno_class_bounds(MNO_CLASS_EVENT, (int64_t)(rows[0]->end_ns / NS_PER_MS), &t0, &t1);
	for (; i < n && i < BATCH_ROWS && (i == 0 || text < BATCH_TEXT) &&
		(int64_t)(rows[i]->end_ns / NS_PER_MS) < t1;
		i++)
		text += (rows[i]->exe ? strlen(rows[i]->exe) : 0) +
			(rows[i]->cgroup ? strlen(rows[i]->cgroup) : 0) + rows[i]->argv_len;
	return i;
}

int mno_ledger_store(
	struct mno_store *e, struct mno_txn *txn, const struct mno_proc *rows, size_t n)
{
	_cleanup_free_ const struct mno_proc **sorted = malloc(n * sizeof(*sorted) + 1);
	_cleanup_buf_ struct mno_buf raw = {0};
	int r = 0;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		sorted[i] = &rows[i];
	qsort(sorted, n, sizeof(*sorted), by_end);
	for (size_t i = 0, count; i < n && r == 0; i += count) {
		count = batch_rows(sorted + i, n - i);
		r = store_batch(e, txn, sorted + i, count, &raw);
	}
	return r;
}

/* A walk over batches; what kind of batch is in is the callback's. */
struct scan {
	struct mno_store *store;
	struct mno_env *e;
	enum mno_db db;
	bool backwards;
	uint64_t t0, t1;
	int (*batch)(struct scan *q); /* sets past, result */
	ZSTD_DCtx *z;
	struct mno_buf key, val, raw;
	struct mno_seal info;
	bool past;  /* no batch further on can be wanted */
	int result; /* of the caller's function, not 0: stop */
	int64_t boot_offset;
	int (*row)(void *arg, const struct mno_proc *p);
	int (*record)(void *arg, const void *rec, size_t len);
	void *arg;
};

static int open_batch(struct scan *q, enum mno_seal_kind kind)
{
	return mno_seal_open(q->e, q->db, q->z, q->key.data, q->key.len, q->val.data, q->val.len,
		kind, &q->info, &q->raw);
}

static int scan_env(struct scan *q)
{
	uint8_t from[KEY_LEN];
	int r;

	memset(from, q->backwards ? 0xff : 0, sizeof(from));
	if (!q->backwards)
		mno_be64(from, q->t0);
	r = mno_env_fetch(q->e, q->db, q->backwards ? MNO_SEEK_LE : MNO_SEEK_GE, from, KEY_LEN,
		&q->key, &q->val);
	while (r == 0 && q->key.len == KEY_LEN) {
		if (q->backwards && mno_get_be64((uint8_t *)q->key.data) < q->t0)
			break;
		r = q->batch(q);
		if (r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY) {
			note_damage(q->store, mno_db_name(q->db), r);
			r = 0;
		}
		if (r < 0 || q->past || q->result)
			break;
		r = mno_env_fetch(q->e, q->db, q->backwards ? MNO_SEEK_LT : MNO_SEEK_GT,
			q->key.data, q->key.len, &q->key, &q->val);
	}
	return r == -ENOENT ? 0 : r;
}

/* Of each partition that has batches with a last time from t0 to @end. */
static int scan_parts(struct scan *q, uint64_t end_ns)
{
	_cleanup_free_ int64_t *parts = NULL;
	size_t n = 0;
	int r = mno_store_partitions(q->store, MNO_CLASS_EVENT, (int64_t)(q->t0 / NS_PER_MS),
		(int64_t)(end_ns / NS_PER_MS), &parts, &n);

	for (size_t i = 0; i < n && r == 0 && !q->past && !q->result; i++) {
		r = mno_store_env(q->store, MNO_CLASS_EVENT, parts[q->backwards ? n - 1 - i : i],
			false, &q->e);
		if (r == 0) {
			r = scan_env(q);
			mno_env_unref(q->e);
		} else if (r != -ENOMEM) { /* gone meanwhile, or damaged as a whole */
			if (r != -ENOENT)
				note_damage(q->store, "partition", r);
			r = 0;
		}
	}
	return r;
}

static int scan(struct scan *q, uint64_t end_ns)
{
	int r;

	q->z = ZSTD_createDCtx();
	r = q->z ? scan_parts(q, end_ns) : -ENOMEM;
	ZSTD_freeDCtx(q->z);
	mno_buf_done(&q->key);
	mno_buf_done(&q->val);
	mno_buf_done(&q->raw);
	return q->result ?: r;
}

static int scan_rows(struct scan *q)
{
	_cleanup_free_ struct mno_proc *rows = NULL;
	size_t n = 0;
	int r = mno_seal_peek(
		q->key.data, q->key.len, q->val.data, q->val.len, MNO_SEAL_PROC, &q->info);

	if (r == 0 && q->info.a > q->t1)
		return 0;
	if (r == 0)
		r = open_batch(q, MNO_SEAL_PROC);
	if (r == 0)
		r = batch_decode((uint8_t *)q->raw.data, q->raw.len, &rows, &n);
	for (size_t i = n; i-- > 0 && r == 0 && !q->result;)
		if (rows[i].end_ns >= q->t0 && rows[i].start_ns <= q->t1)
			q->result = q->row(q->arg, &rows[i]);
	return r;
}

int mno_ledger_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	struct scan q = {.store = e,
		.db = MNO_DB_PROC,
		.backwards = true,
		.batch = scan_rows,
		.t0 = t0_ns,
		.t1 = t1_ns,
		.row = fn,
		.arg = arg};

	return scan(&q, UINT64_MAX);
}

int mno_ledger_expire(struct mno_store *e, struct mno_txn *txn, uint64_t t_ns, bool *ret_more)
{
	return expire(e, txn, MNO_DB_PROC, t_ns, ret_more);
}

/* --- records -------------------------------------------------------------------------------------- */

/* Walks back-to-back records; false if a size cannot be. *@ret_min: earliest ktime. */
static bool records_check(const void *p, size_t len, uint64_t *ret_min)
{
	uint64_t min = UINT64_MAX;
	struct mno_hdr h;

	for (size_t at = 0; at < len; at += h.size) {
		if (len - at < sizeof(h))
			return false;
		memcpy(&h, (const char *)p + at, sizeof(h));
		if (h.size < sizeof(h) || h.size > len - at || h.size % 8)
			return false;
		min = MNO_MIN(min, (uint64_t)h.ktime);
	}
	*ret_min = min;
	return true;
}

int mno_events_store(struct mno_store *e, struct mno_txn *txn, uint64_t first_ns, uint64_t last_ns,
	const void *records, size_t len, uint32_t count)
{
	struct mno_seal info = {
		.kind = MNO_SEAL_EVENT, .count = count, .a = first_ns, .b = last_ns};
	struct mno_txn *part;
	uint8_t key[KEY_LEN];
	uint64_t min;
	int r;

	if (first_ns > last_ns || !records_check(records, len, &min))
		return -EINVAL;
	if (len == 0)
		return 0;
	r = part_of(txn, last_ns, &part);
	if (r == 0)
		r = new_key(part, MNO_DB_EVENT, last_ns, key);
	if (r < 0)
		return r;
	return mno_seal_put(part, MNO_DB_EVENT, key, sizeof(key), &info, records, len, NULL);
}

static void visit_records(struct scan *q, uint64_t offset)
{
	for (size_t at = 0; at < q->raw.len && !q->result;) {
		struct mno_hdr *h = (struct mno_hdr *)(q->raw.data + at);
		uint64_t t = h->ktime + offset;

		at += h->size;
		if (t < q->t0 || t > q->t1)
			continue;
		h->ktime = t - (uint64_t)q->boot_offset;
		q->result = q->record(q->arg, h, h->size);
	}
}

static int scan_records(struct scan *q)
{
	uint64_t min = 0;
	int r = mno_seal_peek(
		q->key.data, q->key.len, q->val.data, q->val.len, MNO_SEAL_EVENT, &q->info);

	if (r == 0 && q->info.a > q->t1) {
		q->past = q->info.a - q->t1 > SPAN_NS;
		return 0;
	}
	if (r == 0)
		r = open_batch(q, MNO_SEAL_EVENT);
	if (r == 0 && !records_check(q->raw.data, q->raw.len, &min))
		r = -MNO_ECORRUPT;
	if (r == 0)
		visit_records(q, q->info.a - min);
	return r;
}

int mno_events_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const void *rec, size_t len), void *arg)
{
	struct scan q = {.store = e,
		.db = MNO_DB_EVENT,
		.batch = scan_records,
		.t0 = t0_ns,
		.t1 = t1_ns,
		.record = fn,
		.arg = arg,
		.boot_offset = mno_boot_offset_ns()};

	return scan(&q, t1_ns > UINT64_MAX - SPAN_NS ? UINT64_MAX : t1_ns + SPAN_NS);
}

int mno_events_expire(struct mno_store *e, struct mno_txn *txn, uint64_t t_ns, bool *ret_more)
{
	return expire(e, txn, MNO_DB_EVENT, t_ns, ret_more);
}
