/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source of metrics is: one file in agent/sources/ that defines
 * `const struct mno_source mno_source_<name>`, and one row in sources.def. All of a source runs
 * on the tick thread. What is common (files kept open, rows whose layout is remembered, the
 * accounting of series) is here and in source_util.c.
 */
#pragma once

#include "mno/metric.h"
#include "mno_cgroups.h"
#include "scan.h"

struct mno_slow;

/* Gives one figure of the agent itself; the label is optional (NULL). */
typedef void (*mno_self_emit_fn)(
	void *arg, const struct mno_family *f, const char *label, const char *value, double v);
/* Calls @emit for each figure. Tick thread. */
typedef void (*mno_self_fn)(void *self_arg, mno_self_emit_fn emit, void *emit_arg);

#define MNO_SOURCE_FILE_MAX (1u << 20) /* bytes of one file that are read; the rest is cut */

/* One per source, made by the runner; what is above the line does not change. */
struct mno_source_ctx {
	int proc_fd, cgroup_fd; /* directories; cgroup_fd is -1 without a v2 tree */
	struct mno_metrics *metrics;
	struct mno_cgroups *cgroups; /* NULL without a v2 tree */
	size_t (*list)(const struct mno_cgroups *c, const struct mno_cgroup **ret);
	struct mno_slow *slow;
	mno_self_fn self;
	void *self_arg;
	struct mno_buf *buf;   /* for file contents: valid until the next read of any source */
	struct mno_buf *owned; /* a byte per slot: given to a source */
	/* ---- */
	uint64_t now_ns;   /* CLOCK_BOOTTIME of this tick */
	size_t series;     /* the source's own, now */
	uint64_t cut;      /* reads that met MNO_SOURCE_FILE_MAX */
	uint64_t shadowed; /* series refused: full table, or the labels of another's */
	char reason[256];  /* set it to say what is missing; "" = all is well */
};

struct mno_source {
	const char *name, *summary;
	/* -errno and ctx->reason: the source is not available; tried again a minute later. */
	int (*open)(struct mno_source_ctx *c, void **ret_priv);
	/* Sets the values of this tick. -errno and ctx->reason: nothing could be read; the source
	 * stays open. */
	int (*tick)(void *priv, struct mno_source_ctx *c);
	/* NULL-safe. */
	void (*close)(void *priv);
};

/* All sources in the order of sources.def. */
#define SOURCE(name) extern const struct mno_source mno_source_##name;
#include "sources/sources.def"
#undef SOURCE

/* --- series ----------------------------------------------------------------------------------- */
#define MNO_SLOT_NONE    UINT32_MAX       /* not added yet */
#define MNO_SLOT_IGNORED (UINT32_MAX - 1) /* refused or not wanted: set() does nothing */

/* Adds a series: its slot, or MNO_SLOT_IGNORED when the table is full or the labels, made valid,
 * are those of a series that a source has already. */
uint32_t mno_source_add(struct mno_source_ctx *c, const struct mno_family *f,
	const struct mno_label *labels, size_t n);
/* Removes the series (if it is one); *@slot becomes MNO_SLOT_NONE. */
void mno_source_remove(struct mno_source_ctx *c, uint32_t *slot);
static inline void mno_source_set(struct mno_source_ctx *c, uint32_t slot, double v)
{
	mno_metrics_set(c->metrics, slot, v);
}
/* Sets; adds it first if that was not done. */
static inline void mno_source_put(struct mno_source_ctx *c, uint32_t *slot,
	const struct mno_family *f, const struct mno_label *labels, size_t n, double v)
{
	if (*slot == MNO_SLOT_NONE)
		*slot = mno_source_add(c, f, labels, n);
	mno_metrics_set(c->metrics, *slot, v);
}
/* ctx->reason, printf-like; invalid bytes are the caller's to avoid. */
void mno_source_reason(struct mno_source_ctx *c, const char *fmt, ...) _printf_(2, 3);

/* --- files ------------------------------------------------------------------------------------ */
/* Opens @path below @dirfd: the fd, or -errno with ctx->reason. */
int mno_source_open(struct mno_source_ctx *c, int dirfd, const char *path);
/* A zeroed private state of @size bytes whose first member is `int fd`, open on @path of proc. */
int mno_source_file_new(struct mno_source_ctx *c, const char *path, size_t size, void **ret_priv);
/* Closes and frees what mno_source_file_new() made; fits .close. NULL-safe. */
void mno_source_file_free(void *priv);
/*
 * Reads all of @fd from offset 0 into ctx->buf (at most MNO_SOURCE_FILE_MAX, then cut at a line
 * and counted) and points @ret at it. @whole: the file comes in one piece (single-record files of
 * proc, cgroup files), so no second read looks for its end. -errno of the read.
 */
int mno_source_read(struct mno_source_ctx *c, int fd, bool whole, struct mno_scan *ret);

/* A pressure file: total waiting ("some") and stalled ("full") time in seconds. */
struct mno_pressure {
	bool has_some, has_full;
	double some, full;
};
/* Reads @fd. -errno of the read, -EBADMSG when neither line is there. */
int mno_pressure_read(struct mno_source_ctx *c, int fd, struct mno_pressure *ret);

/* --- rows ------------------------------------------------------------------------------------- */
/*
 * Remembers which row of a file has which key, so that an unchanged file costs one memcmp() a
 * row: no search. Each row has @width slots. Bound: MNO_ROWS_MAX rows with keys of at most 255
 * bytes; others are ignored. Zero-initialise with .width.
 */
#define MNO_ROWS_MAX 1024
struct mno_rows {
	size_t width;
	size_t n, cap, pos;
	struct mno_row_slots {
		uint32_t key_len;
		uint32_t slot[]; /* width of them, then the key */
	} * *row;
};
/* Slots of the next row of this tick, which is called @key; NULL: leave the line out (a key that
 * was there already, too many rows, no memory). */
uint32_t *mno_rows_next(struct mno_rows *r, const char *key, size_t len);
/* Ends the tick: rows that did not come are dropped and their series removed. */
void mno_rows_end(struct mno_rows *r, struct mno_source_ctx *c);
/* Frees; the series stay in the table. */
void mno_rows_done(struct mno_rows *r);
