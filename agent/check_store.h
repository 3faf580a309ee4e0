/* SPDX-License-Identifier: Apache-2.0 */
/* mnod --check-store: the store of an agent that does not run. */
#pragma once

#include "options.h"

/*
 * Looks at everything in the state directory and prints each damage on standard output, the
 * progress on a terminal. 0 sound, 1 damage was found, else why it could not look.
 */
int mno_check_store(const struct mno_options *o);
