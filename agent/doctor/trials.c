/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to attach a BPF program, each tried with the smallest program that shows it: load, attach,
 * detach. The programs do nothing; the functions they hang on are rare ones (mount, exit).
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <linux/perf_event.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "doctor_private.h"
#include "mno/err.h"

static const struct bpf_insn return_0[] = {I_MOV_IMM(0, 0), I_EXIT};
#define RARE_HOOK "security_sb_mount" /* called by mount(2) only */

bool mno_trial_refused(struct mno_trial *t, const char *step, int err)
{
	t->works = false;
	snprintf(t->reason, sizeof(t->reason), "%s: %s (%s)", step, mno_strerror(err),
		mno_errname(err));
	return false;
}

bool mno_trial_not_loaded(struct mno_trial *t, int err)
{
	/* from root, EPERM without a verifier's word is a decision of the kernel's builder */
	if (err == -EPERM && !geteuid()) {
		t->works = false;
		snprintf(t->reason, sizeof(t->reason),
			"this kernel refuses this kind of program, even to root (EPERM)");
		return false;
	}
	return mno_trial_refused(t, "the kernel refuses to load the program", err);
}

int mno_trial_load(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id,
	const struct bpf_insn *insn, size_t n)
{
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = attach,
		.attach_btf_id = btf_id > 0 ? (__u32)btf_id : 0,
		.prog_flags = type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0);

	return bpf_prog_load(type, "mno_doctor", "Dual BSD/GPL", insn, n, &o);
}

/* Loads return_0 and says so in @t when it is refused. */
static int load_nothing(
	struct mno_trial *t, enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id)
{
	int fd = mno_trial_load(type, attach, btf_id, return_0, ARRAY_SIZE(return_0));

	if (fd < 0)
		mno_trial_not_loaded(t, fd);
	return fd;
}

/* Programs whose target is named by a BTF type. */
static void try_btf(const struct btf *btf, struct mno_trial *t, enum bpf_prog_type type,
	enum bpf_attach_type attach, const char *target, __u32 kind)
{
	_cleanup_close_ int prog = -1, link = -1;
	int id = btf ? btf__find_by_name_kind(btf, target, kind) : -ENOENT;

	if (id < 0) {
		snprintf(t->reason, sizeof(t->reason),
			btf ? "this kernel has no %s" : "no BTF of the kernel (wanted %s)", target);
		return;
	}
	prog = load_nothing(t, type, attach, id);
	if (prog < 0)
		return;
	link = bpf_raw_tracepoint_open(NULL, prog);
	if (link < 0)
		mno_trial_refused(t, "it loads, attaching is refused", link);
	else
		t->works = true;
}

static void try_tp_btf(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	try_btf(btf, t, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, "btf_trace_sched_process_exit",
		BTF_KIND_TYPEDEF);
}
static void try_fentry(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	try_btf(btf, t, BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, RARE_HOOK, BTF_KIND_FUNC);
}
static void try_fexit(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	try_btf(btf, t, BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT, RARE_HOOK, BTF_KIND_FUNC);
}
static void try_lsm(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	mno_deny_proven(btf, t, BPF_PROG_TYPE_LSM, BPF_LSM_MAC, "bpf_lsm_file_open");
}
static void try_fmod_ret(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	mno_deny_proven(btf, t, BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN, "security_file_open");
}

static void try_raw_tp(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	_cleanup_close_ int link = -1, prog = load_nothing(t, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0);

	if (prog < 0)
		return;
	link = bpf_raw_tracepoint_open("sched_process_exit", prog);
	if (link < 0)
		mno_trial_refused(t, "it loads, attaching is refused", link);
	else
		t->works = true;
}

