/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for damage in what is stored: a pass in the background, slow and at low priority, again and
 * again; and passes that somebody asks for.
 */
#pragma once

#include "mno/json.h"
#include "mno/store_check.h"

struct mno_scrub;
#define MNO_SCRUB_FINDINGS 256 /* kept in memory of the last pass; more are counted */

/* @bytes_per_s 0: only when asked. The store is borrowed. -ENOMEM, -EAGAIN. */
int mno_scrub_start(struct mno_store *s, uint64_t bytes_per_s, struct mno_scrub **ret);
/* Ends it within 100 ms. NULL-safe, returns NULL. */
struct mno_scrub *mno_scrub_stop(struct mno_scrub *c);
/* A pass at full speed as soon as the thread is free; @deep decodes too. -EBUSY one is asked for. */
int mno_scrub_now(struct mno_scrub *c, bool deep);
/* State, progress, and the findings of the pass under way or of the last one, into an object. Any
 * thread. */
void mno_scrub_json(struct mno_scrub *c, struct mno_json *j);

struct mno_scrub_stat {
	uint64_t passes, damaged, bytes; /* ended since the start; of the last pass; of this one */
	uint64_t age_s;                  /* of the last end; 0 = none yet */
};
/* Any thread. */
void mno_scrub_stat(struct mno_scrub *c, struct mno_scrub_stat *ret);
