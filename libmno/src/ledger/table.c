/* SPDX-License-Identifier: Apache-2.0 */
/* Entries in slabs, found by pid; lists by state; links from parents to children. */
#include <errno.h>
#include <string.h>
#include "ledger_internal.h"

#define FIRST_BUCKETS 1024

static size_t bucket_of(const struct mno_ledger *l, uint32_t pid)
{
	return (pid * 2654435761u >> 8) & (l->n_buckets - 1);
}

static size_t tomb_of(uint32_t pid, uint64_t start)
{
	return (size_t)((start ^ pid) * 0x9e3779b97f4a7c15ULL >> 40) % TOMBS;
}

bool table_is_tomb(const struct mno_ledger *l, uint32_t pid, uint64_t start)
{
	size_t i = tomb_of(pid, start);

	return l->tombs[i].pid == pid && l->tombs[i].start == start;
}

uint32_t table_find(const struct mno_ledger *l, uint32_t pid, uint64_t start)
{
	uint32_t i = l->n_buckets ? l->bucket[bucket_of(l, pid)] : NO_ENTRY;

	while (i != NO_ENTRY && (entry_at(l, i)->pid != pid || entry_at(l, i)->start != start))
		i = entry_at(l, i)->hash_next;
	return i;
}

uint32_t table_find_pid(const struct mno_ledger *l, uint32_t pid, uint64_t ktime)
{
	uint32_t i = l->n_buckets ? l->bucket[bucket_of(l, pid)] : NO_ENTRY, best = NO_ENTRY;

	for (; i != NO_ENTRY; i = entry_at(l, i)->hash_next) {
		const struct entry *e = entry_at(l, i);

		if (e->pid == pid && e->start <= ktime &&
			(best == NO_ENTRY || e->start > entry_at(l, best)->start))
			best = i;
	}
	return best;
}

static int rehash(struct mno_ledger *l)
{
	size_t n = l->n_buckets ? l->n_buckets * 2 : FIRST_BUCKETS, old_n = l->n_buckets;
	uint32_t *old = l->bucket, *b = malloc(n * sizeof(*b));

	if (!b)
		return old ? 0 : -ENOMEM; /* longer chains will do */
	memset(b, 0xff, n * sizeof(*b));
	l->bucket = b;
	l->n_buckets = n;
	for (size_t k = 0; k < old_n; k++) {
		for (uint32_t i = old[k], next; i != NO_ENTRY; i = next) {
			size_t to = bucket_of(l, entry_at(l, i)->pid);

			next = entry_at(l, i)->hash_next;
			entry_at(l, i)->hash_next = b[to];
			b[to] = i;
		}
	}
	free(old);
	return 0;
}

static int add_slab(struct mno_ledger *l)
{
	struct entry **p = realloc(l->slabs, (l->n_slabs + 1) * sizeof(*p)), *s;

	if (!p)
		return -ENOMEM;
	l->slabs = p;
	s = calloc(SLAB, sizeof(*s));
	if (!s)
		return -ENOMEM;
	l->slabs[l->n_slabs] = s;
	for (uint32_t i = SLAB; i-- > 0;) {
		s[i].hash_next = l->free_list;
		l->free_list = (uint32_t)l->n_slabs * SLAB + i;
	}
	l->n_slabs++;
	return 0;
}

static void list_push(struct mno_ledger *l, struct list *list, uint32_t i)
{
	struct entry *e = entry_at(l, i);

	e->prev = list->last;
	e->next = NO_ENTRY;
	if (list->last == NO_ENTRY)
		list->first = i;
	else
		entry_at(l, list->last)->next = i;
	list->last = i;
	list->n++;
}

static void list_remove(struct mno_ledger *l, struct list *list, uint32_t i)
{
	struct entry *e = entry_at(l, i);

	if (e->prev == NO_ENTRY)
		list->first = e->next;
	else
		entry_at(l, e->prev)->next = e->next;
	if (e->next == NO_ENTRY)
		list->last = e->prev;
	else
		entry_at(l, e->next)->prev = e->prev;
	list->n--;
}

