/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroups_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "mno/map.h"

/* A whole walk all the same, in case an event was missed: once in so many updates. */
#define WALK_EVERY 300

struct mno_cgtree {
	char *root;
	int dir_fd, watch_fd; /* watch_fd < 0: no inotify, walk each time */
	size_t max, n, cap;
	struct mno_cgnode **nodes;
	struct mno_map *by_id, *by_path, *by_wd;
	dev_t dev;
	uint64_t skipped, walks;
	unsigned updates;
	bool changed, overflow;
};

struct mno_cgnode *mno_cgtree_get(const struct mno_cgtree *t, uint64_t id)
{
	return mno_map_get(t->by_id, &id, sizeof(id));
}

size_t mno_cgtree_nodes(const struct mno_cgtree *t, struct mno_cgnode *const **ret)
{
	*ret = t->nodes;
	return t->n;
}

uint64_t mno_cgtree_skipped(const struct mno_cgtree *t)
{
	return t->skipped;
}

uint64_t mno_cgtree_walks(const struct mno_cgtree *t)
{
	return t->walks;
}

void mno_cgtree_no_watch(struct mno_cgtree *t)
{
	if (t->watch_fd >= 0)
		close(t->watch_fd);
	t->watch_fd = -1;
	for (size_t i = 0; i < t->n; i++) {
		if (t->nodes[i]->wd >= 0)
			mno_map_remove(t->by_wd, &t->nodes[i]->wd, sizeof(int));
		t->nodes[i]->wd = -1;
	}
}

static void node_free(struct mno_cgnode *n)
{
	free(n->path);
	free(n);
}

/* Takes @n out of the maps; the node itself goes in sweep(). */
static void node_drop(struct mno_cgtree *t, struct mno_cgnode *n)
{
	if (mno_cgtree_get(t, n->id) == n)
		mno_map_remove(t->by_id, &n->id, sizeof(n->id));
	if (mno_map_get(t->by_path, n->path, strlen(n->path)) == n)
		mno_map_remove(t->by_path, n->path, strlen(n->path));
	if (n->wd >= 0) {
		mno_map_remove(t->by_wd, &n->wd, sizeof(n->wd));
		inotify_rm_watch(t->watch_fd, n->wd);
	}
	n->gone = t->changed = true;
}

static void node_watch(struct mno_cgtree *t, struct mno_cgnode *n)
{
	char full[PATH_MAX];

	if (t->watch_fd < 0)
		return;
	if (snprintf(full, sizeof(full), "%s%s", t->root, n->path) < (int)sizeof(full))
		n->wd = inotify_add_watch(t->watch_fd, full,
			IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR);
	if (n->wd >= 0 && mno_map_put(t->by_wd, &n->wd, sizeof(n->wd), n, NULL) == 0)
		return;
	if (n->wd >= 0 || errno != ENOENT) /* the limit of watches: walk from now on */
		mno_cgtree_no_watch(t);
}

static int node_index(struct mno_cgtree *t, struct mno_cgnode *n)
{
	int r = mno_map_put(t->by_id, &n->id, sizeof(n->id), n, NULL);

	if (r < 0)
		return r;
	return mno_map_put(t->by_path, n->path, strlen(n->path), n, NULL);
}

static int nodes_grow(struct mno_cgtree *t)
{
	size_t cap = MNO_MIN(t->cap ? t->cap * 2 : 64, t->max);
	struct mno_cgnode **v;

	if (t->n < t->cap)
		return 0;
	v = reallocarray(t->nodes, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	t->nodes = v;
	t->cap = cap;
	return 0;
}

/* Adds the directory @path (or finds it as it was). Over the bound it is only counted. */
static int node_add(struct mno_cgtree *t, const char *path, const struct stat *st)
{
	struct mno_cgnode *n = mno_map_get(t->by_path, path, strlen(path));
	int r;

	if (n && n->id == st->st_ino) {
		n->seen = true;
		return 0;
	}
	if (n)
		node_drop(t, n);
	if (t->n >= t->max || mno_cgtree_get(t, st->st_ino)) {
		t->skipped++;
		return -ENOSPC;
	}
	n = nodes_grow(t) < 0 ? NULL : calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	*n = (struct mno_cgnode){.id = st->st_ino, .path = strdup(path), .wd = -1, .seen = true};
	r = n->path ? node_index(t, n) : -ENOMEM;
	if (r < 0) {
		if (n->path)
			node_drop(t, n);
		node_free(n);
		return r;
	}
	t->nodes[t->n++] = n;
	t->changed = true;
	node_watch(t, n);
	return 0;
}

/* Adds @name below the directory open as @fd, whose path is @parent. */
static void child_add(struct mno_cgtree *t, int fd, const char *parent, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", strcmp(parent, "/") ? parent : "", name) >=
		(int)sizeof(path)) {
		t->skipped++;
		return;
	}
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return;
	if (st.st_dev == t->dev)
		node_add(t, path, &st);
}

static int node_open(const struct mno_cgtree *t, const struct mno_cgnode *n)
{
	return openat(t->dir_fd, n->path[1] ? n->path + 1 : ".",
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void children_add(struct mno_cgtree *t, const struct mno_cgnode *n)
{
	int fd = node_open(t, n);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN)
			continue;
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			child_add(t, dirfd(d), n->path, e->d_name);
	}
	closedir(d);
}

