/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "verbs.h"

static const char *join(struct ctl *c, struct json_object *arr)
{
	_cleanup_buf_ struct mno_buf b = {.max = CTL_TEXT_MAX};

	for (size_t i = 0; i < jlen(arr); i++)
		mno_buf_addf(&b, "%s%s", i ? "," : "", json_object_get_string(jidx(arr, i)));
	return b.len ? ctl_esc(c, mno_buf_cstr(&b)) : "none";
}

/* A member that may be a word or yes/no. */
static const char *word(struct ctl *c, struct json_object *o, const char *key)
{
	struct json_object *v = jget(o, key);

	if (json_object_is_type(v, json_type_boolean))
		return json_object_get_boolean(v) ? "yes" : "no";
	if (!v)
		return json_object_object_get_ex(o, key, NULL) ? "no" : "not known";
	return ctl_esc(c, json_object_get_string(v));
}

static const char *mount_of(struct ctl *c, struct json_object *h, const char *key)
{
	return jget(h, key) ? word(c, h, key) : "not mounted";
}

static void show_host(struct ctl *c, struct json_object *h)
{
	struct json_object *g = jget(h, "cgroup");

	char title[128];

	snprintf(title, sizeof(title), "kernel %s", word(c, h, "kernel"));
	ctl_head(c, title, "BTF %s  lockdown %s  LSMs %s", word(c, h, "btf"),
		word(c, h, "lockdown"), join(c, jget(h, "lsms")));
	ctl_field(c, "host", CTL_PLAIN, "%s CPUs \u00b7 bpffs %s \u00b7 tracefs %s",
		word(c, h, "cpus"), mount_of(c, h, "bpffs"), mount_of(c, h, "tracefs"));
	ctl_field(c, "cgroups", jlen(jget(g, "missing")) ? CTL_WARN : CTL_PLAIN,
		"%s at %s \u00b7 controllers %s%s%s", word(c, g, "mode"), word(c, g, "root"),
		join(c, jget(g, "controllers")),
		jlen(jget(g, "missing")) ? " \u00b7 missing there: " : "",
		jlen(jget(g, "missing")) ? join(c, jget(g, "missing")) : "");
}

static void show_levels(struct ctl *c, struct json_object *root)
{
	struct json_object *levels = jget(root, "levels"), *attach = jget(root, "attach");

	char title[128];

	snprintf(title, sizeof(title), "enforcement %s", word(c, root, "level"));
	ctl_head(c, title, "%s", ctl_esc(c, jstr(root, "level_reason")));
	for (size_t i = 0; i < jlen(levels); i++) {
		struct json_object *l = jidx(levels, i);
		bool works = jtrue(l, "works");

		ctl_field(c, jstr(l, "level")[0] == 'L' ? ctl_esc(c, jstr(l, "level")) : "?",
			works ? CTL_GOOD : CTL_DIM, "%-36s %s%s%s", ctl_esc(c, jstr(l, "name")),
			works ? "works" : "does not work", *jstr(l, "why") ? "   " : "",
			ctl_esc(c, jstr(l, "why")));
	}
	ctl_labels(c, attach, "type");
	if (jlen(attach))
		ctl_printf(c, CTL_BOLD, "ways of attaching (each was tried)\n");
	for (size_t i = 0; i < jlen(attach); i++) {
		struct json_object *t = jidx(attach, i);
		bool works = jtrue(t, "works");

		ctl_field(c, ctl_esc(c, jstr(t, "type")), works ? CTL_GOOD : CTL_DIM, "%s%s%s",
			works ? "works" : "does not work", *jstr(t, "reason") ? "   " : "",
			ctl_esc(c, jstr(t, "reason")));
	}
}

static void show_probes(struct ctl *c, struct json_object *probes)
{
	static const struct {
		const char *state;
		enum ctl_style style;
	} styles[] = {{"running", CTL_GOOD}, {"degraded", CTL_WARN}, {"failed", CTL_BAD},
		{"shed", CTL_WARN}};

	ctl_labels(c, probes, "name");
	ctl_printf(c, CTL_BOLD, "probes\n");
	for (size_t i = 0; i < jlen(probes); i++) {
		struct json_object *p = jidx(probes, i);
		enum ctl_style s = CTL_DIM;

		for (size_t k = 0; k < ARRAY_SIZE(styles); k++)
			if (strcmp(jstr(p, "state"), styles[k].state) == 0)
				s = styles[k].style;
		ctl_field(c, ctl_esc(c, jstr(p, "name")), s, "%s%s%s%s%s",
			ctl_esc(c, jstr(p, "state")), *jstr(p, "attach") ? ", by " : "",
			ctl_esc(c, jstr(p, "attach")), *jstr(p, "reason") ? "   " : "",
			ctl_esc(c, jstr(p, "reason")));
	}
}

static void show_limits(struct ctl *c, struct json_object *limits)
{
	ctl_labels(c, limits, "name");
	if (jlen(limits))
		ctl_printf(c, CTL_BOLD, "limits\n");
	for (size_t i = 0; i < jlen(limits); i++) {
		struct json_object *l = jidx(limits, i);

		ctl_field(c, ctl_esc(c, jstr(l, "name")), CTL_PLAIN, "%s%s%s", word(c, l, "value"),
			*jstr(l, "note") ? "   " : "", ctl_esc(c, jstr(l, "note")));
	}
}

/* Returns how many are errors. */
static size_t show_findings(struct ctl *c, struct json_object *findings)
{
	size_t errors = 0;

	ctl_labels(c, NULL, "");
	if (jlen(findings))
		ctl_printf(c, CTL_BOLD, "findings\n");
	for (size_t i = 0; i < jlen(findings); i++) {
		struct json_object *f = jidx(findings, i);
		bool bad = strcmp(jstr(f, "severity"), "error") == 0;
		bool warn = strcmp(jstr(f, "severity"), "warn") == 0;

		errors += bad;
		ctl_field(c,
			bad    ? "! error"
			: warn ? "! warning"
			       : "note",
			bad    ? CTL_BAD
			: warn ? CTL_WARN
			       : CTL_PLAIN,
			"%s%s%s%s%s", ctl_esc(c, jstr(f, "what")), *jstr(f, "why") ? ": " : "",
			ctl_esc(c, jstr(f, "why")), *jstr(f, "todo") ? ". To do: " : "",
			ctl_esc(c, jstr(f, "todo")));
	}
	return errors;
}

int verb_doctor(struct ctl *c)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	struct json_object *findings;
	size_t errors = 0;
	int r = ctl_get(c, "/mno/v1/doctor", &a);

	if (r)
		return r;
	findings = jget(a.root, "findings");
	if (c->json) {
		for (size_t i = 0; i < jlen(findings); i++)
			errors += strcmp(jstr(jidx(findings, i), "severity"), "error") == 0;
		ctl_put_json(c, &a.body);
		return errors ? CTL_NO : CTL_OK;
	}
	show_host(c, jget(a.root, "host"));
	show_levels(c, a.root);
	show_probes(c, jget(a.root, "probes"));
	show_limits(c, jget(a.root, "limits"));
	errors = show_findings(c, findings);
	ctl_footer(c, "%s, %s \u00b7 answered in %s",
		ctl_things(c, jlen(findings), "finding", "findings"),
		ctl_things(c, errors, "error", "errors"), ctl_ns(c, (double)a.took_ns));
	return errors ? CTL_NO : CTL_OK;
}
