/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "mno/log.h"
#include "mno/time.h"
#include "reconcile.h"

#define MAX_CHECKED 65536

struct who {
	uint32_t pid;
	uint64_t start;
};

struct list {
	struct who *v;
	size_t n, cap;
};

static int add(void *arg, const struct mno_proc *p)
{
	struct list *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct who *v = cap <= MAX_CHECKED ? reallocarray(l->v, cap, sizeof(*v)) : NULL;

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = (struct who){p->pid, p->start_boottime_ns};
	return 0;
}

/* Start time of a process in clock ticks since boot, -1 when there is none (or a zombie). */
static long long start_ticks(uint32_t pid)
{
	char path[32], text[1024], *p;
	_cleanup_close_ int fd = -1;
	long long ticks;
	char state;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name before it may hold anything */
	if (!p || sscanf(p + 1,
			  " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			  "%*d %lld",
			  &state, &ticks) != 2)
		return -1;
	return state == 'Z' || state == 'X' ? -1 : ticks;
}

static size_t end_the_gone(struct mno_ledger *ledger)
{
	struct list l = {0};
	uint64_t tick_ns = NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t now = mno_now_ns(CLOCK_BOOTTIME);
	size_t gone = 0;

	mno_ledger_live(ledger, add, &l);
	for (size_t i = 0; i < l.n; i++) {
		long long ticks = start_ticks(l.v[i].pid);
		long long want = (long long)(l.v[i].start / tick_ns);

		if (ticks >= 0 && ticks >= want - 1 && ticks <= want + 1)
			continue;
		mno_ledger_gone(ledger, l.v[i].pid, l.v[i].start, now);
		gone++;
	}
	free(l.v);
	return gone;
}

void mno_reconcile_tick(struct mno_reconcile *r, struct mno_probes *p, struct mno_ledger *l)
{
	struct mno_probe_status s;
	uint64_t dropped = 0;
	size_t gone;

	if (!p || !l)
		return;
	for (size_t i = 0; mno_probes_status(p, i, &s); i++)
		if (s.probe->id == MNO_PROBE_proc)
			dropped = s.dropped;
	if (dropped != r->dropped) {
		r->dropped = dropped;
		r->due = true;
		return;
	}
	if (!r->due)
		return;
	r->due = false;
	mno_probes_reseed(p, MNO_PROBE_proc);
	gone = end_the_gone(l);
	mno_warn("records of processes were lost: %zu rows ended without their exit, running "
		 "processes were read again",
		gone);
}
