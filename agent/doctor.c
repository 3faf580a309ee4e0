/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor's life: one thread that tries everything once, and the report that is made of it. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "doctor/doctor_private.h"
#include "mno/log.h"
#include "mno/time.h"
#include "probes.h"

#define ANSWER_WAIT_NS (2 * NS_PER_SEC)

struct mno_doctor {
	struct mno_doctor_opts opts;
	char root[128];
	pthread_t thread;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t cond;
	bool hurry, done;
	struct mno_host host;
	struct mno_trial trials[MNO_TRIALS];
	uint64_t took_ns;
};

static struct timespec in_ns(uint64_t ns)
{
	uint64_t t = mno_now_ns(CLOCK_MONOTONIC) + ns;

	return (struct timespec){
		.tv_sec = (time_t)(t / NS_PER_SEC), .tv_nsec = (long)(t % NS_PER_SEC)};
}

static void *examine(void *arg)
{
	struct mno_doctor *d = arg;
	struct mno_trial trials[MNO_TRIALS];
	struct timespec until = in_ns(d->opts.delay_ns);
	struct mno_host host;
	uint64_t t0;

	pthread_setname_np(pthread_self(), "mno-doctor");
	pthread_mutex_lock(&d->lock);
	while (!d->hurry && !pthread_cond_timedwait(&d->cond, &d->lock, &until))
		;
	pthread_mutex_unlock(&d->lock);

	t0 = mno_now_ns(CLOCK_MONOTONIC);
	mno_host_read(&host, *d->root ? d->root : NULL);
	if (d->opts.no_bpf)
		mno_trials_init(trials, "not tried: BPF is switched off (--no-bpf)");
	else
		mno_trials_run(trials, host.cgroup_root);
	malloc_trim(0); /* the kernel's BTF took about 14 MB */

	pthread_mutex_lock(&d->lock);
	d->host = host;
	memcpy(d->trials, trials, sizeof(trials));
	d->took_ns = mno_now_ns(CLOCK_MONOTONIC) - t0;
	d->done = true;
	pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	mno_debug("doctor: enforcement level L%d, found out in %llu ms", mno_level_of(trials),
		(unsigned long long)(d->took_ns / NS_PER_MS));
	return NULL;
}

/* Ends the start-up delay and waits for the result; false if it does not come in time. */
static bool wait_done(struct mno_doctor *d)
{
	struct timespec until = in_ns(ANSWER_WAIT_NS);
	bool done;

	pthread_mutex_lock(&d->lock);
	if (!d->hurry) {
		d->hurry = true;
		pthread_cond_broadcast(&d->cond);
	}
	while (!d->done && !pthread_cond_timedwait(&d->cond, &d->lock, &until))
		;
	done = d->done;
	pthread_mutex_unlock(&d->lock);
	return done; /* after that, host and trials no longer change */
}

int mno_doctor_new(const struct mno_doctor_opts *o, struct mno_doctor **ret)
{
	struct mno_doctor *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int r;

	if (!d)
		return -ENOMEM;
	d->opts = *o;
	d->opts.cgroup_root = NULL;
	if (o->cgroup_root)
		snprintf(d->root, sizeof(d->root), "%s", o->cgroup_root);
	d->host.cgroup_mode = "unknown";
	mno_trials_init(d->trials, "not finished yet");
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cond, &attr);
	pthread_condattr_destroy(&attr);
	r = pthread_create(&d->thread, NULL, examine, d);
	if (r) {
		pthread_cond_destroy(&d->cond);
		pthread_mutex_destroy(&d->lock);
		free(d);
		return -r;
	}
	*ret = d;
	return 0;
}

struct mno_doctor *mno_doctor_free(struct mno_doctor *d)
{
	if (!d)
		return NULL;
	pthread_mutex_lock(&d->lock);
	d->hurry = true;
	pthread_cond_broadcast(&d->cond);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	pthread_cond_destroy(&d->cond);
	pthread_mutex_destroy(&d->lock);
	free(d);
	return NULL;
}

const char *mno_doctor_level(struct mno_doctor *d)
{
	static const char *const names[] = {"L0", "L1", "L2", "L3", "L4"};

	return d && wait_done(d) ? names[mno_level_of(d->trials)] : "L0";
}

