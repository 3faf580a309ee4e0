/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocator with a hard cap: one request or one decoded answer lives in one arena. */
#pragma once

#include <stddef.h>
#include "mno/macro.h"

struct mno_arena;

/* New arena that will never hold more than @max bytes. -ENOMEM. Free with mno_arena_free(). */
int mno_arena_new(size_t max, struct mno_arena **ret);
/* NULL is fine; frees all that was allocated from it; returns NULL. */
struct mno_arena *mno_arena_free(struct mno_arena *a);
MNO_DEFINE_CLEANUP(struct mno_arena *, mno_arena_free)

/* @size bytes, 16-aligned, uninitialised; lives until reset or free. NULL over the cap. */
void *mno_arena_alloc(struct mno_arena *a, size_t size);
/* As mno_arena_alloc, zeroed; @n * @size is checked for overflow. */
void *mno_arena_calloc(struct mno_arena *a, size_t n, size_t size);
/* NUL-terminated copy of @n bytes of @s. */
char *mno_arena_strndup(struct mno_arena *a, const char *s, size_t n);
/* Forgets all allocations and keeps the first block. Not thread-safe, like the rest. */
void mno_arena_reset(struct mno_arena *a);
/* Bytes handed out since the last reset. */
size_t mno_arena_used(const struct mno_arena *a);
