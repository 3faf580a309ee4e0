/* SPDX-License-Identifier: Apache-2.0 */
/* From the slots' counters to series: sums over banks, only for slots in use. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include "sched_user.h"

static const struct {
	const char *text;
	uint64_t ns;
} bounds[MNO_SCHED_BOUNDS] = {
	{"1e-06", 1000},
	{"1e-05", 10000},
	{"0.0001", 100000},
	{"0.001", 1000000},
	{"0.01", 10000000},
	{"0.1", 100000000},
	{"1", 1000000000},
	{"+Inf", UINT64_MAX},
};

static const char *const wait_names[] = {
#define X(name, text, help) text,
	MNO_WAIT_CLASSES(X)
#undef X
};

static const struct mno_family f_cpu = {"mno_cgroup_cpu_seconds_total",
	"CPU time of the tasks of a cgroup, its children not included.", MNO_COUNTER};
static const struct mno_family f_switches = {
	"mno_cgroup_switches_total", "Times a task of the cgroup got a CPU.", MNO_COUNTER};
static const struct mno_family f_preempted = {"mno_cgroup_preemptions_total",
	"Times a task of the cgroup lost its CPU while it could have run on.", MNO_COUNTER};
static const struct mno_family f_runq = {"mno_cgroup_runqueue_wait_seconds",
	"How long tasks of the cgroup waited for a CPU while they could run.", MNO_HISTOGRAM};
static const struct mno_family f_wait = {"mno_cgroup_wait_seconds_total",
	"Time that tasks of the cgroup slept, by what they waited for.", MNO_COUNTER};
static const struct mno_family f_culprit = {"mno_cgroup_culprit_seconds_total",
	"Time that the victim's tasks waited for a CPU while the culprit had it; the three largest "
	"culprits of each victim.",
	MNO_COUNTER};

uint64_t mno_sched_bound(unsigned i, const char **ret_text)
{
	*ret_text = bounds[i].text;
	return bounds[i].ns;
}

void mno_sched_wait_table(uint8_t table[static MNO_SCHED_SYSCALLS])
{
	static const struct {
		uint16_t nr, class;
	} rows[] = {
#define W(class, name) {SYS_##name, MNO_WAIT_##class},
#include "sched/wait_syscalls.def"
#undef W
	};

	memset(table, MNO_WAIT_OTHER, MNO_SCHED_SYSCALLS);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].nr < MNO_SCHED_SYSCALLS)
			table[rows[i].nr] = (uint8_t)rows[i].class;
}

/* First histogram bucket above each bound: bucket ends at or below the bound come before it. */
static unsigned bound_bucket(unsigned b)
{
	unsigned i = 0;

	if (b == MNO_SCHED_BOUNDS - 1)
		return MNO_HIST_BUCKETS;
	while (i < MNO_HIST_BUCKETS - 1 && mno_hist_lower(i + 1) <= bounds[b].ns + 1)
		i++;
	return i;
}

static void no_series(struct mno_sched_slot *s)
{
	s->s_cpu = s->s_switches = s->s_preempted = s->s_sum = s->s_count = MNO_NO_SERIES;
	for (size_t i = 0; i < MNO_WAIT_N; i++)
		s->s_wait[i] = MNO_NO_SERIES;
	for (size_t i = 0; i < MNO_SCHED_BOUNDS; i++)
		s->s_bucket[i] = MNO_NO_SERIES;
	for (size_t i = 0; i < MNO_SCHED_CULPRITS; i++)
		s->culprits[i] = (struct mno_sched_culprit){.series = MNO_NO_SERIES};
}

int mno_sched_table_init(struct mno_sched_table *t, const struct mno_sched_maps *maps)
{
	t->maps = *maps;
	t->culprits_seen = calloc((size_t)MNO_SCHED_SLOTS * MNO_SCHED_SLOTS, sizeof(uint64_t));
	if (!t->culprits_seen)
		return -ENOMEM;
	for (unsigned b = 0; b < MNO_SCHED_BOUNDS; b++)
		t->bucket_end[b] = bound_bucket(b);
	for (size_t i = 0; i < MNO_SCHED_SLOTS; i++)
		no_series(&t->slots[i]);
	return 0;
}

static struct mno_sched_cgroup *bank(const struct mno_sched_table *t, unsigned b, uint32_t slot)
{
	return &t->maps.cgroups[b * MNO_SCHED_SLOTS + slot];
}

#define READ(x)    __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define ADD(x, n)  __atomic_fetch_add(&(x), n, __ATOMIC_RELAXED)
#define CELL(v, c) ((size_t)(v)*MNO_SCHED_SLOTS + (c))

