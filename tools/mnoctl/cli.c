/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "mno/time.h"
#include "mno/util.h"
#include "verbs/verbs.h"

const struct ctl_option no_options[] = {{0}};

const struct ctl_verb ctl_verbs[] = {
#define VERB(n, lo, hi, a, w, s, d, o, ...)                                                        \
	{                                                                                          \
		.name = #n,                                                                        \
		.min = lo,                                                                         \
		.max = hi,                                                                         \
		.args = a,                                                                         \
		.words = w,                                                                        \
		.summary = s,                                                                      \
		.detail = d,                                                                       \
		.options = o,                                                                      \
		.fn = verb_##n,                                                                    \
		.examples = {__VA_ARGS__},                                                         \
	},
#include "verbs.def"
#undef VERB
};
const size_t ctl_n_verbs = ARRAY_SIZE(ctl_verbs);

const struct ctl_option ctl_globals[] = {
	{"socket", 's', CTL_TEXT, .metavar = "SOCKET",
		.help = "the agent's socket (also: MNO_SOCKET in the environment)"},
	{"json", 'j', CTL_FLAG, .help = "answer in JSON, errors too"},
	{"no-color", 0, CTL_FLAG, .help = "no colours (also: NO_COLOR in the environment)"},
	{"help", 'h', CTL_FLAG, .help = "help on mnoctl or on the verb"},
	{"version", 0, CTL_FLAG, .help = "version of mnoctl"},
	{0},
};

const struct ctl_exit_row ctl_exits[CTL_BUSY + 1] = {
	[CTL_OK] = {"ok", "done"},
	[CTL_NO] = {"no", "the answer is no: not found, unhealthy, already so"},
	[CTL_USAGE] = {"usage", "the command line cannot be understood"},
	[CTL_UNREACHABLE] = {"unreachable", "the agent cannot be reached, or went away"},
	[CTL_REFUSED] = {"refused", "you lack the rights"},
	[CTL_INVALID] = {"invalid", "a value or an expression is not valid"},
	[CTL_INTERNAL] = {"internal", "a fault of mnoctl or of the agent"},
	[CTL_BUSY] = {"busy", "restore: an agent works on the state directory"},
};

int ctl_error_set(struct ctl_error *e, int exit_code, const char *hint, const char *fmt, ...)
{
	va_list ap;

	e->exit = exit_code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	snprintf(e->hint, sizeof(e->hint), "%s", hint ? hint : "");
	return exit_code;
}

/* Part of a user's word as it may be repeated in a message. */
struct quoted {
	char s[128];
};
static struct quoted quote(const char *word)
{
	struct quoted q;

	mno_escape_terminal(q.s, sizeof(q.s), word, strnlen(word, 100));
	return q;
}

bool ctl_word_in(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *w = words; *w; w += strcspn(w, " ")) {
		w += strspn(w, " ");
		if (n && strcspn(w, " ") == n && memcmp(w, word, n) == 0)
			return true;
	}
	return false;
}

const char *ctl_nearest(const char *words, const char *word, char *buf, size_t size)
{
	unsigned best = 64;
	size_t len = strlen(word);

	for (const char *w = words; *w;) {
		char cand[64];
		size_t n;
		unsigned d;

		w += strspn(w, " ");
		n = strcspn(w, " ");
		if (n && n < sizeof(cand) && n < size) {
			memcpy(cand, w, n);
			cand[n] = '\0';
			d = mno_edit_distance(cand, word);
			/* a beginning of it counts as near */
			if (len >= 2 && len < n && memcmp(cand, word, len) == 0)
				d = MNO_MIN(d, 2u);
			if (d < best && d <= MNO_MAX(1u, (unsigned)MNO_MIN(len, n) / 3 + 1)) {
				best = d;
				memcpy(buf, cand, n + 1);
			}
		}
		w += n;
	}
	return best < 64 ? buf : NULL;
}

