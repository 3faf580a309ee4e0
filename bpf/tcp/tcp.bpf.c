/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP connections: who, with whom, how long, how much. Everything hangs on the socket's state
 * changes; those that tell nothing new (half of them) leave at once.
 *
 * A flow is known by the socket's address from its first state until CLOSE, which every TCP
 * socket passes before it is freed. An accepted socket's owner is at first its listener's; the
 * side that closes does so in its own context and is then known for sure.
 *
 * Flows serve the records. A connection that begins while the record budget is spent gets none:
 * it is in all counters and histograms, its records are counted as sampled, and it costs half.
 */
#include "mno_bpf.h"
#include "mno_vmlinux_io.h"
#include "mno_cgroup.bpf.h"
#include "mno_hist_add.bpf.h"
#include <bpf/bpf_endian.h>
#include "tcp/tcp_wire.h"

#define AF_INET     2
#define AF_INET6    10
#define IPPROTO_TCP 6
#define SOCK_DONE   1 /* bit of sk_flags: the peer's FIN was taken */
#define ECONNRESET  104
#define EPIPE       32
#define ETIMEDOUT   110

/* include/net/tcp_states.h, part of the user API as BPF_TCP_* */
#define ST(s) (1u << BPF_TCP_##s)
#define WATCHED                                                                                    \
	(ST(ESTABLISHED) | ST(SYN_SENT) | ST(FIN_WAIT1) | ST(CLOSE) | ST(LAST_ACK) | ST(LISTEN))
#define HAD_PEER (~(ST(LISTEN) | ST(SYN_SENT) | ST(SYN_RECV) | ST(CLOSE)))

struct owner {
	__u64 start;
	__u32 pid;
	__u32 sure; /* seen in its own context, not taken from the listener */
	char comm[MNO_COMM_LEN];
};

struct flow {
	__u64 since; /* boottime: connect() until established, then that moment; 0 = before us */
	__u64 cgroup;
	struct owner who;
	__u32 direction;
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TCP_FLOWS);
	__type(key, __u64);
	__type(value, struct flow);
} flows SEC(".maps");

struct listen_key {
	__u64 net;
	__u8 ip[16]; /* zero: any */
	__u16 port;
	__u16 _pad[3];
};
struct listener {
	__u64 sk;
	__u64 cgroup;
	struct owner who;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TCP_LISTENERS);
	__type(key, struct listen_key);
	__type(value, struct listener);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TCP_SLOTS);
	__type(key, __u32);
	__type(value, struct tcp_cgroup);
} cgroups SEC(".maps");

/* what a CPU remembers for the rest of a jiffy */
struct {
	__u64 spent; /* the jiffy in which its record budget was found spent */
	__u64 slot;  /* cgroup id << 24 | jiffy << 8 | slot of the cgroup looked up last */
	__u64 _pad[6];
} cpus[MNO_MAX_CPUS];

/*
 * How many flows have each hash of the socket's address. Most sockets of a busy host have none
 * and are known for it by one load; sockets do not move and their events come one by one.
 */
#define MARK_BITS 12
__u32 marks[1 << MARK_BITS];

#define THIS_CPU (bpf_get_smp_processor_id() & (MNO_MAX_CPUS - 1))

static __always_inline bool is_spent(void)
{
	return cpus[THIS_CPU].spent == bpf_jiffies64();
}

/* Plain: only tcp_state counts here, and since 6.1 no program is run within itself on a CPU. */
static __always_inline int count_sampled(void)
{
	struct mno_pstats *st = mno_stats();

	if (st) {
		st->seen++;
		st->sampled++;
	}
	return 0;
}

static __always_inline __u32 *mark_of(const struct sock *sk)
{
	__u32 address;

	/* half of a pointer is a number to the verifier, a whole one may not be multiplied */
	asm("%0 = %1" : "=w"(address) : "w"((__u32)(__u64)sk));
	return &marks[address * 0x9e3779b1 >> (32 - MARK_BITS)];
}

static __always_inline struct flow *flow_of(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	return *mark_of(sk) ? bpf_map_lookup_elem(&flows, &key) : NULL;
}

