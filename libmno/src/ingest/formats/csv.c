/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CSV as RFC 4180 has it. The header line decides: `time,<series>,<series>...` has one row a time
 * (an empty field is no sample), `series,time,value` in any order has one row a sample.
 */
#include <errno.h>
#include <strings.h>
#include "../ingest_internal.h"

enum { LONG_SERIES, LONG_TIME, LONG_VALUE, LONG_FIELDS };

struct csv {
	enum { HEADER, WIDE, LONG, USELESS } mode;
	size_t n_fields;
	uint8_t order[LONG_FIELDS]; /* LONG: what the fields are */
	struct column {             /* WIDE */
		uint32_t series;    /* INGEST_NONE: refused */
		uint32_t why;
	} * columns;         /* owned */
	struct mno_buf text; /* a field without its quotes */
};

struct field {
	const char *s, *end;
};

/*
 * Takes the next field from *@s, which ends up behind its comma, or NULL behind the last one.
 * false: a quote that does not close, or something behind one that does.
 */
static bool next_field(struct csv *c, const char **s, const char *end, struct field *ret)
{
	const char *p = *s, *q;

	if (p == end || *p != '"') {
		q = memchr(p, ',', (size_t)(end - p));
		*s = q ? q + 1 : NULL;
		q = q ? q : end;
		p = ingest_blanks(p, q);
		while (q > p && ingest_is_blank(q[-1]))
			q--;
		*ret = (struct field){p, q};
		return !memchr(p, '"', (size_t)(q - p)) || memchr(p, '{', (size_t)(q - p));
	}
	mno_buf_reset(&c->text);
	for (p++; (q = memchr(p, '"', (size_t)(end - p))); p = q + 2) {
		mno_buf_add(&c->text, p, (size_t)(q - p));
		if (q + 1 == end || q[1] != '"')
			break;
		mno_buf_addc(&c->text, '"');
	}
	if (!q || c->text.err || (q + 1 < end && q[1] != ','))
		return false;
	*s = q + 1 < end ? q + 2 : NULL;
	ret->s = mno_buf_cstr(&c->text);
	ret->end = ret->s + c->text.len;
	return true;
}

static bool is_named(const struct field *f, const char *name)
{
	size_t n = strlen(name);

	return (size_t)(f->end - f->s) == n && strncasecmp(f->s, name, n) == 0;
}

static bool is_time(const struct field *f)
{
	return is_named(f, "time") || is_named(f, "timestamp");
}

/* --- header ------------------------------------------------------------------------------------- */

static bool read_long_header(struct csv *c, const char *s, const char *end)
{
	bool seen[LONG_FIELDS] = {false};
	struct field f;

	for (c->n_fields = 0; s; c->n_fields++) {
		uint8_t what;

		if (c->n_fields == LONG_FIELDS || !next_field(c, &s, end, &f))
			return false;
		if (is_time(&f))
			what = LONG_TIME;
		else if (is_named(&f, "series"))
			what = LONG_SERIES;
		else if (is_named(&f, "value"))
			what = LONG_VALUE;
		else
			return false;
		if (seen[what])
			return false;
		seen[what] = true;
		c->order[c->n_fields] = what;
	}
	return c->n_fields == LONG_FIELDS;
}

static bool add_column(struct mno_ingest *p, const struct field *f)
{
	struct csv *c = p->state;
	enum mno_ingest_reason why = MNO_INGEST_TAKEN;
	struct column *col;

	if (c->n_fields % 64 == 0) {
		col = reallocarray(c->columns, c->n_fields + 64, sizeof(*col));
		if (!col) {
			p->err = -ENOMEM;
			return false;
		}
		c->columns = col;
	}
	col = &c->columns[c->n_fields++];
	col->series = ingest_series(p, f->s, f->end, &why);
	col->why = why;
	if (why)
		ingest_refuse(p, why, 1, f->s, f->end);
	return true;
}

