/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format 1 to 2: from one environment in the directory itself, with checksums, to one for each day,
 * encrypted. Ids of series stay; the batches of the ledger go over as they are, sealed anew; blocks
 * are recoded, and the last rows appended.
 */
#include <errno.h>
#include <string.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define RUNNING "running"

static bool damaged(struct migrate *m, int r)
{
	if (r != -MNO_ECORRUPT && r != -MNO_EVERSION && r != -ENOKEY)
		return false;
	m->c.damaged++;
	return true;
}

/* --- one value each --------------------------------------------------------------------------- */

static int carry_series(struct migrate *m, struct mno_txn *txn, const MDB_val *k, const MDB_val *v)
{
	struct old_1 *o = m->old;
	uint8_t fp[12], cold[12];
	struct mno_seal info;
	int r = k->mv_size == 4 ? mno_seal_open(NULL, MNO_DB_SERIES, o->z, k->mv_data, 4,
					  v->mv_data, v->mv_size, MNO_SEAL_SERIES, &info, &o->raw)
				: -MNO_ECORRUPT;

	if (r < 0)
		return r;
	mno_be64(fp, mno_siphash(m->store->hash_key, o->raw.data, o->raw.len));
	memcpy(fp + 8, k->mv_data, 4);
	info.b = 0; /* the first sample's time is not known */
	r = mno_seal_put(txn, MNO_DB_SERIES, k->mv_data, 4, &info, o->raw.data, o->raw.len, NULL);
	if (r == 0)
		r = mno_txn_put(txn, MNO_DB_SERIES_FP, fp, sizeof(fp), "", 0);
	if (r < 0)
		return r;
	sum_value(&m->c.sum[SUM_SERIES], k->mv_data, 4, o->raw.data, o->raw.len);
	if (!info.a) { /* now a mark for each group of 64 */
		mno_be32(cold, mno_get_be32(k->mv_data) / 64);
		return mno_txn_put(txn, MNO_DB_SERIES_HOT, cold, 4, "", 0);
	}
	mno_be64(cold, mno_time_key((int64_t)info.a));
	memcpy(cold + 8, k->mv_data, 4);
	return mno_txn_put(txn, MNO_DB_SERIES_COLD, cold, sizeof(cold), "", 0);
}

static int carry_batch(struct migrate *m, struct mno_txn *txn, enum mno_db db,
	enum mno_seal_kind kind, const MDB_val *k, const MDB_val *v, struct sum *sum)
{
	struct old_1 *o = m->old;
	struct mno_seal info;
	struct mno_txn *to;
	int r = k->mv_size == 12 ? mno_seal_open(NULL, db, o->z, k->mv_data, 12, v->mv_data,
					   v->mv_size, kind, &info, &o->raw)
				 : -MNO_ECORRUPT;

	if (r == 0)
		r = mno_txn_part(
			txn, MNO_CLASS_EVENT, (int64_t)(mno_get_be64(k->mv_data) / NS_PER_MS), &to);
	if (r == 0)
		r = mno_seal_put(to, db, k->mv_data, 12, &info, o->raw.data, o->raw.len, NULL);
	if (r == 0)
		sum_value(sum, k->mv_data, 12, o->raw.data, o->raw.len);
	return r;
}

static int carry_procs(struct migrate *m, struct mno_txn *txn, const MDB_val *k, const MDB_val *v)
{
	return carry_batch(m, txn, MNO_DB_PROC, MNO_SEAL_PROC, k, v, &m->c.sum[SUM_PROCS]);
}

static int carry_events(struct migrate *m, struct mno_txn *txn, const MDB_val *k, const MDB_val *v)
{
	return carry_batch(m, txn, MNO_DB_EVENT, MNO_SEAL_EVENT, k, v, &m->c.sum[SUM_EVENTS]);
}

/* Of META only the rows of running processes; the rest is made anew. */
static int carry_meta(struct migrate *m, struct mno_txn *txn, const MDB_val *k, const MDB_val *v)
{
	struct old_1 *o = m->old;
	struct mno_seal info;
	int r;

	if (k->mv_size != strlen(RUNNING) || memcmp(k->mv_data, RUNNING, k->mv_size))
		return 0;
	r = mno_seal_open(NULL, MNO_DB_META, o->z, k->mv_data, k->mv_size, v->mv_data, v->mv_size,
		MNO_SEAL_PROC, &info, &o->raw);
	return r < 0 ? r
		     : mno_seal_put(txn, MNO_DB_META, k->mv_data, k->mv_size, &info, o->raw.data,
			       o->raw.len, NULL);
}

/* --- phases ------------------------------------------------------------------------------------ */

static const struct phase {
	const char *name;
	enum mno_db db;
	/* One value; NULL: all at once. */
	int (*carry)(struct migrate *m, struct mno_txn *t, const MDB_val *k, const MDB_val *v);
} phases[] = {
	{"series", MNO_DB_SERIES, carry_series},
	{"samples", MNO_DB_BLOCK, NULL},
	{"processes", MNO_DB_PROC, carry_procs},
	{"events", MNO_DB_EVENT, carry_events},
	{"running processes", MNO_DB_META, carry_meta},
};

static const char *phase_name(const struct migrate *m)
{
	return m->c.phase < ARRAY_SIZE(phases) ? phases[m->c.phase].name : "index";
}

