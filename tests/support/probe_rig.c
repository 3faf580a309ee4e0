/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_rig.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

const char *mno_rig_cgroup_root(char *buf, size_t size)
{
	char line[1024], dir[512], type[64];
	FILE *f = fopen("/proc/self/mounts", "re");
	const char *ret = NULL;

	while (f && !ret && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %511s %63s", dir, type) == 2 && !strcmp(type, "cgroup2")) {
			snprintf(buf, size, "%s", dir);
			ret = buf;
		}
	if (f)
		fclose(f);
	return ret;
}

void mno_rig_need_bpf(void)
{
	char root[512];
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "mno_try", 4, 4, 1, NULL);

	if (fd < 0) {
		printf("skipped: no BPF here: %s\n", strerror(errno));
		exit(77);
	}
	close(fd);
	if (!mno_rig_cgroup_root(root, sizeof(root))) {
		printf("skipped: no cgroup v2 mount\n");
		exit(77);
	}
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
		printf("skipped: the kernel has no BTF\n");
		exit(77);
	}
}

static int share_maps(struct mno_rig *r)
{
	const struct {
		const char *name;
		int fd;
	} shared[] = {
		{"cgroup_slots", mno_cgroups_slots_fd(r->cgroups)},
		{"cgroup_free", mno_cgroups_free_fd(r->cgroups)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		struct bpf_map *m = bpf_object__find_map_by_name(r->obj, shared[i].name);
		int err = m ? bpf_map__reuse_fd(m, shared[i].fd) : 0;

		if (err < 0)
			return err;
	}
	return 0;
}

static bool in_rung(const struct mno_rung *rung, const char *name)
{
	for (size_t i = 0; i < rung->n_progs; i++)
		if (!strcmp(rung->progs[i], name))
			return true;
	return false;
}

static int prepare(struct mno_rig *r, size_t rung)
{
	struct mno_probe_cfg cfg = {.n_cpus = r->n_cpus, .banks = r->banks, .rung = rung};
	struct bpf_program *prog;
	struct bpf_map *stats;
	int err = r->probe->open(&cfg, &r->priv, &r->obj);

	if (err < 0)
		return err;
	bpf_object__for_each_program(prog, r->obj) bpf_program__set_autoload(
		prog, in_rung(&r->probe->rungs[rung], bpf_program__name(prog)));
	stats = bpf_object__find_map_by_name(r->obj, "stats");
	if (stats)
		bpf_map__set_max_entries(stats, r->n_cpus);
	return share_maps(r);
}

static int attach(struct mno_rig *r)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, r->obj)
	{
		if (!bpf_program__autoload(prog) ||
			bpf_program__expected_attach_type(prog) == BPF_TRACE_ITER)
			continue;
		r->links[r->n_links] = bpf_program__attach(prog);
		if (!r->links[r->n_links])
			return -errno;
		r->n_links++;
	}
	return 0;
}

static void drop_seed(void *arg, const void *rec, size_t len)
{
}

int mno_rig_load(struct mno_rig *r, const struct mno_probe *probe, size_t rung)
{
	char root[512];
	void *stats;
	int err;

	*r = (struct mno_rig){.probe = probe, .n_cpus = (unsigned)libbpf_num_possible_cpus()};
	for (r->banks = 1; r->banks < 4 && r->banks < r->n_cpus;)
		r->banks *= 2;
	if (!mno_rig_cgroup_root(root, sizeof(root)))
		return -ENOENT;
	err = mno_cgroups_new(root, &r->cgroups);
	if (err == 0)
		err = mno_cgroups_maps_new(r->cgroups);
	if (err == 0)
		err = prepare(r, rung);
	if (err == 0)
		err = bpf_object__load(r->obj);
	if (err == 0)
		err = mno_map_values(r->obj, "stats", &stats, &r->stats_size);
	if (err < 0)
		return err;
	r->stats = stats;
	err = probe->loaded ? probe->loaded(r->priv, r->obj) : 0;
	if (err == 0)
		err = attach(r);
	if (err == 0 && probe->attached)
		err = probe->attached(r->priv, r->obj, drop_seed, NULL);
	return err;
}

void mno_rig_unload(struct mno_rig *r)
{
	for (size_t i = 0; i < r->n_links; i++)
		bpf_link__destroy(r->links[i]);
	if (r->stats)
		munmap((void *)r->stats, r->stats_size);
	if (r->priv)
		r->probe->close(r->priv);
	mno_cgroups_free(r->cgroups);
	*r = (struct mno_rig){};
}

uint64_t mno_rig_stat(const struct mno_rig *r, size_t offset)
{
	uint64_t sum = 0;

	for (unsigned c = 0; c < r->n_cpus; c++)
		sum += *(const volatile uint64_t *)((const char *)&r->stats[c] + offset);
	return sum;
}

void mno_rig_cost(const struct mno_rig *r, const char *prog, uint64_t *ret_ns, uint64_t *ret_runs)
{
	struct bpf_program *p = bpf_object__find_program_by_name(r->obj, prog);
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	*ret_ns = *ret_runs = 0;
	if (!p || bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len) < 0)
		return;
	*ret_ns = info.run_time_ns;
	*ret_runs = info.run_cnt;
}

uint64_t mno_rig_misses(const struct mno_rig *r)
{
	struct bpf_program *p;
	uint64_t sum = 0;

	bpf_object__for_each_program(p, r->obj)
	{
		struct bpf_prog_info info = {};
		uint32_t len = sizeof(info);

		if (bpf_program__fd(p) >= 0 &&
			bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &len) == 0)
			sum += info.recursion_misses;
	}
	return sum;
}

int mno_rig_cgroup_make(const char *name, char *buf, size_t size)
{
	char root[512];

	if (!mno_rig_cgroup_root(root, sizeof(root)))
		return -ENOENT;
	if (snprintf(buf, size, "%s/%s", root, name) >= (int)size)
		return -ENAMETOOLONG;
	return mkdir(buf, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int mno_rig_cgroup_enter(const char *dir)
{
	char path[1024];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, "0", 1) < 0 ? -errno : 0;
}

void mno_rig_cgroup_remove(const char *dir)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	for (int i = 0; i < 2000 && rmdir(dir) < 0 && errno == EBUSY; i++)
		nanosleep(&ms, NULL);
}
