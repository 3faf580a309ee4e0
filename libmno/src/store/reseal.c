/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data key of main, which lives as long as the store, is changed in steps: a new one seals what
 * is written from now on; older values are opened and sealed again, some in each transaction, from
 * the place kept in META; when all are done and on disk, the old key is dropped. Values that are
 * damaged stay behind: they could not be read before either.
 */
#include <errno.h>
#include "../crypt/crypt.h"
#include "mno/err.h"
#include "mno/log.h"
#include "mno/store_keys.h"
#include "mno/time.h"
#include "rotate.h"

#define PLACE_KEY      "reseal"
#define KEY_ID_AT      7 /* of a sealed value, as its magic, version and kind */
#define VERSION_AT     2
#define KIND_AT        3
#define STEP_VALUES    4096
#define READER_TICK_NS (20 * NS_PER_MS) /* the clock that readers are timed by may be so late */

/* In META, followed by the key that was done last. */
struct place {
	uint8_t db, any, pad[6];
	uint64_t done;
};

static int add_key(struct mno_store *s, struct mno_env *e)
{
	uint8_t id;
	int r;

	pthread_mutex_lock(&s->lock); /* a change of the KEK may swap keys */
	r = mno_cipher_add(e->cipher, e->dir_fd, s->next_keys ?: s->keys, &id);
	if (r == -ENOKEY && s->next_keys)
		r = mno_cipher_add(e->cipher, e->dir_fd, s->keys, &id);
	pthread_mutex_unlock(&s->lock);
	return r;
}

struct rotation {
	struct mno_store *s;
	const char *env;
	size_t n;
};

static int rotate_env(void *arg, struct mno_env *e, const char *name, int err)
{
	struct rotation *q = arg;
	bool main_env, docs;
	int r;

	if (err || !e->cipher || (q->env ? strcmp(q->env, name) != 0 : e->commits == 0))
		return 0;
	main_env = e == q->s->main;
	docs = e->class == MNO_CLASS_DOCS;
	if (main_env && q->s->reseal.from)
		return -EBUSY;
	if (docs && q->s->reseal_docs.from) /* of several, only it waits for its turn */
		return q->env ? -EBUSY : 0;
	r = add_key(q->s, e);
	if (r < 0)
		return r;
	q->n++;
	if (main_env)
		q->s->reseal.from = true;
	if (docs)
		q->s->reseal_docs.from = true;
	return 0;
}

int mno_store_rotate_data(struct mno_store *s, const char *env, size_t *ret_n)
{
	struct rotation q = {.s = s, .env = env};
	int r;

	if (!s->keys)
		return -ENOTSUP;
	if (pthread_mutex_trylock(&s->rotate_lock))
		return -EBUSY;
	r = mno_store_each(s, rotate_env, &q);
	pthread_mutex_unlock(&s->rotate_lock);
	if (r == 0 && q.n == 0 && env)
		r = -ENOENT;
	if (r == 0)
		*ret_n = q.n;
	return r;
}

/* --- steps ------------------------------------------------------------------------------------ */

struct step {
	struct mno_store *s;
	struct mno_txn *t;
	struct place at;
	struct mno_buf key, val, raw;
	size_t bytes, left;
	uint8_t now; /* id of the newest data key */
};

/* The value in q->val, if it is one that an older key sealed. */
static int reseal_value(struct step *q)
{
	const uint8_t *v = (const uint8_t *)q->val.data;
	struct mno_seal info;
	int r;

	if (q->val.len <= KEY_ID_AT || v[0] != 'S' || v[1] != 'm' || v[VERSION_AT] != 2 ||
		v[KEY_ID_AT] == q->now)
		return 0;
	r = mno_seal_open(q->s->main, q->at.db, NULL, q->key.data, q->key.len, v, q->val.len,
		v[KIND_AT], &info, &q->raw);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	q->bytes += q->val.len;
	q->at.done++;
	return mno_seal_put(
		q->t, q->at.db, q->key.data, q->key.len, &info, q->raw.data, q->raw.len, NULL);
}

/* Copies the pair behind q->key: a put moves pages. -ENOENT: that was the last. */
static int next_pair(struct step *q)
{
	int r = q->at.any ? mno_read_fetch(q->s->main, q->t->t, q->at.db, MNO_SEEK_GT, q->key.data,
				    q->key.len, &q->key, &q->val)
			  : mno_read_fetch(q->s->main, q->t->t, q->at.db, MNO_SEEK_GE, "", 1,
				    &q->key, &q->val);

	if (r == 0)
		q->at.any = 1;
	return r;
}