static void sum_hist(struct mno_sched_table *t, struct mno_sched_slot *s, uint32_t slot)
{
	uint64_t cumulative = 0, before = 0, part;
	unsigned first = 0;

	for (unsigned b = 0; b < MNO_SCHED_BOUNDS; b++) {
		uint32_t range = 0;

		for (unsigned k = 0; k < t->maps.banks; k++)
			for (unsigned i = first; i < t->bucket_end[b]; i++)
				range += READ(bank(t, k, slot)->runq_hist[i]);
		first = t->bucket_end[b];
		part = s->now.runq_le[b] - before + (uint32_t)(range - s->range_seen[b]);
		before = s->now.runq_le[b];
		s->range_seen[b] = range;
		cumulative += part;
		s->now.runq_le[b] = cumulative;
	}
}

static void sum_slot(struct mno_sched_table *t, struct mno_sched_slot *s, uint32_t slot)
{
	struct mno_sched_sums n = {};

	for (unsigned k = 0; k < t->maps.banks; k++) {
		struct mno_sched_cgroup *g = bank(t, k, slot);

		n.cpu_ns += READ(g->cpu_ns);
		n.switches += READ(g->switches);
		n.preempted += READ(g->preempted);
		n.runq_ns += READ(g->runq_ns);
		for (size_t w = 0; w < MNO_WAIT_N; w++) {
			n.wait[w].ns += READ(g->wait[w].ns);
			n.wait[w].count += READ(g->wait[w].count);
		}
	}
	s->before = s->now;
	memcpy(n.runq_le, s->now.runq_le, sizeof(n.runq_le));
	s->now = n;
	if (n.switches != s->before.switches)
		sum_hist(t, s, slot);
}

/*
 * Stints that have not ended: their part so far. The newest switch of any CPU is "now" in the
 * scheduler's clock: the tick thread itself was switched in a moment ago.
 */
static void add_open_stints(struct mno_sched_table *t)
{
	uint64_t now = 0;

	for (unsigned c = 0; c < t->maps.n_cpus; c++)
		now = MNO_MAX(now, READ(mno_sched_cpu_at(&t->maps, c)->since));
	for (unsigned c = 0; c < t->maps.n_cpus; c++) {
		const struct mno_sched_cpu *cpu = mno_sched_cpu_at(&t->maps, c);
		uint64_t since = READ(cpu->since);

		if (READ(cpu->pid) && since && since < now)
			t->slots[READ(cpu->slot) % MNO_SCHED_SLOTS].now.cpu_ns += now - since;
	}
}

static void series_add(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *l, size_t n, uint32_t *ret)
{
	if (*ret == MNO_NO_SERIES && mno_metrics_add(m, f, suffix, l, n, ret) < 0)
		*ret = MNO_NO_SERIES; /* refused ones are counted by the table */
}

static void series_set(struct mno_metrics *m, uint32_t series, double v)
{
	if (series != MNO_NO_SERIES)
		mno_metrics_set(m, series, v);
}

static void series_drop(struct mno_metrics *m, uint32_t *series)
{
	if (*series != MNO_NO_SERIES)
		mno_metrics_remove(m, *series);
	*series = MNO_NO_SERIES;
}

static void slot_series(struct mno_metrics *m, struct mno_sched_slot *s)
{
	struct mno_label l[2] = {{"cgroup", s->path}};

	if (s->s_cpu == MNO_NO_SERIES) {
		series_add(m, &f_cpu, NULL, l, 1, &s->s_cpu);
		series_add(m, &f_switches, NULL, l, 1, &s->s_switches);
		series_add(m, &f_preempted, NULL, l, 1, &s->s_preempted);
		series_add(m, &f_runq, "_sum", l, 1, &s->s_sum);
		series_add(m, &f_runq, "_count", l, 1, &s->s_count);
		for (size_t b = 0; b < MNO_SCHED_BOUNDS; b++) {
			l[1] = (struct mno_label){"le", bounds[b].text};
			series_add(m, &f_runq, "_bucket", l, 2, &s->s_bucket[b]);
		}
	}
	for (size_t w = 0; w < MNO_WAIT_N; w++)
		if (s->now.wait[w].count && s->s_wait[w] == MNO_NO_SERIES) {
			l[1] = (struct mno_label){"class", wait_names[w]};
			series_add(m, &f_wait, NULL, l, 2, &s->s_wait[w]);
		}
}

static double seconds(uint64_t ns)
{
	return (double)ns / NS_PER_SEC;
}

static void slot_set(struct mno_metrics *m, const struct mno_sched_slot *s)
{
	const struct mno_sched_sums *n = &s->now;

	series_set(m, s->s_cpu, seconds(n->cpu_ns));
	series_set(m, s->s_switches, (double)n->switches);
	series_set(m, s->s_preempted, (double)n->preempted);
	series_set(m, s->s_sum, seconds(n->runq_ns));
	series_set(m, s->s_count, (double)n->runq_le[MNO_SCHED_BOUNDS - 1]);
	for (size_t b = 0; b < MNO_SCHED_BOUNDS; b++)
		series_set(m, s->s_bucket[b], (double)n->runq_le[b]);
	for (size_t w = 0; w < MNO_WAIT_N; w++)
		series_set(m, s->s_wait[w], seconds(n->wait[w].ns));
}

