/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered texts: a B+ tree of sealed nodes, so that neither keys nor order show what they are.
 *   node: level u8, varint count; of node 0, the root: varint next node, varint texts in all
 *   entry: varint shared with the entry before, varint length of the rest, the rest;
 *          above the leaves, varint child
 * An entry above the leaves has a text <= all of its child's and > all of the child's before.
 */
#include <errno.h>
#include "mno/err.h"
#include "series_internal.h"

#define NODE_MAX  1800u /* bytes before sealing: stays in the leaf; one entry may exceed it */
#define LEVEL_MAX 16u
#define KEY_BYTES (FP_BYTES + 4)
#define ARENA_MAX (64u << 20)

struct entry {
	const char *text;
	size_t len;
	uint32_t child;
};
struct node {
	unsigned level;
	uint64_t next, count; /* the root's */
	struct entry *v;
	size_t n, cap;
	struct mno_buf arena; /* the texts */
};

static void node_done(struct node *n)
{
	free(n->v);
	mno_buf_done(&n->arena);
}

static int entry_add(struct node *n, struct entry e)
{
	if (n->n == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 64;
		struct entry *p = reallocarray(n->v, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		n->v = p;
		n->cap = cap;
	}
	n->v[n->n++] = e;
	return 0;
}

static int compare(const char *a, size_t an, const char *b, size_t bn)
{
	int c = memcmp(a, b, MNO_MIN(an, bn));

	return c ? c : (an > bn) - (an < bn);
}

/* --- nodes as bytes ------------------------------------------------------------------------------- */

static int decode_entry(struct mno_reader *r, struct node *n, size_t *last)
{
	uint64_t shared = mno_read_varint(r), len = mno_read_varint(r);
	size_t from = n->n ? *last : 0, before = n->n ? n->v[n->n - 1].len : 0;
	struct entry e = {.len = (size_t)(shared + len)};
	const uint8_t *p = len <= mno_reader_left(r) ? mno_read_bytes(r, (size_t)len) : NULL;
	char *to;

	if (!p || shared > before)
		return -MNO_ECORRUPT;
	to = mno_buf_reserve(&n->arena, e.len + 1);
	if (!to)
		return n->arena.err == -E2BIG ? -MNO_ECORRUPT : -ENOMEM;
	if (shared)
		memcpy(to, n->arena.data + from, shared);
	memcpy(to + shared, p, len);
	*last = n->arena.len;
	mno_buf_commit(&n->arena, e.len);
	if (n->level)
		e.child = (uint32_t)mno_read_varint(r);
	return r->bad ? -MNO_ECORRUPT : entry_add(n, e);
}

static int node_decode(const struct mno_buf *raw, bool root, struct node *n)
{
	struct mno_reader r = {.p = (uint8_t *)raw->data, .end = (uint8_t *)raw->data + raw->len};
	size_t last = 0, at = 0;
	uint64_t count;
	int err = 0;

	n->n = 0;
	n->arena.max = ARENA_MAX;
	mno_buf_reset(&n->arena);
	n->level = mno_read_u8(&r);
	count = mno_read_varint(&r);
	if (root) {
		n->next = mno_read_varint(&r);
		n->count = mno_read_varint(&r);
	}
	if (r.bad || n->level > LEVEL_MAX || count > mno_reader_left(&r))
		return -MNO_ECORRUPT;
	for (uint64_t i = 0; i < count && err == 0; i++)
		err = decode_entry(&r, n, &last);
	if (err == 0 && r.p != r.end)
		return -MNO_ECORRUPT;
	for (size_t i = 0; i < n->n; at += n->v[i++].len)
		n->v[i].text = n->arena.data ? n->arena.data + at : "";
	return err;
}

int values_check(const struct mno_buf *raw, bool root)
{
	_cleanup_(node_done)
	struct node n = {0};

	return node_decode(raw, root, &n);
}

static size_t shared_len(const struct entry *a, const struct entry *b)
{
	size_t n = 0, most = MNO_MIN(a->len, b->len);

	while (n < most && a->text[n] == b->text[n])
		n++;
	return n;
}

static void encode_entry(
	struct mno_buf *out, unsigned level, const struct entry *before, const struct entry *e)
{
	size_t shared = before ? shared_len(before, e) : 0;

	mno_varint_add(out, shared);
	mno_varint_add(out, e->len - shared);
	mno_buf_add(out, e->text + shared, e->len - shared);
	if (level)
		mno_varint_add(out, e->child);
}

static void node_key(uint8_t key[KEY_BYTES], const uint8_t tree[FP_BYTES], uint32_t no)
{
	memcpy(key, tree, FP_BYTES);
	mno_be32(key + FP_BYTES, no);
}

static int node_get(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, const uint8_t tree[FP_BYTES],
	uint32_t no, struct mno_buf *raw, struct node *ret)
{
	uint8_t key[KEY_BYTES];
	MDB_val k = {sizeof(key), key}, v;
	struct mno_seal info;
	int r;

	node_key(key, tree, no);
	r = mno_lmdb_error(mdb_get(t, s->env->main->dbi[MNO_DB_VALUES], &k, &v));
	if (r == 0)
		r = mno_seal_open(s->env->main, MNO_DB_VALUES, z, key, sizeof(key), v.mv_data,
			v.mv_size, MNO_SEAL_VALUES, &info, raw);
	if (r == -MNO_EVERSION) /* the store is of this version: the byte is damaged */
		r = -MNO_ECORRUPT;
	return r < 0 ? r : node_decode(raw, no == 0, ret);
}

/* --- edits ------------------------------------------------------------------------------------------ */

/* Nodes that take the place of one. Texts are copies: they outlive the node they came from. */
struct refs {
	struct entry *v;
	size_t n, cap;
};

static void refs_done(struct refs *r)
{
	for (size_t i = 0; i < r->n; i++)
		free((char *)r->v[i].text);
	free(r->v);
}

static int refs_add(struct refs *r, uint32_t child, const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);
	struct entry *p;

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, text, len);
	if (r->n == r->cap) {
		p = reallocarray(r->v, r->cap ? r->cap * 2 : 8, sizeof(*p));
		if (!p) {
			free(copy);
			return -ENOMEM;
		}
		r->v = p;
		r->cap = r->cap ? r->cap * 2 : 8;
	}
	r->v[r->n++] = (struct entry){copy, len, child};
	return 0;
}

