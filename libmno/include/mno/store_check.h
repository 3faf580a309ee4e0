/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at everything that a store holds, and saying exactly what is damaged. */
#pragma once

#include <stdatomic.h>
#include "mno/store.h"

/* One thing that is wrong. Texts are valid during the call only. */
struct mno_finding {
	const char *env;  /* directory below the store's */
	const char *db;   /* "" : the environment as a whole */
	const char *key;  /* readable form; "" if it is not about one value */
	const char *why;  /* what is wrong */
	const char *lost; /* what cannot be read any more: series, time, number of items */
	uint64_t items;   /* samples, processes or records that are lost; 0 = not known */
};

#define MNO_VERIFY_KEY_MAX 511u

/* How far a pass is, for a later one to go on; of whole passes, the last one. Plain bytes. */
struct mno_verify_place {
	uint8_t under_way, class, db, any;
	uint16_t klen;
	uint16_t unused;
	int64_t t0_ms; /* of the environment */
	uint64_t bytes, values, damaged, environments, took_ns;
	uint64_t passes, pass_ns; /* whole ones ever; how long the last took */
	int64_t pass_ms;          /* when it ended */
	uint8_t key[MNO_VERIFY_KEY_MAX + 1];
};

struct mno_verify_progress {
	const char *env, *db;       /* being looked at now */
	uint64_t bytes, file_bytes; /* done, and the size of all files */
	uint64_t values, damaged, environments;
	uint64_t gone;                        /* lost, which was accepted: mno_quarantine_drop() */
	uint64_t took_ns;                     /* with that of the passes that it goes on from */
	const struct mno_verify_place *place; /* valid during a call of .progress only */
};

struct mno_verify_opts {
	size_t sz;
	bool deep;                 /* decode what is in the values, follow references */
	bool pages;                /* walk the pages too: only when nobody writes */
	uint64_t bytes_per_s;      /* 0 = as fast as it goes */
	const atomic_bool *cancel; /* may be NULL; looked at every 50 ms at least */
	void (*finding)(void *arg, const struct mno_finding *f);
	/* About every 50 ms; may be NULL. */
	void (*progress)(void *arg, const struct mno_verify_progress *p);
	void *arg;
	const struct mno_verify_place *from; /* goes on from there; NULL: from the start */
};

/*
 * Opens every value of every environment, in read transactions of at most 50 ms each, while others
 * read and write. Keys have to be in order, of the right size, and what they refer to has to be
 * there. *@ret gets the final counts. 0: looked at everything, ret->damaged says what was found;
 * -ECANCELED, -ENOMEM, -errno. Any thread; memory: one value.
 */
int mno_store_verify(
	struct mno_store *s, const struct mno_verify_opts *o, struct mno_verify_progress *ret);

/* The place that was kept last. -ENOENT: none. Any thread. */
int mno_verify_place_load(struct mno_store *s, struct mno_verify_place *ret);
/* Has it stored with a later commit. Any thread. */
void mno_verify_place_keep(struct mno_store *s, const struct mno_verify_place *p);
/* Inside the store's transaction: stores what was kept since. Writer thread. Errors of the store. */
int mno_verify_place_save(struct mno_store *s, struct mno_txn *t);
