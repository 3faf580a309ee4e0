/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes on in the background, in steps of a few milliseconds between other writers: filling
 * new indexes, emptying dropped ones, letting go of old changes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../store/quarantine.h"
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_clock.h"
#include "mno/time.h"

#define IDLE_NS  (500 * NS_PER_MS)
#define PAUSE_NS (1 * NS_PER_MS) /* between steps: others get in */
#define AGE_NS   (60 * NS_PER_SEC)

static struct docs_cat_index *index_by_id(const struct docs_cat *c, uint32_t id)
{
	for (size_t i = 0; i < c->n_idx; i++)
		if (c->idx[i].id == id)
			return &c->idx[i];
	return NULL;
}

/* --- building ------------------------------------------------------------------------------------ */

/* Where an index is: documents done, key of the last one. */
static int read_place(struct mno_docs_txn *t, const struct docs_cat_index *x, uint64_t *ret_done,
	uint8_t *key, size_t *ret_len)
{
	_cleanup_buf_ struct mno_buf row = {0};
	int r = docs_meta_get(t->d, t->t, DOCS_META_BUILD, x->id, &row);
	struct mno_reader in;

	mno_be32(key, x->coll_id);
	*ret_len = 4;
	*ret_done = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	in = (struct mno_reader){
		(const uint8_t *)row.data, (const uint8_t *)row.data + row.len, false};
	*ret_done = mno_read_varint(&in);
	if (in.bad || mno_reader_left(&in) > MNO_DOC_ID_MAX)
		return -MNO_ECORRUPT;
	*ret_len = docs_key(key, x->coll_id, in.p, mno_reader_left(&in));
	return 0;
}

static int write_place(struct mno_docs_txn *t, const struct docs_cat_index *x, uint64_t done,
	const uint8_t *key, size_t len)
{
	_cleanup_buf_ struct mno_buf row = {0};

	mno_varint_add(&row, done);
	mno_buf_add(&row, key + 4, len - 4);
	return docs_meta_put(t->d, t->t, DOCS_META_BUILD, x->id, &row);
}

static int build_doc(struct mno_docs_txn *t, const struct docs_cat_index *x, unsigned pos,
	const MDB_val *k, const MDB_val *v)
{
	struct docs_entries *e = &t->new_entries;
	struct docs_head h;
	struct mno_doc doc;
	int r = docs_seal_open(
		t->d, MNO_DB_DOC, k->mv_data, k->mv_size, v->mv_data, v->mv_size, &h, &t->value);

	if (r == 0)
		r = docs_doc_read(&h, &t->value, &doc);
	if (r == 0)
		r = docs_entries_read(e, x->coll, pos, doc.kind, doc.value, doc.len, t->err);
	for (size_t i = 0; r == 0 && i < e->n; i++)
		r = docs_pend_add(t, x, docs_entry_bytes(e, i), e->v[i].len,
			(const char *)k->mv_data + 4, k->mv_size - 4, false);
	return r;
}

static int finish_build(struct mno_docs_txn *t, const struct docs_cat_index *x)
{
	struct docs_cat_index copy = *x;
	int r = docs_meta_del(t->d, t->t, DOCS_META_BUILD, x->id);

	copy.state = MNO_DOC_INDEX_READY;
	if (r == 0 || r == -ENOENT)
		r = docs_index_put(t->d, t->t, &copy);
	return r < 0 ? r : docs_txn_recat(t);
}

static unsigned position(const struct docs_cat_index *x)
{
	unsigned i = 0;

	while (x->coll->idx[i] != x)
		i++;
	return i;
}

/* Documents after @key, up to the bound of a step; @key and @done move on. 1: there are more. */
static int build_some(struct mno_docs_txn *t, const struct docs_cat_index *x, MDB_cursor *cur,
	uint8_t *key, size_t *len, uint64_t *done)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + DOCS_STEP_NS;
	MDB_val k = {*len, key}, v;
	int r = 0, rc = mno_cursor_seek(cur, MNO_SEEK_GT, &k, &v);

	for (unsigned n = 0; rc == 0 && !memcmp(k.mv_data, key, 4); n++) {
		if (n == DOCS_STEP_DOCS || (n && mno_now_ns(CLOCK_MONOTONIC) > end))
			return 1;
		if (k.mv_size > DOCS_KEY_LEN)
			return -MNO_ECORRUPT;
		r = build_doc(t, x, position(x), &k, &v);
		if (r < 0)
			return r;
		memcpy(key, k.mv_data, k.mv_size);
		*len = k.mv_size;
		++*done;
		rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
	}
	return rc && rc != MDB_NOTFOUND ? mno_lmdb_error(rc) : 0;
}

