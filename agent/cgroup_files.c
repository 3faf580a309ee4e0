/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "cgroup_files.h"

const char *const mno_cgroup_file_names[CGROUP_FILES] = {
	[CGROUP_EVENTS] = "cgroup.events",
	[CGROUP_CPU_STAT] = "cpu.stat",
	[CGROUP_MEMORY_CURRENT] = "memory.current",
	[CGROUP_MEMORY_PEAK] = "memory.peak",
	[CGROUP_MEMORY_EVENTS] = "memory.events",
	[CGROUP_MEMORY_STAT] = "memory.stat",
	[CGROUP_IO_STAT] = "io.stat",
	[CGROUP_PIDS_CURRENT] = "pids.current",
	[CGROUP_CPU_PRESSURE] = "cpu.pressure",
	[CGROUP_MEMORY_PRESSURE] = "memory.pressure",
	[CGROUP_IO_PRESSURE] = "io.pressure",
};

#define COUNTER(n, h)                                                                              \
	{                                                                                          \
		"mno_cgroup_" n "_total", h, MNO_COUNTER                                           \
	}
#define GAUGE(n, h)                                                                                \
	{                                                                                          \
		"mno_cgroup_" n, h, MNO_GAUGE                                                      \
	}
static const struct mno_family
	usage = COUNTER("cpu_usage_seconds", "CPU time used."),
	user = COUNTER("cpu_user_seconds", "CPU time used in user mode."),
	sys = COUNTER("cpu_system_seconds", "CPU time used in the kernel."),
	periods = COUNTER("cpu_periods", "Periods of the CPU limit in which it ran."),
	throttled_periods = COUNTER("cpu_throttled_periods", "Periods in which it was throttled."),
	throttled = COUNTER("cpu_throttled_seconds", "Time in which it was throttled."),
	mem_current = GAUGE("memory_current_bytes", "Memory in use, page cache included."),
	mem_peak = GAUGE("memory_peak_bytes", "Most memory that was ever in use."),
	mem_kind = GAUGE("memory_bytes", "Memory in use by kind."),
	faults = COUNTER("memory_page_faults", "Page faults."),
	major = COUNTER("memory_major_page_faults", "Page faults that read from disk."),
	refaults = COUNTER("memory_refaults", "Pages needed again soon after their eviction."),
	mem_events = COUNTER("memory_events", "Times a memory limit was met, by what happened."),
	pids = GAUGE("pids_current", "Processes and threads."),
	waiting = COUNTER("pressure_waiting_seconds", "Time in which a task waited."),
	stalled = COUNTER("pressure_stalled_seconds", "Time in which all tasks waited.");
#undef COUNTER
#undef GAUGE

/* A line of a key-value file. The row's number in `fields` is the slot. */
struct field {
	const char *key;
	const struct mno_family *family;
	struct mno_label label; /* beside cgroup; none if .name is NULL */
	double div;
	bool when_used; /* no series before the value is first over 0 */
};
static const struct field fields[] = {
	/* cpu.stat */
	{"usage_usec", &usage, {0}, 1e6, false},
	{"user_usec", &user, {0}, 1e6, false},
	{"system_usec", &sys, {0}, 1e6, false},
	{"nr_periods", &periods, {0}, 1, true},
	{"nr_throttled", &throttled_periods, {0}, 1, true},
	{"throttled_usec", &throttled, {0}, 1e6, true},
	/* memory.stat */
	{"anon", &mem_kind, {"kind", "anon"}, 1, false},
	{"file", &mem_kind, {"kind", "file"}, 1, false},
	{"kernel", &mem_kind, {"kind", "kernel"}, 1, false},
	{"slab", &mem_kind, {"kind", "slab"}, 1, false},
	{"sock", &mem_kind, {"kind", "sock"}, 1, false},
	{"shmem", &mem_kind, {"kind", "shmem"}, 1, false},
	{"file_dirty", &mem_kind, {"kind", "file_dirty"}, 1, false},
	{"file_writeback", &mem_kind, {"kind", "file_writeback"}, 1, false},
	{"pgfault", &faults, {0}, 1, false},
	{"pgmajfault", &major, {0}, 1, false},
	{"workingset_refault_anon", &refaults, {"kind", "anon"}, 1, false},
	{"workingset_refault_file", &refaults, {"kind", "file"}, 1, false},
	/* memory.events */
	{"low", &mem_events, {"event", "low"}, 1, false},
	{"high", &mem_events, {"event", "high"}, 1, false},
	{"max", &mem_events, {"event", "max"}, 1, false},
	{"oom", &mem_events, {"event", "oom"}, 1, false},
	{"oom_kill", &mem_events, {"event", "oom_kill"}, 1, false},
};
enum { CPU_0 = 0, STAT_0 = 6, EVENTS_0 = 18, FIELDS_END = ARRAY_SIZE(fields) };

