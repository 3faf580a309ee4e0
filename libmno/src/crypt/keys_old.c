/* SPDX-License-Identifier: Apache-2.0 */
/* Key-encryption keys that were replaced: kept as keys/kek.ID, because backups need them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "keys_internal.h"
#include "keys_old.h"
#include "mno/err.h"
#include "mno/log.h"

#define OLD_PREFIX "kek."
#define OLD_NAME   (sizeof(OLD_PREFIX) + 2 * MNO_KEY_ID_BYTES)

/* Of the digits of an id; "kek.next" and temporary files are none. */
static bool old_name_ok(const char *s)
{
	size_t n = strlen(OLD_PREFIX);

	return !strncmp(s, OLD_PREFIX, n) && strlen(s + n) == 2 * MNO_KEY_ID_BYTES &&
	       strspn(s + n, "0123456789abcdef") == 2 * MNO_KEY_ID_BYTES;
}

static void id_text(const uint8_t id[MNO_KEY_ID_BYTES], char ret[MNO_KEY_ID_TEXT])
{
	sodium_bin2hex(ret, MNO_KEY_ID_TEXT, id, MNO_KEY_ID_BYTES);
}

/* A file of 32 bytes that is closed to others. */
static int load_file(int dir_fd, const char *path, struct mno_keys **ret)
{
	struct mno_keys *k;
	size_t n = 0;
	int r = keys_new(MNO_KEY_FILE, "", &k);

	if (r < 0)
		return r;
	r = small_read(dir_fd, path, FILE_PRIVATE, k->kek, sizeof(k->kek), &n);
	if (r == -EFBIG || (r == 0 && n != sizeof(k->kek)))
		r = -EKEYREJECTED;
	if (r < 0) {
		mno_keys_close(k);
		return r;
	}
	keys_identify(k);
	*ret = k;
	return 0;
}

static int put_old(int keys_fd, const struct mno_keys *k)
{
	char name[OLD_NAME], id[MNO_KEY_ID_TEXT];

	id_text(k->id, id);
	snprintf(name, sizeof(name), OLD_PREFIX "%s", id);
	if (faccessat(keys_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return small_write(keys_fd, name, k->kek, sizeof(k->kek), NULL);
}

int mno_keys_keep(int state_fd)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int keys_fd = keys_dir(state_fd, false);
	struct record cur;
	int r;

	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "current", &cur);
	if (r < 0 || cur.source != MNO_KEY_FILE || *cur.name)
		return r; /* what is elsewhere is the operator's, and stays */
	r = load_file(keys_fd, "kek", &k);
	if (r == 0 && memcmp(k->id, cur.id, sizeof(k->id)) != 0)
		return 0;
	return r < 0 ? r : put_old(keys_fd, k);
}

int mno_keys_old_each(int state_fd, int (*fn)(void *arg, const char *id), void *arg)
{
	int fd = openat(state_fd, "keys", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		r = -errno;
		mno_close_p(&fd);
		return r == -ENOENT ? 0 : r;
	}
	while (r == 0 && (de = readdir(d)))
		if (old_name_ok(de->d_name))
			r = fn(arg, de->d_name + strlen(OLD_PREFIX));
	closedir(d);
	return r;
}

struct forget {
	int keys_fd;
	size_t n;
};

static int forget_one(void *arg, const char *id)
{
	struct forget *f = arg;
	char name[OLD_NAME];
	int r;

	snprintf(name, sizeof(name), OLD_PREFIX "%s", id);
	r = small_erase(f->keys_fd, name);
	f->n += r == 0;
	return r == -ENOENT ? 0 : r;
}

int mno_keys_forget_old(int state_fd, size_t *ret_n)
{
	_cleanup_close_ int keys_fd = keys_dir(state_fd, false);
	struct forget f = {.keys_fd = keys_fd};
	int r = keys_fd < 0 ? keys_fd : mno_keys_old_each(state_fd, forget_one, &f);

	if (r == 0 && f.n)
		r = dir_sync(keys_fd);
	*ret_n = f.n;
	return r;
}

