/* SPDX-License-Identifier: Apache-2.0 */
/* What reads of samples share: some groups' data out of head, windows and blocks. */
#pragma once

#include "late.h"

#define READ_BATCH 4u  /* groups, each with samples of its own in memory */
#define SCAN_BATCH 16u /* groups; samples of the head alone are in memory */

struct samples {
	size_t n, cap;
	int64_t *t;
	double *v;
};

/* Stored blocks of windows that wait, as they are. */
struct held {
	struct mno_buf key, val;
	size_t from, to; /* wanted groups that it covers */
};
struct holds {
	struct held *v;
	size_t n, cap;
};

/* Some groups of one read. Memory: 16 bytes a sample, bounded by the caller's max_samples. */
struct gather {
	struct mno_series *s;
	size_t n_groups;
	uint32_t group[SCAN_BATCH];
	uint64_t want[SCAN_BATCH]; /* columns */
	uint32_t damaged[SCAN_BATCH];
	int64_t t0, t1;
	size_t left;                       /* samples that may still come */
	int64_t head_t, part_t;            /* windows count up to here, blocks up to there */
	int64_t old_t;                     /* the first of old, or head_t */
	struct samples *old, *fresh;       /* by group and column; old is NULL in a scan */
	struct holds windows, olds, *into; /* of the partition being walked; of PART */
	struct mno_env *e;                 /* being walked */
	MDB_txn *txn;                      /* while windows are copied */
	int64_t *days;                     /* start of each partition */
	size_t n_days;
	bool days_known;
	ZSTD_DCtx *z;
	struct mno_buf key, val, next, raw;
	struct block b;
	struct piece piece[BLOCK_WINDOWS];
	double v[HEAD_ROWS];
	int64_t t[HEAD_ROWS];
	uint16_t idx[HEAD_ROWS];
	struct late_gather late;
	int (*fn)(void *arg, const struct mno_run *r); /* of a scan */
	void *arg;
	struct mno_agg *agg; /* by group and column, if that is what is wanted */
};

void gather_done(struct gather *g);
MNO_DEFINE_CLEANUP(struct gather *, gather_done)
/* @keep: samples are kept in old; else fn or agg gets them. -ENOMEM. */
int gather_new(struct mno_series *s, bool keep, struct gather **ret);
/* Takes the next groups of @ids, ascending; returns how many ids they have. */
size_t gather_begin(struct gather *g, const uint32_t *ids, size_t n, size_t groups);
/* All that is stored of them; what is in the head is in fresh. */
int gather_all(struct gather *g);
/* A block of the wanted groups [from, to) cannot be read. */
void note_damage(struct gather *g, size_t from, size_t to);
int samples_room(struct samples *c, size_t n);