/* @replace: what is known of the socket is of a connection before this one. */
static __always_inline long flow_put(const struct sock *sk, struct flow *f, bool replace)
{
	__u32 *mark = mark_of(sk);
	__u64 key = (__u64)sk;
	long r;

	mno_inc(*mark);
	r = bpf_map_update_elem(&flows, &key, f, BPF_NOEXIST);
	if (!r)
		return 0;
	mno_add(*mark, -1);
	return replace ? bpf_map_update_elem(&flows, &key, f, BPF_EXIST) : 0;
}

static __always_inline void flow_drop(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (!bpf_map_delete_elem(&flows, &key))
		mno_add(*mark_of(sk), -1);
}

static __always_inline bool begin(struct mno_pstats *st, struct mno_hdr *h, __u16 kind, __u32 size)
{
	if (mno_begin(st, h, kind, TCP_VERSION, size))
		return true;
	cpus[THIS_CPU].spent = bpf_jiffies64();
	return false;
}

/*
 * Most lookups repeat the one before. A slot stays with its cgroup for a second after that is
 * gone, so what was true in this jiffy still is; one word, for softirqs come between.
 */
static __always_inline struct tcp_cgroup *counters(__u64 cgid)
{
	__u64 tag = cgid << 16 | (bpf_jiffies64() & 0xffff), *word = &cpus[THIS_CPU].slot;
	__u64 seen = *word;
	__u32 slot = seen & (MNO_CGROUP_SLOTS - 1);

	if (seen >> 8 != tag || cgid >> 40) {
		slot = mno_cgroup_slot(cgid);
		*word = tag << 8 | slot;
	}
	return bpf_map_lookup_elem(&cgroups, &slot);
}

/* the cgroup that made the socket; of an accepted one, that of its listener */
static __always_inline __u64 sock_cgroup(const struct sock *sk)
{
	__u64 id = sk->sk_cgrp_data.cgroup->kn->id;

	/* keeps this load apart from one through another pointer, which the verifier refuses */
	barrier_var(id);
	return id;
}

static __always_inline void owner_is_current(struct owner *o)
{
	struct task_struct *t = bpf_get_current_task_btf();

	o->pid = t->tgid;
	o->start = t->group_leader->start_boottime;
	o->sure = 1;
	bpf_get_current_comm(o->comm, sizeof(o->comm));
}

static __always_inline void put_mapped(__u32 *to, __be32 v4)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = v4 ? bpf_htonl(0xffff) : 0;
	to[3] = v4;
}

