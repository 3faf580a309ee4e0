/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `mnoctl proc`. */
#pragma once

#include "ctl.h"

int proc_list(struct ctl *c);
int proc_show(struct ctl *c, uint64_t pid);
/* @root: show only what is below it; 0 = all. */
int proc_tree(struct ctl *c, uint64_t root);

/* "/mno/v1/proc" with --since and --until as the agent reads them. */
void proc_target(struct ctl *c, struct mno_buf *target, const char *since);
/* Unix seconds, or the duration as it was typed. */
void ctl_time_param(struct mno_buf *target, const char *name, const char *value);
