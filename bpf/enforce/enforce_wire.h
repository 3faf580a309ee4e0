/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Layout of everything that the enforcing programs and their user side share. A change of any
 * value that is pinned raises MNO_ENFORCE_ABI: pins of another number are not adopted.
 */
#pragma once

#include <linux/types.h>

#define MNO_ENFORCE_ABI 1

#define MNO_E_DOMAINS    32    /* domain 0: every task that entered none */
#define MNO_E_CLASSES    16384 /* of objects: labels, accepting path states, addresses, ... */
#define MNO_E_ROWS       16384
#define MNO_E_RULES      16384 /* rule 0 is "nothing applies" */
#define MNO_E_WALK       128   /* directories from an object to the root of its file system */
#define MNO_E_PATH_BYTES 4096
#define MNO_E_SLOTS      64 /* scratch buffers; claimed, never per CPU: programs are preempted */
#define MNO_E_PROBES     32 /* of them tried before giving up */
#define MNO_E_PORTS      8  /* port ranges of one network */

/* Operations; what they mean is in ops.def of the policy language. */
enum mno_e_op {
	MNO_E_READ,
	MNO_E_WRITE,
	MNO_E_EXEC,
	MNO_E_CREATE,
	MNO_E_UNLINK,
	MNO_E_RENAME,
	MNO_E_LINK,
	MNO_E_SETATTR,
	MNO_E_MMAP_EXEC,
	MNO_E_MPROTECT_EXEC,
	MNO_E_CONNECT,
	MNO_E_BIND,
	MNO_E_LISTEN,
	MNO_E_SEND,
	MNO_E_SOCKET,
	MNO_E_CAPABILITY,
	MNO_E_PTRACE,
	MNO_E_SIGNAL,
	MNO_E_MOUNT,
	MNO_E_NAMESPACE,
	MNO_E_MODULE,
	MNO_E_KEXEC,
	MNO_E_BPF,
	MNO_E_PERF,
	MNO_E_IO_URING,
	MNO_E_OPS,
};

enum mno_e_verdict { MNO_E_ALLOW, MNO_E_AUDIT, MNO_E_DENY, MNO_E_KILL };

/* Classes with a fixed meaning. */
enum mno_e_class {
	MNO_E_CLASS_ANY,    /* every object of an operation */
	MNO_E_CLASS_PSEUDO, /* files of a file system that cannot be mounted: pipes, memfds, ... */
	MNO_E_CLASS_FREE,   /* the compiler numbers its own from here */
};

/* Of the rules that apply the highest rank decides; the compiler puts priority, verdict and
 * order in the file into it, so that no two rules have the same. */
struct mno_e_rule {
	__u32 id;
	__u32 rank;
	__u8 verdict;
	__u8 record; /* a record also of what is allowed */
	__u16 _pad;
	__u32 _pad2;
};

/* What a domain does with a class: the deciding rule of each operation (0: none). */
struct mno_e_row {
	__u16 rule[31];
	__u16 enter; /* executing such a file enters this domain; 0: stay */
};

struct mno_e_domain {
	__u32 ops;             /* bit mask: operations that any rule or default speaks of */
	__u32 ops_label;       /* of them, those that look for labels */
	__u32 ops_path;        /* of them, those that match the path */
	__u16 default_rule;    /* applies with rank 0 when nothing else does */
	__u16 unresolved_rule; /* applies when an object's attributes cannot be had */
	__u32 path_root;       /* start of the automaton */
	__u32 path_mask;       /* its number of cells - 1 */
	__u32 _pad[2];
};

/* One generation of the tables: the value of an array of one element, frozen when filled. */
struct mno_e_gen {
	__u32 generation;
	__u32 n_rules;
	struct mno_e_domain domain[MNO_E_DOMAINS];
	__u16 cap_class[64];             /* class of a capability */
	__u16 peer_class[MNO_E_DOMAINS]; /* class of the domain that a signal or ptrace goes to */
	__u16 socket_class[64];          /* class of an address family */
	struct mno_e_rule rule[MNO_E_RULES];
	struct mno_e_row row[MNO_E_ROWS];
	__u16 row_of[MNO_E_DOMAINS][MNO_E_CLASSES];
};

