/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Capabilities, other tasks, and what reaches beyond the caller: mounts, modules, BPF, perf. */
#pragma once

#include "maps.h"

static __always_inline int plain_decide(__u32 op, __u32 hook, __u64 detail)
{
	struct ask a;

	return ask_begin(&a, op, hook) ? ask_end(&a, 0, 0, NULL, detail) : 0;
}

static __always_inline int peer_decide(struct task_struct *peer, __u32 op, __u32 hook, __u64 detail)
{
	struct mno_e_task *t;
	struct ask a;

	if (!ask_begin(&a, op, hook))
		return 0;
	t = task_entry(peer);
	a.q.cls[0] = a.gen->peer_class[t ? t->domain & (MNO_E_DOMAINS - 1) : 0];
	return ask_end(&a, 0, 0, NULL, detail);
}

/* A question that the kernel asks without consequences (NOAUDIT) leaves no trace either. */
SEC("lsm/capable")
int BPF_PROG(e_capable, const struct cred *cred, struct user_namespace *ns, int cap,
	unsigned int opts, int ret)
{
	const struct mno_e_rule *rule;
	struct mno_e_answer got;
	struct ask a;

	if (ret || !ask_begin(&a, MNO_E_CAPABILITY, MNO_E_HOOK_CAPABLE))
		return ret;
	a.q.cls[0] = a.gen->cap_class[cap & 63];
	if (!(opts & CAP_OPT_NOAUDIT))
		return ask_end(&a, 0, 0, NULL, cap);
	got = mno_e_decide(a.gen, &a.q);
	rule = &a.gen->rule[got.rule & (MNO_E_RULES - 1)];
	return got.rule && rule->verdict >= MNO_E_DENY ? -EPERM : 0;
}

SEC("lsm/ptrace_access_check")
int BPF_PROG(e_ptrace, struct task_struct *child, unsigned int mode, int ret)
{
	return ret ?: peer_decide(child, MNO_E_PTRACE, MNO_E_HOOK_PTRACE, mode);
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(e_traceme, struct task_struct *parent, int ret)
{
	return ret ?: peer_decide(parent, MNO_E_PTRACE, MNO_E_HOOK_PTRACE, 0);
}

SEC("lsm/task_kill")
int BPF_PROG(e_kill, struct task_struct *p, struct kernel_siginfo *info, int sig,
	const struct cred *cred, int ret)
{
	return ret ?: peer_decide(p, MNO_E_SIGNAL, MNO_E_HOOK_KILL, sig);
}

SEC("lsm/bpf")
int BPF_PROG(e_bpf, int cmd, union bpf_attr *attr, unsigned int size, int ret)
{
	return ret ?: plain_decide(MNO_E_BPF, MNO_E_HOOK_BPF, cmd);
}

/* Twins again: the hook lost its second argument. */
SEC("lsm/perf_event_open")
int BPF_PROG(e_perf_1, struct perf_event_attr *attr, int ret)
{
	return ret ?: plain_decide(MNO_E_PERF, MNO_E_HOOK_OTHER, 0);
}

SEC("lsm/perf_event_open")
int BPF_PROG(e_perf_2, struct perf_event_attr *attr, int type, int ret)
{
	return ret ?: plain_decide(MNO_E_PERF, MNO_E_HOOK_OTHER, 0);
}

SEC("lsm/sb_mount")
int BPF_PROG(e_mount, const char *dev, const struct path *path, const char *type,
	unsigned long flags, void *data, int ret)
{
	return ret ?: plain_decide(MNO_E_MOUNT, MNO_E_HOOK_MOUNT, flags);
}

/* The mount system calls after fsopen and open_tree come here, never to sb_mount. */
SEC("lsm/move_mount")
int BPF_PROG(e_move_mount, const struct path *from, const struct path *to, int ret)
{
	return ret ?: plain_decide(MNO_E_MOUNT, MNO_E_HOOK_MOUNT, 0);
}

SEC("lsm/sb_umount")
int BPF_PROG(e_umount, struct vfsmount *mnt, int flags, int ret)
{
	return ret ?: plain_decide(MNO_E_MOUNT, MNO_E_HOOK_MOUNT, flags);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(e_pivotroot, const struct path *old, const struct path *new, int ret)
{
	return ret ?: plain_decide(MNO_E_MOUNT, MNO_E_HOOK_MOUNT, 0);
}

SEC("lsm/userns_create")
int BPF_PROG(e_userns, const struct cred *cred, int ret)
{
	return ret ?: plain_decide(MNO_E_NAMESPACE, MNO_E_HOOK_OTHER, 0);
}

static __always_inline int kernel_code(int id)
{
	if (id == READING_MODULE)
		return plain_decide(MNO_E_MODULE, MNO_E_HOOK_OTHER, id);
	if (id == READING_KEXEC_IMAGE || id == READING_KEXEC_INITRAMFS)
		return plain_decide(MNO_E_KEXEC, MNO_E_HOOK_OTHER, id);
	return 0;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(e_read_file, struct file *file, int id, bool contents, int ret)
{
	return ret ?: kernel_code(id);
}

SEC("lsm/kernel_load_data")
int BPF_PROG(e_load_data, int id, bool contents, int ret)
{
	return ret ?: kernel_code(id);
}

SEC("lsm/uring_sqpoll")
int BPF_PROG(e_uring_sqpoll, int ret)
{
	return ret ?: plain_decide(MNO_E_IO_URING, MNO_E_HOOK_OTHER, 0);
}

SEC("lsm/uring_cmd")
int BPF_PROG(e_uring_cmd, struct io_uring_cmd *cmd, int ret)
{
	return ret ?: plain_decide(MNO_E_IO_URING, MNO_E_HOOK_OTHER, 0);
}
