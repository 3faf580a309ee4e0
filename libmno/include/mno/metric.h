/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what is measured now: families, their series, the value of each. Sources add a
 * series once, then set a number per tick. From it come /metrics and the row that is stored.
 * One writer (the tick thread) sets; any thread may render; the table locks by itself.
 */
#pragma once

#include "mno/buf.h"

enum mno_metric_type { MNO_COUNTER, MNO_GAUGE, MNO_HISTOGRAM, MNO_UNTYPED };

/* Static data of a source. Names follow Prometheus' rules; base units (seconds, bytes). */
struct mno_family {
	const char *name;
	const char *help;
	enum mno_metric_type type;
};

struct mno_label {
	const char *name, *value;
};

#define MNO_LABELS_MAX      16   /* per series */
#define MNO_LABEL_VALUE_MAX 1024 /* bytes; longer ones are cut */

struct mno_metrics;

/* Table of at most @max_series. -ENOMEM. */
int mno_metrics_new(size_t max_series, struct mno_metrics **ret);
struct mno_metrics *mno_metrics_free(struct mno_metrics *m);
MNO_DEFINE_CLEANUP(struct mno_metrics *, mno_metrics_free)

/*
 * Adds a series and gives its slot; the same family and labels give the same slot. @f must be
 * static; labels are copied (any order, invalid UTF-8 replaced). For MNO_HISTOGRAM families,
 * @suffix is "_bucket", "_sum" or "_count", else NULL.
 * -ENOSPC at max_series (counted, see mno_metrics_refused), -EINVAL on a bad name, -ENOMEM.
 */
int mno_metrics_add(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *labels, size_t n, uint32_t *ret_slot);
/* Takes the series out (its cgroup, disk, ... is gone); the slot may be given to another. */
void mno_metrics_remove(struct mno_metrics *m, uint32_t slot);
/* The value in this tick. A series not set in a tick is absent in it. Tick thread only. */
void mno_metrics_set(struct mno_metrics *m, uint32_t slot, double value);
/* Adds n to the last value: for counters that a source accumulates by itself. */
double mno_metrics_value(const struct mno_metrics *m, uint32_t slot);

/*
 * Ends the tick: calls @fn for each series set in it. @key is the canonical label text
 * (see mno_series_key), valid until the series is removed. @gen changes when a slot is reused,
 * so (slot, gen) is a handle that a store can cache its own id under.
 */
typedef void (*mno_metrics_fn)(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value);
void mno_metrics_tick(struct mno_metrics *m, mno_metrics_fn fn, void *arg);

/* Renders the Prometheus text format (0.0.4) of the last finished tick. Any thread. */
void mno_metrics_render(struct mno_metrics *m, struct mno_buf *out);
size_t mno_metrics_count(const struct mno_metrics *m);
size_t mno_metrics_slots(const struct mno_metrics *m); /* highest slot given + 1 */
uint64_t mno_metrics_refused(const struct mno_metrics *m);
size_t mno_metrics_bytes(const struct mno_metrics *m);
