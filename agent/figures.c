/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include "agent.h"
#include "figures.h"
#include "mno/rollup.h"
#include "mno/store_parts.h"

/* A figure is a number at an offset of one of the statistics structs. */
struct figure {
	struct mno_family f;
	size_t off;
	double scale; /* 0 = 1 */
};
#define COUNTER(name, help, st, m)                                                                 \
	{                                                                                          \
		{name, help, MNO_COUNTER}, offsetof(struct st, m), 0                               \
	}
#define GAUGE(name, help, st, m)                                                                   \
	{                                                                                          \
		{name, help, MNO_GAUGE}, offsetof(struct st, m), 0                                 \
	}

static const struct figure writer_figures[] = {
	COUNTER("mno_store_commits_total", "Commits that became durable.", mno_writer_stat,
		commits),
	COUNTER("mno_store_commit_errors_total", "Commits that failed.", mno_writer_stat,
		commit_errors),
	COUNTER("mno_store_rows_lost_total", "Rows of samples that could not be stored.",
		mno_writer_stat, rows_lost),
	COUNTER("mno_store_events_lost_total", "Records that could not be stored.", mno_writer_stat,
		events_lost),
	COUNTER("mno_store_merges_total", "Steps of merging late samples in the background.",
		mno_writer_stat, merges),
	GAUGE("mno_store_queue_items", "Rows, rounds of records and jobs that wait for a commit.",
		mno_writer_stat, queued),
	GAUGE("mno_store_queue_bytes", "Records that wait for a commit.", mno_writer_stat,
		queued_bytes),
	COUNTER("mno_store_processes_total", "Ended processes stored.", mno_writer_stat,
		procs_stored),
};

static const struct figure env_figures[] = {
	GAUGE("mno_store_file_bytes", "Size of the store on disk.", mno_store_stat, file_bytes),
	GAUGE("mno_store_used_bytes", "Bytes of the store in use.", mno_store_stat, used_bytes),
	GAUGE("mno_store_map_bytes", "Address space of the store.", mno_store_stat, map_bytes),
	GAUGE("mno_store_environments", "Databases of the store.", mno_store_stat, environments),
	GAUGE("mno_store_entries", "Entries in all databases.", mno_store_stat, entries),
	COUNTER("mno_store_slow_readers_total", "Read transactions of over 100 ms.", mno_store_stat,
		slow_readers),
	COUNTER("mno_store_dropped_partitions_total", "Partitions deleted for want of room.",
		mno_store_stat, dropped_partitions),
	{{"mno_store_oldest_reader_seconds", "Age of the oldest read transaction.", MNO_GAUGE},
		offsetof(struct mno_store_stat, oldest_reader_ns), 1e-9},
	{{"mno_store_last_sync_seconds", "How long the last commit took.", MNO_GAUGE},
		offsetof(struct mno_store_stat, last_sync_ns), 1e-9},
};

static const struct figure health_figures[] = {
	COUNTER("mno_store_damaged_total", "Stored values that failed their check when read.",
		mno_store_health, damaged),
	COUNTER("mno_store_mended_total", "Flipped bits found and put right.", mno_store_health,
		mended),
	COUNTER("mno_store_quarantined_total", "Damaged values that were put aside.",
		mno_store_health, quarantined),
	COUNTER("mno_store_rebuilt_total", "Damaged values that were made again from others.",
		mno_store_health, rebuilt),
	COUNTER("mno_store_set_aside_total", "Partitions that could not be opened.",
		mno_store_health, set_aside),
};

static const struct figure scrub_figures[] = {
	COUNTER("mno_store_scrub_passes_total", "Times that everything stored was looked at.",
		mno_scrub_stat, passes),
	GAUGE("mno_store_scrub_damaged", "Damaged values found by the last pass.", mno_scrub_stat,
		damaged),
	GAUGE("mno_store_scrub_age_seconds", "Time since the last pass ended, 0 if none did.",
		mno_scrub_stat, age_s),
};

static const struct figure backup_figures[] = {
	COUNTER("mno_backups_total", "Backups made.", mno_backups_stat, done),
	COUNTER("mno_backup_failures_total", "Backups that failed.", mno_backups_stat, failed),
	GAUGE("mno_backup_last_bytes", "New bytes of the last backup.", mno_backups_stat,
		last_bytes),
	GAUGE("mno_backup_age_seconds", "Time since the last backup, 0 if none was made.",
		mno_backups_stat, age_s),
};

static const struct figure series_figures[] = {
	GAUGE("mno_store_series", "Series in the dictionary.", mno_series_stat, series),
	GAUGE("mno_store_memory_bytes", "Memory of head and dictionary.", mno_series_stat,
		memory_bytes),
	GAUGE("mno_store_index_bytes", "Memory of labels of series in the head.", mno_series_stat,
		index_bytes),
	GAUGE("mno_store_index_lag", "Series that wait to be in the stored label index.",
		mno_series_stat, index_lag),
	GAUGE("mno_store_series_ids_left", "New series until ids end.", mno_series_stat, ids_left),
	COUNTER("mno_store_series_refused_total",
		"Series refused: no id left, or labels in memory at their bound.", mno_series_stat,
		refused),
	COUNTER("mno_store_damaged_records_total", "Damaged records of the dictionary met.",
		mno_series_stat, damaged_records),
	COUNTER("mno_store_damaged_lists_total", "Damaged lists of the label index met.",
		mno_series_stat, damaged_lists),
	GAUGE("mno_store_late_samples", "Samples that did not come in order.", mno_series_stat,
		late_samples),
	GAUGE("mno_store_histograms", "Native histograms stored.", mno_series_stat, histograms),
	COUNTER("mno_store_samples_total", "Samples stored.", mno_series_stat, samples),
};

