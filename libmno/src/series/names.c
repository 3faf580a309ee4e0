/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of a series; names and values there are. */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

#define TEXTS_MAX 1000000 /* names or values in one answer */

/* The group is kept for the next call, of whichever thread: it holds until the next commit. */
static int stored_key(struct mno_series *s, MDB_txn *t, uint32_t id, struct mno_buf *out)
{
	struct records *g = __atomic_exchange_n(&s->spare, NULL, __ATOMIC_ACQ_REL);
	ZSTD_DCtx *z = __atomic_exchange_n(&s->spare_z, NULL, __ATOMIC_ACQ_REL);
	_cleanup_buf_ struct mno_buf raw = {0};
	struct record rec;
	int r = 0;

	if (!z)
		z = ZSTD_createDCtx(); /* NULL is slower, no error */
	if (!g)
		g = calloc(1, sizeof(*g));
	if (!g)
		r = -ENOMEM;
	else if (!g->valid || g->no != id / GROUP_SERIES || g->txn_id != mdb_txn_id(t))
		r = records_load(s, t, z, id / GROUP_SERIES, g);
	if (r == 0)
		r = records_key(s, t, z, g, id % GROUP_SERIES, &raw, &rec);
	if (r == 0) {
		mno_buf_add(out, rec.key, rec.len);
		r = out->err;
	}
	if (r == -MNO_ECORRUPT && g->single & 1ULL << (id % GROUP_SERIES))
		dict_damaged(s, id, id);
	ZSTD_freeDCtx(__atomic_exchange_n(&s->spare_z, z, __ATOMIC_ACQ_REL));
	g = __atomic_exchange_n(&s->spare, g, __ATOMIC_ACQ_REL);
	if (g)
		records_done(g);
	free(g);
	return r;
}

int mno_series_key(struct mno_series *s, uint32_t id, struct mno_buf *out)
{
	const struct hot *h;
	MDB_txn *t;
	int r;

	pthread_rwlock_rdlock(&s->lock);
	h = hot_by_id(s, id);
	if (h)
		hot_key(h, out);
	pthread_rwlock_unlock(&s->lock);
	if (h)
		return out->err;
	r = mno_read_begin(s->env->main, &t);
	if (r < 0)
		return r;
	r = stored_key(s, t, id, out);
	mno_read_end(s->env->main, t);
	return r;
}

int mno_series_labels(struct mno_series *s, uint32_t id, mno_label_fn fn, void *arg)
{
	_cleanup_(key_labels_done)
	struct key_labels k = {0};
	_cleanup_buf_ struct mno_buf key = {0};
	int r = mno_series_key(s, id, &key);

	if (r == 0)
		r = key_parse(key.data, key.len, &k);
	for (size_t i = 0; i < k.n && r == 0; i++)
		r = fn(arg, k.v[i].name, k.v[i].value);
	return r;
}

struct texts {
	struct mno_map *set;
	const char *label; /* values of this one; NULL: the names */
};

static int texts_put(void *arg, const char *text, size_t len)
{
	struct texts *t = arg;
	char *copy;
	int r;

	if (mno_map_get(t->set, text, len))
		return 0;
	copy = strndup(text, len);
	if (!copy)
		return -ENOMEM;
	r = mno_map_put(t->set, text, len, copy, NULL);
	if (r < 0)
		free(copy);
	return r == -ENOSPC ? -MNO_ELIMIT : r;
}

