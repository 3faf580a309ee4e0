/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include "verbs.h"
#include "mno/json.h"
#include "mno/time.h"

const struct ctl_option probes_options[] = {
	{"for", 0, CTL_DURATION, .metavar = "DURATION", .help = "enable for this long, e.g. 60s"},
	{"dry-run", 0, CTL_FLAG, .help = "say what would happen, change nothing"},
	{0},
};

static const struct ctl_col columns[] = {
	{.head = "probe"},
	{.head = "state"},
	{.head = "attach", .drop = 6},
	{.head = "events", .right = true, .drop = 2},
	{.head = "records", .right = true, .drop = 8},
	{.head = "stored", .right = true, .drop = 5},
	{.head = "sampled", .right = true, .drop = 7},
	{.head = "dropped", .right = true},
	{.head = "per event", .right = true, .drop = 1},
	{.head = "cpu", .right = true, .drop = 4},
	{.head = "memory", .right = true, .drop = 3},
	{.head = "note", .flex = true},
};

static enum ctl_style state_style(const char *state)
{
	static const struct {
		const char *state;
		enum ctl_style style;
	} rows[] = {{"running", CTL_GOOD}, {"degraded", CTL_WARN}, {"shed", CTL_WARN},
		{"failed", CTL_BAD}, {"off", CTL_DIM}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(state, rows[i].state) == 0)
			return rows[i].style;
	return CTL_PLAIN;
}

static void add_row(struct ctl *c, struct ctl_table *t, struct json_object *p)
{
	const char *state = jstr(p, "state");
	double per = jf64(p, "cost_ns_per_event");
	double left = jf64(p, "until_seconds");

	ctl_cell(t, CTL_BOLD, "%s", ctl_esc(c, jstr(p, "name")));
	ctl_cell(t, state_style(state), "%s", ctl_esc(c, state));
	ctl_cell(t, CTL_PLAIN, "%s",
		*jstr(p, "attach") ? ctl_esc(c, jstr(p, "attach")) : ctl_dash(c));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "events")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "seen")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "stored")));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, jf64(p, "sampled")));
	ctl_cell(t, ju64(p, "dropped") ? CTL_WARN : CTL_PLAIN, "%s",
		ctl_count(c, jf64(p, "dropped")));
	ctl_cell(t, CTL_PLAIN, "%s", per > 0 ? ctl_ns(c, per) : ctl_dash(c));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_percent(c, ctl_sum_measured(NAN, p)));
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(p, "bpf_bytes")));
	if (left > 0)
		ctl_cell(t, CTL_PLAIN, "ends in %s", ctl_seconds(c, left));
	else
		ctl_cell(t, CTL_PLAIN, "%s",
			ctl_esc(c, *jstr(p, "reason") ? jstr(p, "reason") : jstr(p, "summary")));
}

static int list(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_table_ struct ctl_table t;
	struct json_object *probes;
	double seen = 0, dropped = 0, cpu = NAN, bytes = 0;
	int r = ctl_get(c, "/mno/v1/probes", &a);

	ctl_table_init(&t, columns, ARRAY_SIZE(columns));
	if (ctl_answered(c, r, &a))
		return r;
	probes = jget(a.root, "probes");
	for (size_t i = 0; i < jlen(probes); i++) {
		struct json_object *p = jidx(probes, i);

		add_row(c, &t, p);
		seen += (double)ju64(p, "seen");
		dropped += (double)ju64(p, "dropped");
		cpu = ctl_sum_measured(cpu, p);
		bytes += (double)ju64(p, "bpf_bytes");
	}
	if (!jlen(probes))
		ctl_printf(
			c, CTL_PLAIN, "the agent has no probes (was it started with --no-bpf?)\n");
	else
		ctl_table_print(c, &t);
	ctl_footer(c, "complete %.*f %% \u00b7 all probes: %s%s, %s", dropped > 0 ? 2 : 0,
		seen > 0 ? fmin((seen - dropped) / seen * 100, dropped > 0 ? 99.99 : 100) : 100.0,
		isnan(cpu) ? "CPU not measured yet" : ctl_percent(c, cpu),
		isnan(cpu) ? "" : " of one core", ctl_bytes(c, bytes));
	return 0;
}

/* Finds the probe in the agent's list, or says which one was meant. */
static int find(struct ctl *c, const char *name, struct ctl_answer *a, struct json_object **ret)
{
	struct json_object *probes;
	const char *near;
	bool known;
	int r = ctl_get(c, "/mno/v1/probes", a);

	if (r)
		return r;
	probes = jget(a->root, "probes");
	for (size_t i = 0; i < jlen(probes); i++)
		if (strcmp(jstr(jidx(probes, i), "name"), name) == 0) {
			*ret = jidx(probes, i);
			return 0;
		}
	near = ctl_nearest_probe_word(c, name, false, &known);
	if (*near)
		return ctl_fail(c, CTL_NO, NULL, "no probe \"%s\". Did you mean \"%s\"?",
			ctl_esc(c, name), near);
	return ctl_fail(c, CTL_NO, "mnoctl probes lists them", "no probe \"%s\"", ctl_esc(c, name));
}

