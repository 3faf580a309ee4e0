/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by probes.c (life cycle), probes_load.c (ladder) and probes_cost.c (price). */
#pragma once

#include <pthread.h>
#include "probes.h"

struct ring_buffer;

#define MNO_MAX_PROBES 32
#define MNO_MAX_PROGS  32

/* Where the records of a probe went, over all its loads. */
struct mno_probe_totals {
	uint64_t seen, delivered, sampled, dropped, errors; /* kernel's side of past loads */
	uint64_t drained;                                   /* left the ring */
	uint64_t stored, lost;                              /* after the ring */
};

struct mno_probe_slot {
	const struct mno_probe *probe;
	pthread_mutex_t lock; /* load state; taken by drain, tick and changes */
	enum mno_probe_state state;
	size_t rung;
	void *priv;
	struct bpf_object *obj;
	struct bpf_link **links;
	size_t n_links;
	struct ring_buffer *ring;
	struct mno_pstats *stats; /* mmap, one per CPU */
	size_t stats_size;
	struct mno_probe_totals past; /* of earlier loads, and the user side of all */
	uint64_t missed;              /* as of the last measurement */
	uint64_t until_ns, back_ns, last_tick_ns, bpf_bytes;
	char reason[512];
	/* price: run time and count at the start of the measuring window */
	uint64_t cost_ns0, cost_cnt0;
	uint64_t cost_ns_per_event;
	double cpu_percent;
	/* during one drain round */
	size_t index;
	struct mno_probes *owner;
	uint64_t drained_now;
};

/* See probes_ride.c; all under .lock. */
struct mno_ride {
	pthread_mutex_t lock;
	int map_fd;                /* -1: none to be had, the rider is always attached itself */
	bool seated, carried;      /* the rider is in the map; a running program calls it there */
	struct bpf_program *rider; /* borrowed from its probe's object */
	struct bpf_link *own;
};

struct mno_probes {
	struct mno_probes_opts opts;
	char pin_root[256]; /* "" = not pinned */
	char unpinned[256]; /* why */
	int pin_lock_fd;
	unsigned n_cpus, banks;
	void (*on_record)(void *arg, size_t probe, const void *rec, size_t len);
	void *on_record_arg;
	size_t n;
	struct mno_probe_slot slots[MNO_MAX_PROBES];
	struct mno_ride ride;
	pthread_mutex_t published_lock;
	struct mno_probe_status published[MNO_MAX_PROBES];
	int epoll_fd; /* rings that want a drain before its time */
	int cost_fd;  /* BPF statistics are on while it is open */
	uint64_t cost_begin_ns, cost_next_ns;
	unsigned over_budget; /* measurements in a row above the budget */
};

/* probes_load.c; slot lock held */
int mno_probe_load(struct mno_probes *p, struct mno_probe_slot *s);
int mno_probe_seed(struct mno_probe_slot *s);
void mno_probe_unload(struct mno_probes *p, struct mno_probe_slot *s);
/* probes_ride.c; any thread. Without the map (-errno of init) riders are attached as others are. */
int mno_ride_init(struct mno_ride *r);
void mno_ride_done(struct mno_ride *r);
/* The rider's probe is loaded: from now on its program runs, one way or the other. -errno. */
int mno_ride_board(struct mno_ride *r, struct bpf_program *rider);
void mno_ride_leave(struct mno_ride *r);
/* A probe that carries: true after it attached, false before it detaches. */
void mno_ride_carry(struct mno_ride *r, bool on);
/* probes_cost.c: opens and closes measuring windows, sheds over budget; tick thread, no lock held */
void mno_probes_measure(struct mno_probes *p, uint64_t now_ns);
/* probes.c: copies a slot's state for readers; slot lock held */
void mno_probe_publish(struct mno_probes *p, struct mno_probe_slot *s);
