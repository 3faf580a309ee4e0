/* SPDX-License-Identifier: Apache-2.0 */
/* Facts in, rows out: the table of processes that run or wait to be stored. */
#include <errno.h>
#include <string.h>
#include "ledger_internal.h"
#include "mno/time.h"

#define LIMIT_DEFAULT 65536
#define LINGER_NS     (250 * NS_PER_MS)
#define IMAGES_MAX    (32u << 20)

int mno_ledger_new(const struct mno_ledger_opts *o, struct mno_ledger **ret)
{
	struct mno_ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	if (o)
		memcpy(&l->opts, o, MNO_MIN(o->sz, sizeof(*o)));
	if (!l->opts.max_live)
		l->opts.max_live = LIMIT_DEFAULT;
	if (!l->opts.max_ended)
		l->opts.max_ended = LIMIT_DEFAULT;
	if (!l->opts.linger_ns)
		l->opts.linger_ns = LINGER_NS;
	if (!l->opts.max_image_bytes)
		l->opts.max_image_bytes = IMAGES_MAX;
	l->free_list = NO_ENTRY;
	for (size_t i = 0; i < ARRAY_SIZE(l->lists); i++)
		l->lists[i] = (struct list){NO_ENTRY, NO_ENTRY, 0};
	pthread_mutex_init(&l->lock, NULL);
	*ret = l;
	return 0;
}

struct mno_ledger *mno_ledger_free(struct mno_ledger *l)
{
	if (!l)
		return NULL;
	table_free(l);
	for (size_t i = 0; i < CGROUP_SLOTS; i++)
		cgroup_name_put(l->cgroups[i].name);
	pthread_mutex_destroy(&l->lock);
	free(l);
	return NULL;
}

void mno_ledger_set_cgroup_fn(struct mno_ledger *l,
	const char *(*fn)(void *arg, uint64_t id, char *buf, size_t size), void *arg)
{
	pthread_mutex_lock(&l->lock);
	l->cgroup_fn = fn;
	l->cgroup_arg = arg;
	pthread_mutex_unlock(&l->lock);
}

/* --- pieces of facts -------------------------------------------------------------------------- */

static void note_comm(struct entry *e, const char *comm, uint64_t ktime)
{
	if (!comm || !*comm || ktime < e->comm_ktime)
		return;
	e->comm_ktime = ktime;
	strncpy(e->comm, comm, sizeof(e->comm) - 1);
	e->comm[sizeof(e->comm) - 1] = '\0';
}

static void note_uid(struct entry *e, uint32_t uid, uint64_t ktime)
{
	if (ktime < e->uid_ktime)
		return;
	e->uid_ktime = ktime;
	e->uid = uid;
}

/* The parent as of the fork counts; later ones are whoever took the orphan in. */
static void note_parent(struct entry *e, uint32_t ppid, uint64_t parent_start, bool fork)
{
	if (!fork && e->ppid)
		return;
	e->ppid = ppid;
	e->parent_start = parent_start;
}

static void waif_add(struct mno_ledger *l, const struct entry *e)
{
	l->waifs[l->n_waifs++ % WAIFS] = (struct waif){e->pid, e->ppid, e->start, e->parent_start};
}

static void to_parent(struct mno_ledger *l, uint32_t child, uint32_t parent)
{
	table_link_parent(l, child, parent);
	image_adopt(l, entry_at(l, child), entry_at(l, parent));
}

/* A process turned up: were there forks by it already? */
static void waifs_claim(struct mno_ledger *l, uint32_t parent)
{
	const struct entry *p = entry_at(l, parent);
	size_t n = MNO_MIN(l->n_waifs, (size_t)WAIFS), left = 0;

	for (size_t k = 0; k < n; k++) {
		struct waif *w = &l->waifs[k];
		uint32_t child;

		if (w->pid && w->ppid == p->pid && w->parent_start == p->start) {
			child = table_find(l, w->pid, w->start);
			w->pid = 0;
			if (child != NO_ENTRY)
				to_parent(l, child, parent);
		}
		left += w->pid != 0;
	}
	if (!left)
		l->n_waifs = 0;
}