/* Puts @x into the @n largest, largest first; equal ones by slot number. */
static void top_put(struct mno_sched_culprit *top, size_t n, struct mno_sched_culprit x)
{
	for (size_t i = 0; i < n; i++) {
		struct mno_sched_culprit old = top[i];

		if (x.ns <= old.ns)
			continue;
		top[i] = x;
		x = old;
	}
}

static void culprit_series(struct mno_sched_table *t, struct mno_metrics *m,
	struct mno_sched_slot *s, struct mno_sched_culprit *top)
{
	for (size_t i = 0; i < MNO_SCHED_CULPRITS; i++) { /* those that stay keep their series */
		struct mno_sched_culprit *old = &s->culprits[i];
		size_t k = 0;

		while (k < MNO_SCHED_CULPRITS &&
			!(top[k].ns && old->series != MNO_NO_SERIES && top[k].slot == old->slot &&
				top[k].gen == old->gen))
			k++;
		if (k < MNO_SCHED_CULPRITS)
			top[k].series = old->series;
		else
			series_drop(m, &old->series);
	}
	memcpy(s->culprits, top, sizeof(s->culprits));
	for (size_t i = 0; i < MNO_SCHED_CULPRITS && s->culprits[i].ns; i++) {
		struct mno_sched_culprit *c = &s->culprits[i];
		struct mno_label l[] = {{"victim", s->path}, {"culprit", t->slots[c->slot].path}};

		series_add(m, &f_culprit, NULL, l, 2, &c->series);
		series_set(m, c->series, seconds(c->ns));
	}
}

static void slot_culprits(struct mno_sched_table *t, struct mno_metrics *m, uint32_t victim,
	const struct mno_cgroup *v, size_t n)
{
	struct mno_sched_culprit top[MNO_SCHED_CULPRITS];
	struct mno_sched_slot *s = &t->slots[victim];

	for (size_t i = 0; i < MNO_SCHED_CULPRITS; i++)
		top[i] = (struct mno_sched_culprit){.series = MNO_NO_SERIES};
	s->top_ns = s->top_slot = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t c = v[i].slot;
		uint64_t ns = READ(t->maps.culprits[CELL(victim, c)]),
			 *seen = &t->culprits_seen[CELL(victim, c)];

		if (!ns || !t->slots[c].used)
			continue;
		if (ns - *seen > s->top_ns) {
			s->top_ns = ns - *seen;
			s->top_slot = c;
		}
		*seen = ns;
		top_put(top, MNO_SCHED_CULPRITS,
			(struct mno_sched_culprit){
				.slot = c, .gen = v[i].gen, .ns = ns, .series = MNO_NO_SERIES});
	}
	culprit_series(t, m, s, top);
}

static void slot_drop(struct mno_metrics *m, struct mno_sched_slot *s)
{
	series_drop(m, &s->s_cpu);
	series_drop(m, &s->s_switches);
	series_drop(m, &s->s_preempted);
	series_drop(m, &s->s_sum);
	series_drop(m, &s->s_count);
	for (size_t w = 0; w < MNO_WAIT_N; w++)
		series_drop(m, &s->s_wait[w]);
	for (size_t b = 0; b < MNO_SCHED_BOUNDS; b++)
		series_drop(m, &s->s_bucket[b]);
	for (size_t i = 0; i < MNO_SCHED_CULPRITS; i++)
		series_drop(m, &s->culprits[i].series);
	free(s->path);
	*s = (struct mno_sched_slot){};
	no_series(s);
}

void mno_sched_table_done(struct mno_sched_table *t)
{
	for (size_t i = 0; i < MNO_SCHED_SLOTS && t->metrics; i++)
		slot_drop(t->metrics, &t->slots[i]);
	free(t->culprits_seen);
	t->culprits_seen = NULL;
}

/* A cgroup that came and went unseen: its figures belong to ~other. */
static void slot_fold(struct mno_sched_table *t, uint32_t slot)
{
	for (unsigned k = 0; k < t->maps.banks; k++) {
		struct mno_sched_cgroup *g = bank(t, k, slot), *o = bank(t, k, 0);

		ADD(o->cpu_ns, g->cpu_ns);
		ADD(o->switches, g->switches);
		ADD(o->preempted, g->preempted);
		ADD(o->runq_ns, g->runq_ns);
		for (size_t w = 0; w < MNO_WAIT_N; w++) {
			ADD(o->wait[w].ns, g->wait[w].ns);
			ADD(o->wait[w].count, g->wait[w].count);
		}
		for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
			ADD(o->runq_hist[i], g->runq_hist[i]);
	}
}

