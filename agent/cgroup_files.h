/* SPDX-License-Identifier: Apache-2.0 */
/* What is in the files of one cgroup, and which series come of it. Tick thread. */
#pragma once

#include "source.h"

enum cgroup_file {
	CGROUP_EVENTS, /* first: says whether there are tasks */
	CGROUP_CPU_STAT,
	CGROUP_MEMORY_CURRENT,
	CGROUP_MEMORY_PEAK,
	CGROUP_MEMORY_EVENTS,
	CGROUP_MEMORY_STAT,
	CGROUP_IO_STAT,
	CGROUP_PIDS_CURRENT,
	CGROUP_FIRST_PRESSURE,
	CGROUP_CPU_PRESSURE = CGROUP_FIRST_PRESSURE,
	CGROUP_MEMORY_PRESSURE,
	CGROUP_IO_PRESSURE,
	CGROUP_FILES
};
extern const char *const mno_cgroup_file_names[CGROUP_FILES];

#define CGROUP_SLOTS      40 /* series of a cgroup, those per device not counted */
#define CGROUP_IO_COLUMNS 6

struct cgroup_state {
	uint64_t id, seen_tick;
	char *path;
	bool populated;
	uint32_t missing; /* bit per file: not there when last looked for */
	int fd[CGROUP_FILES];
	uint32_t slot[CGROUP_SLOTS];
	struct mno_rows io; /* per device */
};

/*
 * Which line of a "key value" file has which field. Cgroups share it, since the kernel writes the
 * same lines in the same order for nearly all of them.
 */
#define CGROUP_LINES_MAX 128
struct cgroup_layout {
	size_t n;
	int8_t field[CGROUP_LINES_MAX]; /* -1: not taken */
};
struct cgroup_layouts {
	struct cgroup_layout file[CGROUP_FILES];
};

/* Reads @fd, the file @f of @st, into the metrics. -errno of the read, -EBADMSG. */
int mno_cgroup_file_read(struct cgroup_layouts *l, struct mno_source_ctx *c,
	struct cgroup_state *st, enum cgroup_file f, int fd);
/* Sets the last pressure again, if there was one. */
void mno_cgroup_pressure_keep(
	struct mno_source_ctx *c, struct cgroup_state *st, enum cgroup_file f);
