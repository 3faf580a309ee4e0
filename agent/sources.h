/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of all file sources: opens them, ticks them, says how each is doing. */
#pragma once

#include "source.h"

struct mno_sources;

struct mno_sources_opts {
	size_t sz;
	const char *proc_root;   /* NULL = "/proc" */
	const char *cgroup_root; /* v2 mount; NULL = no cgroup source */
	struct mno_metrics *metrics;
	struct mno_cgroups *cgroups; /* NULL = no cgroup source */
	/* Which cgroups there are; NULL = mno_cgroups_all. */
	size_t (*list)(const struct mno_cgroups *c, const struct mno_cgroup **ret);
	struct mno_slow *slow; /* for statfs; NULL = no filesystem source */
	mno_self_fn self;      /* figures of the agent; may be NULL */
	void *self_arg;
};

/* What @o points to must outlive the runner (strings are copied). Nothing is opened yet: the first
 * tick does it. -ENOENT and the like when proc_root cannot be opened, -ENOMEM. */
int mno_sources_new(const struct mno_sources_opts *o, struct mno_sources **ret);
/* NULL-safe, returns NULL. The series stay in the table. Tick thread, or after it ended. */
struct mno_sources *mno_sources_free(struct mno_sources *s);
MNO_DEFINE_CLEANUP(struct mno_sources *, mno_sources_free)

/* Reads every source into the metric table; a source that cannot be opened is tried again once a
 * minute. @now_ns: CLOCK_BOOTTIME. Tick thread, before mno_metrics_tick(). */
void mno_sources_tick(struct mno_sources *s, uint64_t now_ns);

enum mno_source_state {
	MNO_SOURCE_OFF, /* not tried yet */
	MNO_SOURCE_RUNNING,
	MNO_SOURCE_DEGRADED, /* something is missing: .reason */
	MNO_SOURCE_FAILED,   /* nothing could be read: .reason */
};
/* "off", "running", "degraded", "failed". Static. */
const char *mno_source_state_name(enum mno_source_state s);

struct mno_source_status {
	const struct mno_source *source;
	enum mno_source_state state;
	char reason[256]; /* "" when there is nothing to say */
	size_t series;
	uint64_t cost_ns;       /* CPU time of the last tick */
	uint64_t total_cost_ns; /* of all ticks */
	uint64_t ticks, errors;
};
/* Status of source number @i; false when there is no such. Any thread. */
bool mno_sources_status(struct mno_sources *s, size_t i, struct mno_source_status *ret);
