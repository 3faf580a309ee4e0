/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the modules that keep data in an environment (series, ledger) see of it: databases,
 * sealed values, one-shot reads.
 */
#pragma once

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <zstd.h>
#include "mno/buf.h"
#include "mno/store.h"
#include "mno/store_check.h"

#define MNO_STORE_FORMAT 2u          /* of the directory; a newer one is refused */
#define MNO_DBI_NONE     UINT32_MAX  /* of an older form that is only read */
#define MNO_SEAL_RAW_MAX (16u << 20) /* bytes in one sealed value before compression */
/* LMDB leaves the last pages unwritten when the transaction freed them again. */
#define MNO_UNWRITTEN_SLACK (4ULL << 20)
#define MNO_RESEAL_GRACE_NS (2 * NS_PER_SEC)  /* copies of values are opened within that */
#define MNO_READ_SLICE_NS   (100 * NS_PER_MS) /* longest life of a read transaction */
#define MNO_ENV_READERS     32                /* watched at once, per environment */
#define MNO_ENV_ID_LEN      16

enum mno_period { MNO_PERIOD_NONE, MNO_PERIOD_DAY, MNO_PERIOD_MONTH, MNO_PERIOD_YEAR };
enum mno_durability { MNO_DURABILITY_D1 = 1, MNO_DURABILITY_D2, MNO_DURABILITY_D3 };
enum mno_class_flags { MNO_CLASS_ORDERED = 1, MNO_CLASS_BULK = 2 };
enum mno_class {
#define CLASS(id, dir, period, durability, flags, what) MNO_CLASS_##id,
#include "classes.def"
#undef CLASS
	MNO_CLASS_MAX
};
enum mno_db {
#define DB(id, name, class) MNO_DB_##id,
#include "dbs.def"
#undef DB
	MNO_DB_MAX
};

struct mno_class_info {
	const char *dir, *what;
	enum mno_period period;
	enum mno_durability durability;
	unsigned flags;
};
const struct mno_class_info *mno_class_info(enum mno_class c);
const char *mno_db_name(enum mno_db db);
/* Whether environments of @c have @db. */
bool mno_db_in(enum mno_db db, enum mno_class c);
/* Start and end of the period of @c that @t_ms is in. */
void mno_class_bounds(enum mno_class c, int64_t t_ms, int64_t *ret_t0, int64_t *ret_t1);

/*
 * Walks the pages of the data file @fd, which nobody may be writing, for @max_ns at most
 * (0 = all of them). 0 when
 * LMDB can work on it (or will refuse it itself), -MNO_ECORRUPT after saying which page is wrong,
 * -ENOMEM, -errno of reading.
 */
int mno_store_check(int fd, uint64_t max_ns);

/* The write transaction of one environment. */
struct mno_txn {
	struct mno_env *e;
	MDB_txn *t; /* NULL: none open */
};

/* A read transaction, kept for the next reader when it has ended. */
struct mno_env_reader {
	atomic_bool busy;
	_Atomic(MDB_txn *) t;      /* owned; written only by who set .busy; NULL: none begun yet */
	_Atomic uint64_t since_ns; /* CLOCK_MONOTONIC, of its last tick; 0: not running */
	uint64_t commits;          /* of the environment when .t saw it first; of who set .busy */
	bool kept;                 /* .t has ended and still sees that; of who set .busy */
	char _pad[24];             /* places of two threads do not share a line */
};

/* One LMDB environment: a directory below the store's. */
struct mno_env {
	struct mno_store *store;
	enum mno_class class;
	int64_t t0_ms, t1_ms; /* what it is for: t0 <= time < t1; all of time without a period */
	char name[32];        /* its directory */
	MDB_env *env;
	MDB_dbi dbi[MNO_DB_MAX]; /* those of its class */
	int dir_fd;
	uint8_t id[MNO_ENV_ID_LEN];
	struct mno_cipher *cipher; /* NULL: not encrypted */
	ZSTD_CCtx *cctx;           /* the writer's */
	struct mno_buf scratch;    /* the writer's: compressed form of a value */
	struct mno_txn txn;
	/* Held shared by read transactions, exclusively while the map is resized. */
	pthread_rwlock_t map_lock;
	_Atomic uint64_t map_bytes;
	void *map_at; /* where the file is mapped, the writer's; NULL: not known */
	size_t map_len;
	_Atomic uint64_t commits, sync_ns; /* sync_ns: the last commit */
	_Atomic uint64_t longest_sync_ns;
	_Atomic uint64_t slow_readers; /* lived longer than MNO_READ_SLICE_NS */
	_Atomic uint64_t pinned_ns;    /* CLOCK_MONOTONIC since when a backup reads; 0: none does */
	struct mno_env_reader readers[MNO_ENV_READERS];
	uint64_t reader_check_ns;
	uint64_t reserved;    /* of the data key's values: as stored, the count never runs ahead */
	uint8_t reserved_key; /* the data key's id */
	atomic_bool key_used_up; /* a new data key is due */
	bool touched;  /* data.mdb is not as its sums say; they are written anew at the end */
	bool map_full; /* the last transaction ran out of map */
	/* Under the store's lock. */
	unsigned refs;
	bool gone; /* unlinked: closed with the last reference */
	struct mno_env *next;
};

