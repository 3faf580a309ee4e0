/* SPDX-License-Identifier: Apache-2.0 */
/* mnod --restore: a state directory from a backup, without an agent. */
#pragma once

#include "options.h"

/* Says on stdout what it did. 0; 1 damaged; -errno. */
int mno_restore(const struct mno_options *o);
