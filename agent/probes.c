/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <bpf/libbpf.h>
#include "mno/log.h"
#include "mno/time.h"
#include "probe_util.h"
#include "probes_internal.h"

static const struct mno_probe *const all_probes[] = {
#define PROBE(name, id) &mno_probe_##name,
#include "probes.def"
#undef PROBE
};

const char *mno_probe_state_name(enum mno_probe_state s)
{
	static const char *const names[] = {"off", "running", "degraded", "failed", "shed"};

	return (size_t)s < ARRAY_SIZE(names) ? names[s] : "?";
}

const struct mno_kinds *mno_probes_kinds(void)
{
	/* built once from the probes' tables; filled before the first thread starts */
	static const struct mno_kind *v[MNO_MAX_PROBES * 8];
	static struct mno_kinds kinds = {.v = v};

	if (kinds.n)
		return &kinds;
	for (size_t i = 0; i < ARRAY_SIZE(all_probes); i++)
		for (size_t k = 0; k < all_probes[i]->n_kinds && kinds.n < ARRAY_SIZE(v); k++)
			v[kinds.n++] = &all_probes[i]->kinds[k];
	return &kinds;
}

/* 0, or why the pin directory cannot be ours. */
static int take_pin_root(struct mno_probes *p)
{
	bool mounted = false;
	int r = mno_bpffs_prepare(p->opts.pin_root, &mounted);

	if (r < 0)
		return r;
	if (mounted)
		mno_info("mounted bpffs at /sys/fs/bpf");
	p->pin_lock_fd = open(p->opts.pin_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->pin_lock_fd < 0 || flock(p->pin_lock_fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	mno_pins_remove(p->opts.pin_root); /* a killed agent's leftovers are replaced */
	/* by fd: another user that we become later may not walk through /sys/fs/bpf */
	snprintf(p->pin_root, sizeof(p->pin_root), "/proc/self/fd/%d", p->pin_lock_fd);
	return 0;
}

static void own_pin_root(struct mno_probes *p)
{
	int r = p->opts.pin_root ? take_pin_root(p) : 0;

	if (r == 0)
		return;
	if (r == -EWOULDBLOCK)
		snprintf(p->unpinned, sizeof(p->unpinned), "another agent uses %s",
			p->opts.pin_root);
	else
		snprintf(
			p->unpinned, sizeof(p->unpinned), "%s: %s", p->opts.pin_root, strerror(-r));
	mno_warn("BPF objects are not pinned: %s. bpftool still sees them by id.", p->unpinned);
}

const char *mno_probes_unpinned(const struct mno_probes *p)
{
	return p ? p->unpinned : "";
}

int mno_probes_new(const struct mno_probes_opts *o, struct mno_probes **ret)
{
	_cleanup_free_ struct mno_probes *p = calloc(1, sizeof(*p));
	int cpus = libbpf_num_possible_cpus();

	if (!p)
		return -ENOMEM;
	if (cpus < 0)
		return cpus;
	p->opts = *o;
	if (!p->opts.budget_percent)
		p->opts.budget_percent = 1;
	p->n_cpus = MNO_MIN((unsigned)cpus, (unsigned)MNO_MAX_CPUS);
	for (p->banks = 1; p->banks < 4 && p->banks < p->n_cpus;)
		p->banks *= 2;
	p->pin_lock_fd = p->cost_fd = -1;
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0)
		return -errno;
	pthread_mutex_init(&p->published_lock, NULL);
	if (mno_ride_init(&p->ride) < 0)
		mno_debug("no program array: every probe has its own program on switches");
	p->n = MNO_MIN(ARRAY_SIZE(all_probes), (size_t)MNO_MAX_PROBES);
	for (size_t i = 0; i < p->n; i++) {
		p->slots[i].probe = all_probes[i];
		p->slots[i].index = i;
		p->slots[i].owner = p;
		pthread_mutex_init(&p->slots[i].lock, NULL);
		mno_probe_publish(p, &p->slots[i]);
	}
	own_pin_root(p);
	*ret = TAKE_PTR(p);
	return 0;
}

void mno_probes_stop(struct mno_probes *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		pthread_mutex_lock(&s->lock);
		mno_probe_unload(p, s);
		mno_probe_publish(p, s);
		pthread_mutex_unlock(&s->lock);
	}
}

