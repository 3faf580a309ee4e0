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

#define MNO_STORE_FORMAT 1u          /* of the directory; a newer one is refused */
#define MNO_SEAL_RAW_MAX (16u << 20) /* bytes in one sealed value before compression */
/* LMDB leaves the last pages unwritten when the transaction freed them again. */
#define MNO_UNWRITTEN_SLACK (4ULL << 20)
#define MNO_READ_SLICE_NS   (100 * NS_PER_MS) /* longest life of a read transaction */

/* Databases of the environment. Append only: the names are on disk. */
#define MNO_DBS(X)                                                                                 \
	X(META, "meta")               /* text -> small values */                                   \
	X(SERIES, "series")           /* id u32 -> sealed {last_ms, key text} */                   \
	X(SERIES_FP, "series_fp")     /* fingerprint u64 | id u32 -> "" */                         \
	X(SERIES_HOT, "series_hot")   /* id u32 -> "": in the head */                              \
	X(SERIES_COLD, "series_cold") /* last seen u64 | id u32 -> "": order of expiry */          \
	X(BLOCK, "block")             /* group u32 | t0 u64 -> sealed block */                     \
	X(TAIL, "tail")               /* t u64 -> sealed row */                                    \
	X(PROC, "proc")               /* end u64 | seq u32 -> sealed batch of ledger rows */       \
	X(EVENT, "event")             /* last u64 | seq u32 -> sealed batch of records */          \
	X(POSTING, "posting")         /* list 16 B | first group u32 -> sealed series ids */       \
	X(VALUES, "values")           /* label 16 B | node u32 -> sealed texts in order */         \
	X(SPAN, "span")               /* group / 64 u32 -> sealed times of groups */

enum mno_db {
#define X(id, name) MNO_DB_##id,
	MNO_DBS(X)
#undef X
		MNO_DB_MAX
};

/*
 * Walks the pages of the data file @fd, which nobody may be writing, for @max_ns at most
 * (0 = all of them). 0 when
 * LMDB can work on it (or will refuse it itself), -MNO_ECORRUPT after saying which page is wrong,
 * -ENOMEM, -errno of reading.
 */
int mno_store_check(int fd, uint64_t max_ns);

struct mno_txn {
	struct mno_store *e;
	MDB_txn *t; /* NULL: none open */
};

struct mno_store {
	MDB_env *env;
	MDB_dbi dbi[MNO_DB_MAX];
	struct mno_store_opts opts;
	int dir_fd, lock_fd;
	ZSTD_CCtx *cctx;        /* the writer's */
	struct mno_buf scratch; /* the writer's: compressed form of a value */
	struct mno_txn txn;
	/* Held shared by read transactions, exclusively while the map is resized. */
	pthread_rwlock_t map_lock;
	_Atomic uint64_t map_bytes;
	_Atomic uint64_t commits;
	_Atomic uint64_t damaged;
	uint64_t reader_check_ns;
	uint8_t hash_key[16]; /* random per store, for fingerprints */
	bool map_full;        /* the last transaction ran out of map */
};

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
void mno_store_trim(struct mno_store *e);

/* One read transaction, any thread. The longest section may not exceed MNO_READ_SLICE_NS. */
int mno_read_begin(struct mno_store *e, MDB_txn **ret);
void mno_read_end(struct mno_store *e, MDB_txn *t);

enum mno_seek { MNO_SEEK_EQ, MNO_SEEK_GE, MNO_SEEK_GT, MNO_SEEK_LE, MNO_SEEK_LT };
/*
 * Copies the pair nearest to @key in the given direction in a read transaction of its own.
 * @key and @val may be NULL if not wanted; @from may be @key's data. -ENOENT: there is none.
 */
int mno_store_fetch(struct mno_store *e, enum mno_db db, enum mno_seek dir, const void *from,
	size_t from_len, struct mno_buf *key, struct mno_buf *val);
/* The same on a cursor: positions it. MDB result. */
int mno_cursor_seek(MDB_cursor *c, enum mno_seek dir, MDB_val *key, MDB_val *val);

/* --- sealed values: header, checksum over key and all, zstd; padded to whole pages ---------- */
enum mno_seal_kind {
	MNO_SEAL_SERIES = 1,
	MNO_SEAL_BLOCK = 2,
	MNO_SEAL_TAIL = 3,
	MNO_SEAL_PROC = 4,
	MNO_SEAL_EVENT = 5,
	MNO_SEAL_POSTING = 20,
	MNO_SEAL_VALUES = 21,
	MNO_SEAL_SPAN = 22,
};
struct mno_seal {
	uint8_t kind, flags; /* flags: the kind's own */
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
 * Checks and unpacks a value into @raw (reset first; its bytes are followed by 8 zero bytes that
 * are not counted, so that decoders may load words). @z may be NULL (slower).
 * -MNO_ECORRUPT, -MNO_EVERSION, -ENOMEM.
 */
int mno_seal_open(ZSTD_DCtx *z, const void *key, size_t klen, const void *val, size_t len,
	enum mno_seal_kind kind, struct mno_seal *ret, struct mno_buf *raw);

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
