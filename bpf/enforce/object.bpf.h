/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The object of a file operation: its labels, by inode and by walking up, and its path's class. */
#pragma once

#include "maps.h"

/* Overlay shows another inode in the file than in the entry: both are looked at. */
static __always_inline void ask_self(struct ask *a, struct inode *in)
{
	struct mno_e_label *l = in ? bpf_inode_storage_get(&labels, in, 0, 0) : NULL;

	if (!l)
		return;
	if (!a->q.cls[0])
		a->q.cls[0] = l->self[a->slot & 1];
	if (!a->q.cls[1])
		a->q.cls[1] = l->below[a->slot & 1];
}

/*
 * Looks up from @d for the nearest label that covers what is below it. The file system's root is
 * the only clean end: a disconnected entry (open_by_handle_at) is its own parent, and a tree can be
 * deeper than the walk.
 */
static __always_inline void ask_walk(struct ask *a, struct dentry *d)
{
	struct super_block *sb = d->d_sb;
	struct dentry *root = sb->s_root;

	if (sb->s_flags & SB_NOUSER) {
		a->q.cls[2] = MNO_E_CLASS_PSEUDO;
		return;
	}
	for (int i = 0; i < MNO_E_WALK; i++) {
		struct inode *in = d->d_inode;
		struct mno_e_label *l = in ? bpf_inode_storage_get(&labels, in, 0, 0) : NULL;
		struct dentry *parent;

		if (l && l->below[a->slot & 1]) {
			a->q.cls[1] = l->below[a->slot & 1];
			return;
		}
		if (d == root)
			return;
		parent = d->d_parent;
		if (parent == d)
			break;
		d = parent;
	}
	a->q.unresolved = 1;
	count(unresolved);
}

static __always_inline void ask_labels(struct ask *a, struct dentry *d, struct inode *in)
{
	if (!ask_has(a, a->gen->domain[a->q.domain & (MNO_E_DOMAINS - 1)].ops_label))
		return;
	ask_self(a, in);
	ask_self(a, d->d_inode);
	if (!a->q.cls[1])
		ask_walk(a, d);
}

/* --- the automaton over the path ------------------------------------------------------------ */
struct comb {
	const __u8 *table;
	const char *text;
	__u32 len, state, mask, done;
};

#define CHUNK 64
/* The high bit of a state: it keeps its answer whatever follows. */
#define ABSORBING 0x80000000u

static long comb_chunk(__u32 chunk, void *arg)
{
	struct comb *c = arg;
	__u32 state = c->state, mask = c->mask & path_cell_mask, at = chunk * CHUNK, len = c->len;
	const __u8 *table = c->table;
	const char *text = c->text;

	if (!table || !text)
		return 1;
	for (int i = 0; i < CHUNK; i++) {
		__u32 p = (at + i) & (MNO_E_PATH_BYTES - 1);
		__u64 cell;

		if (at + i >= len) {
			c->done = 1;
			break;
		}
		cell = *(const __u64 *)(table + 256 +
					(__u64)((state + table[(__u8)text[p]]) & mask &
						path_cell_mask) *
						8);
		state = mno_e_comb_step(cell, state);
		if (!state || state & ABSORBING) {
			c->done = 1;
			break;
		}
	}
	c->state = state;
	return c->done ? 1 : 0;
}

/* Accept class of @len bytes at @text (a whole scratch buffer). */
static __always_inline __u32 comb_class(struct ask *a, const char *text, __u32 len)
{
	const struct mno_e_domain *d = &a->gen->domain[a->q.domain & (MNO_E_DOMAINS - 1)];
	__u32 key = a->slot * MNO_E_DOMAINS + (a->q.domain & (MNO_E_DOMAINS - 1)), first = 0;
	void *inner = bpf_map_lookup_elem(&paths, &key);
	const __u8 *table = inner ? bpf_map_lookup_elem(inner, &first) : NULL;
	struct comb c = {.table = table, .text = text};
	__u64 cell;

	if (!table)
		return 0;
	/* from maps: unknown to the verifier, see zero */
	c.len = len + zero;
	c.state = d->path_root;
	c.mask = d->path_mask;
	c.done = zero;
	bpf_loop(MNO_E_PATH_BYTES / CHUNK, comb_chunk, &c, 0);
	if (!c.state)
		return 0;
	cell = *(const __u64 *)(table + 256 + (__u64)(c.state & c.mask & path_cell_mask) * 8);
	return mno_e_comb_step(cell, c.state) & (MNO_E_CLASSES - 1);
}

static __always_inline struct scratch *scratch_claim(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	for (int i = 0; i < MNO_E_PROBES; i++) {
		__u32 key = (cpu * 4 + i) & (MNO_E_SLOTS - 1);
		struct scratch *s = bpf_map_lookup_elem(&slots, &key);

		if (s && !__sync_val_compare_and_swap(&s->claimed, 0, 1))
			return s;
	}
	count(no_slot);
	return NULL;
}

static __always_inline void scratch_release(struct scratch *s)
{
	__sync_lock_test_and_set(&s->claimed, 0);
}

/* Hooks that may call bpf_d_path: file_open, bprm_check_security, mmap_file. */
static __always_inline void ask_path(struct ask *a, struct file *file)
{
	struct scratch *s;
	long n;

	if (!ask_has(a, a->gen->domain[a->q.domain & (MNO_E_DOMAINS - 1)].ops_path))
		return;
	s = scratch_claim();
	if (!s) {
		a->q.unresolved = 1;
		return;
	}
	n = bpf_d_path(&file->f_path, s->path, sizeof(s->path));
	if (n > 1 && n <= MNO_E_PATH_BYTES && s->path[0] == '/') {
		__u32 cls = comb_class(a, s->path, (__u32)n - 1);

		if (cls)
			a->q.cls[2] = cls;
	} else if (a->q.cls[2] != MNO_E_CLASS_PSEUDO) {
		a->q.unresolved = 1;
		count(path_failed);
	}
	scratch_release(s);
}

/* The end of a decision about a file whose hook may ask for its path. */
static __always_inline int ask_end_file(struct ask *a, struct file *file)
{
	const struct mno_e_rule *rule = NULL;
	struct mno_e_answer got;

	if (ask_decide(a, &got, &rule)) {
		struct mno_e_record *r = record_begin(a, &got, rule);

		if (r) {
			r->device = file->f_inode->i_sb->s_dev;
			r->inode = file->f_inode->i_ino;
			if (bpf_d_path(&file->f_path, r->path, sizeof(r->path)) > 0)
				r->flags |= MNO_E_HAS_PATH;
			else
				r->path[0] = 0;
			bpf_ringbuf_submit(r, 0);
		}
	}
	return verdict_code(rule);
}

/* The same for one that has only the entry. */
static __always_inline int ask_end_entry(struct ask *a, struct inode *in)
{
	const struct mno_e_rule *rule = NULL;
	struct mno_e_answer got;

	if (ask_decide(a, &got, &rule)) {
		struct mno_e_record *r = record_begin(a, &got, rule);

		if (r) {
			if (in) {
				r->device = in->i_sb->s_dev;
				r->inode = in->i_ino;
			}
			bpf_ringbuf_submit(r, 0);
		}
	}
	return verdict_code(rule);
}
