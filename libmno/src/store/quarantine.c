/* SPDX-License-Identifier: Apache-2.0 */
#include "quarantine.h"
#include <errno.h>
#include <stdio.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/map.h"
#include "mno/time.h"
#include "verify.h"

#define AT_ONCE  8u /* values in one commit */
#define KEY_MAX  511u
#define LOST_MAX 200u
#define TOLD_MAX 20u /* lines of the log, since the start */

/* What is done with a damaged value, by database; the others' owners make theirs anew. */
enum policy { OWNER, MOVE, COPY, DELETE };
static const struct {
	enum mno_db db;
	enum policy policy;
	bool drops; /* its mark goes with the record: nothing refers to it */
} policies[] = {
	{MNO_DB_SERIES, MOVE, false}, {MNO_DB_SERIES_GROUP, MOVE, false}, {MNO_DB_PART, MOVE, true},
	{MNO_DB_PACK, MOVE, true}, {MNO_DB_WINDOW, MOVE, true}, {MNO_DB_LATE, MOVE, true},
	{MNO_DB_HIST, MOVE, true}, {MNO_DB_ROLL_R10S, MOVE, true}, {MNO_DB_ROLL_R1M, MOVE, true},
	{MNO_DB_ROLL_R1H, MOVE, true}, {MNO_DB_PROC, MOVE, true}, {MNO_DB_EVENT, MOVE, true},
	{MNO_DB_TAIL, COPY, false}, /* slots are used again */
	{MNO_DB_DOC, MOVE, false},  /* deleting or writing the document takes it */
	{MNO_DB_DOC_FEED, MOVE, false}, {MNO_DB_AGG, DELETE, false}, /* reads take the blocks */
};

/* On disk: key id u64 -> head | key | what is lost | the value as it was | zeros. */
struct record {
	uint8_t version, db;
	uint16_t klen, lost;
	uint16_t unused;
	uint32_t len;
	uint32_t sum; /* over the rest, with this = 0 */
	int64_t time_ms;
};
_Static_assert(sizeof(struct record) == 24, "on disk");

struct note {
	enum mno_class class;
	int64_t t0_ms;
	uint64_t drop; /* id of a record to delete; 0: a value to move */
	enum mno_db db;
	struct mno_buf key, val;
	struct note *next;
};

static int policy_at(enum mno_db db)
{
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		if (policies[i].db == db)
			return (int)i;
	return -1;
}

/* --- noting ------------------------------------------------------------------------------------- */

static struct note *note_free(struct note *n)
{
	if (!n)
		return NULL;
	mno_buf_done(&n->key);
	mno_buf_done(&n->val);
	free(n);
	return NULL;
}

static bool same(
	const struct note *n, const struct mno_env *e, enum mno_db db, const void *key, size_t klen)
{
	return n->class == e->class && n->t0_ms == e->t0_ms && n->db == db && !n->drop &&
	       n->key.len == klen && !memcmp(n->key.data, key, klen);
}

static struct note *note_new(struct mno_env *e)
{
	struct note *n = calloc(1, sizeof(*n));

	if (n) {
		n->class = e->class;
		n->t0_ms = e->t0_ms;
	}
	return n;
}

/* s->quarantine.lock is held. */
static void note_push(struct mno_store *s, struct note *n)
{
	n->next = s->quarantine.first;
	s->quarantine.first = n;
	s->quarantine.n++;
	s->quarantine.bytes += n->val.len;
}

void mno_quarantine_note(struct mno_env *e, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len)
{
	struct mno_store *s = e->store;
	struct note *n;

	if (s->opts.read_only || klen > KEY_MAX || policy_at(db) < 0 ||
		mno_seal_is_mark(db, val, len))
		return;
	pthread_mutex_lock(&s->quarantine.lock);
	for (n = s->quarantine.first; n && !same(n, e, db, key, klen); n = n->next)
		;
	if (!n && s->quarantine.n < MNO_QUARANTINE_NOTES &&
		len <= MNO_QUARANTINE_BYTES - MNO_MIN(s->quarantine.bytes, MNO_QUARANTINE_BYTES) &&
		(n = note_new(e))) {
		n->db = db;
		mno_buf_add(&n->key, key, klen);
		mno_buf_add(&n->val, val, len);
		if (n->key.err || n->val.err)
			note_free(n);
		else
			note_push(s, n);
	}
	pthread_mutex_unlock(&s->quarantine.lock);
}

