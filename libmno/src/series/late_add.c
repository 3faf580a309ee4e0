/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of any time and in any order: sorted, compared with what is there, written as runs. */
#include <errno.h>
#include "late.h"
#include "mno/rollup.h"
#include "mno/err.h"

#define ADD_MAX      (1u << 20)
#define TIME_END     253402300800000LL /* of what partitions can be named for: year 10000 */
#define DIGIT_BITS   11u
#define DIGITS       (1u << DIGIT_BITS)
#define SPAN_STEP_MS 3600000LL
#define MARK_MS      60000LL /* no window of a rollup is shorter, and each is a multiple */
#define MINUTES      1536u   /* more than a day has, in whole words */
#define APPEND_LEVEL 2u      /* runs of so many ticks are appended to, not merged */

/* Samples of one group, sorted by time. */
struct slice {
	struct mno_sample *v;
	size_t n, at;
};
struct add {
	struct mno_series *s;
	struct mno_txn *txn, *p; /* p: of the partition */
	struct late_meta *m;
	bool row;   /* what takes the place of a sample, and nothing else */
	bool marks; /* of a row, that take no one's place */
	struct mno_sample *a, *b;
	struct slice *slices;
	size_t n_slices;
	struct late_set out, have, base, tmp;
	struct late_view view;
	struct late_writer *w;
};

static void add_done(struct add *x)
{
	late_set_done(&x->out);
	late_set_done(&x->have);
	late_set_done(&x->base);
	late_set_done(&x->tmp);
	late_view_done(&x->view);
	late_writer_free(x->w);
	free(x->a);
	free(x->b);
	free(x->slices);
}

/* --- order ------------------------------------------------------------------------------------ */

static size_t digit(const struct mno_sample *v, unsigned pass)
{
	return v->id / GROUP_SERIES >> pass * DIGIT_BITS & (DIGITS - 1);
}

/* By group, stable: the order in which samples came decides between equal times. */
static void sort_groups(struct add *x, size_t n)
{
	for (unsigned pass = 0; pass * DIGIT_BITS < 26; pass++) {
		uint32_t at[DIGITS] = {0}, sum = 0;
		struct mno_sample *swap = x->a;

		for (size_t i = 0; i < n; i++)
			at[digit(&x->a[i], pass)]++;
		if (at[digit(&x->a[0], pass)] == n)
			continue;
		for (size_t i = 0; i < DIGITS; i++) {
			uint32_t count = at[i];

			at[i] = sum;
			sum += count;
		}
		for (size_t i = 0; i < n; i++)
			x->b[at[digit(&x->a[i], pass)]++] = x->a[i];
		x->a = x->b;
		x->b = swap;
	}
}

static size_t run_end(const struct mno_sample *v, size_t from, size_t n)
{
	size_t i = from;

	while (i < n && (i == from || v[i].t_ms >= v[i - 1].t_ms))
		i++;
	return i;
}

static void merge_two(
	const struct mno_sample *in, size_t a, size_t mid, size_t end, struct mno_sample *out)
{
	size_t b = mid, o = a;

	while (a < mid && b < end) {
		bool second = in[b].t_ms < in[a].t_ms;

		out[o++] = second ? in[b] : in[a];
		b += second;
		a += !second;
	}
	memcpy(out + o, in + a, (mid - a) * sizeof(*in));
	o += mid - a;
	memcpy(out + o, in + b, (end - b) * sizeof(*in));
}

