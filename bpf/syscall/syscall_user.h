/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the syscall probe's user side, apart so that they can be tested without a kernel. */
#pragma once

#include "mno/json.h"
#include "mno_probe.h"
#include "syscall_wire.h"

#define MNO_SYSCALL_BOUNDS    4 /* of the latency histogram's series, +Inf included */
#define MNO_SYSCALL_NO_SERIES UINT32_MAX

struct mno_syscall_maps {
	struct mno_syscall_entry *entries; /* [bank * 1024 + entry] */
	uint64_t *index;                   /* [slot * 512 + nr] */
	unsigned banks;
};

/* What one pair of cgroup and call came to. */
struct mno_syscall_pair {
	bool used;
	uint16_t nr;
	uint32_t slot, gen;
	uint64_t count, errors, ns, count_before;
	uint64_t le[MNO_SYSCALL_BOUNDS]; /* cumulative; the last is all */
	uint32_t range_seen[MNO_SYSCALL_BOUNDS];
	uint32_t s_count, s_errors, s_sum, s_hist_count, s_bucket[MNO_SYSCALL_BOUNDS];
};

struct mno_syscall_table {
	struct mno_syscall_maps maps;
	struct mno_metrics *metrics; /* where the series are; set by the first tick */
	/* Gives an entry back to the kernel's side; 0 or -errno. */
	int (*give_back)(void *arg, uint32_t entry);
	void *arg;
	uint64_t interval_ns;
	unsigned bucket_end[MNO_SYSCALL_BOUNDS];
	char *paths[MNO_SYSCALL_SLOTS]; /* owned */
	uint32_t gens[MNO_SYSCALL_SLOTS];
	struct mno_syscall_pair pairs[MNO_SYSCALL_ENTRIES];
};

/* Name of a system call of this architecture; NULL when it has none. Static. */
const char *mno_syscall_name(unsigned nr);
/* The same for labels: "nr-<n>" (in @buf) when unknown, "32-bit", "~other". */
const char *mno_syscall_label(unsigned nr, char *buf, size_t size);

void mno_syscall_table_init(struct mno_syscall_table *t, const struct mno_syscall_maps *maps,
	int (*give_back)(void *arg, uint32_t entry), void *arg);
/* Takes its series out of the metrics, which must still be there. */
void mno_syscall_table_done(struct mno_syscall_table *t);
void mno_syscall_table_tick(struct mno_syscall_table *t, struct mno_metrics *m,
	const struct mno_cgroup_view *slots, uint64_t interval_ns);
/* "syscalls": per cgroup rates of the last tick, and the pairs with the most time. */
void mno_syscall_table_json(const struct mno_syscall_table *t, struct mno_json *j);
