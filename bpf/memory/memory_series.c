/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "memory/memory_user.h"

static const struct mno_family stall_family = {"mno_reclaim_latency_seconds",
	"Time a task stood still to free memory itself, by kind of shortage", MNO_HISTOGRAM};
static const struct mno_family reclaim_seconds = {"mno_cgroup_reclaim_seconds_total",
	"Time tasks of the cgroup stood still to free memory, by kind of shortage", MNO_COUNTER};
static const struct mno_family reclaims = {"mno_cgroup_reclaims_total",
	"How often tasks of the cgroup had to free memory themselves", MNO_COUNTER};
static const struct mno_family reclaimed = {"mno_cgroup_reclaimed_pages_total",
	"Pages freed by tasks of the cgroup for themselves", MNO_COUNTER};
static const struct mno_family faults = {
	"mno_cgroup_major_faults_total", "Page faults that had to wait for storage", MNO_COUNTER};
static const struct mno_family kills = {"mno_cgroup_oom_kills_total",
	"Processes of the cgroup killed for want of memory", MNO_COUNTER};

static const char *const kind_names[MEMORY_KINDS] = {
	[MEMORY_GLOBAL] = "host", [MEMORY_CGROUP] = "cgroup"};

#define U64(fam, member, factor, name, value)                                                      \
	{                                                                                          \
		.family = &fam, .kind = MNO_COL_U64,                                               \
		.off = offsetof(struct memory_cgroup, member), .per = factor,                      \
		.label = {name, value},                                                            \
	}
#define BY_KIND(fam, member, factor)                                                               \
	U64(fam, member[MEMORY_GLOBAL], factor, "shortage", "host"),                               \
		U64(fam, member[MEMORY_CGROUP], factor, "shortage", "cgroup")

static const struct mno_col cgroup_cols[] = {
	BY_KIND(reclaim_seconds, reclaim_ns, 1e9),
	BY_KIND(reclaims, reclaim_count, 1),
	BY_KIND(reclaimed, reclaimed_pages, 1),
	U64(faults, major_faults, 1, NULL, NULL),
	U64(kills, oom_kills, 1, NULL, NULL),
};

static const struct mno_col stall_cols[] = {{
	.family = &stall_family,
	.kind = MNO_COL_HIST,
	.off = offsetof(struct memory_stall, hist),
	.sum = offsetof(struct memory_stall, ns),
	.count = offsetof(struct memory_stall, count),
	.per = 1e9,
	.bounds = mno_bounds_latency,
	.n_bounds = ARRAY_SIZE(mno_bounds_latency),
}};

int memory_series_init(struct memory_series *s)
{
	int r;

	memset(s, 0, sizeof(*s));
	r = mno_table_new(cgroup_cols, ARRAY_SIZE(cgroup_cols), MEMORY_SLOTS, &s->cgroups);
	if (!r)
		r = mno_table_new(stall_cols, ARRAY_SIZE(stall_cols), MEMORY_KINDS, &s->stalls);
	if (r)
		memory_series_done(s);
	return r;
}

void memory_series_done(struct memory_series *s)
{
	s->cgroups = mno_table_free(s->cgroups);
	s->stalls = mno_table_free(s->stalls);
}

void memory_series_tick(struct memory_series *s, struct mno_metrics *m,
	struct mno_cgroup_view slots, const struct memory_cgroup *cgs,
	const struct memory_stall *stalls)
{
	mno_table_begin(s->stalls, m);
	for (size_t i = 0; i < MEMORY_KINDS; i++) {
		const struct mno_label l = {"shortage", kind_names[i]};

		mno_table_row(s->stalls, i, 0, &l, 1, &stalls[i]);
	}
	mno_table_end(s->stalls);
	mno_table_cgroups(s->cgroups, m, slots, cgs, sizeof(*cgs));
}

#define E struct memory_oom
static const struct mno_field oom_fields[] = {
	MNO_FIELD(E, pid, MNO_F_U32, "process that was killed"),
	MNO_FIELD(E, start_ns, MNO_F_TIME, "when it began, Unix ns; with pid its identity"),
	MNO_FIELD(E, comm, MNO_F_CHARS, "its task name"),
	MNO_FIELD(E, uid, MNO_F_U32, "its user"),
	MNO_FIELD(E, cgroup, MNO_F_CGROUP, "its control group (v2)"),
	MNO_FIELD(E, rss_bytes, MNO_F_U64, "its resident memory, bytes"),
	MNO_FIELD(E, total_vm_bytes, MNO_F_U64, "its address space, bytes"),
	MNO_FIELD(E, score_adj, MNO_F_S32, "its oom_score_adj"),
	MNO_FIELD(E, ancestors, MNO_F_VAR_ARGV, "pid:comm of its ancestors, the parent first"),
	MNO_FIELD(E, trigger_pid, MNO_F_U32, "process whose request for memory led to it"),
	MNO_FIELD(E, trigger_start_ns, MNO_F_TIME, "when that one began, Unix ns"),
	MNO_FIELD(E, trigger_comm, MNO_F_CHARS, "that one's task name"),
	MNO_FIELD(E, trigger_cgroup, MNO_F_CGROUP, "that one's control group (v2)"),
};

const struct mno_kind memory_kinds[MEMORY_KINDS_N] = {{
	.kind = MEMORY_OOM_KILL,
	.version = MEMORY_VERSION,
	.size = sizeof(E),
	.name = "oom_kill",
	.help = "The kernel killed a process for want of memory.",
	.fields = oom_fields,
	.n_fields = ARRAY_SIZE(oom_fields),
}};
