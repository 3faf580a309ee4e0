/* SPDX-License-Identifier: Apache-2.0 */
/* What a subject of the enforcement tests tries to do. */
#pragma once

#define TRIES 30

/* Does @what to @arg TRIES times: how often the kernel refused it (EPERM), 251 and above: it could
 * not even be tried. In the cgroup $TRY_CGROUP if that is set. */
int enforce_try(const char *what, const char *arg);
