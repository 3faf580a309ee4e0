/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migrate: a store of format 1 becomes one of format 2: blocks recoded and encrypted, index made
 * anew, both forms compared. A record is a sample, a series, or a batch of processes or events. The
 * old store is the fixture's, its blocks put in GROUPS times: 15 M samples of 40 K series.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../libmno/src/series/series_internal.h"
#include "../support/benchkit.h"
#include "../support/tmpstate.h"
#include "mno/migrate.h"

#define FIXTURE "tests/fixtures/store-1/data.mdb.zst"
#define GROUPS  1600u
#define ROUNDS  3
#define MAP     (2ULL << 30)

/* An environment as format 1 had it; sealed without a cipher, a value has version 1. */
static void open_env(struct mno_env *e, const char *dir, unsigned flags)
{
	*e = (struct mno_env){.cctx = ZSTD_createCCtx()};
	bench_must("lmdb", mno_lmdb_error(mdb_env_create(&e->env)));
	mdb_env_set_maxdbs(e->env, 16);
	mdb_env_set_mapsize(e->env, MAP);
	bench_must("lmdb", mno_lmdb_error(mdb_env_open(e->env, dir, flags | MDB_NOSYNC, 0600)));
	bench_must("lmdb", mno_lmdb_error(mdb_txn_begin(e->env, NULL, flags, &e->txn.t)));
	e->txn.e = e;
	for (unsigned i = 0; i <= MNO_DB_EVENT; i++)
		bench_must(mno_db_name(i), mno_lmdb_error(mdb_dbi_open(e->txn.t, mno_db_name(i),
						   flags ? 0 : MDB_CREATE, &e->dbi[i])));
}

static void close_env(struct mno_env *e, bool commit)
{
	if (commit)
		bench_must("commit", mno_lmdb_error(mdb_txn_commit(e->txn.t)));
	else
		mdb_txn_abort(e->txn.t);
	bench_must("sync", commit ? mno_lmdb_error(mdb_env_sync(e->env, 1)) : 0);
	mdb_env_close(e->env);
	ZSTD_freeCCtx(e->cctx);
	mno_buf_done(&e->scratch);
}

static void copy_series(struct mno_env *to, const MDB_val *k, const MDB_val *v)
{
	struct mno_buf raw = {0}, key = {0};
	struct mno_seal info;
	uint8_t id[4];

	bench_must("record", mno_seal_open(NULL, MNO_DB_SERIES, NULL, k->mv_data, 4, v->mv_data,
				     v->mv_size, MNO_SEAL_SERIES, &info, &raw));
	for (uint32_t g = 0; g < GROUPS; g++) {
		mno_buf_reset(&key);
		mno_buf_add(&key, raw.data, raw.len - 1); /* without the closing brace */
		mno_buf_addf(&key, ",zone=\"%u\"}", g);
		mno_be32(id, mno_get_be32(k->mv_data) + g * GROUP_SERIES);
		info.a = 1700096379831; /* none is in the head */
		bench_must("put", mno_seal_put(&to->txn, MNO_DB_SERIES, id, 4, &info, key.data,
					  key.len, NULL));
	}
	mno_buf_done(&raw);
	mno_buf_done(&key);
}

static uint64_t copy_block(struct mno_env *to, const MDB_val *k, const MDB_val *v)
{
	struct mno_buf raw = {0};
	struct mno_seal info;
	uint8_t key[12];

	bench_must("block", mno_seal_open(NULL, MNO_DB_BLOCK, NULL, k->mv_data, 12, v->mv_data,
				    v->mv_size, MNO_SEAL_BLOCK, &info, &raw));
	memcpy(key, k->mv_data, 12);
	for (uint32_t g = 0; g < GROUPS; g++) {
		mno_be32(key, g);
		bench_must("put", mno_seal_put(&to->txn, MNO_DB_BLOCK, key, 12, &info, raw.data,
					  raw.len, NULL));
	}
	mno_buf_done(&raw);
	return info.b * GROUPS;
}

static void put_fixture(const char *path)
{
	char *in = bench_alloc(1 << 20, 1), *out = bench_alloc(1 << 20, 1);
	FILE *f = fopen(FIXTURE, "rb");
	size_t n = f ? fread(in, 1, 1 << 20, f) : 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	bench_must(FIXTURE, f && fd >= 0 ? 0 : -errno);
	n = ZSTD_decompress(out, 1 << 20, in, n);
	bench_must(FIXTURE, ZSTD_isError(n) || write(fd, out, n) != (ssize_t)n ? -EIO : 0);
	close(fd);
	fclose(f);
	free(in);
	free(out);
}

/* The old store in @dir; its number of samples. */
static uint64_t make_old(const char *dir)
{
	struct counters c = {.next_id = GROUPS * GROUP_SERIES + 1};
	struct mno_env from, to;
	uint32_t format = 1;
	char path[128];
	MDB_cursor *cur;
	MDB_val k, v;

	snprintf(path, sizeof(path), "%s/small", dir);
	bench_must(path, mkdir(path, 0700) < 0 ? -errno : 0);
	snprintf(path, sizeof(path), "%s/small/data.mdb", dir);
	put_fixture(path);
	snprintf(path, sizeof(path), "%s/small", dir);
	open_env(&from, path, MDB_RDONLY);
	open_env(&to, dir, 0);
	bench_must("cursor",
		mno_lmdb_error(mdb_cursor_open(from.txn.t, from.dbi[MNO_DB_SERIES], &cur)));
	while (mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0)
		copy_series(&to, &k, &v);
	mdb_cursor_close(cur);
	bench_must("cursor",
		mno_lmdb_error(mdb_cursor_open(from.txn.t, from.dbi[MNO_DB_BLOCK], &cur)));
	while (mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0)
		c.samples += copy_block(&to, &k, &v);
	mdb_cursor_close(cur);
	mno_txn_put(&to.txn, MNO_DB_META, "format", 6, &format, sizeof(format));
	mno_txn_put(&to.txn, MNO_DB_META, "series_counters", 15, &c, sizeof(c));
	close_env(&to, true);
	close_env(&from, false);
	return c.samples;
}

int main(void)
{
	double cpu[ROUNDS], wall[ROUNDS];
	struct mno_migrate_report rep = {0};

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct tmpstate t;
		uint64_t samples;

		tmpstate_new(&t);
		samples = make_old(t.dir);
		cpu[i] = -bench_cpu();
		wall[i] = -bench_clock(CLOCK_MONOTONIC);
		bench_must("migrate", mno_migrate_start(t.dir, NULL));
		cpu[i] += bench_cpu();
		wall[i] += bench_clock(CLOCK_MONOTONIC);
		bench_must("look", mno_migrate_look(t.dir, &rep));
		bench_must("all", rep.samples == samples && !rep.damaged ? 0 : -EIO);
		tmpstate_done(&t);
	}
	printf("migrate %.0f K/s (records a second of CPU, compared with the old form; %.0f K/s by "
	       "the clock; %.1f M samples, %.1f K series)\n",
		(double)rep.records / bench_quantile(cpu, ROUNDS, 0.5) / 1e3,
		(double)rep.records / bench_quantile(wall, ROUNDS, 0.5) / 1e3,
		(double)rep.samples / 1e6, (double)rep.series / 1e3);
	return 0;
}
