/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making rollups: window by window as time passes, some groups of series in a step; what late
 * samples touched (ROLL_LATE) is made again. 10 s come from the samples, the others from the tier
 * below. A value is a window of one or several groups, made whole each time, so that a crash in
 * between costs nothing but doing it again:
 *   per group: group u32, bytes u32, the bytes (roll_code.c)
 */
#include <errno.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "rollup_internal.h"

#define GRACE_MS   5000 /* after a window's end, for what comes a little late */
#define STEP_NS    (5 * NS_PER_MS)
#define STEP_BYTES (60u << 10) /* before compression */
#define LEVEL      3           /* of zstd: little data, kept long */
#define SERIES_MAX 4000000     /* alive in one window: 16 MB of ids while it is made */
#define CURSOR_KEY "rollup_until"

const struct roll_tier roll_tiers[MNO_TIER_MAX] = {
#define TIER(id, n, s, p) {n, s, p, MNO_CLASS_##id, MNO_DB_ROLL_##id},
#include "tiers.def"
#undef TIER
};

const char *mno_tier_name(enum mno_tier t)
{
	return roll_tiers[t].name;
}

int64_t mno_tier_step_ms(enum mno_tier t)
{
	return roll_tiers[t].step;
}

int64_t roll_window_len(enum mno_tier t)
{
	return roll_tiers[t].step * (int64_t)roll_tiers[t].points;
}

int64_t roll_window_of(enum mno_tier t, int64_t t_ms)
{
	int64_t len = roll_window_len(t), rest = t_ms % len;

	return t_ms - rest - (rest < 0 ? len : 0);
}

