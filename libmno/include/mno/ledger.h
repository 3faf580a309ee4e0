/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process ledger: every process from start to exit, and the store of finished ones.
 * The live part is fed with facts from the probes (or made by tests); finished rows go to the
 * store in sealed batches. All of struct mno_proc is owned by whoever holds it; strings are
 * bytes as the kernel had them (may be invalid UTF-8), NUL-terminated.
 */
#pragma once

#include "mno/store.h"
#include "mno/json.h"

#define MNO_ARGV_MAX 2048 /* bytes of argv kept */

enum mno_proc_flags {
	MNO_PROC_SEEDED = 1 << 0, /* was running before the agent: start seen in /proc, not live */
	MNO_PROC_ARGV_CUT = 1 << 1, /* argv is longer than shown */
	MNO_PROC_EXECED = 1 << 2,   /* did an exec (else it runs its parent's image) */
	MNO_PROC_LOST_START =
		1 << 3, /* the record of its start was lost; fields from the exit only */
	MNO_PROC_ENDED = 1 << 4,
	MNO_PROC_CORE = 1 << 5,      /* dumped core */
	MNO_PROC_OOM = 1 << 6,       /* the OOM killer chose it */
	MNO_PROC_LOST_EXIT = 1 << 7, /* found gone without an exit record */
};

struct mno_proc {
	uint32_t pid, ppid, uid, flags;
	uint64_t start_ns;          /* Unix time, ns */
	uint64_t start_boottime_ns; /* with pid: the identity */
	uint64_t parent_start_boottime_ns;
	uint64_t cgroup_id;
	uint32_t exit_code, exit_signal; /* valid when ENDED */
	uint32_t execs;
	uint32_t killer_pid; /* sender of the fatal signal; 0 = kernel or none */
	char killer_comm[16];
	uint64_t end_ns; /* Unix time; 0 while running */
	uint64_t duration_ns, cpu_ns;
	uint64_t rss_peak_bytes, io_read_bytes, io_write_bytes;
	char comm[16];
	const char *exe;    /* absolute path, or "" */
	const char *cgroup; /* path below the v2 root, "/...", or "" when unknown */
	const char *argv;   /* each argument followed by NUL; "" if none */
	uint32_t argv_len;
	void *mem; /* owned: what exe, cgroup, argv point into; NULL if they are borrowed */
};
/* Frees what the row owns and zeroes it. NULL-safe. */
void mno_proc_done(struct mno_proc *p);
/* One JSON object with the field names fixed in the interface reference; what is not known (exit
 * of a running process, killer, parent's start) is null. */
void mno_proc_json(const struct mno_proc *p, struct mno_json *j);

/* --- the live part ---------------------------------------------------------------------- */
struct mno_ledger;
struct mno_ledger_opts {
	size_t sz;
	size_t max_live;  /* running processes kept; 0 = 65,536 */
	size_t max_ended; /* ended ones waiting for the writer; 0 = 65,536; more are counted lost */
	int64_t boot_offset_ns;
	/* An ended row whose start or exit record is missing waits this long for it, by the clock:
	 * records of several CPUs may come out of order. 0 = 250 ms */
	uint64_t linger_ns;
	size_t max_image_bytes; /* exe and argv of all; 0 = 32 MiB; beyond, argv is cut to nothing */
};
/* -ENOMEM. Free with mno_ledger_free(): NULL-safe, returns NULL. */
int mno_ledger_new(const struct mno_ledger_opts *o, struct mno_ledger **ret);
struct mno_ledger *mno_ledger_free(struct mno_ledger *l);
MNO_DEFINE_CLEANUP(struct mno_ledger *, mno_ledger_free)

/*
 * Facts, in any order that concurrent CPUs can produce: the row comes out the same. Thread-safe
 * (one lock). 0, -ENOMEM, -ENOSPC (max_live: the process is counted in lost_starts; its exit still
 * gives a row). Facts about a row that was taken already are ignored. Strings are copied; NULL
 * counts as "". @ktime is CLOCK_BOOTTIME and orders facts about one process.
 */
struct mno_fork_fact {
	uint32_t pid, ppid, uid;
	uint64_t start_boottime_ns, parent_start_boottime_ns, cgroup_id, ktime;
	const char *comm;
};
struct mno_exec_fact {
	uint32_t pid, ppid, uid;
	uint64_t start_boottime_ns, parent_start_boottime_ns, cgroup_id, ktime;
	const char *comm, *exe, *argv;
	size_t argv_len;
	bool argv_cut, seeded;
};
struct mno_exit_fact {
	uint32_t pid, ppid, uid;
	uint64_t start_boottime_ns, parent_start_boottime_ns, cgroup_id, ktime;
	const char *comm;
	uint32_t code; /* as wait(2) encodes it */
	uint64_t cpu_ns, rss_peak_bytes, io_read_bytes, io_write_bytes;
};
struct mno_signal_fact {
	uint32_t sender_pid, target_pid, signo;
	uint64_t ktime;
	const char *sender_comm;
	bool oom;
};
/* Each copies what it keeps of @f. 0, or -ENOMEM (the fact is lost and counted). */
int mno_ledger_fork(struct mno_ledger *l, const struct mno_fork_fact *f);
int mno_ledger_exec(struct mno_ledger *l, const struct mno_exec_fact *f);
int mno_ledger_exit(struct mno_ledger *l, const struct mno_exit_fact *f);
int mno_ledger_signal(struct mno_ledger *l, const struct mno_signal_fact *f);
/* This process was found gone: ends its row as LOST_EXIT at @ktime unless the exit still comes. */
int mno_ledger_gone(struct mno_ledger *l, uint32_t pid, uint64_t start_boottime_ns, uint64_t ktime);

