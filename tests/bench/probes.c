/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What probes add to a system call: a getppid() loop without a probe, with an empty pair, and
 * with each thing to be measured, in turns; the best round of each counts. Figures are what is
 * added to the bare call; the empty pair's stands beside them.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "mno/time.h"
#include "probe_rig.h"
#include "bench_probes.skel.h"

#define ROUNDS    7
#define CALLS     200000
#define CHUNK     2000 /* between two drains */
#define RING_NS   (1500 * NS_PER_MS)
#define RING_SIZE (4 << 20)

enum what { BARE, EMPTY, PAIR, COUNTER, RECORD, N_WHATS };

struct bench {
	struct bench_probes_bpf *skel;
	struct ring_buffer *ring;
	uint64_t consumed;
	const struct mno_pstats *stats;
	size_t stats_size;
	unsigned n_cpus;
	double best[N_WHATS]; /* ns per call */
};

static int on_record(void *ctx, void *rec, size_t len)
{
	const struct mno_hdr *h = rec;
	struct bench *b = ctx;

	if (len == h->size)
		b->consumed++;
	return 0;
}

static uint64_t stat_sum(const struct bench *b, size_t offset)
{
	uint64_t sum = 0;

	for (unsigned c = 0; c < b->n_cpus; c++)
		sum += *(const volatile uint64_t *)((const char *)&b->stats[c] + offset);
	return sum;
}
#define STAT(b, f) stat_sum(b, offsetof(struct mno_pstats, f))

static int bench_open(struct bench *b)
{
	void *p;
	int r;

	b->n_cpus = (unsigned)libbpf_num_possible_cpus();
	b->skel = bench_probes_bpf__open();
	if (!b->skel)
		return -errno;
	bpf_map__set_max_entries(b->skel->maps.ring, RING_SIZE);
	b->skel->rodata->mno_wake_bytes = RING_SIZE / 4;
	bpf_map__set_max_entries(b->skel->maps.stats, b->n_cpus);
	bpf_map__set_max_entries(b->skel->maps.counters, b->n_cpus);
	r = bench_probes_bpf__load(b->skel);
	if (r < 0)
		return r;
	r = mno_map_values(b->skel->obj, "stats", &p, &b->stats_size);
	if (r < 0)
		return r;
	b->stats = p;
	b->ring = ring_buffer__new(bpf_map__fd(b->skel->maps.ring), on_record, b, NULL);
	return b->ring ? 0 : -errno;
}

static void pin_to(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* CPU ns per getppid(), for the host may be busy; the ring is emptied outside of the clock. */
static double loop(struct bench *b)
{
	uint64_t ns = 0, t;

	for (int done = 0; done < CALLS; done += CHUNK) {
		t = mno_now_ns(CLOCK_THREAD_CPUTIME_ID);
		for (int i = 0; i < CHUNK; i++)
			syscall(SYS_getppid);
		ns += mno_now_ns(CLOCK_THREAD_CPUTIME_ID) - t;
		ring_buffer__consume(b->ring);
	}
	return (double)ns / CALLS;
}

static double loop_with(struct bench *b, struct bpf_program *a, struct bpf_program *c)
{
	struct bpf_link *la = bpf_program__attach(a), *lc = c ? bpf_program__attach(c) : NULL;
	double ns = -1;

	if (la && (lc || !c))
		ns = loop(b);
	bpf_link__destroy(la);
	bpf_link__destroy(lc);
	return ns;
}

static double loop_with_probe(struct bench *b)
{
	struct mno_rig rig;
	double ns = -1;

	if (mno_rig_load(&rig, &mno_probe_syscall, 0) == 0)
		ns = loop(b);
	mno_rig_unload(&rig);
	return ns;
}

static double measure(struct bench *b, enum what w)
{
	switch (w) {
	case EMPTY:
		return loop_with(b, b->skel->progs.empty_enter, b->skel->progs.empty_exit);
	case PAIR:
		return loop_with_probe(b);
	case COUNTER:
		return loop_with(b, b->skel->progs.count_enter, NULL);
	case RECORD:
		return loop_with(b, b->skel->progs.record_enter, NULL);
	case BARE:
	case N_WHATS:
		break;
	}
	return loop(b);
}

static int measure_all(struct bench *b)
{
	for (int r = 0; r < ROUNDS; r++)
		for (int w = 0; w < N_WHATS; w++) {
			double ns = measure(b, (enum what)w);

			if (ns < 0)
				return -EIO;
			if (r == 0 || ns < b->best[w])
				b->best[w] = ns;
		}
	return 0;
}

struct producer {
	struct bench *b;
	bool stop;
};

static void *produce(void *arg)
{
	struct producer *p = arg;
	LIBBPF_OPTS(bpf_test_run_opts, o);

	pin_to(0);
	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED))
		bpf_prog_test_run_opts(bpf_program__fd(p->b->skel->progs.burst), &o);
	return NULL;
}

/* Records of 256 B from one CPU to another; what did not fit must be counted as dropped. */
static int measure_ring(struct bench *b)
{
	struct producer p = {.b = b};
	uint64_t t, ns, first;
	pthread_t thread;

	ring_buffer__consume(b->ring);
	first = b->consumed;
	if (pthread_create(&thread, NULL, produce, &p))
		return -EAGAIN;
	t = mno_now_ns(CLOCK_MONOTONIC);
	do {
		ring_buffer__consume(b->ring);
		ns = mno_now_ns(CLOCK_MONOTONIC) - t;
	} while (ns < RING_NS);
	printf("bench ring %.0f K/s\n", (double)(b->consumed - first) * 1e6 / (double)ns);
	__atomic_store_n(&p.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ring_buffer__consume(b->ring);
	if (STAT(b, seen) != STAT(b, delivered) + STAT(b, dropped) + STAT(b, sampled) ||
		STAT(b, delivered) != b->consumed) {
		fprintf(stderr,
			"the accounting is off: seen %lu, delivered %lu, dropped %lu, "
			"read %lu\n",
			STAT(b, seen), STAT(b, delivered), STAT(b, dropped), b->consumed);
		return -EIO;
	}
	return 0;
}

int main(void)
{
	struct bench b = {};
	int r;

	mno_rig_need_bpf();
	r = bench_open(&b);
	if (r < 0) {
		fprintf(stderr, "cannot load the benchmark's programs: %s\n", strerror(-r));
		return 1;
	}
	pin_to(b.n_cpus - 1);
	r = measure_all(&b);
	if (r == 0) {
		printf("bench empty-pair %.0f ns\n", b.best[EMPTY] - b.best[BARE]);
		printf("bench syscall-pair %.0f ns\n", b.best[PAIR] - b.best[BARE]);
		printf("bench counter %.0f ns\n", b.best[COUNTER] - b.best[BARE]);
		printf("bench record %.0f ns\n", b.best[RECORD] - b.best[BARE]);
		r = measure_ring(&b);
	}
	ring_buffer__free(b.ring);
	munmap((void *)b.stats, b.stats_size);
	bench_probes_bpf__destroy(b.skel);
	return r < 0;
}
