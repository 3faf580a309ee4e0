/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of points of one group, as numbers and as bytes. */
#pragma once

#include "mno/rollup.h"
#include "series_internal.h"

#define ROLL_POINTS 180u
_Static_assert(ROLL_POINTS <= HEAD_ROWS, "a field of a window is one column");

/* One group's window in one tier; fields by column and point. ~ 1 MB. */
struct roll {
	size_t n_points;
	uint64_t columns; /* that have any */
	double count[GROUP_SERIES][ROLL_POINTS], sum[GROUP_SERIES][ROLL_POINTS],
		min[GROUP_SERIES][ROLL_POINTS], max[GROUP_SERIES][ROLL_POINTS],
		first[GROUP_SERIES][ROLL_POINTS], last[GROUP_SERIES][ROLL_POINTS],
		resets[GROUP_SERIES][ROLL_POINTS];
	/* What sum lost by rounding (Neumaier 1974): so that decimals sum up to a decimal. */
	double lost[GROUP_SERIES][ROLL_POINTS];
	uint32_t drops[GROUP_SERIES][ROLL_POINTS]; /* how often a sample was below the last */
};

/* Empties it for @n_points. */
void roll_begin(struct roll *r, size_t n_points);
/* Takes samples of one column in order of time; those outside are ignored. */
void roll_add(struct roll *r, unsigned col, int64_t t0, int64_t step, const int64_t *t,
	const double *v, size_t n);
/* Takes points of a tier below in order of time. Sums are summed up: right to the rounding. */
void roll_add_points(struct roll *r, unsigned col, int64_t t0, int64_t step,
	const struct mno_rollup *p, size_t n);
/* Appends the bytes; errors stick in @out. */
void roll_encode(const struct roll *r, struct mno_buf *out);

/* A column as it is read. */
struct roll_column {
	size_t n;
	uint16_t at[ROLL_POINTS];
	struct mno_rollup p[ROLL_POINTS]; /* t_ms is not set */
};
/* Calls @fn for each wanted column (bits of @want) that there is. @raw is followed by 8 readable
 * bytes. -MNO_ECORRUPT; non-zero of @fn stops and is returned. */
int roll_decode(const uint8_t *raw, size_t len, uint64_t want,
	int (*fn)(void *arg, unsigned col, struct roll_column *c), void *arg);
