/* SPDX-License-Identifier: Apache-2.0 */
/* Which generation decides, and what the programs have counted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "enforce/decide.h"
#include "enforce_internal.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

uint64_t mno_e_settle(struct mno_enforce *e)
{
	uint64_t word = __atomic_load_n(&e->ctl->state, __ATOMIC_SEQ_CST);
	uint64_t slot = mno_e_slot(word, now_ns());

	if (slot == (word & 0xff))
		return word;
	word = slot | MNO_E_NONE << 8;
	__atomic_store_n(&e->ctl->state, word, __ATOMIC_SEQ_CST);
	return word;
}

int mno_enforce_flip(struct mno_enforce *e, uint32_t confirm_ms)
{
	uint64_t word = mno_e_settle(e);
	uint64_t deadline = confirm_ms ? now_ns() / NS_PER_MS + confirm_ms : 0;

	if (e->filled < 0)
		return -ENOENT;
	word = (uint64_t)e->filled | (word & 0xff) << 8 | deadline << 16;
	__atomic_store_n(&e->ctl->state, word, __ATOMIC_SEQ_CST);
	e->filled = -1;
	return 0;
}

int mno_enforce_confirm(struct mno_enforce *e)
{
	uint64_t word = __atomic_load_n(&e->ctl->state, __ATOMIC_SEQ_CST);

	if (!(word >> 16))
		return (word & 0xff) == MNO_E_NONE ? -ETIME : 0;
	if (mno_e_slot(word, now_ns()) != (word & 0xff)) {
		mno_e_settle(e);
		return -ETIME;
	}
	__atomic_store_n(&e->ctl->state, word & 0xffff, __ATOMIC_SEQ_CST);
	return 0;
}

int mno_enforce_rollback(struct mno_enforce *e)
{
	uint64_t word = mno_e_settle(e);

	if ((word >> 8 & 0xff) == MNO_E_NONE && !(word >> 16))
		return -ENOENT;
	__atomic_store_n(&e->ctl->state, (word >> 8 & 0xff) | MNO_E_NONE << 8, __ATOMIC_SEQ_CST);
	return 0;
}

void mno_enforce_disarm(struct mno_enforce *e)
{
	__atomic_store_n(&e->ctl->state, MNO_E_NONE | MNO_E_NONE << 8, __ATOMIC_SEQ_CST);
}

/* The frozen table of a slot, of which only the first word is wanted: mapped read-only. */
static uint32_t generation_of(const struct mno_enforce *e, uint32_t slot)
{
	_cleanup_free_ struct mno_e_gen *g = malloc(sizeof(*g));
	_cleanup_close_ int fd = -1;
	uint32_t id = 0, first = 0;

	if (!g || bpf_map_lookup_elem(e->map[MAP_GENS], &slot, &id) < 0)
		return 0;
	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0 || bpf_map_lookup_elem(fd, &first, g) < 0)
		return 0;
	return g->generation;
}

uint32_t mno_enforce_generation(const struct mno_enforce *e, uint64_t *ret_left_ms)
{
	uint64_t word = __atomic_load_n(&e->ctl->state, __ATOMIC_SEQ_CST), now = now_ns();
	uint32_t slot = mno_e_slot(word, now);

	*ret_left_ms = word >> 16 && slot == (word & 0xff) ? (word >> 16) - now / NS_PER_MS : 0;
	return slot > 1 ? 0 : generation_of(e, slot);
}

/* start time of a process in clock ticks since boot: the 22nd field of its stat */
static int start_ticks(pid_t pid, __u64 *ret)
{
	char path[64], text[1024];
	unsigned long long ticks;
	const char *p;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%llu", &ticks) != 1)
		return -EIO;
	*ret = ticks;
	return 0;
}

static int run_pass(const struct mno_enforce *e)
{
	_cleanup_close_ int link = bpf_link_create(e->seed_prog, 0, BPF_TRACE_ITER, NULL);
	_cleanup_close_ int iter = link < 0 ? -1 : bpf_iter_create(link);
	char buf[64];
	ssize_t n = 1;

	if (iter < 0)
		return -errno;
	while (n > 0)
		n = read(iter, buf, sizeof(buf));
	return n < 0 ? -errno : 0;
}

static int run_passes(struct mno_enforce *e, uint64_t *ret_tasks)
{
	uint64_t first = e->ctl->stats.seeded, full = e->ctl->stats.task_full, before;
	int r;

	do {
		before = e->ctl->stats.seeded;
		r = run_pass(e);
	} while (r == 0 && e->ctl->stats.seeded != before && e->ctl->stats.task_full == full);
	if (r == 0 && e->ctl->stats.task_full != full)
		r = -ENOSPC;
	*ret_tasks = e->ctl->stats.seeded - first;
	return r;
}

int mno_enforce_seed(
	struct mno_enforce *e, const pid_t *pids, size_t n, uint32_t domain, uint64_t *ret_tasks)
{
	uint64_t tasks = 0;
	int r = e->seed_prog < 0 ? -EOPNOTSUPP : domain >= MNO_E_DOMAINS ? -EINVAL : 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct mno_e_seed s = {.domain = domain};
		uint32_t key = (uint32_t)pids[i];

		if (start_ticks(pids[i], &s.start_ticks) < 0)
			continue; /* it has ended */
		if (bpf_map_update_elem(e->map[MAP_SEEDS], &key, &s, BPF_ANY) < 0)
			r = -errno;
	}
	if (r == 0)
		r = run_passes(e, &tasks);
	for (size_t i = 0; i < n; i++) {
		uint32_t key = (uint32_t)pids[i];

		bpf_map_delete_elem(e->map[MAP_SEEDS], &key);
	}
	if (r == 0 && ret_tasks)
		*ret_tasks = tasks;
	return r;
}

int mno_enforce_hits(const struct mno_enforce *e, uint32_t rule, uint64_t *ret)
{
	uint32_t slot = mno_e_slot(__atomic_load_n(&e->ctl->state, __ATOMIC_SEQ_CST), now_ns());
	uint32_t key = slot * MNO_E_RULES + rule;
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *v = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*v));
	uint64_t sum = 0;

	if (!v)
		return -ENOMEM;
	if (slot > 1 || rule >= MNO_E_RULES)
		return -ENOENT;
	if (bpf_map_lookup_elem(e->map[MAP_HITS], &key, v) < 0)
		return -errno;
	for (int i = 0; i < cpus; i++)
		sum += v[i];
	*ret = sum;
	return 0;
}

struct mno_e_stats mno_enforce_stats(const struct mno_enforce *e)
{
	return e->ctl->stats;
}

static int on_record(void *arg, void *data, size_t len)
{
	struct mno_enforce *e = arg;
	const struct mno_e_record *r = data;

	if (len >= sizeof(*r) && r->size == sizeof(*r))
		e->record_fn(e->record_arg, r);
	return 0;
}

int mno_enforce_records(
	struct mno_enforce *e, void (*fn)(void *arg, const struct mno_e_record *r), void *arg)
{
	if (!e->ring)
		e->ring = ring_buffer__new(e->map[MAP_RING], on_record, e, NULL);
	if (!e->ring)
		return -errno;
	e->record_fn = fn;
	e->record_arg = arg;
	return ring_buffer__consume(e->ring);
}
