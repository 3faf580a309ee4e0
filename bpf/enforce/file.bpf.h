/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opening and mapping files. */
#pragma once

#include "object.bpf.h"

/* An open for exec is decided as exec, with the program in hand (bprm_check_security); that of
 * the program's loader when it is mapped. O_PATH does not come here; its reopening does. */
SEC("lsm/file_open")
int BPF_PROG(e_file_open, struct file *file, int ret)
{
	bool write, both;
	struct ask a;

	if (ctl.self_tgid && bpf_get_current_pid_tgid() >> 32 == ctl.self_tgid)
		count(self_test);
	if (ret || file->f_flags & FMODE_EXEC)
		return ret;
	/* O_TRUNC writes, whatever else was asked for */
	write = file->f_mode & FMODE_WRITE || file->f_flags & O_TRUNC;
	if (!ask_begin(&a, write ? MNO_E_WRITE : MNO_E_READ, MNO_E_HOOK_FILE_OPEN) && !write)
		return 0;
	if (!a.gen)
		return 0;
	both = write && file->f_mode & FMODE_READ;
	a.ops = 1u << a.q.op | (both ? 1u << MNO_E_READ : 0);
	if (!(a.gen->domain[a.q.domain & (MNO_E_DOMAINS - 1)].ops & a.ops))
		return 0;
	ask_labels(&a, file->f_path.dentry, file->f_inode);
	ask_path(&a, file);
	ret = ask_end_file(&a, file);
	if (ret || !both)
		return ret;
	a.q.op = MNO_E_READ;
	return ask_end_file(&a, file);
}
