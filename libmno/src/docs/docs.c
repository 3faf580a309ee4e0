/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, single reads, snapshots, figures. */
#include <errno.h>
#include <string.h>
#include "docs_internal.h"
#include "mno/err.h"
#include "mno/time.h"

#define FEED_BYTES  (256ULL << 20)
#define FETCH_MAX   1024u /* bytes asked for ahead */
#define FEED_AGE_MS (7ULL * 24 * 3600 * 1000)

struct mno_docs_snap {
	struct mno_docs *d;
	MDB_txn *t; /* NULL: too old */
	uint64_t begun_ns;
	pthread_mutex_t lock; /* use against reaping */
	struct mno_docs_snap *next;
};

static const char *const kinds[] = {[MNO_DOC_JSON] = "json",
	[MNO_DOC_BINARY] = "binary",
	[MNO_DOC_TEXT] = "text",
	[MNO_DOC_INTEGER] = "integer",
	[MNO_DOC_DECIMAL] = "decimal"};

const char *mno_doc_kind_name(enum mno_doc_kind k)
{
	return (unsigned)k < ARRAY_SIZE(kinds) ? kinds[k] : NULL;
}

enum mno_doc_kind mno_doc_kind_find(const char *name)
{
	for (unsigned i = 1; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i], name))
			return i;
	return 0;
}

/* --- opening ------------------------------------------------------------------------------------ */

/* A new store has no rows yet. */
static int first_rows(void *arg, struct mno_txn *txn)
{
	struct mno_docs *d = arg;
	struct docs_state s = {.next_seq = 1, .next_id = 1, .form = DOCS_FORM};
	uint64_t gen;
	int r = docs_gen_get(d, txn->t, &gen);

	if (r == 0) {
		d->gen_next = gen + 1;
		r = docs_state_get(d, txn->t, &s);
	} else if (r == -ENOENT) {
		d->gen_next = 1;
		r = docs_state_put(d, txn->t, &s);
		if (r == 0)
			r = docs_gen_put(d, txn->t);
	}
	d->committed_seq = s.next_seq;
	return r;
}

static int read_rows(struct mno_docs *d)
{
	struct mno_txn t = {.e = d->e};
	struct docs_cat *c;
	uint64_t gen;
	int r = mno_read_begin(d->e, &t.t);

	if (r < 0)
		return r;
	r = docs_gen_get(d, t.t, &gen);
	if (r == 0)
		r = first_rows(d, &t);
	if (r == 0)
		r = docs_cat_get(d, t.t, &c);
	if (r == 0)
		docs_cat_unref(c);
	mno_read_end(d->e, t.t);
	return r;
}

int mno_docs_open(struct mno_store *s, const struct mno_docs_opts *o, struct mno_docs **ret)
{
	_cleanup_(mno_docs_close_p)
	struct mno_docs *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int r;

	if (!d)
		return -ENOMEM;
	d->store = s;
	if (o)
		memcpy(&d->opts, o, MNO_MIN(o->sz, sizeof(*o)));
	d->opts.feed_bytes = d->opts.feed_bytes ?: FEED_BYTES;
	d->opts.feed_age_ms = d->opts.feed_age_ms ?: FEED_AGE_MS;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->cat_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cond, &attr);
	pthread_condattr_destroy(&attr);
	d->cctx = ZSTD_createCCtx();
	r = d->cctx ? mno_store_env(s, MNO_CLASS_DOCS, 0, true, &d->e) : -ENOMEM;
	if (r == 0)
		r = mno_committer_new(d->e, &d->committer);
	if (r == 0)
		r = docs_mend(d);
	if (r == 0)
		r = read_rows(d);
	if (r == -ENOENT) {
		r = mno_committer_run(d->committer, first_rows, d, true);
		if (r == 0)
			r = read_rows(d);
	}
	if (r == 0 && !d->opts.no_worker)
		r = docs_worker_start(d);
	if (r == 0)
		*ret = TAKE_PTR(d);
	return r;
}

struct mno_docs *mno_docs_close(struct mno_docs *d)
{
	if (!d)
		return NULL;
	docs_worker_stop(d);
	docs_snaps_reap(d, UINT64_MAX);
	mno_committer_free(d->committer);
	docs_cat_unref(d->cat);
	docs_txn_free(d->txn);
	mno_buf_done(&d->plain);
	mno_buf_done(&d->packed);
	ZSTD_freeCCtx(d->cctx);
	mno_env_unref(d->e);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->cat_lock);
	pthread_mutex_destroy(&d->lock);
	free(d);
	return NULL;
}

/* --- one document ------------------------------------------------------------------------------- */

/* A value lies in memory that was not looked at for long: all of its lines at once, not in turn. */
static void fetch_lines(const MDB_val *v)
{
	for (size_t i = 0, n = MNO_MIN(v->mv_size, (size_t)FETCH_MAX); i < n; i += 64)
		__builtin_prefetch((const char *)v->mv_data + i);
}

int docs_get_in(struct mno_docs *d, MDB_txn *t, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret)
{
	_cleanup_(docs_cat_unref_p)
	struct docs_cat *cat = NULL;
	uint8_t key[DOCS_KEY_LEN];
	struct docs_cat_coll *c;
	struct mno_doc doc;
	struct docs_head h;
	MDB_val k = {0, key}, v;
	int r;

	if (!id_len || id_len > MNO_DOC_ID_MAX)
		return -EINVAL;
	r = docs_cat_get(d, t, &cat);
	if (r < 0)
		return r;
	c = docs_cat_coll(cat, ns, coll);
	if (!c)
		return docs_name_ok(ns) && docs_name_ok(coll) ? -ENOENT : -EINVAL;
	k.mv_size = docs_key(key, c->id, id, id_len);
	r = mno_lmdb_error(mdb_get(t, d->e->dbi[MNO_DB_DOC], &k, &v));
	if (r == 0)
		fetch_lines(&v);
	if (r == 0)
		r = docs_seal_open(d, MNO_DB_DOC, key, k.mv_size, v.mv_data, v.mv_size, &h, buf);
	if (r == 0)
		r = docs_doc_read(&h, buf, &doc);
	if (r < 0)
		return r;
	doc.id = id;
	doc.id_len = id_len;
	*ret = doc;
	return 0;
}

