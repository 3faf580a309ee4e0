/* SPDX-License-Identifier: Apache-2.0 */
/* The figures that are kept: sealed, as all that is stored. The first format had them bare. */
#include <errno.h>
#include <inttypes.h>
#include "mno/err.h"
#include "mno/log.h"
#include "series_internal.h"

#define COUNTERS_KEY "series_counters"
#define LOST_IDS     (1u << 20) /* may have been given out since what is left was written */

int counters_save(struct mno_series *s, struct mno_txn *txn)
{
	struct mno_seal info = {.kind = MNO_SEAL_META};
	struct counters c = s->now;

	int r = records_sync(s, txn); /* every transaction that puts series away ends here */

	if (r < 0)
		return r;
	c.samples -= MNO_MIN(c.samples, head_samples(s->head));
	return mno_seal_put(
		txn, MNO_DB_META, COUNTERS_KEY, strlen(COUNTERS_KEY), &info, &c, sizeof(c), NULL);
}

/* -ENOENT: none yet. -MNO_ECORRUPT */
static int read_counters(struct mno_series *s, struct counters *ret)
{
	_cleanup_buf_ struct mno_buf v = {0}, raw = {0};
	struct mno_seal info;
	int r = mno_store_fetch(
		s->env, MNO_DB_META, MNO_SEEK_EQ, COUNTERS_KEY, strlen(COUNTERS_KEY), NULL, &v);

	if (r < 0)
		return r;
	if (v.len == sizeof(*ret)) {
		memcpy(ret, v.data, sizeof(*ret));
		return 0;
	}
	r = mno_seal_open(s->env->main, MNO_DB_META, s->z, COUNTERS_KEY, strlen(COUNTERS_KEY),
		v.data, v.len, MNO_SEAL_META, &info, &raw);
	if (r == 0 && raw.len != sizeof(*ret))
		r = -MNO_ECORRUPT;
	if (r == 0)
		memcpy(ret, raw.data, sizeof(*ret));
	return r;
}

static int count_series(struct mno_series *s, uint64_t *ret)
{
	uint8_t key[4];
	uint64_t n = 0;
	struct mno_seal info;
	MDB_cursor *c;
	MDB_val k, v;
	MDB_stat st;
	MDB_txn *t;
	int r = mno_read_begin(s->env->main, &t);

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_stat(t, s->env->main->dbi[MNO_DB_SERIES], &st));
	if (r == 0)
		r = mno_lmdb_error(mdb_cursor_open(t, s->env->main->dbi[MNO_DB_SERIES_GROUP], &c));
	if (r < 0) {
		mno_read_end(s->env->main, t);
		return r;
	}
	while ((r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT))) == 0) {
		if (k.mv_size != 4)
			continue;
		memcpy(key, k.mv_data, 4);
		if (mno_seal_peek(key, 4, v.mv_data, v.mv_size, MNO_SEAL_RECORDS, &info) == 0)
			n += info.count;
	}
	mdb_cursor_close(c);
	mno_read_end(s->env->main, t);
	*ret = n + st.ms_entries;
	return r == -ENOENT ? 0 : r;
}

/* The highest id that a record has, or one a little above it. 0: none. */
static int highest(struct mno_series *s, uint64_t *ret)
{
	static const enum mno_db dbs[] = {MNO_DB_SERIES, MNO_DB_SERIES_GROUP};
	const uint8_t top[4] = {0xff, 0xff, 0xff, 0xff};

	*ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++) {
		_cleanup_buf_ struct mno_buf k = {0}, v = {0};
		struct mno_seal info;
		uint64_t id;
		int r = mno_store_fetch(s->env, dbs[i], MNO_SEEK_LE, top, sizeof(top), &k, &v);

		if (r == -ENOENT || (r == 0 && k.len != 4))
			continue;
		if (r < 0)
			return r;
		id = mno_get_be32((uint8_t *)k.data);
		if (dbs[i] == MNO_DB_SERIES_GROUP) {
			r = mno_seal_peek(k.data, 4, v.data, v.len, MNO_SEAL_RECORDS, &info);
			id = id * GROUP_SERIES +
			     (r == 0 && info.a ? 63 - (unsigned)__builtin_clzll(info.a) : 63);
		}
		*ret = MNO_MAX(*ret, id);
	}
	return 0;
}

/* Series can be counted again; ids may not be given twice, so some are left out. */
int counters_load(struct mno_series *s)
{
	uint64_t next;
	int lost, r;

	s->now = (struct counters){.next_id = 1};
	lost = read_counters(s, &s->now);
	if (lost < 0 && lost != -ENOENT && lost != -MNO_ECORRUPT)
		return lost;
	r = highest(s, &next);
	if (r < 0)
		return r;
	next++;
	if (lost == -MNO_ECORRUPT) {
		s->env->damaged++;
		next = MNO_MIN(next + LOST_IDS, (uint64_t)SERIES_ID_MAX + 1);
		r = count_series(s, &s->now.series);
		mno_err("series: the counters are damaged: samples and bytes are counted from "
			"zero, "
			"ids go on at %" PRIu64,
			next);
	}
	s->now.next_id = MNO_MAX(s->now.next_id, next);
	s->committed = s->now;
	return r == -ENOENT ? 0 : r;
}
