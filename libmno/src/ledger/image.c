/* SPDX-License-Identifier: Apache-2.0 */
/* What processes run, and the names of their cgroups: shared, counted, bounded. */
#include <errno.h>
#include <string.h>
#include "ledger_internal.h"

#define INHERIT_DEPTH 32 /* generations that forked before their ancestor's exec record came */

struct image *image_new(struct mno_ledger *l, const struct mno_exec_fact *f)
{
	size_t exe_len = f->exe ? strnlen(f->exe, PATH_BYTES - 1) : 0;
	size_t argv_len = f->argv ? MNO_MIN(f->argv_len, (size_t)MNO_ARGV_MAX) : 0;
	bool cut = f->argv_cut || argv_len < f->argv_len;
	struct image *im;

	if (l->image_bytes + argv_len > l->opts.max_image_bytes) {
		argv_len = 0;
		cut = true;
	}
	im = malloc(sizeof(*im) + exe_len + argv_len + 2);
	if (!im)
		return NULL;
	im->refs = 1;
	im->bytes = (uint32_t)(sizeof(*im) + exe_len + argv_len + 2);
	im->exe_len = (uint32_t)exe_len;
	im->argv_len = (uint32_t)argv_len;
	im->cut = cut;
	if (exe_len)
		memcpy(im->data, f->exe, exe_len);
	im->data[exe_len] = '\0';
	if (argv_len)
		memcpy(im->data + exe_len + 1, f->argv, argv_len);
	im->data[exe_len + 1 + argv_len] = '\0';
	l->image_bytes += im->bytes;
	return im;
}

void image_put(struct mno_ledger *l, struct image *im)
{
	if (!im || --im->refs)
		return;
	l->image_bytes -= im->bytes;
	free(im);
}

static void replace(struct mno_ledger *l, struct image **at, struct image *im)
{
	image_get(im);
	image_put(l, *at);
	*at = im;
}

static void inherit(struct mno_ledger *l, struct entry *child, const struct entry *parent)
{
	struct image *im = parent->image;
	uint64_t ktime = parent->image_ktime;

	if (ktime > child->fork_ktime) {
		im = parent->older;
		ktime = parent->older_ktime;
	}
	if (!im || ktime > child->fork_ktime)
		return;
	/* A child that did an exec before we hear of its fork keeps the parent's as the older one. */
	if (child->image && child->image_ktime >= child->fork_ktime) {
		if (!child->older || child->older_ktime <= ktime) {
			replace(l, &child->older, im);
			child->older_ktime = ktime;
		}
		return;
	}
	if (child->image && child->image_ktime > ktime)
		return;
	replace(l, &child->image, im);
	child->image_ktime = ktime;
}

static void hand_down(struct mno_ledger *l, struct entry *e, unsigned depth)
{
	for (uint32_t i = e->child; i != NO_ENTRY && depth; i = entry_at(l, i)->sibling_next) {
		struct entry *c = entry_at(l, i);
		struct image *was = c->image, *was_older = c->older;

		inherit(l, c, e);
		if (c->image != was || c->older != was_older)
			hand_down(l, c, depth - 1);
	}
}

void image_adopt(struct mno_ledger *l, struct entry *child, const struct entry *parent)
{
	inherit(l, child, parent);
	hand_down(l, child, INHERIT_DEPTH);
}

void image_set(struct mno_ledger *l, struct entry *e, struct image *im, uint64_t ktime)
{
	if (!e->image || ktime >= e->image_ktime) {
		image_put(l, e->older);
		e->older = e->image;
		e->older_ktime = e->image_ktime;
		e->image = image_get(im);
		e->image_ktime = ktime;
	} else if (!e->older || ktime >= e->older_ktime) {
		replace(l, &e->older, im);
		e->older_ktime = ktime;
	}
	hand_down(l, e, INHERIT_DEPTH);
}

/* --- cgroups ------------------------------------------------------------------------------- */

void cgroup_name_put(struct cgroup_name *c)
{
	if (c && --c->refs == 0)
		free(c);
}

/* A borrowed name, remembered by id; NULL when nobody knows it (yet). */
static struct cgroup_name *cgroup_name(struct mno_ledger *l, uint64_t id)
{
	size_t slot = (id * 0x9e3779b97f4a7c15ULL >> 40) % CGROUP_SLOTS;
	char buf[PATH_BYTES];
	struct cgroup_name *c;
	const char *path;
	size_t n;

	if (l->cgroups[slot].name && l->cgroups[slot].id == id)
		return l->cgroups[slot].name;
	path = l->cgroup_fn ? l->cgroup_fn(l->cgroup_arg, id, buf, sizeof(buf)) : NULL;
	if (!path)
		return NULL;
	n = strnlen(path, PATH_BYTES - 1);
	c = malloc(sizeof(*c) + n + 1);
	if (!c)
		return NULL;
	c->refs = 1;
	c->len = (uint32_t)n;
	memcpy(c->path, path, n);
	c->path[n] = '\0';
	cgroup_name_put(l->cgroups[slot].name);
	l->cgroups[slot].name = c;
	l->cgroups[slot].id = id;
	return c;
}

void cgroup_note(struct mno_ledger *l, struct entry *e, uint64_t id, uint64_t ktime)
{
	struct cgroup_name *c;

	if (!id || ktime < e->cgroup_ktime || (id == e->cgroup_id && e->cgroup)) {
		if (id == e->cgroup_id)
			e->cgroup_ktime = MNO_MAX(ktime, e->cgroup_ktime);
		return;
	}
	e->cgroup_id = id;
	e->cgroup_ktime = ktime;
	c = cgroup_name(l, id);
	if (c)
		c->refs++;
	cgroup_name_put(e->cgroup);
	e->cgroup = c;
}
