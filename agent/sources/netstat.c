/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/net/snmp and /proc/net/netstat: pairs of lines, "Tcp: Name Name" and "Tcp: 1 2". The
 * names of a pair are looked at when their line changes, which it does with the kernel only.
 */
#include <errno.h>
#include <stdio.h>

#include "source.h"

/* What is taken, as <protocol>_<name>; a name that ends in '*' is a prefix. */
static const char *const wanted[] = {
	"Icmp_InMsgs",
	"Icmp_InErrors",
	"Icmp_InDestUnreachs",
	"Icmp_OutMsgs",
	"Icmp_OutErrors",
	"Icmp_OutDestUnreachs",
	"Ip_Forwarding",
	"Ip_InReceives",
	"Ip_InHdrErrors",
	"Ip_InAddrErrors",
	"Ip_ForwDatagrams",
	"Ip_InDiscards",
	"Ip_InDelivers",
	"Ip_OutRequests",
	"Ip_OutDiscards",
	"Ip_OutNoRoutes",
	"Ip_ReasmFails",
	"Ip_FragFails",
	"IpExt_InOctets",
	"IpExt_OutOctets",
	"IpExt_InCsumErrors",
	"IpExt_InCEPkts",
	"Tcp_ActiveOpens",
	"Tcp_PassiveOpens",
	"Tcp_AttemptFails",
	"Tcp_EstabResets",
	"Tcp_CurrEstab",
	"Tcp_InSegs",
	"Tcp_OutSegs",
	"Tcp_RetransSegs",
	"Tcp_InErrs",
	"Tcp_OutRsts",
	"Tcp_InCsumErrors",
	"TcpExt_Syncookies*",
	"TcpExt_EmbryonicRsts",
	"TcpExt_PruneCalled",
	"TcpExt_RcvPruned",
	"TcpExt_TW",
	"TcpExt_DelayedACKs",
	"TcpExt_Listen*",
	"TcpExt_TCPLostRetransmit",
	"TcpExt_TCPFastRetrans",
	"TcpExt_TCPSlowStartRetrans",
	"TcpExt_TCPTimeouts",
	"TcpExt_TCPLossProbes",
	"TcpExt_TCPSpuriousRTOs",
	"TcpExt_TCPBacklogDrop",
	"TcpExt_TCPRcvQDrop",
	"TcpExt_TCPOFOQueue",
	"TcpExt_TCPAbortOn*",
	"TcpExt_TCPMemoryPressures",
	"TcpExt_TCPReqQFullDrop",
	"TcpExt_TCPRetransFail",
	"TcpExt_TCPSynRetrans",
	"TcpExt_TCPTimeWaitOverflow",
	"TcpExt_TCPZeroWindowDrop",
	"Udp_InDatagrams",
	"Udp_NoPorts",
	"Udp_InErrors",
	"Udp_OutDatagrams",
	"Udp_RcvbufErrors",
	"Udp_SndbufErrors",
	"Udp_InCsumErrors",
	"Udp_MemErrors",
	"UdpLite_InErrors",
};

static const char *const paths[] = {"net/snmp", "net/netstat"};
#define GROUPS_MAX  16    /* pairs of lines per file */
#define HEADER_MAX  16384 /* bytes of a line of names */
#define COLUMNS_MAX 512

struct group {
	char *header; /* without the newline */
	size_t len, n;
	uint32_t *slot;
};

struct netstat {
	int fd[ARRAY_SIZE(paths)];
	size_t n[ARRAY_SIZE(paths)];
	struct group group[ARRAY_SIZE(paths)][GROUPS_MAX];
};

static void netstat_close(void *priv)
{
	struct netstat *ns = priv;

	for (size_t i = 0; ns && i < ARRAY_SIZE(paths); i++) {
		mno_close_p(&ns->fd[i]);
		for (size_t g = 0; g < ns->n[i]; g++) {
			free(ns->group[i][g].header);
			free(ns->group[i][g].slot);
		}
	}
	free(ns);
}

static int netstat_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct netstat *ns = calloc(1, sizeof(*ns));
	int err = 0;

	if (!ns)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		ns->fd[i] = mno_source_open(c, c->proc_fd, paths[i]);
		err = ns->fd[i] < 0 ? ns->fd[i] : err;
	}
	if (ns->fd[0] < 0 && ns->fd[1] < 0) {
		free(ns);
		return err;
	}
	*ret_priv = ns;
	return 0;
}

static bool is_wanted(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		size_t n = strlen(wanted[i]);

		if (wanted[i][n - 1] == '*' ? !strncmp(name, wanted[i], n - 1)
					    : !strcmp(name, wanted[i]))
			return true;
	}
	return false;
}

