/* SPDX-License-Identifier: Apache-2.0 */
/* The time that deletions go by: a wall clock that is wrong for a moment must not cost history. */
#pragma once

#include "mno/store.h"

#define MNO_CLOCK_STEP_MS   (3600LL * 1000)      /* further ahead than this is a step */
#define MNO_CLOCK_SETTLE_MS (24 * 3600LL * 1000) /* a step that stays this long is believed */

/*
 * Tells the store what the wall clock (@wall_ms, Unix time) and CLOCK_BOOTTIME (@up_ns) say, and
 * returns what retention may go by, in Unix ms. It follows the wall clock when that goes back, at
 * once; when it steps ahead by more than MNO_CLOCK_STEP_MS, or is ahead of where an earlier agent
 * left it (a host that was off), only after MNO_CLOCK_SETTLE_MS of running on the new course, which
 * add up over restarts. Until then it goes on from where it was. Kept in the store with @t, which
 * may be aborted. The first call ever believes the wall clock. Call it once a minute or so; the
 * writer's thread. -ENOMEM, -EIO, -ENOSPC: as mno_txn_put(), and *@ret_ms is not touched.
 */
int mno_store_clock(
	struct mno_store *s, struct mno_txn *t, int64_t wall_ms, uint64_t up_ns, int64_t *ret_ms);

/* The earlier of the wall clock and what mno_store_clock() said last. Any thread. */
int64_t mno_store_now_ms(struct mno_store *s);
