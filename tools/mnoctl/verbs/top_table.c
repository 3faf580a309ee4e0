/* SPDX-License-Identifier: Apache-2.0 */
/* The two tables of `mnoctl top` and how they are sorted. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "top.h"

struct column {
	struct ctl_col col;
	const char *key;  /* member of the row */
	const char *sort; /* word of --sort; NULL = not sorted by */
	void (*cell)(struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key);
};

static void cell_text(struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	const char *s = jstr(row, key);

	/* the root of the tree has an empty path */
	ctl_cell(t, CTL_BOLD, "%s", *s ? ctl_esc(c, s) : "/");
}

static void cell_number(
	struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	ctl_cell(t, CTL_BOLD, "%llu", (unsigned long long)ju64(row, key));
}

static void cell_percent(
	struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	double v = jf64(row, key);

	ctl_cell(t, v >= 50 ? CTL_WARN : v < 0.05 ? CTL_DIM : CTL_PLAIN, "%s", ctl_percent(c, v));
}

static void cell_seconds(
	struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	ctl_cell(t, CTL_PLAIN, "%s", ctl_seconds(c, jf64(row, key)));
}

static void cell_count(struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	double v = jf64(row, key);

	ctl_cell(t, CTL_PLAIN, "%s", ctl_count(c, v < 10 ? v : round(v)));
}

static void cell_bytes(struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	ctl_cell(t, CTL_PLAIN, "%s", ctl_bytes(c, jf64(row, key)));
}

static void cell_rate(struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	double v = jf64(row, key);

	if (isnan(v))
		ctl_cell(t, CTL_PLAIN, "%s", ctl_dash(c));
	else
		ctl_cell(t, v < 1 ? CTL_DIM : CTL_PLAIN, "%s/s", ctl_bytes(c, v));
}

static void cell_culprit(
	struct ctl *c, struct ctl_table *t, struct json_object *row, const char *key)
{
	if (jnull(row, key))
		ctl_cell(t, CTL_PLAIN, "%s", ctl_dash(c));
	else
		ctl_cell(t, CTL_PLAIN, "%s %s", ctl_esc(c, jstr(row, key)),
			ctl_percent(c, jf64(row, "culprit_percent")));
}

#define COL(title, ...)                                                                            \
	{                                                                                          \
		.head = title, __VA_ARGS__                                                         \
	}
static const struct column by_cgroup[] = {
	{COL("cgroup", .flex = true), "path", "name", cell_text},
	{COL("cpu", .right = true), "cpu_percent", "cpu", cell_percent},
	{COL("wait", .right = true), "wait_percent", "wait", cell_percent},
	{COL("throttled", .right = true, .drop = 4), "throttled_percent", "throttled",
		cell_percent},
	{COL("disk p99", .right = true, .drop = 2), "block_p99_seconds", "disk", cell_seconds},
	{COL("tcp p99", .right = true, .drop = 3), "tcp_p99_seconds", "tcp", cell_seconds},
	{COL("sys/s", .right = true, .drop = 5), "syscalls_per_second", "sys", cell_count},
	{COL("who made it wait", .flex = true, .drop = 1), "culprit", NULL, cell_culprit},
};
static const struct column by_process[] = {
	{COL("pid", .right = true), "pid", NULL, cell_number},
	{COL("process", .flex = true), "comm", "name", cell_text},
	{COL("cpu", .right = true), "cpu_percent", "cpu", cell_percent},
	{COL("wait", .right = true), "wait_percent", "wait", cell_percent},
	{COL("read", .right = true, .drop = 2), "io_read_bps", "read", cell_rate},
	{COL("written", .right = true, .drop = 2), "io_write_bps", "written", cell_rate},
	{COL("disk wait", .right = true, .drop = 4), "block_wait_percent", "diskwait",
		cell_percent},
	{COL("sys/s", .right = true, .drop = 5), "syscalls_per_second", "sys", cell_count},
	{COL("memory", .right = true, .drop = 1), "rss_bytes", "memory", cell_bytes},
	{COL("cgroup", .flex = true, .drop = 3), "cgroup", NULL, cell_text},
};

static const struct {
	const struct column *cols;
	size_t n;
	const char *member;
} views[] = {
	[TOP_CGROUP] = {by_cgroup, ARRAY_SIZE(by_cgroup), "cgroups"},
	[TOP_PROCESS] = {by_process, ARRAY_SIZE(by_process), "processes"},
};

const char *top_next_sort(enum top_by by, const char *sort)
{
	size_t n = views[by].n, at = n - 1;

	for (size_t i = 0; i < n; i++)
		if (views[by].cols[i].sort && strcmp(views[by].cols[i].sort, sort) == 0)
			at = i;
	for (size_t k = 1; k <= n; k++) {
		const char *s = views[by].cols[(at + k) % n].sort;

		if (s)
			return s;
	}
	return sort;
}

bool top_has_sort(enum top_by by, const char *sort)
{
	for (size_t i = 0; i < views[by].n; i++)
		if (views[by].cols[i].sort && strcmp(views[by].cols[i].sort, sort) == 0)
			return true;
	return false;
}

struct ranked {
	struct json_object *row;
	double value;
	const char *name;
};

/* Largest first, then by name, so that equal rows keep their places. */
static int compare(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->value != y->value)
		return x->value > y->value ? -1 : 1;
	return strcmp(x->name, y->name);
}

static size_t rank(struct json_object *rows, enum top_by by, const char *sort, struct ranked *out)
{
	const char *key = NULL;
	size_t n = jlen(rows);

	for (size_t i = 0; i < views[by].n; i++)
		if (views[by].cols[i].sort && strcmp(views[by].cols[i].sort, sort) == 0)
			key = views[by].cols[i].key;
	for (size_t i = 0; i < n; i++) {
		struct json_object *row = jidx(rows, i);
		double v = key ? jf64(row, key) : NAN;

		out[i] = (struct ranked){
			row, isnan(v) ? -1 : v, jstr(row, by == TOP_CGROUP ? "path" : "comm")};
	}
	qsort(out, n, sizeof(*out), compare);
	return n;
}

size_t top_table(
	struct ctl *c, struct json_object *root, enum top_by by, const char *sort, size_t max_rows)
{
	struct ctl_col cols[16];
	_cleanup_table_ struct ctl_table t;
	struct json_object *rows = jget(root, views[by].member);
	_cleanup_free_ struct ranked *order = calloc(jlen(rows) + 1, sizeof(*order));
	size_t n = order ? rank(rows, by, sort, order) : 0;

	for (size_t i = 0; i < views[by].n; i++)
		cols[i] = views[by].cols[i].col;
	ctl_table_init(&t, cols, views[by].n);
	for (size_t i = 0; i < n && (!max_rows || i < max_rows); i++)
		for (size_t k = 0; k < views[by].n; k++) {
			const struct column *col = &views[by].cols[k];

			col->cell(c, &t, order[i].row, col->key);
		}
	if (n)
		ctl_table_print(c, &t);
	else
		ctl_printf(c, CTL_PLAIN, "nothing to show yet: no %s in the last interval\n",
			views[by].member);
	return n;
}