/* --- the report ---------------------------------------------------------------------------- */
static void json_words(struct mno_json *j, const char *key, const char *list, char sep)
{
	mno_json_key(j, key);
	mno_json_arr(j);
	for (const char *p = list; *p;) {
		const char *end = strchr(p, sep);
		size_t n = end ? (size_t)(end - p) : strlen(p);

		if (n)
			mno_json_strn(j, p, n);
		p += n + (end != NULL);
	}
	mno_json_end_arr(j);
}

static void json_missing(struct mno_json *j, const struct mno_host *h)
{
	static const char *const wanted[] = {"cpu", "memory", "io", "pids"};

	mno_json_key(j, "missing");
	mno_json_arr(j);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!mno_host_listed(h->controllers, wanted[i], ' '))
			mno_json_str(j, wanted[i]);
	mno_json_end_arr(j);
}

static void json_host(struct mno_json *j, const struct mno_host *h)
{
	mno_json_key(j, "host");
	mno_json_obj(j);
	mno_json_kstr(j, "kernel", h->kernel);
	mno_json_kbool(j, "btf", h->btf);
	mno_json_kstr(j, "lockdown", h->lockdown);
	json_words(j, "lsms", h->lsms, ',');
	mno_json_key(j, "cgroup");
	mno_json_obj(j);
	mno_json_kstr(j, "mode", h->cgroup_mode);
	mno_json_kstr(j, "root", *h->cgroup_root ? h->cgroup_root : NULL);
	json_words(j, "controllers", h->controllers, ' ');
	json_missing(j, h);
	mno_json_end(j);
	mno_json_kstr(j, "bpffs", *h->bpffs ? h->bpffs : NULL);
	mno_json_kstr(j, "tracefs", *h->tracefs ? h->tracefs : NULL);
	mno_json_ku64(j, "cpus", h->cpus);
	mno_json_end(j);
}

static void json_levels(struct mno_json *j, const struct mno_trial *t)
{
	static const struct {
		const char *level, *name;
		enum mno_trial_id id;
	} levels[] = {
		{"L4", "kernel deny (BPF LSM)", MNO_TRY_LSM},
		{"L3", "kernel deny (fmod_ret)", MNO_TRY_FMOD_RET},
		{"L2", "network deny (cgroup hooks)", MNO_TRY_CGROUP},
		{"L1", "late kill (signal from a tracepoint)", MNO_TRY_SIGNAL},
		{"L0", "observe only", MNO_TRIALS},
	};

	mno_json_key(j, "levels");
	mno_json_arr(j);
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		const struct mno_trial *e = levels[i].id < MNO_TRIALS ? &t[levels[i].id] : NULL;

		mno_json_obj(j);
		mno_json_kstr(j, "level", levels[i].level);
		mno_json_kstr(j, "name", levels[i].name);
		mno_json_kbool(j, "works", !e || e->works);
		mno_json_kstr(j, "why", e ? e->reason : "");
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static void json_attach(struct mno_json *j, const struct mno_trial *t)
{
	mno_json_key(j, "attach");
	mno_json_arr(j);
	for (size_t i = 0; i < MNO_TRIALS; i++) {
		mno_json_obj(j);
		mno_json_kstr(j, "type", t[i].type);
		mno_json_kbool(j, "works", t[i].works);
		mno_json_kstr(j, "reason", t[i].reason);
		mno_json_kstr(j, "for", t[i].why);
		mno_json_end(j);
	}
	mno_json_end_arr(j);
}

static void json_limit(struct mno_json *j, const char *name, const char *value, const char *note)
{
	mno_json_obj(j);
	mno_json_kstr(j, "name", name);
	mno_json_kstr(j, "value", value);
	mno_json_kstr(j, "note", note);
	mno_json_end(j);
}

static void json_limits(struct mno_json *j)
{
	static const struct {
		const char *name, *path, *note;
	} sysctls[] = {
		{"kernel.unprivileged_bpf_disabled", "/proc/sys/kernel/unprivileged_bpf_disabled",
			"0: every user may load BPF programs"},
		{"kernel.perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid",
			"does not bind an agent with CAP_PERFMON"},
		{"kernel.task_delayacct", "/proc/sys/kernel/task_delayacct",
			"1: the kernel counts what a task waits for"},
		{"net.core.bpf_jit_enable", "/proc/sys/net/core/bpf_jit_enable",
			"0: BPF programs are interpreted, several times the cost"},
	};
	char v[64];
	struct rlimit l;

	mno_json_key(j, "limits");
	mno_json_arr(j);
	if (!getrlimit(RLIMIT_MEMLOCK, &l)) {
		snprintf(v, sizeof(v), "%llu", (unsigned long long)l.rlim_cur);
		json_limit(j, "RLIMIT_MEMLOCK", l.rlim_cur == RLIM_INFINITY ? "unlimited" : v,
			"bytes; binds BPF maps on kernels before 5.11 only");
	}
	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++)
		json_limit(j, sysctls[i].name,
			mno_host_line(sysctls[i].path, v, sizeof(v)) ? v : NULL, sysctls[i].note);
	mno_json_end_arr(j);
}

