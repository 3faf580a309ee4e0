/* SPDX-License-Identifier: Apache-2.0 */
/* File sources on made-up trees of several kernels, on changing and hostile ones, and live. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "mno/time.h"
#include "mno/util.h"
#include "slow.h"
#include "sources.h"

#define FIXTURES "tests/fixtures/"

struct rig {
	struct mno_metrics *metrics;
	struct mno_slow *slow;
	struct mno_sources *sources;
	char dir[64]; /* scratch copy of a fixture tree; removed at the end */
	uint64_t now_ns;
	struct mno_cgroup list[600];
	size_t n_list;
};

/* The source asks for the list with the pointer that it was given: here the rig. */
static size_t list_cgroups(const struct mno_cgroups *c, const struct mno_cgroup **ret)
{
	const struct rig *r = (const void *)c;

	*ret = r->list;
	return r->n_list;
}

static void start(struct rig *r, const char *proc, const char *cgroup)
{
	const struct mno_sources_opts o = {
		.sz = sizeof(o),
		.proc_root = proc,
		.cgroup_root = cgroup,
		.metrics = r->metrics,
		.cgroups = cgroup ? (void *)r : NULL,
		.list = list_cgroups,
		.slow = r->slow,
	};

	assert_int_equal(mno_sources_new(&o, &r->sources), 0);
}

