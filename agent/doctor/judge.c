/* SPDX-License-Identifier: Apache-2.0 */
/* What the facts and the trials mean: the level, why, and what can be done. Pure but for limits. */
#include <stdio.h>
#include <string.h>

#include "doctor_private.h"
#include "mno/macro.h"

int mno_level_of(const struct mno_trial *t)
{
	static const enum mno_trial_id by_level[] = {
		MNO_TRIALS, MNO_TRY_SIGNAL, MNO_TRY_CGROUP, MNO_TRY_FMOD_RET, MNO_TRY_LSM};

	for (int level = ARRAY_SIZE(by_level) - 1; level > 0; level--)
		if (t[by_level[level]].works)
			return level;
	return 0;
}

void mno_level_reason(
	int level, const struct mno_trial *t, const struct mno_host *h, char *out, size_t size)
{
	const struct mno_trial *lsm = &t[MNO_TRY_LSM];

	if (level == 4)
		snprintf(out, size, "proven: %s", lsm->reason);
	else if (*h->lsms && !mno_host_listed(h->lsms, "bpf", ','))
		snprintf(out, size,
			"bpf is not among the active LSMs (%s), so LSM programs never run",
			h->lsms);
	else
		snprintf(out, size, "L4 does not work: %s",
			*lsm->reason ? lsm->reason : "not tried");
}

struct finding_ctx {
	const struct mno_host *h;
	const struct mno_trial *t;
	mno_finding_fn fn;
	void *arg;
};

static void find_kernel(const struct finding_ctx *c)
{
	const struct mno_trial *raw = &c->t[MNO_TRY_RAW_TP];

	if (!c->h->btf)
		c->fn(c->arg, "error", "the kernel has no BTF",
			"/sys/kernel/btf/vmlinux is missing, so no probe can find its fields",
			"boot a kernel with CONFIG_DEBUG_INFO_BTF=y (all Debian kernels since 11)");
	if (!raw->works && *raw->reason)
		c->fn(c->arg, "error", "no BPF program can be attached", raw->reason,
			geteuid() ? "start mnod as root or with CAP_BPF and CAP_PERFMON"
				  : "look for a container or seccomp profile that forbids bpf(2)");
}

static void find_lsm(const struct finding_ctx *c)
{
	const struct mno_trial *lsm = &c->t[MNO_TRY_LSM];
	char todo[400];

	if (lsm->works || !*lsm->reason)
		return;
	if (*c->h->lsms && !mno_host_listed(c->h->lsms, "bpf", ',')) {
		snprintf(todo, sizeof(todo), "add bpf to the kernel command line: lsm=%s,bpf",
			c->h->lsms);
		c->fn(c->arg, "warn", "LSM programs load but never run",
			"bpf is not among the active LSMs: no rule can be enforced at level L4",
			todo);
	} else {
		c->fn(c->arg, "info", "no enforcement at level L4", lsm->reason,
			c->h->btf ? "nothing: this kernel refuses LSM programs; rules use a lower "
				    "level"
				  : "boot a kernel with BTF and bpf in lsm=");
	}
}

static void find_lockdown(const struct finding_ctx *c)
{
	if (!strcmp(c->h->lockdown, "confidentiality"))
		c->fn(c->arg, "warn", "kernel lockdown is confidentiality",
			"programs may not read kernel memory by address: kprobes and tracefs "
			"events do not work",
			"boot with lockdown=integrity if you may");
	else if (!strcmp(c->h->lockdown, "unknown"))
		c->fn(c->arg, "info", "kernel lockdown is unknown", "securityfs could not be read",
			"mount -t securityfs securityfs /sys/kernel/security");
}

static void find_cgroups(const struct finding_ctx *c)
{
	static const char *const wanted[] = {"cpu", "memory", "io", "pids"};
	char why[256] = "";
	size_t n = 0;

	if (!*c->h->cgroup_root) {
		c->fn(c->arg, "warn", "no cgroup v2 tree is mounted",
			"nothing can be told by cgroup",
			"mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot with "
			"systemd.unified_cgroup_hierarchy=1");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!mno_host_listed(c->h->controllers, wanted[i], ' '))
			n += (size_t)snprintf(
				why + n, sizeof(why) - n, "%s%s", n ? ", " : "", wanted[i]);
	if (!n)
		return;
	snprintf(why + n, sizeof(why) - n,
		": not in the v2 tree, so its limits and pressure per cgroup are not seen%s",
		strcmp(c->h->cgroup_mode, "hybrid") ? "" : " (the v1 trees hold them)");
	c->fn(c->arg, "info", "cgroup controllers are missing", why,
		"boot with systemd.unified_cgroup_hierarchy=1 to have all in the v2 tree");
}

static void find_mounts(const struct finding_ctx *c)
{
	if (!*c->h->bpffs)
		c->fn(c->arg, "info", "/sys/fs/bpf is not mounted",
			"maps and programs cannot be pinned there for bpftool",
			"mount -t bpf bpf /sys/fs/bpf");
	if (!c->t[MNO_TRY_TP_BTF].works && !*c->h->tracefs)
		c->fn(c->arg, "info", "tracefs is not mounted",
			"probes that fall back to tracepoints cannot attach",
			"mount -t tracefs tracefs /sys/kernel/tracing");
}

static void find_sysctls(const struct finding_ctx *c)
{
	char v[32];

	if (mno_host_line("/proc/sys/kernel/task_delayacct", v, sizeof(v)) && !strcmp(v, "0"))
		c->fn(c->arg, "info", "kernel.task_delayacct is 0",
			"disk waits are counted by block only; swap and reclaim waits are not seen",
			"sysctl -w kernel.task_delayacct=1");
	if (mno_host_line("/proc/sys/kernel/unprivileged_bpf_disabled", v, sizeof(v)) &&
		!strcmp(v, "0"))
		c->fn(c->arg, "warn", "every user may load BPF programs",
			"kernel.unprivileged_bpf_disabled is 0",
			"sysctl -w kernel.unprivileged_bpf_disabled=2");
}

void mno_findings(const struct mno_host *h, const struct mno_trial *t, bool no_bpf,
	mno_finding_fn fn, void *arg)
{
	const struct finding_ctx c = {.h = h, .t = t, .fn = fn, .arg = arg};

	if (no_bpf) {
		fn(arg, "warn", "BPF is switched off",
			"mnod was started with --no-bpf: only file sources run; short processes, "
			"latencies and "
			"access decisions are not seen",
			"start mnod without --no-bpf");
	} else {
		find_kernel(&c);
		find_lsm(&c);
	}
	find_lockdown(&c);
	find_cgroups(&c);
	find_mounts(&c);
	find_sysctls(&c);
}
