/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making rollups: window by window as time passes, some groups of series in a step; what late
 * samples touched (ROLL_LATE) is made again. A window of a group is one value, made whole each
 * time, so that a crash in between costs nothing but doing it again.
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "rollup_internal.h"

#define GRACE_MS    5000    /* after a window's end, for what comes a little late */
#define STEP_GROUPS 8       /* of one step: some ms */
#define SERIES_MAX  4000000 /* alive in one window: 16 MB of ids while it is made */
#define ROLL_KEY    12      /* group u32 | t0 u64 */
#define LATE_KEY    13      /* tier u8 | t0 u64 | group u32 */
#define CURSOR_KEY  "rollup_until"

static const struct {
	const char *name;
	int64_t step;
	size_t points;
	enum mno_class class;
	enum mno_db db;
} tiers[MNO_TIER_MAX] = {
#define TIER(id, n, s, p) {n, s, p, MNO_CLASS_##id, MNO_DB_ROLL_##id},
#include "tiers.def"
#undef TIER
};

/* What is being made of each tier; the writer's own but for until. */
struct rollup_state {
	struct tier_state {
		_Atomic int64_t until; /* windows before are made; INT64_MIN: not known yet */
		struct mno_ids ids;    /* alive in the window that begins there */
		size_t at;             /* of ids */
		bool listed;
		_Atomic uint64_t points, bytes, remade;
	} tier[MNO_TIER_MAX];
	bool loaded;
	struct roll roll;
};

const char *mno_tier_name(enum mno_tier t)
{
	return tiers[t].name;
}

int64_t mno_tier_step_ms(enum mno_tier t)
{
	return tiers[t].step;
}

static int64_t window_len(enum mno_tier t)
{
	return tiers[t].step * (int64_t)tiers[t].points;
}

/* Start of the window that @t_ms is in. Windows are counted from the Unix epoch. */
static int64_t window_of(enum mno_tier t, int64_t t_ms)
{
	int64_t len = window_len(t), rest = t_ms % len;

	return t_ms - rest - (rest < 0 ? len : 0);
}

static void roll_key(uint8_t key[ROLL_KEY], uint32_t group, int64_t t0)
{
	mno_be32(key, group);
	mno_be64(key + 4, mno_time_key(t0));
}

/* --- state ----------------------------------------------------------------------------------- */

void rollup_free(struct mno_series *s)
{
	for (size_t i = 0; s->rollup && i < MNO_TIER_MAX; i++)
		mno_ids_done(&s->rollup->tier[i].ids);
	free(s->rollup);
	s->rollup = NULL;
}

int rollup_open(struct mno_series *s)
{
	_cleanup_buf_ struct mno_buf v = {0};
	int64_t until[MNO_TIER_MAX];
	int r = mno_store_fetch(
		s->env, MNO_DB_META, MNO_SEEK_EQ, CURSOR_KEY, strlen(CURSOR_KEY), NULL, &v);

	if (r < 0 && r != -ENOENT)
		return r;
	s->rollup = calloc(1, sizeof(*s->rollup));
	if (!s->rollup)
		return -ENOMEM;
	for (size_t i = 0; i < MNO_TIER_MAX; i++)
		until[i] = INT64_MIN;
	if (r == 0 && v.len == sizeof(until))
		memcpy(until, v.data, sizeof(until));
	for (unsigned i = 0; i < MNO_TIER_MAX; i++)
		s->rollup->tier[i].until =
			until[i] == INT64_MIN ? until[i] : window_of(i, until[i]);
	return 0;
}

void rollup_rollback(struct mno_series *s)
{
	rollup_free(s);
	if (rollup_open(s) < 0)
		mno_err("series: no memory for rollups: none are made");
}

static int save_cursor(struct mno_series *s, struct mno_txn *txn)
{
	int64_t until[MNO_TIER_MAX];

	for (size_t i = 0; i < MNO_TIER_MAX; i++)
		until[i] = s->rollup->tier[i].until;
	return mno_txn_put(txn, MNO_DB_META, CURSOR_KEY, strlen(CURSOR_KEY), until, sizeof(until));
}

/* --- making ---------------------------------------------------------------------------------- */

struct filling {
	struct roll *roll;
	int64_t t0, step;
};

