/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of the rows of running processes in the store: those that end while no agent watches get
 * a row all the same, marked as one whose end was not seen.
 */
#include <errno.h>
#include <string.h>
#include "batch.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define KEY     "running"
#define KEY_LEN (sizeof(KEY) - 1)

/* At most BATCH_ROWS rows, the newest of the table's order; strings are copied. */
struct copies {
	struct mno_proc *v;
	size_t n, text;
};

static int copy_row(void *arg, const struct mno_proc *p)
{
	size_t exe = strlen(p->exe) + 1, cgroup = strlen(p->cgroup) + 1;
	struct copies *c = arg;
	struct mno_proc *to = &c->v[c->n];
	char *mem;

	if (c->n == BATCH_ROWS || c->text + exe + cgroup + p->argv_len > BATCH_TEXT)
		return 0;
	mem = malloc(exe + cgroup + p->argv_len + 1);
	if (!mem)
		return -ENOMEM;
	*to = *p;
	to->mem = mem;
	to->exe = memcpy(mem, p->exe, exe);
	to->cgroup = memcpy(mem + exe, p->cgroup, cgroup);
	to->argv = memcpy(mem + exe + cgroup, p->argv, p->argv_len);
	c->text += exe + cgroup + p->argv_len;
	c->n++;
	return 0;
}

static void copies_done(struct copies *c)
{
	for (size_t i = 0; i < c->n; i++)
		mno_proc_done(&c->v[i]);
	free(c->v);
}

int mno_ledger_keep_running(struct mno_ledger *l, struct mno_store *e, struct mno_txn *txn)
{
	const struct mno_proc **rows = calloc(BATCH_ROWS, sizeof(*rows));
	struct copies c = {.v = calloc(BATCH_ROWS, sizeof(*c.v))};
	_cleanup_buf_ struct mno_buf raw = {0};
	struct mno_seal info = {.kind = MNO_SEAL_PROC, .b = mno_now_ns(CLOCK_REALTIME)};
	int r = rows && c.v ? mno_ledger_live(l, copy_row, &c) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < c.n; i++) {
		c.v[i].end_ns = info.b; /* running until then */
		rows[i] = &c.v[i];
	}
	info.count = (uint32_t)c.n;
	if (r == 0)
		r = batch_encode(rows, c.n, e->hash_key, &raw);
	if (r == 0)
		r = mno_seal_put(txn, MNO_DB_META, KEY, KEY_LEN, &info, raw.data, raw.len, NULL);
	copies_done(&c);
	free(rows);
	return r;
}

/* Who runs now, sorted. */
struct runners {
	struct runner {
		uint64_t start;
		uint32_t pid;
	} * v;
	size_t n, cap;
};

static int note_runner(void *arg, const struct mno_proc *p)
{
	struct runners *r = arg;

	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 256;
		struct runner *v = reallocarray(r->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n++] = (struct runner){p->start_boottime_ns, p->pid};
	return 0;
}

static int by_identity(const void *a, const void *b)
{
	const struct runner *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/* Of @rows those that run no more, to the front and marked; returns their number. */
static size_t keep_lost(struct mno_proc *rows, size_t n, const struct runners *now)
{
	size_t lost = 0;

	for (size_t i = 0; i < n; i++) {
		struct runner who = {rows[i].start_boottime_ns, rows[i].pid};

		if (now->n && bsearch(&who, now->v, now->n, sizeof(who), by_identity))
			continue;
		rows[lost] = rows[i];
		rows[lost++].flags |= MNO_PROC_ENDED | MNO_PROC_LOST_EXIT;
	}
	return lost;
}

int mno_ledger_end_unwatched(
	struct mno_ledger *l, struct mno_store *e, struct mno_txn *txn, size_t *ret_n)
{
	_cleanup_free_ struct mno_proc *rows = NULL;
	_cleanup_buf_ struct mno_buf raw = {0};
	struct runners now = {0};
	struct mno_seal info;
	const void *val;
	size_t len, n = 0;
	int r = mno_txn_get(txn, MNO_DB_META, KEY, KEY_LEN, &val, &len);

	if (r == 0)
		r = mno_seal_open(e->main, MNO_DB_META, NULL, KEY, KEY_LEN, val, len, MNO_SEAL_PROC,
			&info, &raw);
	if (r == 0)
		r = batch_decode((uint8_t *)raw.data, raw.len, &rows, &n);
	if (r == 0)
		r = mno_ledger_live(l, note_runner, &now);
	if (r == 0 && now.n)
		qsort(now.v, now.n, sizeof(*now.v), by_identity);
	if (r == 0) {
		n = keep_lost(rows, n, &now);
		if (n)
			r = mno_ledger_store(e, txn, rows, n);
	}
	free(now.v);
	if (r == 0)
		*ret_n = n;
	return r == -ENOENT ? 0 : r;
}
