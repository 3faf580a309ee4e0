/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/mman.h>
#include <bpf/libbpf.h>
#include "tcp/tcp_user.h"
#include "tcp.skel.h"

struct tcp {
	struct tcp_bpf *skel;
	struct mno_table *table;
	struct tcp_cgroup *cgroups; /* mapped */
	size_t cgroups_size;
	bool seeds;
};

static const char *const progs[] = {"tcp_state", "tcp_retransmit", "tcp_seed"};
static const struct mno_rung rungs[] = {
	{"tp_btf", progs, 3},
	{"tp_btf, earlier sockets unknown", progs, 2},
};

static void tcp_close(void *priv)
{
	struct tcp *p = priv;

	if (!p)
		return;
	if (p->cgroups)
		munmap(p->cgroups, p->cgroups_size);
	mno_table_free(p->table);
	tcp_bpf__destroy(p->skel);
	free(p);
}

static int tcp_open(const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct tcp *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->seeds = cfg->rung == 0;
	p->skel = tcp_bpf__open();
	r = p->skel ? tcp_series_new(&p->table) : -errno;
	if (r < 0) {
		tcp_close(p);
		return r;
	}
	*ret_priv = p;
	*ret_obj = p->skel->obj;
	return 0;
}

static int tcp_loaded(void *priv, struct bpf_object *obj)
{
	struct tcp *p = priv;

	return mno_map_values(obj, "cgroups", (void **)&p->cgroups, &p->cgroups_size);
}

/* The iterator writes into the maps, not to its reader. */
static int tcp_attached(void *priv, struct bpf_object *obj,
	void (*emit)(void *arg, const void *rec, size_t len), void *arg)
{
	_cleanup_buf_ struct mno_buf none = {.max = 1 << 16};
	struct tcp *p = priv;

	return p->seeds ? mno_iter_read(p->skel->progs.tcp_seed, &none) : 0;
}

static void tcp_tick(void *priv, const struct mno_probe_tick *t)
{
	struct tcp *p = priv;

	tcp_series_tick(p->table, t->metrics, mno_cgroups_view(t->cgroups), p->cgroups);
}

static void tcp_snapshot(void *priv, struct mno_cgroups *cg, struct mno_json *j)
{
	struct tcp *p = priv;

	tcp_series_snapshot(p->table, j);
}

const struct mno_probe mno_probe_tcp = {
	.name = "tcp",
	.summary = "TCP connections: who with whom, bytes, duration, round trip, retransmits",
	.id = MNO_PROBE_tcp,
	.by_default = true,
	.value = 70,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.kinds = tcp_kinds,
	.n_kinds = TCP_KINDS,
	.ring_bytes = 256 << 10,
	.budget_per_cpu = 50, /* 500 a second and CPU; counters and histograms go on beyond */
	.open = tcp_open,
	.loaded = tcp_loaded,
	.attached = tcp_attached,
	.tick = tcp_tick,
	.snapshot = tcp_snapshot,
	.close = tcp_close,
};