/* What of a transaction's bound one value may take up: this many bytes count as a record. */
#define RECORD_BYTES 64
#define CURSOR_MAX   16

/* The key behind which to go on; at[2]: its length. */
static void keep_cursor(struct migrate *m, const MDB_val *k)
{
	memset(m->c.at, 0, CURSOR_MAX);
	memcpy(m->c.at, k->mv_data, k->mv_size);
	m->c.at[2] = k->mv_size;
}

static int carry_some(struct migrate *m, struct mno_txn *txn, const struct phase *p, bool *ret_end)
{
	uint64_t end = m->c.bytes + m->o.step_records * RECORD_BYTES;
	uint64_t most = m->c.done + m->o.step_records;
	struct old_1 *o = m->old;
	uint8_t from[CURSOR_MAX];
	MDB_val k = {m->c.at[2], from}, v;
	MDB_cursor *c;
	int r;

	if (!o->has[p->db]) {
		*ret_end = true;
		return 0;
	}
	memcpy(from, m->c.at, sizeof(from));
	r = mno_lmdb_error(mdb_cursor_open(o->t, o->dbi[p->db], &c));
	if (r < 0)
		return r;
	r = mno_lmdb_error(k.mv_size ? mno_cursor_seek(c, MNO_SEEK_GT, &k, &v)
				     : mdb_cursor_get(c, &k, &v, MDB_FIRST));
	while (r == 0 && m->c.bytes < end && m->c.done < most) {
		r = p->carry(m, txn, &k, &v);
		m->c.bytes += v.mv_size;
		m->c.done += p->db != MNO_DB_META;
		if (r < 0 && !damaged(m, r))
			break;
		if (k.mv_size <= CURSOR_MAX)
			keep_cursor(m, &k);
		r = mno_lmdb_error(mdb_cursor_get(c, &k, &v, MDB_NEXT));
	}
	mdb_cursor_close(c);
	*ret_end = r == -ENOENT;
	return r == -ENOENT ? 0 : r;
}

/* Ids may not be given twice: the next one is known before anything refers to it. */
static int put_next_id(struct migrate *m, struct mno_txn *txn)
{
	const struct old_1 *o = m->old;
	struct counters c = {.next_id = MNO_MAX(o->counters.next_id, (uint64_t)1)};

	return mno_txn_put(
		txn, MNO_DB_META, "series_counters", strlen("series_counters"), &c, sizeof(c));
}

static int step(struct migrate *m, struct mno_txn *txn, bool *ret_end)
{
	const struct phase *p = &phases[m->c.phase];
	bool end = false;
	int r = m->c.phase == 0 ? put_next_id(m, txn) : 0;

	if (r == 0 && m->c.phase < ARRAY_SIZE(phases))
		r = p->carry ? carry_some(m, txn, p, &end) : series_1_blocks(m, txn, &end);
	if (r == 0 && end) {
		m->c.phase++;
		memset(m->c.at, 0, sizeof(m->c.at));
	}
	if (r == 0)
		*ret_end = m->c.phase >= ARRAY_SIZE(phases);
	return r;
}

/* --- before and after -------------------------------------------------------------------------- */

static int plan(struct migrate *m)
{
	struct old_1 *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	m->old = o;
	r = old_1_open(m->dir_fd, o);
	if (r < 0)
		return r;
	m->total = o->counters.samples + o->entries[MNO_DB_SERIES] + o->entries[MNO_DB_PROC] +
		   o->entries[MNO_DB_EVENT];
	m->old_bytes = o->bytes;
	if (o->counters.first_ms > 0 && o->counters.first_ms < mno_now_ms())
		m->days = (uint64_t)((mno_now_ms() - o->counters.first_ms) / MS_PER_DAY);
	m->days = MNO_MIN(m->days + 1, o->entries[MNO_DB_BLOCK] + o->entries[MNO_DB_PROC] + 1);
	return 0;
}

static void done(struct migrate *m)
{
	struct old_1 *o = TAKE_PTR(m->old);

	if (o)
		old_1_close(o);
	free(o);
}

static int validate(struct migrate *m)
{
	static const char *const what[SUM_MAX] = {"series", "samples", "processes", "events"};
	struct sum now[SUM_MAX] = {0};
	int r = digest(m->store, now);

	for (unsigned i = 0; i < SUM_MAX && r == 0; i++) {
		if (!memcmp(&now[i], &m->c.sum[i], sizeof(now[i])))
			continue;
		mno_err("migration: %s are not the same after it: %llu before, %llu now", what[i],
			(unsigned long long)m->c.sum[i].n, (unsigned long long)now[i].n);
		r = -MNO_ECORRUPT;
	}
	/* its own count is never too high: last rows that were not understood must not go unseen */
	if (r == 0 && !m->c.damaged &&
		now[SUM_SAMPLES].n < ((struct old_1 *)m->old)->counters.samples) {
		mno_err("migration: %llu samples are missing after it",
			(unsigned long long)(((struct old_1 *)m->old)->counters.samples -
					     now[SUM_SAMPLES].n));
		r = -MNO_ECORRUPT;
	}
	return r < 0 ? r : series_1_compare(m);
}

const struct migration migration_store_1_2 = {
	.plan = plan,
	.step = step,
	.finish = series_1_finish,
	.validate = validate,
	.done = done,
	.phase = phase_name,
	.files = {"data.mdb", "lock.mdb"},
};
