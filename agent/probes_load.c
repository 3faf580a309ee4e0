/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/log.h"
#include "cgroups.h"
#include "probe_util.h"
#include "probes_internal.h"

static bool rung_has(const struct mno_rung *r, const char *prog)
{
	for (size_t i = 0; i < r->n_progs; i++)
		if (!strcmp(r->progs[i], prog))
			return true;
	return false;
}

/* The maps that all objects share: same name, same kernel map. */
static int share_maps(struct mno_probes *p, struct bpf_object *obj)
{
	struct mno_cgroups *cg = p->opts.cgroups;
	const struct {
		const char *name;
		int fd;
	} shared[] = {
		{"cgroup_slots", cg ? mno_cgroups_slots_fd(cg) : -1},
		{"cgroup_free", cg ? mno_cgroups_free_fd(cg) : -1},
		{"switch_tail", p->ride.map_fd},
	};

	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		struct bpf_map *m = bpf_object__find_map_by_name(obj, shared[i].name);
		int r;

		if (!m || shared[i].fd < 0)
			continue;
		r = bpf_map__reuse_fd(m, shared[i].fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static int size_maps(struct mno_probes *p, struct mno_probe_slot *s)
{
	struct bpf_map *stats = bpf_object__find_map_by_name(s->obj, "stats");
	struct bpf_map *ring = bpf_object__find_map_by_name(s->obj, "ring");
	uint64_t bytes = s->probe->ring_bytes ?: 4096;
	int r = stats ? bpf_map__set_max_entries(stats, p->n_cpus) : 0;

	if (r == 0 && ring)
		r = bpf_map__set_max_entries(ring, (uint32_t)bytes);
	if (r == 0) {
		mno_rodata_set(s->obj, "mno_wake_bytes", bytes / 4);
		mno_rodata_set(s->obj, "mno_budget_per_cpu", s->probe->budget_per_cpu);
	}
	return r;
}

static int prepare(struct mno_probes *p, struct mno_probe_slot *s, size_t rung)
{
	struct mno_probe_cfg cfg = {.n_cpus = p->n_cpus, .banks = p->banks, .rung = rung};
	struct bpf_program *prog;
	int r = s->probe->open(&cfg, &s->priv, &s->obj);

	if (r < 0)
		return r;
	bpf_object__for_each_program(prog, s->obj) bpf_program__set_autoload(
		prog, rung_has(&s->probe->rungs[rung], bpf_program__name(prog)));
	r = size_maps(p, s);
	return r < 0 ? r : share_maps(p, s->obj);
}

static void emit(void *slot, const void *rec, size_t len)
{
	struct mno_probe_slot *s = slot;

	if (s->owner->on_record)
		s->owner->on_record(s->owner->on_record_arg, s->index, rec, len);
}

static int on_record(void *ctx, void *rec, size_t len)
{
	struct mno_probe_slot *s = ctx;

	s->drained_now++;
	emit(s, rec, len);
	return 0; /* a negative result would stop libbpf's loop for good records too */
}

static int map_rings(struct mno_probes *p, struct mno_probe_slot *s)
{
	struct bpf_map *ring = bpf_object__find_map_by_name(s->obj, "ring");
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	void *stats;
	int r = mno_map_values(s->obj, "stats", &stats, &s->stats_size);

	if (r < 0)
		return r;
	s->stats = stats;
	if (!ring || !s->probe->ring_bytes)
		return 0;
	s->ring = ring_buffer__new(bpf_map__fd(ring), on_record, s, NULL);
	if (!s->ring)
		return -errno;
	/* edge-triggered: only the program's explicit wake-ups end the drain's sleep */
	return epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, bpf_map__fd(ring), &ev) < 0 ? -errno : 0;
}

static int keep_links(struct mno_probe_slot *s, struct bpf_link **links, size_t n)
{
	struct bpf_link **all = reallocarray(s->links, s->n_links + n, sizeof(*all));

	if (!all) {
		for (size_t i = 0; i < n; i++)
			bpf_link__destroy(links[i]);
		return -ENOMEM;
	}
	memcpy(all + s->n_links, links, n * sizeof(*links));
	s->links = all;
	s->n_links += n;
	return 0;
}

static int attach_one(struct mno_probe_slot *s, struct bpf_program *prog)
{
	_cleanup_free_ struct bpf_link **own = NULL;
	struct bpf_link *link;
	const char *rider = s->probe->switch_rider;
	size_t n = 0;
	int r = -EOPNOTSUPP;

	if (rider && !strcmp(bpf_program__name(prog), rider))
		return mno_ride_board(&s->owner->ride, prog);
	if (s->probe->attach)
		r = s->probe->attach(s->priv, prog, &own, &n);
	if (r == 0)
		return keep_links(s, own, n);
	if (r != -EOPNOTSUPP)
		return r;
	link = bpf_program__attach(prog);
	return link ? keep_links(s, &link, 1) : -errno;
}

/* Iterators and SEC("syscall") programs are run on demand, not attached. */
static bool is_passive(const struct bpf_program *prog)
{
	enum bpf_attach_type t = bpf_program__expected_attach_type(prog);

	return bpf_program__type(prog) == BPF_PROG_TYPE_SYSCALL ||
	       (bpf_program__type(prog) == BPF_PROG_TYPE_TRACING && t == BPF_TRACE_ITER);
}

static int attach_all(struct mno_probe_slot *s)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, s->obj)
	{
		int r;

		if (!bpf_program__autoload(prog) || is_passive(prog))
			continue;
		r = attach_one(s, prog);
		if (r < 0)
			return r;
	}
	if (s->probe->carries_rider)
		mno_ride_carry(&s->owner->ride, true);
	return 0;
}

