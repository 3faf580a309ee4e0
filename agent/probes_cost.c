/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the probes cost, measured by the kernel's own run-time statistics. They tax every BPF
 * program of the host while they are on (some 50 ns a run), so they are on for one second in
 * thirty. Over the budget for half a minute, the probe of the least value that costs a good part
 * of it is shed; five minutes later it is tried again. Probes that somebody switched on for a stated
 * time neither count nor go.
 */
#include <errno.h>
#include <stdio.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/log.h"
#include "privilege.h"
#include "probes_internal.h"

#define WINDOW_NS  (1 * NS_PER_SEC)
#define PAUSE_NS   (29 * NS_PER_SEC)
#define FIRST_NS   (3 * NS_PER_SEC)
#define OVER_LIMIT 15 /* measurements in a row, one in two seconds */
#define SHED_NS    (300 * NS_PER_SEC)
#define SHED_SHARE 0.1 /* of all probes' cost: shedding one below it would not help */

static void run_stats(struct mno_probe_slot *s, uint64_t *ret_ns, uint64_t *ret_cnt)
{
	struct bpf_program *prog;

	*ret_ns = *ret_cnt = 0;
	s->missed = 0;
	bpf_object__for_each_program(prog, s->obj)
	{
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);

		if (bpf_program__fd(prog) < 0 ||
			bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) < 0)
			continue;
		*ret_ns += info.run_time_ns;
		*ret_cnt += info.run_cnt;
		s->missed += info.recursion_misses;
	}
}

static void begin_window(struct mno_probes *p, uint64_t now_ns)
{
	p->cost_fd = mno_broker_stats_fd(p->opts.broker);
	if (p->cost_fd < 0) {
		p->cost_next_ns = UINT64_MAX; /* no right to: the price stays unknown, shown as 0 */
		return;
	}
	p->cost_begin_ns = now_ns;
	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		pthread_mutex_lock(&s->lock);
		if (s->obj)
			run_stats(s, &s->cost_ns0, &s->cost_cnt0);
		pthread_mutex_unlock(&s->lock);
	}
}

static double end_window(struct mno_probes *p, uint64_t now_ns)
{
	double total = 0, span = (double)(now_ns - p->cost_begin_ns);

	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];
		uint64_t ns, cnt;

		pthread_mutex_lock(&s->lock);
		if (s->obj) {
			run_stats(s, &ns, &cnt);
			/* a probe loaded within the window starts from zero: counts fit as they are */
			ns -= MNO_MIN(ns, s->cost_ns0);
			cnt -= MNO_MIN(cnt, s->cost_cnt0);
			if (cnt)
				s->cost_ns_per_event = ns / cnt;
			s->cpu_percent = 100.0 * (double)ns / span;
			total += s->until_ns ? 0 : s->cpu_percent;
		}
		s->cost_ns0 = s->cost_cnt0 = 0;
		pthread_mutex_unlock(&s->lock);
	}
	mno_close_p(&p->cost_fd);
	p->cost_fd = -1;
	return total;
}

static bool may_shed(const struct mno_probe_slot *s, double percent)
{
	return s->obj && !s->until_ns && s->probe->value < 100 &&
	       s->cpu_percent >= percent * SHED_SHARE;
}

static void shed_one(struct mno_probes *p, double percent, uint64_t now_ns)
{
	struct mno_probe_slot *least = NULL;

	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		pthread_mutex_lock(&s->lock);
		if (may_shed(s, percent) && (!least || s->probe->value < least->probe->value))
			least = s;
		pthread_mutex_unlock(&s->lock);
	}
	if (!least)
		return;
	pthread_mutex_lock(&least->lock);
	if (!least->obj) { /* its user took it out meanwhile */
		pthread_mutex_unlock(&least->lock);
		return;
	}
	mno_probe_unload(p, least);
	least->state = MNO_PROBE_SHED;
	least->back_ns = now_ns + SHED_NS;
	snprintf(least->reason, sizeof(least->reason),
		"over the budget: all probes took %.2f %% of a core, %.2f %% is allowed; this one "
		"is worth least. Tried again in 5 min; at once: mnoctl probes enable %s",
		percent, mno_probes_budget(p), least->probe->name);
	mno_warn("probe %s is shed: %s", least->probe->name, least->reason);
	mno_probe_publish(p, least);
	pthread_mutex_unlock(&least->lock);
}

static void bring_back(struct mno_probes *p, uint64_t now_ns)
{
	for (size_t i = 0; i < p->n; i++) {
		struct mno_probe_slot *s = &p->slots[i];

		pthread_mutex_lock(&s->lock);
		if (s->state == MNO_PROBE_SHED && !s->obj && now_ns >= s->back_ns) {
			mno_info("probe %s is tried again", s->probe->name);
			mno_probe_load(p, s);
			mno_probe_publish(p, s);
		}
		pthread_mutex_unlock(&s->lock);
	}
}

void mno_probes_measure(struct mno_probes *p, uint64_t now_ns)
{
	double percent;
	bool over;

	bring_back(p, now_ns);
	if (!p->cost_next_ns)
		p->cost_next_ns = now_ns + FIRST_NS;
	if (p->cost_fd < 0) {
		if (now_ns >= p->cost_next_ns)
			begin_window(p, now_ns);
		return;
	}
	if (now_ns - p->cost_begin_ns < WINDOW_NS * 9 / 10)
		return;
	percent = end_window(p, now_ns);
	over = percent > mno_probes_budget(p);
	/* when it is too much, look again at once rather than in half a minute */
	p->cost_next_ns = now_ns + (over ? WINDOW_NS : PAUSE_NS);
	p->over_budget = over ? p->over_budget + 1 : 0;
	if (p->over_budget >= OVER_LIMIT) {
		p->over_budget = 0;
		shed_one(p, percent, now_ns);
	}
}
