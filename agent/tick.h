/* SPDX-License-Identifier: Apache-2.0 */
/* The second: sources and probes are read, the row goes to the writer. */
#pragma once

#include "mno/metric.h"
#include "probes.h"
#include "reconcile.h"
#include "writer.h"

struct mno_sources;
struct mno_tick;

struct mno_tick_opts {
	size_t sz;
	struct mno_metrics *metrics;
	struct mno_sources *sources;
	struct mno_cgroups *cgroups; /* may be NULL */
	struct mno_probes *probes;   /* may be NULL */
	struct mno_writer *writer;
	struct mno_ledger *ledger;       /* held against /proc after losses; may be NULL */
	struct mno_reconcile *reconcile; /* its state; NULL: never */
};

/* One tick on the caller's thread, stamped @t_ms. Not while the thread runs. */
void mno_tick_once(const struct mno_tick_opts *o, int64_t t_ms);
/* Starts the thread: a tick at each full second of the wall clock. -ENOMEM, -EAGAIN. */
int mno_tick_start(const struct mno_tick_opts *o, struct mno_tick **ret);
/* NULL-safe, returns NULL. */
struct mno_tick *mno_tick_stop(struct mno_tick *t);
