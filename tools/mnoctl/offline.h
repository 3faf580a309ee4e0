/* SPDX-License-Identifier: Apache-2.0 */
/* What needs the store's code but no agent that runs: mnod does it and ends. */
#pragma once

#include "ctl.h"

/* Path of mnod: the one beside this program, else the name, for PATH. */
void ctl_find_agent(char *ret, size_t size);
/* Runs mnod with @argv, whose [0] is set here, and parses what it prints, one JSON object. 0, or an
 * exit code after saying why. */
int ctl_run_agent(struct ctl *c, const char **argv, struct ctl_answer *ret);
