/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The change feed. A chunk holds changes of one transaction: per change u8 op and flags, names
 * unless as before, id, and of a put kind, creation time, value. Its number is its time.
 */
#include <errno.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/time.h"

enum { F_SAME_COLL = 0x10, F_VALUE = 0x20, OP_MASK = 0x0f };

static void add_bytes(struct mno_buf *b, const void *p, size_t n)
{
	mno_varint_add(b, n);
	mno_buf_add(b, p, n);
}

static bool has_value(uint8_t op)
{
	return op == MNO_DOC_CHANGE_PUT || op == MNO_DOC_CHANGE_INDEX ||
	       op == MNO_DOC_CHANGE_INDEX_FAILED || op == MNO_DOC_CHANGE_QUOTA;
}

int docs_feed_add(struct mno_docs_txn *t, enum mno_doc_change_op op,
	const struct docs_cat_coll *coll, const struct mno_doc *doc)
{
	bool same = t->feed_n && t->feed_coll == coll->id;
	bool value = op == MNO_DOC_CHANGE_PUT ? !t->d->opts.feed_without_values : has_value(op);
	struct mno_buf *b = &t->feed;

	if (!t->feed_n)
		t->feed_first = t->state.next_seq - 1;
	mno_buf_addc(b, (char)(op | (same ? F_SAME_COLL : 0) | (value ? F_VALUE : 0)));
	if (!same) {
		add_bytes(b, coll->ns->name, strlen(coll->ns->name));
		add_bytes(b, coll->name, strlen(coll->name));
	}
	add_bytes(b, doc->id, doc->id_len);
	if (has_value(op)) {
		mno_buf_addc(b, (char)doc->kind);
		mno_varint_add(b, mno_zigzag(doc->created_ms));
		if (value)
			add_bytes(b, doc->value, doc->len);
	}
	t->feed_coll = coll->id;
	t->feed_n++;
	if (b->err)
		return b->err;
	return b->len >= DOCS_CHUNK ? docs_feed_flush(t, false) : 0;
}

int docs_feed_flush(struct mno_docs_txn *t, bool end)
{
	const struct docs_head h = {
		.kind = DOCS_SEAL_FEED, .number = (uint64_t)MNO_MAX(t->now_ms, 0)};
	size_t stored = 0;
	uint8_t key[8];
	int r = 0;

	if (t->feed_n) {
		mno_be64(key, t->feed_first);
		r = docs_seal_put(t->d, t->t, MNO_DB_DOC_FEED, key, sizeof(key), &h, t->feed.data,
			t->feed.len, MDB_APPEND, &stored);
		if (r == -EEXIST)
			r = -MNO_ECORRUPT; /* numbers only grow */
		t->state.feed_bytes += stored;
		t->feed_n = 0;
		mno_buf_reset(&t->feed);
		if (r == 0)
			r = docs_feed_trim(t, end ? 4 : 2);
	}
	return r < 0 ? r : 0;
}

static bool too_old(const struct mno_docs_txn *t, const MDB_val *v)
{
	struct docs_head h;

	return docs_seal_peek(v->mv_data, v->mv_size, &h) == 0 && t->now_ms > 0 &&
	       (uint64_t)t->now_ms > h.number + t->d->opts.feed_age_ms;
}

int docs_feed_trim(struct mno_docs_txn *t, unsigned max)
{
	MDB_cursor *cur;
	MDB_val k, v;
	int rc, r = mno_lmdb_error(mdb_cursor_open(t->t, t->d->e->dbi[MNO_DB_DOC_FEED], &cur));
	bool more = true;

	if (r < 0)
		return r;
	for (rc = 0; rc == 0 && more && max; max--) {
		rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST);
		more = rc == 0 && (t->state.feed_bytes > t->d->opts.feed_bytes || too_old(t, &v));
		if (!more)
			break;
		t->state.feed_bytes -= MNO_MIN(t->state.feed_bytes, v.mv_size);
		rc = mdb_cursor_del(cur, 0);
	}
	mdb_cursor_close(cur);
	if (rc && rc != MDB_NOTFOUND)
		return mno_lmdb_error(rc);
	return more && rc == 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct chunk {
	struct mno_buf raw;
	uint64_t first;
	int64_t time_ms;
};