int mno_keys_open_id(int state_fd, const char *id, struct mno_keys **ret)
{
	_cleanup_close_ int keys_fd = keys_dir(state_fd, false);
	char name[OLD_NAME], have[MNO_KEY_ID_TEXT];
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	struct record cur;
	int r = mno_crypt_init();

	if (r < 0 || keys_fd < 0)
		return r ?: keys_fd;
	r = record_read(keys_fd, "current", &cur);
	if (r < 0)
		return r;
	id_text(cur.id, have);
	if (!strcmp(id, have))
		return mno_keys_open_recorded(state_fd, ret);
	snprintf(name, sizeof(name), OLD_PREFIX "%s", id);
	r = old_name_ok(name) ? load_file(keys_fd, name, &k) : -ENOKEY;
	if (r < 0)
		return r == -ENOENT ? -ENOKEY : r;
	id_text(k->id, have);
	if (strcmp(id, have) != 0) {
		mno_err("keys/%s holds another key, %s: put a right copy there", name, have);
		return -ENOKEY;
	}
	*ret = TAKE_PTR(k);
	return 0;
}

int mno_keys_wanted_id(int state_fd, char ret[MNO_KEY_ID_TEXT])
{
	_cleanup_close_ int fd =
		openat(state_fd, "keys", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct record cur;
	int r = fd < 0 ? -errno : record_read(fd, "current", &cur);

	if (r == 0)
		id_text(cur.id, ret);
	return r;
}

/* --- a restored state directory --------------------------------------------------------------- */

/* *@ret: whether the file was the key @id, which is then keys/kek of @to_fd. */
static int take_if(
	int from_fd, const char *path, const char *id, int to_fd, char other[MNO_KEY_ID_TEXT])
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r = load_file(from_fd, path, &k);

	if (r < 0)
		return r;
	id_text(k->id, other);
	if (strcmp(other, id) != 0)
		return -ENOKEY;
	return small_write(to_fd, "kek", k->kek, sizeof(k->kek), NULL);
}

static int adopt_one(void *arg, const char *id)
{
	const int *fds = arg; /* keys of the old store, of the new one */
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	char name[OLD_NAME];
	int r;

	snprintf(name, sizeof(name), OLD_PREFIX "%s", id);
	r = load_file(fds[0], name, &k);
	return r < 0 ? 0 : put_old(fds[1], k); /* a bad one stays where it is */
}

int mno_keys_adopt(int to_state, int from_state, const char *id)
{
	_cleanup_close_ int from = keys_dir(from_state, false), to = keys_dir(to_state, false);
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	char other[MNO_KEY_ID_TEXT], name[OLD_NAME];
	int fds[] = {from, to}, r;

	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	snprintf(name, sizeof(name), OLD_PREFIX "%.16s", id);
	r = take_if(from, "kek", id, to, other);
	if (r == -ENOKEY || r == -ENOENT)
		r = take_if(from, name, id, to, other);
	if (r == -ENOENT)
		r = -ENOKEY;
	/* newer backups may want the newer key */
	if ((r == 0 || r == -ENOKEY) && load_file(from, "kek", &k) == 0) {
		id_text(k->id, other);
		if (strcmp(other, id) != 0)
			r = put_old(to, k) ?: r;
	}
	return mno_keys_old_each(from_state, adopt_one, fds) ?: r;
}

int mno_keys_place(int to_state, const char *path, const char *id, char ret_other[MNO_KEY_ID_TEXT])
{
	struct mno_keys_opts o = {.sz = sizeof(o)};
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int to = keys_dir(to_state, false);
	_cleanup_free_ char *whole = NULL;
	struct record cur;
	int r = to < 0 ? to : record_read(to, "current", &cur);

	*ret_other = '\0';
	if (r < 0)
		return r;
	if (cur.source == MNO_KEY_PASSPHRASE) {
		whole = realpath(path, NULL);
		if (!whole)
			return -errno;
		o.source = MNO_KEY_PASSPHRASE;
		o.name = whole;
	} else {
		r = take_if(AT_FDCWD, path, id, to, ret_other);
	}
	/* the record names where the key is from now on */
	return r < 0 ? r : mno_keys_open(to_state, &o, true, &k);
}
