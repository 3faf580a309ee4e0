/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which series outside of the head match. What the window leaves and what the equalities leave is
 * narrowed first; other matchers then go by values, or by the records of the few that are left.
 * Series that the index does not have yet are found by their records.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/time.h"
#include "series_internal.h"

#define RECENT_MAX  8192u /* series that ended after the window's begin: more come by other means */
#define RECORDS_MIN 512u  /* so few are always judged by their records */
#define PREFIX_MIN  20000u
#define WALK_GROUPS 1024u /* of series that are not in the index, looked at together */

/* --- read transactions --------------------------------------------------------------------------- */

static int rd_begin(struct rd *r)
{
	r->end_ns = mno_now_ns(CLOCK_MONOTONIC) + MNO_READ_SLICE_NS / 2;
	return mno_read_begin(r->s->env->main, &r->t);
}

int rd_open(struct rd *r, struct mno_series *s)
{
	*r = (struct rd){.s = s, .z = ZSTD_createDCtx()};
	return r->z ? rd_begin(r) : -ENOMEM;
}

void rd_done(struct rd *r)
{
	if (r->t)
		mno_read_end(r->s->env->main, r->t);
	ZSTD_freeDCtx(r->z);
	mno_buf_done(&r->raw);
	*r = (struct rd){0};
}

int rd_renew(struct rd *r)
{
	int err;

	if (mno_now_ns(CLOCK_MONOTONIC) < r->end_ns)
		return 0;
	mno_read_end(r->s->env->main, r->t);
	r->t = NULL;
	err = rd_begin(r);
	if (err < 0)
		r->t = NULL;
	return err;
}

/* --- one selection --------------------------------------------------------------------------------- */

struct cold {
	struct rd rd;
	const struct select *q;
	const struct id_set *hot; /* judged already */
	struct id_set base;       /* candidates */
	bool known;               /* base is more than nothing yet */
	bool *done;               /* by matcher */
	struct records group;     /* looked at last */
	struct mno_ids *ids;
};

static void cold_done(struct cold *c)
{
	set_done(&c->base);
	free(c->done);
	records_done(&c->group);
	rd_done(&c->rd);
}

static void set_cut(struct id_set *s, uint64_t next)
{
	size_t i = set_find(s, (uint32_t)(next / GROUP_SERIES));

	if (i < s->n && s->v[i].group == next / GROUP_SERIES) {
		s->v[i].mask &= (1ULL << (next % GROUP_SERIES)) - 1;
		i += s->v[i].mask != 0;
	}
	s->n = i;
}

/* Series that left the head after the window began, if they are few. */
static int take_recent(struct cold *c)
{
	uint8_t from[12];
	MDB_val k = {sizeof(from), from}, v;
	MDB_cursor *cur;
	size_t n = 0;
	int r = mno_lmdb_error(
		mdb_cursor_open(c->rd.t, c->rd.s->env->main->dbi[MNO_DB_SERIES_COLD], &cur));

	if (r < 0)
		return r;
	mno_be64(from, mno_time_key(c->q->t0));
	mno_be32(from + 8, 0);
	r = mno_lmdb_error(mno_cursor_seek(cur, MNO_SEEK_GE, &k, &v));
	for (; r == 0 && n < RECENT_MAX; n++) {
		uint32_t id = k.mv_size == 12 ? mno_get_be32((uint8_t *)k.mv_data + 8) : 0;

		r = set_add(&c->base, id / GROUP_SERIES, 1ULL << (id % GROUP_SERIES));
		if (r == 0)
			r = mno_lmdb_error(mdb_cursor_get(cur, &k, &v, MDB_NEXT));
	}
	mdb_cursor_close(cur);
	set_sort(&c->base);
	c->known = r == -ENOENT;
	if (!c->known)
		c->base.n = 0;
	return r == -ENOENT ? 0 : r;
}

static int load_list(struct cold *c, const char *name, const char *value, struct id_set *out)
{
	uint8_t fp[FP_BYTES];
	int r;

	label_fp(c->rd.s, name, value, fp);
	r = posting_load(&c->rd, fp, c->known ? &c->base : NULL, out);
	set_sort(out);
	return r;
}

