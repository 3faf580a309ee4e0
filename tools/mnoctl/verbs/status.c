/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "verbs.h"

#define MEMORY_BUDGET_MIB 64
#define CGROUP_ROWS       255 /* besides ~other */

/* Appends the name of each probe in @state, why is said below; returns how many. */
static size_t probes_in(
	struct ctl *c, struct json_object *probes, const char *state, struct mno_buf *text)
{
	size_t n = 0;

	for (size_t i = 0; i < jlen(probes); i++) {
		struct json_object *p = jidx(probes, i);

		if (strcmp(jstr(p, "state"), state) != 0)
			continue;
		mno_buf_addf(text, "%s%s", n++ ? ", " : "", ctl_esc(c, jstr(p, "name")));
	}
	return n;
}

/* "8/9 probes running"; those that were never meant to run do not count against. */
static size_t show_signals(struct ctl *c, struct json_object *probes)
{
	static const char *const bad[] = {"degraded", "failed", "shed"};
	_cleanup_buf_ struct mno_buf text = {0}, running = {0}, off = {0};
	size_t n = probes_in(c, probes, "running", &running), n_bad[ARRAY_SIZE(bad)], n_off;

	n_off = probes_in(c, probes, "off", &off);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_buf_ struct mno_buf names = {0};

		n_bad[i] = probes_in(c, probes, bad[i], &names);
		if (n_bad[i])
			mno_buf_addf(
				&text, "   %zu %s: %s", n_bad[i], bad[i], mno_buf_cstr(&names));
	}
	ctl_field(c, "signals",
		n_bad[1]              ? CTL_BAD
		: n_bad[0] + n_bad[2] ? CTL_WARN
				      : CTL_PLAIN,
		"%zu/%zu probes running%s%s%s", n, jlen(probes) - n_off, mno_buf_cstr(&text),
		n_off ? "   on demand: " : "", mno_buf_cstr(&off));
	return n_bad[1];
}

static bool show_stored(struct ctl *c, struct json_object *s)
{
	double bytes = jf64(s, "bytes"), samples = jf64(s, "samples");
	uint64_t lost = ju64(s, "rows_lost") + ju64(s, "events_lost") + ju64(s, "procs_lost");

	ctl_field(c, "stored", CTL_PLAIN,
		"%s series \u00b7 %s samples \u00b7 %s since the start \u00b7 %s on disk"
		", %s%s",
		ctl_exact(c, ju64(s, "series")), ctl_count(c, samples),
		ctl_things(c, ju64(s, "processes"), "process", "processes"), ctl_bytes(c, bytes),
		jtrue(s, "encrypted") ? "encrypted" : "not encrypted",
		ju64(s, "rollups_until_ms") > ju64(s, "first_ms") ? ", with rollups" : "");
	if (!*jstr(s, "last_error") && !lost)
		return true;
	ctl_field(c, "", CTL_BAD,
		"store: %s%slost %s rows, %s events, %s processes; %s failed commits",
		ctl_esc(c, jstr(s, "last_error")), *jstr(s, "last_error") ? "; " : "",
		ctl_exact(c, ju64(s, "rows_lost")), ctl_exact(c, ju64(s, "events_lost")),
		ctl_exact(c, ju64(s, "procs_lost")), ctl_exact(c, ju64(s, "commit_errors")));
	return !*jstr(s, "last_error");
}

static void show_cost(struct ctl *c, struct json_object *root)
{
	struct json_object *m = jget(root, "memory"), *probes = jget(root, "probes");
	double bpf_cpu = NAN, cpu = jf64(root, "cpu_percent"), bpf = jf64(m, "bpf_bytes");
	/* pages of the store are cache: the kernel takes them back when it needs memory */
	double own = jf64(m, "rss_bytes") - (double)ju64(m, "file_bytes");
	double budget = jf64(root, "cpu_budget_percent");
	bool over = cpu > budget || own + bpf > MEMORY_BUDGET_MIB * 1048576.0;

	for (size_t i = 0; i < jlen(probes); i++)
		bpf_cpu = ctl_sum_measured(bpf_cpu, jidx(probes, i));
	ctl_field(c, "cost", over ? CTL_WARN : CTL_PLAIN,
		"%s of one core, BPF %s%s (budget %s) \u00b7 memory %s + %s BPF (budget %d MiB)"
		"%s%s%s",
		ctl_percent(c, cpu), isnan(bpf_cpu) ? "not measured yet" : ctl_percent(c, bpf_cpu),
		isnan(bpf_cpu) ? "" : " of it", isnan(budget) ? "none" : ctl_percent(c, budget),
		ctl_bytes(c, own), ctl_bytes(c, bpf), MEMORY_BUDGET_MIB,
		jget(m, "file_bytes") ? " + file cache " : "",
		jget(m, "file_bytes") ? ctl_bytes(c, jf64(m, "file_bytes")) : "",
		over ? "   over budget" : "");
}

static void show_complete(struct ctl *c, struct json_object *k)
{
	const char *share = ctl_completeness(c, k);

	ctl_field(c, "complete", ju64(k, "dropped") ? CTL_WARN : CTL_PLAIN,
		"%s   seen %s = stored %s + sampled out %s + dropped %s",
		strncmp(share, "complete ", 9) == 0 ? share + 9 : share,
		ctl_exact(c, ju64(k, "seen")), ctl_exact(c, ju64(k, "stored")),
		ctl_exact(c, ju64(k, "sampled")), ctl_exact(c, ju64(k, "dropped")));
}

int verb_status(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	struct json_object *probes, *store, *degraded, *groups;
	bool healthy;
	int r = ctl_get(c, "/mno/v1/status", &a);

	if (r)
		return r;
	probes = jget(a.root, "probes");
	store = jget(a.root, "store");
	healthy = !*jstr(store, "last_error");
	for (size_t i = 0; i < jlen(probes); i++)
		healthy = healthy && strcmp(jstr(jidx(probes, i), "state"), "failed") != 0;
	if (c->json) {
		ctl_put_json(c, &a.body);
		return healthy ? CTL_OK : CTL_NO;
	}
	ctl_head(c, ctl_esc(c, jstr(a.root, "host")),
		"mno %s  up %s  enforcement %s (why: mnoctl doctor)",
		ctl_esc(c, jstr(a.root, "version")), ctl_seconds(c, jf64(a.root, "uptime_seconds")),
		ctl_esc(c, jstr(a.root, "level")));
	show_signals(c, probes);
	show_stored(c, store);
	groups = jget(a.root, "cgroups");
	if (ju64(groups, "folded"))
		ctl_field(c, "", CTL_WARN, "%s the row ~other: %s",
			ctl_things(c, ju64(groups, "folded"), "cgroup has", "cgroups share"),
			ju64(groups, "slots_used") < CGROUP_ROWS
				? "gone again, or outside of this cgroup tree"
				: "all rows of their own are taken");
	show_cost(c, a.root);
	show_complete(c, jget(a.root, "completeness"));
	degraded = jget(a.root, "degraded");
	for (size_t i = 0; i < jlen(degraded); i++) {
		struct json_object *d = jidx(degraded, i);

		ctl_field(c, "!", CTL_WARN, "%s: %s%s%s", ctl_esc(c, jstr(d, "what")),
			ctl_esc(c, jstr(d, "why")), *jstr(d, "todo") ? ". To do: " : "",
			ctl_esc(c, jstr(d, "todo")));
	}
	return healthy ? CTL_OK : CTL_NO;
}
