/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of the series in the head, as references to shared strings. */
#include <errno.h>
#include "series_internal.h"

static int free_id_push(struct symtab *t, uint32_t id)
{
	if (t->n_free == t->cap_free) {
		size_t cap = t->cap_free ? t->cap_free * 2 : 64;
		uint32_t *p = realloc(t->free_ids, cap * sizeof(*p));

		if (!p)
			return -ENOMEM; /* the id is not reused: harmless */
		t->free_ids = p;
		t->cap_free = cap;
	}
	t->free_ids[t->n_free++] = id;
	return 0;
}

struct sym *sym_find(const struct symtab *t, const char *text)
{
	return mno_map_get(t->map, text, strlen(text));
}

struct sym *sym_get(struct symtab *t, const char *text)
{
	size_t len = strlen(text);
	struct sym *s = mno_map_get(t->map, text, len);

	if (s) {
		s->refs++;
		return s;
	}
	s = malloc(sizeof(*s) + len + 1);
	if (!s)
		return NULL;
	s->refs = 1;
	s->len = (uint32_t)len;
	memcpy(s->text, text, len + 1);
	if (mno_map_put(t->map, text, len, s, NULL) < 0) {
		free(s);
		return NULL;
	}
	s->id = t->n_free ? t->free_ids[--t->n_free] : t->next_id++;
	t->bytes += sizeof(*s) + len + 1;
	return s;
}

void sym_put(struct symtab *t, struct sym *s)
{
	if (!s || --s->refs)
		return;
	mno_map_remove(t->map, s->text, s->len);
	free_id_push(t, s->id);
	t->bytes -= sizeof(*s) + s->len + 1;
	free(s);
}

static int group_get(struct mno_series *s, uint32_t no, struct group **ret)
{
	struct group *g = group_at(s, no);
	int r;

	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g)
			return -ENOMEM;
		r = sparse_put(&s->groups, no, g);
		if (r < 0) {
			free(g);
			return r;
		}
	}
	*ret = g;
	return 0;
}

/* A group leaves with its last series. */
static void group_put(struct mno_series *s, uint32_t no, struct group *g)
{
	if (g->hot_mask)
		return;
	sparse_put(&s->groups, no, NULL);
	free(g);
}

static void hot_free(struct mno_series *s, struct hot *h)
{
	for (size_t i = 0; i < h->n_labels; i++) {
		sym_put(&s->syms, h->labels[i].name);
		sym_put(&s->syms, h->labels[i].value);
	}
	free(h);
}

static size_t hot_size(size_t n_labels)
{
	return sizeof(struct hot) + n_labels * sizeof(struct hot_label);
}

static struct hot *hot_make(struct mno_series *s, const struct key_labels *k)
{
	struct hot *h = calloc(1, hot_size(k->n));

	if (!h)
		return NULL;
	h->n_labels = (uint16_t)k->n;
	for (size_t i = 0; i < k->n; i++) {
		h->labels[i].name = sym_get(&s->syms, k->v[i].name);
		h->labels[i].value = sym_get(&s->syms, k->v[i].value);
		if (!h->labels[i].name || !h->labels[i].value) {
			hot_free(s, h);
			return NULL;
		}
	}
	return h;
}

static int hot_add_locked(struct mno_series *s, uint32_t id, uint64_t fp,
	const struct key_labels *k, struct hot **ret)
{
	struct group *g;
	struct hot *h;
	int r = group_get(s, id / GROUP_SERIES, &g);

	if (r < 0)
		return r;
	h = hot_make(s, k);
	if (!h) {
		group_put(s, id / GROUP_SERIES, g);
		return -ENOMEM;
	}
	h->id = id;
	h->fp = fp;
	h->next_fp = mno_map_get(s->by_fp, &fp, sizeof(fp));
	r = mno_map_put(s->by_fp, &fp, sizeof(fp), h, NULL);
	if (r < 0) {
		hot_free(s, h);
		group_put(s, id / GROUP_SERIES, g);
		return r;
	}
	g->hot[id % GROUP_SERIES] = h;
	g->hot_mask |= 1ULL << (id % GROUP_SERIES);
	s->n_hot++;
	s->hot_bytes += hot_size(k->n);
	*ret = h;
	return 0;
}

int hot_add(struct mno_series *s, uint32_t id, uint64_t fp, const struct key_labels *k,
	struct hot **ret)
{
	int r;

	pthread_rwlock_wrlock(&s->lock);
	r = hot_add_locked(s, id, fp, k, ret);
	pthread_rwlock_unlock(&s->lock);
	return r;
}

static void unlink_fp(struct mno_series *s, struct hot *h)
{
	struct hot *first = mno_map_get(s->by_fp, &h->fp, sizeof(h->fp));

	if (first == h && !h->next_fp) {
		mno_map_remove(s->by_fp, &h->fp, sizeof(h->fp));
		return;
	}
	if (first == h) {
		mno_map_put(s->by_fp, &h->fp, sizeof(h->fp), h->next_fp,
			NULL); /* replaces: no memory */
		return;
	}
	while (first && first->next_fp != h)
		first = first->next_fp;
	if (first)
		first->next_fp = h->next_fp;
}

void hot_remove(struct mno_series *s, struct hot *h)
{
	uint32_t no = h->id / GROUP_SERIES;
	struct group *g = group_at(s, no);

	unlink_fp(s, h);
	g->hot[h->id % GROUP_SERIES] = NULL;
	g->hot_mask &= ~(1ULL << (h->id % GROUP_SERIES));
	s->n_hot--;
	s->hot_bytes -= hot_size(h->n_labels);
	hot_free(s, h);
	group_put(s, no, g);
}

struct hot *hot_by_id(const struct mno_series *s, uint32_t id)
{
	const struct group *g = group_at(s, id / GROUP_SERIES);

	return g ? g->hot[id % GROUP_SERIES] : NULL;
}

static bool same_labels(const struct hot *h, const struct key_labels *k)
{
	if (h->n_labels != k->n)
		return false;
	for (size_t i = 0; i < k->n; i++)
		if (strcmp(h->labels[i].name->text, k->v[i].name) != 0 ||
			strcmp(h->labels[i].value->text, k->v[i].value) != 0)
			return false;
	return true;
}

struct hot *hot_by_key(const struct mno_series *s, uint64_t fp, const struct key_labels *k)
{
	struct hot *h = mno_map_get(s->by_fp, &fp, sizeof(fp));

	while (h && !same_labels(h, k))
		h = h->next_fp;
	return h;
}

void hot_key(const struct hot *h, struct mno_buf *out)
{
	struct key_label v[KEY_LABELS];

	for (size_t i = 0; i < h->n_labels; i++)
		v[i] = (struct key_label){h->labels[i].name->text, h->labels[i].value->text};
	key_format(v, h->n_labels, out);
}

void hot_free_all(struct mno_series *s)
{
	struct group *g;

	SPARSE_EACH(&s->groups, no, g)
	{
		for (unsigned c = 0; c < GROUP_SERIES; c++)
			if (g->hot[c])
				hot_free(s, g->hot[c]);
		free(g);
	}
	sparse_done(&s->groups);
	ZSTD_freeDCtx(s->spare_z);
	free(s->syms.free_ids);
	mno_map_free(s->syms.map, NULL);
	mno_map_free(s->by_fp, NULL);
}
