/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of rows and of records in the environment: key = last time | sequence number. */
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

static int expire(
	struct mno_store *e, struct mno_txn *txn, enum mno_db db, uint64_t t_ns, bool *ret_more)
{
	MDB_cursor *c;
	MDB_val k, v;
	bool more = true;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, e->dbi[db], &c));

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
	uint8_t key[KEY_LEN];
	int r;

	for (size_t i = 0; i < n; i++)
		info.a = MNO_MIN(info.a, rows[i]->start_ns);
	mno_buf_reset(raw);
	r = batch_encode(rows, n, e->hash_key, raw);
	if (r == 0)
		r = new_key(txn, MNO_DB_PROC, info.b, key);
	if (r == 0)
		r = mno_seal_put(
			txn, MNO_DB_PROC, key, sizeof(key), &info, raw->data, raw->len, NULL);
	return r;
}

/* How many rows from the first go into one batch. */
static size_t batch_rows(const struct mno_proc *const *rows, size_t n)
{
	size_t text = 0, i = 0;

	for (; i < n && i < BATCH_ROWS && (i == 0 || text < BATCH_TEXT); i++)
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

struct row_scan {
	struct mno_store *e;
	uint64_t t0, t1;
	int (*fn)(void *arg, const struct mno_proc *p);
	void *arg;
	ZSTD_DCtx *z;
	struct mno_buf key, val, raw;
	int result; /* of fn, not 0: stop */
};

static int scan_batch(struct row_scan *q)
{
	_cleanup_free_ struct mno_proc *rows = NULL;
	struct mno_seal info;
	size_t n = 0;
	int r = mno_seal_peek(
		q->key.data, q->key.len, q->val.data, q->val.len, MNO_SEAL_PROC, &info);

	if (r == 0 && info.a > q->t1)
		return 0;
	if (r == 0)
		r = mno_seal_open(q->z, q->key.data, q->key.len, q->val.data, q->val.len,
			MNO_SEAL_PROC, &info, &q->raw);
	if (r == 0)
		r = batch_decode((uint8_t *)q->raw.data, q->raw.len, &rows, &n);
	if (r == -MNO_ECORRUPT || r == -MNO_EVERSION) {
		note_damage(q->e, "processes", r);
		return 0;
	}
	for (size_t i = n; i-- > 0 && r == 0 && !q->result;)
		if (rows[i].end_ns >= q->t0 && rows[i].start_ns <= q->t1)
			q->result = q->fn(q->arg, &rows[i]);
	return r;
}

int mno_ledger_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	struct row_scan q = {.e = e, .t0 = t0_ns, .t1 = t1_ns, .fn = fn, .arg = arg};
	uint8_t top[KEY_LEN];
	int r;

	memset(top, 0xff, sizeof(top));
	q.z = ZSTD_createDCtx();
	r = q.z ? mno_store_fetch(e, MNO_DB_PROC, MNO_SEEK_LE, top, KEY_LEN, &q.key, &q.val)
		: -ENOMEM;
	while (r == 0 && q.key.len == KEY_LEN && mno_get_be64((uint8_t *)q.key.data) >= t0_ns) {
		r = scan_batch(&q);
		if (r < 0 || q.result)
			break;
		r = mno_store_fetch(
			e, MNO_DB_PROC, MNO_SEEK_LT, q.key.data, q.key.len, &q.key, &q.val);
	}
	ZSTD_freeDCtx(q.z);
	mno_buf_done(&q.key);
	mno_buf_done(&q.val);
	mno_buf_done(&q.raw);
	if (q.result)
		return q.result;
	return r == -ENOENT ? 0 : r;
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
	uint8_t key[KEY_LEN];
	uint64_t min;
	int r;

	if (first_ns > last_ns || !records_check(records, len, &min))
		return -EINVAL;
	if (len == 0)
		return 0;
	r = new_key(txn, MNO_DB_EVENT, last_ns, key);
	if (r < 0)
		return r;
	return mno_seal_put(txn, MNO_DB_EVENT, key, sizeof(key), &info, records, len, NULL);
}

struct event_scan {
	struct mno_store *e;
	uint64_t t0, t1;
	int64_t boot_offset; /* of the present boot */
	int (*fn)(void *arg, const void *rec, size_t len);
	void *arg;
	ZSTD_DCtx *z;
	struct mno_buf key, val, raw;
	bool past;  /* no later batch can have a record in the range */
	int result; /* of fn, not 0: stop */
};

static void scan_records(struct event_scan *q, uint64_t offset)
{
	for (size_t at = 0; at < q->raw.len && !q->result;) {
		struct mno_hdr *h = (struct mno_hdr *)(q->raw.data + at);
		uint64_t t = h->ktime + offset;

		at += h->size;
		if (t < q->t0 || t > q->t1)
			continue;
		h->ktime = t - (uint64_t)q->boot_offset;
		q->result = q->fn(q->arg, h, h->size);
	}
}

static int scan_events(struct event_scan *q)
{
	struct mno_seal info;
	uint64_t min = 0;
	int r = mno_seal_peek(
		q->key.data, q->key.len, q->val.data, q->val.len, MNO_SEAL_EVENT, &info);

	if (r == 0 && info.a > q->t1) {
		q->past = info.a - q->t1 > SPAN_NS;
		return 0;
	}
	if (r == 0)
		r = mno_seal_open(q->z, q->key.data, q->key.len, q->val.data, q->val.len,
			MNO_SEAL_EVENT, &info, &q->raw);
	if (r == 0 && !records_check(q->raw.data, q->raw.len, &min))
		r = -MNO_ECORRUPT;
	if (r == -MNO_ECORRUPT || r == -MNO_EVERSION) {
		note_damage(q->e, "events", r);
		return 0;
	}
	if (r == 0)
		scan_records(q, info.a - min);
	return r;
}

int mno_events_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const void *rec, size_t len), void *arg)
{
	struct event_scan q = {.e = e,
		.t0 = t0_ns,
		.t1 = t1_ns,
		.fn = fn,
		.arg = arg,
		.boot_offset = mno_boot_offset_ns()};
	uint8_t from[KEY_LEN] = {0};
	int r;

	mno_be64(from, t0_ns);
	q.z = ZSTD_createDCtx();
	r = q.z ? mno_store_fetch(e, MNO_DB_EVENT, MNO_SEEK_GE, from, KEY_LEN, &q.key, &q.val)
		: -ENOMEM;
	while (r == 0) {
		r = scan_events(&q);
		if (r < 0 || q.past || q.result)
			break;
		r = mno_store_fetch(
			e, MNO_DB_EVENT, MNO_SEEK_GT, q.key.data, q.key.len, &q.key, &q.val);
	}
	ZSTD_freeDCtx(q.z);
	mno_buf_done(&q.key);
	mno_buf_done(&q.val);
	mno_buf_done(&q.raw);
	if (q.result)
		return q.result;
	return r == -ENOENT ? 0 : r;
}

int mno_events_expire(struct mno_store *e, struct mno_txn *txn, uint64_t t_ns, bool *ret_more)
{
	return expire(e, txn, MNO_DB_EVENT, t_ns, ret_more);
}
