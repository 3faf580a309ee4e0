/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents in one LMDB environment. Keys (integers big-endian):
 *   DOC       collection u32 | id -> sealed {times, value}
 *   DOC_IDX   index u32 | encoded value | id | length of id u8 -> checksum of the key
 *   DOC_UNIQ  index u32 | encoded value -> id, checksum
 *   DOC_FEED  first sequence number u64 -> sealed chunk of changes
 *   DOC_META  tag | number u32 -> sealed row: catalogue, counters, cursors of background work
 *   DOC_OLD   as DOC: what a migration put in a newer form, as it was, until that is confirmed
 * A sealed value: 8 readable bytes (format and suite; kind and flags; a number of 48 bits), then
 * nonce and tag of the cipher, or a checksum, then the payload. Bound to database and key.
 */
#pragma once

#include "../store/codec.h"
#include "../store/commit.h"
#include "../store/store_internal.h"
#include "mno/map.h"
#include "value.h"

#define DOCS_HEAD      8u
#define DOCS_SUM       8u
#define DOCS_FORM_1    1u /* of values: the first, and what all but documents still have */
#define DOCS_FORM      2u /* of documents: the newest */
#define DOCS_ZSTD_MIN  1024u
#define DOCS_CHUNK     (48u << 10) /* of the feed, before sealing */
#define DOCS_SAVES_MAX 8u
#define DOCS_SNAPS_MAX 8u
#define DOCS_WATCH_MAX 64u
#define DOCS_STEP_DOCS 500u /* of background work in one transaction */
#define DOCS_STEP_NS   (3 * NS_PER_MS)
#define DOCS_KEY_LEN   (4u + MNO_DOC_ID_MAX)
#define DOCS_IDX_LEN   (4u + DOCS_KEY_MAX + MNO_DOC_ID_MAX + 1u)
_Static_assert(DOCS_IDX_LEN <= 511, "LMDB's longest key");

enum docs_seal_kind { DOCS_SEAL_META = 14, DOCS_SEAL_FEED = 15 }; /* others: enum mno_doc_kind */
enum docs_meta_tag {
	DOCS_META_GEN = 'g',   /* number of the catalogue's state */
	DOCS_META_STATE = 's', /* counters of the whole */
	DOCS_META_NS = 'n',
	DOCS_META_COLL = 'c',
	DOCS_META_INDEX = 'x',
	DOCS_META_BUILD = 'b', /* an index that is being built: where */
	DOCS_META_FORM = 'f',  /* a migration that is going on, or not yet confirmed */
	DOCS_META_USAGE = 'u'  /* of a namespace or collection */
			       /* 'N', 'C', 'X', 'F': copies of rows that nothing else could tell */
};

/* --- catalogue: immutable, one per state of it (catalog.c) ------------------------------------- */

struct docs_cat_ns {
	uint32_t id;
	char name[MNO_DOC_NAME_MAX + 1];
	uint64_t quota_docs, quota_bytes;
};
struct docs_cat_index {
	uint32_t id, coll_id;
	struct docs_cat_coll *coll; /* NULL when that is gone */
	char name[MNO_DOC_NAME_MAX + 1];
	char path_text[MNO_DOC_PATH_MAX + 1];
	struct docs_path path;
	uint8_t type, state;
	bool unique, multi, secret;
	uint8_t key[32]; /* of a secret one */
	char error[200];
};
struct docs_cat_coll {
	uint32_t id;
	struct docs_cat_ns *ns;
	char name[MNO_DOC_NAME_MAX + 1];
	bool dropping;
	/* All but those that are dropped; .live of them are kept up to date and come first. */
	struct docs_cat_index *idx[MNO_DOC_INDEX_MAX];
	const struct docs_path *paths[MNO_DOC_INDEX_MAX];
	unsigned n_idx, live;
};
struct docs_cat {
	atomic_uint refs;
	uint64_t gen;
	struct docs_cat_ns *ns;
	struct docs_cat_coll *coll;
	struct docs_cat_index *idx;
	size_t n_ns, n_coll, n_idx;
	struct mno_map *by_name; /* "ns\0coll" -> coll; "ns" -> ns */
};

struct docs_state { /* row DOCS_META_STATE */
	uint64_t next_seq, feed_bytes;
	uint32_t next_id;
	unsigned form; /* that documents are written in */
	uint64_t
		old_seq; /* changes before this one may have a pair in DOC_OLD; 0: there are none */
};
struct docs_usage {
	uint64_t docs, bytes;
};

struct docs_watch {
	unsigned id;
	void (*fn)(void *arg);
	void *arg;
};

