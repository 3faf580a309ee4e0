/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/stat: time of each CPU by mode, and a few totals of the host. */
#include <errno.h>

#include "source.h"

static const struct mno_family cpu_family = {
	"node_cpu_seconds_total", "Seconds each CPU spent in each mode.", MNO_COUNTER};
static const struct mno_family guest_family = {"node_cpu_guest_seconds_total",
	"Seconds each CPU spent in guests, by mode (part of user and nice).", MNO_COUNTER};
static const struct mno_family host_family = {
	"mno_host_cpu_seconds_total", "Seconds all CPUs together spent in each mode.", MNO_COUNTER};

/* The columns of a cpu line; old kernels have fewer. */
static const struct column {
	const char *mode;
	bool guest;
} columns[] = {
	{"user", false},
	{"nice", false},
	{"system", false},
	{"idle", false},
	{"iowait", false},
	{"irq", false},
	{"softirq", false},
	{"steal", false},
	{"user", true},
	{"nice", true},
};

/* Lines with one number that is taken. */
static const struct single {
	const char *key;
	struct mno_family family;
} singles[] = {
	{"intr", {"node_intr_total", "Interrupts handled.", MNO_COUNTER}},
	{"ctxt", {"node_context_switches_total", "Context switches.", MNO_COUNTER}},
	{"btime", {"node_boot_time_seconds", "Unix time of the boot.", MNO_GAUGE}},
	{"processes", {"node_forks_total", "Forks, threads included.", MNO_COUNTER}},
	{"procs_running", {"node_procs_running", "Tasks that run or could run.", MNO_GAUGE}},
	{"procs_blocked", {"node_procs_blocked", "Tasks waiting for I/O.", MNO_GAUGE}},
};

struct stat_source {
	int fd;
	double hz;
	struct mno_rows rows; /* one per line; a line with one number uses slot 0 */
};

static void stat_close(void *priv)
{
	struct stat_source *st = priv;

	if (st)
		mno_rows_done(&st->rows);
	mno_source_file_free(st);
}

static int stat_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct stat_source *st;
	long hz = sysconf(_SC_CLK_TCK);
	int r = mno_source_file_new(c, "stat", sizeof(*st), (void **)&st);

	if (r < 0)
		return r;
	st->hz = (double)(hz > 0 ? hz : 100);
	st->rows.width = ARRAY_SIZE(columns);
	*ret_priv = st;
	return 0;
}

static void add_cpu(struct mno_source_ctx *c, uint32_t *slot, const struct column *col,
	const char *key, size_t len)
{
	char cpu[16];
	const struct mno_label labels[] = {{"mode", col->mode}, {"cpu", cpu}};
	size_t n = MNO_MIN(len - 3, sizeof(cpu) - 1);

	memcpy(cpu, key + 3, n);
	cpu[n] = '\0';
	if (n > 0)
		*slot = mno_source_add(c, col->guest ? &guest_family : &cpu_family, labels, 2);
	else if (!col->guest)
		*slot = mno_source_add(c, &host_family, labels, 1);
	else
		*slot = MNO_SLOT_IGNORED;
}

static void cpu_line(struct stat_source *st, struct mno_source_ctx *c, const char *key, size_t len,
	struct mno_scan *s)
{
	uint32_t *slot = mno_rows_next(&st->rows, key, len);
	uint64_t v;

	for (size_t i = 0; slot && i < ARRAY_SIZE(columns) && mno_scan_u64(s, &v); i++) {
		if (slot[i] == MNO_SLOT_NONE)
			add_cpu(c, &slot[i], &columns[i], key, len);
		mno_source_set(c, slot[i], (double)v / st->hz);
	}
}

static void single_line(struct stat_source *st, struct mno_source_ctx *c, const char *key,
	size_t len, struct mno_scan *s)
{
	uint32_t *slot = mno_rows_next(&st->rows, key, len);
	uint64_t v;

	if (!slot || slot[0] == MNO_SLOT_IGNORED || !mno_scan_u64(s, &v))
		return;
	if (slot[0] == MNO_SLOT_NONE) {
		slot[0] = MNO_SLOT_IGNORED;
		for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
			if (strlen(singles[i].key) == len && !memcmp(singles[i].key, key, len))
				slot[0] = mno_source_add(c, &singles[i].family, NULL, 0);
		}
	}
	mno_source_set(c, slot[0], (double)v);
}

static int stat_tick(void *priv, struct mno_source_ctx *c)
{
	struct stat_source *st = priv;
	struct mno_scan s;
	int r = mno_source_read(c, st->fd, true, &s);

	if (r < 0)
		return r;
	if (s.p == s.end)
		return -EBADMSG;
	do {
		const char *key;
		size_t len = mno_scan_word(&s, ' ', &key);

		if (len >= 3 && !memcmp(key, "cpu", 3))
			cpu_line(st, c, key, len, &s);
		else
			single_line(st, c, key, len, &s);
	} while (mno_scan_line(&s));
	mno_rows_end(&st->rows, c);
	return 0;
}

const struct mno_source mno_source_stat = {
	.name = "stat",
	.summary = "CPU time by mode, context switches, forks, run queue (/proc/stat)",
	.open = stat_open,
	.tick = stat_tick,
	.close = stat_close,
};