static void read_name(struct mno_reader *r, char *ret)
{
	size_t n = mno_read_varint(r);
	const uint8_t *p = n <= MNO_DOC_NAME_MAX ? mno_read_bytes(r, n) : NULL;

	r->bad |= !p;
	memcpy(ret, p ?: (const uint8_t *)"", p ? n : 0);
	ret[p ? n : 0] = 0;
}

static void read_put(struct mno_reader *r, uint8_t op, struct mno_doc_change *c)
{
	c->doc.kind = mno_read_u8(r);
	c->doc.created_ms = mno_unzigzag(mno_read_varint(r));
	c->doc.updated_ms = c->time_ms;
	c->doc.version = c->seq;
	if (op & F_VALUE) {
		c->doc.len = mno_read_varint(r);
		c->doc.value = mno_read_bytes(r, c->doc.len);
	}
}

/* Gives what is in @c from @from on. *@ret_next: the number after its last change. */
static int give_chunk(const struct chunk *c, uint64_t from,
	int (*fn)(void *arg, const struct mno_doc_change *c), void *arg, uint64_t *ret_next)
{
	const uint8_t *p = (const uint8_t *)c->raw.data;
	struct mno_reader r = {p, p + c->raw.len, false};
	char ns[MNO_DOC_NAME_MAX + 1] = "", coll[MNO_DOC_NAME_MAX + 1] = "";
	uint64_t seq = c->first;
	int e = 0;

	for (; e == 0 && mno_reader_left(&r); seq++) {
		struct mno_doc_change ch = {
			.seq = seq, .time_ms = c->time_ms, .ns = ns, .coll = coll};
		uint8_t op = mno_read_u8(&r);

		ch.op = op & OP_MASK;
		if (!(op & F_SAME_COLL)) {
			read_name(&r, ns);
			read_name(&r, coll);
		}
		ch.doc.id_len = mno_read_varint(&r);
		ch.doc.id = mno_read_bytes(&r, ch.doc.id_len);
		if (has_value(ch.op))
			read_put(&r, op, &ch);
		if (r.bad || ch.op < MNO_DOC_CHANGE_PUT || ch.op >= MNO_DOC_CHANGE_MAX)
			return -MNO_ECORRUPT;
		if (seq < from)
			continue;
		e = fn(arg, &ch);
		*ret_next = seq + 1;
	}
	return e;
}

/* The chunk that has @seq, copied; *@ret_oldest when it has gone. -ENOENT: not there yet. */
static int load_chunk(struct mno_docs *d, uint64_t seq, struct chunk *ret, uint64_t *ret_oldest)
{
	struct docs_state state;
	struct docs_head h;
	uint8_t from[8];
	MDB_val k = {8, from}, v;
	MDB_cursor *cur;
	MDB_txn *t;
	int rc, r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_state_get(d, t, &state);
	if (r == 0 && seq >= state.next_seq)
		r = -ENOENT;
	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_open(t, d->e->dbi[MNO_DB_DOC_FEED], &cur));
	if (r < 0) {
		mno_read_end(d->e, t);
		return r;
	}
	mno_be64(from, seq);
	rc = mno_cursor_seek(cur, MNO_SEEK_LE, &k, &v);
	if (rc == MDB_NOTFOUND) {
		rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST);
		*ret_oldest = rc || k.mv_size != 8 ? state.next_seq : mno_get_be64(k.mv_data);
		r = rc && rc != MDB_NOTFOUND ? mno_lmdb_error(rc) : -MNO_EGONE;
	} else if (rc || k.mv_size != 8) {
		r = rc ? mno_lmdb_error(rc) : -MNO_ECORRUPT;
	} else {
		ret->first = mno_get_be64(k.mv_data);
		r = docs_seal_open(
			d, MNO_DB_DOC_FEED, k.mv_data, 8, v.mv_data, v.mv_size, &h, &ret->raw);
		ret->time_ms = (int64_t)h.number;
	}
	mdb_cursor_close(cur);
	mno_read_end(d->e, t);
	return r;
}

