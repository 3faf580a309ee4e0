/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <bpf/libbpf.h>
#include "memory/memory_user.h"
#include "memory.skel.h"

struct memory {
	struct memory_bpf *skel;
	struct memory_series series;
	struct memory_cgroup *cgroups; /* mapped */
	struct memory_stall *stalls;
	size_t cgroups_size, stalls_size;
	unsigned n_cpus;
};

#define RECLAIM "major_fault", "direct_begin", "direct_end"
#define MEMCG   "memcg_begin", "memcg_end"

static const char *const by_task[] = {RECLAIM, MEMCG, "oom_task"};
static const char *const by_pid[] = {RECLAIM, MEMCG, "oom_signal", "oom_pid"};
/* a kernel without memory cgroups has no tracepoints for them */
static const char *const no_memcg[] = {RECLAIM, "oom_task"};
static const char *const no_memcg_pid[] = {RECLAIM, "oom_signal", "oom_pid"};
/* lockdown=confidentiality forbids the helper that reads a victim's size on kernels before 6.2 */
#define FIRST_WITHOUT_READS 2
static const struct mno_rung rungs[] = {
	{"tp_btf", by_task, ARRAY_SIZE(by_task)},
	{"tp_btf, OOM by pid", by_pid, ARRAY_SIZE(by_pid)},
	{"tp_btf, OOM without size", by_task, ARRAY_SIZE(by_task)},
	{"tp_btf, OOM by pid, without size", by_pid, ARRAY_SIZE(by_pid)},
	{"tp_btf, no cgroup reclaim", no_memcg, ARRAY_SIZE(no_memcg)},
	{"tp_btf, OOM by pid, no cgroup reclaim", no_memcg_pid, ARRAY_SIZE(no_memcg_pid)},
};

static void memory_close(void *priv)
{
	struct memory *m = priv;

	if (!m)
		return;
	if (m->cgroups)
		munmap(m->cgroups, m->cgroups_size);
	if (m->stalls)
		munmap(m->stalls, m->stalls_size);
	memory_series_done(&m->series);
	memory_bpf__destroy(m->skel);
	free(m);
}

static int memory_open(
	const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct memory *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->n_cpus = cfg->n_cpus;
	m->skel = memory_bpf__open();
	r = m->skel ? memory_series_init(&m->series) : -errno;
	if (r < 0) {
		memory_close(m);
		return r;
	}
	m->skel->rodata->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	m->skel->rodata->read_kernel = cfg->rung < FIRST_WITHOUT_READS;
	*ret_priv = m;
	*ret_obj = m->skel->obj;
	return 0;
}

static int memory_loaded(void *priv, struct bpf_object *obj)
{
	struct memory *m = priv;
	int r = mno_map_values(obj, "cgroups", (void **)&m->cgroups, &m->cgroups_size);

	return r < 0 ? r : mno_map_values(obj, "stalls", (void **)&m->stalls, &m->stalls_size);
}

static int attach_cpu(struct bpf_program *prog, unsigned cpu, struct bpf_link **ret)
{
	struct perf_event_attr attr = {.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_PAGE_FAULTS_MAJ,
		.sample_period = 1};
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
	struct bpf_link *link;

	if (fd < 0)
		return -errno;
	link = bpf_program__attach_perf_event(prog, fd); /* the link closes fd */
	if (!link) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret = link;
	return 0;
}

/* An event on each CPU that is online; the others (-ENODEV) have no faults. */
static int memory_attach(
	void *priv, struct bpf_program *prog, struct bpf_link ***ret_links, size_t *ret_n)
{
	struct memory *m = priv;
	struct bpf_link **links;
	size_t n = 0;
	int r = 0;

	if (strcmp(bpf_program__name(prog), "major_fault"))
		return -EOPNOTSUPP;
	links = calloc(m->n_cpus, sizeof(struct bpf_link *));
	if (!links)
		return -ENOMEM;
	for (unsigned cpu = 0; cpu < m->n_cpus; cpu++) {
		r = attach_cpu(prog, cpu, &links[n]);
		if (!r)
			n++;
		else if (r != -ENODEV)
			break;
	}
	if (r == -ENODEV && n)
		r = 0;
	if (r) {
		while (n > 0)
			bpf_link__destroy(links[--n]);
		free(links);
		return r;
	}
	*ret_links = links;
	*ret_n = n;
	return 0;
}

static void memory_tick(void *priv, const struct mno_probe_tick *t)
{
	struct memory *m = priv;

	memory_series_tick(
		&m->series, t->metrics, mno_cgroups_view(t->cgroups), m->cgroups, m->stalls);
}

const struct mno_probe mno_probe_memory = {
	.name = "memory",
	.summary = "shortage of memory: OOM kills, direct reclaim, major faults",
	.id = MNO_PROBE_memory,
	.by_default = true,
	.value = 80,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.kinds = memory_kinds,
	.n_kinds = MEMORY_KINDS_N,
	.ring_bytes = 16 << 10,
	.open = memory_open,
	.loaded = memory_loaded,
	.attach = memory_attach,
	.tick = memory_tick,
	.close = memory_close,
};
