/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logreplay LOG MARK: prints "entries N marked M": M of the N go up to the first write to sector
 * MARK, that one too.
 * logreplay LOG IMAGE CUT SEED MARK: makes IMAGE (a copy of the disk from before the log) what a
 * disk with a volatile cache holds when the power goes after entry CUT. All that was written before
 * the last flush is there; of what came after it, a choice by SEED (0: nothing of it). Prints
 * "acked N", N being the decimal number that the last write to sector MARK up to CUT held.
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

static int replay_apply(const struct replay *r, const struct entry *e)
{
	size_t len = e->head.sectors * SECTOR_SIZE;
	char *data = malloc(len);
	int ret = 0;

	if (!data)
		return -ENOMEM;
	/* A log cut in the middle of its last entry: that write never completed. */
	if (pread(r->log, data, len, (off_t)e->data_at) != (ssize_t)len)
		ret = -ENODATA;
	else if (pwrite(r->image, data, len, (off_t)(e->head.sector * SECTOR_SIZE)) != (ssize_t)len)
		ret = -EIO;
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
		if (!safe && (!seed || random() & 1))
			continue;
		ret = replay_apply(r, e);
		if (ret < 0)
			return ret;
	}
	printf("acked %ld\n", acked);
	return 0;
}

int main(int argc, char **argv)
{
	struct replay r = {.log = -1, .image = -1};
	int ret;

	if (argc != 3 && argc != 6) {
		fprintf(stderr, "usage: logreplay LOG [IMAGE CUT SEED] MARK\n");
		return 2;
	}
	ret = replay_open_log(&r, argv[1]);
	if (ret == 0)
		ret = replay_scan(&r);
	if (ret == 0 && argc == 3) {
		printf("entries %zu marked %zu\n", r.count,
			replay_marked(&r, strtoull(argv[2], NULL, 10)));
	} else if (ret == 0) {
		size_t cut = strtoul(argv[3], NULL, 10);

		r.image = open(argv[2], O_RDWR | O_CLOEXEC);
		ret = r.image < 0 ? -errno
				  : replay_cut(&r, cut < r.count ? cut : r.count,
					    (unsigned int)strtoul(argv[4], NULL, 10),
					    strtoull(argv[5], NULL, 10));
	}
	if (ret < 0)
		fprintf(stderr, "logreplay: %s: %s\n", argv[1], strerror(-ret));
	free(r.entries);
	return ret < 0;
}
