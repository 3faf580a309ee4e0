/* SPDX-License-Identifier: Apache-2.0 */
/* Which series match: those in the head by their shared strings, the others by their records. */
#include <errno.h>
#include "mno/err.h"
#include "mno/time.h"
#include "series_internal.h"

/* The head is locked meanwhile: costly expressions must not hold up the writer for long. */
#define HOT_SELECT_NS (200 * NS_PER_MS)
#define TEXTS_MAX     1000000 /* names or values in one answer */

void mno_ids_done(struct mno_ids *ids)
{
	free(ids->v);
	*ids = (struct mno_ids){0};
}

static int ids_add(struct mno_ids *ids, uint32_t id, size_t limit)
{
	if (ids->n >= limit)
		return -MNO_ELIMIT;
	if (ids->n == ids->cap) {
		size_t cap = ids->cap ? ids->cap * 2 : 64;
		uint32_t *p = realloc(ids->v, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		ids->v = p;
		ids->cap = cap;
	}
	ids->v[ids->n++] = id;
	return 0;
}

/* --- the head ---------------------------------------------------------------------------------------- */

enum verdict { UNKNOWN, YES, NO };

/* A matcher bound to the head's strings: each distinct value is judged once. */
struct bound {
	const struct mno_matcher *m;
	const struct sym *name;
	const struct sym *value; /* of an equality */
	uint8_t *seen;           /* verdict by string id; owned */
	uint8_t absent;
};

static void bound_done(struct bound *b, size_t n)
{
	for (size_t i = 0; b && i < n; i++)
		free(b[i].seen);
	free(b);
}

static int judge(const struct mno_matcher *m, const char *text, uint8_t *ret)
{
	int r = match_text(m, text);

	if (r < 0)
		return r;
	*ret = r ? YES : NO;
	return 0;
}

static int bind(const struct mno_series *s, const struct mno_matcher *m, struct bound *b)
{
	b->m = m;
	b->name = sym_find(&s->syms, m->name);
	if (m->op == MNO_MATCH_EQ)
		b->value = sym_find(&s->syms, m->value);
	else
		b->seen = calloc(s->syms.next_id + 1, 1);
	if (m->op != MNO_MATCH_EQ && !b->seen)
		return -ENOMEM;
	return judge(m, "", &b->absent);
}

static int bound_match(struct bound *b, const struct hot *h)
{
	for (size_t i = 0; i < h->n_labels && b->name; i++) {
		const struct sym *v = h->labels[i].value;

		if (h->labels[i].name != b->name)
			continue;
		if (!b->seen)
			return v == b->value;
		if (b->seen[v->id] == UNKNOWN) {
			int r = judge(b->m, v->text, &b->seen[v->id]);

			if (r < 0)
				return r;
		}
		return b->seen[v->id] == YES;
	}
	return b->absent == YES;
}

static int hot_match(struct bound *b, size_t n, const struct hot *h)
{
	int r = 1;

	for (size_t i = 0; i < n && r == 1; i++)
		r = bound_match(&b[i], h);
	return r;
}

static int select_hot_locked(
	struct mno_series *s, struct bound *b, size_t n, size_t limit, struct mno_ids *ids)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + HOT_SELECT_NS;

	for (size_t no = 0; no < s->n_groups; no++) {
		const struct group *g = s->groups[no];

		if (g && mno_now_ns(CLOCK_MONOTONIC) > end)
			return -MNO_ELIMIT;

		for (uint64_t left = g ? g->hot_mask : 0; left; left &= left - 1) {
			const struct hot *h = g->hot[__builtin_ctzll(left)];
			int r = hot_match(b, n, h);

			if (r == 1)
				r = ids_add(ids, h->id, limit);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Also tells which ids it looked at, when there are others: *@ret_masks by group, or NULL. */
static int select_hot(struct mno_series *s, const struct mno_matcher *m, size_t n, size_t limit,
	struct mno_ids *ids, uint64_t **ret_masks, size_t *ret_n_masks)
{
	struct bound *b = calloc(n ? n : 1, sizeof(*b));
	uint64_t *masks = NULL;
	int r = 0;

	if (!b)
		return -ENOMEM;
	pthread_rwlock_rdlock(&s->lock);
	for (size_t i = 0; i < n && r == 0; i++)
		r = bind(s, &m[i], &b[i]);
	if (r == 0)
		r = select_hot_locked(s, b, n, limit, ids);
	if (r == 0 && s->n_hot < s->now.series) {
		masks = calloc(s->n_groups + 1, sizeof(*masks));
		for (size_t i = 0; masks && i < s->n_groups; i++)
			masks[i] = s->groups[i] ? s->groups[i]->hot_mask : 0;
		*ret_n_masks = s->n_groups;
		r = masks ? 0 : -ENOMEM;
	}
	pthread_rwlock_unlock(&s->lock);
	bound_done(b, n);
	*ret_masks = masks;
	return r;
}

/* --- stored ones ----------------------------------------------------------------------------------------- */

struct cold_scan {
	struct mno_series *s;
	const struct mno_matcher *m;
	size_t n, limit;
	struct mno_ids *ids;
	const uint64_t *masks;
	size_t n_masks;
	struct mno_buf raw;
	uint8_t at[4];
};

static int cold_record(struct cold_scan *q, const MDB_val *k, const MDB_val *v)
{
	_cleanup_(key_labels_done)
	struct key_labels labels = {0};
	const char *key;
	uint32_t id;
	int64_t last;
	size_t len;
	int r;

	if (k->mv_size != 4)
		return 0;
	id = mno_get_be32(k->mv_data);
	if (id / GROUP_SERIES < q->n_masks &&
		q->masks[id / GROUP_SERIES] >> (id % GROUP_SERIES) & 1)
		return 0;
	r = dict_record(q->s, k->mv_data, v->mv_data, v->mv_size, &q->raw, &last, &key, &len);
	if (r == 0)
		r = key_parse(key, len, &labels);
	if (r < 0)
		return r == -ENOMEM ? r : 0; /* a damaged record matches nothing */
	r = match_labels(q->m, q->n, &labels);
	return r == 1 ? ids_add(q->ids, id, q->limit) : r;
}

/* One slice; 1 = there is more behind q->at. */
static int cold_slice(struct cold_scan *q)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + MNO_READ_SLICE_NS / 2;
	MDB_val k = {4, q->at}, v;
	MDB_cursor *c;
	MDB_txn *t;
	int r = mno_read_begin(q->s->env->main, &t);

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_open(t, q->s->env->main->dbi[MNO_DB_SERIES], &c));
	if (r == 0) {
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_GT, &k, &v));
		for (unsigned i = 1; r == 0; i++) {
			r = cold_record(q, &k, &v);
			if (r == 0 && i % 64 == 0 && mno_now_ns(CLOCK_MONOTONIC) > end) {
				memcpy(q->at, k.mv_data, 4);
				r = 1;
			}
			if (r == 0)
				r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT));
		}
		mdb_cursor_close(c);
	}
	mno_read_end(q->s->env->main, t);
	return r;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int select_cold(struct mno_series *s, const struct mno_matcher *m, size_t n, size_t limit,
	const uint64_t *masks, size_t n_masks, struct mno_ids *ids)
{
	struct cold_scan q = {.s = s,
		.m = m,
		.n = n,
		.limit = limit,
		.ids = ids,
		.masks = masks,
		.n_masks = n_masks};
	int r;

	do
		r = cold_slice(&q);
	while (r == 1);
	mno_buf_done(&q.raw);
	if (ids->n)
		qsort(ids->v, ids->n, sizeof(*ids->v), by_id);
	return r == -ENOENT ? 0 : r;
}

