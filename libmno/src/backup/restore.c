/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory from a backup: made beside, verified there, put in place by one rename. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "../crypt/keys_old.h"
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_keys.h"
#include "mno/time.h"

struct restore {
	const struct mno_restore_opts *o;
	const char *state; /* without slashes at its end */
	char parent[4096], base[256], staging[300], name[MNO_BACKUP_NAME];
	int parent_fd, from, to, lock;
	struct manifest m;
	struct mno_buf text;
	size_t body;
	bool *bad; /* of each file */
	struct mno_backup_verdict v;
};

/* --- where ------------------------------------------------------------------------------------- */

static int split_path(struct restore *x, const char *state)
{
	size_t n = strlen(state);
	const char *slash;

	while (n > 1 && state[n - 1] == '/')
		n--;
	if (!n || n >= sizeof(x->parent))
		return -ENAMETOOLONG;
	memcpy(x->parent, state, n);
	x->parent[n] = '\0';
	slash = strrchr(x->parent, '/');
	if (strlen(slash ? slash + 1 : x->parent) >= sizeof(x->base) ||
		!strlen(slash ? slash + 1 : x->parent))
		return -EINVAL;
	strcpy(x->base, slash ? slash + 1 : x->parent);
	if (!strcmp(x->base, ".") || !strcmp(x->base, ".."))
		return -EINVAL;
	if (slash)
		x->parent[slash == x->parent ? 1 : slash - x->parent] = '\0';
	else
		strcpy(x->parent, ".");
	snprintf(x->staging, sizeof(x->staging), ".restore-%s", x->base);
	x->parent_fd = open(x->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return x->parent_fd < 0 ? -errno : 0;
}

/* 1: a directory with something in it; 0: none, or an empty one. */
static int has_store(struct restore *x)
{
	if (unlinkat(x->parent_fd, x->base, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return errno == ENOTEMPTY || errno == EEXIST ? 1 : -errno;
}

/* Nobody may be working on what is replaced. */
static int lock_old(struct restore *x)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/owner.lock", x->base);
	x->lock = openat(x->parent_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (x->lock < 0)
		return -errno;
	return flock(x->lock, LOCK_EX | LOCK_NB) < 0 ? -MNO_EBUSY_STATE : 0;
}

static int open_staging(struct restore *x)
{
	tree_remove(x->parent_fd, x->staging); /* of one that was cut off */
	if (mkdirat(x->parent_fd, x->staging, 0700) < 0)
		return -errno;
	x->to = openat(x->parent_fd, x->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return x->to < 0 ? -errno : 0;
}

/* --- files ---------------------------------------------------------------------------------------- */

static bool in_folder(const char *path, const char *folder, size_t n)
{
	return !strncmp(path, folder, n) && path[n] == '/';
}

/* An environment with a damaged file goes as a whole; main and the records of keys may not. */
static int leave_out(struct restore *x)
{
	for (size_t i = 0; i < x->m.n; i++) {
		const char *path = x->m.files[i].path;
		size_t n = strcspn(path, "/");
		char folder[64];

		if (!x->bad[i])
			continue;
		if (!x->o->partial || in_folder(path, "main", 4) || in_folder(path, "keys", 4))
			return -MNO_ECORRUPT;
		snprintf(folder, sizeof(folder), "%.*s", (int)n, path);
		tree_remove(x->to, folder);
	}
	return 0;
}

/* The key that the backup is sealed under: named, or one of the store that is replaced. */
static int place_key(struct restore *x, bool old)
{
	_cleanup_close_ int from = -1;
	char other[MNO_KEY_ID_TEXT];
	int r;

	if (!*x->m.kek_id)
		return 0;
	if (x->o->key) {
		r = mno_keys_place(x->to, x->o->key, x->m.kek_id, other);
		return r == -ENOKEY ? backup_no_key(&x->o->o, &x->m, x->o->key, other) : r;
	}
	if (!old)
		return 0; /* it may come from elsewhere */
	from = openat(x->parent_fd, x->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	r = from < 0 ? -errno : mno_keys_adopt(x->to, from, x->m.kek_id);
	return r == -ENOKEY || r == -ENOENT ? 0 : r;
}

static int copy_files(struct restore *x, bool old)
{
	struct pace p;
	int r;

	x->bad = calloc(x->m.n + 1, sizeof(*x->bad));
	if (!x->bad)
		return -ENOMEM;
	pace_begin(&p, &x->o->o, x->v.info.bytes);
	r = room_check(x->to, x->v.info.bytes, &x->o->o, "the file system of the state directory");
	if (r < 0)
		return r;
	r = backup_compare(x->from, &x->m, x->to, x->bad, &p, &x->v);
	if (r == 0)
		r = leave_out(x);
	if (r == 0)
		r = place_key(x, old);
	return r ?: tree_sync(x->to);
}

/* --- verifying ---------------------------------------------------------------------------------- */

static int check_signature(struct restore *x)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r;

	if (!x->m.is_signed && faccessat(x->to, "keys/current", F_OK, 0) < 0)
		return 0; /* of a store that is not encrypted */
	r = mno_keys_open_recorded(x->to, &k);
	if (r == -ENOENT || r == -ENOKEY)
		return backup_no_key(&x->o->o, &x->m, NULL, NULL);
	if (r < 0)
		return r;
	x->v.signature = backup_signature(&x->m, &x->text, x->body, k);
	if (x->v.signature)
		return 0;
	backup_finding(&x->o->o, MANIFEST, "it is not signed with the key of its store");
	x->v.damaged++;
	return x->o->partial ? 0 : -MNO_ECORRUPT;
}

static int check_values(struct restore *x, const char *dir)
{
	uint64_t before = x->v.damaged;
	int r = backup_walk(dir, NULL, &x->o->o, &x->v.damaged);

	x->v.walked = r == 0;
	return r < 0 ? r : x->v.damaged > before && !x->o->partial ? -MNO_ECORRUPT : 0;
}

/*
 * What is written from now on is sealed with keys that no other copy of this store has. A store
 * without encryption has none.
 */
static int new_keys(const char *dir)
{
	struct mno_store_opts so = {.sz = sizeof(so)};
	_cleanup_(mno_store_close_p)
	struct mno_store *s = NULL;
	size_t n;
	int r = mno_store_open(dir, &so, &s);

	if (r == 0)
		r = mno_store_rotate_data(s, NULL, &n);
	return r == -ENOTSUP || r == -EBUSY ? 0 : r;
}

/* Its feeds are beside the backup, and in the store that is replaced. */
static int replay_docs(struct restore *x, const char *dir, bool old)
{
	_cleanup_close_ int dest =
		openat(x->from, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_buf_ struct mno_buf was = {0};

	if (!x->o->docs_until)
		return 0;
	mno_buf_addf(&was, "%s/%s", x->parent, x->base);
	return backup_docs_until(dir, dest, x->name, &x->m, old ? mno_buf_cstr(&was) : NULL,
		x->o->docs_until, &x->o->o, &x->v.docs);
}

/* --- the swap --------------------------------------------------------------------------------------- */

static int swap(struct restore *x, bool old)
{
	char aside[320];

	if (fsync(x->to) < 0)
		return -errno;
	if (!old) {
		if (renameat(x->parent_fd, x->staging, x->parent_fd, x->base) < 0)
			return -errno;
		return fsync(x->parent_fd) < 0 ? -errno : 0;
	}
	/* both at once: there is a whole store under the name at any moment */
	if (renameat2(x->parent_fd, x->staging, x->parent_fd, x->base, RENAME_EXCHANGE) < 0)
		return -errno;
	snprintf(aside, sizeof(aside), ".old-%.200s-%lld", x->base, (long long)mno_now_ms());
	if (renameat(x->parent_fd, x->staging, x->parent_fd, aside) < 0)
		return -errno;
	mno_info("restore: the store that was there is kept as %s/%s", x->parent, aside);
	return fsync(x->parent_fd) < 0 ? -errno : 0;
}

/* Of the backup, however its path was written; "" when it was renamed. */
static void name_of(const char *path, char ret[MNO_BACKUP_NAME])
{
	_cleanup_free_ char *whole = realpath(path, NULL);
	const char *slash = whole ? strrchr(whole, '/') : NULL;

	*ret = '\0';
	if (slash && backup_name_ok(slash + 1))
		strcpy(ret, slash + 1);
}

static int run(struct restore *x)
{
	_cleanup_buf_ struct mno_buf dir = {0};
	int old = has_store(x), r = old < 0 ? old : 0;

	if (old > 0)
		r = x->o->replace ? lock_old(x) : -EEXIST;
	if (r == 0)
		r = open_staging(x);
	if (r < 0)
		return r;
	mno_buf_addf(&dir, "%s/%s", x->parent, x->staging);
	r = copy_files(x, old > 0);
	if (r == 0)
		r = check_signature(x);
	if (r == 0)
		r = check_values(x, mno_buf_cstr(&dir));
	if (r == 0)
		r = new_keys(mno_buf_cstr(&dir));
	if (r == 0)
		r = replay_docs(x, mno_buf_cstr(&dir), old > 0);
	if (r == 0)
		r = swap(x, old > 0);
	if (r < 0)
		tree_remove(x->parent_fd, x->staging);
	return r;
}

int mno_backup_restore(const char *path, const char *state, const struct mno_restore_opts *o,
	struct mno_backup_verdict *ret)
{
	struct mno_restore_opts opts = {.sz = sizeof(opts)};
	struct restore x = {.o = &opts, .state = state, .parent_fd = -1, .to = -1, .lock = -1};
	int r;

	if (o)
		memcpy(&opts, o, MNO_MIN(o->sz, sizeof(opts)));
	x.from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = x.from < 0 ? -errno : manifest_read(x.from, &x.m, &x.text, &x.body);
	if (r == 0) {
		manifest_info(&x.m, "", &x.v.info);
		name_of(path, x.name);
		r = split_path(&x, state);
	}
	if (r == 0)
		r = run(&x);
	*ret = x.v;
	manifest_done(&x.m);
	mno_buf_done(&x.text);
	free(x.bad);
	mno_close_p(&x.from);
	mno_close_p(&x.to);
	mno_close_p(&x.lock);
	mno_close_p(&x.parent_fd);
	return r;
}
