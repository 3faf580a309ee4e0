/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents: values with an id, in collections, in namespaces. Durability class D3: what a write
 * returned 0 for survives kill -9 and power cuts. Several writers are committed together.
 *
 * A document has a kind, a version (the sequence number of the change that wrote it: it only
 * increases and is never used twice, also not after a delete), and the times it was created and
 * changed. Names of namespaces, collections and indexes: 1 to 64 of A-Z a-z 0-9 _ . -, not
 * beginning with "_" or ".". Namespaces and collections are made by the first write into them.
 *
 * Readable in the files without the key: ids, and the values of indexes that are not secret (the
 * first 224 bytes). All else is encrypted when the store is. An ordered index of something secret
 * would show its order: index it with .secret, which keeps a keyed hash and finds by equality only.
 *
 * Functions that take a struct mno_docs are thread-safe unless they say otherwise.
 */
#pragma once

#include <stdint.h>
#include "mno/buf.h"
#include "mno/json.h"
#include "mno/store.h"

struct mno_docs;
struct mno_docs_txn;
struct mno_docs_snap;

#define MNO_DOC_NAME_MAX   64u
#define MNO_DOC_ID_MAX     256u
#define MNO_DOC_VALUE_MAX  (1u << 20)
#define MNO_DOC_PATH_MAX   256u   /* bytes of a path, 16 segments */
#define MNO_DOC_NS_MAX     1024u  /* namespaces */
#define MNO_DOC_COLL_MAX   4096u  /* collections */
#define MNO_DOC_INDEX_MAX  16u    /* indexes of a collection */
#define MNO_DOC_MULTI_MAX  16384u /* values and words of one document in all indexes */
#define MNO_DOC_COND_MAX   16u    /* conditions of a query */
#define MNO_DOC_OPS_MAX    100000u
#define MNO_DOC_TXN_MAX    (64u << 20) /* bytes that one transaction writes */
#define MNO_DOC_CURSOR_MAX 768u        /* text of a cursor, with its NUL */
#define MNO_DOC_SNAP_MS    2000u       /* longest life of a snapshot */

enum mno_doc_kind {
	MNO_DOC_JSON = 1, /* strict JSON, at most 32 levels, kept byte for byte */
	MNO_DOC_BINARY,
	MNO_DOC_TEXT,    /* UTF-8 */
	MNO_DOC_INTEGER, /* of 64 bits with sign; the value is its decimal text */
	MNO_DOC_DECIMAL, /* "-12.50", "1e-7": exact, at most 256 digits, kept as written */
	MNO_DOC_KIND_END
};
/* "json", "binary", ...; NULL for no kind. */
const char *mno_doc_kind_name(enum mno_doc_kind k);
/* 0 when there is no such name. */
enum mno_doc_kind mno_doc_kind_find(const char *name);

struct mno_doc {
	const void *id;
	size_t id_len;
	uint64_t version;
	int64_t created_ms, updated_ms; /* Unix */
	enum mno_doc_kind kind;
	const void *value; /* NULL when it was not asked for */
	size_t len;
	/* 1 when it was created, one more with each write; what was written before it was counted
	 * is 1 if it was never changed, else 2. 0: not known (of changes). */
	uint64_t revision;
};

/* What went wrong, in words for people. */
#define MNO_DOC_OP_NONE SIZE_MAX
struct mno_docs_error {
	size_t op; /* which operation of a transaction, from 0; MNO_DOC_OP_NONE: it as a whole */
	char msg[400];
};

/* --- opening ------------------------------------------------------------------------------- */

struct mno_docs_opts {
	size_t sz;                /* sizeof(struct mno_docs_opts) */
	uint64_t feed_bytes;      /* the change feed keeps at most this much; 0 = 256 MiB */
	uint64_t feed_age_ms;     /* ... and this long; 0 = 7 days */
	bool feed_without_values; /* changes say what changed, not to what */
	bool no_worker;           /* nothing in the background: the caller uses mno_docs_work() */
	unsigned form_step;       /* documents in one step of a migration; 0 = what 3 ms allow */
};
/*
 * The documents of @s, which must outlive them. @o may be NULL. One at a time per store.
 * -MNO_ECORRUPT, -MNO_EVERSION, -ENOKEY, -ENOSPC, -ENOMEM, -EIO.
 */
int mno_docs_open(struct mno_store *s, const struct mno_docs_opts *o, struct mno_docs **ret);
/* NULL-safe, returns NULL. Nobody may be inside; snapshots are closed. */
struct mno_docs *mno_docs_close(struct mno_docs *d);
MNO_DEFINE_CLEANUP(struct mno_docs *, mno_docs_close)

