/* SPDX-License-Identifier: Apache-2.0 */
/* mnod --restore: a state directory from a backup, without an agent. */
#pragma once

#include "options.h"

/*
 * Says on stdout what it did, as JSON if asked, errors too. The exit status: 0; 1 the backup is
 * damaged, does not reach --docs-until, or there is a store already; 5 its key is not here; 6 another
 * error; 7 an agent works on the directory.
 */
int mno_restore(const struct mno_options *o);
/* The backups in --list-backups, in the form of the API. 0, 6. */
int mno_list_backups(const struct mno_options *o);
