/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "block/block_user.h"

static const struct mno_family latency_family = {"mno_block_latency_seconds",
	"Time from issue of a block request to its driver until completion", MNO_HISTOGRAM};
static const struct mno_family size_family = {
	"mno_block_size_bytes", "Size of block requests", MNO_HISTOGRAM};
static const struct mno_family bytes_family = {
	"mno_block_bytes_total", "Bytes of completed block requests", MNO_COUNTER};
static const struct mno_family errors_family = {
	"mno_block_errors_total", "Block requests, or parts of them, that failed", MNO_COUNTER};
static const struct mno_family queue_family = {"mno_block_queue_seconds_total",
	"Time of block requests between allocation and issue", MNO_COUNTER};
static const struct mno_family cg_latency_family = {"mno_cgroup_block_latency_seconds",
	"Time from issue of a block request until completion, by issuing cgroup", MNO_HISTOGRAM};
static const struct mno_family cg_bytes_family = {"mno_cgroup_block_bytes_total",
	"Bytes of completed block requests, by issuing cgroup", MNO_COUNTER};

static const uint64_t size_bounds[] = {1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22};

#define U64(fam, st, member, factor)                                                               \
	{                                                                                          \
		.family = &fam, .kind = MNO_COL_U64, .off = offsetof(st, member), .per = factor,   \
	}
#define HIST(fam, st, member, sum_member, count_member, factor, edges)                             \
	{                                                                                          \
		.family = &fam, .kind = MNO_COL_HIST, .off = offsetof(st, member),                 \
		.sum = offsetof(st, sum_member), .count = offsetof(st, count_member),              \
		.per = factor, .bounds = edges, .n_bounds = ARRAY_SIZE(edges),                     \
	}

static const struct mno_col device_cols[] = {
	HIST(latency_family, struct block_stat, latency, latency_ns, count, 1e9,
		mno_bounds_latency),
	HIST(size_family, struct block_stat, size, bytes, count, 1, size_bounds),
	U64(bytes_family, struct block_stat, bytes, 1),
	U64(errors_family, struct block_stat, errors, 1),
	U64(queue_family, struct block_stat, queue_ns, 1e9),
};

static const struct mno_col cgroup_cols[] = {
	HIST(cg_latency_family, struct block_cgroup, latency, latency_ns, count, 1e9,
		mno_bounds_latency),
	U64(cg_bytes_family, struct block_cgroup, bytes, 1),
};

static const char *const op_names[BLOCK_OPS] = {"read", "write", "flush", "discard"};

int block_series_init(struct block_series *s)
{
	int r;

	memset(s, 0, sizeof(*s));
	r = mno_table_new(
		device_cols, ARRAY_SIZE(device_cols), BLOCK_ROWS * BLOCK_OPS, &s->devices);
	if (!r)
		r = mno_table_new(cgroup_cols, ARRAY_SIZE(cgroup_cols), BLOCK_SLOTS, &s->cgroups);
	if (r)
		block_series_done(s);
	return r;
}

void block_series_done(struct block_series *s)
{
	s->devices = mno_table_free(s->devices);
	s->cgroups = mno_table_free(s->cgroups);
}

void block_device_name(const char *sysfs, uint32_t key, char *buf, size_t size)
{
	unsigned major = BLOCK_KEY_MAJOR(key), minor = BLOCK_KEY_MINOR(key);
	char path[128], target[512];
	const char *base;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%u:%u", sysfs, major, minor);
	n = readlink(path, target, sizeof(target) - 1);
	if (n > 0) {
		target[n] = 0;
		base = strrchr(target, '/');
		base = base ? base + 1 : target;
		if (*base) {
			snprintf(buf, size, "%s", base);
			return;
		}
	}
	snprintf(buf, size, "%u:%u", major, minor);
}

static const char *name_of(struct block_series *s, size_t row, uint32_t key)
{
	if (row == BLOCK_OTHER)
		return "~other";
	if (s->names[row].key != key) {
		block_device_name(
			"/sys/dev/block", key, s->names[row].name, sizeof(s->names[row].name));
		s->names[row].key = key;
	}
	return s->names[row].name;
}

static void tick_devices(
	struct block_series *s, struct mno_metrics *m, const struct block_device_row *devs)
{
	mno_table_begin(s->devices, m);
	for (size_t i = 0; i < BLOCK_ROWS; i++) {
		uint32_t key = __atomic_load_n(&devs[i].key, __ATOMIC_RELAXED);

		if (!key && i != BLOCK_OTHER)
			continue;
		for (size_t op = 0; op < BLOCK_OPS; op++) {
			const struct mno_label l[] = {
				{"device", name_of(s, i, key)}, {"op", op_names[op]}};

			mno_table_row(s->devices, i * BLOCK_OPS + op, key, l, ARRAY_SIZE(l),
				&devs[i].op[op]);
		}
	}
	mno_table_end(s->devices);
}

void block_series_tick(struct block_series *s, struct mno_metrics *m, struct mno_cgroup_view slots,
	const struct block_device_row *devs, const struct block_cgroup *cgs)
{
	tick_devices(s, m, devs);
	mno_table_cgroups(s->cgroups, m, slots, cgs, sizeof(*cgs));
}

void block_series_snapshot(struct block_series *s, struct mno_json *j)
{
	mno_table_snapshot(s->cgroups, 0, "block", j);
}