static void pin_all(struct mno_probes *p, struct mno_probe_slot *s)
{
	char dir[512], path[600];
	struct bpf_program *prog;
	struct bpf_map *map;

	if (!*p->pin_root)
		return;
	snprintf(dir, sizeof(dir), "%s/%s", p->pin_root, s->probe->name);
	mno_pins_remove(dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return;
	bpf_object__for_each_map(map, s->obj)
	{
		if (bpf_map__is_internal(map))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, bpf_map__name(map));
		if (bpf_obj_pin(bpf_map__fd(map), path) < 0)
			mno_debug("%s: %s", path, strerror(errno));
	}
	bpf_object__for_each_program(prog, s->obj)
	{
		if (bpf_program__fd(prog) < 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, bpf_program__name(prog));
		if (bpf_obj_pin(bpf_program__fd(prog), path) < 0)
			mno_debug("%s: %s", path, strerror(errno));
	}
}

static uint64_t object_bytes(struct mno_probe_slot *s)
{
	struct bpf_program *prog;
	struct bpf_map *map;
	uint64_t sum = 0;

	bpf_object__for_each_map(
		map, s->obj) if (bpf_map__fd(map) >= 0 && strncmp(bpf_map__name(map), "cgroup_", 7))
		sum += mno_bpf_fd_bytes(bpf_map__fd(map));
	bpf_object__for_each_program(prog, s->obj) if (bpf_program__fd(prog) >= 0) sum +=
		mno_bpf_fd_bytes(bpf_program__fd(prog));
	return sum;
}

static int climb(struct mno_probes *p, struct mno_probe_slot *s, size_t rung)
{
	int r = prepare(p, s, rung);

	if (r == 0)
		r = bpf_object__load(s->obj);
	if (r == 0)
		r = map_rings(p, s);
	if (r == 0 && s->probe->loaded)
		r = s->probe->loaded(s->priv, s->obj);
	if (r == 0)
		r = attach_all(s);
	return r;
}

int mno_probe_seed(struct mno_probe_slot *s)
{
	return s->probe->attached ? s->probe->attached(s->priv, s->obj, emit, s) : 0;
}

int mno_probe_load(struct mno_probes *p, struct mno_probe_slot *s)
{
	_cleanup_buf_ struct mno_buf log = {.max = 1 << 20};
	int r = -EOPNOTSUPP;

	s->reason[0] = '\0';
	for (size_t rung = 0; rung < s->probe->n_rungs; rung++) {
		char why[256];

		mno_buf_reset(&log);
		mno_libbpf_capture(&log);
		r = climb(p, s, rung);
		mno_libbpf_capture(NULL);
		if (r == 0) {
			s->rung = rung;
			s->state = rung ? MNO_PROBE_DEGRADED : MNO_PROBE_RUNNING;
			break;
		}
		mno_bpf_reason(r, mno_buf_cstr(&log), why, sizeof(why));
		if (!s->reason[0])
			snprintf(s->reason, sizeof(s->reason), "%s: %s", s->probe->rungs[rung].name,
				why);
		mno_probe_unload(p, s);
	}
	if (r < 0) {
		s->state = MNO_PROBE_FAILED;
		return r;
	}
	pin_all(p, s);
	s->bpf_bytes = object_bytes(s);
	r = mno_probe_seed(s);
	if (r < 0)
		snprintf(s->reason, sizeof(s->reason), "what ran before is unknown: %s",
			strerror(-r));
	return 0;
}

static void keep_totals(struct mno_probes *p, struct mno_probe_slot *s)
{
	for (unsigned c = 0; s->stats && c < p->n_cpus; c++) {
		s->past.seen += s->stats[c].seen;
		s->past.delivered += s->stats[c].delivered;
		s->past.sampled += s->stats[c].sampled;
		s->past.dropped += s->stats[c].dropped;
		s->past.errors += s->stats[c].errors;
	}
}

void mno_probe_unload(struct mno_probes *p, struct mno_probe_slot *s)
{
	char dir[512];

	if (s->probe->carries_rider)
		mno_ride_carry(&p->ride, false);
	if (s->probe->switch_rider)
		mno_ride_leave(&p->ride);
	for (size_t i = 0; i < s->n_links; i++)
		bpf_link__destroy(s->links[i]);
	free(s->links);
	s->links = NULL;
	s->n_links = 0;
	if (s->ring) { /* what is in the ring still counts */
		ring_buffer__consume(s->ring);
		s->past.drained += s->drained_now;
		s->drained_now = 0;
		ring_buffer__free(s->ring);
		s->ring = NULL;
	}
	keep_totals(p, s);
	if (s->stats)
		munmap(s->stats, s->stats_size);
	s->stats = NULL;
	if (s->priv)
		s->probe->close(s->priv);
	s->priv = NULL;
	s->obj = NULL;
	s->bpf_bytes = 0;
	s->until_ns = 0;
	s->state = MNO_PROBE_OFF;
	if (*p->pin_root) {
		snprintf(dir, sizeof(dir), "%s/%s", p->pin_root, s->probe->name);
		mno_pins_remove(dir);
		rmdir(dir);
	}
}
