/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the series store: keys, dictionary, head, blocks. */
#pragma once

#include "../store/store_internal.h"
#include "../store/codec.h"
#include "mno/map.h"
#include "mno/series.h"
#include "labels_internal.h"
#include "sparse.h"

#define GROUP_SERIES  64u  /* columns of a block */
#define HEAD_ROWS     192u /* ticks of a window; with their slots the tail is a tree of one page */
#define CHUNK_ROWS    32u  /* head memory is taken in steps of this many ticks */
#define HEAD_CHUNKS   (HEAD_ROWS / CHUNK_ROWS)
#define PENDING_MAX   11u /* blocks' worth of rows in one transaction */
#define MS_PER_DAY    86400000
#define KEY_MAX       MNO_SERIES_KEY_MAX
#define KEY_LABELS    MNO_SERIES_LABELS_MAX
#define EARLY_IDS     2048u /* found in memory; few enough to read their records at the start */
#define SERIES_ID_MAX (UINT32_MAX - GROUP_SERIES)

static inline uint64_t bits_of(double v)
{
	uint64_t b;

	memcpy(&b, &v, 8);
	return b;
}
static inline double of_bits(uint64_t b)
{
	double v;

	memcpy(&v, &b, 8);
	return v;
}

/* --- key.c: the text form of a series ------------------------------------------------------- */
struct key_label {
	const char *name, *value;
};
/* A parsed key: "__name__" first if there is one, the rest sorted by name. */
struct key_labels {
	size_t n;
	struct key_label v[KEY_LABELS];
	char *text; /* owned: what v points into */
};
void key_labels_done(struct key_labels *k);
/* -EINVAL if malformed, too long, a label twice; empty values are left out as Prometheus does. */
int key_parse(const char *key, size_t len, struct key_labels *ret);
/* The canonical text of labels in key_parse()'s order. */
void key_format(const struct key_label *v, size_t n, struct mno_buf *out);

/* --- match.c ---------------------------------------------------------------------------------- */
/* 1 matches, 0 does not, -MNO_ELIMIT (regular expression too costly), -ENOMEM */
int match_text(const struct mno_matcher *m, const char *value);
/* Whether the expression of a compiled matcher takes @value, negated or not. Same results. */
int match_regex(const struct mno_matcher *m, const char *value);
/*
 * The texts that an expression takes if it is an alternation of literals (*@ret_exact), each ended
 * by a NUL; else what all texts that it takes begin with (may be nothing), not ended. -ENOMEM.
 */
int match_literals(const char *pattern, struct mno_buf *out, bool *ret_exact);
/* All of @m against a parsed key. Same results. */
int match_labels(const struct mno_matcher *m, size_t n, const struct key_labels *k);

/* --- bits.c: packed integers ------------------------------------------------------------------ */
#define WIDTH_MAX 56u /* an unaligned 8-byte load holds any value */
struct fit {
	unsigned width;
	bool zigzag; /* else what is above the lowest */
	uint64_t low;
	size_t bits; /* about, exceptions included */
};
/* The best width for up to HEAD_ROWS values; it may be over WIDTH_MAX: do not put it then. */
struct fit fit_lowest(const int64_t *v, size_t n);
struct fit fit_zigzag(const int64_t *v, size_t n);
void fit_put(struct mno_buf *out, const int64_t *v, size_t n, const struct fit *f);
/* What is read must be followed by 8 readable bytes. false: malformed. */
bool fit_get(struct mno_reader *r, int64_t *v, size_t n);

/* --- column.c: values of one series in one window of up to HEAD_ROWS ticks -------------------- */
struct column {
	size_t first, n;    /* first tick, values */
	const uint8_t *map; /* a bit for each tick if they are not in a row; into the bytes */
	bool constant;      /* all values have the same bits */
};
/* Appends the encoding; errors stick in @out. @v has room for @ticks values and is used up. */
void column_encode(double *v, const uint64_t *present, size_t ticks, struct mno_buf *out);
/* @p is followed by 8 readable bytes; @v has room for @ticks. -MNO_ECORRUPT, never a bad read. */
int column_decode(const uint8_t *p, size_t len, size_t ticks, struct column *ret, double *v);
/* Ticks of the values into @idx, which has room for @ticks. */
size_t column_ticks(const struct column *c, size_t ticks, uint16_t *idx);

