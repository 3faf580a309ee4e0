/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded queue of pointers between threads; full is an answer, never a wait. Thread-safe. */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

struct mno_queue;
/* Queue of at most @cap pointers. -ENOMEM. */
int mno_queue_new(size_t cap, struct mno_queue **ret);
/* NULL-safe, returns NULL; @destroy (may be NULL) runs on what was left. */
struct mno_queue *mno_queue_free(struct mno_queue *q, void (*destroy)(void *item));
/* 0, -ENOBUFS when full, -ESHUTDOWN after close: the caller still owns @item then. */
int mno_queue_push(struct mno_queue *q, void *item);
/* Next item; waits up to @timeout_ns. NULL on time-out, or when closed and empty. */
void *mno_queue_pop(struct mno_queue *q, uint64_t timeout_ns);
/* No more pushes; poppers drain the rest, then get NULL. */
void mno_queue_close(struct mno_queue *q);
size_t mno_queue_len(struct mno_queue *q);