static void tick(struct rig *r)
{
	r->now_ns += NS_PER_SEC;
	mno_sources_tick(r->sources, r->now_ns);
	mno_metrics_tick(r->metrics, NULL, NULL);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (!r || mno_metrics_new(20000, &r->metrics) < 0 || mno_slow_new(&r->slow) < 0)
		return -1;
	r->now_ns = NS_PER_SEC;
	*state = r;
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	mno_sources_free(r->sources);
	mno_slow_free(r->slow);
	mno_metrics_free(r->metrics);
	if (r->dir[0])
		nftw(r->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(r);
	return 0;
}

/* A copy of a fixture tree that the test may change. */
static void scratch(struct rig *r, const char *from)
{
	char cmd[256];

	snprintf(r->dir, sizeof(r->dir), "/tmp/mno-test-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(cmd, sizeof(cmd), "cp -r %s%s/. %s", FIXTURES, from, r->dir);
	assert_int_equal(system(cmd), 0);
}

static void write_file(struct rig *r, const char *name, const char *text, size_t len)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}
#define WRITE(r, name, text) write_file(r, name, text, strlen(text))

static bool present(struct rig *r, const char *key)
{
	uint32_t slot;

	return mno_metrics_find(r->metrics, key, strlen(key), &slot) == 0;
}

static double value(struct rig *r, const char *key)
{
	uint32_t slot;

	if (mno_metrics_find(r->metrics, key, strlen(key), &slot) < 0)
		fail_msg("no series %s", key);
	return mno_metrics_value(r->metrics, slot);
}

static void expect(struct rig *r, const char *key, double want)
{
	double got = value(r, key);

	if (got != want)
		fail_msg("%s is %.17g, not %.17g", key, got, want);
}

static struct mno_source_status status(struct rig *r, const char *name)
{
	struct mno_source_status st;

	for (size_t i = 0; mno_sources_status(r->sources, i, &st); i++) {
		if (!strcmp(st.source->name, name))
			return st;
	}
	fail_msg("no source %s", name);
	return st;
}

static void expect_state(struct rig *r, const char *name, enum mno_source_state want)
{
	struct mno_source_status st = status(r, name);

	if (st.state != want)
		fail_msg("%s is %s (%s)", name, mno_source_state_name(st.state), st.reason);
}

static void test_current_kernel(void **state)
{
	struct rig *r = *state;

	start(r, FIXTURES "proc/linux-6.18", NULL);
	tick(r);
	tick(r);
	expect(r, "node_cpu_seconds_total{cpu=\"1\",mode=\"user\"}", 41.31);
	expect(r, "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"}", 0.03);
	expect(r, "node_cpu_guest_seconds_total{cpu=\"1\",mode=\"nice\"}", 0.03);
	expect(r, "mno_host_cpu_seconds_total{mode=\"idle\"}", 2560.8);
	expect(r, "node_context_switches_total", 475576);
	expect(r, "node_intr_total", 222004);
	expect(r, "node_procs_blocked", 1);
	expect(r, "node_load15", 0.11);
	expect(r, "node_processes_threads", 101);
	expect(r, "node_memory_MemAvailable_bytes", 24297004.0 * 1024);
	expect(r, "node_memory_Active_anon_bytes", 1576 * 1024);
	expect(r, "node_memory_HugePages_Total", 7);
	expect(r, "node_vmstat_oom_kill", 2);
	assert_false(present(r, "node_vmstat_nr_free_pages"));
	expect(r, "node_disk_written_bytes_total{device=\"vda\"}", 2070760.0 * 512);
	expect(r, "node_disk_read_time_seconds_total{device=\"vda\"}", 14.884);
	expect(r, "node_disk_flush_requests_time_seconds_total{device=\"vda\"}", 0.143);
	expect(r, "node_disk_io_now{device=\"vda\"}", 3);
	assert_true(present(r, "node_disk_io_now{device=\"nvme0n1\"}"));
	assert_false(present(r, "node_disk_io_now{device=\"vda1\"}"));
	assert_false(present(r, "node_disk_io_now{device=\"nvme0n1p1\"}"));
	assert_false(present(r, "node_disk_io_now{device=\"loop0\"}")); /* never used */
	expect(r, "node_network_receive_multicast_total{device=\"eth0\"}", 6);
	expect(r, "node_network_transmit_compressed_total{device=\"eth0\"}", 12);
	expect(r, "node_netstat_Tcp_RetransSegs", 12);
	expect(r, "node_netstat_TcpExt_ListenDrops", 4);
	expect(r, "node_netstat_IpExt_InOctets", 132019312);
	assert_false(present(r, "node_netstat_Tcp_MaxConn"));
	expect(r, "node_pressure_io_stalled_seconds_total", 4.425325);
	expect(r, "node_pressure_irq_stalled_seconds_total", 0.25);
	assert_false(present(r, "node_pressure_irq_waiting_seconds_total"));
	expect(r, "process_resident_memory_bytes", 700.0 * sysconf(_SC_PAGESIZE));
	assert_true(value(r, "process_start_time_seconds") > 1234);
	for (const char *const *n = (const char *const[]){"stat", "loadavg", "meminfo", "vmstat",
		     "pressure", "diskstats", "netdev", "netstat", "self", NULL};
		*n; n++) {
		expect_state(r, *n, MNO_SOURCE_RUNNING);
		assert_true(status(r, *n).series > 1);
	}
}

static void test_old_kernel(void **state)
{
	struct rig *r = *state;

	start(r, FIXTURES "proc/linux-4.14", NULL);
	tick(r);
	expect(r, "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"}", 0);
	assert_false(present(r, "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"user\"}"));
	expect(r, "node_disk_io_time_weighted_seconds_total{device=\"sda\"}", 0.012);
	assert_false(present(r, "node_disk_discards_completed_total{device=\"sda\"}"));
	assert_false(present(r, "node_disk_io_now{device=\"sr0\"}"));
	expect(r, "node_network_receive_bytes_total{device=\"eth0\"}", 123);
	expect(r, "node_vmstat_allocstall_normal", 4);
	expect(r, "node_netstat_Tcp_RetransSegs", 1);
	expect_state(r, "pressure", MNO_SOURCE_FAILED);
	assert_non_null(strstr(status(r, "pressure").reason, "CONFIG_PSI"));
	expect_state(r, "netstat", MNO_SOURCE_DEGRADED);
	assert_non_null(strstr(status(r, "netstat").reason, "net/netstat"));
	expect_state(r, "cgroup", MNO_SOURCE_FAILED);
	expect_state(r, "diskstats", MNO_SOURCE_RUNNING);
}

/* Every byte must be a valid character and every line one that the format allows. */
static void check_rendered(struct rig *r)
{
	_cleanup_buf_ struct mno_buf out = {0};
	size_t n = 0;

	mno_metrics_render(r->metrics, &out);
	assert_int_equal(out.err, 0);
	while (n < out.len) {
		size_t k = mno_utf8_len(out.data + n, out.len - n);

		assert_true(k > 0);
		n += k;
	}
	if (system("command -v promtool >/dev/null 2>&1") == 0) {
		FILE *p = popen("promtool check metrics", "w");

		assert_int_equal(fwrite(out.data, 1, out.len, p), out.len);
		assert_int_equal(pclose(p), 0);
	} else {
		print_message("promtool is not installed: its check was not run\n");
	}
}

static void test_hostile_content(void **state)
{
	struct rig *r = *state;

	start(r, FIXTURES "proc/hostile", NULL);
	for (int i = 0; i < 3; i++)
		tick(r);
	check_rendered(r);
	expect(r, "node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}", 0x1p64 / 100);
	expect(r, "node_cpu_seconds_total{cpu=\"0\",mode=\"nice\"}", 0x1p64 / 100);
	expect(r, "node_network_receive_bytes_total{device=\"eth1\"}", 0x1p64);
	expect(r, "node_memory_MemTotal_bytes", 0x1p64 * 1024);
	expect(r, "node_vmstat_pgfault", 1); /* the first of two wins */
	/* Two devices whose names are the same once they are valid: one series, not a mix. */
	expect(r, "node_disk_reads_completed_total{device=\"\xef\xbf\xbd\xef\xbf\xbd\"}", 1);
	expect_state(r, "loadavg", MNO_SOURCE_FAILED);
	expect_state(r, "diskstats", MNO_SOURCE_DEGRADED);
	assert_true(status(r, "loadavg").errors == 3);
}

static void test_devices_come_and_go(void **state)
{
	static const char head[] = "Inter-|\n face |bytes\n";
	struct rig *r = *state;
	char text[512];

	scratch(r, "proc/linux-6.18");
	start(r, r->dir, NULL);
	tick(r);
	assert_int_equal(status(r, "netdev").series, 2 * 16 + 1);

	snprintf(text, sizeof(text), "%seth0: 5 6\neth9: 1 2\n", head);
	WRITE(r, "net/dev", text); /* order changed, lo gone, one new with fewer columns */
	tick(r);
	expect(r, "node_network_receive_bytes_total{device=\"eth0\"}", 5);
	expect(r, "node_network_receive_packets_total{device=\"eth9\"}", 2);
	assert_false(present(r, "node_network_receive_bytes_total{device=\"lo\"}"));
	assert_int_equal(status(r, "netdev").series, 16 + 2 + 1);

	snprintf(text, sizeof(text), "%seth9: 7 8\neth0: 9 9\nlo: 3 3\n", head);
	WRITE(r, "net/dev", text);
	tick(r);
	expect(r, "node_network_receive_bytes_total{device=\"eth9\"}", 7);
	expect(r, "node_network_receive_bytes_total{device=\"eth0\"}", 9);
	expect(r, "node_network_receive_bytes_total{device=\"lo\"}", 3);

	WRITE(r, "net/snmp", "Tcp: RetransSegs InSegs New\nTcp: 1 2 3\n"); /* another kernel */
	WRITE(r, "diskstats", "");
	tick(r);
	expect(r, "node_netstat_Tcp_RetransSegs", 1);
	assert_false(present(r, "node_netstat_Udp_InDatagrams"));
	assert_false(present(r, "node_disk_io_now{device=\"vda\"}"));
	assert_int_equal(status(r, "diskstats").series, 1);
	expect_state(r, "diskstats", MNO_SOURCE_RUNNING);
}

static void test_huge_file_is_cut(void **state)
{
	struct rig *r = *state;
	_cleanup_buf_ struct mno_buf b = {0};

	scratch(r, "proc/linux-6.18");
	mno_buf_adds(&b, "pgfault 42\n");
	for (unsigned i = 0; b.len < 3u << 20; i++)
		mno_buf_addf(&b, "pgscan_%u %u\n", i, i);
	write_file(r, "vmstat", b.data, b.len);
	start(r, r->dir, NULL);
	tick(r);
	tick(r);
	expect(r, "node_vmstat_pgfault", 42);
	expect_state(r, "vmstat", MNO_SOURCE_DEGRADED);
	assert_non_null(strstr(status(r, "vmstat").reason, "1024 KiB"));
	assert_true(status(r, "vmstat").series <= MNO_ROWS_MAX + 1);
}

static void test_source_returns_after_a_minute(void **state)
{
	struct rig *r = *state;
	char cmd[256];

	scratch(r, "proc/linux-4.14");
	start(r, r->dir, NULL);
	tick(r);
	expect_state(r, "pressure", MNO_SOURCE_FAILED);
	snprintf(cmd, sizeof(cmd), "cp -r " FIXTURES "proc/linux-6.18/pressure %s", r->dir);
	assert_int_equal(system(cmd), 0);
	tick(r);
	expect_state(r, "pressure", MNO_SOURCE_FAILED);
	r->now_ns += 60 * NS_PER_SEC;
	tick(r);
	expect_state(r, "pressure", MNO_SOURCE_RUNNING);
}

static void test_full_table_is_told(void **state)
{
	struct rig *r = *state;

	mno_metrics_free(r->metrics);
	assert_int_equal(mno_metrics_new(10, &r->metrics), 0);
	start(r, FIXTURES "proc/linux-6.18", NULL);
	tick(r);
	tick(r);
	assert_int_equal(mno_metrics_count(r->metrics), 10);
	expect_state(r, "stat", MNO_SOURCE_DEGRADED);
	assert_non_null(strstr(status(r, "stat").reason, "refused"));
}

static void test_cgroups(void **state)
{
	struct rig *r = *state;
	char path[128];

	scratch(r, "cgroup");
	r->list[0] = (struct mno_cgroup){.id = 1, .path = "/"};
	r->list[1] = (struct mno_cgroup){.id = 5, .path = "/a.slice"};
	r->list[2] = (struct mno_cgroup){.id = 9, .path = "/b.slice"};
	r->n_list = 3;
	start(r, FIXTURES "proc/linux-6.18", r->dir);
	tick(r);
	tick(r);
	expect_state(r, "cgroup", MNO_SOURCE_RUNNING);
#define A "cgroup=\"/a.slice\""
	expect(r, "mno_cgroup_cpu_usage_seconds_total{cgroup=\"/\"}", 0.00002);
	expect(r, "mno_cgroup_cpu_usage_seconds_total{" A "}", 1.3);
	expect(r, "mno_cgroup_cpu_periods_total{" A "}", 10);
	assert_false(present(r, "mno_cgroup_cpu_throttled_periods_total{" A "}"));
	expect(r, "mno_cgroup_memory_current_bytes{" A "}", 4096);
	expect(r, "mno_cgroup_memory_peak_bytes{" A "}", 9999);
	expect(r, "mno_cgroup_memory_bytes{" A ",kind=\"slab\"}", 30);
	expect(r, "mno_cgroup_memory_refaults_total{" A ",kind=\"file\"}", 7);
	expect(r, "mno_cgroup_memory_events_total{" A ",event=\"oom_kill\"}", 4);
	expect(r, "mno_cgroup_io_written_bytes_total{" A ",device=\"vda\"}", 2048);
	expect(r, "mno_cgroup_pids_current{" A "}", 12);
	expect(r, "mno_cgroup_pressure_stalled_seconds_total{" A ",resource=\"io\"}", 0.25);
	/* b.slice has no tasks: its pressure is not read. */
	assert_false(present(r, "mno_cgroup_pressure_waiting_seconds_total{cgroup=\"/b.slice\","
				"resource=\"cpu\"}"));
	assert_false(present(r, "mno_cgroup_memory_current_bytes{cgroup=\"/\"}"));

	WRITE(r, "a.slice/cgroup.events", "populated 0\nfrozen 0\n");
	WRITE(r, "a.slice/cpu.pressure", "some avg10=0 total=7\n");
	WRITE(r, "a.slice/cpu.stat", "usage_usec 2000000\nnr_throttled 3\n");
	tick(r);
	expect(r, "mno_cgroup_pressure_waiting_seconds_total{" A ",resource=\"cpu\"}", 0.5);
	expect(r, "mno_cgroup_cpu_usage_seconds_total{" A "}", 2);
	expect(r, "mno_cgroup_cpu_throttled_periods_total{" A "}", 3);

	r->list[1] = r->list[2];
	r->n_list = 2;
	tick(r);
	assert_false(present(r, "mno_cgroup_memory_current_bytes{" A "}"));
	assert_false(present(r, "mno_cgroup_io_written_bytes_total{" A ",device=\"vda\"}"));
	expect(r, "mno_cgroup_memory_current_bytes{cgroup=\"/b.slice\"}", 8192);
	/* A controller is switched on later: found within 64 ticks. */
	snprintf(path, sizeof(path), "%s/memory.current", r->dir);
	WRITE(r, "memory.current", "77\n");
	for (int i = 0; i < 65; i++)
		tick(r);
	expect(r, "mno_cgroup_memory_current_bytes{cgroup=\"/\"}", 77);
	r->n_list = 0;
	tick(r);
	assert_int_equal(status(r, "cgroup").series, 1);
	check_rendered(r);
#undef A
}

static void test_cgroup_names_that_collide(void **state)
{
	struct rig *r = *state;
	char path[256];

	scratch(r, "cgroup");
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "cp -r %s/a.slice \"%s/$(printf '\\37%d')\"", r->dir,
			r->dir, 6 + i);
		assert_int_equal(system(path), 0);
	}
	r->list[0] = (struct mno_cgroup){.id = 5, .path = "/\xfe"};
	r->list[1] = (struct mno_cgroup){.id = 9, .path = "/\xff"};
	r->n_list = 2;
	start(r, FIXTURES "proc/linux-6.18", r->dir);
	tick(r);
	expect_state(r, "cgroup", MNO_SOURCE_DEGRADED);
	expect(r, "mno_cgroup_pids_current{cgroup=\"/\xef\xbf\xbd\"}", 12);
	/* The one that has the series goes: what the other sets must not reach another series. */
	r->list[0] = r->list[1];
	r->n_list = 1;
	WRITE(r, "\xff/pids.current", "13\n");
	tick(r);
	tick(r);
	assert_false(present(r, "mno_cgroup_pids_current{cgroup=\"/\xef\xbf\xbd\"}"));
	check_rendered(r);
}

