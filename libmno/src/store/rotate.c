/* SPDX-License-Identifier: Apache-2.0 */
/* The key-encryption key: replaced, every environment wrapped anew, committed. */
#include "rotate.h"
#include <errno.h>
#include <stdio.h>
#include "../crypt/keys_old.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_keys.h"

int mno_store_keys_resume(struct mno_store *s)
{
	int r;

	if (!s->keys)
		return 0;
	r = mno_keys_open_next(s->dir_fd, &s->next_keys);
	if (r == -ENOENT)
		return 0;
	if (r == -ENOKEY || r == -EKEYREJECTED || r == -MNO_ECORRUPT) {
		mno_warn("store: a change of its key was cut off and cannot go on: %s",
			mno_strerror(r));
		return 0;
	}
	if (r == 0)
		mno_info("store: a change of its key was cut off: it goes on");
	return r;
}

static int wrap_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct mno_store *s = arg;
	int r;

	if (err < 0) {
		mno_err("store: %s cannot be opened (%s): its data key stays under the old key, "
			"which stays valid",
			name, mno_strerror(err));
		return err;
	}
	if (!e->cipher)
		return 0;
	r = mno_cipher_rewrap(e->cipher, e->dir_fd, s->next_keys);
	if (r < 0)
		mno_err("store: the data key of %s cannot be wrapped anew: %s", name,
			mno_strerror(r));
	return r;
}

static void swap_keys(struct mno_store *s)
{
	struct mno_keys *old;

	pthread_mutex_lock(&s->lock);
	old = s->keys;
	s->keys = TAKE_PTR(s->next_keys);
	pthread_mutex_unlock(&s->lock);
	mno_keys_close(old);
}

/* Environments that are made meanwhile use the next key already (write_identity). */
int mno_store_keys_finish(struct mno_store *s)
{
	int r;

	if (!s->next_keys || s->opts.read_only)
		return 0;
	r = mno_store_each(s, wrap_env, s);
	if (r == 0)
		r = mno_keys_keep(s->dir_fd);
	if (r == 0)
		r = mno_keys_commit(s->dir_fd, s->next_keys);
	if (r == 0) {
		swap_keys(s);
		mno_info("store: the key was changed");
	}
	return r;
}

int mno_store_rotate_kek(struct mno_store *s, const struct mno_keys_opts *next)
{
	struct mno_keys *k = NULL;
	int r;

	if (!s->keys)
		return -ENOTSUP;
	if (pthread_mutex_trylock(&s->rotate_lock))
		return -EBUSY;
	if (s->next_keys) { /* of an earlier try, which could not end */
		r = mno_store_keys_finish(s);
		pthread_mutex_unlock(&s->rotate_lock);
		return r;
	}
	r = mno_keys_replace(s->dir_fd, next, &k);
	if (r == 0) {
		pthread_mutex_lock(&s->lock);
		s->next_keys = k;
		pthread_mutex_unlock(&s->lock);
		r = mno_store_keys_finish(s);
	}
	pthread_mutex_unlock(&s->rotate_lock);
	return r;
}

static int add_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct mno_store_keys_stat *st = arg;

	if (e && e->cipher) {
		st->environments++;
		st->sealed += mno_cipher_sealed(e->cipher);
	}
	return 0;
}

int mno_store_keys_stat(struct mno_store *s, struct mno_store_keys_stat *ret)
{
	struct mno_store_keys_stat st = {.encrypted = s->keys != NULL};
	int r = mno_store_each(s, add_env, &st);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	st.changing = s->next_keys != NULL;
	for (unsigned i = 0; s->keys && i < MNO_KEY_ID_BYTES; i++)
		snprintf(st.kek_id + 2 * i, 3, "%02x", mno_keys_id(s->keys)[i]);
	pthread_mutex_unlock(&s->lock);
	st.resealing = s->reseal.from || s->reseal_docs.from;
	st.resealed = s->reseal.done + s->reseal_docs.done;
	st.reseal_left = s->reseal.left + s->reseal_docs.left;
	*ret = st;
	return 0;
}

int mno_store_old_keys(struct mno_store *s, int (*fn)(void *arg, const char *kek_id), void *arg)
{
	return s->keys ? mno_keys_old_each(s->dir_fd, fn, arg) : 0;
}

int mno_store_forget_keys(struct mno_store *s, size_t *ret_n)
{
	int r;

	if (!s->keys)
		return -ENOTSUP;
	if (pthread_mutex_trylock(&s->rotate_lock))
		return -EBUSY;
	/* a change that is pending needs none of them: its old key is keys/kek */
	r = mno_keys_forget_old(s->dir_fd, ret_n);
	pthread_mutex_unlock(&s->rotate_lock);
	if (r == 0 && *ret_n)
		mno_info("store: %zu old keys were destroyed", *ret_n);
	return r;
}
