/* SPDX-License-Identifier: Apache-2.0 */
/* Encodings whose bytes sort as the values do. */
#include <errno.h>
#include <string.h>
#include "mno/err.h"
#include "../crypt/hash.h"
#include "value.h"

#define DIGITS_MAX 256u

struct number {
	bool neg;
	const char *digits; /* first significant one, may have a '.' among them */
	const char *end;    /* behind the last significant one */
	size_t n;           /* digits without the point */
	long exp;           /* value = 0.d1d2d3... * 10^exp */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && is_digit(*p))
		p++;
	return p;
}

/* End of the mantissa's integer and fraction and of it all; false when it is no number. */
static bool split(const char *s, const char *end, const char **ret_int, const char **ret_int_end,
	const char **ret_frac_end, const char **ret_exp)
{
	const char *p = s, *q;

	if (p < end && *p == '-')
		p++;
	*ret_int = p;
	q = skip_digits(p, end);
	if (q == p || (*p == '0' && q - p > 1))
		return false;
	*ret_int_end = *ret_frac_end = q;
	*ret_exp = NULL;
	if (q < end && *q == '.') {
		p = q + 1;
		q = skip_digits(p, end);
		if (q == p)
			return false;
		*ret_frac_end = q;
	}
	if (q < end && (*q | 32) == 'e') {
		*ret_exp = p = q + 1;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		q = skip_digits(p, end);
		if (q == p)
			return false;
	}
	return q == end;
}

bool docs_is_number(const char *s, size_t n)
{
	const char *a, *b, *c, *d;

	return split(s, s + n, &a, &b, &c, &d);
}

static long read_exp(const char *p, const char *end)
{
	bool neg = *p == '-';
	long e = 0;

	if (*p == '-' || *p == '+')
		p++;
	for (; p < end && e < 10 * DOCS_EXP_MAX; p++)
		e = e * 10 + (*p - '0');
	return neg ? -e : e;
}

static int number_read(const char *s, size_t n, struct number *ret)
{
	const char *i, *i_end, *f_end, *e, *p;

	if (n > DOCS_NUMBER_MAX)
		return -ERANGE;
	if (!split(s, s + n, &i, &i_end, &f_end, &e))
		return -MNO_ESYNTAX;
	*ret = (struct number){.neg = *s == '-', .exp = e ? read_exp(e, s + n) : 0};
	for (p = i; p < f_end && (*p == '0' || *p == '.'); p++)
		;
	ret->digits = p;
	if (p == f_end)
		return 0; /* zero */
	ret->exp += p < i_end ? i_end - p : -(p - i_end - 1);
	for (p = f_end; p[-1] == '0' || p[-1] == '.';)
		p--;
	ret->end = p;
	ret->n = (size_t)(p - ret->digits) - (ret->digits < i_end && p > i_end ? 1 : 0);
	if (ret->n > DIGITS_MAX || ret->exp > DOCS_EXP_MAX + 1 || ret->exp < -DOCS_EXP_MAX)
		return -ERANGE;
	return 0;
}

int docs_number_encode(struct mno_buf *out, const char *s, size_t n)
{
	struct number v;
	uint8_t *p, flip;
	uint16_t e;
	size_t k = 0;
	int r = number_read(s, n, &v);

	if (r < 0)
		return r;
	p = (uint8_t *)mno_buf_reserve(out, DIGITS_MAX / 2 + 8);
	if (!p)
		return -ENOMEM;
	p[k++] = v.n == 0 ? 2 : v.neg ? 1 : 3;
	if (v.n == 0) {
		mno_buf_commit(out, k);
		return 0;
	}
	flip = v.neg ? 0xff : 0;
	e = (uint16_t)(v.exp + 0x8000);
	p[k++] = (uint8_t)(e >> 8) ^ flip;
	p[k++] = (uint8_t)e ^ flip;
	for (const char *q = v.digits; q < v.end;) {
		unsigned pair = (unsigned)(*q++ - '0') * 10;

		q += q < v.end && *q == '.';
		pair += q < v.end ? (unsigned)(*q++ - '0') : 0;
		q += q < v.end && *q == '.';
		p[k++] = (uint8_t)(pair + 1) ^ flip;
	}
	p[k++] = flip;
	mno_buf_commit(out, k);
	return 0;
}

static void string_encode(struct mno_buf *out, const char *s, size_t n)
{
	while (n) {
		const char *z = memchr(s, 0, n);
		size_t k = z ? (size_t)(z - s) : n;

		mno_buf_add(out, s, k);
		if (z)
			mno_buf_add(out, "\0\xff", 2);
		k += z != NULL;
		s += k;
		n -= k;
	}
	mno_buf_add(out, "\0\0", 2);
}

int docs_scalar_encode(struct mno_buf *out, const struct docs_scalar *v)
{
	static const uint8_t tags[] = {[MNO_DOC_NULL] = DOCS_TAG_NULL,
		[MNO_DOC_FALSE] = DOCS_TAG_FALSE,
		[MNO_DOC_TRUE] = DOCS_TAG_TRUE,
		[MNO_DOC_NUMBER] = DOCS_TAG_NUMBER,
		[MNO_DOC_STRING] = DOCS_TAG_STRING};
	int r = 0;

	mno_buf_addc(out, (char)tags[v->type]);
	if (v->type == MNO_DOC_NUMBER)
		r = docs_number_encode(out, v->p, v->n);
	else if (v->type == MNO_DOC_STRING)
		string_encode(out, v->p, v->n);
	return r < 0 ? r : out->err;
}

void docs_key_make(struct docs_key *ret, const void *enc, size_t len)
{
	if (len <= DOCS_KEY_MAX) {
		memcpy(ret->b, enc, len);
		ret->len = (uint16_t)len;
		return;
	}
	memcpy(ret->b, enc, DOCS_KEY_PREFIX);
	mno_hash16(NULL, enc, len, ret->b + DOCS_KEY_PREFIX);
	ret->len = DOCS_KEY_MAX;
}

void docs_key_secret(struct docs_key *ret, const uint8_t key[32], const void *enc, size_t len)
{
	ret->b[0] = DOCS_TAG_SECRET;
	mno_hash16(key, enc, len, ret->b + 1);
	ret->len = 17;
}

void docs_key_word(struct docs_key *ret, const char *word, size_t n, bool whole)
{
	ret->b[0] = DOCS_TAG_WORD;
	memcpy(ret->b + 1, word, n);
	ret->len = (uint16_t)(n + 1);
	if (whole)
		ret->b[ret->len++] = 0; /* no word has a NUL */
}

int docs_bytes_compare(const void *a, size_t na, const void *b, size_t nb)
{
	int r = memcmp(a, b, MNO_MIN(na, nb));

	return r ? r : (na > nb) - (na < nb);
}

bool docs_bytes_after(uint8_t *b, size_t *len)
{
	while (*len && b[*len - 1] == 0xff)
		--*len;
	if (!*len)
		return false;
	b[*len - 1]++;
	return true;
}