/* --- writing ------------------------------------------------------------------------------- */

enum mno_doc_verb { MNO_DOC_PUT = 1, MNO_DOC_DELETE, MNO_DOC_CHECK /* only the precondition */ };
enum mno_doc_pre { MNO_DOC_ANY, MNO_DOC_IF_VERSION, MNO_DOC_IF_ABSENT, MNO_DOC_IF_PRESENT };

struct mno_doc_op {
	enum mno_doc_verb verb;
	enum mno_doc_pre pre;
	uint64_t if_version;
	const char *ns, *coll;
	const void *id;
	size_t id_len;
	enum mno_doc_kind kind;
	const void *value;
	size_t len;
};
struct mno_doc_result {
	uint64_t version; /* after the operation; of a delete: of that change */
	bool existed;     /* before it */
};

/*
 * All of @ops in one transaction, or none: 0 when durable. @results (NULL, or room for @n) is
 * filled then. Errors, with @err (may be NULL) filled:
 *   -MNO_EPRECONDITION  a precondition does not hold, or a document to delete is not there and
 *                       .pre asks for it
 *   -MNO_EUNIQUE        a unique index has the value already
 *   -EINVAL             a name, id, value or number of operations that cannot be
 *   -MNO_ESYNTAX        a value that is not of its kind
 *   -ENOSPC             a quota, or the disk: the text says which
 *   -MNO_ELIMIT         more than MNO_DOC_TXN_MAX, or too many collections
 *   -EAGAIN             writers wait in the queue already up to its bound: try again
 * Deleting what is not there is no error without a precondition.
 */
int mno_docs_apply(struct mno_docs *d, const struct mno_doc_op *ops, size_t n,
	struct mno_doc_result *results, struct mno_docs_error *err);

/*
 * @fn in one transaction on the writer's thread (it may be undone and run again): 0 commits and waits until that is durable, any
 * other result undoes all and is returned. @fn must not wait for anything. Errors as above.
 */
int mno_docs_write(struct mno_docs *d, int (*fn)(void *arg, struct mno_docs_txn *t), void *arg,
	struct mno_docs_error *err);
/* Inside @fn. One operation; @ret may be NULL. After an error the transaction may only be undone,
 * or rolled back to a savepoint. Unique indexes are checked at the end of the transaction. */
int mno_docs_txn_op(
	struct mno_docs_txn *t, const struct mno_doc_op *op, struct mno_doc_result *ret);
/* Sees the transaction's own writes. @ret is borrowed until the next call with @t. -ENOENT. */
int mno_docs_txn_get(struct mno_docs_txn *t, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_doc *ret);
/* Begins a part that can be undone by itself; at most 8 deep (-MNO_ELIMIT). */
int mno_docs_txn_savepoint(struct mno_docs_txn *t);
/* Ends the innermost part: keeps it, or undoes it. -EINVAL: there is none. */
int mno_docs_txn_release(struct mno_docs_txn *t);
int mno_docs_txn_rollback(struct mno_docs_txn *t);

/* --- reading ------------------------------------------------------------------------------- */

/*
 * One document: *@ret points into @buf, which is reset. -ENOENT, -EINVAL (a name),
 * -MNO_ECORRUPT (the stored value is damaged).
 */
int mno_docs_get(struct mno_docs *d, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret);

/*
 * A view that does not change, for at most MNO_DOC_SNAP_MS: later calls return -MNO_EGONE.
 * Old pages are kept that long, so at most 8 exist at a time (-EAGAIN). One thread at a time.
 */
int mno_docs_snap_open(struct mno_docs *d, struct mno_docs_snap **ret);
struct mno_docs_snap *mno_docs_snap_close(struct mno_docs_snap *s);
MNO_DEFINE_CLEANUP(struct mno_docs_snap *, mno_docs_snap_close)
int mno_docs_snap_get(struct mno_docs_snap *s, const char *ns, const char *coll, const void *id,
	size_t id_len, struct mno_buf *buf, struct mno_doc *ret);

enum mno_doc_type { /* of a JSON scalar, in their order */
	MNO_DOC_NULL,
	MNO_DOC_FALSE,
	MNO_DOC_TRUE,
	MNO_DOC_NUMBER,
	MNO_DOC_STRING
};
enum mno_doc_cmp {
	MNO_DOC_EQ,     /* path=value: one of the values there is it */
	MNO_DOC_NE,     /* path!=value: there are some, and none is it */
	MNO_DOC_LT,     /* path<value ...: among values of the same type */
	MNO_DOC_LE,     /* path<=value */
	MNO_DOC_GT,     /* path>value */
	MNO_DOC_GE,     /* path>=value */
	MNO_DOC_PREFIX, /* path^text: a string that begins so */
	MNO_DOC_WORDS,  /* path~words: all words; "|" between alternatives; "pre*" */
	MNO_DOC_EXISTS  /* path? */
};
/*
 * A path names members from the root: "name", "address.city"; "\." is a dot, "$" the root (the
 * whole value of texts, integers and decimals). Arrays on the way stand for their elements.
 */
