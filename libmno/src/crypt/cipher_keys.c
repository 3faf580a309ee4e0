/* SPDX-License-Identifier: Apache-2.0 */
/* The set of data keys and its file. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include "cipher_internal.h"
#include "mno/err.h"
#include "mno/log.h"

static const char key_name[] = "key", key_temp[] = "key.tmp";

/* --- memory --------------------------------------------------------------------------------- */
/* @key NULL: a new one */
static int dek_new(int suite, const uint8_t *key, struct dek **ret)
{
	const struct suite *u = suite_get(suite);
	struct dek *d;

	if (!u)
		return -EINVAL;
	if (!u->available()) {
		mno_err("this CPU has no instructions for AES-256-GCM, which the data key needs");
		return -EOPNOTSUPP;
	}
	d = guarded_new(sizeof(*d));
	if (!d)
		return -ENOMEM;
	if (key)
		memcpy(d->key, key, sizeof(d->key));
	else
		randombytes_buf(d->key, sizeof(d->key));
	d->suite = (uint8_t)suite;
	if (suite == MNO_SUITE_AES256GCM)
		crypto_aead_aes256gcm_beforenm(&d->aes, d->key);
	sodium_mprotect_readonly(d);
	*ret = d;
	return 0;
}

static void dek_free(struct dek *d)
{
	if (d)
		sodium_free(d);
}

static int slot_get(struct mno_cipher *c, uint8_t id, struct slot **ret)
{
	struct slot *s = c->slots[id];

	if (!s) {
		s = aligned_alloc(64, sizeof(*s));
		if (!s)
			return -ENOMEM;
		memset(s, 0, sizeof(*s));
		c->slots[id] = s;
	}
	*ret = s;
	return 0;
}

