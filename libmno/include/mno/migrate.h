/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migration of a state directory written in an older format.
 *
 * The new form is made beside the old one in ".new-FORMAT", in bounded transactions with a cursor in
 * it: killed at any point, the next run goes on. It is compared with the old one (counts, hashes of
 * all that is in it, sampled samples one by one), and then put in place; one rename is the switch.
 * The old form stays in ".old-FORMAT" until it is confirmed or MNO_MIGRATE_KEEP_MS have passed;
 * until then the migration can be undone. Files of others in the directory are left alone.
 */
#pragma once

#include "mno/store.h"

#define MNO_MIGRATE_KEEP_MS (7 * 86400000LL)

/*
 * What is counted: a record is a sample, a series, a batch of processes or of events. @phase is
 * for people. @remaining_ms: -1 not known yet.
 */
struct mno_migrate_progress {
	const char *name, *phase;
	unsigned from, to;
	uint64_t done, total;
	uint64_t bytes; /* read of the old form, unpacked */
	double rate;    /* records a second */
	int64_t remaining_ms;
};

struct mno_migrate_opts {
	size_t sz;
	const struct mno_store_opts *store; /* of the new form; NULL = defaults */
	/* Called after every transaction and before every change of a name. Non-zero stops, and is
	 * returned: the next run goes on. NULL = nobody asks. */
	int (*progress)(void *arg, const struct mno_migrate_progress *p);
	void *arg;
	uint64_t step_records; /* in one transaction; 0 = 2 million */
	bool again;            /* also if it was undone on demand */
};

enum mno_migrate_stage {
	MNO_MIGRATE_NONE,    /* of the present format, nothing to do */
	MNO_MIGRATE_NEEDED,  /* an older format */
	MNO_MIGRATE_COPYING, /* begun, and not done */
	MNO_MIGRATE_SWITCHING,
	MNO_MIGRATE_DONE, /* the old form is still there */
	MNO_MIGRATE_UNDOING,
	MNO_MIGRATE_UNDONE, /* undone on demand: of the older format, and to stay so */
	MNO_MIGRATE_NEWER,  /* written by a newer mno */
	MNO_MIGRATE_STAGES
};

struct mno_migrate_report {
	enum mno_migrate_stage stage;
	unsigned from, to;
	uint64_t records, records_total;
	uint64_t series, samples, procs, events; /* of them; procs and events: batches */
	uint64_t damaged;      /* values of the old form that could not be read, and are left out */
	uint64_t old_bytes;    /* of the old form */
	uint64_t need_bytes;   /* of free disk for the migration */
	uint64_t free_bytes;   /* of disk, above the floor */
	int64_t estimate_ms;   /* how long it takes, about */
	int64_t switched_ms;   /* Unix time; 0 not yet */
	int64_t keep_until_ms; /* then the old form goes by itself */
	bool undo_wanted;      /* the next start undoes it */
};

/* Short name of a stage: "none", "needed", ... */
const char *mno_migrate_stage_name(enum mno_migrate_stage s);

/*
 * What there is to do in @dir, changing nothing. Also while another process has the store open
 * (then the figures of the old form are left out). 0, -ENOENT no such directory, -errno.
 */
int mno_migrate_look(const char *dir, struct mno_migrate_report *ret);

/*
 * For the start of an agent, before mno_store_open(): ends what was interrupted, undoes what was
 * asked to be undone, migrates an older format, removes an old form whose time is over. Returns
 * quickly if there is nothing to do. Says on the log what it does.
 * 0; -MNO_EMIGRATE it was undone on demand, and @o->again is not set; -MNO_EVERSION a newer mno
 * wrote it; -ENOSPC (nothing was changed; the log says how much is needed); -MNO_ECORRUPT what was
 * made is not the same as what was there: it is removed, the old form is as it was; -EEXIST a
 * foreign file has a name that is needed; -MNO_EBUSY_STATE; what @o->progress returned; -errno.
 */
int mno_migrate_start(const char *dir, const struct mno_migrate_opts *o);

/*
 * Asks for the next start to undo the migration (@undo), or takes that back. Also while an agent
 * has the store open. -ENOENT there is no old form, -errno.
 */
int mno_migrate_want_undo(const char *dir, bool undo);
/* Removes the old form: it cannot be undone from now on. As mno_migrate_want_undo(). */
int mno_migrate_confirm(const char *dir);

/* Hashes of all that a store of the present format has in it: equal stores have equal ones. */
struct mno_migrate_digest {
	uint64_t series[3], samples[3], procs[3], events[3]; /* count, two sums */
};
/* Opens @dir for it. Errors of the store. */
int mno_migrate_digest(const char *dir, struct mno_migrate_digest *ret);
