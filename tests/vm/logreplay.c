/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logreplay LOG MARK: prints "entries N marked M": M of the N go up to the first write to sector
 * MARK, that one too.
 * logreplay LOG IMAGE CUT SEED MARK: makes IMAGE (a copy of the disk from before the log) what a
 * disk with a volatile cache holds when the power goes after entry CUT. All that was written before
 * the last flush is there; of what came after it, a choice by SEED (0: nothing of it). Prints
 * "acked N", N being the decimal number that the last write to sector MARK up to CUT held.
 * logreplay LOG IMAGE CUTS MARK TEMP COMMAND [first]: about CUTS such disks, spread over the whole
 * log, one after the other in TEMP; IMAGE moves along. For each the shell runs COMMAND with TEMP and
 * the last numbers of sectors MARK and MARK + 1; it prints what of both it found, and fails if
 * that is wrong. "first": enough with one that is. Prints how many cuts, wrong ones, flushes, and
 * by how much at most each number was behind.
 * LOG is in the dm-log-writes format, as QEMU's blklogwrites filter writes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MAGIC   0x6a736677736872ULL
#define SECTOR_SIZE 512u
#define ENTRIES_MAX (1u << 20)  /* 1 Mi entries of 40 bytes: 40 MiB at most */
#define WRITE_MAX   (64u << 20) /* bytes of one entry */

enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4, LOG_MARK = 8 };

struct log_super {
	uint64_t magic, version, entries;
	uint32_t sector_size;
} __attribute__((packed));

struct log_entry {
	uint64_t sector, sectors, flags, data_len;
};

struct entry {
	struct log_entry head;
	uint64_t data_at;
};

struct replay {
	int log, image;
	struct entry *entries;
	size_t count;
};

static int replay_open_log(struct replay *r, const char *path)
{
	struct log_super super;

	r->log = open(path, O_RDONLY | O_CLOEXEC);
	if (r->log < 0)
		return -errno;
	if (pread(r->log, &super, sizeof(super), 0) != sizeof(super) || super.magic != LOG_MAGIC ||
		super.sector_size != SECTOR_SIZE)
		return -EPROTO;
	return 0;
}

/* Of MARK and of the sector behind it: numbers of what was acknowledged. */
#define MARKS 2
#define PIECE 4096u /* bytes of one write that a disk keeps or loses as a whole */

/* The super block's count lags when QEMU is killed: the log ends at the first empty header. */
static int replay_scan(struct replay *r)
{
	uint64_t at = SECTOR_SIZE;

	r->entries = calloc(ENTRIES_MAX, sizeof(*r->entries));
	if (!r->entries)
		return -ENOMEM;
	while (r->count < ENTRIES_MAX) {
		struct entry *e = &r->entries[r->count];

		if (pread(r->log, &e->head, sizeof(e->head), (off_t)at) != sizeof(e->head) ||
			(!e->head.sectors && !e->head.flags))
			return 0;
		if (e->head.sectors > WRITE_MAX / SECTOR_SIZE && !(e->head.flags & LOG_DISCARD))
			return -EPROTO;
		e->data_at = at + SECTOR_SIZE;
		at = e->data_at;
		if (!(e->head.flags & LOG_DISCARD))
			at += e->head.sectors * SECTOR_SIZE;
		r->count++;
	}
	return -EFBIG;
}

static bool entry_is_write(const struct entry *e)
{
	return e->head.sectors && !(e->head.flags & (LOG_DISCARD | LOG_MARK));
}

/* Of what a cut leaves undecided, SEED 0 takes nothing, and SEED 1 takes all. */
static bool chosen(unsigned int seed)
{
	return seed && (seed == 1 || random() & 1);
}

static int replay_apply(const struct replay *r, int image, const struct entry *e, unsigned int seed)
{
	size_t len = e->head.sectors * SECTOR_SIZE, n;
	char *data = malloc(len);
	int ret = 0;

	if (!data)
		return -ENOMEM;
	/* A log cut in the middle of its last entry: that write never completed. */
	if (pread(r->log, data, len, (off_t)e->data_at) != (ssize_t)len)
		ret = -ENODATA;
	for (size_t at = 0; at < len && ret == 0; at += n) {
		n = len - at < PIECE ? len - at : PIECE;
		if (chosen(seed) &&
			pwrite(image, data + at, n, (off_t)(e->head.sector * SECTOR_SIZE + at)) !=
				(ssize_t)n)
			ret = -EIO;
	}
	free(data);
	return ret == -ENODATA ? 0 : ret;
}

static size_t replay_marked(const struct replay *r, uint64_t mark)
{
	size_t i = 0;

	while (i < r->count &&
		!(entry_is_write(&r->entries[i]) && r->entries[i].head.sector == mark))
		i++;
	return i < r->count ? i + 1 : i;
}

static long replay_mark(const struct replay *r, const struct entry *e, long before)
{
	char text[32] = "";

	if (pread(r->log, text, sizeof(text) - 1, (off_t)e->data_at) <= 0)
		return before;
	return strtol(text, NULL, 10);
}

static int replay_cut(const struct replay *r, size_t cut, unsigned int seed, uint64_t mark)
{
	size_t flushed = 0;
	long acked = 0;

	srandom(seed);
	for (size_t i = 0; i < cut; i++)
		if (r->entries[i].head.flags & LOG_FLUSH)
			flushed = i;
	for (size_t i = 0; i < cut; i++) {
		const struct entry *e = &r->entries[i];
		bool safe = i < flushed || e->head.flags & LOG_FUA;
		int ret;

		if (!entry_is_write(e))
			continue;
		if (e->head.sector == mark) {
			acked = replay_mark(r, e, acked);
			continue;
		}
		ret = replay_apply(r, r->image, e, safe ? 1 : seed);
		if (ret < 0)
			return ret;
	}
	printf("acked %ld\n", acked);
	return 0;
}

