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
	MDB_stat st;
	MDB_txn *t;
	int r = mno_read_begin(s->env->main, &t);

	if (r < 0)
		return r;
	r = mno_lmdb_error(mdb_stat(t, s->env->main->dbi[MNO_DB_SERIES], &st));
	mno_read_end(s->env->main, t);
	if (r == 0)
		*ret = st.ms_entries;
	return r;
}

/* Series can be counted again; ids may not be given twice, so some are left out. */
int counters_load(struct mno_series *s)
{
	_cleanup_buf_ struct mno_buf k = {0};
	const uint8_t top[4] = {0xff, 0xff, 0xff, 0xff};
	uint64_t next = 1;
	int lost, r;

	s->now = (struct counters){.next_id = 1};
	lost = read_counters(s, &s->now);
	if (lost < 0 && lost != -ENOENT && lost != -MNO_ECORRUPT)
		return lost;
	r = mno_store_fetch(s->env, MNO_DB_SERIES, MNO_SEEK_LE, top, sizeof(top), &k, NULL);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && k.len == 4)
		next = (uint64_t)mno_get_be32((uint8_t *)k.data) + 1;
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
