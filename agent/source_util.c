/* SPDX-License-Identifier: Apache-2.0 */
/* What all sources share: series accounting, bounded reads, remembered rows. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "mno/err.h"
#include "source.h"

void mno_source_reason(struct mno_source_ctx *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->reason, sizeof(c->reason), fmt, ap);
	va_end(ap);
}

/* One byte per slot, as many as there are slots. */
static bool owned_grow(struct mno_buf *owned, uint32_t slot)
{
	while (owned->len <= slot && !owned->err) {
		static const char zeros[512];

		mno_buf_add(owned, zeros, sizeof(zeros));
	}
	return !owned->err;
}

uint32_t mno_source_add(struct mno_source_ctx *c, const struct mno_family *f,
	const struct mno_label *labels, size_t n)
{
	uint32_t slot;

	if (mno_metrics_add(c->metrics, f, NULL, labels, n, &slot) < 0 ||
		!owned_grow(c->owned, slot) || c->owned->data[slot]) {
		c->shadowed++;
		return MNO_SLOT_IGNORED;
	}
	c->owned->data[slot] = 1;
	c->series++;
	return slot;
}

void mno_source_remove(struct mno_source_ctx *c, uint32_t *slot)
{
	if (*slot < c->owned->len && c->owned->data[*slot]) {
		mno_metrics_remove(c->metrics, *slot);
		c->owned->data[*slot] = 0;
		c->series--;
	}
	*slot = MNO_SLOT_NONE;
}

int mno_source_open(struct mno_source_ctx *c, int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0)
		return fd;
	fd = -errno;
	mno_source_reason(c, "%s: %s", path, mno_strerror(fd));
	return fd;
}

int mno_source_file_new(struct mno_source_ctx *c, const char *path, size_t size, void **ret_priv)
{
	int *priv, fd = mno_source_open(c, c->proc_fd, path);

	if (fd < 0)
		return fd;
	priv = calloc(1, size);
	if (!priv) {
		close(fd);
		return -ENOMEM;
	}
	*priv = fd;
	*ret_priv = priv;
	return 0;
}

void mno_source_file_free(void *priv)
{
	if (!priv)
		return;
	close(*(int *)priv);
	free(priv);
}

int mno_source_read(struct mno_source_ctx *c, int fd, bool whole, struct mno_scan *ret)
{
	struct mno_buf *b = c->buf;

	mno_buf_reset(b);
	for (;;) {
		size_t room = b->cap - b->len;
		ssize_t n;

		if (room < 4096)
			room = MNO_MIN(MNO_MAX(b->cap, 32768), MNO_SOURCE_FILE_MAX - b->len);
		if (!mno_buf_reserve(b, room))
			return b->err ? b->err : -ENOMEM;
		n = pread(fd, b->data + b->len, room, (off_t)b->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		mno_buf_commit(b, (size_t)n);
		if (n == 0 || (whole && (size_t)n < room))
			break;
		if (b->len >= MNO_SOURCE_FILE_MAX) {
			const char *nl = memrchr(b->data, '\n', b->len);

			b->len = nl ? (size_t)(nl + 1 - b->data) : 0;
			c->cut++;
			break;
		}
	}
	*ret = (struct mno_scan){b->data, b->data + b->len};
	return 0;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=123": the number at the line's end. */
static bool pressure_total(const char *line, const char *end, double *ret)
{
	const char *p = end;
	struct mno_scan s;
	uint64_t v;

	while (p > line && p[-1] >= '0' && p[-1] <= '9')
		p--;
	s = (struct mno_scan){p, end};
	if (p - line < 6 || memcmp(p - 6, "total=", 6) != 0 || !mno_scan_u64(&s, &v))
		return false;
	*ret = (double)v / 1e6;
	return true;
}

int mno_pressure_read(struct mno_source_ctx *c, int fd, struct mno_pressure *ret)
{
	struct mno_pressure v = {.has_some = false};
	struct mno_scan s;
	int r = mno_source_read(c, fd, true, &s);

	if (r < 0)
		return r;
	while (s.p < s.end) {
		const char *line = s.p, *nl = memchr(line, '\n', (size_t)(s.end - line));

		nl = nl ? nl : s.end;
		if (nl - line > 5 && !memcmp(line, "some ", 5))
			v.has_some = pressure_total(line, nl, &v.some);
		else if (nl - line > 5 && !memcmp(line, "full ", 5))
			v.has_full = pressure_total(line, nl, &v.full);
		s.p = nl < s.end ? nl + 1 : nl;
	}
	if (!v.has_some && !v.has_full)
		return -EBADMSG;
	*ret = v;
	return 0;
}

static char *row_key(const struct mno_rows *r, struct mno_row_slots *row)
{
	return (char *)(row->slot + r->width);
}

static bool row_is(const struct mno_rows *r, struct mno_row_slots *row, const char *key, size_t len)
{
	return row->key_len == len && memcmp(row_key(r, row), key, len) == 0;
}

static struct mno_row_slots *row_new(struct mno_rows *r, const char *key, size_t len)
{
	struct mno_row_slots *row;

	if (r->n == MNO_ROWS_MAX)
		return NULL;
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 16;
		void *p = realloc(r->row, cap * sizeof(*r->row));

		if (!p)
			return NULL;
		r->row = p;
		r->cap = cap;
	}
	row = malloc(sizeof(*row) + r->width * sizeof(row->slot[0]) + len);
	if (!row)
		return NULL;
	row->key_len = (uint32_t)len;
	for (size_t i = 0; i < r->width; i++)
		row->slot[i] = MNO_SLOT_NONE;
	memcpy(row_key(r, row), key, len);
	return row;
}

/* The row is not where it was: look for it, else it is new. It moves to r->pos. */
static uint32_t *row_search(struct mno_rows *r, const char *key, size_t len)
{
	struct mno_row_slots *row = NULL;
	size_t at;

	if (len == 0 || len > 255)
		return NULL;
	for (at = 0; at < r->n; at++) {
		if (row_is(r, r->row[at], key, len))
			break;
	}
	if (at < r->pos)
		return NULL; /* came already in this tick */
	if (at == r->n) {
		row = row_new(r, key, len);
		if (!row)
			return NULL;
		r->n++;
	} else {
		row = r->row[at];
	}
	/* Shift, not swap: after one new or vanished row the others are in order again. */
	memmove(r->row + r->pos + 1, r->row + r->pos, (at - r->pos) * sizeof(*r->row));
	r->row[r->pos++] = row;
	return row->slot;
}

uint32_t *mno_rows_next(struct mno_rows *r, const char *key, size_t len)
{
	if (r->pos < r->n && row_is(r, r->row[r->pos], key, len))
		return r->row[r->pos++]->slot;
	return row_search(r, key, len);
}

void mno_rows_end(struct mno_rows *r, struct mno_source_ctx *c)
{
	while (r->n > r->pos) {
		struct mno_row_slots *row = r->row[--r->n];

		for (size_t i = 0; i < r->width; i++)
			mno_source_remove(c, &row->slot[i]);
		free(row);
	}
	r->pos = 0;
}

void mno_rows_done(struct mno_rows *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->row[i]);
	free(r->row);
	*r = (struct mno_rows){.width = r->width};
}