/* --- block.c: groups of series x windows of ticks as bytes ------------------------------------ */
#define BLOCK_WINDOWS 5u /* 960 ticks */
#define BLOCK_GROUPS  64u
#define BLOCK_TARGET  (30u << 10) /* bytes at which a block gets no more groups */
#define PACK_TARGET   (60u << 10) /* the same of PACK: what stands in it is alike, pages are full */
struct window {
	size_t n; /* ticks */
	int64_t t[HEAD_ROWS];
};
/* The columns of one group in one window, encoded. */
struct piece {
	uint64_t columns;
	const uint8_t *p[GROUP_SERIES];
	uint32_t len[GROUP_SERIES];
};
struct block_maker {
	size_t n_windows, n_groups;
	uint32_t first, last; /* group */
	uint64_t samples;
	uint32_t series;
	struct mno_buf table, body, out;
};
void block_maker_done(struct block_maker *m);
void block_begin(struct block_maker *m, size_t n_windows);
/* Groups ascend. Errors stick in the maker's buffers. */
void block_add(struct block_maker *m, uint32_t group, const struct piece *pieces);
/* The bytes are in m->out; error of any step. */
int block_end(struct block_maker *m, const struct window *w);

struct block {
	size_t n_windows, n_groups;
	struct window w[BLOCK_WINDOWS];
	struct block_group {
		uint32_t group;
		uint64_t columns[BLOCK_WINDOWS];
		const uint8_t *p; /* into the raw bytes */
		uint32_t len;
	} g[BLOCK_GROUPS];
};
/* @raw must be followed by 8 readable bytes and outlive @ret. -MNO_ECORRUPT, never a bad read. */
int block_open(const uint8_t *raw, size_t len, struct block *ret);
/* One group's columns, borrowed from the raw bytes. -MNO_ECORRUPT. */
int block_pieces(const struct block *b, size_t i, struct piece ret[BLOCK_WINDOWS]);

/* --- agg.c: aggregates ------------------------------------------------------------------------ */
/* Adds samples that come after all there are. */
void agg_add(struct mno_agg *a, const int64_t *t, const double *v, size_t n);
void agg_add_same(struct mno_agg *a, const int64_t *t, double v, size_t n);
void agg_join(struct mno_agg *a, const struct mno_agg *next);
#define AGG_TARGET (24u << 10) /* bytes at which a value gets no more groups */
struct agg_maker {
	size_t n_groups;
	uint32_t first, last;
	struct mno_buf body, out;
};
void agg_maker_done(struct agg_maker *m);
void agg_begin(struct agg_maker *m);
/* Groups ascend; [t0, t1]: of the blocks. Errors stick. */
void agg_put(struct agg_maker *m, uint32_t group, const struct mno_agg a[GROUP_SERIES], int64_t t0,
	int64_t t1);
int agg_end(struct agg_maker *m);
struct agg_reader {
	struct mno_reader r;
	uint64_t left;
	uint32_t group;
	bool begun;
	int64_t t0, t1;
};
int agg_open(struct agg_reader *a, const uint8_t *raw, size_t len, int64_t t0, int64_t t1);
/* The next group: those of @ret that are in *@ret_columns. -ENOENT at the end, -MNO_ECORRUPT. */
int agg_next(struct agg_reader *a, uint32_t *ret_group, uint64_t *ret_columns,
	struct mno_agg ret[GROUP_SERIES]);

/* --- block_v1.c: what format 1 wrote: one group, one window (read only, for migration) --------- */
#define BLOCK_V1_ROWS 256u
struct block_v1 {
	size_t n;
	int64_t t[BLOCK_V1_ROWS];
	uint64_t columns;
	const uint8_t *body[GROUP_SERIES]; /* into the raw bytes */
	uint32_t body_len[GROUP_SERIES];
};
/* @raw must be followed by 8 readable bytes and outlive @ret. -MNO_ECORRUPT, never a bad read. */
int block_v1_open(const uint8_t *raw, size_t len, struct block_v1 *ret);
/*
 * Values of one column: positions (ticks) into @idx, values into @v, both of BLOCK_V1_ROWS.
 * *@ret_n = 0 if the block does not have it. -MNO_ECORRUPT.
 */
