/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel types of the enforcing programs; see mno_vmlinux.h. */
#pragma once

#include "mno_vmlinux_io.h"

#define FMODE_READ              0x1
#define FMODE_WRITE             0x2
#define FMODE_EXEC              0x20
#define O_TRUNC                 01000 /* x86-64, arm64 */
#define PROT_EXEC               0x4
#define SB_NOUSER               (1u << 31)
#define AF_INET                 2
#define AF_INET6                10
#define VM_EXEC                 0x4
#define MSG_FASTOPEN            0x20000000
#define CAP_OPT_NOAUDIT         2
#define READING_MODULE          2 /* of kernel_read_file_id and kernel_load_data_id alike */
#define READING_KEXEC_IMAGE     3
#define READING_KEXEC_INITRAMFS 4

struct iattr;
struct user_namespace;
struct mnt_idmap;
struct sockaddr;
struct io_uring_cmd;
struct perf_event_attr;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct vm_area_struct {
	struct file *vm_file;
	unsigned long vm_flags;
};

struct msghdr {
	void *msg_name;
	int msg_namelen;
	unsigned int msg_flags;
};

#pragma clang attribute pop