uint32_t table_add(struct mno_ledger *l, uint32_t pid, uint64_t start)
{
	struct entry *e;
	uint32_t i;
	size_t b;

	if (l->n_entries >= l->n_buckets && rehash(l) < 0)
		return NO_ENTRY;
	if (l->free_list == NO_ENTRY && add_slab(l) < 0)
		return NO_ENTRY;
	i = l->free_list;
	e = entry_at(l, i);
	l->free_list = e->hash_next;
	b = bucket_of(l, pid);
	*e = (struct entry){.pid = pid,
		.start = start,
		.state = ENTRY_LIVE,
		.hash_next = l->bucket[b],
		.parent = NO_ENTRY,
		.child = NO_ENTRY,
		.sibling_prev = NO_ENTRY,
		.sibling_next = NO_ENTRY};
	l->bucket[b] = i;
	l->n_entries++;
	list_push(l, &l->lists[ENTRY_LIVE], i);
	return i;
}

void table_move(struct mno_ledger *l, uint32_t i, enum entry_state to)
{
	struct entry *e = entry_at(l, i);

	if (e->state == to)
		return;
	list_remove(l, &l->lists[e->state], i);
	e->state = (uint8_t)to;
	list_push(l, &l->lists[to], i);
}

static void unlink_parent(struct mno_ledger *l, struct entry *e)
{
	if (e->parent == NO_ENTRY)
		return;
	if (e->sibling_prev == NO_ENTRY)
		entry_at(l, e->parent)->child = e->sibling_next;
	else
		entry_at(l, e->sibling_prev)->sibling_next = e->sibling_next;
	if (e->sibling_next != NO_ENTRY)
		entry_at(l, e->sibling_next)->sibling_prev = e->sibling_prev;
	e->parent = e->sibling_prev = e->sibling_next = NO_ENTRY;
}

void table_link_parent(struct mno_ledger *l, uint32_t child, uint32_t parent)
{
	struct entry *c = entry_at(l, child), *p = entry_at(l, parent);

	if (c->parent == parent || child == parent)
		return;
	unlink_parent(l, c);
	c->parent = parent;
	c->sibling_prev = NO_ENTRY;
	c->sibling_next = p->child;
	if (p->child != NO_ENTRY)
		entry_at(l, p->child)->sibling_prev = child;
	p->child = child;
}

static void drop_children(struct mno_ledger *l, struct entry *e)
{
	for (uint32_t i = e->child, next; i != NO_ENTRY; i = next) {
		struct entry *c = entry_at(l, i);

		next = c->sibling_next;
		c->parent = c->sibling_prev = c->sibling_next = NO_ENTRY;
	}
	e->child = NO_ENTRY;
}

void table_remove(struct mno_ledger *l, uint32_t i)
{
	struct entry *e = entry_at(l, i);
	uint32_t *link = &l->bucket[bucket_of(l, e->pid)];
	size_t t = tomb_of(e->pid, e->start);

	l->tombs[t].pid = e->pid;
	l->tombs[t].start = e->start;
	while (*link != i)
		link = &entry_at(l, *link)->hash_next;
	*link = e->hash_next;
	list_remove(l, &l->lists[e->state], i);
	unlink_parent(l, e);
	drop_children(l, e);
	image_put(l, e->image);
	image_put(l, e->older);
	cgroup_name_put(e->cgroup);
	e->state = ENTRY_FREE;
	e->hash_next = l->free_list;
	l->free_list = i;
	l->n_entries--;
}

void table_free(struct mno_ledger *l)
{
	for (unsigned s = ENTRY_LIVE; s <= ENTRY_DONE; s++)
		while (l->lists[s].first != NO_ENTRY)
			table_remove(l, l->lists[s].first);
	for (size_t i = 0; i < l->n_slabs; i++)
		free(l->slabs[i]);
	free(l->slabs);
	free(l->bucket);
}
