/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/mman.h>
#include <bpf/libbpf.h>
#include "block/block_user.h"
#include "block.skel.h"

struct block {
	struct block_bpf *skel;
	struct block_series series;
	struct block_device_row *devices; /* mapped */
	struct block_cgroup *cgroups;
	size_t devices_size, cgroups_size;
};

static const char *const progs[] = {"block_issue", "block_complete"};
static const struct mno_rung rungs[] = {{"tp_btf", progs, ARRAY_SIZE(progs)}};

static void block_close(void *priv)
{
	struct block *b = priv;

	if (!b)
		return;
	if (b->devices)
		munmap(b->devices, b->devices_size);
	if (b->cgroups)
		munmap(b->cgroups, b->cgroups_size);
	block_series_done(&b->series);
	block_bpf__destroy(b->skel);
	free(b);
}

static int block_open(const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct block *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->skel = block_bpf__open();
	r = b->skel ? block_series_init(&b->series) : -errno;
	if (r < 0) {
		block_close(b);
		return r;
	}
	*ret_priv = b;
	*ret_obj = b->skel->obj;
	return 0;
}

static int block_loaded(void *priv, struct bpf_object *obj)
{
	struct block *b = priv;
	int r = mno_map_values(obj, "devices", (void **)&b->devices, &b->devices_size);

	return r < 0 ? r : mno_map_values(obj, "cgroups", (void **)&b->cgroups, &b->cgroups_size);
}

static void block_tick(void *priv, const struct mno_probe_tick *t)
{
	struct block *b = priv;

	block_series_tick(
		&b->series, t->metrics, mno_cgroups_view(t->cgroups), b->devices, b->cgroups);
}

static void block_snapshot(void *priv, struct mno_cgroups *cg, struct mno_json *j)
{
	struct block *b = priv;

	block_series_snapshot(&b->series, j);
}

const struct mno_probe mno_probe_block = {
	.name = "block",
	.summary = "block devices: latency and size by device and operation, latency by cgroup",
	.id = MNO_PROBE_block,
	.by_default = true,
	.value = 60,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.open = block_open,
	.loaded = block_loaded,
	.tick = block_tick,
	.snapshot = block_snapshot,
	.close = block_close,
};
