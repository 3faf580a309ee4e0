/* SPDX-License-Identifier: Apache-2.0 */
/* Help and man page, from the tables. Their text is ASCII. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "cli.h"
#include "mno/json.h"

#define INTRO                                                                                      \
	"mnoctl asks the agent mnod on this host what the machine is doing, process by process, "  \
	"and says with each answer how complete it is and what it cost."

static void option_label(const struct ctl_option *o, char *buf, size_t size)
{
	char letter[5] = "    ";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(buf, size, "%s--%s%s%s", letter, o->name, o->metavar ? " " : "",
		o->metavar ? o->metavar : "");
}

static bool has_options(const struct ctl_option *o)
{
	for (; o && o->name; o++)
		if (!o->hidden)
			return true;
	return false;
}

/* Breaks text at 78 columns; @col: of the first word, @indent: of the lines that follow. */
static void add_wrapped(struct mno_buf *out, const char *s, size_t col, size_t indent)
{
	bool begun = false;

	while (*s) {
		size_t n = strcspn(s, " ");

		if (begun && col + 1 + n > 78) {
			mno_buf_addf(out, "\n%*s", (int)indent, "");
			col = indent;
		} else if (begun) {
			mno_buf_addc(out, ' ');
			col++;
		}
		mno_buf_add(out, s, n);
		begun = true;
		col += n;
		s += n + strspn(s + n, " ");
	}
	mno_buf_addc(out, '\n');
}

static void add_text(struct mno_buf *out, const char *s)
{
	add_wrapped(out, s, 0, 0);
}

static void add_options(struct mno_buf *out, const char *head, const struct ctl_option *o)
{
	char label[64], text[512];

	if (!has_options(o))
		return;
	mno_buf_addf(out, "\n%s\n", head);
	for (; o->name; o++) {
		if (o->hidden)
			continue;
		option_label(o, label, sizeof(label));
		snprintf(text, sizeof(text), "%s%s%s%s", o->help, o->many ? " (repeatable)" : "",
			o->type == CTL_WORD ? ": " : "", o->type == CTL_WORD ? o->words : "");
		mno_buf_addf(out, "  %-24s ", label);
		add_wrapped(out, text, MNO_MAX(strlen(label), (size_t)24) + 3, 27);
	}
}

static void add_exits(struct mno_buf *out)
{
	mno_buf_adds(out, "\nexit status\n");
	for (int i = 0; i < (int)ARRAY_SIZE(ctl_exits); i++)
		mno_buf_addf(out, "  %d  %s\n", i, ctl_exits[i].help);
}

void ctl_help_all(struct mno_buf *out)
{
	mno_buf_adds(out, "usage: mnoctl [-s SOCKET] [-j] VERB [ARGUMENTS]\n\n");
	add_text(out, INTRO);
	mno_buf_adds(out, "\nverbs\n");
	for (size_t i = 0; i < ctl_n_verbs; i++)
		mno_buf_addf(out, "  %-12s %s\n", ctl_verbs[i].name, ctl_verbs[i].summary);
	add_options(out, "options", ctl_globals);
	add_exits(out);
	mno_buf_adds(out, "\nmnoctl help VERB tells all about one; begin with: mnoctl status\n");
}

void ctl_help_verb(struct mno_buf *out, const struct ctl_verb *v)
{
	char usage[512];

	snprintf(usage, sizeof(usage), "usage: mnoctl %s%s%s%s", v->name, *v->args ? " " : "",
		v->args, has_options(v->options) ? " [OPTIONS]" : "");
	add_wrapped(out, usage, 0, 4);
	mno_buf_addf(out, "\n%s\n", v->summary);
	if (*v->detail) {
		mno_buf_addc(out, '\n');
		add_text(out, v->detail);
	}
	add_options(out, "options", v->options);
	add_options(out, "options of every verb", ctl_globals);
	mno_buf_adds(out, "\nexamples\n");
	for (size_t i = 0; i < ARRAY_SIZE(v->examples) && v->examples[i].command; i++)
		mno_buf_addf(out, "  %s\n      %s\n", v->examples[i].command, v->examples[i].what);
}

/* roff: a backslash and a leading dot or quote have meaning, '-' must stay a hyphen-minus. */
static void roff(struct mno_buf *out, const char *s)
{
	if (*s == '.' || *s == '\'')
		mno_buf_adds(out, "\\&");
	for (; *s; s++) {
		if (*s == '\\')
			mno_buf_adds(out, "\\e");
		else if (*s == '-')
			mno_buf_adds(out, "\\-");
		else if (*s == '\'')
			mno_buf_adds(out, "\\(aq");
		else
			mno_buf_addc(out, *s);
	}
}

static void roff_line(struct mno_buf *out, const char *before, const char *s, const char *after)
{
	mno_buf_adds(out, before);
	roff(out, s);
	mno_buf_adds(out, after);
}