struct mno_probes *mno_probes_free(struct mno_probes *p)
{
	if (!p)
		return NULL;
	mno_probes_stop(p);
	for (size_t i = 0; i < p->n; i++)
		pthread_mutex_destroy(&p->slots[i].lock);
	mno_close_p(&p->cost_fd);
	if (*p->pin_root)
		rmdir(p->opts.pin_root);
	mno_close_p(&p->pin_lock_fd);
	mno_close_p(&p->epoll_fd);
	mno_ride_done(&p->ride);
	pthread_mutex_destroy(&p->published_lock);
	free(p);
	return NULL;
}

void mno_probes_set_sink(struct mno_probes *p,
	void (*fn)(void *arg, size_t probe, const void *rec, size_t len), void *arg)
{
	p->on_record = fn;
	p->on_record_arg = arg;
}

int mno_probes_start(struct mno_probes *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		if (!s->probe->by_default)
			continue;
		pthread_mutex_lock(&s->lock);
		mno_probe_load(p, s);
		mno_probe_publish(p, s);
		pthread_mutex_unlock(&s->lock);
		if (s->state == MNO_PROBE_FAILED)
			mno_warn("probe %s does not run: %s", s->probe->name, s->reason);
	}
	return 0;
}

static struct mno_probe_slot *find(struct mno_probes *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->slots[i].probe->name, name))
			return &p->slots[i];
	return NULL;
}

int mno_probes_enable(struct mno_probes *p, const char *name, uint64_t for_ns)
{
	struct mno_probe_slot *s = find(p, name);
	int r;

	if (!s)
		return -ENOENT;
	pthread_mutex_lock(&s->lock);
	r = s->obj ? -EALREADY : mno_probe_load(p, s);
	if (r == 0 && for_ns)
		s->until_ns = mno_now_ns(CLOCK_BOOTTIME) + for_ns;
	mno_probe_publish(p, s);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int mno_probes_disable(struct mno_probes *p, const char *name)
{
	struct mno_probe_slot *s = find(p, name);
	int r = 0;

	if (!s)
		return -ENOENT;
	pthread_mutex_lock(&s->lock);
	if (s->obj)
		mno_probe_unload(p, s);
	else
		r = -EALREADY;
	s->reason[0] = '\0';
	s->state = MNO_PROBE_OFF;
	mno_probe_publish(p, s);
	pthread_mutex_unlock(&s->lock);
	return r;
}

void mno_probe_publish(struct mno_probes *p, struct mno_probe_slot *s)
{
	struct mno_probe_totals t = s->past;
	struct mno_probe_status st = {.probe = s->probe, .state = s->state};

	for (unsigned c = 0; s->stats && c < p->n_cpus; c++) {
		const volatile struct mno_pstats *k = &s->stats[c];

		/* outcomes before seen: a record between the two shows as in flight, never as lost */
		t.sampled += k->sampled;
		t.dropped += k->dropped;
		t.errors += k->errors;
		st.runs += k->runs;
		t.seen += k->seen;
	}
	st.stored = t.stored;
	st.sampled = t.sampled;
	st.dropped = t.dropped + t.lost;
	st.seen = st.stored + st.sampled + st.dropped;
	st.in_flight = t.seen > st.seen ? t.seen - st.seen : 0;
	st.errors = t.errors;
	st.missed = s->obj ? s->missed : 0;
	st.attach = s->obj ? s->probe->rungs[s->rung].name : "";
	st.cost_ns_per_event = s->cost_ns_per_event;
	st.cpu_percent = s->obj ? s->cpu_percent : 0;
	st.bpf_bytes = s->bpf_bytes;
	st.until_ns = s->until_ns;
	snprintf(st.reason, sizeof(st.reason), "%s", s->reason);
	pthread_mutex_lock(&p->published_lock);
	p->published[s->index] = st;
	pthread_mutex_unlock(&p->published_lock);
}

bool mno_probes_status(struct mno_probes *p, size_t i, struct mno_probe_status *ret)
{
	if (i >= p->n)
		return false;
	pthread_mutex_lock(&p->published_lock);
	*ret = p->published[i];
	pthread_mutex_unlock(&p->published_lock);
	return true;
}

void mno_probes_totals(struct mno_probes *p, struct mno_probe_status *ret)
{
	struct mno_probe_status t = {0}, s;

	for (size_t i = 0; mno_probes_status(p, i, &s); i++) {
		t.seen += s.seen;
		t.stored += s.stored;
		t.sampled += s.sampled;
		t.dropped += s.dropped;
		t.in_flight += s.in_flight;
		t.errors += s.errors;
		t.missed += s.missed;
		t.runs += s.runs;
		t.bpf_bytes += s.bpf_bytes;
		t.cpu_percent += s.cpu_percent;
	}
	*ret = t;
}

void mno_probes_reseed(struct mno_probes *p, uint16_t id)
{
	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		if (s->probe->id != id)
			continue;
		pthread_mutex_lock(&s->lock);
		if (s->obj)
			mno_probe_seed(s);
		pthread_mutex_unlock(&s->lock);
	}
}

