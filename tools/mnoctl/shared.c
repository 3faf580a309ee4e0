/* SPDX-License-Identifier: Apache-2.0 */
/* What several verbs say about probes and processes. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "ctl.h"
#include "mno/time.h"

/* Names of all probes or of their kinds, separated by spaces; nothing without an answer. */
static void probe_words(struct ctl *c, bool kinds, struct mno_buf *words)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	struct json_object *probes;
	int r;

	c->quiet++;
	r = ctl_get(c, "/mno/v1/probes", &a);
	c->quiet--;
	probes = r ? NULL : jget(a.root, "probes");
	for (size_t i = 0; i < jlen(probes); i++) {
		struct json_object *p = jidx(probes, i), *k = jget(p, "kinds");

		if (!kinds)
			mno_buf_addf(words, "%s ", jstr(p, "name"));
		for (size_t j = 0; kinds && j < jlen(k); j++)
			mno_buf_addf(words, "%s ", json_object_get_string(jidx(k, j)));
	}
}

const char *ctl_probe_words(struct ctl *c, bool kinds)
{
	_cleanup_buf_ struct mno_buf words = {.max = 64 << 10};
	char *s = ctl_scratch(c);

	probe_words(c, kinds, &words);
	if (!words.len)
		return "";
	snprintf(s, CTL_TEXT_MAX, "it is one of: %s", ctl_esc(c, mno_buf_cstr(&words)));
	s[strlen(s) - 1] = '\0'; /* the last space */
	return s;
}

const char *ctl_nearest_probe_word(struct ctl *c, const char *word, bool kinds, bool *ret_known)
{
	_cleanup_buf_ struct mno_buf words = {.max = 64 << 10};
	char near[64];

	*ret_known = true; /* when it cannot be found out, the agent decides */
	probe_words(c, kinds, &words);
	if (!words.len || ctl_word_in(mno_buf_cstr(&words), word))
		return "";
	*ret_known = false;
	if (ctl_nearest(mno_buf_cstr(&words), word, near, sizeof(near)))
		return ctl_esc(c, near);
	return "";
}

double ctl_sum_measured(double sum, struct json_object *probe)
{
	double v = jf64(probe, "cpu_percent");

	if (isnan(v) || !ju64(probe, "cost_ns_per_event"))
		return sum;
	return isnan(sum) ? v : sum + v;
}

double ctl_used(struct json_object *row, const char *key)
{
	double v = jf64(row, key);

	return jtrue(row, "running") && v == 0 ? NAN : v;
}

const char *ctl_proc_name(struct ctl *c, struct json_object *row)
{
	char *s = ctl_scratch(c);

	snprintf(s, CTL_TEXT_MAX, "%llu %s", (unsigned long long)ju64(row, "pid"),
		ctl_esc(c, jstr(row, "comm")));
	return s;
}

/* As a shell would read it, roughly: words with spaces are quoted. */
const char *ctl_argv(struct ctl *c, struct json_object *row)
{
	struct json_object *argv = jget(row, "argv");
	_cleanup_buf_ struct mno_buf b = {0};

	for (size_t i = 0; i < jlen(argv) && b.len < CTL_TEXT_MAX; i++) {
		const char *s = json_object_get_string(jidx(argv, i));
		const char *q = s && *s && !strpbrk(s, " \t\n'\"\\$*?;|&<>") ? "" : "'";

		mno_buf_addf(&b, "%s%s%s%s", i ? " " : "", q, s ? s : "", q);
	}
	if (!b.len) /* a kernel thread has no arguments */
		mno_buf_addf(&b, "[%s]", jstr(row, "comm"));
	if (jtrue(row, "argv_cut"))
		mno_buf_adds(&b, " (cut)");
	return ctl_esc(c, mno_buf_cstr(&b));
}

const char *ctl_ending(struct ctl *c, struct json_object *row, enum ctl_style *ret_style)
{
	char *s = ctl_scratch(c);
	uint64_t code = ju64(row, "exit_code"), sig = ju64(row, "exit_signal");
	const char *name;

	*ret_style = CTL_PLAIN;
	if (jtrue(row, "running")) {
		*ret_style = CTL_GOOD;
		return "running";
	}
	if (jtrue(row, "lost_exit"))
		return "ended, exit not seen";
	if (sig) {
		*ret_style = CTL_BAD;
		name = sig < 65 ? sigabbrev_np((int)sig) : NULL;
		if (name)
			snprintf(s, CTL_TEXT_MAX, "SIG%s", name);
		else
			snprintf(s, CTL_TEXT_MAX, "signal %llu", (unsigned long long)sig);
		if (jtrue(row, "oom"))
			strcat(s, " (out of memory)");
		return s;
	}
	*ret_style = code ? CTL_WARN : CTL_PLAIN;
	snprintf(s, CTL_TEXT_MAX, "exit %llu", (unsigned long long)code);
	return s;
}
