/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the metric table, shared by metric.c, key.c and render.c. */
#pragma once

#include <pthread.h>

#include "mno/map.h"
#include "mno/metric.h"

#define METRIC_NONE       UINT32_MAX
#define METRIC_SERIES_MAX (16u << 20)

struct metric_family {
	struct mno_family f; /* strings owned */
	size_t name_len;
	char *shown;         /* spelling in the text format; NULL = f.name */
	uint32_t head, tail; /* its series, in the order they were added */
};

struct metric_series {
	char *key; /* owned; NULL = free slot */
	struct metric_family *family;
	uint32_t key_len, gen;
	uint32_t next, prev; /* of the family; next is the free list's link in a free slot */
};

struct mno_metrics {
	pthread_mutex_t lock; /* all but value and stamp, which are the tick thread's */
	size_t max, n_slots, count, refused, key_bytes;
	uint32_t free_head;
	uint32_t tick; /* number of the open tick; stamp[slot] == tick: set in it */
	struct metric_series *series;
	double *value;
	uint32_t *stamp;
	double *shown;                   /* of the last finished tick */
	uint8_t *present;                /* shown[slot] is to be rendered */
	struct metric_family **families; /* by name */
	size_t n_families, cap_families;
	struct mno_map *by_key; /* key -> slot + 1 */
	struct mno_buf scratch;
};

/* Appends the canonical key to @out. -EINVAL, -E2BIG, -ENOMEM. */
int mno_metric_key(const struct mno_family *f, const char *suffix, const struct mno_label *labels,
	size_t n, struct mno_buf *out);
/* *@ret = malloc'ed spelling of a camelCase @name without the humps, NULL if it is none. -ENOMEM. */
int mno_metric_shown_name(const char *name, char **ret);