static uint32_t add(struct mno_source_ctx *c, const char *proto, size_t proto_len, const char *col,
	size_t col_len, const char *path)
{
	static const char prefix[] = "node_netstat_";
	char name[160], help[160];
	const struct mno_family f = {name, help, MNO_UNTYPED};

	if (proto_len > 32 || col_len > 64)
		return MNO_SLOT_IGNORED;
	snprintf(name, sizeof(name), "%s%.*s_%.*s", prefix, (int)proto_len, proto, (int)col_len,
		col);
	if (!is_wanted(name + sizeof(prefix) - 1))
		return MNO_SLOT_IGNORED;
	snprintf(help, sizeof(help), "Field %.*s %.*s of /proc/%s.", (int)proto_len, proto,
		(int)col_len, col, path);
	return mno_source_add(c, &f, NULL, 0);
}

static void group_clear(struct group *g, struct mno_source_ctx *c)
{
	for (size_t i = 0; i < g->n; i++)
		mno_source_remove(c, &g->slot[i]);
	free(g->slot);
	free(g->header);
	*g = (struct group){.n = 0};
}

/* Forgets the pairs from number @from on. */
static void groups_drop(struct netstat *ns, struct mno_source_ctx *c, size_t file, size_t from)
{
	while (ns->n[file] > from)
		group_clear(&ns->group[file][--ns->n[file]], c);
}

/* Reads the names anew; nothing is kept when there is no memory: the next tick tries again. */
static void group_learn(
	struct group *g, struct mno_source_ctx *c, const char *header, size_t len, const char *path)
{
	struct mno_scan s = {header, header + len};
	const char *proto, *col;
	size_t proto_len = mno_scan_word(&s, ':', &proto), col_len;

	group_clear(g, c);
	if (!mno_scan_char(&s, ':') || len > HEADER_MAX)
		return;
	g->header = malloc(len);
	g->slot = malloc(COLUMNS_MAX * sizeof(*g->slot));
	if (!g->header || !g->slot) {
		group_clear(g, c);
		return;
	}
	memcpy(g->header, header, len);
	g->len = len;
	while (g->n < COLUMNS_MAX && (col_len = mno_scan_word(&s, '\n', &col)) > 0)
		g->slot[g->n++] = add(c, proto, proto_len, col, col_len, path);
}

/* @s is at the line of values of @g. */
static void group_values(struct group *g, struct mno_source_ctx *c, struct mno_scan *s)
{
	const char *proto = memchr(g->header, ':', g->len);
	double v;

	if (!mno_scan_text(s, g->header, (size_t)(proto + 1 - g->header)))
		return;
	for (size_t i = 0; i < g->n && mno_scan_f64(s, &v); i++)
		mno_source_set(c, g->slot[i], v);
}

static int file_tick(struct netstat *ns, struct mno_source_ctx *c, size_t file)
{
	struct mno_scan s;
	size_t i = 0;
	int r = mno_source_read(c, ns->fd[file], true, &s);

	if (r < 0)
		return r;
	while (s.p < s.end && i < GROUPS_MAX) {
		struct group *g = &ns->group[file][i++];
		const char *header = s.p, *nl;
		size_t len;

		nl = memchr(header, '\n', (size_t)(s.end - header));
		len = (size_t)((nl ? nl : s.end) - header);
		if (!mno_scan_line(&s))
			return -EBADMSG;
		if (!g->header || g->len != len || memcmp(g->header, header, len) != 0) {
			/* a later group may have the series that this one gets */
			groups_drop(ns, c, file, i - 1);
			group_learn(g, c, header, len, paths[file]);
			ns->n[file] = i;
		}
		if (g->header)
			group_values(g, c, &s);
		mno_scan_line(&s);
	}
	groups_drop(ns, c, file, i);
	return 0;
}

static int netstat_tick(void *priv, struct mno_source_ctx *c)
{
	struct netstat *ns = priv;
	int r, err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (ns->fd[i] < 0)
			continue;
		r = file_tick(ns, c, i);
		if (r < 0)
			mno_source_reason(c, "%s: cannot be read or understood", paths[i]);
		err = r < 0 ? r : err;
	}
	return err;
}

const struct mno_source mno_source_netstat = {
	.name = "netstat",
	.summary = "IP, ICMP, TCP, UDP counters (/proc/net/snmp, /proc/net/netstat)",
	.open = netstat_open,
	.tick = netstat_tick,
	.close = netstat_close,
};
