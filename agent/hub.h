/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live records to subscribers. Each has a bounded queue; what does not fit is counted and told
 * to it, the publisher never waits. Any thread.
 */
#pragma once

#include "mno/event.h"

struct mno_hub;
struct mno_sub;
#define MNO_SUB_BYTES (512 * 1024) /* per subscriber */
#define MNO_SUBS_MAX  64

/* -ENOMEM. Free after all subscribers are gone; NULL-safe, returns NULL. */
int mno_hub_new(struct mno_hub **ret);
struct mno_hub *mno_hub_free(struct mno_hub *h);
MNO_DEFINE_CLEANUP(struct mno_hub *, mno_hub_free)

/* Hands a checked record to all subscribers that want its kind. */
void mno_hub_publish(struct mno_hub *h, const void *rec, size_t len);
/* @kinds: wanted kinds (copied), none = all. @wake runs (publisher's thread, keep it short)
 * when the queue stops being empty. -EMFILE at MNO_SUBS_MAX. */
int mno_hub_subscribe(struct mno_hub *h, const uint16_t *kinds, size_t n, void (*wake)(void *arg),
	void *arg, struct mno_sub **ret);
/* NULL-safe, returns NULL. @wake is not called after it returned. */
struct mno_sub *mno_hub_unsubscribe(struct mno_sub *s);
/* Next record copied into @buf (reset first); *@ret_lost = how many were lost before it.
 * 0, or -EAGAIN when empty: then *@ret_lost tells losses that no later record has told yet. */
int mno_hub_next(struct mno_sub *s, struct mno_buf *buf, uint64_t *ret_lost);
