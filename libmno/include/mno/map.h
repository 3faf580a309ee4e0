/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open-addressing hash map from byte-string keys (bounded count) to pointers. Keys are copied;
 * values are the caller's. SipHash keyed at random per map: keys may come from outside.
 * Not thread-safe.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

struct mno_map;
/* A map of at most @max_entries (0 = 16 M). -ENOMEM. */
int mno_map_new(size_t max_entries, struct mno_map **ret);
/* NULL-safe, returns NULL. @destroy (may be NULL) runs on every value left. */
struct mno_map *mno_map_free(struct mno_map *m, void (*destroy)(void *value));
/* The value, or NULL. */
void *mno_map_get(const struct mno_map *m, const void *key, size_t len);
/* Adds or replaces; *@ret_old (may be NULL) is the replaced value. -ENOMEM, -ENOSPC (full). */
int mno_map_put(struct mno_map *m, const void *key, size_t len, void *value, void **ret_old);
/* Removes and returns the value, or NULL. */
void *mno_map_remove(struct mno_map *m, const void *key, size_t len);
size_t mno_map_count(const struct mno_map *m);
/* Iterates: start with *@pos = 0; false at the end. The map may not grow meanwhile; removing
 * the entry just returned is allowed. */
bool mno_map_next(const struct mno_map *m, size_t *pos, const void **ret_key, size_t *ret_len,
	void **ret_value);
/* Bytes held by the map itself (keys included). */
size_t mno_map_bytes(const struct mno_map *m);

/* 64-bit SipHash-1-3 of @p under the 16-byte @key (Aumasson, Bernstein 2012). Pure. */
uint64_t mno_siphash(const uint8_t key[16], const void *p, size_t len);