/* Breadth first from node number @from: new nodes go to the end, so parents stay in front. */
static void walk_from(struct mno_cgtree *t, size_t from)
{
	for (size_t i = from; i < t->n; i++)
		if (!t->nodes[i]->gone)
			children_add(t, t->nodes[i]);
}

static int root_add(struct mno_cgtree *t)
{
	struct stat st;

	if (fstat(t->dir_fd, &st) < 0)
		return -errno;
	t->dev = st.st_dev;
	return node_add(t, "/", &st);
}

static int walk_all(struct mno_cgtree *t)
{
	int r;

	t->skipped = 0;
	t->walks++;
	for (size_t i = 0; i < t->n; i++)
		t->nodes[i]->seen = false;
	r = root_add(t);
	if (r < 0)
		return r;
	walk_from(t, 0);
	for (size_t i = 0; i < t->n; i++)
		if (!t->nodes[i]->seen && !t->nodes[i]->gone)
			node_drop(t, t->nodes[i]);
	return 0;
}

static void sweep(
	struct mno_cgtree *t, void (*removed)(void *arg, const struct mno_cgnode *n), void *arg)
{
	size_t k = 0;

	if (!t->changed)
		return;
	for (size_t i = 0; i < t->n; i++) {
		if (!t->nodes[i]->gone) {
			t->nodes[k++] = t->nodes[i];
			continue;
		}
		if (removed)
			removed(arg, t->nodes[i]);
		node_free(t->nodes[i]);
	}
	t->n = k;
}

static void child_removed(struct mno_cgtree *t, const struct mno_cgnode *parent, const char *name)
{
	char path[PATH_MAX];
	struct mno_cgnode *n;
	int len = snprintf(path, sizeof(path), "%s/%s", parent->path[1] ? parent->path : "", name);

	n = len < (int)sizeof(path) ? mno_map_get(t->by_path, path, (size_t)len) : NULL;
	if (n)
		node_drop(t, n);
	if (t->skipped) /* what did not fit before may fit now */
		t->overflow = true;
}

static void event_apply(struct mno_cgtree *t, const struct inotify_event *e)
{
	struct mno_cgnode *n = mno_map_get(t->by_wd, &e->wd, sizeof(e->wd));
	size_t from = t->n;
	int fd;

	if (e->mask & (IN_Q_OVERFLOW | IN_MOVED_FROM | IN_MOVED_TO))
		t->overflow = true;
	if (!n || !e->len || !(e->mask & IN_ISDIR))
		return;
	if (e->mask & IN_DELETE)
		child_removed(t, n, e->name);
	if (!(e->mask & IN_CREATE))
		return;
	fd = node_open(t, n);
	if (fd < 0)
		return;
	child_add(t, fd, n->path, e->name);
	close(fd);
	walk_from(t, from);
}

static void events_read(struct mno_cgtree *t)
{
	_Alignas(struct inotify_event) char buf[16384];
	ssize_t len;

	while (t->watch_fd >= 0 && (len = read(t->watch_fd, buf, sizeof(buf))) > 0) {
		const struct inotify_event *e;

		for (char *p = buf; p < buf + len; p += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)p;
			event_apply(t, e);
		}
	}
}

bool mno_cgtree_update(
	struct mno_cgtree *t, void (*removed)(void *arg, const struct mno_cgnode *n), void *arg)
{
	bool changed;

	t->changed = t->overflow = false;
	events_read(t);
	changed = t->changed;
	sweep(t, removed, arg);
	if (t->watch_fd < 0 || t->overflow || ++t->updates % WALK_EVERY == 0) {
		walk_all(t);
		sweep(t, removed, arg);
		changed |= t->changed;
	}
	return changed;
}

struct mno_cgtree *mno_cgtree_free(struct mno_cgtree *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n; i++)
		node_free(t->nodes[i]);
	free(t->nodes);
	mno_map_free(t->by_id, NULL);
	mno_map_free(t->by_path, NULL);
	mno_map_free(t->by_wd, NULL);
	if (t->watch_fd >= 0)
		close(t->watch_fd);
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	free(t->root);
	free(t);
	return NULL;
}

static int maps_new(struct mno_cgtree *t)
{
	int r = mno_map_new(t->max + 1, &t->by_id);

	if (r == 0)
		r = mno_map_new(t->max + 1, &t->by_path);
	return r < 0 ? r : mno_map_new(t->max + 1, &t->by_wd);
}

int mno_cgtree_new(const char *root, size_t max, struct mno_cgtree **ret)
{
	_cleanup_(mno_cgtree_free_p)
	struct mno_cgtree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->max = max;
	t->watch_fd = -1;
	t->dir_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0)
		return -errno;
	t->root = strdup(strcmp(root, "/") ? root : "");
	if (!t->root)
		return -ENOMEM;
	r = maps_new(t);
	if (r < 0)
		return r;
	t->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	r = walk_all(t);
	if (r < 0)
		return r;
	sweep(t, NULL, NULL);
	*ret = TAKE_PTR(t);
	return 0;
}
