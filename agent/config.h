/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's settings: built-in defaults, then a JSON file, then the command line. */
#pragma once

#include "mno/buf.h"

struct mno_config {
	char state[256], socket[108], user[32];
	uint64_t retention_ns, retention_10s_ns, retention_1m_ns, retention_1h_ns;
	double budget_percent; /* of all the host's CPUs, for all BPF programs */
	uint64_t max_series;
	char store_key[256];  /* "": what the store itself remembers, else mno_config_key() */
	uint64_t scrub_bytes; /* a second */
	char backup_dir[256];
	uint64_t backup_every_ns, backup_keep, backup_bytes; /* bytes: a second */
	bool bpf;
};

/* The defaults of an installed agent. */
void mno_config_defaults(struct mno_config *c);
/*
 * Reads @path over @c. All problems are found at once and told in @errors, a line each: file, key,
 * what is wrong, what is allowed. 0, -errno (not readable), -EINVAL (see @errors; @c untouched).
 */
int mno_config_load(struct mno_config *c, const char *path, struct mno_buf *errors);
/* The same, but what is right gets into @c beside what is wrong: to look at the rest of it, too. */
int mno_config_load_what_fits(struct mno_config *c, const char *path, struct mno_buf *errors);
/*
 * "passphrase:/etc/mno/phrase" and the like: its source; *@ret_name, borrowed from @text, is what
 * stands behind the colon, NULL if nothing does. Negative: there is no such source.
 */
int mno_config_key(const char *text, const char **ret_name);
/* One line per setting: name, default, meaning; for --help and the man page. */
void mno_config_describe(struct mno_buf *out);
