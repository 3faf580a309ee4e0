/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory probe: real major faults; reclaim and an OOM kill only inside a memory cgroup of
 * this test's own with a small limit, so that nothing else of the host can be hit.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>
#include "mno/hist.h"
#include "memory/memory_user.h"
#include "rig.h"

#define LIMIT (24 << 20)

struct state {
	struct rig rig;
	struct memory_cgroup *cgs;
	struct memory_stall *stalls;
	_Alignas(8) char oom[sizeof(struct memory_oom) + MEMORY_CHAIN_MAX];
	uint32_t watched; /* pid */
	char dir[576];    /* memory cgroup of our own, "" if there is none */
	bool v2;
};

static struct state S;

static void on_event(void *arg, const void *rec, size_t len)
{
	const struct memory_oom *o = rec;

	if (o->pid == S.watched && len <= sizeof(S.oom))
		memcpy(S.oom, rec, len);
}

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[600];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return r;
}

/* Where this process is in the hierarchy with the memory controller: v1's own, or v2. */
static bool own_memory_path(char *out, size_t size, bool *ret_v2)
{
	char line[512], mounts[2][256] = {"", ""}, paths[2][256] = {"", ""};
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && fgets(line, sizeof(line), f)) {
		char dir[256], type[64], opts[256];

		if (sscanf(line, "%*s %255s %63s %255s", dir, type, opts) != 3)
			continue;
		if (!strcmp(type, "cgroup") && strstr(opts, "memory"))
			strcpy(mounts[0], dir);
		if (!strcmp(type, "cgroup2"))
			strcpy(mounts[1], dir);
	}
	if (f)
		fclose(f);
	f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, ":memory:"))
			sscanf(strstr(line, ":memory:") + 8, "%255s", paths[0]);
		if (!strncmp(line, "0::", 3))
			sscanf(line + 3, "%255s", paths[1]);
	}
	if (f)
		fclose(f);
	*ret_v2 = !*mounts[0];
	snprintf(out, size, "%s%s", mounts[*ret_v2], paths[*ret_v2]);
	return *mounts[*ret_v2];
}

