/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After records were lost, the ledger is held against /proc: rows of processes that are gone end
 * as "exit lost", processes it does not know are seeded. Tick thread.
 */
#pragma once

#include "mno/ledger.h"
#include "probes.h"

struct mno_reconcile {
	uint64_t dropped; /* records lost so far, as of the last tick */
	bool due;
};

/*
 * Call once a tick. Acts in the first tick after which no more records were lost; @p and @l may be
 * NULL. Costs some 10 us per running process, then.
 */
void mno_reconcile_tick(struct mno_reconcile *r, struct mno_probes *p, struct mno_ledger *l);
