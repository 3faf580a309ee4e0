/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/time.h"
#include "syscall_user.h"
#include "syscall.skel.h"

#define LOOK_MIN_NS (200 * NS_PER_MS)
#define LOOK_MAX_NS (30 * NS_PER_SEC)

/* Calls by process at one time. */
struct look {
	uint64_t at_ns;
	size_t n;
	struct mno_syscall_thread *v; /* owned; by tgid, summed */
};

struct syscall {
	struct syscall_bpf *skel;
	unsigned banks;
	size_t entries_size, index_size;
	pthread_mutex_t lock; /* table and look: tick thread against API threads */
	struct mno_syscall_table table;
	struct look looks[2]; /* the older one first */
};

static const char *const tp_btf[] = {"on_enter", "on_exit", "list_calls"};
static const char *const raw_tp[] = {"on_enter_raw", "on_exit_raw", "list_calls"};
static const struct mno_rung rungs[] = {
	{"tp_btf", tp_btf, ARRAY_SIZE(tp_btf)},
	{"raw_tp", raw_tp, ARRAY_SIZE(raw_tp)},
};

static int syscall_open(
	const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct syscall *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->skel = syscall_bpf__open();
	if (!s->skel) {
		r = -errno;
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->banks = MNO_MIN(cfg->banks, (unsigned)MNO_SYSCALL_BANKS);
	s->skel->rodata->bank_mask = s->banks - 1;
	s->skel->rodata->private_banks = s->banks >= cfg->n_cpus;
	r = bpf_map__set_max_entries(s->skel->maps.syscall_entries, MNO_SYSCALL_ENTRIES * s->banks);
	*ret_priv = s; /* from here on close() frees it */
	*ret_obj = s->skel->obj;
	return r;
}

static int map_values(const struct bpf_map *m, void **ret, size_t *ret_size)
{
	size_t size = (size_t)bpf_map__value_size(m) * bpf_map__max_entries(m);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;

	size = (size + page - 1) / page * page;
	/* writable: entries of cgroups that are gone are zeroed from here */
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	*ret_size = size;
	return 0;
}

static int give_back(void *arg, uint32_t entry)
{
	struct syscall *s = arg;

	if (bpf_map_update_elem(bpf_map__fd(s->skel->maps.syscall_free), NULL, &entry, 0) < 0)
		return -errno;
	return 0;
}

static int syscall_loaded(void *priv, struct bpf_object *obj)
{
	struct syscall *s = priv;
	struct mno_syscall_maps maps = {.banks = s->banks};
	void *p;
	int r;

	r = map_values(s->skel->maps.syscall_entries, &p, &s->entries_size);
	if (r < 0)
		return r;
	maps.entries = s->table.maps.entries = p;
	r = map_values(s->skel->maps.syscall_index, &p, &s->index_size);
	if (r < 0)
		return r;
	maps.index = s->table.maps.index = p;
	mno_syscall_table_init(&s->table, &maps, give_back, s);
	for (uint32_t i = 1; i < MNO_SYSCALL_ENTRIES && r == 0; i++)
		r = give_back(s, i);
	return r;
}

static void look_done(struct look *l)
{
	free(l->v);
	*l = (struct look){};
}

static void syscall_tick(void *priv, const struct mno_probe_tick *t)
{
	struct mno_cgroup_view slots = mno_cgroups_view(t->cgroups);
	struct syscall *s = priv;

	pthread_mutex_lock(&s->lock);
	mno_syscall_table_tick(&s->table, t->metrics, &slots, t->interval_ns);
	for (size_t i = 0; i < ARRAY_SIZE(s->looks); i++)
		if (s->looks[i].at_ns && s->looks[i].at_ns + LOOK_MAX_NS < t->now_ns)
			look_done(&s->looks[i]);
	pthread_mutex_unlock(&s->lock);
}

static int by_tgid(const void *a, const void *b)
{
	const struct mno_syscall_thread *x = a, *y = b;

	return x->tgid < y->tgid ? -1 : x->tgid > y->tgid;
}

static int look_take(struct syscall *s, struct look *ret)
{
	_cleanup_buf_ struct mno_buf out = {.max = 16u << 20};
	struct mno_syscall_thread *v;
	size_t n, k = 0;
	int r = mno_iter_read(s->skel->progs.list_calls, &out);

	if (r < 0)
		return r;
	v = (struct mno_syscall_thread *)out.data;
	n = out.len / sizeof(*v);
	qsort(v, n, sizeof(*v), by_tgid);
	for (size_t i = 0; i < n; i++) {
		if (k && v[k - 1].tgid == v[i].tgid)
			v[k - 1].calls += v[i].calls;
		else
			v[k++] = v[i];
	}
	*ret = (struct look){.at_ns = mno_now_ns(CLOCK_BOOTTIME), .n = k, .v = v};
	out.data = NULL; /* handed on */
	return 0;
}

static void proc_json(const struct mno_syscall_thread *p, const struct look *before,
	uint64_t interval, struct mno_json *j)
{
	const struct mno_syscall_thread *b =
		before->n ? bsearch(p, before->v, before->n, sizeof(*p), by_tgid) : NULL;
	uint64_t old = b && b->calls <= p->calls ? b->calls : 0;

	if (p->calls == old)
		return;
	mno_json_obj(j);
	mno_json_ku64(j, "pid", p->tgid);
	mno_json_ku64(j, "calls", p->calls);
	mno_json_key(j, "syscalls_per_second");
	if (interval)
		mno_json_f64(j, (double)(p->calls - old) * NS_PER_SEC / (double)interval);
	else
		mno_json_null(j);
	mno_json_end(j);
}

/* Rates are those since the newest look that is old enough to tell. */
static void snapshot_procs(struct syscall *s, struct mno_json *j)
{
	struct look now = {}, *older = &s->looks[0], *newer = &s->looks[1], *before;
	uint64_t interval;

	if (look_take(s, &now) < 0)
		return;
	before = newer->at_ns && now.at_ns - newer->at_ns >= LOOK_MIN_NS ? newer : older;
	interval = before->at_ns ? now.at_ns - before->at_ns : 0;
	mno_json_key(j, "processes");
	mno_json_arr(j);
	for (size_t i = 0; i < now.n; i++)
		proc_json(&now.v[i], before, interval, j);
	mno_json_end_arr(j);
	if (newer->at_ns && before != newer) {
		look_done(&now);
		return;
	}
	look_done(older);
	*older = *newer;
	*newer = now;
}

static void syscall_snapshot(void *priv, struct mno_cgroups *cg, struct mno_json *j)
{
	struct syscall *s = priv;

	pthread_mutex_lock(&s->lock);
	mno_syscall_table_json(&s->table, j);
	snapshot_procs(s, j);
	pthread_mutex_unlock(&s->lock);
}

static void syscall_close(void *priv)
{
	struct syscall *s = priv;

	if (!s)
		return;
	mno_syscall_table_done(&s->table);
	if (s->entries_size)
		munmap(s->table.maps.entries, s->entries_size);
	if (s->index_size)
		munmap(s->table.maps.index, s->index_size);
	for (size_t i = 0; i < ARRAY_SIZE(s->looks); i++)
		look_done(&s->looks[i]);
	syscall_bpf__destroy(s->skel);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct mno_probe mno_probe_syscall = {
	.name = "syscall",
	.summary = "every system call: counts, errors and latency by cgroup and call",
	.id = MNO_PROBE_syscall,
	.value = 20,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.open = syscall_open,
	.loaded = syscall_loaded,
	.tick = syscall_tick,
	.snapshot = syscall_snapshot,
	.close = syscall_close,
};
