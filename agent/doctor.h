/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host can do, found by trying it once after start: each way to attach a BPF program,
 * the enforcement level, and what the administrator can change. The tests touch nothing of the
 * host but a cgroup and an inode of their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mno/json.h"

struct mno_doctor;
struct mno_probes;

struct mno_doctor_opts {
	size_t sz;                 /* sizeof(struct mno_doctor_opts) */
	const char *cgroup_root;   /* cgroup v2 mount; NULL = there is none. Copied. */
	struct mno_probes *probes; /* failed ones become findings; may be NULL; must outlive it */
	uint64_t
		delay_ns; /* leave the start-up alone for so long; a caller who asks ends the wait */
	bool no_bpf;      /* read the host's facts, try no program */
};

/*
 * Starts the tests on a thread of their own, which has the caller's capabilities: call it after
 * the probes are loaded and before privileges are dropped. About 100 ms of work; memory for the
 * kernel's BTF (about 14 MB) is given back when they end. -ENOMEM, -EAGAIN (no thread).
 */
int mno_doctor_new(const struct mno_doctor_opts *o, struct mno_doctor **ret);
/* Waits for the tests to end. NULL-safe, returns NULL. */
struct mno_doctor *mno_doctor_free(struct mno_doctor *d);
MNO_DEFINE_CLEANUP(struct mno_doctor *, mno_doctor_free)

/*
 * Adds host, level, level_reason, levels, attach, limits, findings to the object that is open in
 * @j. Waits for the tests if they still run (at most 2 s, then they are said to be unknown). Any
 * thread.
 */
void mno_doctor_json(struct mno_doctor *d, struct mno_json *j);

/* Highest enforcement level that was proven: "L4" .. "L0", static. Waits as above. NULL-safe
 * ("L0"). Any thread. */
const char *mno_doctor_level(struct mno_doctor *d);

/* Calls @fn for each finding about the host that is worth a warning in `status` (severity error
 * or warn); the probes' own are left to the caller. */
void mno_doctor_degraded(struct mno_doctor *d,
	void (*fn)(void *arg, const char *what, const char *why, const char *todo), void *arg);