static bool is_on(struct json_object *p)
{
	return strcmp(jstr(p, "state"), "running") == 0 ||
	       strcmp(jstr(p, "state"), "degraded") == 0;
}

static int dry_run(struct ctl *c, struct json_object *p, bool enable)
{
	const char *name = ctl_esc(c, jstr(p, "name")), *span = ctl_opt(c->args, "for");
	double per = jf64(p, "cost_ns_per_event");
	struct mno_json j;

	if (c->json) {
		mno_json_init(&j, &c->out);
		mno_json_obj(&j);
		mno_json_kbool(&j, "dry_run", true);
		mno_json_kstr(&j, "action", enable ? "enable" : "disable");
		mno_json_kstr(&j, "probe", jstr(p, "name"));
		mno_json_kstr(&j, "for", span);
		mno_json_kstr(&j, "state", jstr(p, "state"));
		mno_json_kbool(&j, "would_change", is_on(p) != enable);
		mno_json_end(&j);
		mno_buf_addc(&c->out, '\n');
		return 0;
	}
	if (is_on(p) == enable)
		ctl_printf(c, CTL_PLAIN, "%s is %s already: nothing would change\n", name,
			ctl_esc(c, jstr(p, "state")));
	else if (enable)
		ctl_printf(c, CTL_PLAIN, "would load and attach %s (%s) %s%s\n", name,
			ctl_esc(c, jstr(p, "summary")),
			span ? "for " : "until it is disabled or the agent ends",
			span ? ctl_esc(c, span) : "");
	else
		ctl_printf(c, CTL_PLAIN,
			"would detach %s (%s) and free %s; its signals would stop\n", name,
			ctl_esc(c, jstr(p, "summary")), ctl_bytes(c, jf64(p, "bpf_bytes")));
	ctl_footer(c, "nothing was changed \u00b7 measured cost: %s",
		per > 0 ? ctl_ns(c, per) : "not measured yet");
	return 0;
}

static int change(struct ctl *c, const char *name, bool enable)
{
	_cleanup_answer_ struct ctl_answer known = {0}, a = {0};
	_cleanup_buf_ struct mno_buf target = {0};
	struct json_object *p = NULL;
	double left;
	int r = find(c, name, &known, &p);

	if (r)
		return r;
	if (ctl_has(c->args, "dry-run"))
		return dry_run(c, p, enable);
	mno_buf_adds(&target, "/mno/v1/probes/");
	mno_url_escape(&target, name);
	mno_buf_adds(&target, enable ? "/enable" : "/disable");
	ctl_param(&target, "for", ctl_opt(c->args, "for"));
	r = ctl_ask(c, "POST", mno_buf_cstr(&target), &a);
	if (ctl_answered(c, r, &a))
		return r;
	left = jf64(a.root, "until_seconds");
	ctl_printf(c, CTL_PLAIN, "%s is %s", ctl_esc(c, name), ctl_esc(c, jstr(a.root, "state")));
	if (*jstr(a.root, "attach") && enable)
		ctl_printf(c, CTL_PLAIN, " by %s", ctl_esc(c, jstr(a.root, "attach")));
	if (enable && left > 0)
		ctl_printf(c, CTL_PLAIN, ", ends by itself in %s", ctl_seconds(c, left));
	ctl_printf(c, CTL_PLAIN, "\n");
	if (*jstr(a.root, "reason"))
		ctl_field(c, "", CTL_WARN, "%s", ctl_esc(c, jstr(a.root, "reason")));
	ctl_footer(c, "took %s", ctl_ns(c, (double)a.took_ns));
	return 0;
}

int verb_probes(struct ctl *c)
{
	const struct ctl_args *a = c->args;
	const char *what = a->n_pos ? a->pos[0] : "list";
	bool listing = strcmp(what, "list") == 0, enable = strcmp(what, "enable") == 0;

	if (listing && a->n_pos > 1)
		return ctl_fail(
			c, CTL_USAGE, NULL, "unexpected argument \"%s\"", ctl_esc(c, a->pos[1]));
	if (!listing && a->n_pos < 2)
		return ctl_fail(c, CTL_USAGE, "mnoctl probes lists them",
			"which probe? Usage: mnoctl probes %s NAME", what);
	if (ctl_has(a, "for") && !enable)
		return ctl_fail(c, CTL_USAGE, NULL, "--for goes with: mnoctl probes enable NAME");
	if (ctl_has(a, "dry-run") && listing)
		return ctl_fail(c, CTL_USAGE, NULL, "--dry-run goes with enable and disable");
	return listing ? list(c) : change(c, a->pos[1], enable);
}