static int fill_run(void *arg, const struct mno_run *run)
{
	struct filling *f = arg;

	roll_add(f->roll, run->id % GROUP_SERIES, f->t0, f->step, run->t_ms, run->v, run->n);
	return 0;
}

static uint64_t count_points(const struct roll *r)
{
	uint64_t n = 0;

	for (uint64_t left = r->columns; left; left &= left - 1)
		for (size_t i = 0; i < r->n_points; i++)
			n += r->count[__builtin_ctzll(left)][i] > 0;
	return n;
}

/* Makes the window at @t0 of the series @ids, all of one group. */
static int make_group(struct mno_series *s, struct mno_txn *txn, enum mno_tier t, int64_t t0,
	const uint32_t *ids, size_t n)
{
	struct mno_seal info = {.kind = MNO_SEAL_ROLL, .count = (uint32_t)n};
	struct rollup_state *st = s->rollup;
	struct filling f = {.roll = &st->roll, .t0 = t0, .step = tiers[t].step};
	struct mno_txn *part;
	uint8_t key[ROLL_KEY];
	size_t bytes;
	int r;

	roll_begin(&st->roll, tiers[t].points);
	r = mno_series_scan(s, ids, n, t0, t0 + window_len(t) - 1, fill_run, &f, NULL);
	info.b = count_points(&st->roll);
	if (r < 0 || !info.b)
		return r;
	mno_buf_reset(&s->raw);
	roll_encode(&st->roll, &s->raw);
	if (s->raw.err)
		return s->raw.err;
	r = mno_txn_part(txn, tiers[t].class, t0, &part);
	if (r < 0)
		return r;
	roll_key(key, ids[0] / GROUP_SERIES, t0);
	r = mno_seal_put(
		part, tiers[t].db, key, sizeof(key), &info, s->raw.data, s->raw.len, &bytes);
	if (r == 0) {
		st->tier[t].points += info.b;
		st->tier[t].bytes += bytes;
	}
	return r;
}

static size_t same_group(const uint32_t *ids, size_t n)
{
	size_t k = 1;

	while (k < n && ids[k] / GROUP_SERIES == ids[0] / GROUP_SERIES)
		k++;
	return k;
}

/* The next window that can have samples, at or after @from. */
static int64_t next_window(struct mno_series *s, enum mno_tier t, int64_t from)
{
	_cleanup_free_ int64_t *parts = NULL;
	struct mno_series_stat st;
	int64_t first;
	size_t n = 0;

	if (mno_store_partitions(s->env, MNO_CLASS_TS, from, INT64_MAX, &parts, &n) == 0 && n)
		first = parts[0];
	else {
		mno_series_stat(s, &st);
		first = st.first_ms;
	}
	return MNO_MAX(from, window_of(t, first));
}

static int list_window(struct mno_series *s, enum mno_tier t)
{
	struct tier_state *ts = &s->rollup->tier[t];
	int r;

	ts->until = next_window(s, t, ts->until);
	mno_ids_done(&ts->ids);
	ts->at = 0;
	r = mno_series_select_range(
		s, NULL, 0, ts->until, ts->until + window_len(t) - 1, SERIES_MAX, &ts->ids);
	if (r == -MNO_ELIMIT) {
		mno_err("series: more than %d series in one window: no rollups (%s) of them",
			SERIES_MAX, tiers[t].name);
		r = 0;
	}
	ts->listed = r == 0;
	return r;
}

/* Up to @groups groups of the tier's next window. *@ret_did: there was something to do. */
static int make_some(
	struct mno_series *s, struct mno_txn *txn, enum mno_tier t, int64_t now, bool *ret_did)
{
	struct tier_state *ts = &s->rollup->tier[t];
	int r = 0;

	*ret_did = false;
	if (ts->until == INT64_MIN) { /* a new store begins with its first sample */
		struct mno_series_stat st;

		mno_series_stat(s, &st);
		if (!st.first_ms)
			return 0;
		ts->until = window_of(t, st.first_ms);
	}
	if (now < ts->until + window_len(t) + GRACE_MS)
		return 0;
	if (!ts->listed) {
		r = list_window(s, t);
		if (r < 0 || now < ts->until + window_len(t) + GRACE_MS)
			return r;
	}
	*ret_did = true;
	for (unsigned g = 0; g < STEP_GROUPS && ts->at < ts->ids.n && r == 0; g++) {
		const uint32_t *ids = ts->ids.v + ts->at;
		size_t n = same_group(ids, ts->ids.n - ts->at);

		r = make_group(s, txn, t, ts->until, ids, n);
		ts->at += n;
	}
	if (r < 0 || ts->at < ts->ids.n)
		return r;
	ts->until += window_len(t);
	ts->listed = false;
	mno_ids_done(&ts->ids);
	return save_cursor(s, txn);
}

