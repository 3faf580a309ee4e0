/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include "mno/arena.h"

#define FIRST_BLOCK 4096

struct block {
	struct block *next;
	size_t size, used;
	_Alignas(16) char data[];
};

struct mno_arena {
	struct block *head; /* newest first; the oldest is kept by reset */
	size_t max, held, used;
};

int mno_arena_new(size_t max, struct mno_arena **ret)
{
	struct mno_arena *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->max = max;
	*ret = a;
	return 0;
}

static void free_blocks(struct block *b)
{
	while (b) {
		struct block *next = b->next;

		free(b);
		b = next;
	}
}

struct mno_arena *mno_arena_free(struct mno_arena *a)
{
	if (a)
		free_blocks(a->head);
	free(a);
	return NULL;
}

static struct block *add_block(struct mno_arena *a, size_t need)
{
	size_t size = a->head ? a->head->size * 2 : FIRST_BLOCK;
	struct block *b;

	if (size < need)
		size = need;
	if (size > a->max - a->held)
		size = a->max - a->held;
	if (size < need)
		return NULL;
	b = malloc(sizeof(*b) + size);
	if (!b)
		return NULL;
	b->size = size;
	b->used = 0;
	b->next = a->head;
	a->head = b;
	a->held += size;
	return b;
}

void *mno_arena_alloc(struct mno_arena *a, size_t size)
{
	struct block *b = a->head;
	void *p;

	if (size > a->max)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (!b || b->size - b->used < size)
		b = add_block(a, size);
	if (!b)
		return NULL;
	p = b->data + b->used;
	b->used += size;
	a->used += size;
	return p;
}

void *mno_arena_calloc(struct mno_arena *a, size_t n, size_t size)
{
	size_t total;
	void *p;

	if (__builtin_mul_overflow(n, size, &total))
		return NULL;
	p = mno_arena_alloc(a, total);
	return p ? memset(p, 0, total) : NULL;
}

char *mno_arena_strndup(struct mno_arena *a, const char *s, size_t n)
{
	char *p = n < SIZE_MAX ? mno_arena_alloc(a, n + 1) : NULL;

	if (!p)
		return NULL;
	memcpy(p, s, n);
	p[n] = '\0';
	return p;
}

void mno_arena_reset(struct mno_arena *a)
{
	struct block *last = a->head;

	a->used = 0;
	if (!last)
		return;
	while (last->next) {
		struct block *next = last->next;

		a->held -= last->size;
		free(last);
		last = next;
	}
	last->used = 0;
	a->head = last;
}

size_t mno_arena_used(const struct mno_arena *a)
{
	return a->used;
}
