/* SPDX-License-Identifier: Apache-2.0 */
#include "mno/archive.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "../crypt/keys_old.h"
#include "../store/store_internal.h"
#include "backup_internal.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/time.h"

#define STAGING ".attach"

/* --- on record ------------------------------------------------------------------------------- */

static int record(struct mno_store *s, const char *name, bool there)
{
	_cleanup_close_ int dir = -1, fd = -1;

	if (there && mkdirat(s->dir_fd, MNO_ARCHIVED_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = openat(s->dir_fd, MNO_ARCHIVED_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return -errno;
	if (there) {
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
	} else if (unlinkat(dir, name, 0) < 0)
		return -errno;
	return fsync(dir) < 0 || fsync(s->dir_fd) < 0 ? -errno : 0;
}

bool mno_archive_time(const char *name, int64_t *ret_ms, bool *ret_series)
{
	enum mno_class c;

	if (mno_env_parse(name, &c, ret_ms) < 0)
		return false;
	*ret_series = c == MNO_CLASS_TS;
	return true;
}

/* --- making ------------------------------------------------------------------------------------ */

static int verify_and_drop(struct mno_store *s, const char *name, const char *dest,
	enum mno_class c, int64_t t0, const struct mno_backup_opts *o)
{
	struct mno_backup_verdict v;
	_cleanup_buf_ struct mno_buf path = {0};
	int r;

	mno_buf_addf(&path, "%s/%s", dest, name);
	r = path.err ?: mno_backup_verify(mno_buf_cstr(&path), NULL, o, &v);
	if (r == 0 && v.damaged)
		r = -MNO_ECORRUPT;
	return r ?: mno_store_drop_one(s, c, t0);
}

int mno_archive_create(struct mno_store *s, const char *name, const char *dest, bool move,
	const struct mno_backup_opts *o, struct mno_backup_info *ret)
{
	_cleanup_(mno_env_unref_p)
	struct mno_env *e = NULL;
	int64_t t0, t1;
	enum mno_class c;
	int r = mno_env_parse(name, &c, &t0);

	if (r < 0)
		return r;
	mno_class_bounds(c, t0, &t0, &t1);
	if (t1 > mno_now_ms())
		return -EINVAL;
	r = mno_store_env(s, c, t0, false, &e);
	if (r == 0)
		r = record(s, name, true);
	if (r == 0)
		r = backup_create_one(s, e, dest, o, ret);
	e = mno_env_unref(e);
	return r < 0 || !move ? r : verify_and_drop(s, name, dest, c, t0, o);
}

int mno_archive_each_before(
	struct mno_store *s, int64_t ms, int (*fn)(void *arg, const char *name), void *arg)
{
	int r = 0;

	for (unsigned c = 0; c < MNO_CLASS_MAX && r == 0; c++) {
		_cleanup_free_ int64_t *t = NULL;
		size_t n = 0;

		if (mno_class_info(c)->period == MNO_PERIOD_NONE)
			continue;
		r = mno_store_partitions(s, c, INT64_MIN, ms, &t, &n);
		for (size_t i = 0; i < n && r == 0; i++) {
			struct mno_env e = {.class = c};

			mno_class_bounds(c, t[i], &e.t0_ms, &e.t1_ms);
			mno_env_name(&e);
			if (e.t1_ms <= ms && !mno_store_attached(s, c, e.t0_ms))
				r = fn(arg, e.name);
		}
	}
	return r;
}

/* --- bringing back ------------------------------------------------------------------------------ */

struct attach {
	struct mno_store *s;
	const struct mno_backup_opts *o;
	const char *path;
	int from, staging;
	struct manifest m;
	struct mno_buf text;
	size_t body;
	struct mno_keys *keys; /* that it is sealed under; owned if not the store's */
	bool own;
	char name[32], env_id[33];
	enum mno_class class;
	int64_t t0_ms;
};

static int read_archive(struct attach *x)
{
	char store[33];
	int r;

	x->from = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = x->from < 0 ? -errno : manifest_read(x->from, &x->m, &x->text, &x->body);
	for (size_t i = 0; r == 0 && i < x->m.n; i++) {
		const struct backup_file *f = &x->m.files[i];
		size_t n = strcspn(f->path, "/");

		if (n >= sizeof(x->name) || strcmp(f->path + n, "/data.mdb") != 0)
			continue;
		if (*x->name)
			return -EINVAL; /* a whole backup: that is restored, not attached */
		memcpy(x->name, f->path, n);
		strcpy(x->env_id, f->env_id);
	}
	if (r == 0)
		r = mno_env_parse(x->name, &x->class, &x->t0_ms);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < MNO_ENV_ID_LEN; i++)
		snprintf(store + 2 * i, 3, "%02x", x->s->main->id[i]);
	return strcmp(store, x->m.store) ? -EXDEV : 0;
}

/* The store's own key, or an old one that it keeps. */
static int find_key(struct attach *x)
{
	char id[MNO_KEY_ID_TEXT];
	int r;

	if (!x->s->keys || !*x->m.kek_id)
		return !x->s->keys && !*x->m.kek_id ? 0 : -ENOKEY;
	for (unsigned i = 0; i < MNO_KEY_ID_BYTES; i++)
		snprintf(id + 2 * i, 3, "%02x", mno_keys_id(x->s->keys)[i]);
	x->own = strcmp(id, x->m.kek_id) != 0;
	r = x->own ? mno_keys_open_id(x->s->dir_fd, x->m.kek_id, &x->keys) : 0;
	if (!x->own)
		x->keys = x->s->keys;
	if (r == -ENOKEY)
		return backup_no_key(x->o, &x->m, "the state directory", NULL);
	if (r == 0 && !backup_signature(&x->m, &x->text, x->body, x->keys)) {
		backup_finding(x->o, MANIFEST, "it is not signed with the key of this store");
		return -MNO_ECORRUPT;
	}
	return r;
}

static int copy_in(struct attach *x)
{
	struct mno_backup_verdict v = {0};
	_cleanup_manifest_ struct manifest part = {0};
	size_t n = strlen(x->name);
	struct pace p;
	int r = 0;

	for (size_t i = 0; r == 0 && i < x->m.n; i++)
		if (!strncmp(x->m.files[i].path, x->name, n) && x->m.files[i].path[n] == '/')
			r = manifest_add(&part, &x->m.files[i]);
	manifest_info(&x->m, "", &v.info);
	if (r == 0)
		r = room_check(x->staging, v.info.bytes, x->o, x->name);
	pace_begin(&p, x->o, v.info.bytes);
	if (r == 0)
		r = backup_compare(x->from, &part, x->staging, NULL, &p, &v);
	return r ?: v.damaged ? -MNO_ECORRUPT : 0;
}

/* Its data keys under the store's key of now; the mark that retention sees. */
static int make_ours(struct attach *x)
{
	_cleanup_(mno_cipher_close_p)
	struct mno_cipher *c = NULL;
	_cleanup_close_ int dir =
		openat(x->staging, x->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int mark = -1;
	uint8_t id[MNO_ENV_ID_LEN];
	int r = 0;

	if (dir < 0)
		return -errno;
	for (unsigned i = 0; i < MNO_ENV_ID_LEN; i++)
		if (sscanf(x->env_id + 2 * i, "%2hhx", &id[i]) != 1)
			return -MNO_ECORRUPT;
	if (x->own) {
		r = mno_cipher_open(x->keys, dir, id, &c);
		if (r == 0)
			r = mno_cipher_rewrap(c, dir, x->s->keys);
	}
	if (r < 0)
		return r;
	mark = file_create(dir, MNO_ATTACHED_FILE);
	r = mark < 0 ? mark : file_write(mark, x->path, strlen(x->path));
	if (r == 0)
		r = file_settle(mark);
	if (r == 0 && fsync(dir) < 0)
		r = -errno;
	if (r == 0 && renameat2(x->staging, x->name, x->s->dir_fd, x->name, RENAME_NOREPLACE) < 0)
		r = -errno;
	return r ?: fsync(x->s->dir_fd) < 0 ? -errno : 0;
}

static int attach(struct attach *x)
{
	int r = read_archive(x);

	if (r == 0 && faccessat(x->s->dir_fd, x->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		r = -EEXIST;
	if (r == 0)
		r = find_key(x);
	if (r < 0)
		return r;
	tree_remove(x->s->dir_fd, STAGING); /* of one that was cut off */
	if (mkdirat(x->s->dir_fd, STAGING, 0700) < 0)
		return -errno;
	x->staging = openat(x->s->dir_fd, STAGING, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	r = x->staging < 0 ? -errno : copy_in(x);
	if (r == 0)
		r = record(x->s, x->name, true);
	if (r == 0)
		r = make_ours(x);
	tree_remove(x->s->dir_fd, STAGING);
	return r;
}

int mno_archive_attach(
	struct mno_store *s, const char *path, const struct mno_backup_opts *o, char ret_name[32])
{
	struct mno_backup_opts opts = {.sz = sizeof(opts)};
	struct attach x = {.s = s, .o = &opts, .path = path, .from = -1, .staging = -1};
	_cleanup_(mno_env_unref_p)
	struct mno_env *e = NULL;
	int r = 0;

	if (o)
		memcpy(&opts, o, MNO_MIN(o->sz, sizeof(opts)));
	if (pthread_mutex_trylock(&s->rotate_lock))
		return -EAGAIN;
	r = attach(&x);
	pthread_mutex_unlock(&s->rotate_lock);
	if (r == 0)
		r = mno_store_env(s, x.class, x.t0_ms, false, &e);
	if (r == 0)
		memcpy(ret_name, x.name, sizeof(x.name));
	if (x.own)
		mno_keys_close(x.keys);
	manifest_done(&x.m);
	mno_buf_done(&x.text);
	mno_close_p(&x.from);
	mno_close_p(&x.staging);
	return r;
}

int mno_archive_detach(struct mno_store *s, const char *name, bool forget)
{
	int64_t t0;
	enum mno_class c;
	int r = mno_env_parse(name, &c, &t0), f = -ENOENT;

	if (r < 0)
		return r;
	if (mno_store_attached(s, c, t0))
		r = mno_store_drop_one(s, c, t0);
	else
		r = faccessat(s->dir_fd, name, F_OK, 0) == 0 ? -EINVAL : -ENOENT;
	if (forget && (r == 0 || r == -ENOENT))
		f = record(s, name, false);
	return r == -ENOENT ? f : r;
}
