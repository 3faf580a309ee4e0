/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation of the key-encryption key: replace, open_next, commit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "keys_internal.h"
#include "mno/err.h"
#include "mno/log.h"

/* A path of the operator's own may hold the next key already; our own files are made anew. */
static int next_key(
	int keys_fd, const struct record *want, const struct record *cur, struct mno_keys **ret)
{
	const struct key_source *s = key_source(want->source);
	bool ours = s->file && !(want->source == MNO_KEY_FILE && *want->name);
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	int r = ours ? -ENOENT : keys_load(keys_fd, want, ".next", &k);

	if (r == -ENOENT)
		r = keys_make(keys_fd, want, ".next", &k);
	if (r == -ENOKEY)
		mno_err("there is no key yet at source %s, %s", s->name, want->name);
	if (r < 0)
		return r;
	if (!memcmp(k->id, cur->id, sizeof(k->id))) {
		mno_err("the next key is the one in use: make another");
		return -EEXIST;
	}
	*ret = TAKE_PTR(k);
	return 0;
}

int mno_keys_replace(int state_fd, const struct mno_keys_opts *next, struct mno_keys **ret_new)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int keys_fd = -1;
	struct record cur, want, rec;
	int r = keys_wanted(next, &want);

	if (r < 0)
		return r;
	keys_fd = keys_dir(state_fd, false);
	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "next", &rec);
	if (r != -ENOENT)
		return r < 0 ? r : -EBUSY;
	r = record_read(keys_fd, "current", &cur);
	if (r == 0)
		r = keys_settle(keys_fd, &cur);
	if (r == 0)
		r = next_key(keys_fd, &want, &cur, &k);
	if (r < 0)
		return r;
	record_of(k, &rec);
	r = record_write(keys_fd, "next", &rec);
	if (r < 0)
		return r;
	*ret_new = TAKE_PTR(k);
	return 0;
}

int mno_keys_open_next(int state_fd, struct mno_keys **ret)
{
	_cleanup_(mno_keys_close_p)
	struct mno_keys *k = NULL;
	_cleanup_close_ int keys_fd = -1;
	char text[KEY_NAME_MAX + 80];
	struct record next;
	int r = mno_crypt_init();

	if (r < 0)
		return r;
	keys_fd = keys_dir(state_fd, false);
	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "next", &next);
	if (r < 0)
		return r;
	r = keys_load(keys_fd, &next, ".next", &k);
	if (r == -ENOENT || (r == 0 && memcmp(k->id, next.id, sizeof(k->id))))
		r = -ENOKEY;
	if (r == -ENOKEY)
		mno_err("the change of keys under way wants the key %s",
			keys_text(&next, text, sizeof(text)));
	if (r < 0)
		return r;
	*ret = TAKE_PTR(k);
	return 0;
}

/* The old source's own file, when the new one does not take its place. */
static void remove_old(int keys_fd, const struct record *old, const struct record *new)
{
	const char *file = key_source(old->source)->file;
	bool kept = old->source == new->source && !*new->name == !*old->name;
	int r;

	/* a path outside is the operator's */
	if (!file || kept || (old->source == MNO_KEY_FILE && *old->name))
		return;
	r = small_erase(keys_fd, file);
	if (r < 0 && r != -ENOENT)
		mno_warn("keys/%s, which is no longer in use, cannot be removed: %s", file,
			mno_strerror(r));
}

int mno_keys_commit(int state_fd, struct mno_keys *new)
{
	_cleanup_close_ int keys_fd = keys_dir(state_fd, false);
	struct record cur, next;
	int r;

	if (keys_fd < 0)
		return keys_fd;
	r = record_read(keys_fd, "next", &next);
	if (r == -ENOENT || (r == 0 && memcmp(next.id, new->id, sizeof(next.id))))
		return -EINVAL;
	if (r == 0)
		r = record_read(keys_fd, "current", &cur);
	if (r < 0)
		return r;
	if (renameat(keys_fd, "next", keys_fd, "current") < 0)
		return -errno;
	/* from here on the new key is the store's; what is left, the next start does again */
	r = dir_sync(keys_fd);
	if (r == 0)
		r = keys_settle(keys_fd, &next);
	if (r < 0)
		mno_warn("the new key is current, but its folder is not in order yet: %s",
			mno_strerror(r));
	else
		remove_old(keys_fd, &cur, &next);
	return 0;
}