static void slot_zero(struct mno_sched_table *t, uint32_t slot)
{
	for (unsigned k = 0; k < t->maps.banks; k++)
		memset(bank(t, k, slot), 0, sizeof(struct mno_sched_cgroup));
	for (uint32_t i = 0; i < MNO_SCHED_SLOTS; i++) {
		t->maps.culprits[CELL(slot, i)] = t->maps.culprits[CELL(i, slot)] = 0;
		if (t->culprits_seen[CELL(slot, i)])
			t->culprits_seen[CELL(slot, i)] = 0;
		if (t->culprits_seen[CELL(i, slot)])
			t->culprits_seen[CELL(i, slot)] = 0;
	}
}

static void take_back(
	struct mno_sched_table *t, struct mno_metrics *m, const struct mno_cgroup_view *slots)
{

	for (size_t i = 0; i < slots->n_retired; i++) {
		uint32_t gone = slots->retired[i];

		if (!t->slots[gone].used)
			slot_fold(t, gone);
		slot_drop(m, &t->slots[gone]);
		slot_zero(t, gone);
	}
}

static bool slot_meet(struct mno_sched_table *t, struct mno_metrics *m, const struct mno_cgroup *g)
{
	struct mno_sched_slot *s = &t->slots[g->slot];

	if (s->used && s->gen == g->gen)
		return true;
	if (s->used) { /* its end was missed */
		slot_drop(m, s);
		slot_zero(t, g->slot);
	}
	s->path = strdup(g->path);
	s->gen = g->gen;
	s->used = s->path;
	return s->used;
}

void mno_sched_table_tick(struct mno_sched_table *t, struct mno_metrics *m,
	const struct mno_cgroup_view *slots, uint64_t interval_ns)
{
	const struct mno_cgroup *v = slots->v;
	size_t n = slots->n;

	t->metrics = m;
	t->interval_ns = interval_ns;
	take_back(t, m, slots);
	for (size_t i = 0; i < n; i++)
		if (slot_meet(t, m, &v[i]))
			sum_slot(t, &t->slots[v[i].slot], v[i].slot);
	add_open_stints(t);
	for (size_t i = 0; i < n; i++) {
		struct mno_sched_slot *s = &t->slots[v[i].slot];

		if (!s->used || !s->now.switches)
			continue;
		/* a stint that ended while we read is in neither part: never step back */
		s->now.cpu_ns = MNO_MAX(s->now.cpu_ns, s->before.cpu_ns);
		slot_series(m, s);
		slot_set(m, s);
		slot_culprits(t, m, v[i].slot, v, n);
	}
}

static double percent(uint64_t now, uint64_t before, uint64_t interval)
{
	return now > before && interval ? 100.0 * (double)(now - before) / (double)interval : 0;
}

static void slot_json(
	const struct mno_sched_table *t, const struct mno_sched_slot *s, struct mno_json *j)
{
	uint64_t dt = t->interval_ns;

	mno_json_obj(j);
	mno_json_kstr(j, "path", s->path);
	mno_json_kf64(j, "cpu_percent", percent(s->now.cpu_ns, s->before.cpu_ns, dt));
	mno_json_kf64(j, "wait_percent", percent(s->now.runq_ns, s->before.runq_ns, dt));
	mno_json_kf64(j, "switches_per_second",
		percent(s->now.switches, s->before.switches, dt) / 100 * NS_PER_SEC);
	mno_json_kstr(j, "culprit", s->top_slot || s->top_ns ? t->slots[s->top_slot].path : NULL);
	if (s->top_ns)
		mno_json_kf64(j, "culprit_percent", percent(s->top_ns, 0, dt));
	else {
		mno_json_key(j, "culprit_percent");
		mno_json_null(j);
	}
	mno_json_key(j, "blocked_percent");
	mno_json_obj(j);
	for (size_t w = 0; w < MNO_WAIT_N; w++)
		if (s->s_wait[w] != MNO_NO_SERIES)
			mno_json_kf64(j, wait_names[w],
				percent(s->now.wait[w].ns, s->before.wait[w].ns, dt));
	mno_json_end(j);
	mno_json_end(j);
}

void mno_sched_table_json(const struct mno_sched_table *t, struct mno_json *j)
{
	mno_json_kf64(j, "interval_seconds", seconds(t->interval_ns));
	mno_json_key(j, "cgroups");
	mno_json_arr(j);
	for (size_t i = 0; i < MNO_SCHED_SLOTS; i++)
		if (t->slots[i].used && t->slots[i].now.switches)
			slot_json(t, &t->slots[i], j);
	mno_json_end_arr(j);
}
