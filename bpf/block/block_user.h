/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the block probe's user side, apart from BPF: values in, series out. */
#pragma once

#include "mno_probe.h"
#include "mno_slot_series.h"
#include "block/block_wire.h"

struct block_series {
	struct mno_table *devices, *cgroups;
	/* of a device row: its name, looked up when the key changes */
	struct {
		uint32_t key;
		char name[32];
	} names[BLOCK_ROWS];
};

/* -ENOMEM. */
int block_series_init(struct block_series *s);
void block_series_done(struct block_series *s);
/* @devs: BLOCK_ROWS values, @cgs: BLOCK_SLOTS values. Tick thread. */
void block_series_tick(struct block_series *s, struct mno_metrics *m, struct mno_cgroup_view slots,
	const struct block_device_row *devs, const struct block_cgroup *cgs);
/* Member "cgroups" with block_p50_seconds, block_p99_seconds, block_count. Any thread. */
void block_series_snapshot(struct block_series *s, struct mno_json *j);
/*
 * Name of a device from @sysfs ("/sys/dev/block"), "major:minor" when it has none there.
 * Always NUL-terminates.
 */
void block_device_name(const char *sysfs, uint32_t key, char *buf, size_t size);
