/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in one pass: checked to its end, and the scalars at some paths picked out on the way. */
#include <errno.h>
#include <string.h>
#include "mno/err.h"
#include "mno/util.h"
#include "value.h"

struct scan {
	const char *s, *p, *end;
	const struct docs_path *const *paths;
	unsigned n_paths;
	struct mno_buf *scratch;
	docs_scan_fn fn;
	void *arg;
};

int docs_path_parse(const char *s, size_t n, struct docs_path *ret)
{
	uint16_t at = 0;

	ret->n = 0;
	ret->off[0] = 0;
	if (n == 0 || n > MNO_DOC_PATH_MAX || memchr(s, 0, n))
		return -EINVAL;
	if (n == 1 && *s == '$')
		return 0;
	for (size_t i = 0; i <= n; i++) {
		if (i < n && s[i] != '.') {
			i += s[i] == '\\' && i + 1 < n;
			ret->text[at++] = s[i];
			continue;
		}
		if (at == ret->off[ret->n] || ret->n == DOCS_SEGS_MAX)
			return -EINVAL;
		ret->off[++ret->n] = at;
	}
	return 0;
}

static void skip_space(struct scan *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
		c->p++;
}

static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		char ch = p[i], l = ch | 32;

		if (ch >= '0' && ch <= '9')
			v = v * 16 + (ch - '0');
		else if (l >= 'a' && l <= 'f')
			v = v * 16 + (l - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/* Reads \uXXXX, with its second half when it is one of a pair; -1 when it is not right. */
static long read_escape_u(struct scan *c)
{
	long u, low;

	if (c->end - c->p < 4)
		return -1;
	u = hex4(c->p);
	c->p += 4;
	if (u < 0xd800 || u > 0xdfff)
		return u;
	if (u > 0xdbff || c->end - c->p < 6 || c->p[0] != '\\' || c->p[1] != 'u')
		return -1;
	low = hex4(c->p + 2);
	c->p += 6;
	if (low < 0xdc00 || low > 0xdfff)
		return -1;
	return 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
}

static void add_utf8(struct mno_buf *b, long u)
{
	char t[4];
	size_t n = 0;

	if (u < 0x80) {
		t[n++] = (char)u;
	} else if (u < 0x800) {
		t[n++] = (char)(0xc0 | u >> 6);
		t[n++] = (char)(0x80 | (u & 63));
	} else if (u < 0x10000) {
		t[n++] = (char)(0xe0 | u >> 12);
		t[n++] = (char)(0x80 | (u >> 6 & 63));
		t[n++] = (char)(0x80 | (u & 63));
	} else {
		t[n++] = (char)(0xf0 | u >> 18);
		t[n++] = (char)(0x80 | (u >> 12 & 63));
		t[n++] = (char)(0x80 | (u >> 6 & 63));
		t[n++] = (char)(0x80 | (u & 63));
	}
	mno_buf_add(b, t, n);
}

static int read_escape(struct scan *c, struct mno_buf *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	long u;

	if (++c->p >= c->end)
		return -MNO_ESYNTAX;
	if (*c->p == 'u') {
		c->p++;
		u = read_escape_u(c);
		if (u < 0)
			return -MNO_ESYNTAX;
		if (out)
			add_utf8(out, u);
		return 0;
	}
	at = *c->p ? strchr(from, *c->p) : NULL;
	if (!at)
		return -MNO_ESYNTAX;
	if (out)
		mno_buf_addc(out, to[at - from]);
	c->p++;
	return 0;
}

/* Bytes that need a look: quote, backslash, control, beyond ASCII. */
static const char *plain_end(const char *p, const char *end)
{
	const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;

	for (; end - p >= 8; p += 8) {
		uint64_t v, q, b;

		memcpy(&v, p, 8);
		q = v ^ (ones * '"');
		b = v ^ (ones * '\\');
		if (((v - ones * 0x20) | (q - ones) | (b - ones) | v) & high)
			break;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
		*p != '\\')
		p++;
	return p;
}

/* After the opening quote, to behind the closing one. @want: the text, in place when it can. */
static int read_string(struct scan *c, bool want, const char **ret, size_t *ret_n)
{
	const char *start = c->p, *from = c->p;
	struct mno_buf *out = NULL;
	size_t n;
	int r;

	for (;;) {
		c->p = plain_end(c->p, c->end);
		if (c->p >= c->end)
			return -MNO_ESYNTAX;
		if (*c->p == '"')
			break;
		if (*c->p == '\\') {
			if (want) {
				if (!out)
					mno_buf_reset(c->scratch);
				out = c->scratch;
				mno_buf_add(out, from, (size_t)(c->p - from));
			}
			r = read_escape(c, out);
			if (r < 0)
				return r;
			from = c->p;
			continue;
		}
		n = mno_utf8_len(c->p, (size_t)(c->end - c->p));
		if (n < 2) /* also of control characters */
			return -MNO_ESYNTAX;
		c->p += n;
	}
	if (out)
		mno_buf_add(out, from, (size_t)(c->p - from));
	if (want) {
		*ret = out ? out->data : start;
		*ret_n = out ? out->len : (size_t)(c->p - start);
	}
	c->p++;
	return out && out->err ? out->err : 0;
}

/* Paths of @mask that end after @depth segments. */
static uint32_t ending(const struct scan *c, uint32_t mask, unsigned depth)
{
	uint32_t r = 0;

	for (uint32_t m = mask; m; m &= m - 1)
		if (c->paths[__builtin_ctz(m)]->n == depth)
			r |= m & -m;
	return r;
}

/* Paths of @mask whose segment after @depth is @key. */
static uint32_t following(
	const struct scan *c, uint32_t mask, unsigned depth, const char *key, size_t n)
{
	uint32_t r = 0;

	for (uint32_t m = mask; m; m &= m - 1) {
		const struct docs_path *p = c->paths[__builtin_ctz(m)];

		if (p->n > depth && p->off[depth + 1] - p->off[depth] == (int)n &&
			!memcmp(p->text + p->off[depth], key, n))
			r |= m & -m;
	}
	return r;
}

static int give(struct scan *c, uint32_t mask, const struct docs_scalar *v)
{
	int r = 0;

	for (; mask && r == 0; mask &= mask - 1)
		r = c->fn(c->arg, (unsigned)__builtin_ctz(mask), v);
	return r;
}

static int read_word(struct scan *c, const char *word, size_t n)
{
	if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n))
		return -MNO_ESYNTAX;
	c->p += n;
	return 0;
}

