/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User side of a probe. Each bpf/<name>/<name>.c defines `const struct mno_probe mno_probe_<name>`;
 * the life cycle around it (ladder, load, pins, attach, ring, accounting, cost) is written once, in
 * agent/probes.c. Callbacks run on the tick thread unless said.
 */
#pragma once

#include "mno/event.h"
#include "mno/metric.h"
#include "mno_cgroups.h"

struct bpf_object;
struct bpf_object_skeleton;
struct bpf_link;
struct bpf_program;

/* A way to attach, best first: the programs to load for it; all others stay out. */
struct mno_rung {
	const char *name; /* shown as `attach`: "tp_btf", "raw_tp", "tracepoint" ... */
	const char *const *progs;
	size_t n_progs;
};

/* What the agent tells a probe at open. */
struct mno_probe_cfg {
	unsigned n_cpus; /* possible CPUs */
	unsigned banks;  /* power of two <= 4: copies of shared counters, index cpu & (banks-1) */
	uint64_t ring_bytes; /* 0 = the probe's default */
	size_t rung;         /* which way of attaching is being tried */
};

struct mno_probe_tick {
	struct mno_metrics *metrics;
	struct mno_cgroups *cgroups;
	uint64_t now_ns;      /* CLOCK_BOOTTIME */
	uint64_t interval_ns; /* since the previous tick of this probe; 0 at the first */
};

struct mno_probe {
	const char *name, *summary;
	uint16_t id;     /* MNO_PROBE_<name> */
	bool by_default; /* in the default profile; else only on demand and for a stated time */
	uint8_t value;   /* 1..100: what the governor sheds first is the smallest */
	const struct mno_rung *rungs;
	size_t n_rungs;
	const struct mno_kind *kinds; /* records it sends; may be none */
	size_t n_kinds;
	uint64_t ring_bytes;     /* default size of its ring; 0 = it has none */
	uint64_t budget_per_cpu; /* records per CPU and 100 ms; 0 = unlimited */
	/* Its program on sched_switch that wants only the last switch of a task, or NULL; and does
	 * it run such programs of others (mno_switch.bpf.h) while it is attached itself? */
	const char *switch_rider;
	bool carries_rider;

	/*
	 * Opens the skeleton (no load): sets rodata and map sizes. *@ret_priv is the probe's own
	 * state, *@ret_obj the object inside it.
	 * Autoload of programs outside the rung cfg->rung is switched off by the caller.
	 */
	int (*open)(const struct mno_probe_cfg *cfg, void **ret_priv, struct bpf_object **ret_obj);
	/* After load, before attach: mmap maps, fill tables. May be NULL. */
	int (*loaded)(void *priv, struct bpf_object *obj);
	/* Attaches one program in its own way (perf events ...): *@ret_links (malloc'ed array) and
	 * count; -EOPNOTSUPP = use bpf_program__attach(). May be NULL. */
	int (*attach)(
		void *priv, struct bpf_program *prog, struct bpf_link ***ret_links, size_t *ret_n);
	/*
	 * After attach: seed state by an iterator, once. Records for what was there before the
	 * probe go to @emit (they are not part of the ring's accounting). May be NULL.
	 */
	int (*attached)(void *priv, struct bpf_object *obj,
		void (*emit)(void *arg, const void *rec, size_t len), void *arg);
	/* Once a second: counters into metrics. May be NULL. */
	void (*tick)(void *priv, const struct mno_probe_tick *t);
	/* JSON members for /mno/v1/top etc., API threads; the agent serialises against close. May be
	 * NULL. Members are added to the object that is open in @j. */
	void (*snapshot)(void *priv, struct mno_cgroups *cg, struct mno_json *j);
	/* Frees everything, the skeleton included. NULL-safe. */
	void (*close)(void *priv);
};

/* All probes in the order of probes.def. */
#define PROBE(name, id) extern const struct mno_probe mno_probe_##name;
#include "probes.def"
#undef PROBE

/* Reads a whole iterator program's output into @out. 0 or -errno. */
int mno_iter_read(struct bpf_program *prog, struct mno_buf *out);
/* Maps the values of an mmapable array read-only; *@ret_size is the mapped length.
 * munmap() it yourself. -errno on failure. (Both in agent/probe_util.c.) */
int mno_map_values(struct bpf_object *obj, const char *map, void **ret, size_t *ret_size);