/* The next one of @class and @t0_ms, or of all that main's transaction reaches; NULL: none. */
static struct note *note_take(struct mno_store *s, const struct mno_env *only)
{
	struct note *n = NULL;

	pthread_mutex_lock(&s->quarantine.lock);
	for (struct note **p = &s->quarantine.first; *p; p = &(*p)->next) {
		if (only ? (*p)->class != only->class || (*p)->t0_ms != only->t0_ms
			 : (*p)->class == MNO_CLASS_DOCS)
			continue;
		n = *p;
		*p = n->next;
		s->quarantine.n--;
		s->quarantine.bytes -= n->val.len;
		break;
	}
	pthread_mutex_unlock(&s->quarantine.lock);
	return n;
}

bool mno_quarantine_waits(struct mno_env *e)
{
	struct mno_store *s = e->store;
	bool any = false;

	pthread_mutex_lock(&s->quarantine.lock);
	for (struct note *n = s->quarantine.first; n && !any; n = n->next)
		any = n->class == e->class && n->t0_ms == e->t0_ms;
	pthread_mutex_unlock(&s->quarantine.lock);
	return any;
}

void mno_quarantine_done(struct mno_store *s)
{
	while (s->quarantine.first) {
		struct note *n = s->quarantine.first;

		s->quarantine.first = n->next;
		note_free(n);
	}
}

/* --- moving ------------------------------------------------------------------------------------- */

/* Whether the value is still the one that was found damaged. */
static bool still(struct mno_txn *t, const struct note *n)
{
	const void *p;
	size_t len;

	return mno_txn_get(t, n->db, n->key.data, n->key.len, &p, &len) == 0 && len == n->val.len &&
	       !memcmp(p, n->val.data, len);
}

static void tell(const struct note *n, struct mno_buf *out)
{
	const struct mno_checker *c = mno_checker_of(n->db);
	struct mno_seal head;
	bool known = c && c->kind &&
		     mno_seal_peek(
			     n->key.data, n->key.len, n->val.data, n->val.len, c->kind, &head) == 0;

	if (c && (!c->klen || n->key.len == c->klen))
		c->tell((uint8_t *)n->key.data, n->key.len, known ? &head : NULL, out);
	out->len = MNO_MIN(out->len, (size_t)LOST_MAX);
}

static uint64_t next_id(struct mno_txn *t, uint64_t *ret_n)
{
	MDB_cursor *c;
	MDB_val k, v;
	MDB_stat st;
	uint64_t id = 0;

	*ret_n = mdb_stat(t->t, t->e->dbi[MNO_DB_QUARANTINE], &st) ? 0 : st.ms_entries;
	if (mdb_cursor_open(t->t, t->e->dbi[MNO_DB_QUARANTINE], &c))
		return 1;
	if (mdb_cursor_get(c, &k, &v, MDB_LAST) == 0 && k.mv_size == 8)
		id = mno_get_be64(k.mv_data);
	mdb_cursor_close(c);
	return id + 1;
}

static uint32_t record_sum(const void *p, size_t n)
{
	static const uint8_t key[16] = "mno quarantined ";

	return (uint32_t)mno_siphash(key, p, n);
}

static int put_record(struct mno_txn *t, const struct note *n, const struct mno_buf *lost)
{
	struct record h = {.version = 1,
		.db = (uint8_t)n->db,
		.klen = (uint16_t)n->key.len,
		.lost = (uint16_t)lost->len,
		.len = (uint32_t)n->val.len,
		.time_ms = mno_now_ms()};
	_cleanup_buf_ struct mno_buf b = {0};
	uint64_t have, id = next_id(t, &have);
	uint8_t key[8];
	size_t pad;

	if (have >= MNO_QUARANTINE_MAX)
		return -EDQUOT;
	mno_buf_add(&b, &h, sizeof(h));
	mno_buf_add(&b, n->key.data, n->key.len);
	mno_buf_add(&b, lost->data, lost->len);
	mno_buf_add(&b, n->val.data, n->val.len);
	pad = mno_seal_padded(b.len) - b.len;
	for (size_t i = 0; i < pad; i++)
		mno_buf_addc(&b, 0);
	if (b.err)
		return b.err;
	h.sum = record_sum(b.data, b.len);
	memcpy(b.data, &h, sizeof(h));
	mno_be64(key, id);
	return mno_txn_put(t, MNO_DB_QUARANTINE, key, sizeof(key), b.data, b.len);
}

