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

struct mno_verify_progress {
	const char *env, *db;       /* being looked at now */
	uint64_t bytes, file_bytes; /* done, and the size of all files */
	uint64_t values, damaged, environments;
	uint64_t took_ns;
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
};

/*
 * Opens every value of every environment, in read transactions of at most 50 ms each, while others
 * read and write. Keys have to be in order, of the right size, and what they refer to has to be
 * there. *@ret gets the final counts. 0: looked at everything, ret->damaged says what was found;
 * -ECANCELED, -ENOMEM, -errno. Any thread; memory: one value.
 */
int mno_store_verify(
	struct mno_store *s, const struct mno_verify_opts *o, struct mno_verify_progress *ret);
