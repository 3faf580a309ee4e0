/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb of mnoctl uses: its arguments, the agent's answers, the output. One thread. */
#pragma once

#include <json-c/json.h>
#include "mno/buf.h"
#include "mno/client.h"
#include "cli.h"

#define CTL_TEXT_MAX 1024 /* of one escaped string from outside */

struct ctl {
	const struct ctl_args *args;
	const char *socket;
	struct mno_client *client; /* owned */
	bool json;
	bool tty, color, utf8;    /* of standard output */
	size_t label;             /* columns of ctl_field()'s labels, at least 10 */
	int width;                /* columns; 0 = not a terminal, no limit */
	int quiet;                /* errors are expected: do not print them */
	struct ctl_error last;    /* printed or not */
	struct mno_buf out;       /* written by ctl_flush() */
	volatile const int *stop; /* set by SIGINT and SIGTERM */
	unsigned next_text;
	char text[16][CTL_TEXT_MAX]; /* ctl_esc()'s ring */
};

/* ---- errors ---- */

/* Prints the error where it belongs (-j: JSON on stdout) and returns its exit code. */
int ctl_error_print(struct ctl *c, const struct ctl_error *e);
/* The same from parts; @hint may be NULL. */
int ctl_fail(struct ctl *c, int exit_code, const char *hint, const char *fmt, ...) _printf_(4, 5);

/* ---- the agent ---- */

struct ctl_answer {
	struct mno_buf body;
	struct json_object *root; /* borrowed by the accessors below */
	double completeness;      /* 0..1 or -1 */
	uint64_t took_ns;
};
void ctl_answer_done(struct ctl_answer *a);
#define _cleanup_answer_ _cleanup_(ctl_answer_done)

/* Asks and parses. 0, or the exit code after having printed why. @ret needs ctl_answer_done(). */
int ctl_ask(struct ctl *c, const char *method, const char *target, struct ctl_answer *ret);
/* The same with a body. */
int ctl_send(struct ctl *c, const char *method, const char *target, const void *body, size_t len,
	struct ctl_answer *ret);
static inline int ctl_get(struct ctl *c, const char *target, struct ctl_answer *ret)
{
	return ctl_ask(c, "GET", target, ret);
}
/* Appends "?name=value" or "&name=value"; nothing when @value is NULL. */
void ctl_param(struct mno_buf *target, const char *name, const char *value);
/* Prints the answer as it came (-j), safe for terminals. */
void ctl_put_json(struct ctl *c, const struct mno_buf *body);
void ctl_put_json_object(struct ctl *c, struct json_object *o);
/* Behind ctl_ask() and its like, with what it returned as @r: true when nothing is left to show, as
 * that failed or the answer was printed as it came (-j). @r is the exit code then. */
static inline bool ctl_answered(struct ctl *c, int r, const struct ctl_answer *a)
{
	if (r == 0 && c->json)
		ctl_put_json(c, &a->body);
	return r || c->json;
}
/* What a failed request means: fills @e from the error number or from status and body. */
void ctl_explain_errno(const struct ctl *c, int err, struct ctl_error *e);
void ctl_explain_status(int status, const char *body, size_t len, struct ctl_error *e);
/* Follows an event stream; like mno_client_stream() with errors printed; 0 or exit code. */
int ctl_follow(struct ctl *c, const char *target,
	int (*fn)(void *arg, const char *event, const char *data, size_t len), void *arg);

/* JSON of unknown shape: a missing member or one of another type reads as the default. */
struct json_object *jget(struct json_object *o, const char *key);
const char *jstr(struct json_object *o, const char *key); /* "" when missing */
uint64_t ju64(struct json_object *o, const char *key);    /* 0 when missing or negative */
double jf64(struct json_object *o, const char *key);      /* NaN when missing or null */
bool jtrue(struct json_object *o, const char *key);
bool jnull(struct json_object *o, const char *key); /* missing or null */
size_t jlen(struct json_object *arr);               /* 0 when not an array */
struct json_object *jidx(struct json_object *arr, size_t i);

/* ---- output: collected in c->out ---- */

enum ctl_style { CTL_PLAIN, CTL_BOLD, CTL_DIM, CTL_GOOD, CTL_WARN, CTL_BAD };

/* @s made safe for a terminal; valid until 15 more calls. NULL reads as "". */
const char *ctl_esc(struct ctl *c, const char *s);
void ctl_style_on(struct ctl *c, enum ctl_style s);
void ctl_style_off(struct ctl *c, enum ctl_style s);
void ctl_printf(struct ctl *c, enum ctl_style s, const char *fmt, ...) _printf_(3, 4);
/* "  label      text...", wrapped to the terminal with a hanging indent; one line in a pipe. */
void ctl_field(struct ctl *c, const char *label, enum ctl_style s, const char *fmt, ...)
	_printf_(4, 5);
