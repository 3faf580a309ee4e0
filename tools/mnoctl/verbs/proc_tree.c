/* SPDX-License-Identifier: Apache-2.0 */
/* Who started whom, among the processes that run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "proc.h"

#define LIMIT     "100000"
#define MAX_DEPTH 64

struct node {
	uint64_t pid, ppid;
	struct json_object *row;
	uint32_t first_child, next; /* index + 1; 0 = none */
	bool shown;
};

struct tree {
	struct node *v; /* owned, sorted by pid */
	size_t n;
};

static int by_pid(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static struct node *find(const struct tree *t, uint64_t pid)
{
	struct node key = {.pid = pid};

	return bsearch(&key, t->v, t->n, sizeof(key), by_pid);
}

static int build(struct json_object *rows, struct tree *t)
{
	t->n = jlen(rows);
	t->v = calloc(t->n + 1, sizeof(*t->v));
	if (!t->v)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		struct json_object *p = jidx(rows, i);

		t->v[i] = (struct node){ju64(p, "pid"), ju64(p, "ppid"), p, 0, 0, false};
	}
	qsort(t->v, t->n, sizeof(*t->v), by_pid);
	/* backwards, so that children come in the order of their PIDs */
	for (size_t i = t->n; i-- > 0;) {
		struct node *parent = find(t, t->v[i].ppid);

		if (parent && parent != &t->v[i]) {
			t->v[i].next = parent->first_child;
			parent->first_child = (uint32_t)i + 1;
		}
	}
	return 0;
}

static void show_line(struct ctl *c, const char *prefix, struct json_object *row)
{
	char line[CTL_TEXT_MAX * 2];
	size_t len;

	snprintf(line, sizeof(line), "%s%llu %s", prefix, (unsigned long long)ju64(row, "pid"),
		ctl_argv(c, row));
	len = c->width ? ctl_fit(line, (size_t)c->width) : strlen(line);
	mno_buf_add(&c->out, line, len);
	mno_buf_addc(&c->out, '\n');
}

/* The depth is bounded: what the agent says need not be a tree. */
static void show(struct ctl *c, struct tree *t, struct node *n, const char *prefix, int depth)
{
	char below[CTL_TEXT_MAX];

	n->shown = true;
	for (uint32_t i = n->first_child; i; i = t->v[i - 1].next) {
		struct node *child = &t->v[i - 1];
		bool last = !child->next;

		if (child->shown)
			continue;
		snprintf(below, sizeof(below), "%s%s", prefix,
			last ? "\u2514\u2500 " : "\u251c\u2500 ");
		show_line(c, below, child->row);
		snprintf(below, sizeof(below), "%s%s", prefix, last ? "   " : "\u2502  ");
		if (depth < MAX_DEPTH || !child->first_child)
			show(c, t, child, below, depth + 1);
	}
}

/* Those whose parent is not among the running ones begin a tree. */
static void show_roots(struct ctl *c, struct tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct node *parent = find(t, t->v[i].ppid);

		if (parent && parent != &t->v[i])
			continue;
		show_line(c, "", t->v[i].row);
		show(c, t, &t->v[i], "", 0);
	}
	/* two that claim to have started each other, or deeper than shown */
	for (size_t i = 0; i < t->n; i++) {
		if (t->v[i].shown)
			continue;
		show_line(c, "", t->v[i].row);
		show(c, t, &t->v[i], "", 0);
	}
}

static void tree_done(struct tree *t)
{
	free(t->v);
}

int proc_tree(struct ctl *c, uint64_t root)
{
	_cleanup_answer_ struct ctl_answer a = {0};
	_cleanup_(tree_done)
	struct tree t = {0};
	struct json_object *rows;
	int r = ctl_get(c, "/mno/v1/proc?running=1&limit=" LIMIT, &a);

	if (r)
		return r;
	rows = jget(a.root, "processes");
	if (build(rows, &t) < 0)
		return ctl_fail(c, CTL_INTERNAL, NULL, "not enough memory");
	if (root && !find(&t, root))
		return ctl_fail(c, CTL_NO, NULL,
			"no running process %llu. If it has ended: mnoctl proc show %llu",
			(unsigned long long)root, (unsigned long long)root);
	if (c->json) {
		ctl_put_json(c, &a.body);
		return 0;
	}
	if (root) {
		show_line(c, "", find(&t, root)->row);
		show(c, &t, find(&t, root), "", 0);
	} else {
		show_roots(c, &t);
	}
	if (jtrue(a.root, "truncated"))
		ctl_printf(c, CTL_WARN, "there are more than " LIMIT "\n");
	ctl_footer(c, "%s \u00b7 %s \u00b7 answered in %s",
		ctl_completeness(c, jget(a.root, "completeness")),
		ctl_things(c, t.n, "running process", "running processes"),
		ctl_ns(c, (double)a.took_ns));
	return 0;
}
