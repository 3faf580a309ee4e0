/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel side of enforcement as one object: load and attach what this kernel takes, fill a
 * generation, flip to it, confirm or roll back, pin, adopt. One thread at a time. What is armed
 * and pinned goes on deciding when the object, or the process, is gone.
 *
 * Labels live as long as their inode is in memory: the object holds an O_PATH fd for each. With
 * the process they go, too, and a disk's file system may then forget a label with its inode.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "tables.h"

struct mno_enforce;

struct mno_enforce_opts {
	const char *pin_dir;    /* below a bpffs; NULL: nothing is pinned */
	int cgroup_fd;          /* cgroup v2 for the network hooks of level L2; -1: none */
	uint32_t cgroup_domain; /* of its tasks */
	bool no_lsm;            /* only what needs no LSM */
	uint32_t path_cells;    /* power of two, cells of the largest path table; 0: 65536 */
	uint32_t max_tasks;     /* tasks in domains at a time; 0: 32768 */
};

/* One program: where it sits, and what became of it. */
struct mno_enforce_hook {
	const char *program, *hook;
	const char *level; /* "L4", "L2" */
	int error;         /* 0: attached; -ENOENT: this kernel has no such hook */
	uint32_t insns;    /* instructions that the verifier looked at */
	const char *reason;
};

/*
 * Loads, attaches, tests that file_open is really called (a kernel without "bpf" in lsm= attaches
 * and never calls), pins. Existing pins of the same ABI are taken over: new programs first, then
 * the old links go, and what was armed stays. @ret_e is given also when LSM programs were refused;
 * mno_enforce_level() then says what is left. 0 or -errno; -EPROTO: pins of another ABI.
 */
int mno_enforce_open(const struct mno_enforce_opts *opts, struct mno_enforce **ret_e);
/* Takes over pins without loading anything: programs go on as they are. -ENOENT: no pins. */
int mno_enforce_adopt(const char *pin_dir, struct mno_enforce **ret_e);
/* Closes all fds; pinned programs stay, others are detached. NULL-safe; returns NULL. */
struct mno_enforce *mno_enforce_free(struct mno_enforce *e);
/* Removes the pins: enforcement ends with the object. 0 or -errno. */
int mno_enforce_unpin(struct mno_enforce *e);

/* Highest level that works here: "L4", "L2", or "L0"; *@ret_reason (optional, borrowed): why not more. */
const char *mno_enforce_level(const struct mno_enforce *e, const char **ret_reason);
/* All programs, borrowed. */
const struct mno_enforce_hook *mno_enforce_hooks(const struct mno_enforce *e, size_t *ret_n);

/*
 * Writes @t into the slot that is not in force; nothing changes yet. -EBUSY: the generation in
 * force is not confirmed; -E2BIG, -EINVAL: a table is too large or points outside; -ESTALE:
 * adopted, and mno_enforce_hold() was not called; -errno of an object that cannot be opened.
 */
int mno_enforce_fill(struct mno_enforce *e, const struct mno_e_tables *t);
/* After adopting: the labels of the generation in force, to be held (and renewed) again. */
int mno_enforce_hold(struct mno_enforce *e, const struct mno_e_label_row *rows, size_t n);
/* One store: the filled slot decides. It falls back by itself after @confirm_ms (0: confirmed). */
int mno_enforce_flip(struct mno_enforce *e, uint32_t confirm_ms);
/* -ETIME: too late, the earlier generation is in force. */
int mno_enforce_confirm(struct mno_enforce *e);
/* Back to the generation before, or to none; -ENOENT: there is none to go back to. */
int mno_enforce_rollback(struct mno_enforce *e);
/* Nothing is enforced from here on. */
void mno_enforce_disarm(struct mno_enforce *e);
/* Generation in force (0: none), and ms until it falls back (0: confirmed). */
uint32_t mno_enforce_generation(const struct mno_enforce *e, uint64_t *ret_left_ms);

/* Puts all threads of running processes into a domain, and their children born meanwhile; passes
 * are repeated until one finds nothing. *@ret_tasks (optional): how many. */
int mno_enforce_seed(
	struct mno_enforce *e, const pid_t *pids, size_t n, uint32_t domain, uint64_t *ret_tasks);

/* How often rule @rule of the generation in force decided. */
int mno_enforce_hits(const struct mno_enforce *e, uint32_t rule, uint64_t *ret);
/* Counters of the programs, read as they run. */
struct mno_e_stats mno_enforce_stats(const struct mno_enforce *e);
/* Hands all waiting records to @fn; number of them or -errno. */
int mno_enforce_records(
	struct mno_enforce *e, void (*fn)(void *arg, const struct mno_e_record *r), void *arg);