static const struct figure group_figures[] = {
	COUNTER("mno_store_doc_commits_total", "Commits of documents.", mno_docs_groups, groups),
	COUNTER("mno_store_doc_commit_errors_total", "Commits of documents that failed.",
		mno_docs_groups, failed),
	COUNTER("mno_store_doc_transactions_total", "Transactions in these commits.",
		mno_docs_groups, requests),
	GAUGE("mno_store_doc_largest_group", "Most transactions in one commit.", mno_docs_groups,
		largest),
	GAUGE("mno_store_doc_waiting", "Transactions of documents that wait.", mno_docs_groups,
		waiting),
	{{"mno_store_doc_longest_commit_seconds", "Longest commit of documents.", MNO_GAUGE},
		offsetof(struct mno_docs_groups, longest_ns), 1e-9},
};

static const struct figure rollup_figures[] = {
	COUNTER("mno_store_rollup_points_total", "Points of rollups made.", mno_rollup_stat,
		points),
	COUNTER("mno_store_rollup_bytes_total", "Bytes that they took.", mno_rollup_stat, bytes),
	COUNTER("mno_store_rollup_remade_total", "Windows made again for late samples.",
		mno_rollup_stat, remade),
};

static const struct figure probe_figures[] = {
	COUNTER("mno_probe_seen_total", "Records the probe had to tell.", mno_probe_status, seen),
	COUNTER("mno_probe_stored_total", "Records stored.", mno_probe_status, stored),
	COUNTER("mno_probe_sampled_total", "Records left out within the probe's budget.",
		mno_probe_status, sampled),
	COUNTER("mno_probe_dropped_total", "Records lost.", mno_probe_status, dropped),
	GAUGE("mno_probe_missed", "Program runs that the kernel skipped, as last looked at.",
		mno_probe_status, missed),
	GAUGE("mno_probe_bpf_bytes", "Kernel memory of the probe.", mno_probe_status, bpf_bytes),
	{{"mno_probe_run_seconds", "Run time per program run, as last measured.", MNO_GAUGE},
		offsetof(struct mno_probe_status, cost_ns_per_event), 1e-9},
};

static const struct figure ledger_figures[] = {
	GAUGE("mno_ledger_live", "Running processes known.", mno_ledger_stat, live),
	COUNTER("mno_ledger_lost_rows_total", "Ended processes lost before they were stored.",
		mno_ledger_stat, lost_rows),
};

static void put(const struct figure *f, size_t n, const void *st, const char *label,
	const char *value, mno_self_emit_fn emit, void *arg)
{
	for (size_t i = 0; i < n; i++)
		emit(arg, &f[i].f, label, value,
			(double)*(const uint64_t *)((const char *)st + f[i].off) *
				(f[i].scale ?: 1));
}

static void put_rollups(struct mno_agent *a, mno_self_emit_fn emit, void *arg)
{
	struct mno_rollup_stat s;

	for (unsigned t = 0; t < MNO_TIER_MAX; t++) {
		mno_rollup_stat(a->series, t, &s);
		put(rollup_figures, ARRAY_SIZE(rollup_figures), &s, "tier", mno_tier_name(t), emit,
			arg);
	}
}

void mno_figures(void *agent, mno_self_emit_fn emit, void *arg)
{
	struct mno_agent *a = agent;
	struct mno_writer_stat w;
	struct mno_store_stat e;
	struct mno_store_health h;
	struct mno_scrub_stat c;
	struct mno_backups_stat b;
	int error;
	struct mno_series_stat s;
	struct mno_docs_groups g;
	struct mno_ledger_stat l;
	struct mno_probe_status p;

	mno_writer_stat(a->writer, &w);
	put(writer_figures, ARRAY_SIZE(writer_figures), &w, NULL, NULL, emit, arg);
	if (mno_store_stat(a->env, &e) == 0)
		put(env_figures, ARRAY_SIZE(env_figures), &e, NULL, NULL, emit, arg);
	mno_store_health(a->env, &h);
	put(health_figures, ARRAY_SIZE(health_figures), &h, NULL, NULL, emit, arg);
	if (a->scrub) {
		mno_scrub_stat(a->scrub, &c);
		put(scrub_figures, ARRAY_SIZE(scrub_figures), &c, NULL, NULL, emit, arg);
	}
	if (a->backups) {
		mno_backups_stat(a->backups, &b, &error);
		put(backup_figures, ARRAY_SIZE(backup_figures), &b, NULL, NULL, emit, arg);
	}
	mno_series_stat(a->series, &s);
	put(series_figures, ARRAY_SIZE(series_figures), &s, NULL, NULL, emit, arg);
	put_rollups(a, emit, arg);
	if (a->docs) {
		mno_docs_groups(a->docs, &g);
		put(group_figures, ARRAY_SIZE(group_figures), &g, NULL, NULL, emit, arg);
	}
	mno_ledger_stat(a->ledger, &l);
	put(ledger_figures, ARRAY_SIZE(ledger_figures), &l, NULL, NULL, emit, arg);
	for (size_t i = 0; a->probes && mno_probes_status(a->probes, i, &p); i++)
		put(probe_figures, ARRAY_SIZE(probe_figures), &p, "probe", p.probe->name, emit,
			arg);
}