static void man_options(struct mno_buf *out, const struct ctl_option *o)
{
	for (; o->name; o++) {
		if (o->hidden)
			continue;
		mno_buf_adds(out, ".TP\n");
		if (o->letter)
			mno_buf_addf(out, "\\fB\\-%c\\fR, ", o->letter);
		roff_line(out, "\\fB\\-\\-", o->name, "\\fR");
		if (o->metavar)
			roff_line(out, " \\fI", o->metavar, "\\fR");
		roff_line(out, "\n", o->help, o->many ? " (repeatable)" : "");
		if (o->type == CTL_WORD)
			roff_line(out, ": ", o->words, "");
		mno_buf_addc(out, '\n');
	}
}

static void man_verb(struct mno_buf *out, const struct ctl_verb *v)
{
	roff_line(out, ".TP\n\\fB", v->name, "\\fR");
	if (*v->args)
		roff_line(out, " ", v->args, "");
	roff_line(out, "\n", v->summary, ".\n");
	if (*v->detail)
		roff_line(out, "", v->detail, "\n");
	if (v->options->name) {
		mno_buf_adds(out, ".RS\n");
		man_options(out, v->options);
		mno_buf_adds(out, ".RE\n");
	}
}

static void man_examples(struct mno_buf *out)
{
	mno_buf_adds(out, ".SH EXAMPLES\n");
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_example *e = ctl_verbs[i].examples;

		for (size_t k = 0; k < ARRAY_SIZE(ctl_verbs[i].examples) && e[k].command; k++) {
			roff_line(out, ".TP\n\\fB", e[k].command, "\\fR\n");
			roff_line(out, "", e[k].what,
				ispunct((unsigned char)e[k].what[strlen(e[k].what) - 1]) ? "\n"
											 : ".\n");
		}
	}
}

void ctl_help_man(struct mno_buf *out)
{
	mno_buf_adds(out, ".\\\" SPDX-License-Identifier: Apache-2.0\n"
			  ".TH MNOCTL 1 \"\" \"mno " MNO_VERSION "\" \"User Commands\"\n"
			  ".SH NAME\nmnoctl \\- ask the observability agent of this host\n"
			  ".SH SYNOPSIS\n.B mnoctl\n[\\fB\\-s\\fR \\fISOCKET\\fR] [\\fB\\-j\\fR] "
			  "\\fIVERB\\fR [\\fIARGUMENTS\\fR]\n.SH DESCRIPTION\n");
	roff_line(out, "", INTRO, "\n");
	mno_buf_adds(out, ".PP\nOn a terminal answers have colour and charts, in a pipe plain "
			  "columns, and with \\fB\\-j\\fR they are JSON.\n"
			  ".SH OPTIONS\nThese may stand before or behind the verb.\n");
	man_options(out, ctl_globals);
	mno_buf_adds(out, ".SH VERBS\n");
	for (size_t i = 0; i < ctl_n_verbs; i++)
		man_verb(out, &ctl_verbs[i]);
	man_examples(out);
	mno_buf_adds(out, ".SH EXIT STATUS\n");
	for (int i = 0; i < (int)ARRAY_SIZE(ctl_exits); i++)
		mno_buf_addf(out, ".TP\n\\fB%d\\fR\n%s.\n", i, ctl_exits[i].help);
	mno_buf_adds(out,
		".SH ENVIRONMENT\n.TP\n\\fBMNO_SOCKET\\fR\nthe agent\\(aqs socket, when "
		"\\fB\\-s\\fR is not given.\n.TP\n\\fBNO_COLOR\\fR\nno colours.\n"
		".SH FILES\n.TP\n\\fI/run/mno/mno.sock\\fR\nthe agent\\(aqs socket.\n.TP\n"
		"\\fIbuild/run/mno.sock\\fR\nthat of an agent run from a checkout, when none "
		"is installed.\n.SH SEE ALSO\n.BR mnod (8)\n");
}

static void json_options(struct mno_json *j, const struct ctl_option *o)
{
	mno_json_key(j, "options");
	mno_json_arr(j);
	for (; o->name; o++) {
		char letter[2] = {o->letter, '\0'};

		if (o->hidden)
			continue;
		mno_json_obj(j);
		mno_json_kstr(j, "name", o->name);
		mno_json_kstr(j, "letter", o->letter ? letter : NULL);
		mno_json_kstr(j, "value", o->metavar);
		mno_json_kstr(j, "help", o->help);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

void ctl_help_json(struct mno_buf *out)
{
	struct mno_json j;

	mno_json_init(&j, out);
	mno_json_obj(&j);
	json_options(&j, ctl_globals);
	mno_json_key(&j, "verbs");
	mno_json_arr(&j);
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		mno_json_obj(&j);
		mno_json_kstr(&j, "name", ctl_verbs[i].name);
		mno_json_kstr(&j, "args", ctl_verbs[i].args);
		mno_json_kstr(&j, "summary", ctl_verbs[i].summary);
		json_options(&j, ctl_verbs[i].options);
		mno_json_end(&j);
	}
	mno_json_end_arr(&j);
	mno_json_end(&j);
	mno_buf_addc(out, '\n');
}
