/* SPDX-License-Identifier: Apache-2.0 */
/* mnod --check-config: would an agent with these settings be able to start? */
#pragma once

#include "config.h"

/*
 * Looks at paths, keys and the user without making or changing anything, as the user that runs it.
 * All that would not work is told in @errors, a line each: key, path, what is wrong, what to do. What
 * only the start itself can tell (credentials of systemd, the kernel's keyring) is named in @notes.
 * 0, or -EINVAL if there are errors.
 */
int mno_config_check(const struct mno_config *c, struct mno_buf *errors, struct mno_buf *notes);