int block_v1_column(
	const struct block_v1 *b, unsigned col, uint16_t *idx, double *v, size_t *ret_n);

/* --- index.c: labels of the series in the head ------------------------------------------------ */
struct sym {
	uint32_t id, refs, len;
	char text[];
};
struct hot {
	uint32_t id;
	uint16_t n_labels;
	bool dirty; /* its record must be (re)written as hot */
	uint64_t fp;
	int64_t first_ms; /* no sample before; 0: not known */
	int64_t late_ms;  /* the last sample that did not come in a row, since it is here; or 0 */
	struct hot *next_fp, *next_dirty;
	struct hot_label {
		struct sym *name, *value;
	} labels[];
};
struct symtab {
	struct mno_map *map;
	uint32_t *free_ids;
	size_t n_free, cap_free;
	uint32_t next_id;
	size_t bytes;
};
struct group {
	uint64_t hot_mask;
	uint64_t cooling; /* being put away by the open transaction */
	struct hot *hot[GROUP_SERIES];
};

/* --- head: rows since the last sealed block --------------------------------------------------- */
/* One group's rows. Index 0 of present is the row before the first (its values are in base). */
struct rows {
	uint64_t alive; /* has a value in the last row, and that is no staleness mark */
	uint64_t present[HEAD_ROWS + 1];
	double base[GROUP_SERIES];
	double (*chunk[HEAD_CHUNKS])[GROUP_SERIES];
};
struct head {
	size_t n;
	int64_t base_t; /* time of the base row; INT64_MIN: none */
	int64_t t[HEAD_ROWS];
	struct sparse rows; /* struct rows by group number */
};

/* --- late*.c: samples that did not come in rows ---------------------------------------------- */
/* Figures of one partition, stored in it: what main says may be one commit behind. */
struct late_meta {
	uint64_t samples, bytes; /* of LATE; a sample that took another's place is not counted */
	int64_t first_ms, last_ms;
	uint32_t next_run;
	uint32_t next_id;    /* above every id with data in the partition */
	uint32_t merged_run; /* next_run when all was merged: nothing to do until it changes */
	uint32_t unused;     /* 0 */
	uint64_t hists, hist_bytes; /* of HIST */
};
struct late_part {
	int64_t t0_ms;
	struct late_meta m;
};
struct late_parts {
	size_t n, cap;
	struct late_part *v; /* ascending */
};
struct late {
	struct late_parts shown; /* as committed; under the lock of the series */
	struct late_parts now;   /* the writer's own: touched by the open transaction */
	size_t merged;           /* samples, by the open transaction */
	size_t budget;           /* of them, in the call under way; 0 = LATE_BUDGET */
	int64_t day;             /* where compaction goes on */
	uint32_t group;
};

/* Records of one group, from one transaction. */
struct records {
	uint32_t no;
	bool valid, dirty, was_hot;
	uint64_t txn_id;
	uint64_t mask;    /* packed together */
	uint64_t single;  /* with values of their own */
	uint64_t small;   /* of these, those that need none */
	uint64_t damaged; /* cannot be read (perhaps there were none) */
	int64_t first[GROUP_SERIES], last[GROUP_SERIES]; /* INT64_MIN: not known; INT64_MAX: hot */
	uint32_t at[GROUP_SERIES], len[GROUP_SERIES];    /* of the packed: into text */
	struct mno_buf text;
};

struct counters {
	uint64_t samples, block_bytes, next_id, series;
	int64_t first_ms;
};

/* --- recent.c: fingerprints that are not stored yet --------------------------------------------- */
struct recent_fp {
	uint64_t fp;
	uint32_t id; /* 0: a free slot */
};
/* The writer's own, but for bytes. */
struct recent {
	struct recent_fp *slot; /* open addressing by fp */
	size_t n_slots, n, bytes;
	struct recent_fp *frozen; /* sorted: being stored; [0, done) are */
	size_t n_frozen, done, done_committed;
	struct recent_fp *gone; /* forgotten by the open transaction */
	size_t n_gone, cap_gone;
	uint32_t from,
		from_committed; /* those of lower ids are stored; 0: none was kept back yet */
	uint32_t next_from;
};