struct mno_doc_cond {
	const char *path;
	enum mno_doc_cmp cmp;
	enum mno_doc_type type;
	const char *text; /* of numbers and strings (unescaped) */
	size_t len;
};
struct mno_arena;
/*
 * Reads "path OP value" (see enum mno_doc_cmp). The value is JSON if it reads as a JSON scalar
 * ("quoted" text, a number, true, false, null), else a string. Memory from @a.
 * -MNO_ESYNTAX with @err, -ENOMEM.
 */
int mno_docs_where(struct mno_arena *a, const char *s, size_t n, struct mno_doc_cond *ret,
	struct mno_docs_error *err);

struct mno_docs_query {
	const char *ns, *coll;
	const struct mno_doc_cond *conds; /* all must hold */
	size_t n_conds;
	size_t limit;       /* documents; 0 = 100 */
	const char *cursor; /* from an earlier answer to the same query, else -EINVAL; NULL = from
			     * the start */
	bool keys_only;     /* without values */
	uint64_t max_ns;    /* give what was found by then and a cursor; 0 = 10 s */
};
struct mno_docs_found {
	size_t n;         /* documents given */
	uint64_t scanned; /* candidates looked at */
	uint64_t damaged; /* candidates that could not be read: they are missing from the answer */
	char index[MNO_DOC_NAME_MAX + 1]; /* used; "" = all documents were looked at */
	/* An index that would have served is being built: so much of it. Else -1. */
	double building;
	char cursor[MNO_DOC_CURSOR_MAX]; /* "" = that was all */
};
/*
 * Calls @fn for each document that fits, in order of the index used, or of ids; non-zero stops and
 * is returned. Documents are valid during the call, which must not wait or write. Reads in slices
 * of at most 100 ms: between them the collection may change. -ENOENT: no such collection,
 * -EINVAL with @err.
 */
int mno_docs_find(struct mno_docs *d, const struct mno_docs_query *q,
	int (*fn)(void *arg, const struct mno_doc *doc), void *arg, struct mno_docs_found *ret,
	struct mno_docs_error *err);

/* --- indexes ------------------------------------------------------------------------------- */

enum mno_doc_index_type { MNO_DOC_ORDERED, MNO_DOC_FULLTEXT };
enum mno_doc_index_state {
	MNO_DOC_INDEX_READY,
	MNO_DOC_INDEX_BUILDING,
	MNO_DOC_INDEX_FAILED,
	MNO_DOC_INDEX_DROPPING
};
/*
 * Ordered: null, booleans, numbers (exact, by value) and strings (by bytes) in that order, the
 * first 224 bytes and a hash of the rest. Documents that lack the path are not in the index.
 * Unique: no two documents have the same value there. Multi: an array there is indexed by its
 * elements; without it such a document is refused. Full text: the words of strings, lower case.
 */
struct mno_doc_index {
	const char *name, *path;
	enum mno_doc_index_type type;
	bool unique, multi, secret;
	/* Filled by mno_docs_index_each(): */
	enum mno_doc_index_state state;
	double progress;   /* of building, 0..1 */
	const char *error; /* why it failed, else NULL */
};
/*
 * Declares an index; it is filled in the background in small steps, which go on after a restart.
 * The collection is made if need be. -EEXIST: there is another of that name; the same again is 0.
 */
int mno_docs_index_create(struct mno_docs *d, const char *ns, const char *coll,
	const struct mno_doc_index *def, struct mno_docs_error *err);
/* Out of use at once, its entries go in the background. -ENOENT. */
int mno_docs_index_drop(struct mno_docs *d, const char *ns, const char *coll, const char *name,
	struct mno_docs_error *err);
/* Non-zero of @fn stops and is returned. -ENOENT: no such collection. */
int mno_docs_index_each(struct mno_docs *d, const char *ns, const char *coll,
	int (*fn)(void *arg, const struct mno_doc_index *x), void *arg);

/* --- namespaces and collections ------------------------------------------------------------- */

