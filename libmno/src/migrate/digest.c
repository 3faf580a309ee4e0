/* SPDX-License-Identifier: Apache-2.0 */
/* What a store of the present format has in it, as sums. */
#include <errno.h>
#include <string.h>
#include "migrate_internal.h"
#include "mno/err.h"

struct walk {
	struct mno_store *s;
	struct sum *sum;
	ZSTD_DCtx *z;
	struct mno_buf raw;
	struct block b;
	struct piece piece[BLOCK_WINDOWS];
	double v[HEAD_ROWS];
	uint16_t idx[HEAD_ROWS];
};
typedef int (*walk_fn)(
	struct walk *w, struct mno_env *e, enum mno_db db, const MDB_val *k, const MDB_val *v);

void sum_value(struct sum *s, const void *key, size_t klen, const void *p, size_t len)
{
	static const uint8_t secret[16] = "mno migrate sum";
	uint64_t part[2] = {mno_siphash(secret, key, klen), mno_siphash(secret, p, len)};

	sum_add(s, mno_siphash(secret, part, sizeof(part)));
}

static int open_value(struct walk *w, struct mno_env *e, enum mno_db db, enum mno_seal_kind kind,
	const MDB_val *k, const MDB_val *v)
{
	struct mno_seal info;

	return mno_seal_open(
		e, db, w->z, k->mv_data, k->mv_size, v->mv_data, v->mv_size, kind, &info, &w->raw);
}

static int sum_record(
	struct walk *w, struct mno_env *e, enum mno_db db, const MDB_val *k, const MDB_val *v)
{
	static const struct {
		enum mno_db db;
		enum mno_seal_kind kind;
		unsigned sum;
	} kinds[] = {{MNO_DB_PROC, MNO_SEAL_PROC, SUM_PROCS},
		{MNO_DB_EVENT, MNO_SEAL_EVENT, SUM_EVENTS}};
	size_t i = 0;
	int r;

	while (i < ARRAY_SIZE(kinds) - 1 && kinds[i].db != db)
		i++;
	r = open_value(w, e, db, kinds[i].kind, k, v);
	if (r == 0)
		sum_value(&w->sum[kinds[i].sum], k->mv_data, k->mv_size, w->raw.data, w->raw.len);
	return r;
}

static int sum_column(
	struct walk *w, const struct window *win, const struct piece *p, unsigned col, uint32_t id)
{
	uint64_t seed = sum_seed(id);
	struct column c;
	int r = column_decode(p->p[col], p->len[col], win->n, &c, w->v);

	if (r < 0)
		return r;
	column_ticks(&c, win->n, w->idx);
	for (size_t i = 0; i < c.n; i++)
		sum_sample(&w->sum[SUM_SAMPLES], seed, win->t[w->idx[i]], w->v[i]);
	return 0;
}

static int sum_block(
	struct walk *w, struct mno_env *e, enum mno_db db, const MDB_val *k, const MDB_val *v)
{
	int r = open_value(w, e, db, MNO_SEAL_BLOCK, k, v);

	if (r == 0)
		r = block_open((uint8_t *)w->raw.data, w->raw.len, &w->b);
	for (size_t g = 0; r == 0 && g < w->b.n_groups; g++) {
		r = block_pieces(&w->b, g, w->piece);
		for (size_t i = 0; r == 0 && i < w->b.n_windows; i++)
			for (uint64_t left = w->piece[i].columns; left && r == 0;
				left &= left - 1) {
				unsigned c = (unsigned)__builtin_ctzll(left);

				r = sum_column(w, &w->b.w[i], &w->piece[i], c,
					w->b.g[g].group * GROUP_SERIES + c);
			}
	}
	return r;
}

static int walk_db(struct walk *w, struct mno_env *e, enum mno_db db, walk_fn fn)
{
	MDB_cursor *c;
	MDB_val k, v;
	MDB_txn *t;
	int r = mno_read_begin(e, &t);

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_open(t, e->dbi[db], &c));
	if (r == 0) {
		while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
			r = fn(w, e, db, &k, &v);
			if (r < 0)
				break;
		}
		mdb_cursor_close(c);
	}
	mno_read_end(e, t);
	return r == -ENOENT ? 0 : r;
}

