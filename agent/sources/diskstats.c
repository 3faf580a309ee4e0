/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/diskstats: block devices that were ever used; partitions are left out. */
#include <errno.h>

#include "source.h"

/* Columns after the name; kernels before 4.18 have 11, before 5.5 15. */
static const struct column {
	struct mno_family family;
	double mul, div; /* division keeps decimals exact: 1.3 s is not 1.2999999 */
} columns[] = {
	{{"node_disk_reads_completed_total", "Reads completed.", MNO_COUNTER}, 1, 1},
	{{"node_disk_reads_merged_total", "Reads merged.", MNO_COUNTER}, 1, 1},
	{{"node_disk_read_bytes_total", "Bytes read.", MNO_COUNTER}, 512, 1},
	{{"node_disk_read_time_seconds_total", "Time of all reads.", MNO_COUNTER}, 1, 1e3},
	{{"node_disk_writes_completed_total", "Writes completed.", MNO_COUNTER}, 1, 1},
	{{"node_disk_writes_merged_total", "Writes merged.", MNO_COUNTER}, 1, 1},
	{{"node_disk_written_bytes_total", "Bytes written.", MNO_COUNTER}, 512, 1},
	{{"node_disk_write_time_seconds_total", "Time of all writes.", MNO_COUNTER}, 1, 1e3},
	{{"node_disk_io_now", "Operations in flight.", MNO_GAUGE}, 1, 1},
	{{"node_disk_io_time_seconds_total", "Time with an operation in flight.", MNO_COUNTER}, 1,
		1e3},
	{{"node_disk_io_time_weighted_seconds_total", "Time of all operations.", MNO_COUNTER}, 1,
		1e3},
	{{"node_disk_discards_completed_total", "Discards completed.", MNO_COUNTER}, 1, 1},
	{{"node_disk_discards_merged_total", "Discards merged.", MNO_COUNTER}, 1, 1},
	{{"node_disk_discarded_sectors_total", "Sectors discarded.", MNO_COUNTER}, 1, 1},
	{{"node_disk_discard_time_seconds_total", "Time of all discards.", MNO_COUNTER}, 1, 1e3},
	{{"node_disk_flush_requests_total", "Flushes completed.", MNO_COUNTER}, 1, 1},
	{{"node_disk_flush_requests_time_seconds_total", "Time of all flushes.", MNO_COUNTER}, 1,
		1e3},
};
enum { READS = 0, WRITES = 4, DISCARDS = 11 };

struct diskstats {
	int fd;
	struct mno_rows rows;
};

static void diskstats_close(void *priv)
{
	struct diskstats *d = priv;

	if (d)
		mno_rows_done(&d->rows);
	mno_source_file_free(d);
}

static int diskstats_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct diskstats *d;
	int r = mno_source_file_new(c, "diskstats", sizeof(*d), (void **)&d);

	if (r < 0)
		return r;
	d->rows.width = ARRAY_SIZE(columns);
	*ret_priv = d;
	return 0;
}

static bool has_digit_end(const char *name, size_t len)
{
	return len > 0 && name[len - 1] >= '0' && name[len - 1] <= '9';
}

/* sda1, vda15, nvme0n1p2, mmcblk0p1: their disk has the sum. */
static bool is_partition(const char *name, size_t len)
{
	size_t n = len;

	if (!has_digit_end(name, len))
		return false;
	while (has_digit_end(name, n))
		n--;
	if (len > 4 && (!memcmp(name, "nvme", 4) || !memcmp(name, "mmcb", 4)))
		return n > 1 && name[n - 1] == 'p' && has_digit_end(name, n - 1);
	if (n >= 4 && !memcmp(name, "xvd", 3))
		return true;
	return n >= 3 && name[1] == 'd' && (name[0] == 's' || name[0] == 'h' || name[0] == 'v');
}

static size_t parse(struct mno_scan *s, uint64_t v[ARRAY_SIZE(columns)])
{
	size_t n = 0;

	while (n < ARRAY_SIZE(columns) && mno_scan_u64(s, &v[n]))
		n++;
	return n;
}

static void add(struct mno_source_ctx *c, uint32_t *slot, size_t n, const char *name, size_t len)
{
	char device[64];
	const struct mno_label label = {"device", device};

	if (len >= sizeof(device) || is_partition(name, len)) {
		slot[0] = MNO_SLOT_IGNORED;
		return;
	}
	memcpy(device, name, len);
	device[len] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (slot[i] == MNO_SLOT_NONE)
			slot[i] = mno_source_add(c, &columns[i].family, &label, 1);
	}
}

static void device_line(struct diskstats *d, struct mno_source_ctx *c, struct mno_scan *s)
{
	uint64_t v[ARRAY_SIZE(columns)];
	const char *name;
	uint32_t *slot;
	size_t len, n;

	if (!mno_scan_u64(s, &v[0]) || !mno_scan_u64(s, &v[0]))
		return;
	len = mno_scan_word(s, ' ', &name);
	slot = mno_rows_next(&d->rows, name, len);
	if (!slot || slot[0] == MNO_SLOT_IGNORED)
		return;
	n = parse(s, v);
	if (n < DISCARDS)
		return;
	/* A device appears with its first operation: unused loop and ram devices stay out. */
	if (slot[0] == MNO_SLOT_NONE && !v[READS] && !v[WRITES] && (n == DISCARDS || !v[DISCARDS]))
		return;
	if (slot[n - 1] == MNO_SLOT_NONE)
		add(c, slot, n, name, len);
	for (size_t i = 0; i < n; i++)
		mno_source_set(c, slot[i], (double)v[i] * columns[i].mul / columns[i].div);
}

static int diskstats_tick(void *priv, struct mno_source_ctx *c)
{
	struct diskstats *d = priv;
	struct mno_scan s;
	int r = mno_source_read(c, d->fd, false, &s);

	if (r < 0)
		return r;
	/* An empty file is a host without disks. */
	while (s.p < s.end) {
		device_line(d, c, &s);
		mno_scan_line(&s);
	}
	mno_rows_end(&d->rows, c);
	return 0;
}

const struct mno_source mno_source_diskstats = {
	.name = "diskstats",
	.summary = "operations, bytes and time of block devices (/proc/diskstats)",
	.open = diskstats_open,
	.tick = diskstats_tick,
	.close = diskstats_close,
};
