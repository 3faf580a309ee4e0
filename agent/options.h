/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of mnod: one table for parsing, --help and the man page. */
#pragma once

#include "config.h"
#include "mno/backup.h"

enum mno_options_result {
	MNO_OPTIONS_RUN,
	MNO_OPTIONS_DONE, /* --help, --version, --check-config: said what was asked */
	MNO_OPTIONS_BAD_USAGE,
	MNO_OPTIONS_BAD_CONFIG,
};

struct mno_options {
	struct mno_config config;
	const char *config_path; /* NULL = none was named */
	uint64_t for_ns;         /* 0 = until told to stop */
	const char *migrate;     /* NULL, or what to do instead of running: mno_migrate_words */
	const char *restore, *restore_key; /* NULL: run as agent */
	const char *list_backups;          /* NULL: run as agent */
	struct mno_docs_until docs_until;  /* of a restore; zero: as in the backup */
	bool replace, partial, json;
	bool check_store, check_config, no_bpf, verbose;
};

/* Reads the configuration file, then the command line over it; says what is wrong on stderr. */
enum mno_options_result mno_options_parse(struct mno_options *o, int argc, char **argv);
