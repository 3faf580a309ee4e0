/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "mno/map.h"

/* Linear probing with backward-shift deletion: no tombstones, so churn does not degrade it. */
struct slot {
	char *key; /* owned; NULL = empty */
	void *value;
	uint64_t hash;
	uint32_t len;
};

struct mno_map {
	struct slot *slots;
	size_t cap, count, max, key_bytes;
	uint8_t seed[16];
};

#define ROTL(x, b) (uint64_t)(((x) << (b)) | ((x) >> (64 - (b))))
struct sip {
	uint64_t a, b, c, d;
};

/* By value: an array in memory is loaded and stored at every step. */
static inline struct sip sip_round(struct sip v)
{
	v.a += v.b;
	v.b = ROTL(v.b, 13) ^ v.a;
	v.a = ROTL(v.a, 32);
	v.c += v.d;
	v.d = ROTL(v.d, 16) ^ v.c;
	v.a += v.d;
	v.d = ROTL(v.d, 21) ^ v.a;
	v.c += v.b;
	v.b = ROTL(v.b, 17) ^ v.c;
	v.c = ROTL(v.c, 32);
	return v;
}

/* The last bytes, fewer than 8, as a little-endian number. */
static inline uint64_t sip_tail(const uint8_t *b, size_t left)
{
	uint64_t m = 0;

	for (size_t i = 0; i < left; i++)
		m |= (uint64_t)b[i] << (8 * i);
	return m;
}

uint64_t mno_siphash(const uint8_t key[16], const void *p, size_t len)
{
	const uint8_t *b = p;
	uint64_t k0, k1, m, tail = (uint64_t)len << 56;
	size_t left = len;

	memcpy(&k0, key, 8);
	memcpy(&k1, key + 8, 8);
	struct sip v = {k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL,
		k0 ^ 0x6c7967656e657261ULL, k1 ^ 0x7465646279746573ULL};
	for (; left >= 8; left -= 8, b += 8) {
		memcpy(&m, b, 8);
		v.d ^= m;
		v = sip_round(v);
		v.a ^= m;
	}
	if (left && len >= 8) { /* the last whole word, of which only the end is new */
		memcpy(&m, b + left - 8, 8);
		tail |= m >> (64 - 8 * left);
	} else {
		tail |= sip_tail(b, left);
	}
	v.d ^= tail;
	v = sip_round(v);
	v.a ^= tail;
	v.c ^= 0xff;
	for (int i = 0; i < 3; i++)
		v = sip_round(v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

int mno_map_new(size_t max_entries, struct mno_map **ret)
{
	struct mno_map *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->max = max_entries ?: 16u << 20;
	if (getrandom(m->seed, sizeof(m->seed), GRND_NONBLOCK) < 0)
		memcpy(m->seed, &(void *){m}, sizeof(void *));
	*ret = m;
	return 0;
}

struct mno_map *mno_map_free(struct mno_map *m, void (*destroy)(void *value))
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->cap; i++) {
		if (!m->slots[i].key)
			continue;
		free(m->slots[i].key);
		if (destroy)
			destroy(m->slots[i].value);
	}
	free(m->slots);
	free(m);
	return NULL;
}

static struct slot *find(const struct mno_map *m, const void *key, size_t len, uint64_t hash)
{
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct slot *s = &m->slots[i];

		if (!s->key || (s->hash == hash && s->len == len && !memcmp(s->key, key, len)))
			return s;
	}
}

static int grow(struct mno_map *m)
{
	struct mno_map bigger = {.cap = m->cap ? m->cap * 2 : 16};

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].key)
			*find(&bigger, m->slots[i].key, m->slots[i].len, m->slots[i].hash) =
				m->slots[i];
	free(m->slots);
	m->slots = bigger.slots;
	m->cap = bigger.cap;
	return 0;
}

void *mno_map_get(const struct mno_map *m, const void *key, size_t len)
{
	struct slot *s;

	if (!m->count)
		return NULL;
	s = find(m, key, len, mno_siphash(m->seed, key, len));
	return s->key ? s->value : NULL;
}

int mno_map_put(struct mno_map *m, const void *key, size_t len, void *value, void **ret_old)
{
	uint64_t hash = mno_siphash(m->seed, key, len);
	struct slot *s;
	int r;

	if (len > UINT32_MAX)
		return -EINVAL;
	s = m->cap ? find(m, key, len, hash) : NULL;
	if (s && s->key) {
		if (ret_old)
			*ret_old = s->value;
		s->value = value;
		return 0;
	}
	if (m->count >= m->max)
		return -ENOSPC;
	if (m->count + 1 > m->cap - m->cap / 4) {
		r = grow(m);
		if (r < 0)
			return r;
		s = find(m, key, len, hash);
	}
	s->key = malloc(len ?: 1);
	if (!s->key)
		return -ENOMEM;
	memcpy(s->key, key, len);
	s->len = (uint32_t)len;
	s->hash = hash;
	s->value = value;
	m->count++;
	m->key_bytes += len;
	if (ret_old)
		*ret_old = NULL;
	return 0;
}

void *mno_map_remove(struct mno_map *m, const void *key, size_t len)
{
	struct slot *s = m->count ? find(m, key, len, mno_siphash(m->seed, key, len)) : NULL;
	size_t hole, i;
	void *value;

	if (!s || !s->key)
		return NULL;
	value = s->value;
	free(s->key);
	m->count--;
	m->key_bytes -= len;
	hole = (size_t)(s - m->slots);
	for (i = (hole + 1) & (m->cap - 1); m->slots[i].key; i = (i + 1) & (m->cap - 1)) {
		size_t home = m->slots[i].hash & (m->cap - 1);

		/* stays when its home lies cyclically in (hole, i] */
		if (((i - home) & (m->cap - 1)) < ((i - hole) & (m->cap - 1)))
			continue;
		m->slots[hole] = m->slots[i];
		hole = i;
	}
	m->slots[hole] = (struct slot){0};
	return value;
}

size_t mno_map_count(const struct mno_map *m)
{
	return m->count;
}

bool mno_map_next(const struct mno_map *m, size_t *pos, const void **ret_key, size_t *ret_len,
	void **ret_value)
{
	/*
	 * Backwards from an empty slot (kept in the upper half of *pos): a removal shifts entries
	 * only up to the next empty slot, so it moves none that is still to be visited.
	 */
	size_t base = *pos >> 32, done = *pos & UINT32_MAX;

	if (!m->count)
		return false;
	while (!done && m->slots[base].key)
		base++;
	while (++done < m->cap) {
		const struct slot *s = &m->slots[(base - done) & (m->cap - 1)];

		if (!s->key)
			continue;
		*pos = base << 32 | done;
		if (ret_key)
			*ret_key = s->key;
		if (ret_len)
			*ret_len = s->len;
		if (ret_value)
			*ret_value = s->value;
		return true;
	}
	return false;
}

size_t mno_map_bytes(const struct mno_map *m)
{
	return sizeof(*m) + m->cap * sizeof(struct slot) + m->key_bytes + m->count * 16;
}
