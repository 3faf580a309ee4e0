/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover: a store with 24 h of the recorded host (110 M samples), its writer ended by SIGKILL in
 * the middle of commits, then the time from the open to the answer of a first query: the last five
 * minutes of one metric, in a process of its own. Median of some kills. What a commit acknowledged
 * must be there, else the benchmark fails. Then once more with the files dropped from the cache.
 * day-size: bytes of all files a sample, after a day.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../support/benchkit.h"
#include "../support/tmpstate.h"
#include "mno/time.h"

#define DAY_TICKS   86400
#define TICKS_A_TXN 512
#define KILLS       7
#define METRIC      "node_cpu_seconds_total"
#define LAST_MS     300000

/* The last day and some, whatever the clock says: nothing is stored for a time to come. */
static int64_t shift_ms;

static int64_t time_of(const struct hostdata *h, size_t tick)
{
	return hostdata_time(h, tick) + shift_ms;
}

struct answer {
	double wall_ms, cpu_ms, anon_mib, peak_mib;
	int64_t last_ms;
	size_t samples;
	uint64_t stored;
};

struct writer {
	struct bench_series b;
	const struct hostdata *h;
	uint32_t *all, *ids;
	double *v;
	int out;
};

static void append(struct writer *w, size_t tick)
{
	size_t n = hostdata_row(w->h, tick, w->all, w->ids, w->v);

	bench_must("append",
		mno_series_append(w->b.s, w->b.txn, time_of(w->h, tick), w->ids, w->v, n));
}

/* Tells the parent what is durable: the number of the next tick. */
static void tell(struct writer *w, uint64_t tick)
{
	if (write(w->out, &tick, sizeof(tick)) != sizeof(tick))
		_exit(1);
}

/* Fills the day if @from is 0, then commits tick after tick until it is killed. */
static void run_writer(const char *dir, const struct hostdata *h, size_t from, int out)
{
	struct writer w = {.h = h, .out = out};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench_series_open(&w.b, dir);
	w.all = bench_series_ids(&w.b, h, 1);
	w.ids = bench_alloc(h->n_series, sizeof(*w.ids));
	w.v = bench_alloc(h->n_series, sizeof(*w.v));
	for (; from < DAY_TICKS; from++) {
		if (!w.b.txn)
			bench_series_begin(&w.b);
		append(&w, from);
		if (from % TICKS_A_TXN == TICKS_A_TXN - 1 || from == DAY_TICKS - 1)
			bench_series_commit(&w.b);
	}
	for (;; from++) {
		bench_series_begin(&w.b);
		append(&w, from);
		bench_series_commit(&w.b);
		tell(&w, from + 1);
	}
}

/* Returns the tick after the last one that was acknowledged before the kill. */
static size_t write_and_kill(const char *dir, const struct hostdata *h, size_t from, uint64_t *seed)
{
	uint64_t n = 200 + rnd(seed) % 800, tick = 0, got = 0;
	int p[2], status;
	pid_t pid;

	bench_must("pipe", pipe(p) < 0 ? -errno : 0);
	fflush(stdout);
	pid = fork();
	bench_must("fork", pid < 0 ? -errno : 0);
	if (pid == 0) {
		close(p[0]);
		run_writer(dir, h, from, p[1]);
	}
	close(p[1]);
	while (got < n && read(p[0], &tick, sizeof(tick)) == sizeof(tick))
		got++;
	usleep((useconds_t)(rnd(seed) % 2000));
	kill(pid, SIGKILL);
	while (read(p[0], &tick, sizeof(tick)) == sizeof(tick))
		got++;
	close(p[0]);
	waitpid(pid, &status, 0);
	bench_must("the writer ended by itself",
		got >= n && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : -EIO);
	return (size_t)tick;
}

static int take_column(void *arg, const struct mno_column *c)
{
	struct answer *a = arg;

	bench_must("damaged blocks", c->damaged ? -MNO_ECORRUPT : 0);
	a->samples += c->n;
	if (c->n && c->t_ms[c->n - 1] > a->last_ms)
		a->last_ms = c->t_ms[c->n - 1];
	return 0;
}

