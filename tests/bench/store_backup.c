/* SPDX-License-Identifier: Apache-2.0 */
/* backup: MB/s of a first backup, a second one without changes, of verifying and of restoring. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "../support/benchkit.h"
#include "../support/tmpstate.h"
#include "mno/backup.h"
#include "mno/time.h"

#define ROWS   200
#define SERIES 50000

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void fill(struct bench_series *b)
{
	uint32_t *ids = bench_alloc(SERIES, sizeof(*ids));
	double *v = bench_alloc(SERIES, sizeof(*v));
	uint64_t seed = 9;
	char name[64];

	for (size_t i = 0; i < SERIES; i++) {
		size_t n = (size_t)snprintf(name, sizeof(name), "metric_%zu", i);

		if (!b->txn)
			bench_series_begin(b);
		bench_must("resolve", mno_series_resolve(b->s, b->txn, name, n, &ids[i]));
		if (i % 1000 == 999)
			bench_series_commit(b);
	}
	for (size_t i = 0; i < ROWS; i++) {
		for (size_t k = 0; k < SERIES; k++)
			v[k] = (double)rnd(&seed);
		bench_series_begin(b);
		bench_must("append",
			mno_series_append(b->s, b->txn, mno_now_ms() - 3600000 + (int64_t)i * 1000,
				ids, v, SERIES));
		bench_series_commit(b);
	}
	free(ids);
	free(v);
}

static void show(const char *what, double bytes, double cpu)
{
	printf("%-28s %8.0f MB in %6.2f s of CPU: %6.0f MB/s\n", what, bytes / 1e6, cpu,
		bytes / 1e6 / cpu);
}

int main(void)
{
	struct tmpstate tmp, dest, back;
	struct mno_backup_verdict v;
	struct mno_restore_opts ro = {.sz = sizeof(ro)};
	struct mno_backup_info info;
	struct bench_series b = {0};
	char path[128], key[96], state[96];
	double t;

	tmpstate_new(&tmp);
	tmpstate_new(&dest);
	tmpstate_new(&back);
	bench_series_open(&b, tmp.dir);
	fill(&b);
	t = cpu_s();
	bench_must("create", mno_backup_create(b.store, dest.dir, NULL, &info));
	show("backup, first", (double)info.bytes, cpu_s() - t);
	t = cpu_s();
	bench_must("again", mno_backup_create(b.store, dest.dir, NULL, &info));
	show("backup, nothing changed", (double)info.bytes, cpu_s() - t);
	snprintf(path, sizeof(path), "%s/%s", dest.dir, info.name);
	t = cpu_s();
	bench_must("verify", mno_backup_verify(path, NULL, NULL, &v));
	show("backup verify, hashes", (double)v.bytes, cpu_s() - t);
	snprintf(key, sizeof(key), "%s/keys/kek", tmp.dir);
	snprintf(state, sizeof(state), "%s/state", back.dir);
	ro.key = key;
	t = cpu_s();
	bench_must("restore", mno_backup_restore(path, state, &ro, &v));
	show("restore, every value opened", (double)v.bytes, cpu_s() - t);
	bench_must("damage", v.damaged ? -1 : 0);
	bench_series_close(&b);
	tmpstate_done(&tmp);
	tmpstate_done(&dest);
	tmpstate_done(&back);
	return 0;
}