/* 1: all databases are done. */
static int run_step(struct step *q)
{
	for (size_t i = 0; i < STEP_VALUES && q->bytes < q->left; i++) {
		int r = mno_db_in(q->at.db, MNO_CLASS_MAIN) ? next_pair(q) : -ENOENT;

		if (r == 0)
			r = reseal_value(q);
		else if (r == -ENOENT) {
			q->at.any = 0;
			mno_buf_reset(&q->key);
			if (++q->at.db == MNO_DB_MAX)
				return 1;
			r = 0;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_place(struct step *q)
{
	const void *p;
	size_t n;
	int r = mno_txn_get(q->t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY), &p, &n);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (n < sizeof(q->at))
		return 0; /* from the begin: what is done is only looked at */
	memcpy(&q->at, p, sizeof(q->at));
	mno_buf_add(&q->key, (const char *)p + sizeof(q->at), n - sizeof(q->at));
	if (q->at.db >= MNO_DB_MAX)
		q->at = (struct place){0};
	return q->key.err;
}

static int save_place(struct step *q)
{
	mno_buf_reset(&q->val);
	mno_buf_add(&q->val, &q->at, sizeof(q->at));
	mno_buf_add(&q->val, q->key.data, q->key.len);
	return q->val.err
		       ?: mno_txn_put(q->t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY), q->val.data,
				  q->val.len);
}

static uint64_t count_values(struct mno_txn *t)
{
	uint64_t n = 0;
	MDB_stat st;

	for (unsigned i = 0; i < MNO_DB_MAX; i++)
		if (mno_db_in(i, MNO_CLASS_MAIN) && mdb_stat(t->t, t->e->dbi[i], &st) == 0)
			n += st.ms_entries;
	return n;
}

int mno_store_reseal(struct mno_store *s, struct mno_txn *t, size_t bytes)
{
	struct step q = {.s = s, .t = t, .left = bytes};
	uint64_t all;
	int r;

	if (!s->reseal.from || s->reseal.ending || s->reseal.at_end || !s->main->cipher)
		return 0;
	q.now = mno_cipher_current(s->main->cipher);
	r = load_place(&q);
	if (r == 0)
		r = run_step(&q);
	if (r >= 0) {
		s->reseal.ending = r == 1;
		all = count_values(t);
		s->reseal.done = q.at.done;
		s->reseal.left = r == 1 || all < q.at.done ? 0 : all - q.at.done;
		r = r == 1 ? mno_txn_del(t, MNO_DB_META, PLACE_KEY, strlen(PLACE_KEY))
			   : save_place(&q);
	}
	mno_buf_done(&q.key);
	mno_buf_done(&q.val);
	mno_buf_done(&q.raw);
	return r == -ENOENT ? 0 : r;
}

bool mno_env_still_read(struct mno_env *e, uint64_t end_ns)
{
	uint64_t past = mno_now_ns(CLOCK_MONOTONIC) - end_ns;
	uint64_t oldest = mno_env_oldest_reader_ns(e);

	return past < e->store->reseal.grace_ns || (oldest && oldest + READER_TICK_NS >= past);
}

int mno_env_drop_old_keys(struct mno_env *e)
{
	struct mno_store *s = e->store;
	struct mno_cipher *c = e->cipher;
	int r = mno_lmdb_error(mdb_env_sync(e->env, 1)); /* no old value comes back */

	pthread_mutex_lock(&s->lock);
	for (unsigned id = 1; id < 256 && r == 0; id++) {
		if (id == mno_cipher_current(c))
			continue;
		r = mno_cipher_drop(c, e->dir_fd, s->keys, (uint8_t)id);
		if (r == -ENOKEY && s->next_keys)
			r = mno_cipher_drop(c, e->dir_fd, s->next_keys, (uint8_t)id);
		if (r == -ENOENT)
			r = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Random nonces bear a bounded number of values under one key. */
static bool any_used_up(struct mno_store *s, char name[32])
{
	pthread_mutex_lock(&s->lock);
	for (struct mno_env *e = s->envs; e; e = e->next)
		if (e->key_used_up && !e->gone && !(e == s->main && s->reseal.from) &&
			!(e->class == MNO_CLASS_DOCS && s->reseal_docs.from)) {
			memcpy(name, e->name, sizeof(e->name));
			e->key_used_up = false;
			break;
		}
	pthread_mutex_unlock(&s->lock);
	return *name;
}

int mno_store_resealed(struct mno_store *s)
{
	struct mno_cipher *c = s->main->cipher;
	char name[32] = "";
	size_t n;
	int r;

	if (!c)
		return 0;
	if (any_used_up(s, name) && mno_store_rotate_data(s, name, &n) == 0)
		mno_info("store: the data key of %s has sealed 2^31 values: a new one seals on",
			name);
	if (!s->reseal.at_end || mno_env_still_read(s->main, s->reseal.end_ns))
		return 0;
	r = mno_env_drop_old_keys(s->main);
	if (r < 0)
		return r;
	mno_info("store: %llu values of main were sealed with the new data key; the old one is "
		 "gone",
		(unsigned long long)s->reseal.done);
	s->reseal.at_end = false;
	s->reseal.from = false;
	return 0;
}
