/* SPDX-License-Identifier: Apache-2.0 */
/* Change of the key-encryption key, and of data keys, while the store works. */
#pragma once

#include "store_internal.h"

/* At opening, before any environment: takes up a change that a crash cut off. 0, -ENOMEM, -errno. */
int mno_store_keys_resume(struct mno_store *s);
/* At opening, when main is there: ends such a change. */
int mno_store_keys_finish(struct mno_store *s);
