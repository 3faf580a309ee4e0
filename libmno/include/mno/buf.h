/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable byte buffer with a sticky error: writers append without checking, the end checks
 * once. Zero-initialise, or set .max first to bound it (0 = MNO_BUF_MAX).
 */
#pragma once

#include <stdint.h>
#include <string.h>
#include "mno/macro.h"

#define MNO_BUF_MAX (256u << 20)

struct mno_buf {
	char *data; /* owned; not NUL-terminated unless mno_buf_cstr() was called */
	size_t len, cap, max;
	int err; /* 0, -ENOMEM or -E2BIG (max reached); later appends do nothing */
};

/* Frees the memory and zeroes the struct (max included). NULL-safe. */
void mno_buf_done(struct mno_buf *b);
#define _cleanup_buf_ _cleanup_(mno_buf_done)

/* Room for @n more bytes: a pointer to write to (then call mno_buf_commit), or NULL. */
char *mno_buf_reserve(struct mno_buf *b, size_t n);
static inline void mno_buf_commit(struct mno_buf *b, size_t n)
{
	b->len += n;
}
/* Append @n bytes, one character, a string, formatted text; errors stick. */
void mno_buf_add(struct mno_buf *b, const void *p, size_t n);
void mno_buf_addc(struct mno_buf *b, char c);
void mno_buf_adds(struct mno_buf *b, const char *s);
void mno_buf_addf(struct mno_buf *b, const char *fmt, ...) _printf_(2, 3);
/* NUL-terminates (the NUL is not counted in len) and returns data; "" on a sticky error. */
const char *mno_buf_cstr(struct mno_buf *b);
/* Keeps the memory, forgets the content and the error. */
static inline void mno_buf_reset(struct mno_buf *b)
{
	b->len = 0;
	b->err = 0;
}
