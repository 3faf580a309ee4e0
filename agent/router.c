/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "memory/memory_wire.h"
#include "proc/proc_wire.h"
#include "router.h"

#define ROUND_MAX      (4u << 20) /* bytes collected before they go to the writer */
#define MAX_PROBES     32
#define DRAIN_EVERY_MS 50

struct mno_router {
	struct mno_router_opts o;
	pthread_mutex_t lock;
	struct mno_buf round;
	uint32_t counts[MAX_PROBES];
	uint64_t lost[MAX_PROBES]; /* not yet told to the probes */
	uint64_t first_ns, last_ns, malformed;
};

int mno_router_new(const struct mno_router_opts *o, struct mno_router **ret)
{
	struct mno_router *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->o = *o;
	r->round.max = ROUND_MAX + 65536;
	pthread_mutex_init(&r->lock, NULL);
	*ret = r;
	return 0;
}

struct mno_router *mno_router_free(struct mno_router *r)
{
	if (!r)
		return NULL;
	mno_buf_done(&r->round);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

/* The members that all facts of a process begin with. */
#define FACT_ID(e, name)                                                                           \
	.pid = (e)->id.pid, .ppid = (e)->id.ppid, .uid = (e)->id.uid,                              \
	.start_boottime_ns = (e)->id.start_boottime,                                               \
	.parent_start_boottime_ns = (e)->id.parent_start_boottime, .cgroup_id = (e)->id.cgroup_id, \
	.ktime = (e)->hdr.ktime, .comm = (name)

static int fork_fact(struct mno_ledger *l, const void *rec)
{
	const struct mno_proc_fork *e = rec;
	char comm[MNO_COMM_LEN + 1] = {0};

	memcpy(comm, e->id.comm, MNO_COMM_LEN);
	return mno_ledger_fork(l, &(struct mno_fork_fact){
					  FACT_ID(e, comm),
				  });
}

static int exec_fact(struct mno_ledger *l, const void *rec)
{
	const struct mno_proc_exec *e = rec;
	char exe[4096], comm[MNO_COMM_LEN + 1] = {0};
	size_t exe_len, argv_len;
	bool cut, exe_cut;
	const char *parts = mno_event_var(rec, &e->exe, &exe_len, &exe_cut), *argv;
	size_t at = exe_cut ? 3 : 0; /* the folders nearest to the root are missing */

	memcpy(comm, e->id.comm, MNO_COMM_LEN);
	memcpy(exe, "...", 3);
	mno_event_path(parts, exe_len, exe + at, sizeof(exe) - at);
	argv = mno_event_var(rec, &e->argv, &argv_len, &cut);
	return mno_ledger_exec(l, &(struct mno_exec_fact){
					  FACT_ID(e, comm),
					  .exe = exe,
					  .argv = argv,
					  .argv_len = argv_len,
					  .argv_cut = cut,
					  .seeded = e->hdr.kind == MNO_PROC_SEED,
				  });
}

static int exit_fact(struct mno_ledger *l, const void *rec)
{
	const struct mno_proc_exit *e = rec;
	char comm[MNO_COMM_LEN + 1] = {0};

	memcpy(comm, e->id.comm, MNO_COMM_LEN);
	return mno_ledger_exit(l, &(struct mno_exit_fact){
					  FACT_ID(e, comm),
					  .code = e->code,
					  .cpu_ns = e->cpu_ns,
					  .rss_peak_bytes = e->rss_peak_bytes,
					  .io_read_bytes = e->io_read_bytes,
					  .io_write_bytes = e->io_write_bytes,
				  });
}

static int signal_fact(struct mno_ledger *l, const void *rec)
{
	const struct mno_proc_signal *e = rec;
	char comm[MNO_COMM_LEN + 1] = {0};

	memcpy(comm, e->sender_comm, MNO_COMM_LEN);
	return mno_ledger_signal(
		l, &(struct mno_signal_fact){
			   /* on behalf of the kernel: the sender's context is only where it ran */
			   .sender_pid = e->from_kernel ? 0 : e->sender_pid,
			   .target_pid = e->target_pid,
			   .signo = e->signo,
			   .ktime = e->hdr.ktime,
			   .sender_comm = e->from_kernel ? "" : comm,
		   });
}

/* The OOM killer's choice: the SIGKILL that follows is its doing. */
static int oom_fact(struct mno_ledger *l, const void *rec)
{
	const struct memory_oom *e = rec;

	return mno_ledger_signal(
		l, &(struct mno_signal_fact){
			   .target_pid = e->pid, .signo = 9, .ktime = e->hdr.ktime, .oom = true});
}

/* Which records the ledger wants; the rest only go to the store and to subscribers. */
static const struct {
	uint16_t kind;
	int (*fn)(struct mno_ledger *l, const void *rec);
} ledger_kinds[] = {
	{MNO_PROC_FORK, fork_fact},
	{MNO_PROC_EXEC, exec_fact},
	{MNO_PROC_EXIT, exit_fact},
	{MNO_PROC_SIGNAL, signal_fact},
	{MNO_PROC_SEED, exec_fact},
	{MEMORY_OOM_KILL, oom_fact},
};

static void to_writer(struct mno_router *r)
{
	if (!r->round.len)
		return;
	if (r->round.err || mno_writer_events(r->o.writer, r->round.data, r->round.len, r->first_ns,
				    r->last_ns, r->counts, MAX_PROBES) < 0)
		for (size_t i = 0; i < MAX_PROBES; i++)
			r->lost[i] += r->counts[i];
	memset(r->counts, 0, sizeof(r->counts));
	mno_buf_reset(&r->round);
}

/* Appends the record, its size rounded up so that the next one is aligned too. */
static void collect(struct mno_router *r, size_t probe, const struct mno_hdr *h)
{
	static const char zero[8];
	size_t padded = (h->size + 7) & ~(size_t)7;
	uint64_t at = h->ktime + (uint64_t)r->o.boot_offset_ns;
	struct mno_hdr copy = *h;

	if (r->round.len + padded > ROUND_MAX)
		to_writer(r);
	r->first_ns = r->round.len ? MNO_MIN(r->first_ns, at) : at;
	r->last_ns = r->round.len ? MNO_MAX(r->last_ns, at) : at;
	copy.size = (uint32_t)padded;
	mno_buf_add(&r->round, &copy, sizeof(copy));
	mno_buf_add(&r->round, h + 1, h->size - sizeof(*h));
	mno_buf_add(&r->round, zero, padded - h->size);
	r->counts[probe]++;
}

void mno_router_record(void *router, size_t probe, const void *rec, size_t len)
{
	struct mno_router *r = router;
	const struct mno_hdr *h = rec;
	const struct mno_kind *kd;
	int e = mno_event_check(mno_probes_kinds(), rec, len, &kd);

	pthread_mutex_lock(&r->lock);
	if (e < 0 || probe >= MAX_PROBES) {
		if (!r->malformed++)
			mno_warn("a record of %zu bytes does not fit its kind: %s", len,
				mno_strerror(e));
		if (probe < MAX_PROBES)
			r->lost[probe]++;
		pthread_mutex_unlock(&r->lock);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ledger_kinds); i++)
		if (ledger_kinds[i].kind == h->kind)
			ledger_kinds[i].fn(r->o.ledger, rec);
	if (h->kind != MNO_PROC_SEED) { /* made in user space, so not part of the accounting */
		collect(r, probe, h);
		mno_hub_publish(r->o.hub, rec, len);
	}
	pthread_mutex_unlock(&r->lock);
}