#define MNO_PARTS_MAX 24 /* partitions that one transaction writes; more are committed early */

struct mno_store {
	struct mno_store_opts opts;
	int dir_fd, lock_fd;
	struct mno_keys *keys;
	struct mno_keys *next_keys; /* a change of the KEK is under way */
	struct mno_env *main;
	pthread_mutex_t lock;                 /* envs, references */
	struct mno_env *envs;                 /* open ones */
	struct mno_env *parts[MNO_PARTS_MAX]; /* with a transaction open beside main's */
	size_t n_parts;
	int64_t opened_ms; /* Unix time */
	_Atomic uint64_t damaged;
	_Atomic uint64_t mended;             /* flipped bits in pages, put right at opening */
	_Atomic uint64_t dropped_partitions; /* for want of room */
	bool reader_told;                    /* the watch's own */
	pthread_mutex_t rotate_lock;         /* one change of keys at a time */
	struct {
		atomic_bool from;   /* main has values under an older data key */
		bool ending;        /* the open transaction looked at the last one */
		atomic_bool at_end; /* all were looked at, and that is committed */
		uint64_t end_ns;    /* since when; monotonic */
		uint64_t grace_ns;  /* how long the old key stays for what readers hold */
		_Atomic uint64_t done, left;
	} reseal;
	struct { /* the same of docs, which its own writer does */
		atomic_bool from;
		_Atomic uint64_t done, left;
	} reseal_docs;
	struct {
		pthread_mutex_t lock;
		struct note *first; /* damaged values that wait to be moved, MNO_QUARANTINE_NOTES */
		size_t n, bytes;
		_Atomic uint64_t moved, refused, rebuilt;
		_Atomic uint64_t gone; /* of those moved: dropped, or made again */
	} quarantine;
	struct { /* under the lock of quarantine */
		struct mno_verify_place place;
		bool keep; /* it waits to be stored */
	} scrub;
	struct {
		_Atomic int64_t time_ms; /* what is believed; INT64_MAX: nothing is known yet */
		int64_t waited_ms;       /* on a course that is not; the writer's, as is up_ns */
		uint64_t up_ns;          /* when it was told last */
	} clock;
	_Atomic uint64_t set_aside; /* partitions that could not be opened, since the start */
	uint8_t hash_key[16];       /* random per store, for fingerprints */
};

/* What an earlier run believed of the clock. At opening. */
void mno_store_clock_load(struct mno_store *s);

/*
 * The environment of @c for time @t_ms (ignored without a period), opened or, with @create, made.
 * Give it back with mno_env_unref(). -ENOENT: there is none. -MNO_ECORRUPT, -ENOKEY, ... Any
 * thread, not inside a read transaction.
 */
int mno_store_env(
	struct mno_store *s, enum mno_class c, int64_t t_ms, bool create, struct mno_env **ret);
/* NULL-safe, returns NULL. */
struct mno_env *mno_env_unref(struct mno_env *e);
MNO_DEFINE_CLEANUP(struct mno_env *, mno_env_unref)

/* Partitions of a class that overlap [t0_ms, t1_ms], by time: start of each. Free @ret with free().
 * Any thread. */
int mno_store_partitions(struct mno_store *s, enum mno_class c, int64_t t0_ms, int64_t t1_ms,
	int64_t **ret, size_t *ret_n);
/* Calls @fn for each environment there is, opened for the call; @err != 0: it could not be opened
 * (then @e is NULL). Non-zero of @fn stops and is returned. */
int mno_store_each(struct mno_store *s,
	int (*fn)(void *arg, struct mno_env *e, const char *name, int err), void *arg);
/* Unlinks the partitions of @c that end at or before @t_ms, their data keys first: what was in them
 * cannot be read again. Readers that are inside keep what they see. Those that were attached stay.
 * *@ret_n: how many. */
int mno_store_drop(struct mno_store *s, enum mno_class c, int64_t t_ms, size_t *ret_n);
/* That one of @c that @t_ms is in, attached or not. -ENOENT. Any thread. */
int mno_store_drop_one(struct mno_store *s, enum mno_class c, int64_t t_ms);
/* "ts-20261123" -> class and start. -EINVAL: no name of a partition. Pure. */
int mno_env_parse(const char *name, enum mno_class *ret_class, int64_t *ret_t0_ms);

