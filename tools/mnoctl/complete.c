/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts, from the tables. Probes, kinds and metrics are asked from the
 * agent by `mnoctl completion --names`, which prints nothing when it does not answer.
 */
#include <string.h>
#include "cli.h"

static void add_verbs(struct mno_buf *out)
{
	for (size_t i = 0; i < ctl_n_verbs; i++)
		mno_buf_addf(out, "%s%s", i ? " " : "", ctl_verbs[i].name);
}

static void add_first_words(struct mno_buf *out, const struct ctl_verb *v)
{
	if (strcmp(v->words, "@verbs") == 0)
		add_verbs(out);
	else
		mno_buf_adds(out, v->words);
}

static void add_option_names(struct mno_buf *out, const struct ctl_option *o)
{
	for (; o->name; o++) {
		if (o->hidden)
			continue;
		mno_buf_addf(out, " --%s", o->name);
		if (o->letter)
			mno_buf_addf(out, " -%c", o->letter);
	}
}

/* The pattern of "the word before takes a value": "-s|--socket". */
static void add_pattern(struct mno_buf *out, const struct ctl_option *o)
{
	mno_buf_addf(out, "--%s", o->name);
	if (o->letter)
		mno_buf_addf(out, "|-%c", o->letter);
}

static void bash_values(struct mno_buf *out, const char *indent, const struct ctl_option *o)
{
	for (; o->name; o++) {
		if (o->type == CTL_FLAG || o->hidden)
			continue;
		mno_buf_adds(out, indent);
		add_pattern(out, o);
		mno_buf_adds(out, ")");
		if (o->type == CTL_WORD)
			mno_buf_addf(out, " words='%s'", o->words);
		else if (o->type == CTL_KIND)
			mno_buf_adds(out, " words=$(_mnoctl_names kinds)");
		else if (strcmp(o->name, "socket") == 0)
			mno_buf_adds(out, " compopt -o default; COMPREPLY=(); return");
		else
			mno_buf_adds(out, " return");
		mno_buf_adds(out, " ;;\n");
	}
}

/* Whether the second word is a probe: the verb's synopsis says NAME for it. */
static bool takes_probe(const struct ctl_verb *v)
{
	return strstr(v->args, "enable NAME") != NULL;
}

static void bash_verb(struct mno_buf *out, const struct ctl_verb *v)
{
	mno_buf_addf(out, "\t%s)\n\t\tcase $prev in\n", v->name);
	bash_values(out, "\t\t", v->options);
	mno_buf_adds(out, "\t\t*)\n\t\t\tif [[ $cur == -* ]]; then words=\"$globals");
	add_option_names(out, v->options);
	mno_buf_adds(out, "\"\n\t\t\telif ((n == 0)); then words=");
	if (strcmp(v->words, "@metrics") == 0) {
		mno_buf_adds(out, "$(_mnoctl_names metrics)\n");
	} else {
		mno_buf_addc(out, '\'');
		add_first_words(out, v);
		mno_buf_adds(out, "'\n");
	}
	if (takes_probe(v))
		mno_buf_adds(out, "\t\t\telif ((n == 1)); then words=$(_mnoctl_names probes)\n");
	mno_buf_adds(out, "\t\t\tfi ;;\n\t\tesac ;;\n");
}

void ctl_complete_bash(struct mno_buf *out)
{
	mno_buf_adds(out,
		"# bash completion of mnoctl; load with: source <(mnoctl completion bash)\n"
		"_mnoctl_names()\n{\n"
		"\tmnoctl ${sock:+-s \"$sock\"} completion --names \"$1\" 2>/dev/null\n}\n"
		"_mnoctl()\n{\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
		"\tlocal verb='' sock='' words='' n=0 i w\n\tlocal globals='");
	add_option_names(out, ctl_globals);
	mno_buf_adds(out, "'\n\tCOMPREPLY=()\n"
			  "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n\t\tw=${COMP_WORDS[i]}\n"
			  "\t\tcase $w in\n\t\t-s|--socket) ((i++)); sock=${COMP_WORDS[i]} ;;\n"
			  "\t\t-*) ;;\n"
			  "\t\t*) if [[ -z $verb ]]; then verb=$w; else ((n++)); fi ;;\n"
			  "\t\tesac\n\tdone\n\tcase $prev in\n");
	bash_values(out, "\t", ctl_globals);
	mno_buf_adds(out, "\tesac\n\tcase $verb in\n\t'')\n\t\twords=\"$globals ");
	add_verbs(out);
	mno_buf_adds(out, "\" ;;\n");
	for (size_t i = 0; i < ctl_n_verbs; i++)
		bash_verb(out, &ctl_verbs[i]);
	mno_buf_adds(out, "\tesac\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
			  "complete -F _mnoctl mnoctl\n");
}

