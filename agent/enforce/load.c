/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "mno/log.h"

#include "enforce_internal.h"
#include "enforce.skel.h"

const char *const mno_e_map_names[N_MAPS] = {
	[MAP_GENS] = "gens",
	[MAP_PATHS] = "paths",
	[MAP_NETS] = "nets",
	[MAP_GRACE] = "grace",
	[MAP_LABELS] = "labels",
	[MAP_TASKS] = "tasks",
	[MAP_SEEDS] = "seeds",
	[MAP_HITS] = "hits",
	[MAP_RING] = "ring",
	[MAP_CONTROL] = ".data.ctl",
};

static bool is_lsm(const struct bpf_program *p)
{
	return bpf_program__type(p) == BPF_PROG_TYPE_LSM;
}

static bool is_passive(const struct bpf_program *p)
{
	return bpf_program__type(p) == BPF_PROG_TYPE_SYSCALL ||
	       bpf_program__expected_attach_type(p) == BPF_TRACE_ITER;
}

static bool lockdown_is_confidential(void)
{
	char text[128] = "";
	FILE *f = fopen("/sys/kernel/security/lockdown", "re");

	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		*text = 0;
	fclose(f);
	return strstr(text, "[confidentiality]");
}

/* Whether the kernel's hook is there, with as many arguments as a number at the end of the
 * program's name says. */
static bool hook_fits(const struct btf *vmlinux, const char *hook, const char *program)
{
	const char *end = strrchr(program, '_');
	const struct btf_type *t;
	char name[128];
	int id;

	snprintf(name, sizeof(name), "bpf_lsm_%s", hook);
	id = btf__find_by_name_kind(vmlinux, name, BTF_KIND_FUNC);
	if (id < 0)
		return false;
	t = btf__type_by_id(vmlinux, btf__type_by_id(vmlinux, (uint32_t)id)->type);
	return !end || end[1] < '0' || end[1] > '9' || btf_vlen(t) == end[1] - '0';
}

/* Only programs whose hook this kernel has are loaded: one refusal would take the others along. */
static void choose_programs(struct mno_enforce *e, const struct btf *vmlinux, bool lsm)
{
	bool no_probe_read = lockdown_is_confidential();
	struct bpf_program *p;

	e->n_hooks = 0;
	bpf_object__for_each_program(p, e->skel->obj)
	{
		struct mno_enforce_hook *h = &e->hooks[e->n_hooks];
		const char *slash = strchr(bpf_program__section_name(p), '/');

		if (is_passive(p) || !slash || e->n_hooks == MAX_HOOKS)
			continue;
		e->n_hooks++;
		*h = (struct mno_enforce_hook){.program = bpf_program__name(p),
			.hook = slash + 1,
			.level = is_lsm(p) ? "L4" : "L2"};
		if (!is_lsm(p))
			continue;
		if (!lsm)
			h->error = -EPERM, h->reason = "LSM programs are refused";
		else if (!hook_fits(vmlinux, h->hook, h->program))
			h->error = -ENOENT, h->reason = "this kernel has no such hook";
		else if (no_probe_read && !strncmp(h->program, "e_probe_", 8))
			h->error = -EACCES,
			h->reason = "lockdown=confidentiality refuses its reads";
		if (h->error)
			bpf_program__set_autoload(p, false);
	}
}

static int size_maps(struct mno_enforce *e, const struct mno_enforce_opts *o)
{
	uint32_t cells = o->path_cells ?: 65536;
	int r;

	if (cells & (cells - 1) || cells < 512 || cells > 1 << 21)
		return -EINVAL;
	e->skel->rodata->path_cell_mask = cells - 1;
	e->skel->data_ctl->ctl.cgroup_domain = o->cgroup_domain;
	e->skel->data_ctl->ctl.path_bytes = 256 + 8 * cells;
	r = bpf_map__set_value_size(bpf_map__inner_map(e->skel->maps.paths), 256 + 8 * cells);
	if (r == 0 && o->max_tasks)
		r = bpf_map__set_max_entries(e->skel->maps.tasks, o->max_tasks);
	return r;
}