void mno_router_flush(struct mno_router *r, struct mno_probes *p)
{
	uint64_t lost[MAX_PROBES];

	pthread_mutex_lock(&r->lock);
	to_writer(r);
	memcpy(lost, r->lost, sizeof(lost));
	memset(r->lost, 0, sizeof(r->lost));
	pthread_mutex_unlock(&r->lock);
	for (size_t i = 0; i < MAX_PROBES; i++)
		if (lost[i])
			mno_probes_account(p, i, 0, lost[i]);
}

struct mno_drain {
	pthread_t thread;
	struct mno_probes *probes;
	struct mno_router *router;
	atomic_bool stop;
};

static void *drain_main(void *arg)
{
	struct mno_drain *d = arg;

	while (!atomic_load(&d->stop)) {
		mno_probes_wait(d->probes, DRAIN_EVERY_MS);
		if (mno_probes_drain(d->probes))
			mno_router_flush(d->router, d->probes);
	}
	return NULL;
}

int mno_drain_start(struct mno_probes *p, struct mno_router *r, struct mno_drain **ret)
{
	struct mno_drain *d = calloc(1, sizeof(*d));
	int e;

	if (!d)
		return -ENOMEM;
	d->probes = p;
	d->router = r;
	e = pthread_create(&d->thread, NULL, drain_main, d);
	if (e) {
		free(d);
		return -e;
	}
	pthread_setname_np(d->thread, "mno-drain");
	*ret = d;
	return 0;
}

struct mno_drain *mno_drain_stop(struct mno_drain *d)
{
	if (!d)
		return NULL;
	atomic_store(&d->stop, true);
	pthread_join(d->thread, NULL);
	mno_probes_drain(d->probes);
	mno_router_flush(d->router, d->probes);
	free(d);
	return NULL;
}
