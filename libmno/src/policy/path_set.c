/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mno/pathset.h"

#define ABSORB    0x80000000u
#define VALUE_MAX 0xffffffu

enum kind { ONE, LOOP, END };

struct item {
	enum kind kind;
	uint32_t pattern;
	uint64_t set[4];
};

struct state {
	size_t off, n; /* its positions in pos[] */
	uint32_t value, base;
	bool absorbing;
};

struct build {
	struct item *items;
	size_t n_items, cap_items;
	uint32_t *pos;
	size_t n_pos, cap_pos;
	struct state *st;
	size_t n_st, cap_st;
	uint32_t *next; /* n_st * ncls */
	size_t cap_next;
	uint32_t *hash;
	size_t cap_hash;
	uint32_t *tmp;
	size_t cap_tmp;
	uint8_t cls[256], rep[256];
	size_t ncls, bytes, max_states, max_bytes;
};

struct mno_pathset {
	uint8_t *table;
	size_t bytes;
	uint32_t mask, root;
};

static bool has(const uint64_t *s, unsigned int c)
{
	return s[c >> 6] >> (c & 63) & 1;
}

static void put(uint64_t *s, unsigned int c)
{
	s[c >> 6] |= 1ULL << (c & 63);
}

static int refuse(struct mno_pathset_error *e, size_t at, const char *text, const char *hint)
{
	*e = (struct mno_pathset_error){.offset = at, .text = text, .hint = hint};
	return -EINVAL;
}

static void fill(uint64_t *s, bool slash)
{
	memset(s, 0xff, 4 * sizeof(*s));
	s[0] &= ~1ULL;
	if (!slash)
		s[0] &= ~(1ULL << '/');
}

/* One member of a class at t[*i], `\` quoting; -1 at the end of the text. */
static int member(const char *t, size_t *i)
{
	if (t[*i] == '\\')
		++*i;
	return t[*i] ? (unsigned char)t[(*i)++] : -1;
}

static int parse_class(const char *t, size_t *i, struct item *it, struct mno_pathset_error *e)
{
	size_t open = (*i)++;
	bool not = t[*i] == '!';
	uint64_t all[4];
	int a, b;

	*i += not ;
	do {
		size_t at = *i;

		a = b = member(t, i);
		if (a >= 0 && t[*i] == '-' && t[*i + 1] != ']') {
			++*i;
			b = member(t, i);
		}
		if (a < 0 || b < 0)
			return refuse(
				e, open, "class is not closed", "add ']' or quote '[' as '\\['");
		if (a > b)
			return refuse(
				e, at, "range runs backwards", "write the smaller byte first");
		if (a <= '/' && b >= '/' && !not )
			return refuse(e, at, "class contains '/'", "a class is one byte but '/'");
		for (; a <= b; a++)
			put(it->set, (unsigned int)a);
	} while (t[*i] != ']');
	++*i;
	fill(all, false);
	for (int k = 0; k < 4; k++)
		it->set[k] = not ? all[k] & ~it->set[k] : it->set[k];
	if (!(it->set[0] | it->set[1] | it->set[2] | it->set[3]))
		return refuse(e, open, "class is empty", "leave a byte that it can match");
	return 0;
}

/* Reads the item at t[*i]. */
static int parse_item(const char *t, size_t *i, struct item *it, struct mno_pathset_error *e)
{
	*it = (struct item){.kind = ONE};
	switch (t[*i]) {
	case '[':
		return parse_class(t, i, it, e);
	case '*':
		it->kind = LOOP;
		++*i;
		fill(it->set, t[*i] == '*');
		*i += t[*i] == '*';
		return 0;
	case '?':
		fill(it->set, false);
		break;
	case '\\':
		if (!t[++*i])
			return refuse(
				e, *i - 1, "nothing follows '\\'", "write '\\\\' for a backslash");
		/* fall through */
	default:
		put(it->set, (unsigned char)t[*i]);
	}
	++*i;
	return 0;
}

static int check_start(const char *t, struct mno_pathset_error *e)
{
	if (t[0] != '/' && strncmp(t, "**", 2))
		return refuse(e, 0, "pattern is not absolute", "begin with '/' or '**/'");
	return 0;
}

int mno_pathset_check(const char *pattern, struct mno_pathset_error *ret)
{
	struct mno_pathset_error e;
	struct item it;
	int r = check_start(pattern, &e);

	for (size_t i = 0; !r && pattern[i];)
		r = parse_item(pattern, &i, &it, &e);
	if (r)
		*ret = e;
	return r;
}

