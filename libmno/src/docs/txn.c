/* SPDX-License-Identifier: Apache-2.0 */
/* Write transactions: one document at a time, and what belongs to the end of all. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/time.h"

size_t docs_key(uint8_t *key, uint32_t coll, const void *id, size_t id_len)
{
	mno_be32(key, coll);
	memcpy(key + 4, id, id_len);
	return 4 + id_len;
}

void docs_txn_free(struct mno_docs_txn *t)
{
	if (!t)
		return;
	free(t->pend);
	free(t->pend_op);
	free(t->deltas);
	mno_buf_done(&t->keys);
	mno_buf_done(&t->feed);
	mno_buf_done(&t->value);
	docs_entries_done(&t->old_entries);
	docs_entries_done(&t->new_entries);
	free(t);
}

/* --- catalogue -------------------------------------------------------------------------------- */

int docs_txn_recat(struct mno_docs_txn *t)
{
	struct docs_cat *c;
	int r = docs_gen_put(t->d, t->t);

	if (r == 0)
		r = docs_cat_get_write(t->d, t->t, &c);
	if (r < 0)
		return r;
	docs_cat_unref(t->cat);
	t->cat = c;
	t->coll = NULL;
	return 0;
}

static int make_ns(struct mno_docs_txn *t, const char *ns)
{
	struct docs_cat_ns n = {.id = t->state.next_id++};

	if (t->cat->n_ns >= MNO_DOC_NS_MAX)
		return docs_fail(t->err, -MNO_ELIMIT,
			"there are %u namespaces already, which is the limit", MNO_DOC_NS_MAX);
	memcpy(n.name, ns, strlen(ns) + 1);
	return docs_ns_put(t->d, t->t, &n);
}

static int make_coll(struct mno_docs_txn *t, const char *ns, const char *coll)
{
	struct docs_cat_coll c = {.id = t->state.next_id++, .ns = docs_cat_ns(t->cat, ns)};

	if (t->cat->n_coll >= MNO_DOC_COLL_MAX)
		return docs_fail(t->err, -MNO_ELIMIT,
			"there are %u collections already, which is the limit", MNO_DOC_COLL_MAX);
	memcpy(c.name, coll, strlen(coll) + 1);
	return docs_coll_put(t->d, t->t, &c);
}

int docs_txn_coll(
	struct mno_docs_txn *t, const char *ns, const char *coll, struct docs_cat_coll **ret)
{
	int r = 0;

	if (!docs_name_ok(ns) || (coll && !docs_name_ok(coll)))
		return docs_fail(t->err, -EINVAL,
			"\"%.64s\" is no name: 1 to %u of A-Z a-z 0-9 _ . -, not beginning with "
			"_ or .",
			docs_name_ok(ns) ? coll : ns ?: "", MNO_DOC_NAME_MAX);
	if (!docs_cat_ns(t->cat, ns)) {
		r = make_ns(t, ns);
		if (r == 0)
			r = docs_txn_recat(t);
	}
	if (r < 0 || !coll)
		return r;
	*ret = docs_cat_coll(t->cat, ns, coll);
	if (*ret)
		return 0;
	r = make_coll(t, ns, coll);
	if (r == 0)
		r = docs_txn_recat(t);
	if (r == 0)
		*ret = docs_cat_coll(t->cat, ns, coll);
	return r;
}

/* Operations in a row mostly are about one collection. NULL: there is none. */
static struct docs_cat_coll *find_coll(struct mno_docs_txn *t, const char *ns, const char *coll)
{
	if (!t->coll || strcmp(coll, t->coll->name) || strcmp(ns, t->coll->ns->name))
		t->coll = docs_cat_coll(t->cat, ns, coll);
	return t->coll;
}

/* --- counters --------------------------------------------------------------------------------- */