static void test_many_cgroups_start_in_parts(void **state)
{
	static char paths[600][16];
	struct rig *r = *state;

	scratch(r, "cgroup");
	for (size_t i = 0; i < 600; i++) {
		char text[128];

		snprintf(paths[i], sizeof(paths[i]), "/c%zu", i);
		snprintf(text, sizeof(text), "%s/c%zu", r->dir, i);
		assert_int_equal(mkdir(text, 0700), 0);
		snprintf(text, sizeof(text), "c%zu/cpu.stat", i);
		WRITE(r, text, "usage_usec 1000000\nuser_usec 1\nsystem_usec 2\n");
		r->list[i] = (struct mno_cgroup){.id = i + 1, .path = paths[i]};
	}
	r->n_list = 600;
	start(r, FIXTURES "proc/linux-6.18", r->dir);
	tick(r);
	expect_state(r, "cgroup", MNO_SOURCE_DEGRADED);
	assert_int_equal(status(r, "cgroup").series, 256 * 3 + 1);
	tick(r);
	tick(r);
	assert_int_equal(status(r, "cgroup").series, 600 * 3 + 1);
	expect_state(r, "cgroup", MNO_SOURCE_RUNNING);
	/* The first half goes at once. */
	memmove(r->list, r->list + 300, 300 * sizeof(r->list[0]));
	r->n_list = 300;
	tick(r);
	assert_int_equal(status(r, "cgroup").series, 300 * 3 + 1);
	expect(r, "mno_cgroup_cpu_usage_seconds_total{cgroup=\"/c599\"}", 1);
}

