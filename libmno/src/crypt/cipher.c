/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing and opening values. */
#include <errno.h>
#include "cipher_internal.h"
#include "mno/err.h"

#define SEALED_END (1ULL << 32) /* NIST SP 800-38D, 8.3: of random 96-bit nonces */

struct hold {
	const struct dek *dek;
	_Atomic uint32_t *users;
};

/* Threads' descriptors lie megabytes apart: the multiplication spreads them. */
static unsigned stripe(void)
{
	return (unsigned)(((uint64_t)pthread_self() >> 6) * 0x9e3779b97f4a7c15ULL >> 61) % STRIPES;
}

static bool hold_take(struct slot *s, struct hold *ret)
{
	_Atomic uint32_t *users = &s->users[stripe()].n;
	struct dek *d;

	/* sequentially consistent, as drop's exchange and look at the counter are */
	(*users)++;
	d = s->dek;
	if (!d) {
		(*users)--;
		return false;
	}
	*ret = (struct hold){d, users};
	return true;
}

static void hold_end(struct hold *h)
{
	atomic_fetch_sub_explicit(h->users, 1, memory_order_release);
}

/* The current DEK may be replaced and dropped between reading its id and holding it: again then. */
static struct slot *hold_current(struct mno_cipher *c, struct hold *ret, uint8_t *ret_id)
{
	struct slot *s;

	do {
		*ret_id = c->current;
		s = c->slots[*ret_id];
	} while (!hold_take(s, ret));
	return s;
}

int mno_cipher_seal(struct mno_cipher *c, const void *aad, size_t aad_len, const void *in, size_t n,
	void *out, struct mno_seal_tag *ret)
{
	struct mno_seal_tag t = {0};
	uint8_t none[1] = {0}; /* the library wants addresses also of nothing */
	const struct suite *u;
	struct hold h;
	struct slot *s = hold_current(c, &h, &t.key_id);
	int r = 0;

	t.suite = h.dek->suite;
	u = suite_get(t.suite);
	if (atomic_load_explicit(&s->sealed, memory_order_relaxed) >= SEALED_END)
		r = -EKEYEXPIRED;
	if (r == 0 && u->nonce)
		r = nonce_take(c->nonces, t.nonce, u->nonce);
	if (r == 0) {
		u->seal(h.dek, &t, aad, aad_len, n ? in : none, n, n ? out : none);
		atomic_fetch_add_explicit(&s->sealed, 1, memory_order_relaxed);
		*ret = t;
	}
	hold_end(&h);
	return r;
}

int mno_cipher_open_value(struct mno_cipher *c, const struct mno_seal_tag *t, const void *aad,
	size_t aad_len, const void *in, size_t n, void *out)
{
	struct slot *s = c->slots[t->key_id];
	uint8_t none[1] = {0};
	struct hold h;
	int r;

	if (!s || !hold_take(s, &h))
		return -ENOKEY;
	/* a DEK has one suite: a tag cannot choose a weaker one for it */
	if (t->suite != h.dek->suite)
		r = -MNO_ECORRUPT;
	else
		r = suite_get(t->suite)->open(
			    h.dek, t, aad, aad_len, n ? in : none, n, n ? out : none)
			    ? -MNO_ECORRUPT
			    : 0;
	hold_end(&h);
	return r;
}

unsigned mno_cipher_count(struct mno_cipher *c)
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	n = c->n;
	pthread_mutex_unlock(&c->lock);
	return n;
}

uint8_t mno_cipher_current(const struct mno_cipher *c)
{
	return c->current;
}

enum mno_suite mno_cipher_suite(const struct mno_cipher *c)
{
	struct hold h;
	uint8_t id;
	enum mno_suite s;

	hold_current((struct mno_cipher *)c, &h, &id);
	s = h.dek->suite;
	hold_end(&h);
	return s;
}

uint64_t mno_cipher_sealed(const struct mno_cipher *c)
{
	struct slot *s = c->slots[mno_cipher_current(c)];

	return atomic_load_explicit(&s->sealed, memory_order_relaxed);
}

void mno_cipher_counted(struct mno_cipher *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->slots[c->current]->sealed, n, memory_order_relaxed);
}
