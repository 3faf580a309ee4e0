/* SPDX-License-Identifier: Apache-2.0 */
/* PIN_DIR/map_NAME, PIN_DIR/prog_seed, PIN_DIR/link_PROGRAM: what keeps deciding without the agent. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "enforce_internal.h"

static void pin_path(char *out, size_t size, const char *dir, const char *kind, const char *name)
{
	snprintf(out, size, "%s/%s_%s", dir, kind, *name == '.' ? "control" : name);
}

int mno_e_adopt_maps(const char *dir, int *fds)
{
	char path[512];

	for (size_t i = 0; i < N_MAPS; i++) {
		pin_path(path, sizeof(path), dir, "map", mno_e_map_names[i]);
		fds[i] = bpf_obj_get(path);
		/* without LSM there are no labels, and no pin of them */
		if (fds[i] < 0 && (i != MAP_LABELS || errno != ENOENT)) {
			int err = -errno;

			for (; i-- > 0; fds[i] = -1)
				if (fds[i] >= 0)
					close(fds[i]);
			return err;
		}
	}
	return 0;
}

static int pin_fd(int fd, const char *path)
{
	if (bpf_obj_pin(fd, path) == 0 || errno == EEXIST)
		return 0;
	return -errno;
}

/* The new link is pinned beside the old, whose name it then takes: one of them always holds. */
static int pin_link(const struct mno_enforce *e, size_t i)
{
	char path[512], fresh[520];

	pin_path(path, sizeof(path), e->pin_dir, "link", e->hooks[i].program);
	pin_path(fresh, sizeof(fresh), e->pin_dir, "new", e->hooks[i].program);
	unlink(fresh);
	if (bpf_obj_pin(bpf_link__fd(e->links[i]), fresh) < 0)
		return -errno;
	return rename(fresh, path) < 0 ? -errno : 0;
}

int mno_e_pin(struct mno_enforce *e)
{
	char path[512];
	int r = mkdir(e->pin_dir, 0700) < 0 && errno != EEXIST ? -errno : 0;

	for (size_t i = 0; r == 0 && i < N_MAPS; i++) {
		pin_path(path, sizeof(path), e->pin_dir, "map", mno_e_map_names[i]);
		if (e->map[i] >= 0)
			r = pin_fd(e->map[i], path);
	}
	for (size_t i = 0; r == 0 && i < e->n_hooks; i++)
		if (e->links[i])
			r = pin_link(e, i);
	pin_path(path, sizeof(path), e->pin_dir, "prog", "seed");
	if (r == 0 && e->seed_prog >= 0) {
		unlink(path);
		r = pin_fd(e->seed_prog, path);
	}
	return r;
}

static void adopt_link(struct mno_enforce *e, const char *path, const char *program)
{
	struct mno_enforce_hook *h = &e->hooks[e->n_hooks];
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	struct bpf_link *link = bpf_link__open(path);

	if (!link)
		return;
	if (bpf_obj_get_info_by_fd(bpf_link__fd(link), &info, &len) < 0) {
		bpf_link__destroy(link);
		return;
	}
	snprintf(e->names[e->n_hooks], sizeof(e->names[0]), "%s", program);
	*h = (struct mno_enforce_hook){.program = e->names[e->n_hooks],
		.hook = e->names[e->n_hooks],
		.level = info.type == BPF_LINK_TYPE_CGROUP ? "L2" : "L4"};
	if (info.type == BPF_LINK_TYPE_CGROUP)
		e->cgroup = true;
	else
		e->lsm = true;
	e->links[e->n_hooks++] = link;
}

int mno_e_adopt_links(struct mno_enforce *e)
{
	DIR *d = opendir(e->pin_dir);
	struct dirent *de;
	char path[600];

	if (!d)
		return -errno;
	while ((de = readdir(d)) && e->n_hooks < MAX_HOOKS) {
		if (strncmp(de->d_name, "link_", 5))
			continue;
		snprintf(path, sizeof(path), "%s/%s", e->pin_dir, de->d_name);
		adopt_link(e, path, de->d_name + 5);
	}
	closedir(d);
	pin_path(path, sizeof(path), e->pin_dir, "prog", "seed");
	e->seed_prog = bpf_obj_get(path);
	return e->n_hooks ? 0 : -ENOENT;
}

int mno_enforce_unpin(struct mno_enforce *e)
{
	DIR *d = opendir(e->pin_dir);
	struct dirent *de;
	char path[600];
	int r = 0;

	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		if (*de->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", e->pin_dir, de->d_name);
		if (unlink(path) < 0)
			r = -errno;
	}
	closedir(d);
	if (r == 0 && rmdir(e->pin_dir) < 0)
		r = -errno;
	return r;
}