struct edit {
	struct mno_series *s;
	struct mno_txn *txn;
	const uint8_t *tree;
	uint64_t next, count;
};

static int node_put(struct edit *e, uint32_t no, unsigned level, const struct entry *v, size_t n)
{
	struct mno_seal info = {.kind = MNO_SEAL_VALUES, .count = (uint32_t)n};
	struct mno_buf *raw = &e->s->raw;
	uint8_t key[KEY_BYTES];

	mno_buf_reset(raw);
	mno_buf_addc(raw, (char)level);
	mno_varint_add(raw, n);
	if (no == 0) {
		mno_varint_add(raw, e->next);
		mno_varint_add(raw, e->count);
	}
	for (size_t i = 0; i < n; i++)
		encode_entry(raw, level, i ? &v[i - 1] : NULL, &v[i]);
	if (raw->err)
		return raw->err;
	node_key(key, e->tree, no);
	return mno_seal_put(
		e->txn, MNO_DB_VALUES, key, sizeof(key), &info, raw->data, raw->len, NULL);
}

static int node_del(struct edit *e, uint32_t no)
{
	uint8_t key[KEY_BYTES];
	int r;

	node_key(key, e->tree, no);
	r = mno_txn_del(e->txn, MNO_DB_VALUES, key, sizeof(key));
	return r == -ENOENT ? 0 : r;
}

/* Bytes of entries [from, ..) until more than @most, and how many these are (at least @least). */
static size_t piece_len(unsigned level, const struct entry *v, size_t n, size_t most, size_t least,
	size_t *ret_bytes)
{
	size_t bytes = 0, i;

	for (i = 0; i < n; i++) {
		size_t shared = i ? shared_len(&v[i - 1], &v[i]) : 0;
		size_t one = v[i].len - shared + (level ? 8 : 4);

		if (i >= least && bytes + one > most)
			break;
		bytes += one;
	}
	*ret_bytes = bytes;
	return i;
}

/* The shortest text that is above @a and not above @b. */
static size_t cut_len(const struct entry *a, const struct entry *b)
{
	return MNO_MIN(shared_len(a, b) + 1, b->len);
}

/* Writes entries as one node or several and tells what they are. The first keeps number @no (unless
 * that is the root's and there are several). @full: leave full nodes behind. */
static int nodes_write(
	struct edit *e, uint32_t no, const struct node *n, bool full, struct refs *ret)
{
	size_t least = n->level ? 2 : 1, bytes, most = NODE_MAX, done = 0, pieces;
	int r = 0;

	if (n->n == 0)
		return no ? node_del(e, no) : 0;
	piece_len(n->level, n->v, n->n, SIZE_MAX, least, &bytes);
	pieces = (bytes + NODE_MAX - 1) / NODE_MAX;
	if (!full && pieces > 1)
		most = bytes / pieces + 1;
	while (done < n->n && r == 0) {
		const struct entry *v = n->v + done;
		size_t take = piece_len(n->level, v, n->n - done, most, least, &bytes);
		uint32_t to = no;

		if (n->n - done - take < least) /* nothing too small behind */
			take = n->n - done;
		if (done || (no == 0 && take < n->n))
			to = (uint32_t)e->next++;
		if (e->next > UINT32_MAX)
			return -ENOSPC;
		r = refs_add(ret, to, v->text, done ? cut_len(v - 1, v) : v->len);
		if (r == 0 && to)
			r = node_put(e, to, n->level, v, take);
		done += take;
	}
	return r;
}