static struct bpf_map *skel_map(const struct mno_enforce *e, size_t i)
{
	return i == MAP_CONTROL ? e->skel->maps.data_ctl
				: bpf_object__find_map_by_name(e->skel->obj, mno_e_map_names[i]);
}

/* Opens and loads; @pins (N_MAPS fds or -1) are reused. */
static int load(struct mno_enforce *e, const struct mno_enforce_opts *o, const struct btf *vmlinux,
	const int *pins, bool lsm)
{
	int r;

	e->skel = enforce_bpf__open();
	if (!e->skel)
		return -errno;
	choose_programs(e, vmlinux, lsm);
	r = size_maps(e, o);
	if (r == 0 && !lsm) {
		r = bpf_map__set_autocreate(e->skel->maps.labels, false);
		bpf_program__set_autoload(e->skel->progs.e_seed, false);
	}
	for (size_t i = 0; r == 0 && i < N_MAPS; i++)
		if (pins[i] >= 0)
			r = bpf_map__reuse_fd(skel_map(e, i), pins[i]);
	if (r == 0)
		r = enforce_bpf__load(e->skel);
	if (r < 0) {
		enforce_bpf__destroy(e->skel);
		e->skel = NULL;
	}
	return r;
}

static int take_fds(struct mno_enforce *e)
{
	for (size_t i = 0; i < N_MAPS; i++) {
		int fd = bpf_map__fd(skel_map(e, i));

		e->map[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd >= 0 && e->map[i] < 0)
			return -errno;
	}
	if (bpf_program__fd(e->skel->progs.e_seed) >= 0)
		e->seed_prog = fcntl(bpf_program__fd(e->skel->progs.e_seed), F_DUPFD_CLOEXEC, 3);
	return 0;
}

int mno_e_map_control(struct mno_enforce *e)
{
	void *p = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED,
		e->map[MAP_CONTROL], 0);

	if (p == MAP_FAILED)
		return -errno;
	e->ctl = p;
	return e->ctl->abi == MNO_ENFORCE_ABI ? 0 : -EPROTO;
}

static uint32_t verified_insns(int fd)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.verified_insns : 0;
}

/* task_free before task_alloc: an entry that nobody removes would outlive its task. */
static void attach_all(struct mno_enforce *e, int cgroup_fd)
{
	for (size_t i = 0; i < e->n_hooks; i++) {
		struct mno_enforce_hook *h = &e->hooks[i];
		struct bpf_program *p = bpf_object__find_program_by_name(e->skel->obj, h->program);

		if (h->error)
			continue;
		h->insns = verified_insns(bpf_program__fd(p));
		if (!is_lsm(p) && cgroup_fd < 0) {
			h->error = -ENOTCONN, h->reason = "no cgroup was given";
			continue;
		}
		e->links[i] = is_lsm(p) ? bpf_program__attach(p)
					: bpf_program__attach_cgroup(p, cgroup_fd);
		if (!e->links[i])
			h->error = -errno, h->reason = "the kernel refused to attach it";
		else if (is_lsm(p))
			e->lsm = true;
		else
			e->cgroup = true;
	}
}

static const char no_bpf_text[] = "LSM programs are never called: \"bpf\" is not in lsm= of the "
				  "kernel's command line";

/* Attached is not called: without "bpf" in lsm= the hooks' list is not run. */
static void test_lsm(struct mno_enforce *e)
{
	uint64_t before = e->ctl->stats.self_test;
	int fd;

	if (!e->lsm)
		return;
	__atomic_store_n(&e->ctl->self_tgid, (uint32_t)getpid(), __ATOMIC_SEQ_CST);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	__atomic_store_n(&e->ctl->self_tgid, 0, __ATOMIC_SEQ_CST);
	if (e->ctl->stats.self_test != before)
		return;
	e->lsm = false;
	snprintf(e->reason, sizeof(e->reason), "%s", no_bpf_text);
}

static struct mno_enforce *new_object(void)
{
	struct mno_enforce *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	for (size_t i = 0; i < N_MAPS; i++)
		e->map[i] = -1;
	e->seed_prog = -1;
	e->filled = -1;
	return e;
}