static int put_mark(struct mno_txn *t, const struct note *n)
{
	uint8_t mark[MNO_SEAL_MARK_MAX];
	size_t len = mno_seal_mark(n->db, n->key.data, n->key.len, n->val.data, n->val.len, mark);

	return mno_txn_put(t, n->db, n->key.data, n->key.len, mark, len);
}

static int move(struct mno_txn *t, const struct note *n)
{
	struct mno_store *s = t->e->store;
	int with = policy_at(n->db), r;
	_cleanup_buf_ struct mno_buf lost = {0};

	if (!still(t, n))
		return 0;
	if (policies[with].policy == DELETE)
		return mno_txn_del(t, n->db, n->key.data, n->key.len);
	tell(n, &lost);
	r = put_record(t, n, &lost);
	if (r == -EDQUOT) {
		s->quarantine.refused++;
		return 0;
	}
	if (r == 0 && policies[with].policy == MOVE)
		r = put_mark(t, n);
	if (r == 0 && s->quarantine.moved++ < TOLD_MAX)
		mno_err("store: a value of %s in %s is damaged and in quarantine now (mnoctl store "
			"quarantine). Lost: %.*s",
			mno_db_name(n->db), t->e->name, (int)lost.len, lost.data ?: "");
	return r;
}

/* --- dropping ----------------------------------------------------------------------------------- */

/* Takes a record apart; false: it is itself damaged. */
static bool read_record(const MDB_val *k, const MDB_val *v, struct record *h, const char **ret_key)
{
	_cleanup_buf_ struct mno_buf b = {0};
	uint32_t sum;

	if (k->mv_size != 8 || v->mv_size < sizeof(*h))
		return false;
	memcpy(h, v->mv_data, sizeof(*h));
	if (h->version != 1 || h->db >= MNO_DB_MAX || h->klen > KEY_MAX || h->lost > LOST_MAX ||
		sizeof(*h) + h->klen + h->lost + (uint64_t)h->len > v->mv_size)
		return false;
	sum = h->sum;
	h->sum = 0;
	mno_buf_add(&b, v->mv_data, v->mv_size);
	if (b.err)
		return false;
	memcpy(b.data, h, sizeof(*h));
	*ret_key = (const char *)v->mv_data + sizeof(*h);
	return record_sum(b.data, b.len) == sum;
}

static int drop(struct mno_txn *t, uint64_t id)
{
	uint8_t at[8], key[KEY_MAX];
	const void *p;
	const char *in;
	struct record h;
	size_t n;
	int r, with;

	mno_be64(at, id);
	r = mno_txn_get(t, MNO_DB_QUARANTINE, at, sizeof(at), &p, &n);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (read_record(&(MDB_val){8, at}, &(MDB_val){n, (void *)p}, &h, &in) &&
		(with = policy_at(h.db)) >= 0 && policies[with].drops &&
		mno_db_in(h.db, t->e->class)) {
		memcpy(key, in, h.klen);
		if (mno_txn_get(t, h.db, key, h.klen, &p, &n) == 0 && mno_seal_is_mark(h.db, p, n))
			r = mno_txn_del(t, h.db, key, h.klen);
	}
	return r < 0 ? r : mno_txn_del(t, MNO_DB_QUARANTINE, at, sizeof(at));
}

/* --- running ------------------------------------------------------------------------------------ */

static int run_note(struct mno_txn *t, const struct note *n)
{
	if (!mno_db_in(n->db, t->e->class))
		return 0;
	return n->drop ? drop(t, n->drop) : move(t, n);
}

int mno_quarantine_run(struct mno_txn *t)
{
	struct note *n;
	int r = 0;

	for (unsigned i = 0; i < AT_ONCE && r == 0 && (n = note_take(t->e->store, t->e)); i++) {
		r = run_note(t, n);
		note_free(n);
	}
	return r;
}

/* What retention has taken meanwhile is not made again. */
static int part_of(
	struct mno_store *s, struct mno_txn *main_txn, const struct note *n, struct mno_txn **ret)
{
	struct mno_env *e;
	int r;

	if (n->class == MNO_CLASS_MAIN) {
		*ret = main_txn;
		return 0;
	}
	r = mno_store_env(s, n->class, n->t0_ms, false, &e);
	if (r < 0)
		return -ENOENT;
	r = mno_txn_part(main_txn, n->class, n->t0_ms, ret);
	mno_env_unref(e);
	return r;
}

int mno_store_quarantine(struct mno_store *s, struct mno_txn *t)
{
	struct note *n;
	int r = 0;

	for (unsigned i = 0; i < AT_ONCE && r == 0 && (n = note_take(s, NULL)); i++) {
		struct mno_txn *part;

		r = part_of(s, t, n, &part);
		if (r == 0)
			r = run_note(part, n);
		else if (r == -ENOENT)
			r = 0;
		note_free(n);
	}
	return r;
}