struct mno_docs {
	struct mno_store *store;
	struct mno_env *e;
	struct mno_committer *committer;
	struct mno_docs_opts opts;
	_Atomic uint64_t gen_next;
	pthread_mutex_t cat_lock;
	struct docs_cat *cat;
	size_t cat_txn;               /* the read snapshot that .cat was last seen in, or 0 */
	ZSTD_CCtx *cctx;              /* the writer's */
	struct mno_buf plain, packed; /* the writer's */
	unsigned unpacked;            /* the writer's: chunks of the feed that pack() lets pass */
	struct mno_docs_txn *txn;     /* the writer's, kept for its memory */
	pthread_mutex_t lock;         /* below */
	pthread_cond_t cond;          /* a commit, or the end */
	uint64_t committed_seq;       /* next one after the last commit */
	struct docs_watch watch[DOCS_WATCH_MAX];
	unsigned n_watch, watch_id;
	struct mno_docs_snap *snaps;
	unsigned n_snaps;
	bool stopping, kicked;
	pthread_t worker;
	bool worker_runs;
	uint64_t reseal_end_ns; /* the worker's: all is sealed anew since then; 0: it is not */
	bool polite,
		form_told; /* the worker's: its last step was of a migration; no room for one */
	/* Of a migration: what goes on, since when, from where: for its rate. */
	_Atomic uint64_t form_stage, form_ns, form_at;
	_Atomic uint64_t transactions, operations, refused, gets, finds, damaged;
};

/* The catalogue as @t sees it; give it back. */
int docs_cat_get(struct mno_docs *d, MDB_txn *t, struct docs_cat **ret);
/* The same in a write transaction. */
int docs_cat_get_write(struct mno_docs *d, MDB_txn *t, struct docs_cat **ret);
struct docs_cat *docs_cat_unref(struct docs_cat *c);
MNO_DEFINE_CLEANUP(struct docs_cat *, docs_cat_unref)
/* NULL when there is none. */
struct docs_cat_ns *docs_cat_ns(const struct docs_cat *c, const char *ns);
struct docs_cat_coll *docs_cat_coll(const struct docs_cat *c, const char *ns, const char *coll);
struct docs_cat_index *docs_cat_index(const struct docs_cat_coll *c, const char *name);

/* --- sealed values (seal.c) --------------------------------------------------------------------- */

struct docs_head {
	uint8_t form;    /* of the payload; 0 when it is put: DOCS_FORM_1 */
	uint8_t kind;    /* enum mno_doc_kind or docs_seal_kind */
	uint64_t number; /* 48 bits: version, time, count */
};
/* Writer thread. *@ret_bytes (may be NULL): stored. */
int docs_seal_put(struct mno_docs *d, MDB_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct docs_head *h, const void *plain, size_t len, unsigned flags,
	size_t *ret_bytes);
/* The same by a cursor on @db, which is then there. */
int docs_seal_put_at(struct mno_docs *d, MDB_cursor *cur, enum mno_db db, const void *key,
	size_t klen, const struct docs_head *h, const void *plain, size_t len, size_t *ret_bytes);
/* Readable part only. */
int docs_seal_peek(const void *val, size_t len, struct docs_head *ret);
/* Checks, decrypts and unpacks into @out (reset). -MNO_ECORRUPT (counted), -MNO_EVERSION. */
int docs_seal_open(struct mno_docs *d, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len, struct docs_head *ret, struct mno_buf *out);
uint64_t docs_sum(const struct mno_docs *d, const void *p, size_t n);
/* Takes a payload apart, of any form: *@ret points into @plain. */
int docs_doc_read(const struct docs_head *h, const struct mno_buf *plain, struct mno_doc *ret);
/* The payload of @doc in form @form, into @out (reset). */
int docs_doc_write(unsigned form, const struct mno_doc *doc, struct mno_buf *out);

/* --- rows of DOC_META (meta.c) ------------------------------------------------------------------ */

int docs_meta_put(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id,
	const struct mno_buf *row);
/* -ENOENT */
int docs_meta_get(
	struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id, struct mno_buf *row);