/* tail.c: a row as it is put together. */
struct tail_row {
	struct mno_buf heads, numbers;
	uint32_t last; /* group */
};

struct mno_series {
	struct mno_store *env;
	/* Written by the writer thread under wrlock, read by others under rdlock. */
	pthread_rwlock_t lock;
	struct symtab syms;
	struct mno_map *by_fp; /* fingerprint -> struct hot chain */
	size_t n_hot;
	struct sparse groups; /* struct group by number: those of the head */
	struct head *head;
	struct head *pending[PENDING_MAX]; /* sealed by the open transaction, oldest first */
	size_t n_pending;
	size_t hot_bytes, head_bytes;
	struct counters now, committed; /* the writer's own, but for now.series */
	struct shown {
		struct counters c;
		size_t head_bytes;
	} shown;                                 /* as of the last row, commit or abort */
	uint64_t damaged_blocks;                 /* met by reads since open; atomic */
	uint64_t damaged_records, damaged_lists; /* of the dictionary; the same */
	uint64_t refused;                        /* series, since open; atomic */
	size_t index_max;                        /* bytes of labels in memory */
	uint64_t indexed;                        /* index_state.next as of the last step; atomic */
	bool index_bad;                          /* the label index is to be made anew; atomic */
	/* The writer's own. */
	size_t n_committed; /* rows of the oldest head that are committed */
	struct hot *dirty, *inflight;
	struct records edit;
	uint64_t early_fp[EARLY_IDS]; /* fingerprints of the first ids: in no database */
	struct recent recent;
	bool tail_trim; /* rows behind a damaged one must go before the next is added */
	void *free_chunks;
	size_t n_free_chunks;
	struct mno_buf raw, key;
	struct tail_row row;
	int64_t part_t0,
		part_t0_committed;   /* first tick of the windows that wait; INT64_MIN: none */
	bool old_part;               /* some were in main at the start */
	struct rollup_state *rollup; /* NULL: no memory for it */
	ZSTD_DCtx *z;
	ZSTD_DCtx *spare_z;    /* of readers; atomic */
	struct records *spare; /* the group that a reader looked at last; atomic */
	struct late late;
};

/* rollup.c: what is being made; rollback forgets the step under way. */
int rollup_open(struct mno_series *s);
void rollup_free(struct mno_series *s);
void rollup_rollback(struct mno_series *s);
/* mno_rollup_mark() for samples of one group in order of time. */
int rollup_mark_all(
	struct mno_series *s, struct mno_txn *txn, const struct mno_sample *v, size_t n);

struct sym *sym_get(struct symtab *t, const char *text); /* a new reference; NULL: no memory */
struct sym *sym_find(const struct symtab *t, const char *text);
void sym_put(struct symtab *t, struct sym *s);

/* Puts a series into the head's index. Takes the write lock itself. */
int hot_add(struct mno_series *s, uint32_t id, uint64_t fp, const struct key_labels *k,
	struct hot **ret);
void hot_remove(struct mno_series *s, struct hot *h); /* caller holds the write lock */
static inline struct group *group_at(const struct mno_series *s, uint32_t no)
{
	return sparse_get(&s->groups, no);
}
struct hot *hot_by_id(const struct mno_series *s, uint32_t id);
struct hot *hot_by_key(const struct mno_series *s, uint64_t fp, const struct key_labels *k);
void hot_key(const struct hot *h, struct mno_buf *out);
void hot_free_all(struct mno_series *s);

/* --- record.c: the records of a group --------------------------------------------------------- */
struct record {
	int64_t first_ms, last_ms; /* samples are in between; INT64_MAX: it is in the head */
	const char *key;
	size_t len;
};
int records_load(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, uint32_t no, struct records *g);
void records_done(struct records *g);
static inline uint64_t records_all(const struct records *g)
{
	return g->mask | g->single;
}
uint64_t records_hot(const struct records *g);
/* One record; its key is in @g or in @raw. -ENOENT, -MNO_ECORRUPT. @t: that of the load. */
int records_key(struct mno_series *s, MDB_txn *t, ZSTD_DCtx *z, const struct records *g,
	unsigned col, struct mno_buf *raw, struct record *ret);