static int cipher_new(const uint8_t env_id[16], struct mno_cipher **ret)
{
	struct mno_cipher *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	memcpy(c->env_id, env_id, sizeof(c->env_id));
	r = nonce_pool_new(&c->nonces);
	if (r < 0) {
		mno_cipher_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct mno_cipher *mno_cipher_close(struct mno_cipher *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(c->slots); i++)
		if (c->slots[i]) {
			dek_free(c->slots[i]->dek);
			free(c->slots[i]);
		}
	nonce_pool_free(c->nonces);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

/* --- file ------------------------------------------------------------------------------------ */
/* How the set shall look on disk: it becomes so in memory once it is written. */
struct plan {
	uint8_t current, last, without; /* without: id to leave out, 0 = none */
	uint8_t id;                     /* of @add */
	const struct dek *add;
};

static int write_file(struct mno_cipher *c, int env_fd, const struct mno_keys *k,
	const struct plan *p, bool *ret_renamed)
{
	struct keyfile f = {.current = p->current, .last = p->last};
	_cleanup_free_ uint8_t *data = malloc(KEYFILE_MAX);
	size_t at;

	if (!data)
		return -ENOMEM;
	memcpy(f.env_id, c->env_id, sizeof(f.env_id));
	f.n = c->n + (p->add ? 1 : 0) - (p->without ? 1 : 0);
	at = keyfile_begin(data, k, &f);
	for (unsigned id = 1; id < ARRAY_SIZE(c->slots); id++) {
		const struct dek *d = c->slots[id] ? c->slots[id]->dek : NULL;

		if (p->add && id == p->id)
			d = p->add;
		if (d && id != p->without)
			at = keyfile_add(data, at, k, &f, (uint8_t)id, d->suite, d->key);
	}
	at = keyfile_end(data, at, k);
	return small_write(env_fd, key_name, data, at, ret_renamed);
}

/* Takes the place of @id, which nobody holds. */
static int adopt(struct mno_cipher *c, uint8_t id, struct dek *d)
{
	struct slot *s;
	int r = slot_get(c, id, &s);

	if (r < 0)
		return r;
	s->sealed = 0;
	s->dek = d;
	c->n++;
	return 0;
}

int mno_cipher_create(const struct mno_keys *k, int env_fd, const uint8_t env_id[16],
	enum mno_suite s, struct mno_cipher **ret)
{
	_cleanup_(mno_cipher_close_p)
	struct mno_cipher *c = NULL;
	bool renamed = false;
	struct dek *d;
	int r;

	if (faccessat(env_fd, key_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	r = cipher_new(env_id, &c);
	if (r < 0)
		return r;
	r = dek_new(s == MNO_SUITE_AUTO ? suite_auto() : s, NULL, &d);
	if (r < 0)
		return r;
	r = adopt(c, 1, d);
	if (r < 0) {
		dek_free(d);
		return r;
	}
	c->current = c->last = 1;
	memcpy(c->kek_id, mno_keys_id(k), sizeof(c->kek_id));
	r = write_file(c, env_fd, k, &(struct plan){.current = 1, .last = 1}, &renamed);
	if (r < 0) {
		if (renamed)
			unlinkat(env_fd, key_name, 0);
		return r;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

static int load_entry(const struct mno_keys *k, const struct keyfile *f,
	const struct keyfile_entry *e, struct mno_cipher *c)
{
	uint8_t key[DEK_BYTES];
	struct dek *d = NULL;
	int r = keyfile_unwrap(k, f, e, key);

	if (r == 0)
		r = dek_new(e->suite, key, &d);
	sodium_memzero(key, sizeof(key));
	if (r == 0)
		r = adopt(c, e->id, d);
	if (r < 0)
		dek_free(d);
	return r;
}

static int load(const struct mno_keys *k, const uint8_t *data, size_t n, struct mno_cipher *c)
{
	_cleanup_free_ struct keyfile *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	r = keyfile_parse(data, n, f);
	if (r < 0)
		return r;
	if (memcmp(f->kek_id, mno_keys_id(k), sizeof(f->kek_id)))
		return -ENOKEY;
	r = keyfile_verify(k, data, n);
	if (r < 0)
		return r;
	if (memcmp(f->env_id, c->env_id, sizeof(f->env_id))) {
		mno_err("the file of data keys belongs to another environment");
		return -MNO_ECORRUPT;
	}
	for (unsigned i = 0; r == 0 && i < f->n; i++)
		r = load_entry(k, f, &f->e[i], c);
	c->current = f->current;
	c->last = f->last;
	memcpy(c->kek_id, f->kek_id, sizeof(c->kek_id));
	return r;
}

int mno_cipher_open(
	const struct mno_keys *k, int env_fd, const uint8_t env_id[16], struct mno_cipher **ret)
{
	_cleanup_(mno_cipher_close_p)
	struct mno_cipher *c = NULL;
	_cleanup_free_ uint8_t *data = malloc(KEYFILE_MAX);
	size_t n;
	int r;

	if (!data)
		return -ENOMEM;
	/* wrapped: its rights are no matter of secrecy */
	r = small_read(env_fd, key_name, FILE_OPEN, data, KEYFILE_MAX, &n);
	if (r < 0)
		return r == -EFBIG || r == -EKEYREJECTED ? -MNO_ECORRUPT : r;
	r = cipher_new(env_id, &c);
	if (r == 0)
		r = load(k, data, n, c);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

/* --- changes ---------------------------------------------------------------------------------- */
int mno_cipher_rewrap(struct mno_cipher *c, int env_fd, const struct mno_keys *k)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = write_file(c, env_fd, k, &(struct plan){.current = c->current, .last = c->last}, NULL);
	if (r == 0)
		memcpy(c->kek_id, mno_keys_id(k), sizeof(c->kek_id));
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* A file under another KEK than the one that wraps it now would undo a rotation. */
static int check_kek(const struct mno_cipher *c, const struct mno_keys *k)
{
	return memcmp(c->kek_id, mno_keys_id(k), sizeof(c->kek_id)) ? -ENOKEY : 0;
}

static bool in_use(const struct mno_cipher *c, uint8_t id)
{
	return id == 0 || (c->slots[id] && c->slots[id]->dek);
}

static int add_locked(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t *ret_id)
{
	struct slot *s;
	struct dek *d;
	uint8_t id = c->last;
	int r = check_kek(c, k);

	if (r < 0)
		return r;
	if (c->n >= MNO_CIPHER_KEYS)
		return -ENOSPC;
	do
		id++;
	while (in_use(c, id));
	r = slot_get(c, id, &s); /* before the file: nothing may fail after it */
	if (r == 0)
		r = dek_new((int)mno_cipher_suite(c), NULL, &d);
	if (r < 0)
		return r;
	r = write_file(
		c, env_fd, k, &(struct plan){.current = id, .last = id, .id = id, .add = d}, NULL);
	if (r < 0) {
		dek_free(d);
		return r;
	}
	adopt(c, id, d);
	c->current = c->last = id;
	*ret_id = id;
	return 0;
}

int mno_cipher_add(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t *ret_id)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = add_locked(c, env_fd, k, ret_id);
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Users are counted for the microseconds of one value: waiting is short. */
static void retire(struct slot *s)
{
	struct dek *d = atomic_exchange(&s->dek, NULL);

	for (size_t i = 0; i < STRIPES; i++)
		while (s->users[i].n)
			sched_yield();
	dek_free(d);
}

static int drop_locked(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t id)
{
	struct plan p = {.current = c->current, .last = c->last, .without = id};
	int r = check_kek(c, k);

	if (r < 0)
		return r;
	if (!id || !in_use(c, id))
		return -ENOENT;
	if (id == c->current)
		return -EBUSY;
	r = write_file(c, env_fd, k, &p, NULL);
	if (r < 0)
		return r;
	retire(c->slots[id]);
	c->n--;
	return 0;
}

int mno_cipher_drop(struct mno_cipher *c, int env_fd, const struct mno_keys *k, uint8_t id)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = drop_locked(c, env_fd, k, id);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int mno_cipher_erase(int env_fd)
{
	int r = small_erase(env_fd, key_temp), r2 = small_erase(env_fd, key_name), r3;

	r3 = dir_sync(env_fd);
	if (r2 < 0)
		return r2;
	return r < 0 && r != -ENOENT ? r : r3;
}
