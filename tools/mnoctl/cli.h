/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: tables of verbs and options, from which parsing, help, the man page and the
 * completion scripts are derived. Pure: nothing is printed here, nothing is asked.
 */
#pragma once

#include "mno/buf.h"
#include "mno/macro.h"

struct ctl;

/* Fixed: scripts rely on these. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_NO = 1,          /* the answer is no: not found, unhealthy, already so */
	CTL_USAGE = 2,       /* the command line cannot be understood */
	CTL_UNREACHABLE = 3, /* no agent, or it went away */
	CTL_REFUSED = 4,     /* the caller lacks the rights */
	CTL_INVALID = 5,     /* a value or an expression is wrong */
	CTL_INTERNAL = 6,    /* a fault of mnoctl or of the agent */
	CTL_BUSY = 7,        /* restore: an agent works on the state directory */
};

struct ctl_exit_row {
	const char *code; /* in JSON errors */
	const char *help;
};
extern const struct ctl_exit_row ctl_exits[CTL_BUSY + 1];

struct ctl_error {
	int exit;
	char msg[1024], hint[512];
};
/* Fills @e and returns @exit_code. @hint may be NULL. */
int ctl_error_set(struct ctl_error *e, int exit_code, const char *hint, const char *fmt, ...)
	_printf_(4, 5);

enum ctl_type {
	CTL_FLAG,
	CTL_TEXT,
	CTL_DURATION, /* mno_duration_parse() */
	CTL_TIME,     /* ctl_time_parse() */
	CTL_COUNT,    /* a whole number from 1 */
	CTL_NUMBER,   /* a whole number from 0 */
	CTL_WORD,     /* one of .words */
	CTL_KIND,     /* an event kind: the agent knows them */
};

struct ctl_option {
	const char *name;
	char letter; /* 0 = none */
	uint8_t type;
	bool many, hidden;
	const char *metavar; /* NULL for a flag */
	const char *help;
	const char *words; /* CTL_WORD: separated by spaces */
};

struct ctl_example {
	const char *command, *what;
};

struct ctl_verb {
	const char *name;
	const char *args;  /* synopsis of the positional arguments */
	const char *words; /* what the first one may be: names, or "@verbs", "@metrics" for those */
	uint8_t min, max;
	const char *summary, *detail;
	int (*fn)(struct ctl *c);
	const struct ctl_option *options; /* ends with a row without name */
	struct ctl_example examples[7];
};

/* From verbs.def, in the order of the help. */
extern const struct ctl_verb ctl_verbs[];
extern const size_t ctl_n_verbs;
extern const struct ctl_option ctl_globals[];

#define CTL_MAX_POS 8
#define CTL_MAX_SET 64

struct ctl_args {
	const struct ctl_verb *verb; /* NULL when only global options were given */
	const char *pos[CTL_MAX_POS];
	size_t n_pos;
	struct {
		const struct ctl_option *opt;
		const char *value; /* "" for a flag */
	} set[CTL_MAX_SET];
	size_t n_set;
};

/*
 * Reads the arguments; @ret borrows from @argv. Global options may stand anywhere before "--".
 * 0, or CTL_USAGE / CTL_INVALID with @err filled. With --help or --version the counts of
 * positional arguments are not checked.
 */
int ctl_parse(int argc, char *const argv[], struct ctl_args *ret, struct ctl_error *err);

/* The value of an option of this verb: NULL when not given. */
const char *ctl_opt(const struct ctl_args *a, const char *name);
static inline bool ctl_has(const struct ctl_args *a, const char *name)
{
	return ctl_opt(a, name) != NULL;
}
/* The @i-th value of an option that may be repeated, or NULL. */
const char *ctl_opt_nth(const struct ctl_args *a, const char *name, size_t i);
/* Checked when parsed already; @none when not given. */
uint64_t ctl_opt_u64(const struct ctl_args *a, const char *name, uint64_t none);
uint64_t ctl_opt_ns(const struct ctl_args *a, const char *name, uint64_t none);

const struct ctl_verb *ctl_verb_find(const char *name);
/* The entry of a space-separated list next to @word, if near enough; a copy in @buf or NULL. */
const char *ctl_nearest(const char *words, const char *word, char *buf, size_t size);
bool ctl_word_in(const char *words, const char *word);
/*
 * A point in time as people say it: "10m" (ago), "1700000000" or "1700000000.5" (Unix seconds),
 * "now", RFC 3339 "2026-11-02T14:02:11Z". 0 and Unix ns, or -EINVAL / -ERANGE.
 */
int ctl_time_parse(const char *s, uint64_t now_ns, uint64_t *ret_unix_ns);

/* Generated pages. */
void ctl_help_all(struct mno_buf *out);
void ctl_help_verb(struct mno_buf *out, const struct ctl_verb *v);
void ctl_help_man(struct mno_buf *out);
void ctl_help_json(struct mno_buf *out);
void ctl_complete_bash(struct mno_buf *out);
void ctl_complete_zsh(struct mno_buf *out);