int docs_meta_del(struct mno_docs *d, MDB_txn *t, enum docs_meta_tag tag, uint32_t id);
int docs_state_get(struct mno_docs *d, MDB_txn *t, struct docs_state *ret);
int docs_state_put(struct mno_docs *d, MDB_txn *t, const struct docs_state *s);
int docs_usage_get(struct mno_docs *d, MDB_txn *t, uint32_t id, struct docs_usage *ret);
int docs_usage_put(struct mno_docs *d, MDB_txn *t, uint32_t id, const struct docs_usage *u);
int docs_ns_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_ns *n);
int docs_coll_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_coll *c);
int docs_index_put(struct mno_docs *d, MDB_txn *t, const struct docs_cat_index *x);
/* Reads rows as the above wrote them. @ns_id of a collection is in *@ret_ns. -MNO_ECORRUPT */
int docs_ns_read(struct mno_buf *row, struct docs_cat_ns *ret);
int docs_coll_read(struct mno_buf *row, struct docs_cat_coll *ret, uint32_t *ret_ns);
int docs_index_read(struct mno_buf *row, struct docs_cat_index *ret);
/* mend.c: tag of the copy that rows of @tag have, or 0. */
uint8_t docs_meta_copy(enum docs_meta_tag tag);
/* At the opening: rows that are damaged are made right, or as right as can be, with a log line. */
int docs_mend(struct mno_docs *d);
/* The catalogue has changed: a number that was never used. */
int docs_gen_put(struct mno_docs *d, MDB_txn *t);
int docs_gen_get(struct mno_docs *d, MDB_txn *t, uint64_t *ret);

/* --- index entries (entries.c) ------------------------------------------------------------------ */

struct docs_entries { /* what a document has in the indexes of its collection */
	const struct docs_cat_coll *coll;
	struct docs_entry {
		uint32_t off;
		uint16_t len;
		uint8_t index; /* of coll->idx */
	} * v;
	size_t n, cap;
	struct mno_buf bytes, scratch, enc;
	struct mno_docs_error *err;
	unsigned only; /* index to look at, or UINT_MAX */
};
void docs_entries_done(struct docs_entries *e);
/* Fills @e, sorted and without repetitions; also checks the value's kind. -MNO_ESYNTAX, -EINVAL,
 * -MNO_ELIMIT with the error's text. */
int docs_entries_read(struct docs_entries *e, const struct docs_cat_coll *coll, unsigned only,
	enum mno_doc_kind kind, const char *s, size_t len, struct mno_docs_error *err);
static inline const uint8_t *docs_entry_bytes(const struct docs_entries *e, size_t i)
{
	return (const uint8_t *)e->bytes.data + e->v[i].off;
}
int docs_entry_compare(
	const struct docs_entries *a, size_t i, const struct docs_entries *b, size_t k);

/* --- transactions (txn.c) ----------------------------------------------------------------------- */

struct docs_pend {       /* an index entry to be put or deleted at the end */
	uint64_t k0, k1; /* bytes of the key behind the index number, for sorting */
	uint32_t index, off, seq;
	uint32_t len : 10, vlen : 10; /* key as in DOC_IDX; of the index number and value in it */
	bool del : 1, unique : 1;
};
struct docs_delta {
	uint32_t id; /* of the collection, or of its namespace */
	int64_t docs, bytes;
};
struct docs_save {
	MDB_txn *t; /* parent */
	struct docs_cat *cat;
	struct docs_state state;
	size_t n_pend, pend_bytes, bytes;
	struct docs_delta *deltas; /* owned copy */
	size_t n_deltas;
};
struct mno_docs_txn {
	struct mno_docs *d;
	MDB_txn *t; /* the innermost */
	struct docs_cat *cat;
	struct docs_state state;
	int64_t now_ms;
	MDB_cursor *cur;            /* on DOC, of .t; NULL: not open */
	struct docs_cat_coll *coll; /* of .cat, that the last operation named; or NULL */
	struct docs_pend *pend;
	uint32_t *pend_op; /* by .seq: the operation that each is of */
	size_t n_pend, cap_pend;
	size_t n_ops;        /* done */
	struct mno_buf keys; /* of .pend */
	struct docs_delta *deltas;
	size_t n_deltas, cap_deltas;
	struct mno_buf feed; /* changes not yet put */
	uint64_t feed_first;
	uint32_t feed_n;
	uint32_t feed_coll; /* that the last change named */
	size_t bytes;       /* written, about */
	bool broken;        /* after an error: only to be undone */
	bool unmetered;     /* no quota holds: what is there takes another form, or is made again */
	struct docs_save save[DOCS_SAVES_MAX];
	unsigned n_save;
	struct mno_docs_error *err;
	struct docs_entries old_entries, new_entries;
	struct mno_buf value; /* of docs_txn_get() and old ones */
};
/* Runs @fn in a transaction on the writer's thread, and what belongs to its end. @reclaim: also
 * below the disk floor. */
int docs_submit(struct mno_docs *d, int (*fn)(void *arg, struct mno_docs_txn *t), void *arg,
	bool reclaim, struct mno_docs_error *err);
void docs_txn_free(struct mno_docs_txn *t);
/* The collection, made if need be. */
int docs_txn_coll(
	struct mno_docs_txn *t, const char *ns, const char *coll, struct docs_cat_coll **ret);
