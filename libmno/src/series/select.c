/* SPDX-License-Identifier: Apache-2.0 */
/* Which series match: those in the head by their shared strings, the others by the label index. */
#include <errno.h>
#include "mno/err.h"
#include "mno/time.h"
#include "series_internal.h"

/* The head is locked meanwhile: costly expressions must not hold up the writer for long. */
#define HOT_SELECT_NS (200 * NS_PER_MS)

void mno_ids_done(struct mno_ids *ids)
{
	free(ids->v);
	*ids = (struct mno_ids){0};
}

int ids_add(struct mno_ids *ids, uint32_t id, size_t limit)
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

static int select_group(
	const struct select *q, struct bound *b, const struct group *g, struct mno_ids *ids)
{
	for (uint64_t left = g->hot_mask; left; left &= left - 1) {
		const struct hot *h = g->hot[__builtin_ctzll(left)];
		int r = h->first_ms && h->first_ms > q->t1 ? 0 : hot_match(b, q->n, h);

		if (r == 1)
			r = ids_add(ids, h->id, q->limit);
		if (r < 0)
			return r;
	}
	return 0;
}

static int select_hot_locked(struct mno_series *s, const struct select *q, struct bound *b,
	struct mno_ids *ids, struct id_set *hot)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + HOT_SELECT_NS;
	const struct group *g;
	int r = 0;

	SPARSE_EACH(&s->groups, no, g)
	{
		if (mno_now_ns(CLOCK_MONOTONIC) > end)
			return -MNO_ELIMIT;
		r = select_group(q, b, g, ids);
		if (r == 0)
			r = set_add(hot, no, g->hot_mask);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Also tells which ids it looked at, and if there are others. */
static int select_hot(struct mno_series *s, const struct select *q, struct mno_ids *ids,
	struct id_set *hot, bool *ret_others)
{
	struct bound *b = calloc(q->n ? q->n : 1, sizeof(*b));
	int r = 0;

	if (!b)
		return -ENOMEM;
	pthread_rwlock_rdlock(&s->lock);
	for (size_t i = 0; i < q->n && r == 0; i++)
		r = bind(s, &q->m[i], &b[i]);
	if (r == 0)
		r = select_hot_locked(s, q, b, ids, hot);
	*ret_others = s->n_hot < s->now.next_id - 1;
	pthread_rwlock_unlock(&s->lock);
	bound_done(b, q->n);
	return r;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int mno_series_select_range(struct mno_series *s, const struct mno_matcher *m, size_t n, int64_t t0,
	int64_t t1, size_t limit, struct mno_ids *ret)
{
	struct select q = {.m = m,
		.n = n,
		.limit = limit,
		.t0 = t0,
		.t1 = t1,
		.windowed = t0 != INT64_MIN || t1 != INT64_MAX};
	_cleanup_(mno_ids_done)
	struct mno_ids ids = {0};
	_cleanup_(set_done)
	struct id_set hot = {0};
	bool others = false;
	int r = t0 <= t1 ? select_hot(s, &q, &ids, &hot, &others) : 0;

	if (r == 0 && others) {
		r = select_cold(s, &q, &hot, &ids);
		if (ids.n)
			qsort(ids.v, ids.n, sizeof(*ids.v), by_id);
	}
	if (r < 0)
		return r;
	*ret = ids;
	ids = (struct mno_ids){0};
	return 0;
}

int mno_series_select(struct mno_series *s, const struct mno_matcher *m, size_t n, size_t limit,
	struct mno_ids *ret)
{
	return mno_series_select_range(s, m, n, INT64_MIN, INT64_MAX, limit, ret);
}
