/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk over everything stored: cursors in short read transactions, each of which goes on
 * behind the key where the one before ended. Writers and readers are not held up.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "mno/err.h"
#include "mno/time.h"
#include "verify.h"

#define SLICE_NS (50 * NS_PER_MS)
#define MAGIC_AT 0 /* of a sealed value: magic, then version, then kind */
#define KIND_AT  3

struct walk {
	struct mno_store *s;
	struct mno_verify_opts o;
	struct mno_verify_progress p;
	uint64_t start_ns;
	struct mno_env *e;
	MDB_txn *t; /* of the slice */
	ZSTD_DCtx *z;
	struct mno_buf raw, key, text, lost;
	enum mno_db db;
	bool any; /* key holds the one before */
	struct mno_verify_place place;
	bool behind; /* the place to go on from is not reached yet */
};

static const struct mno_checker checkers[] = {
#define CHECKER(db, kind, klen, id_at, deep, tell)                                                 \
	{MNO_DB_##db, kind, klen, id_at, deep, tell, NULL},
#define OPENER(db, klen, open, tell) {MNO_DB_##db, 0, klen, -1, NULL, tell, open},
#include "checkers.def"
#undef CHECKER
#undef OPENER
};

const struct mno_checker *mno_checker_of(enum mno_db db)
{
	for (size_t i = 0; i < ARRAY_SIZE(checkers); i++)
		if (checkers[i].db == db)
			return &checkers[i];
	return NULL;
}

/* --- texts ------------------------------------------------------------------------------------ */

void mno_key_text(const void *key, size_t klen, struct mno_buf *out)
{
	const uint8_t *p = key;
	bool plain = klen > 0;

	for (size_t i = 0; i < klen; i++)
		plain = plain && p[i] >= ' ' && p[i] < 0x7f;
	if (plain) {
		mno_buf_add(out, key, klen);
		return;
	}
	mno_buf_adds(out, "0x");
	for (size_t i = 0; i < klen; i++)
		mno_buf_addf(out, "%02x", p[i]);
}

void mno_time_text(int64_t ms, struct mno_buf *out)
{
	time_t s = (time_t)(ms / 1000);
	char text[40] = "?";
	struct tm tm;

	if (gmtime_r(&s, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	mno_buf_adds(out, text);
}

uint64_t tell_reference(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out)
{
	mno_buf_adds(out, "one entry of an index of the dictionary");
	return 0;
}

static void found(struct walk *w, const char *db, const void *key, size_t klen, const char *why,
	const struct mno_seal *head)
{
	const struct mno_checker *c = *db ? mno_checker_of(w->db) : NULL;
	struct mno_finding f = {.env = w->p.env, .db = db, .why = why};

	w->p.damaged++;
	mno_buf_reset(&w->text);
	mno_buf_reset(&w->lost);
	if (key)
		mno_key_text(key, klen, &w->text);
	if (c && (!c->klen || klen == c->klen))
		f.items = c->tell(key, klen, head, &w->lost);
	f.key = mno_buf_cstr(&w->text);
	f.lost = mno_buf_cstr(&w->lost);
	if (w->o.finding)
		w->o.finding(w->o.arg, &f);
}

/* --- one entry -------------------------------------------------------------------------------- */

/* META holds small plain values and some sealed ones. */
static uint8_t meta_kind(const MDB_val *v)
{
	const uint8_t *p = v->mv_data;

	return v->mv_size > KIND_AT && p[MAGIC_AT] == 'S' && p[MAGIC_AT + 1] == 'm' ? p[KIND_AT]
										    : 0;
}

/* What an index refers to has to be there, in the same snapshot. */
static bool dangling(struct walk *w, const struct mno_checker *c, const MDB_val *k)
{
	return w->e->class == MNO_CLASS_MAIN &&
	       !has_record(w->e, w->t, (uint8_t *)k->mv_data + c->id_at);
}

static const char *why_of(const struct walk *w, const MDB_val *v, int r)
{
	return mno_seal_is_mark(w->db, v->mv_data, v->mv_size)
		       ? "stored data is damaged: it is in quarantine"
		       : mno_strerror(r);
}

static int open_value(struct walk *w, uint8_t kind, const struct mno_checker *c, const MDB_val *k,
	const MDB_val *v)
{
	struct mno_seal head;
	bool peek;
	int r;

	if (mno_seal_is_gone(w->db, k->mv_data, k->mv_size, v->mv_data, v->mv_size)) {
		w->p.gone++;
		return 0;
	}
	if (c && c->open) {
		r = c->open(w->s, w->e, w->db, k, v, w->o.deep, &w->raw);
		if (r < 0 && r != -ENOMEM)
			found(w, mno_db_name(w->db), k->mv_data, k->mv_size, why_of(w, v, r), NULL);
		return r == -ENOMEM ? r : 0;
	}
	peek = mno_seal_peek(k->mv_data, k->mv_size, v->mv_data, v->mv_size, kind, &head) == 0;
	r = mno_seal_open(w->e, w->db, w->z, k->mv_data, k->mv_size, v->mv_data, v->mv_size, kind,
		&head, &w->raw);
	if (r == 0 && w->o.deep && c && c->deep)
		r = c->deep(k->mv_data, &head, &w->raw);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		found(w, mno_db_name(w->db), k->mv_data, k->mv_size, why_of(w, v, r),
			peek ? &head : NULL);
	return 0;
}

static int check_entry(struct walk *w, const MDB_val *k, const MDB_val *v)
{
	const struct mno_checker *c = mno_checker_of(w->db);
	const char *name = mno_db_name(w->db);
	uint8_t kind = c ? c->kind : w->db == MNO_DB_META ? meta_kind(v) : 0;
	size_t n = MNO_MIN(k->mv_size, w->key.len);
	int order = w->any ? memcmp(w->key.data, k->mv_data, n) : -1;

	w->p.values++;
	w->p.bytes += k->mv_size + v->mv_size;
	if (order > 0 || (order == 0 && w->key.len >= k->mv_size))
		found(w, name, k->mv_data, k->mv_size, "the keys are out of order", NULL);
	if (c && c->klen && k->mv_size != c->klen) {
		found(w, name, k->mv_data, k->mv_size, "the key has a wrong length", NULL);
		return 0;
	}
	if (c && !c->kind && !c->open && v->mv_size)
		found(w, name, k->mv_data, k->mv_size, "the value should be empty", NULL);
	else if (c && c->id_at >= 0 && w->o.deep && dangling(w, c, k))
		found(w, name, k->mv_data, k->mv_size, "names a series that is not there", NULL);
	return kind || (c && c->open) ? open_value(w, kind, c, k, v) : 0;
}

/* --- one database ----------------------------------------------------------------------------- */

/* Entries behind w->key until the time is over. 0: there are more, 1: that was the last. */
static int slice(struct walk *w)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + SLICE_NS;
	MDB_val k = {w->key.len, w->key.data}, v;
	MDB_cursor *c;
	int r, rc;

	if (w->e->dbi[w->db] == MNO_DBI_NONE)
		return 1;
	r = mno_read_begin(w->e, &w->t);
	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_open(w->t, w->e->dbi[w->db], &c));
	if (r < 0) {
		mno_read_end(w->e, w->t);
		return r;
	}
	rc = w->any ? mno_cursor_seek(c, MNO_SEEK_GT, &k, &v)
		    : mdb_cursor_get(c, &k, &v, MDB_FIRST);
	for (; rc == 0 && r == 0; rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		r = check_entry(w, &k, &v);
		mno_buf_reset(&w->key);
		mno_buf_add(&w->key, k.mv_data, k.mv_size);
		w->any = true;
		r = r ?: w->key.err;
		if (mno_now_ns(CLOCK_MONOTONIC) > end)
			break;
	}
	mdb_cursor_close(c);
	mno_read_end(w->e, w->t);
	if (r == 0 && rc != 0)
		r = rc == MDB_NOTFOUND ? 1 : mno_lmdb_error(rc);
	return r;
}

static void set_place(struct walk *w)
{
	struct mno_verify_place *p = &w->place;

	p->under_way = 1;
	p->class = (uint8_t)w->e->class;
	p->db = (uint8_t)w->db;
	p->any = w->any;
	p->klen = (uint16_t)MNO_MIN(w->key.len, (size_t)MNO_VERIFY_KEY_MAX);
	p->t0_ms = w->e->t0_ms;
	memset(p->key, 0, sizeof(p->key));
	if (p->klen)
		memcpy(p->key, w->key.data, p->klen);
	p->bytes = w->p.bytes;
	p->values = w->p.values;
	p->damaged = w->p.damaged;
	p->environments = w->p.environments;
	p->took_ns = w->p.took_ns;
}

/* Sleeps what the budget asks for, in steps that a cancel is heard in. -ECANCELED. */
static int pace(struct walk *w)
{
	uint64_t due = w->o.bytes_per_s ? (uint64_t)((double)w->p.bytes / (double)w->o.bytes_per_s *
						     (double)NS_PER_SEC)
					: 0;
	uint64_t now;

	w->p.took_ns = mno_now_ns(CLOCK_MONOTONIC) - w->start_ns;
	set_place(w);
	w->p.place = &w->place;
	if (w->o.progress)
		w->o.progress(w->o.arg, &w->p);
	w->p.place = NULL;
	for (;;) {
		struct timespec ts = {.tv_nsec = 0};

		if (w->o.cancel && atomic_load(w->o.cancel))
			return -ECANCELED;
		now = mno_now_ns(CLOCK_MONOTONIC) - w->start_ns;
		if (now >= due)
			return 0;
		ts.tv_nsec = (long)MNO_MIN(due - now, (uint64_t)SLICE_NS);
		nanosleep(&ts, NULL);
	}
}

static int check_db(struct walk *w, enum mno_db db)
{
	int r;

	w->db = db;
	w->p.db = mno_db_name(db);
	w->any = false;
	mno_buf_reset(&w->key);
	if (w->behind && db < w->place.db)
		return 0;
	if (w->behind && db == w->place.db && w->place.any) {
		mno_buf_add(&w->key, w->place.key, w->place.klen);
		w->any = !w->key.err;
	}
	w->behind = false;
	do {
		r = slice(w);
		if (r >= 0 && pace(w) < 0)
			return -ECANCELED;
	} while (r == 0);
	if (r == -MNO_ECORRUPT || r == -ECANCELED || r == -EIO || r == -EINVAL) {
		found(w, w->p.db, w->any ? w->key.data : NULL, w->key.len,
			"cannot be walked behind this key: the pages are damaged", NULL);
		return 0;
	}
	return r < 0 ? r : 0;
}

/* --- environments ----------------------------------------------------------------------------- */

static int check_pages(struct walk *w)
{
	_cleanup_close_ int fd = openat(w->e->dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : mno_store_check(fd, 0);

	if (r == -MNO_ECORRUPT)
		found(w, "", NULL, 0, "a page of data.mdb is damaged (the log names it)", NULL);
	return r == -MNO_ECORRUPT ? 1 : r;
}

static int check_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct walk *w = arg;
	int r = 0;

	w->e = e;
	w->p.env = name;
	w->p.db = "";
	w->p.environments++;
	if (!e) {
		found(w, "", NULL, 0, mno_strerror(err), NULL);
		return 0;
	}
	if (w->behind && (e->class < w->place.class ||
				 (e->class == w->place.class && e->t0_ms < w->place.t0_ms))) {
		w->p.environments--; /* it is counted in what was done before */
		return 0;
	}
	if (w->behind && (e->class != w->place.class || e->t0_ms != w->place.t0_ms))
		w->behind = false; /* retention took that one */
	else if (w->behind)
		w->p.environments--;
	if (w->o.pages)
		r = check_pages(w);
	if (r == 1)
		return 0; /* a cursor may not go where pages are wrong */
	for (unsigned i = 0; i < MNO_DB_MAX && r == 0; i++)
		if (mno_db_in(i, e->class) && e->dbi[i] != MNO_DBI_NONE)
			r = check_db(w, i);
	return r;
}

static int add_size(void *arg, struct mno_env *e, const char *name, int err)
{
	struct mno_store_stat st = {0};

	if (e && mno_env_stat(e, &st) == 0)
		*(uint64_t *)arg += st.used_bytes;
	return 0;
}

static void go_on(struct walk *w, const struct mno_verify_place *from)
{
	w->place = *from;
	w->behind = from->under_way && from->klen <= MNO_VERIFY_KEY_MAX;
	if (!w->behind)
		return;
	w->p.bytes = from->bytes;
	w->p.values = from->values;
	w->p.damaged = from->damaged;
	w->p.environments = from->environments;
	w->start_ns -= MNO_MIN(from->took_ns, w->start_ns);
}

int mno_store_verify(
	struct mno_store *s, const struct mno_verify_opts *o, struct mno_verify_progress *ret)
{
	struct walk w = {
		.s = s, .start_ns = mno_now_ns(CLOCK_MONOTONIC), .p = {.env = "", .db = ""}};
	int r;

	memcpy(&w.o, o, MNO_MIN(o->sz, sizeof(*o)));
	if (w.o.from)
		go_on(&w, w.o.from);
	w.z = ZSTD_createDCtx();
	if (!w.z)
		return -ENOMEM;
	mno_store_each(s, add_size, &w.p.file_bytes);
	r = mno_store_each(s, check_env, &w);
	w.p.took_ns = mno_now_ns(CLOCK_MONOTONIC) - w.start_ns;
	w.p.env = w.p.db = "";
	ZSTD_freeDCtx(w.z);
	mno_buf_done(&w.raw);
	mno_buf_done(&w.key);
	mno_buf_done(&w.text);
	mno_buf_done(&w.lost);
	if (r == 0)
		*ret = w.p;
	return r;
}
