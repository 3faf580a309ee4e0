/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Map values of the block probe, shared by both sides. It sends no records. */
#pragma once

#include "mno_wire.h"
#include "mno_hist.h"

#define BLOCK_DEVICES  32            /* with a row of their own */
#define BLOCK_OTHER    BLOCK_DEVICES /* the row of all further ones, and of requests without a disk */
#define BLOCK_ROWS     (BLOCK_DEVICES + 1)
#define BLOCK_SLOTS    256 /* MNO_CGROUP_SLOTS */
#define BLOCK_INFLIGHT 2048

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_OPS };

/* One operation of one device; times in ns, from issue to the driver until completion. */
struct block_stat {
	__u64 count;
	__u64 errors;
	__u64 bytes;
	__u64 latency_ns;
	__u64 queue_ns;    /* from allocation of the request to its issue */
	__u64 queue_count; /* requests whose allocation time the kernel had noted */
	__u64 _pad[2];
	__u32 latency[MNO_HIST_BUCKETS];
	__u32 size
		[MNO_HIST_BUCKETS]; /* of bytes - 1: powers of two are then a bucket's last value */
};
_Static_assert(sizeof(struct block_stat) == 64 + 8 * MNO_HIST_BUCKETS, "stat layout");

struct block_device_row {
	__u32 key; /* BLOCK_KEY(), 0 = the row is free */
	__u32 _pad;
	struct block_stat op[BLOCK_OPS];
};

/* Never 0: the row of device 0:0 must not look free. */
#define BLOCK_KEY(major, minor) (1u << 31 | ((__u32)(major)&0x7ff) << 20 | ((minor)&0xfffff))
#define BLOCK_KEY_MAJOR(key)    ((key) >> 20 & 0x7ff)
#define BLOCK_KEY_MINOR(key)    ((key)&0xfffff)

struct block_cgroup {
	__u64 count;
	__u64 latency_ns;
	__u64 bytes;
	__u64 _pad;
	__u32 latency[MNO_HIST_BUCKETS];
};
_Static_assert(sizeof(struct block_cgroup) == 32 + 4 * MNO_HIST_BUCKETS, "cgroup layout");