/* Makes room for the longest @key of @rows as ctl_field()'s label; NULL = back to normal. */
void ctl_labels(struct ctl *c, struct json_object *rows, const char *key);
/* "title  text": the text goes below when the terminal is too narrow for both. */
void ctl_head(struct ctl *c, const char *title, const char *fmt, ...) _printf_(3, 4);
/* Whether the @n bytes of a UTF-8 character hide or reorder the text around them. */
bool ctl_is_deceptive(const char *s, size_t n);
/* The last, dim line; in a pipe it begins with "# ". */
void ctl_footer(struct ctl *c, const char *fmt, ...) _printf_(2, 3);
/* "complete 100 %" from {seen,stored,sampled,dropped} or a 0..1 number; "" when unknown. */
const char *ctl_completeness(struct ctl *c, struct json_object *o);
/* Writes c->out. 0 or the exit code after having said why. */
int ctl_flush(struct ctl *c);
/* Columns that @s takes. */
size_t ctl_columns(const char *s);
/* Bytes of @s that fit into @columns. */
size_t ctl_fit(const char *s, size_t columns);

/* Values with their unit; valid until 15 more ctl_esc()-like calls. NaN reads as a dash. */
const char *ctl_percent(struct ctl *c, double v);
const char *ctl_bytes(struct ctl *c, double v);
const char *ctl_count(struct ctl *c, double v);
const char *ctl_exact(struct ctl *c, uint64_t v); /* "18,204,113" */
/* "1 process", "18,204 processes" */
const char *ctl_things(struct ctl *c, uint64_t n, const char *one, const char *many);
const char *ctl_seconds(struct ctl *c, double s);
const char *ctl_ns(struct ctl *c, double ns);
const char *ctl_ago(struct ctl *c, uint64_t unix_ns);
const char *ctl_clock(struct ctl *c, uint64_t unix_ns); /* local "14:02:11.123", with date if old */
const char *ctl_dash(const struct ctl *c);
/* Room for one more such value. */
char *ctl_scratch(struct ctl *c);
/* A line of block characters for @n values; gaps are NaN. */
const char *ctl_spark(struct ctl *c, const double *v, size_t n, size_t columns);

struct ctl_col {
	const char *head;
	bool right;   /* numbers */
	bool flex;    /* may be cut to fit the terminal */
	uint8_t drop; /* 1.. = dropped on a narrow terminal, the highest first; 0 = stays */
};

struct ctl_cell {
	uint32_t off; /* in ctl_table.text */
	uint16_t columns;
	uint8_t style;
};

struct ctl_table {
	const struct ctl_col *cols;
	size_t n_cols;
	struct mno_buf text;
	struct ctl_cell *cells; /* owned; row after row */
	size_t n_cells, cap;
	int err;
	size_t skip, max_rows; /* rows shown, 0 = all */
};
void ctl_table_init(struct ctl_table *t, const struct ctl_col *cols, size_t n_cols);
void ctl_table_done(struct ctl_table *t);
#define _cleanup_table_ _cleanup_(ctl_table_done)
/* Appends the next cell, row by row. At most 4 M cells, then the table keeps an error. */
void ctl_cell(struct ctl_table *t, enum ctl_style s, const char *fmt, ...) _printf_(3, 4);
void ctl_table_print(struct ctl *c, const struct ctl_table *t);

/* ---- questions several verbs ask ---- */

/* Best name for @word among member @key of the agent's probes ("name" or "kinds"); "" if none. */
const char *ctl_nearest_probe_word(struct ctl *c, const char *word, bool kinds, bool *ret_known);
/* "it is one of: ..." with the agent's probes or kinds; "" when it does not answer. */
const char *ctl_probe_words(struct ctl *c, bool kinds);
/* @sum (NaN: nothing yet) and the CPU share of @probe, if its price was measured. */
double ctl_sum_measured(double sum, struct json_object *probe);
/* What a process used: a running one's figures come with its end, 0 then means not known yet. */
double ctl_used(struct json_object *row, const char *key);
/* One line of a process: "48119 worker.sh". */
const char *ctl_proc_name(struct ctl *c, struct json_object *row);
const char *ctl_argv(struct ctl *c, struct json_object *row);
/* "exit 0", "SIGKILL (out of memory)", "running"; and whether that is bad. */
const char *ctl_ending(struct ctl *c, struct json_object *row, enum ctl_style *ret_style);

/* Strict JSON, at most 32 levels; NULL when it is not. The caller puts it. */
struct json_object *ctl_parse_json(const char *text, size_t len);
