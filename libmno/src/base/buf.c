/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include "mno/buf.h"

void mno_buf_done(struct mno_buf *b)
{
	if (!b)
		return;
	free(b->data);
	*b = (struct mno_buf){0};
}

char *mno_buf_reserve(struct mno_buf *b, size_t n)
{
	size_t max = b->max ?: MNO_BUF_MAX, cap = b->cap ?: 256;
	char *p;

	if (b->err)
		return NULL;
	if (n <= b->cap - b->len)
		return b->data + b->len;
	if (n > max - b->len) {
		b->err = -E2BIG;
		return NULL;
	}
	while (cap - b->len < n)
		cap *= 2;
	if (cap > max)
		cap = max;
	p = realloc(b->data, cap);
	if (!p) {
		b->err = -ENOMEM;
		return NULL;
	}
	b->data = p;
	b->cap = cap;
	return p + b->len;
}

void mno_buf_add(struct mno_buf *b, const void *p, size_t n)
{
	char *dst = n ? mno_buf_reserve(b, n) : NULL;

	if (!dst)
		return;
	memcpy(dst, p, n);
	b->len += n;
}

void mno_buf_addc(struct mno_buf *b, char c)
{
	mno_buf_add(b, &c, 1);
}

void mno_buf_adds(struct mno_buf *b, const char *s)
{
	mno_buf_add(b, s, strlen(s));
}

void mno_buf_addf(struct mno_buf *b, const char *fmt, ...)
{
	char *dst = mno_buf_reserve(b, 128);
	va_list ap;
	int n;

	if (!dst)
		return;
	va_start(ap, fmt);
	n = vsnprintf(dst, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->err = -EINVAL;
		return;
	}
	if ((size_t)n >= b->cap - b->len) {
		dst = mno_buf_reserve(b, (size_t)n + 1);
		if (!dst)
			return;
		va_start(ap, fmt);
		vsnprintf(dst, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

const char *mno_buf_cstr(struct mno_buf *b)
{
	char *dst = mno_buf_reserve(b, 1);

	if (!dst)
		return "";
	*dst = '\0';
	return b->data;
}
