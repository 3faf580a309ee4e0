/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which domain a task is in: inherited by fork, entered by exec, seeded for those that run already. */
#pragma once

#include "object.bpf.h"

/* No room means no process, for a task of a domain: one that loses its domain would be free. */
SEC("lsm/task_alloc")
int BPF_PROG(e_task_alloc, struct task_struct *task, unsigned long flags, int ret)
{
	struct mno_e_task *parent, child = {0};
	__u64 key = (__u64)task;

	if (ret)
		return ret;
	parent = task_entry(bpf_get_current_task_btf());
	if (!parent || !parent->domain)
		return 0;
	child.domain = parent->domain;
	if (!bpf_map_update_elem(&tasks, &key, &child, BPF_ANY))
		return 0;
	count(task_full);
	return -EAGAIN;
}

SEC("lsm/task_free")
int BPF_PROG(e_task_free, struct task_struct *task)
{
	__u64 key = (__u64)task;

	bpf_map_delete_elem(&tasks, &key);
	return 0;
}

/* An exec that failed after the check left its pending domain behind. */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(e_exec_begin, struct linux_binprm *bprm, int ret)
{
	struct mno_e_task *t = task_entry(bpf_get_current_task_btf());

	if (t)
		t->pending = 0;
	return ret;
}

static __always_inline int pend(struct mno_e_task *t, __u32 to)
{
	struct mno_e_task fresh = {.pending = to + 1};
	__u64 key = (__u64)bpf_get_current_task_btf();

	if (t) {
		/* a script's own domain comes before its interpreter's */
		if (!t->pending)
			t->pending = to + 1;
		return 0;
	}
	if (!bpf_map_update_elem(&tasks, &key, &fresh, BPF_ANY))
		return 0;
	count(task_full);
	return -EAGAIN;
}

/* Runs for a script and then for its interpreter. */
SEC("lsm/bprm_check_security")
int BPF_PROG(e_exec, struct linux_binprm *bprm, int ret)
{
	struct file *file = bprm->file;
	struct ask a;
	__u32 to;
	int r;

	if (ret)
		return ret;
	if (!ask_begin(&a, MNO_E_EXEC, MNO_E_HOOK_BPRM))
		return 0;
	ask_labels(&a, file->f_path.dentry, file->f_inode);
	ask_path(&a, file);
	r = ask_end_file(&a, file);
	if (r)
		return r;
	to = mno_e_enters(a.gen, &a.q);
	return to ? pend(task_entry(bpf_get_current_task_btf()), to) : 0;
}

SEC("lsm/bprm_committed_creds")
int BPF_PROG(e_exec_done, struct linux_binprm *bprm)
{
	struct mno_e_task *t = task_entry(bpf_get_current_task_btf());

	if (t && t->pending) {
		t->domain = (t->pending - 1) & (MNO_E_DOMAINS - 1);
		t->pending = 0;
	}
	return 0;
}

/* All threads of the processes in seeds, io workers too; run until a pass counts nothing. */
SEC("iter/task")
int e_seed(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct mno_e_task fresh = {0}, *old;
	struct mno_e_seed *s;
	__u64 key = (__u64)t;
	__u32 tgid;

	if (!t)
		return 0;
	tgid = t->tgid;
	s = bpf_map_lookup_elem(&seeds, &tgid);
	if (!s || t->group_leader->start_boottime / 10000000 != s->start_ticks)
		return 0;
	old = bpf_map_lookup_elem(&tasks, &key);
	if (old && old->domain)
		return 0;
	fresh.domain = s->domain;
	if (bpf_map_update_elem(&tasks, &key, &fresh, BPF_ANY))
		count(task_full);
	else
		count(seeded);
	return 0;
}
