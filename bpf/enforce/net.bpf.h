/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sockets: by LSM hooks, and by cgroup hooks where there are none. */
#pragma once

#include "maps.h"

/* A socket address of any family, as far as it is looked at. */
struct endpoint {
	__u8 addr[16];
	__u16 port, family;
	__u16 protocol; /* bit of mno_e_port_class */
};

struct sockaddr_text {
	__u16 family, port;
	__u32 v4;
	__u8 v6[16];
	__u32 scope;
};

static __always_inline __u16 protocol_bit(__u32 protocol)
{
	return protocol == 6 ? 1 : protocol == 17 ? 2 : 4;
}

static __always_inline void endpoint_v4(struct endpoint *p, __u32 v4)
{
	__builtin_memset(p->addr, 0, 10);
	p->addr[10] = p->addr[11] = 0xff;
	__builtin_memcpy(p->addr + 12, &v4, 4);
}

static __always_inline void ask_net(struct ask *a, const struct endpoint *p)
{
	struct mno_e_net_key key = {.prefixlen = 128};
	struct mno_e_net *n;
	void *inner;

	a->q.cls[1] = a->gen->socket_class[p->family & 63];
	if (p->family != AF_INET && p->family != AF_INET6)
		return;
	inner = bpf_map_lookup_elem(&nets, &a->slot);
	__builtin_memcpy(key.addr, p->addr, sizeof(key.addr));
	n = inner ? bpf_map_lookup_elem(inner, &key) : NULL;
	if (!n)
		return;
	for (int i = 0; i < MNO_E_PORTS; i++) {
		const struct mno_e_port_class *c = &n->port[i];

		if ((__u32)i >= n->n)
			break;
		if (c->protocols & p->protocol && p->port >= c->first && p->port <= c->last) {
			a->q.cls[0] = c->cls;
			break;
		}
	}
}

static __always_inline void endpoint_read(
	struct endpoint *p, struct sock *sk, const void *address, int len, __u32 op)
{
	struct sockaddr_text text = {0};

	/* a short address reads into the caller's buffer of 128 bytes, never beyond */
	bpf_probe_read_kernel(&text, sizeof(text), address);
	p->family = text.family;
	p->protocol = sk ? protocol_bit(sk->sk_protocol) : 4;
	/* bind takes AF_UNSPEC for AF_INET */
	if (op == MNO_E_BIND && !text.family && len >= 16)
		p->family = AF_INET;
	p->port = __builtin_bswap16(text.port);
	if (p->family == AF_INET)
		endpoint_v4(p, text.v4);
	else if (p->family == AF_INET6)
		__builtin_memcpy(p->addr, text.v6, sizeof(p->addr));
}

static __always_inline int socket_decide(
	struct socket *sock, const void *address, int len, __u32 op)
{
	struct endpoint p = {0};
	struct sock *sk = sock->sk;
	struct ask a;

	if (!ask_begin(&a, op, MNO_E_HOOK_SOCKET))
		return 0;
	if (address)
		endpoint_read(&p, sk, address, len, op);
	else
		p.family = sk ? sk->__sk_common.skc_family : 0;
	if (address)
		ask_net(&a, &p);
	else
		a.q.cls[1] = a.gen->socket_class[p.family & 63];
	return ask_end(&a, p.port, p.family, p.addr, 0);
}

SEC("lsm/socket_connect")
int BPF_PROG(e_probe_connect, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	return ret ?: socket_decide(sock, address, len, MNO_E_CONNECT);
}

SEC("lsm/socket_bind")
int BPF_PROG(e_probe_bind, struct socket *sock, struct sockaddr *address, int len, int ret)
{
	return ret ?: socket_decide(sock, address, len, MNO_E_BIND);
}

SEC("lsm/socket_listen")
int BPF_PROG(e_probe_listen, struct socket *sock, int backlog, int ret)
{
	return ret ?: socket_decide(sock, NULL, 0, MNO_E_LISTEN);
}

/* MSG_FASTOPEN connects without connect(). */
SEC("lsm/socket_sendmsg")
int BPF_PROG(e_probe_send, struct socket *sock, struct msghdr *msg, int size, int ret)
{
	if (!ret && msg->msg_name && msg->msg_flags & MSG_FASTOPEN)
		ret = socket_decide(sock, msg->msg_name, msg->msg_namelen, MNO_E_CONNECT);
	return ret ?: socket_decide(sock, msg->msg_name, msg->msg_namelen, MNO_E_SEND);
}

SEC("lsm/socket_create")
int BPF_PROG(e_socket, int family, int type, int protocol, int kern, int ret)
{
	struct ask a;

	if (ret || kern || !ask_begin(&a, MNO_E_SOCKET, MNO_E_HOOK_SOCKET))
		return ret;
	a.q.cls[1] = a.gen->socket_class[family & 63];
	return ask_end(&a, 0, family, NULL, type);
}

/* --- level L2: tasks of one cgroup, which has a domain of its own ----------------------------- */
static __always_inline int cgroup_decide(struct bpf_sock_addr *c, __u32 op, bool v6)
{
	struct endpoint p = {.family = v6 ? AF_INET6 : AF_INET};
	const struct mno_e_rule *rule = NULL;
	struct mno_e_answer got;
	struct ask a;

	if (!ask_begin_for(&a, op, MNO_E_HOOK_CGROUP, ctl.cgroup_domain))
		return 1;
	p.port = __builtin_bswap16((__u16)c->user_port);
	p.protocol = protocol_bit(c->protocol);
	if (v6) {
		__u32 w[4] = {c->user_ip6[0], c->user_ip6[1], c->user_ip6[2], c->user_ip6[3]};

		__builtin_memcpy(p.addr, w, sizeof(w));
	} else {
		endpoint_v4(&p, c->user_ip4);
	}
	ask_net(&a, &p);
	if (ask_decide(&a, &got, &rule)) {
		struct mno_e_record *r = record_begin(&a, &got, rule);

		if (r) {
			r->port = p.port;
			r->family = p.family;
			__builtin_memcpy(r->addr, p.addr, sizeof(r->addr));
			bpf_ringbuf_submit(r, 0);
		}
	}
	return !rule || rule->verdict < MNO_E_DENY;
}

#define CGROUP_HOOK(name, op, v6)                                                                  \
	SEC("cgroup/" #name) int e_##name(struct bpf_sock_addr *c)                                 \
	{                                                                                          \
		return cgroup_decide(c, op, v6);                                                   \
	}
CGROUP_HOOK(connect4, MNO_E_CONNECT, false)
CGROUP_HOOK(connect6, MNO_E_CONNECT, true)
CGROUP_HOOK(bind4, MNO_E_BIND, false)
CGROUP_HOOK(bind6, MNO_E_BIND, true)
CGROUP_HOOK(sendmsg4, MNO_E_SEND, false)
CGROUP_HOOK(sendmsg6, MNO_E_SEND, true)