int docs_txn_recat(struct mno_docs_txn *t);
int docs_txn_usage(struct mno_docs_txn *t, uint32_t id, int64_t docs, int64_t bytes);

/* --- pending entries (pend.c) -------------------------------------------------------------------- */

int docs_pend_add(struct mno_docs_txn *t, const struct docs_cat_index *x, const uint8_t *v,
	size_t vlen, const void *id, size_t id_len, bool del);
/* What a damaged document had in @x is to go; it is only found by looking through all of it. */
int docs_pend_lost(
	struct mno_docs_txn *t, const struct docs_cat_index *x, const void *id, size_t id_len);
/* Puts and deletes them all. -MNO_EUNIQUE with the error's text. */
int docs_pend_flush(struct mno_docs_txn *t);

/* --- feed (feed.c) ------------------------------------------------------------------------------- */

int docs_feed_add(struct mno_docs_txn *t, enum mno_doc_change_op op,
	const struct docs_cat_coll *coll, const struct mno_doc *doc);
/* Puts the changes collected so far; at the end also lets go of old ones. */
int docs_feed_flush(struct mno_docs_txn *t, bool end);
/* The collection is empty from now on. A transaction has nothing else on it. -ENOENT. */
int docs_txn_drop(struct mno_docs_txn *t, const char *ns, const char *coll);
/* The same of the catalogue (feed_admin.c): takes the next number. */
int docs_feed_index(struct mno_docs_txn *t, enum mno_doc_change_op op,
	const struct docs_cat_index *x, const struct docs_cat_coll *coll);
int docs_feed_quota(struct mno_docs_txn *t, const struct docs_cat_ns *n);
/* Makes one of them again. -MNO_ECORRUPT. */
int docs_replay_admin(struct mno_docs_txn *t, const struct mno_doc_change *c);
/* Inside a transaction that has nothing else in it. Errors of their public forms. */
int docs_txn_index(
	struct mno_docs_txn *t, const char *ns, const char *coll, const struct mno_doc_index *def);
int docs_txn_unindex(struct mno_docs_txn *t, const char *ns, const char *coll, const char *name);
int docs_txn_quota(struct mno_docs_txn *t, const char *ns, uint64_t docs, uint64_t bytes);
/* @x cannot be built, because of @why. */
int docs_txn_index_failed(struct mno_docs_txn *t, const struct docs_cat_index *x, const char *why);
/* Deletes the oldest chunks over size or age, a bounded number. 1: there are more. */
int docs_feed_trim(struct mno_docs_txn *t, unsigned max);
/* Before a commit is told to those who wait. */
void docs_committed(struct mno_docs *d, uint64_t next_seq, bool kick);

/* --- a new data key (reseal.c) ------------------------------------------------------------------ */

bool docs_reseal_due(struct mno_docs *d);
/* One step: 1, 0 (the old key waits for readers), or an error. */
int docs_reseal(struct mno_docs *d);
/* --- another form of documents (form.c) ---------------------------------------------------------- */

/* What a migration does to a payload; a row of migrations.def, and a file. */
struct docs_migration {
	/* @plain, of the older form, into @out (reset) in the newer; the other way. -MNO_ECORRUPT */
	int (*forth)(const struct docs_head *h, const struct mno_buf *plain, struct mno_buf *out);
	int (*back)(const struct docs_head *h, const struct mno_buf *plain, struct mno_buf *out);
};
struct docs_step {   /* of background work */
	uint32_t id; /* of the index or collection */
	bool grows;  /* to be left when the disk is near its floor */
	bool more;
};
typedef int (*docs_step_fn)(void *arg, struct mno_docs_txn *t);
/* The step of a migration that is due, or NULL. @t: a read transaction. */
docs_step_fn docs_form_due(struct mno_docs *d, MDB_txn *t, struct docs_step *s);
/* After a step that failed. True: it was a fault of the new form, and all is to go back. */
bool docs_form_failed(struct mno_docs *d, int r);
/* A document that was written before the migration is changed: its older form is of no use. */
int docs_form_forget(struct mno_docs_txn *t, const uint8_t *key, size_t klen);

/* --- background (work.c) ------------------------------------------------------------------------- */
int docs_worker_start(struct mno_docs *d);
void docs_worker_stop(struct mno_docs *d);
/* Closes snapshots that are too old. */
void docs_snaps_reap(struct mno_docs *d, uint64_t now_ns);
/* Get with a transaction that is open. */
int docs_get_in(struct mno_docs *d, MDB_txn *t, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret);
size_t docs_key(uint8_t *key, uint32_t coll, const void *id, size_t id_len);