/* Makes *p hold need elements within the byte budget. */
static int grow(struct build *b, void *p, size_t *cap, size_t need, size_t size)
{
	size_t want = *cap ? *cap : 64;
	void *q;

	if (need <= *cap)
		return 0;
	while (want < need)
		want *= 2;
	if (b->bytes + (want - *cap) * size > b->max_bytes)
		return -E2BIG;
	memcpy(&q, p, sizeof(q));
	q = realloc(q, want * size);
	if (!q)
		return -ENOMEM;
	memcpy(p, &q, sizeof(q));
	b->bytes += (want - *cap) * size;
	*cap = want;
	return 0;
}

static int add_item(struct build *b, const struct item *it, uint32_t pattern)
{
	int r = grow(b, &b->items, &b->cap_items, b->n_items + 1, sizeof(*it));

	if (r)
		return r;
	b->items[b->n_items] = *it;
	b->items[b->n_items++].pattern = pattern;
	return 0;
}

static int add_pattern(struct build *b, const char *t, uint32_t k, struct mno_pathset_error *e)
{
	struct item it, end = {.kind = END};
	int r = check_start(t, e);

	for (size_t i = 0; !r && t[i];) {
		size_t at = i;

		r = parse_item(t, &i, &it, e);
		if (!r && at && t[at - 1] == '/' && !strcmp(t + at, "**")) {
			struct item one = it;

			one.kind = ONE;
			r = add_item(b, &one, k);
		}
		r = r ? r : add_item(b, &it, k);
	}
	return r ? r : add_item(b, &end, k);
}