static void run_query(struct bench_series *b, struct answer *a)
{
	static char metric[] = METRIC, name[] = "__name__";
	struct mno_matcher m = {.op = MNO_MATCH_EQ, .name = name, .value = metric};
	struct mno_series_stat st;
	struct mno_ids ids = {0};
	char err[128];

	mno_series_stat(b->s, &st);
	a->stored = st.samples;
	bench_must("matcher", mno_matchers_compile(&m, 1, err, sizeof(err)));
	bench_must("select", mno_series_select(b->s, &m, 1, SIZE_MAX, &ids));
	mno_matchers_done(&m, 1);
	bench_must("read", mno_series_read(b->s, ids.v, ids.n, st.last_ms - LAST_MS, st.last_ms,
				   SIZE_MAX, take_column, a));
	mno_ids_done(&ids);
}

/* Opens and asks in a new process: its memory is only the store's. */
static struct answer recover(const char *dir)
{
	struct answer a = {0};
	int p[2], status;
	pid_t pid;

	bench_must("pipe", pipe(p) < 0 ? -errno : 0);
	fflush(stdout);
	pid = fork();
	bench_must("fork", pid < 0 ? -errno : 0);
	if (pid == 0) {
		double wall = bench_clock(CLOCK_MONOTONIC), cpu = bench_cpu();
		double anon = (double)bench_status_kib("RssAnon");
		struct bench_series b;

		bench_series_open(&b, dir);
		run_query(&b, &a);
		a.wall_ms = (bench_clock(CLOCK_MONOTONIC) - wall) * 1e3;
		a.cpu_ms = (bench_cpu() - cpu) * 1e3;
		a.anon_mib = ((double)bench_status_kib("RssAnon") - anon) / 1024;
		a.peak_mib = (double)bench_status_kib("VmHWM") / 1024;
		bench_series_close(&b);
		_exit(write(p[1], &a, sizeof(a)) != sizeof(a));
	}
	close(p[1]);
	status = read(p[0], &a, sizeof(a)) == sizeof(a) ? 0 : -EIO;
	close(p[0]);
	waitpid(pid, NULL, 0);
	bench_must("open after the kill", status);
	return a;
}

static struct answer kill_and_recover(
	const char *dir, const struct hostdata *h, size_t *tick, uint64_t *seed)
{
	struct answer a;

	*tick = write_and_kill(dir, h, *tick, seed);
	a = recover(dir);
	if (a.last_ms < time_of(h, *tick - 1) || !a.samples) {
		fprintf(stderr, "an acknowledged second is lost\n");
		exit(1);
	}
	*tick += 2; /* the second that was not acknowledged may be there, too */
	return a;
}

int main(void)
{
	double wall[KILLS], cpu[KILLS];
	struct answer a = {0}, cold;
	struct hostdata h;
	struct workdir w;
	uint64_t seed = 4711;
	size_t tick = 0;

	hostdata_need(&h);
	shift_ms = mno_now_ms() - (DAY_TICKS + 10800) * 1000LL - h.t_ms[0];
	workdir_new(&w, "recover");
	for (int i = 0; i < KILLS; i++) {
		a = kill_and_recover(w.path, &h, &tick, &seed);
		wall[i] = a.wall_ms;
		cpu[i] = a.cpu_ms;
	}
	workdir_drop_cache(&w);
	cold = recover(w.path);
	printf("bench recover %.1f ms\n", bench_quantile(wall, KILLS, 0.5));
	printf("# %.1f M samples, %.1f MiB of files; CPU time %.1f ms; slowest of %d %.1f ms; "
	       "files not "
	       "in the cache %.1f ms\n",
		(double)a.stored / 1e6, (double)workdir_bytes(&w) / (1 << 20),
		bench_quantile(cpu, KILLS, 0.5), KILLS, bench_quantile(wall, KILLS, 1),
		cold.wall_ms);
	printf("# memory of the process after the first query %.1f MiB, peak with mapped files "
	       "%.1f "
	       "MiB; nothing acknowledged was lost\n",
		a.anon_mib, a.peak_mib);
	printf("bench day-size %.3f B\n", (double)workdir_bytes(&w) / (double)a.stored);
	workdir_done(&w);
	hostdata_done(&h);
	return 0;
}
