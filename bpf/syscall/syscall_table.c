/* SPDX-License-Identifier: Apache-2.0 */
/* From the entries' counters to series, and entries back when their cgroup is gone. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "mno/hist.h"
#include "syscall_user.h"

#define TOP_PAIRS 40

static const struct {
	const char *text;
	uint64_t ns;
} bounds[MNO_SYSCALL_BOUNDS] = {
	{"1e-05", 10000},
	{"0.001", 1000000},
	{"0.1", 100000000},
	{"+Inf", UINT64_MAX},
};

static const struct mno_family f_count = {"mno_cgroup_syscalls_total",
	"System calls that returned, by cgroup and call (exit and exec's success have no return).",
	MNO_COUNTER};
static const struct mno_family f_errors = {
	"mno_cgroup_syscall_errors_total", "System calls that returned an error.", MNO_COUNTER};
static const struct mno_family f_latency = {"mno_cgroup_syscall_seconds",
	"How long system calls took, waiting included.", MNO_HISTOGRAM};

#define READ(x)        __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define ADD(x, n)      __atomic_fetch_add(&(x), n, __ATOMIC_RELAXED)
#define CELL(slot, nr) ((size_t)(slot)*MNO_SYSCALL_NRS + (nr))

static struct mno_syscall_entry *bank(const struct mno_syscall_table *t, unsigned b, uint32_t entry)
{
	return &t->maps.entries[b * MNO_SYSCALL_ENTRIES + entry];
}

static void no_series(struct mno_syscall_pair *p)
{
	p->s_count = p->s_errors = p->s_sum = p->s_hist_count = MNO_SYSCALL_NO_SERIES;
	for (size_t i = 0; i < MNO_SYSCALL_BOUNDS; i++)
		p->s_bucket[i] = MNO_SYSCALL_NO_SERIES;
}

static unsigned bound_bucket(uint64_t ns)
{
	unsigned i = 0;

	if (ns == UINT64_MAX)
		return MNO_HIST_BUCKETS;
	while (i < MNO_HIST_BUCKETS - 1 && mno_hist_lower(i + 1) <= ns + 1)
		i++;
	return i;
}

void mno_syscall_table_init(struct mno_syscall_table *t, const struct mno_syscall_maps *maps,
	int (*give_back)(void *arg, uint32_t entry), void *arg)
{
	t->maps = *maps;
	t->give_back = give_back;
	t->arg = arg;
	for (size_t i = 0; i < MNO_SYSCALL_BOUNDS; i++)
		t->bucket_end[i] = bound_bucket(bounds[i].ns);
	for (size_t i = 0; i < MNO_SYSCALL_ENTRIES; i++)
		no_series(&t->pairs[i]);
}

static void sum_hist(struct mno_syscall_table *t, struct mno_syscall_pair *p, uint32_t entry)
{
	uint64_t cumulative = 0, before = 0, part;
	unsigned first = 0;

	for (unsigned b = 0; b < MNO_SYSCALL_BOUNDS; b++) {
		uint32_t range = 0;

		for (unsigned k = 0; k < t->maps.banks; k++)
			for (unsigned i = first; i < t->bucket_end[b]; i++)
				range += READ(bank(t, k, entry)->hist[i]);
		first = t->bucket_end[b];
		part = p->le[b] - before + (uint32_t)(range - p->range_seen[b]);
		before = p->le[b];
		p->range_seen[b] = range;
		cumulative += part;
		p->le[b] = cumulative;
	}
}

static void sum_pair(struct mno_syscall_table *t, struct mno_syscall_pair *p, uint32_t entry)
{
	p->count_before = p->count;
	p->count = p->errors = p->ns = 0;
	for (unsigned k = 0; k < t->maps.banks; k++) {
		struct mno_syscall_entry *e = bank(t, k, entry);

		p->count += READ(e->count);
		p->errors += READ(e->errors);
		p->ns += READ(e->ns);
	}
	if (p->count != p->count_before)
		sum_hist(t, p, entry);
}

static void series_set(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *l, size_t n, uint32_t *series, double v)
{
	if (*series == MNO_SYSCALL_NO_SERIES && mno_metrics_add(m, f, suffix, l, n, series) < 0) {
		*series = MNO_SYSCALL_NO_SERIES; /* refused ones are counted by the table */
		return;
	}
	mno_metrics_set(m, *series, v);
}

