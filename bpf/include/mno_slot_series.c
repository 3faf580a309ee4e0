/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "mno/hist.h"
#include "mno_slot_series.h"

#define LABELS_MAX 4

const uint64_t mno_bounds_latency[10] = {1ULL << 14, 1ULL << 16, 1ULL << 18, 1ULL << 20, 1ULL << 22,
	1ULL << 24, 1ULL << 26, 1ULL << 28, 1ULL << 30, 1ULL << 32};

/* a histogram of a row that has had values */
struct hist {
	uint32_t before[MNO_HIST_BUCKETS]; /* at the last tick */
	uint64_t cumulative[MNO_COL_BOUNDS_MAX];
	uint32_t slots[MNO_COL_BOUNDS_MAX + 3]; /* buckets, +Inf, sum, count */
	struct mno_table_recent recent;
};

struct cell {
	uint64_t base, base_count; /* where the row's owner began to count */
	uint64_t last, count;      /* at the last tick: counter or sum; a histogram's values */
	uint32_t slot;
	bool added;
	struct hist *hist;
};

struct row {
	bool used, seen;
	uint32_t gen;
	char *path; /* of a cgroup's row, else NULL */
};

struct mno_table {
	const struct mno_col *cols;
	size_t n_cols, n_rows;
	struct mno_metrics *metrics;
	struct row *rows;
	struct cell *cells;   /* n_rows * n_cols */
	pthread_mutex_t lock; /* of .path, .hist and .recent: read by the snapshot */
};

static struct cell *cells_of(struct mno_table *t, size_t row)
{
	return &t->cells[row * t->n_cols];
}

int mno_table_new(const struct mno_col *cols, size_t n_cols, size_t rows, struct mno_table **ret)
{
	_cleanup_(mno_table_free_p)
	struct mno_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->cols = cols;
	t->n_cols = n_cols;
	t->n_rows = rows;
	t->rows = calloc(rows, sizeof(*t->rows));
	t->cells = calloc(rows * n_cols, sizeof(*t->cells));
	if (!t->rows || !t->cells)
		return -ENOMEM;
	*ret = t;
	t = NULL;
	return 0;
}

struct mno_table *mno_table_free(struct mno_table *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; t->cells && i < t->n_rows * t->n_cols; i++)
		free(t->cells[i].hist);
	free(t->cells);
	for (size_t i = 0; t->rows && i < t->n_rows; i++)
		free(t->rows[i].path);
	free(t->rows);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return NULL;
}

static uint64_t read_u64(const void *values, uint32_t off)
{
	return __atomic_load_n((const uint64_t *)((const char *)values + off), __ATOMIC_RELAXED);
}