/* Keeps what is in @set, or what is not. Before anything is known, only keeping can be done. */
static void narrow(struct cold *c, struct id_set *set, bool keep)
{
	if (!c->known) {
		set_done(&c->base);
		c->base = *set;
		*set = (struct id_set){0};
		c->known = true;
	} else if (keep) {
		set_and(&c->base, set);
	} else {
		set_sub(&c->base, set);
	}
}

static int narrow_by_list(struct cold *c, const char *name, const char *value, bool keep)
{
	_cleanup_(set_done)
	struct id_set set = {0};
	int r = load_list(c, name, value, &set);

	if (r == 0)
		narrow(c, &set, keep);
	return r;
}

static bool is_equality(const struct mno_matcher *m)
{
	return m->op == MNO_MATCH_EQ || m->op == MNO_MATCH_NE;
}

/* =, != and what is as good as one of them. An empty value means: has no such label. */
static int narrow_by_equalities(struct cold *c, bool keep)
{
	int r = 0;

	for (size_t i = 0; i < c->q->n && r == 0; i++) {
		const struct mno_matcher *m = &c->q->m[i];
		bool eq = m->op == MNO_MATCH_EQ, has = !*m->value;

		if (c->done[i] || !is_equality(m) || (has ? !eq : eq) != keep)
			continue;
		c->done[i] = true;
		r = narrow_by_list(c, m->name, has ? NULL : m->value, keep);
	}
	return r;
}

/* --- by values --------------------------------------------------------------------------------------- */

/* Lists of the values that a regular expression takes. */
struct taken {
	struct cold *c;
	const struct mno_matcher *m;
	uint8_t (*fp)[FP_BYTES];
	size_t n, cap;
	struct mno_buf text;
};

static void taken_done(struct taken *t)
{
	free(t->fp);
	mno_buf_done(&t->text);
}

static int take_value(void *arg, const char *text, size_t len)
{
	struct taken *t = arg;
	int r;

	mno_buf_reset(&t->text);
	mno_buf_add(&t->text, text, len);
	mno_buf_addc(&t->text, '\0');
	r = t->text.err ? t->text.err : match_regex(t->m, t->text.data);
	if (r <= 0 || !len)
		return MNO_MIN(r, 0);
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;
		void *p = reallocarray(t->fp, cap, sizeof(*t->fp));

		if (!p)
			return -ENOMEM;
		t->fp = p;
		t->cap = cap;
	}
	label_fp(t->c->rd.s, t->m->name, t->text.data, t->fp[t->n++]);
	return 0;
}

static int take_values(struct taken *t)
{
	_cleanup_buf_ struct mno_buf lit = {0};
	uint8_t tree[FP_BYTES];
	bool exact;
	int r = match_literals(t->m->value, &lit, &exact);

	if (r < 0)
		return r;
	if (exact) {
		for (size_t at = 0; at < lit.len && r == 0; at += strlen(lit.data + at) + 1)
			r = take_value(t, lit.data + at, strlen(lit.data + at));
		return r;
	}
	label_fp(t->c->rd.s, t->m->name, NULL, tree);
	return values_walk(&t->c->rd, tree, lit.data ? lit.data : "", lit.len, take_value, t);
}

static int narrow_by_values(struct cold *c, const struct mno_matcher *m)
{
	_cleanup_(taken_done)
	struct taken t = {.c = c, .m = m};
	_cleanup_(set_done)
	struct id_set set = {0};
	_cleanup_(set_done)
	struct id_set has = {0};
	bool keep = m->op == MNO_MATCH_RE;
	int absent = match_regex(m, ""), r;

	r = absent < 0 ? absent : take_values(&t);
	for (size_t i = 0; i < t.n && r == 0; i++)
		r = posting_load(&c->rd, t.fp[i], c->known ? &c->base : NULL, &set);
	set_sort(&set);
	if (r < 0 || !absent) {
		if (r == 0)
			narrow(c, &set, keep);
		return r;
	}
	/* It takes the empty value, so those without the label too: what counts is the rest. */
	r = load_list(c, m->name, NULL, &has);
	if (r == 0) {
		set_sub(&has, &set);
		narrow(c, &has, !keep);
	}
	return r;
}

