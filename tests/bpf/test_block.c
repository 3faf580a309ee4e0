/* SPDX-License-Identifier: Apache-2.0 */
/* The block probe against real requests of a real disk. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <cmocka.h>
#include "mno/hist.h"
#include "block/block_user.h"
#include "rig.h"

#define SIZE   (64 * 1024)
#define WRITES 50

struct state {
	struct rig rig;
	struct block_device_row *devs;
	struct block_cgroup *cgs;
	size_t n;
	char file[64];
	int fd;
};

/* On the build tree's file system: /tmp may be memory. */
static int make_file(struct state *s)
{
	strcpy(s->file, "./.block-test-XXXXXX");
	s->fd = mkstemp(s->file);
	if (s->fd < 0)
		return -1;
	close(s->fd);
	s->fd = open(s->file, O_RDWR | O_DIRECT | O_CLOEXEC);
	return s->fd < 0 ? -1 : 0;
}

static int setup(void **state)
{
	static struct state s;
	size_t size;

	*state = &s;
	if (make_file(&s)) {
		printf("skipped: no O_DIRECT on this file system (%s)\n", strerror(errno));
		unlink(s.file);
		exit(77);
	}
	if (rig_up(&s.rig, &mno_probe_block, 0))
		return -1;
	return mno_map_values(s.rig.obj, "devices", (void **)&s.devs, &size) ||
	       mno_map_values(s.rig.obj, "cgroups", (void **)&s.cgs, &size);
}

static int teardown(void **state)
{
	struct state *s = *state;

	rig_down(&s->rig);
	close(s->fd);
	unlink(s->file);
	return 0;
}

static struct block_stat total(const struct state *s, enum block_op op)
{
	struct block_stat t = {0};

	for (size_t i = 0; i < BLOCK_ROWS; i++) {
		const struct block_stat *b = &s->devs[i].op[op];

		t.count += b->count;
		t.bytes += b->bytes;
		t.errors += b->errors;
		t.latency_ns += b->latency_ns;
		t.queue_count += b->queue_count;
		for (size_t k = 0; k < MNO_HIST_BUCKETS; k++) {
			t.latency[k] += b->latency[k];
			t.size[k] += b->size[k];
		}
	}
	return t;
}

static void test_write_and_read(void **state)
{
	struct state *s = *state;
	struct block_stat w0 = total(s, BLOCK_WRITE), r0 = total(s, BLOCK_READ), w, r;
	void *buf = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t slot;

	memset(buf, 7, SIZE);
	for (int i = 0; i < WRITES; i++)
		assert_int_equal(pwrite(s->fd, buf, SIZE, (off_t)i * SIZE), SIZE);
	fsync(s->fd);
	for (int i = 0; i < WRITES; i++)
		assert_int_equal(pread(s->fd, buf, SIZE, (off_t)i * SIZE), SIZE);
	munmap(buf, SIZE);
	w = total(s, BLOCK_WRITE);
	r = total(s, BLOCK_READ);
	assert_true(w.bytes - w0.bytes >= WRITES * SIZE);
	assert_true(r.bytes - r0.bytes >= WRITES * SIZE);
	assert_true(w.count > w0.count && r.count > r0.count);
	assert_true(w.latency_ns > w0.latency_ns && r.latency_ns > r0.latency_ns);
	slot = rig_own_slot(&s->rig);
	assert_int_not_equal(slot, 0);
	/* other programs may write too, but nobody else's reads of ours are counted to us */
	assert_true(s->cgs[slot].bytes >= 2u * WRITES * SIZE);
	assert_true(s->cgs[slot].count > 0);
}

static void test_histograms_add_up(void **state)
{
	struct state *s = *state;

	/* other I/O of the host may be half-way between two counters: try again */
	for (int op = 0; op < BLOCK_OPS; op++) {
		struct block_stat t;
		int tries = 0;

		do
			t = total(s, op);
		while ((mno_hist_total(t.latency) != t.count ||
			       mno_hist_total(t.size) != t.count) &&
			++tries < 1000);
		assert_int_equal(mno_hist_total(t.latency), t.count);
		assert_int_equal(mno_hist_total(t.size), t.count);
		if (t.count)
			assert_true(mno_hist_quantile(t.latency, 0.5) * t.count < 8e9 * t.count);
	}
}

static void test_sizes(void **state)
{
	struct state *s = *state;
	uint32_t i = mno_hist_index(SIZE - 1);
	struct block_stat w = total(s, BLOCK_WRITE);

	/* 50 direct writes of one size: most of them travelled whole */
	assert_true(w.size[i] >= WRITES / 2);
}

/* A disk without a volatile cache is sent no flushes. */
static bool has_cache(dev_t dev)
{
	char path[128], mode[32] = "";
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/write_cache", major(dev),
		minor(dev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, mode, sizeof(mode) - 1) > 0 && !strncmp(mode, "write back", 10);
}

static void test_flush(void **state)
{
	struct state *s = *state;
	struct block_stat before = total(s, BLOCK_FLUSH);
	struct stat st;

	assert_int_equal(fstat(s->fd, &st), 0);
	if (!has_cache(st.st_dev)) {
		print_message("the disk has no volatile cache: flushes not tried\n");
		skip();
	}
	for (int i = 0; i < 5; i++) {
		assert_int_equal(ftruncate(s->fd, (off_t)WRITES * SIZE + i), 0);
		assert_int_equal(fsync(s->fd), 0);
	}
	assert_true(total(s, BLOCK_FLUSH).count > before.count);
}

static void test_device_is_ours(void **state)
{
	struct state *s = *state;
	struct stat st;
	char name[32];
	size_t found = 0;

	assert_int_equal(fstat(s->fd, &st), 0);
	for (size_t i = 0; i < BLOCK_DEVICES; i++) {
		if (!s->devs[i].key)
			continue;
		block_device_name("/sys/dev/block", s->devs[i].key, name, sizeof(name));
		print_message("device %s: %llu writes\n", name,
			(unsigned long long)s->devs[i].op[BLOCK_WRITE].count);
		found++;
		assert_null(strchr(name, '/'));
	}
	assert_true(found > 0);
	if (major(st.st_dev)) {
		uint32_t key = BLOCK_KEY(major(st.st_dev), minor(st.st_dev));

		for (size_t i = 0; i < BLOCK_DEVICES && found; i++)
			if (s->devs[i].key == key)
				found = 0;
		/* the file system may lie on a partition, whose disk has another number */
		if (!minor(st.st_dev))
			assert_int_equal(found, 0);
	}
}

/* What is in flight is few: every request that was issued was also taken out again. */
static void test_nothing_leaks(void **state)
{
	struct state *s = *state;
	int fd = rig_map(&s->rig, "inflight");
	uint64_t key, *prev = NULL;
	size_t n = 0;

	fsync(s->fd);
	while (n < BLOCK_INFLIGHT && !bpf_map_get_next_key(fd, prev, &key)) {
		prev = &key;
		n++;
	}
	assert_true(n < 64);
	assert_int_equal(rig_stats(&s->rig).errors, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_and_read),
		cmocka_unit_test(test_histograms_add_up),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_device_is_ours),
		cmocka_unit_test(test_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