double mno_probes_budget(const struct mno_probes *p)
{
	return p->opts.budget_percent * p->n_cpus;
}

static void tick_slot(struct mno_probes *p, struct mno_probe_slot *s, uint64_t now_ns)
{
	struct mno_probe_tick t = {
		.metrics = p->opts.metrics, .cgroups = p->opts.cgroups, .now_ns = now_ns};

	pthread_mutex_lock(&s->lock);
	if (s->obj && s->until_ns && now_ns >= s->until_ns) {
		mno_info("probe %s: its time is over, detached", s->probe->name);
		mno_probe_unload(p, s);
	}
	if (s->obj && s->probe->tick) {
		t.interval_ns = s->last_tick_ns ? now_ns - s->last_tick_ns : 0;
		s->probe->tick(s->priv, &t);
	}
	s->last_tick_ns = s->obj ? now_ns : 0;
	mno_probe_publish(p, s);
	pthread_mutex_unlock(&s->lock);
}

void mno_probes_tick(struct mno_probes *p, uint64_t now_ns)
{
	for (size_t i = 0; i < p->n; i++)
		tick_slot(p, &p->slots[i], now_ns);
	mno_probes_measure(p, now_ns);
}

size_t mno_probes_drain(struct mno_probes *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		pthread_mutex_lock(&s->lock);
		if (s->ring) {
			ring_buffer__consume(s->ring);
			n += s->drained_now;
			s->past.drained += s->drained_now;
			s->drained_now = 0;
		}
		pthread_mutex_unlock(&s->lock);
	}
	return n;
}

void mno_probes_wait(struct mno_probes *p, int timeout_ms)
{
	struct epoll_event ev[MNO_MAX_PROBES];

	(void)epoll_wait(p->epoll_fd, ev, ARRAY_SIZE(ev), timeout_ms);
}

void mno_probes_account(struct mno_probes *p, size_t i, uint64_t stored, uint64_t dropped)
{
	struct mno_probe_slot *s = i < p->n ? &p->slots[i] : NULL;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->past.stored += stored;
	s->past.lost += dropped;
	mno_probe_publish(p, s);
	pthread_mutex_unlock(&s->lock);
}

int mno_probes_snapshot(struct mno_probes *p, const char *name, struct mno_json *j)
{
	struct mno_probe_slot *s = find(p, name);
	int r = -EAGAIN;

	if (!s)
		return -ENOENT;
	pthread_mutex_lock(&s->lock);
	if (s->obj && s->probe->snapshot) {
		s->probe->snapshot(s->priv, p->opts.cgroups, j);
		r = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}