/* Ended rows that miss a part linger; the rest waits for the writer. */
static void end_entry(struct mno_ledger *l, uint32_t i)
{
	struct entry *e = entry_at(l, i);

	if (e->flags & (MNO_PROC_LOST_START | MNO_PROC_LOST_EXIT)) {
		if (e->state == ENTRY_LIVE)
			e->linger_until = mno_now_ns(CLOCK_MONOTONIC) + l->opts.linger_ns;
		table_move(l, i, ENTRY_LINGER);
		return;
	}
	table_move(l, i, ENTRY_DONE);
}

static void trim_ended(struct mno_ledger *l)
{
	struct list *done = &l->lists[ENTRY_DONE], *linger = &l->lists[ENTRY_LINGER];

	while (done->n + linger->n > l->opts.max_ended) {
		table_remove(l, done->n ? done->first : linger->first);
		l->stat.lost_rows++;
	}
}

/* Whoever had this pid before must be gone; its exit record may still come. */
static void end_predecessor(struct mno_ledger *l, uint32_t pid, uint64_t start)
{
	uint32_t i = start ? table_find_pid(l, pid, start - 1) : NO_ENTRY;
	struct entry *e;

	if (i == NO_ENTRY || entry_at(l, i)->state != ENTRY_LIVE)
		return;
	e = entry_at(l, i);
	e->flags |= MNO_PROC_LOST_EXIT | MNO_PROC_ENDED;
	e->end_ktime = start;
	l->stat.ended++;
	end_entry(l, i);
	trim_ended(l);
}

/* 0 and *@ret_i (NO_ENTRY: a row that was taken already), -ENOSPC, -ENOMEM. */
static int get_entry(
	struct mno_ledger *l, uint32_t pid, uint64_t start, bool bounded, uint32_t *ret_i)
{
	uint32_t i = table_find(l, pid, start);

	*ret_i = i;
	if (i != NO_ENTRY || table_is_tomb(l, pid, start))
		return 0;
	if (bounded && l->lists[ENTRY_LIVE].n >= l->opts.max_live) {
		l->stat.lost_starts++;
		return -ENOSPC;
	}
	i = table_add(l, pid, start);
	if (i == NO_ENTRY) {
		l->stat.lost_rows++;
		return -ENOMEM;
	}
	entry_at(l, i)->flags = MNO_PROC_LOST_START;
	l->stat.started++;
	end_predecessor(l, pid, start);
	if (l->n_waifs)
		waifs_claim(l, i);
	*ret_i = i;
	return 0;
}

/* --- facts --------------------------------------------------------------------------------------- */

static int fork_locked(struct mno_ledger *l, const struct mno_fork_fact *f)
{
	struct entry *e;
	uint32_t i, parent;
	int r = get_entry(l, f->pid, f->start_boottime_ns, true, &i);

	if (r < 0 || i == NO_ENTRY)
		return r;
	e = entry_at(l, i);
	e->flags &= ~(uint32_t)MNO_PROC_LOST_START;
	e->fork_ktime = f->ktime;
	note_uid(e, f->uid, f->ktime);
	note_parent(e, f->ppid, f->parent_start_boottime_ns, true);
	note_comm(e, f->comm, f->ktime);
	cgroup_note(l, e, f->cgroup_id, f->ktime);
	parent = table_find(l, f->ppid, f->parent_start_boottime_ns);
	if (parent != NO_ENTRY)
		to_parent(l, i, parent);
	else
		waif_add(l, e);
	if (e->state == ENTRY_LINGER)
		end_entry(l, i);
	return 0;
}