int mno_docs_get(struct mno_docs *d, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret)
{
	MDB_txn *t;
	int r = mno_read_begin(d->e, &t);

	if (r < 0)
		return r;
	r = docs_get_in(d, t, ns, coll, id, id_len, buf, ret);
	mno_read_end(d->e, t);
	atomic_fetch_add_explicit(&d->gets, 1, memory_order_relaxed);
	return r;
}

/* --- snapshots ---------------------------------------------------------------------------------- */

int mno_docs_snap_open(struct mno_docs *d, struct mno_docs_snap **ret)
{
	struct mno_docs_snap *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->d = d;
	s->begun_ns = mno_now_ns(CLOCK_MONOTONIC);
	docs_snaps_reap(d, s->begun_ns);
	pthread_mutex_lock(&d->lock);
	if (d->n_snaps == DOCS_SNAPS_MAX)
		r = -EAGAIN;
	d->n_snaps += r == 0;
	pthread_mutex_unlock(&d->lock);
	if (r == 0) {
		r = mno_read_begin(d->e, &s->t);
		pthread_mutex_lock(&d->lock);
		d->n_snaps -= r < 0;
		if (r == 0) {
			pthread_mutex_init(&s->lock, NULL);
			s->next = d->snaps;
			d->snaps = s;
		}
		pthread_mutex_unlock(&d->lock);
	}
	if (r < 0)
		free(s);
	else
		*ret = s;
	return r;
}

/* Ends what @s holds; d->lock held. */
static void snap_end(struct mno_docs_snap *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->t) {
		mno_read_end(s->d->e, TAKE_PTR(s->t));
		s->d->n_snaps--;
	}
	pthread_mutex_unlock(&s->lock);
}

void docs_snaps_reap(struct mno_docs *d, uint64_t now_ns)
{
	pthread_mutex_lock(&d->lock);
	for (struct mno_docs_snap *s = d->snaps; s; s = s->next)
		if (now_ns > s->begun_ns && now_ns - s->begun_ns > MNO_DOC_SNAP_MS * NS_PER_MS)
			snap_end(s);
	pthread_mutex_unlock(&d->lock);
}

struct mno_docs_snap *mno_docs_snap_close(struct mno_docs_snap *s)
{
	if (!s)
		return NULL;
	pthread_mutex_lock(&s->d->lock);
	for (struct mno_docs_snap **p = &s->d->snaps; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	snap_end(s);
	pthread_mutex_unlock(&s->d->lock);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

int mno_docs_snap_get(struct mno_docs_snap *s, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret)
{
	uint64_t age = mno_now_ns(CLOCK_MONOTONIC) - s->begun_ns;
	int r = -MNO_EGONE;

	pthread_mutex_lock(&s->lock);
	if (s->t && age <= MNO_DOC_SNAP_MS * NS_PER_MS)
		r = docs_get_in(s->d, s->t, ns, coll, id, id_len, buf, ret);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* --- figures ------------------------------------------------------------------------------------- */

static int sum_usage(void *arg, const struct mno_docs_usage *u)
{
	struct mno_docs_stat *s = arg;

	if (u->coll) {
		s->collections++;
		return 0;
	}
	s->namespaces++;
	s->docs += u->docs;
	s->bytes += u->bytes;
	return 0;
}

void mno_docs_groups(struct mno_docs *d, struct mno_docs_groups *ret)
{
	struct mno_committer_stat s;

	mno_committer_stat(d->committer, &s);
	*ret = (struct mno_docs_groups){.groups = s.groups,
		.failed = s.failed,
		.requests = s.requests,
		.largest = s.largest,
		.waiting = s.waiting,
		.last_ns = s.last_ns,
		.longest_ns = s.longest_ns};
}

int mno_docs_stat(struct mno_docs *d, struct mno_docs_stat *ret)
{
	struct mno_docs_stat s = {.transactions = d->transactions,
		.operations = d->operations,
		.refused = d->refused,
		.gets = d->gets,
		.finds = d->finds,
		.damaged = d->damaged};
	struct docs_state state;
	struct docs_cat *c = NULL;
	MDB_txn *t;
	int r = mno_docs_usage_each(d, NULL, sum_usage, &s);

	if (r == 0)
		r = mno_docs_feed_bounds(d, &s.feed_oldest, &s.feed_next);
	if (r == 0)
		r = mno_read_begin(d->e, &t);
	if (r < 0)
		return r;
	r = docs_state_get(d, t, &state);
	if (r == 0)
		r = docs_cat_get(d, t, &c);
	mno_read_end(d->e, t);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n_idx; i++) {
		s.indexes += c->idx[i].state != MNO_DOC_INDEX_DROPPING;
		s.indexes_building += c->idx[i].state == MNO_DOC_INDEX_BUILDING;
	}
	docs_cat_unref(c);
	s.feed_bytes = state.feed_bytes;
	pthread_mutex_lock(&d->lock);
	s.snapshots = d->n_snaps;
	s.watchers = d->n_watch;
	pthread_mutex_unlock(&d->lock);
	*ret = s;
	return 0;
}