/* By time, stable: what is in order already stays; of @v and @tmp the result is in @v. */
static void sort_times(struct mno_sample *v, struct mno_sample *tmp, size_t n)
{
	struct mno_sample *from = v, *to = tmp, *swap;

	while (run_end(from, 0, n) < n) {
		for (size_t i = 0; i < n;) {
			size_t mid = run_end(from, i, n), end = mid;

			if (mid < n)
				end = run_end(from, mid, n);
			merge_two(from, i, mid, end, to);
			i = end;
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != v)
		memcpy(v, from, n * sizeof(*v));
}

static int sort_all(struct add *x, const struct mno_sample *v, size_t n)
{
	size_t groups = 1, k = 0;

	x->a = malloc(n * sizeof(*v));
	x->b = malloc(n * sizeof(*v));
	if (!x->a || !x->b)
		return -ENOMEM;
	memcpy(x->a, v, n * sizeof(*v));
	sort_groups(x, n);
	for (size_t i = 1; i < n; i++)
		groups += x->a[i].id / GROUP_SERIES != x->a[i - 1].id / GROUP_SERIES;
	x->slices = calloc(groups, sizeof(*x->slices));
	if (!x->slices)
		return -ENOMEM;
	x->n_slices = groups;
	for (size_t i = 0, from = 0; i < n; i++) {
		if (i + 1 < n && x->a[i].id / GROUP_SERIES == x->a[i + 1].id / GROUP_SERIES)
			continue;
		x->slices[k++] = (struct slice){.v = x->a + from, .n = i + 1 - from};
		sort_times(x->a + from, x->b + from, i + 1 - from);
		from = i + 1;
	}
	return 0;
}

/* --- what is there ---------------------------------------------------------------------------- */

static int base_column(void *arg, const struct mno_column *c)
{
	struct late_col *to = &((struct late_set *)arg)->c[c->id % GROUP_SERIES];
	int r = 0;

	for (size_t i = 0; i < c->n && r == 0; i++)
		r = late_col_add(to, c->t_ms[i], c->v[i]);
	return r;
}

static bool behind_rows(const struct mno_series *s, int64_t t)
{
	const struct head *h = s->head;

	if (h->n)
		return t > h->t[h->n - 1];
	return h->base_t != INT64_MIN && t > h->base_t;
}

/* Fills x->have with what a reader would see of the columns. */
static int look(struct add *x, uint32_t group, uint64_t want, int64_t t0, int64_t t1)
{
	uint32_t ids[GROUP_SERIES];
	size_t n = 0;
	int r;

	late_set_reset(&x->have);
	x->view.left = SIZE_MAX;
	r = late_read(&x->view, group, want, t0, t1, &x->have);
	if (r < 0 || x->row || behind_rows(x->s, t0))
		return r;
	late_set_reset(&x->base);
	for (uint64_t left = want; left; left &= left - 1)
		ids[n++] = group * GROUP_SERIES + (uint32_t)__builtin_ctzll(left);
	r = series_read_rows(x->s, ids, n, t0, t1, base_column, &x->base);
	for (uint64_t left = want; left && r == 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		struct late_col swap = x->have.c[i];

		if (!x->base.c[i].n)
			continue;
		r = late_col_merge(&x->base.c[i], &x->have.c[i], &x->tmp.c[i]);
		x->have.c[i] = x->tmp.c[i];
		x->tmp.c[i] = swap;
	}
	return r;
}

/* --- one group, one day ----------------------------------------------------------------------- */

static int take_sample(struct add *x, const struct mno_sample *v, size_t *at)
{
	unsigned col = v->id % GROUP_SERIES;
	const struct late_col *have = &x->have.c[col];
	struct late_col *out = &x->out.c[col];
	bool there;

	if (out->n && out->t[out->n - 1] == v->t_ms) { /* twice in the call: the later one */
		out->v[out->n - 1] = v->v;
		return 0;
	}
	while (*at < have->n && have->t[*at] < v->t_ms)
		++*at;
	there = *at < have->n && have->t[*at] == v->t_ms;
	if (x->row && there && x->m->samples)
		x->m->samples--; /* the row's own counts from now on */
	if (x->marks)
		return 0;
	if (there ? bits_of(have->v[*at]) == bits_of(v->v) : x->row)
		return 0;
	x->m->samples += !there;
	x->m->first_ms = MNO_MIN(x->m->first_ms, v->t_ms);
	x->m->last_ms = MNO_MAX(x->m->last_ms, v->t_ms);
	x->m->next_id = MNO_MAX(x->m->next_id, v->id + 1);
	return late_col_add(out, v->t_ms, v->v);
}

/* Puts into x->out what is new of @v. */
static int pick(struct add *x, uint32_t group, const struct mno_sample *v, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t at[GROUP_SERIES] = {0}, end = i;
		uint64_t want = 0;
		int r;

		for (; end < n && v[end].t_ms - v[i].t_ms < LATE_SPAN_MS; end++)
			want |= 1ULL << (v[end].id % GROUP_SERIES);
		r = look(x, group, want, v[i].t_ms, v[end - 1].t_ms);
		for (; i < end && r == 0; i++)
			r = take_sample(x, &v[i], &at[v[i].id % GROUP_SERIES]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A long run that begins behind the newest one goes on with it; else it is one of its own. */
static int run_number(struct add *x, uint32_t group, int64_t t0, unsigned *level, uint32_t *ret)
{
	uint8_t from[LATE_KEY];
	MDB_val k = {sizeof(from), from}, v;
	struct mno_seal info;
	MDB_cursor *c;
	int r;

	*ret = x->m->next_run;
	if (*level >= APPEND_LEVEL) {
		mno_be32(from, group);
		memset(from + 4, 0xff, 12);
		r = mno_lmdb_error(mdb_cursor_open(x->p->t, x->p->e->dbi[MNO_DB_LATE], &c));
		if (r < 0)
			return r;
		r = mno_lmdb_error(mno_cursor_seek(c, MNO_SEEK_LE, &k, &v));
		mdb_cursor_close(c);
		if (r == 0 && k.mv_size == LATE_KEY && !memcmp(k.mv_data, from, 4) &&
			mno_seal_peek(k.mv_data, k.mv_size, v.mv_data, v.mv_size, MNO_SEAL_LATE,
				&info) == 0 &&
			info.flags >= APPEND_LEVEL && mno_time_unkey(info.a) < t0) {
			*ret = mno_get_be32((uint8_t *)k.mv_data + 4);
			*level = MNO_MAX(*level, info.flags);
		}
	}
	x->m->next_run += *ret == x->m->next_run;
	return 0;
}

/* Rollups of windows that are made already are made again. */
static int mark_rollups(struct add *x, uint32_t group)
{
	uint64_t done[MINUTES / 64] = {0}; /* of the day */

	for (unsigned i = 0; i < GROUP_SERIES; i++) {
		const struct late_col *c = &x->out.c[i];

		for (size_t k = 0; k < c->n; k++) {
			int64_t minute = c->t[k] / MARK_MS;
			int r;

			if (k && c->t[k - 1] / MARK_MS == minute)
				continue;
			if (done[minute % MINUTES / 64] >> (minute % 64) & 1)
				continue; /* another column has it */
			done[minute % MINUTES / 64] |= 1ULL << (minute % 64);
			r = mno_rollup_mark(x->s, x->txn, group * GROUP_SERIES, c->t[k]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_group(struct add *x, const struct mno_sample *v, size_t n, int64_t day)
{
	uint32_t group = v->id / GROUP_SERIES, run;
	int64_t t0 = INT64_MAX;
	size_t ticks = 0;
	unsigned level;
	int r;

	late_set_reset(&x->out);
	r = pick(x, group, v, n);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < GROUP_SERIES; i++) {
		if (!x->out.c[i].n)
			continue;
		ticks = MNO_MAX(ticks, x->out.c[i].n);
		t0 = MNO_MIN(t0, x->out.c[i].t[0]);
	}
	if (!ticks)
		return 0;
	level = late_level(ticks);
	r = run_number(x, group, t0, &level, &run);
	if (r == 0)
		r = late_writer_begin(x->w, x->p, x->m, group, run, level);
	if (r == 0)
		r = late_writer_add(x->w, &x->out);
	if (r == 0)
		r = late_writer_end(x->w);
	if (r == 0)
		r = mark_rollups(x, group);
	if (r == 0)
		r = late_merge(x->s, x->p, x->m, group, day, false, x->w);
	return MNO_MIN(r, 0);
}

/* --- all -------------------------------------------------------------------------------------- */

static int add_day(struct add *x, int64_t day, int64_t end)
{
	struct late_meta before;
	int r = mno_txn_part(x->txn, MNO_CLASS_TS, day, &x->p);

	if (r == 0)
		r = late_meta_get(x->s, x->p, day, &x->m);
	if (r < 0)
		return r;
	before = *x->m;
	x->view.e = x->p->e;
	x->view.t = x->p->t;
	for (size_t i = 0; i < x->n_slices && r == 0; i++) {
		struct slice *l = &x->slices[i];
		size_t from = l->at;

		while (l->at < l->n && l->v[l->at].t_ms < end)
			l->at++;
		if (l->at > from)
			r = add_group(x, l->v + from, l->at - from, day);
	}
	if (r < 0 || !memcmp(&before, x->m, sizeof(before)))
		return r;
	return late_meta_put(x->p, x->m);
}

static int64_t next_time(const struct add *x)
{
	int64_t t = INT64_MAX;

	for (size_t i = 0; i < x->n_slices; i++)
		if (x->slices[i].at < x->slices[i].n)
			t = MNO_MIN(t, x->slices[i].v[x->slices[i].at].t_ms);
	return t;
}

static int add_sorted(struct add *x)
{
	int64_t t, a, b;
	int r = 0;

	x->view.z = x->s->z;
	r = late_writer_new(&x->w);
	while (r == 0 && (t = next_time(x)) != INT64_MAX) {
		mno_class_bounds(MNO_CLASS_TS, t, &a, &b);
		r = add_day(x, a, b);
	}
	return r;
}

int late_check(struct mno_series *s, const struct mno_sample *v, size_t n)
{
	int64_t first = INT64_MAX, last = INT64_MIN;

	if (n > ADD_MAX)
		return -E2BIG;
	for (size_t i = 0; i < n; i++) {
		if (v[i].id == 0 || v[i].id >= s->now.next_id)
			return -ENOENT;
		first = MNO_MIN(first, v[i].t_ms);
		last = MNO_MAX(last, v[i].t_ms);
	}
	if (n && (first < 0 || last >= TIME_END))
		return -ERANGE;
	return n && day_of(last) - day_of(first) >= LATE_DAYS ? -ERANGE : 0;
}

int late_admit(struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n)
{
	int64_t last = v[n - 1].t_ms;
	uint64_t seen = 0;
	int r = 0;

	for (size_t i = n; i-- > 0 && r == 0;) {
		uint64_t bit = 1ULL << (v[i].id % GROUP_SERIES);
		struct hot *h;

		if (seen & bit)
			continue;
		seen |= bit;
		r = series_admit(s, txn, v[i].id);
		h = hot_by_id(s, v[i].id);
		if (r == 0 && h)
			h->late_ms = MNO_MAX(h->late_ms, v[i].t_ms);
	}
	seen = 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		uint64_t bit = 1ULL << (v[i].id % GROUP_SERIES);

		if (!(seen & bit))
			r = dict_widen(s, txn, v[i].id, v[i].t_ms);
		seen |= bit;
	}
	last += SPAN_STEP_MS - last % SPAN_STEP_MS; /* so that it is not written each time */
	return r < 0 ? r : span_widen(s, txn, v->id / GROUP_SERIES, v->t_ms, last);
}

int mno_series_add(struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n)
{
	struct add x = {.s = s, .txn = txn};
	int r = late_check(s, v, n);

	if (r == 0 && n)
		r = sort_all(&x, v, n);
	for (size_t i = 0; i < x.n_slices && r == 0; i++) {
		r = late_admit(s, txn, x.slices[i].v, x.slices[i].n);
		if (r == 0)
			r = rollup_mark_all(s, txn, x.slices[i].v, x.slices[i].n);
	}
	if (r == 0 && n)
		r = dict_flush(s, txn);
	if (r == 0 && n)
		r = counters_save(s, txn);
	if (r == 0 && n)
		r = add_sorted(&x);
	add_done(&x);
	return r;
}

static int add_row(
	struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n, bool marks)
{
	struct add x = {.s = s, .txn = txn, .row = true, .marks = marks};
	int r = n ? sort_all(&x, v, n) : 0;

	if (r == 0 && n)
		r = add_sorted(&x);
	add_done(&x);
	return r;
}

/* Series that end with this row get a mark; one that has a sample at this time keeps it. */
static size_t row_marks(const struct mno_series *s, int64_t t_ms, struct mno_sample *v)
{
	const struct head *h = s->head;
	const struct rows *rw;
	size_t n = 0;

	SPARSE_EACH(&h->rows, no, rw)
	{
		uint64_t gone = rw->alive & ~rw->present[h->n + 1];

		for (; gone; gone &= gone - 1, n++)
			if (v)
				v[n] = (struct mno_sample){
					.id = no * GROUP_SERIES + (uint32_t)__builtin_ctzll(gone),
					.t_ms = t_ms};
	}
	return n;
}

int late_row(struct mno_series *s, struct mno_txn *txn, int64_t t_ms, const uint32_t *ids,
	const double *values, size_t n)
{
	_cleanup_free_ struct mno_sample *v = NULL;
	size_t marks;
	int r;

	if (!late_behind(s, t_ms))
		return 0;
	marks = row_marks(s, t_ms, NULL);
	v = malloc((n + marks + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		v[i] = (struct mno_sample){ids[i], t_ms, values[i]};
	r = add_row(s, txn, v, n, false);
	row_marks(s, t_ms, v);
	return r < 0 ? r : add_row(s, txn, v, marks, true);
}