static int build_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	struct docs_cat_index *x = index_by_id(t->cat, s->id);
	uint8_t key[DOCS_KEY_LEN];
	uint64_t done;
	MDB_cursor *cur;
	size_t len;
	int r;

	s->more = true;
	if (!x || x->state != MNO_DOC_INDEX_BUILDING)
		return 0;
	r = read_place(t, x, &done, key, &len);
	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_open(t->t, t->d->e->dbi[MNO_DB_DOC], &cur));
	if (r < 0)
		return r;
	r = build_some(t, x, cur, key, &len, &done);
	mdb_cursor_close(cur);
	if (r < 0)
		return r;
	return r ? write_place(t, x, done, key, len) : finish_build(t, x);
}

/* --- dropping ------------------------------------------------------------------------------------ */

/* Deletes up to DOCS_STEP_DOCS keys of @db that begin with @id. 1: there are more. */
static int clear_some(struct mno_docs_txn *t, enum mno_db db, uint32_t id)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + DOCS_STEP_NS;
	uint8_t from[4];
	MDB_val k = {4, from}, v;
	MDB_cursor *cur;
	int rc, r = mno_lmdb_error(mdb_cursor_open(t->t, t->d->e->dbi[db], &cur));
	bool more = true;

	if (r < 0)
		return r;
	mno_be32(from, id);
	rc = mdb_cursor_get(cur, &k, &v, MDB_SET_RANGE);
	for (unsigned n = 0; rc == 0; n++) {
		more = !memcmp(k.mv_data, from, 4);
		if (!more || n == 8 * DOCS_STEP_DOCS || mno_now_ns(CLOCK_MONOTONIC) > end)
			break;
		rc = mdb_cursor_del(cur, 0);
		if (rc == 0)
			rc = mdb_cursor_get(cur, &k, &v, MDB_GET_CURRENT);
		if (rc == EINVAL)
			rc = MDB_NOTFOUND; /* the last one of the database is gone */
	}
	mdb_cursor_close(cur);
	if (rc && rc != MDB_NOTFOUND)
		return mno_lmdb_error(rc);
	return rc == 0 && more;
}

static int drop_index_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	int r = clear_some(t, MNO_DB_DOC_IDX, s->id);

	if (r == 0)
		r = clear_some(t, MNO_DB_DOC_UNIQ, s->id);
	s->more = true;
	if (r)
		return MNO_MIN(r, 0);
	r = docs_meta_del(t->d, t->t, DOCS_META_INDEX, s->id);
	return r < 0 ? r : docs_txn_recat(t);
}

static int drop_coll_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	int r = clear_some(t, MNO_DB_DOC_OLD, s->id);

	if (r == 0)
		r = clear_some(t, MNO_DB_DOC, s->id);
	s->more = true;
	if (r)
		return MNO_MIN(r, 0);
	r = docs_meta_del(t->d, t->t, DOCS_META_COLL, s->id);
	return r < 0 ? r : docs_txn_recat(t);
}

static int trim_step(void *arg, struct mno_docs_txn *t)
{
	struct docs_step *s = arg;
	int r = docs_feed_trim(t, 256);

	s->more = r == 1;
	return MNO_MIN(r, 0);
}

/* --- choosing ------------------------------------------------------------------------------------ */

/* What there is to do: a building index first, what is dropped, a migration, old changes. */
static docs_step_fn choose(
	struct mno_docs *d, const struct docs_cat *c, MDB_txn *t, struct docs_step *s)
{
	struct docs_head h;
	MDB_cursor *cur;
	MDB_val k, v;
	bool old = false;
	docs_step_fn fn;

