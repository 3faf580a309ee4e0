/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/time.h"
#include "sched_user.h"
#include "sched.skel.h"

#define SEED_TRIES    20
#define SEED_EVERY_NS (10 * NS_PER_SEC)
#define LOOK_MIN_NS   (200 * NS_PER_MS) /* rates over less say little */
#define LOOK_MAX_NS   (30 * NS_PER_SEC) /* an older look is nobody's "before" */

struct sched {
	struct sched_bpf *skel;
	unsigned banks, n_cpus;
	size_t cgroups_size, culprits_size, cpus_size;
	pthread_mutex_t lock; /* table and looks: tick thread against API threads */
	struct mno_sched_table table;
	struct mno_sched_look looks[2]; /* older, newer */
	uint64_t missed, seeded_ns;
};

static const char *const kernel_clock[] = {"on_switch", "on_fork", "seed_tasks", "list_threads"};
static const char *const stamped[] = {
	"on_switch_stamped", "on_wakeup", "on_wakeup_new", "on_fork", "seed_tasks", "list_threads"};
static const struct mno_rung rungs[] = {
	{"tp_btf", kernel_clock, ARRAY_SIZE(kernel_clock)},
	{"tp_btf with wake-ups", stamped, ARRAY_SIZE(stamped)},
};

static int size_maps(struct sched_bpf *skel, const struct mno_probe_cfg *cfg)
{
	return bpf_map__set_max_entries(skel->maps.sched_cgroups, MNO_SCHED_SLOTS * cfg->banks);
}

static int sched_open(const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct sched *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->skel = sched_bpf__open();
	if (!s->skel) {
		r = -errno;
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->banks = cfg->banks;
	s->n_cpus = cfg->n_cpus;
	s->skel->rodata->bank_mask = cfg->banks - 1;
	s->skel->rodata->private_banks = cfg->banks >= cfg->n_cpus;
	s->skel->rodata->read_kernel = libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE,
					       BPF_FUNC_probe_read_kernel, NULL) == 1;
	mno_sched_wait_table((uint8_t *)s->skel->rodata->wait_class);
	r = size_maps(s->skel, cfg);
	*ret_priv = s; /* from here on close() frees it */
	*ret_obj = s->skel->obj;
	return r;
}

