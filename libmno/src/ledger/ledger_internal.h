/* SPDX-License-Identifier: Apache-2.0 */
/* The live table's own types. */
#pragma once

#include <pthread.h>
#include "mno/ledger.h"

#define NO_ENTRY     UINT32_MAX
#define SLAB         512u /* entries allocated at once */
#define TOMBS        8192u
#define CGROUP_SLOTS 1024u
#define WAIFS        256u
#define STRAYS       64u
#define PATH_BYTES   4096

/* What a process runs: shared by a parent and its children until they exec. */
struct image {
	uint32_t refs, bytes;
	uint32_t exe_len, argv_len;
	bool cut;
	char data[]; /* exe NUL argv NUL */
};
struct cgroup_name {
	uint32_t refs, len;
	char path[];
};

struct sender {
	uint32_t signo, pid;
	uint64_t ktime;
	bool oom;
	char comm[16];
};

enum entry_state { ENTRY_FREE, ENTRY_LIVE, ENTRY_LINGER, ENTRY_DONE };
struct entry {
	uint32_t pid, ppid, uid, flags;
	uint64_t start, parent_start;
	uint64_t fork_ktime; /* 0: not seen */
	uint64_t comm_ktime, cgroup_ktime, uid_ktime, end_ktime;
	uint64_t cgroup_id;
	uint64_t linger_until;
	uint32_t hash_next, prev, next; /* chain; list of the state */
	uint32_t parent, child, sibling_prev, sibling_next;
	uint8_t state;
	uint32_t execs, code;
	struct image *image, *older; /* of the last exec, and of the one before */
	uint64_t image_ktime, older_ktime;
	struct cgroup_name *cgroup;
	uint64_t cpu_ns, rss_peak_bytes, io_read_bytes, io_write_bytes;
	struct sender sent[2]; /* [0]: SIGKILL; [1]: the last other one */
	char comm[16];
};

struct list {
	uint32_t first, last;
	size_t n;
};

/*
 * Memory: entries of max_live + max_ended (about 400 B each, in slabs as needed), images up to
 * max_image_bytes, 200 KiB fixed.
 */
struct mno_ledger {
	pthread_mutex_t lock;
	struct mno_ledger_opts opts;
	struct entry **slabs;
	size_t n_slabs;
	uint32_t free_list;
	uint32_t *bucket;
	size_t n_buckets, n_entries;
	struct list lists[4]; /* by state */
	/* Forks whose parent was not known when they came: it may be late. Oldest is overwritten. */
	struct waif {
		uint32_t pid, ppid;
		uint64_t start, parent_start;
	} waifs[WAIFS];
	size_t n_waifs; /* ever; 0 again when none is left */
	/* Signals to processes that are not known yet; asked when one of them dies by a signal. */
	struct stray {
		uint32_t target;
		struct sender from;
	} strays[STRAYS];
	size_t n_strays;
	struct {
		uint32_t pid;
		uint64_t start;
	} tombs[TOMBS];
	struct {
		uint64_t id;
		struct cgroup_name *name;
	} cgroups[CGROUP_SLOTS];
	const char *(*cgroup_fn)(void *arg, uint64_t id, char *buf, size_t size);
	void *cgroup_arg;
	size_t image_bytes;
	struct mno_ledger_stat stat;
};

/* --- table.c ------------------------------------------------------------------------------ */
static inline struct entry *entry_at(const struct mno_ledger *l, uint32_t i)
{
	return &l->slabs[i / SLAB][i % SLAB];
}
uint32_t table_find(const struct mno_ledger *l, uint32_t pid, uint64_t start);
/* The youngest entry of a pid that began at or before @ktime. */
uint32_t table_find_pid(const struct mno_ledger *l, uint32_t pid, uint64_t ktime);
/* A new live entry. NO_ENTRY: no memory. */
uint32_t table_add(struct mno_ledger *l, uint32_t pid, uint64_t start);
void table_remove(struct mno_ledger *l, uint32_t i);
void table_move(struct mno_ledger *l, uint32_t i, enum entry_state to);
void table_free(struct mno_ledger *l);
bool table_is_tomb(const struct mno_ledger *l, uint32_t pid, uint64_t start);
void table_link_parent(struct mno_ledger *l, uint32_t child, uint32_t parent);

/* --- image.c ------------------------------------------------------------------------------- */
struct image *image_new(struct mno_ledger *l, const struct mno_exec_fact *f);
void image_put(struct mno_ledger *l, struct image *im);
static inline struct image *image_get(struct image *im)
{
	if (im)
		im->refs++;
	return im;
}
/* The child runs what its parent ran when it forked, and so do its own early children. */
void image_adopt(struct mno_ledger *l, struct entry *child, const struct entry *parent);
/* Puts an exec's image where its time says, and hands it to children that forked after it. */
void image_set(struct mno_ledger *l, struct entry *e, struct image *im, uint64_t ktime);
void cgroup_name_put(struct cgroup_name *c);
void cgroup_note(struct mno_ledger *l, struct entry *e, uint64_t id, uint64_t ktime);

/* --- row.c ----------------------------------------------------------------------------------- */
/* The row of an entry with borrowed strings. @now: boottime, for the age of running ones. */
void row_view(struct mno_ledger *l, struct entry *e, uint64_t now, struct mno_proc *ret);
/* Makes the row own its strings. -ENOMEM. */
int row_own(struct mno_proc *p);
