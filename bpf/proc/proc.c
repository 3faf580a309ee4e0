/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <fcntl.h>
#include <string.h>
#include <bpf/libbpf.h>
#include "mno_probe.h"
#include "proc_wire.h"
#include "proc.skel.h"

#define ID_FIELDS(st)                                                                              \
	MNO_FIELD_AS(st, id.pid, "pid", MNO_F_U32, "process"),                                     \
		MNO_FIELD_AS(st, id.ppid, "ppid", MNO_F_U32, "its parent"),                        \
		MNO_FIELD_AS(st, id.uid, "uid", MNO_F_U32, "user, as the host numbers it"),        \
		MNO_FIELD_AS(st, id.comm, "comm", MNO_F_CHARS, "task name"),                       \
		MNO_FIELD_AS(st, id.cgroup_id, "cgroup", MNO_F_CGROUP, "control group (v2)"),      \
		MNO_FIELD_AS(st, id.start_boottime, "start_ns", MNO_F_TIME,                        \
			"when the process began, Unix ns; with pid its identity"),                 \
		MNO_FIELD_AS(st, id.parent_start_boottime, "parent_start_ns", MNO_F_TIME,          \
			"when its parent began, Unix ns")

static const struct mno_field fork_fields[] = {ID_FIELDS(struct mno_proc_fork)};

#define EXEC_FIELDS                                                                                \
	ID_FIELDS(struct mno_proc_exec),                                                           \
		MNO_FIELD(struct mno_proc_exec, exe, MNO_F_VAR_PATH, "path of the program"),       \
		MNO_FIELD(struct mno_proc_exec, argv, MNO_F_VAR_ARGV,                              \
			"arguments, cut at 2,048 bytes"),                                          \
		MNO_FIELD(struct mno_proc_exec, file, MNO_F_VAR_STR, "what execve() was given")
static const struct mno_field exec_fields[] = {EXEC_FIELDS};

static const struct mno_field exit_fields[] = {
	ID_FIELDS(struct mno_proc_exit),
	MNO_FIELD(struct mno_proc_exit, exit_code, MNO_F_U16,
		"argument of exit(); 0 if a signal ended it"),
	MNO_FIELD(struct mno_proc_exit, exit_signal, MNO_F_U8,
		"the signal that ended it; 0: it exited"),
	MNO_FIELD(struct mno_proc_exit, core_dumped, MNO_F_BOOL, "it dumped core"),
	MNO_FIELD(struct mno_proc_exit, cpu_ns, MNO_F_U64, "CPU time of all threads, ns"),
	MNO_FIELD(struct mno_proc_exit, rss_peak_bytes, MNO_F_U64, "largest resident size, bytes"),
	MNO_FIELD(struct mno_proc_exit, io_read_bytes, MNO_F_U64, "read from storage, bytes"),
	MNO_FIELD(struct mno_proc_exit, io_write_bytes, MNO_F_U64, "written to storage, bytes"),
};

static const struct mno_field signal_fields[] = {
	MNO_FIELD(struct mno_proc_signal, signo, MNO_F_U32, "signal number"),
	MNO_FIELD(struct mno_proc_signal, code, MNO_F_S32, "si_code; 0 or below: from a process"),
	MNO_FIELD(struct mno_proc_signal, from_kernel, MNO_F_BOOL, "sent by the kernel itself"),
	MNO_FIELD(struct mno_proc_signal, result, MNO_F_U32,
		"0 delivered, 1 ignored, 2 already pending, 3 and 4 lost"),
	MNO_FIELD(struct mno_proc_signal, sender_pid, MNO_F_U32, "who sent it"),
	MNO_FIELD(struct mno_proc_signal, sender_comm, MNO_F_CHARS, "name of the sender"),
	MNO_FIELD(struct mno_proc_signal, sender_uid, MNO_F_U32, "user of the sender"),
	MNO_FIELD_AS(struct mno_proc_signal, sender_cgroup_id, "sender_cgroup", MNO_F_CGROUP,
		"control group of the sender"),
	MNO_FIELD(struct mno_proc_signal, target_pid, MNO_F_U32, "to whom"),
	MNO_FIELD_AS(struct mno_proc_signal, target_start_boottime, "target_start_ns", MNO_F_TIME,
		"when the target began, Unix ns"),
};

#define KIND(k, st, text, f, help_text)                                                            \
	{                                                                                          \
		.kind = k, .version = MNO_WIRE_VERSION, .size = sizeof(struct st), .name = text,   \
		.help = help_text, .fields = f, .n_fields = ARRAY_SIZE(f),                         \
	}
static const struct mno_kind proc_kinds[] = {
	KIND(MNO_PROC_FORK, mno_proc_fork, "fork", fork_fields, "A process was made."),
	KIND(MNO_PROC_EXEC, mno_proc_exec, "exec", exec_fields, "A process began a program."),
	KIND(MNO_PROC_EXIT, mno_proc_exit, "exit", exit_fields, "A process ended."),
	KIND(MNO_PROC_SIGNAL, mno_proc_signal, "signal", signal_fields,
		"A signal from one process to another, or a fatal one from the kernel."),
	KIND(MNO_PROC_SEED, mno_proc_exec, "seed", exec_fields,
		"A process that was running before the agent."),
};

static const char *const all_progs[] = {
	"on_fork", "on_exec", "on_exit", "on_switch", "on_signal", "seed"};
static const struct mno_rung rungs[] = {
	{"tp_btf", all_progs, ARRAY_SIZE(all_progs)},
	/* without kernel reads (lockdown=confidentiality): no path in the record */
	{"tp_btf, paths from /proc", all_progs, ARRAY_SIZE(all_progs)},
};

