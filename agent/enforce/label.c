/* SPDX-License-Identifier: Apache-2.0 */
/* Labels on inodes, each kept by an open fd. One value holds the classes of both generations. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>
#include <bpf/bpf.h>
#include "enforce_internal.h"

static struct mno_e_held *find_held(struct mno_enforce *e, const struct stat *st)
{
	for (size_t i = 0; i < e->n_held; i++)
		if (e->held[i].inode == st->st_ino && e->held[i].device == st->st_dev)
			return &e->held[i];
	return NULL;
}

/* Takes @fd; the entry of its object, new or not. */
static int hold(struct mno_enforce *e, int fd, struct mno_e_held **ret)
{
	struct mno_e_held *h;
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	h = find_held(e, &st);
	if (h) {
		close(fd);
		*ret = h;
		return 0;
	}
	h = reallocarray(e->held, e->n_held + 1, sizeof(*h));
	if (!h) {
		close(fd);
		return -ENOMEM;
	}
	e->held = h;
	h = &e->held[e->n_held++];
	*h = (struct mno_e_held){.fd = fd, .device = st.st_dev, .inode = st.st_ino};
	/* adopted: what the other generation says of it stays */
	if (bpf_map_lookup_elem(e->map[MAP_LABELS], &fd, &h->label) < 0)
		h->label = (struct mno_e_label){};
	*ret = h;
	return 0;
}

static int hold_row(
	struct mno_enforce *e, const struct mno_e_label_row *row, struct mno_e_held **ret)
{
	int fd = row->path ? open(row->path, O_PATH | O_CLOEXEC)
			   : fcntl(row->fd, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? -errno : hold(e, fd, ret);
}

static int store(const struct mno_enforce *e, const struct mno_e_held *h)
{
	return bpf_map_update_elem(e->map[MAP_LABELS], &h->fd, &h->label, BPF_ANY) < 0 ? -errno : 0;
}

/* Objects that neither generation names are let go. */
static int sweep(struct mno_enforce *e)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < e->n_held; i++) {
		struct mno_e_held *h = &e->held[i];
		const struct mno_e_label *l = &h->label;

		if (l->self[0] || l->self[1] || l->below[0] || l->below[1]) {
			e->held[kept++] = *h;
			continue;
		}
		if (bpf_map_delete_elem(e->map[MAP_LABELS], &h->fd) < 0 && errno != ENOENT)
			r = -errno;
		close(h->fd);
	}
	e->n_held = kept;
	return r;
}

int mno_e_label_all(
	struct mno_enforce *e, uint32_t slot, const struct mno_e_label_row *rows, size_t n)
{
	int r = 0;

	if (e->map[MAP_LABELS] < 0)
		return 0;
	for (size_t i = 0; i < e->n_held; i++)
		e->held[i].label.self[slot] = e->held[i].label.below[slot] = 0;
	for (size_t i = 0; i < n; i++) {
		struct mno_e_held *h = NULL;

		r = hold_row(e, &rows[i], &h);
		if (r < 0)
			return r;
		if (rows[i].self)
			h->label.self[slot] = rows[i].self;
		if (rows[i].below)
			h->label.below[slot] = rows[i].below;
	}
	for (size_t i = 0; r == 0 && i < e->n_held; i++)
		r = store(e, &e->held[i]);
	return r < 0 ? r : sweep(e);
}

int mno_enforce_hold(struct mno_enforce *e, const struct mno_e_label_row *rows, size_t n)
{
	uint32_t slot = mno_e_settle(e) & 0xff;
	int r = slot <= 1 ? mno_e_label_all(e, slot, rows, n) : 0;

	if (r == 0)
		e->knows_labels = true;
	return r;
}

void mno_e_drop_labels(struct mno_enforce *e)
{
	for (size_t i = 0; i < e->n_held; i++)
		close(e->held[i].fd);
	free(e->held);
	e->held = NULL;
	e->n_held = 0;
}
