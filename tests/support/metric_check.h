/* SPDX-License-Identifier: Apache-2.0 */
/* What a table of metrics says after a tick. Include after cmocka.h. */
#pragma once

#include <math.h>
#include <string.h>
#include "mno/metric.h"

struct metric_seen {
	const char *key;
	double value;
	bool found;
};

static inline void metric_see(
	void *arg, uint32_t slot, uint32_t gen, const char *key, size_t len, double value)
{
	struct metric_seen *s = arg;

	if (strlen(s->key) != len || memcmp(s->key, key, len))
		return;
	s->found = true;
	s->value = value;
}

/* Ends the tick; the value of the series @key in it, NAN when it is absent. */
static inline double metric_tick(struct mno_metrics *m, const char *key)
{
	struct metric_seen s = {.key = key};

	mno_metrics_tick(m, metric_see, &s);
	return s.found ? s.value : NAN;
}

/* The value of the series @key before the tick ends (also of an earlier one); NAN without it. */
static inline double metric_value(struct mno_metrics *m, const char *key)
{
	uint32_t slot;

	return mno_metrics_find(m, key, strlen(key), &slot) ? NAN : mno_metrics_value(m, slot);
}

static inline void metric_want(struct mno_metrics *m, const char *key, double want)
{
	double v = metric_value(m, key);

	if (fabs(v - want) <= 1e-9 * fabs(want))
		return;
	print_error("%s is %.17g, not %.17g\n", key, v, want);
	fail();
}
#define assert_metric(m, key, want) metric_want(m, key, want)
#define assert_no_metric(m, key)    assert_true(isnan(metric_value(m, key)))