/* One list of what was there and what is wanted. */
static int leaf_merge(struct edit *e, const struct node *old, const struct value_edit *v, size_t n,
	struct node *ret)
{
	size_t i = 0, j = 0;
	int r = 0;

	while (r == 0 && (i < old->n || j < n)) {
		int c = i == old->n ? 1
			: j == n    ? -1
				    : compare(old->v[i].text, old->v[i].len, v[j].text, v[j].len);

		if (c < 0) {
			r = entry_add(ret, old->v[i++]);
			continue;
		}
		e->count -= c == 0 && v[j].del;
		e->count += c > 0 && !v[j].del;
		if (!v[j].del)
			r = entry_add(ret, (struct entry){v[j].text, v[j].len, 0});
		i += c == 0;
		j++;
	}
	return r;
}

static int apply_node(struct edit *e, uint32_t no, unsigned level, const struct value_edit *v,
	size_t n, struct refs *ret);

/* How many of the edits go before entry @next (or all, if there is none). */
static size_t edits_before(const struct value_edit *v, size_t n, const struct entry *next)
{
	size_t i = 0;

	while (i < n && (!next || compare(v[i].text, v[i].len, next->text, next->len) < 0))
		i++;
	return i;
}

static int inner_merge(struct edit *e, const struct node *old, const struct value_edit *v, size_t n,
	struct refs *kids)
{
	int r = 0;

	for (size_t i = 0; i < old->n && r == 0; i++) {
		size_t from = kids->n;
		size_t part = edits_before(v, n, i + 1 < old->n ? &old->v[i + 1] : NULL);

		if (part == 0) {
			r = refs_add(kids, old->v[i].child, old->v[i].text, old->v[i].len);
			continue;
		}
		r = apply_node(e, old->v[i].child, old->level - 1, v, part, kids);
		/* the first one keeps the text by which it was found */
		if (r == 0 && kids->n > from) {
			struct refs one = {0};

			r = refs_add(&one, kids->v[from].child, old->v[i].text, old->v[i].len);
			if (r == 0) {
				free((char *)kids->v[from].text);
				kids->v[from] = one.v[0];
				free(one.v);
			}
		}
		v += part;
		n -= part;
	}
	return r;
}

static int apply_loaded(struct edit *e, uint32_t no, const struct node *old,
	const struct value_edit *v, size_t n, struct refs *ret)
{
	_cleanup_(node_done)
	struct node now = {.level = old->level};
	_cleanup_(refs_done)
	struct refs kids = {0};
	bool full;
	int r;

	if (old->level) {
		r = inner_merge(e, old, v, n, &kids);
		for (size_t i = 0; i < kids.n && r == 0; i++)
			r = entry_add(&now, kids.v[i]);
	} else {
		r = leaf_merge(e, old, v, n, &now);
	}
	full = !old->n || (now.n > old->n && compare(v->text, v->len, old->v[old->n - 1].text,
						     old->v[old->n - 1].len) > 0);
	return r < 0 ? r : nodes_write(e, no, &now, full, ret);
}

static int apply_node(struct edit *e, uint32_t no, unsigned level, const struct value_edit *v,
	size_t n, struct refs *ret)
{
	_cleanup_(node_done)
	struct node old = {0};
	int r = node_get(e->s, e->txn->t, e->s->z, e->tree, no, &e->s->raw, &old);

	if (r == -ENOENT || (r == 0 && old.level != level))
		return -MNO_ECORRUPT;
	return r < 0 ? r : apply_loaded(e, no, &old, v, n, ret);
}

/* The root's new content; more than one node gets another level above. */
static int root_finish(struct edit *e, unsigned level, struct refs *kids)
{
	int r = 0;

	while (kids->n > 1 && r == 0) {
		_cleanup_(node_done)
		struct node n = {.level = ++level};
		_cleanup_(refs_done)
		struct refs up = {0};
		struct refs old;

		if (level > LEVEL_MAX)
			return -ENOSPC;
		for (size_t i = 0; i < kids->n && r == 0; i++)
			r = entry_add(&n, kids->v[i]);
		if (r == 0)
			r = nodes_write(e, 0, &n, false, &up);
		if (r == 0 && up.n == 1)
			return node_put(e, 0, level, n.v, n.n);
		old = *kids;
		*kids = up;
		up = old;
	}
	return r;
}