/* The kernel goes on counting meanwhile: all that follows works on this copy. */
static void read_counts(uint32_t *to, const void *values, uint32_t off)
{
	const uint32_t *from = (const void *)((const char *)values + off);

	for (size_t i = 0; i < MNO_HIST_BUCKETS; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void mno_table_begin(struct mno_table *t, struct mno_metrics *m)
{
	t->metrics = m;
	for (size_t i = 0; i < t->n_rows; i++)
		t->rows[i].seen = false;
}

static int add(struct mno_table *t, const struct mno_col *c, const char *suffix,
	const struct mno_label *labels, size_t n, const char *le, uint32_t *ret)
{
	struct mno_label all[LABELS_MAX + 2];

	n = MNO_MIN(n, (size_t)LABELS_MAX);
	memcpy(all, labels, n * sizeof(*labels));
	if (c->label.name)
		all[n++] = c->label;
	if (le)
		all[n++] = (struct mno_label){"le", le};
	return mno_metrics_add(t->metrics, c->family, suffix, all, n, ret);
}

/* slots[]: the buckets, +Inf, _sum, _count. All or nothing. */
static int add_hist(struct mno_table *t, const struct mno_col *c, struct hist *h,
	const struct mno_label *labels, size_t n)
{
	size_t made = 0;
	char le[32];
	int r = 0;

	for (size_t i = 0; i <= c->n_bounds && !r; i++) {
		double bound = i < c->n_bounds ? c->bounds[i] / c->per : INFINITY;

		le[mno_f64_format(bound, le)] = 0;
		r = add(t, c, "_bucket", labels, n, le, &h->slots[made]);
		made += !r;
	}
	if (!r && !(r = add(t, c, "_sum", labels, n, NULL, &h->slots[made])))
		made++;
	if (!r && !(r = add(t, c, "_count", labels, n, NULL, &h->slots[made])))
		made++;
	while (r && made > 0)
		mno_metrics_remove(t->metrics, h->slots[--made]);
	return r;
}

static void set_recent(
	struct mno_table *t, struct hist *h, const uint32_t *delta, uint64_t gained, double per)
{
	pthread_mutex_lock(&t->lock);
	h->recent.count = gained;
	h->recent.p50 = gained ? mno_hist_quantile(delta, 0.5) / per : NAN;
	h->recent.p99 = gained ? mno_hist_quantile(delta, 0.99) / per : NAN;
	pthread_mutex_unlock(&t->lock);
}

/* The kernel's counters go on from where they are: that is where the next owner begins. */
static void drop_cell(struct mno_table *t, size_t col, struct cell *c)
{
	if (c->added && t->cols[col].kind == MNO_COL_U64)
		mno_metrics_remove(t->metrics, c->slot);
	for (size_t i = 0; c->added && c->hist && i < t->cols[col].n_bounds + 3; i++)
		mno_metrics_remove(t->metrics, c->hist->slots[i]);
	c->added = false;
	c->base = c->last;
	c->base_count = c->count;
	if (!c->hist)
		return;
	memset(c->hist->cumulative, 0, sizeof(c->hist->cumulative));
	set_recent(t, c->hist, NULL, 0, 1);
}

static void drop_row(struct mno_table *t, size_t row)
{
	for (size_t i = 0; i < t->n_cols; i++)
		drop_cell(t, i, &cells_of(t, row)[i]);
	t->rows[row].used = false;
}

static struct hist *hist_new(struct mno_table *t, struct cell *c)
{
	struct hist *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->recent = (struct mno_table_recent){.p50 = NAN, .p99 = NAN};
	pthread_mutex_lock(&t->lock);
	c->hist = h;
	pthread_mutex_unlock(&t->lock);
	return h;
}

static void tick_counter(struct mno_table *t, const struct mno_col *col, struct cell *c,
	const struct mno_label *labels, size_t n, const void *values)
{
	uint64_t v;

	c->last = read_u64(values, col->off);
	v = c->last - c->base;
	if (!c->added) {
		if (!v || add(t, col, NULL, labels, n, NULL, &c->slot))
			return;
		c->added = true;
	}
	mno_metrics_set(t->metrics, c->slot, v / col->per);
}

/* One pass over the buckets that changed; bounds are edges of buckets. */
static void fold(struct mno_table *t, const struct mno_col *col, struct cell *c, const void *values)
{
	uint32_t now[MNO_HIST_BUCKETS], delta[MNO_HIST_BUCKETS];
	uint64_t sum = 0, gained;
	size_t b = 0;

	read_counts(now, values, col->off);
	gained = mno_hist_delta(delta, now, c->hist->before);
	memcpy(c->hist->before, now, sizeof(now));
	for (size_t i = 0; i <= MNO_HIST_BUCKETS && b < col->n_bounds; i++) {
		while (b < col->n_bounds && mno_hist_lower(i) >= col->bounds[b])
			c->hist->cumulative[b++] += sum;
		if (i < MNO_HIST_BUCKETS)
			sum += delta[i];
	}
	for (; b < col->n_bounds; b++)
		c->hist->cumulative[b] += sum;
	c->count += gained;
	set_recent(t, c->hist, delta, gained, col->per);
}

static void tick_hist(struct mno_table *t, const struct mno_col *col, struct cell *c,
	const struct mno_label *labels, size_t n, const void *values)
{
	uint64_t count = read_u64(values, col->count);
	size_t nb = col->n_bounds;

	if (count == c->count && !c->added)
		return;
	if (!c->hist && !hist_new(t, c))
		return;
	if (count != c->count)
		fold(t, col, c, values);
	else
		set_recent(t, c->hist, NULL, 0, 1);
	if (!c->added && add_hist(t, col, c->hist, labels, n))
		return;
	c->added = true;
	/* _count is what the buckets say: the kernel's own may be a request ahead of them */
	count = c->count - c->base_count;
	for (size_t i = 0; i < nb; i++)
		mno_metrics_set(t->metrics, c->hist->slots[i], c->hist->cumulative[i]);
	mno_metrics_set(t->metrics, c->hist->slots[nb], count);
	c->last = read_u64(values, col->sum);
	mno_metrics_set(t->metrics, c->hist->slots[nb + 1], (c->last - c->base) / col->per);
	mno_metrics_set(t->metrics, c->hist->slots[nb + 2], count);
}

void mno_table_row(struct mno_table *t, size_t row, uint32_t gen, const struct mno_label *labels,
	size_t n_labels, const void *values)
{
	if (row >= t->n_rows)
		return;
	if (t->rows[row].used && t->rows[row].gen != gen)
		drop_row(t, row);
	t->rows[row].used = t->rows[row].seen = true;
	t->rows[row].gen = gen;
	for (size_t i = 0; i < t->n_cols; i++) {
		struct cell *c = &cells_of(t, row)[i];

		if (t->cols[i].kind == MNO_COL_U64)
			tick_counter(t, &t->cols[i], c, labels, n_labels, values);
		else
			tick_hist(t, &t->cols[i], c, labels, n_labels, values);
	}
}

void mno_table_end(struct mno_table *t)
{
	for (size_t i = 0; i < t->n_rows; i++)
		if (t->rows[i].used && !t->rows[i].seen)
			drop_row(t, i);
}

bool mno_table_recent(struct mno_table *t, size_t row, size_t col, struct mno_table_recent *ret)
{
	const struct hist *h = NULL;

	if (row >= t->n_rows || col >= t->n_cols)
		return false;
	pthread_mutex_lock(&t->lock);
	h = cells_of(t, row)[col].hist;
	if (h)
		*ret = h->recent;
	pthread_mutex_unlock(&t->lock);
	return h != NULL;
}

/* The path outlives the tick in the row: the snapshot runs on other threads. */
static void note_path(struct mno_table *t, size_t row, const char *path)
{
	struct row *r = &t->rows[row];

	if (r->path && !strcmp(r->path, path))
		return;
	pthread_mutex_lock(&t->lock);
	free(r->path);
	r->path = strdup(path); /* NULL: not shown */
	pthread_mutex_unlock(&t->lock);
}

/* What was counted for an owner that is gone, shown or not, is not the next one's. */
static void skip_row(struct mno_table *t, size_t row, const void *values)
{
	for (size_t i = 0; i < t->n_cols; i++) {
		const struct mno_col *col = &t->cols[i];
		struct cell *c = &cells_of(t, row)[i];

		if (col->kind == MNO_COL_U64) {
			c->last = read_u64(values, col->off);
			continue;
		}
		if (read_u64(values, col->count) != c->count && (c->hist || hist_new(t, c)))
			fold(t, col, c, values);
		c->last = read_u64(values, col->sum);
	}
	drop_row(t, row);
}

void mno_table_cgroups(struct mno_table *t, struct mno_metrics *m, struct mno_cgroup_view slots,
	const void *values, size_t stride)
{
	mno_table_begin(t, m);
	for (size_t i = 0; i < slots.n_retired; i++)
		if (slots.retired[i] < t->n_rows)
			skip_row(t, slots.retired[i],
				(const char *)values + slots.retired[i] * stride);
	for (size_t i = 0; i < slots.n; i++) {
		const struct mno_cgroup *c = &slots.v[i];
		const struct mno_label l = {"cgroup", c->path};

		if (c->slot >= t->n_rows)
			continue;
		mno_table_row(t, c->slot, c->gen, &l, 1, (const char *)values + c->slot * stride);
		note_path(t, c->slot, c->path);
	}
	mno_table_end(t);
}

static void snapshot_row(
	const struct row *r, const struct mno_table_recent *v, const char *name, struct mno_json *j)
{
	const struct {
		const char *suffix;
		double value;
	} parts[] = {{"p50_seconds", v->p50}, {"p99_seconds", v->p99}, {"count", v->count}};
	char key[64];

	mno_json_obj(j);
	mno_json_kstr(j, "path", r->path);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(key, sizeof(key), "%s_%s", name, parts[i].suffix);
		mno_json_kf64(j, key, parts[i].value);
	}
	mno_json_end(j);
}

void mno_table_snapshot(struct mno_table *t, size_t col, const char *name, struct mno_json *j)
{
	mno_json_key(j, "cgroups");
	mno_json_arr(j);
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; col < t->n_cols && i < t->n_rows; i++) {
		const struct hist *h = cells_of(t, i)[col].hist;

		if (h && h->recent.count && t->rows[i].path)
			snapshot_row(&t->rows[i], &h->recent, name, j);
	}
	pthread_mutex_unlock(&t->lock);
	mno_json_end_arr(j);
}