static int read_number(struct scan *c, struct docs_scalar *v)
{
	const char *start = c->p;

	while (c->p < c->end && ((*c->p >= '0' && *c->p <= '9') || *c->p == '-' || *c->p == '+' ||
					*c->p == '.' || (*c->p | 32) == 'e'))
		c->p++;
	v->type = MNO_DOC_NUMBER;
	v->p = start;
	v->n = (size_t)(c->p - start);
	if (docs_is_number(start, v->n))
		return 0;
	c->p = start;
	return -MNO_ESYNTAX;
}

static int read_scalar(struct scan *c, uint32_t mask, unsigned depth, bool in_array)
{
	struct docs_scalar v = {.in_array = in_array};
	int r;

	mask = mask ? ending(c, mask, depth) : 0;
	switch (*c->p) {
	case '"':
		c->p++;
		v.type = MNO_DOC_STRING;
		r = read_string(c, mask != 0, &v.p, &v.n);
		break;
	case 't':
		v.type = MNO_DOC_TRUE;
		r = read_word(c, "true", 4);
		break;
	case 'f':
		v.type = MNO_DOC_FALSE;
		r = read_word(c, "false", 5);
		break;
	case 'n':
		v.type = MNO_DOC_NULL;
		r = read_word(c, "null", 4);
		break;
	default:
		r = read_number(c, &v);
	}
	return r == 0 && mask ? give(c, mask, &v) : r;
}

/* An object or array that is open: what is on the way to the value at hand. */
struct level {
	uint32_t mask; /* paths that may be inside */
	uint8_t depth; /* segments so far */
	bool array, in_array;
};

/* Reads "key": and returns the paths that go on there. */
static int read_key(struct scan *c, const struct level *l, uint32_t *ret_mask)
{
	const char *key = NULL;
	size_t n = 0;
	int r;

	if (c->p >= c->end || *c->p != '"')
		return -MNO_ESYNTAX;
	c->p++;
	r = read_string(c, l->mask != 0, &key, &n);
	if (r < 0)
		return r;
	skip_space(c);
	if (c->p >= c->end || *c->p != ':')
		return -MNO_ESYNTAX;
	c->p++;
	skip_space(c);
	*ret_mask = l->mask ? following(c, l->mask, l->depth, key, n) : 0;
	return 0;
}

/* Behind a value: closes what ends there. *@ret_more: another member follows. */
static int read_after(struct scan *c, struct level *stack, unsigned *open, bool *ret_more)
{
	*ret_more = false;
	while (*open) {
		skip_space(c);
		if (c->p >= c->end)
			return -MNO_ESYNTAX;
		if (*c->p == ',') {
			c->p++;
			skip_space(c);
			*ret_more = true;
			return 0;
		}
		if (*c->p != (stack[*open - 1].array ? ']' : '}'))
			return -MNO_ESYNTAX;
		c->p++;
		--*open;
	}
	return 0;
}