int mno_docs_feed_read(struct mno_docs *d, uint64_t from,
	int (*fn)(void *arg, const struct mno_doc_change *c), void *arg, uint64_t *ret_next)
{
	struct chunk c = {.raw = {0}};
	uint64_t next = MNO_MAX(from, 1u), oldest = 0;
	int r = 0;

	while (r == 0) {
		uint64_t before = next;

		r = load_chunk(d, next, &c, &oldest);
		if (r == 0)
			r = give_chunk(&c, next, fn, arg, &next);
		if (r == 0 && next == before)
			r = -MNO_ECORRUPT; /* a chunk without what it must have */
	}
	mno_buf_done(&c.raw);
	*ret_next = r == -MNO_EGONE ? oldest : next;
	return r == -ENOENT ? 0 : r;
}

int mno_docs_feed_bounds(struct mno_docs *d, uint64_t *ret_oldest, uint64_t *ret_next)
{
	struct docs_state state;
	struct mno_buf key = {0};
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_state_get(d, t, &state);
	mno_read_end(d->e, t);
	if (r < 0)
		return r;
	r = mno_env_fetch(d->e, MNO_DB_DOC_FEED, MNO_SEEK_GE, "", 1, &key, NULL);
	if (r == 0 || r == -ENOENT) {
		*ret_oldest =
			r == 0 && key.len == 8 ? mno_get_be64((uint8_t *)key.data) : state.next_seq;
		*ret_next = state.next_seq;
		r = 0;
	}
	mno_buf_done(&key);
	return r;
}

/* --- waiting ---------------------------------------------------------------------------------- */

void docs_committed(struct mno_docs *d, uint64_t next_seq, bool kick)
{
	pthread_mutex_lock(&d->lock);
	d->committed_seq = MNO_MAX(d->committed_seq, next_seq);
	d->kicked |= kick;
	pthread_cond_broadcast(&d->cond);
	for (unsigned i = 0; i < d->n_watch; i++)
		d->watch[i].fn(d->watch[i].arg);
	pthread_mutex_unlock(&d->lock);
}

int mno_docs_feed_wait(struct mno_docs *d, uint64_t seq, uint64_t timeout_ns)
{
	uint64_t now = mno_now_ns(CLOCK_MONOTONIC), end = now + MNO_MIN(timeout_ns, UINT64_MAX / 4);
	struct timespec ts = {(time_t)(end / NS_PER_SEC), (long)(end % NS_PER_SEC)};
	int r = 0;

	pthread_mutex_lock(&d->lock);
	while (r == 0 && !d->stopping && d->committed_seq <= seq)
		r = -pthread_cond_timedwait(&d->cond, &d->lock, &ts);
	if (d->stopping)
		r = -ESHUTDOWN;
	else if (d->committed_seq > seq)
		r = 0;
	pthread_mutex_unlock(&d->lock);
	return r;
}

int mno_docs_watch(struct mno_docs *d, void (*fn)(void *arg), void *arg, unsigned *ret_id)
{
	int r = -EMFILE;

	pthread_mutex_lock(&d->lock);
	if (d->n_watch < DOCS_WATCH_MAX) {
		*ret_id = ++d->watch_id;
		d->watch[d->n_watch++] = (struct docs_watch){*ret_id, fn, arg};
		r = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

void mno_docs_unwatch(struct mno_docs *d, unsigned id)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < d->n_watch; i++)
		if (d->watch[i].id == id)
			d->watch[i--] = d->watch[--d->n_watch];
	pthread_mutex_unlock(&d->lock);
}