static void try_iter(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	_cleanup_close_ int prog = -1, link = -1;
	int id = btf ? btf__find_by_name_kind(btf, "bpf_iter_task", BTF_KIND_FUNC) : -ENOENT;

	if (id < 0) {
		mno_trial_refused(t, "no bpf_iter_task in the kernel's BTF", id);
		return;
	}
	prog = load_nothing(t, BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, id);
	if (prog < 0)
		return;
	link = bpf_link_create(prog, 0, BPF_TRACE_ITER, NULL);
	if (link < 0)
		mno_trial_refused(t, "it loads, attaching is refused", link);
	else
		t->works = true;
}

static int perf_open(struct perf_event_attr *a, int pid, int cpu)
{
	int fd;

	a->size = sizeof(*a);
	fd = (int)syscall(SYS_perf_event_open, a, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Opens the perf event and hangs an empty program of @type on it. */
static void try_perf(
	struct mno_trial *t, enum bpf_prog_type type, struct perf_event_attr *a, int pid, int cpu)
{
	_cleanup_close_ int prog = load_nothing(t, type, 0, 0), ev = -1;

	if (prog < 0)
		return;
	ev = perf_open(a, pid, cpu);
	if (ev < 0)
		mno_trial_refused(t, "it loads, opening the event is refused", ev);
	else if (ioctl(ev, PERF_EVENT_IOC_SET_BPF, prog))
		mno_trial_refused(t, "it loads, attaching is refused", -errno);
	else
		t->works = true;
}

static void try_perf_event(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 1000000000,
		.disabled = 1};

	try_perf(t, BPF_PROG_TYPE_PERF_EVENT, &a, 0, -1);
}

/* Number of a dynamic event source, or -1. */
static int source_type(const char *name)
{
	char path[96], line[16];

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	return mno_host_line(path, line, sizeof(line)) ? atoi(line) : -1;
}

static void try_kprobe(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	int type = source_type("kprobe");
	struct perf_event_attr a = {.type = (__u32)type, .config1 = (uintptr_t)RARE_HOOK};

	if (type < 0)
		snprintf(t->reason, sizeof(t->reason), "this kernel has no kprobe event source");
	else
		try_perf(t, BPF_PROG_TYPE_KPROBE, &a, -1, 0);
}

/* File offset of a function of this program: the uprobe's place. */
struct own_offset {
	uintptr_t addr, offset;
};
static int find_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct own_offset *o = arg;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type != PT_LOAD || o->addr < start || o->addr >= start + p->p_filesz)
			continue;
		o->offset = o->addr - start + p->p_offset;
		return 1;
	}
	return 0;
}

static void try_uprobe(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	int type = source_type("uprobe");
	struct own_offset o = {.addr = (uintptr_t)mno_trials_run};
	struct perf_event_attr a = {.type = (__u32)type, .config1 = (uintptr_t) "/proc/self/exe"};

	if (type < 0 || !dl_iterate_phdr(find_offset, &o)) {
		snprintf(t->reason, sizeof(t->reason), "this kernel has no uprobe event source");
		return;
	}
	a.config2 = o.offset;
	try_perf(t, BPF_PROG_TYPE_KPROBE, &a, getpid(), -1);
}

/* tracefs as a mount that only this function sees; -errno. */
static int private_tracefs(void)
{
	_cleanup_close_ int fs = fsopen("tracefs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static void try_tracepoint(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	_cleanup_close_ int dir = private_tracefs(), fd = -1;
	char id[16] = "";

	if (dir < 0) {
		mno_trial_refused(t, "tracefs cannot be mounted", dir);
		return;
	}
	fd = openat(dir, "events/sched/sched_process_exit/id", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, id, sizeof(id) - 1) <= 0) {
		mno_trial_refused(t, "tracefs has no events (lockdown does that)", -errno);
		return;
	}
	struct perf_event_attr a = {.type = PERF_TYPE_TRACEPOINT, .config = (__u64)atoi(id)};

	try_perf(t, BPF_PROG_TYPE_TRACEPOINT, &a, -1, 0);
}