int docs_txn_usage(struct mno_docs_txn *t, uint32_t id, int64_t docs, int64_t bytes)
{
	size_t i = t->n_deltas;

	while (i && t->deltas[i - 1].id != id)
		i--;
	if (!i) {
		if (t->n_deltas == t->cap_deltas) {
			size_t cap = t->cap_deltas ? t->cap_deltas * 2 : 16;
			struct docs_delta *v = reallocarray(t->deltas, cap, sizeof(*v));

			if (!v)
				return -ENOMEM;
			t->deltas = v;
			t->cap_deltas = cap;
		}
		t->deltas[t->n_deltas++] = (struct docs_delta){.id = id};
		i = t->n_deltas;
	}
	t->deltas[i - 1].docs += docs;
	t->deltas[i - 1].bytes += bytes;
	return 0;
}

static uint64_t moved(uint64_t v, int64_t by)
{
	return by < 0 && (uint64_t)-by > v ? 0 : v + (uint64_t)by;
}

static int check_quota(
	struct mno_docs_txn *t, const struct docs_delta *d, const struct docs_usage *u)
{
	const struct docs_cat_ns *n = NULL;

	for (size_t i = 0; i < t->cat->n_ns && !n; i++)
		n = t->cat->ns[i].id == d->id ? &t->cat->ns[i] : NULL;
	if (!n || t->unmetered)
		return 0;
	if (d->docs > 0 && n->quota_docs && u->docs > n->quota_docs)
		return docs_fail(t->err, -ENOSPC,
			"namespace %s would have %llu documents, its quota is %llu: delete some, "
			"or "
			"raise the quota",
			n->name, (unsigned long long)u->docs, (unsigned long long)n->quota_docs);
	if (d->bytes > 0 && n->quota_bytes && u->bytes > n->quota_bytes)
		return docs_fail(t->err, -ENOSPC,
			"namespace %s would have %llu bytes, its quota is %llu: delete some, or "
			"raise "
			"the quota",
			n->name, (unsigned long long)u->bytes, (unsigned long long)n->quota_bytes);
	return 0;
}

static int flush_usage(struct mno_docs_txn *t)
{
	struct docs_usage u;
	int r = 0;

	for (size_t i = 0; i < t->n_deltas && r == 0; i++) {
		const struct docs_delta *d = &t->deltas[i];

		if (!d->docs && !d->bytes)
			continue;
		r = docs_usage_get(t->d, t->t, d->id, &u);
		if (r < 0)
			return r;
		u.docs = moved(u.docs, d->docs);
		u.bytes = moved(u.bytes, d->bytes);
		r = t->unmetered ? 0 : check_quota(t, d, &u);
		if (r == 0)
			r = docs_usage_put(t->d, t->t, d->id, &u);
	}
	return r;
}

/* --- one operation ---------------------------------------------------------------------------- */

struct current {          /* the document as it is */
	bool there, lost; /* lost: damaged, only its key is known */
	struct docs_head head;
	size_t stored;
	struct mno_doc doc;
};

/* Finds the page of the last key by itself, and a put after a look finds its place. */
static int begin_cursor(struct mno_docs_txn *t)
{
	return t->cur ? 0
		      : mno_lmdb_error(mdb_cursor_open(t->t, t->d->e->dbi[MNO_DB_DOC], &t->cur));
}

/* Before t->t is another. */
static void end_cursor(struct mno_docs_txn *t)
{
	if (t->cur)
		mdb_cursor_close(TAKE_PTR(t->cur));
}

static int find_current(
	struct mno_docs_txn *t, const uint8_t *key, size_t klen, bool whole, struct current *ret)
{
	MDB_val k = {klen, (void *)key}, v;
	int r = begin_cursor(t);

	*ret = (struct current){0};
	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_get(t->cur, &k, &v, MDB_SET));
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	r = docs_seal_peek(v.mv_data, v.mv_size, &ret->head);
	ret->there = true;
	ret->stored = v.mv_size;
	if (r == 0 && whole)
		r = docs_seal_open(
			t->d, MNO_DB_DOC, key, klen, v.mv_data, v.mv_size, &ret->head, &t->value);
	if (r == 0 && whole)
		r = docs_doc_read(&ret->head, &t->value, &ret->doc);
	/* of a newer format there is none in this store: the byte is damaged */
	ret->lost = r == -MNO_ECORRUPT || r == -MNO_EVERSION;
	if (ret->lost)
		ret->doc = (struct mno_doc){.created_ms = t->now_ms, .revision = 1};
	return ret->lost ? 0 : r;
}

