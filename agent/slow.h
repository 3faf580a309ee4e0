/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow pool: a few threads for calls that can hang (statfs of a dead server, DNS, ...). The
 * asker never waits: it submits and looks later. A job that hangs keeps its thread; the pool puts
 * a bounded number of spare threads in place of hung ones, after that jobs time out unstarted.
 * All functions: any thread.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

#define MNO_SLOW_THREADS   2 /* that work */
#define MNO_SLOW_SPARE     4 /* in place of hung ones */
#define MNO_SLOW_QUEUE_MAX 256

struct mno_slow;
struct mno_slow_job;

/* No thread is started yet: the first job does that. -ENOMEM. */
int mno_slow_new(struct mno_slow **ret);
/* While held, jobs are refused with -EAGAIN and no thread is started: threads that begin before the
 * agent drops its privileges would keep them. */
void mno_slow_hold(struct mno_slow *s, bool held);
/*
 * Cancels what is queued; waits for running jobs, but for none beyond its deadline and at most
 * 1 s: a hung thread is left behind with its own memory, and frees it if it ever returns.
 * NULL-safe, returns NULL.
 */
struct mno_slow *mno_slow_free(struct mno_slow *s);
MNO_DEFINE_CLEANUP(struct mno_slow *, mno_slow_free)

/*
 * Runs @fn(@arg) on a thread of the pool. On success @arg belongs to the job and is given to
 * @destroy (may be NULL) when the job is released and not running any more. @timeout_ns counts
 * from now, waiting for a thread included. Release *@ret_job with mno_slow_release().
 * -ENOBUFS: MNO_SLOW_QUEUE_MAX jobs wait; -EAGAIN: no thread could be started; -ENOMEM.
 */
int mno_slow_submit(struct mno_slow *s, void (*fn)(void *arg), void (*destroy)(void *arg),
	void *arg, uint64_t timeout_ns, struct mno_slow_job **ret_job);
/*
 * 0: done, *@ret_arg is the job's @arg, to be read until the release (also after its deadline, so
 * that a caller sees a hung call return); -EINPROGRESS; -ETIMEDOUT: over its deadline, it may
 * still run; -ECANCELED: over its deadline before it started, it never will.
 */
int mno_slow_poll(struct mno_slow_job *j, void **ret_arg);
/* Lets go; a job that did not start never will. NULL-safe, returns NULL. */
struct mno_slow_job *mno_slow_release(struct mno_slow_job *j);

struct mno_slow_stat {
	uint64_t done;      /* in time */
	uint64_t timed_out; /* jobs that passed their deadline, each once */
	uint64_t refused;   /* queue full or no thread */
	uint32_t threads, hung, queued;
};
/* Counts since the start, and what there is now. */
void mno_slow_stat(struct mno_slow *s, struct mno_slow_stat *ret);
