/* SPDX-License-Identifier: Apache-2.0 */
/* A generation's tables: checked, written into new maps, frozen, put into the slot not in force. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "enforce_internal.h"

static int check_tables(const struct mno_e_tables *t)
{
	if (t->n_rules > MNO_E_RULES || t->n_rows > MNO_E_ROWS || t->n_domains > MNO_E_DOMAINS)
		return -E2BIG;
	if (!t->generation)
		return -EINVAL;
	for (size_t i = 0; i < t->n_rows; i++) {
		if (t->rows[i].enter >= MNO_E_DOMAINS)
			return -EINVAL;
		for (size_t op = 0; op < MNO_E_OPS; op++)
			if (t->rows[i].rule[op] >= MNO_MAX(t->n_rules, 1u))
				return -EINVAL;
	}
	for (size_t i = 0; i < t->n_places; i++)
		if (t->places[i].domain >= MNO_E_DOMAINS || t->places[i].cls >= MNO_E_CLASSES ||
			t->places[i].row >= t->n_rows)
			return -EINVAL;
	for (size_t i = 0; i < t->n_domains; i++)
		if (t->domains[i].default_rule >= MNO_MAX(t->n_rules, 1u) ||
			t->domains[i].unresolved_rule >= MNO_MAX(t->n_rules, 1u))
			return -EINVAL;
	for (size_t i = 0; i < t->n_paths; i++)
		if (t->paths[i].domain >= t->n_domains)
			return -EINVAL;
	for (size_t i = 0; i < t->n_labels; i++)
		if (t->labels[i].self >= MNO_E_CLASSES || t->labels[i].below >= MNO_E_CLASSES)
			return -EINVAL;
	return 0;
}

static void write_gen(struct mno_e_gen *g, const struct mno_e_tables *t)
{
	g->generation = t->generation;
	g->n_rules = (uint32_t)t->n_rules;
	if (t->n_rules)
		memcpy(g->rule, t->rules, t->n_rules * sizeof(*t->rules));
	if (t->n_rows)
		memcpy(g->row, t->rows, t->n_rows * sizeof(*t->rows));
	if (t->n_domains)
		memcpy(g->domain, t->domains, t->n_domains * sizeof(*t->domains));
	for (size_t i = 0; i < t->n_places; i++)
		g->row_of[t->places[i].domain][t->places[i].cls] = (uint16_t)t->places[i].row;
	if (t->cap_class)
		memcpy(g->cap_class, t->cap_class, sizeof(g->cap_class));
	if (t->peer_class)
		memcpy(g->peer_class, t->peer_class, sizeof(g->peer_class));
	if (t->socket_class)
		memcpy(g->socket_class, t->socket_class, sizeof(g->socket_class));
}

/* A new array of one element of @size bytes, mapped at *@ret_p. Its fd or -errno. */
static int new_table(const char *name, size_t size, void **ret_p)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, 4, (uint32_t)size, 1, &o);
	void *p;

	if (fd < 0)
		return -errno;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_p = p;
	return fd;
}

/* Nobody writes it from here on, and slot @key of @outer points to it. */
static int publish(int outer, uint32_t key, int fd, void *p, size_t size)
{
	munmap(p, size);
	if (bpf_map_freeze(fd) < 0 || bpf_map_update_elem(outer, &key, &fd, BPF_ANY) < 0)
		return -errno;
	return 0;
}

static int put_gen(const struct mno_enforce *e, uint32_t slot, const struct mno_e_tables *t)
{
	_cleanup_close_ int fd = -1;
	void *p;

	fd = new_table("mno_gen", sizeof(struct mno_e_gen), &p);
	if (fd < 0)
		return fd;
	write_gen(p, t);
	return publish(e->map[MAP_GENS], slot, fd, p, sizeof(struct mno_e_gen));
}

/* Bytes of this object's path tables: the value size of what the outer map was made for. */
static size_t path_bytes(const struct mno_enforce *e)
{
	return e->ctl->path_bytes;
}