static int check_pre(struct mno_docs_txn *t, const struct mno_doc_op *op, const struct current *c)
{
	switch (op->pre) {
	case MNO_DOC_ANY:
		return 0;
	case MNO_DOC_IF_ABSENT:
		return !c->there ? 0
				 : docs_fail(t->err, -MNO_EPRECONDITION,
					   "the document is there already, version %llu",
					   (unsigned long long)c->head.number);
	case MNO_DOC_IF_PRESENT:
	case MNO_DOC_IF_VERSION:
		if (!c->there)
			return docs_fail(t->err, -MNO_EPRECONDITION, "the document is not there");
		if (op->pre == MNO_DOC_IF_PRESENT || c->head.number == op->if_version)
			return 0;
		return docs_fail(t->err, -MNO_EPRECONDITION,
			"the document has version %llu, not %llu",
			(unsigned long long)c->head.number, (unsigned long long)op->if_version);
	default:
		return docs_fail(t->err, -EINVAL, "no such precondition");
	}
}

static int check_op(struct mno_docs_txn *t, const struct mno_doc_op *op)
{
	if (!op->id || !op->id_len || op->id_len > MNO_DOC_ID_MAX)
		return docs_fail(t->err, -EINVAL, "an id has 1 to %u bytes, this one has %zu",
			MNO_DOC_ID_MAX, op->id_len);
	if (!op->ns || !op->coll)
		return docs_fail(t->err, -EINVAL, "namespace or collection is missing");
	if (op->verb < MNO_DOC_PUT || op->verb > MNO_DOC_CHECK)
		return docs_fail(t->err, -EINVAL, "no such operation");
	if (op->verb != MNO_DOC_PUT)
		return 0;
	if (!mno_doc_kind_name(op->kind))
		return docs_fail(t->err, -EINVAL, "no such kind of value");
	if (op->len > MNO_DOC_VALUE_MAX)
		return docs_fail(t->err, -EINVAL, "a value has at most %u bytes, this one has %zu",
			MNO_DOC_VALUE_MAX, op->len);
	return 0;
}

/* Entries that only one of both has. @del: those of @a are to go, else to come. */
static int pend_missing(struct mno_docs_txn *t, const struct docs_entries *a,
	const struct docs_entries *b, const struct mno_doc_op *op, bool del)
{
	size_t k = 0;
	int r = 0;

	for (size_t i = 0; i < a->n && r == 0; i++) {
		int c = 1;

		while (k < b->n && (c = docs_entry_compare(b, k, a, i)) < 0)
			k++;
		if (k < b->n && c == 0)
			continue;
		r = docs_pend_add(t, a->coll->idx[a->v[i].index], docs_entry_bytes(a, i),
			a->v[i].len, op->id, op->id_len, del);
	}
	return r;
}

static int update_entries(struct mno_docs_txn *t, struct docs_cat_coll *coll,
	const struct mno_doc_op *op, const struct current *c)
{
	struct docs_entries *was = &t->old_entries, *is = &t->new_entries;
	int r = 0;

	was->n = is->n = 0;
	if (op->verb == MNO_DOC_PUT)
		r = docs_entries_read(is, coll, UINT_MAX, op->kind, op->value, op->len, t->err);
	if (r < 0 || !coll->live)
		return r;
	for (unsigned i = 0; i < coll->live && c->lost && r == 0; i++)
		r = docs_pend_lost(t, coll->idx[i], op->id, op->id_len);
	if (c->there && !c->lost && r == 0)
		r = docs_entries_read(
			was, coll, UINT_MAX, c->doc.kind, c->doc.value, c->doc.len, NULL);
	if (r < 0)
		return r;
	r = pend_missing(t, was, is, op, true);
	return r < 0 ? r : pend_missing(t, is, was, op, false);
}