/* One value, to behind it. */
static int scan_one(struct scan *c)
{
	struct level stack[DOCS_DEPTH_MAX];
	uint32_t mask = c->n_paths ? (uint32_t)(((uint64_t)1 << c->n_paths) - 1) : 0;
	unsigned open = 0, depth = 0;
	bool in_array = false, more = true;
	int r;

	skip_space(c);
	while (more) {
		struct level *l = open ? &stack[open - 1] : NULL;

		if (l) {
			mask = l->mask;
			depth = l->depth + !l->array;
			in_array = l->in_array;
			r = l->array ? 0 : read_key(c, l, &mask);
			if (r < 0)
				return r;
		}
		if (c->p >= c->end)
			return -MNO_ESYNTAX;
		if (*c->p == '{' || *c->p == '[') {
			bool array = *c->p++ == '[';

			if (open == DOCS_DEPTH_MAX)
				return -MNO_ESYNTAX;
			stack[open++] =
				(struct level){mask, (uint8_t)depth, array, in_array || array};
			skip_space(c);
			if (c->p < c->end && *c->p != (array ? ']' : '}'))
				continue;
		} else {
			r = read_scalar(c, mask, depth, in_array);
			if (r)
				return r;
		}
		r = read_after(c, stack, &open, &more);
		if (r < 0)
			return r;
	}
	return 0;
}

static int scan_all(struct scan *c)
{
	int r = scan_one(c);

	skip_space(c);
	return r ? r : c->p == c->end ? 0 : -MNO_ESYNTAX;
}

int docs_scan_members(
	const char *s, size_t len, struct mno_buf *scratch, docs_member_fn fn, void *arg)
{
	struct scan c = {.s = s, .p = s, .end = s + len, .scratch = scratch};
	bool object;
	int r = 0;

	skip_space(&c);
	if (c.p >= c.end || (*c.p != '{' && *c.p != '['))
		return -MNO_ESYNTAX;
	object = *c.p++ == '{';
	skip_space(&c);
	while (r == 0 && c.p < c.end && *c.p != ']' && *c.p != '}') {
		const char *key = NULL, *from;
		size_t key_len = 0;

		if (object) {
			c.p++;
			r = read_string(&c, true, &key, &key_len);
			skip_space(&c);
			c.p += r == 0;
			skip_space(&c);
		}
		from = c.p;
		if (r == 0)
			r = scan_one(&c);
		if (r == 0)
			r = fn(arg, key, key_len, from, (size_t)(c.p - from));
		skip_space(&c);
		c.p += c.p < c.end && *c.p == ',';
		skip_space(&c);
	}
	return r;
}

int docs_scan(const char *s, size_t len, const struct docs_path *const *paths, unsigned n_paths,
	struct mno_buf *scratch, docs_scan_fn fn, void *arg, size_t *ret_at)
{
	struct scan c = {s, s, s + len, paths, n_paths, scratch, fn, arg};
	int r = scan_all(&c);

	if (ret_at)
		*ret_at = (size_t)(c.p - s);
	return r;
}

static int check_text(const char *s, size_t len, size_t *ret_at)
{
	for (size_t i = 0; i < len;) {
		size_t n = mno_utf8_len(s + i, len - i);

		if (!n) {
			if (ret_at)
				*ret_at = i;
			return -MNO_ESYNTAX;
		}
		i += n;
	}
	return 0;
}

static bool is_integer(const char *s, size_t n)
{
	static const char *const limit[] = {"9223372036854775807", "9223372036854775808"};
	bool neg = n && *s == '-';
	const char *d = s + neg;
	size_t k = n - neg;

	if (!docs_is_number(s, n) || strspn(d, "0123456789") < k || (neg && *d == '0'))
		return false;
	return k < 19 || (k == 19 && memcmp(d, limit[neg], 19) <= 0);
}

int docs_value_check(
	enum mno_doc_kind kind, const char *s, size_t len, struct mno_buf *scratch, size_t *ret_at)
{
	_cleanup_buf_ struct mno_buf enc = {0};
	char text[24];

	if (ret_at)
		*ret_at = 0;
	switch (kind) {
	case MNO_DOC_JSON:
		return docs_scan(s, len, NULL, 0, scratch, NULL, NULL, ret_at);
	case MNO_DOC_TEXT:
		return check_text(s, len, ret_at);
	case MNO_DOC_INTEGER:
		if (len >= sizeof(text))
			return -MNO_ESYNTAX;
		memcpy(text, s, len);
		text[len] = 0;
		return is_integer(text, len) ? 0 : -MNO_ESYNTAX;
	case MNO_DOC_DECIMAL:
		return docs_number_encode(&enc, s, len) < 0 ? -MNO_ESYNTAX : 0;
	case MNO_DOC_BINARY:
		return 0;
	default:
		return -EINVAL;
	}
}

int docs_scan_value(enum mno_doc_kind kind, const char *s, size_t len,
	const struct docs_path *const *paths, unsigned n_paths, struct mno_buf *scratch,
	docs_scan_fn fn, void *arg, size_t *ret_at)
{
	struct docs_scalar v = {.p = s, .n = len};
	int r;

	if (kind == MNO_DOC_JSON)
		return docs_scan(s, len, paths, n_paths, scratch, fn, arg, ret_at);
	r = docs_value_check(kind, s, len, scratch, ret_at);
	if (r < 0 || kind == MNO_DOC_BINARY)
		return r;
	v.type = kind == MNO_DOC_TEXT ? MNO_DOC_STRING : MNO_DOC_NUMBER;
	for (unsigned i = 0; i < n_paths && r == 0; i++)
		if (paths[i]->n == 0)
			r = fn(arg, i, &v);
	return r;
}
