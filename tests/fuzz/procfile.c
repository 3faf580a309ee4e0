/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scanners of all file sources. Input: a letter that names the file, then its content; a form
 * feed separates versions of it, each read by one tick. What comes out must be valid.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "mno/util.h"
#include "slow.h"
#include "sources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = {
	"stat",
	"loadavg",
	"meminfo",
	"vmstat",
	"diskstats",
	"net/dev",
	"net/snmp",
	"net/netstat",
	"pressure/cpu",
	"self/mounts",
	"self/statm",
	"self/stat",
	"cgroup.events",
	"cpu.stat",
	"memory.current",
	"memory.events",
	"memory.stat",
	"io.stat",
	"cpu.pressure",
};

static char dir[64];

static void remove_all(void)
{
	char path[128];
	static const char *const dirs[] = {"net", "pressure", "self", "."};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, dirs[i]);
		rmdir(i + 1 < ARRAY_SIZE(dirs) ? path : dir);
	}
}

static void write_version(size_t file, const uint8_t *p, size_t n)
{
	char path[128];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, files[file]);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
}

static void make_tree(void)
{
	static const char *const dirs[] = {"net", "pressure", "self"};
	char path[128];

	/* memory is much faster than a disk here */
	snprintf(dir, sizeof(dir), "%s/mno-fuzz-XXXXXX",
		access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		abort();
	atexit(remove_all);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, dirs[i]);
		if (mkdir(path, 0700) < 0)
			abort();
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		write_version(i, NULL, 0);
}

static size_t list_one(const struct mno_cgroups *c, const struct mno_cgroup **ret)
{
	static const struct mno_cgroup root = {.id = 1, .path = "/"};

	*ret = &root;
	return 1;
}

static void check(struct mno_sources *s, struct mno_metrics *m)
{
	_cleanup_buf_ struct mno_buf out = {0};
	struct mno_source_status st;
	size_t sum = 0, k;

	for (size_t i = 0; mno_sources_status(s, i, &st); i++)
		sum += st.series;
	if (sum != mno_metrics_count(m))
		abort();
	mno_metrics_render(m, &out);
	for (size_t i = 0; i < out.len; i += k) {
		k = mno_utf8_len(out.data + i, out.len - i);
		if (k == 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mno_slow *slow;
	struct mno_metrics *m = NULL;
	struct mno_sources *s = NULL;
	struct mno_sources_opts o = {.sz = sizeof(o), .list = list_one};
	const uint8_t *end = data + size;
	size_t file;

	if (size == 0)
		return 0;
	if (!dir[0]) {
		make_tree();
		if (mno_slow_new(&slow) < 0)
			abort();
	}
	file = (size_t)(*data++ - 'a') % ARRAY_SIZE(files);
	o.slow = slow;
	o.proc_root = o.cgroup_root = dir;
	o.cgroups = (void *)dir; /* only handed to list_one() */
	if (mno_metrics_new(2000, &m) < 0)
		return 0;
	o.metrics = m;
	if (mno_sources_new(&o, &s) < 0)
		abort();
	for (uint64_t now = NS_PER_SEC; data < end; now += 60 * NS_PER_SEC) {
		const uint8_t *ff = memchr(data, '\f', (size_t)(end - data));
		size_t n = (size_t)((ff ? ff : end) - data);

		write_version(file, data, n);
		mno_sources_tick(s, now);
		mno_metrics_tick(m, NULL, NULL);
		check(s, m);
		data = ff ? ff + 1 : end;
	}
	write_version(file, NULL, 0);
	mno_sources_free(s);
	mno_metrics_free(m);
	return 0;
}
