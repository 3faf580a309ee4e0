/* SPDX-License-Identifier: Apache-2.0 */
/* The agent itself: CPU, memory, descriptors, the slow pool, and what the agent's parts report. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "mno/time.h"
#include "slow.h"
#include "source.h"

#define FDS_EVERY 10 /* ticks: counting descriptors is dear on old kernels */

enum { CPU, RSS, VIRTUAL, OPEN_FDS, MAX_FDS, START, TIMED_OUT, HUNG, SERIES, REFUSED, COLUMNS };
static const struct mno_family columns[COLUMNS] = {
	[CPU] = {"process_cpu_seconds_total", "CPU time of the agent.", MNO_COUNTER},
	[RSS] = {"process_resident_memory_bytes", "Resident memory of the agent.", MNO_GAUGE},
	[VIRTUAL] = {"process_virtual_memory_bytes", "Address space of the agent.", MNO_GAUGE},
	[OPEN_FDS] = {"process_open_fds", "Open descriptors of the agent.", MNO_GAUGE},
	[MAX_FDS] = {"process_max_fds", "Limit of open descriptors.", MNO_GAUGE},
	[START] = {"process_start_time_seconds", "Unix time the agent started.", MNO_GAUGE},
	[TIMED_OUT] = {"mno_slow_jobs_timed_out_total",
		"Calls that did not end in time (statfs of a dead server ...).", MNO_COUNTER},
	[HUNG] = {"mno_slow_threads_hung", "Threads that are stuck in such a call.", MNO_GAUGE},
	[SERIES] = {"mno_series_active", "Series that are measured now.", MNO_GAUGE},
	[REFUSED] = {"mno_series_refused_total", "Series refused because the table was full.",
		MNO_COUNTER},
};

struct self {
	int fd; /* statm */
	uint32_t slot[COLUMNS];
	uint64_t ticks;
	double start, open_fds;
	struct mno_rows rows; /* of the figures that the agent's parts give */
};

static void self_close(void *priv)
{
	struct self *self = priv;

	if (self)
		mno_rows_done(&self->rows);
	mno_source_file_free(self);
}

/* Unix time of the start of this process: field 22 of stat, in ticks after the boot. */
static double start_time(struct mno_source_ctx *c)
{
	_cleanup_close_ int fd = mno_source_open(c, c->proc_fd, "self/stat");
	const char *word, *paren;
	struct mno_scan s;
	uint64_t v;

	if (fd < 0 || mno_source_read(c, fd, true, &s) < 0)
		return 0;
	/* The name in parentheses may hold anything. */
	paren = memrchr(s.p, ')', (size_t)(s.end - s.p));
	s.p = paren ? paren + 1 : s.end;
	for (int i = 3; i < 22; i++)
		mno_scan_word(&s, '\n', &word);
	if (!mno_scan_u64(&s, &v))
		return 0;
	return (double)v / (double)sysconf(_SC_CLK_TCK) + (double)mno_boot_offset_ns() / 1e9;
}

static int self_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct self *self;
	int r = mno_source_file_new(c, "self/statm", sizeof(*self), (void **)&self);

	if (r < 0)
		return r;
	memset(self->slot, 0xff, sizeof(self->slot)); /* MNO_SLOT_NONE */
	self->rows.width = 1;
	self->start = start_time(c);
	c->reason[0] = '\0';
	*ret_priv = self;
	return 0;
}

static void put(struct self *self, struct mno_source_ctx *c, size_t column, double v)
{
	mno_source_put(c, &self->slot[column], &columns[column], NULL, 0, v);
}

/* Since Linux 6.2 the size of the directory is the count. */
static double count_fds(struct mno_source_ctx *c)
{
	_cleanup_close_ int fd = openat(c->proc_fd, "self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	double n = 0;
	DIR *dir;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if (st.st_size > 0)
		return (double)st.st_size - 1; /* without this one */
	dir = fdopendir(fd);
	if (!dir)
		return 0;
	TAKE_FD(fd);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n - 1;
}

struct emit_to {
	struct self *self;
	struct mno_source_ctx *c;
};

static void emit(
	void *arg, const struct mno_family *f, const char *label, const char *value, double v)
{
	struct emit_to *to = arg;
	const struct mno_label l = {label, value};
	char key[256];
	int n = snprintf(key, sizeof(key), "%s|%s", f->name, label ? value : "");
	uint32_t *slot;

	if (n < 0 || (size_t)n >= sizeof(key))
		return;
	slot = mno_rows_next(&to->self->rows, key, (size_t)n);
	if (slot)
		mno_source_put(to->c, slot, f, &l, label ? 1 : 0, v);
}

static void agent_figures(struct self *self, struct mno_source_ctx *c)
{
	struct emit_to to = {self, c};
	struct mno_slow_stat slow;

	put(self, c, SERIES, (double)mno_metrics_count(c->metrics));
	put(self, c, REFUSED, (double)mno_metrics_refused(c->metrics));
	if (c->slow) {
		mno_slow_stat(c->slow, &slow);
		put(self, c, TIMED_OUT, (double)slow.timed_out);
		put(self, c, HUNG, (double)slow.hung);
	}
	if (c->self)
		c->self(c->self_arg, emit, &to);
	mno_rows_end(&self->rows, c);
}

static int self_tick(void *priv, struct mno_source_ctx *c)
{
	struct self *self = priv;
	double page = (double)sysconf(_SC_PAGESIZE);
	uint64_t size, resident;
	struct rlimit lim;
	struct mno_scan s;
	int r;

	agent_figures(self, c);
	put(self, c, CPU, (double)mno_now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9);
	if (self->start > 0)
		put(self, c, START, self->start);
	if (self->ticks++ % FDS_EVERY == 0)
		self->open_fds = count_fds(c);
	if (self->open_fds > 0)
		put(self, c, OPEN_FDS, self->open_fds);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
		put(self, c, MAX_FDS, (double)lim.rlim_cur);
	r = mno_source_read(c, self->fd, true, &s);
	if (r < 0)
		return r;
	if (!mno_scan_u64(&s, &size) || !mno_scan_u64(&s, &resident))
		return -EBADMSG;
	put(self, c, VIRTUAL, (double)size * page);
	put(self, c, RSS, (double)resident * page);
	return 0;
}

const struct mno_source mno_source_self = {
	.name = "self",
	.summary = "the agent itself: CPU, memory, descriptors, queues, store",
	.open = self_open,
	.tick = self_tick,
	.close = self_close,
};
