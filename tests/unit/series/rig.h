/* SPDX-License-Identifier: Apache-2.0 */
/* A store with series in a directory of its own, and what the tests of it share. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "../../../libmno/src/series/series_internal.h"
#include "../../support/tmpstate.h"
#include "mno/err.h"

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

struct st {
	struct tmpstate tmp;
	struct mno_store *e;
	struct mno_series *s;
};

static inline void up(struct st *s)
{
	assert_int_equal(mno_store_open(s->tmp.dir, NULL, &s->e), 0);
	assert_int_equal(mno_series_open(s->e, &s->s), 0);
}

static inline void down(struct st *s)
{
	s->s = mno_series_close(s->s);
	s->e = mno_store_close(s->e);
}

static inline int setup(void **state)
{
	struct st *s = calloc(1, sizeof(*s));

	tmpstate_new(&s->tmp);
	up(s);
	*state = s;
	return 0;
}

static inline int teardown(void **state)
{
	struct st *s = *state;

	down(s);
	tmpstate_done(&s->tmp);
	free(s);
	return 0;
}

static inline struct mno_txn *begin(struct st *s)
{
	struct mno_txn *t;

	assert_int_equal(mno_store_begin(s->e, &t), 0);
	return t;
}

static inline void commit(struct st *s, struct mno_txn *t)
{
	assert_int_equal(mno_store_commit(s->e, t), 0);
	mno_series_committed(s->s);
}

static inline uint32_t resolve(struct st *s, struct mno_txn *t, const char *key)
{
	uint32_t id;

	assert_int_equal(mno_series_resolve(s->s, t, key, strlen(key), &id), 0);
	return id;
}

/* Value = time * id, a commit every 100 rows. */
static inline void add_rows(
	struct st *s, const uint32_t *ids, size_t n_ids, int64_t from, int64_t to)
{
	struct mno_txn *t = begin(s);
	double v[256];

	for (int64_t now = from; now < to; now++) {
		for (size_t i = 0; i < n_ids; i++)
			v[i] = (double)(now * ids[i]);
		assert_int_equal(mno_series_append(s->s, t, now, ids, v, n_ids), 0);
		if (now % 100 == 99) {
			commit(s, t);
			t = begin(s);
		}
	}
	commit(s, t);
}

struct seen {
	size_t columns, samples, damaged;
	int64_t last;
};

static inline int count_column(void *arg, const struct mno_column *c)
{
	struct seen *seen = arg;

	seen->columns++;
	seen->samples += c->n;
	seen->damaged += c->damaged;
	for (size_t i = 0; i < c->n; i++)
		assert_true(c->v[i] == (double)(c->t_ms[i] * c->id) || isnan(c->v[i]));
	if (c->n)
		seen->last = c->t_ms[c->n - 1];
	return 0;
}