static int map_values(const struct bpf_map *m, int prot, void **ret, size_t *ret_size)
{
	size_t size = (size_t)bpf_map__value_size(m) * bpf_map__max_entries(m), page = 4096;
	void *p;

	page = (size_t)sysconf(_SC_PAGESIZE);
	size = (size + page - 1) / page * page;
	p = mmap(NULL, size, prot, MAP_SHARED, bpf_map__fd(m), 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	*ret_size = size;
	return 0;
}

static int sched_loaded(void *priv, struct bpf_object *obj)
{
	struct sched *s = priv;
	struct mno_sched_maps maps = {.banks = s->banks, .n_cpus = s->n_cpus};
	void *p;
	int r;

	/* writable: slots of cgroups that are gone are zeroed from here */
	r = map_values(s->skel->maps.sched_cgroups, PROT_READ | PROT_WRITE, &p, &s->cgroups_size);
	if (r < 0)
		return r;
	maps.cgroups = p;
	s->table.maps = maps;
	r = map_values(s->skel->maps.sched_culprits, PROT_READ | PROT_WRITE, &p, &s->culprits_size);
	if (r < 0)
		return r;
	maps.culprits = p;
	s->table.maps = maps;
	r = map_values(s->skel->maps.stats, PROT_READ, &p, &s->cpus_size);
	if (r < 0)
		return r;
	maps.cpus = p;
	s->table.maps = maps;
	return mno_sched_table_init(&s->table, &maps);
}

static int seed(struct sched *s)
{
	_cleanup_buf_ struct mno_buf failed = {.max = 4 << 20};
	const struct timespec ms = {.tv_nsec = 1000000};
	int r = 0;

	for (int i = 0; i < SEED_TRIES && r == 0; i++) {
		mno_buf_reset(&failed);
		r = mno_iter_read(s->skel->progs.seed_tasks, &failed);
		if (!failed.len)
			break;
		nanosleep(&ms, NULL);
	}
	return r;
}

static int sched_attached(void *priv, struct bpf_object *obj,
	void (*emit)(void *arg, const void *rec, size_t len), void *arg)
{
	return seed(priv);
}

/* Tasks that fork does not tell about (I/O workers) are found by their switches. Those outside of
 * this process' pid namespace the iterator does not show: their sleeps stay untold. */
static void seed_again(struct sched *s, uint64_t now_ns)
{
	uint64_t missed = 0;

	for (unsigned c = 0; c < s->n_cpus; c++)
		missed += __atomic_load_n(
			&mno_sched_cpu_at(&s->table.maps, c)->missed, __ATOMIC_RELAXED);
	if (missed == s->missed || now_ns < s->seeded_ns + SEED_EVERY_NS)
		return;
	s->missed = missed;
	s->seeded_ns = now_ns;
	seed(s);
}

static void sched_tick(void *priv, const struct mno_probe_tick *t)
{
	struct mno_cgroup_view slots = mno_cgroups_view(t->cgroups);
	struct sched *s = priv;

	pthread_mutex_lock(&s->lock);
	mno_sched_table_tick(&s->table, t->metrics, &slots, t->interval_ns);
	for (size_t i = 0; i < ARRAY_SIZE(s->looks); i++)
		if (s->looks[i].at_ns && s->looks[i].at_ns + LOOK_MAX_NS < t->now_ns)
			mno_sched_look_done(&s->looks[i]); /* nobody looks any more */
	pthread_mutex_unlock(&s->lock);
	seed_again(s, t->now_ns);
}

static int look_take(struct sched *s, struct mno_sched_look *ret)
{
	_cleanup_buf_ struct mno_buf out = {.max = 64u << 20};
	int r = mno_iter_read(s->skel->progs.list_threads, &out);

	if (r < 0)
		return r;
	return mno_sched_look_make((struct mno_sched_thread *)out.data,
		out.len / sizeof(struct mno_sched_thread), mno_now_ns(CLOCK_BOOTTIME), ret);
}

/* Rates are those since the newest look that is old enough to tell. */
static void snapshot_procs(struct sched *s, struct mno_cgroups *cg, struct mno_json *j)
{
	struct mno_sched_look now = {}, *older = &s->looks[0], *newer = &s->looks[1], *before;

	if (look_take(s, &now) < 0)
		return;
	before = newer->at_ns && now.at_ns - newer->at_ns >= LOOK_MIN_NS ? newer : older;
	mno_sched_look_json(&now, before, cg, j);
	if (newer->at_ns && before != newer) {
		mno_sched_look_done(&now);
		return;
	}
	mno_sched_look_done(older);
	*older = *newer;
	*newer = now;
}

static void sched_snapshot(void *priv, struct mno_cgroups *cg, struct mno_json *j)
{
	struct sched *s = priv;

	pthread_mutex_lock(&s->lock);
	mno_sched_table_json(&s->table, j);
	snapshot_procs(s, cg, j);
	pthread_mutex_unlock(&s->lock);
}

static void sched_close(void *priv)
{
	struct sched *s = priv;

	if (!s)
		return;
	mno_sched_table_done(&s->table);
	if (s->cgroups_size)
		munmap(s->table.maps.cgroups, s->cgroups_size);
	if (s->culprits_size)
		munmap(s->table.maps.culprits, s->culprits_size);
	if (s->cpus_size)
		munmap((void *)s->table.maps.cpus, s->cpus_size);
	for (size_t i = 0; i < ARRAY_SIZE(s->looks); i++)
		mno_sched_look_done(&s->looks[i]);
	sched_bpf__destroy(s->skel);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct mno_probe mno_probe_sched = {
	.name = "sched",
	.summary = "CPU time, run-queue wait, what tasks sleep for, and who kept whom from the CPU",
	.id = MNO_PROBE_sched,
	.by_default = true,
	.value = 90,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.carries_rider = true,
	.open = sched_open,
	.loaded = sched_loaded,
	.attached = sched_attached,
	.tick = sched_tick,
	.snapshot = sched_snapshot,
	.close = sched_close,
};
