/* SPDX-License-Identifier: Apache-2.0 */
/* How the entries of one database are verified: rows of checkers.def. */
#pragma once

#include "mno/store_check.h"
#include "store_internal.h"

typedef int (*mno_verify_fn)(
	const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
/* Of values that are sealed in another way. 0, -MNO_ECORRUPT, -MNO_EVERSION, -ENOKEY, -ENOMEM. */
typedef int (*mno_verify_open_fn)(struct mno_store *s, struct mno_env *e, enum mno_db db,
	const MDB_val *k, const MDB_val *v, bool deep, struct mno_buf *raw);
/* @head NULL: it cannot be read. Adds to @out; returns the number of items, 0 if unknown. */
typedef uint64_t (*mno_tell_fn)(
	const uint8_t *key, size_t klen, const struct mno_seal *head, struct mno_buf *out);

struct mno_checker {
	enum mno_db db;
	uint8_t kind;
	uint16_t klen; /* 0: any */
	int16_t id_at;
	mno_verify_fn deep;
	mno_tell_fn tell;
	mno_verify_open_fn open; /* may be NULL; then kind is 0 */
};
/* NULL: only the keys are looked at. */
const struct mno_checker *mno_checker_of(enum mno_db db);

/* Readable form of a key. */
void mno_key_text(const void *key, size_t klen, struct mno_buf *out);
/* "2026-11-23T14:02:11Z" */
void mno_time_text(int64_t ms, struct mno_buf *out);

/* Of the modules that own the databases. */
int verify_series(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int records_check(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
uint64_t tell_records(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
/* Whether the dictionary has a record of the series. */
bool has_record(struct mno_env *e, MDB_txn *t, const uint8_t id_be[4]);
int verify_block_v1(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_block(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_roll(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
/* Asks that the damaged rollup @key is made again, or moved: part of main's @txn. -EINVAL: none. */
int rollup_damaged(struct mno_txn *txn, enum mno_db db, const void *key, size_t klen);
int verify_late(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_hist(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_agg(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_posting(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_values(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_span(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_doc(struct mno_store *s, struct mno_env *e, enum mno_db db, const MDB_val *k,
	const MDB_val *v, bool deep, struct mno_buf *raw);
int verify_doc_entry(struct mno_store *s, struct mno_env *e, enum mno_db db, const MDB_val *k,
	const MDB_val *v, bool deep, struct mno_buf *raw);
uint64_t tell_doc(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_doc_old(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_doc_entry(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_feed(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_doc_meta(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_agg(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
int verify_proc(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
int verify_event(const uint8_t *key, const struct mno_seal *s, const struct mno_buf *raw);
uint64_t tell_series(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_reference(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_block(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_block_v1(
	const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_roll(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_index(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_tail(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_batch(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_late(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
uint64_t tell_hist(const uint8_t *k, size_t n, const struct mno_seal *head, struct mno_buf *out);