static int put_doc(struct mno_docs_txn *t, const uint8_t *key, size_t klen, struct mno_doc *doc,
	size_t *ret_stored)
{
	const struct docs_head h = {
		.form = (uint8_t)t->state.form, .kind = (uint8_t)doc->kind, .number = doc->version};
	struct mno_buf *b = &t->d->plain;
	int r = docs_doc_write(h.form, doc, b);

	if (r < 0)
		return r;
	return docs_seal_put_at(
		t->d, t->cur, MNO_DB_DOC, key, klen, &h, b->data, b->len, ret_stored);
}

static int change_doc(struct mno_docs_txn *t, struct docs_cat_coll *coll, const uint8_t *key,
	size_t klen, const struct mno_doc_op *op, const struct current *c)
{
	bool put = op->verb == MNO_DOC_PUT;
	struct mno_doc doc = {.id = op->id,
		.id_len = op->id_len,
		.version = t->state.next_seq++,
		.created_ms = c->there ? c->doc.created_ms : t->now_ms,
		.updated_ms = t->now_ms,
		.revision = c->there ? c->doc.revision + 1 : 1,
		.kind = op->kind,
		.value = op->value,
		.len = op->len};
	int64_t docs = (put ? 1 : 0) - (c->there ? 1 : 0), bytes;
	size_t stored = 0;
	int r;

	if (put)
		r = put_doc(t, key, klen, &doc, &stored);
	else /* find_current() was here */
		r = mno_lmdb_error(mdb_cursor_del(t->cur, 0));
	if (r == 0 && c->there && c->head.number < t->state.old_seq)
		r = docs_form_forget(t, key, klen);
	if (r == 0)
		r = docs_feed_add(t, put ? MNO_DOC_CHANGE_PUT : MNO_DOC_CHANGE_DELETE, coll, &doc);
	bytes = (put ? (int64_t)(klen + stored) : 0) - (c->there ? (int64_t)(klen + c->stored) : 0);
	if (r == 0)
		r = docs_txn_usage(t, coll->id, docs, bytes);
	if (r == 0)
		r = docs_txn_usage(t, coll->ns->id, docs, bytes);
	t->bytes += klen + 2 * stored + 64;
	return r;
}

static int do_op(struct mno_docs_txn *t, const struct mno_doc_op *op, struct mno_doc_result *ret)
{
	struct docs_cat_coll *coll = NULL;
	uint8_t key[DOCS_KEY_LEN];
	struct current c = {0};
	size_t klen = 0;
	int r = check_op(t, op);

	if (r < 0)
		return r;
	coll = find_coll(t, op->ns, op->coll);
	if (!coll && op->verb == MNO_DOC_PUT)
		r = docs_txn_coll(t, op->ns, op->coll, &coll);
	if (r == 0 && coll) {
		klen = docs_key(key, coll->id, op->id, op->id_len);
		r = find_current(t, key, klen, op->verb != MNO_DOC_CHECK, &c);
	}
	if (r == 0)
		r = check_pre(t, op, &c);
	if (r < 0)
		return r;
	*ret = (struct mno_doc_result){c.head.number, c.there};
	if (op->verb == MNO_DOC_CHECK || (op->verb == MNO_DOC_DELETE && !c.there))
		return 0;
	r = update_entries(t, coll, op, &c);
	if (r == 0)
		r = change_doc(t, coll, key, klen, op, &c);
	if (r == 0 && t->bytes > MNO_DOC_TXN_MAX)
		r = docs_fail(t->err, -MNO_ELIMIT,
			"the transaction would write more than %u MiB: split it",
			MNO_DOC_TXN_MAX >> 20);
	ret->version = t->state.next_seq - 1;
	return r;
}

int mno_docs_txn_op(struct mno_docs_txn *t, const struct mno_doc_op *op, struct mno_doc_result *ret)
{
	struct mno_doc_result res = {0};
	int r;

	if (t->err)
		t->err->op = t->n_ops;
	r = t->broken ? -ECANCELED : do_op(t, op, &res);
	if (r < 0) {
		t->broken = true;
		return r;
	}
	if (t->err)
		t->err->op = MNO_DOC_OP_NONE;
	t->n_ops++;
	t->d->operations++;
	if (ret)
		*ret = res;
	return 0;
}

