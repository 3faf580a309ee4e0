/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Sets of patterns over absolute paths, compiled into one automaton over byte classes.
 * Syntax: `?` one byte but '/', `*` any bytes but '/', `**` any bytes (a last component `**` is at
 * least one byte), `[a-z]` and `[!a-z]` one byte but '/', `\` quotes the next byte.
 */
struct mno_pathset;

struct mno_pathset_pattern {
	const char *text;
	uint32_t id;
};

/* What was refused: pattern number in the input, byte offset in it, text and hint (static). */
struct mno_pathset_error {
	size_t pattern, offset;
	const char *text, *hint;
};

/* Value (1 .. 2^24-1) of a state where exactly these patterns match; ids ascend. */
typedef uint32_t (*mno_pathset_merge_fn)(void *arg, const uint32_t *ids, size_t n);

/* Budgets of 0 take the defaults: 262144 states, 64 MiB while compiling. No merge: the least id. */
struct mno_pathset_opts {
	size_t sz;
	size_t max_states, max_bytes;
	mno_pathset_merge_fn merge;
	void *arg;
};

/* Checks the syntax of one pattern. 0, or -EINVAL with *ret filled. Any thread; allocates nothing. */
int mno_pathset_check(const char *pattern, struct mno_pathset_error *ret);

/*
 * Compiles n patterns by subset construction; *ret is the caller's (mno_pathset_free). 0, -EINVAL
 * (syntax; *err filled), -ERANGE (a merge value out of range), -E2BIG (budget; err->pattern is the
 * one with most positions in the state that broke it), -ENOMEM. Input is not kept.
 */
int mno_pathset_compile(const struct mno_pathset_pattern *v, size_t n,
	const struct mno_pathset_opts *o, struct mno_pathset **ret, struct mno_pathset_error *err);

/* Value of a path of len bytes, 0 if none matches or it contains NUL. Pure; any thread. */
uint32_t mno_pathset_match(const struct mno_pathset *s, const char *path, size_t len);

/*
 * The table as the walk reads it, owned by s: u8 class[256], then a power of two of u64 cells
 * {check:32, next:32}. A state is its base; 0 is dead; next with bit 31 is absorbing (the walk may
 * end). Cell base+0 holds the value at the end of the path. *ret_mask masks cell numbers.
 */
const void *mno_pathset_table(
	const struct mno_pathset *s, size_t *ret_bytes, uint32_t *ret_mask, uint32_t *ret_root);

/* Frees; NULL is allowed. Returns NULL. */
struct mno_pathset *mno_pathset_free(struct mno_pathset *s);