struct mno_docs_usage {
	const char *ns, *coll;            /* .coll NULL: the namespace */
	uint64_t docs, bytes;             /* of documents, without indexes */
	uint64_t quota_docs, quota_bytes; /* 0 = none; of namespaces */
	size_t indexes;                   /* of collections */
};
/* Sets both quotas, 0 = none; makes the namespace. Less than is used: only stops growth. */
int mno_docs_quota(struct mno_docs *d, const char *ns, uint64_t docs, uint64_t bytes,
	struct mno_docs_error *err);
/* Collections of @ns, or of all (NULL), each after its namespace. */
int mno_docs_usage_each(struct mno_docs *d, const char *ns,
	int (*fn)(void *arg, const struct mno_docs_usage *u), void *arg);
/* The collection is empty and without indexes at once; room is freed in the background. -ENOENT. */
int mno_docs_coll_drop(
	struct mno_docs *d, const char *ns, const char *coll, struct mno_docs_error *err);

/* --- change feed ----------------------------------------------------------------------------- */

enum mno_doc_change_op {
	MNO_DOC_CHANGE_PUT = 1,
	MNO_DOC_CHANGE_DELETE,
	MNO_DOC_CHANGE_DROP,         /* of a collection */
	MNO_DOC_CHANGE_INDEX,        /* declared: .doc has its name as id, its definition as JSON */
	MNO_DOC_CHANGE_UNINDEX,      /* dropped */
	MNO_DOC_CHANGE_INDEX_FAILED, /* it cannot be built: the value is why */
	MNO_DOC_CHANGE_QUOTA,        /* of the namespace: .coll is "", the value is JSON */
	MNO_DOC_CHANGE_MAX
};
struct mno_doc_change {
	uint64_t seq; /* from 1, without gaps; the version of what a put wrote */
	int64_t time_ms;
	enum mno_doc_change_op op;
	const char *ns, *coll;
	struct mno_doc
		doc; /* a put's .value is NULL when the feed is without values; of a drop: no id */
};
/*
 * Calls @fn for each change from @from on that is committed now, in order; what it gets is valid
 * during the call, which may take its time. Non-zero stops and is returned. *@ret_next: where to
 * go on. -MNO_EGONE: changes from there on are no longer kept, *@ret_next is the oldest one.
 */
int mno_docs_feed_read(struct mno_docs *d, uint64_t from,
	int (*fn)(void *arg, const struct mno_doc_change *c), void *arg, uint64_t *ret_next);
/* Sequence numbers: of the oldest change kept, and that the next one will have. */
int mno_docs_feed_bounds(struct mno_docs *d, uint64_t *ret_oldest, uint64_t *ret_next);
/* Waits until there is a change @seq. 0, -ETIMEDOUT, -ESHUTDOWN (closing). */
int mno_docs_feed_wait(struct mno_docs *d, uint64_t seq, uint64_t timeout_ns);
/* @fn after every commit, on the thread of the writer's caller; it must be short and not call back.
 * At most 64 (-EMFILE). Ends with mno_docs_unwatch(), after which @fn does not run any more. */
int mno_docs_watch(struct mno_docs *d, void (*fn)(void *arg), void *arg, unsigned *ret_id);
void mno_docs_unwatch(struct mno_docs *d, unsigned id);

/*
 * Makes @n changes of a feed again, in one transaction, with the numbers and times they had: after
 * it the documents are as they were at the last of them. Those that are there already are left
 * out, so twice is as once. Quotas do not count. What is no put or delete is in a call of its own. Nobody else may
 * write. -MNO_EGONE: changes between those stored and @c are missing; -MNO_ECORRUPT: they are of
 * another history; else as mno_docs_apply(), with err->op the change.
 */
int mno_docs_replay(
	struct mno_docs *d, const struct mno_doc_change *c, size_t n, struct mno_docs_error *err);

/* --- upkeep ---------------------------------------------------------------------------------- */

/* One step of what is done in the background. 1 when there is more, 0 when not, or an error. */
int mno_docs_work(struct mno_docs *d);

struct mno_docs_stat {
	uint64_t docs, bytes, namespaces, collections, indexes, indexes_building;
	uint64_t transactions, operations, refused; /* since open */
	uint64_t gets, finds, damaged;              /* since open */
	uint64_t feed_oldest, feed_next, feed_bytes;
	uint64_t snapshots, watchers;
};
struct mno_docs_groups {
	uint64_t groups, failed,
		requests;             /* commits since open; of them failed; transactions in them */
	uint64_t largest, waiting;    /* transactions: in one commit; now */
	uint64_t last_ns, longest_ns; /* of a commit, from its begin to durable */
};
/* Any thread; does not touch the store. */
void mno_docs_groups(struct mno_docs *d, struct mno_docs_groups *ret);
/* Reads the counters of all namespaces, so not for every request. */
int mno_docs_stat(struct mno_docs *d, struct mno_docs_stat *ret);