/* Inside '...' and before ':' or '[' of _arguments. */
static void zsh_text(struct mno_buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			mno_buf_adds(out, "'\\''");
		else if (*s == ':' || *s == '[' || *s == ']' || *s == '\\')
			mno_buf_addf(out, "\\%c", *s);
		else
			mno_buf_addc(out, *s);
	}
}

static void zsh_action(struct mno_buf *out, const struct ctl_option *o)
{
	mno_buf_addf(out, ":%s:", o->metavar);
	if (o->type == CTL_WORD)
		mno_buf_addf(out, "(%s)", o->words);
	else if (o->type == CTL_KIND)
		mno_buf_adds(out, "{_mnoctl_names kinds}");
	else if (strcmp(o->name, "socket") == 0)
		mno_buf_adds(out, "_files");
}

static void zsh_options(struct mno_buf *out, const struct ctl_option *o)
{
	for (; o->name; o++) {
		if (o->hidden)
			continue;
		for (int letter = 0; letter < (o->letter ? 2 : 1); letter++) {
			mno_buf_adds(out, o->many ? " \\\n\t\t'*" : " \\\n\t\t'");
			if (letter)
				mno_buf_addf(out, "-%c[", o->letter);
			else
				mno_buf_addf(out, "--%s[", o->name);
			zsh_text(out, o->help);
			mno_buf_addc(out, ']');
			if (o->type != CTL_FLAG)
				zsh_action(out, o);
			mno_buf_addc(out, '\'');
		}
	}
}

static void zsh_verb(struct mno_buf *out, const struct ctl_verb *v)
{
	mno_buf_addf(out, "\t%s)\n\t\t_arguments $globals", v->name);
	zsh_options(out, v->options);
	if (strcmp(v->words, "@metrics") == 0) {
		mno_buf_adds(out, " \\\n\t\t'1:metric:{_mnoctl_names metrics}'");
	} else if (*v->words) {
		mno_buf_adds(out, " \\\n\t\t'1:argument:(");
		add_first_words(out, v);
		mno_buf_adds(out, ")'");
	}
	if (takes_probe(v))
		mno_buf_adds(out, " \\\n\t\t'2:probe:{_mnoctl_names probes}'");
	mno_buf_adds(out, " ;;\n");
}

void ctl_complete_zsh(struct mno_buf *out)
{
	mno_buf_adds(out, "#compdef mnoctl\n# zsh completion of mnoctl; save as _mnoctl in a "
			  "folder of $fpath\n_mnoctl_names()\n{\n\tlocal -a found\n"
			  "\tfound=(${(f)\"$(mnoctl completion --names $1 2>/dev/null)\"})\n"
			  "\tcompadd -a found\n}\n_mnoctl()\n{\n"
			  "\tlocal context state state_descr line\n\ttypeset -A opt_args\n"
			  "\tlocal -a globals verbs\n\tglobals=(");
	zsh_options(out, ctl_globals);
	mno_buf_adds(out, ")\n\tverbs=(");
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		mno_buf_addf(out, " \\\n\t\t'%s:", ctl_verbs[i].name);
		zsh_text(out, ctl_verbs[i].summary);
		mno_buf_addc(out, '\'');
	}
	mno_buf_adds(out, ")\n\t_arguments -C $globals '1: :->verb' '*:: :->rest'\n"
			  "\tcase $state in\n\tverb) _describe verb verbs; return ;;\n\tesac\n"
			  "\t[[ $state == rest ]] || return\n\tcase $words[1] in\n");
	for (size_t i = 0; i < ctl_n_verbs; i++)
		zsh_verb(out, &ctl_verbs[i]);
	mno_buf_adds(out, "\tesac\n}\nif [[ $funcstack[1] == _mnoctl ]]; then _mnoctl \"$@\"\n"
			  "else compdef _mnoctl mnoctl; fi\n");
}
