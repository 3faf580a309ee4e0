/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's figures about itself: store, probes, writer; one row each. */
#pragma once

#include "source.h"

/* A mno_self_fn; @agent is the struct mno_agent. Tick thread. */
void mno_figures(void *agent, mno_self_emit_fn emit, void *arg);