/* Storage of an inode, a number for each of the two generations: equal objects, equal class. */
struct mno_e_label {
	__u32 self[2];  /* class of the object alone */
	__u32 below[2]; /* class of it and all below, up to the next label of this kind */
};

/* Longest prefix first: {bits, address}; IPv4 as ::ffff:a.b.c.d. */
struct mno_e_net_key {
	__u32 prefixlen;
	__u8 addr[16];
};
struct mno_e_port_class {
	__u16 first, last;
	__u16 protocols; /* bit 0 TCP, bit 1 UDP, bit 2 any other */
	__u16 cls;
};
struct mno_e_net {
	__u32 n;
	__u32 _pad;
	struct mno_e_port_class port[MNO_E_PORTS];
};

/* Subject: by the address of the task; no entry is domain 0. */
struct mno_e_task {
	__u32 domain;
	__u32 pending; /* domain that the running exec enters, + 1; 0: none */
};

/* A process that runs before arming: all of its threads enter the domain. */
struct mno_e_seed {
	__u32 domain;
	__u32 _pad;
	__u64 start_ticks; /* of /proc/PID/stat: the same process still */
};

/* Which slot decides, as one word that is read once and written at once:
 * bits 0-7 slot, 8-15 slot to fall back to (MNO_E_NONE: nothing is enforced), 16-63 the
 * deadline in ms of CLOCK_BOOTTIME (0: confirmed). */
#define MNO_E_NONE 0xff

enum mno_e_hook {
	MNO_E_HOOK_FILE_OPEN = 1,
	MNO_E_HOOK_BPRM,
	MNO_E_HOOK_MMAP,
	MNO_E_HOOK_MPROTECT,
	MNO_E_HOOK_INODE,
	MNO_E_HOOK_SOCKET,
	MNO_E_HOOK_CAPABLE,
	MNO_E_HOOK_PTRACE,
	MNO_E_HOOK_KILL,
	MNO_E_HOOK_BPF,
	MNO_E_HOOK_MOUNT,
	MNO_E_HOOK_OTHER,
	MNO_E_HOOK_CGROUP,
	MNO_E_HOOK_DRY,
};

#define MNO_E_UNRESOLVED 1 /* record flag: the object could not be resolved */
#define MNO_E_HAS_PATH   2

/* One decision that denied, or that a rule wants recorded. */
struct mno_e_record {
	__u32 size;
	__u32 generation;
	__u64 ktime; /* CLOCK_BOOTTIME, ns */
	__u64 seq;   /* of all records that were due: a gap is a loss */
	__u32 rule_id;
	__u16 rule;
	__u8 op;
	__u8 hook;
	__u8 verdict;
	__u8 flags;
	__u16 domain;
	__u32 cls;
	__u32 pid, tgid;
	__u64 start_ns;
	__u64 cgroup;
	__u64 device, inode; /* of files; of others: 0 and what the hook was asked for */
	__u8 addr[16];
	__u16 port, family;
	__u32 _pad;
	char comm[16];
	char path[256];
};

/* Counters of all programs; each value only grows. */
struct mno_e_stats {
	__u64 decisions, audited, denied, killed;
	__u64 records, lost;
	__u64 unresolved, no_slot, path_failed;
	__u64 task_full, seeded, fell_back;
	__u64 self_test; /* file_open called by the process in control.self_tgid */
};

struct mno_e_control {
	__u64 state; /* see MNO_E_NONE */
	__u32 abi;
	__u32 self_tgid;
	__u64 path_bytes;    /* of each path table */
	__u32 cgroup_domain; /* of tasks in the cgroup of level L2 that have no other */
	__u32 _pad;
	struct mno_e_stats stats;
};

#define MNO_E_DRY_BATCH 1024
/* Dry run: the classes are given, or a path, whose class is then found. */
struct mno_e_dry {
	__u32 slot, domain, op, path_len;
	__u32 cls[3];
	__u32 ret_rule, ret_class;
	char path[256];
};
