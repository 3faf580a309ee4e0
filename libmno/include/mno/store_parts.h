/* SPDX-License-Identifier: Apache-2.0 */
/* The environments of a store, one by one, for people and for metrics. */
#pragma once

#include "mno/store.h"

struct mno_part_stat {
	const char *name;              /* of its directory; valid during the call */
	const char *what, *durability; /* static */
	int error;            /* it cannot be opened, or was set aside: nothing else is filled */
	int64_t t0_ms, t1_ms; /* what it is for; 0, 0: all of time */
	uint64_t file_bytes, used_bytes, map_bytes, entries;
	uint64_t commits, last_sync_ns, longest_sync_ns, oldest_reader_ns, slow_readers;
	bool encrypted;
	uint8_t key_id;  /* of the data key that seals now */
	unsigned keys;   /* data keys in its file */
	uint64_t sealed; /* values by the present key since the start */
};
/* Calls @fn for each environment, and for those set aside. Non-zero stops and is returned. Any
 * thread. */
int mno_store_each_part(
	struct mno_store *s, int (*fn)(void *arg, const struct mno_part_stat *p), void *arg);

struct mno_store_health {
	uint64_t mended;      /* flipped bits put right since the start */
	uint64_t set_aside;   /* partitions that could not be opened since the start */
	uint64_t damaged;     /* values that failed their check since the start */
	uint64_t quarantined; /* of them, moved into quarantine */
	uint64_t rebuilt;     /* of them, made again */
};
/* Any thread. */
void mno_store_health(struct mno_store *s, struct mno_store_health *ret);

/*
 * Looks at the open environments for a read transaction older than @max_ns: logs once while it
 * lasts, counts it. Returns the age of the oldest in ns. One thread at a time.
 */
uint64_t mno_store_watch_readers(struct mno_store *s, uint64_t max_ns);
