/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded host: some 1,269 series of a node exporter over 960 ticks of a second, as a table of
 * ticks by series. Source of all benchmarks that store series.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOSTDATA_FILE "../shared/data/host_metrics.csv.zst"

struct hostdata {
	char **keys; /* name{label="value",...} */
	size_t n_series, n_ticks, n_samples;
	int64_t *t_ms;   /* of each tick */
	double *v;       /* [tick * n_series + series]; hostdata_has() tells whether it is there */
	int64_t span_ms; /* from the first tick to the one after the last */
	char *text;
};

/* Reads @path (NULL: $BENCH_DATA, else HOSTDATA_FILE). 0, -ENOENT, -EINVAL, -ENOMEM. */
int hostdata_read(const char *path, struct hostdata *ret);
void hostdata_done(struct hostdata *h);
bool hostdata_has(double v);
/* Prints "skipped: ..." and ends with 77 when there is no data set, with 1 on other errors. */
void hostdata_need(struct hostdata *ret);

/*
 * Row of @tick: ids and values of all series there into @ret_ids and @ret_v (n_series each).
 * @ids: of each series. Returns how many. A tick beyond the last one begins again at the first:
 * time goes on by hostdata_time().
 */
size_t hostdata_row(const struct hostdata *h, size_t tick, const uint32_t *ids, uint32_t *ret_ids,
	double *ret_v);
/* Time of @tick, without end. */
int64_t hostdata_time(const struct hostdata *h, size_t tick);
/* Key of a series with labels host="h<copy>",sid="<series>" in front, as in a fleet of copies.
 * Caller frees; NULL: no memory. */
char *hostdata_key_of(const struct hostdata *h, size_t series, unsigned copy);