const struct ctl_verb *ctl_verb_find(const char *name)
{
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (strcmp(ctl_verbs[i].name, name) == 0)
			return &ctl_verbs[i];
	return NULL;
}

static int unknown(struct ctl_error *err, const char *what, const char *word, const char *words,
	const char *hint)
{
	char near[64];

	if (ctl_nearest(words, word, near, sizeof(near)))
		return ctl_error_set(err, CTL_USAGE, NULL,
			"unknown %s \"%s\". Did you mean \"%s\"?", what, quote(word).s, near);
	return ctl_error_set(err, CTL_USAGE, hint, "unknown %s \"%s\"", what, quote(word).s);
}

static int unknown_verb(struct ctl_error *err, const char *word)
{
	_cleanup_buf_ struct mno_buf b = {0};

	for (size_t i = 0; i < ctl_n_verbs; i++)
		mno_buf_addf(&b, "%s ", ctl_verbs[i].name);
	return unknown(err, "verb", word, mno_buf_cstr(&b), "mnoctl help lists the verbs");
}

static int unknown_option(struct ctl_error *err, const struct ctl_verb *v, const char *word)
{
	_cleanup_buf_ struct mno_buf b = {0};
	const struct ctl_option *const tables[] = {ctl_globals, v ? v->options : NULL};
	char hint[96];

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct ctl_option *o = tables[t]; o && o->name; o++)
			if (!o->hidden)
				mno_buf_addf(&b, "--%s ", o->name);
	snprintf(hint, sizeof(hint), "mnoctl help%s%s lists the options", v ? " " : "",
		v ? v->name : "");
	return unknown(err, "option", word, mno_buf_cstr(&b), hint);
}

int ctl_time_parse(const char *s, uint64_t now_ns, uint64_t *ret_unix_ns)
{
	struct tm tm = {0};
	const char *rest;
	double unix_s;
	uint64_t ago;

	if (strcmp(s, "now") == 0) {
		*ret_unix_ns = now_ns;
		return 0;
	}
	/* ten digits are seconds since 1970; fewer would be an odd "so many seconds ago" */
	if (strspn(s, "0123456789") >= 9 && mno_parse_f64(s, &unix_s) == 0) {
		if (!(unix_s >= 0 && unix_s < 1e10))
			return -ERANGE;
		*ret_unix_ns = (uint64_t)(unix_s * 1e9);
		return 0;
	}
	if (mno_duration_parse(s, &ago) == 0) {
		if (ago > now_ns)
			return -ERANGE;
		*ret_unix_ns = now_ns - ago;
		return 0;
	}
	rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest)
		return -EINVAL;
	if (strcmp(rest, "Z") == 0)
		unix_s = (double)timegm(&tm);
	else if (!*rest) {
		tm.tm_isdst = -1;
		unix_s = (double)mktime(&tm);
	} else
		return -EINVAL;
	if (!(unix_s >= 0 && unix_s < 1e10))
		return -ERANGE;
	*ret_unix_ns = (uint64_t)unix_s * NS_PER_SEC;
	return 0;
}

static int check_duration(const char *v)
{
	uint64_t ns;

	return mno_duration_parse(v, &ns) < 0 || !ns ? -EINVAL : 0;
}

static int check_time(const char *v)
{
	uint64_t ns;

	return ctl_time_parse(v, mno_now_ns(CLOCK_REALTIME), &ns);
}

static int check_number(const char *v)
{
	uint64_t n;

	return mno_parse_u64(v, &n) < 0 || n > UINT32_MAX ? -EINVAL : 0;
}

static int check_count(const char *v)
{
	uint64_t n;

	return mno_parse_u64(v, &n) < 0 || !n || n > 1000000 ? -EINVAL : 0;
}

static int check_text(const char *v)
{
	return *v ? 0 : -EINVAL;
}

