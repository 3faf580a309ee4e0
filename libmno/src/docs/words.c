/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a text for full-text search, and queries for them. */
#include <errno.h>
#include <string.h>
#include "mno/util.h"
#include "value.h"

/* Code points beyond ASCII that are no letters or digits; sorted. */
static const struct {
	uint32_t from, to;
} separators[] = {
	{0x80, 0xa9},
	{0xab, 0xb1},
	{0xb4, 0xb4},
	{0xb6, 0xb8},
	{0xbb, 0xbf},
	{0xd7, 0xd7},
	{0xf7, 0xf7},
	{0x2000, 0x206f},
	{0x20a0, 0x20cf},
	{0x2190, 0x245f},
	{0x2500, 0x2bff},
	{0x2e00, 0x2e7f},
	{0x3000, 0x3004},
	{0x3007, 0x3020},
	{0x3030, 0x3030},
	{0xe000, 0xf8ff},
	{0xfe10, 0xfe1f},
	{0xfe30, 0xfe6f},
	{0xff00, 0xff0f},
	{0xff1a, 0xff20},
	{0xff3b, 0xff40},
	{0xff5b, 0xff65},
	{0x1f000, 0x1faff},
};
/* Written without spaces: each is a word. */
static const struct {
	uint32_t from, to;
} ideographs[] = {{0x3040, 0x30ff}, {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0x20000, 0x3ffff}};

/* Upper to lower: @step 1: the next code point if even (or odd, @odd); else added. */
static const struct {
	uint32_t from, to;
	int add;
	bool pairs, odd;
} lower[] = {
	{0xc0, 0xd6, 32, false, false},
	{0xd8, 0xde, 32, false, false},
	{0x100, 0x12f, 1, true, false},
	{0x132, 0x137, 1, true, false},
	{0x139, 0x148, 1, true, true},
	{0x14a, 0x177, 1, true, false},
	{0x178, 0x178, 0xff - 0x178, false, false},
	{0x179, 0x17e, 1, true, true},
	{0x386, 0x386, 38, false, false},
	{0x388, 0x38a, 37, false, false},
	{0x38c, 0x38c, 64, false, false},
	{0x38e, 0x38f, 63, false, false},
	{0x391, 0x3a1, 32, false, false},
	{0x3a3, 0x3ab, 32, false, false},
	{0x3c2, 0x3c2, 1, false, false}, /* final sigma */
	{0x400, 0x40f, 80, false, false},
	{0x410, 0x42f, 32, false, false},
	{0x460, 0x481, 1, true, false},
	{0x48a, 0x4bf, 1, true, false},
	{0x4d0, 0x52f, 1, true, false},
	{0x531, 0x556, 48, false, false},
	{0x1e00, 0x1e95, 1, true, false},
	{0x1ea0, 0x1eff, 1, true, false},
	{0xff21, 0xff3a, 32, false, false},
};

static uint32_t decode(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	switch (n) {
	case 1:
		return p[0];
	case 2:
		return (p[0] & 31u) << 6 | (p[1] & 63u);
	case 3:
		return (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
	default:
		return (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
	}
}

static size_t encode(uint32_t u, char *t)
{
	if (u < 0x80) {
		t[0] = (char)u;
		return 1;
	}
	if (u < 0x800) {
		t[0] = (char)(0xc0 | u >> 6);
		t[1] = (char)(0x80 | (u & 63));
		return 2;
	}
	if (u < 0x10000) {
		t[0] = (char)(0xe0 | u >> 12);
		t[1] = (char)(0x80 | (u >> 6 & 63));
		t[2] = (char)(0x80 | (u & 63));
		return 3;
	}
	t[0] = (char)(0xf0 | u >> 18);
	t[1] = (char)(0x80 | (u >> 12 & 63));
	t[2] = (char)(0x80 | (u >> 6 & 63));
	t[3] = (char)(0x80 | (u & 63));
	return 4;
}

static uint32_t to_lower(uint32_t u)
{
	if (u < 0x80)
		return u >= 'A' && u <= 'Z' ? u + 32 : u;
	for (size_t i = 0; i < ARRAY_SIZE(lower) && lower[i].from <= u; i++) {
		if (u > lower[i].to)
			continue;
		if (lower[i].pairs && (u & 1) != lower[i].odd)
			return u;
		return u + (uint32_t)lower[i].add;
	}
	return u;
}

static bool is_letter(uint32_t u)
{
	if (u < 0x80)
		return (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || (u >= '0' && u <= '9');
	for (size_t i = 0; i < ARRAY_SIZE(separators) && separators[i].from <= u; i++)
		if (u <= separators[i].to)
			return false;
	return true;
}

static bool is_ideograph(uint32_t u)
{
	for (size_t i = 0; i < ARRAY_SIZE(ideographs) && ideographs[i].from <= u; i++)
		if (u <= ideographs[i].to)
			return true;
	return false;
}

void docs_words_begin(struct docs_words *w, const char *s, size_t n)
{
	w->p = s;
	w->end = s + n;
	w->n = 0;
}

bool docs_words_next(struct docs_words *w)
{
	bool full = false;

	w->n = 0;
	while (w->p < w->end) {
		size_t k = mno_utf8_len(w->p, (size_t)(w->end - w->p));
		uint32_t u = k ? decode(w->p, k) : 0;
		bool one = k > 2 && is_ideograph(u);

		if ((k == 0 || !is_letter(u) || one) && w->n)
			return true;
		w->p += k ?: 1;
		if (k == 0 || !is_letter(u))
			continue;
		full |= w->n + 4 > DOCS_WORD_MAX;
		if (!full)
			w->n += encode(to_lower(u), w->word + w->n);
		if (one)
			return true;
	}
	return w->n > 0;
}

/* One blank-separated piece of a query: its words; a final "*" makes the last one a prefix. */
static int add_terms(struct docs_groups *q, const char *s, size_t n)
{
	bool star = n && s[n - 1] == '*';
	struct docs_words w;

	docs_words_begin(&w, s, n - star);
	while (docs_words_next(&w)) {
		struct docs_term *t;

		if (q->g[q->n].n == DOCS_WORDS_MAX)
			return -EINVAL;
		t = &q->g[q->n].terms[q->g[q->n].n++];
		t->n = (uint8_t)w.n;
		t->prefix = star && w.p == w.end;
		memcpy(t->word, w.word, w.n);
	}
	return 0;
}

int docs_groups_parse(const char *s, size_t n, struct docs_groups *ret)
{
	const char *end = s + n;
	int r;

	memset(ret, 0, sizeof(*ret));
	while (s < end) {
		size_t k = 0;

		while (s + k < end && s[k] != ' ' && s[k] != '|' && s[k] != '\t')
			k++;
		r = add_terms(ret, s, k);
		if (r < 0)
			return r;
		s += k;
		if (s < end && *s == '|' && ret->g[ret->n].n && ++ret->n == DOCS_GROUPS_MAX)
			return -EINVAL;
		s += s < end;
	}
	ret->n += ret->n < DOCS_GROUPS_MAX && ret->g[ret->n].n;
	return ret->n ? 0 : -EINVAL;
}
