/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a running agent, wired in main.c. Every part locks by itself; pointers are set
 * before the threads start and cleared after they ended, so any thread may read this struct.
 */
#pragma once

#include "mno/docs.h"
#include "backup.h"
#include "mno/ledger.h"
#include "mno/metric.h"
#include "mno/series.h"
#include "mno/store.h"
#include "mno_cgroups.h"
#include "cgroups.h"
#include "hub.h"
#include "probes.h"
#include "scrub.h"
#include "writer.h"

struct mno_agent_opts {
	const char *config_path, *state_dir, *socket_path;
	const char *cgroup_root; /* v2 mount, found in /proc/self/mounts; NULL if there is none */
	uint64_t for_ns;         /* end after that time; 0 = never */
	bool no_bpf, check_config;
};

struct mno_agent {
	struct mno_agent_opts opts;
	struct mno_store *env;
	struct mno_series *series;
	struct mno_ledger *ledger;
	struct mno_docs *docs; /* NULL: they could not be opened */
	struct mno_metrics *metrics;
	struct mno_cgroups *cgroups; /* NULL without a cgroup v2 tree */
	struct mno_probes *probes;   /* NULL with --no-bpf */
	struct mno_writer *writer;
	struct mno_hub *hub;
	struct mno_scrub *scrub;
	struct mno_backups *backups;
	struct mno_doctor *doctor; /* findings of the start-up feature probes */
	uint64_t start_ns;         /* CLOCK_BOOTTIME */
	int64_t boot_offset_ns;
	char hostname[65];
};
