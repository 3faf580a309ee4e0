/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot's life: the kernel takes it from the free queue for a cgroup it meets (FREE -> USED).
 * When the cgroup is removed, its hash entry is deleted and its figures are shown a last time
 * (LAST); in the next refresh the probes zero them (RETIRED); in the one after that it goes back
 * to the queue. So nothing of one cgroup is ever counted for the next.
 */
#include "cgroups.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "cgroups_tree.h"
#include "mno/map.h"

#define CGROUPS_MAX  4096
#define HASH_ENTRIES 1024
#define PAST_MAX     512 /* removed cgroups whose path is still told */
#define PRUNE_EVERY  60  /* refreshes: entries of cgroups that are not in the tree */

enum slot_state { SLOT_FREE, SLOT_USED, SLOT_LAST, SLOT_RETIRED };

struct slot {
	uint64_t id;
	uint32_t gen;
	uint8_t state;
	uint8_t unknown; /* refreshes in which its id was not in the tree */
	bool present;    /* in the hash, in this refresh */
	char *path;      /* NULL until the id was found in the tree */
};

struct past {
	uint64_t id;
	char *path;
};

struct mno_cgroups {
	pthread_rwlock_t lock; /* tree and past, against mno_cgroups_path() of other threads */
	char *root;
	struct mno_cgtree *tree;
	struct mno_cgroup *all; /* CGROUPS_MAX */
	size_t n_all;
	struct past past[PAST_MAX];
	size_t past_next;

	int slots_fd, free_fd;
	struct slot slots[MNO_CGROUP_SLOTS_U];
	struct mno_cgroup used[MNO_CGROUP_SLOTS_U];
	size_t n_used;
	uint32_t retired[MNO_CGROUP_SLOTS_U];
	size_t n_retired;
	uint64_t hash_keys[HASH_ENTRIES];
	uint32_t hash_values[HASH_ENTRIES];
	uint64_t folded;
	unsigned refreshes;
};

size_t mno_cgroups_slots(const struct mno_cgroups *c, const struct mno_cgroup **ret)
{
	*ret = c->used;
	return c->n_used;
}

size_t mno_cgroups_retired(const struct mno_cgroups *c, const uint32_t **ret)
{
	*ret = c->retired;
	return c->n_retired;
}

size_t mno_cgroups_all(const struct mno_cgroups *c, const struct mno_cgroup **ret)
{
	*ret = c->all;
	return c->n_all;
}

const char *mno_cgroups_root(const struct mno_cgroups *c)
{
	return c->root;
}

int mno_cgroups_slots_fd(const struct mno_cgroups *c)
{
	return c->slots_fd;
}

int mno_cgroups_free_fd(const struct mno_cgroups *c)
{
	return c->free_fd;
}

static const char *path_find(struct mno_cgroups *c, uint64_t id)
{
	struct mno_cgnode *n = mno_cgtree_get(c->tree, id);

	if (n)
		return n->path;
	for (size_t i = 0; i < PAST_MAX; i++)
		if (c->past[i].id == id && c->past[i].path)
			return c->past[i].path;
	return NULL;
}

const char *mno_cgroups_path(struct mno_cgroups *c, uint64_t id, char *buf, size_t size)
{
	const char *p;

	pthread_rwlock_rdlock(&c->lock);
	p = path_find(c, id);
	if (p)
		snprintf(buf, size, "%s", p);
	pthread_rwlock_unlock(&c->lock);
	return p ? buf : NULL;
}

void mno_cgroups_stat(struct mno_cgroups *c, struct mno_cgroups_stat *ret)
{
	pthread_rwlock_rdlock(&c->lock);
	*ret = (struct mno_cgroups_stat){
		.cgroups = c->n_all,
		.slots_used = c->n_used ? c->n_used - 1 : 0,
		.folded = c->folded,
		.skipped = mno_cgtree_skipped(c->tree),
	};
	pthread_rwlock_unlock(&c->lock);
}

static void remember(void *arg, const struct mno_cgnode *n)
{
	struct mno_cgroups *c = arg;
	struct past *p = &c->past[c->past_next++ % PAST_MAX];

	free(p->path);
	p->id = n->id;
	p->path = strdup(n->path);
}

/* Reads the whole hash in one call; entries beyond the bound cannot exist. */
static size_t hash_read(struct mno_cgroups *c)
{
	uint32_t batch, n = HASH_ENTRIES;
	int r = bpf_map_lookup_batch(
		c->slots_fd, NULL, &batch, c->hash_keys, c->hash_values, &n, NULL);

	return r == 0 || errno == ENOENT ? n : 0;
}

