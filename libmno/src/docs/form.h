/* SPDX-License-Identifier: Apache-2.0 */
/* The two halves of a migration of documents: its stages (form.c), and one document (form_doc.c). */
#pragma once

#include "docs_internal.h"

enum {
	F_STAGE,
	F_FROM,
	F_TO,
	F_DONE,
	F_TOTAL,
	F_DAMAGED,
	F_STALE,
	F_BEGAN,
	F_ENDED,
	F_FAILED,
	F_MAX
};
struct place {
	uint64_t v[F_MAX];
	uint8_t key[DOCS_KEY_LEN]; /* the last one done */
	size_t len;
};

struct pass {
	struct mno_docs_txn *t;
	struct place *p;
	const uint8_t *key;
	size_t len, stored;
	struct docs_head head;
	struct docs_cat_coll *coll;
	struct mno_buf value, other; /* payloads: as it is, and the other one */
};

/* What a stage does with a document. */
int form_copy_doc(struct pass *q);
int form_check_doc(struct pass *q);
int form_undo_doc(struct pass *q);
/* Documents behind the place, up to the bound of a step. 1: there are more. */
int form_walk(struct pass *q, int (*fn)(struct pass *q));
/* Empties DOC_OLD. 1: there are more. */
int form_clear(struct pass *q);
/* Of the migration from @form, for people; "" if there is none. */
const char *form_name(unsigned form);
