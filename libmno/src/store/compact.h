/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store_internal.h"

/* Whether @e is small and mostly free pages. No transaction may be open. */
bool mno_env_wasteful(struct mno_env *e);
/* Copies what is used beside the data file. -ENOSPC, -EIO, ...: then there is no copy. */
int mno_env_copy_compact(struct mno_env *e);
/* The copy becomes the data file of the closed environment in @dir_fd. */
int mno_env_take_compact(int dir_fd);
/* Removes a copy that was not taken. */
void mno_env_drop_compact(int dir_fd);
