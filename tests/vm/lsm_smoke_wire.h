/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What lsm_smoke.c tells lsm_smoke.bpf.c, and what it gets back. */
#pragma once

struct smoke_target {
	unsigned long long cgroup_id; /* 0: nobody is refused */
	unsigned long long inode;
	unsigned int device; /* kernel's own encoding: major << 20 | minor */
	unsigned int reserved;
};

struct smoke_seen {
	unsigned long long called; /* opens of the target file seen, inside the cgroup or not */
	unsigned long long denied;
};