static void pair_set(struct mno_metrics *m, struct mno_syscall_pair *p, const char *path)
{
	char text[32];
	struct mno_label l[3] = {
		{"cgroup", path}, {"syscall", mno_syscall_label(p->nr, text, sizeof(text))}};

	series_set(m, &f_count, NULL, l, 2, &p->s_count, (double)p->count);
	if (p->errors)
		series_set(m, &f_errors, NULL, l, 2, &p->s_errors, (double)p->errors);
	series_set(m, &f_latency, "_sum", l, 2, &p->s_sum, (double)p->ns / NS_PER_SEC);
	series_set(m, &f_latency, "_count", l, 2, &p->s_hist_count,
		(double)p->le[MNO_SYSCALL_BOUNDS - 1]);
	for (size_t b = 0; b < MNO_SYSCALL_BOUNDS; b++) {
		l[2] = (struct mno_label){"le", bounds[b].text};
		series_set(m, &f_latency, "_bucket", l, 3, &p->s_bucket[b], (double)p->le[b]);
	}
}

static void series_drop(struct mno_metrics *m, uint32_t *series)
{
	if (*series != MNO_SYSCALL_NO_SERIES)
		mno_metrics_remove(m, *series);
	*series = MNO_SYSCALL_NO_SERIES;
}

static void pair_drop(struct mno_metrics *m, struct mno_syscall_pair *p)
{
	series_drop(m, &p->s_count);
	series_drop(m, &p->s_errors);
	series_drop(m, &p->s_sum);
	series_drop(m, &p->s_hist_count);
	for (size_t b = 0; b < MNO_SYSCALL_BOUNDS; b++)
		series_drop(m, &p->s_bucket[b]);
	*p = (struct mno_syscall_pair){};
	no_series(p);
}

void mno_syscall_table_done(struct mno_syscall_table *t)
{
	for (size_t i = 0; i < MNO_SYSCALL_ENTRIES && t->metrics; i++)
		pair_drop(t->metrics, &t->pairs[i]);
	for (size_t i = 0; i < MNO_SYSCALL_SLOTS; i++) {
		free(t->paths[i]);
		t->paths[i] = NULL;
	}
}

/* Of a cgroup that came and went unseen: its figures belong to the rest. */
static void entry_fold(struct mno_syscall_table *t, uint32_t entry)
{
	for (unsigned k = 0; k < t->maps.banks; k++) {
		struct mno_syscall_entry *e = bank(t, k, entry), *o = bank(t, k, 0);

		ADD(o->count, e->count);
		ADD(o->errors, e->errors);
		ADD(o->ns, e->ns);
		for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
			ADD(o->hist[i], e->hist[i]);
	}
}

/* Takes an entry from its pair. Nobody counts in it: its cgroup is gone. */
static void entry_free(struct mno_syscall_table *t, struct mno_metrics *m, uint32_t entry)
{
	if (!t->pairs[entry].used)
		entry_fold(t, entry);
	pair_drop(m, &t->pairs[entry]);
	for (unsigned k = 0; k < t->maps.banks; k++)
		memset(bank(t, k, entry), 0, sizeof(struct mno_syscall_entry));
	t->give_back(t->arg, entry);
}

static unsigned slot_free(struct mno_syscall_table *t, struct mno_metrics *m, uint32_t slot)
{
	unsigned freed = 0;

	for (unsigned nr = 0; nr < MNO_SYSCALL_NRS; nr++) {
		uint32_t entry = (uint32_t)READ(t->maps.index[CELL(slot, nr)]);

		if (!entry)
			continue;
		t->maps.index[CELL(slot, nr)] = 0;
		if (entry >= MNO_SYSCALL_ENTRIES)
			continue;
		entry_free(t, m, entry);
		freed++;
	}
	free(t->paths[slot]);
	t->paths[slot] = NULL;
	return freed;
}

/* There are entries again: pairs that got none may try once more. */
static void forget_none_left(struct mno_syscall_table *t)
{
	for (size_t i = 0; i < (size_t)MNO_SYSCALL_SLOTS * MNO_SYSCALL_NRS; i++)
		if (READ(t->maps.index[i]) == MNO_SYSCALL_NONE_LEFT)
			__atomic_store_n(&t->maps.index[i], 0, __ATOMIC_RELAXED);
}

static void take_back(
	struct mno_syscall_table *t, struct mno_metrics *m, const struct mno_cgroup_view *slots)
{
	unsigned freed = 0;

	for (size_t i = 0; i < slots->n_retired; i++)
		freed += slot_free(t, m, slots->retired[i]);
	if (freed)
		forget_none_left(t);
}

static bool slot_meet(
	struct mno_syscall_table *t, struct mno_metrics *m, const struct mno_cgroup *g)
{
	if (t->paths[g->slot] && t->gens[g->slot] == g->gen)
		return true;
	if (t->paths[g->slot])
		slot_free(t, m, g->slot); /* its end was missed */
	t->paths[g->slot] = strdup(g->path);
	t->gens[g->slot] = g->gen;
	return t->paths[g->slot];
}