static int exec_locked(struct mno_ledger *l, const struct mno_exec_fact *f)
{
	struct image *im;
	struct entry *e;
	uint32_t i;
	int r = get_entry(l, f->pid, f->start_boottime_ns, true, &i);

	if (r < 0 || i == NO_ENTRY)
		return r;
	e = entry_at(l, i);
	im = image_new(l, f);
	if (!im)
		return -ENOMEM;
	if (f->seeded && e->flags & MNO_PROC_LOST_START) {
		e->flags = (e->flags & ~(uint32_t)MNO_PROC_LOST_START) | MNO_PROC_SEEDED;
	} else if (!f->seeded) {
		e->flags |= MNO_PROC_EXECED;
		e->execs++;
	}
	note_uid(e, f->uid, f->ktime);
	note_parent(e, f->ppid, f->parent_start_boottime_ns, false);
	note_comm(e, f->comm, f->ktime);
	cgroup_note(l, e, f->cgroup_id, f->ktime);
	image_set(l, e, im, f->ktime);
	image_put(l, im);
	if (e->state == ENTRY_LINGER)
		end_entry(l, i);
	return 0;
}

/* Of several SIGKILLs the first one worked, of other signals the last one was not handled. */
static void note_sender(struct entry *e, const struct sender *from)
{
	struct sender *s = &e->sent[from->signo == 9 ? 0 : 1];
	bool oom = from->oom || (s->signo == 9 && s->oom);

	if (!s->signo || (from->signo == 9 ? from->ktime < s->ktime : from->ktime >= s->ktime))
		*s = *from;
	s->oom = s->signo == 9 && oom;
}

static int signal_locked(struct mno_ledger *l, const struct mno_signal_fact *f)
{
	uint32_t i = table_find_pid(l, f->target_pid, f->ktime);
	struct sender from = {
		.signo = f->signo, .pid = f->sender_pid, .ktime = f->ktime, .oom = f->oom};

	if (f->sender_comm)
		strncpy(from.comm, f->sender_comm, sizeof(from.comm) - 1);
	if (i != NO_ENTRY)
		note_sender(entry_at(l, i), &from);
	else
		l->strays[l->n_strays++ % STRAYS] = (struct stray){f->target_pid, from};
	return 0;
}

static void claim_strays(struct mno_ledger *l, struct entry *e)
{
	for (size_t k = 0; k < MNO_MIN(l->n_strays, (size_t)STRAYS); k++) {
		const struct stray *s = &l->strays[k];

		if (s->target == e->pid && s->from.ktime >= e->start &&
			s->from.ktime <= e->end_ktime)
			note_sender(e, &s->from);
	}
}

static void take_exit(struct mno_ledger *l, struct entry *e, const struct mno_exit_fact *f)
{
	e->flags = (e->flags & ~(uint32_t)MNO_PROC_LOST_EXIT) | MNO_PROC_ENDED;
	e->end_ktime = f->ktime;
	e->code = f->code;
	note_uid(e, f->uid, f->ktime);
	e->cpu_ns = f->cpu_ns;
	e->rss_peak_bytes = f->rss_peak_bytes;
	e->io_read_bytes = f->io_read_bytes;
	e->io_write_bytes = f->io_write_bytes;
	note_parent(e, f->ppid, f->parent_start_boottime_ns, false);
	note_comm(e, f->comm, f->ktime);
	cgroup_note(l, e, f->cgroup_id, f->ktime);
	if (f->code & 0x7f && l->n_strays)
		claim_strays(l, e);
}

static int exit_locked(struct mno_ledger *l, const struct mno_exit_fact *f)
{
	struct entry *e;
	uint32_t i;
	int r = get_entry(l, f->pid, f->start_boottime_ns, false, &i);

	if (r < 0 || i == NO_ENTRY)
		return r;
	e = entry_at(l, i);
	if (e->flags & MNO_PROC_ENDED && !(e->flags & MNO_PROC_LOST_EXIT))
		return 0; /* told twice */
	if (!(e->flags & MNO_PROC_ENDED))
		l->stat.ended++;
	take_exit(l, e, f);
	end_entry(l, i);
	trim_ended(l);
	return 0;
}

#define LOCKED(call)                                                                               \
	int r;                                                                                     \
	pthread_mutex_lock(&l->lock);                                                              \
	r = call;                                                                                  \
	pthread_mutex_unlock(&l->lock);                                                            \
	return r

int mno_ledger_fork(struct mno_ledger *l, const struct mno_fork_fact *f)
{
	LOCKED(fork_locked(l, f));
}