/* attached.c: partitions that came back from an archive have this file; archives on record have one
 * of their name in the directory "archived": as long as it is there, names of their series stay. */
#define MNO_ATTACHED_FILE "attached"
#define MNO_ARCHIVED_DIR  "archived"
bool mno_store_attached(struct mno_store *s, enum mno_class c, int64_t t_ms);
/* Start of the oldest partition that is attached or in an archive on record; INT64_MAX: none. */
int64_t mno_store_held_ms(struct mno_store *s);

/*
 * Inside the store's write transaction @main_txn: that of the partition of @c for @t_ms, begun on
 * first use, committed before main's. Not atomic with it over a crash: what a partition has may be
 * there while main's part is not, never the other way (class flag ORDERED; without it either may
 * be missing after a power cut).
 */
int mno_txn_part(struct mno_txn *main_txn, enum mno_class c, int64_t t_ms, struct mno_txn **ret);

/* sealed.c: how many values the data key has sealed, over restarts. Before a commit: inside it. */
int mno_env_count_load(struct mno_env *e);
int mno_env_count_save(struct mno_env *e);
/* reseal.c: whether someone may hold values from before @end_ns (CLOCK_MONOTONIC): an older snapshot,
 * or a copy out of it. */
bool mno_env_still_read(struct mno_env *e, uint64_t end_ns);
/* Forgets all data keys but the newest, when nothing on disk needs them. */
int mno_env_drop_old_keys(struct mno_env *e);

/* env.c: one environment. */
int mno_env_new(
	struct mno_store *s, enum mno_class c, int64_t t_ms, bool create, struct mno_env **ret);
struct mno_env *mno_env_free(struct mno_env *e);
/* unborn.c: removes the data file of an environment whose making a crash cut short, before anything
 * was committed. Nobody may have it open. 0, -errno. */
int mno_env_sweep_unborn(int dir_fd);
/* Sets the name of its directory from class and t0. */
void mno_env_name(struct mno_env *e);
/* Format of the environments of a class: the newest there is. Environments of documents have
 * MNO_STORE_FORMAT while all of them are of their first form. */
unsigned mno_env_format_newest(enum mno_class c);
/* In a write transaction: what the environment says it is. Older programs refuse what is newer. */
int mno_env_format_put(struct mno_env *e, MDB_txn *t, unsigned format);
/* Without the disk floor and without children; for environments that have a writer of their own. */
int mno_env_txn_begin(struct mno_env *e, struct mno_txn **ret);
int mno_env_txn_commit(struct mno_env *e);
void mno_env_txn_abort(struct mno_env *e);
/* -ENOSPC below the disk floor. */
int mno_store_floor(struct mno_store *s);
/* Age of the oldest read transaction, 0 if there is none. Any thread. */
uint64_t mno_env_oldest_reader_ns(struct mno_env *e);
/* Adds its figures to @add. Any thread. */
int mno_env_stat(struct mno_env *e, struct mno_store_stat *add);

/* LMDB's result as ours (0, -errno, -MNO_E*). */
int mno_lmdb_error(int rc);
/* The same inside a write transaction: notes a full map so that the next begin grows it. */
int mno_txn_error(struct mno_txn *t, int rc);

int mno_txn_put(struct mno_txn *t, enum mno_db db, const void *key, size_t klen, const void *val,
	size_t vlen);
/* -ENOENT if absent. */
int mno_txn_del(struct mno_txn *t, enum mno_db db, const void *key, size_t klen);
/* *@ret_p borrowed until the next write of the transaction. -ENOENT. */
int mno_txn_get(struct mno_txn *t, enum mno_db db, const void *key, size_t klen, const void **ret_p,
	size_t *ret_len);

/* Now and then lets go of the file's mapped pages, which else pile up as resident memory. Writer
 * thread, outside of a write transaction. */
void mno_env_trim(struct mno_env *e);

/* One read transaction, any thread. The longest section may not exceed MNO_READ_SLICE_NS. */
int mno_read_begin(struct mno_env *e, MDB_txn **ret);
void mno_read_end(struct mno_env *e, MDB_txn *t);
/* Ends what is kept of snapshots, so that their pages can be used again. */
void mno_env_readers_reset(struct mno_env *e);
/* Lets go of the transactions that are kept, before the environment is closed: nobody reads. */
void mno_env_readers_free(struct mno_env *e);

enum mno_seek { MNO_SEEK_EQ, MNO_SEEK_GE, MNO_SEEK_GT, MNO_SEEK_LE, MNO_SEEK_LT };
/*
 * Copies the pair nearest to @key in the given direction in a read transaction of its own.
 * @key and @val may be NULL if not wanted; @from may be @key's data. -ENOENT: there is none.
 */