/* 1: the values of the label are to be judged now; 0: later, or by the records of the candidates.
 * An alternation of literals is a few look-ups. */
static int by_values_first(struct cold *c, const struct mno_matcher *m, bool early)
{
	_cleanup_buf_ struct mno_buf lit = {0};
	size_t n = set_count(&c->base);
	uint8_t tree[FP_BYTES];
	uint64_t values;
	bool exact;
	int r = match_literals(m->value, &lit, &exact);

	if (r < 0 || exact)
		return r < 0 ? r : 1;
	if (!c->known)
		return !c->q->windowed;
	if (early || n <= RECORDS_MIN)
		return 0;
	label_fp(c->rd.s, m->name, NULL, tree);
	r = values_count(&c->rd, tree, &values);
	if (lit.len)
		values = MNO_MIN(values, (uint64_t)PREFIX_MIN); /* how many have it is not known */
	return r < 0 ? r : n >= values;
}

static int narrow_by_regexes(struct cold *c, bool early)
{
	int r = 0;

	for (size_t i = 0; i < c->q->n && r == 0; i++) {
		const struct mno_matcher *m = &c->q->m[i];

		if (c->done[i] || is_equality(m))
			continue;
		r = match_regex(m, "");
		if (r < 0)
			return r;
		if (!c->known && (m->op == MNO_MATCH_RE) == (r == 1)) {
			r = 0; /* could only take away: later */
			continue;
		}
		r = by_values_first(c, m, early);
		if (r <= 0)
			continue;
		c->done[i] = true;
		r = narrow_by_values(c, m);
	}
	return r;
}

/* --- by records ---------------------------------------------------------------------------------------- */

/* 1: the record is of a series that is wanted. A damaged one matches nothing. */
static int judge_record(struct cold *c, unsigned col, bool all)
{
	_cleanup_(key_labels_done)
	struct key_labels labels = {0};
	const struct records *g = &c->group;
	struct record rec;
	bool rest = all;
	int r;

	if (!(records_all(g) >> col & 1) || g->first[col] > c->q->t1 || g->last[col] < c->q->t0)
		return 0;
	for (size_t i = 0; i < c->q->n && !rest; i++)
		rest = !c->done[i];
	if (!rest)
		return 1;
	r = records_key(c->rd.s, c->rd.t, c->rd.z, g, col, &c->rd.raw, &rec);
	if (r == -MNO_ECORRUPT)
		dict_damaged(c->rd.s, g->no * GROUP_SERIES + col, g->no * GROUP_SERIES + col);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = key_parse(rec.key, rec.len, &labels);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	return match_labels(c->q->m, c->q->n, &labels);
}

/* Those of @cols that are wanted. */
static int judge_group(struct cold *c, uint32_t no, uint64_t cols, bool all)
{
	int r = records_load(c->rd.s, c->rd.t, c->rd.z, no, &c->group);

	for (cols &= records_all(&c->group); cols && r >= 0; cols &= cols - 1) {
		unsigned col = (unsigned)__builtin_ctzll(cols);

		r = judge_record(c, col, all);
		if (r == 1)
			r = ids_add(c->ids, no * GROUP_SERIES + col, c->q->limit);
	}
	return r;
}

/* Candidates one by one, if anything is left to be judged about them. */
static int take_candidates(struct cold *c)
{
	bool judge = c->q->windowed;
	int r = 0;

	for (size_t i = 0; i < c->q->n && !judge; i++)
		judge = !c->done[i];
	for (size_t i = 0; i < c->base.n && r >= 0; i++) {
		uint32_t no = c->base.v[i].group;
		uint64_t left = c->base.v[i].mask;

		if (judge) {
			r = rd_renew(&c->rd);
			if (r == 0)
				r = judge_group(c, no, left, false);
			continue;
		}
		for (; left && r == 0; left &= left - 1)
			r = ids_add(c->ids, no * GROUP_SERIES + (uint32_t)__builtin_ctzll(left),
				c->q->limit);
	}
	return r < 0 ? r : 0;
}

static uint64_t hot_mask(const struct cold *c, uint32_t no)
{
	size_t i = set_find(c->hot, no);

	return i < c->hot->n && c->hot->v[i].group == no ? c->hot->v[i].mask : 0;
}