static int walk_env(void *arg, struct mno_env *e, const char *name, int err)
{
	static const struct {
		enum mno_db db;
		walk_fn fn;
	} dbs[] = {{MNO_DB_PART, sum_block}, {MNO_DB_PACK, sum_block}, {MNO_DB_WINDOW, sum_block},
		{MNO_DB_PROC, sum_record}, {MNO_DB_EVENT, sum_record}};
	int r = err;

	for (size_t i = 0; i < ARRAY_SIZE(dbs) && r == 0; i++)
		if (mno_db_in(dbs[i].db, e->class))
			r = walk_db(arg, e, dbs[i].db, dbs[i].fn);
	return r;
}

static void sum_head(const struct head *h, struct sum *sum)
{
	const struct rows *rw;

	SPARSE_EACH(&h->rows, no, rw)
	for (size_t r = 0; r < h->n; r++)
		for (uint64_t left = rw->present[r + 1]; left; left &= left - 1) {
			unsigned c = (unsigned)__builtin_ctzll(left);

			sum_sample(
				sum, sum_seed(no * GROUP_SERIES + c), h->t[r], rows_at(rw, r)[c]);
		}
}

static int sum_group(struct walk *w, struct mno_series *s, MDB_txn *t, struct records *g)
{
	int r = g->damaged ? -MNO_ECORRUPT : 0;
	struct record rec;
	uint8_t id[4];

	for (uint64_t left = records_all(g); left && r == 0; left &= left - 1) {
		unsigned c = (unsigned)__builtin_ctzll(left);

		r = records_key(s, t, w->z, g, c, &w->raw, &rec);
		mno_be32(id, g->no * GROUP_SERIES + c);
		if (r == 0)
			sum_value(&w->sum[SUM_SERIES], id, sizeof(id), rec.key, rec.len);
	}
	return r;
}

/* Records of the dictionary, packed by groups or not: a store that was used since has both. */
static int sum_dictionary(struct walk *w, struct mno_series *s)
{
	struct records g = {0};
	uint32_t no = 0;
	MDB_txn *t;
	int r = mno_read_begin(s->env->main, &t);

	if (r < 0)
		return r;
	while (r == 0 && (r = records_next(s, t, &no)) == 0) {
		r = records_load(s, t, w->z, no, &g);
		if (r == 0)
			r = sum_group(w, s, t, &g);
		if (no++ == UINT32_MAX)
			break;
	}
	records_done(&g);
	mno_read_end(s->env->main, t);
	return r == -ENOENT ? 0 : r;
}

int digest(struct mno_store *s, struct sum ret[SUM_MAX])
{
	struct sum sum[SUM_MAX] = {0};
	_cleanup_free_ struct walk *w = calloc(1, sizeof(*w));
	struct mno_series *series = NULL;
	int r;

	if (!w)
		return -ENOMEM;
	w->s = s;
	w->sum = sum;
	w->z = ZSTD_createDCtx();
	r = w->z ? mno_store_each(s, walk_env, w) : -ENOMEM;
	if (r == 0)
		r = mno_series_open(s, &series);
	if (r == 0)
		r = sum_dictionary(w, series);
	if (r == 0) {
		sum_head(series->head, &sum[SUM_SAMPLES]);
		memcpy(ret, sum, sizeof(sum));
	}
	mno_series_close(series);
	ZSTD_freeDCtx(w->z);
	mno_buf_done(&w->raw);
	return r;
}

int mno_migrate_digest(const char *dir, struct mno_migrate_digest *ret)
{
	struct mno_store_opts o = {.sz = sizeof(o)};
	_cleanup_(mno_store_close_p)
	struct mno_store *s = NULL;
	struct sum sum[SUM_MAX];
	int r = mno_store_open(dir, &o, &s);

	if (r == 0)
		r = digest(s, sum);
	if (r < 0)
		return r;
	memcpy(ret->series, &sum[SUM_SERIES], sizeof(ret->series));
	memcpy(ret->samples, &sum[SUM_SAMPLES], sizeof(ret->samples));
	memcpy(ret->procs, &sum[SUM_PROCS], sizeof(ret->procs));
	memcpy(ret->events, &sum[SUM_EVENTS], sizeof(ret->events));
	return 0;
}