/* Running processes, each handed to @fn under the lock (copy what you keep; no ledger calls).
 * Non-zero from @fn stops and is returned. */
int mno_ledger_live(
	struct mno_ledger *l, int (*fn)(void *arg, const struct mno_proc *p), void *arg);
/* Ended rows not stored yet: moves up to @max of them to the caller (mno_proc_done each), oldest
 * first; rows that linger stay. */
size_t mno_ledger_take_ended(struct mno_ledger *l, struct mno_proc *rows, size_t max);
/* No row lingers any more: the next take gets all. For the end of the program. */
void mno_ledger_flush(struct mno_ledger *l);
/* Visits ended ones that still wait, as mno_ledger_live() does (so that a query misses none). */
int mno_ledger_waiting(
	struct mno_ledger *l, int (*fn)(void *arg, const struct mno_proc *p), void *arg);
/* Cgroup path of an id, asked once per row; @fn may be NULL. */
void mno_ledger_set_cgroup_fn(struct mno_ledger *l,
	const char *(*fn)(void *arg, uint64_t id, char *buf, size_t size), void *arg);

struct mno_ledger_stat {
	uint64_t live, waiting;  /* now */
	uint64_t started, ended; /* since the ledger began */
	uint64_t lost_rows;      /* ended, not taken: max_ended, or no memory */
	uint64_t lost_starts, lost_exits;
	uint64_t memory_bytes;
};
/* Any thread. */
void mno_ledger_stat(struct mno_ledger *l, struct mno_ledger_stat *ret);

/* --- the stored part -------------------------------------------------------------------- */
/*
 * Stores ended rows inside @txn, sealed in batches of at most 4,096. @rows stay the caller's.
 * Writer thread. -ENOMEM or what the store says: abort @txn.
 */
int mno_ledger_store(
	struct mno_store *e, struct mno_txn *txn, const struct mno_proc *rows, size_t n);
/*
 * Stored rows that ended at or after @t0_ns and started at or before @t1_ns (Unix time): the newest
 * batch first, in it those that ended last first. @p is borrowed; no transaction is open while @fn runs. Damaged batches are left
 * out, logged and counted (mno_store_stat). Any thread. Non-zero from @fn stops and is returned.
 */
int mno_ledger_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const struct mno_proc *p), void *arg);
/*
 * Keeps a copy of the rows of processes that run now (at most 4,096), in place of the last copy.
 * Writer thread, inside @txn. -ENOMEM, errors of the store.
 */
int mno_ledger_keep_running(struct mno_ledger *l, struct mno_store *e, struct mno_txn *txn);
/*
 * After a start, when the running processes are known to @l: rows of the copy that run no more
 * ended while nobody watched. They are stored as LOST_EXIT, ended when the copy was made, and
 * counted in *@ret_n (untouched if there is no copy). Writer thread, inside @txn.
 */
int mno_ledger_end_unwatched(
	struct mno_ledger *l, struct mno_store *e, struct mno_txn *txn, size_t *ret_n);
/* Deletes batches that ended before @t_ns, bounded; *@ret_more if not done. */
int mno_ledger_expire(struct mno_store *e, struct mno_txn *txn, uint64_t t_ns, bool *ret_more);

/* --- event log: raw records, sealed batches ----------------------------------------------- */
/*
 * Stores @len bytes (at most 16 MiB) of back-to-back records, each with its mno_hdr and a size that
 * is a multiple of 8, as one batch. @first_ns is the Unix time of the earliest record in it, @last_ns
 * of the latest. -EINVAL if the records do not fit @len.
 */
int mno_events_store(struct mno_store *e, struct mno_txn *txn, uint64_t first_ns, uint64_t last_ns,
	const void *records, size_t len, uint32_t count);
/*
 * Stored records with t0 <= time <= t1 (Unix), batch by batch in time order, within a batch as they
 * were stored. Checked for size only; @rec is 8-aligned and borrowed by @fn. The header's ktime is
 * given on the present boot's clock, so that adding the present boot offset gives Unix time also for
 * records of an earlier boot. Damaged batches: as mno_ledger_read().
 */
int mno_events_read(struct mno_store *e, uint64_t t0_ns, uint64_t t1_ns,
	int (*fn)(void *arg, const void *rec, size_t len), void *arg);
int mno_events_expire(struct mno_store *e, struct mno_txn *txn, uint64_t t_ns, bool *ret_more);
