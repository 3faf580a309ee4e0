/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what is measured now: families, their series, the value of each. Sources add a
 * series once, then set a number per tick. From it come /metrics and the row that is stored.
 * One writer (the tick thread) sets; any thread may render; the table locks by itself.
 */
#pragma once

#include "mno/buf.h"

enum mno_metric_type { MNO_COUNTER, MNO_GAUGE, MNO_HISTOGRAM, MNO_UNTYPED };

/*
 * What a family is called. Names follow Prometheus' rules; base units (seconds, bytes). Two
 * families of one name are one family: their types must agree, the first one's help is shown.
 * A camelCase name (kept where the ecosystem has one: node_memory_MemFree_bytes) is stored as
 * it is; mno_metrics_render() writes node_memory_Memfree_bytes, because linters refuse it.
 */
struct mno_family {
	const char *name;
	const char *help;
	enum mno_metric_type type;
};

struct mno_label {
	const char *name, *value;
};

#define MNO_LABELS_MAX      16   /* per series */
#define MNO_METRIC_NAME_MAX 200  /* bytes of a metric or label name */
#define MNO_LABEL_VALUE_MAX 1024 /* bytes; longer ones are cut at a character */

struct mno_metrics;

/* Table of at most @max_series (1..16 M; the memory is touched as slots are given). -EINVAL,
 * -ENOMEM. */
int mno_metrics_new(size_t max_series, struct mno_metrics **ret);
/* NULL-safe, returns NULL. No other call may run. */
struct mno_metrics *mno_metrics_free(struct mno_metrics *m);
MNO_DEFINE_CLEANUP(struct mno_metrics *, mno_metrics_free)

/*
 * Adds a series and gives its slot; the same family and labels give the same slot. @f and the
 * labels are copied (labels in any order, invalid UTF-8 replaced, a label with an empty value is
 * the same as none). For MNO_HISTOGRAM families, @suffix is "_bucket" (with a
 * label "le"), "_sum" or "_count", else NULL. Any thread.
 * -ENOSPC at max_series (counted, see mno_metrics_refused), -EINVAL on a bad or repeated label,
 * a bad name, a type that differs from the family's, or a name that another family makes;
 * -E2BIG over MNO_LABELS_MAX, -ENOMEM.
 */
int mno_metrics_add(struct mno_metrics *m, const struct mno_family *f, const char *suffix,
	const struct mno_label *labels, size_t n, uint32_t *ret_slot);
/* Takes the series out (its cgroup, disk, ... is gone); the slot may be given to another. Unknown
 * slots are ignored. Tick thread. */
void mno_metrics_remove(struct mno_metrics *m, uint32_t slot);
/* The value in this tick; the last set counts. A series not set in a tick is absent in it.
 * Slots out of range are ignored. Tick thread only. */
void mno_metrics_set(struct mno_metrics *m, uint32_t slot, double value);
/* The value set last, in whichever tick; 0 if none was. Tick thread only. */
double mno_metrics_value(const struct mno_metrics *m, uint32_t slot);
/* Slot of the series with this canonical key; -ENOENT. Any thread. */
int mno_metrics_find(struct mno_metrics *m, const char *key, size_t len, uint32_t *ret_slot);

/*
 * Ends the tick: calls @fn (may be NULL) for each series set in it, slots ascending. @fn must not
 * call back into @m. Tick thread. @key is the canonical label text
 * (see mno_series_key), valid until the series is removed. @gen changes when a slot is reused,
 * so (slot, gen) is a handle that a store can cache its own id under.
 */
typedef void (*mno_metrics_fn)(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t key_len, double value);
void mno_metrics_tick(struct mno_metrics *m, mno_metrics_fn fn, void *arg);

/*
 * Appends the Prometheus text format (0.0.4) of the last finished tick: families by name, HELP
 * and TYPE once each, valid UTF-8. A tick that ends meanwhile waits for it. Any thread.
 */
void mno_metrics_render(struct mno_metrics *m, struct mno_buf *out);
/* Series in the table. Any thread, as all below. */
size_t mno_metrics_count(const struct mno_metrics *m);
size_t mno_metrics_slots(const struct mno_metrics *m);     /* highest slot given + 1 */
uint64_t mno_metrics_refused(const struct mno_metrics *m); /* adds refused for want of room */
size_t mno_metrics_bytes(const struct mno_metrics *m);     /* touched memory, keys included */