/* A memory cgroup with a limit of LIMIT, no swap; S.dir stays "" where that cannot be had. */
static void make_cgroup(void)
{
	char base[512], dir[560], limit[32];

	if (!own_memory_path(base, sizeof(base), &S.v2))
		return;
	if (S.v2)
		write_file(base, "cgroup.subtree_control", "+memory");
	snprintf(dir, sizeof(dir), "%.480s/mno-test-%d", base, getpid());
	if (mkdir(dir, 0700))
		return;
	snprintf(limit, sizeof(limit), "%d", LIMIT);
	if (write_file(dir, S.v2 ? "memory.max" : "memory.limit_in_bytes", limit)) {
		rmdir(dir);
		return;
	}
	write_file(
		dir, S.v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", S.v2 ? "0" : limit);
	snprintf(S.dir, sizeof(S.dir), "%s", dir);
}

static int setup(void **state)
{
	size_t size;

	S.rig.on_record = on_event;
	if (rig_up(&S.rig, &mno_probe_memory, 0))
		return -1;
	print_message("attached by: %s\n", mno_probe_memory.rungs[S.rig.rung].name);
	make_cgroup();
	return mno_map_values(S.rig.obj, "cgroups", (void **)&S.cgs, &size) ||
	       mno_map_values(S.rig.obj, "stalls", (void **)&S.stalls, &size);
}

static int teardown(void **state)
{
	rig_down(&S.rig);
	if (*S.dir)
		rmdir(S.dir);
	return 0;
}

static void test_major_faults(void **state)
{
	const size_t size = 4 << 20;
	char name[] = "./.memory-test-XXXXXX";
	int fd = mkstemp(name);
	long before, after;
	unsigned char *p;
	char buf[4096];

	assert_true(fd >= 0);
	unlink(name);
	memset(buf, 1, sizeof(buf));
	for (size_t i = 0; i < size; i += sizeof(buf))
		assert_int_equal(write(fd, buf, sizeof(buf)), sizeof(buf));
	fsync(fd);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	madvise(p, size, MADV_RANDOM); /* no read-ahead: a fault a page */
	before = S.cgs[rig_own_slot(&S.rig)].major_faults;
	for (size_t i = 0; i < size; i += 4096)
		(void)*(volatile unsigned char *)&p[i];
	after = S.cgs[rig_own_slot(&S.rig)].major_faults;
	munmap(p, size);
	close(fd);
	print_message("%ld major faults\n", after - before);
	if (after == before) {
		struct stat st;

		assert_int_equal(stat(".", &st), 0);
		print_message("skipped: this file system keeps its pages\n");
		skip();
	}
	assert_true(after - before >= 100);
	assert_int_not_equal(rig_own_slot(&S.rig), 0);
}

/* In the limited cgroup: @bytes of anonymous memory (never ends), or else read a file. */
static pid_t child_in_cgroup(size_t anonymous, const char *file)
{
	pid_t pid = fork();
	char buf[65536];

	if (pid)
		return pid;
	if (write_file(S.dir, "cgroup.procs", "0"))
		_exit(9);
	if (file) {
		int fd = open(file, O_RDWR);

		for (int i = 0; i < 1024 && fd >= 0; i++)
			if (write(fd, buf, sizeof(buf)) < 0)
				break;
		_exit(fd < 0);
	}
	for (size_t i = 0; i < anonymous; i += 4096) {
		volatile char *p = mmap(
			NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			_exit(8);
		*p = 1;
	}
	_exit(7);
}

static void need_cgroup(void)
{
	if (*S.dir)
		return;
	print_message("skipped: no memory cgroup can be made here\n");
	skip();
}

static void test_reclaim(void **state)
{
	char name[] = "./.memory-test-XXXXXX";
	struct memory_stall *m = &S.stalls[MEMORY_CGROUP];
	uint64_t before = m->count;
	struct memory_cgroup *own;
	int fd, status;

	need_cgroup();
	fd = mkstemp(name);
	assert_true(fd >= 0);
	/* 64 MiB of page cache through a cgroup of 24 MiB */
	waitpid(child_in_cgroup(0, name), &status, 0);
	close(fd);
	unlink(name);
	assert_int_equal(status, 0);
	assert_true(m->count > before);
	assert_int_equal(mno_hist_total(m->hist), m->count);
	assert_true(m->ns > 0 && m->ns / m->count < 10000000000ull);
	if (S.v2) /* there the child's v2 cgroup is not ours */
		return;
	own = &S.cgs[rig_own_slot(&S.rig)];
	assert_true(own->reclaim_count[MEMORY_CGROUP] >= m->count - before);
	assert_true(own->reclaimed_pages[MEMORY_CGROUP] > 1000);
	print_message("%llu reclaims, mean %.0f us\n", (unsigned long long)(m->count - before),
		m->ns / 1e3 / m->count);
}

static void test_oom_kill(void **state)
{
	const struct memory_oom *o = (void *)S.oom;
	char parent[64];
	int status;

	need_cgroup();
	S.watched = child_in_cgroup(4ul * LIMIT, NULL);
	waitpid(S.watched, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	for (int i = 0; i < 100 && !o->pid; i++) {
		rig_drain(&S.rig);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	assert_int_equal(o->pid, S.watched);
	assert_string_equal(o->comm, "test_memory");
	assert_int_equal(o->trigger_pid, S.watched); /* it asked for the page itself */
	if (S.rig.rung < 2)                          /* else the kernel forbids reading it */
		assert_true(o->rss_bytes > LIMIT / 2 && o->rss_bytes < 2 * LIMIT);
	assert_true(o->total_vm_bytes >= o->rss_bytes);
	assert_true(o->start_ns > 0 && o->start_ns < o->hdr.ktime);
	assert_int_equal(o->hdr.size, sizeof(*o) + o->ancestors.len);
	assert_int_equal(o->ancestors.off, sizeof(*o));
	snprintf(parent, sizeof(parent), "%d:test_memory", getpid());
	assert_string_equal(S.oom + o->ancestors.off, parent);
	assert_int_equal(S.oom[o->hdr.size - 1], 0);
	for (size_t i = 0; i < o->ancestors.len; i += strlen(S.oom + o->ancestors.off + i) + 1)
		print_message("ancestor %s\n", S.oom + o->ancestors.off + i);
}

static void test_accounting(void **state)
{
	struct mno_pstats st = rig_stats(&S.rig);

	assert_int_equal(st.seen, st.delivered + st.sampled + st.dropped);
	assert_int_equal(st.errors, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_major_faults),
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_oom_kill),
		cmocka_unit_test(test_accounting),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