/* --- late samples ---------------------------------------------------------------------------- */

int mno_rollup_mark(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms)
{
	uint8_t key[LATE_KEY];
	int r = 0;

	for (unsigned t = 0; s->rollup && t < MNO_TIER_MAX && r == 0; t++) {
		if (t_ms >= s->rollup->tier[t].until)
			continue; /* not made yet */
		key[0] = (uint8_t)t;
		mno_be64(key + 1, mno_time_key(window_of(t, t_ms)));
		mno_be32(key + 9, id / GROUP_SERIES);
		r = mno_txn_put(txn, MNO_DB_ROLL_LATE, key, sizeof(key), "", 0);
	}
	return r;
}

static int first_late(struct mno_txn *txn, uint8_t key[LATE_KEY])
{
	MDB_cursor *c;
	MDB_val k, v;
	int r = mno_lmdb_error(mdb_cursor_open(txn->t, txn->e->dbi[MNO_DB_ROLL_LATE], &c));

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_FIRST));
	if (r == 0 && k.mv_size == LATE_KEY)
		memcpy(key, k.mv_data, LATE_KEY);
	else if (r == 0)
		r = -MNO_ECORRUPT;
	mdb_cursor_close(c);
	return r;
}

/* One window of one group again, of all its series. -ENOENT: none waits. */
static int remake_one(struct mno_series *s, struct mno_txn *txn)
{
	uint32_t ids[GROUP_SERIES], group;
	uint8_t key[LATE_KEY];
	int r = first_late(txn, key);

	if (r < 0)
		return r;
	group = mno_get_be32(key + 9);
	for (uint32_t i = 0; i < GROUP_SERIES; i++)
		ids[i] = group * GROUP_SERIES + i;
	if (key[0] < MNO_TIER_MAX && group <= SERIES_ID_MAX / GROUP_SERIES) {
		r = make_group(s, txn, key[0], mno_time_unkey(mno_get_be64(key + 1)),
			ids + (group == 0), GROUP_SERIES - (group == 0));
		s->rollup->tier[key[0]].remade++;
	}
	return r < 0 ? r : mno_txn_del(txn, MNO_DB_ROLL_LATE, key, sizeof(key));
}

int mno_rollup_run(struct mno_series *s, struct mno_txn *txn, bool *ret_more)
{
	struct mno_series_stat st;
	bool more = false, did;
	int r = 0;

	if (!s->rollup)
		return 0;
	mno_series_stat(s, &st);
	for (unsigned t = 0; t < MNO_TIER_MAX && !more && r == 0; t++) {
		r = make_some(s, txn, t, st.last_ms, &did);
		more |= did;
	}
	for (unsigned i = 0; i < STEP_GROUPS && !more && r == 0; i++)
		r = remake_one(s, txn);
	if (r == -ENOENT)
		r = 0;
	else
		more |= r == 0;
	if (r == 0)
		*ret_more = more;
	return r;
}

/* --- reading --------------------------------------------------------------------------------- */

struct reading {
	struct mno_series *s;
	enum mno_tier t;
	struct mno_env *e;
	int64_t t0, t1, window;
	uint32_t group;
	uint64_t want, damaged;
	ZSTD_DCtx *z;
	struct mno_buf key, val, raw;
	int (*fn)(void *arg, uint32_t id, const struct mno_rollup *p, size_t n);
	void *arg;
	int result;
};

static int hand_column(void *arg, unsigned col, struct roll_column *c)
{
	struct reading *q = arg;
	size_t from = 0, to = 0;

	for (size_t i = 0; i < c->n; i++) {
		c->p[i].t_ms = q->window + c->at[i] * tiers[q->t].step;
		from += c->p[i].t_ms < q->t0;
		to += c->p[i].t_ms <= q->t1;
	}
	if (from < to)
		q->result = q->fn(q->arg, q->group * GROUP_SERIES + col, c->p + from, to - from);
	return q->result;
}

