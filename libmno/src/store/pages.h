/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of an environment's file outside of LMDB: the walk over its skeleton (check.c), and the
 * sums of it that a clean close leaves behind (pages.c).
 *
 * LMDB has no checksums: a flipped bit in a key, in a pointer or in the root's number can give a
 * wrong answer. So a clean close writes the file "pages.sum": for each page of the skeleton (both
 * heads, branches, leaves, lists of free pages) its number and a sum of what is in use in it. The
 * next opening compares. A page that differs in one bit is mended: that bit is found by trying all.
 * What differs in more is damage.
 */
#pragma once

#include "store_internal.h"

enum mno_page_kind { MNO_PAGE_HEAD, MNO_PAGE_TREE, MNO_PAGE_FREE_LIST, MNO_PAGE_VALUE };
struct mno_page {
	enum mno_page_kind kind;
	uint64_t no;      /* of the first page */
	const uint8_t *p; /* its bytes */
	uint64_t n;       /* pages */
	uint64_t used;    /* FREE_LIST, VALUE: bytes behind the page's header */
};
struct mno_pages {
	int (*fn)(void *arg, const struct mno_page *p); /* non-zero stops the walk */
	/* after all of them: @used has a bit for each page up to @last that has a use, or is free */
	int (*end)(void *arg, const uint64_t *used, uint64_t last);
	void *arg;
	bool values; /* call it for VALUE too; they are touched on the disk by that */
	/* filled by the walk */
	uint64_t page_bytes, txn;
};
/* mno_store_check() that shows the pages it walks over. -ETIME: not all of them in @max_ns. */
int mno_pages_walk(int fd, uint64_t max_ns, struct mno_pages *w);

/* Sum of what is in use in a page of the skeleton; false if its bounds are wrong. */
bool mno_page_sum(
	enum mno_page_kind kind, const uint8_t *p, uint64_t bytes, uint64_t used, uint64_t *ret);

struct mno_pages_found {
	uint64_t pages, mended, bad; /* looked at; put right; beyond help */
	bool known;                  /* there were sums of this state of the file */
};
/*
 * Looks at the file in @dir_fd, which nobody has open: compares it with its sums if they are of
 * this state, mends it, walks over it. 0, also when the time was too short; -MNO_ECORRUPT LMDB may
 * not work on it (log line), -ENOENT, -ENOMEM, -errno.
 */
int mno_pages_verify(int dir_fd, uint64_t max_ns, struct mno_pages_found *ret);
#define MNO_PAGES_RECORD_NS NS_PER_SEC /* of a clean close */
/* Writes the sums of the file, which nobody writes any more and which is synced. */
int mno_pages_record(int dir_fd, uint64_t max_ns);
/* Removes them: the file is about to be written. */
void mno_pages_forget(int dir_fd);