int values_apply(struct mno_series *s, struct mno_txn *txn, const uint8_t tree[FP_BYTES],
	const struct value_edit *v, size_t n)
{
	_cleanup_(node_done)
	struct node root = {.next = 1};
	_cleanup_(node_done)
	struct node now = {0};
	_cleanup_(refs_done)
	struct refs kids = {0};
	_cleanup_(refs_done)
	struct refs up = {0};
	struct edit e = {.s = s, .txn = txn, .tree = tree};
	int r = node_get(s, txn->t, s->z, tree, 0, &s->raw, &root);
	bool was = r == 0;

	if (r < 0 && r != -ENOENT)
		return r;
	e.next = root.next;
	e.count = root.count;
	now.level = root.level;
	if (root.level) {
		r = inner_merge(&e, &root, v, n, &kids);
		for (size_t i = 0; i < kids.n && r == 0; i++)
			r = entry_add(&now, kids.v[i]);
	} else {
		r = leaf_merge(&e, &root, v, n, &now);
	}
	if (r < 0)
		return r;
	if (now.n == 0)
		return was ? node_del(&e, 0) : 0;
	r = nodes_write(&e, 0, &now, now.n > root.n && root.level == 0, &up);
	if (r == 0 && up.n == 1)
		return node_put(&e, 0, now.level, now.v, now.n);
	return r < 0 ? r : root_finish(&e, now.level, &up);
}

/* --- reading ------------------------------------------------------------------------------------------ */

/* The last entry whose text is not above @text; the first if all are. */
static size_t pick(const struct node *n, const char *text, size_t len)
{
	size_t lo = 0, hi = n->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (compare(n->v[mid].text, n->v[mid].len, text, len) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? lo - 1 : 0;
}

/* The leaf that @text belongs to; *@bound is the least text of the next one (empty: it is the
 * last). -ENOENT: no tree. */
static int leaf_find(struct rd *rd, const uint8_t tree[FP_BYTES], const char *text, size_t len,
	struct node *n, struct mno_buf *bound)
{
	uint32_t no = 0;
	unsigned level = LEVEL_MAX + 1;

	mno_buf_reset(bound);
	for (;;) {
		int r = node_get(rd->s, rd->t, rd->z, tree, no, &rd->raw, n);
		size_t i;

		if (r < 0)
			return r == -ENOENT && no ? -MNO_ECORRUPT : r;
		if (n->level >= level || n->n == 0)
			return -MNO_ECORRUPT;
		if (n->level == 0)
			return 0;
		level = n->level;
		i = pick(n, text, len);
		if (i + 1 < n->n) {
			mno_buf_reset(bound);
			mno_buf_add(bound, n->v[i + 1].text, n->v[i + 1].len);
			if (bound->err)
				return bound->err;
		}
		no = n->v[i].child;
	}
}

static bool has_prefix(const struct entry *e, const char *prefix, size_t len)
{
	return e->len >= len && memcmp(e->text, prefix, len) == 0;
}

/* *@end: the texts with the prefix end in this leaf. */
static int leaf_walk(const struct node *n, const struct mno_buf *at, const char *prefix, size_t len,
	bool *end, value_fn fn, void *arg)
{
	for (size_t i = 0; i < n->n; i++) {
		int r;

		if (at->len && compare(n->v[i].text, n->v[i].len, at->data, at->len) < 0)
			continue;
		if (!has_prefix(&n->v[i], prefix, len)) {
			*end = true; /* at or after the prefix, so behind all that have it */
			return 0;
		}
		r = fn(arg, n->v[i].text, n->v[i].len);
		if (r)
			return r;
	}
	return 0;
}

int values_walk(struct rd *rd, const uint8_t tree[FP_BYTES], const char *prefix, size_t prefix_len,
	value_fn fn, void *arg)
{
	_cleanup_buf_ struct mno_buf at = {0}, bound = {0};
	_cleanup_(node_done)
	struct node n = {0};
	bool end = false;
	int r;

	mno_buf_add(&at, prefix, prefix_len);
	do {
		struct mno_buf swap;

		r = at.err ? at.err : rd_renew(rd);
		if (r == 0)
			r = leaf_find(rd, tree, at.data ? at.data : "", at.len, &n, &bound);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		r = leaf_walk(&n, &at, prefix, prefix_len, &end, fn, arg);
		swap = at;
		at = bound;
		bound = swap;
	} while (r == 0 && !end && at.len);
	return r;
}

int values_count(struct rd *rd, const uint8_t tree[FP_BYTES], uint64_t *ret)
{
	_cleanup_(node_done)
	struct node n = {0};
	int r = node_get(rd->s, rd->t, rd->z, tree, 0, &rd->raw, &n);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret = r == 0 ? n.count : 0;
	return 0;
}