static __always_inline void local_ip(const struct sock *sk, __u32 *to)
{
	if (sk->__sk_common.skc_family == AF_INET6 &&
		bpf_core_field_exists(sk->__sk_common.skc_v6_rcv_saddr)) {
		to[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		to[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		to[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		to[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
		return;
	}
	put_mapped(to, sk->__sk_common.skc_rcv_saddr);
}

static __always_inline void peer_ip(const struct sock *sk, __u32 *to)
{
	if (sk->__sk_common.skc_family == AF_INET6 &&
		bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		to[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		to[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		to[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		to[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
		return;
	}
	put_mapped(to, sk->__sk_common.skc_daddr);
}

/* The bound number is taken back before CLOSE is announced, the copy for headers is not. */
static __always_inline __u16 local_port(const struct sock *sk)
{
	__u16 n = sk->__sk_common.skc_num;
	struct tcp_sock *tp;

	if (n)
		return n;
	tp = bpf_skc_to_tcp_sock((void *)sk);
	return tp ? bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport) : 0;
}

static __always_inline void listen_key(const struct sock *sk, struct listen_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->net = (__u64)sk->__sk_common.skc_net.net;
	k->port = local_port(sk);
	local_ip(sk, (__u32 *)k->ip);
}

/* The listener that @sk came from: on its address, else on any address. */
static __always_inline struct listener *listener_of(const struct sock *sk)
{
	struct listener *l;
	struct listen_key k;

	listen_key(sk, &k);
	l = bpf_map_lookup_elem(&listeners, &k);
	if (l)
		return l;
	__builtin_memset(k.ip, 0, sizeof(k.ip));
	return bpf_map_lookup_elem(&listeners, &k);
}

static __always_inline void fill(
	struct tcp_event *e, const struct sock *sk, const struct owner *o, __u64 cgroup)
{
	e->pid_start_ns = o->start;
	e->pid = o->pid;
	__builtin_memcpy(e->comm, o->comm, sizeof(e->comm));
	e->cgroup = cgroup;
	e->local_port = local_port(sk);
	e->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	local_ip(sk, (__u32 *)e->local_ip);
	peer_ip(sk, (__u32 *)e->peer_ip);
}

static __always_inline int count_error(struct mno_pstats *st)
{
	mno_inc(st->errors);
	return 0;
}

static __always_inline int on_listen(struct mno_pstats *st, const struct sock *sk)
{
	struct listener l = {.sk = (__u64)sk};
	struct listen_key k;

	listen_key(sk, &k);
	l.cgroup = mno_task_cgroup_id(bpf_get_current_task_btf());
	owner_is_current(&l.who);
	return bpf_map_update_elem(&listeners, &k, &l, BPF_ANY) ? count_error(st) : 0;
}

static __always_inline int on_unlisten(const struct sock *sk)
{
	struct listen_key k;
	struct listener *l;

	listen_key(sk, &k);
	l = bpf_map_lookup_elem(&listeners, &k);
	if (l && l->sk == (__u64)sk) /* not of another that shares the port */
		bpf_map_delete_elem(&listeners, &k);
	return 0;
}

static __always_inline int on_connect(struct mno_pstats *st, const struct sock *sk)
{
	struct flow f = {.direction = TCP_DIR_OUT};

	f.since = bpf_ktime_get_boot_ns();
	f.cgroup = mno_task_cgroup_id(bpf_get_current_task_btf());
	owner_is_current(&f.who);
	return flow_put(sk, &f, true) ? count_error(st) : 0;
}

/*
 * Records are put together in functions with a stack of their own: most connections of a busy
 * host are past the budget and shall not pay for clearing the space. connect and accept:
 */
static __noinline int send_open(
	struct mno_pstats *st, struct sock *sk, struct flow *f, struct mno_hdr *h, __u64 ns)
{
	struct tcp_event e = {.hdr = *h, .duration_ns = ns};

	e.direction = f->direction;
	e.error = sk->sk_err;
	fill(&e, sk, &f->who, f->cgroup);
	mno_emit(st, &e, TCP_OPEN_SIZE);
	return 0;
}

static __always_inline void count_connect(struct tcp_cgroup *c, __u64 ns)
{
	mno_inc(c->connects);
	mno_add(c->connect_ns, ns);
	mno_hist_add(c->connect, ns);
}

/*
 * Without a flow: the SYN is all that was sent, once, else there would be one. When, and when
 * the answer came, the socket has in its own clock; reading the time costs more than the rest.
 */
static __always_inline int on_connected_sampled(struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct tcp_cgroup *c = counters(sock_cgroup(sk));

	if (c && tp && tp->tcp_clock_cache > tp->tcp_wstamp_ns)
		count_connect(c, tp->tcp_clock_cache - tp->tcp_wstamp_ns);
	return count_sampled();
}

static __always_inline int on_connected(struct mno_pstats *st, struct sock *sk, struct flow *f)
{
	struct tcp_cgroup *c = counters(f->cgroup);
	struct mno_hdr h;
	bool wanted;
	__u64 ns;

	wanted = begin(st, &h, TCP_CONNECT, TCP_OPEN_SIZE);
	ns = h.ktime - f->since;
	f->since = h.ktime;
	if (c)
		count_connect(c, ns);
	return wanted ? send_open(st, sk, f, &h, ns) : 0;
}

static __always_inline int on_accepted(struct mno_pstats *st, struct sock *sk, __u64 cgid)
{
	struct flow f = {.direction = TCP_DIR_IN};
	struct listener *l;
	struct mno_hdr h;

	f.cgroup = cgid;
	if (begin(st, &h, TCP_ACCEPT, TCP_OPEN_SIZE)) {
		l = listener_of(sk);
		if (l) {
			f.who = l->who;
			f.who.sure = 0;
		}
		send_open(st, sk, &f, &h, 0);
	}
	f.since = h.ktime;
	return flow_put(sk, &f, true) ? count_error(st) : 0;
}

/* close() or shutdown(): for once in the owner's own context */
static __always_inline int on_finish(const struct sock *sk)
{
	struct flow *f = flow_of(sk);
	struct task_struct *t;

	if (!f || f->who.sure)
		return 0;
	t = bpf_get_current_task_btf();
	if (t->flags & PF_KTHREAD)
		return 0;
	owner_is_current(&f->who);
	f->cgroup = mno_task_cgroup_id(t);
	return 0;
}

static __always_inline int on_refused(struct mno_pstats *st, struct sock *sk)
{
	struct flow *f = flow_of(sk);
	struct tcp_cgroup *c = counters(f ? f->cgroup : sock_cgroup(sk));
	struct mno_hdr h;

	if (c)
		mno_inc(c->failures);
	if (!f)
		return count_sampled();
	if (begin(st, &h, TCP_CONNECT, TCP_OPEN_SIZE))
		send_open(st, sk, f, &h, h.ktime - f->since);
	flow_drop(sk);
	return 0;
}

static __always_inline __u32 reason_of(int old, int err)
{
	if (err == ECONNRESET || err == EPIPE)
		return TCP_END_RESET;
	if (err == ETIMEDOUT)
		return TCP_END_TIMEOUT;
	if (err)
		return TCP_END_ERROR;
	if (old == BPF_TCP_ESTABLISHED || old == BPF_TCP_CLOSE_WAIT)
		return TCP_END_ABORTED;
	return old == BPF_TCP_LAST_ACK ? TCP_END_PEER : TCP_END_CLOSED;
}

/* payload only: the kernel counts the peer's FIN as a byte received */
static __always_inline __u64 received(const struct tcp_sock *tp, const struct sock *sk)
{
	__u64 n = tp->bytes_received;

	return n && sk->__sk_common.skc_flags & 1u << SOCK_DONE ? n - 1 : n;
}

static __noinline int send_close(
	struct mno_pstats *st, struct sock *sk, struct flow *f, struct mno_hdr *h, int old)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct tcp_event e = {.hdr = *h};
	struct listener *l;

	if (tp) {
		e.bytes_in = received(tp, sk);
		e.bytes_out = tp->bytes_sent - tp->bytes_retrans;
		e.srtt_us = tp->srtt_us >> 3;
		e.retransmits = tp->total_retrans;
	}
	e.error = sk->sk_err;
	e.reason = reason_of(old, e.error);
	e.direction = f->direction;
	e.duration_ns = f->since ? h->ktime - f->since : 0;
	if (!f->who.pid && f->direction == TCP_DIR_IN) {
		l = listener_of(sk);
		if (l)
			f->who = l->who;
	}
	fill(&e, sk, &f->who, f->cgroup);
	mno_emit(st, &e, sizeof(e));
	return 0;
}

static __always_inline void count_close(struct sock *sk, __u64 cgid)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct tcp_cgroup *c = counters(cgid);
	__u64 rtt;

	if (!tp || !c)
		return;
	mno_add(c->bytes_in, received(tp, sk));
	mno_add(c->bytes_out, tp->bytes_sent - tp->bytes_retrans);
	rtt = (__u64)(tp->srtt_us >> 3) * 1000;
	if (rtt) {
		mno_inc(c->rtt_count);
		mno_add(c->rtt_ns, rtt);
		mno_hist_add(c->rtt, rtt);
	}
}

static __always_inline int on_close(struct mno_pstats *st, struct sock *sk, struct flow *f, int old)
{
	struct mno_hdr h;

	count_close(sk, f->cgroup);
	if (begin(st, &h, TCP_CLOSE, sizeof(struct tcp_event)))
		send_close(st, sk, f, &h, old);
	flow_drop(sk);
	return 0;
}

static __always_inline int connected(struct sock *sk)
{
	struct flow *f = flow_of(sk);
	struct mno_pstats *st;

	if (!f)
		return on_connected_sampled(sk);
	st = mno_stats();
	return st ? on_connected(st, sk, f) : 0;
}

static __always_inline int accepted(struct sock *sk)
{
	__u64 cgid = sock_cgroup(sk);
	struct tcp_cgroup *c = counters(cgid);
	struct mno_pstats *st;

	if (c)
		mno_inc(c->accepts);
	if (is_spent())
		return count_sampled();
	st = mno_stats();
	return st ? on_accepted(st, sk, cgid) : 0;
}

static __always_inline int closed(struct sock *sk, int old)
{
	struct flow *f = flow_of(sk);
	struct mno_pstats *st;

	if (!f) {
		count_close(sk, sock_cgroup(sk));
		return count_sampled();
	}
	st = mno_stats();
	return st ? on_close(st, sk, f, old) : 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int new)
{
	struct mno_pstats *st;

	if (!(1u << (new & 31) & WATCHED) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == BPF_TCP_FIN_WAIT1 || new == BPF_TCP_LAST_ACK)
		return on_finish(sk);
	if (new == BPF_TCP_CLOSE && 1u << (old & 31) & HAD_PEER)
		return closed(sk, old);
	if (new == BPF_TCP_ESTABLISHED) {
		if (old == BPF_TCP_SYN_SENT)
			return connected(sk);
		return old == BPF_TCP_SYN_RECV ? accepted(sk) : 0;
	}
	if (new == BPF_TCP_SYN_SENT && is_spent())
		return 0;
	st = mno_stats();
	if (!st)
		return 0;
	if (new == BPF_TCP_SYN_SENT)
		return on_connect(st, sk);
	if (new == BPF_TCP_LISTEN)
		return on_listen(st, sk);
	if (old == BPF_TCP_SYN_SENT)
		return on_refused(st, sk);
	return old == BPF_TCP_LISTEN ? on_unlisten(sk) : 0;
}

/*
 * A SYN that was lost is worth a flow even past the budget: how long the connection took is
 * what nobody would know otherwise. The first one is sent again after TCP_TIMEOUT_INIT, 1 s.
 */
static __always_inline void flow_of_lost_syn(struct sock *sk)
{
	struct flow f = {.direction = TCP_DIR_OUT};

	f.since = bpf_ktime_get_boot_ns() - 1000000000;
	f.cgroup = sock_cgroup(sk);
	flow_put(sk, &f, false);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, struct sock *sk)
{
	struct flow *f = flow_of(sk);
	struct tcp_cgroup *c = counters(f ? f->cgroup : sock_cgroup(sk));

	if (c)
		mno_inc(c->retransmits);
	if (!f && sk->__sk_common.skc_state == BPF_TCP_SYN_SENT)
		flow_of_lost_syn(sk);
	return 0;
}

/* Sockets that were there before: run once, after attaching. */
SEC("iter/task_file")
int tcp_seed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *t = ctx->task;
	struct file *file = ctx->file;
	struct listener l = {};
	struct listen_key k;
	struct socket *so;
	struct flow f = {};
	struct sock *sk;
	__u8 state;

	if (!t || !file)
		return 0;
	so = bpf_sock_from_file(file);
	if (!so)
		return 0;
	sk = so->sk;
	if (!sk || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6)
		return 0;
	l.who.pid = t->tgid;
	l.who.start = t->group_leader->start_boottime;
	l.cgroup = mno_task_cgroup_id(t);
	state = sk->__sk_common.skc_state;
	if (state == BPF_TCP_LISTEN) {
		l.sk = (__u64)sk;
		listen_key(sk, &k);
		bpf_map_update_elem(&listeners, &k, &l, BPF_NOEXIST);
	} else if (1u << (state & 31) & HAD_PEER) {
		f.who = l.who;
		f.cgroup = l.cgroup;
		flow_put(sk, &f, false);
	}
	return 0;
}
