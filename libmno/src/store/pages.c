/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of the skeleton's pages, and mending by them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/map.h"
#include "mno/time.h"
#include "pages.h"

#define SUMS_NAME     "pages.sum"
#define SUMS_TEMP     "pages.tmp"
#define SUMS_MAGIC    0x736d7573676d6e6fULL
#define SUMS_MAX      (64u << 20) /* bytes of the file: 2.7 M pages, 10 GiB of skeleton */
#define MEND_PAGES    64 /* tried at one opening: some 65 ms each; more is a failing disk */
#define PAGE_HEADER   16
#define PAGE_OVERFLOW 0x04
#define PAGE_DIRTY    0x10
/* In a larger file the values' headers, each on a page of its own, are left to the scrubber. */
#define HEADS_FILE_MAX (64 << 20)
#define HEAD_USED      (PAGE_HEADER + 136) /* of a head: what LMDB reads */

struct sum {
	uint64_t no, used, sum; /* used: of a list of free pages */
	uint64_t kind;
};
struct sums_head {
	uint64_t magic, txn, page_bytes, n;
	uint64_t sum; /* of all this with sum = 0, and of the entries */
};

static const uint8_t sum_key[16] = "mno page sums";

/* --- one page --------------------------------------------------------------------------------- */

static uint64_t two_parts(const uint8_t *a, size_t n, const uint8_t *b, size_t m)
{
	uint64_t part[2] = {mno_siphash(sum_key, a, n), mno_siphash(sum_key, b, m)};

	return mno_siphash(sum_key, part, sizeof(part));
}

bool mno_page_sum(
	enum mno_page_kind kind, const uint8_t *p, uint64_t bytes, uint64_t used, uint64_t *ret)
{
	uint16_t lower, upper;

	if (kind == MNO_PAGE_HEAD) {
		*ret = mno_siphash(sum_key, p, HEAD_USED);
		return true;
	}
	if (kind == MNO_PAGE_FREE_LIST) {
		*ret = mno_siphash(sum_key, p, PAGE_HEADER + used);
		return true;
	}
	memcpy(&lower, p + 12, sizeof(lower));
	memcpy(&upper, p + 14, sizeof(upper));
	if (lower < PAGE_HEADER || lower > upper || upper > bytes)
		return false;
	*ret = two_parts(p, lower, p + upper, bytes - upper);
	return true;
}

/* --- recording -------------------------------------------------------------------------------- */

struct record {
	struct mno_pages w;
	struct mno_buf out;
};

static int add_page(void *arg, const struct mno_page *p)
{
	struct record *r = arg;
	struct sum s = {.no = p->no, .used = p->used, .kind = p->kind};

	if (!mno_page_sum(p->kind, p->p, r->w.page_bytes, p->used, &s.sum))
		return -MNO_ECORRUPT;
	if (r->out.len > SUMS_MAX)
		return -EFBIG;
	mno_buf_add(&r->out, &s, sizeof(s));
	return r->out.err;
}

static uint64_t sum_of_all(const struct sums_head *h, const void *entries)
{
	struct sums_head clean = *h;

	clean.sum = 0;
	return two_parts(
		(const uint8_t *)&clean, sizeof(clean), entries, (size_t)h->n * sizeof(struct sum));
}

