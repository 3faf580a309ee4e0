/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pointers by group number. Memory follows what is in the table (4 KiB for 512 neighbours), not
 * the highest number ever used: numbers only grow, while what is alive stays few.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

#define SPARSE_FAN 512u
#define SPARSE_TOP 256u /* 2^26 numbers: one for each 64 of 2^32 ids */
#define SPARSE_MAX (SPARSE_TOP * SPARSE_FAN * SPARSE_FAN)

struct sparse_leaf {
	uint32_t n;
	void *v[SPARSE_FAN];
};
struct sparse_mid {
	uint32_t n;
	struct sparse_leaf *v[SPARSE_FAN];
};
/* Zero-initialise. Not thread-safe. */
struct sparse {
	struct sparse_mid *top[SPARSE_TOP];
	size_t n, bytes; /* pointers in it; memory of the nodes */
	uint32_t end;    /* above all numbers in it; walks end here */
};

/* NULL if there is none. */
static inline void *sparse_get(const struct sparse *t, uint32_t no)
{
	const struct sparse_mid *m =
		no < SPARSE_MAX ? t->top[no / (SPARSE_FAN * SPARSE_FAN)] : NULL;
	const struct sparse_leaf *l = m ? m->v[no / SPARSE_FAN % SPARSE_FAN] : NULL;

	return l ? l->v[no % SPARSE_FAN] : NULL;
}
/* Sets or (NULL) removes; removing needs no memory. -ENOMEM, -ERANGE. */
int sparse_put(struct sparse *t, uint32_t no, void *p);
/* The first pointer at or after *@no, which becomes its number; NULL at the end. */
void *sparse_next(const struct sparse *t, uint32_t *no);
/* Frees the nodes, not what they point to; @t is empty then. */
void sparse_done(struct sparse *t);

#define SPARSE_EACH(t, no, p) for (uint32_t no = 0; ((p) = sparse_next((t), &no)) != NULL; no++)
