/* SPDX-License-Identifier: Apache-2.0 */
/* /mno/v1/status and /mno/v1/doctor. */
#include "api_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../doctor.h"
#include "mno/err.h"
#include "mno/rollup.h"
#include "mno/store_parts.h"
#include "mno/store_quarantine.h"
#include "mno/time.h"

/* Resident bytes, and those of them that are pages of files: the store, above all. */
static uint64_t own_rss(uint64_t *ret_files)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long size, resident = 0, files = 0;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (f && fscanf(f, "%llu %llu %llu", &size, &resident, &files) != 3)
		resident = files = 0;
	if (f)
		fclose(f);
	*ret_files = files * page;
	return resident * page;
}

static void put_probes(struct mno_req *q)
{
	struct mno_probe_status s;

	mno_json_key(&q->j, "probes");
	mno_json_arr(&q->j);
	for (size_t i = 0; q->agent->probes && mno_probes_status(q->agent->probes, i, &s); i++)
		api_put_probe(q, &s, false);
	mno_json_end_arr(&q->j);
}

static void put_cost(struct mno_req *q)
{
	struct mno_probe_status s = {};
	double own = api_cpu_percent(q->api);
	uint64_t files, rss = own_rss(&files);

	if (q->agent->probes)
		mno_probes_totals(q->agent->probes, &s);
	mno_json_key(&q->j, "memory");
	mno_json_obj(&q->j);
	mno_json_ku64(&q->j, "rss_bytes", rss);
	mno_json_ku64(&q->j, "file_bytes", files); /* part of it; the kernel may take them back */
	mno_json_ku64(&q->j, "bpf_bytes", s.bpf_bytes);
	mno_json_end(&q->j);
	/* of one core, kernel side included */
	mno_json_kf64(&q->j, "cpu_percent", own + s.cpu_percent);
	if (q->agent->probes)
		mno_json_kf64(&q->j, "cpu_budget_percent", mno_probes_budget(q->agent->probes));
}

static void put_store(struct mno_req *q)
{
	struct mno_agent *a = q->agent;
	struct mno_store_stat env = {};
	struct mno_series_stat se = {};
	struct mno_rollup_stat roll = {};
	struct mno_writer_stat w = {};
	struct mno_ledger_stat l = {};
	struct mno_json *j = &q->j;

	if (a->env)
		mno_store_stat(a->env, &env);
	if (a->series)
		mno_series_stat(a->series, &se);
	if (a->writer)
		mno_writer_stat(a->writer, &w);
	if (a->ledger)
		mno_ledger_stat(a->ledger, &l);
	mno_json_key(j, "store");
	mno_json_obj(j);
	mno_json_ku64(j, "bytes", env.file_bytes);
	mno_json_ku64(j, "used_bytes", env.used_bytes);
	mno_json_kbool(j, "encrypted", env.encrypted);
	if (a->series)
		mno_rollup_stat(a->series, MNO_TIER_10S, &roll);
	mno_json_ki64(j, "rollups_until_ms", MNO_MAX(roll.until_ms, (int64_t)0));
	mno_json_ku64(j, "samples", se.samples);
	mno_json_ku64(j, "series", se.series);
	mno_json_ku64(j, "processes", l.live + w.procs_stored);
	mno_json_ki64(j, "first_ms", se.first_ms);
	mno_json_ki64(j, "last_ms", se.last_ms);
	mno_json_ku64(j, "commits", w.commits);
	mno_json_ku64(j, "commit_errors", w.commit_errors);
	mno_json_ku64(j, "rows_lost", w.rows_lost);
	mno_json_ku64(j, "events_lost", w.events_lost);
	mno_json_ku64(j, "procs_lost", w.procs_lost + l.lost_rows);
	mno_json_key(j, "last_error");
	mno_json_str(j, w.last_error ? mno_strerror(w.last_error) : NULL);
	mno_json_end(j);
}

static void put_cgroups(struct mno_req *q)
{
	struct mno_cgroups_stat s = {};

	if (q->agent->cgroups)
		mno_cgroups_stat(q->agent->cgroups, &s);
	mno_json_key(&q->j, "cgroups");
	mno_json_obj(&q->j);
	mno_json_ku64(&q->j, "count", s.cgroups);
	mno_json_ku64(&q->j, "slots_used", s.slots_used);
	mno_json_ku64(&q->j, "folded", s.folded);
	mno_json_ku64(&q->j, "skipped", s.skipped);
	mno_json_end(&q->j);
}

