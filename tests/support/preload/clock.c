/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For LD_PRELOAD: the wall clock is ahead by as many seconds as the file $CLOCK_OFFSET says, which
 * may change at any time. Waits for a time of the wall clock end when the changed one passes it, as
 * the kernel's do.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS  50000000LL
#define SECOND_NS 1000000000LL
#define NEAR_S    100000000LL /* a time this near to the monotonic one is of that clock */

static long long ahead_s(void)
{
	const char *path = getenv("CLOCK_OFFSET");
	char text[32] = "";
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? atoll(text) : 0;
}

int clock_gettime(clockid_t c, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, c, t);

	if (r == 0 && (c == CLOCK_REALTIME || c == CLOCK_REALTIME_COARSE))
		t->tv_sec += ahead_s();
	return r;
}

static long long left_ns(clockid_t c, const struct timespec *at)
{
	struct timespec now;

	clock_gettime(c, &now);
	return (at->tv_sec - now.tv_sec) * SECOND_NS + at->tv_nsec - now.tv_nsec;
}

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *at)
{
	struct timespec now;
	clockid_t clock;
	long long left;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &now);
	clock = llabs(at->tv_sec - now.tv_sec) < NEAR_S ? CLOCK_MONOTONIC : CLOCK_REALTIME;
	while ((left = left_ns(clock, at)) > 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = (left < SLICE_NS ? left : SLICE_NS) + now.tv_nsec;
		now.tv_sec += left / SECOND_NS;
		now.tv_nsec = left % SECOND_NS;
		r = pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &now);
		if (r != ETIMEDOUT)
			return r;
	}
	return ETIMEDOUT;
}