static int proc_open(const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj)
{
	struct proc_bpf *skel = proc_bpf__open();

	if (!skel)
		return -errno;
	skel->rodata->mno_read_kernel = cfg->rung == 0;
	skel->rodata->mno_page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	*ret_priv = skel;
	*ret_obj = skel->obj;
	return 0;
}

static void proc_close(void *priv)
{
	proc_bpf__destroy(priv);
}

/* Appends @n bytes as a var of the record at @rec; the tail is bounded by the buffer. */
static void add_var(char *rec, size_t cap, struct mno_var *v, const void *p, size_t n)
{
	struct mno_hdr *h = (void *)rec;

	if (n > cap - h->size)
		n = cap - h->size;
	if (!n)
		return;
	memcpy(rec + h->size, p, n);
	v->off = (uint16_t)h->size;
	v->len = (uint16_t)n;
	h->size += (uint32_t)n;
}

static void read_exe(uint32_t pid, char *rec, size_t cap, struct mno_proc_exec *e)
{
	char link[64], path[MNO_PROC_EXE_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%u/exe", pid);
	n = readlink(link, path, sizeof(path));
	/* one component that starts with a slash stands for the whole path */
	if (n > 0)
		add_var(rec, cap, &e->exe, path, (size_t)n);
}

static void read_argv(uint32_t pid, char *rec, size_t cap, struct mno_proc_exec *e)
{
	char name[64], argv[MNO_PROC_ARGV_MAX + 1];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%u/cmdline", pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, argv, sizeof(argv));
	if (n > MNO_PROC_ARGV_MAX) {
		n = MNO_PROC_ARGV_MAX;
		e->argv.flags = MNO_VAR_CUT;
	}
	if (n > 0)
		add_var(rec, cap, &e->argv, argv, (size_t)n);
}

static void seed_one(const struct mno_proc_seed *s,
	void (*emit)(void *arg, const void *rec, size_t len), void *arg)
{
	_Alignas(8) char rec[sizeof(struct mno_proc_exec) + MNO_PROC_EXE_MAX + MNO_PROC_ARGV_MAX];
	struct mno_proc_exec *e = (void *)rec;

	memset(e, 0, sizeof(*e));
	e->hdr.size = sizeof(*e);
	e->hdr.kind = MNO_PROC_SEED;
	e->hdr.version = MNO_WIRE_VERSION;
	e->hdr.ktime = s->id.start_boottime;
	e->id = s->id;
	read_exe(s->id.pid, rec, sizeof(rec), e);
	read_argv(s->id.pid, rec, sizeof(rec), e);
	emit(arg, rec, e->hdr.size);
}

static bool is_among(const uint32_t *v, uint32_t x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == x)
			return true;
	return false;
}

static int by_pid(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/*
 * A parent that the iterator did not list (some kernels keep one process from BPF): its children
 * know its identity, /proc the rest.
 */
static void seed_parent(const struct mno_proc_seed *child,
	void (*emit)(void *arg, const void *rec, size_t len), void *arg)
{
	struct mno_proc_seed s = {.id = {.pid = child->id.ppid,
					  .start_boottime = child->id.parent_start_boottime,
					  .cgroup_id = child->id.cgroup_id}};
	char name[64];
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%u/comm", s.id.pid);
	f = fopen(name, "re");
	if (!f)
		return;
	if (!fread(s.id.comm, 1, sizeof(s.id.comm) - 1, f))
		s.id.comm[0] = '\0';
	s.id.comm[strcspn(s.id.comm, "\n")] = '\0';
	fclose(f);
	seed_one(&s, emit, arg);
}

static int proc_attached(void *priv, struct bpf_object *obj,
	void (*emit)(void *arg, const void *rec, size_t len), void *arg)
{
	_cleanup_buf_ struct mno_buf out = {.max = 64u << 20};
	_cleanup_free_ uint32_t *pids = NULL;
	const struct mno_proc_seed *seeds;
	struct proc_bpf *skel = priv;
	int r = mno_iter_read(skel->progs.seed, &out);
	size_t n = out.len / sizeof(*seeds), known = n;

	if (r < 0)
		return r;
	pids = calloc(2 * n + 1, sizeof(*pids));
	if (!pids)
		return -ENOMEM;
	seeds = (const void *)out.data;
	for (size_t i = 0; i < n; i++) {
		pids[i] = seeds[i].id.pid;
		seed_one(&seeds[i], emit, arg);
	}
	qsort(pids, n, sizeof(*pids), by_pid);
	for (size_t i = 0; i < n; i++) {
		const uint32_t *ppid = &seeds[i].id.ppid;

		if (!*ppid || bsearch(ppid, pids, n, sizeof(*pids), by_pid) ||
			is_among(pids + n, *ppid, known - n))
			continue;
		pids[known++] = *ppid;
		seed_parent(&seeds[i], emit, arg);
	}
	return 0;
}

const struct mno_probe mno_probe_proc = {
	.name = "proc",
	.summary = "process life: fork, exec, exit, signals; feeds the ledger",
	.id = MNO_PROBE_proc,
	.by_default = true,
	.value = 100,
	.rungs = rungs,
	.n_rungs = ARRAY_SIZE(rungs),
	.kinds = proc_kinds,
	.n_kinds = ARRAY_SIZE(proc_kinds),
	.ring_bytes = 2 << 20,
	.budget_per_cpu = 1000, /* of signals; processes are never sampled */
	.switch_rider = "on_switch",
	.open = proc_open,
	.attached = proc_attached,
	.close = proc_close,
};
