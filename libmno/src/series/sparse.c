/* SPDX-License-Identifier: Apache-2.0 */
/* A table of three levels: nodes come with their first entry and go with their last. */
#include <errno.h>
#include <stdlib.h>
#include "sparse.h"

static void *node_new(struct sparse *t, size_t size)
{
	void *p = calloc(1, size);

	if (p)
		t->bytes += size;
	return p;
}

static void node_free(struct sparse *t, void *p, size_t size)
{
	t->bytes -= size;
	free(p);
}

static int insert(struct sparse *t, uint32_t no, void *p)
{
	struct sparse_mid **m = &t->top[no / (SPARSE_FAN * SPARSE_FAN)];
	struct sparse_leaf **l;
	void **slot;

	if (!*m)
		*m = node_new(t, sizeof(**m));
	if (!*m)
		return -ENOMEM;
	l = &(*m)->v[no / SPARSE_FAN % SPARSE_FAN];
	if (!*l) {
		*l = node_new(t, sizeof(**l));
		if (!*l && !(*m)->n) {
			node_free(t, *m, sizeof(**m));
			*m = NULL;
		}
		if (!*m || !*l)
			return -ENOMEM;
		(*m)->n++;
	}
	slot = &(*l)->v[no % SPARSE_FAN];
	(*l)->n += !*slot;
	t->n += !*slot;
	*slot = p;
	t->end = MNO_MAX(t->end, no + 1);
	return 0;
}

static void delete (struct sparse *t, uint32_t no)
{
	struct sparse_mid **m = &t->top[no / (SPARSE_FAN * SPARSE_FAN)];
	struct sparse_leaf **l;

	if (!sparse_get(t, no))
		return;
	l = &(*m)->v[no / SPARSE_FAN % SPARSE_FAN];
	(*l)->v[no % SPARSE_FAN] = NULL;
	if (--t->n == 0)
		t->end = 0;
	if (--(*l)->n)
		return;
	node_free(t, *l, sizeof(**l));
	*l = NULL;
	if (--(*m)->n)
		return;
	node_free(t, *m, sizeof(**m));
	*m = NULL;
}

int sparse_put(struct sparse *t, uint32_t no, void *p)
{
	if (no >= SPARSE_MAX)
		return -ERANGE;
	if (p)
		return insert(t, no, p);
	delete (t, no);
	return 0;
}

void *sparse_next(const struct sparse *t, uint32_t *no)
{
	for (uint32_t i = *no; i < t->end;) {
		const struct sparse_mid *m = t->top[i / (SPARSE_FAN * SPARSE_FAN)];
		const struct sparse_leaf *l = m ? m->v[i / SPARSE_FAN % SPARSE_FAN] : NULL;

		if (!m) {
			i = (i / (SPARSE_FAN * SPARSE_FAN) + 1) * (SPARSE_FAN * SPARSE_FAN);
			continue;
		}
		if (!l) {
			i = (i / SPARSE_FAN + 1) * SPARSE_FAN;
			continue;
		}
		do {
			if (l->v[i % SPARSE_FAN]) {
				*no = i;
				return l->v[i % SPARSE_FAN];
			}
		} while (++i % SPARSE_FAN);
	}
	return NULL;
}

void sparse_done(struct sparse *t)
{
	for (unsigned i = 0; i < SPARSE_TOP; i++) {
		for (unsigned j = 0; t->top[i] && j < SPARSE_FAN; j++)
			free(t->top[i]->v[j]);
		free(t->top[i]);
	}
	*t = (struct sparse){0};
}
