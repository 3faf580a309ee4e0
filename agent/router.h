/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes records out of the rings: checks each, feeds the ledger, publishes it to live
 * subscribers and collects the raw bytes for the writer. Any thread; one lock.
 */
#pragma once

#include "hub.h"
#include "probes.h"
#include "writer.h"

struct mno_router;
struct mno_router_opts {
	size_t sz;
	struct mno_ledger *ledger;
	struct mno_hub *hub;
	struct mno_writer *writer;
	int64_t boot_offset_ns; /* batches are filed under Unix time */
};
/* The parts are borrowed and must outlive the router. -ENOMEM. */
int mno_router_new(const struct mno_router_opts *o, struct mno_router **ret);
struct mno_router *mno_router_free(struct mno_router *r);
MNO_DEFINE_CLEANUP(struct mno_router *, mno_router_free)

/* One record of probe number @probe (the on_record of mno_probes_opts; @router is the router). */
void mno_router_record(void *router, size_t probe, const void *rec, size_t len);
/* Ends a round: hands what was collected to the writer and tells @p what could not be kept. */
void mno_router_flush(struct mno_router *r, struct mno_probes *p);

/* The drain thread: rounds until stopped; the last one empties the rings. */
struct mno_drain;
int mno_drain_start(struct mno_probes *p, struct mno_router *r, struct mno_drain **ret);
/* NULL-safe, returns NULL. */
struct mno_drain *mno_drain_stop(struct mno_drain *d);