static const struct {
	int (*check)(const char *v);
	const char *want;
} types[] = {
	[CTL_TEXT] = {check_text, "some text"},
	[CTL_DURATION] = {check_duration, "a duration such as 60s, 10m or 1h30m"},
	[CTL_TIME] = {check_time, "a time: 10m (ago), Unix seconds, or 2026-11-02T14:02:11Z"},
	[CTL_COUNT] = {check_count, "a whole number from 1 to 1000000"},
	[CTL_NUMBER] = {check_number, "a whole number"},
	[CTL_WORD] = {check_text, NULL},
	[CTL_KIND] = {check_text, "a kind of event"},
};

static int check_value(const struct ctl_option *o, const char *v, struct ctl_error *err)
{
	char near[64], want[256];

	if (o->type == CTL_WORD && !ctl_word_in(o->words, v)) {
		snprintf(want, sizeof(want), "it is one of: %s", o->words);
		if (ctl_nearest(o->words, v, near, sizeof(near)))
			return ctl_error_set(err, CTL_INVALID, want,
				"--%s \"%s\" is not known. Did you mean \"%s\"?", o->name,
				quote(v).s, near);
		return ctl_error_set(
			err, CTL_INVALID, want, "--%s \"%s\" is not known", o->name, quote(v).s);
	}
	if (types[o->type].check(v) < 0)
		return ctl_error_set(err, CTL_INVALID, NULL, "--%s \"%s\" is not %s", o->name,
			quote(v).s, types[o->type].want);
	return 0;
}

/* The walk over the arguments. */
struct walk {
	int argc, i;
	char *const *argv;
	struct ctl_args *a;
	struct ctl_error *err;
};

static const struct ctl_option *find_option(
	const struct ctl_verb *v, const char *name, size_t len, char letter)
{
	const struct ctl_option *const tables[] = {v ? v->options : NULL, ctl_globals};

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct ctl_option *o = tables[t]; o && o->name; o++)
			if (name ? strlen(o->name) == len && memcmp(o->name, name, len) == 0
				 : o->letter && o->letter == letter)
				return o;
	return NULL;
}

static int set_option(struct walk *w, const struct ctl_option *o, const char *value)
{
	struct ctl_args *a = w->a;
	int r;

	if (o->type != CTL_FLAG) {
		r = check_value(o, value, w->err);
		if (r)
			return r;
	}
	if (!o->many && ctl_has(a, o->name) && o->type != CTL_FLAG)
		return ctl_error_set(w->err, CTL_USAGE, NULL, "--%s is given twice", o->name);
	if (a->n_set == CTL_MAX_SET)
		return ctl_error_set(w->err, CTL_USAGE, NULL, "more than %d options", CTL_MAX_SET);
	a->set[a->n_set].opt = o;
	a->set[a->n_set++].value = value;
	return 0;
}

static int needs_value(struct walk *w, const struct ctl_option *o)
{
	return ctl_error_set(w->err, CTL_USAGE, NULL, "--%s needs a value: --%s %s", o->name,
		o->name, o->metavar);
}

static int parse_long(struct walk *w)
{
	const char *arg = w->argv[w->i] + 2, *eq = strchr(arg, '=');
	size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct ctl_option *o = find_option(w->a->verb, arg, len, 0);
	struct quoted q;

	if (!o) {
		q = quote(w->argv[w->i]);
		q.s[MNO_MIN(len + 2, sizeof(q.s) - 1)] = '\0';
		return unknown_option(w->err, w->a->verb, q.s);
	}
	if (o->type == CTL_FLAG)
		return eq ? ctl_error_set(w->err, CTL_USAGE, NULL, "--%s takes no value", o->name)
			  : set_option(w, o, "");
	if (eq)
		return set_option(w, o, eq + 1);
	if (w->i + 1 >= w->argc)
		return needs_value(w, o);
	return set_option(w, o, w->argv[++w->i]);
}