static void json_finding(
	void *arg, const char *severity, const char *what, const char *why, const char *todo)
{
	struct mno_json *j = arg;

	mno_json_obj(j);
	mno_json_kstr(j, "severity", severity);
	mno_json_kstr(j, "what", what);
	mno_json_kstr(j, "why", why);
	mno_json_kstr(j, "todo", todo);
	mno_json_end(j);
}

/* Probes that did not come up, in the words of whoever refused them. */
static void probe_findings(struct mno_probes *p, mno_finding_fn fn, void *arg)
{
	struct mno_probe_status s;
	char what[96];

	if (*mno_probes_unpinned(p))
		fn(arg, "info", "BPF objects are not pinned", mno_probes_unpinned(p),
			"nothing, if that is meant so: bpftool prog list sees them by id");
	for (size_t i = 0; p && mno_probes_status(p, i, &s); i++) {
		if (s.state != MNO_PROBE_FAILED && s.state != MNO_PROBE_DEGRADED &&
			s.state != MNO_PROBE_SHED)
			continue;
		snprintf(what, sizeof(what), "probe %s is %s", s.probe->name,
			mno_probe_state_name(s.state));
		fn(arg, s.state == MNO_PROBE_FAILED ? "error" : "warn", what, s.reason,
			s.state == MNO_PROBE_SHED ? "raise the budget, or leave it off"
						  : "see the attach types that work above");
	}
}

void mno_doctor_json(struct mno_doctor *d, struct mno_json *j)
{
	bool done = wait_done(d);
	char reason[400] = "the tests have not ended yet; ask again";

	if (done)
		mno_level_reason(
			mno_level_of(d->trials), d->trials, &d->host, reason, sizeof(reason));
	pthread_mutex_lock(&d->lock);
	json_host(j, &d->host);
	mno_json_kstr(j, "level",
		((const char *const[]){"L0", "L1", "L2", "L3", "L4"})[mno_level_of(d->trials)]);
	mno_json_kstr(j, "level_reason", reason);
	json_levels(j, d->trials);
	json_attach(j, d->trials);
	json_limits(j);
	mno_json_key(j, "findings");
	mno_json_arr(j);
	if (done)
		mno_findings(&d->host, d->trials, d->opts.no_bpf, json_finding, j);
	pthread_mutex_unlock(&d->lock);
	probe_findings(d->opts.probes, json_finding, j);
	mno_json_end_arr(j);
}

struct degraded_ctx {
	void (*fn)(void *arg, const char *what, const char *why, const char *todo);
	void *arg;
};
static void only_serious(
	void *arg, const char *severity, const char *what, const char *why, const char *todo)
{
	struct degraded_ctx *c = arg;

	if (strcmp(severity, "info"))
		c->fn(c->arg, what, why, todo);
}

void mno_doctor_degraded(struct mno_doctor *d,
	void (*fn)(void *arg, const char *what, const char *why, const char *todo), void *arg)
{
	struct degraded_ctx c = {.fn = fn, .arg = arg};

	if (!d)
		return;
	if (wait_done(d))
		mno_findings(&d->host, d->trials, d->opts.no_bpf, only_serious, &c);
}