static int texts_add(void *arg, const char *name, const char *value)
{
	struct texts *t = arg;
	const char *text = t->label ? value : name;

	return t->label && strcmp(name, t->label) != 0 ? 0 : texts_put(t, text, strlen(text));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int texts_sorted(const struct texts *t, int (*fn)(void *arg, const char *text), void *arg)
{
	size_t n = mno_map_count(t->set), i = 0, pos = 0;
	_cleanup_free_ const char **v = calloc(n ? n : 1, sizeof(*v));
	const void *key;
	void *value;
	size_t len;
	int r = 0;

	if (!v)
		return -ENOMEM;
	while (i < n && mno_map_next(t->set, &pos, &key, &len, &value))
		v[i++] = value;
	qsort(v, i, sizeof(*v), by_text);
	for (size_t j = 0; j < i && r == 0; j++)
		r = fn(arg, v[j]);
	return r;
}

/* Texts of the head, and which series it has. */
static int texts_hot(struct mno_series *s, struct texts *t, struct id_set *hot)
{
	const struct group *g;
	int r = 0;

	pthread_rwlock_rdlock(&s->lock);
	SPARSE_EACH(&s->groups, no, g)
	{
		if (r == 0)
			r = set_add(hot, no, g->hot_mask);
		for (uint64_t left = g->hot_mask; left && r == 0; left &= left - 1) {
			const struct hot *h = g->hot[__builtin_ctzll(left)];

			for (size_t i = 0; i < h->n_labels && r == 0; i++)
				r = texts_add(t, h->labels[i].name->text, h->labels[i].value->text);
		}
	}
	pthread_rwlock_unlock(&s->lock);
	return r;
}

static int texts_of_ids(struct mno_series *s, struct texts *t, const struct mno_ids *ids)
{
	int r = 0;

	for (size_t i = 0; i < ids->n && r == 0; i++) {
		r = mno_series_labels(s, ids->v[i], texts_add, t);
		if (r == -ENOENT || r == -MNO_ECORRUPT)
			r = 0; /* expired since, or lost, which was said */
	}
	return r;
}

/* Of all series: the head's, the index's, and those that the index does not have yet. */
static int texts_all(struct mno_series *s, struct texts *t)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	_cleanup_(set_done)
	struct id_set hot = {0};
	uint8_t tree[FP_BYTES];
	struct rd rd = {0};
	int r = texts_hot(s, t, &hot);

	label_fp(s, t->label, NULL, tree);
	if (r == 0)
		r = rd_open(&rd, s);
	if (r == 0)
		r = values_walk(&rd, tree, "", 0, texts_put, t);
	rd_done(&rd);
	if (r == -MNO_ECORRUPT) {
		index_damaged(s, "a list of values");
		r = 0; /* now all are found by their records */
	}
	if (r == 0)
		r = select_unindexed(s, &hot, &ids);
	return r < 0 ? r : texts_of_ids(s, t, &ids);
}

static int texts_of(struct mno_series *s, const char *label, const struct select *q,
	int (*fn)(void *arg, const char *text), void *arg)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	struct texts t = {.label = label};
	bool all = !q->n && q->t0 == INT64_MIN && q->t1 == INT64_MAX;
	int r = mno_map_new(TEXTS_MAX, &t.set);

	if (r == 0)
		r = all ? texts_all(s, &t)
			: mno_series_select_range(s, q->m, q->n, q->t0, q->t1, SIZE_MAX, &ids);
	if (r == 0)
		r = texts_of_ids(s, &t, &ids);
	if (r == 0)
		r = texts_sorted(&t, fn, arg);
	mno_map_free(t.set, free);
	return r;
}

int mno_series_label_names_range(struct mno_series *s, const struct mno_matcher *m, size_t n,
	int64_t t0, int64_t t1, int (*fn)(void *arg, const char *text), void *arg)
{
	return texts_of(s, NULL, &(struct select){.m = m, .n = n, .t0 = t0, .t1 = t1}, fn, arg);
}

int mno_series_label_values_range(struct mno_series *s, const char *label,
	const struct mno_matcher *m, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const char *text), void *arg)
{
	return texts_of(s, label, &(struct select){.m = m, .n = n, .t0 = t0, .t1 = t1}, fn, arg);
}

int mno_series_label_names(struct mno_series *s, const struct mno_matcher *m, size_t n,
	int (*fn)(void *arg, const char *text), void *arg)
{
	return mno_series_label_names_range(s, m, n, INT64_MIN, INT64_MAX, fn, arg);
}

int mno_series_label_values(struct mno_series *s, const char *label, const struct mno_matcher *m,
	size_t n, int (*fn)(void *arg, const char *text), void *arg)
{
	return mno_series_label_values_range(s, label, m, n, INT64_MIN, INT64_MAX, fn, arg);
}