static bool read_wide_header(struct mno_ingest *p, const char *s, const char *end)
{
	struct csv *c = p->state;
	struct field f;

	c->n_fields = 0;
	if (!next_field(c, &s, end, &f) || !is_time(&f))
		return false;
	while (s) {
		if (c->n_fields == INGEST_COLUMNS || !next_field(c, &s, end, &f) ||
			!add_column(p, &f))
			return false;
	}
	return c->n_fields > 0;
}

static void read_header(struct mno_ingest *p, const char *s, const char *end)
{
	struct csv *c = p->state;

	if (end - s >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) /* what spreadsheets write first */
		s += 3;
	if (read_long_header(c, s, end)) {
		c->mode = LONG;
	} else if (read_wide_header(p, s, end)) {
		c->mode = WIDE;
	} else {
		c->mode = USELESS;
		ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, s, end);
	}
}

/* --- rows --------------------------------------------------------------------------------------- */

static enum mno_ingest_reason read_time(struct mno_ingest *p, const struct field *f, int64_t *ret)
{
	if (f->s == f->end) {
		if (!p->o.has_default_ms)
			return MNO_INGEST_NO_TIME;
		*ret = p->o.default_ms;
	} else if (!ingest_any_time(p->c_locale, f->s, f->end, ret)) {
		return MNO_INGEST_BAD_TIME;
	}
	return ingest_check_time(p, *ret);
}

static void read_long_row(struct mno_ingest *p, const char *s, const char *end)
{
	const char *line = s;
	struct csv *c = p->state;
	enum mno_ingest_reason why = MNO_INGEST_TAKEN;
	uint32_t series = INGEST_NONE;
	int64_t t = 0;
	double v = 0;
	size_t i = 0;

	for (; s && !why; i++) {
		struct field f;

		if (i == LONG_FIELDS || !next_field(c, &s, end, &f))
			why = MNO_INGEST_BAD_SYNTAX;
		else if (c->order[i] == LONG_SERIES)
			series = ingest_series(p, f.s, f.end, &why);
		else if (c->order[i] == LONG_TIME)
			why = read_time(p, &f, &t);
		else if (!ingest_f64(p->c_locale, f.s, f.end, &v))
			why = MNO_INGEST_BAD_VALUE;
	}
	if (!why && i < LONG_FIELDS)
		why = MNO_INGEST_BAD_SYNTAX;
	if (why)
		ingest_refuse(p, why, 1, line, end);
	else if (series != INGEST_NONE)
		ingest_emit(p, series, t, v);
}

static void read_cell(struct mno_ingest *p, const struct column *col, int64_t t,
	enum mno_ingest_reason why, const struct field *f)
{
	double v;

	if (f->s == f->end)
		return;
	if (!why)
		why = (enum mno_ingest_reason)col->why;
	if (!why && !ingest_f64(p->c_locale, f->s, f->end, &v))
		why = MNO_INGEST_BAD_VALUE;
	if (why)
		ingest_refuse(p, why, 1, f->s, f->end);
	else if (col->series != INGEST_NONE)
		ingest_emit(p, col->series, t, v);
}

/* A bad time refuses every sample of the row; a bad value only itself. */
static void read_wide_row(struct mno_ingest *p, const char *s, const char *end)
{
	const char *line = s;
	struct csv *c = p->state;
	enum mno_ingest_reason why;
	struct field f;
	int64_t t = 0;
	size_t i = 0;

	if (!next_field(c, &s, end, &f)) {
		ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, line, end);
		return;
	}
	why = read_time(p, &f, &t);
	for (; s && i < c->n_fields; i++) {
		if (!next_field(c, &s, end, &f))
			break;
		read_cell(p, &c->columns[i], t, why, &f);
	}
	if (s || i < c->n_fields) /* fewer or more fields than the header has */
		ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, line, end);
}