/* Files with one number, and the two numbers of a pressure file. */
enum { CURRENT = FIELDS_END, PEAK, PIDS, PRESSURE, SLOTS_END = PRESSURE + 6 };
_Static_assert(SLOTS_END <= CGROUP_SLOTS, "room for every series of a cgroup");

static const struct mno_family io_columns[CGROUP_IO_COLUMNS] = {
	{"mno_cgroup_io_read_bytes_total", "Bytes read.", MNO_COUNTER},
	{"mno_cgroup_io_written_bytes_total", "Bytes written.", MNO_COUNTER},
	{"mno_cgroup_io_reads_total", "Reads.", MNO_COUNTER},
	{"mno_cgroup_io_writes_total", "Writes.", MNO_COUNTER},
	{"mno_cgroup_io_discarded_bytes_total", "Bytes discarded.", MNO_COUNTER},
	{"mno_cgroup_io_discards_total", "Discards.", MNO_COUNTER},
};
static const char *const io_keys[CGROUP_IO_COLUMNS] = {
	"rbytes", "wbytes", "rios", "wios", "dbytes", "dios"};

static void put(struct mno_source_ctx *c, struct cgroup_state *st, size_t slot,
	const struct mno_family *f, const struct mno_label *extra, double v)
{
	uint32_t *s = &st->slot[slot];

	if (*s == MNO_SLOT_NONE) {
		struct mno_label labels[2] = {{"cgroup", st->path}};
		bool two = extra && extra->name;

		if (two)
			labels[1] = *extra;
		*s = mno_source_add(c, f, labels, two ? 2 : 1);
	}
	mno_source_set(c, *s, v);
}

static int8_t find_field(const char *key, size_t len, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		if (strlen(fields[i].key) == len && !memcmp(fields[i].key, key, len))
			return (int8_t)i;
	}
	return -1;
}

/* Which field each line has. */
static void learn(struct cgroup_layout *l, struct mno_scan s, size_t from, size_t to)
{
	l->n = 0;
	while (s.p < s.end && l->n < CGROUP_LINES_MAX) {
		const char *key;
		size_t len = mno_scan_word(&s, ' ', &key);

		l->field[l->n++] = find_field(key, len, from, to);
		mno_scan_line(&s);
	}
}

/* Sets the fields of a file that has layout @l; false if it has another one. */
static bool apply(const struct cgroup_layout *l, struct mno_source_ctx *c, struct cgroup_state *st,
	struct mno_scan s)
{
	size_t i = 0;

	for (; s.p < s.end && i < l->n; i++) {
		int8_t n = l->field[i];

		if (n >= 0) {
			const struct field *f = &fields[n];
			uint64_t v;

			if (!mno_scan_text(&s, f->key, strlen(f->key)) || !mno_scan_char(&s, ' '))
				return false;
			if (mno_scan_u64(&s, &v) &&
				(!f->when_used || v > 0 || st->slot[n] != MNO_SLOT_NONE))
				put(c, st, (size_t)n, f->family, &f->label, (double)v / f->div);
		}
		mno_scan_line(&s);
	}
	return i == l->n && (s.p == s.end || l->n == CGROUP_LINES_MAX);
}

static void key_value(struct cgroup_layout *l, struct mno_source_ctx *c, struct cgroup_state *st,
	struct mno_scan s, size_t from, size_t to)
{
	if (apply(l, c, st, s))
		return;
	learn(l, s, from, to);
	apply(l, c, st, s);
}

/* "254:0" -> "vda", by /proc/diskstats; the number itself when it is not there. */
static void device_name(struct mno_source_ctx *c, const char *number, size_t len, char name[64])
{
	_cleanup_close_ int fd = openat(c->proc_fd, "diskstats", O_RDONLY | O_CLOEXEC);
	char text[8192], want[32];
	struct mno_scan s = {text, text};
	const char *word;
	ssize_t n;

	snprintf(name, 64, "%.*s", (int)MNO_MIN(len, (size_t)63), number);
	while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0) {
		s = (struct mno_scan){text, text + n};
		while (s.p < s.end) {
			uint64_t major_nr, minor_nr;

			if (mno_scan_u64(&s, &major_nr) && mno_scan_u64(&s, &minor_nr)) {
				snprintf(want, sizeof(want), "%u:%u", (unsigned)major_nr,
					(unsigned)minor_nr);
				n = (ssize_t)mno_scan_word(&s, ' ', &word);
				if (n > 0 && n < 64 && strlen(want) == len &&
					!memcmp(want, number, len)) {
					snprintf(name, 64, "%.*s", (int)n, word);
					return;
				}
			}
			mno_scan_line(&s);
		}
	}
}

