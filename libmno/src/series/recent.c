/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fingerprints of the newest series. Their order is random, so each one in the stored tree is a page
 * of it. They are kept in memory until there is one for 16 stored ones (RECENT_MIN to RECENT_BATCH),
 * then sorted and stored a slice with each transaction that makes series: neighbours share pages. What is not stored is read from
 * the records at the start: ids from META's "series_fp_from" on.
 * Memory: 16 bytes for each, twice that for the table that finds them; 6 MiB at most.
 */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

#define FROM_KEY     "series_fp_from"
#define RECENT_MIN   512u
#define RECENT_BATCH 32768u
#define RECENT_MAX   (4 * RECENT_BATCH) /* more: into the tree at once */
#define SLICE_MIN    256u
#define SLOTS_MIN    1024u
#define GONE         UINT32_MAX /* the id of what was forgotten */

struct stored_from {
	uint32_t version, _pad;
	uint64_t from;
};

static int put_direct(struct mno_txn *txn, uint64_t fp, uint32_t id)
{
	uint8_t key[12];

	mno_be64(key, fp);
	mno_be32(key + 8, id);
	return mno_txn_put(txn, MNO_DB_SERIES_FP, key, sizeof(key), "", 0);
}

/* --- the table ------------------------------------------------------------------------------------ */

static void count_bytes(struct recent *q)
{
	__atomic_store_n(
		&q->bytes, (q->n_slots + q->n_frozen) * sizeof(*q->slot), __ATOMIC_RELAXED);
}

static struct recent_fp *probe(const struct recent *q, uint64_t fp, uint32_t id)
{
	size_t i = fp & (q->n_slots - 1);

	while (q->slot[i].id && (q->slot[i].fp != fp || q->slot[i].id != id))
		i = (i + 1) & (q->n_slots - 1);
	return &q->slot[i];
}

/* A table of those with ids from @from on. */
static int rebuild(struct recent *q, size_t n_slots, uint32_t from)
{
	struct recent old = *q;

	q->slot = calloc(n_slots, sizeof(*q->slot));
	if (!q->slot) {
		q->slot = old.slot;
		return -ENOMEM;
	}
	q->n_slots = n_slots;
	q->n = 0;
	for (size_t i = 0; i < old.n_slots; i++) {
		const struct recent_fp *p = &old.slot[i];

		if (!p->id || p->id == GONE || p->id < from)
			continue;
		*probe(q, p->fp, p->id) = *p;
		q->n++;
	}
	free(old.slot);
	count_bytes(q);
	return 0;
}

static int insert(struct recent *q, uint64_t fp, uint32_t id)
{
	struct recent_fp *p;
	int r;

	if (2 * (q->n + 1) > q->n_slots) {
		r = rebuild(q, q->n_slots ? q->n_slots * 2 : SLOTS_MIN, 0);
		if (r < 0 && q->n + 2 > q->n_slots) /* one must stay free */
			return r;
	}
	p = probe(q, fp, id);
	q->n += !p->id;
	*p = (struct recent_fp){fp, id};
	return 0;
}

bool recent_next(const struct recent *q, uint64_t fp, size_t *at, uint32_t *ret_id)
{
	while (*at < q->n_slots) {
		const struct recent_fp *p = &q->slot[(fp + *at) & (q->n_slots - 1)];

		++*at;
		if (!p->id)
			return false;
		if (p->fp == fp && p->id != GONE) {
			*ret_id = p->id;
			return true;
		}
	}
	return false;
}

/* --- into the tree ---------------------------------------------------------------------------------- */

static int from_put(struct mno_series *s, struct mno_txn *txn, uint32_t from)
{
	struct stored_from v = {.version = 1, .from = from};
	struct mno_seal info = {.kind = MNO_SEAL_META};

	return mno_seal_put(
		txn, MNO_DB_META, FROM_KEY, strlen(FROM_KEY), &info, &v, sizeof(v), NULL);
}

int recent_add(struct mno_series *s, struct mno_txn *txn, uint64_t fp, uint32_t id)
{
	struct recent *q = &s->recent;
	int r = 0;

	if (q->from && id < q->from)
		return 0; /* stored with a batch */
	if (!q->from) {
		r = from_put(s, txn, id);
		if (r < 0)
			return r;
		q->from = id;
	}
	if (q->n >= RECENT_MAX || insert(q, fp, id) < 0)
		return put_direct(txn, fp, id);
	return 0;
}

static int by_fp(const void *pa, const void *pb)
{
	const struct recent_fp *a = pa, *b = pb;

	return a->fp != b->fp ? (a->fp > b->fp) - (a->fp < b->fp)
			      : (a->id > b->id) - (a->id < b->id);
}

