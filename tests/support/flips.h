/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store with series, processes and records, of which one bit after the other is flipped: each
 * time a child opens it, reads everything and compares it with what was stored.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct flips_result {
	unsigned n;
	unsigned mended;  /* reported; all answers right */
	unsigned lost;    /* reported; something is missing, all else right */
	unsigned refused; /* reported; the store does not open */
	unsigned unused; /* not reported, all answers right, the byte holds nothing (see flips.c) */
	unsigned unproven; /* the same, but the byte is one that is in use: a failure */
	unsigned silent;   /* something is missing and nothing was reported: a failure */
	unsigned wrong;    /* an answer that was never stored: a failure */
	unsigned crashed;  /* a signal, or no end after 20 s: a failure */
};

/*
 * @n flips at places drawn with @seed over all bytes of all files. Prints failures. @killed: the
 * store was not closed, there are no sums of its pages. 0, -errno.
 */
int flips_run(unsigned n, uint64_t seed, bool killed, struct flips_result *ret);