int mno_series_select(struct mno_series *s, const struct mno_matcher *m, size_t n, size_t limit,
	struct mno_ids *ret)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	_cleanup_free_ uint64_t *masks = NULL;
	size_t n_masks = 0;
	int r = select_hot(s, m, n, limit, &ids, &masks, &n_masks);

	if (r == 0 && masks)
		r = select_cold(s, m, n, limit, masks, n_masks, &ids);
	if (r < 0)
		return r;
	*ret = ids;
	ids = (struct mno_ids){0};
	return 0;
}

/* --- labels --------------------------------------------------------------------------------------------- */

int mno_series_key(struct mno_series *s, uint32_t id, struct mno_buf *out)
{
	_cleanup_buf_ struct mno_buf val = {0}, raw = {0};
	const struct hot *h;
	const char *key;
	uint8_t be[4];
	int64_t last;
	size_t len;
	int r;

	pthread_rwlock_rdlock(&s->lock);
	h = hot_by_id(s, id);
	if (h)
		hot_key(h, out);
	pthread_rwlock_unlock(&s->lock);
	if (h)
		return out->err;
	mno_be32(be, id);
	r = mno_store_fetch(s->env, MNO_DB_SERIES, MNO_SEEK_EQ, be, 4, NULL, &val);
	if (r == 0)
		r = dict_record(s, be, val.data, val.len, &raw, &last, &key, &len);
	if (r < 0)
		return r;
	mno_buf_add(out, key, len);
	return out->err;
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

static int texts_add(void *arg, const char *name, const char *value)
{
	struct texts *t = arg;
	const char *text = t->label ? value : name;
	char *copy;
	int r;

	if ((t->label && strcmp(name, t->label) != 0) || mno_map_get(t->set, text, strlen(text)))
		return 0;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	r = mno_map_put(t->set, text, strlen(text), copy, NULL);
	if (r < 0)
		free(copy);
	return r == -ENOSPC ? -MNO_ELIMIT : r;
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

static int texts_of(struct mno_series *s, const char *label, const struct mno_matcher *m, size_t n,
	int (*fn)(void *arg, const char *text), void *arg)
{
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	struct texts t = {.label = label};
	int r = mno_series_select(s, m, n, SIZE_MAX, &ids);

	if (r == 0)
		r = mno_map_new(TEXTS_MAX, &t.set);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ids.n && r == 0; i++) {
		r = mno_series_labels(s, ids.v[i], texts_add, &t);
		if (r == -ENOENT)
			r = 0; /* expired since */
	}
	if (r == 0)
		r = texts_sorted(&t, fn, arg);
	mno_map_free(t.set, free);
	return r;
}

int mno_series_label_names(struct mno_series *s, const struct mno_matcher *m, size_t n,
	int (*fn)(void *arg, const char *text), void *arg)
{
	return texts_of(s, NULL, m, n, fn, arg);
}

int mno_series_label_values(struct mno_series *s, const char *label, const struct mno_matcher *m,
	size_t n, int (*fn)(void *arg, const char *text), void *arg)
{
	return texts_of(s, label, m, n, fn, arg);
}
