/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/vmstat: the counters that tell of paging, reclaim, compaction and NUMA placement. */
#include <errno.h>
#include <stdio.h>

#include "source.h"

/* Fields that begin so are taken; gauges (nr_*) are in meminfo already. */
static const char *const prefixes[] = {
	"allocstall",
	"compact_fail",
	"compact_stall",
	"compact_success",
	"drop_",
	"kswapd_",
	"numa_",
	"oom_kill",
	"pageoutrun",
	"pgfault",
	"pgmajfault",
	"pgmigrate_",
	"pgpg",
	"pgrefill",
	"pgscan_",
	"pgsteal_",
	"pswp",
	"slabs_scanned",
	"swap_ra",
	"thp_collapse_alloc",
	"thp_fault_",
	"thp_split_page",
	"workingset_refault",
};

struct vmstat {
	int fd;
	struct mno_rows rows;
};

static void vmstat_close(void *priv)
{
	struct vmstat *v = priv;

	if (v)
		mno_rows_done(&v->rows);
	mno_source_file_free(v);
}

static int vmstat_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct vmstat *v;
	int r = mno_source_file_new(c, "vmstat", sizeof(*v), (void **)&v);

	if (r < 0)
		return r;
	v->rows.width = 1;
	*ret_priv = v;
	return 0;
}

static uint32_t add(struct mno_source_ctx *c, const char *key, size_t len)
{
	char name[128], help[128];
	const struct mno_family f = {name, help, MNO_UNTYPED};
	bool wanted = false;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes) && !wanted; i++) {
		size_t n = strlen(prefixes[i]);

		wanted = len >= n && !memcmp(key, prefixes[i], n);
	}
	if (!wanted || len > 64)
		return MNO_SLOT_IGNORED;
	snprintf(name, sizeof(name), "node_vmstat_%.*s", (int)len, key);
	snprintf(help, sizeof(help), "Counter %.*s of /proc/vmstat.", (int)len, key);
	return mno_source_add(c, &f, NULL, 0);
}

static int vmstat_tick(void *priv, struct mno_source_ctx *c)
{
	struct vmstat *v = priv;
	struct mno_scan s;
	int r = mno_source_read(c, v->fd, false, &s);

	if (r < 0)
		return r;
	if (s.p == s.end)
		return -EBADMSG;
	do {
		const char *key;
		size_t len = mno_scan_word(&s, ' ', &key);
		uint32_t *slot;
		uint64_t value;

		if (!mno_scan_u64(&s, &value))
			continue;
		slot = mno_rows_next(&v->rows, key, len);
		if (!slot)
			continue;
		if (*slot == MNO_SLOT_NONE)
			*slot = add(c, key, len);
		mno_source_set(c, *slot, (double)value);
	} while (mno_scan_line(&s));
	mno_rows_end(&v->rows, c);
	return 0;
}

const struct mno_source mno_source_vmstat = {
	.name = "vmstat",
	.summary = "paging, reclaim, compaction (/proc/vmstat)",
	.open = vmstat_open,
	.tick = vmstat_tick,
	.close = vmstat_close,
};
