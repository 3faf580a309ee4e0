/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to do in a state directory, and doing it at the start of an agent. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"
#include "mno/util.h"

#define FLOOR_DEFAULT (256ULL << 20)
/* Of the new form beside the old one; its environments have files of fixed size, too. */
#define NEED_FIXED (8ULL << 20)
#define NEED_DAY   (512ULL << 10)
#define RATE_GUESS 8000000 /* records a second, before it is known */

static const char *const stage_names[MNO_MIGRATE_STAGES] = {
	"none", "needed", "copying", "switching", "done", "undoing", "undone", "newer"};

const char *mno_migrate_stage_name(enum mno_migrate_stage s)
{
	return s < MNO_MIGRATE_STAGES ? stage_names[s] : "?";
}

static bool is_old_form(int dir_fd)
{
	return have(dir_fd, "data.mdb") && !have(dir_fd, "main");
}

static int open_dir(const char *dir, int *ret)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* The lock of a store, so that nobody opens either form meanwhile. */
static int lock_dir(int dir_fd, int *ret)
{
	_cleanup_close_ int fd = openat(dir_fd, "owner.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -MNO_EBUSY_STATE : -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* --- looking ------------------------------------------------------------------------------------- */

static uint64_t room(int dir_fd, uint64_t floor_bytes)
{
	struct statvfs v;
	uint64_t avail;

	if (fstatvfs(dir_fd, &v) < 0)
		return 0;
	avail = (uint64_t)v.f_bavail * v.f_frsize;
	if (!floor_bytes)
		floor_bytes = MNO_MIN(FLOOR_DEFAULT, (uint64_t)v.f_blocks * v.f_frsize / 20);
	return avail - MNO_MIN(avail, floor_bytes);
}

static uint64_t need_bytes(const struct migrate *m)
{
	return m->old_bytes + m->old_bytes / 8 + NEED_FIXED + m->days * NEED_DAY;
}

static void look_at_state(const struct state *s, struct mno_migrate_report *ret)
{
	ret->stage = s->stage;
	ret->from = s->from;
	ret->to = s->to;
	ret->records = ret->records_total = s->records;
	ret->series = s->series;
	ret->samples = s->samples;
	ret->procs = s->procs;
	ret->events = s->events;
	ret->damaged = s->damaged;
	ret->switched_ms = s->switched_ms;
	ret->keep_until_ms = s->switched_ms ? s->switched_ms + MNO_MIGRATE_KEEP_MS : 0;
	ret->undo_wanted = s->undo_wanted;
}

static void old_size(int dir_fd, unsigned format, struct mno_migrate_report *ret)
{
	char path[64], old[32];
	struct stat st;

	state_name(old, "old", format);
	snprintf(path, sizeof(path), "%s/data.mdb", old);
	if (fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		ret->old_bytes = (uint64_t)st.st_size;
}

/* An old form that is in its place, which nobody has open. */
static int look_at_old(int dir_fd, struct mno_migrate_report *ret)
{
	struct migrate m = {.dir_fd = dir_fd};
	unsigned format = 0;
	int r = old_1_format(dir_fd, &format);

	if (r < 0)
		return r;
	ret->from = format;
	ret->to = MNO_STORE_FORMAT;
	m.what = migration_of(format);
	if (!m.what) {
		ret->stage = MNO_MIGRATE_NEWER;
		return 0;
	}
	ret->to = m.what->to;
	if (ret->stage != MNO_MIGRATE_UNDONE)
		ret->stage = have(dir_fd, ".new-2") ? MNO_MIGRATE_COPYING : MNO_MIGRATE_NEEDED;
	r = m.what->f->plan(&m);
	if (r == 0) {
		ret->records_total = m.total;
		ret->old_bytes = m.old_bytes;
		ret->need_bytes = need_bytes(&m);
		ret->free_bytes = room(dir_fd, 0);
		ret->estimate_ms = (int64_t)(m.total / (RATE_GUESS / 1000)) + 1000;
	}
	m.what->f->done(&m);
	return r;
}

int mno_migrate_look(const char *dir, struct mno_migrate_report *ret)
{
	_cleanup_close_ int dir_fd = -1, lock_fd = -1;
	struct mno_migrate_report rep = {0};
	struct state s;
	int r = open_dir(dir, &dir_fd);

	if (r < 0)
		return r;
	r = state_read(dir_fd, &s);
	if (r == 0) {
		look_at_state(&s, &rep);
		old_size(dir_fd, s.from, &rep);
	} else if (r != -ENOENT) {
		return r;
	}
	r = 0;
	if (is_old_form(dir_fd) && rep.stage != MNO_MIGRATE_SWITCHING) {
		r = lock_dir(dir_fd, &lock_fd);
		if (r == 0)
			r = look_at_old(dir_fd, &rep);
		else if (r == -MNO_EBUSY_STATE) {
			rep.stage = rep.stage ?: MNO_MIGRATE_NEEDED;
			r = 0;
		}
	}
	if (r == 0)
		*ret = rep;
	return r;
}

/* --- doing --------------------------------------------------------------------------------------- */

static int check_room(struct migrate *m)
{
	uint64_t need = need_bytes(m),
		 is = room(m->dir_fd, m->o.store ? m->o.store->floor_bytes : 0);
	char a[16], b[16];

	if (is >= need)
		return 0;
	mno_err("migration: %s of free disk are needed beside the old form, there are %s: free "
		"some "
		"space, or move the state directory to a larger disk",
		mno_human_bytes((double)need, a, sizeof(a)),
		mno_human_bytes((double)is, b, sizeof(b)));
	return -ENOSPC;
}

static void say_done(const struct migrate *m, const struct state *s)
{
	double sec = (double)(mno_now_ns(CLOCK_MONOTONIC) - m->begin_ns) / 1e9;
	char n[16], bytes[16];

	mno_info("migration: done: %s records in %.1f s, compared with the old form",
		mno_human_count((double)s->records, n, sizeof(n)), sec);
	if (s->damaged)
		mno_warn("migration: %llu values of the old form were damaged and are left out",
			(unsigned long long)s->damaged);
	mno_info(
		"migration: the old form stays in %s/.old-%u (%s) for 7 days. Take it back: mnoctl "
		"migrate rollback. Remove it now: mnoctl migrate confirm",
		m->dir, s->from, mno_human_bytes((double)m->old_bytes, bytes, sizeof(bytes)));
}

static int say_failed(struct migrate *m, int r)
{
	if (r == -MNO_ECORRUPT)
		mno_err("migration: given up; the old form is as it was");
	else if (r == -ENOSPC)
		mno_err("migration: the disk is full; what was made is removed, the old form is as "
			"it "
			"was");
	else if (r < 0)
		mno_err("migration: %s; the next start goes on with it", mno_strerror(r));
	return r;
}

static int run_planned(struct migrate *m)
{
	char name[32];
	struct state s;
	int r;

	state_name(name, "new", m->what->to);
	r = have(m->dir_fd, name) ? 0 : check_room(m);
	if (r < 0)
		return r;
	r = migrate_run(m);
	if (r)
		return say_failed(m, r);
	s = (struct state){.from = m->what->from,
		.to = m->what->to,
		.stage = MNO_MIGRATE_COPYING,
		.records = m->c.done,
		.series = m->c.sum[SUM_SERIES].n,
		.samples = m->c.sum[SUM_SAMPLES].n,
		.procs = m->c.sum[SUM_PROCS].n,
		.events = m->c.sum[SUM_EVENTS].n,
		.damaged = m->c.damaged};
	r = switch_forth(m, &s);
	if (r == 0)
		say_done(m, &s);
	else if (r < 0)
		mno_err("migration: the new form is complete, but not yet in its place: %s. The "
			"next "
			"start goes on with it",
			mno_strerror(r));
	return r;
}

static int run(struct migrate *m)
{
	unsigned format;
	char n[16], b[16];
	int r = old_1_format(m->dir_fd, &format);

	if (r < 0)
		return r;
	m->what = migration_of(format);
	if (!m->what) {
		mno_err("the store is of format %u; this mno knows formats up to %u", format,
			MNO_STORE_FORMAT);
		return -MNO_EVERSION;
	}
	r = m->what->f->plan(m);
	if (r == 0) {
		mno_info(
			"migration: the store is of format %u, from now on %u (%s): %s records, %s",
			m->what->from, m->what->to, m->what->name,
			mno_human_count((double)m->total, n, sizeof(n)),
			mno_human_bytes((double)m->old_bytes, b, sizeof(b)));
		r = run_planned(m);
	}
	m->what->f->done(m);
	return r;
}

static int confirm(int dir_fd, const struct state *s)
{
	char name[32];
	int r;

	state_name(name, "old", s->from);
	r = form_remove(dir_fd, name);
	state_name(name, "undone", s->to);
	if (r == 0)
		r = form_remove(dir_fd, name);
	return r < 0 ? r : state_remove(dir_fd);
}

static int say_undone(const struct migrate *m, const struct state *s)
{
	mno_err("the store was put back to format %u on demand: start the version of mno that "
		"wrote "
		"it, or migrate it again with: mnod --migrate run. What was collected since the "
		"migration is in %s/.undone-%u",
		s->from, m->dir, s->to);
	return -MNO_EMIGRATE;
}

static int recover(struct migrate *m, struct state *s)
{
	int r = 0;

	m->what = migration_of(s->from);
	if (!m->what)
		return -MNO_EVERSION;
	if (s->stage == MNO_MIGRATE_SWITCHING) {
		mno_info("migration: putting the new form in place was interrupted: it is ended "
			 "now");
		return switch_forth(m, s);
	}
	if (s->stage == MNO_MIGRATE_UNDOING || (s->stage == MNO_MIGRATE_DONE && s->undo_wanted)) {
		mno_info("migration: undone on demand");
		r = switch_back(m, s);
	}
	if (r == 0 && s->stage == MNO_MIGRATE_UNDONE) {
		if (!is_old_form(m->dir_fd)) /* somebody put something else there */
			return state_remove(m->dir_fd);
		return m->o.again ? 0 : say_undone(m, s);
	}
	if (r == 0 && s->stage == MNO_MIGRATE_DONE &&
		mno_now_ms() - s->switched_ms > MNO_MIGRATE_KEEP_MS) {
		mno_info("migration: 7 days are over: the old form is removed");
		r = confirm(m->dir_fd, s);
	}
	return r;
}

int mno_migrate_start(const char *dir, const struct mno_migrate_opts *o)
{
	_cleanup_close_ int dir_fd = -1, lock_fd = -1;
	struct migrate m = {.dir = dir};
	struct state s;
	int r = open_dir(dir, &dir_fd);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (o)
		memcpy(&m.o, o, MNO_MIN(o->sz, sizeof(*o)));
	if (!m.o.step_records)
		m.o.step_records = STEP_RECORDS;
	m.dir_fd = dir_fd;
	if (!have(dir_fd, MIGRATE_STATE) && !is_old_form(dir_fd))
		return 0;
	r = lock_dir(dir_fd, &lock_fd);
	if (r < 0)
		return r;
	r = state_read(dir_fd, &s);
	if (r == 0)
		r = recover(&m, &s);
	else if (r == -ENOENT)
		r = 0;
	return r == 0 && is_old_form(dir_fd) ? run(&m) : r;
}

/* --- demands on a running store ------------------------------------------------------------------- */

static int done_state(const char *dir, int *ret_fd, struct state *s)
{
	int r = open_dir(dir, ret_fd);

	if (r == 0)
		r = state_read(*ret_fd, s);
	return r == 0 && s->stage != MNO_MIGRATE_DONE ? -ENOENT : r;
}

int mno_migrate_want_undo(const char *dir, bool undo)
{
	_cleanup_close_ int dir_fd = -1;
	struct state s;
	int r = done_state(dir, &dir_fd, &s);

	if (r < 0)
		return r;
	s.undo_wanted = undo;
	return state_write(dir_fd, &s);
}

int mno_migrate_confirm(const char *dir)
{
	_cleanup_close_ int dir_fd = -1;
	struct state s;
	int r = done_state(dir, &dir_fd, &s);

	return r < 0 ? r : confirm(dir_fd, &s);
}
