/* SPDX-License-Identifier: Apache-2.0 */
/* The file ".migration": a line for each fact, replaced as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/util.h"

#define STATE_MAX 2048
#define STATE_NEW MIGRATE_STATE ".tmp"

struct field {
	const char *name;
	uint64_t value;
};
enum {
	F_FROM,
	F_TO,
	F_STAGE,
	F_SWITCHED,
	F_UNDO,
	F_RECORDS,
	F_SERIES,
	F_SAMPLES,
	F_PROCS,
	F_EVENTS,
	F_DAMAGED,
	F_MAX
};
static const char *const names[F_MAX] = {"from", "to", "stage", "switched_ms", "undo_wanted",
	"records", "series", "samples", "procs", "events", "damaged"};

static int parse(char *text, uint64_t v[F_MAX])
{
	unsigned seen = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *eq = strchr(line, '=');

		if (!eq)
			return -MNO_ECORRUPT;
		*eq = '\0';
		for (unsigned i = 0; i < F_MAX; i++) {
			if (strcmp(names[i], line))
				continue;
			if (mno_parse_u64(eq + 1, &v[i]) < 0)
				return -MNO_ECORRUPT;
			seen |= 1u << i;
		}
	}
	return seen == (1u << F_MAX) - 1 ? 0 : -MNO_ECORRUPT;
}

int state_read(int dir_fd, struct state *ret)
{
	_cleanup_close_ int fd = openat(dir_fd, MIGRATE_STATE, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char text[STATE_MAX + 1];
	uint64_t v[F_MAX] = {0};
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	n = read(fd, text, STATE_MAX);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	r = parse(text, v);
	if (r < 0 || v[F_STAGE] >= MNO_MIGRATE_STAGES || v[F_FROM] > UINT32_MAX ||
		v[F_TO] > UINT32_MAX)
		return -MNO_ECORRUPT;
	*ret = (struct state){.from = (unsigned)v[F_FROM],
		.to = (unsigned)v[F_TO],
		.stage = (enum mno_migrate_stage)v[F_STAGE],
		.switched_ms = (int64_t)v[F_SWITCHED],
		.undo_wanted = v[F_UNDO],
		.records = v[F_RECORDS],
		.series = v[F_SERIES],
		.samples = v[F_SAMPLES],
		.procs = v[F_PROCS],
		.events = v[F_EVENTS],
		.damaged = v[F_DAMAGED]};
	return 0;
}

int state_write(int dir_fd, const struct state *s)
{
	const uint64_t v[F_MAX] = {s->from, s->to, s->stage, (uint64_t)s->switched_ms,
		s->undo_wanted, s->records, s->series, s->samples, s->procs, s->events, s->damaged};
	_cleanup_close_ int fd = -1;
	char text[STATE_MAX];
	int n = 0;

	for (unsigned i = 0; i < F_MAX; i++)
		n += snprintf(
			text + n, sizeof(text) - (size_t)n, "%s=%" PRIu64 "\n", names[i], v[i]);
	unlinkat(dir_fd, STATE_NEW, 0);
	fd = openat(dir_fd, STATE_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	errno = ENOSPC;
	if (write(fd, text, (size_t)n) != n || fsync(fd) < 0)
		return -errno;
	if (renameat(dir_fd, STATE_NEW, dir_fd, MIGRATE_STATE) < 0 || fsync(dir_fd) < 0)
		return -errno;
	return 0;
}

int state_remove(int dir_fd)
{
	if (unlinkat(dir_fd, MIGRATE_STATE, 0) < 0 && errno != ENOENT)
		return -errno;
	return fsync(dir_fd) < 0 ? -errno : 0;
}

void state_name(char buf[32], const char *what, unsigned format)
{
	snprintf(buf, 32, ".%s-%u", what, format);
}