static int read_window(struct reading *q)
{
	struct mno_seal info;
	int r;

	q->window = mno_time_unkey(mno_get_be64((uint8_t *)q->key.data + 4));
	r = mno_seal_open(q->e, tiers[q->t].db, q->z, q->key.data, q->key.len, q->val.data,
		q->val.len, MNO_SEAL_ROLL, &info, &q->raw);
	if (r == 0)
		r = roll_decode((uint8_t *)q->raw.data, q->raw.len, q->want, hand_column, q);
	if (r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY) {
		q->damaged++;
		if (q->s->env->damaged++ == 0)
			mno_err("series: a stored rollup of group %u is damaged and left out",
				q->group);
		return 0;
	}
	return r;
}

static int read_group(struct reading *q)
{
	uint8_t from[ROLL_KEY];
	int r;

	roll_key(from, q->group, window_of(q->t, MNO_MAX(q->t0, q->e->t0_ms)));
	r = mno_env_fetch(q->e, tiers[q->t].db, MNO_SEEK_GE, from, ROLL_KEY, &q->key, &q->val);
	while (r == 0 && q->key.len == ROLL_KEY &&
		mno_get_be32((uint8_t *)q->key.data) == q->group &&
		mno_time_unkey(mno_get_be64((uint8_t *)q->key.data + 4)) <= q->t1) {
		r = read_window(q);
		if (r == 0)
			r = mno_env_fetch(q->e, tiers[q->t].db, MNO_SEEK_GT, q->key.data,
				q->key.len, &q->key, &q->val);
	}
	return r == -ENOENT ? 0 : r;
}

static int read_partition(struct reading *q, const uint32_t *ids, size_t n)
{
	int r = 0;

	for (size_t i = 0, k; i < n && r == 0; i += k) {
		k = same_group(ids + i, n - i);
		q->group = ids[i] / GROUP_SERIES;
		q->want = 0;
		for (size_t j = 0; j < k; j++)
			q->want |= 1ULL << (ids[i + j] % GROUP_SERIES);
		r = read_group(q);
	}
	return r;
}

static int read_partitions(struct reading *q, const uint32_t *ids, size_t n)
{
	_cleanup_free_ int64_t *parts = NULL;
	size_t count = 0;
	int r = mno_store_partitions(q->s->env, tiers[q->t].class, q->t0, q->t1, &parts, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		r = mno_store_env(q->s->env, tiers[q->t].class, parts[i], false, &q->e);
		if (r == 0) {
			r = read_partition(q, ids, n);
			mno_env_unref(q->e);
		} else if (r != -ENOMEM) {
			q->damaged += r != -ENOENT; /* gone meanwhile is no damage */
			r = 0;
		}
	}
	return r;
}

int mno_rollup_read(struct mno_series *s, enum mno_tier t, const uint32_t *ids, size_t n,
	int64_t t0, int64_t t1,
	int (*fn)(void *arg, uint32_t id, const struct mno_rollup *p, size_t n), void *arg,
	int64_t *ret_until, uint64_t *ret_damaged)
{
	struct reading q = {.s = s, .t = t, .t0 = t0, .t1 = t1, .fn = fn, .arg = arg};
	int r;

	q.z = ZSTD_createDCtx();
	r = q.z ? read_partitions(&q, ids, n) : -ENOMEM;
	ZSTD_freeDCtx(q.z);
	mno_buf_done(&q.key);
	mno_buf_done(&q.val);
	mno_buf_done(&q.raw);
	if (ret_until)
		*ret_until = s->rollup ? s->rollup->tier[t].until : INT64_MIN;
	if (ret_damaged)
		*ret_damaged = q.damaged;
	return q.result ?: r;
}

int mno_rollup_expire(struct mno_series *s, enum mno_tier t, int64_t t_ms)
{
	size_t n;

	return mno_store_drop(s->env, tiers[t].class, t_ms, &n);
}

void mno_rollup_stat(struct mno_series *s, enum mno_tier t, struct mno_rollup_stat *ret)
{
	const struct tier_state *ts = s->rollup ? &s->rollup->tier[t] : NULL;

	*ret = (struct mno_rollup_stat){.until_ms = INT64_MIN};
	if (ts)
		*ret = (struct mno_rollup_stat){.points = ts->points,
			.bytes = ts->bytes,
			.remade = ts->remade,
			.until_ms = ts->until};
}