static int put_path(const struct mno_enforce *e, uint32_t key, const struct mno_e_path_table *t,
	const struct mno_e_domain *d)
{
	_cleanup_close_ int fd = -1;
	size_t size = path_bytes(e);
	void *p;

	if (t->size > size || 256 + 8 * ((size_t)d->path_mask + 1) > t->size)
		return t->size > size ? -E2BIG : -EINVAL;
	fd = new_table("mno_path", size, &p);
	if (fd < 0)
		return fd;
	memcpy(p, t->bytes, t->size);
	return publish(e->map[MAP_PATHS], key, fd, p, size);
}

static int put_paths(const struct mno_enforce *e, uint32_t slot, const struct mno_e_tables *t)
{
	bool used[MNO_E_DOMAINS] = {};

	for (size_t i = 0; i < t->n_paths; i++) {
		const struct mno_e_path_table *p = &t->paths[i];
		int r = put_path(e, slot * MNO_E_DOMAINS + p->domain, p, &t->domains[p->domain]);

		if (r < 0)
			return r;
		used[p->domain] = true;
	}
	for (uint32_t i = 0; i < MNO_E_DOMAINS; i++) {
		uint32_t key = slot * MNO_E_DOMAINS + i, id;

		if (used[i] || bpf_map_lookup_elem(e->map[MAP_PATHS], &key, &id) < 0)
			continue;
		if (bpf_map_delete_elem(e->map[MAP_PATHS], &key) < 0)
			return -errno;
	}
	return 0;
}

static int new_net(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_NO_PREALLOC);
	int fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "mno_net", sizeof(struct mno_e_net_key),
		sizeof(struct mno_e_net), 16384, &o);

	return fd < 0 ? -errno : fd;
}

static int put_nets(const struct mno_enforce *e, uint32_t slot, const struct mno_e_tables *t)
{
	_cleanup_close_ int fd = new_net();

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < t->n_nets; i++)
		if (t->nets[i].key.prefixlen > 128 || t->nets[i].net.n > MNO_E_PORTS)
			return -EINVAL;
		else if (bpf_map_update_elem(fd, &t->nets[i].key, &t->nets[i].net, BPF_ANY) < 0)
			return -errno;
	if (bpf_map_freeze(fd) < 0 ||
		bpf_map_update_elem(e->map[MAP_NETS], &slot, &fd, BPF_ANY) < 0)
		return -errno;
	return 0;
}

/* Returns when no program runs any more that had read an earlier state. */
static int wait_for_programs(const struct mno_enforce *e)
{
	_cleanup_close_ int fd = new_net();
	uint32_t key = 0;

	if (fd < 0)
		return fd;
	return bpf_map_update_elem(e->map[MAP_GRACE], &key, &fd, BPF_ANY) < 0 ? -errno : 0;
}

static int clear_hits(const struct mno_enforce *e, uint32_t slot, size_t n)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *none = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*none));

	if (!none)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint32_t key = slot * MNO_E_RULES + (uint32_t)i;

		if (bpf_map_update_elem(e->map[MAP_HITS], &key, none, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

int mno_enforce_fill(struct mno_enforce *e, const struct mno_e_tables *t)
{
	uint64_t word = mno_e_settle(e);
	uint32_t slot = (word & 0xff) == 0 ? 1 : 0;
	int r = check_tables(t);

	if (r < 0)
		return r;
	if (word >> 16)
		return -EBUSY;
	if (!e->knows_labels)
		return -ESTALE;
	e->filled = -1;
	/* what it could fall back to is being overwritten */
	__atomic_store_n(&e->ctl->state, (word & 0xff) | MNO_E_NONE << 8, __ATOMIC_SEQ_CST);
	r = wait_for_programs(e);
	if (r == 0)
		r = put_gen(e, slot, t);
	if (r == 0)
		r = put_paths(e, slot, t);
	if (r == 0)
		r = put_nets(e, slot, t);
	if (r == 0)
		r = clear_hits(e, slot, t->n_rules);
	if (r == 0)
		r = mno_e_label_all(e, slot, t->labels, t->n_labels);
	if (r == 0)
		e->filled = (int)slot;
	return r;
}
