/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of all formats share. */
#pragma once

#include <locale.h>
#include <string.h>

#include "mno/buf.h"
#include "mno/ingest.h"

#define INGEST_BATCH      4096u
#define INGEST_LINE_MAX   (1u << 20)
#define INGEST_RECORD_MAX (8u << 20)
#define INGEST_NONE       UINT32_MAX
#define INGEST_T_MAX      9000000000000000LL /* ms; far beyond any bound that makes sense */

enum { INGEST_COLUMNS = 65536 };

/* --- labels.c ----------------------------------------------------------------------------------- */

/* Labels of one series, on their way to the canonical key. Borrowed texts. */
struct ingest_label {
	const char *name, *value;
	uint32_t name_len, value_len;
};
struct ingest_labels {
	const struct ingest_label *metric; /* of v, or NULL */
	size_t n;
	struct ingest_label v[128];
	struct mno_buf text; /* values without their escapes */
};
/* Adds one label; "__name__" is the metric's name. An empty value is no label. */
enum mno_ingest_reason ingest_label_add(
	struct ingest_labels *l, const char *name, size_t name_len, const char *value, size_t len);
/* Sorts, checks, and writes the key of what was added into @out, which is emptied first. */
enum mno_ingest_reason ingest_labels_key(struct ingest_labels *l, struct mno_buf *out);
/* The same from the text `name{a="x"}`, which must be all of @s..@end. */
enum mno_ingest_reason ingest_labels_parse(
	struct ingest_labels *l, const char *s, const char *end, struct mno_buf *out);

/* --- cache.c ------------------------------------------------------------------------------------ */

/*
 * What a series was written like -> its number. Inputs repeat their series in the same order, so
 * the one that followed the last time is tried before anything is hashed.
 */
struct ingest_entry {
	const char *text; /* owned by the cache */
	uint64_t hash;
	uint32_t len, series;
	uint32_t next; /* entry that followed the last time */
	bool braces;   /* the text ends by itself */
};
struct ingest_cache {
	struct ingest_entry *v;
	size_t n, cap;
	uint32_t *slots; /* entry + 1, 0 = empty */
	size_t n_slots;
	uint32_t last; /* entry */
	uint32_t n_series;
	struct ingest_page {
		struct ingest_page *next;
		char data[];
	} * pages;
	char *at; /* in the newest page, where .left bytes are free */
	size_t left, bytes;
	uint64_t seed;
};
void ingest_cache_done(struct ingest_cache *c);
bool ingest_cache_full(const struct ingest_cache *c, size_t len);
/* Forgets all. Keeps no memory but the tables. */
void ingest_cache_clear(struct ingest_cache *c);
uint64_t ingest_hash(const struct ingest_cache *c, const char *s, size_t n);
/* The entry written as @s, or INGEST_NONE. */
uint32_t ingest_cache_find(const struct ingest_cache *c, const char *s, size_t n, uint64_t hash);
/* -ENOMEM; *@ret is the new entry. */
int ingest_cache_add(struct ingest_cache *c, const char *s, size_t n, uint64_t hash,
	uint32_t series, uint32_t *ret);

static inline bool ingest_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Whether the line @s..@end begins with the entry's text, and that is all of its series. */
static inline bool ingest_begins(const struct ingest_entry *e, const char *s, const char *end)
{
	const char *p = s + e->len;

	if ((size_t)(end - s) <= e->len || memcmp(s, e->text, e->len) != 0)
		return false;
	if (e->braces)
		return true;
	if (!ingest_is_blank(*p))
		return false;
	while (p < end && ingest_is_blank(*p))
		p++;
	return p < end && *p != '{';
}

/* The entry that the line most likely begins with, if it does; else INGEST_NONE. */
static inline uint32_t ingest_cache_guess(struct ingest_cache *c, const char *s, const char *end)
{
	uint32_t next;

	if (!c->n)
		return INGEST_NONE;
	next = c->v[c->last].next;
	if (ingest_begins(&c->v[next], s, end))
		return c->last = next;
	return ingest_begins(&c->v[c->last], s, end) ? c->last : INGEST_NONE;
}

/* After a look-up that no guess saved: what came now is what follows the entry before it. */
static inline void ingest_cache_follow(struct ingest_cache *c, uint32_t entry)
{
	if (c->last < c->n)
		c->v[c->last].next = entry;
	c->last = entry;
}

/* --- number.c ----------------------------------------------------------------------------------- */

/*
 * A float as Go's strconv.ParseFloat reads it in decimal, all of @s..@end. Exact: short decimals
 * by one multiplication or division of exact doubles (Clinger 1990, fast path), others by strtod.
 */
