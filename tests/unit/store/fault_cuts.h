/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log of fault_files.h as a disk with a volatile cache would hold it after a power cut: all that
 * was synced, and of the rest nothing, all, or a random part, by pages and now and then by sectors.
 * Names change in order, as journals keep them, and are safe once their directory was synced.
 */
#pragma once

#include "../../support/tmpstate.h"
#include "fault_files.h"

#define CUT_NODES 4096

struct cut_node {
	uint64_t ino;
	bool dir;
	uint8_t *data;
	size_t len, cap;
};
struct cut_name {
	uint64_t dir, ino;
	char name[48];
};
struct cut_disk {
	struct cut_node nodes[CUT_NODES];
	size_t n_nodes;
	struct cut_name names[CUT_NODES];
	size_t n_names;
	const struct file_entry **waiting; /* not safe yet, in order */
	size_t n_waiting, cap_waiting;
	uint64_t root, seed;
	bool reorders; /* a disk that says it has flushed and has not: half stays in its cache */
};

static inline struct cut_node *cut_node(struct cut_disk *d, uint64_t ino)
{
	for (size_t i = d->n_nodes; i-- > 0;)
		if (d->nodes[i].ino == ino)
			return &d->nodes[i];
	if (d->n_nodes == CUT_NODES)
		abort();
	d->nodes[d->n_nodes] = (struct cut_node){.ino = ino};
	return &d->nodes[d->n_nodes++];
}

static inline void cut_grow(struct cut_node *n, size_t len)
{
	if (len > n->cap) {
		size_t cap = len * 2;

		n->data = realloc(n->data, cap);
		memset(n->data + n->cap, 0, cap - n->cap);
		n->cap = cap;
	}
	n->len = MNO_MAX(n->len, len);
}

static inline void cut_remove(struct cut_disk *d, uint64_t dir, const char *name)
{
	for (size_t i = 0; i < d->n_names; i++)
		if (d->names[i].dir == dir && !strcmp(d->names[i].name, name)) {
			d->names[i] = d->names[--d->n_names];
			return;
		}
}

static inline void cut_add(struct cut_disk *d, uint64_t dir, const char *name, uint64_t ino)
{
	struct cut_name *n = &d->names[d->n_names++];

	if (d->n_names == CUT_NODES)
		abort();
	*n = (struct cut_name){.dir = dir, .ino = ino};
	snprintf(n->name, sizeof(n->name), "%s", name);
}

static inline void cut_rename(struct cut_disk *d, const struct file_entry *e)
{
	for (size_t i = 0; i < d->n_names; i++)
		if (d->names[i].dir == e->dir && !strcmp(d->names[i].name, e->name)) {
			uint64_t ino = d->names[i].ino;

			cut_remove(d, e->dir, e->name);
			cut_remove(d, e->a, e->other);
			cut_add(d, e->a, e->other, ino);
			return;
		}
}

static inline void cut_bytes(struct cut_disk *d, const struct file_entry *e, size_t at, size_t n)
{
	struct cut_node *f = cut_node(d, e->ino);

	cut_grow(f, e->a + at + n);
	memcpy(f->data + e->a + at, (const uint8_t *)(e + 1) + at, n);
}

static inline void cut_apply(struct cut_disk *d, const struct file_entry *e)
{
	struct cut_node *f;

	switch (e->op) {
	case FILE_WRITE:
		cut_bytes(d, e, 0, e->len);
		break;
	case FILE_TRUNC:
		f = cut_node(d, e->ino);
		cut_grow(f, e->a);
		memset(f->data + e->a, 0, f->cap - e->a);
		f->len = e->a;
		break;
	case FILE_LINK:
		cut_node(d, e->ino)->dir = e->a;
		cut_add(d, e->dir, e->name, e->ino);
		break;
	case FILE_RENAME:
		cut_rename(d, e);
		break;
	case FILE_UNLINK:
		cut_remove(d, e->dir, e->name);
		break;
	default:
		break;
	}
}

static inline bool cut_is_data(const struct file_entry *e)
{
	return e->op == FILE_WRITE || e->op == FILE_TRUNC;
}

