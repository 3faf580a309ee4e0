/* SPDX-License-Identifier: Apache-2.0 */
/* Written series -> number. Memory: at most ENTRIES_MAX entries and TEXT_MAX bytes of text. */
#include <errno.h>
#include <sys/random.h>
#include "ingest_internal.h"

#define ENTRIES_MAX (256u << 10)
#define TEXT_MAX    (32u << 20)
#define PAGE_BYTES  (256u << 10)

static void free_pages(struct ingest_cache *c)
{
	while (c->pages) {
		struct ingest_page *next = c->pages->next;

		free(c->pages);
		c->pages = next;
	}
	c->left = c->bytes = 0;
}

void ingest_cache_done(struct ingest_cache *c)
{
	free_pages(c);
	free(c->v);
	free(c->slots);
	*c = (struct ingest_cache){0};
}

bool ingest_cache_full(const struct ingest_cache *c, size_t len)
{
	/* one text may need two entries: as it came, and canonical */
	return c->n + 2 > ENTRIES_MAX || c->bytes + 2 * (PAGE_BYTES + len) > TEXT_MAX;
}

void ingest_cache_clear(struct ingest_cache *c)
{
	free_pages(c);
	if (c->slots)
		memset(c->slots, 0, c->n_slots * sizeof(*c->slots));
	c->n = 0;
	c->last = 0;
	c->n_series = 0;
}

/* Multiply and fold, 8 bytes a step, seeded: who writes the input cannot know what collides. */
uint64_t ingest_hash(const struct ingest_cache *c, const char *s, size_t n)
{
	const uint64_t k = 0x9e3779b97f4a7c15ULL;
	uint64_t h = c->seed ^ (n * k), w;

	for (; n >= 8; n -= 8, s += 8) {
		memcpy(&w, s, 8);
		h = (h ^ w) * k;
		h ^= h >> 32;
	}
	w = 0;
	memcpy(&w, s, n);
	h = (h ^ w) * k;
	h ^= c->seed >> 7;
	h *= 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

uint32_t ingest_cache_find(const struct ingest_cache *c, const char *s, size_t n, uint64_t hash)
{
	if (!c->n_slots)
		return INGEST_NONE;
	for (size_t i = hash & (c->n_slots - 1); c->slots[i]; i = (i + 1) & (c->n_slots - 1)) {
		const struct ingest_entry *e = &c->v[c->slots[i] - 1];

		if (e->hash == hash && e->len == n && memcmp(e->text, s, n) == 0)
			return c->slots[i] - 1;
	}
	return INGEST_NONE;
}

static void put_slot(struct ingest_cache *c, uint64_t hash, uint32_t entry)
{
	size_t i = hash & (c->n_slots - 1);

	while (c->slots[i])
		i = (i + 1) & (c->n_slots - 1);
	c->slots[i] = entry + 1;
}

static int grow(struct ingest_cache *c)
{
	size_t cap = c->cap ? c->cap * 2 : 1024;
	uint32_t *slots = calloc(cap * 2, sizeof(*slots));
	struct ingest_entry *v = slots ? reallocarray(c->v, cap, sizeof(*v)) : NULL;

	if (!v) {
		free(slots);
		return -ENOMEM;
	}
	if (!c->seed && getrandom(&c->seed, sizeof(c->seed), GRND_NONBLOCK) < 0)
		c->seed = (uint64_t)(uintptr_t)slots;
	free(c->slots);
	c->v = v;
	c->cap = cap;
	c->slots = slots;
	c->n_slots = cap * 2;
	for (size_t i = 0; i < c->n; i++)
		put_slot(c, v[i].hash, (uint32_t)i);
	return 0;
}

/* A copy in the newest page, or in a new one. */
static char *keep(struct ingest_cache *c, const char *s, size_t n)
{
	size_t size = MNO_MAX(n, (size_t)PAGE_BYTES);
	char *p;

	if (n > c->left) {
		struct ingest_page *page = malloc(sizeof(*page) + size);

		if (!page)
			return NULL;
		page->next = c->pages;
		c->pages = page;
		c->at = page->data;
		c->left = size;
		c->bytes += size;
	}
	p = memcpy(c->at, s, n);
	c->at += n;
	c->left -= n;
	return p;
}

int ingest_cache_add(struct ingest_cache *c, const char *s, size_t n, uint64_t hash,
	uint32_t series, uint32_t *ret)
{
	char *text;

	if (c->n == c->cap && grow(c) < 0)
		return -ENOMEM;
	text = keep(c, s, n);
	if (!text)
		return -ENOMEM;
	c->v[c->n] = (struct ingest_entry){
		.text = text,
		.hash = hash,
		.len = (uint32_t)n,
		.series = series,
		.next = (uint32_t)c->n,
		.braces = n && text[n - 1] == '}',
	};
	put_slot(c, hash, (uint32_t)c->n);
	*ret = (uint32_t)c->n++;
	return 0;
}
