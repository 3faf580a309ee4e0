/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the sched probe's user side, apart so that they can be tested without a kernel. */
#pragma once

#include "mno/json.h"
#include "mno_probe.h"
#include "sched_wire.h"

#define MNO_SCHED_BOUNDS   8 /* of the run-queue histogram's series, +Inf included */
#define MNO_SCHED_CULPRITS 3 /* series per victim */
#define MNO_NO_SERIES      UINT32_MAX

/* The probe's maps as user space sees them (mmap). */
struct mno_sched_maps {
	struct mno_sched_cgroup *cgroups; /* [bank * 256 + slot] */
	uint64_t *culprits;               /* [victim * 256 + culprit] */
	const struct mno_pstats *cpus;    /* .own is a struct mno_sched_cpu */
	unsigned banks, n_cpus;
};

/* What the programs keep of CPU @c. */
static inline const struct mno_sched_cpu *mno_sched_cpu_at(
	const struct mno_sched_maps *m, unsigned c)
{
	return (const struct mno_sched_cpu *)m->cpus[c].own;
}

/* A slot's figures since its cgroup got it, over all banks. */
struct mno_sched_sums {
	uint64_t cpu_ns, switches, preempted, runq_ns;
	struct mno_sched_wait wait[MNO_WAIT_N];
	uint64_t runq_le[MNO_SCHED_BOUNDS]; /* waits <= bound, cumulative; the last is all */
};

struct mno_sched_culprit {
	uint32_t slot, gen;
	uint64_t ns;
	uint32_t series;
};

struct mno_sched_slot {
	bool used;
	uint32_t gen;
	char *path;                        /* owned */
	struct mno_sched_sums now, before; /* this tick and the last */
	uint64_t top_ns;   /* who made it wait most in the last tick, and how long */
	uint32_t top_slot; /* 0 = nobody */
	uint32_t range_seen[MNO_SCHED_BOUNDS]; /* the kernel's 32-bit counts, to unwrap them */
	uint32_t s_cpu, s_switches, s_preempted, s_sum, s_count, s_wait[MNO_WAIT_N],
		s_bucket[MNO_SCHED_BOUNDS];
	struct mno_sched_culprit culprits[MNO_SCHED_CULPRITS];
};

struct mno_sched_table {
	struct mno_sched_maps maps;
	struct mno_metrics *metrics; /* where the series are; set by the first tick */
	uint64_t interval_ns;
	unsigned bucket_end[MNO_SCHED_BOUNDS]; /* of the histogram bounds */
	uint64_t *
		culprits_seen; /* [victim * 256 + culprit] at the last tick; rows in use are resident */
	struct mno_sched_slot slots[MNO_SCHED_SLOTS];
};

/* Fills @table (wait classes by system call number) for this architecture. */
void mno_sched_wait_table(uint8_t table[static MNO_SCHED_SYSCALLS]);
/* Upper bound (seconds, as in the label) and, in ns, of histogram bound @i; UINT64_MAX = +Inf. */
uint64_t mno_sched_bound(unsigned i, const char **ret_text);

int mno_sched_table_init(struct mno_sched_table *t, const struct mno_sched_maps *maps);
/* Takes its series out of the metrics, which must still be there. */
void mno_sched_table_done(struct mno_sched_table *t);
/* One tick: sums of the slots in use into their series; retired slots are zeroed in the maps. */
void mno_sched_table_tick(struct mno_sched_table *t, struct mno_metrics *m,
	const struct mno_cgroup_view *slots, uint64_t interval_ns);
/* "cgroups": rates of the last tick. */
void mno_sched_table_json(const struct mno_sched_table *t, struct mno_json *j);

/* --- the view by process ----------------------------------------------------------------- */
#define MNO_SCHED_PROCS_MAX   16384 /* processes compared between two looks: 1.2 MiB a look */
#define MNO_SCHED_PROCS_SHOWN 200

struct mno_sched_proc {
	uint32_t tgid, threads;
	uint64_t start_ns, cgid, cpu_ns, runq_ns, iowait_ns, iowaits, read_bytes, write_bytes,
		rss_pages;
	char comm[16];
};
struct mno_sched_look {
	uint64_t at_ns; /* CLOCK_BOOTTIME; 0 = none */
	size_t n;
	struct mno_sched_proc *v; /* owned; by tgid */
	bool cut;                 /* there were more than MNO_SCHED_PROCS_MAX */
};
/* Threads as the iterator wrote them (reordered in place) to processes. -ENOMEM. */
int mno_sched_look_make(
	struct mno_sched_thread *v, size_t n, uint64_t now_ns, struct mno_sched_look *ret);
void mno_sched_look_done(struct mno_sched_look *l);
/* "processes": rates between two looks, the busiest first; with before->at_ns == 0 rates are null. */
void mno_sched_look_json(const struct mno_sched_look *now, const struct mno_sched_look *before,
	struct mno_cgroups *cg, struct mno_json *j);