static void io_line(struct mno_source_ctx *c, struct cgroup_state *st, struct mno_scan *s)
{
	const char *device, *key;
	size_t len = mno_scan_word(s, ' ', &device), n;
	uint32_t *slot = NULL;
	uint64_t v;

	for (size_t i = 0; i < CGROUP_IO_COLUMNS; i++) {
		n = mno_scan_word(s, '=', &key);
		if (n != strlen(io_keys[i]) || memcmp(key, io_keys[i], n) != 0 ||
			!mno_scan_char(s, '=') || !mno_scan_u64(s, &v))
			return;
		/* Some kernels list devices without any figure. */
		if (!slot)
			slot = mno_rows_next(&st->io, device, len);
		if (!slot)
			return;
		if (slot[i] == MNO_SLOT_NONE) {
			char name[64];
			const struct mno_label labels[] = {{"cgroup", st->path}, {"device", name}};

			device_name(c, device, len, name);
			slot[i] = mno_source_add(c, &io_columns[i], labels, 2);
		}
		mno_source_set(c, slot[i], (double)v);
	}
}

static void io_stat(struct mno_source_ctx *c, struct cgroup_state *st, struct mno_scan s)
{
	while (s.p < s.end) {
		io_line(c, st, &s);
		mno_scan_line(&s);
	}
	mno_rows_end(&st->io, c);
}

static void populated(struct cgroup_state *st, struct mno_scan s)
{
	st->populated = true;
	while (s.p < s.end) {
		if (mno_scan_text(&s, "populated 0", 11))
			st->populated = false;
		mno_scan_line(&s);
	}
}

static size_t pressure_slot(enum cgroup_file f)
{
	return PRESSURE + 2 * (size_t)(f - CGROUP_FIRST_PRESSURE);
}

static int pressure(struct mno_source_ctx *c, struct cgroup_state *st, enum cgroup_file f, int fd)
{
	static const char *const resource[] = {"cpu", "memory", "io"};
	const struct mno_label label = {"resource", resource[f - CGROUP_FIRST_PRESSURE]};
	struct mno_pressure v;
	int r = mno_pressure_read(c, fd, &v);

	if (r < 0)
		return r;
	if (v.has_some)
		put(c, st, pressure_slot(f), &waiting, &label, v.some);
	if (v.has_full)
		put(c, st, pressure_slot(f) + 1, &stalled, &label, v.full);
	return 0;
}

void mno_cgroup_pressure_keep(struct mno_source_ctx *c, struct cgroup_state *st, enum cgroup_file f)
{
	const uint32_t *slot = &st->slot[pressure_slot(f)];

	for (size_t i = 0; i < 2; i++)
		mno_source_set(c, slot[i], mno_metrics_value(c->metrics, slot[i]));
}

static void single(struct mno_source_ctx *c, struct cgroup_state *st, size_t slot,
	const struct mno_family *f, struct mno_scan s)
{
	uint64_t v;

	if (mno_scan_u64(&s, &v))
		put(c, st, slot, f, NULL, (double)v);
}

int mno_cgroup_file_read(struct cgroup_layouts *l, struct mno_source_ctx *c,
	struct cgroup_state *st, enum cgroup_file f, int fd)
{
	struct mno_scan s;
	int r;

	if (f >= CGROUP_FIRST_PRESSURE)
		return pressure(c, st, f, fd);
	r = mno_source_read(c, fd, true, &s);
	if (r < 0)
		return r;
	switch (f) {
	case CGROUP_EVENTS:
		populated(st, s);
		break;
	case CGROUP_CPU_STAT:
		key_value(&l->file[f], c, st, s, CPU_0, STAT_0);
		break;
	case CGROUP_MEMORY_STAT:
		key_value(&l->file[f], c, st, s, STAT_0, EVENTS_0);
		break;
	case CGROUP_MEMORY_EVENTS:
		key_value(&l->file[f], c, st, s, EVENTS_0, FIELDS_END);
		break;
	case CGROUP_MEMORY_CURRENT:
		single(c, st, CURRENT, &mem_current, s);
		break;
	case CGROUP_MEMORY_PEAK:
		single(c, st, PEAK, &mem_peak, s);
		break;
	case CGROUP_PIDS_CURRENT:
		single(c, st, PIDS, &pids, s);
		break;
	case CGROUP_IO_STAT:
		io_stat(c, st, s);
		break;
	default:
		break;
	}
	return 0;
}
