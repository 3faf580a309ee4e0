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

/* --- windows that are stored --------------------------------------------------------------------- */

#define ROLL_KEY    12  /* t0 u64, first group u32 */
#define ROLL_GROUPS 64u /* of one value and step */

struct roll_tier {
	const char *name;
	int64_t step;
	size_t points;
	enum mno_class class;
	enum mno_db db;
};
extern const struct roll_tier roll_tiers[MNO_TIER_MAX];

/* What is being made of each tier; the writer's own but for until. */
struct rollup_state {
	struct tier_state {
		_Atomic int64_t until; /* windows before are made; INT64_MIN: not known yet */
		struct mno_ids ids;    /* alive in the window that begins there */
		size_t at;             /* of ids */
		bool listed;
		_Atomic uint64_t points, bytes, remade;
	} tier[MNO_TIER_MAX];
	bool loaded;
	struct roll roll;
};

int64_t roll_window_len(enum mno_tier t);
/* Start of the window that @t_ms is in. Windows are counted from the Unix epoch. */
int64_t roll_window_of(enum mno_tier t, int64_t t_ms);
void roll_key(uint8_t key[ROLL_KEY], uint32_t group, int64_t t0);

/* A value of one window that is in s->raw. */
struct roll_value {
	uint32_t first, last; /* group that has any points; valid with groups */
	uint32_t groups;
	uint64_t points;
	uint64_t damaged; /* of what it is made from, could not be read */
	size_t took;      /* of the ids */
};
/*
 * Makes a value of the window at @t0 from the first of @ids on, as many as a step may take, or with
 * @whole of all of them, whatever it takes. Writer thread. Errors of the store.
 */
int roll_value_make(struct mno_series *s, enum mno_tier t, int64_t t0, const uint32_t *ids,
	size_t n, bool whole, struct roll_value *ret);
/* Stores it, if there are any points. */
int roll_value_put(struct mno_series *s, struct mno_txn *txn, enum mno_tier t, int64_t t0,
	const struct roll_value *v);

/* rollup_again.c: what waits in ROLL_LATE, one value a call. -ENOENT: nothing does, or only of a
 * tier that needs the one below committed; *@tier: MNO_TIER_MAX at first, then that of this step. */
int rollup_remake(struct mno_series *s, struct mno_txn *txn, uint8_t *tier);
