/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `mnoctl top`. */
#pragma once

#include "ctl.h"

enum top_by { TOP_CGROUP, TOP_PROCESS };

#define TOP_SORTS "cpu wait name throttled disk tcp sys read written diskwait memory"

/* The word of the next column to sort by, round and round. Static. */
const char *top_next_sort(enum top_by by, const char *sort);
bool top_has_sort(enum top_by by, const char *sort);
/* Prints the table of one answer into c->out, at most @max_rows (0 = all); rows there were. */
size_t top_table(
	struct ctl *c, struct json_object *root, enum top_by by, const char *sort, size_t max_rows);