/*
 * Reads every document and every index entry: values are whole, entries and documents agree,
 * counters are right. Calls @fn with one line for each fault. *@ret_n: documents read. In slices:
 * run it while nothing writes, or take faults of changing documents with care. @max_ns: 0 = all.
 */
int mno_docs_check(struct mno_docs *d, uint64_t max_ns, void (*fn)(void *arg, const char *fault),
	void *arg, uint64_t *ret_n, uint64_t *ret_faults);

/* --- another form of documents ------------------------------------------------------------------ */

/*
 * Documents that an older version wrote are put in the present form in the background, while they
 * are read and written: old values are read as they are, what is written has the new form. Each old
 * value is kept until all were compared, and then until the migration is confirmed or
 * MNO_DOCS_FORM_KEEP_MS have passed; until then it can be undone, also in the background, and an
 * older version can read all again. What cannot be read stays as it is, and is counted.
 */
#define MNO_DOCS_FORM_KEEP_MS (7 * 86400000LL)

enum mno_docs_form_stage {
	MNO_DOCS_FORM_NONE,   /* of the present form, nothing to do */
	MNO_DOCS_FORM_NEEDED, /* an older form; it begins by itself if there is room */
	MNO_DOCS_FORM_COPYING,
	MNO_DOCS_FORM_CHECKING, /* all documents are compared with what they were */
	MNO_DOCS_FORM_DONE,     /* the old values are still there */
	MNO_DOCS_FORM_UNDOING,
	MNO_DOCS_FORM_CLEARING, /* undoing: the last of it */
	MNO_DOCS_FORM_UNDONE,   /* of the older form, and to stay so */
	MNO_DOCS_FORM_CONFIRMING,
	MNO_DOCS_FORM_STAGES
};
struct mno_docs_form {
	enum mno_docs_form_stage stage;
	const char *name; /* for people */
	unsigned from, to;
	uint64_t done, total;                     /* documents of this stage */
	uint64_t damaged;                         /* that could not be read */
	double rate;                              /* documents a second, 0 not known yet */
	int64_t remaining_ms;                     /* of all of it, -1 not known yet */
	uint64_t old_bytes;                       /* of the old values */
	uint64_t need_bytes;                      /* of disk for them, while NEEDED */
	uint64_t free_bytes;                      /* of disk, above the floor */
	int64_t began_ms, done_ms, keep_until_ms; /* Unix; 0 not yet */
	bool failed; /* undone, because the new form was not as the old one */
};
/* Short name of a stage: "none", "needed", ... */
const char *mno_docs_form_stage_name(enum mno_docs_form_stage s);
/* How far it is. Errors of the store. */
int mno_docs_form(struct mno_docs *d, struct mno_docs_form *ret);
enum mno_docs_form_want { MNO_DOCS_FORM_RUN, MNO_DOCS_FORM_UNDO, MNO_DOCS_FORM_CONFIRM };
/*
 * Undoes a migration that is going on or done, confirms one that is done, or runs one again that
 * was undone: returns when that is decided and durable, the background does it. -ENOENT: there is
 * nothing like that to undo, confirm, or run.
 */
int mno_docs_form_want(struct mno_docs *d, enum mno_docs_form_want want);

/* --- JSON ------------------------------------------------------------------------------------ */

/* {"id","version","created_ms","updated_ms","kind","value"}; ids and texts that are not UTF-8 and
 * binary values as "id_base64", "value_base64"; decimals as a string. */
void mno_doc_json(const struct mno_doc *doc, struct mno_json *j);
void mno_doc_change_json(const struct mno_doc_change *c, struct mno_json *j);
/*
 * Reads a transaction: {"ops":[{"op":"put","ns","coll","id" or "id_base64","kind","value" or
 * "value_base64","if_version":N,"if_absent":true,"if_present":true}, ...]}, or the list alone.
 * Without "kind": json. Memory of *@ret_ops from @a. -MNO_ESYNTAX, -EINVAL, -MNO_ELIMIT with @err.
 */
int mno_docs_ops_parse(struct mno_arena *a, const char *s, size_t n, struct mno_doc_op **ret_ops,
	size_t *ret_n, struct mno_docs_error *err);
/* Appends unpadded standard base64; reads it, padded or not (-EINVAL). Pure. */
void mno_base64_add(struct mno_buf *b, const void *p, size_t n, bool url);
int mno_base64_read(const char *s, size_t n, struct mno_buf *out);