static void slot_free(struct slot *s)
{
	free(s->path);
	*s = (struct slot){.gen = s->gen};
}

static void slot_take(struct slot *s, uint64_t id)
{
	s->state = SLOT_USED;
	s->id = id;
	s->gen++;
}

/* Notes what the hash says: which slots it names, how many cgroups share slot 0. */
static void hash_note(struct mno_cgroups *c, size_t n)
{
	for (size_t i = 1; i < MNO_CGROUP_SLOTS_U; i++)
		c->slots[i].present = false;
	c->folded = 0;
	for (size_t i = 0; i < n; i++) {
		struct slot *s = &c->slots[c->hash_values[i] % MNO_CGROUP_SLOTS_U];

		if (s == c->slots) {
			c->folded++;
			continue;
		}
		if (s->state == SLOT_FREE)
			slot_take(s, c->hash_keys[i]);
		if (s->id == c->hash_keys[i])
			s->present = true;
	}
}

/* A used slot: is its cgroup still there? */
static void slot_check(struct mno_cgroups *c, struct slot *s)
{
	struct mno_cgnode *n = mno_cgtree_get(c->tree, s->id);
	uint32_t zero = 0;

	if (n && s->present) {
		s->unknown = 0;
		if (!s->path)
			s->path = strdup(n->path);
		return;
	}
	if (s->path) {
		bpf_map_delete_elem(c->slots_fd, &s->id);
		s->state = SLOT_LAST;
	} else if (++s->unknown >= 2) {
		/* gone before it was seen, or outside of the tree: do not let it take another */
		bpf_map_update_elem(c->slots_fd, &s->id, &zero, BPF_EXIST);
		s->state = SLOT_LAST;
	}
}

static void slot_advance(struct mno_cgroups *c, uint32_t i)
{
	struct slot *s = &c->slots[i];

	switch ((enum slot_state)s->state) {
	case SLOT_FREE:
		break;
	case SLOT_USED:
		slot_check(c, s);
		break;
	case SLOT_LAST:
		s->state = SLOT_RETIRED;
		c->retired[c->n_retired++] = i;
		break;
	case SLOT_RETIRED:
		if (bpf_map_update_elem(c->free_fd, NULL, &i, 0) == 0)
			slot_free(s);
		break;
	}
}

static size_t slots_free_count(const struct mno_cgroups *c)
{
	size_t n = 0;

	for (size_t i = 1; i < MNO_CGROUP_SLOTS_U; i++)
		n += c->slots[i].state == SLOT_FREE;
	return n;
}

/* Folded cgroups get a slot by their next switch once there are free ones; now and then those
 * that are not in the tree are forgotten. */
static void hash_unfold(struct mno_cgroups *c, size_t n)
{
	size_t room = c->folded ? slots_free_count(c) : 0;
	/* many short-lived ones must not keep a new one from its slot until the next round */
	bool prune = c->refreshes % PRUNE_EVERY == 0 || n > HASH_ENTRIES / 2;

	for (size_t i = 0; i < n && (room || prune); i++) {
		if (c->hash_values[i] % MNO_CGROUP_SLOTS_U)
			continue;
		if (!mno_cgtree_get(c->tree, c->hash_keys[i])) {
			if (prune)
				bpf_map_delete_elem(c->slots_fd, &c->hash_keys[i]);
		} else if (room) {
			bpf_map_delete_elem(c->slots_fd, &c->hash_keys[i]);
			room--;
		}
	}
}

static void used_list(struct mno_cgroups *c)
{
	c->used[0] = (struct mno_cgroup){.path = "~other"};
	c->n_used = 1;
	for (uint32_t i = 1; i < MNO_CGROUP_SLOTS_U; i++) {
		const struct slot *s = &c->slots[i];
		struct mno_cgnode *n;

		if ((s->state != SLOT_USED && s->state != SLOT_LAST) || !s->path)
			continue;
		c->used[c->n_used++] =
			(struct mno_cgroup){.id = s->id, .slot = i, .gen = s->gen, .path = s->path};
		n = mno_cgtree_get(c->tree, s->id);
		if (n) {
			n->slot = i;
			n->gen = s->gen;
		}
	}
}

