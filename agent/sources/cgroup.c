/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup v2 files of every cgroup. Files stay open up to a bound, further ones are opened for
 * each reading; what is not there (its controller is off) is looked for again about once a minute.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

#include "cgroup_files.h"
#include "mno/map.h"

#define FDS_MAX      1024 /* kept open; each costs the kernel about 5 KiB */
#define NEW_PER_TICK 256  /* so that the first tick stays short on hosts with thousands */
#define RETRY_TICKS  64

struct cgroup_source {
	struct mno_map *by_id;     /* id -> struct cgroup_state */
	struct cgroup_state **cur; /* as in the list of the last tick; NULL: not set up yet */
	uint64_t *id;
	size_t n, cap;
	size_t fds, fds_max;
	uint64_t tick;
	struct cgroup_layouts layouts;
};

static void state_free(void *p)
{
	struct cgroup_state *st = p;

	for (size_t i = 0; i < CGROUP_FILES; i++)
		mno_close_p(&st->fd[i]);
	mno_rows_done(&st->io);
	free(st->path);
	free(st);
}

/* The cgroup is gone. */
static void state_drop(struct cgroup_source *cs, struct mno_source_ctx *c, struct cgroup_state *st)
{
	for (size_t i = 0; i < CGROUP_FILES; i++)
		cs->fds -= st->fd[i] >= 0;
	for (size_t i = 0; i < CGROUP_SLOTS; i++)
		mno_source_remove(c, &st->slot[i]);
	mno_rows_end(&st->io, c); /* pos is 0: all rows go */
	mno_map_remove(cs->by_id, &st->id, sizeof(st->id));
	state_free(st);
}

static void cgroup_close(void *priv)
{
	struct cgroup_source *cs = priv;

	if (!cs)
		return;
	mno_map_free(cs->by_id, state_free);
	free(cs->cur);
	free(cs->id);
	free(cs);
}

static size_t fd_budget(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == RLIM_INFINITY)
		return FDS_MAX;
	return MNO_MIN(lim.rlim_cur / 2, FDS_MAX);
}

static int cgroup_open(struct mno_source_ctx *c, void **ret_priv)
{
	struct cgroup_source *cs;
	int r;

	if (c->cgroup_fd < 0 || !c->cgroups) {
		mno_source_reason(c, "no cgroup v2 tree is mounted (mount -t cgroup2 none DIR)");
		return -ENOENT;
	}
	cs = calloc(1, sizeof(*cs));
	if (!cs)
		return -ENOMEM;
	r = mno_map_new(0, &cs->by_id);
	if (r < 0) {
		free(cs);
		return r;
	}
	cs->fds_max = fd_budget();
	*ret_priv = cs;
	return 0;
}

static struct cgroup_state *state_new(struct cgroup_source *cs, const struct mno_cgroup *cg)
{
	struct cgroup_state *st = calloc(1, sizeof(*st));

	if (!st)
		return NULL;
	st->id = cg->id;
	st->path = strdup(cg->path);
	st->io.width = CGROUP_IO_COLUMNS;
	st->populated = true;                     /* the root has no cgroup.events */
	memset(st->fd, 0xff, sizeof(st->fd));     /* -1 */
	memset(st->slot, 0xff, sizeof(st->slot)); /* MNO_SLOT_NONE */
	if (!st->path || mno_map_put(cs->by_id, &st->id, sizeof(st->id), st, NULL) < 0) {
		free(st->path);
		free(st);
		return NULL;
	}
	return st;
}

static bool same_list(const struct cgroup_source *cs, const struct mno_cgroup *list, size_t n)
{
	if (n != cs->n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (cs->id[i] != list[i].id)
			return false;
	}
	return true;
}

static int grow(struct cgroup_source *cs, size_t n)
{
	struct cgroup_state **cur;
	uint64_t *id;

	if (n <= cs->cap)
		return 0;
	cur = realloc(cs->cur, n * sizeof(*cur));
	if (cur)
		cs->cur = cur;
	id = realloc(cs->id, n * sizeof(*id));
	if (id)
		cs->id = id;
	if (!cur || !id)
		return -ENOMEM;
	cs->cap = n;
	return 0;
}