static void put_finding(void *arg, const char *what, const char *why, const char *todo)
{
	struct mno_json *j = arg;

	mno_json_obj(j);
	mno_json_kstr(j, "what", what);
	mno_json_kstr(j, "why", why);
	mno_json_kstr(j, "todo", todo);
	mno_json_end(j);
}

/* Probes that are not what they should be. */
static void put_lame_probes(struct mno_req *q)
{
	struct mno_probe_status s;
	char what[128];

	for (size_t i = 0; q->agent->probes && mno_probes_status(q->agent->probes, i, &s); i++) {
		if (s.state != MNO_PROBE_DEGRADED && s.state != MNO_PROBE_FAILED &&
			s.state != MNO_PROBE_SHED)
			continue;
		snprintf(what, sizeof(what), "probe %s is %s", s.probe->name,
			mno_probe_state_name(s.state));
		put_finding(&q->j, what, s.reason, "mnoctl doctor shows what this host allows");
	}
}

/* What was found damaged since the start, and is neither dropped nor made again. */
static void put_damage(struct mno_req *q)
{
	struct mno_quarantine_stat st;
	struct mno_store_health h;
	char what[96];

	mno_quarantine_stat(q->agent->env, &st);
	mno_store_health(q->agent->env, &h);
	if (st.held) {
		snprintf(what, sizeof(what), "%llu stored values are damaged and in quarantine",
			(unsigned long long)st.held);
		put_finding(&q->j, what, "their check failed: disk or memory of this host",
			"mnoctl store quarantine shows what is lost");
	}
	if (h.set_aside)
		put_finding(&q->j, "a partition of the store was set aside",
			"its file is damaged and cannot be opened",
			"mnoctl store shows which; restore it from a backup, or delete it");
}

static void put_degraded(struct mno_req *q)
{
	struct mno_agent *a = q->agent;
	struct mno_writer_stat w = {};
	struct mno_backups_stat b;
	int backup_error = 0;

	mno_json_key(&q->j, "degraded");
	mno_json_arr(&q->j);
	if (a->backups)
		mno_backups_stat(a->backups, &b, &backup_error);
	if (backup_error)
		put_finding(&q->j, "the last backup failed", mno_strerror(backup_error),
			"mnoctl backup list, and the log of mnod");
	if (!a->doctor) /* it names them, too */
		put_lame_probes(q);
	if (!a->probes)
		put_finding(&q->j, "no BPF probes",
			"started with --no-bpf: only /proc and cgroup files are read",
			"start mnod without --no-bpf, as root");
	if (a->writer)
		mno_writer_stat(a->writer, &w);
	if (w.last_error)
		put_finding(&q->j, "nothing is stored at the moment", mno_strerror(w.last_error),
			w.last_error == -ENOSPC ? "free some disk space below the state directory"
						: "see the log of mnod");
	else if (w.clock_behind)
		put_finding(&q->j, "samples are stored as late ones at the moment",
			"the clock is before the last stored sample",
			"set the clock right if it is wrong; nothing is lost meanwhile");
	if (a->env)
		put_damage(q);
	if (a->doctor)
		mno_doctor_degraded(a->doctor, put_finding, &q->j);
	mno_json_end_arr(&q->j);
}

int api_status(struct mno_req *q)
{
	struct mno_agent *a = q->agent;
	struct mno_json *j = &q->j;

	mno_json_obj(j);
	mno_json_kstr(j, "version", MNO_VERSION);
	mno_json_kstr(j, "host", a->hostname);
	mno_json_kf64(j, "uptime_seconds",
		(double)(mno_now_ns(CLOCK_BOOTTIME) - a->start_ns) / (double)NS_PER_SEC);
	put_probes(q);
	api_put_completeness(q, NULL);
	put_cost(q);
	put_store(q);
	mno_json_kstr(j, "level", mno_doctor_level(a->doctor));
	put_cgroups(q);
	put_degraded(q);
	mno_json_end(j);
	return api_done(q);
}

int api_doctor(struct mno_req *q)
{
	struct mno_probe_status s;

	if (!q->agent->doctor)
		return api_problem(q, 503, "unavailable", "ask again in a second",
			"the host has not been examined yet");
	mno_json_obj(&q->j);
	mno_doctor_json(q->agent->doctor, &q->j);
	mno_json_key(&q->j, "probes");
	mno_json_arr(&q->j);
	for (size_t i = 0; q->agent->probes && mno_probes_status(q->agent->probes, i, &s); i++)
		api_put_probe(q, &s, true);
	mno_json_end_arr(&q->j);
	mno_json_end(&q->j);
	return api_done(q);
}
