/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp/tcp_user.h"

static const struct mno_family connections = {"mno_cgroup_tcp_connections_total",
	"TCP connections established, by who opened them: out or in", MNO_COUNTER};
static const struct mno_family failures = {"mno_cgroup_tcp_connect_failures_total",
	"TCP connection attempts that failed", MNO_COUNTER};
static const struct mno_family bytes = {"mno_cgroup_tcp_bytes_total",
	"TCP payload sent or received, counted when the connection closes", MNO_COUNTER};
static const struct mno_family retransmits = {
	"mno_cgroup_tcp_retransmits_total", "TCP segments sent again", MNO_COUNTER};
static const struct mno_family connect = {"mno_cgroup_tcp_connect_seconds",
	"Time from connect() until the connection was established", MNO_HISTOGRAM};
static const struct mno_family rtt = {"mno_cgroup_tcp_rtt_seconds",
	"Smoothed TCP round trip time when the connection closed", MNO_HISTOGRAM};

#define U64(fam, member, label_name, label_value)                                                  \
	{                                                                                          \
		.family = &fam, .kind = MNO_COL_U64, .off = offsetof(struct tcp_cgroup, member),   \
		.per = 1, .label = {label_name, label_value},                                      \
	}
#define HIST(fam, member, counter)                                                                 \
	{                                                                                          \
		.family = &fam, .kind = MNO_COL_HIST, .off = offsetof(struct tcp_cgroup, member),  \
		.sum = offsetof(struct tcp_cgroup, member##_ns),                                   \
		.count = offsetof(struct tcp_cgroup, counter), .per = 1e9,                         \
		.bounds = mno_bounds_latency, .n_bounds = ARRAY_SIZE(mno_bounds_latency),          \
	}

enum { COL_RTT };
static const struct mno_col cols[] = {
	[COL_RTT] = HIST(rtt, rtt, rtt_count),
	HIST(connect, connect, connects),
	U64(connections, connects, "direction", "out"),
	U64(connections, accepts, "direction", "in"),
	U64(failures, failures, NULL, NULL),
	U64(bytes, bytes_out, "direction", "out"),
	U64(bytes, bytes_in, "direction", "in"),
	U64(retransmits, retransmits, NULL, NULL),
};

int tcp_series_new(struct mno_table **ret)
{
	return mno_table_new(cols, ARRAY_SIZE(cols), TCP_SLOTS, ret);
}

void tcp_series_tick(struct mno_table *table, struct mno_metrics *m, struct mno_cgroup_view slots,
	const struct tcp_cgroup *cgs)
{
	mno_table_cgroups(table, m, slots, cgs, sizeof(*cgs));
}

void tcp_series_snapshot(struct mno_table *table, struct mno_json *j)
{
	mno_table_snapshot(table, COL_RTT, "tcp", j);
}

static const char *const directions[] = {
	[TCP_DIR_UNKNOWN] = "unknown", [TCP_DIR_OUT] = "out", [TCP_DIR_IN] = "in"};
static const char *const reasons[TCP_REASONS] = {[TCP_END_CLOSED] = "closed",
	[TCP_END_PEER] = "closed_by_peer",
	[TCP_END_RESET] = "reset_by_peer",
	[TCP_END_ABORTED] = "aborted",
	[TCP_END_TIMEOUT] = "timeout",
	[TCP_END_ERROR] = "error"};

#define E struct tcp_event
#define WHO                                                                                        \
	MNO_FIELD(E, pid, MNO_F_U32, "process that owns the socket; 0 when not known"),            \
		MNO_FIELD_AS(E, pid_start_ns, "start_ns", MNO_F_TIME,                              \
			"when that process began, Unix ns; with pid its identity"),                \
		MNO_FIELD(E, comm, MNO_F_CHARS, "task name"),                                      \
		MNO_FIELD(E, cgroup, MNO_F_CGROUP, "control group (v2)"),                          \
		MNO_FIELD(E, local_ip, MNO_F_IP, "own address"),                                   \
		MNO_FIELD(E, local_port, MNO_F_U16, "own port"),                                   \
		MNO_FIELD(E, peer_ip, MNO_F_IP, "the peer's address"),                             \
		MNO_FIELD(E, peer_port, MNO_F_U16, "the peer's port")

static const struct mno_field connect_fields[] = {
	WHO,
	MNO_FIELD_AS(E, duration_ns, "latency_ns", MNO_F_U64,
		"from connect() until it was established or failed, ns"),
	MNO_FIELD(E, error, MNO_F_S32, "errno of an attempt that failed, else 0"),
};
static const struct mno_field accept_fields[] = {WHO};
static const struct mno_field close_fields[] = {
	WHO,
	MNO_FIELD_ENUM(E, direction, directions, "who opened the connection: out is this side"),
	MNO_FIELD(E, duration_ns, MNO_F_U64,
		"since it was established, ns; 0 when that was before the agent"),
	MNO_FIELD(E, bytes_in, MNO_F_U64, "payload received, bytes"),
	MNO_FIELD(E, bytes_out, MNO_F_U64, "payload sent, bytes, each counted once"),
	MNO_FIELD(E, srtt_us, MNO_F_U32, "smoothed round trip time at the end, us"),
	MNO_FIELD(E, retransmits, MNO_F_U32, "segments sent again"),
	MNO_FIELD_ENUM(E, reason, reasons, "how it ended"),
	MNO_FIELD(E, error, MNO_F_S32, "errno of the socket, 0 for none"),
};

#define KIND(k, text, bytes_fixed, f, help_text)                                                   \
	{                                                                                          \
		.kind = k, .version = TCP_VERSION, .size = bytes_fixed, .name = text,              \
		.help = help_text, .fields = f, .n_fields = ARRAY_SIZE(f),                         \
	}
const struct mno_kind tcp_kinds[TCP_KINDS] = {
	KIND(TCP_CONNECT, "connect", TCP_OPEN_SIZE, connect_fields,
		"A process opened a TCP connection, or tried to."),
	KIND(TCP_ACCEPT, "accept", TCP_OPEN_SIZE, accept_fields,
		"A listening socket took a TCP connection; the process is the listener's."),
	KIND(TCP_CLOSE, "close", sizeof(E), close_fields, "A TCP connection ended."),
};