int mno_docs_txn_get(struct mno_docs_txn *t, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_doc *ret)
{
	struct docs_cat_coll *c = docs_cat_coll(t->cat, ns, coll);
	uint8_t key[DOCS_KEY_LEN];
	struct current cur;
	int r;

	if (!id_len || id_len > MNO_DOC_ID_MAX)
		return -EINVAL;
	if (!c)
		return -ENOENT;
	r = find_current(t, key, docs_key(key, c->id, id, id_len), true, &cur);
	if (r < 0 || !cur.there || cur.lost)
		return r < 0 ? r : cur.lost ? -MNO_ECORRUPT : -ENOENT;
	*ret = cur.doc;
	ret->id = id;
	ret->id_len = id_len;
	return 0;
}

/* --- savepoints ------------------------------------------------------------------------------- */

int mno_docs_txn_savepoint(struct mno_docs_txn *t)
{
	struct docs_save *s = &t->save[t->n_save];
	MDB_txn *child;
	int r;

	if (t->broken)
		return -ECANCELED;
	if (t->n_save == DOCS_SAVES_MAX)
		return -MNO_ELIMIT;
	r = docs_feed_flush(t, false); /* so that the feed's buffer belongs to the child alone */
	if (r < 0)
		return r;
	*s = (struct docs_save){.t = t->t,
		.state = t->state,
		.n_pend = t->n_pend,
		.pend_bytes = t->keys.len,
		.bytes = t->bytes,
		.n_deltas = t->n_deltas};
	s->deltas = malloc((t->n_deltas ?: 1) * sizeof(*s->deltas));
	if (!s->deltas)
		return -ENOMEM;
	memcpy(s->deltas, t->deltas ?: s->deltas, t->n_deltas * sizeof(*s->deltas));
	end_cursor(t);
	r = mno_lmdb_error(mdb_txn_begin(t->d->e->env, t->t, 0, &child));
	if (r < 0) {
		free(s->deltas);
		return r;
	}
	s->cat = t->cat;
	s->cat->refs++;
	t->t = child;
	t->n_save++;
	return 0;
}

static void save_done(struct docs_save *s)
{
	docs_cat_unref(s->cat);
	free(s->deltas);
	*s = (struct docs_save){0};
}

int mno_docs_txn_release(struct mno_docs_txn *t)
{
	struct docs_save *s;
	int r;

	if (!t->n_save)
		return -EINVAL;
	if (t->broken)
		return -ECANCELED;
	s = &t->save[--t->n_save];
	end_cursor(t);
	r = mno_lmdb_error(mdb_txn_commit(t->t));
	t->t = s->t;
	t->broken = r < 0;
	save_done(s);
	return r;
}

