/* SPDX-License-Identifier: Apache-2.0 */
/* Threads to processes, and what each process did between two looks. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include "sched_user.h"

void mno_sched_look_done(struct mno_sched_look *l)
{
	free(l->v);
	*l = (struct mno_sched_look){};
}

static int by_tgid(const void *a, const void *b)
{
	const struct mno_sched_thread *x = a, *y = b;

	if (x->tgid != y->tgid)
		return x->tgid < y->tgid ? -1 : 1;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static void proc_begin(struct mno_sched_proc *p, const struct mno_sched_thread *t)
{
	*p = (struct mno_sched_proc){
		.tgid = t->tgid,
		.start_ns = t->start_ns,
		.cgid = t->cgid,
		.cpu_ns = t->dead_cpu_ns,
		.read_bytes = t->dead_read_bytes,
		.write_bytes = t->dead_write_bytes,
	};
	memcpy(p->comm, t->comm, sizeof(p->comm));
}

static void proc_add(struct mno_sched_proc *p, const struct mno_sched_thread *t)
{
	p->threads++;
	p->cpu_ns += t->cpu_ns;
	p->runq_ns += t->runq_ns;
	p->iowait_ns += t->iowait_ns;
	p->iowaits += t->iowaits;
	p->read_bytes += t->read_bytes;
	p->write_bytes += t->write_bytes;
	p->rss_pages = MNO_MAX(p->rss_pages, t->rss_pages);
}

int mno_sched_look_make(
	struct mno_sched_thread *v, size_t n, uint64_t now_ns, struct mno_sched_look *ret)
{
	struct mno_sched_look l = {.at_ns = now_ns};
	size_t procs = 0;

	qsort(v, n, sizeof(*v), by_tgid);
	for (size_t i = 0; i < n; i++)
		procs += i == 0 || v[i].tgid != v[i - 1].tgid;
	l.cut = procs > MNO_SCHED_PROCS_MAX;
	procs = MNO_MIN(procs, (size_t)MNO_SCHED_PROCS_MAX);
	l.v = calloc(procs ?: 1, sizeof(*l.v));
	if (!l.v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || v[i].tgid != v[i - 1].tgid) {
			if (l.n == procs)
				break;
			proc_begin(&l.v[l.n++], &v[i]);
		}
		proc_add(&l.v[l.n - 1], &v[i]);
	}
	*ret = l;
	return 0;
}

static int find_cmp(const void *a, const void *b)
{
	const struct mno_sched_proc *x = a, *y = b;

	return x->tgid < y->tgid ? -1 : x->tgid > y->tgid;
}

/* What @p did since @before; all of it if it is newer than that look. */
static struct mno_sched_proc since(
	const struct mno_sched_proc *p, const struct mno_sched_look *before)
{
	const struct mno_sched_proc *b =
		before->n ? bsearch(p, before->v, before->n, sizeof(*p), find_cmp) : NULL;
	struct mno_sched_proc d = *p;

	if (!b || b->start_ns != p->start_ns)
		return d;
#define LESS(f) d.f = p->f > b->f ? p->f - b->f : 0
	LESS(cpu_ns);
	LESS(runq_ns);
	LESS(iowait_ns);
	LESS(iowaits);
	LESS(read_bytes);
	LESS(write_bytes);
#undef LESS
	return d;
}

/* Who is worth a line: time used or waited for, then memory. */
static int by_weight(const void *a, const void *b)
{
	const struct mno_sched_proc *x = a, *y = b;
	uint64_t wx = x->cpu_ns + x->runq_ns + x->iowait_ns,
		 wy = y->cpu_ns + y->runq_ns + y->iowait_ns;

	if (wx != wy)
		return wx > wy ? -1 : 1;
	if (x->rss_pages != y->rss_pages)
		return x->rss_pages > y->rss_pages ? -1 : 1;
	return find_cmp(a, b);
}

static void rate(struct mno_json *j, const char *key, uint64_t d, double scale, uint64_t interval)
{
	if (interval)
		mno_json_kf64(j, key, (double)d * scale / (double)interval);
	else {
		mno_json_key(j, key);
		mno_json_null(j);
	}
}

static void proc_json(const struct mno_sched_proc *d, const struct mno_sched_look *now,
	uint64_t interval, struct mno_cgroups *cg, struct mno_json *j)
{
	const struct mno_sched_proc *p =
		bsearch(d, now->v, now->n, sizeof(*d), find_cmp); /* totals */
	char path[PATH_MAX];

	mno_json_obj(j);
	mno_json_ku64(j, "pid", d->tgid);
	mno_json_ku64(j, "start_boottime_ns", d->start_ns);
	mno_json_key(j, "comm");
	mno_json_strn(j, d->comm, strnlen(d->comm, sizeof(d->comm)));
	mno_json_kstr(j, "cgroup", cg ? mno_cgroups_path(cg, d->cgid, path, sizeof(path)) : NULL);
	mno_json_ku64(j, "threads", d->threads);
	rate(j, "cpu_percent", d->cpu_ns, 100, interval);
	rate(j, "wait_percent", d->runq_ns, 100, interval);
	rate(j, "block_wait_percent", d->iowait_ns, 100, interval);
	rate(j, "io_read_bps", d->read_bytes, NS_PER_SEC, interval);
	rate(j, "io_write_bps", d->write_bytes, NS_PER_SEC, interval);
	mno_json_ku64(j, "rss_bytes", d->rss_pages * (uint64_t)sysconf(_SC_PAGESIZE));
	mno_json_ku64(j, "cpu_ns", p->cpu_ns);
	mno_json_ku64(j, "wait_ns", p->runq_ns);
	mno_json_ku64(j, "block_wait_ns", p->iowait_ns);
	mno_json_end(j);
}

void mno_sched_look_json(const struct mno_sched_look *now, const struct mno_sched_look *before,
	struct mno_cgroups *cg, struct mno_json *j)
{
	uint64_t interval = before->at_ns ? now->at_ns - before->at_ns : 0;
	_cleanup_free_ struct mno_sched_proc *d = calloc(now->n ?: 1, sizeof(*d));

	if (!d)
		return;
	for (size_t i = 0; i < now->n; i++)
		d[i] = since(&now->v[i], before);
	qsort(d, now->n, sizeof(*d), by_weight);
	mno_json_kf64(j, "processes_interval_seconds", (double)interval / NS_PER_SEC);
	mno_json_ku64(j, "processes_total", now->n);
	mno_json_key(j, "processes");
	mno_json_arr(j);
	for (size_t i = 0; i < now->n && i < MNO_SCHED_PROCS_SHOWN; i++)
		proc_json(&d[i], now, interval, cg, j);
	mno_json_end_arr(j);
}
