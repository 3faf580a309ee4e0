/* SPDX-License-Identifier: Apache-2.0 */
/* All probes of the process: one life cycle for all. Any thread; one lock inside. */
#pragma once

#include "mno_probe.h"

struct mno_probes;
struct mno_broker;

enum mno_probe_state {
	MNO_PROBE_OFF, /* not in the profile, or taken out by its user */
	MNO_PROBE_RUNNING,
	MNO_PROBE_DEGRADED, /* works by a lower rung of its ladder */
	MNO_PROBE_FAILED,   /* could not load or attach: .reason */
	MNO_PROBE_SHED,     /* switched off by the overhead governor: .reason */
};
/* "off", "running" ...; static. */
const char *mno_probe_state_name(enum mno_probe_state s);

struct mno_probes_opts {
	size_t sz;
	const char *pin_root; /* "/sys/fs/bpf/mno"; NULL = do not pin */
	struct mno_cgroups *cgroups;
	struct mno_metrics *metrics;
	struct mno_broker *broker; /* opens the run-time statistics; NULL = this process does */
	double budget_percent;     /* of all the host's CPUs, for all programs; 0 = 1 % */
};

struct mno_probe_status {
	const struct mno_probe *probe;
	enum mno_probe_state state;
	const char *attach; /* the rung's name, "" when off */
	char reason[512];   /* in plain words; "" when there is nothing to say */
	/*
	 * Since the agent started, reloads included: seen = stored + sampled + dropped, where seen
	 * leaves out in_flight, the records on their way from the kernel to the next commit.
	 */
	uint64_t seen, stored, sampled, dropped, in_flight, errors, runs;
	/* Runs that the kernel skipped because the program ran on that CPU already: facts that no
	 * counter has seen. As of the last measurement, of the present load. */
	uint64_t missed;
	uint64_t cost_ns_per_event; /* measured in the last sample; 0 = not measured yet */
	double cpu_percent;         /* of one core, last sample */
	uint64_t bpf_bytes;         /* maps and programs, as the kernel accounts them */
	uint64_t until_ns;          /* CLOCK_BOOTTIME when a timed probe ends; 0 = stays */
};

/* Why the BPF objects are not pinned, for people; "" when they are or were not meant to be.
 * Owned by @p, set once by mno_probes_new(). */
const char *mno_probes_unpinned(const struct mno_probes *p);
/* Nothing is loaded yet. */
int mno_probes_new(const struct mno_probes_opts *o, struct mno_probes **ret);
/* Detaches and unpins all; what is left in the rings goes to the sink. */
void mno_probes_stop(struct mno_probes *p);
/* Stops what runs and frees. NULL-safe, returns NULL. */
struct mno_probes *mno_probes_free(struct mno_probes *p);
MNO_DEFINE_CLEANUP(struct mno_probes *, mno_probes_free)

/*
 * Who takes the records; call before the first probe is loaded. @fn gets unchecked bytes, 8-aligned
 * and borrowed: from the drain thread, and from a thread that loads or unloads a probe.
 */
void mno_probes_set_sink(struct mno_probes *p,
	void (*fn)(void *arg, size_t probe, const void *rec, size_t len), void *arg);
/* Loads the default profile; a probe that fails is FAILED with its reason, never an error here. */
int mno_probes_start(struct mno_probes *p);
/* On demand, for @for_ns (0 = until disabled). -ENOENT, -EALREADY, or why it failed. */
int mno_probes_enable(struct mno_probes *p, const char *name, uint64_t for_ns);
int mno_probes_disable(struct mno_probes *p, const char *name);

/* Seeds probe @id again with what runs now, after records were lost. */
void mno_probes_reseed(struct mno_probes *p, uint16_t id);

/* Status of probe number @i; false when there is no such. */
bool mno_probes_status(struct mno_probes *p, size_t i, struct mno_probe_status *ret);
/* Sums over all probes. */
void mno_probes_totals(struct mno_probes *p, struct mno_probe_status *ret);

/* What all programs may take, in percent of one core. Any thread. */
double mno_probes_budget(const struct mno_probes *p);

/* Once a second, tick thread: counters into metrics, timed ends, budget. */
void mno_probes_tick(struct mno_probes *p, uint64_t now_ns);
/* Hands the records waiting in the rings to on_record; returns their number. Drain thread. */
size_t mno_probes_drain(struct mno_probes *p);
/* Sleeps until a ring is filling up, or @timeout_ms. Drain thread. */
void mno_probes_wait(struct mno_probes *p, int timeout_ms);
/* The drain's part of the accounting: records of probe @i that were stored / lost after the ring. */
void mno_probes_account(struct mno_probes *p, size_t i, uint64_t stored, uint64_t dropped);
/* Union of all probes' record kinds. Static. */
const struct mno_kinds *mno_probes_kinds(void);
/* Adds the named probe's live JSON members to @j (-ENOENT, -EAGAIN when it is not running). */
int mno_probes_snapshot(struct mno_probes *p, const char *name, struct mno_json *j);
