/* SPDX-License-Identifier: Apache-2.0 */
/* The tcp probe against real loopback connections. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>
#include "mno/hist.h"
#include "tcp/tcp_user.h"
#include "rig.h"

#define EVENTS_MAX 512

struct state {
	struct rig rig;
	struct tcp_cgroup *cgs;
	struct tcp_event events[EVENTS_MAX]; /* of the ports watched */
	size_t n_events;
	uint16_t port; /* watched */
};

static struct state S;

static void on_event(void *arg, const void *rec, size_t len)
{
	struct state *s = arg;
	const struct tcp_event *e = rec;

	if (e->local_port != s->port && e->peer_port != s->port)
		return;
	if (s->n_events < EVENTS_MAX && len <= sizeof(*e))
		memcpy(&s->events[s->n_events++], rec, len);
}

static int listen_on(int family, uint16_t *ret_port)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	void *a = family == AF_INET ? (void *)&a4 : (void *)&a6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, a, len) || listen(fd, 64) || getsockname(fd, a, &len)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*ret_port = ntohs(family == AF_INET ? a4.sin_port : a6.sin6_port);
	return fd;
}

static int connect_to(int family, uint16_t port)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
		.sin6_port = htons(port)};
	struct sockaddr_in a4 = {.sin_family = AF_INET,
		.sin_addr = {htonl(INADDR_LOOPBACK)},
		.sin_port = htons(port)};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, family == AF_INET ? (void *)&a4 : (void *)&a6,
		    family == AF_INET ? sizeof(a4) : sizeof(a6))) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