/* Cgroups came or went: those that went lose their series. */
static int update_list(
	struct cgroup_source *cs, struct mno_source_ctx *c, const struct mno_cgroup *list, size_t n)
{
	const void *key;
	size_t pos = 0, len;
	void *value;
	int r = grow(cs, n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		cs->id[i] = list[i].id;
		cs->cur[i] = mno_map_get(cs->by_id, &list[i].id, sizeof(list[i].id));
		if (cs->cur[i])
			cs->cur[i]->seen_tick = cs->tick;
	}
	cs->n = n;
	while (mno_map_next(cs->by_id, &pos, &key, &len, &value)) {
		struct cgroup_state *st = value;

		if (st->seen_tick != cs->tick)
			state_drop(cs, c, st);
	}
	return 0;
}

/* The fd of a file: kept, or opened for this reading (*@ret_close). -1: not there. */
static int file_fd(struct cgroup_source *cs, struct mno_source_ctx *c, struct cgroup_state *st,
	enum cgroup_file f, bool *ret_close)
{
	char path[4352];
	int fd, n;

	*ret_close = false;
	if (st->missing & (1u << f))
		return -1;
	if (st->fd[f] >= 0)
		return st->fd[f];
	n = snprintf(path, sizeof(path), "%s/%s", st->path[1] ? st->path + 1 : ".",
		mno_cgroup_file_names[f]);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -1;
	fd = openat(c->cgroup_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		st->missing |= 1u << f;
		return -1;
	}
	if (cs->fds < cs->fds_max) {
		cs->fds++;
		st->fd[f] = fd;
	} else {
		*ret_close = true;
	}
	return fd;
}

static void read_file(struct cgroup_source *cs, struct mno_source_ctx *c, struct cgroup_state *st,
	enum cgroup_file f)
{
	bool close_it;
	int fd = file_fd(cs, c, st, f, &close_it);

	if (fd < 0)
		return;
	/* ENODEV: the cgroup has just gone; EOPNOTSUPP: pressure is switched off there. */
	if (mno_cgroup_file_read(&cs->layouts, c, st, f, fd) == -EOPNOTSUPP)
		st->missing |= 1u << f;
	if (close_it)
		close(fd);
}

static void read_cgroup(struct cgroup_source *cs, struct mno_source_ctx *c, struct cgroup_state *st)
{
	for (enum cgroup_file f = 0; f < CGROUP_FIRST_PRESSURE; f++)
		read_file(cs, c, st, f);
	/* Without tasks pressure cannot grow; reading it makes the kernel sum over all CPUs. */
	for (enum cgroup_file f = CGROUP_FIRST_PRESSURE; f < CGROUP_FILES; f++) {
		if (st->populated)
			read_file(cs, c, st, f);
		else
			mno_cgroup_pressure_keep(c, st, f);
	}
}

static int cgroup_tick(void *priv, struct mno_source_ctx *c)
{
	struct cgroup_source *cs = priv;
	const struct mno_cgroup *list;
	size_t n = c->list(c->cgroups, &list), fresh = 0, waiting = 0;
	int r;

	cs->tick++;
	if (!same_list(cs, list, n)) {
		r = update_list(cs, c, list, n);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++) {
		if (!cs->cur[i] && fresh < NEW_PER_TICK) {
			cs->cur[i] = state_new(cs, &list[i]);
			fresh++;
		}
		if (!cs->cur[i]) {
			waiting++;
			continue;
		}
		if ((cs->tick + i) % RETRY_TICKS == 0)
			cs->cur[i]->missing = 0;
		read_cgroup(cs, c, cs->cur[i]);
	}
	if (waiting)
		mno_source_reason(c, "%zu of %zu cgroups wait for their first reading", waiting, n);
	return 0;
}

const struct mno_source mno_source_cgroup = {
	.name = "cgroup",
	.summary = "CPU, memory, I/O, tasks and pressure of every cgroup (cgroup v2 files)",
	.open = cgroup_open,
	.tick = cgroup_tick,
	.close = cgroup_close,
};
