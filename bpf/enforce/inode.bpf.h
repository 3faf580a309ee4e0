/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Mapping for execution, and names: these hooks have no path, labels only (mmap_file has both). */
#pragma once

#include "object.bpf.h"

static __always_inline int entry_decide(struct dentry *d, __u32 op)
{
	struct ask a;

	if (!ask_begin(&a, op, MNO_E_HOOK_INODE))
		return 0;
	ask_labels(&a, d, d->d_inode);
	return ask_end_entry(&a, d->d_inode);
}

SEC("lsm/mmap_file")
int BPF_PROG(e_mmap, struct file *file, unsigned long reqprot, unsigned long prot,
	unsigned long flags, int ret)
{
	struct ask a;

	if (ret || !(prot & PROT_EXEC) || !ask_begin(&a, MNO_E_MMAP_EXEC, MNO_E_HOOK_MMAP))
		return ret;
	if (!file) /* memory that no file is behind: the class of all objects */
		return ask_end(&a, 0, 0, NULL, 0);
	ask_labels(&a, file->f_path.dentry, file->f_inode);
	ask_path(&a, file);
	return ask_end_file(&a, file);
}

SEC("lsm/file_mprotect")
int BPF_PROG(
	e_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot, int ret)
{
	struct file *file = vma->vm_file;
	struct ask a;

	if (ret || !(prot & PROT_EXEC) || vma->vm_flags & VM_EXEC ||
		!ask_begin(&a, MNO_E_MPROTECT_EXEC, MNO_E_HOOK_MPROTECT))
		return ret;
	if (!file)
		return ask_end(&a, 0, 0, NULL, 0);
	ask_labels(&a, file->f_path.dentry, file->f_inode);
	return ask_end_entry(&a, file->f_inode);
}

SEC("lsm/inode_unlink")
int BPF_PROG(e_unlink, struct inode *dir, struct dentry *d, int ret)
{
	return ret ?: entry_decide(d, MNO_E_UNLINK);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(e_rmdir, struct inode *dir, struct dentry *d, int ret)
{
	return ret ?: entry_decide(d, MNO_E_UNLINK);
}

/* Out of a labelled tree, into one, and over what has a label. */
SEC("lsm/inode_rename")
int BPF_PROG(e_rename, struct inode *old_dir, struct dentry *old, struct inode *new_dir,
	struct dentry *new, int ret)
{
	if (!ret)
		ret = entry_decide(old, MNO_E_RENAME);
	return ret ?: entry_decide(new, MNO_E_RENAME);
}

SEC("lsm/inode_link")
int BPF_PROG(e_link, struct dentry *old, struct inode *dir, struct dentry *new, int ret)
{
	if (!ret)
		ret = entry_decide(old, MNO_E_LINK);
	return ret ?: entry_decide(new, MNO_E_LINK);
}

SEC("lsm/inode_create")
int BPF_PROG(e_create, struct inode *dir, struct dentry *d, unsigned short mode, int ret)
{
	return ret ?: entry_decide(d, MNO_E_CREATE);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(e_mkdir, struct inode *dir, struct dentry *d, unsigned short mode, int ret)
{
	return ret ?: entry_decide(d, MNO_E_CREATE);
}

SEC("lsm/inode_mknod")
int BPF_PROG(e_mknod, struct inode *dir, struct dentry *d, unsigned short mode, unsigned int dev,
	int ret)
{
	return ret ?: entry_decide(d, MNO_E_CREATE);
}

SEC("lsm/inode_symlink")
int BPF_PROG(e_symlink, struct inode *dir, struct dentry *d, const char *to, int ret)
{
	return ret ?: entry_decide(d, MNO_E_CREATE);
}

/* The hook got another first argument in 6.9: of such twins the one whose number of arguments
 * ends its name is loaded. */
SEC("lsm/inode_setattr")
int BPF_PROG(e_setattr_2, struct dentry *d, struct iattr *attr, int ret)
{
	return ret ?: entry_decide(d, MNO_E_SETATTR);
}

SEC("lsm/inode_setattr")
int BPF_PROG(e_setattr_3, struct mnt_idmap *map, struct dentry *d, struct iattr *attr, int ret)
{
	return ret ?: entry_decide(d, MNO_E_SETATTR);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(e_setxattr, void *map, struct dentry *d, const char *name, const void *value,
	unsigned long size, int flags, int ret)
{
	return ret ?: entry_decide(d, MNO_E_SETATTR);
}
