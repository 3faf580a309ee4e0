/* SPDX-License-Identifier: Apache-2.0 */
/* Columns. On a terminal: dropped and cut until they fit; in a pipe: everything, aligned. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include "ctl.h"

#define MAX_CELLS (4u << 20)
#define MAX_COLS  24
#define GAP       2
#define FLEX_MIN  8

void ctl_table_init(struct ctl_table *t, const struct ctl_col *cols, size_t n_cols)
{
	*t = (struct ctl_table){.cols = cols, .n_cols = MNO_MIN(n_cols, (size_t)MAX_COLS)};
}

void ctl_table_done(struct ctl_table *t)
{
	mno_buf_done(&t->text);
	free(t->cells);
	*t = (struct ctl_table){0};
}

static struct ctl_cell *new_cell(struct ctl_table *t)
{
	if (t->n_cells == t->cap) {
		size_t cap = MNO_MAX(t->cap * 2, (size_t)256);
		struct ctl_cell *p =
			cap <= MAX_CELLS ? reallocarray(t->cells, cap, sizeof(*p)) : NULL;

		if (!p) {
			t->err = cap <= MAX_CELLS ? -ENOMEM : -E2BIG;
			return NULL;
		}
		t->cells = p;
		t->cap = cap;
	}
	return &t->cells[t->n_cells++];
}

void ctl_cell(struct ctl_table *t, enum ctl_style s, const char *fmt, ...)
{
	char text[CTL_TEXT_MAX];
	struct ctl_cell *cell = new_cell(t);
	va_list ap;

	if (!cell)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*cell = (struct ctl_cell){.off = (uint32_t)t->text.len, .style = (uint8_t)s};
	cell->columns = (uint16_t)ctl_columns(text);
	mno_buf_add(&t->text, text, strlen(text) + 1);
}

/* Width of each column, 0 = dropped. */
struct layout {
	size_t width[MAX_COLS];
	size_t from, to; /* rows */
};

static size_t total(const struct ctl_table *t, const struct layout *l)
{
	size_t sum = 0;

	for (size_t i = 0; i < t->n_cols; i++)
		sum += l->width[i] ? l->width[i] + GAP : 0;
	return sum ? sum - GAP : 0;
}

/* Drops the column with the highest number; false when none is left to drop. */
static bool drop_one(const struct ctl_table *t, struct layout *l)
{
	size_t worst = t->n_cols;

	for (size_t i = 0; i < t->n_cols; i++)
		if (l->width[i] && t->cols[i].drop &&
			(worst == t->n_cols || t->cols[i].drop > t->cols[worst].drop))
			worst = i;
	if (worst == t->n_cols)
		return false;
	l->width[worst] = 0;
	return true;
}

/* Narrows flexible columns towards @limit, but not below @least. */
static void squeeze(const struct ctl_table *t, struct layout *l, size_t limit, size_t least)
{
	while (total(t, l) > limit) {
		size_t widest = t->n_cols;

		for (size_t i = 0; i < t->n_cols; i++)
			if (t->cols[i].flex && l->width[i] > least &&
				(widest == t->n_cols || l->width[i] > l->width[widest]))
				widest = i;
		if (widest == t->n_cols)
			return;
		l->width[widest]--;
	}
}

static void fit(const struct ctl *c, const struct ctl_table *t, struct layout *l)
{
	size_t rows = t->n_cells / t->n_cols;

	l->from = MNO_MIN(t->skip, rows);
	l->to = t->max_rows ? MNO_MIN(l->from + t->max_rows, rows) : rows;
	for (size_t i = 0; i < t->n_cols; i++) {
		l->width[i] = ctl_columns(t->cols[i].head);
		for (size_t r = l->from; r < l->to; r++)
			l->width[i] =
				MNO_MAX(l->width[i], (size_t)t->cells[r * t->n_cols + i].columns);
	}
	if (!c->width)
		return;
	squeeze(t, l, (size_t)c->width, 24);
	while (total(t, l) > (size_t)c->width && drop_one(t, l))
		squeeze(t, l, (size_t)c->width, 24);
	squeeze(t, l, (size_t)c->width, FLEX_MIN);
}

static void put_cell(struct ctl *c, const struct ctl_table *t, const struct layout *l, size_t col,
	const char *text, size_t columns, enum ctl_style s, bool last)
{
	size_t w = l->width[col], len = strlen(text), shown = columns;
	bool cut = columns > w;

	if (cut) {
		len = ctl_fit(text, w - 1);
		shown = w;
	}
	if (t->cols[col].right)
		mno_buf_addf(&c->out, "%*s", (int)(w - shown), "");
	ctl_style_on(c, s);
	mno_buf_add(&c->out, text, len);
	if (cut)
		mno_buf_adds(&c->out, "\u2026");
	ctl_style_off(c, s);
	if (!last)
		mno_buf_addf(&c->out, "%*s", (int)(t->cols[col].right ? GAP : w - shown + GAP), "");
}

void ctl_table_print(struct ctl *c, const struct ctl_table *t)
{
	struct layout l;
	size_t last = 0;

	if (t->err || t->text.err) {
		c->out.err = -ENOMEM;
		return;
	}
	fit(c, t, &l);
	for (size_t i = 0; i < t->n_cols; i++)
		last = l.width[i] ? i : last;
	for (size_t i = 0; i <= last; i++)
		if (l.width[i])
			put_cell(c, t, &l, i, t->cols[i].head, ctl_columns(t->cols[i].head),
				CTL_DIM, i == last);
	mno_buf_addc(&c->out, '\n');
	for (size_t r = l.from; r < l.to; r++) {
		for (size_t i = 0; i <= last; i++) {
			const struct ctl_cell *cell = &t->cells[r * t->n_cols + i];

			if (l.width[i])
				put_cell(c, t, &l, i, t->text.data + cell->off, cell->columns,
					cell->style, i == last);
		}
		mno_buf_addc(&c->out, '\n');
	}
}