int mno_env_fetch(struct mno_env *e, enum mno_db db, enum mno_seek dir, const void *from,
	size_t from_len, struct mno_buf *key, struct mno_buf *val);
/* The same in a read transaction that is open. */
int mno_read_fetch(struct mno_env *e, MDB_txn *t, enum mno_db db, enum mno_seek dir,
	const void *from, size_t from_len, struct mno_buf *key, struct mno_buf *val);
/* The same in the main environment. */
int mno_store_fetch(struct mno_store *s, enum mno_db db, enum mno_seek dir, const void *from,
	size_t from_len, struct mno_buf *key, struct mno_buf *val);
/* The same on a cursor: positions it. MDB result. */
int mno_cursor_seek(MDB_cursor *c, enum mno_seek dir, MDB_val *key, MDB_val *val);

/* --- sealed values: header, checksum over key and all, zstd; padded to whole pages ---------- */
/* Encrypted (version 2) if the environment has a cipher; else (1) with a checksum. */
enum mno_seal_kind {
	MNO_SEAL_SERIES = 1,
	MNO_SEAL_BLOCK = 2,
	MNO_SEAL_TAIL = 3,
	MNO_SEAL_PROC = 4,
	MNO_SEAL_EVENT = 5,
	MNO_SEAL_POSTING = 20,
	MNO_SEAL_VALUES = 21,
	MNO_SEAL_SPAN = 22,
	MNO_SEAL_META = 6,
	MNO_SEAL_ROLL = 16,
	MNO_SEAL_LATE = 7,
	MNO_SEAL_HIST = 8,
	MNO_SEAL_AGG = 9,
	MNO_SEAL_RECORDS = 23,
};
struct mno_seal {
	uint8_t kind, flags; /* flags: the kind's own */
	uint8_t level;       /* of compression when it is put; 0: the default */
	uint32_t count;      /* items inside */
	uint64_t a, b; /* the kind's own, readable without unpacking (e.g. first and last time) */
};
/* Seals @raw and puts it. Writer thread. *@ret_bytes (may be NULL) is the stored size. */
int mno_seal_put(struct mno_txn *t, enum mno_db db, const void *key, size_t klen,
	const struct mno_seal *s, const void *raw, size_t raw_len, size_t *ret_bytes);
/* Header only, with a checksum of its own: enough to skip a value. -MNO_ECORRUPT, -MNO_EVERSION */
int mno_seal_peek(const void *key, size_t klen, const void *val, size_t len,
	enum mno_seal_kind kind, struct mno_seal *ret);
/*
 * Checks, decrypts and unpacks a value of @e into @raw (reset first; its bytes are followed by 8 zero bytes that
 * are not counted, so that decoders may load words). @z may be NULL (slower).
 * -MNO_ECORRUPT, -MNO_EVERSION, -ENOKEY, -ENOMEM. @e may be NULL for what is not encrypted.
 */
int mno_seal_open(struct mno_env *e, enum mno_db db, ZSTD_DCtx *z, const void *key, size_t klen,
	const void *val, size_t len, enum mno_seal_kind kind, struct mno_seal *ret,
	struct mno_buf *raw);

/* Room that a value of @n bytes takes anyway. Pure. */
size_t mno_seal_padded(size_t n);
/* What stays in the place of a damaged value: it never opens, and tells as much of the old head as
 * could be read. Returns its length. Pure. */
#define MNO_SEAL_MARK_MAX 40u
size_t mno_seal_mark(enum mno_db db, const void *key, size_t klen, const void *val, size_t len,
	uint8_t ret[MNO_SEAL_MARK_MAX]);
bool mno_seal_is_mark(enum mno_db db, const void *val, size_t len);
/* Makes the @mark one of a loss that was accepted: it answers as before, and is no damage. Pure. */
void mno_seal_gone(enum mno_db db, const void *key, size_t klen, void *mark);
bool mno_seal_is_gone(enum mno_db db, const void *key, size_t klen, const void *val, size_t len);

/* --- keys ------------------------------------------------------------------------------------ */
static inline void mno_be32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}
static inline void mno_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, 8);
}
static inline uint32_t mno_get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}
static inline uint64_t mno_get_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return __builtin_bswap64(v);
}
/* Signed times sort as unsigned keys. */
static inline uint64_t mno_time_key(int64_t t)
{
	return (uint64_t)t ^ (1ULL << 63);
}
static inline int64_t mno_time_unkey(uint64_t k)
{
	return (int64_t)(k ^ (1ULL << 63));
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored integers are little-endian");