int mno_docs_txn_rollback(struct mno_docs_txn *t)
{
	struct docs_save *s;

	if (!t->n_save)
		return -EINVAL;
	s = &t->save[--t->n_save];
	end_cursor(t);
	mdb_txn_abort(t->t);
	t->t = s->t;
	t->state = s->state;
	t->n_pend = s->n_pend;
	t->keys.len = s->pend_bytes;
	t->keys.err = 0;
	t->bytes = s->bytes;
	t->n_deltas = s->n_deltas;
	memcpy(t->deltas ?: s->deltas, s->deltas, s->n_deltas * sizeof(*s->deltas));
	mno_buf_reset(&t->feed);
	t->feed_n = 0;
	docs_cat_unref(t->cat);
	t->cat = s->cat;
	t->coll = NULL;
	s->cat = NULL;
	t->broken = false;
	save_done(s);
	return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

struct job {
	struct mno_docs *d;
	int (*fn)(void *arg, struct mno_docs_txn *t);
	void *arg;
	struct mno_docs_error *err;
	int stopped;       /* what @fn returned when that is no error */
	uint64_t next_seq; /* after it */
	bool kick;
};

static int txn_begin(
	struct mno_docs *d, MDB_txn *m, struct mno_docs_error *err, struct mno_docs_txn **ret)
{
	struct mno_docs_txn *t = d->txn;
	int r;

	if (!t) {
		t = d->txn = calloc(1, sizeof(*t));
		if (!t)
			return -ENOMEM;
		t->d = d;
	}
	t->t = m;
	t->err = err;
	t->now_ms = mno_now_ms();
	t->n_pend = t->n_deltas = t->n_save = t->n_ops = 0;
	t->feed_n = 0;
	t->bytes = 0;
	t->broken = t->unmetered = false;
	mno_buf_reset(&t->keys);
	mno_buf_reset(&t->feed);
	r = docs_state_get(d, m, &t->state);
	if (r == 0)
		r = docs_cat_get_write(d, m, &t->cat);
	if (r == 0)
		*ret = t;
	return r;
}

static int txn_end(struct mno_docs_txn *t)
{
	int r = 0;

	while (t->n_save && r == 0)
		r = mno_docs_txn_release(t);
	if (r == 0)
		r = docs_pend_flush(t);
	if (r == 0)
		r = docs_feed_flush(t, true);
	if (r == 0)
		r = flush_usage(t);
	if (r == 0)
		r = docs_state_put(t->d, t->t, &t->state);
	return r;
}

/* On the writer's thread. */
static int run_job(void *arg, struct mno_txn *txn)
{
	struct job *j = arg;
	struct mno_docs_txn *t = NULL;
	uint64_t gen;
	int r = txn_begin(j->d, txn->t, j->err, &t);

	if (r < 0)
		return r;
	gen = t->cat->gen;
	r = j->fn(j->arg, t);
	j->stopped = MNO_MAX(r, 0);
	if (r == 0)
		r = t->broken ? -ECANCELED : txn_end(t);
	else if (r > 0)
		r = -ECANCELED;
	while (t->n_save)
		mno_docs_txn_rollback(t);
	j->kick = t->cat->gen != gen;
	j->next_seq = t->state.next_seq;
	docs_cat_unref(TAKE_PTR(t->cat));
	t->coll = NULL;
	end_cursor(t);
	t->t = NULL;
	return r;
}

int docs_submit(struct mno_docs *d, int (*fn)(void *arg, struct mno_docs_txn *t), void *arg,
	bool reclaim, struct mno_docs_error *err)
{
	struct job j = {.d = d, .fn = fn, .arg = arg, .err = err};
	int r;

	if (err)
		*err = (struct mno_docs_error){.op = MNO_DOC_OP_NONE};
	r = mno_committer_run(d->committer, run_job, &j, reclaim);
	if (r == -ECANCELED && j.stopped)
		return j.stopped;
	if (r < 0) {
		d->refused++;
		if (err && !err->msg[0])
			docs_fail(err, r,
				r == -ENOSPC ? "the disk is full, or below the floor that the "
					       "store keeps "
					       "free: make room"
					     : "%s",
				mno_strerror(r));
		return r;
	}
	d->transactions++;
	docs_committed(d, j.next_seq, j.kick);
	return 0;
}

int mno_docs_write(struct mno_docs *d, int (*fn)(void *arg, struct mno_docs_txn *t), void *arg,
	struct mno_docs_error *err)
{
	return docs_submit(d, fn, arg, false, err);
}

struct list {
	const struct mno_doc_op *ops;
	size_t n;
	struct mno_doc_result *results;
};

static int run_list(void *arg, struct mno_docs_txn *t)
{
	struct list *l = arg;
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0; i++)
		r = mno_docs_txn_op(t, &l->ops[i], l->results ? &l->results[i] : NULL);
	return r;
}

/* What only deletes may go on when the disk is full. */
static bool only_deletes(const struct mno_doc_op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ops[i].verb != MNO_DOC_DELETE)
			return false;
	return true;
}

int mno_docs_apply(struct mno_docs *d, const struct mno_doc_op *ops, size_t n,
	struct mno_doc_result *results, struct mno_docs_error *err)
{
	struct list l = {ops, n, results};

	if (err)
		err->op = MNO_DOC_OP_NONE;
	if (n == 0 || n > MNO_DOC_OPS_MAX)
		return docs_fail(err, -EINVAL, "a transaction has 1 to %u operations, this one %zu",
			MNO_DOC_OPS_MAX, n);
	return docs_submit(d, run_list, &l, only_deletes(ops, n), err);
}