/* The first group at or after *@no that has records. -ENOENT. */
int records_next(struct mno_series *s, MDB_txn *t, uint32_t *no);
/* The writer's view of a group: changes are kept until another group is asked for, or until
 * records_sync(), which has to come before the commit and before reading in another way. */
int records_edit(struct mno_series *s, struct mno_txn *txn, uint32_t no, struct records **ret);
int records_sync(struct mno_series *s, struct mno_txn *txn);
int records_set(struct mno_txn *txn, struct records *g, unsigned col, int64_t first, int64_t last,
	const char *key, size_t len);
int records_del(struct mno_txn *txn, struct records *g, unsigned col);

/* A series that is written, new or again: found by recent_next() or stored. -ENOMEM never. */
int recent_add(struct mno_series *s, struct mno_txn *txn, uint64_t fp, uint32_t id);
/* Ids with this fingerprint: start with *@at = 0; false at the end. They may be forgotten ones. */
bool recent_next(const struct recent *q, uint64_t fp, size_t *at, uint32_t *ret_id);
/* Stores a slice if enough of them wait; @made: how many the transaction added. */
int recent_store(struct mno_series *s, struct mno_txn *txn, size_t made);
/* A series that goes; what is stored of it is the caller's to delete. -ENOMEM. */
int recent_forget(struct mno_series *s, uint64_t fp, uint32_t id);
void recent_committed(struct mno_series *s);
void recent_rollback(struct mno_series *s);
void recent_free(struct mno_series *s);
/* At the start: ids from *@ret on are to be handed to recent_load(); 0: none. */
int recent_from(struct mno_series *s, uint32_t *ret);
int recent_load(struct mno_series *s, uint64_t fp, uint32_t id);

/* --- dict.c: the stored dictionary ------------------------------------------------------------- */
uint64_t dict_fingerprint(const struct mno_series *s, const char *key, size_t len);
/* Says that records are damaged, once, and counts them. Any thread. */
void dict_damaged(struct mno_series *s, uint32_t first, uint32_t last);
/* Makes a series found by windows from @t_ms on: for samples older than its first. Writer thread. */
int dict_widen(struct mno_series *s, struct mno_txn *txn, uint32_t id, int64_t t_ms);
/* Brings a stored series back into the head. -ENOENT. @txn may be NULL: reads by itself. */
int dict_heat(struct mno_series *s, struct mno_txn *txn, uint32_t id, struct hot **ret);
void dict_mark_dirty(struct mno_series *s, struct hot *h);
int dict_flush(struct mno_series *s, struct mno_txn *txn);
int dict_cool(struct mno_series *s, struct mno_txn *txn, struct hot *h, int64_t last_ms);
int dict_load(struct mno_series *s);
/* Adds its figures. Caller holds the lock. */
void dict_stat(const struct mno_series *s, struct mno_series_stat *ret);
/* Forgets stored series last seen before @t_ms; at most @max steps. */
int dict_expire(
	struct mno_series *s, struct mno_txn *txn, int64_t t_ms, size_t max, bool *ret_more);
int counters_save(struct mno_series *s, struct mno_txn *txn);
int counters_load(struct mno_series *s);

/* --- select.c, cold.c ------------------------------------------------------------------------ */
struct select {
	const struct mno_matcher *m;
	size_t n, limit;
	int64_t t0, t1;
	bool windowed;
};
int ids_add(struct mno_ids *ids, uint32_t id, size_t limit); /* -MNO_ELIMIT, -ENOMEM */
/* Adds series that are not in @hot, the set of those in the head. */
int select_cold(struct mno_series *s, const struct select *q, const struct id_set *hot,
	struct mno_ids *ids);
/* Adds those among them that the label index does not have yet. */
int select_unindexed(struct mno_series *s, const struct id_set *hot, struct mno_ids *ids);

