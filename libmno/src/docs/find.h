/* SPDX-License-Identifier: Apache-2.0 */
/* Which index serves a query, and where in it the answer lies. */
#pragma once

#include "docs_internal.h"

struct docs_range { /* of encoded values: from <= v < to */
	uint8_t from[DOCS_KEY_MAX], to[DOCS_KEY_MAX];
	size_t from_len, to_len; /* to_len 0: to the end of the index */
};
struct docs_plan {
	const struct docs_cat_index *x;       /* NULL: all documents */
	unsigned pos, cond;                   /* in x->coll->idx; in the conditions */
	struct docs_range r[DOCS_GROUPS_MAX]; /* one after the other */
	unsigned n;
	uint64_t cost; /* entries, counted up to a bound */
};
/*
 * The plan with the fewest entries of those that are possible. *@ret_building: an index that would
 * serve but is not ready, or NULL. @forced: the plan must use this index (0: none), as a cursor
 * says; -MNO_EGONE when it cannot.
 */
int docs_plan_make(struct mno_docs *d, MDB_txn *t, const struct docs_cat_coll *c,
	const struct docs_match *m, const uint32_t *forced, struct docs_plan *ret,
	const struct docs_cat_index **ret_building);
