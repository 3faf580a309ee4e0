/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this folder only. */
#pragma once

#include <stdbool.h>
#include "enforce.h"
#include "mno/macro.h"

enum {
	MAP_GENS,
	MAP_PATHS,
	MAP_NETS,
	MAP_GRACE,
	MAP_LABELS,
	MAP_TASKS,
	MAP_SEEDS,
	MAP_HITS,
	MAP_RING,
	MAP_CONTROL,
	N_MAPS,
};

/* Objects with a label, by the fd that keeps it; slots: bit mask of the generations that use it. */
struct mno_e_held {
	int fd;
	uint64_t device, inode;
	struct mno_e_label label;
};

#define MAX_HOOKS 64

struct enforce_bpf;
struct ring_buffer;
struct bpf_link;
struct mno_enforce {
	char pin_dir[256];
	struct enforce_bpf *skel; /* NULL: adopted */
	int map[N_MAPS];
	int seed_prog;
	struct mno_e_control *ctl; /* shared memory of all programs */
	struct ring_buffer *ring;
	struct mno_enforce_hook hooks[MAX_HOOKS];
	char names[MAX_HOOKS][32]; /* of adopted links */
	struct bpf_link *links[MAX_HOOKS];
	size_t n_hooks;
	bool lsm, cgroup;
	char reason[256];
	struct mno_e_held *held;
	size_t n_held;
	bool knows_labels; /* held is complete */
	int filled;        /* slot that was filled and not flipped to; -1: none */
	void (*record_fn)(void *arg, const struct mno_e_record *r);
	void *record_arg;
};

/* Names of the maps in the object, in the order above; pins have the name that follows the dot. */
extern const char *const mno_e_map_names[N_MAPS];

/* Opens all pinned maps; N_MAPS fds, -1 where there are no labels. -ENOENT: no pins. */
int mno_e_adopt_maps(const char *dir, int *fds);
/* -EPROTO: the pins are of another ABI. */
int mno_e_map_control(struct mno_enforce *e);
/* Pins all, each new link in the place of the old one of that name. */
int mno_e_pin(struct mno_enforce *e);
/* Opens all pinned links into e->links, e->hooks. */
int mno_e_adopt_links(struct mno_enforce *e);
/* The word now, an expired generation replaced by what it fell back to. */
uint64_t mno_e_settle(struct mno_enforce *e);
/* Slot @slot says of the objects what @rows say, and nothing of any other. */
int mno_e_label_all(
	struct mno_enforce *e, uint32_t slot, const struct mno_e_label_row *rows, size_t n);
void mno_e_drop_labels(struct mno_enforce *e);
