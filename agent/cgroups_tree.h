/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of a cgroup tree: kept by inotify, so that a second in which no cgroup came or
 * went costs one read(); by walking it all where inotify cannot be had.
 */
#pragma once

#include <stdint.h>
#include "mno/macro.h"

struct mno_cgtree;

struct mno_cgnode {
	uint64_t id; /* inode number of the directory, which is the kernel's cgroup id */
	char *path;  /* below the root: "/", "/a/b" */
	int wd;
	bool seen, gone;
	uint32_t slot, gen; /* the owner's */
};

/* @root: directory; at most @max cgroups are kept. -errno if @root cannot be read. */
int mno_cgtree_new(const char *root, size_t max, struct mno_cgtree **ret);
/* NULL-safe, returns NULL. */
struct mno_cgtree *mno_cgtree_free(struct mno_cgtree *t);
MNO_DEFINE_CLEANUP(struct mno_cgtree *, mno_cgtree_free)

/*
 * Brings the tree up to date; true if anything changed. @removed (may be NULL) is called for each
 * cgroup that went, its node is freed after it.
 */
bool mno_cgtree_update(
	struct mno_cgtree *t, void (*removed)(void *arg, const struct mno_cgnode *n), void *arg);
/* By id; NULL when unknown. Valid until the next update. */
struct mno_cgnode *mno_cgtree_get(const struct mno_cgtree *t, uint64_t id);
/* All nodes, parents first. Valid until the next update. */
size_t mno_cgtree_nodes(const struct mno_cgtree *t, struct mno_cgnode *const **ret);
/* Directories left out for the bound, since the last whole walk. */
uint64_t mno_cgtree_skipped(const struct mno_cgtree *t);
/* Whole walks done so far (the first included). */
uint64_t mno_cgtree_walks(const struct mno_cgtree *t);
/* From now on walks the whole tree at each update, as where inotify is missing. */
void mno_cgtree_no_watch(struct mno_cgtree *t);