int mno_ledger_exec(struct mno_ledger *l, const struct mno_exec_fact *f)
{
	LOCKED(exec_locked(l, f));
}

int mno_ledger_exit(struct mno_ledger *l, const struct mno_exit_fact *f)
{
	LOCKED(exit_locked(l, f));
}

int mno_ledger_signal(struct mno_ledger *l, const struct mno_signal_fact *f)
{
	LOCKED(signal_locked(l, f));
}

int mno_ledger_gone(struct mno_ledger *l, uint32_t pid, uint64_t start_boottime_ns, uint64_t ktime)
{
	uint32_t i;

	pthread_mutex_lock(&l->lock);
	i = table_find(l, pid, start_boottime_ns);
	if (i != NO_ENTRY && entry_at(l, i)->state == ENTRY_LIVE) {
		entry_at(l, i)->flags |= MNO_PROC_LOST_EXIT | MNO_PROC_ENDED;
		entry_at(l, i)->end_ktime = ktime;
		l->stat.ended++;
		end_entry(l, i);
		trim_ended(l);
	}
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* --- rows ------------------------------------------------------------------------------------------ */

static int visit(struct mno_ledger *l, enum entry_state state,
	int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	uint64_t now = mno_now_ns(CLOCK_BOOTTIME);
	int r = 0;

	for (uint32_t i = l->lists[state].first; i != NO_ENTRY && r == 0;
		i = entry_at(l, i)->next) {
		struct mno_proc p;

		row_view(l, entry_at(l, i), now, &p);
		r = fn(arg, &p);
	}
	return r;
}

int mno_ledger_live(struct mno_ledger *l, int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	LOCKED(visit(l, ENTRY_LIVE, fn, arg));
}

static int visit_waiting(
	struct mno_ledger *l, int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	int r = visit(l, ENTRY_DONE, fn, arg);

	return r ? r : visit(l, ENTRY_LINGER, fn, arg);
}

int mno_ledger_waiting(
	struct mno_ledger *l, int (*fn)(void *arg, const struct mno_proc *p), void *arg)
{
	LOCKED(visit_waiting(l, fn, arg));
}

static void end_lingering(struct mno_ledger *l, uint64_t now)
{
	for (uint32_t i = l->lists[ENTRY_LINGER].first, next; i != NO_ENTRY; i = next) {
		next = entry_at(l, i)->next;
		if (entry_at(l, i)->linger_until <= now)
			table_move(l, i, ENTRY_DONE);
	}
}

size_t mno_ledger_take_ended(struct mno_ledger *l, struct mno_proc *rows, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&l->lock);
	if (l->lists[ENTRY_LINGER].n)
		end_lingering(l, mno_now_ns(CLOCK_MONOTONIC));
	while (n < max && l->lists[ENTRY_DONE].n) {
		uint32_t i = l->lists[ENTRY_DONE].first;

		row_view(l, entry_at(l, i), 0, &rows[n]);
		if (row_own(&rows[n]) < 0)
			break; /* stays for later */
		l->stat.lost_starts += (rows[n].flags & MNO_PROC_LOST_START) != 0;
		l->stat.lost_exits += (rows[n].flags & MNO_PROC_LOST_EXIT) != 0;
		table_remove(l, i);
		n++;
	}
	pthread_mutex_unlock(&l->lock);
	return n;
}

void mno_ledger_flush(struct mno_ledger *l)
{
	pthread_mutex_lock(&l->lock);
	end_lingering(l, UINT64_MAX);
	pthread_mutex_unlock(&l->lock);
}

void mno_ledger_stat(struct mno_ledger *l, struct mno_ledger_stat *ret)
{
	pthread_mutex_lock(&l->lock);
	*ret = l->stat;
	ret->live = l->lists[ENTRY_LIVE].n;
	ret->waiting = l->lists[ENTRY_DONE].n + l->lists[ENTRY_LINGER].n;
	ret->memory_bytes = sizeof(*l) + l->n_slabs * SLAB * sizeof(struct entry) +
			    l->n_buckets * sizeof(*l->bucket) + l->image_bytes;
	pthread_mutex_unlock(&l->lock);
}
