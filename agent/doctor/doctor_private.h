/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the doctor hand each other. */
#pragma once

#include <sys/stat.h>
#include <linux/bpf.h>

#include "../doctor.h"

struct btf;

/* How one thing that was tried came out. */
struct mno_trial {
	const char *type, *why; /* static: its name and what it is good for */
	bool works;
	char reason[160]; /* what was refused, or what was proven */
};

enum mno_trial_id {
	MNO_TRY_TP_BTF,
	MNO_TRY_RAW_TP,
	MNO_TRY_TRACEPOINT,
	MNO_TRY_FENTRY,
	MNO_TRY_FEXIT,
	MNO_TRY_KPROBE,
	MNO_TRY_UPROBE,
	MNO_TRY_PERF_EVENT,
	MNO_TRY_ITER,
	MNO_TRY_CGROUP,
	MNO_TRY_LSM,
	MNO_TRY_FMOD_RET,
	MNO_TRY_SYSCALL,
	MNO_TRY_SIGNAL,
	MNO_TRIALS,
};

/* Facts that are read, not tried. */
struct mno_host {
	char kernel[65];
	bool btf;
	char lockdown[24];       /* "none", "integrity", "confidentiality", "unknown", "absent" */
	char lsms[256];          /* comma-separated, "" = could not be read */
	const char *cgroup_mode; /* "unified", "hybrid", "v1", "none" */
	char cgroup_root[128];   /* v2 mount, "" = none */
	char controllers[256];   /* space-separated, of the v2 root */
	char bpffs[128], tracefs[128]; /* mount points, "" = not mounted */
	unsigned cpus;
};

/* One mount table ("/proc/self/mounts") into the fields of @h that come from it. Pure. */
void mno_host_mounts(struct mno_host *h, const char *mounts);
/* Reads all; what cannot be read says so in its field. */
void mno_host_read(struct mno_host *h, const char *cgroup_root);
/* The bracketed word of "none [integrity] confidentiality" into @out; false if there is none. */
bool mno_host_bracketed(const char *text, char *out, size_t size);
/* Is @word in the list @list, whose items are separated by @sep? Pure. */
bool mno_host_listed(const char *list, const char *word, char sep);
/* First line of a file without its newline; false if it cannot be read. */
bool mno_host_line(const char *path, char *out, size_t size);

/* Tries everything, @t has MNO_TRIALS entries. */
void mno_trials_run(struct mno_trial *t, const char *cgroup_root);
/* Names the entries and marks them as not tried, with @reason. */
void mno_trials_init(struct mno_trial *t, const char *reason);

/* Proves that a program decides opens: returns whether an open of a private inode was refused
 * while it was attached and allowed before and after. */
bool mno_deny_proven(const struct btf *btf, struct mno_trial *t, enum bpf_prog_type type,
	enum bpf_attach_type attach, const char *hook);
/* Proves that the cgroup connect hook decides, by a child in a cgroup of its own. */
void mno_try_cgroup(const struct btf *btf, struct mno_trial *t, const char *cgroup_root);

/* Says in @t that @step was refused with -errno @err. Returns false. */
bool mno_trial_refused(struct mno_trial *t, const char *step, int err);
/* The same for a program that the kernel would not load. */
bool mno_trial_not_loaded(struct mno_trial *t, int err);
/* Loads @n instructions; fd or -errno. @btf_id: attach target, 0 = none. */
int mno_trial_load(enum bpf_prog_type type, enum bpf_attach_type attach, int btf_id,
	const struct bpf_insn *insn, size_t n);

/* Which level the trials prove: 4..0. Pure. */
int mno_level_of(const struct mno_trial *t);
/* One sentence on why it is that level and not a higher one. Pure. */
void mno_level_reason(
	int level, const struct mno_trial *t, const struct mno_host *h, char *out, size_t size);

typedef void (*mno_finding_fn)(
	void *arg, const char *severity, const char *what, const char *why, const char *todo);
/* Calls @fn for each finding about the host. */
void mno_findings(const struct mno_host *h, const struct mno_trial *t, bool no_bpf,
	mno_finding_fn fn, void *arg);

/* --- raw BPF instructions ------------------------------------------------------------------ */
#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define I_MOV_IMM(d, i)     INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define I_MOV(d, s)         INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define I_LOAD(sz, d, s, o) INSN(BPF_LDX | BPF_MEM | (sz), d, s, o, 0)
#define I_CALL(fn)          INSN(BPF_JMP | BPF_CALL, 0, 0, 0, fn)
#define I_JNE(d, s, o)      INSN(BPF_JMP | BPF_JNE | BPF_X, d, s, o, 0)
#define I_JNE_IMM(d, i, o)  INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, i)
#define I_IMM64_LO(d, i)    INSN(BPF_LD | BPF_DW | BPF_IMM, d, 0, 0, (int32_t)(uint32_t)(i))
#define I_IMM64_HI(i)       INSN(0, 0, 0, 0, (int32_t)(uint32_t)((uint64_t)(i) >> 32))
#define I_EXIT              INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
