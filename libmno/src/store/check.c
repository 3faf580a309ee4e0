/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB trusts its pages: one flipped bit in a page header can end in SIGSEGV, in an endless loop,
 * or in pages that are given away twice. So the skeleton of the file (format of LMDB 0.9, 64 bits,
 * this machine's byte order) is walked before it is opened: every branch and leaf of every
 * database, and the list of free pages. Values have checksums of their own.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "pages.h"

#define HEAD         16 /* of a page; of a node it is 8 */
#define NODE_HEAD    8
#define MAGIC        0xBEEFC0DEu
#define DEPTH_MAX    32
#define PAGE_BRANCH  0x01
#define PAGE_LEAF    0x02
#define PAGE_META    0x08
#define NODE_BIGDATA 0x01
#define NODE_SUBDATA 0x02
#define NO_ROOT      UINT64_MAX
#define WORD_BITS    64

struct tree {
	uint32_t pad;
	uint16_t flags, depth;
	uint64_t branch, leaf, overflow, entries, root;
};
_Static_assert(sizeof(struct tree) == 48, "on disk");

struct meta {
	uint32_t magic, version;
	uint64_t address, map_size;
	struct tree trees[2]; /* free pages; names of the databases */
	uint64_t last_page, txn;
};

struct check {
	const uint8_t *p;
	uint64_t size, page, last;
	uint64_t *used; /* one bit for each page: 32 KiB for 1 GiB */
	uint64_t end_ns;
	bool late;
	struct mno_pages *show; /* may be NULL */
	uint64_t bad_page;
	const char *bad;
};

struct node {
	const uint8_t *p;
	uint64_t size; /* of the value; of a branch: its page */
	uint16_t flags, ksize;
};

static int bad(struct check *c, uint64_t pgno, const char *what)
{
	c->bad_page = pgno;
	c->bad = what;
	return -MNO_ECORRUPT;
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int show(struct check *c, enum mno_page_kind kind, uint64_t no, uint64_t n, uint64_t used)
{
	struct mno_page p = {
		.kind = kind, .no = no, .p = c->p + no * c->page, .n = n, .used = used};

	if (!c->show || !c->show->fn || (kind == MNO_PAGE_VALUE && !c->show->values))
		return 0;
	return c->show->fn(c->show->arg, &p);
}

/* Each page has one use: this also ends every loop. */
static int take(struct check *c, uint64_t pgno)
{
	uint64_t bit = 1ULL << (pgno % WORD_BITS), *w;

	if (pgno < 2 || pgno > c->last)
		return bad(c, pgno, "is named, but outside of the file");
	w = &c->used[pgno / WORD_BITS];
	if (*w & bit)
		return bad(c, pgno, "is used twice");
	*w |= bit;
	return 0;
}

static int take_run(struct check *c, uint64_t first, uint64_t n)
{
	int r = 0;

	if (first > c->last || n > c->last - first + 1 || (first + n) * c->page > c->size)
		return bad(c, first, "begins a value that ends outside of the file");
	for (uint64_t i = 0; i < n && r == 0; i++)
		r = take(c, first + i);
	return r;
}

static int read_page(
	struct check *c, uint64_t pgno, bool leaf, const uint8_t **ret, unsigned *ret_n)
{
	const uint8_t *p = c->p + pgno * c->page;
	unsigned flags, lower, upper;
	int r = take(c, pgno);

	if (r < 0)
		return r;
	if ((pgno + 1) * c->page > c->size)
		return bad(c, pgno, "is missing: the file was cut");
	flags = get16(p + 10);
	lower = get16(p + 12);
	upper = get16(p + 14);
	if (get64(p) != pgno || (flags & 0xff & ~0x10u) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
		return bad(c, pgno, "is not the page that it should be");
	if (lower < HEAD || lower > upper || upper > c->page || lower % 2)
		return bad(c, pgno, "has wrong bounds");
	*ret_n = (lower - HEAD) / 2;
	if (*ret_n < (leaf ? 1 : 2))
		return bad(c, pgno, "is empty");
	*ret = p;
	return show(c, MNO_PAGE_TREE, pgno, 1, 0);
}

static int read_node(struct check *c, uint64_t pgno, const uint8_t *page, unsigned i, bool leaf,
	struct node *ret)
{
	unsigned at = get16(page + HEAD + 2 * i), upper = get16(page + 14);
	const uint8_t *p = page + at;

	if (at < upper || at + NODE_HEAD > c->page || at % 2)
		return bad(c, pgno, "has an entry outside of it");
	*ret = (struct node){.p = p + NODE_HEAD,
		.size = get16(p) | (uint64_t)get16(p + 2) << 16,
		.flags = get16(p + 4),
		.ksize = get16(p + 6)};
	if (!leaf) {
		ret->size |= (uint64_t)ret->flags << 32;
		ret->flags = 0;
	}
	if (at + NODE_HEAD + ret->ksize > c->page)
		return bad(c, pgno, "has a key that ends outside of it");
	return 0;
}

/* Where the value is; what lies in pages of its own is taken. */
static int read_value(struct check *c, uint64_t pgno, const uint8_t *page, const struct node *n,
	bool free_list, const uint8_t **ret)
{
	const uint8_t *v = n->p + n->ksize;
	uint64_t room = c->page - (uint64_t)(v - page);
	uint64_t first, pages;
	int r;

	if (n->flags & ~(NODE_BIGDATA | NODE_SUBDATA))
		return bad(c, pgno, "has an entry of an unknown kind");
	if (!(n->flags & NODE_BIGDATA)) {
		*ret = v;
		return n->size <= room ? 0 : bad(c, pgno, "has a value that ends outside of it");
	}
	if (room < sizeof(first))
		return bad(c, pgno, "has a value that ends outside of it");
	first = get64(v);
	*ret = c->p + first * c->page + HEAD; /* read only after take_run() agreed */
	pages = (HEAD - 1 + n->size) / c->page + 1;
	r = take_run(c, first, pages);
	if (r < 0)
		return r;
	return show(c, free_list ? MNO_PAGE_FREE_LIST : MNO_PAGE_VALUE, first, pages, n->size);
}

static int check_tree(struct check *c, const struct tree *t, bool names, bool free_list);

/* A list of free pages: their number, then the pages, the last first. */
static int check_free(struct check *c, uint64_t pgno, const uint8_t *v, uint64_t size)
{
	uint64_t n = size >= 8 ? get64(v) : UINT64_MAX, before = UINT64_MAX, id;
	int r = 0;

	if (n > size / 8 - 1)
		return bad(c, pgno, "has a list of free pages of a wrong length");
	for (uint64_t i = 1; i <= n && r == 0; i++, before = id) {
		id = get64(v + 8 * i);
		r = id < before ? take(c, id)
				: bad(c, pgno, "has a list of free pages out of order");
	}
	return r;
}

static int check_entry(struct check *c, uint64_t pgno, const uint8_t *page, const struct node *n,
	bool names, bool free_list)
{
	struct tree t;
	const uint8_t *v;
	int r = read_value(c, pgno, page, n, free_list, &v);

	if (r == 0 && free_list)
		return check_free(c, pgno, v, n->size);
	if (r < 0 || !(n->flags & NODE_SUBDATA))
		return r;
	if (!names || n->size != sizeof(t) || n->flags & NODE_BIGDATA)
		return bad(c, pgno, "has a database in a wrong place");
	memcpy(&t, v, sizeof(t));
	return check_tree(c, &t, false, false);
}

static int check_page(struct check *c, uint64_t pgno, unsigned depth, bool names, bool free_list)
{
	bool leaf = depth == 1;
	const uint8_t *p;
	unsigned n;
	int r;

	if (c->late || mno_now_ns(CLOCK_MONOTONIC) > c->end_ns) {
		c->late = true;
		return 0;
	}
	r = read_page(c, pgno, leaf, &p, &n);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		struct node node;

		r = read_node(c, pgno, p, i, leaf, &node);
		if (r == 0)
			r = leaf ? check_entry(c, pgno, p, &node, names, free_list)
				 : check_page(c, node.size, depth - 1, names, free_list);
	}
	return r;
}

static int check_tree(struct check *c, const struct tree *t, bool names, bool free_list)
{
	if (t->root == NO_ROOT)
		return t->depth ? bad(c, 0, "names a database without a root") : 0;
	if (t->depth < 1 || t->depth > DEPTH_MAX)
		return bad(c, t->root, "is the root of a database of a wrong depth");
	return check_page(c, t->root, t->depth, names, free_list);
}

/* The newer of both; false when LMDB itself will refuse the file, or make a new one. */
static bool read_meta(struct check *c, struct meta *ret)
{
	struct meta m[2];

	for (int i = 0; i < 2; i++) {
		uint64_t at = (uint64_t)i * c->page;

		if (c->size < at + HEAD + sizeof(m[i]))
			return false;
		memcpy(&m[i], c->p + at + HEAD, sizeof(m[i]));
		if (m[i].magic != MAGIC || m[i].version != 1 || !(c->p[at + 10] & PAGE_META))
			return false;
		if (i == 0)
			c->page = m[0].trees[0].pad;
		if (c->page < 512 || c->page > 32768 || c->page & (c->page - 1))
			return false;
	}
	*ret = m[m[1].txn > m[0].txn];
	return true;
}

static int check_all(struct check *c)
{
	struct meta m;
	int r;

	if (!read_meta(c, &m))
		return 0;
	c->last = m.last_page;
	if (c->last > (c->size + MNO_UNWRITTEN_SLACK) / c->page)
		return bad(c, c->last, "is the last one, but the file was cut");
	c->used = calloc(c->last / WORD_BITS + 1, sizeof(*c->used));
	if (!c->used)
		return -ENOMEM;
	if (c->show) {
		c->show->page_bytes = c->page;
		c->show->txn = m.txn;
	}
	r = show(c, MNO_PAGE_HEAD, 0, 1, 0);
	if (r == 0)
		r = show(c, MNO_PAGE_HEAD, 1, 1, 0);
	if (r == 0)
		r = check_tree(c, &m.trees[1], true, false);
	if (r == 0)
		r = check_tree(c, &m.trees[0], false, true);
	if (r == 0 && !c->late && c->show && c->show->end)
		r = c->show->end(c->show->arg, c->used, c->last);
	free(c->used);
	return r;
}

int mno_pages_walk(int fd, uint64_t max_ns, struct mno_pages *w)
{
	struct check c = {
		.end_ns = max_ns ? mno_now_ns(CLOCK_MONOTONIC) + max_ns : UINT64_MAX, .show = w};
	struct stat st;
	void *p;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return 0;
	c.size = (uint64_t)st.st_size;
	p = mmap(NULL, c.size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	c.p = p;
	r = check_all(&c);
	if (r == -MNO_ECORRUPT)
		mno_err("store: page %llu of data.mdb %s", (unsigned long long)c.bad_page, c.bad);
	munmap(p, c.size);
	return r == 0 && c.late ? -ETIME : r;
}

int mno_store_check(int fd, uint64_t max_ns)
{
	int r = mno_pages_walk(fd, max_ns, NULL);

	if (r == -ETIME)
		mno_debug("store: too large to look at all of it at start");
	return r == -ETIME ? 0 : r;
}