bool ingest_f64(locale_t c_locale, const char *s, const char *end, double *ret);
/* A whole number, all of it. */
bool ingest_i64(const char *s, const char *end, int64_t *ret);
/* Seconds with a fraction to ms, rounded to the nearest; all of it. */
bool ingest_seconds(locale_t c_locale, const char *s, const char *end, int64_t *ret_ms);
/* RFC 3339 ("2026-11-02T14:02:11.5Z", a blank for the T, an offset), Unix seconds, or Unix
 * milliseconds: numbers from 1e11 on. */
bool ingest_any_time(locale_t c_locale, const char *s, const char *end, int64_t *ret_ms);

/* --- the ingester ------------------------------------------------------------------------------- */

struct ingest_ops {
	size_t state_size; /* zeroed memory of the format's own, at p->state */
	/* Next bytes; errors go to p->err. */
	void (*feed)(struct mno_ingest *p, const char *s, size_t n);
	/* The input ended. */
	void (*end)(struct mno_ingest *p);
	void (*done)(struct mno_ingest *p); /* frees what the state owns; may be NULL */
	/* How much @s (first bytes of an input) looks like it: 0 = not at all, up to 100. */
	unsigned (*looks)(const char *s, size_t n);
};
struct mno_ingest_format {
	const char *name, *extensions, *summary;
	const struct ingest_ops *ops;
};
#define FORMAT(name, symbol, ext, summary) extern const struct ingest_ops symbol;
#include "formats.def"
#undef FORMAT

struct mno_ingest {
	const struct mno_ingest_format *format;
	struct mno_ingest_opts o;
	struct mno_ingest_sink sink;
	void *arg;
	int err;
	locale_t c_locale;
	struct ingest_cache cache;
	struct ingest_labels labels;
	struct mno_buf key;
	struct mno_buf carry; /* the part of a line that came so far */
	bool skipping;        /* of a line that is too long */
	bool in_quotes;       /* of a record that came so far */
	size_t scanned;       /* of carry */
	void *state;
	size_t n;
	struct mno_ingest_sample batch[INGEST_BATCH];
	struct mno_ingest_stat st;
	/* the timestamp read last, as text: neighbours share it */
	char t_text[24];
	size_t t_len;
	int64_t t_ms;
};

/* Counts @n refused samples, keeps the text as an example if it is among the first. */
void ingest_refuse(struct mno_ingest *p, enum mno_ingest_reason why, uint64_t n, const char *s,
	const char *end);
/* Hands over the batch. */
void ingest_flush(struct mno_ingest *p);
/* Why a series cannot be one; 0: it can. */
enum mno_ingest_reason ingest_series_why(struct mno_ingest *p, const char *s, const char *end);
/* Number of the series written as @s..@end (all of it), or INGEST_NONE and why. */
uint32_t ingest_series(
	struct mno_ingest *p, const char *s, const char *end, enum mno_ingest_reason *ret_why);
/* The same from p->labels; @raw is what identifies them in the input. */
uint32_t ingest_series_labels(
	struct mno_ingest *p, const char *raw, size_t n, enum mno_ingest_reason *ret_why);

/* Whether a sample of that time is wanted. */
static inline enum mno_ingest_reason ingest_check_time(const struct mno_ingest *p, int64_t t_ms)
{
	if (t_ms < p->o.min_ms)
		return MNO_INGEST_TOO_OLD;
	return t_ms > p->o.max_ms ? MNO_INGEST_TOO_NEW : MNO_INGEST_TAKEN;
}
static inline void ingest_emit(struct mno_ingest *p, uint32_t series, int64_t t_ms, double v)
{
	p->batch[p->n++] = (struct mno_ingest_sample){series, t_ms, v};
	if (p->n == INGEST_BATCH)
		ingest_flush(p);
}

/*
 * Cuts the input into lines (without their ends) for @fn. What is longer than INGEST_LINE_MAX is
 * refused once and read over.
 */
typedef void (*ingest_line_fn)(struct mno_ingest *p, const char *s, const char *end);
void ingest_lines(struct mno_ingest *p, const char *s, size_t n, ingest_line_fn fn);
/* The last line, if it has no end. */
void ingest_lines_end(struct mno_ingest *p, ingest_line_fn fn);

/* --- text.c: what the two text formats have in common --------------------------------------------- */

/* End of the series at @s: behind its braces, or its name. NULL when the braces do not close. */
const char *ingest_series_end(const char *s, const char *end);
/* End of the word at @s. */
static inline const char *ingest_word_end(const char *s, const char *end)
{
	while (s < end && !ingest_is_blank(*s))
		s++;
	return s;
}
static inline const char *ingest_blanks(const char *s, const char *end)
{
	while (s < end && ingest_is_blank(*s))
		s++;
	return s;
}
/* One sample line; @exact: as OpenMetrics has it, seconds and exemplars. */
void ingest_text_sample(struct mno_ingest *p, const char *s, const char *end, bool exact);
/* What looks like either: 0..100, and whether timestamps look like seconds (-1: there is none). */
unsigned ingest_text_looks(const char *s, size_t n, int *ret_seconds);
