/* SPDX-License-Identifier: Apache-2.0 */
/* Small text helpers. Pure and thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Decimal, all of @s, no sign or space. 0, -EINVAL, -ERANGE. */
int mno_parse_u64(const char *s, uint64_t *ret);
/* A float as Prometheus reads it (Inf, NaN allowed), all of @s. 0, -EINVAL. */
int mno_parse_f64(const char *s, double *ret);
/* Damerau-Levenshtein distance, for "did you mean". Strings over 63 bytes count as far. */
unsigned mno_edit_distance(const char *a, const char *b);
/* "1,269", "31.9 M" style human number into @buf (>= 16 bytes). Returns @buf. */
const char *mno_human_count(double v, char *buf, size_t size);
/* "11.8 MiB" into @buf (>= 16 bytes). Returns @buf. */
const char *mno_human_bytes(double v, char *buf, size_t size);
/* Copies @s to @dst making it safe for a terminal: control and invalid bytes become \xNN.
 * Always NUL-terminates; cuts at @size. Returns @dst. */
char *mno_escape_terminal(char *dst, size_t size, const char *s, size_t n);
/* Bytes of the valid UTF-8 sequence at @s (1..4), 0 if invalid. Reads at most @n bytes. */
size_t mno_utf8_len(const char *s, size_t n);
