/* SPDX-License-Identifier: Apache-2.0 */
/* The child that keeps CAP_SYS_ADMIN and does one thing with it (contract in privilege.h). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <bpf/bpf.h>

#include "privilege.h"

struct mno_broker {
	pid_t child;
	int sock;
};

/* One byte of text and at most one fd, or -errno when @fd is none. */
static void answer(int sock, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = {0};
	int err = fd < 0 ? fd : 0;
	struct iovec iov = {.iov_base = &err, .iov_len = sizeof(err)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		struct cmsghdr *c;

		m.msg_control = room;
		m.msg_controllen = sizeof(room);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		_exit(0);
}

static void keep_sys_admin(void)
{
	static const cap_value_t admin = CAP_SYS_ADMIN;
	cap_t c = cap_init();

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (cap_value_t b = 0; cap_get_bound(b) >= 0; b++)
		cap_drop_bound(b);
	if (!c || cap_set_flag(c, CAP_PERMITTED, 1, &admin, CAP_SET) ||
		cap_set_flag(c, CAP_EFFECTIVE, 1, &admin, CAP_SET) || cap_set_proc(c))
		_exit(1);
	cap_free(c);
}

static _Noreturn void serve(int sock)
{
	char ask;

	prctl(PR_SET_NAME, "mnod-stats", 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* the terminal's Ctrl-C is for the parent; we end when its end of the socket closes */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	if (dup2(sock, 3) < 0)
		_exit(1);
	close_range(4, ~0U, 0);
	keep_sys_admin();
	while (recv(3, &ask, 1, 0) == 1) {
		int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

		answer(3, fd < 0 ? -errno : fd);
		if (fd >= 0)
			close(fd);
	}
	_exit(0);
}

int mno_broker_start(struct mno_broker **ret)
{
	_cleanup_free_ struct mno_broker *b = calloc(1, sizeof(*b));
	int pair[2];

	if (!b)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	b->child = fork();
	if (b->child < 0) {
		int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (!b->child)
		serve(pair[1]);
	close(pair[1]);
	b->sock = pair[0];
	*ret = TAKE_PTR(b);
	return 0;
}

struct mno_broker *mno_broker_stop(struct mno_broker *b)
{
	if (!b)
		return NULL;
	close(b->sock);
	while (waitpid(b->child, NULL, 0) < 0 && errno == EINTR)
		;
	free(b);
	return NULL;
}

static int receive(int sock)
{
	char room[CMSG_SPACE(sizeof(int))];
	int err = -EPROTO, fd;
	struct iovec iov = {.iov_base = &err, .iov_len = sizeof(err)};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room)};
	struct cmsghdr *c;
	ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return err < 0 ? err : -EPROTO;
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

int mno_broker_stats_fd(struct mno_broker *b)
{
	struct pollfd p = {.events = POLLIN};
	int r;

	if (!b) {
		r = bpf_enable_stats(BPF_STATS_RUN_TIME);
		return r < 0 ? -errno : r;
	}
	p.fd = b->sock;
	if (send(b->sock, "s", 1, MSG_NOSIGNAL) != 1)
		return -errno;
	r = poll(&p, 1, 1000);
	if (r <= 0)
		return r ? -errno : -ETIMEDOUT;
	return receive(b->sock);
}
