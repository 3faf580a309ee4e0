/* SPDX-License-Identifier: Apache-2.0 */
/* What `top` can know from /proc and cgroup files alone, without BPF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mno/macro.h"

#define TOP_CGROUPS_MAX 1024
#define TOP_PROCS_MAX   32768

struct top_cgroup_usage {
	char *path; /* below the v2 root */
	uint64_t cpu_us;
	uint64_t throttled_us;
	bool has_throttled; /* the cpu controller is there */
};

struct top_proc_usage {
	uint32_t pid;
	uint64_t start_ticks; /* with pid: the identity */
	uint64_t cpu_ticks;
	uint64_t wait_ns; /* run-queue wait, of the main thread */
	uint64_t read_bytes, write_bytes, rss_bytes;
	bool has_io;
	char comm[16];
};

/* One look at the files; sorted by path and by pid. */
struct top_look {
	uint64_t at_ns; /* CLOCK_MONOTONIC; 0 = empty */
	struct top_cgroup_usage *cgroups;
	size_t n_cgroups;
	struct top_proc_usage *procs;
	size_t n_procs, cap_procs;
	bool cut; /* a bound was reached */
};
void top_look_done(struct top_look *l);
/* @root: cgroup v2 mount or NULL. @procs: also read /proc/PID. -ENOMEM, -errno. */
int top_look_take(const char *root, bool procs, struct top_look *ret);

const struct top_cgroup_usage *top_find_cgroup(const struct top_look *l, const char *path);
/* The same process in @l, NULL if it was not there. */
const struct top_proc_usage *top_find_proc(
	const struct top_look *l, const struct top_proc_usage *p);
/* cgroup v2 path of @pid into @buf; false when unknown. */
bool top_proc_cgroup(uint32_t pid, char *buf, size_t size);