/* --- telling ------------------------------------------------------------------------------------ */

struct each {
	const char *env;
	uint64_t id;
	int (*fn)(void *arg, const struct mno_quarantined *q);
	void *arg;
	struct mno_buf key, val, text;
};

static int hand(struct each *w, const char *env)
{
	char lost[LOST_MAX + 1];
	const char *key;
	struct record h;
	MDB_val k = {w->key.len, w->key.data}, v = {w->val.len, w->val.data};
	struct mno_quarantined q = {
		.env = env, .db = "", .key = "", .lost = "its record is damaged"};

	if (w->key.len == 8)
		q.id = mno_get_be64((uint8_t *)w->key.data);
	if (read_record(&k, &v, &h, &key)) {
		mno_buf_reset(&w->text);
		mno_key_text(key, h.klen, &w->text);
		snprintf(lost, sizeof(lost), "%.*s", (int)h.lost, key + h.klen);
		q.db = mno_db_name(h.db);
		q.key = mno_buf_cstr(&w->text);
		q.lost = lost;
		q.time_ms = h.time_ms;
		q.bytes = key + h.klen + h.lost;
		q.len = h.len;
	}
	return w->fn(w->arg, &q);
}

static int each_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct each *w = arg;
	uint8_t from[8];
	int r;

	if (!e || (w->env && strcmp(w->env, name) != 0) ||
		e->dbi[MNO_DB_QUARANTINE] == MNO_DBI_NONE)
		return 0;
	mno_be64(from, w->id);
	r = mno_env_fetch(e, MNO_DB_QUARANTINE, w->id ? MNO_SEEK_EQ : MNO_SEEK_GE, from,
		sizeof(from), &w->key, &w->val);
	while (r == 0) {
		r = hand(w, name);
		if (r || w->id)
			break;
		memcpy(from, w->key.data, MNO_MIN(w->key.len, sizeof(from)));
		r = mno_env_fetch(
			e, MNO_DB_QUARANTINE, MNO_SEEK_GT, from, sizeof(from), &w->key, &w->val);
	}
	return r == -ENOENT || r == -MNO_ECORRUPT ? 0 : r;
}

int mno_quarantine_each(struct mno_store *s, const char *env, uint64_t id,
	int (*fn)(void *arg, const struct mno_quarantined *q), void *arg)
{
	struct each w = {.env = env, .id = id, .fn = fn, .arg = arg};
	int r = mno_store_each(s, each_env, &w);

	mno_buf_done(&w.key);
	mno_buf_done(&w.val);
	mno_buf_done(&w.text);
	return r;
}

struct asking {
	struct mno_store *s;
	const char *env;
	uint64_t id;
	int result;
};

static int ask_drop(void *arg, struct mno_env *e, const char *name, int err)
{
	struct asking *a = arg;
	uint8_t key[8];
	struct note *n;

	if (!e || strcmp(name, a->env) != 0)
		return 0;
	mno_be64(key, a->id);
	a->result = mno_env_fetch(e, MNO_DB_QUARANTINE, MNO_SEEK_EQ, key, sizeof(key), NULL, NULL);
	if (a->result < 0)
		return 1;
	n = note_new(e);
	a->result = n ? 0 : -ENOMEM;
	pthread_mutex_lock(&a->s->quarantine.lock);
	if (n && a->s->quarantine.n >= 2 * MNO_QUARANTINE_NOTES) {
		a->result = -EAGAIN;
		note_free(n);
	} else if (n) {
		n->db = MNO_DB_QUARANTINE;
		n->drop = a->id;
		note_push(a->s, n);
	}
	pthread_mutex_unlock(&a->s->quarantine.lock);
	return 1;
}

int mno_quarantine_drop(struct mno_store *s, const char *env, uint64_t id)
{
	struct asking a = {s, env, id, -ENOENT};
	int r = mno_store_each(s, ask_drop, &a);

	return r < 0 ? r : a.result;
}

void mno_quarantine_stat(struct mno_store *s, struct mno_quarantine_stat *ret)
{
	*ret = (struct mno_quarantine_stat){
		.moved = s->quarantine.moved, .refused = s->quarantine.refused};
	pthread_mutex_lock(&s->quarantine.lock);
	ret->waiting = s->quarantine.n;
	pthread_mutex_unlock(&s->quarantine.lock);
}