static void try_syscall(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	static const struct bpf_insn return_7[] = {I_MOV_IMM(0, 7), I_EXIT};
	_cleanup_close_ int prog =
		mno_trial_load(BPF_PROG_TYPE_SYSCALL, 0, 0, return_7, ARRAY_SIZE(return_7));
	LIBBPF_OPTS(bpf_test_run_opts, o);

	if (prog < 0)
		mno_trial_not_loaded(t, prog);
	else if (bpf_prog_test_run_opts(prog, &o) || o.retval != 7)
		mno_trial_refused(t, "it loads, running it is refused", -errno);
	else
		t->works = true;
}

/* Signal 0 only asks whether a signal could be sent: the helper itself runs. */
static void try_signal(const struct btf *btf, struct mno_trial *t, const char *cg)
{
	static const struct bpf_insn signal_0[] = {
		I_MOV_IMM(1, 0), I_CALL(BPF_FUNC_send_signal), I_EXIT};
	_cleanup_close_ int prog =
		mno_trial_load(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0, signal_0, ARRAY_SIZE(signal_0));
	LIBBPF_OPTS(bpf_test_run_opts, o);

	if (prog < 0)
		mno_trial_not_loaded(t, prog);
	else if (bpf_prog_test_run_opts(prog, &o))
		mno_trial_refused(t, "it loads, running it is refused", -errno);
	else if (o.retval)
		mno_trial_refused(t, "the helper refuses", (int)o.retval);
	else
		t->works = true;
}

/* One row a trial, in the order of enum mno_trial_id. */
static const struct {
	const char *type, *why;
	void (*fn)(const struct btf *btf, struct mno_trial *t, const char *cgroup_root);
} features[MNO_TRIALS] = {
	[MNO_TRY_TP_BTF] = {"tp_btf", "cheapest way to watch the scheduler and processes",
		try_tp_btf},
	[MNO_TRY_RAW_TP] = {"raw_tp", "the same without typed arguments", try_raw_tp},
	[MNO_TRY_TRACEPOINT] = {"tracepoint", "stable events, needs tracefs", try_tracepoint},
	[MNO_TRY_FENTRY] = {"fentry", "entry of any kernel function", try_fentry},
	[MNO_TRY_FEXIT] = {"fexit", "result of any kernel function", try_fexit},
	[MNO_TRY_KPROBE] = {"kprobe", "entry of a kernel function, slower", try_kprobe},
	[MNO_TRY_UPROBE] = {"uprobe", "entry of a program's function", try_uprobe},
	[MNO_TRY_PERF_EVENT] = {"perf_event", "samples of what runs on each CPU", try_perf_event},
	[MNO_TRY_ITER] = {"iter", "lists running processes at start", try_iter},
	[MNO_TRY_CGROUP] = {"cgroup", "network decisions per cgroup", mno_try_cgroup},
	[MNO_TRY_LSM] = {"lsm", "decisions before an operation happens", try_lsm},
	[MNO_TRY_FMOD_RET] = {"fmod_ret", "the same where bpf is not among the LSMs", try_fmod_ret},
	[MNO_TRY_SYSCALL] = {"syscall", "runs a policy without a hook: dry run", try_syscall},
	[MNO_TRY_SIGNAL] = {"signal", "ends a process from a tracepoint", try_signal},
};

void mno_trials_init(struct mno_trial *t, const char *reason)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		t[i] = (struct mno_trial){.type = features[i].type, .why = features[i].why};
		snprintf(t[i].reason, sizeof(t[i].reason), "%s", reason);
	}
}

void mno_trials_run(struct mno_trial *t, const char *cgroup_root)
{
	struct btf *btf = btf__load_vmlinux_btf();

	if (libbpf_get_error(btf))
		btf = NULL;
	mno_trials_init(t, "");
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		features[i].fn(btf, &t[i], cgroup_root);
	btf__free(btf);
}
