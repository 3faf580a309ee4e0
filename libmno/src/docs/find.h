/* SPDX-License-Identifier: Apache-2.0 */
/* Which index serves a query, and where in it the answer lies. */
#pragma once

#include "docs_internal.h"

struct docs_range { /* of encoded values: from <= v < to */
	uint8_t from[DOCS_KEY_MAX], to[DOCS_KEY_MAX];
	size_t from_len, to_len; /* to_len 0: to the end of the index */
};
struct docs_choice {                         /* what a cursor goes on with */
	uint32_t index;                      /* 0: all documents */
	uint8_t cond, term[DOCS_GROUPS_MAX]; /* of each alternative, the word looked up */
};
struct docs_plan {
	struct docs_choice by;
	const struct docs_cat_index *x;       /* NULL: all documents */
	unsigned pos, cond;                   /* in x->coll->idx; in the conditions */
	struct docs_range r[DOCS_GROUPS_MAX]; /* one after the other */
	unsigned n;
	uint64_t cost; /* entries, counted up to a bound */
};
/*
 * The plan with the fewest entries of those that are possible. *@ret_building: an index that would
 * serve but is not ready, or NULL. @forced: the choice of a cursor's plan; -MNO_EGONE when it cannot.
 */
int docs_plan_make(struct mno_docs *d, MDB_txn *t, const struct docs_cat_coll *c,
	const struct docs_match *m, const struct docs_choice *forced, struct docs_plan *ret,
	const struct docs_cat_index **ret_building);
