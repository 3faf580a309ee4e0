/* SPDX-License-Identifier: Apache-2.0 */
/* The options of each verb, beside its code; named in verbs.def. */
#pragma once

#include "cli.h"

static const struct ctl_option no_options[] = {{0}};
extern const struct ctl_option probes_options[];
extern const struct ctl_option top_options[];
extern const struct ctl_option proc_options[];
extern const struct ctl_option events_options[];
extern const struct ctl_option query_options[];
extern const struct ctl_option completion_options[];
extern const struct ctl_option help_options[];
