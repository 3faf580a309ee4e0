/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a migration: driver, state on disk, names, and what a migration does itself. */
#pragma once

#include "../series/series_internal.h"
#include "mno/migrate.h"

#define MIGRATE_STATE ".migration"
#define STEP_RECORDS  2000000u

/* Order does not count: what is the same gives the same sums wherever it lies. */
struct sum {
	uint64_t n, a, b;
};
static inline uint64_t sum_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}
static inline void sum_add(struct sum *s, uint64_t x)
{
	s->n++;
	s->a += x;
	s->b += x * (x >> 29 | 1);
}
static inline uint64_t sum_seed(uint32_t id)
{
	return sum_mix(id * 0x9e3779b97f4a7c15ULL + 1);
}
static inline void sum_sample(struct sum *s, uint64_t seed, int64_t t_ms, double v)
{
	sum_add(s, sum_mix(((uint64_t)t_ms * 0x9e3779b97f4a7c15ULL + seed) ^ bits_of(v)));
}
void sum_value(struct sum *s, const void *key, size_t klen, const void *p, size_t len);

enum { SUM_SERIES, SUM_SAMPLES, SUM_PROCS, SUM_EVENTS, SUM_MAX };

/* Where a migration is, kept in the new form's META with each transaction. */
#define CURSOR_KEY "migration"
struct cursor {
	uint32_t version, phase;
	uint64_t at[3]; /* the phase's own; 0: its beginning */
	uint64_t done, bytes, damaged;
	int64_t first_ms;
	uint64_t block_bytes;
	struct sum sum[SUM_MAX]; /* of what was read of the old form */
};
_Static_assert(sizeof(struct cursor) == 168, "on disk");

struct migrate;
struct migration {
	/* Opens the old form and says how much there is: m->total, m->old_bytes, m->days. */
	int (*plan)(struct migrate *m);
	/* One transaction's worth, of which the driver takes care; *@ret_end: all is carried over. */
	int (*step)(struct migrate *m, struct mno_txn *txn, bool *ret_end);
	/* After the last step: what takes transactions of its own. May be called again. */
	int (*finish)(struct migrate *m);
	/* Compares the new form with the old one. -MNO_ECORRUPT: they differ. */
	int (*validate)(struct migrate *m);
	/* Closes the old form, whether or not it was opened. */
	void (*done)(struct migrate *m);
	/* For people: what it is doing. */
	const char *(*phase)(const struct migrate *m);
	/* Files of the old form in the state directory, the one first whose name makes it one. */
	const char *files[4];
};

/* A row of migrations.def. */
struct migration_row {
	unsigned from, to;
	const char *name;
	const struct migration *f;
};

struct migrate {
	const struct migration_row *what;
	struct mno_migrate_opts o;
	int dir_fd;
	const char *dir;
	struct mno_store *store; /* the new form */
	struct cursor c;         /* as of now */
	uint64_t total, old_bytes, days;
	uint64_t begin_ns, begin_done, logged_ns;
	void *old; /* the migration's own */
};

int cursor_put(struct migrate *m, struct mno_txn *t, const struct cursor *c);
/* The migration from @from, NULL if there is none. */
const struct migration_row *migration_of(unsigned from);

/* state.c: what must be known while neither form can be opened. */
struct state {
	unsigned from, to;
	enum mno_migrate_stage stage;
	int64_t switched_ms;
	bool undo_wanted;
	uint64_t records, series, samples, procs, events, damaged;
};
/* -ENOENT: none. -MNO_ECORRUPT */
int state_read(int dir_fd, struct state *ret);
int state_write(int dir_fd, const struct state *s);
int state_remove(int dir_fd);
void state_name(char buf[32], const char *what, unsigned format);

/* switch.c. Each may be killed anywhere and called again. */
bool have(int dir_fd, const char *name);
int form_remove(int dir_fd, const char *name);
/* Puts the new form in the place of the old one. */
int switch_forth(struct migrate *m, struct state *s);
int switch_back(struct migrate *m, struct state *s);
/* Tells the caller's progress function. What it returned. */
int tell(struct migrate *m, const char *phase);

/* run.c: makes the new form beside the old one, and compares them. */
int migrate_run(struct migrate *m);

/* old_1.c: the environment of format 1, read only. */
struct old_1 {
	MDB_env *env;
	MDB_txn *t;
	MDB_dbi dbi[MNO_DB_MAX];
	bool has[MNO_DB_MAX];
	uint64_t entries[MNO_DB_MAX];
	struct counters counters; /* as it kept them: samples, next_id */
	uint64_t bytes;
	ZSTD_DCtx *z;
	struct mno_buf raw;
	struct old_block {
		int64_t t0;
		uint32_t group;
	} * blocks; /* all there are, by time: 16 bytes each */
	size_t n_blocks;
	uint64_t strange; /* keys among them that are none */
	struct pack_maker *pack;
};
/* Behind old_1_format(), which checked its pages. */
int old_1_open(int dir_fd, struct old_1 *o);
void old_1_close(struct old_1 *o);
/* The nearest pair from @key on. -ENOENT: no more. */
int old_1_next(struct old_1 *o, enum mno_db db, enum mno_seek dir, MDB_val *key, MDB_val *val);
/* Checks all pages. Format of the environment in @dir_fd, 0 if there is none. -MNO_ECORRUPT, -errno */
int old_1_format(int dir_fd, unsigned *ret);

/* store_1_2_series.c */
int series_1_blocks(struct migrate *m, struct mno_txn *txn, bool *ret_end);
/* Head and label index; transactions of its own. */
int series_1_finish(struct migrate *m);
int series_1_compare(struct migrate *m);
void series_1_done(struct old_1 *o);

/* store_1_2_tail.c: appends the last rows of the old form to @s, which has none. */
int tail_1_append(struct migrate *m, struct mno_series *s, struct mno_txn *txn);

/* digest.c: of a store of the present format. */
int digest(struct mno_store *s, struct sum ret[SUM_MAX]);
