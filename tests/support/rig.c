/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "mno/macro.h"
#include "probe_util.h"
#include "rig.h"

#define SLOTS 256

static void skip(const char *why)
{
	printf("skipped: %s\n", why);
	exit(77);
}

_printf_(2, 0) static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, ap) : 0;
}

static void need_bpf(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, o);
	int fd;

	if (geteuid())
		skip("needs root");
	if (access("/sys/kernel/btf/vmlinux", R_OK))
		skip("the kernel has no BTF");
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "try", 4, 4, 1, &o);
	if (fd < 0)
		skip("BPF is not permitted here");
	close(fd);
}

static int prepare(struct rig *r, size_t rung, uint64_t budget)
{
	struct mno_probe_cfg cfg = {.n_cpus = r->n_cpus, .banks = 2, .rung = rung};
	const struct mno_rung *g = &r->probe->rungs[rung];
	struct bpf_program *prog;
	struct bpf_map *m;
	int e = r->probe->open(&cfg, &r->priv, &r->obj);

	if (e)
		return e;
	bpf_object__for_each_program(prog, r->obj)
	{
		bool want = false;

		for (size_t i = 0; i < g->n_progs; i++)
			want |= !strcmp(g->progs[i], bpf_program__name(prog));
		bpf_program__set_autoload(prog, want);
	}
	m = bpf_object__find_map_by_name(r->obj, "ring");
	if (m)
		bpf_map__set_max_entries(m, r->probe->ring_bytes ?: 4096);
	m = bpf_object__find_map_by_name(r->obj, "stats");
	bpf_map__set_max_entries(m, r->n_cpus);
	mno_rodata_set(r->obj, "mno_budget_per_cpu", budget);
	return bpf_object__load(r->obj);
}

static int on_record(void *arg, void *rec, size_t len)
{
	struct rig *r = arg;

	if (r->on_record)
		r->on_record(r->arg, rec, len);
	return 0;
}

static int attach(struct rig *r)
{
	struct bpf_program *prog;
	struct bpf_link **own;
	size_t n;
	int e;

	bpf_object__for_each_program(prog, r->obj)
	{
		if (!bpf_program__autoload(prog) ||
			bpf_program__expected_attach_type(prog) == BPF_TRACE_ITER)
			continue;
		own = NULL;
		e = r->probe->attach ? r->probe->attach(r->priv, prog, &own, &n) : -EOPNOTSUPP;
		if (e == -EOPNOTSUPP) {
			r->links[r->n_links] = bpf_program__attach(prog);
			if (!r->links[r->n_links])
				return -errno;
			r->n_links++;
			continue;
		}
		if (e)
			return e;
		for (size_t i = 0; i < n && r->n_links < ARRAY_SIZE(r->links); i++)
			r->links[r->n_links++] = own[i];
		free(own);
	}
	return 0;
}

static void no_seed(void *arg, const void *rec, size_t len)
{
}

static int climb(struct rig *r, size_t rung, uint64_t budget)
{
	int e = prepare(r, rung, budget);

	if (!e)
		e = mno_map_values(r->obj, "stats", (void **)&r->stats, &r->stats_size);
	for (uint32_t i = SLOTS - 1; !e && i > 0 && rig_map(r, "cgroup_free") >= 0; i--)
		e = bpf_map_update_elem(rig_map(r, "cgroup_free"), NULL, &i, 0);
	if (!e && r->probe->ring_bytes) {
		r->ring = ring_buffer__new(rig_map(r, "ring"), on_record, r, NULL);
		e = r->ring ? 0 : -errno;
	}
	if (!e && r->probe->loaded)
		e = r->probe->loaded(r->priv, r->obj);
	if (!e)
		e = attach(r);
	if (!e && r->probe->attached)
		e = r->probe->attached(r->priv, r->obj, no_seed, NULL);
	return e;
}

int rig_up(struct rig *r, const struct mno_probe *p, uint64_t budget)
{
	int e = -EOPNOTSUPP;

	need_bpf();
	libbpf_set_print(quiet);
	r->probe = p;
	r->n_cpus = libbpf_num_possible_cpus();
	for (size_t i = 0; i < p->n_rungs; i++) {
		r->rung = i;
		e = climb(r, i, budget);
		if (!e)
			return 0;
		fprintf(stderr, "%s, %s: %s\n", p->name, p->rungs[i].name, strerror(-e));
		rig_down(r);
	}
	return e;
}

void rig_down(struct rig *r)
{
	while (r->n_links > 0)
		bpf_link__destroy(r->links[--r->n_links]);
	ring_buffer__free(r->ring);
	r->ring = NULL;
	if (r->stats)
		munmap(r->stats, r->stats_size);
	r->stats = NULL;
	if (r->priv)
		r->probe->close(r->priv);
	r->priv = NULL;
	r->obj = NULL;
}

void rig_drain(struct rig *r)
{
	ring_buffer__consume(r->ring);
}

struct mno_pstats rig_stats(const struct rig *r)
{
	struct mno_pstats s = {0};

	for (size_t i = 0; i < r->n_cpus; i++) {
		s.seen += r->stats[i].seen;
		s.delivered += r->stats[i].delivered;
		s.sampled += r->stats[i].sampled;
		s.dropped += r->stats[i].dropped;
		s.errors += r->stats[i].errors;
		s.runs += r->stats[i].runs;
	}
	return s;
}

int rig_map(const struct rig *r, const char *name)
{
	return bpf_object__find_map_fd_by_name(r->obj, name);
}

/* Finds "<mount>" of type cgroup2 and this process's path below it; the id is the inode. */
uint64_t rig_own_cgroup(void)
{
	char line[512], mount[256] = "", path[512] = "", full[800];
	struct stat st;
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && fgets(line, sizeof(line), f)) {
		char dir[256], type[64];

		if (sscanf(line, "%*s %255s %63s", dir, type) == 2 && !strcmp(type, "cgroup2"))
			strcpy(mount, dir);
	}
	if (f)
		fclose(f);
	f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "0::", 3))
			sscanf(line + 3, "%511s", path);
	if (f)
		fclose(f);
	snprintf(full, sizeof(full), "%s%s", mount, path);
	return *mount && !stat(full, &st) ? st.st_ino : 0;
}

uint32_t rig_own_slot(const struct rig *r)
{
	uint64_t id = rig_own_cgroup();
	uint32_t slot = 0;

	return bpf_map_lookup_elem(rig_map(r, "cgroup_slots"), &id, &slot) ? 0 : slot;
}

int rig_timing(void)
{
	return bpf_enable_stats(BPF_STATS_RUN_TIME);
}

void rig_costs(const struct rig *r, const char *title)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, r->obj)
	{
		struct bpf_prog_info info = {0};
		uint32_t len = sizeof(info);

		if (bpf_program__fd(prog) < 0 ||
			bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) || !info.run_cnt)
			continue;
		printf("%s: %s: %llu runs, %.0f ns each\n", title, bpf_program__name(prog),
			(unsigned long long)info.run_cnt, (double)info.run_time_ns / info.run_cnt);
	}
}