static void wait_for(struct rig *r, const char *key)
{
	for (int i = 0; i < 500 && !present(r, key); i++) {
		usleep(10000);
		mno_sources_tick(r->sources, r->now_ns);
	}
}

static void test_filesystems(void **state)
{
#define ROOT "{device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"}"
#define GONE "{device=\"/dev/vdz\",fstype=\"ext4\",mountpoint=\"/not there/at\\\\all\"}"
	struct rig *r = *state;

	scratch(r, "proc/linux-6.18");
	start(r, r->dir, NULL);
	tick(r);
	wait_for(r, "node_filesystem_size_bytes" ROOT);
	wait_for(r, "node_filesystem_device_error" GONE);
	assert_true(value(r, "node_filesystem_size_bytes" ROOT) > 0);
	expect(r, "node_filesystem_device_error" ROOT, 0);
	expect(r, "node_filesystem_device_error" GONE, 1);
	assert_false(present(r, "node_filesystem_size_bytes" GONE));
	assert_int_equal(status(r, "filesystem").series, 8 + 1);
	WRITE(r, "self/mounts", "");
	r->now_ns += 60 * NS_PER_SEC;
	tick(r);
	assert_int_equal(status(r, "filesystem").series, 1);
#undef ROOT
#undef GONE
}

/* A FUSE mount whose server never answers, in a mount namespace that nobody else sees. */
static int mount_dead(const char *dir)
{
	char opts[96];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -1;
	snprintf(opts, sizeof(opts), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("dead", dir, "fuse", 0, opts) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void test_dead_mount_never_blocks_the_tick(void **state)
{
	struct rig *r = *state;
	struct mno_slow_stat st;
	char dir[128], text[512], dead[256];
	uint64_t longest = 0, t0;
	int fd;

	scratch(r, "proc/linux-6.18");
	snprintf(dir, sizeof(dir), "%s/dead", r->dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	fd = mount_dead(dir);
	if (fd < 0) {
		print_message("no FUSE mount can be made here (root and /dev/fuse are needed)\n");
		skip();
	}
	snprintf(text, sizeof(text), "dead %s fuse rw 0 0\n/dev/vda / ext4 rw 0 0\n", dir);
	WRITE(r, "self/mounts", text);
	snprintf(dead, sizeof(dead),
		"node_filesystem_device_error{device=\"dead\",fstype=\"fuse\",mountpoint=\"%s\"}",
		dir);
	start(r, r->dir, NULL);
	for (int i = 0; i < 40; i++) { /* each of these ticks would ask again */
		t0 = mno_now_ns(CLOCK_MONOTONIC);
		r->now_ns += 10 * NS_PER_SEC;
		tick(r);
		longest = MNO_MAX(longest, mno_now_ns(CLOCK_MONOTONIC) - t0);
		usleep(70000);
	}
	assert_true(longest < NS_PER_SEC);
	expect(r, dead, 1);
	expect_state(r, "filesystem", MNO_SOURCE_DEGRADED);
	assert_true(value(r, "node_filesystem_size_bytes{device=\"/dev/"
			     "vda\",fstype=\"ext4\",mountpoint=\"/\"}") > 0);
	mno_slow_stat(r->slow, &st);
	assert_int_equal(st.hung, 1);
	assert_int_equal(st.timed_out, 1); /* one question only, however often it was due */
	assert_true(st.threads <= MNO_SLOW_THREADS + 1);
	close(fd); /* the call ends with an error */
	for (int i = 0; i < 500 && st.hung; i++) {
		usleep(10000);
		mno_slow_stat(r->slow, &st);
	}
	assert_int_equal(st.hung, 0);
	tick(r);
	expect(r, dead, 1);
	umount2(dir, MNT_DETACH);
}

static void figures(void *arg, mno_self_emit_fn emit, void *emit_arg)
{
	static const struct mno_family bytes = {"t_store_bytes", "Bytes.", MNO_GAUGE};
	static const struct mno_family lost = {"t_lost_total", "Lost.", MNO_COUNTER};
	const int *round = arg;

	emit(emit_arg, &bytes, NULL, NULL, *round);
	if (*round == 1)
		emit(emit_arg, &lost, "probe", "tcp", 5);
	emit(emit_arg, &lost, "probe", "proc", 6);
}

static void test_figures_of_the_agent(void **state)
{
	struct rig *r = *state;
	int round = 1;
	const struct mno_sources_opts o = {
		.sz = sizeof(o),
		.proc_root = FIXTURES "proc/linux-6.18",
		.metrics = r->metrics,
		.self = figures,
		.self_arg = &round,
	};

	assert_int_equal(mno_sources_new(&o, &r->sources), 0);
	tick(r);
	expect(r, "t_store_bytes", 1);
	expect(r, "t_lost_total{probe=\"tcp\"}", 5);
	round = 2;
	tick(r);
	expect(r, "t_store_bytes", 2);
	expect(r, "t_lost_total{probe=\"proc\"}", 6);
	assert_false(present(r, "t_lost_total{probe=\"tcp\"}"));
	expect_state(r, "filesystem", MNO_SOURCE_FAILED); /* no slow pool was given */
}

static void test_no_proc(void **state)
{
	struct rig *r = *state;
	const struct mno_sources_opts o = {
		.sz = sizeof(o), .proc_root = "/nowhere", .metrics = r->metrics};

	assert_int_equal(mno_sources_new(&o, &r->sources), -ENOENT);
	assert_null(r->sources);
	assert_null(mno_sources_free(NULL));
}

static void test_live_host(void **state)
{
	struct rig *r = *state;
	struct mno_source_status st;
	uint64_t sum = 0;

	start(r, NULL, NULL);
	for (int i = 0; i < 5; i++)
		tick(r);
	for (size_t i = 0; mno_sources_status(r->sources, i, &st); i++) {
		print_message("%-10s %-8s %4zu series %7llu ns %s\n", st.source->name,
			mno_source_state_name(st.state), st.series, (unsigned long long)st.cost_ns,
			st.reason);
		sum += st.cost_ns;
	}
	print_message("all: %zu series, %llu us\n", mno_metrics_count(r->metrics),
		(unsigned long long)sum / 1000);
	expect_state(r, "stat", MNO_SOURCE_RUNNING);
	expect_state(r, "meminfo", MNO_SOURCE_RUNNING);
	expect_state(r, "self", MNO_SOURCE_RUNNING);
	assert_true(value(r, "node_memory_MemTotal_bytes") > 0);
	assert_true(value(r, "process_open_fds") > 3);
	check_rendered(r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_current_kernel),
		TEST(test_old_kernel),
		TEST(test_hostile_content),
		TEST(test_devices_come_and_go),
		TEST(test_huge_file_is_cut),
		TEST(test_source_returns_after_a_minute),
		TEST(test_full_table_is_told),
		TEST(test_cgroups),
		TEST(test_cgroup_names_that_collide),
		TEST(test_many_cgroups_start_in_parts),
		TEST(test_filesystems),
		TEST(test_dead_mount_never_blocks_the_tick),
		TEST(test_figures_of_the_agent),
		TEST(test_no_proc),
		TEST(test_live_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