static int write_sums(int dir_fd, struct record *r)
{
	struct sums_head h = {.magic = SUMS_MAGIC,
		.txn = r->w.txn,
		.page_bytes = r->w.page_bytes,
		.n = (r->out.len - sizeof(h)) / sizeof(struct sum)};
	_cleanup_close_ int fd = -1;

	h.sum = sum_of_all(&h, r->out.data + sizeof(h));
	memcpy(r->out.data, &h, sizeof(h));
	fd = openat(dir_fd, SUMS_TEMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (size_t at = 0; at < r->out.len;) {
		ssize_t n = write(fd, r->out.data + at, r->out.len - at);

		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (fsync(fd) < 0 || renameat(dir_fd, SUMS_TEMP, dir_fd, SUMS_NAME) < 0)
		return -errno;
	return 0;
}

int mno_pages_record(int dir_fd, uint64_t max_ns)
{
	_cleanup_close_ int fd = openat(dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	struct record r = {.w = {.fn = add_page, .arg = &r}};
	struct sums_head none = {0};
	int err;

	if (fd < 0)
		return -errno;
	mno_buf_add(&r.out, &none, sizeof(none));
	err = mno_pages_walk(fd, max_ns, &r.w);
	if (err == 0)
		err = write_sums(dir_fd, &r);
	if (err < 0)
		unlinkat(dir_fd, SUMS_TEMP, 0);
	mno_buf_done(&r.out);
	return err;
}

void mno_pages_forget(int dir_fd)
{
	if (unlinkat(dir_fd, SUMS_NAME, 0) == 0 || errno == ENOENT)
		return;
	/* a directory in its place: if it is empty it can go; if not, sums are not to be had */
	if (unlinkat(dir_fd, SUMS_NAME, AT_REMOVEDIR) < 0)
		mno_warn("store: %s cannot be removed: %s", SUMS_NAME, mno_strerror(-errno));
}

/* --- comparing -------------------------------------------------------------------------------- */

struct file {
	int fd;
	uint8_t *p; /* private copy on write: mended pages are written by hand */
	uint64_t size, page;
};

/* The one bit of the page, if it is one, whose change makes the sum right. */
static bool mend_bit(const struct sum *s, uint8_t *p, size_t n, uint64_t page)
{
	uint64_t sum;

	for (size_t bit = 0; bit < n * 8; bit++) {
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (mno_page_sum((enum mno_page_kind)s->kind, p, page, s->used, &sum) &&
			sum == s->sum)
			return true;
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	return false;
}

static bool sum_fits(const struct file *f, const struct sum *s)
{
	uint64_t sum;

	return mno_page_sum((enum mno_page_kind)s->kind, f->p + s->no * f->page, f->page, s->used,
		       &sum) &&
	       sum == s->sum;
}

/* 1: was wrong and is right now; 0: cannot be mended. */
static int mend(struct file *f, const struct sum *s)
{
	uint8_t *p = f->p + s->no * f->page;
	size_t n = s->kind == MNO_PAGE_FREE_LIST ? PAGE_HEADER + s->used : f->page;

	if (n > 16 * f->page || !mend_bit(s, p, n, f->page))
		return 0;
	if (pwrite(f->fd, p, n, (off_t)(s->no * f->page)) != (ssize_t)n || fsync(f->fd) < 0)
		return -EIO;
	return 1;
}

static bool inside(const struct file *f, const struct sum *s)
{
	uint64_t n = s->kind == MNO_PAGE_FREE_LIST ? PAGE_HEADER + s->used : f->page;

	return s->kind <= MNO_PAGE_FREE_LIST && n <= f->size && s->no <= (f->size - n) / f->page;
}

static int compare(struct file *f, const struct sum *v, uint64_t n, uint64_t end_ns,
	struct mno_pages_found *ret)
{
	for (uint64_t i = 0; i < n; i++) {
		int r = 0;

		if (!inside(f, &v[i])) {
			ret->bad++;
			continue;
		}
		ret->pages++;
		if (!sum_fits(f, &v[i])) {
			uint64_t t0 = mno_now_ns(CLOCK_MONOTONIC);

			r = ret->mended + ret->bad < MEND_PAGES ? mend(f, &v[i]) : 0;
			if (r < 0)
				return r;
			if (end_ns != UINT64_MAX)
				end_ns += mno_now_ns(CLOCK_MONOTONIC) - t0;
			*(r ? &ret->mended : &ret->bad) += 1;
			if (r == 0 && v[i].kind != MNO_PAGE_HEAD)
				mno_err("store: page %llu of data.mdb is damaged",
					(unsigned long long)v[i].no);
		}
		/* the heads differ: the file was written since, the sums are of before */
		if (r == 0 && ret->bad && v[i].kind == MNO_PAGE_HEAD) {
			*ret = (struct mno_pages_found){0};
			return 0;
		}
		if (mno_now_ns(CLOCK_MONOTONIC) > end_ns)
			break;
	}
	ret->known = true;
	return 0;
}

static int read_sums(int dir_fd, struct mno_buf *out, struct sums_head *h)
{
	_cleanup_close_ int fd = openat(dir_fd, SUMS_NAME, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENXIO || errno == ELOOP ? -MNO_ECORRUPT : -errno;
	if (!S_ISREG(st.st_mode))
		return -MNO_ECORRUPT;
	if (st.st_size < (off_t)sizeof(*h) || st.st_size > (off_t)SUMS_MAX + (1 << 20))
		return -MNO_ECORRUPT;
	p = mno_buf_reserve(out, (size_t)st.st_size);
	if (!p)
		return -ENOMEM;
	if (read(fd, p, (size_t)st.st_size) != st.st_size)
		return -EIO;
	mno_buf_commit(out, (size_t)st.st_size);
	memcpy(h, p, sizeof(*h));
	if (h->magic != SUMS_MAGIC || h->n != (out->len - sizeof(*h)) / sizeof(struct sum) ||
		out->len != sizeof(*h) + h->n * sizeof(struct sum) ||
		h->sum != sum_of_all(h, p + sizeof(*h)))
		return -MNO_ECORRUPT;
	if (h->page_bytes < 512 || h->page_bytes > 32768 || h->page_bytes & (h->page_bytes - 1))
		return -MNO_ECORRUPT;
	return 0;
}

static int verify_sums(int dir_fd, int fd, uint64_t max_ns, struct mno_pages_found *found)
{
	_cleanup_buf_ struct mno_buf text = {0};
	struct sums_head h;
	struct file f;
	struct stat st;
	int r = read_sums(dir_fd, &text, &h);

	if (r == -MNO_ECORRUPT) {
		mno_warn("store: %s is damaged: the pages are looked at without it", SUMS_NAME);
		mno_pages_forget(dir_fd);
	}
	if (r < 0)
		return r == -ENOENT || r == -MNO_ECORRUPT ? 0 : r;
	if (fstat(fd, &st) < 0)
		return -errno;
	f = (struct file){.fd = fd, .size = (uint64_t)st.st_size, .page = h.page_bytes};
	f.p = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (f.p == MAP_FAILED)
		return -errno;
	r = compare(&f, (const struct sum *)(text.data + sizeof(h)), h.n,
		max_ns ? mno_now_ns(CLOCK_MONOTONIC) + max_ns : UINT64_MAX, found);
	munmap(f.p, f.size);
	return r;
}

/* --- headers of values ------------------------------------------------------------------------ */

/* A value that says it has more pages than its length takes. */
struct claim {
	uint64_t no;
	uint32_t n, has;
};
struct value_heads {
	struct mno_pages w;
	int fd;
	uint64_t pages;      /* of the file */
	struct claim *claim; /* 16 bytes each, at most one for each such value of the file */
	size_t n, cap;
	struct mno_pages_found *found;
};

static int add_claim(struct value_heads *v, uint64_t no, uint32_t n, uint32_t has)
{
	if (v->n == v->cap) {
		size_t cap = v->cap * 2 + 64;
		struct claim *p = reallocarray(v->claim, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		v->claim = p;
		v->cap = cap;
	}
	v->claim[v->n++] = (struct claim){no, n, has};
	return 0;
}

/* LMDB would free what the header says: pages of others must not be among that. What is too few is
 * safe, they only stay unused. */
static int check_claims(void *arg, const uint64_t *used, uint64_t last)
{
	struct value_heads *v = arg;

	for (size_t i = 0; i < v->n; i++) {
		const struct claim *c = &v->claim[i];
		off_t at = (off_t)(c->no * v->w.page_bytes) + 12;
		bool others = false;

		for (uint64_t p = c->no + c->n; p < c->no + c->has && !others; p++)
			others = p > last || used[p / 64] >> p % 64 & 1;
		if (!others)
			continue;
		v->found->mended++;
		if (pwrite(v->fd, &c->n, sizeof(c->n), at) != sizeof(c->n))
			return -EIO;
	}
	return 0;
}

/* What LMDB wrote there is known: number, kind, count of pages. The two bytes between number and
 * kind nobody reads. */
static int check_head(void *arg, const struct mno_page *p)
{
	struct value_heads *v = arg;
	uint8_t want[PAGE_HEADER];
	uint32_t n = (uint32_t)p->n, has;
	unsigned bits = 0;

	if (p->kind != MNO_PAGE_VALUE)
		return 0;
	memcpy(want, p->p, sizeof(want));
	memcpy(want, &p->no, sizeof(p->no));
	want[10] = PAGE_OVERFLOW | (p->p[10] & PAGE_DIRTY);
	want[11] = 0;
	/* a smaller value in the place of a larger one keeps all its pages: nobody else has them */
	memcpy(&has, p->p + 12, sizeof(has));
	if (has > n && has - n < v->pages - p->no) {
		int r = add_claim(v, p->no, n, has);

		if (r < 0)
			return r;
		n = has;
	}
	memcpy(want + 12, &n, sizeof(n));
	for (size_t i = 0; i < sizeof(want); i++)
		bits += (unsigned)__builtin_popcount(want[i] ^ p->p[i]);
	if (!bits)
		return 0;
	*(bits == 1 ? &v->found->mended : &v->found->bad) += 1;
	if (bits > 1)
		return 0;
	return pwrite(v->fd, want, sizeof(want), (off_t)(p->no * v->w.page_bytes)) == sizeof(want)
		       ? 0
		       : -EIO;
}

int mno_pages_verify(int dir_fd, uint64_t max_ns, struct mno_pages_found *ret)
{
	_cleanup_close_ int fd = openat(dir_fd, "data.mdb", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct mno_pages_found found = {0};
	struct value_heads v = {
		.w = {.fn = check_head, .end = check_claims, .arg = &v, .values = true},
		.fd = fd,
		.found = &found};
	struct stat st;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size == 0) {
		*ret = found;
		return 0;
	}
	r = verify_sums(dir_fd, fd, max_ns, &found);
	v.pages = (uint64_t)st.st_size / (uint64_t)sysconf(_SC_PAGESIZE);
	v.w.values = !max_ns || st.st_size <= HEADS_FILE_MAX;
	if (r == 0)
		r = mno_pages_walk(fd, max_ns, &v.w);
	free(v.claim);
	if (r < 0 && r != -ETIME)
		return r;
	if (found.mended && fsync(fd) < 0)
		return -errno;
	*ret = found;
	return 0;
}
