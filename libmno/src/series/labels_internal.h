/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The label index of stored series, in three databases:
 *   posting  fingerprint of (name, value) 16 B | first group u32 -> sealed piece of an id list
 *   values   fingerprint of name 16 B | node u32 -> sealed node of the ordered tree of its values
 *   span     group / 64 u32 -> sealed [first, last] times of 64 groups
 * Fingerprints are keyed with the store's hash key. What a reader of the raw file learns from keys
 * is how many lists there are and how long; names and values are in sealed values only.
 *
 * The index follows the dictionary in the order of ids, a bounded step at a time: series with ids
 * from index_state.next on are found by their records. It holds nothing that is not in the records:
 * a damaged piece makes the writer start it anew, and readers walk the records until it is complete.
 */
#pragma once

#include "../store/codec.h"
#include "../store/store_internal.h"

struct mno_series;
struct key_labels;

#define FP_BYTES 16u

/* --- idset.c: sets of ids as (group, mask), ascending ------------------------------------------- */
struct id_group {
	uint32_t group;
	uint64_t mask;
};
/* 16 bytes for each group that has an id in it: 1 M neighbours take 256 KiB. */
struct id_set {
	struct id_group *v;
	size_t n, cap;
};
void set_done(struct id_set *s);
/* Ids in any order, if set_sort() follows; ascending ones need none. -ENOMEM. */
int set_add(struct id_set *s, uint32_t group, uint64_t mask);
void set_sort(struct id_set *s);
void set_and(struct id_set *a, const struct id_set *b);
void set_sub(struct id_set *a, const struct id_set *b);
int set_or(struct id_set *a, const struct id_set *b);
size_t set_count(const struct id_set *s);
/* First entry at or after @group. */
size_t set_find(const struct id_set *s, uint32_t group);
/* Appends entries [from, to) of @s as bytes. */
void set_encode(const struct id_set *s, size_t from, size_t to, struct mno_buf *out);
/* Adds what was encoded. -MNO_ECORRUPT, -ENOMEM. */
int set_decode(const void *p, size_t len, struct id_set *s);

/* --- cold.c: a read transaction that is never old ------------------------------------------------ */
struct rd {
	struct mno_series *s;
	MDB_txn *t; /* NULL: none open */
	uint64_t end_ns;
	ZSTD_DCtx *z;
	struct mno_buf raw;
};
int rd_open(struct rd *r, struct mno_series *s);
void rd_done(struct rd *r);
/* Between two look-ups: begins anew if the slice is over. Pointers into the store are void then. */
int rd_renew(struct rd *r);

/* --- posting.c ------------------------------------------------------------------------------------ */
/*
 * Fingerprint of (name, value); @value NULL: of all series with that label; @name NULL too: of all
 * series. SipHash-1-3 twice under keys made from the store's.
 */
void label_fp(
	const struct mno_series *s, const char *name, const char *value, uint8_t ret[FP_BYTES]);
/* Adds (or with @del removes) ascending ids. What the list was and is: *@ret_was, *@ret_is.
 * -MNO_ECORRUPT: the list is damaged. */
int posting_apply(struct mno_series *s, struct mno_txn *txn, const uint8_t fp[FP_BYTES],
	const struct id_set *ids, bool del, bool *ret_was, bool *ret_is);
/* Adds the list's ids to @out (unsorted: set_sort()); only pieces that may have groups of @within
 * are read if that is given. */
int posting_load(
	struct rd *r, const uint8_t fp[FP_BYTES], const struct id_set *within, struct id_set *out);

/* --- values.c: ordered texts under a fingerprint, as a tree of sealed nodes ------------------- */
struct value_edit {
	const char *text;
	size_t len;
	bool del;
};
/* Applies edits (sorted by text, each text once). -MNO_ECORRUPT. */
int values_apply(struct mno_series *s, struct mno_txn *txn, const uint8_t tree[FP_BYTES],
	const struct value_edit *v, size_t n);
/* Whether @raw, followed by 8 readable bytes, is a node. 0, -MNO_ECORRUPT, -ENOMEM. */
int values_check(const struct mno_buf *raw, bool root);
/* Calls @fn for each text that begins with @prefix, in order; a non-zero result stops and is
 * returned. @fn may use the same @r. */
typedef int (*value_fn)(void *arg, const char *text, size_t len);
int values_walk(struct rd *r, const uint8_t tree[FP_BYTES], const char *prefix, size_t prefix_len,
	value_fn fn, void *arg);
/* How many texts there are; 0 if there is no tree. */
int values_count(struct rd *r, const uint8_t tree[FP_BYTES], uint64_t *ret);

/* --- span.c ---------------------------------------------------------------------------------------- */
/* Widens a group's span to [first, last]; first 0: not known. */
int span_widen(
	struct mno_series *s, struct mno_txn *txn, uint32_t group, int64_t first, int64_t last);
/* Forgets a group's span. */
int span_drop(struct mno_series *s, struct mno_txn *txn, uint32_t group);
/* Removes the groups of @set that have no series alive in [t0, t1]. A damaged or missing span keeps
 * its groups. */
int span_prune(struct rd *r, struct id_set *set, int64_t t0, int64_t t1);

/* --- labels.c: records to index ------------------------------------------------------------------- */
struct index_state {
	uint32_t version, _pad;
	uint64_t next; /* ids below are in the index */
};
/* What readers and writer agree on, as of the transaction. None stored: next = 1. */
int index_state_get(struct mno_series *s, MDB_txn *t, struct index_state *ret);
/* Takes up new series if at least @min of them wait, until @budget_ns is over (0: all of them). */
int index_step(struct mno_series *s, struct mno_txn *txn, uint64_t min, uint64_t budget_ns);
/* Everything anew from the records, from the next step on. */
int index_reset(struct mno_series *s, struct mno_txn *txn);
/* The same at once, in transactions of its own. Writer thread, none open. */
int dict_rebuild(struct mno_series *s);
/* A reader met damage: the writer starts the index anew. Any thread. */
void index_damaged(struct mno_series *s, const char *what);
/* A batch of series to take out. */
struct index_batch *index_batch_new(struct mno_series *s);
struct index_batch *index_batch_free(struct index_batch *b);
MNO_DEFINE_CLEANUP(struct index_batch *, index_batch_free)
/* @k's text is taken over. */
int index_batch_add(struct index_batch *b, uint32_t id, struct key_labels *k);
size_t index_batch_size(const struct index_batch *b); /* bytes of text */
int index_batch_apply(struct index_batch *b, struct mno_txn *txn, bool del);