/* Splits the byte classes by each item's set. Class 0 is NUL alone. */
static void classes(struct build *b)
{
	b->ncls = 2;
	memset(b->cls, 1, 256);
	b->cls[0] = 0;
	for (size_t k = 0; k < b->n_items; k++) {
		uint16_t in[256] = {0}, out[256] = {0}, to[256] = {0};

		for (unsigned int c = 1; c < 256; c++)
			(has(b->items[k].set, c) ? in : out)[b->cls[c]]++;
		for (unsigned int c = 1; c < 256; c++) {
			unsigned int o = b->cls[c];

			if (!in[o] || !out[o] || !has(b->items[k].set, c))
				continue;
			if (!to[o])
				to[o] = (uint16_t)b->ncls++;
			b->cls[c] = (uint8_t)to[o];
		}
	}
	for (unsigned int c = 256; c-- > 0;)
		b->rep[b->cls[c]] = (uint8_t)c;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Adds position p and what it reaches without a byte to tmp[]. */
static int reach(struct build *b, size_t *n, uint32_t p)
{
	for (;; p++) {
		int r = grow(b, &b->tmp, &b->cap_tmp, *n + 1, sizeof(*b->tmp));

		if (r)
			return r;
		b->tmp[(*n)++] = p;
		if (b->items[p].kind != LOOP)
			return 0;
	}
}

static int rehash(struct build *b);

static size_t slot_of(const struct build *b, const uint32_t *p, size_t n)
{
	uint64_t h = n;
	size_t i;

	for (i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x9e3779b97f4a7c15ULL, h ^= h >> 29;
	for (i = h & (b->cap_hash - 1); b->hash[i]; i = (i + 1) & (b->cap_hash - 1)) {
		const struct state *s = &b->st[b->hash[i]];

		if (s->n == n && !memcmp(b->pos + s->off, p, n * sizeof(*p)))
			break;
	}
	return i;
}

static int rehash(struct build *b)
{
	size_t cap = b->cap_hash ? b->cap_hash * 2 : 1024;

	if (b->n_st * 2 < b->cap_hash)
		return 0;
	if (b->bytes + cap * sizeof(*b->hash) > b->max_bytes)
		return -E2BIG;
	free(b->hash);
	b->bytes += (cap - b->cap_hash) * sizeof(*b->hash);
	b->cap_hash = 0;
	b->hash = calloc(cap, sizeof(*b->hash));
	if (!b->hash)
		return -ENOMEM;
	b->cap_hash = cap;
	for (uint32_t i = 1; i < b->n_st; i++)
		b->hash[slot_of(b, b->pos + b->st[i].off, b->st[i].n)] = i;
	return 0;
}

/* The state whose positions are the n of tmp[]; 0 for none of them. */
static int intern(struct build *b, size_t n, uint32_t *ret)
{
	size_t m = 0, i;
	int r = rehash(b);

	if (r || !n) {
		*ret = 0;
		return r;
	}
	qsort(b->tmp, n, sizeof(*b->tmp), compare);
	for (i = 0; i < n; i++)
		if (!m || b->tmp[m - 1] != b->tmp[i])
			b->tmp[m++] = b->tmp[i];
	i = slot_of(b, b->tmp, m);
	if (!b->hash[i]) {
		if (b->n_st > b->max_states)
			return -E2BIG;
		if ((r = grow(b, &b->pos, &b->cap_pos, b->n_pos + m, sizeof(*b->pos))) ||
			(r = grow(b, &b->st, &b->cap_st, b->n_st + 1, sizeof(*b->st))))
			return r;
		memcpy(b->pos + b->n_pos, b->tmp, m * sizeof(*b->tmp));
		b->st[b->n_st] = (struct state){.off = b->n_pos, .n = m};
		b->n_pos += m;
		b->hash[i] = (uint32_t)b->n_st++;
	}
	*ret = b->hash[i];
	return 0;
}

static int step(struct build *b, uint32_t s, size_t c)
{
	size_t n = 0, off = b->st[s].off;
	int r = 0;

	for (size_t i = 0; !r && i < b->st[s].n; i++) {
		uint32_t p = b->pos[off + i];

		if (has(b->items[p].set, b->rep[c]))
			r = reach(b, &n, p + (b->items[p].kind == ONE));
	}
	return r ? r : intern(b, n, &b->next[s * b->ncls + c]);
}

static int subsets(struct build *b)
{
	uint32_t root;
	size_t n = 0;
	int r = grow(b, &b->st, &b->cap_st, 1, sizeof(*b->st));

	if (r)
		return r;
	b->st[0] = (struct state){0};
	b->n_st = 1;
	for (uint32_t p = 0; !r && p < b->n_items; p++)
		if (!p || b->items[p - 1].kind == END)
			r = reach(b, &n, p);
	r = r ? r : intern(b, n, &root);
	for (uint32_t s = 1; !r && s < b->n_st; s++) {
		r = grow(b, &b->next, &b->cap_next, (s + 1) * b->ncls, sizeof(*b->next));
		for (size_t c = 1; !r && c < b->ncls; c++)
			r = step(b, s, c);
	}
	return r;
}

static int values(
	struct build *b, const struct mno_pathset_pattern *v, const struct mno_pathset_opts *o)
{
	for (size_t s = 1; s < b->n_st; s++) {
		struct state *st = &b->st[s];
		size_t n = 0, m = 0;
		int r = grow(b, &b->tmp, &b->cap_tmp, st->n, sizeof(*b->tmp));

		if (r)
			return r;
		for (size_t i = 0; i < st->n; i++)
			if (b->items[b->pos[st->off + i]].kind == END)
				b->tmp[n++] = v[b->items[b->pos[st->off + i]].pattern].id;
		qsort(b->tmp, n, sizeof(*b->tmp), compare);
		for (size_t i = 0; i < n; i++)
			if (!m || b->tmp[m - 1] != b->tmp[i])
				b->tmp[m++] = b->tmp[i];
		if (m)
			st->value = o && o->merge ? o->merge(o->arg, b->tmp, m) : b->tmp[0];
		if (m && (!st->value || st->value > VALUE_MAX))
			return -ERANGE;
		st->absorbing = true;
		for (size_t c = 1; c < b->ncls; c++)
			st->absorbing = st->absorbing && b->next[s * b->ncls + c] == s;
	}
	return 0;
}

static bool fits(const struct build *b, const uint64_t *cell, uint32_t s, size_t base)
{
	for (size_t c = 1; c < b->ncls; c++)
		if (b->next[s * b->ncls + c] && cell[base + c])
			return false;
	return !cell[base];
}

/* First fit; the search begins at the lowest cell that is free and leaves crowded stretches. */
static int pack(struct build *b, uint64_t **cell, size_t *cap)
{
	size_t low = 1, r;

	for (uint32_t s = 1; s < b->n_st; s++) {
		size_t base, tries = 0;

		for (base = low;; base++) {
			if ((r = *cap) < base + 512) {
				int q = grow(b, cell, cap, base + 512, sizeof(**cell));

				if (q)
					return q;
				memset(*cell + r, 0, (*cap - r) * sizeof(**cell));
			}
			if (fits(b, *cell, s, base))
				break;
			if (++tries == 256)
				low = base;
		}
		b->st[s].base = (uint32_t)base;
		(*cell)[base] = (uint64_t)base << 32 | b->st[s].value;
		for (size_t c = 1; c < b->ncls; c++)
			if (b->next[s * b->ncls + c])
				(*cell)[base + c] = (uint64_t)base << 32;
		while (low < *cap && (*cell)[low])
			low++;
	}
	return 0;
}

static int emit(struct build *b, struct mno_pathset **ret)
{
	struct mno_pathset *s = NULL;
	uint64_t *cell = NULL;
	size_t cap = 0;
	int r = pack(b, &cell, &cap);

	if (r)
		goto out;
	r = -ENOMEM;
	s = calloc(1, sizeof(*s));
	if (!s || !(s->table = malloc(256 + cap * 8)))
		goto out;
	for (size_t i = 1; i < b->n_st; i++)
		for (size_t c = 1; c < b->ncls; c++) {
			uint32_t to = b->next[i * b->ncls + c];

			if (to)
				cell[b->st[i].base + c] |=
					b->st[to].base | (b->st[to].absorbing ? ABSORB : 0);
		}
	memcpy(s->table, b->cls, 256);
	memcpy(s->table + 256, cell, cap * 8);
	s->bytes = 256 + cap * 8;
	s->mask = (uint32_t)cap - 1;
	s->root = b->n_st > 1 ? b->st[1].base : 0;
	*ret = s;
	s = NULL;
	r = 0;
out:
	free(cell);
	mno_pathset_free(s);
	return r;
}

static size_t heaviest(const struct build *b)
{
	size_t best = 0, most = 0, run = 0;

	if (b->n_st < 2)
		return b->n_items ? b->items[b->n_items - 1].pattern : 0;
	for (size_t i = b->st[b->n_st - 1].off, e = i + b->st[b->n_st - 1].n, k = i; k < e; k++) {
		size_t p = b->items[b->pos[k]].pattern;

		run = k > i && b->items[b->pos[k - 1]].pattern == p ? run + 1 : 1;
		if (run > most)
			most = run, best = p;
	}
	return best;
}

int mno_pathset_compile(const struct mno_pathset_pattern *v, size_t n,
	const struct mno_pathset_opts *o, struct mno_pathset **ret, struct mno_pathset_error *err)
{
	struct build b = {.max_states = o && o->max_states ? o->max_states : 262144,
		.max_bytes = o && o->max_bytes ? o->max_bytes : 64U << 20};
	struct mno_pathset_error e = {0};
	int r = 0;

	for (size_t i = 0; !r && i < n; i++) {
		r = add_pattern(&b, v[i].text, (uint32_t)i, &e);
		e.pattern = i;
	}
	classes(&b);
	r = r ? r : subsets(&b);
	r = r ? r : values(&b, v, o);
	r = r ? r : emit(&b, ret);
	if (r == -E2BIG)
		e = (struct mno_pathset_error){heaviest(&b), 0, "set exceeds its budget",
			"use fewer '**' in this pattern"};
	if (r && err)
		*err = e;
	free(b.items);
	free(b.pos);
	free(b.st);
	free(b.next);
	free(b.hash);
	free(b.tmp);
	return r;
}

uint32_t mno_pathset_match(const struct mno_pathset *s, const char *path, size_t len)
{
	const uint8_t *cells = s->table + 256;
	uint32_t st = s->root;
	uint64_t e;

	for (size_t i = 0; st && i < len; i++) {
		if (!path[i])
			return 0;
		memcpy(&e, cells + ((st + s->table[(uint8_t)path[i]]) & s->mask) * 8ULL, 8);
		st = e >> 32 == (st & ~ABSORB) ? (uint32_t)e : 0;
		if (st & ABSORB && !memchr(path + i, 0, len - i))
			break;
		st &= ~ABSORB;
	}
	if (!st)
		return 0;
	memcpy(&e, cells + ((st & ~ABSORB) & s->mask) * 8ULL, 8);
	return (uint32_t)e;
}

const void *mno_pathset_table(
	const struct mno_pathset *s, size_t *ret_bytes, uint32_t *ret_mask, uint32_t *ret_root)
{
	*ret_bytes = s->bytes;
	*ret_mask = s->mask;
	*ret_root = s->root;
	return s->table;
}

struct mno_pathset *mno_pathset_free(struct mno_pathset *s)
{
	if (s)
		free(s->table);
	free(s);
	return NULL;
}
