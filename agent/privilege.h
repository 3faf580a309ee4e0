/* SPDX-License-Identifier: Apache-2.0 */
/* Gives up what a running agent does not need. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct mno_privilege_opts {
	size_t sz;             /* sizeof(struct mno_privilege_opts) */
	const char *user;      /* become this user and its group; NULL = stay who we are */
	const char *state_dir; /* handed to @user if it changes; may be NULL */
	bool no_bpf;           /* keep no BPF rights: nothing is loaded later */
};

/*
 * Tries to raise RLIMIT_MEMLOCK for kernels that account BPF memory there. Call before loading;
 * a refusal is fine (newer kernels use the memory cgroup) and only logged at debug.
 */
void mno_privilege_memlock(void);

/*
 * Drops all capabilities but those a running agent uses (the table in privilege.c says for what),
 * empties the bounding set, sets no_new_privs, clears supplementary groups and changes to @user
 * if one is given. Linux keeps these per thread: call it after loading and before the other
 * threads are started, which then inherit. 0, -ENOENT (no such user), -EPERM, -ENOMEM; on failure
 * nothing may be assumed and the caller should end.
 */
int mno_privilege_drop(const struct mno_privilege_opts *o);