/* Without memory for it they stay where they are. */
static void freeze(struct recent *q, uint64_t next_id)
{
	size_t n = 0;

	q->frozen = malloc(q->n * sizeof(*q->frozen));
	if (!q->frozen)
		return;
	for (size_t i = 0; i < q->n_slots; i++)
		if (q->slot[i].id && q->slot[i].id != GONE)
			q->frozen[n++] = q->slot[i];
	if (n)
		qsort(q->frozen, n, sizeof(*q->frozen), by_fp);
	q->n_frozen = n;
	q->done = q->done_committed = 0;
	q->next_from = (uint32_t)next_id;
	count_bytes(q);
}

static void thaw(struct recent *q)
{
	free(q->frozen);
	q->frozen = NULL;
	q->n_frozen = q->done = q->done_committed = 0;
	count_bytes(q);
}

int recent_store(struct mno_series *s, struct mno_txn *txn, size_t made)
{
	struct recent *q = &s->recent;
	size_t end, batch = (size_t)(s->now.series / 16);
	int r = 0;

	batch = MNO_MIN(MNO_MAX(batch, (size_t)RECENT_MIN), (size_t)RECENT_BATCH);
	if (!q->frozen && q->n >= batch)
		freeze(q, s->now.next_id);
	if (!q->frozen || (q->done == q->n_frozen && q->n_frozen))
		return 0;
	end = MNO_MIN(q->n_frozen, q->done + MNO_MAX(2 * made, (size_t)SLICE_MIN));
	for (; q->done < end && r == 0; q->done++)
		if (q->frozen[q->done].id)
			r = put_direct(txn, q->frozen[q->done].fp, q->frozen[q->done].id);
	if (r < 0 || q->done < q->n_frozen)
		return r;
	q->from = q->next_from;
	return from_put(s, txn, q->from);
}

int recent_forget(struct mno_series *s, uint64_t fp, uint32_t id)
{
	struct recent_fp key = {fp, id}, *p;
	struct recent *q = &s->recent;

	p = q->n_slots ? probe(q, fp, id) : NULL;
	if (!p || !p->id)
		return 0;
	if (q->n_gone == q->cap_gone) {
		size_t cap = q->cap_gone ? q->cap_gone * 2 : 64;
		struct recent_fp *v = reallocarray(q->gone, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		q->gone = v;
		q->cap_gone = cap;
	}
	q->gone[q->n_gone++] = key;
	p->id = GONE;
	p = q->frozen ? bsearch(&key, q->frozen, q->n_frozen, sizeof(key), by_fp) : NULL;
	if (p)
		thaw(q); /* sorted anew without it */
	return 0;
}

/* --- ends of transactions ----------------------------------------------------------------------- */

void recent_committed(struct mno_series *s)
{
	struct recent *q = &s->recent;

	q->n_gone = 0;
	q->from_committed = q->from;
	q->done_committed = q->done;
	if (!q->frozen || q->done < q->n_frozen)
		return;
	thaw(q);
	/* without memory for a smaller one the old does: what is stored is found in it first */
	rebuild(q, q->n_slots, q->from);
}

void recent_rollback(struct mno_series *s)
{
	struct recent *q = &s->recent;

	q->from = q->from_committed;
	q->done = q->done_committed;
	if (!q->n_gone)
		return;
	for (size_t i = 0; i < q->n_gone; i++)
		insert(q, q->gone[i].fp, q->gone[i].id);
	q->n_gone = 0;
	thaw(q);
}

void recent_free(struct mno_series *s)
{
	thaw(&s->recent);
	free(s->recent.slot);
	free(s->recent.gone);
	s->recent = (struct recent){0};
}

/* --- the start -------------------------------------------------------------------------------------- */

/* *@ret 0: none was ever kept back. */
int recent_from(struct mno_series *s, uint32_t *ret)
{
	_cleanup_buf_ struct mno_buf v = {0}, raw = {0};
	struct stored_from f = {0};
	struct mno_seal info;
	uint64_t back = s->now.next_id - MNO_MIN(s->now.next_id - 1, (uint64_t)2 * RECENT_MAX);
	int r = mno_store_fetch(
		s->env, MNO_DB_META, MNO_SEEK_EQ, FROM_KEY, strlen(FROM_KEY), NULL, &v);

	*ret = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = mno_seal_open(s->env->main, MNO_DB_META, s->z, FROM_KEY, strlen(FROM_KEY), v.data,
		v.len, MNO_SEAL_META, &info, &raw);
	if (r == -ENOMEM || r == -ENOKEY)
		return r;
	if (r == 0 && raw.len == sizeof(f))
		memcpy(&f, raw.data, sizeof(f));
	if (f.version == 1 && f.from && f.from <= s->now.next_id) {
		*ret = (uint32_t)f.from;
	} else {
		/* damaged: the last ones for certain; an older series may get a second id */
		s->env->damaged++;
		*ret = (uint32_t)MNO_MAX(back, (uint64_t)EARLY_IDS);
	}
	s->recent.from = s->recent.from_committed = *ret;
	return 0;
}

int recent_load(struct mno_series *s, uint64_t fp, uint32_t id)
{
	return insert(&s->recent, fp, id);
}
