/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opening and mapping files. */
#pragma once

#include "object.bpf.h"

static __always_inline int file_decide(struct file *file, __u32 op)
{
	struct ask a;

	if (!ask_begin(&a, op, MNO_E_HOOK_FILE_OPEN))
		return 0;
	ask_labels(&a, file->f_path.dentry, file->f_inode);
	ask_path(&a, file);
	return ask_end_file(&a, file);
}

/* An open for exec is decided as exec, with the program in hand (bprm_check_security); that of
 * the program's loader when it is mapped. O_PATH does not come here; its reopening does. */
SEC("lsm/file_open")
int BPF_PROG(e_file_open, struct file *file, int ret)
{
	if (ctl.self_tgid && bpf_get_current_pid_tgid() >> 32 == ctl.self_tgid)
		count(self_test);
	if (ret || file->f_flags & FMODE_EXEC)
		return ret;
	/* O_TRUNC writes, whatever else was asked for */
	if (file->f_mode & FMODE_WRITE || file->f_flags & O_TRUNC)
		ret = file_decide(file, MNO_E_WRITE);
	if (!ret && file->f_mode & FMODE_READ)
		ret = file_decide(file, MNO_E_READ);
	return ret;
}
