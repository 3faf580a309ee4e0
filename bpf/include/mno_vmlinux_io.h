/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel types of the block, tcp and memory probes; see mno_vmlinux.h. */
#pragma once

#include "mno_vmlinux.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup_root {
	int hierarchy_id; /* 0 is the v2 tree */
};
struct cgroup___root {
	struct cgroup_root *root;
};
struct blkcg {
	struct cgroup_subsys_state css;
};
struct blkcg_gq {
	struct blkcg *blkcg;
};
struct bio {
	struct blkcg_gq *bi_blkg;
};
struct gendisk {
	int major, first_minor;
};
struct request_queue {
	struct gendisk *disk;
};
struct request {
	struct request_queue *q;
	__u32 cmd_flags;
	unsigned int __data_len;
	struct bio *bio;
	__u64 start_time_ns;
};

struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
	unsigned long skc_flags;
};
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u16 sk_protocol;
	struct sock_cgroup_data sk_cgrp_data;
};
struct inet_sock {
	__be16 inet_sport;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received, bytes_sent, bytes_retrans;
	__u64 tcp_wstamp_ns, tcp_clock_cache; /* CLOCK_MONOTONIC: last sent, last looked */
	__u32 srtt_us, total_retrans;
};
struct socket {
	struct sock *sk;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* mm_struct.rss_stat: one array of counters until f1a7941243c1 (6.2), then per-CPU counters */
typedef struct {
	__s64 counter;
} mno_atomic_long_t;
struct mm_rss_stat___old {
	mno_atomic_long_t count[4];
};
struct mm_struct___old {
	struct mm_rss_stat___old rss_stat;
};
struct percpu_counter {
	__s64 count;
};
struct mm_struct___new {
	struct percpu_counter rss_stat[4];
};
struct signal_struct___oom {
	short oom_score_adj;
};

#pragma clang attribute pop
