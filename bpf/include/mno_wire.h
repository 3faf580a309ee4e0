/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What crosses from the kernel side to user space. Plain C, <linux/types.h> only; explicit
 * padding; natural alignment, never packed; sizes asserted on both sides. Numbers are
 * append-only: a retired kind stays a hole.
 */
#pragma once

#include <linux/types.h>

#define MNO_COMM_LEN     16
#define MNO_WIRE_VERSION 1

/* One number per probe, from probes.def; a record kind is (probe << 8 | n), n counted from 1. */
enum mno_probe_id {
#define PROBE(name, id) MNO_PROBE_##name = id,
#include "probes.def"
#undef PROBE
};
#define MNO_KIND(probe, n) ((__u16)((MNO_PROBE_##probe << 8) | (n)))

struct mno_hdr {
	__u32 size;    /* of the whole record, this header included */
	__u16 kind;    /* MNO_KIND(probe, n) */
	__u16 version; /* of the payload's layout */
	__u64 ktime;   /* CLOCK_BOOTTIME, ns */
	__u64 seq;     /* per probe and CPU, from 0, counts what was seen: a gap is a loss */
	__u32 cpu;
	__u32 _pad;
};
_Static_assert(sizeof(struct mno_hdr) == 32, "header layout");

/*
 * A run of bytes in the record's tail: @off from the start of the record. Bytes that did not
 * fit are told by MNO_VAR_CUT; several strings are separated by NUL.
 */
struct mno_var {
	__u16 off;
	__u16 len;
	__u32 flags;
};
#define MNO_VAR_CUT 1u
_Static_assert(sizeof(struct mno_var) == 8, "var layout");

/*
 * Per-probe, per-CPU accounting, the map "stats" of every probe. The identity
 * seen = delivered + sampled + dropped holds exactly: each fact adds one to seen and to one of
 * the others (delivered is counted when the record is in the ring).
 */
struct mno_pstats {
	__u64 seen;
	__u64 delivered;
	__u64 sampled;      /* left out on purpose: the probe's record budget was spent */
	__u64 dropped;      /* the ring was full */
	__u64 errors;       /* a helper failed; the record went out without that part */
	__u64 runs;         /* program runs that counted something, records or not */
	__u64 budget_start; /* boottime ns of the current budget window */
	__u64 budget_used;
	__u64 own[8]; /* what the probe itself keeps per CPU, on a cache line of its own */
};
_Static_assert(sizeof(struct mno_pstats) == 128, "stats layout");
#define MNO_MAX_CPUS 256