/* One connection: 1,000 bytes out, 5,000 back; @abort: the client resets it. */
static void one_connection(int family, int listener, uint16_t port, bool abort_it)
{
	struct linger rst = {.l_onoff = 1};
	char buf[5000] = "";
	int c = connect_to(family, port), a;

	assert_true(c >= 0);
	a = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(a >= 0);
	assert_int_equal(write(c, buf, 1000), 1000);
	assert_int_equal(recv(a, buf, 1000, MSG_WAITALL), 1000);
	assert_int_equal(write(a, buf, 5000), 5000);
	assert_int_equal(recv(c, buf, 5000, MSG_WAITALL), 5000);
	if (abort_it)
		setsockopt(c, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(c);
	if (!abort_it)
		assert_int_equal(read(a, buf, 1), 0);
	close(a);
}

/* Events arrive when both ends have passed their last state, in softirq: wait for @n. */
static void collect(size_t n)
{
	for (int i = 0; i < 200 && S.n_events < n; i++) {
		rig_drain(&S.rig);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	rig_drain(&S.rig);
}

static const struct tcp_event *find(uint16_t kind, uint32_t direction)
{
	for (size_t i = 0; i < S.n_events; i++)
		if (S.events[i].hdr.kind == kind && S.events[i].direction == direction)
			return &S.events[i];
	return NULL;
}

static void watch(uint16_t port)
{
	rig_drain(&S.rig);
	S.port = port;
	S.n_events = 0;
}

static int setup(void **state)
{
	size_t size;

	S.rig.on_record = on_event;
	S.rig.arg = &S;
	if (rig_up(&S.rig, &mno_probe_tcp, 0))
		return -1;
	return mno_map_values(S.rig.obj, "cgroups", (void **)&S.cgs, &size);
}

static int teardown(void **state)
{
	rig_down(&S.rig);
	return 0;
}

static void check_who(const struct tcp_event *e, const uint8_t *ip)
{
	assert_non_null(e);
	assert_int_equal(e->pid, getpid());
	assert_true(e->pid_start_ns > 0 && e->pid_start_ns < e->hdr.ktime);
	assert_string_equal(e->comm, "test_tcp");
	assert_int_equal(e->cgroup, rig_own_cgroup());
	assert_memory_equal(e->local_ip, ip, 16);
	assert_memory_equal(e->peer_ip, ip, 16);
}

static void check_life(int family, const uint8_t *ip)
{
	const struct tcp_event *c, *a, *cc, *ac;
	uint16_t port;
	int l = listen_on(family, &port);

	assert_true(l >= 0);
	watch(port);
	one_connection(family, l, port, false);
	collect(4);
	close(l);
	assert_int_equal(S.n_events, 4);
	c = find(TCP_CONNECT, TCP_DIR_OUT);
	a = find(TCP_ACCEPT, TCP_DIR_IN);
	cc = find(TCP_CLOSE, TCP_DIR_OUT);
	ac = find(TCP_CLOSE, TCP_DIR_IN);
	check_who(c, ip);
	check_who(a, ip);
	check_who(cc, ip);
	check_who(ac, ip);
	assert_int_equal(c->peer_port, port);
	assert_int_equal(a->local_port, port);
	assert_int_equal(a->peer_port, c->local_port);
	assert_true(c->duration_ns > 1000 && c->duration_ns < 1000000000);
	assert_int_equal(c->error, 0);
	assert_int_equal(cc->bytes_out, 1000);
	assert_int_equal(cc->bytes_in, 5000);
	assert_int_equal(ac->bytes_in, 1000);
	assert_int_equal(ac->bytes_out, 5000);
	assert_int_equal(cc->reason, TCP_END_CLOSED);
	assert_int_equal(ac->reason, TCP_END_PEER);
	assert_true(cc->duration_ns > 0 && ac->duration_ns > 0);
	assert_int_equal(cc->retransmits, 0);
	assert_true(cc->srtt_us < 1000000);
	assert_int_equal(c->hdr.size, TCP_OPEN_SIZE);
	assert_int_equal(cc->hdr.size, sizeof(*cc));
}

static void test_ipv4(void **state)
{
	const uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};

	check_life(AF_INET, ip);
}

static void test_ipv6(void **state)
{
	const uint8_t ip[16] = {[15] = 1};
	uint16_t port;
	int l = listen_on(AF_INET6, &port);

	if (l < 0) {
		print_message("skipped: no IPv6 loopback\n");
		skip();
	}
	close(l);
	check_life(AF_INET6, ip);
}

static void test_refused(void **state)
{
	const struct tcp_event *c;
	struct tcp_cgroup *g;
	uint64_t before;
	uint16_t port;
	int l = listen_on(AF_INET, &port);

	close(l);
	g = &S.cgs[rig_own_slot(&S.rig)];
	before = g->failures;
	watch(port);
	assert_int_equal(connect_to(AF_INET, port), -1);
	assert_int_equal(errno, ECONNREFUSED);
	collect(1);
	assert_int_equal(S.n_events, 1);
	c = find(TCP_CONNECT, TCP_DIR_OUT);
	assert_non_null(c);
	assert_int_equal(c->error, ECONNREFUSED);
	assert_int_equal(c->pid, getpid());
	assert_int_equal(c->peer_port, port);
	assert_true(g->failures >= before + 1);
}

static void test_reset(void **state)
{
	const struct tcp_event *cc, *ac;
	uint16_t port;
	int l = listen_on(AF_INET, &port);

	watch(port);
	one_connection(AF_INET, l, port, true);
	collect(4);
	close(l);
	cc = find(TCP_CLOSE, TCP_DIR_OUT);
	ac = find(TCP_CLOSE, TCP_DIR_IN);
	assert_non_null(cc);
	assert_non_null(ac);
	assert_int_equal(cc->reason, TCP_END_ABORTED);
	assert_int_equal(ac->reason, TCP_END_RESET);
	assert_int_equal(ac->error, ECONNRESET);
	assert_int_equal(cc->bytes_out, 1000);
	assert_int_equal(ac->bytes_in, 1000);
	assert_int_equal(ac->pid, getpid()); /* by its listener: no close() was seen first */
}

/* A child serves what its parent listens on: the close tells who really did. */
static void test_served_by_child(void **state)
{
	const struct tcp_event *a, *ac;
	uint16_t port;
	int l = listen_on(AF_INET, &port), status, c;
	char buf[8];
	pid_t pid;

	watch(port);
	pid = fork();
	if (!pid) {
		int s = accept(l, NULL, NULL);

		close(s);
		_exit(s < 0);
	}
	c = connect_to(AF_INET, port);
	assert_true(c >= 0);
	assert_int_equal(read(c, buf, sizeof(buf)), 0);
	close(c);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	collect(4);
	close(l);
	a = find(TCP_ACCEPT, TCP_DIR_IN);
	ac = find(TCP_CLOSE, TCP_DIR_IN);
	assert_non_null(a);
	assert_non_null(ac);
	assert_int_equal(a->pid, getpid());
	assert_int_equal(ac->pid, pid);
	assert_int_equal(ac->reason, TCP_END_CLOSED);
	assert_int_equal(find(TCP_CLOSE, TCP_DIR_OUT)->reason, TCP_END_PEER);
}

static void test_counters(void **state)
{
	struct tcp_cgroup *g, b;
	uint16_t port;
	int l = listen_on(AF_INET, &port);

	watch(port);
	g = &S.cgs[rig_own_slot(&S.rig)];
	b = *g;
	for (int i = 0; i < 20; i++)
		one_connection(AF_INET, l, port, false);
	collect(80);
	close(l);
	assert_int_equal(S.n_events, 80);
	assert_true(g->connects - b.connects >= 20);
	assert_true(g->accepts - b.accepts >= 20);
	assert_true(g->bytes_in - b.bytes_in >= 20 * 6000);
	assert_true(g->bytes_out - b.bytes_out >= 20 * 6000);
	assert_true(mno_hist_total(g->connect) - mno_hist_total(b.connect) >= 20);
	assert_int_equal(mno_hist_total(g->connect), g->connects);
	assert_int_equal(mno_hist_total(g->rtt), g->rtt_count);
}

static size_t entries(const char *map)
{
	uint8_t key[64], *prev = NULL;
	size_t n = 0;

	while (n < TCP_FLOWS && !bpf_map_get_next_key(rig_map(&S.rig, map), prev, key)) {
		prev = key;
		n++;
	}
	return n;
}

static void test_nothing_leaks(void **state)
{
	size_t flows, listeners;
	struct mno_pstats st;
	uint16_t port;
	int l = listen_on(AF_INET, &port);

	watch(port);
	flows = entries("flows");
	for (int i = 0; i < 100; i++)
		one_connection(AF_INET, l, port, i & 1);
	collect(400);
	assert_true(entries("flows") < flows + 50);
	listeners = entries("listeners");
	close(l);
	assert_true(entries("listeners") < listeners);
	st = rig_stats(&S.rig);
	assert_int_equal(st.errors, 0);
	assert_int_equal(st.seen, st.delivered + st.sampled + st.dropped);
}

/* Sockets from before the probe: their owner is known by the iterator. */
static void test_seeded(void **state)
{
	const struct tcp_event *cc;
	uint16_t port;
	int l = listen_on(AF_INET, &port), c, a;

	c = connect_to(AF_INET, port);
	a = accept(l, NULL, NULL);
	rig_down(&S.rig);
	assert_int_equal(rig_up(&S.rig, &mno_probe_tcp, 0), 0);
	if (S.rig.rung) {
		print_message("skipped: this kernel does not take the iterator\n");
		skip();
	}
	watch(port);
	one_connection(AF_INET, l, port, false);
	collect(4);
	assert_non_null(find(TCP_ACCEPT, TCP_DIR_IN));
	assert_int_equal(find(TCP_ACCEPT, TCP_DIR_IN)->pid, getpid());
	S.n_events = 0;
	close(c);
	close(a);
	collect(2);
	close(l);
	assert_int_equal(S.n_events, 2);
	cc = find(TCP_CLOSE, TCP_DIR_UNKNOWN);
	assert_non_null(cc);
	assert_int_equal(cc->pid, getpid());
	assert_int_equal(cc->duration_ns, 0);
	assert_int_equal(cc->cgroup, rig_own_cgroup());
}

/* Past the budget nothing is sent, all is counted; also where the cost is measured. */
static void test_budget_and_cost(void **state)
{
	const uint64_t budget = 10;
	const struct tcp_cgroup *g;
	struct mno_pstats st;
	uint16_t port;
	void *cgs;
	size_t size;
	int l = listen_on(AF_INET, &port), timing;

	rig_down(&S.rig);
	assert_int_equal(rig_up(&S.rig, &mno_probe_tcp, budget), 0);
	watch(port);
	timing = rig_timing();
	for (int i = 0; i < 3000; i++)
		one_connection(AF_INET, l, port, false);
	if (timing >= 0)
		close(timing);
	collect(SIZE_MAX);
	st = rig_stats(&S.rig);
	rig_costs(&S.rig, "3,000 connections, both ends");
	/* nothing of it is missing in counters and histograms */
	assert_int_equal(mno_map_values(S.rig.obj, "cgroups", &cgs, &size), 0);
	g = &((const struct tcp_cgroup *)cgs)[rig_own_slot(&S.rig)];
	assert_true(g->connects >= 3000 && g->accepts >= 3000);
	assert_int_equal(mno_hist_total(g->connect), g->connects);
	assert_true(g->connect_ns / g->connects > 1000 && g->connect_ns / g->connects < 1000000000);
	assert_true(g->bytes_in >= 3000 * 6000 && g->bytes_out >= 3000 * 6000);
	munmap(cgs, size);
	assert_true(st.seen >= 12000);
	assert_true(st.sampled > 0);
	assert_int_equal(st.seen, st.delivered + st.sampled + st.dropped);
	assert_int_equal(st.dropped, 0);
	close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_served_by_child),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_nothing_leaks),
		cmocka_unit_test(test_seeded),
		cmocka_unit_test(test_budget_and_cost),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