static void all_list(struct mno_cgroups *c)
{
	struct mno_cgnode *const *v;

	c->n_all = mno_cgtree_nodes(c->tree, &v);
	for (size_t i = 0; i < c->n_all; i++)
		c->all[i] = (struct mno_cgroup){
			.id = v[i]->id, .slot = v[i]->slot, .gen = v[i]->gen, .path = v[i]->path};
}

static void slots_refresh(struct mno_cgroups *c)
{
	size_t n = hash_read(c);

	c->n_retired = 0;
	hash_note(c, n);
	for (uint32_t i = 1; i < MNO_CGROUP_SLOTS_U; i++)
		slot_advance(c, i);
	hash_unfold(c, n);
}

void mno_cgroups_refresh(struct mno_cgroups *c)
{
	pthread_rwlock_wrlock(&c->lock);
	c->refreshes++;
	mno_cgtree_update(c->tree, remember, c);
	if (c->slots_fd >= 0)
		slots_refresh(c);
	used_list(c);
	all_list(c);
	pthread_rwlock_unlock(&c->lock);
}

/* BTF for `u64 -> u32`, so that the map reads well in bpftool; -1 if the kernel has none. */
static int slots_btf(int *ret_key, int *ret_value)
{
	struct btf *b = btf__new_empty();
	LIBBPF_OPTS(bpf_btf_load_opts, o);
	const void *raw;
	uint32_t size;
	int fd = -1;

	if (!b)
		return -1;
	*ret_key = btf__add_int(b, "cgroup_id", 8, 0);
	*ret_value = btf__add_int(b, "slot", 4, 0);
	raw = btf__raw_data(b, &size);
	if (raw && *ret_key > 0 && *ret_value > 0)
		fd = bpf_btf_load(raw, size, &o);
	btf__free(b);
	return fd;
}

static int hash_new(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o);
	int key, value, btf = slots_btf(&key, &value), fd;

	if (btf >= 0) {
		o.btf_fd = (uint32_t)btf;
		o.btf_key_type_id = (uint32_t)key;
		o.btf_value_type_id = (uint32_t)value;
	}
	fd = bpf_map_create(BPF_MAP_TYPE_HASH, "cgroup_slots", sizeof(uint64_t), sizeof(uint32_t),
		HASH_ENTRIES, &o);
	if (fd < 0)
		fd = -errno;
	if (btf >= 0)
		close(btf);
	return fd;
}

static int queue_new(void)
{
	_cleanup_close_ int fd = bpf_map_create(
		BPF_MAP_TYPE_QUEUE, "cgroup_free", 0, sizeof(uint32_t), MNO_CGROUP_SLOTS_U, NULL);

	if (fd < 0)
		return -errno;
	for (uint32_t i = 1; i < MNO_CGROUP_SLOTS_U; i++)
		if (bpf_map_update_elem(fd, NULL, &i, 0) < 0)
			return -errno;
	return TAKE_FD(fd);
}

int mno_cgroups_maps_new(struct mno_cgroups *c)
{
	_cleanup_close_ int hash = hash_new();
	int queue;

	if (hash < 0)
		return hash;
	queue = queue_new();
	if (queue < 0)
		return queue;
	c->slots_fd = TAKE_FD(hash);
	c->free_fd = queue;
	return 0;
}

struct mno_cgroups *mno_cgroups_free(struct mno_cgroups *c)
{
	if (!c)
		return NULL;
	mno_cgtree_free(c->tree);
	for (size_t i = 0; i < PAST_MAX; i++)
		free(c->past[i].path);
	for (size_t i = 0; i < MNO_CGROUP_SLOTS_U; i++)
		free(c->slots[i].path);
	if (c->slots_fd >= 0)
		close(c->slots_fd);
	if (c->free_fd >= 0)
		close(c->free_fd);
	pthread_rwlock_destroy(&c->lock);
	free(c->all);
	free(c->root);
	free(c);
	return NULL;
}

int mno_cgroups_new(const char *root, struct mno_cgroups **ret)
{
	_cleanup_(mno_cgroups_free_p)
	struct mno_cgroups *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->slots_fd = c->free_fd = -1;
	pthread_rwlock_init(&c->lock, NULL);
	c->root = strdup(root);
	c->all = calloc(CGROUPS_MAX, sizeof(*c->all));
	if (!c->root || !c->all)
		return -ENOMEM;
	r = mno_cgtree_new(root, CGROUPS_MAX, &c->tree);
	if (r < 0)
		return r;
	used_list(c);
	all_list(c);
	*ret = TAKE_PTR(c);
	return 0;
}