/* "-j", "-n5", "-n 5", "-jn5" */
static int parse_short(struct walk *w)
{
	for (const char *p = w->argv[w->i] + 1; *p; p++) {
		const struct ctl_option *o = find_option(w->a->verb, NULL, 0, *p);
		char word[3] = {'-', *p, '\0'};
		int r;

		if (!o)
			return unknown_option(w->err, w->a->verb, word);
		if (o->type != CTL_FLAG) {
			if (p[1])
				return set_option(w, o, p + 1);
			if (w->i + 1 >= w->argc)
				return needs_value(w, o);
			return set_option(w, o, w->argv[++w->i]);
		}
		r = set_option(w, o, "");
		if (r)
			return r;
	}
	return 0;
}

static int parse_word(struct walk *w)
{
	const char *s = w->argv[w->i];
	struct ctl_args *a = w->a;

	if (!a->verb) {
		a->verb = ctl_verb_find(s);
		return a->verb ? 0 : unknown_verb(w->err, s);
	}
	if (a->n_pos >= a->verb->max)
		return ctl_error_set(w->err, CTL_USAGE, NULL,
			"unexpected argument \"%s\". Usage: mnoctl %s%s%s", quote(s).s,
			a->verb->name, *a->verb->args ? " " : "", a->verb->args);
	a->pos[a->n_pos++] = s;
	return 0;
}

static int check_words(const struct ctl_args *a, struct ctl_error *err)
{
	const struct ctl_verb *v = a->verb;
	char hint[256];

	if (a->n_pos < v->min)
		return ctl_error_set(err, CTL_USAGE, NULL, "%s needs %s. Usage: mnoctl %s %s",
			v->name, v->args, v->name, v->args);
	if (!a->n_pos || !*v->words || v->words[0] == '@' || ctl_word_in(v->words, a->pos[0]))
		return 0;
	snprintf(hint, sizeof(hint), "usage: mnoctl %s %s", v->name, v->args);
	return unknown(err, "argument", a->pos[0], v->words, hint);
}

int ctl_parse(int argc, char *const argv[], struct ctl_args *ret, struct ctl_error *err)
{
	struct walk w = {.argc = argc, .argv = argv, .a = ret, .err = err};
	bool words_only = false;

	memset(ret, 0, sizeof(*ret));
	for (w.i = 1; w.i < argc; w.i++) {
		const char *s = argv[w.i];
		int r;

		if (!words_only && strcmp(s, "--") == 0) {
			words_only = true;
			continue;
		}
		if (words_only || s[0] != '-' || !s[1])
			r = parse_word(&w);
		else
			r = s[1] == '-' ? parse_long(&w) : parse_short(&w);
		if (r)
			return r;
	}
	if (ctl_has(ret, "help") || ctl_has(ret, "version"))
		return 0;
	if (!ret->verb)
		return ctl_error_set(err, CTL_USAGE,
			"mnoctl help lists the verbs; try: mnoctl status", "which verb?");
	return check_words(ret, err);
}

const char *ctl_opt_nth(const struct ctl_args *a, const char *name, size_t i)
{
	for (size_t k = 0; k < a->n_set; k++)
		if (strcmp(a->set[k].opt->name, name) == 0 && i-- == 0)
			return a->set[k].value;
	return NULL;
}

const char *ctl_opt(const struct ctl_args *a, const char *name)
{
	return ctl_opt_nth(a, name, 0);
}

uint64_t ctl_opt_u64(const struct ctl_args *a, const char *name, uint64_t none)
{
	const char *s = ctl_opt(a, name);
	uint64_t v;

	return s && mno_parse_u64(s, &v) == 0 ? v : none;
}

uint64_t ctl_opt_ns(const struct ctl_args *a, const char *name, uint64_t none)
{
	const char *s = ctl_opt(a, name);
	uint64_t v;

	return s && mno_duration_parse(s, &v) == 0 ? v : none;
}