static void on_record(struct mno_ingest *p, const char *s, const char *end)
{
	struct csv *c = p->state;

	if (s == end)
		return;
	if (c->mode == HEADER)
		read_header(p, s, end);
	else if (c->mode == WIDE)
		read_wide_row(p, s, end);
	else if (c->mode == LONG)
		read_long_row(p, s, end);
	else
		ingest_refuse(p, MNO_INGEST_BAD_SYNTAX, 1, s, end);
}

/* --- records ------------------------------------------------------------------------------------ */

static void one_record(struct mno_ingest *p, const char *s, const char *end)
{
	p->st.lines++;
	if (end > s && end[-1] == '\r')
		end--;
	on_record(p, s, end);
}

/* A quote that never closes would take all the rest: the record is given up at its limit. */
static void give_up(struct mno_ingest *p)
{
	p->st.lines++;
	ingest_refuse(p, MNO_INGEST_TOO_LONG, 1, p->carry.data, p->carry.data + p->carry.len);
	mno_buf_reset(&p->carry);
	p->in_quotes = false;
	p->skipping = true;
}

static void keep(struct mno_ingest *p, const char *s, const char *end)
{
	mno_buf_add(&p->carry, s, (size_t)(end - s));
	if (p->carry.err)
		p->err = -ENOMEM;
}

/* Where the record that goes on at @s ends, or where it gets too long, or @end. */
static const char *record_end(struct mno_ingest *p, const char *s, const char *end)
{
	const char *limit = s + MNO_MIN((size_t)(end - s), INGEST_RECORD_MAX - p->carry.len);

	for (; s < limit; s++) {
		if (p->in_quotes) {
			s = memchr(s, '"', (size_t)(limit - s));
			if (!s)
				return limit;
			p->in_quotes = false;
		} else if (*s == '\n') {
			return s;
		} else if (*s == '"') {
			p->in_quotes = true;
		}
	}
	return limit;
}

static void skip_line(struct mno_ingest *p, const char **s, const char *end)
{
	const char *nl = memchr(*s, '\n', (size_t)(end - *s));

	p->skipping = !nl;
	*s = nl ? nl + 1 : end;
}

static void feed(struct mno_ingest *p, const char *s, size_t n)
{
	const char *end = s + n, *e;

	while (s < end && !p->err) {
		if (p->skipping) {
			skip_line(p, &s, end);
			continue;
		}
		e = record_end(p, s, end);
		if (e == end || *e != '\n' || p->in_quotes) {
			keep(p, s, e);
			if (p->carry.len == INGEST_RECORD_MAX)
				give_up(p);
			s = e;
			continue;
		}
		if (p->carry.len) {
			keep(p, s, e);
			one_record(p, p->carry.data, p->carry.data + p->carry.len);
			mno_buf_reset(&p->carry);
		} else {
			one_record(p, s, e);
		}
		s = e + 1;
	}
}

static void end(struct mno_ingest *p)
{
	if (p->carry.len && p->in_quotes) {
		p->st.lines++;
		ingest_refuse(p, MNO_INGEST_CUT, 1, p->carry.data, p->carry.data + p->carry.len);
	} else if (p->carry.len) {
		one_record(p, p->carry.data, p->carry.data + p->carry.len);
	}
	mno_buf_reset(&p->carry);
}

static void done(struct mno_ingest *p)
{
	struct csv *c = p->state;

	free(c->columns);
	mno_buf_done(&c->text);
}

static unsigned looks(const char *s, size_t n)
{
	const char *nl = memchr(s, '\n', n), *end = nl ? nl : s + n;
	struct csv c = {0};
	struct field f;
	unsigned score = 0;

	if (n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3))
		s += 3;
	if (read_long_header(&c, s, nl && nl > s && nl[-1] == '\r' ? nl - 1 : end))
		score = 95;
	else if (next_field(&c, &s, end, &f) && s && is_time(&f))
		score = 90;
	mno_buf_done(&c.text);
	return score;
}

const struct ingest_ops ingest_csv = {
	.state_size = sizeof(struct csv), .feed = feed, .end = end, .done = done, .looks = looks};
