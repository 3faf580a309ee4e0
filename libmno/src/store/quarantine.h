/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged values on their way into quarantine. */
#pragma once

#include "mno/store_quarantine.h"
#include "store_internal.h"

#define MNO_QUARANTINE_NOTES 64u /* wait at once; what is over comes again by the next read */
#define MNO_QUARANTINE_BYTES (8u << 20) /* of them in memory */

/* This value of @e failed its check. Any thread; cheap when it is noted already. */
void mno_quarantine_note(struct mno_env *e, enum mno_db db, const void *key, size_t klen,
	const void *val, size_t len);
/* Whether anything of @e waits. Any thread. */
bool mno_quarantine_waits(struct mno_env *e);
/* Moves what waits of the environment of @t; for those that have a writer of their own. */
int mno_quarantine_run(struct mno_txn *t);
void mno_quarantine_done(struct mno_store *s);
/* Moves the value of @key as it is now; a mark stays. @why is added to what is lost. */
int mno_quarantine_move(
	struct mno_txn *t, enum mno_db db, const void *key, size_t klen, const char *why);
/* The value of @key, that is @was (damaged, or its mark), is about to be replaced by one that has
 * all that was in it: its record says so, or one is made that does. */
int mno_quarantine_rebuilt(struct mno_txn *t, enum mno_db db, const void *key, size_t klen,
	const void *was, size_t len);
