/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the series of a group were alive, as far as they have left the head: 64 groups in a value,
 * per group first and last time (i64 each; last 0: nothing known).
 */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

#define SPAN_GROUPS 64u

struct span {
	int64_t first, last;
};
struct page {
	uint8_t key[4];
	struct span v[SPAN_GROUPS];
};

/* -ENOENT: no such page, @p is empty. */
static int page_get(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, uint32_t group,
	struct mno_buf *raw, struct page *p)
{
	MDB_val k = {sizeof(p->key), p->key}, v;
	struct mno_seal info;
	int r;

	memset(p->v, 0, sizeof(p->v));
	mno_be32(p->key, group / SPAN_GROUPS);
	r = mno_lmdb_error(mdb_get(t, s->env->main->dbi[MNO_DB_SPAN], &k, &v));
	if (r == 0)
		r = mno_seal_open(s->env->main, MNO_DB_SPAN, z, p->key, sizeof(p->key), v.mv_data,
			v.mv_size, MNO_SEAL_SPAN, &info, raw);
	if (r == -MNO_EVERSION) /* the store is of this version: the byte is damaged */
		r = -MNO_ECORRUPT;
	if (r < 0)
		return r;
	if (raw->len != sizeof(p->v))
		return -MNO_ECORRUPT;
	memcpy(p->v, raw->data, sizeof(p->v));
	return 0;
}

static int page_put(struct mno_series *s, struct mno_txn *txn, const struct page *p)
{
	struct mno_seal info = {.kind = MNO_SEAL_SPAN};

	return mno_seal_put(
		txn, MNO_DB_SPAN, p->key, sizeof(p->key), &info, p->v, sizeof(p->v), NULL);
}

/* A page that is damaged would cost its groups' pruning only: it begins anew, with all time. */
static int page_load(struct mno_series *s, struct mno_txn *txn, uint32_t group, struct page *p)
{
	int r = page_get(s, txn->t, s->z, group, &s->raw, p);

	if (r == -MNO_ECORRUPT) {
		index_damaged(s, "spans");
		for (unsigned i = 0; i < SPAN_GROUPS; i++)
			p->v[i] = (struct span){INT64_MIN, INT64_MAX};
		return 0;
	}
	return r == -ENOENT ? 0 : r;
}

int span_widen(
	struct mno_series *s, struct mno_txn *txn, uint32_t group, int64_t first, int64_t last)
{
	struct page p;
	struct span *v = &p.v[group % SPAN_GROUPS], was;
	int r = page_load(s, txn, group, &p);

	if (r < 0)
		return r;
	was = *v;
	first = first ? first : INT64_MIN;
	v->first = was.last ? MNO_MIN(was.first, first) : first;
	v->last = was.last ? MNO_MAX(was.last, last) : last;
	return was.first == v->first && was.last == v->last ? 0 : page_put(s, txn, &p);
}

int span_drop(struct mno_series *s, struct mno_txn *txn, uint32_t group)
{
	struct page p;
	int r = page_load(s, txn, group, &p);

	if (r < 0 || !p.v[group % SPAN_GROUPS].last)
		return r;
	p.v[group % SPAN_GROUPS] = (struct span){0};
	for (unsigned i = 0; i < SPAN_GROUPS; i++)
		if (p.v[i].last)
			return page_put(s, txn, &p);
	r = mno_txn_del(txn, MNO_DB_SPAN, p.key, sizeof(p.key));
	return r == -ENOENT ? 0 : r;
}

int span_prune(struct rd *rd, struct id_set *set, int64_t t0, int64_t t1)
{
	uint32_t page = UINT32_MAX;
	struct page p;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < set->n; i++) {
		uint32_t group = set->v[i].group;
		const struct span *v = &p.v[group % SPAN_GROUPS];

		if (group / SPAN_GROUPS != page) {
			page = group / SPAN_GROUPS;
			r = rd_renew(rd);
			if (r == 0)
				r = page_get(rd->s, rd->t, rd->z, group, &rd->raw, &p);
			if (r == -MNO_ECORRUPT) {
				index_damaged(rd->s, "spans");
				memset(p.v, 0, sizeof(p.v));
			} else if (r < 0 && r != -ENOENT) {
				return r;
			}
		}
		if (!v->last || (v->first <= t1 && v->last >= t0))
			set->v[n++] = set->v[i];
	}
	set->n = n;
	return 0;
}
