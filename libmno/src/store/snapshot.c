/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "mno/err.h"
#include "mno/time.h"

#define TRIES 64
/* Of a head page of LMDB 0.9, 64 bits: see check.c */
#define AT_MAGIC  16
#define AT_PAGE   40
#define AT_LAST   136
#define AT_TXN    144
#define HEAD_SIZE 152
#define MAGIC     0xBEEFC0DEu

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int read_at(int fd, uint64_t at, uint8_t *p, size_t n)
{
	while (n) {
		ssize_t got = pread(fd, p, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0) { /* pages that the last transaction freed again are not written */
			memset(p, 0, n);
			return 0;
		}
		p += got;
		at += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

/* The head of our transaction, unless two commits came since. Read twice: no torn one. */
static int find_head(struct mno_snapshot *s)
{
	uint8_t again[HEAD_SIZE];
	int r;

	for (uint64_t i = 0; i < 2; i++) {
		r = read_at(s->fd, i * s->page, s->head, s->page);
		if (r == 0)
			r = read_at(s->fd, i * s->page, again, sizeof(again));
		if (r < 0)
			return r;
		if (get64(s->head + AT_TXN) != s->txn || get32(s->head + AT_MAGIC) != MAGIC ||
			memcmp(s->head, again, sizeof(again)) != 0)
			continue;
		s->bytes = (get64(s->head + AT_LAST) + 1) * s->page;
		return get32(s->head + AT_PAGE) == s->page ? 0 : -MNO_ECORRUPT;
	}
	return -EAGAIN;
}

static int pin(struct mno_snapshot *s)
{
	int r;

	pthread_rwlock_rdlock(&s->e->map_lock);
	r = mno_lmdb_error(mdb_txn_begin(s->e->env, NULL, MDB_RDONLY, &s->t));
	if (r == 0)
		s->txn = mdb_txn_id(s->t);
	pthread_rwlock_unlock(&s->e->map_lock);
	if (r < 0)
		return r;
	r = find_head(s);
	if (r == 0 && fstat(s->fd, &s->st) < 0)
		r = -errno;
	if (r < 0) {
		mdb_txn_abort(s->t);
		s->t = NULL;
	}
	return r;
}

int mno_snapshot_begin(struct mno_env *e, struct mno_snapshot *ret)
{
	struct mno_snapshot s = {.e = e, .fd = -1};
	MDB_stat st;
	/* what is pinned has to be on disk: its number may not be given again after a power cut */
	int r = mno_lmdb_error(mdb_env_sync(e->env, 1));

	if (r == 0)
		r = mno_lmdb_error(mdb_env_stat(e->env, &st));
	if (r < 0)
		return r;
	s.page = st.ms_psize;
	s.head = malloc(s.page);
	s.fd = openat(e->dir_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	r = !s.head ? -ENOMEM : s.fd < 0 ? -errno : -EAGAIN;
	for (unsigned i = 0; r == -EAGAIN && i < TRIES; i++)
		r = pin(&s);
	if (r < 0) {
		mno_close_p(&s.fd);
		free(s.head);
		return r;
	}
	s.since_ns = mno_now_ns(CLOCK_MONOTONIC);
	e->pinned_ns = s.since_ns;
	*ret = s;
	return 0;
}

int mno_snapshot_read(const struct mno_snapshot *s, uint64_t at, void *buf, size_t n)
{
	uint8_t *p = buf;

	if (at > s->bytes || n > s->bytes - at)
		return -EINVAL;
	while (n && at < 2 * s->page) { /* both heads are the one: the other may be newer */
		uint64_t in = at % s->page, part = MNO_MIN((uint64_t)n, s->page - in);

		memcpy(p, s->head + in, part);
		if (in == 0)
			p[0] = (uint8_t)(at / s->page); /* its number */
		p += part;
		at += part;
		n -= (size_t)part;
	}
	return n ? read_at(s->fd, at, p, n) : 0;
}

void mno_snapshot_end(struct mno_snapshot *s)
{
	if (s->t) {
		mdb_txn_abort(s->t);
		s->e->pinned_ns = 0;
		mno_close_p(&s->fd);
	}
	free(s->head);
	*s = (struct mno_snapshot){.fd = -1};
}
