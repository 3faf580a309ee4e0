/* SPDX-License-Identifier: Apache-2.0 */
/* Migration of the store at the start of the agent, and on demand: mnod --migrate WORD. */
#pragma once

#include "config.h"
#include "mno/store.h"

/* Before the store is opened. Tells systemd that it takes longer; SIGTERM and SIGINT stop it
 * (-ECANCELED), and the next start goes on. @store: as it will be opened. As mno_migrate_start(). */
int mno_agent_migrate(const struct mno_config *c, const struct mno_store_opts *store);

/* Words of --migrate, for its help; NULL-terminated. */
extern const char *const mno_migrate_words[];
/* Does what @word says to the state directory of @c, without an agent; prints to stdout. 0, -EINVAL
 * no such word, -errno. */
int mno_agent_migrate_word(const struct mno_config *c, const char *word);