static inline void cut_sync(struct cut_disk *d, uint64_t ino)
{
	size_t names = 0, kept = 0;

	for (size_t i = 0; i < d->n_waiting;
		i++) /* of names, all before the last of the directory */
		if (!cut_is_data(d->waiting[i]) &&
			(d->waiting[i]->dir == ino ||
				(d->waiting[i]->op == FILE_RENAME && d->waiting[i]->a == ino)))
			names = i + 1;
	for (size_t i = 0; i < d->n_waiting; i++) {
		const struct file_entry *e = d->waiting[i];
		bool safe = cut_is_data(e) ? e->ino == ino : i < names;

		if (safe && d->reorders && cut_is_data(e) && rnd(&d->seed) % 2)
			safe = false;
		if (safe)
			cut_apply(d, e);
		else
			d->waiting[kept++] = e;
	}
	d->n_waiting = kept;
}

/* The next entry of the log has happened. */
static inline void cut_step(struct cut_disk *d, const struct file_entry *e)
{
	if (e->op == FILE_ACK)
		return;
	if (e->op == FILE_SYNC) {
		cut_sync(d, e->ino);
		return;
	}
	if (e->op == FILE_WRITE && e->synced) {
		cut_apply(d, e);
		return;
	}
	if (d->n_waiting == d->cap_waiting)
		d->waiting = reallocarray(
			d->waiting, d->cap_waiting = d->cap_waiting * 2 + 64, sizeof(*d->waiting));
	d->waiting[d->n_waiting++] = e;
}

/* A part of one write that was not synced. */
static inline void cut_part(struct cut_disk *d, const struct file_entry *e, unsigned of_8)
{
	size_t unit = rnd(&d->seed) % 8 ? 4096 : 512;

	for (size_t at = 0; at < e->len; at += unit)
		if (rnd(&d->seed) % 8 < of_8)
			cut_bytes(d, e, at, MNO_MIN(unit, e->len - at));
}

static inline void cut_copy(struct cut_disk *to, const struct cut_disk *from)
{
	*to = *from;
	to->waiting = NULL;
	for (size_t i = 0; i < to->n_nodes; i++) {
		const struct cut_node *f = &from->nodes[i];
		struct cut_node *n = &to->nodes[i];

		n->cap = n->len;
		n->data = n->len ? malloc(n->len) : NULL;
		if (n->len)
			memcpy(n->data, f->data, n->len);
	}
}

static inline void cut_done(struct cut_disk *d)
{
	for (size_t i = 0; i < d->n_nodes; i++)
		free(d->nodes[i].data);
	free(d->waiting);
	free(d);
}

static inline void cut_write_dir(struct cut_disk *d, uint64_t ino, int dir)
{
	for (size_t i = 0; i < d->n_names; i++) {
		const struct cut_name *n = &d->names[i];
		struct cut_node *f;
		int fd;

		if (n->dir != ino)
			continue;
		f = cut_node(d, n->ino);
		if (f->dir) {
			mkdirat(dir, n->name, 0700);
			fd = openat(dir, n->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			cut_write_dir(d, n->ino, fd);
		} else {
			fd = openat(dir, n->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			if (f->len && write(fd, f->data, f->len) != (ssize_t)f->len)
				abort();
		}
		if (fd < 0)
			abort();
		close(fd);
	}
}

/* The directory @path as it is found after a cut here. @of_8: how much of what waits is there. */
static inline void cut_here(const struct cut_disk *now, const char *path, uint64_t seed)
{
	static const unsigned parts[] = {0, 8, 4, 1, 7, 4};
	struct cut_disk *d = malloc(sizeof(*d));
	unsigned of_8 = parts[seed % ARRAY_SIZE(parts)];
	size_t names;
	int fd;

	cut_copy(d, now);
	d->seed = seed * 2654435761u + 88172645463325252ULL;
	names = of_8 == 8 ? now->n_waiting : of_8 ? rnd(&d->seed) % (now->n_waiting + 1) : 0;
	for (size_t i = 0; i < now->n_waiting; i++) {
		const struct file_entry *e = now->waiting[i];

		if (e->op == FILE_WRITE)
			cut_part(d, e, of_8);
		else if (e->op == FILE_TRUNC ? rnd(&d->seed) % 8 < of_8 : i < names)
			cut_apply(d, e);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cut_write_dir(d, d->root, fd);
	close(fd);
	cut_done(d);
}