	d->polite = false;
	for (size_t i = 0; i < c->n_idx; i++) {
		s->id = c->idx[i].id;
		s->grows = c->idx[i].state == MNO_DOC_INDEX_BUILDING;
		if (s->grows)
			return build_step;
	}
	for (size_t i = 0; i < c->n_idx; i++) {
		s->id = c->idx[i].id;
		if (c->idx[i].state == MNO_DOC_INDEX_DROPPING)
			return drop_index_step;
	}
	for (size_t i = 0; i < c->n_coll; i++) {
		s->id = c->coll[i].id;
		if (c->coll[i].dropping)
			return drop_coll_step;
	}
	fn = docs_form_due(d, t, s);
	d->polite = fn != NULL;
	if (fn)
		return fn;
	if (mdb_cursor_open(t, d->e->dbi[MNO_DB_DOC_FEED], &cur))
		return NULL;
	if (mdb_cursor_get(cur, &k, &v, MDB_FIRST) == 0 &&
		docs_seal_peek(v.mv_data, v.mv_size, &h) == 0)
		old = (uint64_t)MNO_MAX(mno_store_now_ms(d->e->store), 0) >
		      h.number + d->opts.feed_age_ms;
	mdb_cursor_close(cur);
	return old ? trim_step : NULL;
}

struct failure {
	uint32_t id;
	const char *why;
};

static int mark_failed(void *arg, struct mno_docs_txn *t)
{
	const struct failure *f = arg;
	struct docs_cat_index *x = index_by_id(t->cat, f->id);

	if (!x || x->state != MNO_DOC_INDEX_BUILDING)
		return 0;
	return docs_txn_index_failed(t, x, f->why);
}

/* Documents that the index cannot hold: it is told so, and the rest goes on. */
static bool is_about_documents(int r)
{
	return r == -MNO_EUNIQUE || r == -EINVAL || r == -MNO_ELIMIT || r == -MNO_ECORRUPT;
}

static int quarantine_step(void *arg, struct mno_txn *t)
{
	return mno_quarantine_run(t);
}

int mno_docs_work(struct mno_docs *d)
{
	struct mno_docs_error err = {0};
	struct docs_cat *c;
	struct docs_step s = {0};
	docs_step_fn fn = NULL;
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	if (mno_quarantine_waits(d->e)) {
		mno_read_end(d->e, t);
		return mno_committer_run(d->committer, quarantine_step, NULL, true) ?: 1;
	}
	r = docs_cat_get(d, t, &c);
	if (r == 0) {
		fn = choose(d, c, t, &s);
		docs_cat_unref(c);
	}
	mno_read_end(d->e, t);
	if (!fn)
		return r == 0 && docs_reseal_due(d) ? docs_reseal(d) : r;
	r = docs_submit(d, fn, &s, !s.grows, &err);
	if (r < 0 && d->polite && docs_form_failed(d, r))
		return 1;
	if (fn == build_step && is_about_documents(r)) {
		struct failure f = {s.id, err.msg};

		mno_warn("docs: an index could not be built: %s", err.msg);
		r = docs_submit(d, mark_failed, &f, true, NULL);
	}
	return r < 0 ? r : s.more;
}

static void wait_for_work(struct mno_docs *d, uint64_t ns)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + ns;
	struct timespec ts = {(time_t)(end / NS_PER_SEC), (long)(end % NS_PER_SEC)};

	pthread_mutex_lock(&d->lock);
	while (!d->stopping && !(d->kicked && ns == IDLE_NS))
		if (pthread_cond_timedwait(&d->cond, &d->lock, &ts))
			break;
	d->kicked = false;
	pthread_mutex_unlock(&d->lock);
}

static void *worker_main(void *arg)
{
	struct mno_docs *d = arg;
	uint64_t told = 0;

	while (!d->stopping) {
		uint64_t begin = mno_now_ns(CLOCK_MONOTONIC), now;
		int r = mno_docs_work(d);

		now = mno_now_ns(CLOCK_MONOTONIC);
		if (r < 0 && now - told > AGE_NS) {
			mno_warn("docs: background work waits: %s", mno_strerror(r));
			told = now;
		}
		/* a migration takes half of the time at most */
		wait_for_work(d, r != 1      ? IDLE_NS
				 : d->polite ? MNO_MAX(now - begin, PAUSE_NS)
					     : PAUSE_NS);
		docs_snaps_reap(d, now);
	}
	return NULL;
}

int docs_worker_start(struct mno_docs *d)
{
	int r = -pthread_create(&d->worker, NULL, worker_main, d);

	d->worker_runs = r == 0;
	return r;
}

void docs_worker_stop(struct mno_docs *d)
{
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	if (d->worker_runs)
		pthread_join(d->worker, NULL);
	d->worker_runs = false;
}
