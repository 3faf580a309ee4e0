/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which the agent's parts come up and go down. Main thread. */
#pragma once

#include "agent.h"
#include "options.h"

struct mno_life;

/*
 * Brings the agent up: store, first sample, probes, privileges dropped, threads, API. On failure
 * what was up is taken down, and *@ret_what (static) says which part failed.
 */
int mno_life_start(const struct mno_options *o, struct mno_life **ret, const char **ret_what);
/* Ends it all: the rings are emptied and the last commit is durable. NULL-safe, returns NULL. */
struct mno_life *mno_life_stop(struct mno_life *l);
const struct mno_agent *mno_life_agent(const struct mno_life *l);
/* Whether rows are being committed: false when none was for 30 s (the watchdog's question). */
bool mno_life_healthy(const struct mno_life *l);