/* Groups from *@next on that have records outside of the head, up to WALK_GROUPS of them. */
static int walk_list(struct cold *c, uint64_t from, uint64_t *next, struct id_set *set)
{
	int r = 0;

	for (set->n = 0; set->n < WALK_GROUPS && *next <= UINT32_MAX / GROUP_SERIES;) {
		uint32_t no = (uint32_t)*next;
		uint64_t cols = UINT64_MAX;

		r = rd_renew(&c->rd);
		if (r == 0)
			r = records_next(c->rd.s, c->rd.t, &no);
		if (r < 0)
			break;
		*next = (uint64_t)no + 1;
		if (no == from / GROUP_SERIES)
			cols <<= from % GROUP_SERIES;
		cols &= ~hot_mask(c, no);
		r = cols ? set_add(set, no, cols) : 0;
		if (r < 0)
			break;
	}
	if (r == -ENOENT)
		*next = UINT64_MAX;
	return r == -ENOENT ? 0 : r;
}

/* Records with ids from @from on. */
static int walk_records(struct cold *c, uint64_t from)
{
	_cleanup_(set_done)
	struct id_set set = {0};
	uint64_t next = from / GROUP_SERIES;
	int r = 0;

	while (r == 0 && next <= UINT32_MAX / GROUP_SERIES) {
		r = walk_list(c, from, &next, &set);
		if (r == 0 && c->q->windowed)
			r = span_prune(&c->rd, &set, c->q->t0, c->q->t1);
		for (size_t i = 0; i < set.n && r == 0; i++) {
			r = rd_renew(&c->rd);
			if (r == 0)
				r = judge_group(c, set.v[i].group, set.v[i].mask, true);
			r = MNO_MIN(r, 0);
		}
	}
	return r;
}

/* --- all of it -------------------------------------------------------------------------------------- */

static int search_index(struct cold *c, uint64_t next)
{
	int r = c->q->windowed && c->q->t0 != INT64_MIN ? take_recent(c) : 0;

	if (r == 0)
		r = narrow_by_equalities(c, true);
	if (r == 0)
		r = narrow_by_regexes(c, true);
	/* also leaves out what a list names though its record is gone */
	if (r == 0)
		r = narrow_by_list(c, NULL, NULL, true);
	if (r == 0) {
		set_sub(&c->base, c->hot);
		set_cut(&c->base, next);
	}
	if (r == 0 && c->q->windowed)
		r = span_prune(&c->rd, &c->base, c->q->t0, c->q->t1);
	if (r == 0)
		r = narrow_by_equalities(c, false);
	if (r == 0)
		r = narrow_by_regexes(c, false);
	return r < 0 ? r : take_candidates(c);
}

static int cold_open(struct cold *c, struct mno_series *s, struct index_state *st)
{
	int r;

	c->done = calloc(c->q->n + 1, 1);
	r = c->done ? rd_open(&c->rd, s) : -ENOMEM;
	if (r == 0)
		r = index_state_get(s, c->rd.t, st);
	if (r == 0 && __atomic_load_n(&s->index_bad, __ATOMIC_RELAXED))
		st->next = 1;
	return r;
}

int select_cold(
	struct mno_series *s, const struct select *q, const struct id_set *hot, struct mno_ids *ids)
{
	_cleanup_(cold_done)
	struct cold c = {.q = q, .hot = hot, .ids = ids};
	struct index_state st;
	size_t before = ids->n;
	int r = cold_open(&c, s, &st);

	if (r == 0 && st.next > 1)
		r = search_index(&c, st.next);
	if (r == -MNO_ECORRUPT) {
		index_damaged(s, "a list");
		ids->n = before;
		st.next = 1;
		r = 0;
	}
	return r < 0 ? r : walk_records(&c, st.next);
}

int select_unindexed(struct mno_series *s, const struct id_set *hot, struct mno_ids *ids)
{
	const struct select q = {.limit = SIZE_MAX, .t0 = INT64_MIN, .t1 = INT64_MAX};
	_cleanup_(cold_done)
	struct cold c = {.q = &q, .hot = hot, .ids = ids};
	struct index_state st;
	int r = cold_open(&c, s, &st);

	return r < 0 ? r : walk_records(&c, st.next);
}
