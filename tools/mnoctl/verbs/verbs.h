/* SPDX-License-Identifier: Apache-2.0 */
/* Each verb's function and options, as named in verbs.def; they stand in verbs/<name>.c. */
#pragma once

#include "ctl.h"

/* Runs the verb with c->args: the exit code, after having printed answer or error. */
#define VERB(name, ...) int verb_##name(struct ctl *c);
#include "verbs.def"
#undef VERB

extern const struct ctl_option no_options[];
extern const struct ctl_option probes_options[];
extern const struct ctl_option top_options[];
extern const struct ctl_option proc_options[];
extern const struct ctl_option events_options[];
extern const struct ctl_option query_options[];
extern const struct ctl_option migrate_options[];
extern const struct ctl_option doc_options[];
extern const struct ctl_option import_options[];
extern const struct ctl_option store_options[];
extern const struct ctl_option backup_options[];
extern const struct ctl_option restore_options[];
extern const struct ctl_option completion_options[];
extern const struct ctl_option help_options[];

/* Begins a job of the agent's on backups by POST of @post, waits for its end, shows it. */
int ctl_backup_job(struct ctl *c, struct mno_buf *post);
