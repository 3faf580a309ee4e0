/* SPDX-License-Identifier: Apache-2.0 */
#include "hub.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

/*
 * One ring of bytes per subscriber, filled with {u32 length, u32 lost before, record}. A record
 * that does not fit is dropped whole and added to the count that the next one carries.
 */
struct entry {
	uint32_t len;
	uint32_t lost;
};

struct mno_sub {
	struct mno_hub *hub;
	uint16_t *kinds;
	size_t n_kinds;
	void (*wake)(void *arg);
	void *arg;
	uint8_t *ring; /* MNO_SUB_BYTES */
	size_t head, used;
	uint64_t lost;
};

struct mno_hub {
	pthread_mutex_t lock;
	struct mno_sub *subs[MNO_SUBS_MAX];
	size_t n;
};

int mno_hub_new(struct mno_hub **ret)
{
	struct mno_hub *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	*ret = h;
	return 0;
}

struct mno_hub *mno_hub_free(struct mno_hub *h)
{
	if (!h)
		return NULL;
	while (h->n)
		mno_hub_unsubscribe(h->subs[h->n - 1]);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}

static bool wants(const struct mno_sub *s, uint16_t kind)
{
	if (s->n_kinds == 0)
		return true;
	for (size_t i = 0; i < s->n_kinds; i++)
		if (s->kinds[i] == kind)
			return true;
	return false;
}

static void ring_write(struct mno_sub *s, const void *p, size_t n)
{
	size_t at = (s->head + s->used) % MNO_SUB_BYTES;
	size_t first = MNO_MIN(n, MNO_SUB_BYTES - at);

	memcpy(s->ring + at, p, first);
	memcpy(s->ring, (const uint8_t *)p + first, n - first);
	s->used += n;
}

/* An empty ring begins anew: a subscriber that keeps up touches few pages of it. */
static void skip_bytes(struct mno_sub *s, size_t n)
{
	s->used -= n;
	s->head = s->used ? (s->head + n) % MNO_SUB_BYTES : 0;
}

static void ring_read(struct mno_sub *s, void *p, size_t n)
{
	size_t first = MNO_MIN(n, MNO_SUB_BYTES - s->head);

	memcpy(p, s->ring + s->head, first);
	memcpy((uint8_t *)p + first, s->ring, n - first);
	skip_bytes(s, n);
}

static void deliver(struct mno_sub *s, const void *rec, size_t len)
{
	struct entry e = {.len = (uint32_t)len, .lost = (uint32_t)MNO_MIN(s->lost, UINT32_MAX)};
	bool was_empty = s->used == 0;

	if (len > MNO_SUB_BYTES - sizeof(e) || s->used + sizeof(e) + len > MNO_SUB_BYTES) {
		s->lost++;
		return;
	}
	s->lost -= e.lost;
	ring_write(s, &e, sizeof(e));
	ring_write(s, rec, len);
	if (was_empty && s->wake)
		s->wake(s->arg);
}

void mno_hub_publish(struct mno_hub *h, const void *rec, size_t len)
{
	uint16_t kind;

	if (!h || len < sizeof(struct mno_hdr))
		return;
	kind = ((const struct mno_hdr *)rec)->kind;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n; i++)
		if (wants(h->subs[i], kind))
			deliver(h->subs[i], rec, len);
	pthread_mutex_unlock(&h->lock);
}

static struct mno_sub *sub_free(struct mno_sub *s)
{
	free(s->kinds);
	if (s->ring)
		munmap(s->ring, MNO_SUB_BYTES);
	free(s);
	return NULL;
}

/* Mapped, so that all of it goes back to the system with the subscriber. */
static uint8_t *map_ring(void)
{
	void *p = mmap(
		NULL, MNO_SUB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int mno_hub_subscribe(struct mno_hub *h, const uint16_t *kinds, size_t n, void (*wake)(void *arg),
	void *arg, struct mno_sub **ret)
{
	struct mno_sub *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	*s = (struct mno_sub){.hub = h, .n_kinds = n, .wake = wake, .arg = arg};
	s->ring = map_ring();
	s->kinds = n ? malloc(n * sizeof(*kinds)) : NULL;
	if (!s->ring || (n && !s->kinds)) {
		sub_free(s);
		return -ENOMEM;
	}
	if (n)
		memcpy(s->kinds, kinds, n * sizeof(*kinds));
	pthread_mutex_lock(&h->lock);
	if (h->n == MNO_SUBS_MAX)
		r = -EMFILE;
	else
		h->subs[h->n++] = s;
	pthread_mutex_unlock(&h->lock);
	if (r < 0)
		sub_free(s);
	else
		*ret = s;
	return r;
}

struct mno_sub *mno_hub_unsubscribe(struct mno_sub *s)
{
	struct mno_hub *h;

	if (!s)
		return NULL;
	h = s->hub;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n; i++)
		if (h->subs[i] == s) {
			h->subs[i] = h->subs[--h->n];
			break;
		}
	pthread_mutex_unlock(&h->lock);
	return sub_free(s);
}

int mno_hub_next(struct mno_sub *s, struct mno_buf *buf, uint64_t *ret_lost)
{
	struct entry e;
	char *p;
	int r = 0;

	mno_buf_reset(buf);
	pthread_mutex_lock(&s->hub->lock);
	if (s->used == 0) {
		*ret_lost = s->lost;
		s->lost = 0;
		r = -EAGAIN;
	} else {
		ring_read(s, &e, sizeof(e));
		p = mno_buf_reserve(buf, e.len);
		if (p) {
			ring_read(s, p, e.len);
			mno_buf_commit(buf, e.len);
			*ret_lost = e.lost;
		} else { /* out of memory: the record is lost, and said to be with the next one */
			skip_bytes(s, e.len);
			s->lost += 1 + (uint64_t)e.lost;
			r = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&s->hub->lock);
	return r;
}