static bool has_bpf_lsm(void)
{
	char text[256] = "";
	FILE *f = fopen("/sys/kernel/security/lsm", "re");

	if (!f)
		return true; /* not mounted: the self-test says it */
	if (!fgets(text, sizeof(text), f))
		*text = 0;
	fclose(f);
	return strstr(text, "bpf");
}

/* Without the BPF LSM there is no storage for labels either. */
static int load_best(struct mno_enforce *e, const struct mno_enforce_opts *o, const int *pins)
{
	struct btf *vmlinux = btf__load_vmlinux_btf();
	bool active = has_bpf_lsm();
	int r;

	if (!vmlinux)
		return -errno;
	r = o->no_lsm || !active ? -EPERM : load(e, o, vmlinux, pins, true);
	if (r < 0) {
		if (active)
			snprintf(e->reason, sizeof(e->reason), "LSM programs do not load: %s",
				o->no_lsm ? "not asked for" : strerror(-r));
		else
			snprintf(e->reason, sizeof(e->reason), "%s", no_bpf_text);
		r = load(e, o, vmlinux, pins, false);
	}
	btf__free(vmlinux);
	return r;
}

static int open_into(struct mno_enforce *e, const struct mno_enforce_opts *o)
{
	int pins[N_MAPS];
	int r;

	for (size_t i = 0; i < N_MAPS; i++)
		pins[i] = -1;
	if (o->pin_dir) {
		snprintf(e->pin_dir, sizeof(e->pin_dir), "%s", o->pin_dir);
		r = mno_e_adopt_maps(o->pin_dir, pins);
		if (r < 0 && r != -ENOENT)
			return r;
		e->knows_labels = r == -ENOENT;
	} else {
		e->knows_labels = true;
	}
	r = load_best(e, o, pins);
	for (size_t i = 0; i < N_MAPS; i++)
		if (pins[i] >= 0)
			close(pins[i]);
	if (r == 0)
		r = take_fds(e);
	if (r == 0)
		r = mno_e_map_control(e);
	if (r < 0)
		return r;
	attach_all(e, o->cgroup_fd);
	test_lsm(e);
	return o->pin_dir ? mno_e_pin(e) : 0;
}

int mno_enforce_open(const struct mno_enforce_opts *opts, struct mno_enforce **ret_e)
{
	struct mno_enforce *e = new_object();
	int r;

	if (!e)
		return -ENOMEM;
	r = open_into(e, opts);
	if (r < 0) {
		mno_enforce_free(e);
		return r;
	}
	*ret_e = e;
	return 0;
}

int mno_enforce_adopt(const char *pin_dir, struct mno_enforce **ret_e)
{
	struct mno_enforce *e = new_object();
	int r;

	if (!e)
		return -ENOMEM;
	snprintf(e->pin_dir, sizeof(e->pin_dir), "%s", pin_dir);
	r = mno_e_adopt_maps(pin_dir, e->map);
	if (r == 0)
		r = mno_e_map_control(e);
	if (r == 0)
		r = mno_e_adopt_links(e);
	if (r < 0) {
		mno_enforce_free(e);
		return r;
	}
	test_lsm(e);
	*ret_e = e;
	return 0;
}

struct mno_enforce *mno_enforce_free(struct mno_enforce *e)
{
	if (!e)
		return NULL;
	ring_buffer__free(e->ring);
	for (size_t i = 0; i < e->n_hooks; i++)
		bpf_link__destroy(e->links[i]);
	mno_e_drop_labels(e);
	if (e->ctl)
		munmap(e->ctl, (size_t)sysconf(_SC_PAGESIZE));
	for (size_t i = 0; i < N_MAPS; i++)
		if (e->map[i] >= 0)
			close(e->map[i]);
	if (e->seed_prog >= 0)
		close(e->seed_prog);
	enforce_bpf__destroy(e->skel);
	free(e);
	return NULL;
}

const char *mno_enforce_level(const struct mno_enforce *e, const char **ret_reason)
{
	if (ret_reason)
		*ret_reason = e->reason;
	return e->lsm ? "L4" : e->cgroup ? "L2" : "L0";
}

const struct mno_enforce_hook *mno_enforce_hooks(const struct mno_enforce *e, size_t *ret_n)
{
	*ret_n = e->n_hooks;
	return e->hooks;
}