/* --- many cuts -------------------------------------------------------------------------------- */

struct cuts {
	const struct replay *r;
	const char *temp, *command;
	size_t from; /* entries before it are in the image */
	size_t done, bad, flushes;
	long acked[MARKS], behind[MARKS];
};

/* The holes of an image stay holes: that is most of it. */
static int copy_image(int from, const char *path)
{
	static char buf[1 << 16];
	int to = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	off_t size = lseek(from, 0, SEEK_END), at = 0, end;
	ssize_t n;

	if (to < 0 || ftruncate(to, size) < 0)
		return -errno;
	while (at < size && (at = lseek(from, at, SEEK_DATA)) >= 0) {
		end = lseek(from, at, SEEK_HOLE);
		for (; at < end; at += n) {
			n = pread(from, buf,
				(size_t)(end - at) < sizeof(buf) ? (size_t)(end - at) : sizeof(buf),
				at);
			if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
				return -EIO;
		}
	}
	return to;
}

static int cut_run(struct cuts *c)
{
	long found[MARKS] = {0};
	char line[4096];
	FILE *f;
	int n;

	snprintf(
		line, sizeof(line), "%s %s %ld %ld", c->command, c->temp, c->acked[0], c->acked[1]);
	f = popen(line, "re");
	if (!f)
		return -errno;
	n = fscanf(f, "%ld %ld", &found[0], &found[1]);
	c->done++;
	if (pclose(f) || n != MARKS) {
		c->bad++;
		printf("wrong: cut %zu, acknowledged %ld and %ld\n", c->done, c->acked[0],
			c->acked[1]);
	}
	for (int i = 0; i < MARKS; i++)
		if (c->acked[i] - found[i] > c->behind[i])
			c->behind[i] = c->acked[i] - found[i];
	return 0;
}

/* The power goes before entry @at. */
static int cut_at(struct cuts *c, size_t at)
{
	static const unsigned int seeds[] = {0, 2, 3, 0, 4, 5, 1, 6};
	unsigned int seed = seeds[c->done % (sizeof(seeds) / sizeof(seeds[0]))];
	int image = copy_image(c->r->image, c->temp), ret = image < 0 ? image : 0;

	for (size_t i = c->from; i < at && ret == 0; i++) {
		const struct entry *e = &c->r->entries[i];

		if (entry_is_write(e))
			ret = replay_apply(c->r, image, e, e->head.flags & LOG_FUA ? 1 : seed);
	}
	if (image >= 0)
		close(image);
	return ret < 0 ? ret : cut_run(c);
}

static int cut_step(struct cuts *c, size_t at, uint64_t mark)
{
	const struct entry *e = &c->r->entries[at];
	int ret = 0;

	if (e->head.flags & LOG_FLUSH) {
		for (; c->from < at && ret == 0; c->from++)
			if (entry_is_write(&c->r->entries[c->from]))
				ret = replay_apply(c->r, c->r->image, &c->r->entries[c->from], 1);
		c->flushes++;
	}
	for (int i = 0; i < MARKS; i++)
		if (entry_is_write(e) && e->head.sector == mark + (uint64_t)i)
			c->acked[i] = replay_mark(c->r, e, c->acked[i]);
	return ret;
}

static int replay_cuts(const struct replay *r, char **argv, bool first)
{
	size_t want = strtoul(argv[3], NULL, 10);
	uint64_t mark = strtoull(argv[4], NULL, 10);
	struct cuts c = {.r = r, .temp = argv[5], .command = argv[6]};
	int ret = 0;

	srandom(42);
	for (size_t i = 0; i < r->count && ret == 0 && !(first && c.bad); i++) {
		size_t n = want * (i + 1) / r->count - want * i / r->count;

		/* most is in the balance right before a flush */
		if (!n && r->entries[i].head.flags & LOG_FLUSH)
			n = 1;
		while (n-- && ret == 0)
			ret = cut_at(&c, i);
		if (ret == 0)
			ret = cut_step(&c, i, mark);
	}
	printf("cuts %zu wrong %zu entries %zu flushes %zu behind %ld %ld\n", c.done, c.bad,
		r->count, c.flushes, c.behind[0], c.behind[1]);
	return ret;
}

int main(int argc, char **argv)
{
	struct replay r = {.log = -1, .image = -1};
	int ret;

	if (argc != 3 && argc != 6 && argc != 7 && argc != 8) {
		fprintf(stderr, "usage: logreplay LOG [IMAGE CUT SEED] MARK\n"
				"       logreplay LOG IMAGE CUTS MARK TEMP COMMAND [first]\n");
		return 2;
	}
	ret = replay_open_log(&r, argv[1]);
	if (ret == 0)
		ret = replay_scan(&r);
	if (ret == 0 && argc > 3) {
		r.image = open(argv[2], O_RDWR | O_CLOEXEC);
		ret = r.image < 0 ? -errno : 0;
	}
	if (ret == 0 && argc == 3) {
		printf("entries %zu marked %zu\n", r.count,
			replay_marked(&r, strtoull(argv[2], NULL, 10)));
	} else if (ret == 0 && argc > 6) {
		ret = replay_cuts(&r, argv, argc == 8);
	} else if (ret == 0) {
		size_t cut = strtoul(argv[3], NULL, 10);

		ret = replay_cut(&r, cut < r.count ? cut : r.count,
			(unsigned int)strtoul(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
	}
	if (ret < 0)
		fprintf(stderr, "logreplay: %s: %s\n", argv[1], strerror(-ret));
	free(r.entries);
	return ret < 0;
}