void roll_key(uint8_t key[ROLL_KEY], uint32_t group, int64_t t0)
{
	mno_be64(key, mno_time_key(t0));
	mno_be32(key + 8, group);
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
			until[i] == INT64_MIN ? until[i] : roll_window_of(i, until[i]);
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

static int fill_points(void *arg, uint32_t id, const struct mno_rollup *p, size_t n)
{
	struct filling *f = arg;

	roll_add_points(f->roll, id % GROUP_SERIES, f->t0, f->step, p, n);
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

/* Appends the window at @t0 of the series @ids, all of one group, if they have any points. */
static int add_group(struct mno_series *s, enum mno_tier t, int64_t t0, const uint32_t *ids,
	size_t n, struct roll_value *ret)
{
	struct roll *roll = &s->rollup->roll;
	struct filling f = {.roll = roll, .t0 = t0, .step = roll_tiers[t].step};
	uint32_t head[2] = {ids[0] / GROUP_SERIES, 0};
	size_t at = s->raw.len;
	uint64_t points, damaged = 0;
	int r;

	roll_begin(roll, roll_tiers[t].points);
	if (t == MNO_TIER_10S)
		r = mno_series_scan(
			s, ids, n, t0, t0 + roll_window_len(t) - 1, fill_run, &f, &damaged);
	else
		r = mno_rollup_read(s, t - 1, ids, n, t0, t0 + roll_window_len(t) - 1, fill_points,
			&f, NULL, &damaged);
	ret->damaged += damaged;
	points = r < 0 ? 0 : count_points(roll);
	if (!points)
		return r;
	mno_buf_add(&s->raw, head, sizeof(head));
	roll_encode(roll, &s->raw);
	if (s->raw.err)
		return s->raw.err;
	head[1] = (uint32_t)(s->raw.len - at - sizeof(head));
	memcpy(s->raw.data + at, head, sizeof(head));
	if (!ret->groups)
		ret->first = head[0];
	ret->points += points;
	ret->groups++;
	ret->last = head[0];
	return 0;
}

static size_t same_group(const uint32_t *ids, size_t n)
{
	size_t k = 1;

	while (k < n && ids[k] / GROUP_SERIES == ids[0] / GROUP_SERIES)
		k++;
	return k;
}

int roll_value_make(struct mno_series *s, enum mno_tier t, int64_t t0, const uint32_t *ids,
	size_t n, bool whole, struct roll_value *ret)
{
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + STEP_NS;
	int r = 0;

	*ret = (struct roll_value){0};
	mno_buf_reset(&s->raw);
	for (unsigned g = 0; ret->took < n && r == 0; g++) {
		size_t k = same_group(ids + ret->took, n - ret->took);

		if (!whole && g &&
			(g == ROLL_GROUPS || s->raw.len >= STEP_BYTES ||
				mno_now_ns(CLOCK_MONOTONIC) > end))
			break;
		r = add_group(s, t, t0, ids + ret->took, k, ret);
		ret->took += k;
	}
	return r;
}

int roll_value_put(struct mno_series *s, struct mno_txn *txn, enum mno_tier t, int64_t t0,
	const struct roll_value *v)
{
	struct mno_seal info = {.kind = MNO_SEAL_ROLL,
		.level = LEVEL,
		.a = v->last,
		.b = v->points,
		.count = v->groups};
	struct tier_state *ts = &s->rollup->tier[t];
	struct mno_txn *part;
	uint8_t key[ROLL_KEY];
	size_t bytes;
	int r = v->groups ? mno_txn_part(txn, roll_tiers[t].class, t0, &part) : 0;

	if (r < 0 || !v->groups)
		return r;
	roll_key(key, v->first, t0);
	r = mno_seal_put(
		part, roll_tiers[t].db, key, sizeof(key), &info, s->raw.data, s->raw.len, &bytes);
	if (r == 0) {
		ts->points += v->points;
		ts->bytes += bytes;
	}
	return r;
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
	return MNO_MAX(from, roll_window_of(t, first));
}

static int list_window(struct mno_series *s, enum mno_tier t)
{
	struct tier_state *ts = &s->rollup->tier[t];
	int r;

	ts->until = next_window(s, t, ts->until);
	mno_ids_done(&ts->ids);
	ts->at = 0;
	r = mno_series_select_range(
		s, NULL, 0, ts->until, ts->until + roll_window_len(t) - 1, SERIES_MAX, &ts->ids);
	if (r == -MNO_ELIMIT) {
		mno_err("series: more than %d series in one window: no rollups (%s) of them",
			SERIES_MAX, roll_tiers[t].name);
		r = 0;
	}
	ts->listed = r == 0;
	return r;
}

static bool below_done(const struct mno_series *s, enum mno_tier t)
{
	const struct tier_state *ts = &s->rollup->tier[t];

	return t == MNO_TIER_10S || ts[-1].until >= ts->until + roll_window_len(t);
}

/* A part of the tier's next window. *@ret_did: there was something to do. */
static int make_some(
	struct mno_series *s, struct mno_txn *txn, enum mno_tier t, int64_t now, bool *ret_did)
{
	struct tier_state *ts = &s->rollup->tier[t];
	struct roll_value v;
	int r = 0;

	*ret_did = false;
	if (ts->until == INT64_MIN) { /* a new store begins with its first sample */
		struct mno_series_stat st;

		mno_series_stat(s, &st);
		if (!st.first_ms)
			return 0;
		ts->until = roll_window_of(t, st.first_ms);
	}
	if (now < ts->until + roll_window_len(t) + GRACE_MS || !below_done(s, t))
		return 0;
	if (!ts->listed) {
		r = list_window(s, t);
		if (r < 0 || now < ts->until + roll_window_len(t) + GRACE_MS || !below_done(s, t))
			return r;
	}
	*ret_did = true;
	if (ts->at < ts->ids.n) {
		r = roll_value_make(
			s, t, ts->until, ts->ids.v + ts->at, ts->ids.n - ts->at, false, &v);
		if (r == 0)
			r = roll_value_put(s, txn, t, ts->until, &v);
		if (r == 0)
			ts->at += v.took;
	}
	if (r < 0 || ts->at < ts->ids.n)
		return r;
	ts->until += roll_window_len(t);
	ts->listed = false;
	mno_ids_done(&ts->ids);
	return save_cursor(s, txn);
}

/* --- running ------------------------------------------------------------------------------------ */

int mno_rollup_run(struct mno_series *s, struct mno_txn *txn, bool *ret_more)
{
	struct mno_series_stat st;
	uint64_t end = mno_now_ns(CLOCK_MONOTONIC) + STEP_NS;
	uint8_t tier = MNO_TIER_MAX;
	bool more = false, did;
	int r = 0;

	if (!s->rollup)
		return 0;
	mno_series_stat(s, &st);
	for (unsigned t = 0; t < MNO_TIER_MAX && !more && r == 0; t++) {
		r = make_some(s, txn, t, st.last_ms, &did);
		more |= did;
	}
	if (!more && r == 0) {
		while (r == 0 && mno_now_ns(CLOCK_MONOTONIC) < end)
			r = rollup_remake(s, txn, &tier);
		more = tier != MNO_TIER_MAX;
		if (r == -ENOENT)
			r = 0;
	}
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
	const uint32_t *ids;
	size_t n, at; /* at: the first that may still come in this window */
	uint32_t group;
	uint64_t damaged;
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
		c->p[i].t_ms = q->window + c->at[i] * roll_tiers[q->t].step;
		from += c->p[i].t_ms < q->t0;
		to += c->p[i].t_ms <= q->t1;
	}
	if (from < to)
		q->result = q->fn(q->arg, q->group * GROUP_SERIES + col, c->p + from, to - from);
	return q->result;
}

/* The wanted series of one group, from @q->first on in its ids. */
static int read_group(struct reading *q, const uint8_t *p, size_t len)
{
	uint64_t want = 0;

	while (q->at < q->n && q->ids[q->at] / GROUP_SERIES < q->group)
		q->at++;
	for (size_t i = q->at; i < q->n && q->ids[i] / GROUP_SERIES == q->group; i++)
		want |= 1ULL << (q->ids[i] % GROUP_SERIES);
	return want ? roll_decode(p, len, want, hand_column, q) : 0;
}

static int read_groups(struct reading *q)
{
	const uint8_t *p = (uint8_t *)q->raw.data;
	size_t left = q->raw.len;
	uint32_t head[2];
	int r = 0;

	while (left && r == 0) {
		if (left < sizeof(head))
			return -MNO_ECORRUPT;
		memcpy(head, p, sizeof(head));
		p += sizeof(head);
		left -= sizeof(head);
		if (head[1] > left)
			return -MNO_ECORRUPT;
		q->group = head[0];
		r = read_group(q, p, head[1]);
		p += head[1];
		left -= head[1];
	}
	return r;
}

static int read_value(struct reading *q)
{
	struct mno_seal info;
	uint32_t first = mno_get_be32((uint8_t *)q->key.data + 8);
	int r = mno_seal_peek(
		q->key.data, q->key.len, q->val.data, q->val.len, MNO_SEAL_ROLL, &info);

	q->window = mno_time_unkey(mno_get_be64((uint8_t *)q->key.data));
	q->group = first;
	while (q->at < q->n && q->ids[q->at] / GROUP_SERIES < first)
		q->at++;
	if (r == 0 && (q->at == q->n || q->ids[q->at] / GROUP_SERIES > info.a))
		return 0;
	/* a head that cannot be read is told of by this, too */
	r = mno_seal_open(q->e, roll_tiers[q->t].db, q->z, q->key.data, q->key.len, q->val.data,
		q->val.len, MNO_SEAL_ROLL, &info, &q->raw);
	if (r == 0)
		r = read_groups(q);
	if (r == -MNO_ECORRUPT || r == -MNO_EVERSION || r == -ENOKEY) {
		q->damaged++;
		if (q->s->env->damaged++ == 0)
			mno_err("series: a stored rollup of group %u and others is damaged and "
				"left out",
				first);
		return 0;
	}
	return r;
}

/* The value at or before (window, group of the next id), else the next one. */
static int seek_value(struct reading *q, int64_t window)
{
	uint8_t from[ROLL_KEY];
	int r;

	roll_key(from, q->ids[q->at] / GROUP_SERIES, window);
	r = mno_env_fetch(q->e, roll_tiers[q->t].db, MNO_SEEK_LE, from, ROLL_KEY, &q->key, &q->val);
	if (r == 0 && q->key.len == ROLL_KEY && memcmp(q->key.data, from, 8) == 0)
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	return mno_env_fetch(
		q->e, roll_tiers[q->t].db, MNO_SEEK_GE, from, ROLL_KEY, &q->key, &q->val);
}

/* All values of one window that have wanted groups. *@ret_next: the next window there is. */
static int read_window(struct reading *q, int64_t window, int64_t *ret_next)
{
	int r;

	q->at = 0;
	*ret_next = window + roll_window_len(q->t);
	r = seek_value(q, window);
	while (r == 0 && q->key.len == ROLL_KEY) {
		int64_t t = mno_time_unkey(mno_get_be64((uint8_t *)q->key.data));

		if (t != window) {
			*ret_next = t;
			return 0;
		}
		r = read_value(q);
		if (r != 0 || q->at == q->n)
			break;
		r = mno_env_fetch(q->e, roll_tiers[q->t].db, MNO_SEEK_GT, q->key.data, q->key.len,
			&q->key, &q->val);
	}
	if (r == -ENOENT) { /* the last of the partition */
		*ret_next = INT64_MAX;
		r = 0;
	}
	return r;
}

static int read_partition(struct reading *q)
{
	int64_t w = roll_window_of(q->t, MNO_MAX(q->t0, q->e->t0_ms));
	int r = 0;

	while (r == 0 && w <= q->t1 && w < q->e->t1_ms)
		r = read_window(q, w, &w);
	return r;
}

static int read_partitions(struct reading *q)
{
	_cleanup_free_ int64_t *parts = NULL;
	size_t count = 0;
	int r = mno_store_partitions(
		q->s->env, roll_tiers[q->t].class, q->t0, q->t1, &parts, &count);

	for (size_t i = 0; i < count && r == 0; i++) {
		r = mno_store_env(q->s->env, roll_tiers[q->t].class, parts[i], false, &q->e);
		if (r == 0) {
			r = read_partition(q);
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
	struct reading q = {
		.s = s, .t = t, .t0 = t0, .t1 = t1, .ids = ids, .n = n, .fn = fn, .arg = arg};
	int r;

	q.z = ZSTD_createDCtx();
	r = q.z && n ? read_partitions(&q) : q.z ? 0 : -ENOMEM;
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

	return mno_store_drop(s->env, roll_tiers[t].class, t_ms, &n);
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