/* --- head.c, seal.c, tail.c -------------------------------------------------------------------- */
/* Makes the figures of now visible to other threads. Caller holds the write lock. */
void head_show(struct mno_series *s);
int head_new(struct mno_series *s, struct head **ret);
void head_free(struct mno_series *s, struct head *h);
/* New rows of a group in @h. Caller holds the write lock, or has @h alone. NULL: no memory. */
struct rows *rows_make(struct mno_series *s, struct head *h, uint32_t group);
/* Rows of a group, made on first use. Takes the write lock to do so. NULL: no memory. */
struct rows *head_rows(struct mno_series *s, uint32_t group);
/* Room for row number @r of the group's values. -ENOMEM. */
int rows_reserve(struct mno_series *s, struct rows *rw, size_t r);
static inline double *rows_at(const struct rows *rw, size_t r)
{
	return rw->chunk[r / CHUNK_ROWS][r % CHUNK_ROWS];
}
/* Values of the row before @r (r may be 0); some row nobody looks at if nothing was alive in it. */
static inline const double *rows_before(const struct rows *rw, size_t r)
{
	return r == 0 || !rw->chunk[(r - 1) / CHUNK_ROWS] ? rw->base : rows_at(rw, r - 1);
}
void rows_free(struct mno_series *s, struct rows *rw);
/* Which columns of row @r (0-based) carry a value that is no staleness mark. */
uint64_t rows_alive_at(const struct rows *rw, size_t r);
/* Samples in all rows: no counter that is stored has them. */
uint64_t head_samples(const struct head *h);

/* Once in a while: puts series away that had no sample for long before @t_ms. */
int head_cool(struct mno_series *s, struct mno_txn *txn, int64_t t_ms);
int head_seal(struct mno_series *s, struct mno_txn *txn, bool day_ends);
/* The day (UTC) of a time: no block spans two. */
static inline int64_t day_of(int64_t t_ms)
{
	return t_ms / MS_PER_DAY - (t_ms % MS_PER_DAY < 0);
}

/* --- merge.c: windows to blocks ---------------------------------------------------------------- */
#define BLOCK_KEY 12 /* first tick u64 | first group u32 */
static inline void block_key(uint8_t key[BLOCK_KEY], int64_t t0, uint32_t group)
{
	mno_be64(key, mno_time_key(t0));
	mno_be32(key + 8, group);
}
static inline int64_t block_key_time(const void *key)
{
	return mno_time_unkey(mno_get_be64(key));
}
static inline uint32_t block_key_group(const void *key)
{
	return mno_get_be32((const uint8_t *)key + 8);
}
/*
 * Puts @h (NULL: none) as a window of its own beside the others of its day in WINDOW; when there
 * are five, or @all, they become blocks. Memory: one block of each window, and one being made.
 */
int merge_windows(struct mno_series *s, struct mno_txn *txn, const struct head *h, bool all);
/* Sets s->part_t0 from what is committed; the head is there. */
int merge_load(struct mno_series *s);
/* stale.c: takes out of a partition what it has of @t_ms and later: rows that main did not get to
 * commit as sealed, and that come again, perhaps cut otherwise. */
int stale_drop(struct mno_series *s, struct mno_txn *part, int64_t t_ms);
/* A cursor's step among the blocks of a database. -ENOENT, -MNO_ECORRUPT: not a block's key. */
int block_seek(struct mno_txn *txn, enum mno_db db, enum mno_seek dir, const uint8_t *from,
	MDB_val *k, MDB_val *v);

/* Makes sure that a series given by its id may be added to: brings it back into the head. */
int series_admit(struct mno_series *s, struct mno_txn *txn, uint32_t id);
/* As mno_series_read(), of what came in rows only. */
int series_read_rows(struct mno_series *s, const uint32_t *ids, size_t n, int64_t t0, int64_t t1,
	int (*fn)(void *arg, const struct mno_column *c), void *arg);

int tail_put(struct mno_series *s, struct mno_txn *txn, size_t r, int64_t t_ms);
int tail_restart(struct mno_series *s, struct mno_txn *txn, const struct head *h);
/* Takes away the slots behind the head's rows. */
int tail_clear(struct mno_series *s, struct mno_txn *txn);
int tail_trim(struct mno_series *s, struct mno_txn *txn);
int tail_replay(struct mno_series *s);