static void slot_tick(struct mno_syscall_table *t, struct mno_metrics *m, uint32_t slot)
{
	for (unsigned nr = 0; nr < MNO_SYSCALL_NRS; nr++) {
		uint32_t entry = (uint32_t)READ(t->maps.index[CELL(slot, nr)]);
		struct mno_syscall_pair *p = &t->pairs[entry % MNO_SYSCALL_ENTRIES];

		if (!entry || entry >= MNO_SYSCALL_ENTRIES)
			continue;
		p->used = true;
		p->slot = slot;
		p->gen = t->gens[slot];
		p->nr = (uint16_t)nr;
		sum_pair(t, p, entry);
		if (p->count)
			pair_set(m, p, t->paths[slot]);
	}
}

void mno_syscall_table_tick(struct mno_syscall_table *t, struct mno_metrics *m,
	const struct mno_cgroup_view *slots, uint64_t interval_ns)
{
	struct mno_syscall_pair *rest = &t->pairs[0];
	const struct mno_cgroup *v = slots->v;
	size_t n = slots->n;

	t->metrics = m;
	t->interval_ns = interval_ns;
	take_back(t, m, slots);
	for (size_t i = 0; i < n; i++)
		if (slot_meet(t, m, &v[i]))
			slot_tick(t, m, v[i].slot);
	sum_pair(t, rest, 0);
	rest->nr = MNO_SYSCALL_UNKNOWN;
	rest->used = rest->count > 0;
	if (rest->used)
		pair_set(m, rest, "~other");
}

static double per_second(const struct mno_syscall_table *t, uint64_t n)
{
	return t->interval_ns ? (double)n * NS_PER_SEC / (double)t->interval_ns : 0;
}

static void cgroups_json(const struct mno_syscall_table *t, struct mno_json *j)
{
	uint64_t sums[MNO_SYSCALL_SLOTS] = {};
	bool any[MNO_SYSCALL_SLOTS] = {};

	for (size_t i = 0; i < MNO_SYSCALL_ENTRIES; i++) {
		if (!t->pairs[i].used)
			continue;
		any[t->pairs[i].slot] = true;
		sums[t->pairs[i].slot] += t->pairs[i].count - t->pairs[i].count_before;
	}
	mno_json_key(j, "cgroups");
	mno_json_arr(j);
	for (size_t i = 0; i < MNO_SYSCALL_SLOTS; i++) {
		if (!t->paths[i] || !any[i])
			continue;
		mno_json_obj(j);
		mno_json_kstr(j, "path", t->paths[i]);
		mno_json_kf64(j, "syscalls_per_second", per_second(t, sums[i]));
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static double p99_ns(const struct mno_syscall_table *t, uint32_t entry)
{
	uint32_t hist[MNO_HIST_BUCKETS] = {};

	for (unsigned k = 0; k < t->maps.banks; k++)
		for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
			hist[i] += READ(bank(t, k, entry)->hist[i]);
	return mno_hist_quantile(hist, 0.99);
}

static void pair_json(const struct mno_syscall_table *t, uint32_t entry, struct mno_json *j)
{
	const struct mno_syscall_pair *p = &t->pairs[entry];
	char text[32];

	mno_json_obj(j);
	mno_json_kstr(j, "cgroup", entry ? t->paths[p->slot] : "~other");
	mno_json_kstr(j, "syscall", mno_syscall_label(p->nr, text, sizeof(text)));
	mno_json_kf64(j, "per_second", per_second(t, p->count - p->count_before));
	mno_json_ku64(j, "count", p->count);
	mno_json_ku64(j, "errors", p->errors);
	mno_json_kf64(j, "mean_seconds", (double)p->ns / (double)p->count / NS_PER_SEC);
	mno_json_kf64(j, "p99_seconds", p99_ns(t, entry) / NS_PER_SEC);
	mno_json_end(j);
}

/* The busiest pairs; a selection of few from few, so a plain search for the next will do. */
static void pairs_json(const struct mno_syscall_table *t, struct mno_json *j)
{
	bool shown[MNO_SYSCALL_ENTRIES] = {};

	mno_json_key(j, "calls");
	mno_json_arr(j);
	for (unsigned k = 0; k < TOP_PAIRS; k++) {
		const struct mno_syscall_pair *best = NULL;

		for (size_t i = 0; i < MNO_SYSCALL_ENTRIES; i++)
			if (t->pairs[i].used && t->pairs[i].count && !shown[i] &&
				(!best || t->pairs[i].count - t->pairs[i].count_before >
						  best->count - best->count_before))
				best = &t->pairs[i];
		if (!best)
			break;
		shown[best - t->pairs] = true;
		pair_json(t, (uint32_t)(best - t->pairs), j);
	}
	mno_json_end_arr(j);
}

void mno_syscall_table_json(const struct mno_syscall_table *t, struct mno_json *j)
{
	mno_json_kf64(j, "syscalls_interval_seconds", (double)t->interval_ns / NS_PER_SEC);
	cgroups_json(t, j);
	pairs_json(t, j);
}
