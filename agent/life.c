/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "api.h"
#include "doctor.h"
#include "figures.h"
#include "life.h"
#include "migrate.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "privilege.h"
#include "router.h"
#include "slow.h"
#include "sources.h"
#include "tick.h"

#define STALLED_MS 30000

struct mno_life {
	struct mno_agent a;
	struct mno_config config;
	char cgroup_root[256];
	struct mno_broker *broker;
	struct mno_slow *slow;
	struct mno_sources *sources;
	struct mno_router *router;
	struct mno_drain *drain;
	struct mno_tick *tick;
	struct mno_tick_opts tick_opts;
	struct mno_reconcile reconcile;
	struct mno_api *api;
};

/* The v2 mount point; hybrid hosts have it below the v1 ones. */
static const char *find_cgroup_root(char *buf, size_t size)
{
	char line[1024], dir[256], type[32];
	const char *found = NULL;
	FILE *f = fopen("/proc/self/mounts", "re");

	if (!f)
		return NULL;
	while (!found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %255s %31s", dir, type) == 2 && !strcmp(type, "cgroup2")) {
			snprintf(buf, size, "%s", dir);
			found = buf;
		}
	fclose(f);
	return found;
}

static int make_dirs(const char *state, const char *socket_path)
{
	char dir[256], *slash;

	if (mkdir(state, 0700) < 0 && errno != EEXIST)
		return -errno;
	snprintf(dir, sizeof(dir), "%s", socket_path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	return mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int start_store(struct mno_life *l)
{
	struct mno_store_opts eo = {.sz = sizeof(eo)};
	struct mno_ledger_opts lo = {.sz = sizeof(lo), .boot_offset_ns = l->a.boot_offset_ns};
	struct mno_writer_opts wo = {.sz = sizeof(wo)};
	int r;

	eo.key_source = mno_config_key(l->config.store_key, &eo.key_name);
	r = mno_agent_migrate(&l->config, &eo);
	if (r == 0)
		r = mno_store_open(l->config.state, &eo, &l->a.env);
	if (r == 0)
		r = mno_series_open(l->a.env, &l->a.series);
	if (r == 0)
		r = mno_ledger_new(&lo, &l->a.ledger);
	if (r == 0)
		r = mno_hub_new(&l->a.hub);
	if (r < 0)
		return r;
	wo.env = l->a.env;
	wo.series = l->a.series;
	wo.ledger = l->a.ledger;
	wo.probes = l->a.probes;
	wo.retention_ms = (int64_t)(l->config.retention_ns / NS_PER_MS);
	wo.rollup_ms[MNO_TIER_10S] = (int64_t)(l->config.retention_10s_ns / NS_PER_MS);
	wo.rollup_ms[MNO_TIER_1M] = (int64_t)(l->config.retention_1m_ns / NS_PER_MS);
	wo.rollup_ms[MNO_TIER_1H] = (int64_t)(l->config.retention_1h_ns / NS_PER_MS);
	return mno_writer_new(&wo, &l->a.writer);
}

static const char *cgroup_path(void *arg, uint64_t id, char *buf, size_t size)
{
	return mno_cgroups_path(arg, id, buf, size);
}

static int start_cgroups(struct mno_life *l)
{
	int r;

	l->a.opts.cgroup_root = find_cgroup_root(l->cgroup_root, sizeof(l->cgroup_root));
	if (!l->a.opts.cgroup_root) {
		mno_warn("no cgroup v2 tree is mounted: nothing is told apart by control group");
		return 0;
	}
	r = mno_cgroups_new(l->a.opts.cgroup_root, &l->a.cgroups);
	if (r < 0 && r != -ENOMEM) { /* mounted, but hidden or forbidden: as if there were none */
		mno_warn("%s cannot be read (%s): nothing is told apart by control group",
			l->a.opts.cgroup_root, mno_strerror(r));
		l->a.opts.cgroup_root = NULL;
		return 0;
	}
	if (r < 0)
		return r;
	if (!l->a.opts.no_bpf && mno_cgroups_maps_new(l->a.cgroups) < 0)
		mno_debug("no BPF maps for control groups");
	mno_cgroups_refresh(l->a.cgroups);
	return 0;
}

static int start_probes(struct mno_life *l)
{
	struct mno_probes_opts po = {
		.sz = sizeof(po),
		.pin_root = "/sys/fs/bpf/mno",
		.cgroups = l->a.cgroups,
		.metrics = l->a.metrics,
		.broker = l->broker,
		.budget_percent = l->config.budget_percent,
	};

	return l->a.opts.no_bpf ? 0 : mno_probes_new(&po, &l->a.probes);
}

static int start_sources(struct mno_life *l)
{
	struct mno_sources_opts so = {
		.sz = sizeof(so),
		.cgroup_root = l->a.opts.cgroup_root,
		.metrics = l->a.metrics,
		.cgroups = l->a.cgroups,
		.self = mno_figures,
		.self_arg = &l->a,
	};
	int r = mno_slow_new(&l->slow);

	if (r < 0)
		return r;
	mno_slow_hold(l->slow, true);
	so.slow = l->slow;
	return mno_sources_new(&so, &l->sources);
}

/* The first row is measured and committed before anything slow: seconds count after a start. */
static int first_sample(struct mno_life *l)
{
	struct mno_writer_stat st;
	int r;

	l->tick_opts = (struct mno_tick_opts){
		.sz = sizeof(l->tick_opts),
		.metrics = l->a.metrics,
		.sources = l->sources,
		.writer = l->a.writer,
	};
	mno_tick_once(&l->tick_opts, mno_now_ms());
	r = mno_writer_flush(l->a.writer);
	mno_writer_stat(l->a.writer, &st);
	if (r == 0 && st.rows_stored)
		mno_info("first sample stored: %zu series in %s", mno_metrics_count(l->a.metrics),
			l->config.state);
	l->tick_opts.cgroups = l->a.cgroups;
	l->tick_opts.probes = l->a.probes;
	l->tick_opts.ledger = l->a.ledger;
	l->tick_opts.reconcile = &l->reconcile;
	return 0; /* a full disk at start is reported, counted and mended while running */
}

/* Only when the process probe runs: without it the ledger does not know what runs. */
static void close_unwatched(struct mno_life *l)
{
	struct mno_ledger_stat st;
	int r;

	mno_ledger_stat(l->a.ledger, &st);
	r = st.live ? mno_writer_watched(l->a.writer) : 0;
	if (r < 0)
		mno_warn("what ended while no agent was running is not known: %s", mno_strerror(r));
}

static int load_probes(struct mno_life *l)
{
	struct mno_router_opts ro = {
		.sz = sizeof(ro),
		.ledger = l->a.ledger,
		.hub = l->a.hub,
		.writer = l->a.writer,
		.boot_offset_ns = l->a.boot_offset_ns,
	};
	struct mno_doctor_opts dopt = {.sz = sizeof(dopt),
		.cgroup_root = l->a.opts.cgroup_root,
		.probes = l->a.probes,
		.no_bpf = l->a.opts.no_bpf};
	int r = mno_router_new(&ro, &l->router);

	if (r < 0)
		return r;
	if (l->a.cgroups)
		mno_ledger_set_cgroup_fn(l->a.ledger, cgroup_path, l->a.cgroups);
	if (l->a.probes) {
		mno_probes_set_sink(l->a.probes, mno_router_record, l->router);
		mno_probes_start(l->a.probes);
		mno_router_flush(l->router, l->a.probes);
		close_unwatched(l);
	}
	return mno_doctor_new(&dopt, &l->a.doctor);
}

static int drop_privileges(struct mno_life *l)
{
	struct mno_privilege_opts po = {.sz = sizeof(po),
		.user = *l->config.user ? l->config.user : NULL,
		.dirs = {l->config.state, l->a.probes ? "/sys/fs/bpf/mno" : NULL},
		.no_bpf = l->a.opts.no_bpf};

	if (po.user)
		mno_doctor_level(l->a.doctor); /* its tests need root: let them end */
	return mno_privilege_drop(&po);
}

static int start_backups(struct mno_life *l)
{
	struct mno_backups_opts o = {.sz = sizeof(o),
		.store = l->a.env,
		.series = l->a.series,
		.dir = l->config.backup_dir,
		.state_dir = l->config.state,
		.every_ns = l->config.backup_every_ns,
		.keep = l->config.backup_keep,
		.bytes_per_s = l->config.backup_bytes};

	return mno_backups_start(&o, &l->a.backups);
}

static int start_threads(struct mno_life *l)
{
	int r = mno_writer_start(l->a.writer);

	mno_slow_hold(l->slow, false);
	if (r == 0 && l->a.probes)
		r = mno_drain_start(l->a.probes, l->router, &l->drain);
	if (r == 0)
		r = mno_tick_start(&l->tick_opts, &l->tick);
	if (r == 0)
		r = mno_scrub_start(l->a.env, l->config.scrub_bytes, &l->a.scrub);
	if (r == 0)
		r = start_backups(l);
	malloc_trim(0); /* reading the kernel's type information took some 14 MB */
	return r;
}

/* Without documents there is still everything else; who asks for them is told. */
static int start_docs(struct mno_life *l)
{
	int r = mno_docs_open(l->a.env, NULL, &l->a.docs);

	if (r < 0)
		mno_err("documents cannot be used: %s", mno_strerror(r));
	return r == -ENOMEM ? r : 0;
}

/* While files may still be given to a group; clients wait until all is there. */
static int open_socket(struct mno_life *l)
{
	return mno_api_listen(&l->a, &l->api);
}

static int start_api(struct mno_life *l)
{
	return mno_api_start(&l->a, &l->api);
}

static int start_broker(struct mno_life *l)
{
	mno_privilege_memlock();
	if (!l->a.opts.no_bpf && mno_broker_start(&l->broker) < 0)
		mno_debug("no broker: the price of probes stays unknown");
	return 0;
}

static int start_metrics(struct mno_life *l)
{
	return mno_metrics_new(l->config.max_series, &l->a.metrics);
}

/* In this order; `what` names the step in an error message. */
static const struct {
	const char *what;
	int (*start)(struct mno_life *l);
} steps[] = {
	{"broker", start_broker},
	{"control groups", start_cgroups},
	{"metrics", start_metrics},
	{"probes", start_probes},
	{"store", start_store},
	{"sources", start_sources},
	{"first sample", first_sample},
	{"loading probes", load_probes},
	{"socket", open_socket},
	{"dropping privileges", drop_privileges},
	{"documents", start_docs},
	{"threads", start_threads},
	{"interface", start_api},
};

/* Many slow clients and kept-open files of many cgroups: as many descriptors as allowed. */
static void raise_files(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = MNO_MIN(rl.rlim_max, (rlim_t)65536);
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

int mno_life_start(const struct mno_options *o, struct mno_life **ret, const char **ret_what)
{
	struct mno_life *l = calloc(1, sizeof(*l));
	int r;

	*ret_what = "memory";
	if (!l)
		return -ENOMEM;
	/* bulk data is freed in other threads than it came from: few arenas keep memory flat */
	mallopt(M_ARENA_MAX, 2);
	/* large answers are mapped, and go back to the system when they are sent */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	raise_files();
	l->config = o->config;
	l->a.opts = (struct mno_agent_opts){.config_path = o->config_path,
		.state_dir = l->config.state,
		.socket_path = l->config.socket,
		.for_ns = o->for_ns,
		.no_bpf = o->no_bpf};
	l->a.start_ns = mno_now_ns(CLOCK_BOOTTIME);
	l->a.boot_offset_ns = mno_boot_offset_ns();
	gethostname(l->a.hostname, sizeof(l->a.hostname) - 1);
	*ret_what = "directory of the store or of the socket";
	r = make_dirs(l->config.state, l->config.socket);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(steps); i++) {
		*ret_what = steps[i].what;
		r = steps[i].start(l);
	}
	if (r < 0) {
		mno_life_stop(l);
		return r;
	}
	*ret = l;
	return 0;
}

/* The last word on completeness: what was seen and what became of it. */
static void say_account(struct mno_probes *p)
{
	struct mno_probe_status t;

	mno_probes_totals(p, &t);
	mno_info("records seen %llu = stored %llu + sampled out %llu + dropped %llu%s",
		(unsigned long long)(t.seen + t.in_flight), (unsigned long long)t.stored,
		(unsigned long long)t.sampled, (unsigned long long)t.dropped,
		t.in_flight ? "; the rest is unexplained" : "");
}

/* Ended processes wait in memory while nothing can be stored; this is where the wait is over. */
static void say_unstored(struct mno_ledger *l)
{
	struct mno_ledger_stat st = {0};

	if (l)
		mno_ledger_stat(l, &st);
	if (st.waiting)
		mno_err("%llu processes that have ended are lost: they could not be stored",
			(unsigned long long)st.waiting);
}

struct mno_life *mno_life_stop(struct mno_life *l)
{
	if (!l)
		return NULL;
	mno_api_stop(l->api);
	mno_backups_stop(l->a.backups);
	mno_scrub_stop(l->a.scrub);
	mno_tick_stop(l->tick);
	mno_drain_stop(l->drain);
	mno_doctor_free(l->a.doctor);
	if (l->a.probes && l->router) {
		mno_probes_stop(l->a.probes);
		mno_router_flush(l->router, l->a.probes);
	}
	if (l->a.ledger)
		mno_ledger_flush(l->a.ledger);
	mno_writer_stop(l->a.writer);
	if (l->a.probes)
		say_account(l->a.probes);
	say_unstored(l->a.ledger);
	mno_probes_free(l->a.probes);
	mno_router_free(l->router);
	mno_sources_free(l->sources);
	mno_slow_free(l->slow);
	mno_hub_free(l->a.hub);
	mno_metrics_free(l->a.metrics);
	mno_ledger_free(l->a.ledger);
	mno_docs_close(l->a.docs);
	mno_series_close(l->a.series);
	mno_store_close(l->a.env);
	mno_cgroups_free(l->a.cgroups);
	mno_broker_stop(l->broker);
	free(l);
	return NULL;
}

const struct mno_agent *mno_life_agent(const struct mno_life *l)
{
	return &l->a;
}

bool mno_life_healthy(const struct mno_life *l)
{
	struct mno_writer_stat st;

	/* a full disk is no reason to be restarted; a writer that hangs is */
	mno_writer_stat(l->a.writer, &st);
	return st.last_error < 0 || mno_now_ms() - st.last_commit_ms < STALLED_MS;
}
