/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Refuses one file to one cgroup by the LSM hook file_open; everything else passes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define EPERM 1

/* The few kernel types that are read, relocated against the running kernel's BTF. */
struct super_block {
	unsigned int s_dev;
} __attribute__((preserve_access_index));

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} __attribute__((preserve_access_index));

struct file {
	struct inode *f_inode;
} __attribute__((preserve_access_index));

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before the program is attached; all 0 refuses nobody. */
__u64 target_cgroup, target_inode;
__u32 target_device; /* the kernel's own encoding: major << 20 | minor */
/* Opens of the target file: all of them, and those refused. */
__u64 called, denied;

/* Plain typed loads only: bpf_probe_read_kernel is refused under lockdown=confidentiality. */
SEC("lsm/file_open")
int BPF_PROG(smoke_file_open, struct file *file, int ret)
{
	struct inode *inode = file->f_inode;

	if (ret)
		return ret;
	if (inode->i_ino != target_inode || inode->i_sb->s_dev != target_device)
		return 0;
	__sync_fetch_and_add(&called, 1);
	if (bpf_get_current_cgroup_id() != target_cgroup)
		return 0;
	__sync_fetch_and_add(&denied, 1);
	return -EPERM;
}
