/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: the new form takes the place of the old one, or the other way. The state file says before
 * what is going on, each rename is done if it is not yet, and one of them is the switch: that of
 * the main environment, without which a directory is of format 1.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "migrate_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define MAIN "main"

bool have(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static DIR *list(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Directories are two deep at most; what a stranger put there deeper makes it fail. */
static int remove_in(int dir_fd, const char *name, unsigned depth)
{
	DIR *d = list(dir_fd, name);
	struct dirent *de;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (de = readdir(d))) {
		if (is_dots(de->d_name) || unlinkat(dirfd(d), de->d_name, 0) == 0)
			continue;
		r = errno == EISDIR && depth ? remove_in(dirfd(d), de->d_name, depth - 1) : -errno;
	}
	closedir(d);
	if (r == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

int form_remove(int dir_fd, const char *name)
{
	return remove_in(dir_fd, name, 3);
}

/* --- parts of a store of format 2 ------------------------------------------------------------------ */

static bool is_part(const char *name)
{
	if (!strcmp(name, "keys") || !strncmp(name, ".gone-", 6))
		return true;
	for (unsigned c = 0; c < MNO_CLASS_MAX; c++) {
		const char *dir = mno_class_info(c)->dir;
		size_t n = strlen(dir);

		if (strncmp(name, dir, n))
			continue;
		if (!name[n] || (name[n] == '-' && name[n + 1] &&
					strspn(name + n + 1, "0123456789") == strlen(name + n + 1)))
			return strcmp(name, MAIN);
	}
	return false;
}

static int sync_dir(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static int move(struct migrate *m, int from, int to, const char *name, const char *phase)
{
	int r = tell(m, phase);

	if (r)
		return r;
	if (!have(from, name))
		return 0;
	if (have(to, name)) {
		mno_err("migration: %s is in the way: move it elsewhere, it is not mno's", name);
		return -EEXIST;
	}
	return renameat(from, name, to, name) < 0 ? -errno : 0;
}

/* All parts but the main environment; to be called again if it was cut short. */
static int move_parts(struct migrate *m, int from, int to, const char *phase)
{
	struct dirent *de;
	DIR *d = list(from, ".");
	int r = d ? 0 : -errno;

	while (r == 0 && (de = readdir(d)))
		if (is_part(de->d_name))
			r = move(m, from, to, de->d_name, phase);
	if (d)
		closedir(d);
	if (r == 0)
		r = sync_dir(to);
	return r ?: sync_dir(from);
}

static int open_dir(int dir_fd, const char *name, bool make)
{
	int fd;

	if (make && mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* Nothing was moved yet: no name may be taken. */
static int check_free(struct migrate *m, int from)
{
	struct dirent *de;
	DIR *d = list(from, ".");
	int r = d ? 0 : -errno;

	while (r == 0 && (de = readdir(d)))
		if (is_part(de->d_name) && have(m->dir_fd, de->d_name)) {
			mno_err("migration: %s/%s is in the way: move it elsewhere, it is not "
				"mno's",
				m->dir, de->d_name);
			r = -EEXIST;
		}
	if (d)
		closedir(d);
	return r;
}

static int move_files(struct migrate *m, int from, int to, const char *phase)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(m->what->f->files) && m->what->f->files[i] && r == 0; i++)
		r = move(m, from, to, m->what->f->files[i], phase);
	if (r == 0)
		r = sync_dir(to);
	return r ?: sync_dir(from);
}

/* --- both ways ------------------------------------------------------------------------------------- */

static int forth(struct migrate *m, int new_fd, int old_fd)
{
	static const char phase[] = "switching";
	int r = 0;

	if (new_fd >= 0) {
		r = move_parts(m, new_fd, m->dir_fd, phase);
		if (r == 0)
			r = move(m, new_fd, m->dir_fd, MAIN, phase);
		if (r == 0)
			r = sync_dir(m->dir_fd);
	}
	return r ?: move_files(m, m->dir_fd, old_fd, phase);
}

int switch_forth(struct migrate *m, struct state *s)
{
	_cleanup_close_ int new_fd = -1, old_fd = -1;
	char new[32], old[32];
	int r = 0;

	state_name(new, "new", s->to);
	state_name(old, "old", s->from);
	new_fd = open_dir(m->dir_fd, new, false);
	if (new_fd < 0 && new_fd != -ENOENT)
		return new_fd;
	if (s->stage != MNO_MIGRATE_SWITCHING) {
		r = check_free(m, new_fd);
		s->stage = MNO_MIGRATE_SWITCHING;
		if (r == 0)
			r = state_write(m->dir_fd, s);
	}
	if (r == 0)
		r = old_fd = open_dir(m->dir_fd, old, true);
	r = r < 0 ? r : forth(m, new_fd, old_fd);
	if (r)
		return r;
	s->stage = MNO_MIGRATE_DONE;
	s->switched_ms = mno_now_ms();
	r = state_write(m->dir_fd, s);
	return r < 0 ? r : form_remove(m->dir_fd, new);
}

static int back(struct migrate *m, int old_fd, int undone_fd)
{
	static const char phase[] = "undoing";
	int r = old_fd < 0 ? 0 : move_files(m, old_fd, m->dir_fd, phase);

	/* now both forms are there, and the present one counts until its main environment goes */
	if (r == 0)
		r = move(m, m->dir_fd, undone_fd, MAIN, phase);
	if (r == 0)
		r = sync_dir(m->dir_fd);
	return r ?: move_parts(m, m->dir_fd, undone_fd, phase);
}

int switch_back(struct migrate *m, struct state *s)
{
	_cleanup_close_ int old_fd = -1, undone_fd = -1;
	char old[32], undone[32];
	int r = 0;

	state_name(old, "old", s->from);
	state_name(undone, "undone", s->to);
	if (s->stage != MNO_MIGRATE_UNDOING) {
		r = form_remove(m->dir_fd, undone); /* of an earlier time */
		s->stage = MNO_MIGRATE_UNDOING;
		if (r == 0)
			r = state_write(m->dir_fd, s);
	}
	old_fd = open_dir(m->dir_fd, old, false);
	if (old_fd < 0 && old_fd != -ENOENT)
		return old_fd;
	if (r == 0)
		r = undone_fd = open_dir(m->dir_fd, undone, true);
	r = r < 0 ? r : back(m, old_fd, undone_fd);
	if (r)
		return r;
	s->stage = MNO_MIGRATE_UNDONE;
	s->undo_wanted = false;
	r = state_write(m->dir_fd, s);
	return r < 0 ? r : form_remove(m->dir_fd, old);
}
