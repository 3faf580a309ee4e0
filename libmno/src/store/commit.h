/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: one thread writes to an environment; what waits while it syncs goes into the next
 * transaction together. With nobody waiting a request is committed at once.
 */
#pragma once

#include "store_internal.h"

struct mno_committer;

#define MNO_COMMIT_WAITING 4096 /* requests waiting at once; more are refused with -EAGAIN */
#define MNO_COMMIT_GROUP   1024 /* requests of one transaction */

/* The writer thread of @e, which is borrowed and has no other writer. -ENOMEM, -EAGAIN. */
int mno_committer_new(struct mno_env *e, struct mno_committer **ret);
/* Ends the thread when what waits is done. NULL-safe, returns NULL. */
struct mno_committer *mno_committer_free(struct mno_committer *c);

/*
 * Runs @fn on the writer thread inside a transaction of its own within the group, and returns when
 * the group is durable by the environment's class: @fn's error (then nothing of it is stored), or
 * the commit's. @fn may run more than once (when the map had to grow, or another request of the
 * group failed, what ran is undone) and must not touch another environment. -ENOSPC: disk floor; @reclaim passes it, for what only deletes. Any
 * thread but the writer.
 */
int mno_committer_run(struct mno_committer *c, int (*fn)(void *arg, struct mno_txn *txn), void *arg,
	bool reclaim);

struct mno_committer_stat {
	uint64_t groups, requests, failed; /* failed: groups whose commit failed */
	uint64_t largest;                  /* requests in one group */
	uint64_t waiting;                  /* now */
	uint64_t last_ns, longest_ns;      /* of a group, from its begin to durable */
};
/* Any thread. */
void mno_committer_stat(struct mno_committer *c, struct mno_committer_stat *ret);
