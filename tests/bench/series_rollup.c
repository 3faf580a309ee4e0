/* SPDX-License-Identifier: Apache-2.0 */
/* Rollups of the recorded host: what a point takes on disk in each tier, and what it costs to make
 * them. Once through only: a recording that repeats itself would pack too well. */
#include <errno.h>
#include <time.h>

#include "hostdata.h"
#include "mno/err.h"
#include "mno/rollup.h"
#include "mno/time.h"
#include "workdir.h"

#define LATER_MS (5 * 3600000LL) /* a window of each tier but the last is over */

static void need(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "series_rollup: %s: %s\n", what, mno_strerror(r));
	exit(1);
}

static void roll(struct mno_store *store, struct mno_series *s)
{
	bool more = true;

	while (more) {
		struct mno_txn *t;

		need(mno_store_begin(store, &t), "begin");
		need(mno_rollup_run(s, t, &more), "rollup");
		need(mno_store_commit(store, t), "commit");
		mno_series_committed(s);
	}
}

static void fill(struct hostdata *h, struct mno_store *store, struct mno_series *s)
{
	uint32_t *ids = calloc(h->n_series, sizeof(*ids)), *row = calloc(h->n_series, sizeof(*row));
	double *v = calloc(h->n_series, sizeof(*v));
	size_t ticks = h->n_ticks + 1;
	struct mno_txn *t;

	need(mno_store_begin(store, &t), "begin");
	for (size_t i = 0; i < h->n_series; i++)
		need(mno_series_resolve(s, t, h->keys[i], strlen(h->keys[i]), &ids[i]), "resolve");
	for (size_t tick = 0; tick < ticks; tick++) {
		size_t n = hostdata_row(h, tick, ids, row, v);

		need(mno_series_append(s, t,
			     hostdata_time(h, tick) + (tick == h->n_ticks ? LATER_MS : 0), row, v,
			     n),
			"append");
		if (tick % 256 == 255) {
			need(mno_store_commit(store, t), "commit");
			mno_series_committed(s);
			need(mno_store_begin(store, &t), "begin");
		}
	}
	need(mno_store_commit(store, t), "commit");
	mno_series_committed(s);
	free(ids);
	free(row);
	free(v);
}

int main(void)
{
	struct mno_series_stat st;
	struct mno_store *store;
	struct mno_series *s;
	struct hostdata h;
	struct workdir w;
	uint64_t cpu;

	hostdata_need(&h);
	workdir_new(&w, "rollup");
	need(mno_store_open(w.path, NULL, &store), "open");
	need(mno_series_open(store, &s), "series");
	fill(&h, store, s);
	cpu = mno_now_ns(CLOCK_PROCESS_CPUTIME_ID);
	roll(store, s);
	cpu = mno_now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	mno_series_stat(s, &st);
	for (unsigned i = 0; i < MNO_TIER_MAX; i++) {
		struct mno_rollup_stat rs;

		mno_rollup_stat(s, i, &rs);
		if (rs.points)
			printf("bench rollup-%s %.2f B\n", mno_tier_name(i),
				(double)rs.bytes / (double)rs.points);
	}
	printf("bench rollup-make %.2f ns\n", (double)cpu / (double)st.samples);
	printf("# a point of count, sum, min, max, first, last, resets; made from %.0f M samples\n",
		(double)st.samples / 1e6);
	mno_series_close(s);
	mno_store_close(store);
	workdir_done(&w);
	hostdata_done(&h);
	return 0;
}
