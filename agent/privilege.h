/* SPDX-License-Identifier: Apache-2.0 */
/* Gives up what a running agent does not need, and keeps the one rare right apart. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "mno/macro.h"

struct mno_privilege_opts {
	size_t sz; /* sizeof(struct mno_privilege_opts) */
	/* Become this user and its group; NULL = stay who we are. */
	const char *user;
	/* Folders handed to @user with all in them, at most 4 levels deep: state, pins. NULL = none. */
	const char *dirs[3];
	bool no_bpf; /* keep no BPF rights: nothing is loaded later */
};

/*
 * Tries to raise RLIMIT_MEMLOCK, for kernels before 5.11 that account BPF memory there. Call
 * before loading. A refusal is no error.
 */
void mno_privilege_memlock(void);

/*
 * Drops all capabilities but those a running agent uses (table in privilege.c), empties the
 * bounding, ambient and inheritable sets, sets no_new_privs and changes to @user if one is given.
 * Linux keeps all of these per thread: call it after loading and before the threads that are to
 * be without are started. 0, -ESRCH (no such user), -EPERM, -ENOMEM; after a failure nothing may
 * be assumed: end the process. Nothing to drop (not root) is fine.
 */
int mno_privilege_drop(const struct mno_privilege_opts *o);

/*
 * The kernel hands run-time statistics of BPF programs to CAP_SYS_ADMIN only. A child that keeps
 * nothing but that capability opens them when asked, so that the agent need not keep it. Start it
 * while there is one thread and before the store is open; it ends with its parent.
 */
struct mno_broker;
int mno_broker_start(struct mno_broker **ret);
/* NULL-safe, returns NULL; the child is waited for. */
struct mno_broker *mno_broker_stop(struct mno_broker *b);
MNO_DEFINE_CLEANUP(struct mno_broker *, mno_broker_stop)
/* As bpf_enable_stats(BPF_STATS_RUN_TIME): an fd that the caller closes, or -errno (-EPIPE: the
 * child is gone, -ETIMEDOUT after 1 s). NULL: tried in this process. One thread at a time. */
int mno_broker_stats_fd(struct mno_broker *b);
