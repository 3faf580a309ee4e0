/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Records and map values of the tcp probe, shared by both sides. */
#pragma once

#include "mno_wire.h"
#include "mno_hist.h"

#define TCP_SLOTS     256   /* MNO_CGROUP_SLOTS */
#define TCP_FLOWS     16384 /* connections whose owner and start are known */
#define TCP_LISTENERS 4096

#define TCP_CONNECT MNO_KIND(tcp, 1)
#define TCP_ACCEPT  MNO_KIND(tcp, 2)
#define TCP_CLOSE   MNO_KIND(tcp, 3)
#define TCP_VERSION 1

enum tcp_direction { TCP_DIR_UNKNOWN, TCP_DIR_OUT, TCP_DIR_IN };

enum tcp_reason {
	TCP_END_CLOSED,  /* both sides sent their FIN, this one first */
	TCP_END_PEER,    /* both sides sent their FIN, the peer first */
	TCP_END_RESET,   /* by the peer */
	TCP_END_ABORTED, /* by this side */
	TCP_END_TIMEOUT, /* the peer did not answer any more */
	TCP_END_ERROR,   /* another error of the network: .error */
	TCP_REASONS
};

/*
 * One layout for the three kinds; connect and accept end before .bytes_in. Addresses are IPv6,
 * IPv4 mapped into it, ports in host order.
 */
struct tcp_event {
	struct mno_hdr hdr;
	__u64 pid_start_ns; /* 0 when the owner is not known */
	__u64 cgroup;
	__u64 duration_ns; /* connect: until it was answered; accept: 0; close: since then */
	__u32 pid;
	__s32 error; /* errno, positive; 0 for none */
	__u32 direction;
	__u16 local_port, peer_port;
	__u8 local_ip[16], peer_ip[16];
	char comm[MNO_COMM_LEN];
	/* close only */
	__u64 bytes_in, bytes_out;
	__u32 srtt_us, retransmits;
	__u32 reason;
	__u32 _pad;
};
#define TCP_OPEN_SIZE __builtin_offsetof(struct tcp_event, bytes_in)
_Static_assert(TCP_OPEN_SIZE == 120, "connect, accept layout");
_Static_assert(sizeof(struct tcp_event) == 152, "close layout");

struct tcp_cgroup {
	__u64 connects, accepts, failures;
	__u64 bytes_in, bytes_out; /* payload, counted at close */
	__u64 retransmits;
	__u64 connect_ns;        /* of .connects */
	__u64 rtt_count, rtt_ns; /* smoothed round trip time at close */
	__u64 _pad[7];
	__u32 connect[MNO_HIST_BUCKETS];
	__u32 rtt[MNO_HIST_BUCKETS];
};
_Static_assert(sizeof(struct tcp_cgroup) == 128 + 8 * MNO_HIST_BUCKETS, "cgroup layout");
